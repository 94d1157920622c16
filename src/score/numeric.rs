//! The suite's own extractor, `numeric`: what a reader would call the answer, compared by value.
//!
//! It stands beside the regular expressions of lm-evaluation-harness, never instead of them. From the end of the text:
//! 1. the last `####` that is followed by a number on its line (`#### 2. Multiply` is a heading), or the last `\boxed{…}` or `\fbox{…}`
//!    with a number in it, whichever is later;
//! 2. else, on the last three lines that are not blank, the last `answer … is`, `answer … :` or `answer … =` (at most
//!    60 bytes between the words, no full stop) that is followed by a number on its line, or on the next line where
//!    nothing else follows it;
//! 3. else, on the same lines, the last `**bold**` or `__bold__` text that begins with a number and is no heading;
//! 4. else, on the last line that holds a number, the number after the last `=`, or the last number; what stands in parentheses counts
//!    where nothing else does.
//!
//! Where the number found opens a calculation (`16 - 3 = 13`), its result is the answer. How a number may be written
//! is documented at [`super::token::tokens`], and what of LaTeX and of other scripts is read at [`super::plain`]; units (`$`, `%`, words)
//! are read over and never converted: `50%` is 50, `50 cents` is 50. Two answers are equal when their exact rational values are: `3.0` is
//! 3, `0.5` is `1/2`.
//!
//! The text is read once into numbers; every place then looks among these, so that the time is linear in the text's length.

use std::ops::Range;

use super::calculation::{Gap, gap, result};
use super::characters::is_currency_word;
use super::number::Number;
use super::plain::Plain;
use super::token::{Start, Token, tokens, tokens_from};
use super::writer::Units;

/// Raised whenever a text could be read otherwise than before.
pub(super) const VERSION: u32 = 2;

const MARK: &str = "####";
const TAIL_LINES: usize = 3;
const PHRASE_BYTES: usize = 60;
/// Between a mark and its number stand at most so many bytes.
const DECORATION_BYTES: usize = 80;

/// Byte offsets of the answer in a completion.
pub(super) fn extract(text: &str) -> Option<Range<usize>> {
    let plain = Plain::of(text, Units::Kept);
    let token = answer(&plain)?;
    Some(plain.origin(token.span))
}

/// Most answers stand behind the last mark or on the last lines: the numbers before them are read where these give none.
fn answer(plain: &Plain) -> Option<Token> {
    let text = plain.text.as_ref();
    let last_mark = text.rfind(MARK);
    if let Some(at) = last_mark {
        let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
        if let Some(token) = Reading::from(text, line).marked(plain) {
            return Some(token.clone());
        }
    }
    let tail: Vec<Range<usize>> = lines_from_the_end(text).take(TAIL_LINES).collect();
    let tail_start = tail.last().map_or(0, |line| line.start);
    let is_marked = last_mark.is_some() || !plain.boxes.is_empty();
    let mut reading = Reading::from(text, if is_marked { 0 } else { tail_start });
    if reading.tokens.is_empty() {
        reading = Reading::from(text, 0);
    }
    reading.answer(plain, &tail).cloned()
}

/// Whether an extracted value and a reference are worth the same.
pub(super) fn equal(value: &str, reference: &str) -> bool {
    number(value).is_some_and(|value| number(reference) == Some(value))
}

fn number(text: &str) -> Option<Number> {
    tokens(&Plain::of(text, Units::Kept).text, Start::Number).first()?.value
}

/// A plain text and its numbers from the beginning of a line on.
struct Reading<'a> {
    text: &'a str,
    from: usize,
    tokens: Vec<Token>,
}

impl<'a> Reading<'a> {
    fn from(text: &'a str, from: usize) -> Self {
        Self { text, from, tokens: tokens_from(text, from, Start::Line) }
    }

