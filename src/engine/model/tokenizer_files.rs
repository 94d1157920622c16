//! The tokenizer of a Hugging Face folder: `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt` for OPT.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab};

use super::files::ModelFiles;
use super::special_tokens::{self, SpecialTokens};
use super::tokenizer::{part, special_token_frame, turn_off_dropout};
use super::{Family, FileHash, ModelTokenizer, TokenizerFacts, family, tokenizer_bounds};
use crate::EngineError;
use crate::fault::caught;
use crate::files;

/// The files beside the tokenizer proper that decide what a text's tokens are and where generation ends.
pub(super) const SURROUNDING_FILES: [&str; 6] = [
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    special_tokens::OLDER_FILES[0],
    special_tokens::OLDER_FILES[1],
];

/// Those of a folder that are read.
pub(super) fn deciding(files: &ModelFiles) -> Result<Vec<&'static str>, EngineError> {
    let mut names = choose(files.names());
    let older = special_tokens::reads_older_files(files.json("tokenizer_config.json")?.as_ref());
    names.extend(SURROUNDING_FILES.iter().filter(|name| older || !special_tokens::OLDER_FILES.contains(name)));
    Ok(names)
}

/// The names of the files that make up the tokenizer proper, out of `names`.
pub(super) fn choose<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let names: BTreeSet<&str> = names.collect();
    if names.contains("tokenizer.json") {
        vec!["tokenizer.json"]
    } else if names.contains("vocab.json") && names.contains("merges.txt") {
        vec!["vocab.json", "merges.txt"]
    } else {
        Vec::new()
    }
}

/// Reads the tokenizer of a folder whose config.json is `config`; `facts` are its family's.
pub(super) fn read(files: &ModelFiles, config: &Value, facts: &TokenizerFacts) -> Result<ModelTokenizer, EngineError> {
    let chosen = choose(files.names());
    let settings = files.json("tokenizer_config.json")?;
    let generation = files.json("generation_config.json")?;
    let mut tokenizer = match chosen[..] {
        ["tokenizer.json"] => tokenizer_json(files)?,
        [_, _] if facts.vocabulary_and_merges => vocabulary_and_merges(files)?,
        _ => return Err(missing(files)),
    };
    let notes = turn_off_dropout(&mut tokenizer).into_iter().collect();
    // A tokenizer.json may carry the truncation and padding of its training; transformers drops both for generation.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| unusable(files, "tokenizer.json", &error))?;
    let settings = settings.as_ref();
    let special = SpecialTokens::read(files, settings)?;
    special
        .add_to(&mut tokenizer, facts.special_tokens)
        .map_err(|error| unusable(files, "tokenizer_config.json", &error))?;

    let named = |key: &str| special.named.get(key).cloned();
    let with_id = |token: String| tokenizer.token_to_id(&token).map(|id| (token, id));
    // Where there is a tokenizer config its word holds, `null` included: Qwen2's config has a BOS id that its
    // tokenizer does not know. Without one the ids of config.json are all there is.
    let by_config = |key: &str| {
        let id = token_ids(config.get(key)).first().copied();
        let id = id.filter(|_| settings.is_none() || facts.config_names_ends)?;
        tokenizer.id_to_token(id).map(|token| (token, id))
    };
    let bos = named("bos_token").and_then(with_id).or_else(|| by_config("bos_token_id"));
    let eos = named("eos_token").and_then(with_id).or_else(|| by_config("eos_token_id"));
    let mut eos_ids: BTreeSet<u32> = token_ids(config.get("eos_token_id")).into_iter().collect();
    eos_ids.extend(token_ids(generation.as_ref().and_then(|json| json.get("eos_token_id"))));
    eos_ids.extend(eos.as_ref().map(|(_, id)| *id));

    if let Some((front, back)) = frame(settings, facts) {
        let borrow = |token: &Option<(String, u32)>, wanted: bool, key: &str| match token {
            Some((text, id)) if wanted => Ok(Some((text.clone(), *id))),
            None if wanted => Err(EngineError::invalid(
                format!("tokenizer_config.json of {} adds a token that it does not name: `{key}`", files.place),
                format!("name `{key}` in tokenizer_config.json, as a token of the vocabulary"),
            )),
            _ => Ok(None),
        };
        let (front, back) = (borrow(&bos, front, "bos_token")?, borrow(&eos, back, "eos_token")?);
        tokenizer.with_post_processor(special_token_frame(
            front.as_ref().map(|(token, id)| (token.as_str(), *id)),
            back.as_ref().map(|(token, id)| (token.as_str(), *id)),
        )?);
    }
    Ok(ModelTokenizer {
        tokenizer,
        chat_template: chat_template(files, settings)?,
        bos_id: bos.as_ref().map(|(_, id)| *id),
        bos_token: bos.map(|(token, _)| token),
        eos_token: eos.map(|(token, _)| token),
        named_tokens: special.named,
        eos_ids,
        sha256: FileHash::known(digest(files, &chosen)?),
        notes,
    })
}

