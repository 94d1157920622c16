//! The suite's own extractor, `numeric`: what a reader would call the answer, compared by value.
//!
//! It stands beside the regular expressions of lm-evaluation-harness, never instead of them. From the end of the text:
//! 1. the last `####` or `\boxed{` that is followed by a number on its line (`#### 2. Multiply` is a heading);
//! 2. else, on the last three lines that are not blank, the last `answer … is`, `answer … :` or `answer … =` (at most
//!    60 bytes between the words, no full stop) that is followed by a number on its line, or on the next line where
//!    nothing else follows it;
//! 3. else, on the same lines, the last `**bold**` or `__bold__` text that begins with a number and is no heading;
//! 4. else, on the last line that holds a number, the number after the last `=`, or the last number.
//!
//! Where the number found opens a calculation (`16 - 3 = 13`), its result is the answer. How a number may be written
//! is documented at [`super::number::first_number`]; units (`$`, `%`, words) are read over and never converted: `50%` is 50,
//! `50 cents` is 50. Two answers are equal when their exact rational values are: `3.0` is 3, `0.5` is `1/2`.

use std::ops::Range;

use super::number::{Number, Token, first_number};

const TAIL_LINES: usize = 3;
const PHRASE_BYTES: usize = 60;

/// Byte offsets of the answer in a completion.
pub(super) fn extract(text: &str) -> Option<Range<usize>> {
    let tail: Vec<Range<usize>> = lines_from_the_end(text).take(TAIL_LINES).collect();
    let token = lines_from_the_end(text)
        .find_map(|line| marked(text, &line))
        .or_else(|| {
            (0..tail.len()).find_map(|index| phrased(text, &tail[index], index.checked_sub(1).map(|next| &tail[next])))
        })
        .or_else(|| tail.iter().find_map(|line| bold(text, line)))
        .or_else(|| lines_from_the_end(text).find_map(|line| unmarked(text, &line)))?;
    Some(token.span)
}

/// Whether an extracted value and a reference are worth the same.
pub(super) fn equal(value: &str, reference: &str) -> bool {
    number(value).is_some_and(|value| number(reference) == Some(value))
}

fn number(text: &str) -> Option<Number> {
    first_number(text, 0..text.len())?.value
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

/// Offsets just behind every `needle` in the line, the last first.
fn behind<'a>(text: &'a str, line: &Range<usize>, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let start = line.start;
    text[line.clone()].rmatch_indices(needle).map(move |(at, _)| start + at + needle.len())
}

fn marked(text: &str, line: &Range<usize>) -> Option<Token> {
    let hashes = behind(text, line, "####").find_map(|at| opening(text, at..line.end));
    let boxed = behind(text, line, "\\boxed{").find_map(|at| {
        let end = text[at..line.end].find('}').map_or(line.end, |length| at + length);
        resolve(text, at..end)
    });
    match (hashes, boxed) {
        (Some(a), Some(b)) => Some(if a.span.start > b.span.start { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// The number that a region opens with, emphasis and spaces aside, unless it numbers a heading.
fn opening(text: &str, region: Range<usize>) -> Option<Token> {
    let first = first_number(text, region.clone())?;
    let decoration = text[region.start..first.span.start].chars().all(|c| !c.is_alphanumeric());
    let mut rest = text[first.span.end..region.end].chars();
    let heading = rest.next().is_some_and(|c| matches!(c, '.' | ')' | ':'))
        && rest.as_str().trim_start_matches(['*', '_', ' ']).starts_with(char::is_alphabetic);
    if decoration && !heading { resolve(text, region) } else { None }
}

fn phrased(text: &str, line: &Range<usize>, next: Option<&Range<usize>>) -> Option<Token> {
    // Lower-casing ASCII alone keeps every byte offset.
    let lower = text[line.clone()].to_ascii_lowercase();
    lower.rmatch_indices("answer").find_map(|(at, word)| {
        let rest = at + word.len();
        let region = line.start + rest + connector(&lower[rest..])?..line.end;
        let found = resolve(text, region.clone());
        let nothing_follows = || text[region.clone()].chars().all(|c| !c.is_alphanumeric());
        found.or_else(|| next.filter(|_| nothing_follows()).and_then(|next| resolve(text, next.clone())))
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

fn bold(text: &str, line: &Range<usize>) -> Option<Token> {
    ["**", "__"].into_iter().find_map(|mark| {
        let marks: Vec<usize> = behind(text, line, mark).collect();
        marks.chunks_exact(2).find_map(|pair| opening(text, pair[1]..pair[0] - mark.len()))
    })
}

fn unmarked(text: &str, line: &Range<usize>) -> Option<Token> {
    let result = behind(text, line, "=").find_map(|at| first_number(text, at..line.end));
    result.or_else(|| {
        let mut last = None;
        let mut from = line.start;
        while let Some(token) = first_number(text, from..line.end) {
            from = token.span.end;
            last = Some(token);
        }
        last
    })
}

/// The first number of a region or, where it opens a calculation that goes on to an equals sign, the result.
fn resolve(text: &str, region: Range<usize>) -> Option<Token> {
    let mut token = first_number(text, region.clone())?;
    while let Some(result) = calculation(&text[token.span.end..region.end])
        .and_then(|length| first_number(text, token.span.end + length..region.end))
    {
        token = result;
    }
    Some(token)
}

/// Bytes up to and with the next equals sign, if only operators and operands stand before it.
fn calculation(rest: &str) -> Option<usize> {
    let at = rest.find(|c: char| !(c.is_ascii_digit() || c.is_whitespace() || "+-−–*/×÷x$€£¥₹.,()%".contains(c)))?;
    rest[at..].starts_with('=').then_some(at + 1)
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
