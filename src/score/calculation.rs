//! Calculations beside an answer: `3 eggs * 6 = 18` is 18, and so is `18 (3 * 6 = 18)`.

use super::characters::{is_currency, is_currency_word};
use super::token::Token;

/// Longest text between two numbers of a calculation.
const GAP_BYTES: usize = 60;
/// Words of a unit, `eggs per day`, at most.
const UNIT_WORDS: usize = 4;
/// Words that no unit has: what follows one is a sentence of its own.
const NO_UNITS: [&str; 26] = [
    "and", "or", "but", "because", "since", "so", "as", "where", "if", "when", "which", "that", "then", "thus", "is",
    "are", "was", "has", "have", "for", "with", "at", "given", "using", "let", "not",
];
const OPERATORS: [&str; 9] = ["+", "-", "–", "*", "×", "·", "•", "/", "÷"];
const WORDS: [&str; 10] = ["x", "X", "times", "plus", "minus", "of", "over", "divided by", "multiplied by", "added to"];
const EQUALS: [&str; 3] = ["=", "≈", "≅"];

/// What ties a number to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    Operator,
    Equals,
    Other,
}

/// Of the number `first` and those that follow it, the one that the calculation gives which it opens: the last side of its equation that
/// is a number alone, else its first side. Where it opens none, it is the number itself. `tokens` are numbers of one place in `text`.
pub(super) fn result(text: &str, tokens: &[Token], first: usize) -> usize {
    if tokens.len() <= first + 1 {
        return first;
    }
    let mut sides = vec![(first, true)];
    for at in first..tokens.len().saturating_sub(1) {
        match gap(text, &tokens[at], &tokens[at + 1]) {
            Gap::Operator => {
                if let Some((_, alone)) = sides.last_mut() {
                    *alone = false;
                }
            }
            Gap::Equals => sides.push((at + 1, true)),
            Gap::Other => break,
        }
    }
    let alone = |(at, alone): &(usize, bool)| alone.then_some(*at);
    let last = sides.last().map_or(first, |(at, _)| *at);
    sides.iter().rev().find_map(alone).unwrap_or(last)
}

/// What stands between two numbers of a text.
pub(super) fn gap(text: &str, left: &Token, right: &Token) -> Gap {
    let between = text.get(left.span.end..right.span.start).unwrap_or_default();
    if between.len() > GAP_BYTES || between.contains('\n') {
        return Gap::Other;
    }
    if let Some((before, after)) = equality(between) {
        return if is_unit(before) && !after.contains(';') && !ends_a_sentence(after) {
            Gap::Equals
        } else {
            Gap::Other
        };
    }
    let is_signed = between.chars().all(char::is_whitespace) && text[right.span.clone()].starts_with('-');
    if is_signed || is_operation(between) { Gap::Operator } else { Gap::Other }
}

/// What stands before the first and behind the last equals sign.
fn equality(between: &str) -> Option<(&str, &str)> {
    let first = EQUALS.iter().filter_map(|sign| between.find(sign)).min();
    if let Some(at) = first {
        let after = EQUALS.iter().filter_map(|sign| between.rfind(sign).map(|at| at + sign.len())).max()?;
        return Some((&between[..at], &between[after..]));
    }
    [" equals ", " is equal to "].iter().find_map(|word| between.split_once(word))
}

fn ends_a_sentence(text: &str) -> bool {
    let text = without_currency_word(text.trim_end());
    text.contains(". ") || text.trim_end().ends_with('.')
}

/// A unit, an operator, and what opens the next operand; or nothing but a parenthesis: `2(3 + 4)`.
fn is_operation(between: &str) -> bool {
    if between.starts_with('(') || between.starts_with(")(") {
        return between.chars().all(|c| matches!(c, '(' | ')'));
    }
    let bare = between.replace("**", "");
    let opener = |c: char| c.is_whitespace() || is_currency(c) || matches!(c, '(' | '[' | '{');
    let rest = without_currency_word(bare.trim_end_matches(opener)).trim_end_matches(opener);
    let sign = OPERATORS.iter().find_map(|operator| rest.strip_suffix(operator));
    let word =
        || WORDS.iter().find_map(|word| rest.strip_suffix(word).filter(|unit| !unit.ends_with(char::is_alphabetic)));
    sign.or_else(word).is_some_and(is_unit)
}

fn without_currency_word(text: &str) -> &str {
    let word = text.rfind(char::is_whitespace).map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
    if is_currency_word(&text[word..]) { &text[..word] } else { text }
}

/// Whether a text behind a number is a unit of it, or nothing: a few words, no clause.
fn is_unit(text: &str) -> bool {
    let text = text.trim().trim_matches('*');
    let part_of_unit =
        |c: char| c.is_alphabetic() || c.is_whitespace() || is_currency(c) || "%°²³'\"/-)]}\\".contains(c);
    let words = || text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    text.chars().all(part_of_unit)
        && !text.contains("- ")
        && words().count() <= UNIT_WORDS
        && !words().any(|word| NO_UNITS.iter().any(|no| word.eq_ignore_ascii_case(no)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::token::{Start, tokens};

    fn value(text: &str) -> &str {
        let tokens = tokens(text, Start::Line);
        &text[tokens[result(text, &tokens, 0)].span.clone()]
    }

    #[test]
    fn a_calculation_gives_its_result() {
        for (text, expected) in [
            ("16 - 3 = 13", "13"),
            ("3 eggs * 6 = 18", "18"),
            ("3 eggs per day x 6 days = 18 eggs", "18"),
            ("25% of 72 = 18", "18"),
            ("3 · 6 = 18", "18"),
            ("3x6=18", "18"),
            ("$12/hour * 5 hours = $60", "$60"),
            ("3 eggs × $6/egg = $18", "$18"),
            ("Rs. 3 * Rs. 6 = Rs. 18", "18"),
            ("15 eggs minus 3 eggs = 12", "12"),
            ("5 -3 = 2", "2"),
            ("2 * (3 + 4) = 14", "14"),
            ("2(3 + 4) = 14", "14"),
            ("(2)(3) = 6", "6"),
            ("**3** * **6** = **18**", "18"),
            ("3 * 6 = 9 * 2 = 18", "18"),
            ("9 * 2 = $<<9*2=18>>18", "18"),
            ("2 weeks = 14 days", "14"),
            ("3 times 6 equals 18", "18"),
            ("18 = 3 * 6", "18"),
            ("10 / 4 ≈ 2.5", "2.5"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn a_calculation_beside_an_answer_leaves_it_alone() {
        for text in [
            "12. 3 x 2 = 6 apples are left over.",
            "12 (5 x 3 = 15 plus 5)",
            "12 eggs (5 x 3 = 15)",
            "12, since 3 * 4 = 13",
            "12 apples because 3 x 4 = 13",
            "12: 3 * 4 = 13",
            "12 [3 x 4 = 13]",
            "12 (= 3 * 4)",
            "12 where x = 2",
            "12 and x = 2",
            "12; x = 2",
            "12\n3 * 4 = 13",
            "12 - the rest of 20 = 8",
        ] {
            assert_eq!(value(text), "12", "{text}");
        }
        assert_eq!(value("3 * 6 = 9 * 2"), "9", "where no side is a number, the first of the last");
    }
}
