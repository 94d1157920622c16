//! Quantised checkpoints of tiny models, unpacked here by the format's description and run beside the original.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelSource, ModelSpec, TensorNames};
use evalsuite::engine::{Dtype, Engine as _, Text};
use evalsuite::quantize::{Groups, Method, QuantizeEnd, QuantizeEvent, QuantizeJob, StoredFormat, quantize};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::files_of;
use crate::gguf_writer::{self, llama_cpp_name};
use crate::tiny_model::{TOKENS, f32_bytes, no_hub, open, tokenizer, tokenizer_config, write_json};

/// Numbers that look random, of spread 1.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (0..4).map(|_| uniform() - 0.5).sum::<f32>() * 1.7).collect()
}

/// A family's shape: 64 wide, two heads of 32, 96 inside the MLP, two layers.
#[derive(Clone, Copy)]
pub(crate) enum Tiny {
    /// One key-value head for both heads.
    Grouped,
    /// A key-value head each, so that scales fold into v.
    Llama,
    /// Biases on q, k and v.
    Qwen2,
    /// Norms of queries and keys.
    Qwen3,
    Opt,
}

impl Tiny {
    pub(crate) const ALL: [Self; 5] = [Self::Grouped, Self::Llama, Self::Qwen2, Self::Opt, Self::Qwen3];

    fn config(self) -> Value {
        let kv_heads = if matches!(self, Self::Grouped) { 1 } else { 2 };
        match self {
            Self::Opt => json!({
                "model_type": "opt", "vocab_size": TOKENS.len(), "hidden_size": 64, "ffn_dim": 96,
                "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
                "word_embed_proj_dim": 64, "bos_token_id": 3, "eos_token_id": 4, "torch_dtype": "float32",
            }),
            Self::Grouped | Self::Llama | Self::Qwen2 | Self::Qwen3 => json!({
                "model_type": match self {
                    Self::Qwen2 => "qwen2",
                    Self::Qwen3 => "qwen3",
                    _ => "llama",
                },
                "head_dim": 32,
                "vocab_size": TOKENS.len(), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": kv_heads, "max_position_embeddings": 64,
                "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 3, "eos_token_id": 4,
                "torch_dtype": "float32",
            }),
        }
    }

    /// Name, shape and values of every tensor. Norms let a few channels through much louder than the rest.
    fn tensors(self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let vocabulary = TOKENS.len();
        let kv = if matches!(self, Self::Grouped) { 32 } else { 64 };
        let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
        let mut add = |name: &str, shape: &[usize], bias: bool| {
            shapes.push((format!("{name}.weight"), shape.to_vec()));
            if bias {
                shapes.push((format!("{name}.bias"), vec![shape[0]]));
            }
        };
        let opt = matches!(self, Self::Opt);
        let prefix = if opt { "model.decoder" } else { "model" };
        add(&format!("{prefix}.embed_tokens"), &[vocabulary, 64], false);
        if opt {
            add("model.decoder.embed_positions", &[66, 64], false);
        }
        add(&format!("{prefix}.{}", if opt { "final_layer_norm" } else { "norm" }), &[64], opt);
        for layer in 0..2 {
            let name = |part: &str| format!("{prefix}.layers.{layer}.{part}");
            let bias = opt || matches!(self, Self::Qwen2);
            add(&name("self_attn.q_proj"), &[64, 64], bias);
            add(&name("self_attn.k_proj"), &[kv, 64], bias);
            add(&name("self_attn.v_proj"), &[kv, 64], bias);
            if opt {
                add(&name("self_attn.out_proj"), &[64, 64], true);
                add(&name("self_attn_layer_norm"), &[64], true);
                add(&name("final_layer_norm"), &[64], true);
                add(&name("fc1"), &[96, 64], true);
                add(&name("fc2"), &[64, 96], true);
            } else {
                add(&name("self_attn.o_proj"), &[64, 64], false);
                if matches!(self, Self::Qwen3) {
                    add(&name("self_attn.q_norm"), &[32], false);
                    add(&name("self_attn.k_norm"), &[32], false);
                }
                add(&name("input_layernorm"), &[64], false);
                add(&name("post_attention_layernorm"), &[64], false);
                add(&name("mlp.gate_proj"), &[96, 64], false);
                add(&name("mlp.up_proj"), &[96, 64], false);
                add(&name("mlp.down_proj"), &[64, 96], false);
            }
        }
        let values = |(seed, (name, shape)): (usize, (String, Vec<usize>))| {
            let mut values = noise(seed as u64, shape.iter().product());
            let norm = shape.len() == 1 && name.ends_with("weight");
            let size = if name.contains("embed") { 1.0 } else { 0.06 };
            for (index, value) in values.iter_mut().enumerate() {
                *value *= size;
                if norm {
                    *value += if index % 9 == 4 { 6.0 } else { 1.0 };
                }
            }
            (name, shape, values)
        };
        shapes.into_iter().enumerate().map(values).collect()
    }

