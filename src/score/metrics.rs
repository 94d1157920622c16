//! Exact match as lm-evaluation-harness defines it for GSM8K.

/// What is compared for exact match: `,`, then `$`, then everything up to and with the last `#### `, then one trailing
/// `.` are deleted, and the rest is lower-cased (lm-evaluation-harness 0.4.13, `regexes_to_ignore` of the gsm8k tasks).
pub fn normalize(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let tail = kept.rfind("#### ").map_or(kept.as_str(), |at| &kept[at + 5..]);
    // Python's `\.$` also matches the point in front of a final line break.
    let (body, end) = tail.strip_suffix('\n').map_or((tail, ""), |body| (body, "\n"));
    let mut normal = match tail.strip_suffix('.') {
        Some(stripped) => stripped.to_owned(),
        None => body.strip_suffix('.').unwrap_or(body).to_owned() + end,
    };
    if !normal.is_ascii() {
        return normal.to_lowercase();
    }
    normal.make_ascii_lowercase();
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_deletions_come_in_their_order() {
        assert_eq!(normalize("x\n#### 1,234"), "1234");
        assert_eq!(normalize("$1,024.50"), "1024.50");
        assert_eq!(normalize("18.."), "18.");
        assert_eq!(normalize("##,## 7#### 8"), "8");
        assert_eq!(normalize("Twelve."), "twelve");
        assert_eq!(normalize("18.\n"), "18\n");
        assert_eq!(normalize("####18"), "####18");
    }
}
