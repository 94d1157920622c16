//! Models in folders, in the hub and in the program: what is read and how.

use std::collections::BTreeSet;
use std::path::Path;

use evalsuite::engine::Precision;
use evalsuite::engine::model::{Family, ModelSource, ModelSpec, PositionKind, RotaryScaling, TensorValues};
use evalsuite::files::sha256;
use evalsuite::hub::Hub;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::hub_server::{HubServer, Repository};
use crate::tiny_model::{self, TOKENS, open, safetensors, tensors, values, write_json};

fn f32s(source: &ModelSource, name: &str) -> Vec<f32> {
    match source.tensors.read(name).unwrap().values {
        TensorValues::F32(values) => values,
        other => panic!("{name} is not f32 but {other:?}"),
    }
}

fn with(mut json: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    json
}

#[test]
fn a_folder_is_read_as_it_lies() {
    let folder = tiny_model::folder();
    let source = open(folder.path()).unwrap();
    assert_eq!(source.name, folder.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(Path::new(&source.source), std::fs::canonicalize(folder.path()).unwrap());
    assert_eq!(source.stored_as, "f32");
    assert_eq!((source.config.family, source.config.head_dim, source.config.kv_heads), (Family::Llama, 4, 1));
    assert_eq!(source.config.position, PositionKind::Rotary { theta: 10_000.0, scaling: RotaryScaling::None });
    let names: BTreeSet<String> = tensors().into_iter().map(|(name, _)| name).collect();
    assert_eq!(source.tensors.names(), names.into_iter().collect::<Vec<_>>());
    for (seed, (name, shape)) in tensors().iter().enumerate() {
        assert_eq!(source.tensors.read(name).unwrap().shape, *shape);
        assert_eq!(f32s(&source, name), values(seed, shape.iter().product()));
    }
    let tokenizer = &source.tokenizer;
    assert_eq!((tokenizer.bos_id, tokenizer.bos_token.as_deref()), (Some(3), Some("<s>")));
    assert_eq!(tokenizer.eos_token.as_deref(), Some("<|im_end|>"));
    assert_eq!(tokenizer.eos_ids, BTreeSet::from([0, 2, 4]), "config 4, generation config 4 and 0, tokenizer config 2");
    assert!(tokenizer.chat_template.as_deref().unwrap().contains("im_start"));
    assert_eq!(tokenizer.sha256.wait().unwrap(), sha256(tiny_model::tokenizer().to_string().as_bytes()));
}

#[test]
fn the_hash_covers_every_file_that_decides_an_answer() {
    let folder = tiny_model::folder();
    let hash = || open(folder.path()).unwrap().sha256.wait().unwrap().to_owned();
    let original = hash();
    assert_eq!(original, hash());
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let lines = names.map(|name| format!("{}  {name}\n", sha256(&std::fs::read(folder.path().join(name)).unwrap())));
    let mut sorted = lines.to_vec();
    sorted.sort();
    assert_eq!(original, sha256(sorted.concat().as_bytes()));
    std::fs::write(folder.path().join("README.md"), "nothing that decides").unwrap();
    assert_eq!(original, hash());
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert_ne!(original, hash());
}

#[test]
fn tensors_are_read_from_many_threads_in_the_precision_of_the_file() {
    let folder = tiny_model::folder();
    // As bf16 the weights may be of another precision each; here norms stay f16.
    let data: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = tensors()
        .into_iter()
        .enumerate()
        .map(|(seed, (name, shape))| {
            let numbers = values(seed, shape.iter().product());
            let (dtype, bytes): (_, Vec<u8>) = if shape.len() == 1 {
                (Dtype::F16, numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect())
            } else {
                (Dtype::BF16, numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect())
            };
            (name, shape, dtype, bytes)
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, shape, dtype, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let source = open(folder.path()).unwrap();
    assert_eq!(source.stored_as, "bf16");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (seed, (name, shape, dtype, _)) in data.iter().enumerate() {
                    let expected = values(seed, shape.iter().product());
                    let read: Vec<f32> = match (source.tensors.read(name).unwrap().values, dtype) {
                        (TensorValues::F16(values), Dtype::F16) => values.into_iter().map(f16::to_f32).collect(),
                        (TensorValues::Bf16(values), Dtype::BF16) => values.into_iter().map(bf16::to_f32).collect(),
                        (other, _) => panic!("{name} came as {other:?}"),
                    };
                    assert_eq!(read, expected, "{name}");
                }
            });
        }
    });
}