    fn answer(&self, plain: &Plain, tail: &[Range<usize>]) -> Option<&Token> {
        self.tokens.first()?;
        self.marked(plain)
            .or_else(|| {
                let next = |index: usize| index.checked_sub(1).map(|next| &tail[next]);
                (0..tail.len()).find_map(|index| self.phrased(&tail[index], next(index)))
            })
            .or_else(|| tail.iter().find_map(|line| self.bold(line)))
            .or_else(|| self.unmarked())
    }

    /// The numbers that begin in a region.
    fn within(&self, region: &Range<usize>) -> &[Token] {
        let from = self.tokens.partition_point(|token| token.span.start < region.start);
        let to = self.tokens.partition_point(|token| token.span.start < region.end);
        self.tokens.get(from..to).unwrap_or_default()
    }

    /// The first number of a region or, where it opens a calculation, its result.
    fn resolve(&self, region: &Range<usize>) -> Option<&Token> {
        let tokens = self.within(region);
        if tokens.is_empty() { None } else { tokens.get(result(self.text, tokens, 0)) }
    }

    /// The last `####` or box that holds a number.
    fn marked(&self, plain: &Plain) -> Option<&Token> {
        let mut boxes = plain.boxes.iter().rev().take_while(|boxed| boxed.plain.start >= self.from).peekable();
        let mut line_end = self.text.len();
        let mut seen = self.text.len();
        for (at, mark) in self.text.rmatch_indices(MARK) {
            if at < self.from {
                break;
            }
            let behind = at + mark.len();
            while let Some(boxed) = boxes.next_if(|boxed| boxed.plain.start >= behind) {
                if let Some(token) = self.resolve(&boxed.plain) {
                    return Some(token);
                }
            }
            line_end = self.text[behind..seen].find('\n').map_or(line_end, |length| behind + length);
            seen = behind;
            if let Some(token) = self.opening(&(behind..line_end)) {
                return Some(token);
            }
        }
        boxes.find_map(|boxed| self.resolve(&boxed.plain))
    }

    /// The number that a region opens with, emphasis, currencies and spaces aside, unless it numbers a heading.
    fn opening(&self, region: &Range<usize>) -> Option<&Token> {
        let first = self.within(region).first()?;
        let before = &self.text[region.start..first.span.start];
        let is_word = |word: &str| !word.contains(char::is_alphanumeric) || is_currency_word(word);
        let decoration = before.len() <= DECORATION_BYTES && before.split_whitespace().all(is_word);
        let mut rest = self.text[first.span.end.min(region.end)..region.end].chars();
        let heading = rest.next().is_some_and(|c| matches!(c, '.' | ')' | ':'))
            && rest.take(DECORATION_BYTES).find(|c| !matches!(c, '*' | '_' | ' ')).is_some_and(char::is_alphabetic);
        if decoration && !heading { self.resolve(region) } else { None }
    }

    fn phrased(&self, line: &Range<usize>, next: Option<&Range<usize>>) -> Option<&Token> {
        // Lower-casing ASCII alone keeps every byte offset.
        let lower = self.text[line.clone()].to_ascii_lowercase();
        lower.rmatch_indices("answer").find_map(|(at, word)| {
            let rest = at + word.len();
            let region = line.start + rest + connector(&lower[rest..])?..line.end;
            let found = self.resolve(&region);
            let nothing_follows = || self.text[region.clone()].chars().all(|c| !c.is_alphanumeric());
            found.or_else(|| next.filter(|_| nothing_follows()).and_then(|next| self.resolve(next)))
        })
    }

    fn bold(&self, line: &Range<usize>) -> Option<&Token> {
        ["**", "__"].into_iter().find_map(|mark| {
            let marks: Vec<usize> =
                self.text[line.clone()].rmatch_indices(mark).map(|(at, _)| line.start + at).collect();
            marks.chunks_exact(2).find_map(|pair| self.opening(&(pair[1] + mark.len()..pair[0])))
        })
    }

