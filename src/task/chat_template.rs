//! A model's chat template, rendered in a child process: the template came with the model, and Jinja bounds neither memory nor stack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TaskError;
use super::chat::{Compiled, Message};
use crate::sandbox::{self, Sandbox};

/// The job of [`chat_answers`].
pub(crate) const CHAT_JOB: &str = "chat";

/// A chat template that compiles.
#[derive(Debug)]
pub struct ChatTemplate {
    place: Place,
    facts: Facts,
    thinking: Option<bool>,
}

/// Where it is rendered.
#[derive(Debug)]
enum Place {
    /// In this process: a template of our own, or a program that is no child's parent.
    Here(Compiled),
    /// In a child.
    Child(Source, Sandbox),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    template: String,
    tokens: BTreeMap<String, String>,
}

/// What is to be known of a template before any conversation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Facts {
    accepts_system: bool,
    takes_thinking: bool,
}

/// What the child is asked: of a conversation, or of the template itself.
#[derive(Serialize)]
struct Question<'a> {
    source: &'a Source,
    conversation: Option<&'a [Message]>,
    thinking: Option<bool>,
}

/// The same, as the child reads it.
#[derive(Deserialize)]
struct OwnedQuestion {
    source: Source,
    conversation: Option<Vec<Message>>,
    thinking: Option<bool>,
}

impl ChatTemplate {
    /// Compiles a template as transformers would: trimmed and left-stripped blocks, no escaping, loop controls,
    /// `generation`, Python's methods on strings, lists and maps, `raise_exception`, `tojson` as Python writes JSON, and
    /// `strftime_now`. The last always returns 26 July 2024, 00:00, the date that Llama 3's own template falls back to:
    /// a prompt that changed from day to day could not be compared with anything. `tokens` are the tokenizer's special
    /// tokens by name (`bos_token`, `pad_token`, …); the template finds no other defined.
    pub fn new(template: &str, tokens: &BTreeMap<String, String>) -> Result<Self, TaskError> {
        if !sandbox::is_available() {
            return Self::own(template, tokens);
        }
        let source = Source { template: template.to_owned(), tokens: tokens.clone() };
        let child = Sandbox::new(CHAT_JOB);
        let facts = ask(&child, &Question { source: &source, conversation: None, thinking: None })?;
        Ok(Self { place: Place::Child(source, child), facts, thinking: None })
    }

    /// The same for a template that is known to be harmless: it is rendered in this process.
    pub fn own(template: &str, tokens: &BTreeMap<String, String>) -> Result<Self, TaskError> {
        let compiled = Compiled::new(template, tokens).map_err(|reason| failed(&reason))?;
        let facts = Facts::of(&compiled);
        Ok(Self { place: Place::Here(compiled), facts, thinking: None })
    }

    /// The conversation as text, ready for the assistant's reply.
    pub fn render(&self, messages: &[Message]) -> Result<String, TaskError> {
        self.render_thinking(messages, None)
    }

    /// The same; `thinking` says for this conversation whether the model is to think.
    pub fn render_thinking(&self, messages: &[Message], thinking: Option<bool>) -> Result<String, TaskError> {
        let thinking = thinking.or(self.thinking);
        match &self.place {
            Place::Here(compiled) => compiled.render(messages, thinking).map_err(|reason| failed(&reason)),
            Place::Child(source, child) => ask(child, &Question { source, conversation: Some(messages), thinking }),
        }
    }

    /// Whether a system message appears in the text: some templates refuse it, some drop it without a word. Where this
    /// is false, [`super::Protocol::render`] puts the system text in front of the user's, a blank line between.
    pub fn accepts_system(&self) -> bool {
        self.facts.accepts_system
    }

    /// Whether the template asks if the model is to think (`enable_thinking`, or `thinking`).
    pub fn takes_thinking(&self) -> bool {
        self.facts.takes_thinking
    }

