//! Checkpoints in compressed-tensors' `pack-quantized` layout: unpacked here by the format's description, read back by ours, and by
//! transformers with the compressed-tensors package where that is at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use evalsuite::engine::Dtype;
use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::TensorValues;
use evalsuite::quantize::{Groups, Method, QuantizeEnd, QuantizeJob, StoredFormat, quantize};
use half::f16;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::quantize::{Tiny, halves, job, loss, noise, run, write};
use crate::serve_clients;
use crate::tiny_model::{TOKENS, no_hub, open, tokenizer, tokenizer_config, write_json};

type Dense = BTreeMap<String, Vec<f32>>;

/// A llama of one layer with weights of our choice: widths, heads, what the MLP has inside.
#[derive(Debug, Clone, Copy)]
struct Shape {
    heads: usize,
    head_dim: usize,
    inside: usize,
}

impl Shape {
    /// Name, outputs and inputs of the linear layers.
    fn linears(self) -> Vec<(String, usize, usize)> {
        let hidden = self.heads * self.head_dim;
        [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", self.head_dim, hidden),
            ("self_attn.v_proj", self.head_dim, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", self.inside, hidden),
            ("mlp.up_proj", self.inside, hidden),
            ("mlp.down_proj", hidden, self.inside),
        ]
        .map(|(name, outputs, inputs)| (format!("model.layers.0.{name}"), outputs, inputs))
        .into()
    }

    fn folder(self, weights: &Dense) -> TempDir {
        let hidden = self.heads * self.head_dim;
        let config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "head_dim": self.head_dim,
            "vocab_size": TOKENS.len(), "hidden_size": hidden, "intermediate_size": self.inside,
            "num_hidden_layers": 1, "num_attention_heads": self.heads, "num_key_value_heads": 1,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 3,
            "eos_token_id": 4, "torch_dtype": "float32",
        });
        let mut tensors: Vec<_> = self
            .linears()
            .into_iter()
            .map(|(name, outputs, inputs)| (format!("{name}.weight"), vec![outputs, inputs], weights[&name].clone()))
            .collect();
        tensors.push((
            "model.embed_tokens.weight".to_owned(),
            vec![TOKENS.len(), hidden],
            noise(3, TOKENS.len() * hidden),
        ));
        for norm in ["model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"] {
            tensors.push((format!("{norm}.weight"), vec![hidden], vec![1.0; hidden]));
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config, &tensors);
        write_json(folder.path(), "tokenizer.json", &tokenizer());
        write_json(folder.path(), "tokenizer_config.json", &tokenizer_config());
        folder
    }
}

/// Quantises into a fresh folder.
fn packed(model: &Path, method: Method, groups: Option<Groups>, symmetric: bool, keep: &[usize]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let keep = keep.iter().copied().collect();
    let format = StoredFormat::CompressedTensors;
    let job = QuantizeJob { format, groups, symmetric, keep, ..job(model, &out, method) };
    assert_eq!(run(&job), Ok(QuantizeEnd::Written(out.clone())));
    (folder, out)
}

/// The packed layers' weights as the format's description says, and what they are packed in.
fn unpacked(folder: &Path) -> Dense {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| {
        let view = file.tensor(name).ok()?;
        assert_eq!(view.dtype(), safetensors::Dtype::I32, "{name}");
        let words: Vec<u32> = view.data().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Some((words, view.shape().to_vec()))
    };
    let mut dense = Dense::new();
    for name in file.names().into_iter().filter_map(|name| name.strip_suffix(".weight_packed")) {
        let shape = file.tensor(&format!("{name}.weight_shape")).unwrap();
        assert_eq!((shape.dtype(), shape.shape()), (safetensors::Dtype::I64, &[2_usize][..]), "{name}");
        let shape: Vec<usize> =
            shape.data().as_chunks::<8>().0.iter().map(|size| i64::from_le_bytes(*size) as usize).collect();
        let [outputs, inputs] = shape[..] else { panic!("{name}: {shape:?}") };
        let (codes, shape) = words(&format!("{name}.weight_packed")).unwrap();
        assert_eq!(shape, [outputs, inputs.div_ceil(8)], "{name}");
        let scales = file.tensor(&format!("{name}.weight_scale")).unwrap();
        let groups = scales.shape()[1];
        assert_eq!((scales.dtype(), scales.shape()[0]), (safetensors::Dtype::F16, outputs), "{name}");
        let scales = halves(scales.data());
        let zeros = words(&format!("{name}.weight_zero_point"));
        if let Some((_, shape)) = &zeros {
            assert_eq!(*shape, [outputs.div_ceil(8), groups], "{name}");
        }
        let nibble = |word: u32, at: usize| f64::from(word >> (4 * at) & 15) - 8.0;
        let weight = |output: usize, input: usize| {
            let group = input / (inputs / groups);
            let q = nibble(codes[output * inputs.div_ceil(8) + input / 8], input % 8);
            let z = zeros.as_ref().map_or(0.0, |(zeros, _)| nibble(zeros[output / 8 * groups + group], output % 8));
            ((q - z) * f64::from(scales[output * groups + group])) as f32
        };
        let weights = (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)));
        dense.insert(name.to_owned(), weights.map(|(output, input)| weight(output, input)).collect());
    }
    dense
}