    /// The answer on the last line that holds a number.
    fn unmarked(&self) -> Option<&Token> {
        let last = self.tokens.last()?;
        let start = self.text[..last.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[last.span.end..].find('\n').map_or(self.text.len(), |at| last.span.end + at);
        let line = start..end;
        let tokens = self.within(&line);
        let aside = parentheses(self.text, &line);
        let is_aside = |at: usize| {
            let before = aside.partition_point(|one| one.start <= at);
            before > 0 && aside[before - 1].contains(&at)
        };
        let plainly: Vec<&Token> = tokens.iter().filter(|token| !is_aside(token.span.start)).collect();
        let Some(last_one) = plainly.last() else {
            return self.after_equals(&line, tokens, &|_| true).or(tokens.last());
        };
        self.after_equals(&line, tokens, &|at| !is_aside(at)).or(Some(*last_one))
    }

    /// The number after the last `=` of a line that counts and has one. `18 = 3 * 6` is 18.
    fn after_equals<'t>(
        &self,
        line: &Range<usize>,
        tokens: &'t [Token],
        counts: &dyn Fn(usize) -> bool,
    ) -> Option<&'t Token> {
        let signs = self.text[line.clone()].rmatch_indices('=').map(|(at, _)| line.start + at);
        let mut signs = signs.filter(|at| counts(*at));
        let at = signs.find_map(|sign| {
            let at = tokens.partition_point(|token| token.span.start < sign);
            (at < tokens.len()).then_some(at)
        })?;
        let is_tied =
            |at: usize, tie: Gap| at + 1 < tokens.len() && gap(self.text, &tokens[at], &tokens[at + 1]) == tie;
        let calculates = is_tied(at, Gap::Operator);
        let left_alone = at > 0 && is_tied(at - 1, Gap::Equals) && !(at > 1 && is_tied(at - 2, Gap::Operator));
        tokens.get(if calculates && left_alone { at - 1 } else { at })
    }
}

/// Lines that are not blank, the last first, as byte offsets.
fn lines_from_the_end(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut end = text.len();
    text.rsplit('\n').filter_map(move |line| {
        let start = end - line.len();
        let span = start..end;
        end = start.saturating_sub(1);
        (!line.trim().is_empty()).then_some(span)
    })
}

/// Bytes up to the end of the `is`, `:` or `=` that ties `answer` to its number.
fn connector(rest: &str) -> Option<usize> {
    let mut previous = ' ';
    for (at, c) in rest.char_indices().take_while(|(at, c)| *at <= PHRASE_BYTES && *c != '.') {
        if matches!(c, ':' | '=') {
            return Some(at + 1);
        }
        let after = rest.get(at..).and_then(|rest| rest.strip_prefix("is"));
        if let Some(after) = after
            && !previous.is_alphanumeric()
            && !after.starts_with(char::is_alphanumeric)
        {
            return Some(at + 2);
        }
        previous = c;
    }
    None
}

