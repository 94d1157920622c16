//! AWQ checkpoints: read as `AutoAWQ` reads them, run as the dense model of their values runs, refused where they are
//! something else.

use std::path::Path;

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelSource, ModelSpec, TensorValues};
use evalsuite::engine::{Dtype, EngineKind, OpenOptions};
use half::{bf16, f16};
use safetensors::tensor::Dtype as SafetensorsType;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::awq_writer::{Checkpoint, bytes_i32};
use crate::data;
use crate::tiny_model::{self, no_hub, open, refusal, write_json};

const TOKENS: [u32; 24] = [5, 9, 40, 3, 77, 12, 60, 8, 91, 14, 33, 52, 7, 7, 29, 85, 44, 19, 66, 70, 23, 11, 95, 31];

fn logits(source: &ModelSource, dtype: Dtype) -> Vec<u32> {
    let engine = CpuEngine::load(source, dtype, None).unwrap();
    engine.logits(&TOKENS, 8).into_iter().flatten().map(f32::to_bits).collect()
}

fn spec(path: &Path) -> ModelSpec {
    ModelSpec { source: path.to_str().unwrap().to_owned(), revision: "main".to_owned() }
}

/// A checkpoint that `AutoAWQ`'s own code has packed (`tests/data/make_awq.py`): every weight, rounded to f16, is what its
/// `dequantize_gemm` gives, bit for bit.
#[test]
fn a_checkpoint_of_autoawq_reads_here_as_autoawq_reads_it() {
    let source = open(&data("awq-autoawq")).unwrap();
    assert_eq!(source.stored_as, "awq-int4 (group 32)");
    let bytes = std::fs::read(data("awq-autoawq/dequantized.safetensors")).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 7);
    for (name, tensor) in theirs.tensors() {
        let ours = source.tensors.read(&name).unwrap();
        assert_eq!(ours.shape, tensor.shape(), "{name}");
        let TensorValues::F32(values) = ours.values else { panic!("{name} is not f32") };
        let ours: Vec<u8> = values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
        assert!(ours == tensor.data(), "{name} differs");
        let layer = source.tensors.read_packed(name.strip_suffix(".weight").unwrap()).unwrap().unwrap();
        assert_eq!((layer.outputs, layer.inputs, layer.group_size), (tensor.shape()[0], tensor.shape()[1], 32));
    }
}

/// The same checkpoint run in f32 against transformers in binary64 on the weights that `AutoAWQ` unpacked.
#[test]
fn autoawqs_weights_give_transformers_logits() {
    #[derive(Deserialize)]
    struct Oracle {
        tokens: Vec<u32>,
        logits_float64: Vec<Vec<f64>>,
    }
    let text = std::fs::read_to_string(data("awq-autoawq/oracle.json")).unwrap();
    let oracle: Oracle = serde_json::from_str(&text).unwrap();
    let source = open(&data("awq-autoawq")).unwrap();
    let error = |dtype| {
        let logits = CpuEngine::load(&source, dtype, None).unwrap().logits(&oracle.tokens, 8);
        crate::largest_difference(&logits.concat(), &oracle.logits_float64.concat())
    };
    let largest = oracle.logits_float64.iter().flatten().map(|logit| logit.abs()).fold(0.0, f64::max);
    // As in families.rs: 1e-5 of the largest logit for binary32. Activations in binary16 keep 11 bits, and some twenty
    // roundings lie between embedding and logits.
    let (single, awq) = (error(Dtype::F32), error(Dtype::Awq));
    assert!(single <= 1e-5 * largest, "off by {single:e} of {largest}");
    assert!(awq <= 20.0 / 2048.0 * largest, "off by {awq:e} of {largest}");
}

/// Short scales make every (q − z) · s a binary16 number, so that the dense model in f16 has the very same weights.
#[test]
fn packed_logits_are_those_of_the_dense_model_of_their_values() {
    for family in ["llama", "llama3-rope", "mistral", "qwen2", "opt"] {
        // 72 inputs of llama3-rope's output projection divide by 8 only.
        let groups = if family == "llama3-rope" { [Some(8), None] } else { [Some(16), Some(4)] };
        for group in groups {
            let checkpoint = Checkpoint::new(family, group, None, true);
            let (packed, dense) = (checkpoint.write(), checkpoint.write_dense());
            let (packed, dense) = (open(packed.path()).unwrap(), open(dense.path()).unwrap());
            assert_eq!(logits(&packed, Dtype::Awq), logits(&dense, Dtype::F16), "{family} {group:?}");
        }
    }
}

