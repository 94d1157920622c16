//! Text for people: nearest names, byte sizes, command lines.

/// The candidate nearest to `word` (Jaro-Winkler), if any is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Bytes in the unit that keeps them readable: `538.1 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Words as one command line that a POSIX shell reads back as the same words.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |word: &str| {
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let words = ["--stop", "Q: it's", "", "openai/gsm8k"];
        assert_eq!(command_line(words), r"--stop 'Q: it'\''s' '' openai/gsm8k");
    }

    #[test]
    fn nearest_finds_a_misspelt_name_and_rejects_a_strange_one() {
        assert_eq!(nearest("gsm8k-coot", ["direct", "gsm8k", "gsm8k-cot"]), Some("gsm8k-cot"));
        assert_eq!(nearest("F-16", ["f32", "f16"]), Some("f16"));
        assert_eq!(nearest("zzz", ["f32", "f16"]), None);
    }

    #[test]
    fn bytes_change_unit_at_a_thousand() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(538_062_336), "538.1 MB");
    }
}
