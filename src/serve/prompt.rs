//! From what was sent to what the model reads.

use super::fault::ApiError;
use super::request::{Asked, Input};
use super::served::Served;
use crate::engine::Prompt;
use crate::task::Message;

/// The prompt that an input stands for.
pub(super) fn prompt(served: &Served, asked: &Asked, input: &Input) -> Result<Prompt, ApiError> {
    let tokenizer = &served.tokenizer;
    let (field, prompt) = match input {
        Input::Text(text) => {
            ("prompt", Prompt { token_ids: tokenizer.encode(text, asked.special_tokens)?, text: text.clone() })
        }
        Input::Ids(ids) => {
            served.check_ids("prompt", ids)?;
            ("prompt", Prompt { text: tokenizer.decode(ids)?, token_ids: ids.clone() })
        }
        Input::Messages(messages) => {
            let text = render(served, messages, asked.thinking)?;
            ("messages", Prompt { token_ids: tokenizer.encode(&text, asked.special_tokens)?, text })
        }
    };
    let (tokens, context) = (prompt.token_ids.len(), served.context_tokens());
    if tokens == 0 {
        return Err(ApiError::field(field, "has no tokens: a model continues at least one"));
    }
    // A prompt that is only echoed needs no room behind it.
    let room = usize::from(asked.max_tokens != Some(0));
    if tokens + room > context {
        let why = format!("has {tokens} tokens, and the model's context of {context} holds the answer too");
        return Err(ApiError::field(field, why).coded("context_length_exceeded"));
    }
    Ok(prompt)
}

/// A conversation by the model's own template, as `evalsuite eval` renders it.
pub(super) fn render(served: &Served, messages: &[Message], thinking: Option<bool>) -> Result<String, ApiError> {
    let template = served.template.as_ref().ok_or_else(|| {
        ApiError::field(
            "messages",
            format!("cannot be rendered: {} has no chat template; ask /v1/completions", served.id),
        )
    })?;
    if template.accepts_system() {
        return Ok(template.render_thinking(messages, thinking)?);
    }
    Ok(template.render_thinking(&without_system(messages), thinking)?)
}

/// A system text in front of the first message of the user, for templates that have no place for it.
fn without_system(messages: &[Message]) -> Vec<Message> {
    let mut rest = messages.to_vec();
    while rest.len() > 1 && rest[0].role == "system" {
        let system = rest.remove(0);
        rest[0].content = format!("{}\n\n{}", system.content, rest[0].content);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_text_goes_before_the_users_where_a_template_has_no_place_for_it() {
        let messages = [Message::new("system", "be brief"), Message::new("user", "hi")];
        assert_eq!(without_system(&messages), [Message::new("user", "be brief\n\nhi")]);
        assert_eq!(without_system(&messages[1..]), [Message::new("user", "hi")]);
        assert_eq!(without_system(&messages[..1]), [Message::new("system", "be brief")]);
    }
}
