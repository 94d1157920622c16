//! Numbers as people write them, read exactly: no value ever passes through floating point.

use std::ops::Range;

/// A rational number in lowest terms, the denominator positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    numerator: i128,
    denominator: i128,
}

impl Number {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator <= 0 {
            return None;
        }
        let divisor = greatest_common_divisor(numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = i128::try_from(divisor).ok()?;
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }
}

/// The number that all of a text is, spaces around it aside: as [`first_number`] reads one, also with a plus sign in front, or with an
/// exponent (`1.5e3`), as programs write numbers.
pub(super) fn whole_number(text: &str) -> Option<Number> {
    let text = text.trim();
    let text = text
        .strip_prefix('+')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        .unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    // Programs write `3.` where people mean the end of a sentence.
    let mantissa =
        mantissa.strip_suffix('.').filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit())).unwrap_or(mantissa);
    let token = first_number(mantissa, 0..mantissa.len())?;
    let value = token.value.filter(|_| token.span == (0..mantissa.len()))?;
    if value.numerator == 0 {
        return Some(value);
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 {
        Number::new(value.numerator, value.denominator.checked_mul(power)?)
    } else {
        Number::new(value.numerator.checked_mul(power)?, value.denominator)
    }
}

/// The shortest way to write a number exactly: `3`, `2.5`, `1/3`.
pub(super) fn written(Number { numerator, denominator }: Number) -> String {
    let places = (0..=38_u32).find(|places| 10_i128.checked_pow(*places).is_some_and(|power| power % denominator == 0));
    let scaled = places.and_then(|places| {
        let scaled = numerator.unsigned_abs().checked_mul(10_u128.pow(places) / denominator.unsigned_abs())?;
        Some((scaled.to_string(), places as usize))
    });
    let sign = if numerator < 0 { "-" } else { "" };
    match scaled {
        Some((digits, 0)) => format!("{sign}{digits}"),
        Some((digits, places)) => {
            let digits = format!("{digits:0>width$}", width = places + 1);
            let (whole, part) = digits.split_at(digits.len() - places);
            format!("{sign}{whole}.{part}")
        }
        None => format!("{numerator}/{denominator}"),
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// A number as it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// Byte offsets, with sign, currency sign and percent sign.
    pub(super) span: Range<usize>,
    /// What it is worth; `None` where 128 bits do not hold it, and then it equals nothing.
    pub(super) value: Option<Number>,
}

/// The first number in `text[region]`. Accepted are:
/// - a sign, `-` or U+2212, where no operand stands before it (`16-3` holds 16 and 3, `(-3)` holds −3);
/// - a currency sign before or after the sign, and a percent sign at the end: units, which change no value;
/// - thousands in groups of three, parted by `,` or a no-break, thin or narrow space;
/// - a decimal fraction after `.` (`.5` too, and the point of `3.` is punctuation);
/// - a vulgar fraction of integers, `1/2`, also after a whole number and one space, `2 1/2`.
///
/// There are no exponents: `1e5` holds 1 and 5.
pub(super) fn first_number(text: &str, region: Range<usize>) -> Option<Token> {
    let bytes = text.as_bytes().get(..region.end)?;
    let digits = (region.start..bytes.len()).find(|&at| {
        let leading_point = bytes[at] == b'.' && digit(bytes, at + 1) && !(at > 0 && digit(bytes, at - 1));
        bytes[at].is_ascii_digit() || leading_point
    })?;
    let (start, negative) = prefix(text, region.start, digits);
    let mut reader = Reader { bytes, at: digits, mantissa: Some(0), scale: Some(1) };
    reader.whole();
    let value = if reader.decimals() { reader.value() } else { reader.vulgar() };
    if bytes.get(reader.at) == Some(&b'%') {
        reader.at += 1;
    }
    let value = value.and_then(|(n, d)| Number::new(if negative { n.checked_neg()? } else { n }, d));
    Some(Token { span: start..reader.at, value })
}

fn digit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_digit)
}

