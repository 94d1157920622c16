//! Python's methods of strings, lists and maps, as far as minijinja's own collection leaves them out or differs.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, State, Value};

use super::arguments::{bounded, either, failed};

/// The callback for methods that a value does not have by itself.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => of_string(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq => of_sequence(value, method, args)?,
        ValueKind::Map if method == "copy" => from_args::<()>(args).map(|()| Some(value.clone()))?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn of_sequence(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "copy" => from_args::<()>(args).map(|()| value.clone())?,
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let found = value.try_iter()?.position(|item| item == *wanted);
            Value::from(found.ok_or_else(|| failed("index finds no such value"))?)
        }
        _ => return Ok(None),
    }))
}

fn of_string(s: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let flag = |holds: bool| Value::from(holds);
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" if args.is_empty() || args[0].is_none() => {
            let front = if method == "rstrip" { s } else { s.trim_start_matches(is_space) };
            Value::from(if method == "lstrip" { front } else { front.trim_end_matches(is_space) })
        }
        "split" | "rsplit" => split(s, method == "rsplit", args)?,
        "partition" | "rpartition" => partition(s, method == "rpartition", args)?,
        "splitlines" => {
            let (placed, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = either(placed, &named, "keepends")?.unwrap_or(false);
            named.assert_all_used()?;
            lines(s, keep).into_iter().map(Value::from).collect()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(s.strip_prefix(prefix).unwrap_or(s))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(s.strip_suffix(suffix).unwrap_or(s))
        }
        "startswith" | "endswith" if args.len() > 1 => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let found = within(s, start, end).map(|(inside, _)| {
                if method == "startswith" { inside.starts_with(part) } else { inside.ends_with(part) }
            });
            flag(found.unwrap_or(false))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let found = within(s, start, end).and_then(|(inside, before)| {
                let at = if method.starts_with('r') { inside.rfind(part) } else { inside.find(part) };
                at.map(|at| before + inside[..at].chars().count())
            });
            match found {
                Some(at) => Value::from(at),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(failed(&format!("{method} finds no such text"))),
            }
        }
        "count" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            Value::from(within(s, start, end).map_or(0, |(inside, _)| inside.matches(part).count()))
        }
        "title" => from_args::<()>(args).map(|()| Value::from(title(s)))?,
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<String>() }
            };
            Value::from(s.chars().map(swap).collect::<String>())
        }
        "casefold" => from_args::<()>(args).map(|()| Value::from(s.to_lowercase().replace('ß', "ss")))?,
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = s.split_at(usize::from(s.starts_with(['+', '-'])));
            let zeros = "0".repeat(missing(s, width)?);
            Value::from(format!("{sign}{zeros}{digits}"))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            Value::from(justified(s, method, width, fill.unwrap_or(' '))?)
        }
        "expandtabs" => {
            let (width,): (Option<usize>,) = from_args(args)?;
            Value::from(expand_tabs(s, bounded(width.unwrap_or(8))?))
        }
        "isdecimal" => from_args::<()>(args).map(|()| flag(all(s, is_decimal)))?,
        "isdigit" => {
            from_args::<()>(args).map(|()| flag(all(s, |c| is_decimal(c) || "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉".contains(c))))?
        }
        "istitle" => from_args::<()>(args).map(|()| flag(s.chars().any(is_cased) && title(s) == s))?,
        "isidentifier" => {
            let () = from_args(args)?;
            let begins = s.starts_with(|c: char| c.is_alphabetic() || c == '_');
            flag(begins && all(s, |c| c.is_alphanumeric() || c == '_'))
        }
        "isprintable" => {
            from_args::<()>(args).map(|()| flag(!s.chars().any(|c| c.is_control() || (is_space(c) && c != ' '))))?
        }
        "isspace" => from_args::<()>(args).map(|()| flag(all(s, is_space)))?,
        _ => return Ok(None),
    }))
}