/// The same layers' weights as our reader gives them.
fn read(folder: &Path, layers: &Dense) -> Dense {
    let source = open(folder).unwrap();
    let values = |name: &String| match source.tensors.read(&format!("{name}.weight")).unwrap().values {
        TensorValues::F32(values) => values,
        other => panic!("{name}: {}", other.name()),
    };
    layers.keys().map(|name| (name.clone(), values(name))).collect()
}

fn bits(dense: &Dense) -> BTreeMap<String, Vec<u32>> {
    dense.iter().map(|(name, values)| (name.clone(), values.iter().map(|value| value.to_bits()).collect())).collect()
}

/// Weights that lie on a grid of sixteen steps a group of inputs, its ends among them: rounding finds them again.
fn on_a_grid(shape: Shape, group: Option<usize>, seed: u64) -> Dense {
    let mut state = seed | 1;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut weights = Dense::new();
    for (name, outputs, inputs) in shape.linears() {
        let mut layer = Vec::new();
        for _ in 0..outputs * inputs / group.unwrap_or(inputs) {
            let group = group.unwrap_or(inputs);
            let mut q: Vec<u64> = (0..group).map(|_| next(16)).collect();
            let [low, high] = [next(group as u64 / 2) as usize, group / 2 + next(group as u64 / 2) as usize];
            (q[low], q[high]) = (0, 15);
            let (z, s) = (next(16), f16::from_bits(0x1400 + next(0x1400) as u16).to_f32());
            layer.extend(q.into_iter().map(|q| (q as f32 - z as f32) * s));
        }
        weights.insert(name, layer);
    }
    weights
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn weights_on_the_grid_come_back_bit_for_bit(group in 0_usize..4, symmetric: bool, seed: u64) {
        // Channels of widths that fill no words: 36 inputs and 44, 12 outputs.
        let group = [None, Some(32), Some(64), Some(128)][group];
        let shape = match group {
            None => Shape { heads: 3, head_dim: 12, inside: 44 },
            Some(_) => Shape { heads: 4, head_dim: 32, inside: 256 },
        };
        let weights = on_a_grid(shape, group, seed);
        let model = shape.folder(&weights);
        let groups = group.map_or(Groups::Channel, Groups::Size);
        let (_folder, out) = packed(model.path(), Method::Rtn, Some(groups), symmetric, &[]);
        let theirs = unpacked(&out);
        prop_assert_eq!(theirs.len(), 7);
        prop_assert_eq!(bits(&read(&out, &theirs)), bits(&theirs));
        if symmetric {
            // Another grid: as many steps, but the same number of them on either side of zero.
            for (name, outputs, inputs) in shape.linears() {
                let group = group.unwrap_or(inputs);
                prop_assert_eq!(theirs[&name].len(), outputs * inputs);
                for (rounded, weights) in theirs[&name].chunks(group).zip(weights[&name].chunks(group)) {
                    let step = weights.iter().fold(0.0_f32, |largest, w| largest.max(w.abs())) / 7.5;
                    let worst = rounded.iter().zip(weights).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    prop_assert!(worst <= 0.51 * step, "{}: {} of {}", name, worst, step);
                }
            }
        } else {
            prop_assert_eq!(bits(&theirs), bits(&weights));
        }
    }
}

