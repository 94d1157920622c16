//! `tojson` as transformers has it: `json.dumps` with its own `ensure_ascii`, `indent`, `separators` and `sort_keys`,
//! and nothing escaped for HTML.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::arguments::either;
use super::number;

/// Values nest this deep at most, as in Python, whose stack ends there.
const DEEPEST: usize = 500;

/// Characters that a level is indented by at most.
const WIDEST: usize = 1 << 10;

/// What `json.dumps` is told.
struct Style {
    ascii: bool,
    /// One level's indentation; `None` writes one line.
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// The filter. Arguments come by place or by name, in this order; others are refused.
#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
pub(super) fn tojson(value: Value, placed: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    type Placed = Option<Value>;
    let (ensure_ascii, indent, separators, sort_keys): (Placed, Placed, Placed, Placed) = from_args(&placed)?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ascii = is_true(either(ensure_ascii, &named, "ensure_ascii")?);
    let indent = either(indent, &named, "indent")?.map(|indent| indentation(&indent)).transpose()?;
    let separators = either(separators, &named, "separators")?.map(|pair| pair_of(&pair)).transpose()?;
    let sorted = is_true(either(sort_keys, &named, "sort_keys")?);
    named.assert_all_used()?;
    let usual = || ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned());
    let (item, key) = separators.unwrap_or_else(usual);
    let mut text = String::new();
    Style { ascii, indent, item, key, sorted }.write(&value, 0, &mut text)?;
    Ok(text)
}

/// A width, or the text itself.
fn indentation(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match usize::try_from(i64::try_from(value.clone())?).unwrap_or(0) {
        width if width <= WIDEST => Ok(" ".repeat(width)),
        width => Err(refused(&format!("a width of {width} characters"))),
    }
}

fn pair_of(value: &Value) -> Result<(String, String), Error> {
    let parts: Vec<Value> = value.try_iter()?.collect();
    match parts.iter().map(Value::as_str).collect::<Option<Vec<_>>>().as_deref() {
        Some([item, key]) => Ok(((*item).to_owned(), (*key).to_owned())),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "tojson's separators are a pair of strings")),
    }
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(refused("a value that is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.around(['[', ']'], items.len(), depth, out, |index, out| {
                    self.write(&items[index], depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.around(['{', '}'], keys.len(), depth, out, |index, out| {
                    self.string(&key(&keys[index])?, out);
                    out.push_str(&self.key);
                    self.write(&value.get_item(&keys[index])?, depth + 1, out)
                })?;
            }
            other => return Err(refused(&format!("an {other} value"))),
        }
        Ok(())
    }

    /// A list or an object of `count` members, which `member` writes.
    fn around(
        &self,
        brackets: [char; 2],
        count: usize,
        depth: usize,
        out: &mut String,
        member: impl Fn(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let break_line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(brackets[0]);
        for index in 0..count {
            if index > 0 {
                out.push_str(&self.item);
            }
            break_line(depth + 1, out);
            member(index, out)?;
        }
        if count > 0 {
            break_line(depth, out);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn key(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(number(value)),
        other => Err(refused(&format!("a key that is a {other}"))),
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_nan() => "NaN".to_owned(),
        Ok(number) if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Ok(number) => number::repr(number),
        Err(_) => value.to_string(),
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("tojson cannot write {what}"))
}
