//! Formatting of numbers for people.

/// Printed for values that were not measured; never 0.
pub(crate) const NOTHING: &str = "n/a";

pub(crate) fn nothing() -> String {
    NOTHING.to_owned()
}

/// Seconds with at most three decimals and about three digits: `0.004`, `1.25`, `312.5`.
pub(crate) fn seconds_in_words(seconds: f64) -> String {
    let digits = if seconds < 1.0 {
        3
    } else if seconds < 100.0 {
        2
    } else {
        1
    };
    format!("{seconds:.digits$}")
}

/// A fraction of 1 as percent: `78.5`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.1}", fraction * 100.0)
}

/// A difference of fractions as percentage points: `-0.5`, `+0.0`.
pub(crate) fn points(difference: f64) -> String {
    // Adding 0 turns a negative zero, which would print as `-0.0`, into a positive one.
    format!("{:+.1}", (difference * 1000.0).round() / 10.0 + 0.0)
}

/// `1319` as `1,319`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `134515008` as `134.5 M`.
pub(crate) fn count_in_words(count: u64) -> String {
    match count {
        0..1_000_000 => thousands(count),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.1} B", count as f64 / 1e9),
    }
}

/// Three digits at least: `0.123`, `6.06`, `76.1`, `653`, `41,370`.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        ..1.0 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => thousands(value.round() as u64),
    }
}

/// `0.625`, `<0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!(
            [thousands(0), thousands(999), thousands(1000), thousands(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([0.1234, 6.064, 76.06, 653.2, 41_370.4].map(digits), ["0.123", "6.06", "76.1", "653", "41,370"]);
        assert_eq!(
            [points(0.0), points(-0.0), points(-0.000_1), points(0.005), points(-0.25)],
            ["+0.0", "+0.0", "+0.0", "+0.5", "-25.0"]
        );
        assert_eq!(
            [count_in_words(950_000), count_in_words(134_515_008), count_in_words(7_241_732_096)],
            ["950,000", "134.5 M", "7.2 B"]
        );
    }
}
