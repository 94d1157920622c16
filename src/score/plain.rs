//! A text as numbers are read in it: LaTeX, other scripts' digits, fraction characters and the many minus signs written in plain ASCII,
//! every byte with the place that it came from. One pass over the text, whatever stands in it.

use std::borrow::Cow;
use std::ops::Range;

use super::characters::{digit, fraction, is_invisible, is_minus, is_wide_space, subscript, superscript};
use super::latex;

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

/// A text written plainly.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    source: &'a str,
    pub(super) text: Cow<'a, str>,
    pieces: Vec<Piece>,
    /// In the order in which they open.
    pub(super) boxes: Vec<Boxed>,
}

/// Plain text from `plain` on, up to the next piece, and the bytes that it stands for.
#[derive(Debug)]
struct Piece {
    plain: usize,
    origin: Range<usize>,
    /// Byte for byte, so that a part of it stands for a part.
    copied: bool,
}

impl<'a> Plain<'a> {
    pub(super) fn of(source: &'a str, units: Units) -> Self {
        if source.is_ascii() && !source.bytes().any(|byte| matches!(byte, b'\\' | b'{')) {
            return Self { source, text: Cow::Borrowed(source), pieces: Vec::new(), boxes: Vec::new() };
        }
        let mut writer =
            Writer { source, text: String::with_capacity(source.len()), pieces: Vec::new(), after_fraction: false };
        let boxes = latex::write(&mut writer, units);
        Self { source, text: Cow::Owned(writer.text), pieces: writer.pieces, boxes }
    }

    /// The bytes of the source that plain bytes stand for, with the braces that close what is opened there.
    pub(super) fn origin(&self, plain: Range<usize>) -> Range<usize> {
        if self.pieces.is_empty() || plain.is_empty() {
            return plain;
        }
        let holding = |at: usize| &self.pieces[self.pieces.partition_point(|piece| piece.plain <= at) - 1];
        let (first, last) = (holding(plain.start), holding(plain.end - 1));
        let start = first.origin.start + if first.copied { plain.start - first.plain } else { 0 };
        let end = if last.copied { last.origin.start + plain.end - last.plain } else { last.origin.end };
        start..self.closed(start, end)
    }

    fn closed(&self, start: usize, mut end: usize) -> usize {
        let inside = self.source.as_bytes()[start..end].iter();
        let mut open = inside.fold(0_usize, |open, byte| match byte {
            b'{' => open + 1,
            b'}' => open.saturating_sub(1),
            _ => open,
        });
        while open > 0 && self.source.as_bytes().get(end) == Some(&b'}') {
            open -= 1;
            end += 1;
        }
        end
    }
}

/// Builds the plain text.
pub(super) struct Writer<'a> {
    pub(super) source: &'a str,
    pub(super) text: String,
    pieces: Vec<Piece>,
    /// Whether what was written last is a fraction, which a digit must not lengthen.
    after_fraction: bool,
}

impl Writer<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        Plain::of(text, Units::Kept).text.into_owned()
    }

    #[test]
    fn characters_of_every_script_become_plain() {
        for (text, expected) in [
            ("١٨ – １，２３４．５％", "18 - 1,234.5%"),
            ("2½ cups", "2 1/2 cups"),
            ("½5", "1/2 5"),
            ("1⁄2 ³⁄₁₆ 2³⁄₄ ⅟8 x₂", "1/2 3/16 2 3/4 1/8 x₂"),
            ("10³ 10⁻² cm²", "10^3 10^-2 cm²"),
            ("1\u{2009}234\u{202f}5", "1\u{a0}234\u{a0}5"),
            ("\u{200f}-\u{200e}٣", "-3"),
            ("—3 it’s ×", "—3 it's ×"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn plain_bytes_stand_for_bytes_of_the_source() {
        let text = "a ½ b \\boxed{\\$9{,}500} x\\text{12}";
        let plain = Plain::of(text, Units::Kept);
        let origin = |needle: &str| {
            let at = plain.text.find(needle).unwrap();
            &text[plain.origin(at..at + needle.len())]
        };
        assert_eq!(origin("1/2"), "½");
        assert_eq!(origin("$9,500"), "\\$9{,}500");
        assert_eq!(origin("9,5"), "9{,}5");
        assert_eq!(origin("x12"), "x\\text{12}");
        assert_eq!(origin(" b "), " b ");
        assert_eq!(Plain::of("abc", Units::Kept).origin(1..2), 1..2);
    }

    proptest::proptest! {
        #[test]
        fn every_part_of_the_plain_text_has_a_place(text in "(\\\\boxed|\\\\frac|\\\\text|\\{|\\}|[0-9]|,|\\\\!|\\\\,| |\\\\|é|½|²|⁄|₂|\\$|\\^|-|१|\n){0,30}", drop: bool) {
            let plain = Plain::of(&text, if drop { Units::Dropped } else { Units::Kept });
            let bounds: Vec<usize> = plain.text.char_indices().map(|(at, _)| at).chain([plain.text.len()]).collect();
            for (index, start) in bounds.iter().enumerate() {
                for end in &bounds[index..] {
                    let origin = plain.origin(*start..*end);
                    proptest::prop_assert!(start == end || text.get(origin.clone()).is_some(), "{origin:?}");
                }
            }
            for boxed in &plain.boxes {
                proptest::prop_assert!(plain.text.get(boxed.plain.clone()).is_some() && text.get(boxed.origin.clone()).is_some());
            }
        }
    }
}