/// Splits the tiny model's weights over two shards with an index.
fn shard(folder: &Path) {
    let all = tensors();
    let (first, second) = all.split_at(7);
    std::fs::write(folder.join("model-00001-of-00002.safetensors"), safetensors(first)).unwrap();
    std::fs::write(folder.join("model-00002-of-00002.safetensors"), safetensors(second)).unwrap();
    let file = |i: usize| format!("model-0000{}-of-00002.safetensors", if i < 7 { 1 } else { 2 });
    let map: serde_json::Map<String, Value> =
        all.iter().enumerate().map(|(i, (name, _))| (name.clone(), json!(file(i)))).collect();
    write_json(folder, "model.safetensors.index.json", &json!({"metadata": {}, "weight_map": map}));
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
}

#[test]
fn shards_are_one_set_of_tensors() {
    let folder = tiny_model::folder();
    shard(folder.path());
    let source = open(folder.path()).unwrap();
    assert_eq!(source.tensors.names().len(), tensors().len());
    assert_eq!(f32s(&source, &tensors()[7].0), values(0, tensors()[7].1.iter().product()));
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = tiny_model::refusal(folder.path());
    assert!(error.contains("model-00002-of-00002.safetensors") && error.contains("index.json"), "{error}");
}

#[test]
fn special_tokens_are_put_around_as_the_tokenizer_class_does() {
    let folder = tiny_model::folder();
    let encoded = |changes: &Value| {
        write_json(folder.path(), "tokenizer_config.json", &with(tiny_model::tokenizer_config(), changes));
        let tokenizer = open(folder.path()).unwrap().tokenizer;
        (tokenizer.encode("ab", true).unwrap(), tokenizer.encode("ab", false).unwrap())
    };
    assert_eq!(encoded(&json!({"add_bos_token": true})), (vec![10], vec![10]), "tokenizer.json decides");
    let llama = json!({"tokenizer_class": "LlamaTokenizer", "add_bos_token": true});
    assert_eq!(encoded(&llama), (vec![3, 10], vec![10]));
    assert_eq!(encoded(&json!({"tokenizer_class": "LlamaTokenizerFast"})), (vec![3, 10], vec![10]), "on by default");
    let neither = with(llama.clone(), &json!({"add_bos_token": false}));
    assert_eq!(encoded(&neither), (vec![10], vec![10]));
    let both = with(llama.clone(), &json!({"add_eos_token": true}));
    assert_eq!(encoded(&both), (vec![3, 10, 2], vec![10]));
    write_json(folder.path(), "tokenizer_config.json", &with(llama, &json!({"bos_token": null})));
    assert!(tiny_model::refusal(folder.path()).contains("`bos_token`"));
}

#[test]
fn a_null_bos_stays_none_and_an_absent_config_leaves_the_ids_of_config_json() {
    let folder = tiny_model::folder();
    let config = with(tiny_model::tokenizer_config(), &json!({"bos_token": null}));
    write_json(folder.path(), "tokenizer_config.json", &config);
    assert_eq!(open(folder.path()).unwrap().tokenizer.bos_id, None);
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    let tokenizer = open(folder.path()).unwrap().tokenizer;
    assert_eq!((tokenizer.bos_id, tokenizer.bos_token.as_deref()), (Some(3), Some("<s>")));
    assert_eq!(tokenizer.chat_template, None);
}

#[test]
fn special_tokens_in_a_text_are_one_token_and_left_out_of_its_decoding() {
    let folder = tiny_model::folder();
    let tokenizer = open(folder.path()).unwrap().tokenizer;
    let ids = tokenizer.encode("<|im_start|>ab ab1<|im_end|>", true).unwrap();
    assert_eq!(ids, [1, 10, 11, 8, 2]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "ab ab1");
    let spelt: Vec<String> = ids.iter().map(|id| tokenizer.id_to_token(*id).unwrap()).collect();
    assert_eq!(spelt, ["<|im_start|>", "ab", "Ġab", "1", "<|im_end|>"]);
    assert_eq!(tokenizer.id_to_token(TOKENS.len() as u32), None);
}

