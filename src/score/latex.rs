//! LaTeX as models write numbers in it: separators, spacing, units, fractions, powers, boxes.

use std::ops::Range;

use super::token::whole_plain;
use super::writer::{Boxed, Units, Writer};

/// Longest plain argument of a fraction that is read: nested fractions cannot make one pass into many.
const ARGUMENT_BYTES: usize = 96;
const FRACTIONS: [&str; 4] = ["frac", "dfrac", "tfrac", "cfrac"];
const BOXES: [&str; 2] = ["boxed", "fbox"];
/// Commands whose argument stays and whose braces go.
const TEXTS: [&str; 20] = [
    "text",
    "mbox",
    "hbox",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "textnormal",
    "emph",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "mathord",
    "boldsymbol",
    "bm",
    "operatorname",
    "underline",
];
/// Size and style, which are no part of a value.
const DROPPED: [&str; 16] = [
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "limits",
    "nonumber",
    "hfill",
];
/// Commands that stand for a character.
const SYMBOLS: [(&str, &str); 27] = [
    ("times", "×"),
    ("cdot", "·"),
    ("ast", "*"),
    ("div", "÷"),
    ("approx", "≈"),
    ("simeq", "≈"),
    ("minus", "-"),
    ("textminus", "-"),
    ("textendash", "-"),
    ("circ", "°"),
    ("degree", "°"),
    ("textdegree", "°"),
    ("textdollar", "$"),
    ("pounds", "£"),
    ("textsterling", "£"),
    ("euro", "€"),
    ("texteuro", "€"),
    ("yen", "¥"),
    ("textyen", "¥"),
    ("rupee", "₹"),
    ("cents", "¢"),
    ("thinspace", "\u{a0}"),
    ("medspace", "\u{a0}"),
    ("thickspace", "\u{a0}"),
    ("enspace", "\u{a0}"),
    ("nobreakspace", "\u{a0}"),
    ("space", " "),
];

/// Writes all of the writer's source plainly; its boxes.
pub(super) fn write(writer: &mut Writer, units: Units) -> Vec<Boxed> {
    let mut latex =
        Latex { writer, units, has_commands: false, groups: Vec::new(), boxes: Vec::new(), dropped_unit: false };
    latex.has_commands = latex.writer.source.contains('\\');
    latex.all();
    latex.boxes
}

/// What a brace opened.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bare,
    Text,
    /// By its number.
    Box(usize),
    Numerator,
    /// With the end of the plain numerator.
    Denominator(usize),
}

#[derive(Debug, Clone, Copy)]
struct Group {
    kind: Kind,
    /// Where its command begins in the source.
    origin: usize,
    /// Where it begins in the plain text.
    plain: usize,
}

struct Latex<'w, 'a> {
    writer: &'w mut Writer<'a>,
    units: Units,
    has_commands: bool,
    groups: Vec<Group>,
    boxes: Vec<Boxed>,
    /// Whether a unit was dropped just now: an exponent behind it belongs to it.
    dropped_unit: bool,
}

