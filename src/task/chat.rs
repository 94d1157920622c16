//! Chat templates: the Jinja text that a model's tokenizer carries.

use serde::Serialize;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {}

impl ChatTemplate {
    /// Compiles a template as transformers would (trim and lstrip blocks, `raise_exception`, `strftime_now`).
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, super::TaskError> {
        let _ = (source, bos_token, eos_token);
        todo!()
    }

    /// The conversation as text, ready for the assistant's reply.
    pub fn render(&self, messages: &[Message]) -> Result<String, super::TaskError> {
        let _ = messages;
        todo!()
    }
}
