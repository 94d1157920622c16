//! The extractor `boxed`: the last `\boxed{…}` of a text, and the number that stands in it.
//!
//! The content of a box is a number when all of it is one: digits with a sign, a decimal fraction or thousands, `\frac{a}{b}` of
//! integers (also behind a whole number, and as `\dfrac`, `\tfrac`, `\frac12`), with units around it that change no value: `\$`, `\%`,
//! `^\circ`, `\text{…}` without a digit. `x = 5`, `52_8`, `3\pi` and `1, 2` are none.

use std::ops::Range;

use super::number::{Number, whole_number};

const BOXES: [&str; 2] = ["\\boxed", "\\fbox"];
/// Spacing and size, which are no part of a value.
const DROPPED: [&str; 12] =
    ["\\!", "\\,", "\\;", "\\:", "\\ ", "~", "\\left", "\\right", "\\displaystyle", "^\\circ", "^{\\circ}", "\\degree"];
const FRACTIONS: [&str; 3] = ["\\dfrac", "\\tfrac", "\\frac"];
const TEXTS: [&str; 5] = ["\\text", "\\mbox", "\\mathrm", "\\textbf", "\\mathbf"];

/// Byte offsets of what stands in the last box, trimmed; a box that is never closed is none.
pub(super) fn extract(text: &str) -> Option<Range<usize>> {
    let mut starts: Vec<usize> =
        BOXES.iter().flat_map(|name| text.match_indices(name).map(|(at, name)| at + name.len())).collect();
    starts.sort_unstable();
    let content = starts.into_iter().rev().find_map(|at| argument(text, at))?;
    let inner = &text[content.clone()];
    let start = content.end - inner.trim_start().len();
    let trimmed = inner.trim();
    (!trimmed.is_empty()).then(|| start..start + trimmed.len())
}

/// What stands in the last box of a text.
pub fn last_box(text: &str) -> Option<&str> {
    extract(text).map(|span| &text[span])
}

/// The number that all of a formula is, as LaTeX writes it.
pub(super) fn number(formula: &str) -> Option<Number> {
    whole_number(&plain(formula)?)
}

/// The argument of a command that ends at `at`: the braces' content, or one character that needs none.
fn argument(text: &str, at: usize) -> Option<Range<usize>> {
    let start = text.len() - text.get(at..)?.trim_start_matches(' ').len();
    let first = text[start..].chars().next()?;
    if first != '{' {
        // `\boxed 5`; a command's own letters, as of `\boxedsomething`, are no argument.
        let is_argument = first.is_ascii_digit() || (start > at && first.is_alphanumeric());
        return is_argument.then(|| start..start + first.len_utf8());
    }
    let mut depth = 0_usize;
    let mut escaped = false;
    for (offset, c) in text[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(start + 1..start + offset);
                }
            }
            _ => {}
        }
    }
    None
}

/// A formula as [`whole_number`] reads numbers; `None` where a part of it is written in no way that a number is.
fn plain(formula: &str) -> Option<String> {
    // `11,\! 111` is one number, `11, 111` is two.
    let mut text = formula.replace(",\\! ", ",").replace(",\\!", ",").replace("{,}", ",");
    for dropped in DROPPED {
        text = text.replace(dropped, "");
    }
    text = text.replace("\\$", "").replace('$', "").replace("\\%", "%");
    for name in TEXTS {
        while let Some(at) = text.find(&format!("{name}{{")) {
            let content = argument(&text, at + name.len())?;
            let inner = text[content.clone()].to_owned();
            let kept = if inner.contains(|c: char| c.is_ascii_digit()) { inner.as_str() } else { "" };
            text.replace_range(at..=content.end, kept);
        }
    }
    for name in FRACTIONS {
        while let Some(at) = text.find(name) {
            let upper = argument(&text, at + name.len())?;
            let behind = upper.end + usize::from(text[upper.end..].starts_with('}'));
            let lower = argument(&text, behind)?;
            let end = lower.end + usize::from(text[lower.end..].starts_with('}'));
            let whole = text[..at].trim_end().ends_with(|c: char| c.is_ascii_digit());
            let space = if whole { " " } else { "" };
            let fraction = format!("{space}{}/{}", text[upper].trim(), text[lower].trim());
            let kept = text[..at].trim_end().len();
            text.replace_range(kept..end, &fraction);
        }
    }
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || "+-−.,/%€£¥₹ \u{a0}\u{2009}\u{202f}".contains(c);
    text.chars().all(is_number).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::number::written;

    fn value(formula: &str) -> Option<String> {
        number(formula).map(written)
    }

    #[test]
    fn the_last_box_that_is_closed_is_found_with_its_braces() {
        assert_eq!(last_box("So \\boxed{1}, no: $\\boxed{\\frac{1}{2}}$."), Some("\\frac{1}{2}"));
        assert_eq!(last_box("\\boxed{ 7 } and \\boxed{8"), Some("7"));
        assert_eq!(last_box("\\boxed{\\text{a\\}b}}"), Some("\\text{a\\}b}"));
        assert_eq!(last_box("\\fbox{3} \\boxed 5"), Some("5"));
        assert_eq!(last_box("\\boxed5."), Some("5"));
        assert_eq!(last_box("\\boxedx \\boxed{} \\boxed"), None);
        assert_eq!(last_box("none"), None);
    }

    #[test]
    fn numbers_in_boxes_are_read_by_value() {
        for (formula, expected) in [
            ("42", "42"),
            ("-50", "-50"),
            ("3.50", "3.5"),
            (".5", "0.5"),
            ("1,234", "1234"),
            ("1{,}234", "1234"),
            ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
            ("\\frac{14}{3}", "14/3"),
            ("-\\dfrac{1}{2}", "-0.5"),
            ("\\frac12", "0.5"),
            ("\\frac 3 4", "0.75"),
            ("2\\frac{1}{2}", "2.5"),
            ("90^\\circ", "90"),
            ("90^{\\circ}", "90"),
            ("\\$32,\\!348", "32348"),
            ("50\\%", "50"),
            ("10\\text{ cm}", "10"),
            ("5 \\mbox{ feet}", "5"),
            ("\\text{12}", "12"),
            ("\\left(7\\right)", "none"),
            ("x=5", "none"),
            ("52_8", "none"),
            ("3\\pi", "none"),
            ("\\sqrt{51}", "none"),
            ("1,-2", "none"),
            ("3, 5, 7", "none"),
            ("6 - 5i", "none"),
            ("\\frac{\\pi}{2}", "none"),
            ("\\text{Evelyn}", "none"),
            ("(3, \\frac{1}{2})", "none"),
            ("2^{10}", "none"),
            ("\\frac{1}", "none"),
            ("", "none"),
        ] {
            assert_eq!(value(formula).as_deref().unwrap_or("none"), expected, "{formula}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_fraction_in_a_box_keeps_its_value(n in -9999_i64..9999, d in 1_i64..999, before in "[a-z {}\\\\]{0,20}") {
            let sign = if n < 0 { "-" } else { "" };
            let text = format!("{before} \\boxed{{{sign}\\frac{{{}}}{{{d}}}}}", n.abs());
            let expected = whole_number(&format!("{n}/{d}")).unwrap();
            proptest::prop_assert_eq!(number(last_box(&text).unwrap()), Some(expected));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\\\boxed|\\\\frac|\\\\text|\\{|\\}|[0-9]|,|\\\\!| |\\\\|é|\\$|-){0,24}") {
            if let Some(span) = extract(&text) {
                let _ = number(&text[span]);
            }
            let _ = number(&text);
        }
    }
}
