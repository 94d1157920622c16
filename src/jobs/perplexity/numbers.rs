//! A perplexity's numbers and texts as its tables show them.

use crate::report::words::nothing;
use crate::score::Estimate;

/// Three digits that say something: `0.0123`, `1.23e-6`, `12.3`, `4321`.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let magnitude = size.log10().floor() as i32;
    format!("{value:.*}", (2 - magnitude).max(0) as usize)
}

/// A fraction of 1, which may be tiny, in percent.
pub(super) fn percentage(fraction: f64) -> String {
    significant(fraction * 100.0)
}

pub(super) fn signed(value: f64) -> String {
    let text = significant(value);
    if value > 0.0 { format!("+{text}") } else { text }
}

/// An estimate's standard error.
pub(super) fn error(estimate: &Estimate) -> String {
    estimate.standard_error.map_or_else(nothing, significant)
}

pub(in crate::jobs) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// The last `length` characters, line breaks and the like spelled out.
pub(in crate::jobs) fn quoted_end(text: &str, length: usize) -> String {
    let escaped: Vec<char> = text.escape_debug().collect();
    let end = escaped.get(escaped.len().saturating_sub(length)..).unwrap_or_default();
    let cut = if end.len() < escaped.len() { "…" } else { "" };
    format!("\"{cut}{}\"", end.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_say_something() {
        let shown = [0.0, 0.012_34, 1.234e-6, 12.34, 4321.0, -0.5, 1.0].map(significant);
        assert_eq!(shown, ["0", "0.0123", "1.23e-6", "12.3", "4321", "-0.500", "1.00"]);
        assert_eq!([0.25, -0.25, 0.0].map(signed), ["+0.250", "-0.250", "0"]);
    }

    #[test]
    fn the_end_of_a_context_is_quoted() {
        assert_eq!(quoted_end("one\ntwo", 36), "\"one\\ntwo\"");
        assert_eq!(quoted_end("one two", 3), "\"…two\"");
    }
}
