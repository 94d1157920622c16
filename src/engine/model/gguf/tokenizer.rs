//! The tokenizer and chat template inside a GGUF file.

use std::collections::BTreeSet;

use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::{AddedToken, Tokenizer};

use super::{Header, sentencepiece};
use crate::EngineError;
use crate::fault::Fault;
use crate::model::tokenizer::{part, special_token_frame};
use crate::model::{Family, ModelTokenizer};

/// Words as GPT-4's pre-tokenizer cuts them; digits are cut by the part in the middle.
const WORDS_BEFORE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|";
const WORDS_AFTER_DIGITS: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pre-tokenizers that `tokenizer.ggml.pre` may name.
const PRE_TOKENIZERS: [&str; 5] = ["default", "gpt-2", "smollm", "qwen2", "llama-bpe"];

/// `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// The tokenizer that a family's GGUF file holds; `sha256` is the file's.
pub(in crate::model) fn model_tokenizer(
    header: &Header,
    family: Family,
    sha256: &str,
) -> Result<ModelTokenizer, EngineError> {
    let tokens = header.texts("tokenizer.ggml.tokens")?.ok_or_else(|| header.missing("tokenizer.ggml.tokens"))?;
    let kinds = parallel(header, "tokenizer.ggml.token_type", tokens.len())?.unwrap_or_default();
    let kinds: Vec<i64> = kinds.into_iter().map(|kind| kind as i64).collect();
    let model = header.text("tokenizer.ggml.model")?.ok_or_else(|| header.missing("tokenizer.ggml.model"))?;
    let (mut tokenizer, bos_by_default) = match model {
        "gpt2" => byte_level(header, &tokens)?,
        "llama" => (sentence_piece(header, &tokens, &kinds)?, true),
        other => {
            let Fault { what, hint } = Fault::unknown("tokenizer model", other, &["gpt2", "llama"]);
            return Err(EngineError::invalid(format!("{}: {what}", header.path.display()), hint));
        }
    };
    let added = |chosen: &[i64], special: bool| -> Vec<AddedToken> {
        let chosen = tokens.iter().zip(&kinds).filter(|(_, kind)| chosen.contains(kind));
        chosen.map(|(token, _)| AddedToken::from((*token).to_owned(), special).normalized(false)).collect()
    };
    let special =
        if model == "llama" { &[token_type::UNKNOWN, token_type::CONTROL][..] } else { &[token_type::CONTROL] };
    tokenizer
        .add_special_tokens(added(special, true))
        .and_then(|_| tokenizer.add_tokens(added(&[token_type::USER_DEFINED], false)))
        .map_err(|error| unusable(header, &error))?;

    let token_of = |key: &str| -> Result<Option<(String, u32)>, EngineError> {
        let Some(id) = header.count(key)? else { return Ok(None) };
        let token = tokens.get(id).ok_or_else(|| {
            header.refused(key, &format!("{id}, but there are {} tokens", tokens.len()), "convert the model anew")
        })?;
        Ok(Some(((*token).to_owned(), id as u32)))
    };
    let bos = token_of("tokenizer.ggml.bos_token_id")?;
    let eos = token_of("tokenizer.ggml.eos_token_id")?;
    let end_of_turn = token_of("tokenizer.ggml.eot_token_id")?;
    let front = header.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_by_default);
    let back = header.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    tokenizer.with_post_processor(special_token_frame(
        bos.as_ref().filter(|_| front).map(|(token, id)| (token.as_str(), *id)),
        eos.as_ref().filter(|_| back).map(|(token, id)| (token.as_str(), *id)),
    )?);
    let bos = bos.filter(|_| family.entry().gguf.as_ref().is_none_or(|gguf| gguf.has_bos));
    Ok(ModelTokenizer {
        tokenizer,
        chat_template: header.text("tokenizer.chat_template")?.map(str::to_owned),
        bos_id: bos.as_ref().map(|(_, id)| *id),
        bos_token: bos.map(|(token, _)| token),
        eos_ids: eos.iter().chain(&end_of_turn).map(|(_, id)| *id).collect::<BTreeSet<_>>(),
        eos_token: eos.map(|(token, _)| token),
        sha256: sha256.to_owned(),
        notes: Vec::new(),
    })
}