    /// Says whether the model is to think; until then the template decides.
    pub fn set_thinking(&mut self, thinking: bool) {
        self.thinking = Some(thinking);
    }
}

impl Facts {
    fn of(compiled: &Compiled) -> Self {
        Self { accepts_system: compiled.shows_system(), takes_thinking: compiled.takes_thinking() }
    }
}

fn ask<A: serde::de::DeserializeOwned>(child: &Sandbox, question: &Question) -> Result<A, TaskError> {
    let answer: Result<A, String> = child.ask(question).map_err(|broken| failed(&format!(": {broken}")))?;
    answer.map_err(|reason| failed(&reason))
}

fn failed(reason: &str) -> TaskError {
    TaskError::invalid(
        format!("the model's chat template failed{reason}"),
        "run with `--chat never`, or correct the template where the model keeps it: chat_template.jinja or tokenizer_config.json beside its \
         weights, or the metadata of its .gguf file",
    )
}

/// What a child answers. It keeps the template that it was last asked about.
pub(crate) fn chat_answers() -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut held: Option<(Source, Compiled)> = None;
    move |request| {
        let answer = serde_json::from_slice(request).map_err(|error| format!(": {error}"));
        let answer = answer.and_then(|question| answer_of(question, &mut held));
        serde_json::to_vec(&answer).unwrap_or_default()
    }
}

fn answer_of(question: OwnedQuestion, held: &mut Option<(Source, Compiled)>) -> Result<serde_json::Value, String> {
    let OwnedQuestion { source, conversation, thinking } = question;
    if held.as_ref().is_none_or(|(of, _)| *of != source) {
        let compiled = Compiled::new(&source.template, &source.tokens)?;
        *held = Some((source, compiled));
    }
    let Some((_, compiled)) = held else { return Err(String::new()) };
    let value = match conversation {
        Some(messages) => serde_json::Value::String(compiled.render(&messages, thinking)?),
        None => serde_json::to_value(Facts::of(compiled)).map_err(|error| error.to_string())?,
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child would be asked and answer, without the child.
    fn answer(question: &Question) -> Result<serde_json::Value, String> {
        let answer = chat_answers()(&serde_json::to_vec(question).unwrap());
        serde_json::from_slice(&answer).unwrap()
    }

    #[test]
    fn a_child_answers_what_this_process_would() {
        let template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}\
                        {% if enable_thinking %}<think>{% endif %}{{ eos_token }}";
        let tokens =
            [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let own = ChatTemplate::own(template, &tokens.clone().into()).unwrap();
        let source = Source { template: template.into(), tokens: tokens.into() };
        let messages = [Message::new("user", "é\u{1b}\n\"")];
        let question = Question { source: &source, conversation: Some(&messages), thinking: Some(true) };
        let text = own.render_thinking(&messages, Some(true)).unwrap();
        assert!(text.ends_with("<think></s>"), "{text}");
        assert_eq!(answer(&question), Ok(serde_json::Value::String(text)));
        let facts = answer(&Question { conversation: None, ..question }).unwrap();
        assert_eq!(facts, serde_json::json!({"accepts_system": true, "takes_thinking": true}));
    }

    #[test]
    fn a_template_that_never_ends_runs_out_of_steps() {
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        let error = ChatTemplate::own(endless, &BTreeMap::new()).unwrap().render(&[]).unwrap_err().to_string();
        assert!(error.contains("more than 10000000 steps\nhint: "), "{error}");
    }

    #[test]
    fn a_rendering_has_a_length() {
        let source = "{% set ns = namespace(x='0123456789abcdef') %}{% for i in range(N) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}";
        let render =
            |doublings: &str| ChatTemplate::own(&source.replace('N', doublings), &BTreeMap::new()).unwrap().render(&[]);
        assert_eq!(render("20").unwrap().len(), 16 << 20);
        let error = render("21").unwrap_err().to_string();
        assert!(error.contains("33554432 bytes of a conversation"), "{error}");
    }
}
