//! Log-probabilities in the API's two shapes: `/completions` has lists, chats have an object a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::fault::ApiError;
use crate::engine::model::ModelTokenizer;
use crate::engine::{TokenDetail, TopToken};

/// What is known of one token.
#[derive(Debug, Clone)]
pub(super) struct TokenProbability {
    pub(super) token: u32,
    /// `None` of the first token of a prompt, which nothing predicts.
    pub(super) log_probability: Option<f32>,
    pub(super) top: Vec<TopToken>,
}

impl TokenProbability {
    /// Of generated or scored tokens.
    pub(super) fn all<'a>(details: &'a [TokenDetail], top: &'a [Vec<TopToken>]) -> impl Iterator<Item = Self> + 'a {
        let none = Vec::new();
        details.iter().enumerate().map(move |(index, detail)| Self {
            token: detail.token,
            log_probability: Some(detail.log_probability),
            top: top.get(index).unwrap_or(&none).clone(),
        })
    }
}

/// What tokens are called.
#[derive(Debug)]
pub(super) struct TokenNames {
    tokenizer: Arc<ModelTokenizer>,
    /// `token_id:7` in place of texts.
    as_ids: bool,
    /// A token that others are decoded behind, for the first of a text may lose its space.
    anchor: Option<(u32, String)>,
}

impl TokenNames {
    pub(super) fn new(tokenizer: &Arc<ModelTokenizer>, as_ids: bool) -> Self {
        let anchor = tokenizer.encode("a", false).ok().and_then(|ids| ids.last().copied());
        let anchor = anchor.and_then(|id| Some((id, tokenizer.decode_with_special(&[id]).ok()?)));
        Self { tokenizer: Arc::clone(tokenizer), as_ids, anchor }
    }

    /// A token's own text, special tokens written out.
    fn text(&self, token: u32) -> Result<String, ApiError> {
        if let Some((anchor, before)) = &self.anchor
            && let Some(text) = self.tokenizer.decode_with_special(&[*anchor, token])?.strip_prefix(before.as_str())
        {
            return Ok(text.to_owned());
        }
        Ok(self.tokenizer.decode_with_special(&[token])?)
    }

    fn name(&self, token: u32) -> Result<String, ApiError> {
        if self.as_ids { Ok(by_id(token)) } else { self.text(token) }
    }
}

fn by_id(token: u32) -> String {
    format!("token_id:{token}")
}

/// The shape of `/completions`.
#[derive(Debug, Default, Serialize)]
pub(super) struct CompletionLogprobs {
    pub(super) text_offset: Vec<usize>,
    pub(super) token_logprobs: Vec<Option<f32>>,
    pub(super) tokens: Vec<String>,
    pub(super) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
}

/// Lists for these tokens, the first of which begins `offset` characters into the text; the offset behind them.
pub(super) fn completion_logprobs(
    names: &TokenNames,
    tokens: impl IntoIterator<Item = TokenProbability>,
    mut offset: usize,
) -> Result<(CompletionLogprobs, usize), ApiError> {
    let mut all = CompletionLogprobs::default();
    for one in tokens {
        all.text_offset.push(offset);
        offset += names.text(one.token)?.chars().count();
        all.tokens.push(names.name(one.token)?);
        all.token_logprobs.push(one.log_probability);
        all.top_logprobs.push(match one.log_probability {
            None => None,
            Some(own) => Some(named(names, &one.top, (one.token, own))?),
        });
    }
    Ok((all, offset))
}

/// The most probable tokens by their names, and the token itself. Where two have one name, the less probable is called by its id.
fn named(names: &TokenNames, top: &[TopToken], own: (u32, f32)) -> Result<BTreeMap<String, f32>, ApiError> {
    let mut map = BTreeMap::new();
    let listed = top.iter().any(|one| one.token == own.0);
    let own = (!listed).then_some(TopToken { token: own.0, log_probability: own.1 });
    for one in top.iter().chain(&own) {
        let name = names.name(one.token)?;
        let name = if map.contains_key(&name) { by_id(one.token) } else { name };
        map.insert(name, one.log_probability);
    }
    Ok(map)
}

/// A token in the shape of chats.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<ChatLogprob>>,
}

