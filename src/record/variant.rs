//! The name of a variant: a column of a run, a folder in it, a key in every file.

use std::borrow::Borrow;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::Precision;

/// A variant's name. Those of the model itself are called as their precision is, `f32`, `awq`; further ones as the user calls them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VariantName(String);

/// Longer ones find no room in a table.
const LONGEST: usize = 24;

impl VariantName {
    /// Checks that a name is safe as a folder's name; the error says why not.
    pub fn parse(name: &str) -> Result<Self, String> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() {
            return Err("it is empty".to_owned());
        }
        if let Some(stranger) = name.chars().find(|c| !is_safe(*c)) {
            return Err(format!("{stranger:?} is no letter, digit, `.`, `_` or `-`"));
        }
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err("it begins with no letter or digit".to_owned());
        }
        if name.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} letters"));
        }
        // Names of the run folder's own files.
        if name == "lock" || [".json", ".jsonl", ".new"].iter().any(|ending| name.ends_with(ending)) {
            return Err("a run has files of such names".to_owned());
        }
        Ok(Self(name.to_owned()))
    }

    /// As written in files.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The precision that the model itself runs in under this name.
    pub fn precision(&self) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == self.0)
    }

    /// Sort key: the model's own precisions first, in their order, then further variants.
    pub fn rank(&self) -> usize {
        Precision::ALL.iter().position(|precision| precision.name() == self.0).unwrap_or(Precision::ALL.len())
    }
}

impl From<Precision> for VariantName {
    fn from(precision: Precision) -> Self {
        Self(precision.name().to_owned())
    }
}

impl PartialEq<Precision> for VariantName {
    fn eq(&self, precision: &Precision) -> bool {
        self.0 == precision.name()
    }
}

impl Borrow<str> for VariantName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names read from files are checked again, because they become paths.
impl<'de> Deserialize<'de> for VariantName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(|why| D::Error::custom(format!("{name:?} is no variant's name: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_folder_s() {
        for name in ["f32", "g128", "awq-g32.v2", "A_1"] {
            assert_eq!(VariantName::parse(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(LONGEST + 1);
        for name in ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "lock", "plan.json", "f32.json.new", "ü", &long]
        {
            assert!(VariantName::parse(name).is_err(), "{name}");
            let json = serde_json::to_string(name).unwrap();
            let error = serde_json::from_str::<VariantName>(&json).unwrap_err().to_string();
            assert!(error.contains("is no variant's name"), "{error}");
        }
    }

    #[test]
    fn the_model_s_own_variants_are_called_as_their_precisions() {
        for precision in Precision::ALL {
            let name = VariantName::from(precision);
            assert_eq!(name.precision(), Some(precision));
            assert_eq!(name, precision);
            assert_eq!(serde_json::to_string(&name).unwrap(), serde_json::to_string(&precision).unwrap());
        }
        let mut names = ["g32", "awq", "g128", "f32"].map(|name| VariantName::parse(name).unwrap());
        names.sort_by_key(VariantName::rank);
        assert_eq!(names.map(|name| name.to_string()), ["f32", "awq", "g32", "g128"]);
    }
}
