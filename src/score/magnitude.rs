//! Numbers without their sign, from the first digit on: groups, decimals, fractions, powers.

use super::number::Number;

/// The number that begins at `at`, with a digit or with a point and a digit, and where it ends. How it may be written is documented at
/// [`super::token::tokens_from`]; `None` is a value that 128 bits do not hold.
pub(super) fn magnitude(bytes: &[u8], at: usize) -> (Option<Number>, usize) {
    let mut reader = Reader { bytes, at, mantissa: Some(0), scale: Some(1) };
    let value = reader.magnitude();
    (value, reader.at)
}

fn digit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_digit)
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