    pub(crate) fn folder(self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &self.config(), &self.tensors());
        write_json(folder.path(), "generation_config.json", &json!({"eos_token_id": [4, 0]}));
        write_json(folder.path(), "tokenizer.json", &tokenizer());
        write_json(folder.path(), "tokenizer_config.json", &tokenizer_config());
        folder
    }
}

/// Writes config and weights.
pub(crate) fn write(folder: &Path, config: &Value, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    write_json(folder, "config.json", config);
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| f32_bytes(values)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(safetensors::tensor::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A text of some 6,000 tokens.
fn calibration(folder: &Path) -> PathBuf {
    let words = ["a", "b", "ab", "1", "2", " ", " ab", " 1", "ba"];
    let text: String =
        noise(77, 5000).iter().map(|number| words[(number.abs() * 1e4) as usize % words.len()]).collect();
    let path = folder.join("calibration.txt");
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn job(model: &Path, out: &Path, method: Method) -> QuantizeJob {
    let calibration = (method == Method::Awq).then(|| calibration(out.parent().unwrap()));
    let model = ModelSpec { source: model.display().to_string(), revision: "main".to_owned() };
    QuantizeJob {
        model,
        out: out.to_path_buf(),
        format: StoredFormat::Awq,
        groups: None,
        symmetric: false,
        calibration,
        method,
        keep: BTreeSet::new(),
    }
}

pub(crate) fn run(job: &QuantizeJob) -> Result<QuantizeEnd, String> {
    let result = quantize(job, &no_hub(), &mut |_| (), &AtomicBool::new(false)).map_err(|error| error.to_string());
    if let Err(error) = &result {
        assert!(error.contains("\nhint: "), "no hint: {error}");
    }
    result
}

/// Quantises into a fresh folder.
fn quantized(model: &Path, method: Method) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assert_eq!(run(&job(model, &out, method)), Ok(QuantizeEnd::Written(out.clone())));
    (folder, out)
}

/// Nibble i of a word holds column `ORDER[i]`; rows by columns, as in the file.
fn unpack(words: &[u8], columns: usize) -> Vec<f32> {
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let mut values = vec![0.0; words.len() * 2];
    for (index, word) in words.chunks(4).enumerate() {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        let first = index / (columns / 8) * columns + index % (columns / 8) * 8;
        for (nibble, column) in ORDER.iter().enumerate() {
            values[first + column] = (word >> (4 * nibble) & 15) as f32;
        }
    }
    values
}

pub(crate) fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
}

/// The checkpoint's weights in full, as the format's description says: (q − z) · s.
fn dense(folder: &Path, group_size: usize) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let Some(linear) = name.strip_suffix(".qweight") else {
            if !name.ends_with(".qzeros") && !name.ends_with(".scales") {
                assert_eq!(view.dtype(), safetensors::Dtype::F16, "{name}");
                tensors.push((name.to_owned(), view.shape().to_vec(), halves(view.data())));
            }
            continue;
        };
        let part = |name: &str| file.tensor(&format!("{linear}.{name}")).unwrap();
        let (inputs, outputs) = (view.shape()[0], view.shape()[1] * 8);
        assert_eq!(part("qzeros").shape(), [inputs / group_size, outputs / 8], "{linear}");
        assert_eq!(part("scales").shape(), [inputs / group_size, outputs], "{linear}");
        assert_eq!((view.dtype(), part("scales").dtype()), (safetensors::Dtype::I32, safetensors::Dtype::F16));
        let (q, z, s) =
            (unpack(view.data(), outputs), unpack(part("qzeros").data(), outputs), halves(part("scales").data()));
        let weight = |n: usize, k: usize| {
            let group = k / group_size * outputs + n;
            (q[k * outputs + n] - z[group]) * s[group]
        };
        let values = (0..outputs).flat_map(|n| (0..inputs).map(move |k| (n, k))).map(|(n, k)| weight(n, k)).collect();
        tensors.push((format!("{linear}.weight"), vec![outputs, inputs], values));
    }
    tensors
}

