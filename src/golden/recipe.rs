//! How to reproduce outputs.

use serde::{Deserialize, Serialize};

use crate::record::VariantName;

/// How to get outputs again: `evalsuite SUITE --model MODEL --dtype DTYPE [--awq AWQ] ARGUMENTS`.
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

/// Whether `NAME=SOURCE` is this variant's.
fn names(value: &str, variant: &VariantName) -> bool {
    value.split_once('=').is_some_and(|(name, _)| name == variant.as_str())
}

/// `--dtype` of `--dtype=f32`.
fn flag_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(flag, _)| flag)
}

/// What `--variant` is typed as.
const VARIANT: &str = "--variant";

impl Recipe {
    /// The recipe of one variant's outputs: without the flags of all others.
    #[must_use]
    pub fn for_variant(&self, variant: &VariantName) -> Self {
        let mut arguments = Vec::new();
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            let follows = if word == VARIANT { words.next() } else { None };
            let value = follows.map(String::as_str).or_else(|| word.strip_prefix(VARIANT)?.strip_prefix('='));
            if value.is_none_or(|value| names(value, variant)) {
                arguments.push(word.clone());
                arguments.extend(follows.cloned());
            }
        }
        Self { arguments, ..self.clone() }
    }

    /// Whether it names a further checkpoint as this variant.
    pub fn has_variant(&self, variant: &VariantName) -> bool {
        let values = self.arguments.iter().zip(self.arguments.iter().skip(1)).filter(|(word, _)| *word == VARIANT);
        let glued = self.arguments.iter().filter_map(|word| word.strip_prefix(VARIANT)?.strip_prefix('='));
        values.map(|(_, value)| value.as_str()).chain(glued).any(|value| names(value, variant))
    }

    /// Whether it asks an endpoint, which has neither files nor precisions to name.
    pub fn is_at_endpoint(&self) -> bool {
        self.arguments.iter().any(|word| flag_of(word) == "--endpoint")
    }

    /// The first flag among these that a suite which runs for its golden files would not heed.
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

    #[test]
    fn a_variant_s_recipe_has_no_other_variant() {
        let name = |name: &str| VariantName::parse(name).unwrap();
        let all = recipe("evalsuite gsm8k --variant a=./x --limit 4 --variant=b=./y@f16");
        assert_eq!(all.for_variant(&name("a")).arguments, ["--variant", "a=./x", "--limit", "4"]);
        assert_eq!(all.for_variant(&name("b")).arguments, ["--limit", "4", "--variant=b=./y@f16"]);
        assert_eq!(all.for_variant(&name("f32")).arguments, ["--limit", "4"]);
        assert_eq!(["a", "b", "c", "f32"].map(|one| all.has_variant(&name(one))), [true, true, false, false]);
    }
}
