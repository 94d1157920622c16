//! Packed layouts that are read as the dense weights that they stand for (`tests/data/make_packed.py`), as other programs read them and write
//! them too (`tests/data/read_packed.py`).

use std::collections::BTreeMap;

use evalsuite::engine::Dtype;
use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::TensorValues;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Element, TensorView};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::data;
use crate::tiny_model::{open, refusal, write_json};

#[derive(Deserialize)]
struct Oracle {
    config: Value,
    variants: BTreeMap<String, Variant>,
}

#[derive(Deserialize)]
struct Variant {
    quantization_config: Value,
    sha256: BTreeMap<String, String>,
}

fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(data(&format!("packed/{name}"))).unwrap()).unwrap()
}

fn oracle() -> Oracle {
    json("oracle.json")
}

/// A folder with a variant's weights; `change` may alter its section first.
fn folder(oracle: &Oracle, name: &str, change: impl Fn(&mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config = oracle.config.clone();
    config["quantization_config"] = oracle.variants[name].quantization_config.clone();
    change(&mut config["quantization_config"]);
    write_json(folder.path(), "config.json", &config);
    let words: BTreeMap<String, usize> = (0..24).map(|id| (format!("w{id}"), id)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "w0", "vocab": words},
    });
    write_json(folder.path(), "tokenizer.json", &tokenizer);
    std::fs::copy(data(&format!("packed/{name}.safetensors")), folder.path().join("model.safetensors")).unwrap();
    folder
}

type Stored = (Element, Vec<usize>, Vec<u8>);