/// The checkpoint as a folder in f32 that any engine of ours reads.
fn expanded(checkpoint: &Path, group_size: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(checkpoint).unwrap().flatten() {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(checkpoint.join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("quantization_config");
    write(folder.path(), &config, &dense(checkpoint, group_size));
    folder
}

fn logits(folder: &Path) -> Vec<f32> {
    let engine = CpuEngine::load(&open(folder).unwrap(), Dtype::F32, None).unwrap();
    let tokens: Vec<u32> = noise(5, 60).iter().map(|number| 5 + (number.abs() * 1e4) as u32 % 7).collect();
    engine.logits(&tokens, 60).concat()
}

/// Mean squared difference, relative to the spread of `a`.
pub(crate) fn loss(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    difference / a.iter().map(|a| square(*a)).sum::<f64>()
}

/// A scale that is folded into one side only would throw the logits far off; the search must do better than rounding.
#[test]
fn quantised_models_of_every_shape_stay_close_to_the_original_and_awq_closer_than_rounding() {
    let mut folded = 0;
    for (index, tiny) in Tiny::ALL.into_iter().enumerate() {
        let model = tiny.folder();
        let original = logits(model.path());
        let [(awq, scaled), (rtn, plain)] = [Method::Awq, Method::Rtn].map(|method| {
            let (_folder, out) = quantized(model.path(), method);
            let norms = dense(&out, 32).into_iter().filter(|(name, _, _)| name.contains("norm")).collect::<Vec<_>>();
            (loss(&original, &logits(expanded(&out, 32).path())), norms)
        });
        println!("shape {index}: AWQ {awq:.5}, RTN {rtn:.5}");
        assert!(awq < 0.02 && awq < rtn, "shape {index}: AWQ {awq}, RTN {rtn}");
        folded += usize::from(scaled != plain);
    }
    assert!(
        folded > 0,
        "clipping alone is better than rounding too: scales are seen in the norms that they are folded into"
    );
}

/// What the search and the files have no form for is refused before anything is written.
#[test]
fn families_that_awq_has_no_form_for_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, why) in [
        ("gemma3", "norms around zero"),
        ("granite", "a residual scale"),
        ("qwen3-moe", "experts"),
        ("olmo2", "norms behind attention and MLP"),
        ("phi3", "fused or transposed projections"),
        ("gpt2", "fused or transposed projections"),
    ] {
        let out = folder.path().join(name);
        let error = run(&job(&crate::data(name), &out, Method::Rtn)).unwrap_err();
        assert!(error.contains(name) && error.contains(why) && error.contains("--dtype int8"), "{error}");
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn the_checkpoint_is_described_as_other_programs_expect() {
    let model = Tiny::Qwen2.folder();
    let (_folder, out) = quantized(model.path(), Method::Rtn);
    let (was, is) = (files_of(model.path()), files_of(&out));
    assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>(), "the same files, nothing left over");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(was[name], is[name], "{name}");
    }
    let config: Value = serde_json::from_slice(&is["config.json"]).unwrap();
    let mut expected = Tiny::Qwen2.config();
    expected["torch_dtype"] = json!("float16");
    expected["quantization_config"] = json!({
        "quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm",
        "modules_to_not_convert": null,
    });
    assert_eq!(config, expected);
    assert!(!out.with_extension("partial").exists());
}

/// What is kept is the model's own in f16; the others are what they are where nothing is kept, for each is fed the original's outputs.
#[test]
fn a_kept_layer_stays_in_f16_and_the_others_come_out_the_same() {
    let expected = [
        (Tiny::Llama, vec!["model.layers.1.self_attn", "model.layers.1.mlp", "lm_head"]),
        (Tiny::Grouped, vec!["model.layers.1.self_attn", "model.layers.1.mlp", "lm_head"]),
        (
            Tiny::Opt,
            vec![
                "model.decoder.layers.1.self_attn",
                "model.decoder.layers.1.fc1",
                "model.decoder.layers.1.fc2",
                "lm_head",
            ],
        ),
    ];
    for (tiny, modules) in expected {
        let model = tiny.folder();
        for method in [Method::Awq, Method::Rtn] {
            let (_all, packed) = quantized(model.path(), method);
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            let job = QuantizeJob { keep: BTreeSet::from([1]), ..job(model.path(), &out, method) };
            assert_eq!(run(&job), Ok(QuantizeEnd::Written(out.clone())));
            let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
            assert_eq!(config["quantization_config"]["modules_to_not_convert"], json!(modules));

            let tensors = |folder: &Path| -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
                let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
                let file = SafeTensors::deserialize(&bytes).unwrap();
                file.iter()
                    .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec())))
                    .collect()
            };
            let (original, others, kept) = (tensors(model.path()), tensors(&packed), tensors(&out));
            for (name, (shape, bytes)) in &kept {
                if !name.contains("layers.1.") {
                    assert_eq!(others.get(name), Some(&(shape.clone(), bytes.clone())), "{name}");
                    continue;
                }
                let (own_shape, own) = &original[name];
                let own = own.chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
                let own: Vec<u8> = own.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
                assert!(shape == own_shape && *bytes == own, "{name}");
            }
            let of_layer = |names: &BTreeMap<String, _>| names.keys().filter(|name| name.contains("layers.1.")).count();
            assert_eq!(of_layer(&kept), of_layer(&original));

            let tokens: Vec<u32> = noise(5, 40).iter().map(|number| 5 + (number.abs() * 1e4) as u32 % 7).collect();
            let engine = |folder: &Path| CpuEngine::load(&open(folder).unwrap(), Dtype::Awq, None).unwrap();
            let mut put_back = engine(&packed);
            assert_ne!(put_back.logits(&tokens, 40), engine(&out).logits(&tokens, 40));
            put_back.reload_layer(&open(model.path()).unwrap(), 1).unwrap();
            assert_eq!(put_back.logits(&tokens, 40), engine(&out).logits(&tokens, 40), "as if the layer were put back");
        }
    }
}

