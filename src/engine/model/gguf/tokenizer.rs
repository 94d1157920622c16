//! The tokenizer and chat template inside a GGUF file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::{AddedToken, Tokenizer};

use super::{Header, sentencepiece};
use crate::EngineError;
use crate::fault::Fault;
use crate::model::tokenizer::{part, special_token_frame};
use crate::model::{Family, FileHash, ModelTokenizer};

/// Words as GPT-4's pre-tokenizer cuts them; digits are cut by the part in the middle.
const WORDS_BEFORE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|";
const WORDS_AFTER_DIGITS: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is cut into words before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreTokenizer {
    Gpt2,
    SmolLm,
    Qwen2,
    Llama3,
    /// o200k, of which gpt-oss's is.
    Gpt4o,
}

/// How o200k cuts a text (tiktoken).
const WORDS_OF_GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// What `tokenizer.ggml.pre` may name, as llama.cpp reads the names.
const PRE_TOKENIZERS: [(PreTokenizer, &[&str]); 5] = [
    (
        PreTokenizer::Gpt2,
        &[
            "default",
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
        ],
    ),
    (PreTokenizer::SmolLm, &["smollm"]),
    (PreTokenizer::Qwen2, &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"]),
    (
        PreTokenizer::Llama3,
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
    ),
    (PreTokenizer::Gpt4o, &["gpt-4o"]),
];

/// Tokens that end a turn by their text, whatever the file says of them, as llama.cpp knows them.
const ENDS_OF_TURN: [&str; 14] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Special tokens by transformers' names, and by llama.cpp's in front of `_token_id`.
const NAMED_TOKENS: [(&str, &str); 7] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("sep_token", "seperator"),
    ("pad_token", "padding"),
    ("cls_token", "cls"),
    ("mask_token", "mask"),
];

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
    sha256: &FileHash,
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
        let is_chosen = |(token, kind): &(&&str, &i64)| {
            if ENDS_OF_TURN.contains(token) { special } else { chosen.contains(kind) }
        };
        let chosen = tokens.iter().zip(&kinds).filter(is_chosen);
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
    let end_of_message = token_of("tokenizer.ggml.eom_token_id")?;
    // Messages within a turn of gpt-oss end by `<|end|>`, the turn itself by one of these two.
    let within_turn = ["<|return|>", "<|call|>"].iter().all(|token| tokens.contains(token)).then_some("<|end|>");
    let ends_turn = |token: &str| ENDS_OF_TURN.contains(&token) && Some(token) != within_turn;
    let by_text = tokens.iter().enumerate().filter(|(_, token)| ends_turn(token)).map(|(id, _)| id as u32);
    let front = header.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_by_default);
    let back = header.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    tokenizer.with_post_processor(special_token_frame(
        bos.as_ref().filter(|_| front).map(|(token, id)| (token.as_str(), *id)),
        eos.as_ref().filter(|_| back).map(|(token, id)| (token.as_str(), *id)),
    )?);
    let mut named_tokens = BTreeMap::new();
    for (name, key) in NAMED_TOKENS {
        // llama.cpp reads over an id that there is no token of.
        let id = header.count(&format!("tokenizer.ggml.{key}_token_id"))?;
        if let Some(token) = id.and_then(|id| tokens.get(id)) {
            named_tokens.insert(name.to_owned(), (*token).to_owned());
        }
    }
    let bos = bos.filter(|_| family.entry().gguf.as_ref().is_none_or(|gguf| gguf.has_bos));
    if bos.is_none() {
        named_tokens.remove("bos_token");
    }
    Ok(ModelTokenizer {
        tokenizer,
        chat_template: header.text("tokenizer.chat_template")?.map(str::to_owned),
        bos_id: bos.as_ref().map(|(_, id)| *id),
        bos_token: bos.map(|(token, _)| token),
        eos_ids: eos
            .iter()
            .chain(&end_of_turn)
            .chain(&end_of_message)
            .map(|(_, id)| *id)
            .chain(by_text)
            .collect::<BTreeSet<_>>(),
        eos_token: eos.map(|(token, _)| token),
        named_tokens,
        sha256: sha256.clone(),
        notes: Vec::new(),
    })
}

/// GPT-2's byte-level byte-pair encoding, and whether BOS is put in front unless the file says otherwise.
fn byte_level(header: &Header, tokens: &[&str]) -> Result<(Tokenizer, bool), EngineError> {
    let pre = header.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split_by = |regex: String| {
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
    };
    let words = |digits: &str| split_by(format!("{WORDS_BEFORE_DIGITS}{digits}{WORDS_AFTER_DIGITS}"));
    let known = PRE_TOKENIZERS.iter().find(|(_, names)| names.contains(&pre)).map(|(known, _)| *known);
    let known = known.ok_or_else(|| {
        let names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|(_, names)| *names).copied().collect();
        let Fault { what, hint } = Fault::unknown("pre-tokenizer", pre, &names);
        EngineError::invalid(format!("{}: {what}", header.path.display()), hint)
    })?;
    let pre_tokenizer = match known {
        PreTokenizer::Gpt2 => bytes(true),
        PreTokenizer::SmolLm => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]})
        }
        PreTokenizer::Qwen2 => words(r"\p{N}"),
        PreTokenizer::Llama3 => words(r"\p{N}{1,3}"),
        PreTokenizer::Gpt4o => split_by(WORDS_OF_GPT_4O.to_owned()),
    };
    let merges = header.texts("tokenizer.ggml.merges")?.ok_or_else(|| header.missing("tokenizer.ggml.merges"))?;
    let merges = merges.into_iter().map(|merge| {
        merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())).ok_or_else(|| {
            header.refused("tokenizer.ggml.merges", &format!("`{merge}`, not a pair"), "convert the model anew")
        })
    });
    let llama3 = known == PreTokenizer::Llama3;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), merges.collect::<Result<Vec<_>, _>>()?)
        .ignore_merges(llama3);
    let mut tokenizer = build(header, bpe)?;
    if known == PreTokenizer::Qwen2 {
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
