//! A model's tokenizer with what surrounds it: chat template, special tokens, ends of sequence.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::FileHash;
use crate::EngineError;
use crate::fault::caught;

/// The tokenizer and the facts that config, generation config and tokenizer config hold about it.
#[derive(Debug)]
pub struct ModelTokenizer {
    /// The tokenizer proper.
    pub tokenizer: Tokenizer,
    /// Jinja source, where the model has one.
    pub chat_template: Option<String>,
    /// Text of the BOS token, where there is one.
    pub bos_token: Option<String>,
    /// Id of the BOS token.
    pub bos_id: Option<u32>,
    /// Text of the EOS token, where there is one.
    pub eos_token: Option<String>,
    /// Special tokens by what the files call them: `bos_token`, `pad_token`, names of the model's own. What a chat template
    /// finds defined.
    pub named_tokens: BTreeMap<String, String>,
    /// Every end of sequence that config, generation config and tokenizer config name together.
    pub eos_ids: BTreeSet<u32>,
    /// SHA-256 of the tokenizer's file (of the whole file, where it is part of a GGUF file).
    pub sha256: FileHash,
    /// What the user should know: what of the file is not heeded.
    pub notes: Vec<String>,
}

impl ModelTokenizer {
    /// Token ids of a text, with the model's own special tokens around it (BOS) if asked for. Special tokens written
    /// out in the text become their ids either way.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, EngineError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, add_special_tokens));
        let encoding = encoding.map_err(|error| cannot_encode(text, &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// [`ModelTokenizer::encode`], and where in the text each token ends, in bytes. A token that the model puts around
    /// the text ends where the one before it does.
    pub fn encode_with_ends(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<(Vec<u32>, Vec<usize>), EngineError> {
        let encoding = guarded(|| self.tokenizer.encode(text, add_special_tokens));
        let encoding = encoding.map_err(|error| cannot_encode(text, &error))?;
        let mut end = 0;
        let ends = encoding.get_offsets().iter().map(|(_, own_end)| {
            end = end.max(*own_end);
            end
        });
        Ok((encoding.get_ids().to_vec(), ends.collect()))
    }

    /// The text of token ids, special tokens left out; spaces stay as they are.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.decode_as(ids, true)
    }

    /// The text of token ids, special tokens written out.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.decode_as(ids, false)
    }

    fn decode_as(&self, ids: &[u32], skip_special: bool) -> Result<String, EngineError> {
        guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|error| {
            EngineError::invalid(
                format!("the tokenizer cannot decode {} tokens: {error}", ids.len()),
                "check the `decoder` of tokenizer.json",
            )
        })
    }

    /// A token as the vocabulary spells it (`Ġthe`, `<|im_end|>`), if there is one of this id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Refuses a tokenizer of another model. Tokens that the embedding table has no row for may be there, and are noted:
    /// a prompt that holds one is refused.
    pub(super) fn check_against(&mut self, vocabulary: usize, place: &str) -> Result<(), EngineError> {
        let disagree = |what: String| {
            EngineError::invalid(
                format!("tokenizer and config of {place} disagree: {what}, but the model has {vocabulary} tokens"),
                "take all files from one repository and one revision",
            )
        };
        let tokens = self.tokenizer.get_vocab(true);
        let beyond: Vec<u32> = tokens.values().copied().filter(|id| *id as usize >= vocabulary).collect();
        if tokens.is_empty() {
            return Err(disagree("the tokenizer has no tokens".to_owned()));
        }
        if let Some(id) =
            self.eos_ids.iter().chain(&self.bos_id).find(|id| **id as usize >= vocabulary && !beyond.contains(id))
        {
            return Err(disagree(format!("{id} is named as a begin or end of sequence")));
        }
        if beyond.len() == tokens.len() {
            return Err(disagree("the tokenizer's ids begin beyond them".to_owned()));
        }
        if let Some(first) = beyond.iter().min() {
            let what = if beyond.len() == 1 {
                "one token that the model does not have"
            } else {
                "tokens that the model does not have"
            };
            let name = self.id_to_token(*first).unwrap_or_default();
            self.notes.push(format!(
                "the tokenizer of {place} knows {what}, from `{name}` ({first}) on, where the embedding has {vocabulary} \
                 rows: a prompt that holds one is refused"
            ));
        }
        Ok(())
    }
}

/// Runs the tokenizers library, which panics on some of what a tokenizer.json may say.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    caught(work).unwrap_or_else(|| Err("it is damaged".into()))
}

fn cannot_encode(text: &str, error: &tokenizers::Error) -> EngineError {
    EngineError::invalid(
        format!("the tokenizer cannot encode a text of {} bytes: {error}", text.len()),
        "check tokenizer.json: its pre-tokenizer or its model lacks what this text needs",
    )
}

/// Turns off BPE dropout, by which a text has other tokens each time: training wants that, and no answer could be had again. What was
/// turned off, in words.
pub(super) fn turn_off_dropout(tokenizer: &mut Tokenizer) -> Option<String> {
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return None };
    let dropout = bpe.dropout.filter(|dropout| *dropout > 0.0)?;
    let mut bpe = bpe.clone();
    bpe.dropout = None;
    tokenizer.with_model(bpe);
    Some(format!(
        "tokenizer.json has a dropout of {dropout}, by which a text has other tokens each time; it is turned off"
    ))
}

/// The post-processor that puts `bos` in front of a text and `eos` behind it.
pub(super) fn special_token_frame(
    bos: Option<(&str, u32)>,
    eos: Option<(&str, u32)>,
) -> Result<Option<PostProcessorWrapper>, EngineError> {
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    let piece = |token: &(&str, u32)| json!({"SpecialToken": {"id": token.0, "type_id": 0}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let entry =
        |token: &(&str, u32)| (token.0.to_owned(), json!({"id": token.0, "ids": [token.1], "tokens": [token.0]}));
    let single: Vec<Value> = bos.iter().map(piece).chain([text("A", 0)]).chain(eos.iter().map(piece)).collect();
    let pair: Vec<Value> = single.iter().cloned().chain([text("B", 1)]).collect();
    let special_tokens: serde_json::Map<String, Value> = bos.iter().chain(&eos).map(entry).collect();
    part(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens}))
        .map(Some)
}

/// A part of a tokenizer from the JSON that tokenizer.json would hold for it.
pub(super) fn part<T: DeserializeOwned>(json: Value) -> Result<T, EngineError> {
    serde_json::from_value(json).map_err(|error| {
        EngineError::failed(format!("a tokenizer part cannot be made: {error}"), "report this with the model's name")
    })
}
