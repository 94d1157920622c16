//! Damaged, missing and disagreeing model files: always an error with a hint, never a panic.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gguf_writer::tiny;
use crate::tiny_model::{self, open, refusal, safetensors, tensors, write_json};

fn changed(file: &str, change: impl FnOnce(&Path)) -> String {
    let folder = tiny_model::folder();
    change(&folder.path().join(file));
    refusal(folder.path())
}

fn config_with(changes: &Value) -> String {
    let mut config = tiny_model::config();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    changed("config.json", |path| std::fs::write(path, config.to_string()).unwrap())
}

#[test]
fn missing_files_are_named() {
    for file in ["config.json", "tokenizer.json"] {
        let error = changed(file, |path| std::fs::remove_file(path).unwrap());
        assert!(error.contains(&format!("no {file} in")), "{error}");
    }
    let error = changed("model.safetensors", |path| std::fs::remove_file(path).unwrap());
    assert!(error.contains("no weights") && error.contains("model.safetensors.index.json"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(empty.path()).contains("empty folder"));
    std::fs::write(empty.path().join("model.gguf"), b"GGUF").unwrap();
    let error = refusal(empty.path());
    assert!(error.contains("no config.json") && error.contains("`model.gguf`"), "{error}");
}

#[test]
fn text_that_is_no_json_or_no_text_is_named() {
    let error = changed("config.json", |path| std::fs::write(path, "{\"model_type\": ").unwrap());
    assert!(error.contains("config.json") && error.contains("not JSON"), "{error}");
    let error = changed("config.json", |path| std::fs::write(path, b"{\"a\": \"\xff\"}").unwrap());
    assert!(error.contains("config.json") && error.contains("not UTF-8"), "{error}");
    let error = changed("tokenizer.json", |path| std::fs::write(path, "{\"version\": \"1.0\"}").unwrap());
    assert!(error.contains("tokenizer.json") && error.contains("cannot be used"), "{error}");
    let error = changed("tokenizer_config.json", |path| std::fs::write(path, "{\"chat_template\": 7}").unwrap());
    assert!(error.contains("chat template"), "{error}");
}

#[test]
fn a_file_that_may_not_be_read_is_said() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tiny_model::folder();
    let path = folder.path().join("tokenizer.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        crate::skip::skip(
            "another user than root",
            "this user (root) may read everything, so no permission can be missing",
        );
    } else {
        let error = refusal(folder.path());
        assert!(error.contains("tokenizer.json") && error.contains("chmod"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("gone.json", &path).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("tokenizer.json") && error.contains("link"), "{error}");
}

#[test]
fn tokenizer_and_config_must_agree() {
    let error = config_with(&json!({"eos_token_id": [2, 12]}));
    assert!(error.contains("disagree") && error.contains("12 is named"), "{error}");
    let error = config_with(&json!({"eos_token_id": u64::MAX}));
    assert!(error.contains("disagree"), "{error}");
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_are_named_with_both_sides() {
    let write = |tensors: &[(String, Vec<usize>)]| {
        changed("model.safetensors", |path| std::fs::write(path, safetensors(tensors)).unwrap())
    };
    let mut without = tensors();
    without.remove(11);
    let error = write(&without);
    assert!(error.contains("no tensor `model.layers.1.self_attn.q_proj.weight`"), "{error}");
    assert!(error.contains("a llama model needs one of shape [8, 8]"), "{error}");
    let mut other = tensors();
    other[3].1 = vec![8, 8];
    let error = write(&other);
    assert!(error.contains("has shape [8, 8], but the config calls for [4, 8]"), "{error}");
    assert!(config_with(&json!({"tie_word_embeddings": false})).contains("no tensor `lm_head.weight`"));
    assert!(config_with(&json!({"model_type": "qwen2"})).contains("self_attn.q_proj.bias"));
    // A damaged config must be refused at its first missing block, not after listing a thousand million.
    assert!(config_with(&json!({"num_hidden_layers": 1_000_000_000})).contains("model.layers.2."));
    // Nor where a family says of each layer what kind it is: once, a list as long was made first.
    for family in ["qwen2", "qwen3"] {
        let error = config_with(&json!({"model_type": family, "num_hidden_layers": 1_000_000_000}));
        assert!(error.contains("model.layers."), "{family}: {error}");
    }
    for family in ["smollm3", "qwen3_moe", "gemma2"] {
        let error = config_with(&json!({"model_type": family, "num_hidden_layers": 1_000_000_000}));
        assert!(error.contains("more than 65536"), "{family}: {error}");
    }
    let error = config_with(&json!({"model_type": "qwen3_moe", "num_experts": 1_000_000_000}));
    assert!(error.contains("of 1000000000 experts"), "{error}");
    let error = config_with(&json!({"model_type": "gpt_neox", "rotary_pct": 0.01}));
    assert!(error.contains("even head dimension, not 0"), "{error}");
}

#[test]
fn names_that_show_what_the_weights_are_say_so() {
    let renamed = |rename: &dyn Fn(&str) -> String| {
        let tensors: Vec<_> = tensors().into_iter().map(|(name, shape)| (rename(&name), shape)).collect();
        changed("model.safetensors", |path| std::fs::write(path, safetensors(&tensors)).unwrap())
    };
    for (prefix, hint) in [("_orig_mod.", "torch.compile"), ("module.", "DataParallel"), ("base_model.", "prefix")] {
        let error = renamed(&|name| format!("{prefix}{name}"));
        assert!(error.contains(&format!("begins with `{prefix}`")) && error.contains(hint), "{error}");
    }
    let error = renamed(&|name| format!("base.{name}").replace(".weight", ".lora_A.weight"));
    assert!(error.contains("an adapter") && error.contains("merge"), "{error}");
    let error = renamed(&|name| name.replace("q_proj.weight", "q_proj.SCB"));
    assert!(error.contains("q_proj.SCB`") && error.contains("bitsandbytes"), "{error}");
}

#[test]
fn an_index_that_makes_no_sense_is_refused() {
    for index in [json!({}), json!({"weight_map": {}}), json!({"weight_map": {"a": 1}}), json!([])] {
        let folder = tiny_model::folder();
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        write_json(folder.path(), "model.safetensors.index.json", &index);
        assert!(refusal(folder.path()).contains("model.safetensors.index.json"), "{index}");
    }
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let header = |text: &str, data: usize| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes().chain(std::iter::repeat_n(0, data)));
        bytes
    };
    let entry = |shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let cases: [(Vec<u8>, &str); 9] = [
        (b"".to_vec(), "0 bytes are too few"),
        (b"1234567".to_vec(), "7 bytes are too few"),
        (b"version https://git-lfs".to_vec(), "Git LFS pointer"),
        (u64::MAX.to_le_bytes().to_vec(), "header claims 18446744073709551615 bytes"),
        (header("{\"a\":", 0), "not JSON"),
        (header("{\"a\":{\"dtype\":\"F32\"}}", 0), "the entry of tensor `a`"),
        (header(&entry("[2]", "[0,8]"), 7), "bytes 0 to 8 of 7"),
        (header(&entry("[2]", "[8,0]"), 8), "bytes 8 to 0"),
        (header(&entry("[4294967296,4294967296,4]", "[0,0]"), 0), "has 0 bytes"),
    ];
    for (bytes, expected) in cases {
        let error = changed("model.safetensors", |path| std::fs::write(path, &bytes).unwrap());
        assert!(error.contains(expected) && error.contains("model.safetensors"), "{expected}: {error}");
    }
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    let folder = tiny_model::folder();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains("model.safetensors"), "{length}: {error}");
    }
}