/// Any scales: f32 arithmetic holds every value exactly.
#[test]
fn f32_on_a_packed_checkpoint_computes_from_the_packed_values() {
    for family in ["llama", "qwen2", "opt"] {
        let checkpoint = Checkpoint::new(family, Some(16), None, false);
        let (packed, dense) = (checkpoint.write(), checkpoint.write_dense());
        let (packed, dense) = (open(packed.path()).unwrap(), open(dense.path()).unwrap());
        assert!(packed.is_quantized() && !dense.is_quantized());
        assert_eq!(packed.tensors.names(), dense.tensors.names());
        assert_eq!(logits(&packed, Dtype::F32), logits(&dense, Dtype::F32), "{family}");
    }
}

#[test]
fn shards_and_the_older_config_change_nothing() {
    let checkpoint = Checkpoint::new("qwen2", Some(16), None, false);
    let (whole, sharded) = (checkpoint.write(), checkpoint.write_sharded_and_older());
    let sharded_source = open(sharded.path()).unwrap();
    assert_eq!(logits(&open(whole.path()).unwrap(), Dtype::Awq), logits(&sharded_source, Dtype::Awq));
    // The older file decides how the weights are read, so the hash covers it.
    let before = sharded_source.sha256.wait().unwrap();
    write_json(sharded.path(), "quant_config.json", &json!({"w_bit": 4, "q_group_size": 16, "zero_point": true}));
    assert_ne!(open(sharded.path()).unwrap().sha256.wait().unwrap(), before);
}

/// Other programs write the scales wider or as bf16; short ones are the same numbers in every type.
#[test]
fn scales_of_any_type_and_a_kernels_name_change_nothing() {
    let plain = Checkpoint::new("qwen2", Some(16), None, true).write();
    let expected = logits(&open(plain.path()).unwrap(), Dtype::Awq);
    let changed = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = Checkpoint::new("qwen2", Some(16), None, true);
        change(&mut checkpoint);
        let folder = checkpoint.write();
        logits(&open(folder.path()).unwrap(), Dtype::Awq)
    };
    let rewrite = |checkpoint: &mut Checkpoint, dtype: SafetensorsType, bytes: fn(f16) -> Vec<u8>| {
        for (name, (element, _, data)) in &mut checkpoint.packed {
            if name.ends_with(".scales") {
                let halves = data.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]));
                (*element, *data) = (dtype, halves.flat_map(bytes).collect());
            }
        }
    };
    let wide = |checkpoint: &mut Checkpoint| {
        rewrite(checkpoint, SafetensorsType::F32, |half| half.to_f32().to_le_bytes().to_vec());
    };
    let brain = |checkpoint: &mut Checkpoint| {
        rewrite(checkpoint, SafetensorsType::BF16, |half| bf16::from_f32(half.to_f32()).to_le_bytes().to_vec());
    };
    assert_eq!(changed(&wide), expected);
    assert_eq!(changed(&brain), expected);
    assert_eq!(changed(&|checkpoint| checkpoint.config["quantization_config"]["version"] = json!("exllama")), expected);
}

/// A symmetric checkpoint counts from 8, whether it stores that or not.
#[test]
fn a_symmetric_checkpoint_needs_no_zero_points() {
    let symmetric = |stored: bool| {
        let mut checkpoint = Checkpoint::new("llama", Some(16), None, true);
        checkpoint.config["quantization_config"]["zero_point"] = json!(false);
        checkpoint.packed.retain(|name, (_, _, data)| {
            let is_zeros = name.ends_with(".qzeros");
            if is_zeros {
                data.fill(0x88);
            }
            stored || !is_zeros
        });
        let folder = checkpoint.write();
        let source = open(folder.path()).unwrap();
        let TensorValues::F32(values) = source.tensors.read("model.layers.0.mlp.up_proj.weight").unwrap().values else {
            panic!("not f32")
        };
        (logits(&source, Dtype::Awq), values.iter().any(|value| *value < 0.0))
    };
    assert_eq!(symmetric(true), symmetric(false));
    assert!(symmetric(false).1, "codes below 8 are negative");
    let mut without = Checkpoint::new("llama", Some(16), None, true);
    without.packed.retain(|name, _| !name.ends_with(".qzeros"));
    assert!(refusal(without.write().path()).contains("qzeros"), "only where the config says so");
}

