//! The text of a stream: what can be told of it so far, thoughts apart.

use std::borrow::Cow;
use std::sync::Arc;

use super::fault::ApiError;
use crate::engine::model::ModelTokenizer;
use crate::engine::{Completion, Detokenizer, ThoughtMarks};

/// What a token added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) reasoning: String,
    pub(super) content: String,
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The text so far may be the beginning of a mark that opens a thought.
    Undecided,
    Thinking,
    Answering,
}

/// The text of one completion as it grows. What may be the beginning of a stop string or of a mark is held back until that is known, so
/// that all that was told makes up the text of the whole completion.
#[derive(Debug)]
pub(super) struct TextStream {
    tokenizer: Arc<ModelTokenizer>,
    marks: Arc<ThoughtMarks>,
    stops: Vec<String>,
    /// With special tokens written out, which marks may be, until the answer begins.
    marked: Detokenizer,
    /// The answer.
    plain: Detokenizer,
    /// What stood behind the end of the thought in the token that ended it.
    lead: String,
    state: State,
    is_behind_thought: bool,
    sent_reasoning: usize,
    sent_content: usize,
}

impl TextStream {
    pub(super) fn new(
        tokenizer: &Arc<ModelTokenizer>,
        marks: &Arc<ThoughtMarks>,
        prompt: &str,
        stops: &[String],
    ) -> Self {
        let state = if marks.is_empty() {
            State::Answering
        } else if marks.open_in(prompt) {
            State::Thinking
        } else {
            State::Undecided
        };
        Self {
            tokenizer: Arc::clone(tokenizer),
            marks: Arc::clone(marks),
            stops: stops.to_vec(),
            marked: Detokenizer::with_special(),
            plain: Detokenizer::default(),
            lead: String::new(),
            state,
            is_behind_thought: false,
            sent_reasoning: 0,
            sent_content: 0,
        }
    }

    /// Adds a token.
    pub(super) fn push(&mut self, token: u32) -> Result<Added, ApiError> {
        if self.state == State::Answering {
            self.plain.push(token, &self.tokenizer)?;
            return Ok(Added { content: self.content(), ..Added::default() });
        }
        self.marked.push(token, &self.tokenizer)?;
        let mut added = Added::default();
        if self.state == State::Undecided {
            match self.opens() {
                Some(true) => self.state = State::Thinking,
                Some(false) => {
                    self.state = State::Answering;
                    self.plain = replayed(self.marked.ids(), &self.tokenizer)?;
                    added.content = self.content();
                }
                None => {}
            }
        }
        if self.state == State::Thinking {
            added.reasoning = self.reasoning();
            added.content = if self.state == State::Answering { self.content() } else { String::new() };
        }
        Ok(added)
    }

    /// What is left to tell at the end. All pieces together are the completion's thought and text; where a later mark made a thought of
    /// what was told as an answer, nothing is left.
    pub(super) fn finish(&mut self, completion: &Completion) -> Added {
        let told = self.answer();
        let goes_on = told.get(..self.sent_content).is_some_and(|told| completion.text.starts_with(told));
        let content = if goes_on { completion.text[self.sent_content..].to_owned() } else { String::new() };
        let thought = completion.thought.as_ref().map_or("", |thought| thought.text.as_str());
        Added { reasoning: thought.get(self.sent_reasoning..).unwrap_or_default().to_owned(), content }
    }

    /// Whether the text opens with a thought; `None` while that is not known.
    fn opens(&self) -> Option<bool> {
        let text = self.marked.text().trim_start();
        let mut opens = self.marks.opens();
        if opens.any(|open| text.starts_with(open)) {
            return Some(true);
        }
        let undecided = text.is_empty() || self.marks.opens().any(|open| open.starts_with(text));
        if undecided { None } else { Some(false) }
    }

    /// The thought's text that can be told; where it has ended, the answer begins.
    fn reasoning(&mut self) -> String {
        let text = self.marked.text();
        let split = self.marks.split(text, true);
        let Some(split) = split else { return String::new() };
        if let Some(answer) = split.answer {
            let all = text[split.thought].to_owned();
            self.lead = text[answer..].to_owned();
            self.plain = Detokenizer::behind(self.marked.ids());
            self.state = State::Answering;
            self.is_behind_thought = true;
            let told = all.get(self.sent_reasoning..).unwrap_or_default().to_owned();
            self.sent_reasoning += told.len();
            return told;
        }
        let thought = &text[split.thought];
        // Space at the end belongs to the thought only if something follows it, and a mark that ends it may have begun.
        let held = self.marks.ends().map(|end| held_back(thought, end)).max().unwrap_or(0);
        let safe = thought[..thought.len() - held].trim_end();
        let told = safe.get(self.sent_reasoning..).unwrap_or_default().to_owned();
        self.sent_reasoning += told.len();
        told
    }

    /// The answer's text that can be told. What was told holds no beginning of a stop string: only what is new is looked at.
    fn content(&mut self) -> String {
        let all = self.answer();
        let new = all.get(self.sent_content..).unwrap_or_default();
        let held = self.stops.iter().map(|stop| held_back(new, stop)).max().unwrap_or(0);
        let told = new[..new.len() - held].to_owned();
        self.sent_content += told.len();
        told
    }

    /// The answer so far. Behind a thought it begins with its first letter.
    fn answer(&self) -> Cow<'_, str> {
        if !self.is_behind_thought {
            return Cow::Borrowed(self.plain.text());
        }
        let lead = self.lead.trim_start();
        match (lead, self.plain.text()) {
            ("", text) => Cow::Borrowed(text.trim_start()),
            (lead, text) => Cow::Owned([lead, text].concat()),
        }
    }
}

