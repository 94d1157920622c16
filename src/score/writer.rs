//! Builds a plain text piece by piece, and keeps where each came from.

use std::ops::Range;

use super::characters::{digit, fraction, is_invisible, is_minus, is_wide_space, subscript, superscript};

/// What becomes of `\text{…}` that holds no digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// It stays, as the word that it is.
    Kept,
    /// It goes, as a unit that changes no value.
    Dropped,
}

/// A box: `\boxed{…}` or `\fbox{…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boxed {
    /// What stands in it, in the plain text; up to the end of its line where it is never closed.
    pub(super) plain: Range<usize>,
    /// The same in the text itself.
    pub(super) origin: Range<usize>,
    pub(super) closed: bool,
}

/// Plain text from `plain` on, up to the next piece, and the bytes that it stands for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) plain: usize,
    pub(super) origin: Range<usize>,
    /// Byte for byte, so that a part of it stands for a part.
    pub(super) copied: bool,
}

/// Builds the plain text.
pub(super) struct Writer<'a> {
    pub(super) source: &'a str,
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
    /// Whether what was written last is a fraction, which a digit must not lengthen.
    after_fraction: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, text: String::with_capacity(source.len()), pieces: Vec::new(), after_fraction: false }
    }

    /// Writes a part of the source as it stands.
    pub(super) fn copy(&mut self, origin: Range<usize>) {
        if origin.is_empty() {
            return;
        }
        self.part_from_a_fraction(&self.source[origin.clone()]);
        let continues = self
            .pieces
            .last()
            .is_some_and(|piece| piece.copied && piece.origin.start + (self.text.len() - piece.plain) == origin.start);
        self.text.push_str(&self.source[origin.clone()]);
        if continues {
            return;
        }
        self.pieces.push(Piece { plain: self.text.len() - origin.len(), origin, copied: true });
    }

    /// Writes `text` for a part of the source.
    pub(super) fn put(&mut self, text: &str, origin: Range<usize>) {
        if text.is_empty() {
            return;
        }
        self.part_from_a_fraction(text);
        self.pieces.push(Piece { plain: self.text.len(), origin, copied: false });
        self.text.push_str(text);
    }

    /// Writes a fraction, `1/2`, for a part of the source; behind a whole number it is the rest of a mixed one.
    pub(super) fn put_fraction(&mut self, written: &str, origin: Range<usize>) {
        let space = if self.text.ends_with(|c: char| c.is_ascii_digit()) { " " } else { "" };
        self.put(&format!("{space}{written}"), origin);
        self.after_fraction = !written.ends_with('/');
    }

    fn part_from_a_fraction(&mut self, next: &str) {
        if std::mem::take(&mut self.after_fraction) && next.starts_with(|c: char| c.is_ascii_digit() || c == '/') {
            let end = self.pieces.last().map_or(0, |piece| piece.origin.end);
            self.pieces.push(Piece { plain: self.text.len(), origin: end..end, copied: false });
            self.text.push(' ');
        }
    }

    /// Takes back what was written from `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
        while self.pieces.last().is_some_and(|piece| piece.plain >= length) {
            self.pieces.pop();
        }
        self.after_fraction = false;
    }

    /// Writes the character at `at` plainly: how many bytes of the source that takes.
    pub(super) fn write_char(&mut self, at: usize) -> usize {
        let Some(c) = self.source[at..].chars().next() else { return 0 };
        let origin = at..at + c.len_utf8();
        let mut buffer = [0; 4];
        if c.is_ascii() {
            self.copy(origin.clone());
        } else if let Some(value) = digit(c) {
            self.put(char::from(b'0' + value).encode_utf8(&mut buffer), origin.clone());
        } else if subscript(c).is_some() && self.text.ends_with('/') {
            return self.write_denominator(at);
        } else if superscript(c).is_some() || c == '⁻' {
            return self.write_superscripts(at);
        } else if let Some(written) = fraction(c) {
            self.put_fraction(written, origin.clone());
        } else if let Some(plain) = plainer(c) {
            self.put(plain.encode_utf8(&mut buffer), origin.clone());
        } else if !is_invisible(c) {
            self.copy(origin.clone());
        }
        origin.len()
    }

    /// Writes the subscripts behind a slash.
    fn write_denominator(&mut self, at: usize) -> usize {
        let figures = self.source[at..].chars().map_while(subscript);
        let figures: String = figures.map(|value| char::from(b'0' + value)).collect();
        let bytes = figures.len() * '₀'.len_utf8();
        self.put(&figures, at..at + bytes);
        bytes
    }

    /// A run of superscripts is a numerator in front of a slash and a denominator, an exponent behind a digit, else what it is.
    fn write_superscripts(&mut self, at: usize) -> usize {
        let mut figures = String::new();
        let mut end = at;
        for c in self.source[at..].chars() {
            match superscript(c) {
                Some(value) => figures.push(char::from(b'0' + value)),
                None if c == '⁻' && figures.is_empty() => figures.push('-'),
                None => break,
            }
            end += c.len_utf8();
        }
        let is_number = figures.ends_with(|c: char| c.is_ascii_digit());
        let mut rest = self.source[end..].chars();
        let is_numerator = is_number
            && rest.next().is_some_and(|c| matches!(c, '⁄' | '/'))
            && rest.next().is_some_and(|c| subscript(c).is_some() || digit(c).is_some());
        if is_numerator {
            self.put_fraction(&figures, at..end);
            self.after_fraction = false;
        } else if is_number && self.text.ends_with(|c: char| c.is_ascii_digit()) {
            self.put(&format!("^{figures}"), at..end);
        } else {
            self.copy(at..end);
        }
        end - at
    }
}

/// The plain form of a character that has one.
fn plainer(c: char) -> Option<char> {
    Some(match c {
        _ if is_minus(c) => '-',
        '\u{2014}' | '\u{2015}' | '\u{fe31}' => '—',
        '⁄' | '∕' | '⧸' => '/',
        '٫' => '.',
        '٬' => ',',
        '٪' | '﹪' => '%',
        '‘' | '’' | 'ʼ' | '′' => '\'',
        '∙' | '⋅' | '‧' => '·',
        '✕' | '✖' | '⨯' | '∗' => '×',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0)?,
        _ if is_wide_space(c) => '\u{a0}',
        _ => return None,
    })
}
