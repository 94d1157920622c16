//! Thoughts: what a model writes between its thinking marks, before its answer.

use std::ops::Range;

use super::EngineError;
use super::model::ModelTokenizer;

/// The marks that thoughts stand between; none of them, and nothing is a thought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThoughtMarks {
    pairs: Vec<(String, String)>,
}

/// A thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought {
    /// Its text, the marks and the space around it left out.
    pub text: String,
    /// Its tokens, the marks included; `None` where they are not told.
    pub tokens: Option<usize>,
}

/// Where a text's thought and its answer stand, as byte offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitThought {
    /// The thought, its marks and the space around it left out.
    pub thought: Range<usize>,
    /// Where the answer begins; `None` where the thought never ends, and then there is no answer.
    pub answer: Option<usize>,
}

/// A completion's thought, and where in the completion's text its answer begins.
pub(super) struct ThoughtOf {
    pub(super) thought: Thought,
    /// `None` where the thought never ends.
    pub(super) answer: Option<usize>,
}

impl ThoughtMarks {
    /// What opens a thought and what ends it, in pairs; the first may be empty, where only the end is known.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { pairs: pairs.into_iter().collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether a prompt ends inside a thought: its template has opened one.
    pub fn open_in(&self, prompt: &str) -> bool {
        let end = prompt.trim_end();
        self.opens().any(|open| end.ends_with(open))
    }

    /// The thought of a text, if it has one. `opened` says that the prompt has opened it. The last mark that ends a thought counts:
    /// what stands before it was thought, opened or not, and what opens behind it never ends.
    pub fn split(&self, text: &str, opened: bool) -> Option<SplitThought> {
        let ended = self.last_end(text);
        let behind = ended.as_ref().map_or(0, |mark| mark.end);
        let opening = self.opens().any(|open| text[behind..].contains(open));
        let whole = match ended {
            _ if opening => 0..text.len(),
            Some(mark) => 0..mark.start,
            None if opened => 0..text.len(),
            None => return None,
        };
        let ends = !opening && behind > 0;
        let answer = text.len() - text[behind..].trim_start().len();
        Some(SplitThought { thought: self.inner(text, whole), answer: ends.then_some(answer) })
    }

    fn last_end(&self, text: &str) -> Option<Range<usize>> {
        let ends = self.pairs.iter().filter_map(|(_, end)| text.rfind(end.as_str()).map(|at| at..at + end.len()));
        ends.max_by_key(|mark| mark.end)
    }

    /// A thought without the mark that opens it and the space around it.
    fn inner(&self, text: &str, whole: Range<usize>) -> Range<usize> {
        let whole = trimmed(text, whole);
        let open = self.opens().find(|open| text[whole.clone()].starts_with(open)).map_or(0, str::len);
        trimmed(text, whole.start + open..whole.end)
    }

    /// What opens a thought.
    pub fn opens(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(open, _)| open.as_str()).filter(|open| !open.is_empty())
    }

    /// What ends one.
    pub fn ends(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(_, end)| end.as_str())
    }

    /// The thought of the tokens generated behind `prompt`, if they hold one. Marks may be plain text or special tokens.
    pub(super) fn of(
        &self,
        token_ids: &[u32],
        prompt: &str,
        tokenizer: &ModelTokenizer,
    ) -> Result<Option<ThoughtOf>, EngineError> {
        if self.is_empty() {
            return Ok(None);
        }
        // With special tokens written out, marks of both kinds can be seen.
        let marked = tokenizer.decode_with_special(token_ids)?;
        let Some(SplitThought { thought, answer }) = self.split(&marked, self.open_in(prompt)) else { return Ok(None) };
        let text = marked[thought].to_owned();
        if answer.is_none() {
            return Ok(Some(ThoughtOf { thought: Thought { text, tokens: Some(token_ids.len()) }, answer }));
        }
        let tokens = self.tokens_until_end(&marked, token_ids, tokenizer)?;
        let shown = tokenizer.decode(token_ids)?;
        let answer = if let Some(SplitThought { answer: Some(answer), .. }) = self.split(&shown, true) {
            answer
        } else {
            // A mark of special tokens does not show: the answer is what the tokens behind it add.
            let behind = tokenizer.decode(&token_ids[..tokens])?.len().min(shown.len());
            let behind = (0..=behind).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown.len() - shown[behind..].trim_start().len()
        };
        Ok(Some(ThoughtOf { thought: Thought { text, tokens: Some(tokens) }, answer: Some(answer) }))
    }

    /// The fewest tokens that hold all the marks which end a thought in `marked`, the text of all of them.
    fn tokens_until_end(
        &self,
        marked: &str,
        token_ids: &[u32],
        tokenizer: &ModelTokenizer,
    ) -> Result<usize, EngineError> {
        let ends = |text: &str| self.pairs.iter().map(|(_, end)| text.matches(end.as_str()).count()).sum::<usize>();
        let all = ends(marked);
        let (mut low, mut high) = (0, token_ids.len());
        while low < high {
            let middle = low.midpoint(high);
            if ends(&tokenizer.decode_with_special(&token_ids[..middle])?) < all {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let start = range.end - text[range.clone()].trim_start().len();
    start..start + text[start..range.end].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(extra: Option<&str>) -> ThoughtMarks {
        let pairs =
            [("<think>", "</think>"), ("[THINK]", "[/THINK]")].map(|(open, end)| (open.to_owned(), end.to_owned()));
        ThoughtMarks::new(pairs.into_iter().chain(extra.map(|end| (String::new(), end.to_owned()))))
    }

    fn parts(text: &str, opened: bool) -> Option<(&str, Option<&str>)> {
        let split = marks(None).split(text, opened)?;
        Some((&text[split.thought], split.answer.map(|at| &text[at..])))
    }

    #[test]
    fn a_thought_is_what_stands_between_its_marks() {
        for (open, end) in [("<think>", "</think>"), ("[THINK]", "[/THINK]")] {
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
        assert_eq!(parts("", true), Some(("", None)));
        assert_eq!(ThoughtMarks::default().split("<think>a</think>b", false), None);
    }

    #[test]
    fn a_string_alone_may_end_a_thought() {
        let marks = marks(Some("FINAL:"));
        let split = marks.split("hm FINAL: 2", false).unwrap();
        assert_eq!((split.thought, split.answer), (0..2, Some(10)));
        assert_eq!(marks.split("hm", false), None);
        assert!(marks.split("<think>hm</think>2", false).is_some());
        assert!(!marks.open_in("hello"));
    }

    #[test]
    fn a_prompt_may_end_inside_a_thought() {
        assert!(marks(None).open_in("<|im_start|>assistant\n<think>\n"));
        assert!(!marks(None).open_in("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
        assert!(!marks(None).open_in("<think> is a mark"));
    }
}