/// Text of tokens that have come before.
fn replayed(ids: &[u32], tokenizer: &ModelTokenizer) -> Result<Detokenizer, ApiError> {
    let mut plain = Detokenizer::default();
    for id in ids {
        plain.push(*id, tokenizer)?;
    }
    Ok(plain)
}

/// Bytes at the end of `text` that `whole` may begin with. Where `whole` stands in the text, it and everything behind it.
fn held_back(text: &str, whole: &str) -> usize {
    if let Some(at) = text.find(whole) {
        return text.len() - at;
    }
    let longest = whole.len().min(text.len() + 1).saturating_sub(1);
    (1..=longest).rev().find(|length| whole.is_char_boundary(*length) && text.ends_with(&whole[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Finish, Thought, Timings};

    const WORDS: [&str; 9] = ["<think>", "</think>", "a", " b", "St", "op", "\n", " é", "<thi"];

    /// Words as they are, one a token, the first two special.
    fn tokenizer() -> Arc<ModelTokenizer> {
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
        let special = |id: usize| {
            serde_json::json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0), special(1)], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Fuse"}, "model": {"type": "WordLevel", "unk_token": "a", "vocab": vocabulary}});
        Arc::new(ModelTokenizer {
            tokenizer: tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap(),
            chat_template: None,
            bos_token: None,
            named_tokens: std::collections::BTreeMap::new(),
            bos_id: None,
            eos_token: None,
            eos_ids: BTreeSet::new(),
            sha256: crate::engine::model::FileHash::known(""),
            notes: Vec::new(),
        })
    }

    fn marks() -> Arc<ThoughtMarks> {
        Arc::new(ThoughtMarks::new([("<think>".to_owned(), "</think>".to_owned())]))
    }

    fn completion(text: &str, thought: Option<&str>) -> Completion {
        Completion {
            request: 0,
            token_ids: Vec::new(),
            text: text.to_owned(),
            thought: thought.map(|text| Thought { text: text.to_owned(), tokens: None }),
            finish: Finish::Length,
            details: Vec::new(),
            top_tokens: Vec::new(),
            timings: Timings::default(),
            cached_tokens: 0,
            server: None,
        }
    }

    /// Pieces of content and of reasoning.
    fn stream(
        prompt: &str,
        tokens: &[usize],
        stops: &[&str],
        whole: &Completion,
        marks: &Arc<ThoughtMarks>,
    ) -> [Vec<String>; 2] {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(&tokenizer(), marks, prompt, &stops);
        let mut pieces = [Vec::new(), Vec::new()];
        let mut add = |added: Added| {
            pieces[0].push(added.content);
            pieces[1].push(added.reasoning);
        };
        for token in tokens {
            add(stream.push(*token as u32).unwrap());
        }
        add(stream.finish(whole));
        pieces
    }

    #[test]
    fn what_may_begin_a_stop_string_is_held_back_until_that_is_known() {
        let none = Arc::default();
        let [pieces, _] = stream("", &[2, 4, 3, 4, 5], &["Stop"], &completion("aSt b", None), &none);
        assert_eq!(pieces, ["a", "", "St b", "", "", ""]);
        let [cut, _] = stream("", &[2, 4], &["Stop"], &completion("aSt", None), &none);
        assert_eq!(cut, ["a", "", "St"], "a limit ended it");
    }

    #[test]
    fn thoughts_come_apart_whether_the_prompt_or_the_answer_opens_them() {
        let whole = completion("a b", Some("a\n b"));
        let [content, reasoning] = stream("", &[0, 6, 2, 6, 3, 6, 1, 6, 2, 3], &[], &whole, &marks());
        assert_eq!((content.concat(), reasoning.concat()), ("a b".to_owned(), "a\n b".to_owned()));
        assert!(reasoning.iter().filter(|piece| !piece.is_empty()).count() > 1, "{reasoning:?}");
        let [content, reasoning] = stream("x<think>", &[2, 6, 3, 1, 2, 3], &[], &whole, &marks());
        assert_eq!((content.concat(), reasoning.concat()), ("a b".to_owned(), "a\n b".to_owned()));
        let [content, reasoning] = stream("x<think>", &[2, 4], &["Stop"], &completion("", Some("aSt")), &marks());
        assert_eq!((content.concat(), reasoning.concat()), (String::new(), "aSt".to_owned()));
    }

    #[test]
    fn an_answer_that_only_looks_like_a_thought_at_first_is_told_whole() {
        let [content, reasoning] = stream("", &[6, 8, 2, 3], &[], &completion("\n<thia b", None), &marks());
        assert_eq!((content.concat(), reasoning.concat()), ("\n<thia b".to_owned(), String::new()));
    }

    #[test]
    fn what_a_later_mark_makes_a_thought_of_is_not_told_twice() {
        let [content, _] = stream("", &[2, 3, 1, 2], &[], &completion("a", Some("a b")), &marks());
        assert_eq!(content.concat(), "a ba");
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(tokens in prop::collection::vec(2_usize..8, 0..40)) {
            let text: String = tokens.iter().map(|token| WORDS[*token]).collect();
            let cut = text.find("Stop").map_or(text.as_str(), |at| &text[..at]);
            // What follows a stop string was never generated.
            let generated = text.find("Stop").map_or(tokens.len(), |at| {
                let mut bytes = 0;
                tokens.iter().take_while(|token| { bytes += WORDS[**token].len(); bytes < at + 4 }).count() + 1
            });
            let [pieces, _] = stream("", &tokens[..generated], &["Stop"], &completion(cut, None), &Arc::default());
            prop_assert_eq!(pieces.concat(), cut);
        }
    }
}