#[test]
fn a_special_token_of_the_config_alone_is_special_too() {
    let folder = tiny_model::folder();
    let mut tokenizer = tiny_model::tokenizer();
    tokenizer["added_tokens"].as_array_mut().unwrap().truncate(2);
    // What training left behind must not reach a prompt.
    tokenizer["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                                  "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"});
    write_json(folder.path(), "tokenizer.json", &tokenizer);
    let tokenizer = open(folder.path()).unwrap().tokenizer;
    assert_eq!(tokenizer.encode("a<|im_end|>", true).unwrap(), [6, 2]);
    assert_eq!(tokenizer.decode(&[6, 2]).unwrap(), "a");
}

#[test]
fn a_tokenizer_with_dropout_gives_the_same_tokens_every_time_and_says_so() {
    let folder = tiny_model::folder();
    let plain = open(folder.path()).unwrap().tokenizer;
    assert_eq!(plain.notes, Vec::<String>::new());
    let mut tokenizer = tiny_model::tokenizer();
    tokenizer["model"]["dropout"] = json!(0.5);
    write_json(folder.path(), "tokenizer.json", &tokenizer);
    let with_dropout = open(folder.path()).unwrap().tokenizer;
    let text = "ab ab ab ab ab ab";
    for _ in 0..100 {
        assert_eq!(with_dropout.encode(text, true).unwrap(), plain.encode(text, true).unwrap());
    }
    assert!(with_dropout.notes[0].contains("a dropout of 0.5") && with_dropout.notes[0].contains("turned off"));
    let target = crate::scripted::target(folder.path().to_str().unwrap(), &[Precision::F32]);
    let hub = Hub::from_environment(true).unwrap();
    assert_eq!(target.open(&hub).unwrap().notes, with_dropout.notes, "a job tells its user");
}

#[test]
fn chat_templates_from_every_place_they_are_published_in() {
    let folder = tiny_model::folder();
    let template = || open(folder.path()).unwrap().tokenizer.chat_template.clone();
    let named = json!([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]);
    let settings = with(tiny_model::tokenizer_config(), &json!({"chat_template": named}));
    write_json(folder.path(), "tokenizer_config.json", &settings);
    assert_eq!(template().as_deref(), Some("D"));
    write_json(folder.path(), "chat_template.json", &json!({"chat_template": "J"}));
    assert_eq!(template().as_deref(), Some("J"));
    std::fs::write(folder.path().join("chat_template.jinja"), "X\n").unwrap();
    assert_eq!(template().as_deref(), Some("X\n"));
}

/// `opt_tiny/pytorch_model.bin` was written by `PyTorch` 2.15: OPT of width 4 with one layer, six inside the MLP, eight
/// positions and twelve tokens in f16, named without the leading `model.` as in facebook/opt-125m; element i of all
/// elements in a row is (i mod 61 − 30) / 64.
pub(crate) fn opt_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights = include_bytes!("opt_tiny/pytorch_model.bin");
    std::fs::write(folder.path().join("pytorch_model.bin"), weights).unwrap();
    let config = json!({
        "model_type": "opt", "vocab_size": 12, "hidden_size": 4, "ffn_dim": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 8, "bos_token_id": 2, "eos_token_id": 2,
    });
    write_json(folder.path(), "config.json", &config);
    let vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "ab", "Ġ", "Ġab"];
    let vocabulary: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    write_json(folder.path(), "vocab.json", &Value::Object(vocabulary));
    std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\na b\nĠ ab\n").unwrap();
    let token = |text: &str| json!({"__type": "AddedToken", "content": text, "lstrip": false});
    let settings = json!({"add_bos_token": true, "bos_token": token("</s>"), "eos_token": token("</s>"),
                          "pad_token": token("<pad>"), "tokenizer_class": "GPT2Tokenizer"});
    write_json(folder.path(), "tokenizer_config.json", &settings);
    folder
}

#[test]
fn opt_is_read_from_pickle_vocabulary_and_merges() {
    let folder = opt_folder();
    let source = open(folder.path()).unwrap();
    assert_eq!((source.config.family, source.stored_as.as_str()), (Family::Opt, "f16"));
    let names = source.tensors.names();
    assert!(names.contains(&"decoder.layers.0.fc1.bias".to_owned()), "{names:?}");
    let expected = |start: usize, count: usize| -> Vec<f16> {
        (start..start + count).map(|i| f16::from_f32(((i % 61) as f32 - 30.0) / 64.0)).collect()
    };
    let positions = source.tensors.read("decoder.embed_positions.weight").unwrap();
    assert_eq!((positions.shape, positions.values), (vec![10, 4], TensorValues::F16(expected(48, 40))));
    let norm = source.tensors.read("decoder.final_layer_norm.bias").unwrap();
    assert_eq!(norm.values, TensorValues::F16(expected(92, 4)));

    let tokenizer = &source.tokenizer;
    assert_eq!(tokenizer.encode("ab ab", true).unwrap(), [2, 6, 8]);
    assert_eq!(tokenizer.encode("ab</s>", false).unwrap(), [6, 2]);
    assert_eq!(tokenizer.decode(&[2, 6, 8, 1]).unwrap(), "ab ab");
    assert_eq!((tokenizer.bos_id, &tokenizer.eos_ids), (Some(2), &BTreeSet::from([2])));
    let bare = opt_folder();
    std::fs::remove_file(bare.path().join("tokenizer_config.json")).unwrap();
    assert_eq!(open(bare.path()).unwrap().tokenizer.encode("ab", true).unwrap(), [2, 6]);
}

