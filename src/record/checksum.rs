//! Checksums in the files of a run folder: `crc32`, the last member of a line of JSON, or of a JSON file's last object.
//!
//! It is the CRC-32 of zlib and PNG, in eight lower-case hexadecimal digits, of the text as it would be without this member. Files of
//! earlier versions have none.

/// How a text is written, hence where the member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// An object on one line, without its newline.
    Line,
    /// A whole file: an object, indented by two.
    Object,
    /// A whole file: a list of objects, indented by two.
    List,
}

/// What a text says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It has none: an earlier version wrote it.
    Missing,
    /// It is as it was written.
    Right,
    /// It is not.
    Wrong,
}

const DIGITS: usize = 8;

impl Layout {
    /// That of a whole file.
    pub(super) fn of_file(text: &[u8]) -> Self {
        if text.starts_with(b"[") { Self::List } else { Self::Object }
    }

    /// What stands before the digits and behind them.
    const fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::Line => (",\"crc32\":\"", "\"}"),
            Self::Object => (",\n  \"crc32\": \"", "\"\n}\n"),
            Self::List => (",\n    \"crc32\": \"", "\"\n  }\n]\n"),
        }
    }
}

/// Puts the checksum in. An empty list stays as it is.
pub(super) fn add(text: &mut Vec<u8>, layout: Layout) {
    let (before, after) = layout.around();
    let Some(body) = text.strip_suffix(&after.as_bytes()[1..]).map(<[u8]>::len) else { return };
    let member = format!("{before}{:08x}{after}", crc32fast::hash(text));
    text.truncate(body);
    text.extend_from_slice(member.as_bytes());
}

/// Holds a text against its checksum. A member that was changed itself is wrong, not missing.
pub(super) fn check(text: &[u8], layout: Layout) -> Checksum {
    let (before, after) = layout.around();
    let Some((body, member)) = text.split_at_checked(text.len().wrapping_sub(before.len() + DIGITS + after.len()))
    else {
        return Checksum::Missing;
    };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&after.as_bytes()[1..]);
    let wanted = format!("{before}{:08x}{after}", hasher.finalize());
    if member == wanted.as_bytes() {
        return Checksum::Right;
    }
    // Inside a JSON string quotes are escaped, so that the name in quotes can be nothing but the member's.
    let name = before.trim_start_matches([',', '\n', ' ']).trim_end_matches('"').as_bytes();
    let is_named = text.windows(name.len()).rev().take(100).any(|part| part == name);
    let digits = before.len()..before.len() + DIGITS;
    let is_other = |(place, (own, wanted)): (usize, (&u8, &u8))| !digits.contains(&place) && own != wanted;
    let others = member.iter().zip(wanted.as_bytes()).enumerate().filter(|pair| is_other(*pair)).count();
    if is_named || others <= 2 { Checksum::Wrong } else { Checksum::Missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [(Layout, &str); 3] = [
        (Layout::Line, r#"{"sample":1,"text":"\"crc32\":\"00000000\"}","at_seconds":0.5}"#),
        (Layout::Object, "{\n  \"format\": 1,\n  \"rows\": []\n}\n"),
        (Layout::List, "[\n  {\n    \"threads\": 2\n  },\n  {\n    \"threads\": 4\n  }\n]\n"),
    ];

    fn with_checksum(text: &str, layout: Layout) -> Vec<u8> {
        let mut text = text.as_bytes().to_vec();
        add(&mut text, layout);
        text
    }

    #[test]
    fn what_was_written_is_right_and_still_json() {
        for (layout, text) in TEXTS {
            assert_eq!(check(text.as_bytes(), layout), Checksum::Missing, "{text}");
            let whole = with_checksum(text, layout);
            assert_eq!(check(&whole, layout), Checksum::Right, "{text}");
            let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            let last = json.as_array().map_or(&json, |list| list.last().unwrap());
            // The member is the sum of the rest as it stands in a file without it.
            assert_eq!(last["crc32"], format!("{:08x}", crc32fast::hash(text.as_bytes())));
        }
        assert_eq!(with_checksum("[]\n", Layout::List), b"[]\n");
    }

    #[test]
    fn the_checksum_is_zlib_s() {
        let whole = with_checksum(r#"{"a":1}"#, Layout::Line);
        assert_eq!(String::from_utf8(whole).unwrap(), r#"{"a":1,"crc32":"561bacaf"}"#);
    }

    #[test]
    fn every_single_bit_and_every_single_byte_counts() {
        for (layout, text) in TEXTS {
            let whole = with_checksum(text, layout);
            for place in 0..whole.len() {
                for change in 1..=255 {
                    let mut changed = whole.clone();
                    changed[place] ^= change;
                    assert_eq!(check(&changed, layout), Checksum::Wrong, "{layout:?}: byte {place} by {change:#x}");
                }
            }
        }
    }

    #[test]
    fn a_text_that_speaks_of_checksums_has_none() {
        let text = r#"{"sample":1,"prompt":"say \"crc32\":\"12345678\""}"#;
        assert_eq!(check(text.as_bytes(), Layout::Line), Checksum::Missing);
        assert_eq!(check(b"{}", Layout::Line), Checksum::Missing);
        assert_eq!(check(b"", Layout::Object), Checksum::Missing);
    }
}
