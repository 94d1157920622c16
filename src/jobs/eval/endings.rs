//! Where a rule finds no value: how such answers end, and which rule reads them instead.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::record::StoredCompletion;
use crate::report::plain;
use crate::report::words::thousands;
use crate::score::{Rule, score};
use crate::task::Protocol;

/// How answers end in which one rule found no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endings {
    /// Answers in which it found none.
    pub unread: usize,
    /// The last characters of some of them, each on one line: first those that the best other rule reads and no limit cut.
    pub examples: Vec<String>,
    /// The run's other rule that reads the most of them.
    pub own: Option<Reader>,
    /// The built-in extractor, which the run has not, that reads the most of them. One that knows a form (a box, `#### N`) goes before
    /// `numeric`, which takes any number, where it reads half of them.
    pub built_in: Option<Reader>,
}

/// A rule that reads what another does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its name.
    pub rule: String,
    /// A built-in protocol that has it; `None` for a rule of the run's own.
    pub protocol: Option<String>,
    /// The answers in which it finds a value.
    pub read: usize,
}

const EXAMPLES: usize = 3;
/// Characters of an example.
const TAIL: usize = 60;
const NUMERIC: &str = "numeric";
const STRICT: &str = "strict";
/// Of ways to read an answer, the protocols that show them by name.
const EXTRACTORS: [(&str, &str); 2] = [("boxed", "boxed"), (NUMERIC, "stepwise")];

/// Of one variant's completions and the rule of their scores.
pub fn endings(completions: &[StoredCompletion], rule: &str) -> Endings {
    let unread: Vec<&StoredCompletion> = completions.iter().filter(|one| found(one, rule) == Some(false)).collect();
    let own = own_readers(&unread, rule);
    let built_in = built_in_readers(&unread);
    let best = built_in.iter().chain(&own).max_by_key(|(reader, _)| reader.read);
    let examples = examples(&unread, best.map(|(_, reads)| reads.as_slice()));
    Endings {
        unread: unread.len(),
        examples,
        own: best_own(&own, unread.len()),
        built_in: best_built_in(&built_in, unread.len()),
    }
}

