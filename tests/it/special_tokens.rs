//! Special tokens named in any of the files that may name them, as transformers has them (`tests/data/make_special_tokens.py`).

use std::collections::BTreeMap;

use evalsuite::engine::model::{ModelSpec, ModelTokenizer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gguf_writer::tiny;
use crate::tiny_model::{self, no_hub, write_json};

#[derive(Deserialize)]
struct Case {
    name: String,
    files: BTreeMap<String, Value>,
    text: String,
    ids: Vec<u32>,
    kept: String,
    named: BTreeMap<String, String>,
}

#[test]
fn special_tokens_are_those_that_transformers_finds_in_the_files() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/special_tokens.json")).unwrap();
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &case.files {
            write_json(folder.path(), name, content);
        }
        write_json(folder.path(), "config.json", &json!({"model_type": "of_another_world"}));
        let spec = ModelSpec { source: folder.path().display().to_string(), revision: "main".to_owned() };
        let tokenizer = ModelTokenizer::open(&spec, &no_hub()).unwrap();
        assert_eq!(tokenizer.encode(&case.text, false).unwrap(), case.ids, "{}", case.name);
        assert_eq!(tokenizer.decode(&case.ids).unwrap(), case.kept, "{}", case.name);
        assert_eq!(tokenizer.named_tokens, case.named, "{}", case.name);
    }
}

#[test]
fn a_file_that_is_read_decides_the_model_and_one_that_is_not_does_not() {
    let folder = tiny_model::folder();
    let hash = || tiny_model::open(folder.path()).unwrap().sha256.wait().unwrap().to_owned();
    let plain = hash();
    write_json(folder.path(), "special_tokens_map.json", &json!({"pad_token": "<|pad|>"}));
    let with_map = hash();
    assert_ne!(plain, with_map);
    let mut settings = tiny_model::tokenizer_config();
    settings["added_tokens_decoder"] = json!({});
    write_json(folder.path(), "tokenizer_config.json", &settings);
    let without = hash();
    std::fs::remove_file(folder.path().join("special_tokens_map.json")).unwrap();
    assert_eq!(without, hash());
}

#[test]
fn a_token_beyond_the_embedding_may_be_there_as_long_as_no_prompt_holds_it() {
    let folder = tiny_model::folder();
    let mut settings = tiny_model::tokenizer_config();
    settings["pad_token"] = json!("<new>");
    write_json(folder.path(), "tokenizer_config.json", &settings);
    let source = tiny_model::open(folder.path()).unwrap();
    assert_eq!(source.tokenizer.encode("ab<new>", false).unwrap(), [10, 12]);
    let note = source.tokenizer.notes.join("\n");
    assert!(note.contains("one token") && note.contains("`<new>` (12)") && note.contains("12 rows"), "{note}");
    settings["eos_token"] = json!("<new>");
    write_json(folder.path(), "tokenizer_config.json", &settings);
    assert!(tiny_model::open(folder.path()).unwrap().tokenizer.eos_ids.contains(&12), "never generated, and no harm");
}

#[test]
fn a_gguf_file_names_its_special_tokens_by_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let mut file = tiny("llama");
    file.count("tokenizer.ggml.padding_token_id", 0).count("tokenizer.ggml.unknown_token_id", 400);
    std::fs::write(&path, file.bytes()).unwrap();
    let named = tiny_model::open(&path).unwrap().tokenizer.named_tokens.clone();
    let expected = [("bos_token", "<s>"), ("eos_token", "<|im_end|>"), ("pad_token", "<|pad|>")];
    assert_eq!(named, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
}

#[test]
fn a_gguf_file_ends_at_the_tokens_that_end_a_turn_whatever_it_says_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let read = |tokens: &[&str]| {
        let mut file = tiny("llama");
        // None of them is a control token by the file's word.
        file.texts("tokenizer.ggml.tokens", tokens).counts("tokenizer.ggml.token_type", &[1; 12]);
        file.count("tokenizer.ggml.eos_token_id", 4);
        std::fs::write(&path, file.bytes()).unwrap();
        tiny_model::open(&path).unwrap().tokenizer
    };
    let ends =
        ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"];
    for end in ends {
        let mut tokens = tiny_model::TOKENS;
        (tokens[2], tokens[0]) = (end, "<|start|>");
        let tokenizer = read(&tokens);
        assert_eq!(tokenizer.eos_ids, [2, 4].into(), "{end}");
        assert_eq!(tokenizer.encode(&format!("ab{end}ab"), false).unwrap(), [10, 2, 10], "{end} is one token");
        assert_eq!(tokenizer.decode(&[10, 2]).unwrap(), "ab");
    }
    let mut tokens = tiny_model::TOKENS;
    (tokens[0], tokens[1], tokens[2]) = ("<|return|>", "<|call|>", "<|end|>");
    assert_eq!(read(&tokens).eos_ids, [0, 1, 4].into(), "within one turn gpt-oss's messages end by <|end|>");
}
