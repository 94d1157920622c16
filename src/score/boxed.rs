//! The extractor `boxed`: the last `\boxed{…}` of a text, and the number that stands in it.
//!
//! The content of a box is a number when all of it is one: digits with a sign, a decimal fraction or thousands, `\frac{a}{b}` of
//! numbers (also behind a whole number, and as `\dfrac`, `\tfrac`, `\frac12`), a power of numbers, with units around it that change no
//! value: `\$`, `\%`, `^\circ`, `\text{…}` without a digit. `x = 5`, `52_8`, `3\pi` and `1, 2` are none.

use std::ops::Range;

use super::number::Number;
use super::plain::Plain;
use super::token::whole_plain;
use super::writer::Units;

/// Raised whenever a text could be read otherwise than before.
pub(super) const VERSION: u32 = 2;

/// Byte offsets of what stands in the last box, trimmed; a box that is never closed is none.
pub(super) fn extract(text: &str) -> Option<Range<usize>> {
    let plain = Plain::of(text, Units::Kept);
    let content = plain.boxes.iter().rev().find(|boxed| boxed.closed)?.origin.clone();
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
    let plain = Plain::of(formula, Units::Dropped);
    let around = |c: char| c.is_whitespace() || matches!(c, '$' | '°');
    whole_plain(plain.text.trim_matches(around))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::number::written;
    use crate::score::plain::whole_number;

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
            ("2^{10}", "1024"),
            ("10\\text{ cm}^2", "10"),
            ("\n42\n", "42"),
            ("-\\$5", "-5"),
            ("2^n", "none"),
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