fn tokenizer_json(files: &ModelFiles) -> Result<Tokenizer, EngineError> {
    let text = files.text("tokenizer.json")?.unwrap_or_default();
    tokenizer_bounds::check(&text).map_err(|why| unusable(files, "tokenizer.json", &why.into()))?;
    let read = caught(|| Tokenizer::from_bytes(text.as_bytes())).unwrap_or_else(|| Err("it is damaged".into()));
    read.map_err(|error| unusable(files, "tokenizer.json", &error))
}

/// GPT-2's byte-level byte-pair encoding from its two files.
fn vocabulary_and_merges(files: &ModelFiles) -> Result<Tokenizer, EngineError> {
    let json = files.json("vocab.json")?.unwrap_or_default();
    let vocabulary: HashMap<String, u32> =
        serde_json::from_value(json).map_err(|error| unusable(files, "vocab.json", &error.into()))?;
    let text = files.text("merges.txt")?.unwrap_or_default();
    let mut merges = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")) {
        match line.split_once(' ') {
            Some((left, right)) => merges.push((left.to_owned(), right.to_owned())),
            None => return Err(unusable(files, "merges.txt", &format!("`{line}` is not a pair").into())),
        }
    }
    let vocabulary: Vocab = vocabulary.into_iter().collect();
    let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).build();
    let mut tokenizer = Tokenizer::new(bpe.map_err(|error| unusable(files, "merges.txt", &error))?);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    tokenizer.with_pre_tokenizer(Some(part::<tokenizers::PreTokenizerWrapper>(bytes.clone())?));
    tokenizer.with_decoder(Some(part::<tokenizers::DecoderWrapper>(bytes)?));
    Ok(tokenizer)
}

/// Whether BOS and EOS are put around a text, where the tokenizer config decides it and not tokenizer.json: BOS yes, EOS
/// no, unless it says otherwise.
fn frame(settings: Option<&Value>, facts: &TokenizerFacts) -> Option<(bool, bool)> {
    let flag = |key: &str| settings.and_then(|settings| settings.get(key)).and_then(Value::as_bool);
    let class = settings.and_then(|settings| settings.get("tokenizer_class")).and_then(Value::as_str);
    let frames = |family: &Family| class.is_some_and(|class| family.entry().tokenizer.framing_classes.contains(&class));
    (facts.adds_bos || family::ALL.iter().any(frames))
        .then(|| (flag("add_bos_token").unwrap_or(true), flag("add_eos_token").unwrap_or(false)))
}

/// `chat_template.jinja`, else `chat_template.json`, else the tokenizer config's, where a list means `default`.
fn chat_template(files: &ModelFiles, settings: Option<&Value>) -> Result<Option<String>, EngineError> {
    if let Some(text) = files.text("chat_template.jinja")? {
        return Ok(Some(text));
    }
    let own = files.json("chat_template.json")?;
    let template = own.as_ref().or(settings).and_then(|json| json.get("chat_template"));
    match template {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            let text = default.and_then(|entry| entry.get("template")).and_then(Value::as_str);
            text.map(|text| Some(text.to_owned())).ok_or_else(|| {
                EngineError::invalid(
                    format!("none of the {} chat templates of {} is named `default`", named.len(), files.place),
                    "put the one that is meant into chat_template.jinja beside config.json",
                )
            })
        }
        Some(_) => Err(EngineError::invalid(
            format!("the chat template of {} is neither a string nor a list", files.place),
            "put the template into chat_template.jinja beside config.json",
        )),
    }
}

/// One id, or a list of them, or none.
fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().map(|id| u32::try_from(id).unwrap_or(u32::MAX));
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn digest(files: &ModelFiles, chosen: &[&str]) -> Result<String, EngineError> {
    match chosen {
        [single] => files.sha256(single),
        several => {
            let digests = several.iter().map(|name| files.sha256(name)).collect::<Result<Vec<_>, _>>()?;
            Ok(files::sha256(digests.concat().as_bytes()))
        }
    }
}

fn missing(files: &ModelFiles) -> EngineError {
    let hint = if files.contains("tokenizer.model") {
        "there is only SentencePiece's tokenizer.model: load it with transformers' AutoTokenizer and save_pretrained it, \
         which writes tokenizer.json"
    } else {
        "copy tokenizer.json from the model's repository into the folder"
    };
    EngineError::invalid(format!("no tokenizer.json in {}", files.place), hint)
}

fn unusable(files: &ModelFiles, name: &str, error: &tokenizers::Error) -> EngineError {
    EngineError::invalid(
        format!("{name} in {} cannot be used as a tokenizer: {error}", files.place),
        "fetch the file again; it may be cut off, or of a newer format than this program's tokenizers library",
    )
}