impl Latex<'_, '_> {
    fn all(&mut self) {
        let source = self.writer.source;
        let bytes = source.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let ordinary = |byte: &u8| byte.is_ascii() && !matches!(byte, b'\\' | b'{' | b'}' | b'~' | b'^');
            let run = bytes[at..].iter().position(|byte| !ordinary(byte)).unwrap_or(bytes.len() - at);
            if run > 0 {
                self.dropped_unit = false;
                self.writer.copy(at..at + run);
                at += run;
                continue;
            }
            at = match bytes[at] {
                b'\\' => self.command(at),
                b'{' => self.open(Kind::Bare, at, at),
                b'}' => self.close(at),
                b'~' if self.has_commands => self.symbol("\u{a0}", at..at + 1),
                b'^' if self.dropped_unit => self.skip_exponent(at + 1),
                _ => at + self.writer.write_char(at),
            };
        }
        self.end_open_boxes();
    }

    fn symbol(&mut self, text: &str, origin: Range<usize>) -> usize {
        // `90^\circ` is 90 degrees: the sign stands for both.
        if text == "°" && self.writer.text.ends_with('^') {
            self.writer.truncate(self.writer.text.len() - 1);
        }
        let end = origin.end;
        self.writer.put(text, origin);
        end
    }

    fn skip_exponent(&mut self, at: usize) -> usize {
        let rest = &self.writer.source[at..];
        at + match rest.strip_prefix('{').and_then(|rest| rest.find('}')) {
            Some(length) if length < ARGUMENT_BYTES => length + 2,
            _ => rest.chars().next().map_or(0, |c| if c == '\\' { 0 } else { c.len_utf8() }),
        }
    }

    /// A backslash and what belongs to it: where the source goes on.
    fn command(&mut self, at: usize) -> usize {
        let source = self.writer.source;
        let rest = &source[at + 1..];
        let Some(next) = rest.chars().next() else { return at + self.writer.write_char(at) };
        let end = at + 1 + next.len_utf8();
        match next {
            '!' => end + if self.writer.text.ends_with(',') { spaces(&source[end..]) } else { 0 },
            ',' | ';' | ':' | ' ' => self.symbol("\u{a0}", at..end),
            '$' | '%' | '#' | '&' | '_' | '{' | '}' => {
                self.writer.put(&source[at + 1..end], at..end);
                end
            }
            '(' | ')' | '[' | ']' => self.symbol(" ", at..end),
            // Text that was escaped twice has `\\boxed` for `\boxed`; in front of anything else it ends a line.
            '\\' => {
                let escaped = source[end..].starts_with(['$', '%']) || is_known(name(&source[end..]));
                if escaped { at + 1 } else { self.symbol(" ", at..end) }
            }
            _ => self.named(at, name(rest)),
        }
    }

    fn named(&mut self, at: usize, name: &str) -> usize {
        let end = at + 1 + name.len();
        let source = self.writer.source;
        if let Some((_, symbol)) = SYMBOLS.iter().find(|(known, _)| *known == name) {
            return self.symbol(symbol, at..end);
        }
        if DROPPED.contains(&name) {
            return end;
        }
        let argument = end + source[end..].bytes().take_while(u8::is_ascii_whitespace).count();
        let braced = source[argument..].starts_with('{');
        if TEXTS.contains(&name) && braced {
            return self.open(Kind::Text, at, argument);
        }
        if BOXES.contains(&name) && braced {
            return self.open(Kind::Box(self.boxes.len()), at, argument);
        }
        if BOXES.contains(&name) {
            return self.bare_box(end, argument);
        }
        // `\frac12`, and `\boxed5` above: the letters of a command end where its argument begins.
        if FRACTIONS.contains(&name) && self.begins_argument(argument) {
            let group = Group { kind: Kind::Numerator, origin: at, plain: self.writer.text.len() };
            return self.argument(group, argument);
        }
        self.writer.copy(at..at + 1);
        at + 1
    }

    fn begins_argument(&self, at: usize) -> bool {
        self.writer.source[at..].starts_with(|c: char| c == '{' || c.is_ascii_digit())
    }

    /// An argument of a fraction: a brace, or one digit.
    fn argument(&mut self, group: Group, at: usize) -> usize {
        if self.writer.source[at..].starts_with('{') {
            self.writer.put("(", at..at + 1);
            self.groups.push(group);
            return at + 1;
        }
        self.writer.put("(", at..at);
        self.writer.copy(at..at + 1);
        self.end_argument(group, at + 1)
    }

    fn open(&mut self, kind: Kind, origin: usize, brace: usize) -> usize {
        self.groups.push(Group { kind, origin, plain: self.writer.text.len() });
        if !matches!(kind, Kind::Text) {
            self.writer.copy(brace..brace + 1);
        }
        if matches!(kind, Kind::Box(_)) {
            let (plain, origin) = (self.writer.text.len(), brace + 1);
            self.boxes.push(Boxed { plain: plain..plain, origin: origin..origin, closed: false });
        }
        brace + 1
    }

    fn close(&mut self, at: usize) -> usize {
        let Some(group) = self.groups.pop() else {
            self.writer.copy(at..at + 1);
            return at + 1;
        };
        match group.kind {
            Kind::Bare => self.close_bare(group, at),
            Kind::Text => self.close_text(group),
            Kind::Box(index) => {
                if let Some(boxed) = self.boxes.get_mut(index) {
                    boxed.plain.end = self.writer.text.len();
                    boxed.origin.end = at;
                    boxed.closed = true;
                }
                self.writer.copy(at..at + 1);
            }
            Kind::Numerator | Kind::Denominator(_) => return self.end_argument(group, at + 1),
        }
        at + 1
    }

    /// `{,}` is a comma; `^{3}` is `^3`; `^{\circ}` is a degree sign; all else keeps its braces.
    fn close_bare(&mut self, group: Group, at: usize) {
        let content = &self.writer.text[group.plain + 1..];
        let is_exponent = self.writer.text[..group.plain].ends_with('^');
        let figures = content.trim().strip_prefix('-').unwrap_or(content.trim());
        let is_integer = !figures.is_empty() && figures.len() < 8 && figures.bytes().all(|byte| byte.is_ascii_digit());
        let kept = match content {
            "," | "." | "\u{a0}" => Some(content.to_owned()),
            "°" if is_exponent => Some("°".to_owned()),
            _ if is_exponent && is_integer => Some(content.trim().to_owned()),
            _ => None,
        };
        let Some(kept) = kept else {
            self.writer.copy(at..at + 1);
            return;
        };
        self.writer.truncate(group.plain);
        self.symbol(&kept, group.origin..at + 1);
    }

    fn close_text(&mut self, group: Group) {
        let content = &self.writer.text[group.plain..];
        let is_unit = !content.bytes().any(|byte| byte.is_ascii_digit()) && !matches!(content.trim(), "," | ".");
        if self.units == Units::Dropped && is_unit {
            self.writer.truncate(group.plain);
            self.dropped_unit = true;
        }
    }

    /// Behind a fraction's argument: its other one, or its end.
    fn end_argument(&mut self, group: Group, at: usize) -> usize {
        if let Kind::Denominator(numerator_end) = group.kind {
            self.end_fraction(group, numerator_end, at);
            return at;
        }
        let numerator_end = self.writer.text.len();
        let argument = at + self.writer.source[at..].bytes().take_while(u8::is_ascii_whitespace).count();
        self.writer.put(")/", at..at);
        if !self.begins_argument(argument) {
            return at;
        }
        self.argument(Group { kind: Kind::Denominator(numerator_end), ..group }, argument)
    }

    /// `\frac{a}{b}` of numbers is written as one, any other as `(a)/(b)`.
    fn end_fraction(&mut self, group: Group, numerator_end: usize, at: usize) {
        let text = &self.writer.text;
        let parts = (text.get(group.plain + 1..numerator_end), text.get(numerator_end + 3..));
        let number = |part: &str| if part.len() <= ARGUMENT_BYTES { whole_plain(unwrapped(part)) } else { None };
        let value = match parts {
            (Some(above), Some(below)) => {
                number(above).zip(number(below)).and_then(|(above, below)| above.divided_by(below))
            }
            _ => None,
        };
        match value {
            Some(value) => {
                self.writer.truncate(group.plain);
                while let Some(boxed) = self.boxes.last().filter(|boxed| boxed.plain.start > group.plain) {
                    debug_assert!(boxed.closed);
                    self.boxes.pop();
                }
                self.writer.put_fraction(&value.as_fraction(), group.origin..at);
            }
            None => self.writer.put(")", at..at),
        }
    }

    /// `\boxed 42`: the digits or the one character behind it.
    fn bare_box(&mut self, end: usize, argument: usize) -> usize {
        let rest = &self.writer.source[argument..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let character = rest.chars().next().filter(|c| c.is_alphanumeric() && argument > end).map_or(0, char::len_utf8);
        let length = if digits > 0 { digits } else { character };
        let start = self.writer.text.len();
        for offset in rest[..length].char_indices().map(|(offset, _)| offset) {
            self.writer.write_char(argument + offset);
        }
        if length > 0 {
            let (plain, origin) = (start..self.writer.text.len(), argument..argument + length);
            self.boxes.push(Boxed { plain, origin, closed: true });
        }
        argument + length
    }

    /// A box that is never closed ends with its line.
    fn end_open_boxes(&mut self) {
        let (plain, source) = (&self.writer.text, self.writer.source);
        let (mut plain_end, mut origin_end) = (plain.len(), source.len());
        let (mut plain_seen, mut origin_seen) = (plain.len(), source.len());
        for boxed in self.boxes.iter_mut().rev().filter(|boxed| !boxed.closed) {
            plain_end = plain[boxed.plain.start..plain_seen].find('\n').map_or(plain_end, |at| boxed.plain.start + at);
            origin_end =
                source[boxed.origin.start..origin_seen].find('\n').map_or(origin_end, |at| boxed.origin.start + at);
            (plain_seen, origin_seen) = (boxed.plain.start, boxed.origin.start);
            (boxed.plain.end, boxed.origin.end) = (plain_end, origin_end);
        }
    }
}