impl Endings {
    /// `such answers end in “… so \boxed{18}.”; numeric reads 1,300 of these 1,319; boxed of the protocol boxed 1,290`; `None` where
    /// every answer is read.
    pub fn in_words(&self) -> Option<String> {
        if self.unread == 0 {
            return None;
        }
        let example = self.examples.first().map(|example| format!("such answers end in \u{201c}{example}\u{201d}"));
        let name = |reader: &Reader| match &reader.protocol {
            Some(protocol) => format!("{} of the protocol {protocol}", reader.rule),
            None => reader.rule.clone(),
        };
        let mut readers = self.own.iter().chain(&self.built_in);
        let first = readers.next().map(|reader| {
            let read = thousands(reader.read as u64);
            format!("{} reads {read} of these {}", name(reader), thousands(self.unread as u64))
        });
        let second = readers.next().map(|reader| format!("{} {}", name(reader), thousands(reader.read as u64)));
        let none = first.is_none().then(|| "no rule reads one of them".to_owned());
        Some([example, first, second, none].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Whether a rule found a value; `None` where the completion was not scored by it.
fn found(completion: &StoredCompletion, rule: &str) -> Option<bool> {
    completion.scores.iter().find(|score| score.rule == rule).map(|score| score.value.is_some())
}

/// A rule with what it reads, answer by answer.
type Reads = (Reader, Vec<bool>);

fn reads(rule: &str, protocol: Option<&str>, reads: Vec<bool>) -> Reads {
    let read = reads.iter().filter(|read| **read).count();
    (Reader { rule: rule.to_owned(), protocol: protocol.map(str::to_owned), read }, reads)
}

/// The run's other rules, in the protocol's order.
fn own_readers(unread: &[&StoredCompletion], rule: &str) -> Vec<Reads> {
    let names = unread.first().map(|one| one.scores.iter().map(|score| &score.rule)).into_iter().flatten();
    let of = |name: &String| {
        let read = unread.iter().map(|one| found(one, name) == Some(true));
        reads(name, None, read.collect())
    };
    names.filter(|name| *name != rule).map(of).collect()
}

/// The extractors, and the patterns of the built-in protocols that know one form of answer; without the run's own by name.
fn built_in_readers(unread: &[&StoredCompletion]) -> Vec<Reads> {
    let is_own = |rule: &str| unread.iter().any(|one| one.scores.iter().any(|score| score.rule == rule));
    let mut rules: Vec<(Rule, &str)> = Vec::new();
    for name in Protocol::names() {
        let patterns = Protocol::open(name).map(|protocol| protocol.rules).unwrap_or_default();
        rules.extend(patterns.into_iter().filter(|rule| rule.name == STRICT).map(|rule| (rule, name)));
    }
    for (extractor, protocol) in EXTRACTORS {
        let rule = if extractor == NUMERIC { Rule::numeric(extractor) } else { Rule::boxed(extractor) };
        rules.extend((!is_own(extractor)).then_some((rule, protocol)));
    }
    let mut seen = HashSet::new();
    rules.retain(|(rule, _)| seen.insert(rule.in_words()));
    let of = |(rule, protocol): &(Rule, &str)| {
        let rule = std::slice::from_ref(rule);
        let read = unread.par_iter().map(|one| score(rule, &one.text, "").iter().any(|score| score.value.is_some()));
        reads(&rule[0].name, Some(protocol), read.collect())
    };
    rules.iter().map(of).collect()
}

/// `numeric` goes before a pattern that reads hardly more: such patterns take any two full stops for a number.
fn best_own(readers: &[Reads], unread: usize) -> Option<Reader> {
    let preferred = |reader: &&Reader| reader.read + if reader.rule == NUMERIC { unread / 20 } else { 0 };
    // `max_by_key` takes the last of equals; the protocol's first is wanted.
    let readers = readers.iter().rev().map(|(reader, _)| reader);
    readers.filter(|reader| reader.read > 0).max_by_key(preferred).cloned()
}

fn best_built_in(readers: &[Reads], unread: usize) -> Option<Reader> {
    let readers = || readers.iter().rev().map(|(reader, _)| reader).filter(|reader| reader.read > 0);
    let knows_a_form = |reader: &&Reader| reader.rule != NUMERIC && 2 * reader.read >= unread;
    let form = readers().filter(knows_a_form).max_by_key(|reader| reader.read);
    form.or_else(|| readers().max_by_key(|reader| reader.read)).cloned()
}

fn examples(unread: &[&StoredCompletion], best: Option<&[bool]>) -> Vec<String> {
    let is_read = |index: usize| best.is_some_and(|reads| reads.get(index) == Some(&true));
    let mut order: Vec<(bool, bool, usize)> =
        unread.iter().enumerate().map(|(index, one)| (!is_read(index), one.finish.is_cut(), index)).collect();
    order.sort_unstable();
    let mut examples: Vec<String> = Vec::new();
    for (_, _, index) in order {
        let end = tail(&unread[index].text);
        if !end.is_empty() && !examples.contains(&end) {
            examples.push(end);
        }
        if examples.len() == EXAMPLES {
            break;
        }
    }
    examples
}

/// The end of a text on one line; `…` says that there is more.
fn tail(text: &str) -> String {
    // No more than a few times what is kept: a text can be long, and white space folds.
    let start = text.char_indices().rev().nth(8 * TAIL).map_or(0, |(at, _)| at);
    let line = plain(&text[start..]).split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = line.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
    if start == 0 && cut == 0 { line } else { format!("\u{2026}{}", &line[cut..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Finish, Timings};
    use crate::score::{Reference, Take};

    fn rules() -> [Rule; 2] {
        [
            Rule::pattern("strict", r"The answer is (\d+)", Take::Last, Reference::Value).unwrap(),
            Rule::numeric("numeric"),
        ]
    }

    fn completion(sample: usize, text: &str, rules: &[Rule]) -> StoredCompletion {
        StoredCompletion {
            sample,
            repeat: 0,
            prompt_sha256: String::new(),
            prompt_ids_sha256: None,
            prompt_tokens: None,
            token_ids: None,
            output_tokens: None,
            counted_by: None,
            text: text.to_owned(),
            thought: None,
            finish: Finish::EndOfSequence,
            scores: score(rules, text, "#### 18"),
            margins: Vec::new(),
            timings: Timings::default(),
            session: 0,
            at_seconds: 0.0,
        }
    }

    fn completions(texts: &[&str], rules: &[Rule]) -> Vec<StoredCompletion> {
        texts.iter().enumerate().map(|(sample, text)| completion(sample, text, rules)).collect()
    }

    fn reader(rule: &str, protocol: Option<&str>, read: usize) -> Reader {
        Reader { rule: rule.to_owned(), protocol: protocol.map(str::to_owned), read }
    }

    #[test]
    fn boxed_answers_are_read_by_the_boxed_rule() {
        let texts = ["So \\boxed{18}.", "It is\n\n  \\boxed{7}", "The answer is 3", "\\boxed{1}", "none at all"];
        let endings = endings(&completions(&texts, &rules()), "strict");
        assert_eq!(endings.unread, 4);
        assert_eq!(endings.examples, ["So \\boxed{18}.", "It is \\boxed{7}", "\\boxed{1}"]);
        assert_eq!(endings.own, Some(reader("numeric", None, 3)));
        assert_eq!(endings.built_in, Some(reader("boxed", Some("boxed"), 3)));
        assert_eq!(
            endings.in_words().unwrap(),
            "such answers end in “So \\boxed{18}.”; numeric reads 3 of these 4; boxed of the protocol boxed 3"
        );
    }

    #[test]
    fn a_form_that_reads_half_goes_before_any_number() {
        let only = [Rule::pattern("strict", "never (x)", Take::First, Reference::Value).unwrap()];
        let half = ["#### 1", "#### 2", "it is 3", "it is 4"];
        let found = endings(&completions(&half, &only), "strict");
        assert_eq!((found.own, found.built_in.map(|one| (one.rule, one.read))), (None, Some(("strict".to_owned(), 2))));
        let fewer = ["#### 1", "it is 2", "it is 3", "it is 4"];
        let found = endings(&completions(&fewer, &only), "strict");
        assert_eq!(found.built_in, Some(reader("numeric", Some("stepwise"), 4)));
    }

    #[test]
    fn numeric_goes_before_a_pattern_that_reads_hardly_more() {
        let any = |pattern: &str| Rule::pattern("flexible", pattern, Take::Last, Reference::Value).unwrap();
        let never = Rule::pattern("strict", "never (x)", Take::First, Reference::Value).unwrap();
        let rules = [never, any(r"([\d.]+)"), Rule::numeric("numeric")];
        let mut texts = vec!["it is 5"; 39];
        texts.push("so ..");
        assert_eq!(endings(&completions(&texts, &rules), "strict").own, Some(reader("numeric", None, 39)));
        texts.extend(["so .."; 3]);
        assert_eq!(endings(&completions(&texts, &rules), "strict").own, Some(reader("flexible", None, 43)));
    }

    #[test]
    fn examples_are_first_those_that_were_not_cut_and_are_read() {
        let mut stored = completions(&["step 1 of", "nothing", "so \\boxed{2}", "so \\boxed{2}", ""], &rules());
        stored[0].finish = Finish::Length;
        let found = endings(&stored, "strict");
        assert_eq!(
            (found.unread, found.examples),
            (5, vec!["so \\boxed{2}".to_owned(), "step 1 of".into(), "nothing".into()])
        );
    }

    #[test]
    fn an_example_is_the_end_on_one_line() {
        let text = format!("{}\n\tthe end\u{1b}[31m\r\n", "word ".repeat(500));
        let end = tail(&text);
        assert!(end.starts_with('…') && end.ends_with("word the end\u{fffd}[31m"), "{end}");
        assert_eq!(end.chars().count(), TAIL + 1);
        assert_eq!(tail(&"é".repeat(TAIL)), "é".repeat(TAIL));
        assert_eq!(tail(&"é".repeat(TAIL + 1)), format!("…{}", "é".repeat(TAIL)));
        assert_eq!(tail(" \n "), "");
    }

    #[test]
    fn where_nothing_is_unread_there_is_nothing_to_say() {
        let found = endings(&completions(&["The answer is 3"], &rules()), "strict");
        assert_eq!((found.unread, found.in_words()), (0, None));
        let strangers = endings(&completions(&["The answer is 3"], &rules()), "other");
        assert_eq!((strangers.unread, strangers.in_words()), (0, None));
        let silent = endings(&completions(&["", "none"], &rules()), "strict");
        assert_eq!(silent.in_words().unwrap(), "such answers end in “none”; no rule reads one of them");
    }
}
