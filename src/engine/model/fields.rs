//! A JSON object with typed access to its keys, whose errors name file, key and value.

use serde_json::{Map, Value};

use crate::EngineError;

/// No dimension of a model comes near this; a larger number is a damaged file.
const LARGEST_COUNT: u64 = 1 << 31;

/// A JSON object with typed access, whose errors name file, key and value.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    /// Its name in messages.
    pub(super) file: &'a str,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// `json` as an object.
    pub(super) fn new(json: &'a Value, file: &'a str) -> Result<Self, EngineError> {
        let map = json.as_object().ok_or_else(|| damaged(format!("{file} is not a JSON object")))?;
        Ok(Self { file, map })
    }

    fn get<T>(
        &self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| damaged(format!("{}: `{key}` is {value}, which is not {kind}", self.file))),
        }
    }

    /// A whole number of things.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, EngineError> {
        self.get(key, "a sensible whole number", |value| {
            value.as_u64().filter(|count| *count < LARGEST_COUNT).map(|count| count as usize)
        })
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.get(key, "a number", Value::as_f64)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, EngineError> {
        self.get(key, "true or false", Value::as_bool)
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, EngineError> {
        self.get(key, "a string", Value::as_str)
    }

    /// An object inside the object.
    pub(super) fn section(&self, key: &str) -> Result<Option<Self>, EngineError> {
        Ok(self.get(key, "an object", Value::as_object)?.map(|map| Self { file: self.file, map }))
    }

    /// A number above 0.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, EngineError> {
        match self.number(key)? {
            Some(value) if !value.is_finite() || value <= 0.0 => {
                Err(damaged(format!("{}: `{key}` is {value}, not above 0", self.file)))
            }
            value => Ok(value),
        }
    }

    /// A list of things, each converted.
    pub(super) fn list<T>(
        &self,
        key: &str,
        kind: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, EngineError> {
        self.get(key, kind, |value| value.as_array()?.iter().map(&convert).collect())
    }

    /// A count that must be there.
    pub(super) fn required(&self, key: &str) -> Result<usize, EngineError> {
        self.count(key)?.ok_or_else(|| damaged(format!("{}: `{key}` is missing", self.file)))
    }

    /// A number that must be there.
    pub(super) fn required_number(&self, key: &str) -> Result<f64, EngineError> {
        self.number(key)?.ok_or_else(|| damaged(format!("{}: `{key}` is missing", self.file)))
    }

    /// Refuses any value but `supported`, which is also the default.
    pub(super) fn only(&self, key: &str, supported: &str) -> Result<(), EngineError> {
        match self.text(key)? {
            Some(value) if value != supported => {
                Err(unsupported(self, key, &format!("`{value}` in place of `{supported}`")))
            }
            _ => Ok(()),
        }
    }
}

/// A file that says what cannot be.
pub(super) fn damaged(what: String) -> EngineError {
    EngineError::invalid(what, "fetch the file again, or compare it with the one that the model was published with")
}

/// A file that says what this program cannot compute.
pub(super) fn unsupported(fields: &Fields, key: &str, meaning: &str) -> EngineError {
    EngineError::invalid(
        format!("{}: `{key}` asks for {meaning}, which is not implemented", fields.file),
        "choose another model of the family",
    )
}
