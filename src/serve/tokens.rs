//! What a client asks of the tokenizer: `/tokenize`, `/detokenize`, `/tokenizer_info`, in vLLM's shapes.

use serde_json::{Value, json};

use super::fault::ApiError;
use super::fields::Fields;
use super::prompt::render;
use super::request::messages;
use super::served::{Models, Served};

/// Token ids of a text or of a conversation.
pub(super) fn tokenize(models: &Models, body: &[u8]) -> Result<Value, ApiError> {
    let mut fields = Fields::read(body)?;
    let served = models.get(fields.text("model")?.as_deref())?;
    let (text, special) = match fields.text("prompt")? {
        Some(text) => (text, true),
        None => (render(served, &messages(&mut fields)?, None)?, false),
    };
    let special = fields.bool("add_special_tokens")?.unwrap_or(special);
    let tokens = served.tokenizer.encode(&text, special)?;
    let spelled = |id: &u32| served.tokenizer.id_to_token(*id).unwrap_or_default();
    let token_strs = fields.bool("return_token_strs")?.unwrap_or(false);
    let token_strs = token_strs.then(|| tokens.iter().map(spelled).collect::<Vec<_>>());
    Ok(json!({
        "count": tokens.len(), "max_model_len": served.context_tokens(), "tokens": tokens, "token_strs": token_strs,
    }))
}

/// The text of token ids, special tokens written out.
pub(super) fn detokenize(models: &Models, body: &[u8]) -> Result<Value, ApiError> {
    let mut fields = Fields::read(body)?;
    let served = models.get(fields.text("model")?.as_deref())?;
    let tokens = fields.ids("tokens")?.ok_or_else(|| ApiError::field("tokens", "is missing"))?;
    served.check_ids("tokens", &tokens)?;
    Ok(json!({"prompt": served.tokenizer.decode_with_special(&tokens)?}))
}

/// What a client needs to make prompts itself.
pub(super) fn tokenizer_info(served: &Served) -> Value {
    let tokenizer = &served.tokenizer;
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": tokenizer.chat_template,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "eos_token_ids": tokenizer.eos_ids,
        "tokenizer_sha256": tokenizer.sha256.wait().ok(),
        "model_max_length": served.context_tokens(),
    })
}
