//! The fields of a request's body, each checked as it is taken.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::fault::ApiError;

/// A body whose fields are taken out one by one; what is left is unknown.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body, which must be a JSON object.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let malformed = |what: String| ApiError::new(StatusCode::BAD_REQUEST, what).coded("invalid_json");
        let value: Value =
            serde_json::from_slice(body).map_err(|error| malformed(format!("the body is no JSON: {error}")))?;
        match value {
            Value::Object(map) => Ok(Self { map }),
            other => Err(malformed(format!("the body is {}, not an object", kind(&other)))),
        }
    }

    /// A field's value; `None` where it is left out or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A whole number from `least` to `most`. 1.0 is one.
    pub(super) fn whole(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = as_whole(&value).ok_or_else(|| wrong(name, "a whole number", &value))?;
        if !(i128::from(least)..=i128::from(most)).contains(&whole) {
            return Err(ApiError::field(name, format!("is {whole}, and must be {least} to {most}")));
        }
        Ok(Some(whole as u64))
    }

    /// A number from `least` to `most`.
    pub(super) fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
        let Some(number) = self.typed(name, "a number", Value::as_f64)? else { return Ok(None) };
        if !(least..=most).contains(&number) {
            return Err(ApiError::field(name, format!("is {number}, and must be {least} to {most}")));
        }
        Ok(Some(number))
    }

    /// Token ids.
    pub(super) fn ids(&mut self, name: &str) -> Result<Option<Vec<u32>>, ApiError> {
        self.take(name).map(|value| ids(name, &value)).transpose()
    }

    /// A seed, which may be negative.
    pub(super) fn seed(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = as_whole(&value).ok_or_else(|| wrong(name, "a whole number", &value))?;
        let in_range = i64::try_from(whole).map(|seed| seed as u64).or_else(|_| u64::try_from(whole));
        in_range.map(Some).map_err(|_| ApiError::field(name, format!("is {whole}, which has more than 64 bits")))
    }

    /// A string, or a list of them.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(all)) => {
                let text = |value: &Value| {
                    value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a list of strings", value))
                };
                all.iter().map(text).collect()
            }
            Some(other) => Err(wrong(name, "a string or a list of them", &other)),
        }
    }

    /// Refuses a field that would change the answer and is not supported, unless its value is `neutral`.
    pub(super) fn neutral(&mut self, name: &str, neutral: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !neutral(&value) => Err(ApiError::field(
                name,
                "is not supported, and answers without it would be others: leave it out".to_owned(),
            )
            .coded("unsupported")),
            _ => Ok(()),
        }
    }

    /// Fields that nobody took.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    fn typed<T>(&mut self, name: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| wrong(name, what, &value))
    }
}

/// Names that have been told of.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeSet<String>>);

/// More than this are not kept: they come from outside.
const MOST_TOLD: usize = 64;

impl Told {
    /// Whether a name is new.
    pub(super) fn is_new(&self, name: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST_TOLD && name.len() <= 64 && told.insert(name.to_owned())
    }
}

/// Token ids in a list.
pub(super) fn ids(name: &str, value: &Value) -> Result<Vec<u32>, ApiError> {
    let all = value.as_array().ok_or_else(|| wrong(name, "a list of token ids", value))?;
    let id = |value: &Value| {
        as_whole(value)
            .and_then(|whole| u32::try_from(whole).ok())
            .ok_or_else(|| wrong(name, "a list of token ids", value))
    };
    all.iter().map(id).collect()
}

pub(super) fn wrong(name: &str, what: &str, value: &Value) -> ApiError {
    ApiError::field(name, format!("is not {what}: there is {}", kind(value)))
}

fn as_whole(value: &Value) -> Option<i128> {
    let exact = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    // A float of a whole number, as some clients write it.
    exact.or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15).map(|x| x as i128))
}

/// What a value is, and the beginning of it.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let begin: String = text.chars().take(30).collect();
            format!("the string {begin:?}{}", if begin.len() < text.len() { "…" } else { "" })
        }
        Value::Array(all) => format!("a list of {}", all.len()),
        Value::Object(map) => format!("an object of {} keys", map.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_taken_as_their_types_and_null_is_none() {
        let mut all = fields(
            r#"{"a": true, "b": 3, "c": 2.0, "d": 0.5, "e": "x", "f": ["x", "y"], "g": [1, 2], "h": -1, "i": null, "j": 18446744073709551615}"#,
        );
        assert_eq!(all.bool("a"), Ok(Some(true)));
        assert_eq!((all.whole("b", 0, 9), all.whole("c", 0, 9)), (Ok(Some(3)), Ok(Some(2))));
        assert_eq!(all.number("d", 0.0, 1.0), Ok(Some(0.5)));
        assert_eq!(all.texts("e"), Ok(vec!["x".to_owned()]));
        assert_eq!(all.texts("f"), Ok(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(all.ids("g"), Ok(Some(vec![1, 2])));
        assert_eq!((all.seed("h"), all.seed("j")), (Ok(Some(u64::MAX)), Ok(Some(u64::MAX))));
        assert_eq!((all.text("i"), all.text("z")), (Ok(None), Ok(None)));
        assert_eq!(all.unknown().count(), 0);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let message = |error: ApiError| (error.param.unwrap_or_default(), error.message);
        let mut all = fields(r#"{"a": "no", "b": 3.5, "c": 99, "d": 7, "e": [1, "x"], "f": {"k": 1}, "g": [-1]}"#);
        assert_eq!(message(all.bool("a").unwrap_err()).1, "`a` is not true or false: there is the string \"no\"");
        assert_eq!(message(all.whole("b", 0, 9).unwrap_err()).0, "b");
        assert_eq!(message(all.whole("c", 0, 9).unwrap_err()).1, "`c` is 99, and must be 0 to 9");
        assert_eq!(message(all.number("d", 0.0, 2.0).unwrap_err()).1, "`d` is 7, and must be 0 to 2");
        assert!(all.texts("e").is_err() && all.texts("f").is_err() && all.ids("g").is_err());
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["", "{", "[1]", "\"x\"", "nul", "\u{feff}{}"] {
            assert_eq!(Fields::read(body.as_bytes()).unwrap_err().status, StatusCode::BAD_REQUEST, "{body}");
        }
        let deep = "[".repeat(100_000);
        assert!(Fields::read(deep.as_bytes()).is_err());
        assert!(Fields::read(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn what_would_change_an_answer_is_not_ignored() {
        let mut all = fields(r#"{"repetition_penalty": 1.0, "min_p": 0.1}"#);
        assert!(all.neutral("repetition_penalty", |value| value.as_f64() == Some(1.0)).is_ok());
        assert_eq!(all.neutral("min_p", |value| value.as_f64() == Some(0.0)).unwrap_err().code, Some("unsupported"));
    }

    #[test]
    fn a_name_is_told_once_and_not_any_number_of_them() {
        let told = Told::default();
        assert!(told.is_new("a") && !told.is_new("a") && !told.is_new(&"x".repeat(65)));
        assert_eq!((0..1000).filter(|i| told.is_new(&i.to_string())).count(), MOST_TOLD - 1);
    }
}
