//! Jinja2's tests, filters and globals, as far as minijinja leaves them out or differs.

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, Output, State, Value, escape_formatter};

use super::arguments::{bounded, either, failed};
use super::methods::{is_space, justified, lines};
use super::{json, number};

/// `pprint` breaks what is wider over several lines.
const LINE: usize = 80;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_formatter(print);
    environment.add_test("iterable", |value: Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: Value| {
        value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("callable", |value: Value| value.kind() == ValueKind::Plain);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |value: Value| text(&value));
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("center", center);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("pprint", pprint);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
}

/// Puts a value into the text: floats as Python writes them.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match float_of(value) {
        Some(float) => out.write_str(&number::repr(float)).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

fn float_of(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    if is_float { f64::try_from(value.clone()).ok() } else { None }
}

/// `str(value)`.
fn text(value: &Value) -> String {
    float_of(value).map_or_else(|| value.to_string(), number::repr)
}

/// A negative width is none.
fn width_of(number: i64) -> Result<usize, Error> {
    bounded(usize::try_from(number).unwrap_or(0))
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn replace(value: Value, old: Value, new: Value, count: Option<i64>) -> String {
    let (value, old, new) = (text(&value), text(&old), text(&new));
    match count.map(usize::try_from) {
        Some(Ok(count)) => value.replacen(&old, &new, count),
        _ => value.replace(&old, &new),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn indent(
    value: Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = either(width, &named, "width")?.unwrap_or_else(|| Value::from(4));
    let first = either(first, &named, "first")?.unwrap_or(false);
    let blank = either(blank, &named, "blank")?.unwrap_or(false);
    named.assert_all_used()?;
    let by = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(width_of(i64::try_from(width)?)?),
    };
    let value = text(&value) + "\n";
    let mut out = String::new();
    for (index, line) in lines(&value, false).into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    Ok(out)
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn center(value: Value, width: Option<i64>, named: Kwargs) -> Result<String, Error> {
    let width = width_of(either(width, &named, "width")?.unwrap_or(80))?;
    named.assert_all_used()?;
    justified(&text(&value), "center", width, ' ')
}

/// Cuts behind `length` characters, at the last blank before it unless words may be cut, where at least `leeway` are too
/// many.
#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn truncate(value: Value, placed: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    type Placed = (Option<i64>, Option<bool>, Option<String>, Option<i64>);
    let (length, killwords, end, leeway): Placed = from_args(&placed)?;
    let length = width_of(either(length, &named, "length")?.unwrap_or(255))?;
    let killwords = either(killwords, &named, "killwords")?.unwrap_or(false);
    let end = either(end, &named, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = width_of(either(leeway, &named, "leeway")?.unwrap_or(5))?;
    named.assert_all_used()?;
    let value = text(&value);
    let end_length = end.chars().count();
    if length < end_length {
        return Err(failed(&format!("truncate to {length} characters, of which the end takes {end_length}")));
    }
    if value.chars().count() <= length + leeway {
        return Ok(value);
    }
    let kept: String = value.chars().take(length - end_length).collect();
    let kept = if killwords { &kept } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn wordcount(value: Value) -> usize {
    let is_between = |c: char| !(c.is_alphanumeric() || c == '_');
    text(&value).split(is_between).filter(|word| !word.is_empty()).count()
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn int(value: Value, default: Option<Value>, base: Option<u32>, named: Kwargs) -> Result<Value, Error> {
    let default = either(default, &named, "default")?.unwrap_or_else(|| Value::from(0));
    let base = either(base, &named, "base")?.unwrap_or(10);
    named.assert_all_used()?;
    if !(2..=36).contains(&base) {
        return Err(failed(&format!("int to the base {base}")));
    }
    let Some(written) = value.as_str() else {
        return Ok(match (float_of(&value), i128::try_from(value)) {
            (Some(float), _) if float.is_finite() => Value::from(float.trunc() as i128),
            (None, Ok(whole)) => Value::from(whole),
            _ => default,
        });
    };
    let written = written.trim_matches(is_space).replace('_', "");
    let (sign, digits) = written.split_at(usize::from(written.starts_with(['+', '-'])));
    let prefix = match base {
        16 => ["0x", "0X"],
        8 => ["0o", "0O"],
        2 => ["0b", "0B"],
        _ => ["", ""],
    };
    let digits = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    let whole = i128::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']));
    Ok(match (whole, written.parse::<f64>()) {
        (Some(whole), _) => Value::from(if sign == "-" { -whole } else { whole }),
        (None, Ok(float)) if float.is_finite() => Value::from(float.trunc() as i128),
        _ => default,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn float(value: Value, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = either(default, &named, "default")?.unwrap_or_else(|| Value::from(0.0));
    named.assert_all_used()?;
    let number = match value.as_str() {
        Some(written) => written.trim_matches(is_space).replace('_', "").parse().ok(),
        None => f64::try_from(value).ok(),
    };
    Ok(number.map_or(default, Value::from))
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters take their arguments by value")]
fn default(value: Value, other: Option<Value>, boolean: Option<bool>, named: Kwargs) -> Result<Value, Error> {
    let other = either(other, &named, "default_value")?.unwrap_or_else(|| Value::from(""));
    let boolean = either(boolean, &named, "boolean")?.unwrap_or(false);
    named.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value })
}

/// `pprint` of what fits into one line, which is `repr`.
fn pprint(value: Value) -> Result<String, Error> {
    let list = Value::from(vec![value]).to_string();
    let written = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(&list).to_owned();
    if written.chars().count() > LINE {
        return Err(failed(&format!("pprint of more than {LINE} characters, which Python breaks over several lines")));
    }
    Ok(written)
}