#[test]
fn damaged_pickles_are_refused() {
    let folder = opt_folder();
    let path = folder.path().join("pytorch_model.bin");
    let whole = std::fs::read(&path).unwrap();
    for wrong in [&whole[..whole.len() - 40], &whole[..100], b"not a zip archive", b""] {
        std::fs::write(&path, wrong).unwrap();
        assert!(tiny_model::refusal(folder.path()).contains("pytorch_model.bin"));
    }
}

#[test]
fn the_hub_gives_the_files_that_are_needed_and_no_others() {
    let folder = tiny_model::folder();
    shard(folder.path());
    let local = open(folder.path()).unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut files: Vec<(String, Vec<u8>, bool)> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let large = name.ends_with(".safetensors");
            (name, std::fs::read(path).unwrap(), large)
        })
        .collect();
    for unneeded in ["pytorch_model.bin", "README.md", "onnx/model.onnx"] {
        files.push((unneeded.to_owned(), b"unneeded".to_vec(), false));
    }
    let revisions = vec![("main".to_owned(), commit.to_owned())];
    let server = HubServer::start(vec![Repository {
        path: "owner/tiny".to_owned(),
        revisions,
        files,
        gate: None,
        old_path: None,
    }]);
    let cache = tempfile::tempdir().unwrap();
    let spec = ModelSpec { source: "owner/tiny".to_owned(), revision: "main".to_owned() };
    let source = ModelSource::open(&spec, &server.client(cache.path())).unwrap();
    assert_eq!(source.name, "owner/tiny");
    assert_eq!(source.source, format!("{}/owner/tiny/tree/{commit}", server.endpoint));
    assert_eq!(source.sha256.wait().unwrap(), local.sha256.wait().unwrap(), "the same files, the same hash");
    for (name, _) in tensors() {
        assert_eq!(source.tensors.read(&name).unwrap(), local.tensors.read(&name).unwrap());
    }
    for unneeded in ["pytorch_model.bin", "README.md", "onnx"] {
        assert!(server.asked().iter().all(|asked| !asked.path.contains(unneeded)), "{unneeded} was fetched");
    }
    let settings = evalsuite::hub::HubSettings { offline: true, ..server.settings(cache.path()) };
    let cached = ModelSource::open(&spec, &evalsuite::hub::Hub::new(settings)).unwrap();
    assert_eq!((cached.sha256.wait().unwrap(), &cached.source), (source.sha256.wait().unwrap(), &source.source));
}

