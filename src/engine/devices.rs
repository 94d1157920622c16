//! Which GPUs an engine runs on.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::EngineError;

/// The GPUs that a model is opened on, by the driver's numbers: at least one, none twice. In a file one is a number, several are a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OneOrSeveral", into = "OneOrSeveral")]
pub struct Devices(Vec<usize>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(usize),
    Several(Vec<usize>),
}

impl Devices {
    /// Refuses none, and one that is named twice.
    pub fn new(numbers: Vec<usize>) -> Result<Self, EngineError> {
        let devices = Self(numbers);
        if devices.0.is_empty() {
            return Err(EngineError::invalid(
                "--device names no GPU",
                "leave it out for the first, or give `--device 0`",
            ));
        }
        let twice = devices.0.iter().enumerate().find(|(at, number)| devices.0[..*at].contains(number));
        let Some((_, number)) = twice else { return Ok(devices) };
        let once: BTreeSet<usize> = devices.0.iter().copied().collect();
        let once = Self(once.into_iter().collect());
        Err(EngineError::invalid(
            format!("--device {devices} names GPU {number} twice"),
            format!("name each once, such as `--device {once}`: every GPU that is named holds the whole model"),
        ))
    }

    /// In the order in which they were named.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// The first alone, for what runs on one.
    #[must_use]
    pub fn first(&self) -> Self {
        Self(self.0.iter().take(1).copied().collect())
    }

    /// What engines on these say of themselves, in one phrase: `GPU 0: NVIDIA H200` and `GPU 1: NVIDIA H200` are `GPUs 0, 1: NVIDIA
    /// H200`.
    pub(super) fn in_words(&self, each: &[&str]) -> String {
        let kinds: Option<Vec<&str>> = each
            .iter()
            .zip(&self.0)
            .map(|(words, number)| words.strip_prefix(&label(*number))?.strip_prefix(": "))
            .collect();
        match kinds.as_deref() {
            Some([first, others @ ..]) if others.iter().all(|other| other == first) && !others.is_empty() => {
                let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
                format!("GPUs {}: {first}", numbers.join(", "))
            }
            _ => each.join("; "),
        }
    }
}

/// What messages call a GPU.
pub(crate) fn label(number: usize) -> String {
    format!("GPU {number}")
}

impl Default for Devices {
    /// The first.
    fn default() -> Self {
        Self(vec![0])
    }
}

/// As it is typed: `0,1`.
impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

impl TryFrom<OneOrSeveral> for Devices {
    type Error = EngineError;

    fn try_from(value: OneOrSeveral) -> Result<Self, EngineError> {
        Self::new(match value {
            OneOrSeveral::One(number) => vec![number],
            OneOrSeveral::Several(numbers) => numbers,
        })
    }
}

impl From<Devices> for OneOrSeveral {
    fn from(Devices(numbers): Devices) -> Self {
        match numbers[..] {
            [number] => Self::One(number),
            _ => Self::Several(numbers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once() {
        assert_eq!(Devices::new(vec![1, 0]).unwrap().numbers(), [1, 0]);
        assert_eq!(Devices::default().numbers(), [0]);
        let text = Devices::new(vec![2, 0, 2]).unwrap_err().to_string();
        assert!(
            text.starts_with("--device 2,0,2 names GPU 2 twice\nhint: name each once, such as `--device 0,2`"),
            "{text}"
        );
        let text = Devices::new(Vec::new()).unwrap_err().to_string();
        assert!(text.starts_with("--device names no GPU\nhint: "), "{text}");
    }

    #[test]
    fn one_is_a_number_in_a_file_and_several_are_a_list() {
        for (devices, json) in [(vec![3], "3"), (vec![0, 1], "[0,1]")] {
            let devices = Devices::new(devices).unwrap();
            assert_eq!(serde_json::to_string(&devices).unwrap(), json);
            assert_eq!(serde_json::from_str::<Devices>(json).unwrap(), devices);
        }
        assert_eq!(serde_json::from_str::<Devices>("[4]").unwrap().numbers(), [4]);
        for bad in ["[]", "[1,1]", "\"0\"", "-1"] {
            assert!(serde_json::from_str::<Devices>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_of_one_kind_are_one_phrase() {
        let words = |numbers: &[usize], each: &[&str]| Devices::new(numbers.to_vec()).unwrap().in_words(each);
        assert_eq!(words(&[0, 3], &["GPU 0: NVIDIA H200", "GPU 3: NVIDIA H200"]), "GPUs 0, 3: NVIDIA H200");
        assert_eq!(words(&[0, 1], &["GPU 0: A", "GPU 1: B"]), "GPU 0: A; GPU 1: B");
        assert_eq!(words(&[1, 11], &["GPU 1: A", "GPU 11: A"]), "GPUs 1, 11: A");
        assert_eq!(words(&[5], &["GPU 5: A"]), "GPU 5: A");
    }
}
