//! Thoughts: what a model writes between its thinking marks. They are kept, counted apart and never scored.

use std::ops::Range;

/// The marks of known models: what opens a thought and what ends it.
const MARKS: [(&str, &str); 10] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
];

/// The marks that a thought stands between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThoughtMarks {
    pairs: Vec<(String, String)>,
}

impl Default for ThoughtMarks {
    /// Those of known models.
    fn default() -> Self {
        Self { pairs: MARKS.iter().map(|(open, end)| ((*open).to_owned(), (*end).to_owned())).collect() }
    }
}

/// A completion's thought and its answer, as byte offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitThought {
    /// The thought, its marks and the space around it left out.
    pub thought: Range<usize>,
    /// Where the answer begins; `None` where the thought never ends, and then there is no answer.
    pub answer: Option<usize>,
}

impl ThoughtMarks {
    /// The known marks, and a string that ends a thought besides.
    pub fn with_end(end: Option<&str>) -> Self {
        let mut marks = Self::default();
        marks.pairs.extend(end.map(|end| (String::new(), end.to_owned())));
        marks
    }

    /// What opens a thought and what ends it; the first is empty where only the end is known.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Whether a prompt ends inside a thought: its template has opened one.
    pub fn open_in(&self, prompt: &str) -> bool {
        let end = prompt.trim_end();
        self.opens().any(|open| end.ends_with(open))
    }

    /// The thought of a completion, if it has one. `opened` says that the prompt has opened it. The last mark that ends a thought
    /// counts: what stands before it was thought, opened or not, and what opens behind it never ends.
    pub fn split(&self, text: &str, opened: bool) -> Option<SplitThought> {
        let ends = self.pairs.iter().filter_map(|(_, end)| text.rfind(end.as_str()).map(|at| (at, at + end.len())));
        let ended = ends.max_by_key(|(_, end)| *end);
        let behind = ended.map_or(0, |(_, end)| end);
        let opening = self.opens().filter_map(|open| text[behind..].find(open)).min();
        let whole = match (ended, opening) {
            (None, None) if !opened => return None,
            (_, Some(_)) | (None, None) => 0..text.len(),
            (Some((at, _)), None) => 0..at,
        };
        let is_open = opening.is_some() || ended.is_none();
        let answer = behind + text[behind..].len() - text[behind..].trim_start().len();
        Some(SplitThought { thought: self.inner(text, whole), answer: (!is_open).then_some(answer) })
    }

    /// A thought without the mark that opens it and the space around it.
    fn inner(&self, text: &str, whole: Range<usize>) -> Range<usize> {
        let trimmed = |range: Range<usize>| {
            let start = range.end - text[range.clone()].trim_start().len();
            start..start + text[start..range.end].trim_end().len()
        };
        let whole = trimmed(whole);
        let open = self.opens().find(|open| text[whole.clone()].starts_with(open)).map_or(0, str::len);
        trimmed(whole.start + open..whole.end)
    }

    fn opens(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(open, _)| open.as_str()).filter(|open| !open.is_empty())
    }
}

/// Where the answer of a completion begins, behind a thought if it has one; `None` where that never ends.
pub(super) fn answer_start(text: &str) -> Option<usize> {
    let mut answer = Some(0);
    for (at, _) in text.match_indices(['<', '[', '◁']) {
        // Most are a sign of less, or `<<` of a calculation.
        let begins_mark = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'|') || !byte.is_ascii();
        if !text.as_bytes().get(at + 1).is_some_and(begins_mark) {
            continue;
        }
        for (open, end) in MARKS {
            if text[at..].starts_with(end) {
                answer = Some(at + end.len());
            } else if text[at..].starts_with(open) {
                answer = None;
            }
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Answer, Rule, score};

    fn parts(text: &str, opened: bool) -> Option<(&str, Option<&str>)> {
        let split = ThoughtMarks::default().split(text, opened)?;
        Some((&text[split.thought], split.answer.map(|at| &text[at..])))
    }

    #[test]
    fn a_thought_is_what_stands_between_its_marks() {
        for (open, end) in MARKS {
            let text = format!("{open}\n1 + 1\n{end}\n\nIt is 2.");
            assert_eq!(parts(&text, false), Some(("1 + 1", Some("It is 2."))), "{text}");
            assert_eq!(parts(&format!("1 + 1{end}2"), true), Some(("1 + 1", Some("2"))), "{end}");
            assert_eq!(parts(&format!("1 + 1{end}2"), false), Some(("1 + 1", Some("2"))), "{end}");
            assert_eq!(parts(&format!("{open} 1 + 1"), false), Some(("1 + 1", None)), "{open}");
        }
        assert_eq!(parts("It is 2.", false), None);
        assert_eq!(parts("It is 2 < 3.", true), Some(("It is 2 < 3.", None)));
        assert_eq!(parts("a</think>b</think>c", false), Some(("a</think>b", Some("c"))));
        assert_eq!(parts("<think>a</think>b<think>c", false), Some(("a</think>b<think>c", None)));
        assert_eq!(parts("<think></think>", false), Some(("", Some(""))));
    }

    #[test]
    fn a_string_may_end_a_thought_besides() {
        let marks = ThoughtMarks::with_end(Some("FINAL:"));
        let split = marks.split("hm FINAL: 2", false).unwrap();
        assert_eq!((split.thought, split.answer), (0..2, Some(10)));
        assert_eq!(marks.split("hm", false), None);
        assert!(marks.split("<think>hm</think>2", false).is_some());
    }

    #[test]
    fn a_prompt_may_end_inside_a_thought() {
        let marks = ThoughtMarks::with_end(Some("x"));
        assert!(marks.open_in("<|im_start|>assistant\n<think>\n"));
        assert!(!marks.open_in("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
        assert!(!marks.open_in("hello"));
    }

    #[test]
    fn thoughts_are_never_scored() {
        let rules = [Rule::numeric("numeric"), Rule::boxed("boxed")];
        let values = |text: &str| {
            let found = score(&rules, text, Answer { full: "", value: "18" });
            assert!(found.iter().all(|one| one.span.map(|[start, end]| &text[start..end]) == one.value.as_deref()));
            found.into_iter().map(|one| one.value).collect::<Vec<_>>()
        };
        assert_eq!(
            values("<think>\n#### 12? \\boxed{12}\n</think>\n\nShe has 18 eggs."),
            [Some("18".to_owned()), None]
        );
        assert_eq!(
            values("#### 12 but no</think>\nIt is \\boxed{18}."),
            [Some("18".to_owned()), Some("18".to_owned())]
        );
        assert_eq!(values("[THINK] #### 12 [/THINK] 18"), [Some("18".to_owned()), None]);
        assert_eq!(values("<think>\n#### 12"), [None, None]);
        assert_eq!(values("#### 12 <thinking>"), [None, None]);
        assert_eq!(values("2 < 3, so 12"), [Some("12".to_owned()), None]);
    }
}