#[test]
fn a_gguf_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let whole = tiny("llama").bytes();
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refusal(&path);
        assert!(error.contains("tiny.gguf"), "{length}: {error}");
    }
}

#[test]
fn absurd_claims_of_a_gguf_file_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let head = |tensors: u64, keys: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes
    };
    let array = |length: u64| {
        let mut bytes = head(0, 1);
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(b"k\x09\0\0\0\x04\0\0\0");
        bytes.extend(length.to_le_bytes());
        bytes
    };
    let string = {
        let mut bytes = head(0, 1);
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend([0; 16]);
        bytes
    };
    let nested = {
        let mut bytes = head(0, 1);
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(b"k\x09\0\0\0");
        bytes.extend([9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100_000));
        bytes
    };
    let cases: [(Vec<u8>, &str); 8] = [
        (head(u64::MAX, 0), "18446744073709551615 tensors"),
        (head(0, u64::MAX), "18446744073709551615 key-value pairs"),
        (array(u64::MAX), "18446744073709551615 array elements"),
        (array(1 << 40), "1099511627776 array elements"),
        (string, "bytes of text"),
        (nested, "nested too deeply"),
        (b"GGUF\x01\0\0\0".to_vec(), "version 1"),
        (b"GGML rather".to_vec(), "not a GGUF file"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = refusal(&path);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Flips bytes; whatever still opens must be readable without a panic too.
fn survives(path: &Path, target: &Path, whole: &[u8], flips: &[(prop::sample::Index, u8)]) {
    let mut bytes = whole.to_vec();
    for (at, mask) in flips {
        bytes[at.index(whole.len())] ^= mask;
    }
    std::fs::write(target, bytes).unwrap();
    match open(path) {
        Err(error) => assert!(error.to_string().contains("\nhint: "), "{error}"),
        Ok(source) => {
            for name in source.tensors.names() {
                // An unreadable type is an error like any other; only a panic would fail here.
                if let Err(error) = source.tensors.read(&name) {
                    assert!(error.to_string().contains("\nhint: "), "{error}");
                }
            }
            let _ = source.tokenizer.encode("ab <|im_end|>12é", true);
        }
    }
}

fn flips(near: usize) -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0..near, 1u8..), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_of_a_gguf_file_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        let mut file = tiny("llama");
        file.count("general.alignment", 32);
        survives(&path, &path, &file.bytes(), &flips);
    }

    #[test]
    fn flipped_bytes_of_a_safetensors_header_never_panic(flips in flips(1800)) {
        let folder = tiny_model::folder();
        let target = folder.path().join("model.safetensors");
        let mut bytes = std::fs::read(&target).unwrap();
        for (at, mask) in flips {
            bytes[at] ^= mask;
        }
        survives(folder.path(), &target, &bytes, &[]);
    }

    #[test]
    fn flipped_bytes_of_a_pickle_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        let folder = crate::models::opt_folder();
        let target = folder.path().join("pytorch_model.bin");
        survives(folder.path(), &target, include_bytes!("opt_tiny/pytorch_model.bin"), &flips);
    }
}