#[test]
fn both_formats_hold_the_same_weights_where_both_can() {
    for tiny in Tiny::ALL {
        let model = tiny.folder();
        for method in [Method::Awq, Method::Rtn] {
            let (_packed, out) = packed(model.path(), method, None, false, &[]);
            let scratch = tempfile::tempdir().unwrap();
            let awq = scratch.path().join("awq");
            assert_eq!(run(&job(model.path(), &awq, method)), Ok(QuantizeEnd::Written(awq.clone())));
            let theirs = unpacked(&out);
            assert_eq!(bits(&read(&awq, &theirs)), bits(&theirs));
        }
    }
}

fn logits(folder: &Path) -> Vec<f32> {
    let engine = CpuEngine::load(&open(folder).unwrap(), Dtype::F32, None).unwrap();
    let tokens: Vec<u32> = noise(5, 60).iter().map(|number| 5 + (number.abs() * 1e4) as u32 % 7).collect();
    engine.logits(&tokens, 60).concat()
}

#[test]
fn the_search_helps_symmetric_codes_and_channels_too() {
    for (index, tiny) in Tiny::ALL.into_iter().enumerate() {
        let model = tiny.folder();
        let original = logits(model.path());
        for (groups, symmetric, most) in
            [(Groups::Size(32), true, 0.03), (Groups::Channel, true, 0.05), (Groups::Channel, false, 0.04)]
        {
            let [awq, rtn] = [Method::Awq, Method::Rtn].map(|method| {
                let (_folder, out) = packed(model.path(), method, Some(groups), symmetric, &[]);
                assert!(open(&out).unwrap().stored_as.starts_with("compressed-tensors int4"));
                loss(&original, &logits(&out))
            });
            println!("shape {index}, {groups:?}, symmetric {symmetric}: AWQ {awq:.5}, RTN {rtn:.5}");
            assert!(awq < most && awq < rtn, "shape {index}, {groups:?}, symmetric {symmetric}: AWQ {awq}, RTN {rtn}");
        }
    }
}

#[test]
fn config_json_says_what_other_readers_need() {
    let model = Tiny::Llama.folder();
    let section = |groups, symmetric, keep: &[usize]| {
        let (_folder, out) = packed(model.path(), Method::Rtn, groups, symmetric, keep);
        let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], "float16");
        config["quantization_config"].clone()
    };
    let expected = json!({
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 32,
                "actorder": null, "block_structure": null, "dynamic": false,
            },
            "input_activations": null, "output_activations": null,
        }},
        "ignore": ["lm_head"], "kv_cache_scheme": null,
    });
    assert_eq!(section(None, true, &[]), expected);
    let channel = section(Some(Groups::Channel), false, &[1]);
    let weights = &channel["config_groups"]["group_0"]["weights"];
    assert_eq!((&weights["strategy"], &weights["group_size"]), (&json!("channel"), &Value::Null));
    assert_eq!(weights["symmetric"], false);
    let kept: Vec<String> = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        .into_iter()
        .chain(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"])
        .map(|name| format!("model.layers.1.{name}"))
        .chain(["lm_head".to_owned()])
        .collect();
    assert_eq!(channel["ignore"], json!(kept));
}

#[test]
fn a_kept_layer_stays_in_f16_here_too() {
    let model = Tiny::Llama.folder();
    let (_all, all) = packed(model.path(), Method::Awq, None, true, &[]);
    let (_kept, kept) = packed(model.path(), Method::Awq, None, true, &[1]);
    let (all, others) = (unpacked(&all), unpacked(&kept));
    assert_eq!((all.len(), others.len()), (14, 7));
    for (name, values) in &others {
        assert!(name.contains("layers.0.") && all[name] == *values, "{name}");
    }
    let (own, source) = (open(model.path()).unwrap(), open(&kept).unwrap());
    let name = "model.layers.1.mlp.down_proj.weight";
    let (TensorValues::F32(own), TensorValues::F16(kept)) =
        (own.tensors.read(name).unwrap().values, source.tensors.read(name).unwrap().values)
    else {
        panic!("other elements")
    };
    assert!(own.iter().zip(&kept).all(|(own, kept)| f16::from_f32(*own) == *kept));
}