#[test]
fn packed_weights_without_a_config_that_says_so_are_named() {
    let mut checkpoint = Checkpoint::new("qwen2", Some(16), None, false);
    checkpoint.config.as_object_mut().unwrap().remove("quantization_config");
    let error = refusal(checkpoint.write().path());
    assert!(
        error.contains("q_proj.qweight`") && error.contains("packed") && error.contains("quantization_config"),
        "{error}"
    );
}

#[test]
fn layers_that_are_left_as_they_are_run_in_binary16() {
    // A whole stack, and a part of one.
    for kept in ["down_proj", "v_proj", "layers.1."] {
        let checkpoint = Checkpoint::new("llama", Some(16), Some(kept), true);
        let (packed, dense) = (checkpoint.write(), checkpoint.write_dense());
        let (packed, dense) = (open(packed.path()).unwrap(), open(dense.path()).unwrap());
        assert_eq!(packed.quantization.as_ref().unwrap().modules_to_not_convert, [kept]);
        assert_eq!(logits(&packed, Dtype::Awq), logits(&dense, Dtype::F16), "{kept}");
    }
}

#[test]
fn other_layouts_are_refused_by_name() {
    for (change, layout) in [
        (json!({"version": "gemv"}), "`awq, gemv`"),
        (json!({"version": "gemv_fast"}), "`awq, gemv_fast`"),
        (json!({"version": "marlin"}), "`awq, marlin`"),
        (json!({"bits": 8}), "`awq, 8 bits`"),
    ] {
        let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
        for (key, value) in change.as_object().unwrap() {
            checkpoint.config["quantization_config"][key] = value.clone();
        }
        let folder = checkpoint.write();
        let error = refusal(folder.path());
        assert!(error.contains(layout), "{error}");
    }
    // Tensors of another layout under a config that says gemm.
    let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
    let down = "model.layers.0.mlp.down_proj";
    // gemv: [outputs, inputs / 8] and so on.
    checkpoint.packed.get_mut(&format!("{down}.qweight")).unwrap().1 = vec![48, 10];
    let error = refusal(checkpoint.write().path());
    assert!(error.contains("down_proj") && error.contains("gemv"), "{error}");
    let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
    let stored = checkpoint.packed.remove(&format!("{down}.qweight")).unwrap();
    checkpoint.packed.insert(format!("{down}.weight_packed"), stored);
    let error = refusal(checkpoint.write().path());
    assert!(error.contains("qweight") || error.contains("compressed-tensors"), "{error}");
}

