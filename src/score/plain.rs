//! A text as numbers are read in it: LaTeX, other scripts' digits, fraction characters and the many minus signs written in plain ASCII,
//! every byte with the place that it came from. One pass over the text, whatever stands in it.

use std::borrow::Cow;
use std::ops::Range;

use super::latex;
use super::number::Number;
use super::token::whole_plain;
use super::writer::{Boxed, Piece, Units, Writer};

/// A text written plainly.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    source: &'a str,
    pub(super) text: Cow<'a, str>,
    pieces: Vec<Piece>,
    /// In the order in which they open.
    pub(super) boxes: Vec<Boxed>,
}

impl<'a> Plain<'a> {
    pub(super) fn of(source: &'a str, units: Units) -> Self {
        if source.is_ascii() && !source.bytes().any(|byte| matches!(byte, b'\\' | b'{')) {
            return Self { source, text: Cow::Borrowed(source), pieces: Vec::new(), boxes: Vec::new() };
        }
        let mut writer = Writer::new(source);
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

/// The number that all of a text is, spaces around it aside: as [`super::token::tokens`] reads one, also with a plus sign in front.
pub(super) fn whole_number(text: &str) -> Option<Number> {
    whole_plain(&Plain::of(text, Units::Kept).text)
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
