//! How to reproduce outputs.

use serde::{Deserialize, Serialize};

/// How to reproduce outputs: `evalsuite SUITE --model MODEL --dtype DTYPE [--awq AWQ] ARGUMENTS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// What `--model` says: `bundled`, a hub id, or a path, relative to the folder that the program runs in.
    pub model: String,
    /// What `--awq` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awq: Option<String>,
    /// All other flags that decide an output.
    pub arguments: Vec<String>,
}

/// A flag of a suite's command that recipes leave out: it decides no output, or is stored elsewhere in the golden file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeFlag {
    /// `--engine`.
    pub name: String,
    /// Whether a value follows it.
    pub takes_value: bool,
    /// Whether a rerun for golden files takes it: flags that say how and where to compute.
    pub is_heeded: bool,
}

/// `--dtype` of `--dtype=f32`.
fn flag_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(flag, _)| flag)
}

impl Recipe {
    /// The first of these flags that a rerun for golden files would ignore.
    pub fn not_heeded<'a>(arguments: &'a [String], left_out: &[RecipeFlag]) -> Option<&'a str> {
        let mut flags = arguments.iter().map(|word| flag_of(word));
        flags.find(|flag| left_out.iter().any(|left| left.name == *flag && !left.is_heeded))
    }

    /// From a run's command line: the program, its own flags, the suite, its flags. `left_out` are those that no recipe has.
    pub fn of_command(words: &[String], left_out: &[RecipeFlag]) -> Self {
        let mut recipe = Self { model: crate::bundled::NAME.to_owned(), awq: None, arguments: Vec::new() };
        let mut words = words.iter().skip(1).skip_while(|word| word.starts_with("--")).skip(1);
        while let Some(word) = words.next() {
            let (flag, value) = word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
            let Some(left_out) = left_out.iter().find(|left_out| left_out.name == flag) else {
                recipe.arguments.push(word.clone());
                continue;
            };
            if !left_out.takes_value {
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

    fn recipe(command: &str) -> Recipe {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let flag = |name: &str, takes_value| RecipeFlag { name: name.to_owned(), takes_value, is_heeded: false };
        let valued = ["--model", "--dtype", "--awq", "--out", "--margin"].map(|name| flag(name, true));
        let alone = ["--resume", "--quiet"].map(|name| flag(name, false));
        Recipe::of_command(&words, &[&valued[..], &alone[..]].concat())
    }

    #[test]
    fn a_run_s_command_becomes_a_recipe() {
        let recipe_of = |program: &str| {
            recipe(&format!(
                "{program} --model=m --limit 4 --dtype f32,awq --awq a --resume --stop X --out=o --margin 3 --seed=3"
            ))
        };
        let first = recipe_of("bin/evalsuite gsm8k");
        assert_eq!((first.model.as_str(), first.awq.as_deref()), ("m", Some("a")));
        assert_eq!(first.arguments, ["--limit", "4", "--stop", "X", "--seed=3"]);
        assert_eq!(recipe("bin/evalsuite gsm8k").model, "bundled");
        assert_eq!(recipe_of("bin/evalsuite --quiet gsm8k"), first, "the program's own flags are no part of it");
    }
}