#[test]
fn damaged_checkpoints_are_refused_with_both_sides() {
    type Change = fn(&mut Checkpoint, &str);
    let layer = "model.layers.0.self_attn.o_proj";
    let at_opening: [(Change, &str); 7] = [
        (|c, l| drop(c.packed.remove(&format!("{l}.qzeros"))), "no tensor `model.layers.0.self_attn.o_proj.qzeros`"),
        (|c, l| drop(c.packed.remove(&format!("{l}.scales"))), "no tensor `model.layers.0.self_attn.o_proj.scales`"),
        (|c, l| drop(c.packed.remove(&format!("{l}.qweight"))), "no tensor `model.layers.0.self_attn.o_proj.qweight`"),
        (|c, l| c.packed.get_mut(&format!("{l}.qzeros")).unwrap().1 = vec![6, 3], "shape [6, 3]"),
        (|c, l| c.packed.get_mut(&format!("{l}.scales")).unwrap().1 = vec![48, 3], "calls for [3, 48]"),
        (
            |c, _| c.config["quantization_config"]["group_size"] = json!(32),
            "80 inputs, which do not divide into groups of 32",
        ),
        (|c, _| c.config["intermediate_size"] = json!(96), "has shape [80, 48], but the config calls for [96, 48]"),
    ];
    for (change, expected) in at_opening {
        let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
        change(&mut checkpoint, layer);
        let error = refusal(checkpoint.write().path());
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let halves = |value: f32| f16::from_f32(value).to_le_bytes();
    for (value, expected) in [(0.0, "is 0;"), (f32::NAN, "is NaN"), (f32::INFINITY, "is inf"), (-0.5, "is -0.5")] {
        let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
        let scales = &mut checkpoint.packed.get_mut(&format!("{layer}.scales")).unwrap().2;
        scales[2 * 49..2 * 50].copy_from_slice(&halves(value));
        let folder = checkpoint.write();
        let source = open(folder.path()).unwrap();
        let error = CpuEngine::load(&source, Dtype::Awq, None).err().unwrap().to_string();
        assert!(error.contains(&format!("layer `{layer}`")) && error.contains("output 1, group 1"), "{error}");
        assert!(error.contains(expected) && error.contains("hint:"), "{error}");
    }
    let mut checkpoint = Checkpoint::new("llama", Some(16), None, false);
    let zeros = checkpoint.packed.get_mut(&format!("{layer}.qzeros")).unwrap();
    *zeros = (safetensors::tensor::Dtype::F32, zeros.1.clone(), bytes_i32([0; 18]));
    let folder = checkpoint.write();
    let error = CpuEngine::load(&open(folder.path()).unwrap(), Dtype::Awq, None).err().unwrap().to_string();
    assert!(error.contains("stored as f32") && error.contains("i32"), "{error}");
    // A config that says AWQ over weights that are not.
    let folder = tiny_model::folder();
    let mut config: Value = tiny_model::config();
    config["quantization_config"] = json!({"quant_method": "awq", "group_size": 4});
    write_json(folder.path(), "config.json", &config);
    assert!(refusal(folder.path()).contains("no packed layer"));
}

#[test]
fn an_awq_form_is_found_beside_the_model_or_where_it_is_named() {
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    let (packed, dense) = (checkpoint.write(), checkpoint.write_dense());
    let folder = tempfile::tempdir().unwrap();
    let (model, beside) = (folder.path().join("m"), folder.path().join("m-awq"));
    std::fs::rename(dense.keep(), &model).unwrap();
    let source = open(&model).unwrap();
    let find = |named: Option<&Path>| {
        source.open_awq_form(&spec(&model), named.map(spec).as_ref(), &no_hub()).map_err(|error| error.to_string())
    };
    assert!(find(None).unwrap().is_none());
    let named = find(Some(packed.path())).unwrap().unwrap();
    assert_eq!(named.stored_as, "awq-int4 (group 16)");
    assert!(std::sync::Arc::ptr_eq(&named.tokenizer, &source.tokenizer), "every precision has one tokenizer");
    assert_eq!(spec(&model).awq_path(), beside);
    // Files are hashed on another thread, which must be done before they move.
    let hash = named.sha256.wait().unwrap();
    std::fs::rename(packed.keep(), &beside).unwrap();
    assert_eq!(find(None).unwrap().unwrap().sha256.wait().unwrap(), hash);
    let form = open(&beside).unwrap();
    assert!(form.open_awq_form(&spec(&beside), None, &no_hub()).unwrap().is_none(), "it is AWQ itself");

    let error = find(Some(&model)).err().unwrap();
    assert!(error.contains("no AWQ checkpoint") && error.contains("stored as f32"), "{error}");
    let other = Checkpoint::new("qwen2", Some(16), None, false).write();
    let error = find(Some(other.path())).err().unwrap();
    assert!(error.contains("is not the AWQ form of m: `") && error.contains("hint:"), "{error}");
    let tokens = std::fs::read_to_string(beside.join("tokenizer.json")).unwrap().replace("\"t96\"", "\"u96\"");
    std::fs::write(beside.join("tokenizer.json"), tokens).unwrap();
    assert!(find(None).err().unwrap().contains("the tokenizers have different tokens"));
}

#[test]
fn what_a_models_files_cannot_run_in_is_refused() {
    let source = |name: &str| std::sync::Arc::new(open(&data(name)).unwrap());
    for (name, kind, dtype, expected) in [
        ("llama", EngineKind::Cpu, Dtype::Awq, "evalsuite quantize"),
        ("awq-autoawq", EngineKind::Cpu, Dtype::Int8, "no int8"),
        ("awq-autoawq", EngineKind::Candle, Dtype::Awq, "--engine cpu"),
    ] {
        let options = OpenOptions::new(kind, dtype, None);
        let error = evalsuite::engine::open(&source(name), &options).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("hint:"), "{error}");
    }
    // candle's own models run the same weights dense.
    let options = OpenOptions::new(EngineKind::Candle, Dtype::F32, None);
    evalsuite::engine::open(&source("awq-autoawq"), &options).unwrap();
}
