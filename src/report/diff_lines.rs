//! Wraps a word diff to the width of a terminal.

use console::{Style, measure_text_width};

use crate::score::{Change, DiffPart};
use crate::shown;

/// What brackets take around a part that is not in both texts, where there is no colour.
const MARKS: usize = 4;

/// Breaks parts into lines of at most `width` columns, between words where that is possible. Line breaks of the text
/// stay; control characters, which a terminal would obey, become `�`.
pub(crate) fn wrap(parts: &[DiffPart], width: usize) -> Vec<Vec<DiffPart>> {
    let mut lines = Lines { width, done: vec![Vec::new()], used: 0 };
    for part in parts {
        let text = plain(&part.text);
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                lines.begin();
            }
            lines.add(part.change, line);
        }
    }
    lines.done
}

/// A text in lines of at most `width` columns.
pub(crate) fn wrap_text(text: &str, width: usize) -> Vec<String> {
    let lines = wrap(&[DiffPart { change: Change::Same, text: text.to_owned() }], width);
    lines.iter().map(|line| line.iter().map(|part| part.text.as_str()).collect()).collect()
}

/// A text without what a terminal would obey, and a space for a tab; line breaks stay.
pub(crate) fn plain(text: &str) -> String {
    shown::plain(text).replace('\t', " ")
}

/// A part with its mark: red and struck out, or green, in colour; `[-…-]` and `{+…+}` without.
pub(crate) fn mark(text: &str, change: &str, colour: bool) -> String {
    let style = |style: Style| style.force_styling(true).apply_to(text).to_string();
    match (change, colour) {
        ("removed", true) => style(Style::new().red().strikethrough()),
        ("added", true) => style(Style::new().green().bold()),
        ("removed", false) => format!("[-{text}-]"),
        ("added", false) => format!("{{+{text}+}}"),
        _ => text.to_owned(),
    }
}

struct Lines {
    width: usize,
    done: Vec<Vec<DiffPart>>,
    used: usize,
}

impl Lines {
    fn begin(&mut self) {
        self.done.push(Vec::new());
        self.used = 0;
    }

    fn add(&mut self, change: Change, text: &str) {
        let marks = if change == Change::Same { 0 } else { MARKS };
        // A word with the white space behind it.
        for word in text.split_inclusive(char::is_whitespace) {
            let mut rest = word;
            while !rest.is_empty() {
                let continues = self.done.last().and_then(|line| line.last()).is_some_and(|last| last.change == change);
                let room = self.width.saturating_sub(self.used + if continues { 0 } else { marks });
                if measure_text_width(rest) <= room {
                    self.push(change, rest, if continues { 0 } else { marks });
                    rest = "";
                } else if self.used > 0 {
                    self.begin();
                } else {
                    // Longer than a line: cut where the line ends, after one character at least.
                    let cut = fitting(rest, room);
                    let (head, tail) = rest.split_at(cut);
                    self.push(change, head, if continues { 0 } else { marks });
                    self.begin();
                    rest = tail;
                }
            }
        }
    }

    fn push(&mut self, change: Change, text: &str, marks: usize) {
        self.used += marks + measure_text_width(text);
        let Some(line) = self.done.last_mut() else { return };
        match line.last_mut() {
            Some(last) if last.change == change => last.text.push_str(text),
            _ => line.push(DiffPart { change, text: text.to_owned() }),
        }
    }
}

/// Bytes of the longest beginning that takes at most `room` columns; one character's at least.
fn fitting(text: &str, room: usize) -> usize {
    let mut end = 0;
    for (start, c) in text.char_indices() {
        let next = start + c.len_utf8();
        if end > 0 && measure_text_width(text.get(..next).unwrap_or_default()) > room {
            break;
        }
        end = next;
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(change: Change, text: &str) -> DiffPart {
        DiffPart { change, text: text.to_owned() }
    }

    fn name(change: Change) -> &'static str {
        match change {
            Change::Same => "same",
            Change::Removed => "removed",
            Change::Added => "added",
        }
    }

    fn printed(lines: &[Vec<DiffPart>]) -> Vec<String> {
        let line = |line: &Vec<DiffPart>| line.iter().map(|part| mark(&part.text, name(part.change), false)).collect();
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_diff_without_colour_has_brackets_and_keeps_line_breaks() {
        let parts =
            [part(Change::Same, "It is\n"), part(Change::Removed, "thick"), part(Change::Added, "thin\u{1b}[31m")];
        assert_eq!(printed(&wrap(&parts, 40)), ["It is", "[-thick-]{+thin\u{fffd}[31m+}"]);
        assert!(mark("x", "removed", true).contains("\u{1b}[") && mark("x", "same", true) == "x");
    }

    #[test]
    fn long_words_are_cut_and_short_ones_are_not() {
        let parts = [part(Change::Same, "one two three "), part(Change::Added, "abcdefghijklmnop")];
        assert_eq!(printed(&wrap(&parts, 10)), ["one two ", "three ", "{+abcdef+}", "{+ghijkl+}", "{+mnop+}"]);
        assert_eq!(printed(&wrap(&[part(Change::Same, "東京東京東京")], 4)), ["東京", "東京", "東京"]);
        assert_eq!(wrap(&[], 10), [Vec::new()]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(
            texts in proptest::collection::vec((0_usize..3, "[a-f é東\n]{0,30}"), 0..6),
            width in 8_usize..40,
        ) {
            let changes = [Change::Same, Change::Removed, Change::Added];
            let parts: Vec<DiffPart> = texts.iter().map(|(at, text)| part(changes[*at], text)).collect();
            let lines = wrap(&parts, width);
            for line in printed(&lines) {
                prop_assert!(measure_text_width(&line) <= width, "{line:?}");
            }
            let letters = |text: String| text.chars().filter(|c| *c != '\n').collect::<String>();
            let kept: String = lines.iter().flatten().map(|part| part.text.as_str()).collect();
            prop_assert_eq!(letters(kept), letters(parts.iter().map(|part| part.text.as_str()).collect()));
        }
    }
}
