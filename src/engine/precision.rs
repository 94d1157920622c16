//! What a run computes in: the arithmetic of its activations, and the format that holds its linear layers' weights.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::arithmetic::Arithmetic;
use super::model::{ModelConfig, WeightFormat};

/// A weight format and the arithmetic that it runs in. Files and the command line know it by one name: a dense one by
/// its arithmetic's, a packed one by its format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Precision {
    /// How the weights of linear layers within blocks are held.
    pub format: WeightFormat,
    /// What activations and all other weights are stored in.
    pub arithmetic: Arithmetic,
}

/// Pairs of a format and an arithmetic that it runs in.
const COUNT: usize = {
    let (mut count, mut format) = (0, 0);
    while format < WeightFormat::ALL.len() {
        count += WeightFormat::ALL[format].entry().arithmetics.len();
        format += 1;
    }
    count
};

#[expect(non_upper_case_globals, reason = "patterns and calls read them as the variants that they stand for")]
impl Precision {
    /// IEEE binary32: the ground truth.
    pub const F32: Self = Self::dense(Arithmetic::F32);
    /// IEEE binary16.
    pub const F16: Self = Self::dense(Arithmetic::F16);
    /// bfloat16.
    pub const Bf16: Self = Self::dense(Arithmetic::Bf16);
    /// Linear layers within blocks in eight bits, a scale a row; the rest in binary16.
    pub const Int8: Self = Self::of(WeightFormat::Int8);
    /// Linear layers within blocks in AWQ's four bits; the rest in binary16.
    pub const Awq: Self = Self::of(WeightFormat::Awq);

    /// Every precision, the ground truth first.
    pub const ALL: [Self; COUNT] = {
        let mut all = [Self::F32; COUNT];
        let (mut count, mut format) = (0, 0);
        while format < WeightFormat::ALL.len() {
            let arithmetics = WeightFormat::ALL[format].entry().arithmetics;
            let mut index = 0;
            while index < arithmetics.len() {
                all[count] = Self { format: WeightFormat::ALL[format], arithmetic: arithmetics[index] };
                count += 1;
                index += 1;
            }
            format += 1;
        }
        all
    };

    /// Those that any model's weights can be cast to, the ground truth first.
    pub const FLOATING: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    const NAMES: [&'static str; COUNT] = {
        let mut names = [""; COUNT];
        let mut index = 0;
        while index < COUNT {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// A format in the first of its arithmetics.
    pub const fn of(format: WeightFormat) -> Self {
        Self { format, arithmetic: format.entry().arithmetics[0] }
    }

    /// Weights that no format packs.
    pub const fn dense(arithmetic: Arithmetic) -> Self {
        Self { format: WeightFormat::Dense, arithmetic }
    }

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        if self.format.is_packed() { self.format.name() } else { self.arithmetic.name() }
    }

    /// Other names that are understood on the command line.
    pub const fn aliases(self) -> &'static [&'static str] {
        if self.format.is_packed() { self.format.entry().aliases } else { self.arithmetic.aliases() }
    }

    /// One line for lists.
    pub const fn description(self) -> &'static str {
        if self.format.is_packed() { self.format.entry().description } else { self.arithmetic.description() }
    }

    /// By name or alias, in small or capital letters.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase();
        Self::ALL.into_iter().find(|one| one.name() == name || one.aliases().contains(&name.as_str()))
    }

    /// Bytes that a model's weights take in memory, norms and biases left out.
    pub fn weight_bytes(self, config: &ModelConfig) -> u64 {
        let element = self.arithmetic.bytes() as u64;
        let (tables, all) = (config.table_parameters(), config.parameters());
        (all - tables) * self.format.entry().bits.unwrap_or(8 * element) / 8 + tables * element
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Files hold the name itself, never an alias.
impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| D::Error::unknown_variant(&name, &Self::NAMES))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_written_and_read_as_ever() {
        let stored = r#"["f32","f16","bf16","int8","awq"]"#;
        let read: Vec<Precision> = serde_json::from_str(stored).unwrap();
        assert_eq!(read, [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8, Precision::Awq]);
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        for precision in Precision::ALL {
            let written = serde_json::to_string(&precision).unwrap();
            assert_eq!(serde_json::from_str::<Precision>(&written).unwrap(), precision);
        }
        let error = serde_json::from_str::<Precision>("\"fp16\"").unwrap_err().to_string();
        assert!(error.contains("unknown variant `fp16`, expected one of `f32`, `f16`"), "{error}");
        let mut sorted = Precision::ALL;
        sorted.sort_unstable();
        assert_eq!(sorted, Precision::ALL, "the ground truth comes first");
    }

    #[test]
    fn every_name_and_alias_means_one_precision() {
        let mut known = BTreeSet::new();
        for precision in Precision::ALL {
            for name in std::iter::once(&precision.name()).chain(precision.aliases()) {
                assert_eq!(Precision::parse(name), Some(precision));
                assert!(known.insert(*name), "{name} is named twice");
            }
            assert!(!precision.description().is_empty());
        }
        assert_eq!(Precision::parse(" FP16 "), Some(Precision::F16));
        assert_eq!(Precision::parse("bfloat16"), Some(Precision::Bf16));
        assert_eq!(Precision::parse("f61"), None);
        assert_eq!(Precision::parse("dense"), None, "dense is no precision without an arithmetic");
    }
}