/// An object a token.
pub(super) fn chat_logprobs(
    names: &TokenNames,
    tokens: impl IntoIterator<Item = TokenProbability>,
) -> Result<Vec<ChatLogprob>, ApiError> {
    let one = |token: u32, logprob: f32, top_logprobs: Option<Vec<ChatLogprob>>| -> Result<ChatLogprob, ApiError> {
        let bytes = names.text(token)?.into_bytes();
        Ok(ChatLogprob { token: names.name(token)?, logprob, bytes, top_logprobs })
    };
    tokens
        .into_iter()
        .map(|known| {
            let top =
                known.top.iter().map(|top| one(top.token, top.log_probability, None)).collect::<Result<_, _>>()?;
            one(known.token, known.log_probability.unwrap_or_default(), Some(top))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{ModelSource, ModelSpec};
    use crate::hub::Hub;

    fn tokenizer() -> Arc<ModelTokenizer> {
        let spec = ModelSpec { source: "bundled".to_owned(), revision: "main".to_owned() };
        ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap().tokenizer
    }

    fn known(token: u32, log_probability: f32, top: &[(u32, f32)]) -> TokenProbability {
        let top =
            top.iter().map(|(token, log_probability)| TopToken { token: *token, log_probability: *log_probability });
        TokenProbability { token, log_probability: Some(log_probability), top: top.collect() }
    }

    #[test]
    fn texts_of_tokens_make_up_the_text_and_offsets_count_characters() {
        let tokenizer = tokenizer();
        let text = "Tom has 3 apples.";
        let ids = tokenizer.encode(text, false).unwrap();
        let names = TokenNames::new(&tokenizer, false);
        let (all, end) = completion_logprobs(&names, ids.iter().map(|id| known(*id, -1.0, &[])), 4).unwrap();
        assert_eq!(all.tokens.concat(), text);
        assert_eq!((all.text_offset[0], end), (4, 4 + text.chars().count()));
        // A byte of a character of two is one character: the mark of what is not known.
        let bytes = tokenizer.encode("é", false).unwrap();
        let (_, behind) = completion_logprobs(&names, bytes.iter().map(|id| known(*id, -1.0, &[])), 0).unwrap();
        assert_eq!(behind, bytes.len());
        let names = TokenNames::new(&tokenizer, true);
        let (all, _) = completion_logprobs(&names, [known(7, -1.0, &[(9, -0.5)])], 0).unwrap();
        assert_eq!(all.tokens, ["token_id:7"]);
        assert_eq!(all.top_logprobs[0].as_ref().unwrap().keys().collect::<Vec<_>>(), ["token_id:7", "token_id:9"]);
    }

    #[test]
    fn the_token_itself_is_among_the_most_probable_and_no_name_stands_twice() {
        let tokenizer = tokenizer();
        let names = TokenNames::new(&tokenizer, false);
        let bytes = tokenizer.encode("é", false).unwrap();
        assert!(bytes.len() > 1, "two bytes, both of which are called alike");
        let top = [(bytes[0], -0.25), (bytes[1], -2.0)];
        let map = named(&names, &top.map(|(token, log_probability)| TopToken { token, log_probability }), (30, -3.0))
            .unwrap();
        assert_eq!(map.len(), 3);
        assert_eq!((map["\u{fffd}"], map[&by_id(bytes[1])]), (-0.25, -2.0));
        assert_eq!(map.values().copied().fold(f32::NEG_INFINITY, f32::max), -0.25);
    }

    #[test]
    fn chats_have_an_object_a_token_with_its_bytes() {
        let tokenizer = tokenizer();
        let names = TokenNames::new(&tokenizer, false);
        let id = tokenizer.encode(" apples", false).unwrap()[0];
        let all = chat_logprobs(&names, [known(id, -0.5, &[(id, -0.5), (21, -1.5)])]).unwrap();
        assert_eq!(
            (all[0].token.as_str(), all[0].logprob, all[0].bytes.as_slice()),
            (" apples", -0.5, " apples".as_bytes())
        );
        let top = all[0].top_logprobs.as_ref().unwrap();
        assert_eq!((top.len(), top[1].logprob), (2, -1.5));
    }
}
