//! Numbers in a plain text: every one that stands in it, in one pass.

use std::ops::Range;

use super::characters::{is_currency, is_currency_word};
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
        let mut reader = Reader { bytes, at: digits, mantissa: Some(0), scale: Some(1) };
        let value = reader.magnitude();
        if bytes.get(reader.at) == Some(&b'%') {
            reader.at += 1;
        }
        let prefix = Prefix { text, from, start }.find(digits);
        let value = if prefix.negative { value.and_then(Number::negated) } else { value };
        at = reader.at;
        tokens.push(Token { span: prefix.start..at, value });
    }
    tokens
}

/// Every number of a text.
pub(super) fn tokens(text: &str, start: Start) -> Vec<Token> {
    tokens_from(text, 0, start)
}

fn digit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_digit)
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

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    mantissa: Option<i128>,
    scale: Option<i128>,
}

impl Reader<'_> {
    /// A number without sign, from its first digit or its point on.
    fn magnitude(&mut self) -> Option<Number> {
        // The rest of a date is no fraction.
        let is_date = self.at >= 2 && self.bytes[self.at - 1] == b'/' && digit(self.bytes, self.at - 2);
        let parted_by = self.whole();
        let is_decimal = self.decimals(parted_by);
        if is_decimal || is_date || !self.vulgar_follows() {
            let value = self.value().and_then(|(n, d)| Number::new(n, d));
            return self.raised(value);
        }
        self.vulgar().and_then(|(n, d)| Number::new(n, d))
    }

    fn push(&mut self) {
        let figure = i128::from(self.bytes[self.at] - b'0');
        self.mantissa = self.mantissa.and_then(|m| m.checked_mul(10)?.checked_add(figure));
        self.at += 1;
    }

    fn run(&mut self) -> usize {
        let start = self.at;
        while digit(self.bytes, self.at) {
            self.push();
        }
        self.at - start
    }

    /// Digits and the groups behind them; what parts the groups.
    fn whole(&mut self) -> Option<&'static str> {
        let start = self.at;
        let figures = self.run();
        let (separator, end) = groups(self.bytes, start, figures)?;
        while self.at < end {
            if digit(self.bytes, self.at) { self.push() } else { self.at += 1 }
        }
        Some(separator)
    }

    fn decimals(&mut self, parted_by: Option<&str>) -> bool {
        let comma = decimal_comma(self.bytes, self.at, parted_by);
        let point = parted_by != Some(".") && self.bytes.get(self.at) == Some(&b'.') && digit(self.bytes, self.at + 1);
        if !comma && !point {
            return false;
        }
        self.at += 1;
        let figures = self.run();
        self.scale = u32::try_from(figures).ok().and_then(|figures| 10i128.checked_pow(figures));
        true
    }

    fn value(&self) -> Option<(i128, i128)> {
        Some((self.mantissa?, self.scale?))
    }

    fn vulgar_follows(&self) -> bool {
        self.denominator(self.at).is_some() || self.part_of_mixed().is_some()
    }

    /// `n/d` or `w n/d`; a second slash means a date, and then there is only the whole number.
    fn vulgar(&mut self) -> Option<(i128, i128)> {
        let whole = self.mantissa;
        if let Some((denominator, end)) = self.denominator(self.at) {
            self.at = end;
            return Some((whole?, denominator));
        }
        let (numerator, denominator, end) = self.part_of_mixed()?;
        self.at = end;
        Some((whole?.checked_mul(denominator)?.checked_add(numerator)?, denominator))
    }

    /// The fraction behind a whole number: numerator, denominator, and where it ends.
    fn part_of_mixed(&self) -> Option<(i128, i128, usize)> {
        let space =
            [&b" "[..], "\u{a0}".as_bytes()].into_iter().find(|space| self.bytes[self.at..].starts_with(space))?;
        let start = self.at + space.len();
        if !digit(self.bytes, start) {
            return None;
        }
        let mut part = Self { bytes: self.bytes, at: start, mantissa: Some(0), scale: Some(1) };
        part.run();
        let (denominator, end) = self.denominator(part.at)?;
        let numerator = part.mantissa.filter(|numerator| *numerator < denominator)?;
        Some((numerator, denominator, end))
    }

    fn denominator(&self, at: usize) -> Option<(i128, usize)> {
        let slash = [&b"/"[..], b" / "].into_iter().find(|slash| self.bytes[at..].starts_with(slash))?;
        let mut reader = Self { bytes: self.bytes, at: at + slash.len(), mantissa: Some(0), scale: Some(1) };
        if !digit(self.bytes, reader.at) {
            return None;
        }
        reader.whole();
        let rest = &self.bytes[reader.at..];
        let goes_on = rest.starts_with(slash) || rest.starts_with(b"/") || (rest.starts_with(b".") && digit(rest, 1));
        let value = reader.mantissa.filter(|&value| value > 0 && !goes_on)?;
        Some((value, reader.at))
    }

    /// The value with what raises it: `^3`, `× 10^3`, `e3`.
    fn raised(&mut self, value: Option<Number>) -> Option<Number> {
        if let Some((exponent, end)) = power(self.bytes, self.at) {
            self.at = end;
            return value?.power(exponent);
        }
        if let Some((exponent, end)) = scientific(self.bytes, self.at).or_else(|| program(self.bytes, self.at)) {
            self.at = end;
            return value?.scaled(exponent);
        }
        value
    }
}