/// GPT-2's byte-level byte-pair encoding, and whether BOS is put in front unless the file says otherwise.
fn byte_level(header: &Header, tokens: &[&str]) -> Result<(Tokenizer, bool), EngineError> {
    let pre = header.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let words = |digits: &str| {
        let regex = format!("{WORDS_BEFORE_DIGITS}{digits}{WORDS_AFTER_DIGITS}");
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
    };
    let pre_tokenizer = match pre {
        "default" | "gpt-2" => bytes(true),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]})
        }
        "qwen2" => words(r"\p{N}"),
        "llama-bpe" => words(r"\p{N}{1,3}"),
        other => {
            let Fault { what, hint } = Fault::unknown("pre-tokenizer", other, &PRE_TOKENIZERS);
            return Err(EngineError::invalid(format!("{}: {what}", header.path.display()), hint));
        }
    };
    let merges = header.texts("tokenizer.ggml.merges")?.ok_or_else(|| header.missing("tokenizer.ggml.merges"))?;
    let merges = merges.into_iter().map(|merge| {
        merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())).ok_or_else(|| {
            header.refused("tokenizer.ggml.merges", &format!("`{merge}`, not a pair"), "convert the model anew")
        })
    });
    let llama3 = pre == "llama-bpe";
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), merges.collect::<Result<Vec<_>, _>>()?)
        .ignore_merges(llama3);
    let mut tokenizer = build(header, bpe)?;
    if pre == "qwen2" {
        let nfc = part::<tokenizers::NormalizerWrapper>(json!({"type": "NFC"}))?;
        tokenizer.with_normalizer(Some(nfc)).map_err(|error| unusable(header, &error))?;
    }
    tokenizer.with_pre_tokenizer(Some(part::<tokenizers::PreTokenizerWrapper>(pre_tokenizer)?));
    tokenizer.with_decoder(Some(part::<tokenizers::DecoderWrapper>(bytes(true))?));
    Ok((tokenizer, llama3))
}

/// Llama's `SentencePiece` model: scores instead of merges, unknown characters as bytes, spaces as `▁`.
fn sentence_piece(header: &Header, tokens: &[&str], kinds: &[i64]) -> Result<Tokenizer, EngineError> {
    let key = "tokenizer.ggml.scores";
    let scores = parallel(header, key, tokens.len())?.ok_or_else(|| header.missing(key))?;
    let mut bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), sentencepiece::merges(tokens, &scores))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = kinds.iter().position(|kind| *kind == token_type::UNKNOWN) {
        bpe = bpe.unk_token(tokens[unknown].to_owned());
    }
    let mut tokenizer = build(header, bpe)?;
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let back = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let (mut normalizers, mut decoders) =
        (Vec::new(), vec![back, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})]);
    if header.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.push(json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    normalizers.push(spaces);
    let normalizer: tokenizers::NormalizerWrapper = part(json!({"type": "Sequence", "normalizers": normalizers}))?;
    tokenizer.with_normalizer(Some(normalizer)).map_err(|error| unusable(header, &error))?;
    let decoder: tokenizers::DecoderWrapper = part(json!({"type": "Sequence", "decoders": decoders}))?;
    tokenizer.with_decoder(Some(decoder));
    Ok(tokenizer)
}

fn vocabulary(tokens: &[&str]) -> Vocab {
    tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id as u32)).collect()
}

fn build(header: &Header, bpe: BpeBuilder) -> Result<Tokenizer, EngineError> {
    bpe.build().map(Tokenizer::new).map_err(|error| unusable(header, &error))
}

/// An array that has one number a token.
fn parallel(header: &Header, key: &str, length: usize) -> Result<Option<Vec<f64>>, EngineError> {
    match header.numbers(key)? {
        Some(numbers) if numbers.len() != length => {
            let what = format!("{} long, but there are {length} tokens", numbers.len());
            Err(header.refused(key, &what, "convert the model anew"))
        }
        numbers => Ok(numbers),
    }
}

fn unusable(header: &Header, error: &tokenizers::Error) -> EngineError {
    EngineError::invalid(
        format!("{}: its tokenizer cannot be used: {error}", header.path.display()),
        "convert the model anew with a current llama.cpp",
    )
}