/// Where the signs in front of the digits begin, and whether they make the number negative.
fn prefix(text: &str, from: usize, digits: usize) -> (usize, bool) {
    let Some(before) = text.get(from..digits) else { return (digits, false) };
    let mut rest = before.strip_suffix(is_currency).unwrap_or(before);
    let mut negative = false;
    if let Some(unsigned) = rest.strip_suffix(is_minus) {
        let inner = unsigned.strip_suffix(is_currency).unwrap_or(unsigned);
        if text.get(..from + inner.len()).is_some_and(|earlier| !ends_an_operand(earlier)) {
            negative = true;
            rest = inner;
        }
    }
    (from + rest.len(), negative)
}

fn is_currency(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥' | '₹')
}

fn is_minus(c: char) -> bool {
    matches!(c, '-' | '−')
}

fn ends_an_operand(text: &str) -> bool {
    text.chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | ']' | '}' | '%' | '.' | '-'))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    mantissa: Option<i128>,
    scale: Option<i128>,
}

impl Reader<'_> {
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

    fn whole(&mut self) {
        if self.run() > 3 {
            return;
        }
        while let Some(separator) = separator(&self.bytes[self.at..]) {
            let group = self.at + separator;
            let three = (group..group + 3).all(|at| digit(self.bytes, at)) && !digit(self.bytes, group + 3);
            if !three {
                return;
            }
            self.at = group;
            self.run();
        }
    }

    fn decimals(&mut self) -> bool {
        if self.bytes.get(self.at) != Some(&b'.') || !digit(self.bytes, self.at + 1) {
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

    /// `n`, `n/d` or `w n/d`; a second slash means a date, and then there is only the whole number.
    fn vulgar(&mut self) -> Option<(i128, i128)> {
        let whole = self.value();
        if let Some((denominator, end)) = self.denominator(self.at) {
            self.at = end;
            return Some((whole?.0, denominator));
        }
        if self.bytes.get(self.at) == Some(&b' ') && digit(self.bytes, self.at + 1) {
            let mut part = Self { bytes: self.bytes, at: self.at + 1, mantissa: Some(0), scale: Some(1) };
            part.run();
            if let (Some((denominator, end)), Some(numerator)) = (self.denominator(part.at), part.mantissa)
                && numerator < denominator
            {
                self.at = end;
                return Some((whole?.0.checked_mul(denominator)?.checked_add(numerator)?, denominator));
            }
        }
        whole
    }

    fn denominator(&self, slash: usize) -> Option<(i128, usize)> {
        if self.bytes.get(slash) != Some(&b'/') {
            return None;
        }
        let mut reader = Self { bytes: self.bytes, at: slash + 1, mantissa: Some(0), scale: Some(1) };
        let figures = reader.run();
        let goes_on = matches!(self.bytes.get(reader.at), Some(b'/'))
            || (self.bytes.get(reader.at) == Some(&b'.') && digit(self.bytes, reader.at + 1));
        let value = reader.mantissa.filter(|&value| figures > 0 && value > 0 && !goes_on)?;
        Some((value, reader.at))
    }
}

/// Bytes of a thousands separator at the start of `bytes`: comma, no-break, thin or narrow no-break space.
fn separator(bytes: &[u8]) -> Option<usize> {
    [",".as_bytes(), "\u{a0}".as_bytes(), "\u{2009}".as_bytes(), "\u{202f}".as_bytes()]
        .iter()
        .find(|separator| bytes.starts_with(separator))
        .map(|separator| separator.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Option<(i128, i128)>) {
        let token = first_number(text, 0..text.len()).unwrap();
        (text[token.span].to_owned(), token.value.map(|n| (n.numerator, n.denominator)))
    }

    #[test]
    fn every_way_of_writing_a_number_is_read_exactly() {
        let cases: &[(&str, &str, (i128, i128))] = &[
            ("18 dollars", "18", (18, 1)),
            ("$1,234.50 in all", "$1,234.50", (2469, 2)),
            ("-3", "-3", (-3, 1)),
            ("−3.0", "−3.0", (-3, 1)),
            ("-$5", "-$5", (-5, 1)),
            ("$-5", "$-5", (-5, 1)),
            ("(-5)", "-5", (-5, 1)),
            ("- 7", "7", (7, 1)),
            ("3.", "3", (3, 1)),
            ("1/2 cup", "1/2", (1, 2)),
            ("2 1/2 cups", "2 1/2", (5, 2)),
            ("50%", "50%", (50, 1)),
            (".5", ".5", (1, 2)),
            ("00", "00", (0, 1)),
            ("10,000,000.", "10,000,000", (10_000_000, 1)),
            ("3,4 and 5", "3", (3, 1)),
            ("1,2345", "1", (1, 1)),
            ("1\u{202f}234 km", "1\u{202f}234", (1234, 1)),
            ("1/2/2020", "1", (1, 1)),
            ("7/0", "7", (7, 1)),
            ("答案是18。", "18", (18, 1)),
            ("€12", "€12", (12, 1)),
        ];
        for (text, written, value) in cases {
            assert_eq!(read(text), ((*written).to_owned(), Some(*value)), "{text}");
        }
    }

    #[test]
    fn a_minus_between_operands_is_no_sign() {
        let text = "16-3";
        assert_eq!(first_number(text, 2..4).unwrap().span, 3..4);
        assert_eq!(first_number(text, 2..4).unwrap().value, Number::new(3, 1));
    }

    #[test]
    fn a_number_too_long_for_128_bits_equals_nothing() {
        assert_eq!(read(&"9".repeat(60)).1, None);
        assert_eq!(read(&format!("0.{}", "1".repeat(60))).1, None);
    }

    #[test]
    fn a_whole_text_is_a_number_or_none() {
        let canonical = |text: &str| whole_number(text).map(written);
        for (text, expected) in [
            ("18", "18"),
            (" 145.0 ", "145"),
            ("3.", "3"),
            ("+7", "7"),
            ("-0", "0"),
            ("1e3", "1000"),
            ("-2.50E-1", "-0.25"),
            ("0e999", "0"),
            ("1,234", "1234"),
            ("$1,234.50", "1234.5"),
            ("2/6", "1/3"),
            ("0.1", "0.1"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "18 apples", "3,5", "1e", "e3", "NaN", "inf", "+-3", "1e99", "x", "1-2", "3..", "#3"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_number_written_in_any_way_has_one_canonical_writing(value: i64, zeros in 0usize..6, places in 0u32..6) {
            let canonical = |text: &str| whole_number(text).map(written).unwrap();
            proptest::prop_assert_eq!(canonical(&value.to_string()), value.to_string());
            proptest::prop_assert_eq!(canonical(&format!("{value}.{}", "0".repeat(zeros + 1))), value.to_string());
            let scaled = canonical(&format!("{value}e-{places}"));
            proptest::prop_assert_eq!(canonical(&format!("{scaled}{}", if scaled.contains('.') { "00" } else { "" })), scaled.clone());
            proptest::prop_assert_eq!(canonical(&format!("{scaled}e{places}")), value.to_string());
        }

        #[test]
        fn any_double_is_read_as_its_shortest_decimal(value: f64) {
            let shortest = format!("{value}");
            if let Some(number) = whole_number(&shortest) {
                proptest::prop_assert_eq!(written(number).parse::<f64>().unwrap(), value);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_integer_survives_its_own_writing(value in -1_000_000_000i128..1_000_000_000, cents in 0i128..100) {
            proptest::prop_assert_eq!(read(&format!("it is {value}.")).1, Some((value, 1)));
            let written = format!("{}{}.{cents:02}", if value < 0 { "-$" } else { "$" }, grouped(value.unsigned_abs()));
            let sign = if value < 0 { -1 } else { 1 };
            let expected = Number::new(sign * (value.abs() * 100 + cents), 100);
            proptest::prop_assert_eq!(first_number(&written, 0..written.len()).unwrap().value, expected);
            proptest::prop_assert_eq!(read(&written).0, written);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}", numbers in "[-−$€0-9.,/% \u{a0}]{0,40}") {
            for text in [text, numbers] {
                let mut from = 0;
                while let Some(token) = first_number(&text, from..text.len()) {
                    proptest::prop_assert!(text.get(token.span.clone()).is_some());
                    proptest::prop_assert!(token.span.start >= from && token.span.end > from);
                    from = token.span.end;
                }
            }
        }
    }

    fn grouped(value: u128) -> String {
        let figures = value.to_string();
        let mut text = String::new();
        for (index, figure) in figures.chars().enumerate() {
            if index > 0 && (figures.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(figure);
        }
        text
    }
}
