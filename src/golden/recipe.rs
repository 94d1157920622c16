//! How to get outputs again.

use serde::{Deserialize, Serialize};

/// How to get outputs again: `evalsuite SUITE --model MODEL --dtype DTYPE [--awq AWQ] ARGUMENTS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// What `--model` says: `bundled`, a hub id, or a path, relative to the folder that the program runs in.
    pub model: String,
    /// What `--awq` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awq: Option<String>,
    /// Everything else that decides an output.
    pub arguments: Vec<String>,
}

/// Flags with a value that decide no output, or that a golden file keeps elsewhere.
const LEFT_OUT: [&str; 16] = [
    "--model",
    "--dtype",
    "--awq",
    "--engine",
    "--device",
    "--batch",
    "--threads",
    "--out",
    "--format",
    "--template",
    "--diffs",
    "--min-accuracy",
    "--baseline",
    "--margin",
    "--min-speed-ratio",
    "--show-prompt",
];
/// The same without a value.
const LEFT_OUT_ALONE: [&str; 2] = ["--resume", "--offline"];
/// Those of them that are heeded where a suite runs for its golden files: how it is computed, and where.
const HEEDED: [&str; 2] = ["--device", "--batch"];

/// `--dtype` of `--dtype=f32`.
fn flag_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(flag, _)| flag)
}

impl Recipe {
    /// The first flag among these that a suite which runs for its golden files would not heed.
    pub fn not_heeded(arguments: &[String]) -> Option<&str> {
        let mut flags = arguments.iter().map(|word| flag_of(word));
        flags.find(|flag| (LEFT_OUT.contains(flag) || LEFT_OUT_ALONE.contains(flag)) && !HEEDED.contains(flag))
    }

    /// From a run's command line: the program, the suite, its flags.
    pub fn of_command(words: &[String]) -> Self {
        let mut recipe = Self { model: crate::bundled::NAME.to_owned(), awq: None, arguments: Vec::new() };
        let mut words = words.iter().skip(2);
        while let Some(word) = words.next() {
            let (flag, value) = word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
            if LEFT_OUT_ALONE.contains(&flag) {
                continue;
            }
            if !LEFT_OUT.contains(&flag) {
                recipe.arguments.push(word.clone());
                continue;
            }
            let value = value.map(str::to_owned).or_else(|| words.next().cloned());
            match (flag, value) {
                ("--model", Some(model)) => recipe.model = model,
                ("--awq", awq) => recipe.awq = awq,
                _ => {}
            }
        }
        recipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_command_becomes_a_recipe() {
        let words =
            "bin/evalsuite gsm8k --model=m --limit 4 --dtype f32,awq --awq a --resume --stop X --out=o --seed=3";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let recipe = Recipe::of_command(&words);
        assert_eq!((recipe.model.as_str(), recipe.awq.as_deref()), ("m", Some("a")));
        assert_eq!(recipe.arguments, ["--limit", "4", "--stop", "X", "--seed=3"]);
        assert_eq!(Recipe::of_command(&words[..2]).model, "bundled");
    }

    #[test]
    fn a_gate_is_no_part_of_a_recipe() {
        let words = "evalsuite gsm8k --baseline runs/old --margin 3 --min-speed-ratio=0.9 --limit 4";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(Recipe::of_command(&words).arguments, ["--limit", "4"]);
    }
}