/// Scales lie in norms, in v's rows where every head has its own values, and in up's rows: weights that are put back one linear layer at a
/// time must fit all of them.
#[test]
fn linear_layers_that_are_put_back_fit_the_scales_around_them() {
    for (index, tiny) in Tiny::ALL.into_iter().enumerate() {
        let model = tiny.folder();
        let (_folder, packed) = quantized(model.path(), Method::Awq);
        let (truth, packed) = (open(model.path()).unwrap(), Arc::new(open(&packed).unwrap()));
        let tokens: Vec<u32> = noise(5, 40).iter().map(|number| 5 + (number.abs() * 1e4) as u32 % 7).collect();
        let states = |source: &ModelSource| {
            let mut engine = CpuEngine::load(&packed, Dtype::Awq, None).unwrap();
            engine.reload_layer(source, 0).unwrap();
            let reading = engine.layers().unwrap();
            reading.begin(&[Text { tokens: &tokens, from: 1 }]).unwrap();
            reading.advance().unwrap();
            reading.states()
        };
        let whole = states(&truth);
        let before = loss(&whole, &states(&packed));
        let mut put_back = Arc::clone(&packed);
        let names = TensorNames::new(&truth.config, &truth.tensors.names()).block(0);
        for linear in 0..names.linears().len() {
            put_back = Arc::new(put_back.with_linear_of(&truth, 0, linear).unwrap());
        }
        let after = loss(&whole, &states(&put_back));
        println!("shape {index}: {before:.2e} before, {after:.2e} after");
        assert!(after < before / 50.0, "shape {index}: {after:e}, {before:e} before");
    }
}

#[test]
fn layers_that_cannot_be_kept_are_refused() {
    let model = Tiny::Llama.folder();
    let folder = tempfile::tempdir().unwrap();
    let refused = |keep: &[usize]| {
        let keep = keep.iter().copied().collect();
        run(&QuantizeJob { keep, ..job(model.path(), &folder.path().join("out"), Method::Rtn) }).unwrap_err()
    };
    assert!(refused(&[0, 2]).contains("--keep 2: "), "{}", refused(&[0, 2]));
    assert!(refused(&[0, 1]).contains("nothing is left to quantise"));
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let model = Tiny::Llama.folder();
    let [one, two, three] = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_folder, out) = pool.install(|| quantized(model.path(), Method::Awq));
        files_of(&out)
    });
    assert_eq!(one, two);
    assert_eq!(one, three);
}

#[test]
fn an_interrupted_quantisation_goes_on_and_comes_out_the_same() {
    let model = Tiny::Grouped.folder();
    let (_whole, uninterrupted) = quantized(model.path(), Method::Awq);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let partial = folder.path().join("out.partial");
    let job = job(model.path(), &out, Method::Awq);
    let interrupted = AtomicBool::new(false);
    let mut emit = |event: QuantizeEvent| {
        if matches!(event, QuantizeEvent::Progress(progress) if progress.block == 2) {
            interrupted.store(true, Ordering::Relaxed);
        }
    };
    let finished = quantize(&job, &no_hub(), &mut emit, &interrupted).unwrap();
    assert_eq!(finished, QuantizeEnd::Interrupted(partial.clone()));
    assert!(partial.join("block-00000.part").exists() && !partial.join("block-00001.part").exists() && !out.exists());

    let other = QuantizeJob { groups: Some(Groups::Size(32)), method: Method::Rtn, calibration: None, ..job.clone() };
    let error = run(&other).unwrap_err();
    assert!(error.contains("method: awq then, rtn now") && error.contains("calibration text"), "{error}");
    assert!(!error.contains("group size"), "{error}");

    let mut done = None;
    let mut emit = |event: QuantizeEvent| match event {
        QuantizeEvent::Begun { done: blocks, .. } => done = Some(blocks),
        QuantizeEvent::Progress(progress) => assert_eq!((progress.block, progress.total), (2, 12)),
    };
    quantize(&job, &no_hub(), &mut emit, &AtomicBool::new(false)).unwrap();
    assert_eq!(done, Some(1));
    assert_eq!(files_of(&out), files_of(&uninterrupted));
}