/// Whether digits follow a decimal comma behind groups that something else parts: `1.234,5`.
fn decimal_comma(bytes: &[u8], at: usize, parted_by: Option<&str>) -> bool {
    let Some(separator) = parted_by.filter(|separator| *separator != ",") else { return false };
    let figures = bytes.get(at + 1..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.get(at) == Some(&b',') && figures > 0 && (figures != 3 || separator == ".")
}

/// What parts the groups behind the `figures` digits at `start`, and where the last one ends.
fn groups(bytes: &[u8], start: usize, figures: usize) -> Option<(&'static str, usize)> {
    const SEPARATORS: [&str; 6] = [",", ".", " ", "\u{a0}", "'", "_"];
    let at = start + figures;
    if !(1..=3).contains(&figures) {
        return None;
    }
    let separator = SEPARATORS.into_iter().find(|separator| bytes[at..].starts_with(separator.as_bytes()))?;
    let mut end = at;
    let mut count = 0;
    while let Some(next) = group(bytes, end, separator, 3) {
        (end, count) = (next, count + 1);
    }
    let is_grouped = match separator {
        "." => count >= 2 || (count == 1 && decimal_comma(bytes, end, Some("."))),
        " " => count >= 1 && stands_alone(bytes, start, end),
        "," if count == 0 => return indian(bytes, at, figures).map(|end| (separator, end)),
        _ => count >= 1,
    };
    is_grouped.then_some((separator, end))
}

/// The end of a group of exactly `figures` digits behind a separator.
fn group(bytes: &[u8], at: usize, separator: &str, figures: usize) -> Option<usize> {
    let start = at + separator.len();
    let is_group = bytes.get(at..)?.starts_with(separator.as_bytes())
        && (start..start + figures).all(|at| digit(bytes, at))
        && !digit(bytes, start + figures);
    is_group.then_some(start + figures)
}

/// Groups of two digits, and one of three at the end.
fn indian(bytes: &[u8], mut at: usize, figures: usize) -> Option<usize> {
    if figures > 2 {
        return None;
    }
    let start = at;
    while let Some(next) = group(bytes, at, ",", 2) {
        at = next;
    }
    group(bytes, at, ",", 3).filter(|_| at > start)
}

/// Whether digits that ordinary spaces part are one number: they are neither in a list of numbers nor in front of a fraction or a unit
/// with a hyphen (`5 100-gram bars`).
fn stands_alone(bytes: &[u8], start: usize, end: usize) -> bool {
    let listed_before = start >= 2 && bytes[start - 1] == b' ' && digit(bytes, start - 2);
    let rest = &bytes[end..];
    let listed_behind = rest.first() == Some(&b' ') && digit(rest, 1);
    let thousands = rest.first() == Some(&b',') && group(rest, 0, ",", 3).is_some();
    let unit = rest.first() == Some(&b'-') && rest.get(1).is_some_and(u8::is_ascii_alphabetic);
    let slash = rest.first() == Some(&b'/') && digit(rest, 1);
    !(listed_before || listed_behind || thousands || unit || slash)
}

/// `^3`, `^-2`.
fn power(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    if bytes.get(at) == Some(&b'^') { integer(bytes, at + 1) } else { None }
}

/// `× 10^3`, with or without spaces.
fn scientific(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let text = skip_space(bytes.get(at..)?);
    let times = ["×", "x", "X", "*", "·"].into_iter().find_map(|times| text.strip_prefix(times.as_bytes()))?;
    let rest = skip_space(times).strip_prefix(b"10^")?;
    integer(bytes, bytes.len() - rest.len())
}

/// `e3`, `E-05`.
fn program(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    if !matches!(bytes.get(at), Some(b'e' | b'E')) {
        return None;
    }
    let (exponent, end) = integer(bytes, at + 1)?;
    let goes_on = bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (!goes_on).then_some((exponent, end))
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b" ").or_else(|| bytes.strip_prefix("\u{a0}".as_bytes())).unwrap_or(bytes)
}

/// An integer of a few digits that no decimals follow, and where it ends.
fn integer(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let sign = usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
    let start = at + sign;
    let figures = bytes.get(start..)?.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let end = start + figures;
    let goes_on = bytes.get(end) == Some(&b'.') && digit(bytes, end + 1);
    let value =
        std::str::from_utf8(&bytes[start..end]).ok()?.parse::<i32>().ok().filter(|_| figures < 6 && !goes_on)?;
    Some((if bytes.get(at) == Some(&b'-') { -value } else { value }, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::number::written;
    use crate::score::plain::{Plain, Units};

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
