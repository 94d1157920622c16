//! The model's chat template: whether a job uses it.

use std::collections::BTreeMap;

use super::{JobError, Model};
use crate::task::{ChatTemplate, ChatUse};

/// Leaves a conversation as it is, for a server to render.
const AS_MESSAGES: &str = "{{ messages | tojson }}";

/// The model's chat template, where it is to be used; `who` asks for it.
pub(crate) fn chat_template(
    model: &Model,
    chat: ChatUse,
    who: &str,
    notes: &mut Vec<String>,
) -> Result<Option<ChatTemplate>, JobError> {
    if model.takes_messages() {
        return Ok(Some(ChatTemplate::own(AS_MESSAGES, &BTreeMap::new())?));
    }
    let tokenizer = model.tokenizer();
    let template = match chat {
        ChatUse::Never => None,
        ChatUse::Auto | ChatUse::Required => tokenizer.and_then(|tokenizer| tokenizer.chat_template.as_deref()),
    };
    match (chat, template) {
        (ChatUse::Required, None) => {
            return Err(JobError::invalid(
                format!("{who} needs a chat template, and the model {} has none", model.name()),
                "choose the instruction-tuned variant of the model, or give `--chat never` for plain text",
            ));
        }
        (ChatUse::Auto, None) => notes.push(format!(
            "the model {} has no chat template: prompts are plain text (`--chat required` makes this an error)",
            model.name()
        )),
        _ => {}
    }
    let tokens = tokenizer.map(|tokenizer| tokenizer.named_tokens.clone()).unwrap_or_default();
    Ok(template.map(|source| ChatTemplate::new(source, &tokens)).transpose()?)
}