/// The letters that a text begins with.
fn name(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_alphabetic).count()]
}

fn is_known(name: &str) -> bool {
    FRACTIONS.contains(&name)
        || BOXES.contains(&name)
        || TEXTS.contains(&name)
        || SYMBOLS.iter().any(|(known, _)| *known == name)
}

fn spaces(text: &str) -> usize {
    text.bytes().take_while(|byte| *byte == b' ').count()
}

/// An argument without the braces and dollar signs around it.
fn unwrapped(part: &str) -> &str {
    let part = part.trim();
    part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(part).trim()
}

#[cfg(test)]
mod tests {
    use crate::score::plain::Plain;
    use crate::score::writer::Units;

    fn plain(text: &str) -> String {
        Plain::of(text, Units::Kept).text.into_owned()
    }

    #[test]
    fn separators_spacing_and_units_are_plain() {
        for (text, expected) in [
            ("\\$9{,}500", "$9,500"),
            ("12,\\!000", "12,000"),
            ("11,\\! 111", "11,111"),
            ("1\\,800 1~800", "1\u{a0}800 1\u{a0}800"),
            ("1{.}5 1{\\,}234", "1.5 1\u{a0}234"),
            ("1\\text{,}234", "1,234"),
            ("10\\text{ cm}", "10 cm"),
            ("\\left(7\\right)", "(7)"),
            ("90^\\circ 90^{\\circ}", "90° 90°"),
            ("3 \\times 6 \\div 2", "3 × 6 ÷ 2"),
            ("\\(5\\) \\[6\\]", " 5   6 "),
            ("{\"a\": {3}}", "{\"a\": {3}}"),
            ("2^{10} x^{-2} y^{n}", "2^10 x^-2 y^{n}"),
            ("\\pi\\alpha", "\\pi\\alpha"),
            ("a\\\\b \\\\$5 \\\\boxed{5}", "a b $5 {5}"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_of_numbers_are_one_number() {
        for (text, expected) in [
            ("\\frac{1}{2}", "1/2"),
            ("-\\dfrac{6}{4}", "-3/2"),
            ("2\\frac{1}{2}", "2 1/2"),
            ("2 \\tfrac12", "2 1/2"),
            ("\\frac 3 4", "3/4"),
            ("\\frac1{2}", "1/2"),
            ("\\frac{-3}{4} \\frac{3}{-4}", "-3/4 -3/4"),
            ("\\frac{\\frac{1}{2}}{3}", "1/6"),
            ("\\frac{ {1} }{ 1{,}000 }", "1/1000"),
            ("\\frac{0.5}{2}", "1/4"),
            ("\\frac{1}{2}5", "1/2 5"),
            ("\\frac{x}{2}", "(x)/(2)"),
            ("\\frac{1}{0}", "(1)/(0)"),
            ("\\frac{1}", "(1)/"),
            ("\\frac{1} {2", "(1)/(2"),
            ("\\frac", "\\frac"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn boxes_are_known_by_what_stands_in_them() {
        let boxes = |text: &str| {
            let plain = Plain::of(text, Units::Kept);
            plain.boxes.iter().map(|one| (text[one.origin.clone()].to_owned(), one.closed)).collect::<Vec<_>>()
        };
        let closed = |text: &str| (text.to_owned(), true);
        assert_eq!(boxes("\\boxed{1} \\fbox {\n2\n}"), [closed("1"), closed("\n2\n")]);
        assert_eq!(
            boxes("\\boxed{\\boxed{\\text{a\\}b}}}"),
            [closed("\\boxed{\\text{a\\}b}}"), closed("\\text{a\\}b}")]
        );
        assert_eq!(boxes("\\boxed5. \\boxed 42 \\boxed x \\boxedx"), [closed("5"), closed("42"), closed("x")]);
        assert_eq!(boxes("\\boxed{4 \\boxed{5\n6"), [("4 \\boxed{5".to_owned(), false), ("5".to_owned(), false)]);
        assert_eq!(boxes("\\frac{\\boxed{1}}{2}"), []);
    }

    #[test]
    fn units_go_with_their_exponent_where_that_is_asked() {
        let dropped = |text: &str| Plain::of(text, Units::Dropped).text.into_owned();
        assert_eq!(dropped("10\\text{ cm}^2"), "10");
        assert_eq!(dropped("10\\text{ cm}^{2}."), "10.");
        assert_eq!(dropped("\\text{12}"), "12");
        assert_eq!(dropped("1\\text{,}234"), "1,234");
    }
}