/// `split(sep=None, maxsplit=-1)`: without a separator at white space, of which none stands at either end.
fn split(s: &str, from_the_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, most, named): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = either(separator, &named, "sep")?;
    let most = either(most, &named, "maxsplit")?.and_then(|most| usize::try_from(most).ok());
    named.assert_all_used()?;
    let mut parts: Vec<&str> = Vec::new();
    match (separator.as_deref(), most) {
        (Some(""), _) => return Err(failed("split at an empty text")),
        (Some(separator), None) => parts.extend(s.split(separator)),
        (Some(separator), Some(most)) if from_the_right => {
            parts.extend(s.rsplitn(most.saturating_add(1), separator));
            parts.reverse();
        }
        (Some(separator), Some(most)) => parts.extend(s.splitn(most.saturating_add(1), separator)),
        (None, None) => parts.extend(s.split(is_space).filter(|part| !part.is_empty())),
        (None, Some(most)) => {
            let mut rest = s.trim_matches(is_space);
            while !rest.is_empty() {
                let at = if from_the_right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(at) = at.filter(|_| parts.len() < most) else { break };
                let next = at + rest[at..].chars().next().map_or(1, char::len_utf8);
                let (part, left) =
                    if from_the_right { (&rest[next..], &rest[..at]) } else { (&rest[..at], &rest[next..]) };
                parts.push(part);
                rest = if from_the_right { left.trim_end_matches(is_space) } else { left.trim_start_matches(is_space) };
            }
            if !rest.is_empty() {
                // What is left keeps the white space at its outer end.
                let outer = if from_the_right { s.trim_end_matches(is_space) } else { s.trim_start_matches(is_space) };
                let whole = if parts.is_empty() {
                    outer
                } else if from_the_right {
                    &s[..offset(s, rest) + rest.len()]
                } else {
                    &s[offset(s, rest)..]
                };
                parts.push(whole);
            }
            if from_the_right {
                parts.reverse();
            }
        }
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Where a part of a text begins in it.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

fn partition(s: &str, from_the_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(failed("partition at an empty text"));
    }
    let parts = match if from_the_right { s.rsplit_once(separator) } else { s.split_once(separator) } {
        Some((before, after)) => [before, separator, after],
        None if from_the_right => ["", "", s],
        None => [s, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The lines of a text, at every line end that Python knows.
pub(super) fn lines(s: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = s;
    while let Some(at) = rest.find(is_end) {
        let end =
            at + if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// The part of a text from character `start` up to `end`, counted from behind where they are negative, and how many
/// characters stand before it; `None` where the part begins behind the text.
fn within(s: &str, start: Option<i64>, end: Option<i64>) -> Option<(&str, usize)> {
    let length = s.chars().count() as i64;
    let place = |at: i64| if at < 0 { (at + length).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)).min(length));
    if start > end {
        return None;
    }
    let byte = |at: i64| s.char_indices().nth(at as usize).map_or(s.len(), |(byte, _)| byte);
    Some((&s[byte(start)..byte(end)], start as usize))
}

/// Every word begins with a capital, where a word is a run of letters that have case.
fn title(s: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = is_cased(c);
    }
    out
}

fn expand_tabs(s: &str, width: usize) -> String {
    let (mut out, mut column) = (String::new(), 0_usize);
    for c in s.chars() {
        match c {
            '\t' => {
                let spaces = column.checked_rem(width).map_or(0, |used| width - used);
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

/// How many characters a text lacks to a width.
fn missing(s: &str, width: usize) -> Result<usize, Error> {
    Ok(bounded(width)?.saturating_sub(s.chars().count()))
}

/// `ljust`, `rjust` or `center`.
pub(super) fn justified(s: &str, method: &str, width: usize, fill: char) -> Result<String, Error> {
    let missing = missing(s, width)?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one in front where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(fill(left) + s + &fill(missing - left))
}

fn all(s: &str, holds: impl Fn(char) -> bool) -> bool {
    !s.is_empty() && s.chars().all(holds)
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

fn is_decimal(c: char) -> bool {
    c.is_ascii_digit()
        || (!c.is_ascii()
            && c.is_numeric()
            && regex::Regex::new(r"^\p{Nd}$").is_ok_and(|digit| digit.is_match(c.encode_utf8(&mut [0; 4]))))
}

/// What Python takes for white space: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