/// Writes a variant's tensors anew, changed.
fn rewrite(folder: &TempDir, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, Stored> = read
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (element, shape, bytes))| {
        (name.as_str(), TensorView::new(*element, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn packed_weights_are_what_their_own_readers_unpack_bit_for_bit() {
    let (oracle, others): (_, Oracle) = (oracle(), json("by_others.json"));
    assert_eq!((oracle.variants.len(), others.variants.len()), (22, 12));
    let readers: BTreeMap<String, Vec<String>> = json("readers.json");
    let both = [&oracle, &others].into_iter().flat_map(|oracle| oracle.variants.iter().map(move |one| (oracle, one)));
    for (oracle, (name, variant)) in both {
        assert!(readers.get(name).is_some_and(|readers| !readers.is_empty()), "nobody else has read {name}");
        let folder = folder(oracle, name, |_| {});
        let source = open(folder.path()).unwrap();
        assert!(source.is_quantized(), "{name}: {}", source.stored_as);
        assert_eq!(variant.sha256.len(), 6);
        for (tensor, sha256) in &variant.sha256 {
            let TensorValues::F32(values) = source.tensors.read(tensor).unwrap().values else { panic!("not f32") };
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(evalsuite::files::sha256(&bytes), *sha256, "{name}: {tensor}");
        }
        let names = source.tensors.names();
        assert_eq!(names.len(), 11, "{name}: {names:?}");
        assert!(names.iter().all(|name| name.ends_with(".weight")), "{names:?}");
        // One layer is dense in every variant.
        let dense = source.tensors.read("model.layers.0.self_attn.v_proj.weight").unwrap();
        assert!(matches!(dense.values, TensorValues::F16(_)), "{name}");
        for dtype in [Dtype::F32, Dtype::F16] {
            let logits = CpuEngine::load(&source, dtype, None).unwrap().logits(&[3, 5, 7], 3);
            assert!(logits.iter().flatten().all(|logit| logit.is_finite()), "{name}");
        }
    }
}

#[test]
fn tables_say_what_the_weights_are() {
    let (oracle, others): (_, Oracle) = (oracle(), json("by_others.json"));
    for (name, expected) in [
        ("ct-int4-group16", "compressed-tensors int4 (group 16)"),
        ("ct-int8-channel", "compressed-tensors int8 (channel)"),
        ("ct-fp8-tensor", "compressed-tensors fp8 (tensor)"),
        ("ct-fp8-block", "compressed-tensors fp8 (blocks of 16 × 16)"),
        ("ct-nvfp4", "compressed-tensors nvfp4 (group 16)"),
        ("ct-mxfp4", "compressed-tensors mxfp4 (group 32)"),
        ("gptq-v1", "gptq-int4 (group 16)"),
        ("gptq-v1-row", "gptq-int4 (one group a row)"),
        ("fp8-block", "fp8 (blocks of 12 × 20)"),
        ("modelopt-nvfp4", "modelopt nvfp4 (group 16)"),
        ("by_autogptq-int2", "gptq-int2 (group 16)"),
        ("by_modelopt-fp8", "modelopt fp8 (tensor)"),
        ("by_transformers-fp8-block", "fp8 (blocks of 16 × 16)"),
        ("by_compressed-tensors-int8", "compressed-tensors int8 (channel)"),
    ] {
        let oracle = if name.starts_with("by_") { &others } else { &oracle };
        assert_eq!(open(folder(oracle, name, |_| {}).path()).unwrap().stored_as, expected);
    }
}

#[test]
fn what_the_section_says_decides_where_the_tensors_are_alike() {
    let oracle = oracle();
    let read =
        |folder: &TempDir| open(folder.path()).unwrap().tensors.read("model.layers.0.mlp.up_proj.weight").unwrap();
    let plain = read(&folder(&oracle, "gptq-v1", |_| {}));
    let later = read(&folder(&oracle, "gptq-v1", |section| section["checkpoint_format"] = json!("gptq_v2")));
    assert_ne!(plain, later, "the zero points are stored less one, or not");
    let factors = read(&folder(&oracle, "fp8-block", |_| {}));
    let inverses =
        read(&folder(&oracle, "fp8-block", |section| section["meta"] = json!({"quantizer": ["gptqmodel:5.0"]})));
    assert_ne!(factors, inverses, "GPTQModel's own are to be divided by");
    // Indices that were never set are none.
    let unset = folder(&oracle, "ct-int4-actorder", |_| {});
    let ordered = read(&unset);
    rewrite(&unset, |tensors| {
        for (name, (_, _, bytes)) in tensors.iter_mut() {
            if name.ends_with("weight_g_idx") {
                bytes[..4].copy_from_slice(&(-1_i32).to_le_bytes());
            }
        }
    });
    assert_ne!(read(&unset), ordered);
    // A preset stands for its scheme, and the older name of the section for the section.
    let preset = folder(&oracle, "ct-int4-group16", |section| section["config_groups"] = json!({"W4A16": ["Linear"]}));
    assert_eq!(read(&preset), read(&folder(&oracle, "ct-int4-group16", |_| {})));
    let older = folder(&oracle, "ct-int4-group16", |_| {});
    let mut config = oracle.config.clone();
    config["compression_config"] = oracle.variants["ct-int4-group16"].quantization_config.clone();
    write_json(older.path(), "config.json", &config);
    assert_eq!(read(&older), read(&preset));
    // ModelOpt says it in a file of its own, too.
    let apart = folder(&oracle, "modelopt-nvfp4", |_| {});
    write_json(apart.path(), "config.json", &oracle.config);
    let section = json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}});
    write_json(apart.path(), "hf_quant_config.json", &section);
    assert_eq!(read(&apart), read(&folder(&oracle, "modelopt-nvfp4", |_| {})));
}

#[test]
fn a_zero_point_that_has_two_meanings_is_refused() {
    let oracle = oracle();
    let folder = folder(&oracle, "gptq-v1-asym", |_| {});
    rewrite(&folder, |tensors| {
        tensors.get_mut("model.layers.0.mlp.up_proj.qzeros").unwrap().2[0] |= 0x0f;
    });
    let source = open(folder.path()).unwrap();
    let error = source.tensors.read("model.layers.0.mlp.up_proj.weight").unwrap_err().to_string();
    assert!(error.contains("1 zero points of 15") && error.contains("from 16 or 0"), "{error}");
}