#[test]
fn a_gguf_of_a_repository_is_named_by_its_path_or_its_label() {
    let bytes = crate::gguf_writer::tiny("llama").bytes();
    let files =
        ["tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "sub/tiny.f32.gguf"].map(|name| (name.to_owned(), bytes.clone(), true));
    let server = HubServer::start(vec![Repository {
        path: "owner/tiny-GGUF".to_owned(),
        revisions: vec![("main".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned())],
        files: files.into(),
        gate: None,
        old_path: None,
    }]);
    let cache = tempfile::tempdir().unwrap();
    let open = |source: &str, hub: &evalsuite::hub::Hub| {
        let spec = ModelSpec { source: source.to_owned(), revision: "main".to_owned() };
        ModelSource::open(&spec, hub).map(|source| source.name).map_err(|error| error.to_string())
    };
    let hub = server.client(cache.path());
    assert_eq!(open("owner/tiny-GGUF:q4_k_m", &hub).as_deref(), Ok("tiny-Q4_K_M"));
    assert_eq!(open("owner/tiny-GGUF/sub/tiny.f32.gguf", &hub).as_deref(), Ok("tiny.f32"));
    assert!(server.asked().iter().all(|asked| !asked.path.contains("Q8_0")), "only what is meant is fetched");
    let error = open("owner/tiny-GGUF:Q8_1", &hub).unwrap_err();
    assert!(
        error.contains("no GGUF file of the label Q8_1") && error.contains("did you mean `owner/tiny-GGUF:Q8_0`"),
        "{error}"
    );
    let settings = evalsuite::hub::HubSettings { offline: true, ..server.settings(cache.path()) };
    let offline = evalsuite::hub::Hub::new(settings);
    assert_eq!(open("owner/tiny-GGUF:Q4_K_M", &offline).as_deref(), Ok("tiny-Q4_K_M"));
    let alone = open("owner/tiny-GGUF", &hub).unwrap_err();
    assert!(alone.contains("owner/name:Q4_K_M"), "{alone}");
}

#[test]
fn a_hub_repository_without_weights_or_of_another_family_is_refused_before_weights_are_fetched() {
    let file = |name: &str, json: Value| (name.to_owned(), json.to_string().into_bytes(), false);
    let revisions = vec![("main".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned())];
    let mut repository = Repository {
        path: "owner/tiny".to_owned(),
        revisions,
        files: vec![file("config.json", json!({"model_type": "falcon"})), file("model.Q4_K_M.gguf", json!(1))],
        gate: None,
        old_path: None,
    };
    let spec = ModelSpec { source: "owner/tiny".to_owned(), revision: "main".to_owned() };
    let error = |repository: &Repository| {
        let server = HubServer::start(vec![repository.clone()]);
        let cache = tempfile::tempdir().unwrap();
        let error = ModelSource::open(&spec, &server.client(cache.path())).unwrap_err().to_string();
        assert!(server.asked().iter().all(|asked| !asked.path.ends_with(".safetensors")));
        error
    };
    let no_weights = error(&repository);
    assert!(no_weights.contains("no weights") && no_weights.contains("model.Q4_K_M.gguf"), "{no_weights}");
    repository.files.push(("model.safetensors".to_owned(), vec![1; 100], true));
    let family = error(&repository);
    assert!(family.contains("unknown family `falcon`"), "{family}");
}

#[test]
fn a_gguf_file_of_a_hub_repository_is_fetched_by_its_name() {
    let revisions = vec![("main".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned())];
    let files = vec![("q/tiny.gguf".to_owned(), crate::gguf_writer::tiny("llama").bytes(), true)];
    let path = "owner/tiny-GGUF".to_owned();
    let server = HubServer::start(vec![Repository { path, revisions, files, gate: None, old_path: None }]);
    let cache = tempfile::tempdir().unwrap();
    let open = |source: &str| {
        let spec = ModelSpec { source: source.to_owned(), revision: "main".to_owned() };
        ModelSource::open(&spec, &server.client(cache.path()))
    };
    let source = open("owner/tiny-GGUF/q/tiny.gguf").unwrap();
    assert_eq!(source.name, "tiny");
    assert!(source.source.ends_with("/tree/0123456789abcdef0123456789abcdef01234567/q/tiny.gguf"), "{}", source.source);
    let error = open("owner/tiny-GGUF/q/tinny.gguf").unwrap_err().to_string();
    assert!(error.contains("no file q/tinny.gguf") && error.contains("`q/tiny.gguf`"), "{error}");
}

#[test]
fn a_mistyped_folder_that_looks_like_a_hub_id_is_told_so() {
    // `src/engnie` is a possible hub id, and beside the manifest, where tests run, there is a folder of nearly that name.
    let spec = ModelSpec { source: "src/engnie".to_owned(), revision: "main".to_owned() };
    let error = ModelSource::open(&spec, &tiny_model::no_hub()).unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("did you mean the folder `src/engine`"), "{error}");
}

#[test]
fn the_bundled_model_is_its_folder_compiled_in() {
    let spec = ModelSpec { source: "bundled".to_owned(), revision: "main".to_owned() };
    let bundled = ModelSource::open(&spec, &tiny_model::no_hub()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled");
    let folder = open(&path).unwrap();
    assert_eq!((bundled.name.as_str(), bundled.source.as_str()), ("bundled", "bundled"));
    assert_eq!(
        bundled.sha256.wait().unwrap(),
        folder.sha256.wait().unwrap(),
        "rebuild: the folder has changed since it was compiled in"
    );
    assert_eq!(bundled.tokenizer.eos_ids, folder.tokenizer.eos_ids);
    for name in folder.tensors.names() {
        assert_eq!(bundled.tensors.read(&name).unwrap(), folder.tensors.read(&name).unwrap());
    }
    // What transformers' tokenizer makes of the same prompts.
    let reference: Value = serde_json::from_slice(&std::fs::read(path.join("reference.json")).unwrap()).unwrap();
    let entries = reference["entries"].as_array().unwrap();
    assert!(!entries.is_empty());
    for entry in entries {
        let expected: Vec<u32> = serde_json::from_value(entry["prompt_ids"].clone()).unwrap();
        let text = entry["prompt"].as_str().unwrap();
        assert_eq!(bundled.tokenizer.encode(text, false).unwrap(), expected, "{}", entry["test_index"]);
    }
}