#[test]
fn what_autoawq_s_layout_cannot_hold_is_refused_and_two_formats_do_not_mix() {
    let model = Tiny::Llama.folder();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let awq = job(model.path(), &out, Method::Rtn);
    let error = run(&QuantizeJob { symmetric: true, ..awq.clone() }).unwrap_err();
    assert!(error.contains("--symmetric") && error.contains("`--format compressed-tensors`"), "{error}");
    let error = run(&QuantizeJob { groups: Some(Groups::Channel), ..awq.clone() }).unwrap_err();
    assert!(error.contains("--group-size channel") && error.contains("`--format compressed-tensors`"), "{error}");
    assert!(!out.exists());
    // A folder that was begun in one format is not gone on with in another.
    let partial = folder.path().join("out.partial");
    let begun = quantize(
        &QuantizeJob { format: StoredFormat::CompressedTensors, symmetric: true, ..awq.clone() },
        &no_hub(),
        &mut |_| (),
        &AtomicBool::new(true),
    );
    assert_eq!(begun.unwrap(), QuantizeEnd::Interrupted(partial));
    let error = run(&awq).unwrap_err();
    let both = ["format: compressed-tensors then, none now", "rounding: symmetric then, none now"];
    assert!(both.into_iter().all(|line| error.contains(line)), "{error}");
}

/// A folder that was begun with layers that are kept was gone on with by a command that keeps none.
#[test]
fn a_folder_that_was_begun_with_kept_layers_is_not_gone_on_with_without() {
    let model = Tiny::Llama.folder();
    let folder = tempfile::tempdir().unwrap();
    let without = job(model.path(), &folder.path().join("out"), Method::Rtn);
    let with = QuantizeJob { keep: BTreeSet::from([1]), ..without.clone() };
    assert!(matches!(quantize(&with, &no_hub(), &mut |_| (), &AtomicBool::new(true)), Ok(QuantizeEnd::Interrupted(_))));
    let error = run(&without).unwrap_err();
    assert!(error.contains("layers that are kept: 1 then, none now"), "{error}");
    assert!(run(&with).is_ok());
}

#[test]
fn weights_whose_scales_do_not_fit_are_refused_by_name() {
    let shape = Shape { heads: 2, head_dim: 16, inside: 32 };
    let mut weights = on_a_grid(shape, None, 3);
    weights.get_mut("model.layers.0.mlp.up_proj").unwrap()[5] = 3e6;
    let model = shape.folder(&weights);
    let folder = tempfile::tempdir().unwrap();
    let job = QuantizeJob {
        format: StoredFormat::CompressedTensors,
        symmetric: true,
        keep: BTreeSet::new(),
        ..job(model.path(), &folder.path().join("out"), Method::Rtn)
    };
    let error = run(&job).unwrap_err();
    assert!(error.contains("mlp.up_proj cannot be packed"), "{error}");
}

/// SHA-256 of every linear layer's weights in f16, as transformers has them.
#[test]
fn transformers_with_compressed_tensors_loads_the_same_weights() {
    let Some(python) = serve_clients::python_with("compressed_tensors") else { return };
    let shape = Shape { heads: 4, head_dim: 32, inside: 256 };
    let model = shape.folder(&on_a_grid(shape, Some(64), 7));
    let two_layers = Tiny::Llama.folder();
    for (groups, symmetric, keep) in [
        (Some(Groups::Size(64)), false, None),
        (Some(Groups::Size(128)), true, None),
        (Some(Groups::Channel), false, None),
        (Some(Groups::Channel), true, Some(1)),
        (None, false, Some(1)),
    ] {
        let model = if keep.is_some() { two_layers.path() } else { model.path() };
        let keep: Vec<usize> = keep.into_iter().collect();
        let (_folder, out) = packed(model, Method::Awq, groups, symmetric, &keep);
        let said = serve_clients::run(&python, "load_compressed.py", &[out.to_str().unwrap()]);
        let theirs: BTreeMap<String, String> = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let source = open(&out).unwrap();
        let linears: Vec<String> = source.tensors.names().into_iter().filter(|name| name.contains("_proj")).collect();
        assert_eq!(theirs.keys().collect::<Vec<_>>(), linears.iter().collect::<Vec<_>>());
        for name in linears {
            let half = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<_>>();
            let values = match source.tensors.read(&name).unwrap().values {
                TensorValues::F32(values) => half(values),
                TensorValues::F16(values) => values,
                other => panic!("{name}: {}", other.name()),
            };
            let bytes: Vec<u8> = values.into_iter().flat_map(f16::to_le_bytes).collect();
            assert_eq!(theirs[&name], evalsuite::files::sha256(&bytes), "{name}, {groups:?}, symmetric {symmetric}");
        }
    }
}
