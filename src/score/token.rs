//! Numbers in a plain text: every one that stands in it, in one pass.

use std::ops::Range;

use super::characters::{is_currency, is_currency_word};
use super::magnitude::magnitude;
use super::number::Number;

/// A number as it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// Byte offsets, with sign, currency sign and percent sign.
    pub(super) span: Range<usize>,
    /// What it is worth; `None` where 128 bits do not hold it, and then it equals nothing.
    pub(super) value: Option<Number>,
}

/// What a text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A line: a dash and a space there open an item of a list.
    Line,
    /// A number: there they are its sign.
    Number,
}

/// Every number of a text that is [`super::plain::Plain`], from the beginning of a line at `from` on. Accepted are:
/// - a sign, where no operand stands before it (`16-3` holds 16 and 3, `(-3)` holds −3), also with a space behind it after `=`, `:`, `#`,
///   `is` and their like; `minus` and `negative` in words;
/// - a currency sign before or after the sign, and a percent sign at the end: units, which change no value;
/// - groups of three digits parted by `,`, by a space of any width, by `'`, `_`, or by `.` where there are several or a decimal comma
///   follows; India's groups, `1,23,456`;
/// - a decimal fraction after `.`; `.5` too, where no letter or full stop stands before it, and the point of `3.` is punctuation;
/// - a fraction of integers, `1/2` or `1 / 2`, also after a whole number and one space, `2 1/2`;
/// - a power, `10^3`, a power of ten behind a factor, `1.5 × 10^3`, and a program's exponent, `1.5e3`.
///
/// An exponent alone, as in `cm^2`, is no number.
pub(super) fn tokens_from(text: &str, from: usize, start: Start) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = from;
    while let Some(digits) = next_digits(text, at) {
        let from = tokens.last().map_or(from, |token| token.span.end);
        if is_exponent(bytes, digits) {
            let exponent = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
            at = digits + bytes[digits..].iter().take_while(exponent).count();
            continue;
        }
        let (value, end) = magnitude(bytes, digits);
        let end = end + usize::from(bytes.get(end) == Some(&b'%'));
        let prefix = Prefix { text, from, start }.find(digits);
        let value = if prefix.negative { value.and_then(Number::negated) } else { value };
        at = end;
        tokens.push(Token { span: prefix.start..at, value });
    }
    tokens
}

/// Every number of a text.
pub(super) fn tokens(text: &str, start: Start) -> Vec<Token> {
    tokens_from(text, 0, start)
}

/// The number that all of a plain text is, spaces around it aside, also with a plus sign in front.
pub(super) fn whole_plain(text: &str) -> Option<Number> {
    let text = text.trim();
    let text = text
        .strip_prefix('+')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        .unwrap_or(text);
    // Programs write `3.` where people mean the end of a sentence.
    let text = text.strip_suffix('.').filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit())).unwrap_or(text);
    let all = tokens(text, Start::Number);
    let [token] = all.as_slice() else { return None };
    token.value.filter(|_| token.span == (0..text.len()))
}

/// Where the next number's digits begin, or the point before them.
fn next_digits(text: &str, from: usize) -> Option<usize> {
    let at = from + text.as_bytes().get(from..)?.iter().position(u8::is_ascii_digit)?;
    if at == from || text.as_bytes()[at - 1] != b'.' {
        return Some(at);
    }
    // `Rs.500`, `...18` and `(a).5` end something; `$.50` and ` .5` begin a decimal fraction.
    let ends_something = |c: char| c.is_alphanumeric() || matches!(c, '.' | '…' | ')' | ']');
    Some(if text[..at - 1].ends_with(ends_something) { at } else { at - 1 })
}

fn is_exponent(bytes: &[u8], digits: usize) -> bool {
    let before = &bytes[..digits];
    [&b"^"[..], b"^-", b"^{", b"^(", b"^{-", b"^(-"].iter().any(|mark| before.ends_with(mark))
}

/// What stands in front of a number's digits.
struct Prefix<'a> {
    text: &'a str,
    /// Where the number before it ends.
    from: usize,
    start: Start,
}

struct Found {
    start: usize,
    negative: bool,
}

