//! Files of JSON lines, each with its checksum: journals and samples.
//!
//! A line is whole once its newline is written. A process killed while writing leaves at most one torn line, the last, which is
//! dropped. Any other line that is not as it was written is an error that names file and line.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RecordError;
use super::checksum::{self, Checksum, Layout};

/// The whole lines of a file, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines<T> {
    /// What they hold.
    pub values: Vec<T>,
    /// How many have no checksum: an earlier version wrote them, so that a changed one may look like them.
    pub unproven: usize,
    /// The bytes that they take.
    pub(super) length: usize,
}

impl<T> Lines<T> {
    /// What the user should know of a file whose lines cannot prove themselves.
    pub(crate) fn note(&self, path: &Path) -> Option<String> {
        (self.unproven > 0).then(|| {
            format!(
                "{}: {} of {} lines have no checksum, as earlier versions wrote them: that they are unchanged is not proven",
                path.display(),
                self.unproven,
                self.values.len()
            )
        })
    }
}

/// One line with its checksum and its newline.
pub(super) fn line_of(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    checksum::add(&mut line, Layout::Line);
    line.push(b'\n');
    Ok(line)
}

/// Reads a file; nothing if it does not exist. `hint` is the way out where a line is damaged.
pub(super) fn read_lines<T: DeserializeOwned + Send>(path: &Path, hint: &str) -> Result<Lines<T>, RecordError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes, path, hint),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Lines { values: Vec::new(), unproven: 0, length: 0 })
        }
        Err(error) => Err(RecordError::io("read", path)(error)),
    }
}

/// The whole lines of a file's bytes.
pub(super) fn parse<T: DeserializeOwned + Send>(
    bytes: &[u8],
    path: &Path,
    hint: &str,
) -> Result<Lines<T>, RecordError> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let damaged = |index: usize, why: &str| {
        RecordError::invalid(format!("{}:{}: damaged line: {why}", path.display(), index + 1), hint)
    };
    // Without its newline a line counts as torn even if it parses: the next line would be glued to it.
    if let Some(torn) = lines.pop_if(|line| !line.ends_with(b"\n"))
        && let [rest @ .., _] = torn
        && checksum::check(rest, Layout::Line) == Checksum::Right
    {
        return Err(damaged(lines.len(), "the newline behind it was changed"));
    }
    let parse = |line: &&[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let checksum = checksum::check(line, Layout::Line);
        if checksum == Checksum::Wrong {
            return Err("it does not have the checksum that it names".to_owned());
        }
        serde_json::from_slice(line).map(|value| (value, checksum)).map_err(|error| error.to_string())
    };
    let parsed: Vec<Result<(T, Checksum), String>> = lines.par_iter().map(parse).collect();
    let (mut values, mut unproven) = (Vec::with_capacity(parsed.len()), 0);
    for (index, line) in parsed.into_iter().enumerate() {
        let (value, checksum) = line.map_err(|why| damaged(index, &why))?;
        if checksum == Checksum::Missing {
            // Who writes checksums writes them from then on.
            if unproven < index {
                return Err(damaged(index, "it has no checksum, and lines before it have one"));
            }
            unproven += 1;
        }
        values.push(value);
    }
    Ok(Lines { values, unproven, length: lines.iter().map(|line| line.len()).sum() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|row| line_of(&json!({"sample": row, "text": "é\n\"4\""})).unwrap()).collect()
    }

    fn read(bytes: &[u8]) -> Result<Lines<Value>, String> {
        parse(bytes, Path::new("run/f32/journal.jsonl"), "look").map_err(|error| error.to_string())
    }

    #[test]
    fn every_changed_bit_is_found_with_file_and_line() {
        let whole = lines(3);
        let ends: Vec<usize> = (0..whole.len()).filter(|place| whole[*place] == b'\n').collect();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[place] ^= 1 << bit;
                let message = read(&changed).expect_err(&format!("byte {place}, bit {bit}"));
                let line = 1 + ends.iter().filter(|end| **end < place).count();
                assert!(message.starts_with(&format!("run/f32/journal.jsonl:{line}: damaged line: ")), "{message}");
                assert!(message.ends_with("\nhint: look"), "{message}");
            }
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_its_whole_lines() {
        let whole = lines(3);
        let line = whole.len() / 3;
        for length in 0..=whole.len() {
            let read = read(&whole[..length]).unwrap();
            assert_eq!((read.values.len(), read.length, read.unproven), (length / line, length / line * line, 0));
        }
    }

    #[test]
    fn lines_of_before_checksums_are_read_and_counted() {
        let old = "{\"sample\":0}\n{\"sample\":1}\n";
        let read_old = read(old.as_bytes()).unwrap();
        assert_eq!((read_old.values.len(), read_old.unproven), (2, 2));
        let note = read_old.note(Path::new("j")).unwrap();
        assert!(note.starts_with("j: 2 of 2 lines have no checksum"), "{note}");
        // A run of then that goes on now.
        let mixed = [old.as_bytes(), &lines(2)].concat();
        let read_mixed = read(&mixed).unwrap();
        assert_eq!((read_mixed.values.len(), read_mixed.unproven), (4, 2));
        assert_eq!(read(&lines(2)).unwrap().note(Path::new("j")), None);
        // The other way round it was tampered with.
        let message = read(&[&lines(2), old.as_bytes()].concat()).unwrap_err();
        assert!(message.contains(":3: damaged line: it has no checksum"), "{message}");
    }

    #[test]
    fn a_bad_last_line_with_its_newline_is_no_torn_one() {
        let message = read(&[&lines(1), &b"{\"sample\":\n"[..]].concat()).unwrap_err();
        assert!(message.contains(":2: damaged line: "), "{message}");
    }

    proptest! {
        #[test]
        fn whatever_a_line_holds_it_comes_back(texts in prop::collection::vec("\\PC*|[\"\\\\{},:crc32 0-9]{0,40}", 0..6)) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| line_of(&json!({"text": text})).unwrap()).collect();
            let read = read(&bytes).unwrap();
            let back: Vec<&str> = read.values.iter().map(|value| value["text"].as_str().unwrap()).collect();
            prop_assert_eq!(back, texts);
            prop_assert_eq!(read.unproven, 0);
        }

        #[test]
        fn old_lines_are_never_taken_for_damaged_ones(text in "\\PC*|[\"\\\\{},:crc32 0-9]{0,60}") {
            let line = serde_json::to_string(&json!({"text": text})).unwrap() + "\n";
            let read = read(line.as_bytes()).unwrap();
            prop_assert_eq!(read.unproven, 1);
        }
    }
}
