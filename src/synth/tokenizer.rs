//! A tokenizer of exactly as many tokens as a shape has: byte-level byte-pair encoding with made-up merges.

use serde_json::{Map, Value, json};

use super::ModelShape;

/// Messages one after the other, each ended by the end of sequence.
const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}\
                             {% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

/// Names and contents of tokenizer.json, `tokenizer_config.json` and `generation_config.json`.
pub(super) fn files(shape: &ModelShape) -> [(&'static str, Value); 3] {
    let (bos, eos) = special_tokens(shape);
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    let generation = json!({"bos_token_id": shape.bos, "eos_token_id": shape.eos});
    [("tokenizer.json", tokenizer(shape)), ("tokenizer_config.json", settings), ("generation_config.json", generation)]
}

/// One token may be both, as Qwen2's is.
const fn special_tokens(shape: &ModelShape) -> (&'static str, &'static str) {
    if shape.bos == shape.eos { ("</s>", "</s>") } else { ("<s>", "</s>") }
}

fn tokenizer(shape: &ModelShape) -> Value {
    let (bos, eos) = special_tokens(shape);
    let mut tokens = byte_tokens();
    let mut merges = Vec::new();
    let mut vocabulary = Map::new();
    let mut next = 0;
    for id in 0..shape.vocabulary {
        let token = if id == shape.eos {
            eos.to_owned()
        } else if id == shape.bos {
            bos.to_owned()
        } else {
            if next == tokens.len() {
                let (left, right) = merge(next, &tokens);
                merges.push(json!([left, right]));
                tokens.push(format!("{left}{right}"));
            }
            next += 1;
            tokens[next - 1].clone()
        };
        vocabulary.insert(token, Value::from(id));
    }
    let special = |content: &str, id: usize| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let mut added = vec![special(eos, shape.eos)];
    if bos != eos {
        added.push(special(bos, shape.bos));
        added.sort_by_key(|token| token["id"].as_u64());
    }
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges},
    })
}

/// The pair that makes token number `index`: every token so far, in order, followed by each of the bytes. Text of two
/// bytes comes before text of three, so that both halves are tokens and no text is made twice.
fn merge(index: usize, tokens: &[String]) -> (String, String) {
    const BYTES: usize = 256;
    let made = index - BYTES;
    (tokens[made / BYTES].clone(), tokens[made % BYTES].clone())
}

/// GPT-2's letters for the 256 bytes: printable ones stand for themselves, the others for U+0100 and on. In the order
/// of the bytes, printable ones first, as GPT-2's own vocabulary has them.
fn byte_tokens() -> Vec<String> {
    let printable = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    let others = 0x100..0x100 + 68;
    printable.chain(others).filter_map(char::from_u32).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_exactly_its_tokens_and_they_reach_every_text() {
        for name in ModelShape::names().into_iter().chain(["tiny"]) {
            let shape = ModelShape::parse(name).unwrap();
            let [(_, json), ..] = files(&shape);
            let tokenizer = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&json).unwrap()).unwrap();
            assert_eq!(tokenizer.get_vocab_size(true), shape.vocabulary, "{name}");
            assert_eq!(tokenizer.token_to_id("</s>"), Some(shape.eos as u32), "{name}");
            for text in ["Two plus two?", "Grüße, 世界 🙂\n\tx"] {
                let ids = tokenizer.encode_fast(text, false).unwrap();
                assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), text, "{name}");
            }
            let last = tokenizer.id_to_token(shape.vocabulary as u32 - 1);
            assert!(last.is_some() && tokenizer.id_to_token(shape.vocabulary as u32).is_none(), "{name}: {last:?}");
        }
    }
}