#[test]
fn layouts_that_are_not_read_are_refused_by_name() {
    type Change = fn(&mut Value);
    let oracle = oracle();
    let changes: [(&str, Change, &str); 8] = [
        ("ct-int4-group16", |s| s["format"] = json!("marlin-24"), "`compressed-tensors, marlin-24`"),
        (
            "ct-int4-group16",
            |s| s["sparsity_config"] = json!({"format": "sparse-24-bitmask"}),
            "`compressed-tensors, sparse`",
        ),
        ("gptq-v1", |s| s["checkpoint_format"] = json!("marlin"), "`gptq, marlin`"),
        ("gptq-v1", |s| s["bits"] = json!(3), "`gptq, 3 bits`"),
        ("gptq-v1", |s| s["pack_dtype"] = json!("int64"), "`gptq, packed into int64`"),
        ("fp8-block", |s| s["fmt"] = json!("e5m2"), "`fp8, e5m2`"),
        ("modelopt-nvfp4", |s| s["quant_algo"] = json!("W4A8_AWQ"), "`modelopt, W4A8_AWQ`"),
        ("gptq-v1", |s| s["quant_method"] = json!("exl3"), "`exl3`"),
    ];
    for (name, change, expected) in changes {
        let error = refusal(folder(&oracle, name, change).path());
        assert!(error.contains(expected) && error.contains("is read"), "{error}");
    }
}

#[test]
fn damaged_layers_are_refused_with_both_sides() {
    let oracle = oracle();
    let layer = "model.layers.0.mlp.down_proj";
    let shaped = |name: &str, part: &str, shape: &[usize]| {
        let folder = folder(&oracle, name, |_| {});
        rewrite(&folder, |tensors| {
            let (element, old, bytes) = &tensors[&format!("{layer}.{part}")];
            let size = bytes.len() / old.iter().product::<usize>();
            let changed = (*element, shape.to_vec(), vec![0; size * shape.iter().product::<usize>()]);
            tensors.insert(format!("{layer}.{part}"), changed);
        });
        refusal(folder.path())
    };
    for (name, part, shape, expected) in [
        ("ct-int4-group16", "weight_packed", vec![32, 9], "has shape [32, 9], which does not hold 32 × 64"),
        ("ct-int4-group16", "weight_scale", vec![32, 5], "has shape [32, 5]"),
        ("ct-fp8-channel", "weight_scale", vec![31], "has shape [31]"),
        ("ct-nvfp4", "weight_scale", vec![32, 5], "weight_scale"),
        ("gptq-v1", "qzeros", vec![4, 5], "has shape [4, 5], but `qweight` of shape [8, 32] calls for [4, 4]"),
        ("gptq-v1", "g_idx", vec![63], "g_idx"),
        ("fp8-block", "weight_scale_inv", vec![3, 3], "fits no blocks"),
    ] {
        let error = shaped(name, part, &shape);
        assert!(error.contains(expected) && error.contains(layer), "{name}: {error}");
    }
    let without = |name: &str, part: &str| {
        let folder = folder(&oracle, name, |_| {});
        rewrite(&folder, |tensors| _ = tensors.remove(&format!("{layer}.{part}")));
        refusal(folder.path())
    };
    assert!(without("ct-int4-group32-asym", "weight_zero_point").contains("`symmetric`: false"));
    assert!(without("ct-int4-group16", "weight_scale").contains("weight_scale` of"));
    assert!(without("gptq-v1", "scales").contains("scales` of"));
    let folder = folder(&oracle, "gptq-v1-desc_act", |_| {});
    rewrite(&folder, |tensors| {
        tensors.get_mut(&format!("{layer}.g_idx")).unwrap().2[..4].copy_from_slice(&[9, 0, 0, 0]);
    });
    let error = open(folder.path()).unwrap().tensors.read(&format!("{layer}.weight")).unwrap_err().to_string();
    assert!(error.contains("beyond the 4"), "{error}");
}