impl Prefix<'_> {
    fn find(&self, digits: usize) -> Found {
        let Some(before) = self.text.get(self.from..digits) else { return Found { start: digits, negative: false } };
        let amount = before.strip_suffix(is_currency).unwrap_or(before);
        let unsigned = Found { start: self.from + amount.len(), negative: false };
        let sign = [amount, without_currency(before)].into_iter().find_map(|rest| self.sign(rest));
        sign.map_or(unsigned, |start| Found { start, negative: true })
    }

    /// Where the sign at the end of `before` begins, if one stands there.
    fn sign(&self, before: &str) -> Option<usize> {
        if let Some(rest) = before.strip_suffix(['-', '—']) {
            let inner = rest.strip_suffix(is_currency).unwrap_or(rest);
            let signs = !ends_an_operand(self.earlier(inner)) && !ends_an_operand(self.earlier(rest));
            return signs.then(|| self.from + inner.len());
        }
        let rest = before.trim_end_matches(is_space);
        let spaced = rest.len() < before.len() && before.len() - rest.len() <= 4;
        if let Some(rest) = rest.strip_suffix('-').filter(|_| spaced) {
            let inner = rest.strip_suffix(is_currency).unwrap_or(rest);
            return (self.invites(inner) && self.invites(rest)).then(|| self.from + inner.len());
        }
        let rest = if spaced { rest } else { return None };
        let negative = without_word(rest, "negative").filter(|inner| !inner.ends_with(['-', '—']));
        let minus = || without_word(rest, "minus").filter(|inner| self.invites(inner) || self.opens(inner));
        negative.or_else(minus).map(|inner| self.from + inner.len())
    }

    fn earlier(&self, inner: &str) -> &str {
        &self.text[..self.from + inner.len()]
    }

    /// Whether nothing stands before it in its line.
    fn opens(&self, inner: &str) -> bool {
        let earlier = self.earlier(inner).trim_end_matches(is_space);
        earlier.is_empty() || earlier.ends_with('\n')
    }

    /// Whether what stands before a dash and a space asks for a number: then the dash is its sign and no punctuation.
    fn invites(&self, inner: &str) -> bool {
        const SIGNS: &str = "#=:({[*<≈|+/×·÷_\"";
        let earlier = self.earlier(inner).trim_end_matches(is_space);
        let Some(last) = earlier.chars().next_back() else { return self.start == Start::Number };
        if last == '\n' {
            return earlier.trim_end().ends_with('{'); // a box over several lines
        }
        if is_currency(last) {
            return !earlier[..earlier.len() - last.len_utf8()].ends_with(|c: char| c.is_ascii_digit());
        }
        SIGNS.contains(last) || asks(earlier)
    }
}

/// Whether a text ends in a verb that a number follows.
fn asks(text: &str) -> bool {
    const VERBS: [&str; 8] = ["is", "are", "was", "were", "be", "equals", "equal to", "becomes"];
    VERBS.iter().any(|verb| without_word(text, verb).is_some())
}

/// What stands before a word at the end of a text.
fn without_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(word.len())?;
    let (before, end) = (text.get(..at)?, text.get(at..)?);
    (end.eq_ignore_ascii_case(word) && !before.ends_with(char::is_alphanumeric)).then_some(before)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{a0}')
}

/// The text without a currency at its end: `-$ `, `-Rs.`, `-USD `.
fn without_currency(before: &str) -> &str {
    let rest = before.strip_suffix(is_space).unwrap_or(before);
    if let Some(rest) = rest.strip_suffix(is_currency).filter(|rest| !rest.ends_with(|c: char| c.is_ascii_alphabetic()))
    {
        return rest;
    }
    let word = rest
        .rfind(|c: char| !(c.is_ascii_alphabetic() || matches!(c, '.' | '$')))
        .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
    if is_currency_word(&rest[word..]) { &rest[..word] } else { before }
}