#[test]
fn what_is_there_already_is_not_overwritten() {
    let model = Tiny::Llama.folder();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let job = job(model.path(), &out, Method::Rtn);
    std::fs::create_dir(&out).unwrap();
    assert_eq!(run(&job), Ok(QuantizeEnd::Written(out.clone())), "an empty folder is free");
    let before = files_of(&out);
    assert!(run(&job).unwrap_err().contains("there is something in"));
    assert_eq!(files_of(&out), before);

    let elsewhere = folder.path().join("elsewhere");
    let partial = folder.path().join("elsewhere.partial");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("thesis.txt"), "mine").unwrap();
    let error = run(&QuantizeJob { out: elsewhere, ..job.clone() }).unwrap_err();
    assert!(error.contains("is in the way"), "{error}");
    assert_eq!(files_of(&partial).len(), 1);

    let again = QuantizeJob { model: ModelSpec { source: out.display().to_string(), ..job.model.clone() }, ..job };
    let error = run(&QuantizeJob { out: folder.path().join("twice"), ..again }).unwrap_err();
    assert!(error.contains("quantised"), "{error}");
}

#[test]
fn calibration_text_that_is_too_short_says_how_short() {
    let model = Tiny::Llama.folder();
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let calibration = Some(path);
        run(&QuantizeJob { calibration, ..job(model.path(), &folder.path().join("out"), Method::Awq) })
    };
    let error = with("short.txt", &"ab ".repeat(1000)).unwrap_err();
    assert!(error.contains("tokens; 4096 are needed"), "{error}");
    let rows = |count: usize| "{\"question\": \"ab 1 2\", \"answer\": \"ab\\n#### 2\"}\n".repeat(count);
    let error = with("few.jsonl", &rows(127)).unwrap_err();
    assert!(error.contains("127 rows; 128 are needed"), "{error}");
    let error = with("nothing.txt", "").unwrap_err();
    assert!(error.contains("0 tokens"), "{error}");
    assert!(with("enough.jsonl", &rows(128)).is_ok());
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    for (name, value, part) in [
        ("model.layers.1.mlp.up_proj.weight", f32::NAN, "model.layers.1.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", f32::INFINITY, "model.embed_tokens.weight"),
        ("model.norm.weight", 1e5, "binary16 cannot hold"),
        ("model.layers.0.self_attn.v_proj.weight", 3e6, "v_proj"),
    ] {
        let model = Tiny::Llama.folder();
        let mut tensors = Tiny::Llama.tensors();
        tensors.iter_mut().filter(|(tensor, _, _)| tensor == name).for_each(|(_, _, values)| values[3] = value);
        write(model.path(), &Tiny::Llama.config(), &tensors);
        let folder = tempfile::tempdir().unwrap();
        let error = run(&job(model.path(), &folder.path().join("out"), Method::Rtn)).unwrap_err();
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn a_gguf_file_becomes_a_folder_of_the_same_model() {
    let mut file = gguf_writer::tiny("llama");
    file.count("llama.embedding_length", 64).count("llama.feed_forward_length", 96);
    file.tensors.clear();
    for (name, shape, values) in Tiny::Grouped.tensors() {
        file.tensor(&llama_cpp_name(&name), &shape, 0, f32_bytes(&values));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    let (_out, out) = quantized(&path, Method::Awq);
    let copy = expanded(&out, 32);
    let (was, is) = (open(&path).unwrap(), open(copy.path()).unwrap());
    assert_eq!(was.config, is.config);
    let text = "ab 12 a<|im_end|> b";
    assert_eq!(was.tokenizer.encode(text, true).unwrap(), is.tokenizer.encode(text, true).unwrap());
    assert_eq!(was.tokenizer.chat_template, is.tokenizer.chat_template);
    assert_eq!((&was.tokenizer.bos_token, &was.tokenizer.eos_ids), (&is.tokenizer.bos_token, &is.tokenizer.eos_ids));
    let loss = loss(&logits(&path), &logits(copy.path()));
    assert!(loss < 0.02, "{loss}");
}
