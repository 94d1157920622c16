//! Random prompts: a function of the seed, of what they are for, and of their number.

use std::sync::Arc;

use serde_json::json;

use super::words::{self, WORDS};
use crate::engine::Prompt;
use crate::engine::model::ModelTokenizer;
use crate::jobs::Model;
use crate::random::{GOLDEN, split_mix};

/// Ids below this are commonly special tokens.
const FIRST_ID: usize = 5;

/// Ids below this are text in every vocabulary that we know.
const SMALL_VOCABULARY: usize = 1000;

/// What a prompt is for. No two prompts of a benchmark are alike, so that no cache can serve one for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jobs) enum Purpose {
    WarmUp = 1,
    Load,
    Single,
    Concurrent,
    Workload,
    SharedPrefix,
    Sweep,
}

/// What prompts are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ids,
    /// Words, for servers that take no ids.
    Text,
    /// The same as what a user says in a chat.
    Messages,
}

/// Makes prompts.
#[derive(Debug, Clone)]
pub(in crate::jobs) struct RandomPrompts {
    seed: u64,
    vocabulary: usize,
    form: Form,
    /// Brings texts to their length.
    tokenizer: Option<Arc<ModelTokenizer>>,
}

impl RandomPrompts {
    /// Prompts that a model takes: ids, but for an endpoint that is asked by text or by chat.
    pub(in crate::jobs) fn of(seed: u64, model: &Model) -> Self {
        let tokenizer = model.tokenizer().cloned();
        let (vocabulary, form) = match model {
            Model::Local(source) => (source.config.vocabulary, Form::Ids),
            Model::Endpoint(endpoint) => {
                let known = tokenizer.as_ref().map(|tokenizer| tokenizer.tokenizer.get_vocab_size(true));
                let form = match (model.takes_messages(), endpoint.options.send_ids) {
                    (true, _) => Form::Messages,
                    (false, true) => Form::Ids,
                    (false, false) => Form::Text,
                };
                (known.unwrap_or(SMALL_VOCABULARY), form)
            }
        };
        Self { seed, vocabulary, form, tokenizer }
    }

    /// What the record says of them.
    pub(in crate::jobs) fn in_words(&self) -> String {
        let counted =
            if self.tokenizer.is_some() { "of so many tokens by the model's tokenizer" } else { "a token each" };
        match self.form {
            Form::Ids => format!("random token ids from {FIRST_ID} to {}, no text", self.vocabulary.saturating_sub(1)),
            Form::Text => format!("random words, {counted}"),
            Form::Messages => format!("random words, {counted}, as one message of a chat"),
        }
    }

    /// Tokens to choose from, those included that are none to choose.
    pub(in crate::jobs) const fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// `ids`, `text` or `messages`.
    pub(in crate::jobs) const fn sent_as(&self) -> &'static str {
        match self.form {
            Form::Ids => "ids",
            Form::Text => "text",
            Form::Messages => "messages",
        }
    }

    /// Whether the vocabulary has any id to choose.
    pub(in crate::jobs) const fn can_be_made(&self) -> bool {
        self.vocabulary > FIRST_ID
    }

    /// The same as text, for a server that takes no ids; `None` where they are none already.
    pub(in crate::jobs) fn as_text(&self) -> Option<Self> {
        (self.form == Form::Ids).then(|| Self { form: Form::Text, ..self.clone() })
    }

    /// A prompt of this many tokens, behind `shared` ones that all prompts begin with.
    pub(in crate::jobs) fn prompt(&self, purpose: Purpose, number: usize, shared: usize, tokens: usize) -> Arc<Prompt> {
        let draws = self.draws(Purpose::SharedPrefix, 0, shared).chain(self.draws(purpose, number, tokens));
        Arc::new(match self.form {
            Form::Ids => {
                let choices = self.vocabulary.saturating_sub(FIRST_ID).max(1) as u64;
                let token_ids = draws.map(|word| FIRST_ID as u32 + (word % choices) as u32).collect();
                Prompt { text: String::new(), token_ids }
            }
            Form::Text | Form::Messages => {
                let chosen = draws.map(|word| WORDS[(word % WORDS.len() as u64) as usize]).collect();
                let text = words::text(chosen, shared + tokens, self.tokenizer.as_deref());
                let is_message = self.form == Form::Messages;
                let text = if is_message { json!([{"role": "user", "content": text}]).to_string() } else { text };
                Prompt { text, token_ids: Vec::new() }
            }
        })
    }

    fn draws(&self, purpose: Purpose, number: usize, tokens: usize) -> impl Iterator<Item = u64> + use<> {
        let key = split_mix(split_mix(split_mix(self.seed) ^ purpose as u64) ^ number as u64);
        (0..tokens).map(move |index| split_mix(key.wrapping_add((index as u64).wrapping_mul(GOLDEN))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_reproducible_within_the_vocabulary_and_all_different() {
        let prompts = RandomPrompts { seed: 7, vocabulary: 32_000, form: Form::Ids, tokenizer: None };
        let one = prompts.prompt(Purpose::Single, 0, 0, 1000);
        assert_eq!(one, prompts.prompt(Purpose::Single, 0, 0, 1000));
        assert!(one.token_ids.iter().all(|id| (5..32_000).contains(id)));
        assert_eq!(one.token_ids[..10], prompts.prompt(Purpose::Single, 0, 0, 10).token_ids);
        for other in [
            prompts.prompt(Purpose::Single, 1, 0, 1000),
            prompts.prompt(Purpose::Load, 0, 0, 1000),
            RandomPrompts { seed: 8, ..prompts.clone() }.prompt(Purpose::Single, 0, 0, 1000),
        ] {
            let same = one.token_ids.iter().zip(&other.token_ids).filter(|(a, b)| a == b).count();
            assert!(same < 5, "{same} of 1000 ids are the same");
        }
        let shared = |number: usize| prompts.prompt(Purpose::Workload, number, 3, 2).token_ids.clone();
        assert_eq!((&shared(4)[..3], shared(4).len()), (&shared(5)[..3], 5));
        assert_ne!(shared(4)[3..], shared(5)[3..]);
        let text = prompts.as_text().unwrap();
        assert!(text.as_text().is_none());
        let words = |number: usize| text.prompt(Purpose::Workload, number, 3, 20).text.clone();
        assert_eq!(words(4).split(' ').count(), 23);
        let prefix = |number: usize| words(number).split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
        assert!(prefix(4) == prefix(5) && words(4) != words(5));
        let chat = RandomPrompts { form: Form::Messages, ..text.clone() };
        let message = chat.prompt(Purpose::Workload, 4, 3, 20).text.clone();
        let message: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert_eq!(message, json!([{"role": "user", "content": words(4)}]));
    }
}