fn ends_an_operand(text: &str) -> bool {
    let Some(last) = text.chars().next_back() else { return false };
    let behind_digit = || text[..text.len() - last.len_utf8()].ends_with(|c: char| c.is_ascii_digit());
    last.is_alphanumeric()
        || matches!(last, ')' | ']' | '}' | '%' | '.' | '-' | '°')
        || (is_currency(last) && behind_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::number::written;
    use crate::score::plain::Plain;
    use crate::score::writer::Units;

    fn read(text: &str) -> Vec<(String, String)> {
        let plain = Plain::of(text, Units::Kept);
        let value = |token: &Token| token.value.map_or_else(|| "none".to_owned(), written);
        tokens(&plain.text, Start::Line)
            .iter()
            .map(|token| (text[plain.origin(token.span.clone())].to_owned(), value(token)))
            .collect()
    }

    /// Each text with its numbers, as they stand in it and by value.
    fn all_are_read(cases: &[(&str, &[(&str, &str)])]) {
        for (text, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(span, value)| ((*span).to_owned(), (*value).to_owned())).collect();
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn every_way_of_writing_a_number_is_read_exactly() {
        all_are_read(&[
            ("18 dollars", &[("18", "18")]),
            ("$1,234.50 in all", &[("$1,234.50", "1234.5")]),
            ("(-5)", &[("-5", "-5")]),
            ("3.", &[("3", "3")]),
            ("1/2 cup", &[("1/2", "0.5")]),
            ("1 / 2 cup", &[("1 / 2", "0.5")]),
            ("2 1/2 cups", &[("2 1/2", "2.5")]),
            ("2 3/2 cups", &[("2", "2"), ("3/2", "1.5")]),
            ("1/1,000", &[("1/1,000", "0.001")]),
            ("50%", &[("50%", "50")]),
            ("00", &[("00", "0")]),
            ("1/2/2020", &[("1", "1"), ("2", "2"), ("2020", "2020")]),
            ("7/0", &[("7", "7"), ("0", "0")]),
            ("答案是18。", &[("18", "18")]),
            ("no 1.5.2", &[("1.5", "1.5"), ("2", "2")]),
        ]);
    }

    #[test]
    fn digits_are_grouped_in_many_ways() {
        all_are_read(&[
            ("10,000,000.", &[("10,000,000", "10000000")]),
            ("₹1,23,456.50", &[("₹1,23,456.50", "123456.5")]),
            ("12,34,56,789", &[("12,34,56,789", "123456789")]),
            ("123,45,678", &[("123", "123"), ("45,678", "45678")]),
            ("1\u{202f}234\u{202f}567 km", &[("1\u{202f}234\u{202f}567", "1234567")]),
            ("1 234", &[("1 234", "1234")]),
            ("1 234,50 €", &[("1 234,50", "1234.5")]),
            ("1'234.5 1’234", &[("1'234.5", "1234.5"), ("1’234", "1234")]),
            ("1_000_000", &[("1_000_000", "1000000")]),
            ("1.234.567 1.234,5 1.234", &[("1.234.567", "1234567"), ("1.234,5", "1234.5"), ("1.234", "1.234")]),
            ("3,4 and 5", &[("3", "3"), ("4", "4"), ("5", "5")]),
            ("1,2345", &[("1", "1"), ("2345", "2345")]),
            ("1234 567", &[("1234", "1234"), ("567", "567")]),
            ("1 234 5", &[("1", "1"), ("234", "234"), ("5", "5")]),
            ("2 3 456", &[("2", "2"), ("3", "3"), ("456", "456")]),
            ("5 100,000", &[("5", "5"), ("100,000", "100000")]),
            ("5 100-gram bars", &[("5", "5"), ("100", "100")]),
            ("2 100/200", &[("2 100/200", "2.5")]),
            ("2 400/200", &[("2", "2"), ("400/200", "2")]),
        ]);
    }

    #[test]
    fn signs_stand_in_many_places() {
        all_are_read(&[
            (
                "-3 −3 –3 ‑3 －3 ﹣3 —3",
                &[("-3", "-3"), ("−3", "-3"), ("–3", "-3"), ("‑3", "-3"), ("－3", "-3"), ("﹣3", "-3"), ("—3", "-3")],
            ),
            (
                "-$5 $-5 –$50 -₩5 -\\$5 -€ 5",
                &[("-$5", "-5"), ("$-5", "-5"), ("–$50", "-50"), ("-₩5", "-5"), ("-\\$5", "-5"), ("-€ 5", "-5")],
            ),
            ("-Rs.500 -USD 5 -US$5", &[("-Rs.500", "-500"), ("-USD 5", "-5"), ("-US$5", "-5")]),
            ("#### - 3", &[("- 3", "-3")]),
            ("it is – 3, = - 3", &[("– 3", "-3"), ("- 3", "-3")]),
            ("- 7 eggs", &[("7", "7")]),
            ("some left - 3 eggs — 3", &[("3", "3"), ("3", "3")]),
            (
                "16-3 16 - 3 3–5 5$-3 10%-3",
                &[
                    ("16", "16"),
                    ("3", "3"),
                    ("16", "16"),
                    ("3", "3"),
                    ("3", "3"),
                    ("5", "5"),
                    ("5", "5"),
                    ("3", "3"),
                    ("10%", "10"),
                    ("3", "3"),
                ],
            ),
            ("COVID-19, n)-3", &[("19", "19"), ("3", "3")]),
            ("negative 3, it was minus 3, five minus 3", &[("negative 3", "-3"), ("minus 3", "-3"), ("3", "3")]),
            ("non-negative 3", &[("3", "3")]),
            ("--3", &[("3", "3")]),
            ("±3", &[("3", "3")]),
        ]);
    }

    #[test]
    fn a_full_stop_is_a_decimal_point_where_nothing_ends_in_it() {
        all_are_read(&[
            (".5 $.50 -.5 (.5", &[(".5", "0.5"), ("$.50", "0.5"), ("-.5", "-0.5"), (".5", "0.5")]),
            ("Rs.500 No.5 ...18 ….18 (a).5", &[("500", "500"), ("5", "5"), ("18", "18"), ("18", "18"), ("5", "5")]),
            ("Rs.1,200.50", &[("1,200.50", "1200.5")]),
        ]);
    }

    #[test]
    fn powers_are_raised_and_exponents_of_units_are_no_numbers() {
        all_are_read(&[
            ("10^3 10^{3} 10³ 2^-2", &[("10^3", "1000"), ("10^{3}", "1000"), ("10³", "1000"), ("2^-2", "0.25")]),
            ("-2^2", &[("-2^2", "-4")]),
            ("3.5 \\times 10^{4}, 2 x 10^-1", &[("3.5 \\times 10^{4}", "35000"), ("2 x 10^-1", "0.2")]),
            ("1e5 1.5E-2 1ex", &[("1e5", "100000"), ("1.5E-2", "0.015"), ("1", "1")]),
            ("50 cm^2, 60 cm², \\text{cm}^{-3}", &[("50", "50"), ("60", "60")]),
            ("10^99", &[("10^99", "none")]),
            ("2^n 2^1.5", &[("2", "2"), ("2", "2")]),
        ]);
    }

    #[test]
    fn a_number_too_long_for_128_bits_equals_nothing() {
        assert_eq!(read(&"9".repeat(60))[0].1, "none");
        assert_eq!(read(&format!("0.{}", "1".repeat(60)))[0].1, "none");
    }

    #[test]
    fn a_dash_opens_an_item_or_a_number_by_what_the_text_begins_with() {
        let first = |text: &str, start| tokens(text, start)[0].clone();
        assert_eq!(first("- 7", Start::Line).span, 2..3);
        assert_eq!((first("- 7", Start::Number).span, first("- 7", Start::Number).value), (0..3, Number::new(-7, 1)));
        assert_eq!(first("a\n- 7", Start::Number).span, 4..5);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}", numbers in "[-−—$€0-9.,/%^xe '_\u{a0}]{0,40}") {
            for text in [text, numbers] {
                let plain = Plain::of(&text, Units::Kept);
                let mut from = 0;
                for token in tokens(&plain.text, Start::Line) {
                    proptest::prop_assert!(token.span.start >= from && token.span.end > token.span.start);
                    proptest::prop_assert!(plain.text[token.span.clone()].contains(|c: char| c.is_ascii_digit()));
                    from = token.span.end;
                }
            }
        }
    }
}
