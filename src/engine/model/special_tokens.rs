//! The special tokens of a Hugging Face folder: what `tokenizer_config.json` and the older files beside it name, as
//! transformers puts them together.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::files::ModelFiles;
use crate::EngineError;

/// What every tokenizer may name.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What the tokenizer config says of every token that was added to the vocabulary.
const DECODER: &str = "added_tokens_decoder";

/// A list of special tokens without a name, or names for them; and the list's older name.
const EXTRA: &str = "extra_special_tokens";
const ADDITIONAL: &str = "additional_special_tokens";

/// Files of before [`DECODER`], read where the tokenizer config has none.
pub(super) const OLDER_FILES: [&str; 2] = ["special_tokens_map.json", "added_tokens.json"];

/// Whether the older files are read.
pub(super) fn reads_older_files(settings: Option<&Value>) -> bool {
    settings.and_then(|settings| settings.get(DECODER)).and_then(Value::as_object).is_none()
}

/// What the files name.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    /// By what they are for: `bos_token`, and names of the model's own.
    pub(super) named: BTreeMap<String, String>,
    /// The same tokens, as the files describe them.
    named_tokens: Vec<AddedToken>,
    /// Tokens of which the files say more than a name.
    described: Vec<AddedToken>,
    /// Those that have no name.
    more: Vec<AddedToken>,
}

impl SpecialTokens {
    /// Reads the files; `settings` is the tokenizer config.
    pub(super) fn read(files: &ModelFiles, settings: Option<&Value>) -> Result<Self, EngineError> {
        let empty = Map::new();
        let settings = settings.and_then(Value::as_object).unwrap_or(&empty);
        let mut tokens = Self::default();
        let decoder = settings.get(DECODER).and_then(Value::as_object);
        let older = if decoder.is_none() { files.json(OLDER_FILES[0])? } else { None };
        let older = older.as_ref().and_then(Value::as_object).unwrap_or(&empty);
        let own_name = |(key, value): &(&String, &Value)| key.ends_with("_token") && value.is_string();
        // What the older file says comes last, and so holds.
        for (key, value) in settings.iter().filter(own_name).chain(older) {
            tokens.name(key, value);
        }
        for key in NAMES {
            for section in [settings, older] {
                if let Some(value) = section.get(key) {
                    tokens.name(key, value);
                }
            }
        }
        for section in [settings, older] {
            for (key, value) in section.get(EXTRA).and_then(Value::as_object).into_iter().flatten() {
                tokens.name(key, value);
            }
        }
        let list = |section: &Map<String, Value>, key: &str| {
            let list = section.get(key).and_then(Value::as_array)?;
            Some(list.iter().filter_map(|token| described(token, true)).collect::<Vec<_>>())
        };
        // The newer name stands for the older one, too, and the older file's older name counts where there is no other.
        let own = list(settings, EXTRA).filter(|list| !list.is_empty()).or_else(|| list(settings, ADDITIONAL));
        let newer = list(older, EXTRA);
        let has_extra = own.is_some() || newer.is_some();
        tokens.more = own.into_iter().chain(newer).flatten().collect();
        let mut described: Vec<(u64, AddedToken)> = if let Some(decoder) = decoder {
            decoder
                .iter()
                .filter_map(|(id, token)| {
                    let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
                    Some((id.parse().ok()?, described(token, special)?))
                })
                .collect()
        } else if let Some(Value::Object(added)) = files.json(OLDER_FILES[1])? {
            let is_special = |text: &str| {
                let named = NAMES.iter().filter_map(|key| tokens.named.get(*key));
                named.chain(tokens.more.iter().map(|token| &token.content)).any(|token| token == text)
            };
            added
                .iter()
                .filter_map(|(text, id)| Some((id.as_u64()?, AddedToken::from(text, is_special(text)))))
                .collect()
        } else {
            Vec::new()
        };
        described.sort_by_key(|(id, _)| *id);
        tokens.described = described.into_iter().map(|(_, token)| token).collect();
        if !has_extra {
            tokens.more = list(older, ADDITIONAL).unwrap_or_default();
        }
        Ok(tokens)
    }

    fn name(&mut self, key: &str, value: &Value) {
        if let Some(token) = described(value, true) {
            self.named.insert(key.to_owned(), token.content.clone());
            self.named_tokens.push(token);
        } else if value.is_null() {
            self.named.remove(key);
        }
    }

    /// Makes them tokens of the tokenizer, special ones special: those that it does not have get the next ids, as in
    /// transformers. `known` are special whatever the files say, where the vocabulary has them.
    pub(super) fn add_to(&self, tokenizer: &mut Tokenizer, known: &[&str]) -> Result<(), tokenizers::Error> {
        let there: BTreeMap<String, AddedToken> =
            tokenizer.get_added_tokens_decoder().into_values().map(|token| (token.content.clone(), token)).collect();
        let is_named = |token: &AddedToken| self.named.values().any(|text| *text == token.content);
        let mut new: Vec<AddedToken> = Vec::new();
        for token in &self.described {
            if there.get(&token.content) != Some(token) {
                new.push(token.clone().special(token.special || is_named(token)));
            }
        }
        let named = self.named_tokens.iter().rev().filter(|token| is_named(token)).cloned();
        let known = known.iter().filter(|text| tokenizer.token_to_id(text).is_some());
        for token in named.chain(self.more.iter().cloned()).chain(known.map(|text| AddedToken::from(*text, true))) {
            let is_there = there.contains_key(&token.content) || new.iter().any(|other| other.content == token.content);
            if !is_there {
                new.push(token);
            }
        }
        tokenizer.add_tokens(new).map(|_| ())
    }
}

/// A token: its text, or an object with `content` and with what it takes along of a text around it.
fn described(value: &Value, special: bool) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, special));
    }
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}