/// The outermost parentheses of a line that are closed, in order.
fn parentheses(text: &str, line: &Range<usize>) -> Vec<Range<usize>> {
    let mut open = Vec::new();
    let mut closed: Vec<Range<usize>> = Vec::new();
    for (at, byte) in text.as_bytes()[line.clone()].iter().enumerate().map(|(at, byte)| (line.start + at, byte)) {
        match byte {
            b'(' => open.push(at),
            b')' => {
                let Some(start) = open.pop() else { continue };
                while closed.last().is_some_and(|inner| inner.start > start) {
                    closed.pop();
                }
                closed.push(start..at);
            }
            _ => {}
        }
    }
    closed
}
#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<&str> {
        extract(text).map(|span| &text[span])
    }

    #[test]
    fn explicit_marks_win_over_whatever_follows() {
        assert_eq!(value("Some steps.\n#### 18"), Some("18"));
        assert_eq!(value("#### 18\n#### 19\n"), Some("19"));
        assert_eq!(value("####18"), Some("18"));
        assert_eq!(value("#### **$1,234.50**"), Some("$1,234.50"));
        assert_eq!(value("It is $\\boxed{42}$.\n\nI used 3 steps."), Some("42"));
        assert_eq!(value("#### 5 and 6"), Some("5"));
        assert_eq!(value("#### 16 - 3 = 13"), Some("13"));
        assert_eq!(value("#### \\boxed{7}"), Some("7"));
    }

    #[test]
    fn the_outermost_parentheses_are_aside() {
        assert_eq!(parentheses("2(1(2(2)1)) (6", &(0..14)), std::iter::once(1..10).collect::<Vec<_>>());
        assert_eq!(parentheses("(3 (4) 5) (6)", &(0..13)), [0..8, 10..12]);
        assert_eq!(value("(3 (4) 5) (6)"), Some("6"));
    }

    #[test]
    fn a_numbered_heading_is_no_answer() {
        assert_eq!(value("#### 1. Count the eggs\n3 + 4 = 7\n#### 2. Add them\nThat makes 7 + 2 = 9 eggs."), Some("9"));
        assert_eq!(value("**1. Count**\nthere are 12 of them"), Some("12"));
    }

    #[test]
    fn the_answer_phrase_is_found_on_the_last_lines() {
        assert_eq!(value("The answer is 18."), Some("18"));
        assert_eq!(value("**Answer:** $18 a day\n\nHope this helps, 100 %!"), Some("$18"));
        assert_eq!(value("The final answer to the question is therefore 16 - 3 = 13 eggs for 2 days"), Some("13"));
        assert_eq!(value("The answer is:\n\n**-3**"), Some("-3"));
        assert_eq!(value("The answer is 5. No: the answer is 6."), Some("6"));
        assert_eq!(value("THE ANSWER = 1/2"), Some("1/2"));
        assert_eq!(value("The answer is twelve.\nIt took 3 steps."), Some("3"));
    }

    #[test]
    fn without_a_mark_the_last_line_is_read_first() {
        assert_eq!(value("She has 3 + 4 = 7.\nSo she makes 9 * 2 = $<<9*2=18>>18 every 7 days."), Some("18"));
        assert_eq!(value("So **18** eggs remain of 30"), Some("18"));
        assert_eq!(value("There are 12 boys and 30 girls"), Some("30"));
        assert_eq!(value("She sells 18.\n\nThank you!"), Some("18"));
        assert_eq!(value("18 dollars..."), Some("18"));
        assert_eq!(value("no number here"), None);
        assert_eq!(value(""), None);
        assert_eq!(value("$ ... -"), None);
    }

    #[test]
    fn equality_is_by_value() {
        for (value, reference) in [
            ("$1,234.50", "1234.5"),
            ("3.0", "3"),
            ("1/2", "0.5"),
            ("50%", "50"),
            ("−3", "-3"),
            ("$29.00", "29"),
            ("2 1/2", "2.5"),
        ] {
            assert!(equal(value, reference), "{value} {reference}");
        }
        assert!(!equal("0.5", "50%"));
        assert!(!equal("3", "-3"));
        assert!(!equal("0.1", "0.10000000000000001"));
        assert!(!equal("twelve", "twelve"));
        assert!(!equal(&"9".repeat(60), &"9".repeat(60)));
    }

    proptest::proptest! {
        #[test]
        fn a_marked_number_is_always_found(
            before in "[a-z0-9 =.\n]{0,60}", after in "[a-z .!]{0,20}", n in -99999i64..99999, mark in 0usize..4,
        ) {
            let written = n.to_string();
            let line = match mark {
                0 => format!("#### {written}"),
                1 => format!("so \\boxed{{{written}}}"),
                2 => format!("The answer is {written} {after}"),
                _ => format!("**Answer: {written}** {after}"),
            };
            let text = format!("{before}\n{line}");
            proptest::prop_assert_eq!(value(&text), Some(written.as_str()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-−a-z0-9#*\\\\{}=.:$%/ \nÄ是]{0,80}", word in "(answer|is|####|\\\\boxed\\{|\\*\\*| |7|\n|=|é){0,20}") {
            for text in [text, word] {
                if let Some(span) = extract(&text) {
                    proptest::prop_assert!(text.get(span).is_some_and(|v| v.contains(|c: char| c.is_ascii_digit())));
                }
            }
        }
    }
}
