//! AWQ checkpoints in `AutoAWQ`'s GEMM layout (Lin et al., 2023): four bits, with zero points.

use half::f16;
use serde_json::{Map, Value, json};

use super::entry::{CheckpointFormat, FormatEntry, Found, Layout, Origin, PackedShape, Quantization};
use super::section::{damaged, group_size, other_layout, text, whole_number};
use crate::EngineError;
use crate::arithmetic::Arithmetic;
use crate::model::AwqTensor;
use crate::model::weights::{TensorValues, Tensors};

/// The three tensors of a packed layer.
const PARTS: [&str; 3] = ["qweight", "qzeros", "scales"];

/// What is read, in words.
const READS: &str = "AutoAWQ's gemm layout of four bits";

/// The only layout that is read.
const LAYOUT: &str = "gemm";

/// Versions that choose a kernel for this very layout.
const KERNELS: [&str; 12] = [
    "exllama",
    "exllama_v1",
    "exllama_v2",
    "exllamav2",
    "ipex",
    "triton",
    "gemm_triton",
    "torch_awq",
    "torch_fused_awq",
    "machete",
    "autoawq",
    "auto",
];

/// The zero point of every group where a symmetric checkpoint stores none.
const MIDDLE: u8 = 8;

/// transformers' value where a checkpoint names none.
const DEFAULT_GROUP_SIZE: i64 = 128;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "awq",
    aliases: &["awq-int4"],
    description: "linear layers of an AWQ checkpoint in four bits, a scale and a zero point a group; the rest in f16",
    arithmetics: &[Arithmetic::F16],
    layout: Layout::Int4,
    // Four, and a scale and a zero point for some 32 to 128 of them.
    bits: Some(5),
    origin: Origin::Checkpoint(CheckpointFormat {
        method: "awq",
        title: "AWQ",
        stored_as: "awq-int4",
        reads: READS,
        hint: "make one: `evalsuite quantize --model MODEL --out DIR`",
        parts: &PARTS,
        strangers: &[("weight_packed", "compressed-tensors"), ("g_idx", "gptq"), ("weight_scale", "fp8 or int8")],
        parse,
        find,
        read,
    }),
};

impl Quantization {
    /// The value of `quantization_config` in an AWQ checkpoint's config.json.
    pub fn to_awq_json(&self) -> Value {
        let kept = &self.modules_to_not_convert;
        json!({
            "quant_method": "awq",
            "bits": 4,
            "group_size": self.group_size.map_or(Value::from(-1), Value::from),
            "zero_point": !self.symmetric,
            "version": LAYOUT,
            "modules_to_not_convert": if kept.is_empty() { Value::Null } else { Value::from(kept.clone()) },
        })
    }
}

fn parse(section: &Map<String, Value>, file: &str) -> Result<Quantization, EngineError> {
    if section.get("backend").and_then(Value::as_str) == Some("llm-awq") {
        return Err(other_layout(file, "llm-awq", READS));
    }
    let version = match text(section, "version", file)? {
        Some(version) => version,
        None => text(section, "format", file)?.unwrap_or(LAYOUT),
    };
    let version = version.to_lowercase();
    if version != LAYOUT && !KERNELS.contains(&version.as_str()) {
        return Err(other_layout(file, &format!("awq, {version}"), READS));
    }
    let bits = whole_number(section, ["bits", "w_bit"], file)?.unwrap_or(4);
    if bits != 4 {
        return Err(other_layout(file, &format!("awq, {bits} bits"), READS));
    }
    let symmetric = match section.get("zero_point") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(zero_point)) => !zero_point,
        Some(other) => return Err(damaged(file, "`zero_point`", other)),
    };
    let group_size = group_size(section, DEFAULT_GROUP_SIZE, file)?;
    let modules_to_not_convert = match section.get("modules_to_not_convert") {
        None | Some(Value::Null) => Vec::new(),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|_| damaged(file, "`modules_to_not_convert` (a list of names)", names))?,
    };
    Ok(Quantization { group_size, symmetric, modules_to_not_convert })
}

/// A layer's dimensions by the shape of its `qweight`, with the other two held against it.
fn find(name: &str, found: &Found<'_>) -> Result<PackedShape, EngineError> {
    let Found { shapes, quantization, place } = found;
    let shape_of = |part: &str| {
        shapes.get(&format!("{name}.{part}")).map(Vec::as_slice).ok_or_else(|| {
            EngineError::invalid(
                format!("no tensor `{name}.{part}` in {place}: a packed layer has {}", PARTS.join(", ")),
                "fetch the weights again; a checkpoint without zero points or scales cannot be read",
            )
        })
    };
    let shape = shape_of("qweight")?;
    let [inputs, words] = *shape else {
        return Err(EngineError::invalid(
            format!("tensor `{name}.qweight` in {place} has shape {shape:?}, not [inputs, outputs / 8]"),
            "take a checkpoint in AutoAWQ's gemm layout",
        ));
    };
    let outputs = words.saturating_mul(8);
    let group_size = quantization.group_of(inputs);
    if group_size == 0 || !inputs.is_multiple_of(group_size) {
        return Err(EngineError::invalid(
            format!("layer `{name}` of {place} has {inputs} inputs, which do not divide into groups of {group_size}"),
            "the group size of config.json and the weights belong to different checkpoints, or the layout is another \
             (gemv has [outputs, inputs / 8])",
        ));
    }
    let groups = inputs / group_size;
    let stores_zeros = !quantization.symmetric || shapes.contains_key(&format!("{name}.qzeros"));
    for (part, expected) in [("qzeros", [groups, words]), ("scales", [groups, outputs])] {
        if part == "qzeros" && !stores_zeros {
            continue;
        }
        let found = shape_of(part)?;
        if found != expected {
            return Err(EngineError::invalid(
                format!(
                    "tensor `{name}.{part}` in {place} has shape {found:?}, but `qweight` of shape {shape:?} in groups \
                     of {group_size} calls for {expected:?}"
                ),
                "the group size in config.json may be that of another checkpoint, or the layout is another (gemv has \
                 [outputs, inputs / 8])",
            ));
        }
    }
    Ok(PackedShape { outputs, inputs, group_size, stores_zeros })
}

fn read(name: &str, layer: PackedShape, stored: &dyn Tensors, place: &str) -> Result<AwqTensor, EngineError> {
    let [qweight, qzeros, scales] = PARTS.map(|part| format!("{name}.{part}"));
    let whole_numbers = |name: &str| match stored.read(name)?.values {
        TensorValues::I32(values) => Ok(values),
        other => Err(stored_otherwise(name, place, &other, "i32")),
    };
    // Other programs write the scales wider, or as bf16, and transformers casts them to f16.
    let scales: Vec<f16> = match stored.read(&scales)?.values {
        TensorValues::F16(values) => values,
        TensorValues::F32(values) => values.into_iter().map(f16::from_f32).collect(),
        TensorValues::Bf16(values) => values.into_iter().map(|value| f16::from_f32(value.to_f32())).collect(),
        other @ TensorValues::I32(_) => return Err(stored_otherwise(&scales, place, &other, "f16, bf16 or f32")),
    };
    let qzeros = if layer.stores_zeros {
        whole_numbers(&qzeros)?
    } else {
        let words = layer.outputs / 8 * (layer.inputs / layer.group_size);
        vec![i32::from_ne_bytes([MIDDLE << 4 | MIDDLE; 4]); words]
    };
    Ok(AwqTensor {
        inputs: layer.inputs,
        outputs: layer.outputs,
        group_size: layer.group_size,
        qweight: whole_numbers(&qweight)?,
        qzeros,
        scales,
    })
}

fn stored_otherwise(name: &str, place: &str, values: &TensorValues, needed: &str) -> EngineError {
    EngineError::invalid(
        format!("tensor `{name}` of {place} is stored as {}; the gemm layout has {needed} there", values.name()),
        "take a checkpoint in AutoAWQ's gemm layout",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::quant::detect::{Detected, of_config_json};

    fn of(config: &Value) -> Result<Option<Quantization>, String> {
        of_config_json(config, "config.json")
            .map(|found| {
                found.and_then(|found| match found {
                    Detected::Packed(_, quantization) => Some(quantization),
                    Detected::Unpacked(..) => None,
                })
            })
            .map_err(|error| error.to_string())
    }

    fn of_file(section: &Value, file: &str) -> Result<Quantization, EngineError> {
        parse(section.as_object().unwrap(), file)
    }

    fn awq(changes: &Value) -> Result<Quantization, String> {
        let mut section = json!({
            "quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": true, "version": "gemm",
            "modules_to_not_convert": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            section[key] = value.clone();
        }
        of(&json!({"quantization_config": section})).map(Option::unwrap)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for config in [
            Quantization { group_size: Some(32), symmetric: false, modules_to_not_convert: Vec::new() },
            Quantization { group_size: None, symmetric: true, modules_to_not_convert: vec!["v_proj".to_owned()] },
        ] {
            assert_eq!(of(&json!({"quantization_config": config.to_awq_json()})), Ok(Some(config)));
        }
        assert_eq!(of(&json!({})), Ok(None));
        assert_eq!(of(&json!({"quantization_config": null})), Ok(None));
    }

    #[test]
    fn both_spellings_and_their_defaults() {
        assert_eq!(awq(&json!({})).unwrap().group_size, Some(64));
        assert_eq!(awq(&json!({"version": "GEMM", "group_size": -1})).unwrap().group_size, None);
        assert_eq!(awq(&json!({"group_size": null, "version": null, "bits": null})).unwrap().group_size, Some(128));
        for version in ["exllama", "EXLLAMA_V2", "ipex", "gemm_triton"] {
            assert_eq!(awq(&json!({"version": version})).unwrap().group_size, Some(64), "only a kernel's name");
        }
        assert_eq!(awq(&json!({"version": null, "format": "gemm"})).unwrap().group_size, Some(64));
        assert!(awq(&json!({"version": null, "format": "gemv"})).unwrap_err().contains("`awq, gemv`"));
        assert!(awq(&json!({"zero_point": false})).unwrap().symmetric);
        let kept = awq(&json!({"modules_to_not_convert": ["lm_head", "mlp"]})).unwrap();
        assert_eq!(kept.modules_to_not_convert, ["lm_head", "mlp"]);
        let older = json!({"zero_point": true, "q_group_size": 32, "w_bit": 4, "version": "GEMM"});
        assert_eq!(of_file(&older, "quant_config.json").unwrap().group_size, Some(32));
    }

    #[test]
    fn other_layouts_are_refused_by_name() {
        let layouts = [
            (json!({"version": "gemv"}), "`awq, gemv`"),
            (json!({"version": "gemv_fast"}), "`awq, gemv_fast`"),
            (json!({"version": "marlin"}), "`awq, marlin`"),
            (json!({"bits": 3}), "`awq, 3 bits`"),
            (json!({"backend": "llm-awq"}), "`llm-awq`"),
            (json!({"quant_method": "gptq", "format": "marlin", "version": null}), "`gptq, marlin`"),
            (json!({"quant_method": "gptq", "bits": 3, "version": null}), "`gptq, 3 bits`"),
            (json!({"quant_method": "compressed-tensors", "format": "marlin-24"}), "`compressed-tensors, marlin-24`"),
            (json!({"quant_method": "fp8", "fmt": "e5m2"}), "`fp8, e5m2`"),
            (json!({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}), "`modelopt, W4A8_AWQ`"),
            (json!({"quant_method": "exl3"}), "`exl3`"),
        ];
        for (changes, layout) in layouts {
            let error = awq(&changes).unwrap_err();
            assert!(error.contains(&format!("layout {layout}")) && error.contains("hint:"), "{error}");
        }
        let older = json!({"bits": 5, "group_size": 128, "desc_act": false});
        assert!(of(&json!({"quantization_config": older})).unwrap_err().contains("layout `gptq, 5 bits`"));
        let older = json!({"format": "sparse-bitmask"});
        assert!(
            of(&json!({"compression_config": older})).unwrap_err().contains("`compressed-tensors, sparse-bitmask`")
        );
        assert!(of(&json!({"quantization_config": {"load_in_8bit": true}})).unwrap_err().contains("`bitsandbytes`"));
    }

    #[test]
    fn damaged_sections_are_refused() {
        for changes in [
            json!({"group_size": 0}),
            json!({"group_size": -2}),
            json!({"group_size": "64"}),
            json!({"bits": 4.5}),
            json!({"zero_point": "yes"}),
            json!({"version": 2}),
            json!({"modules_to_not_convert": "lm_head"}),
        ] {
            let error = awq(&changes).unwrap_err();
            assert!(error.contains("cannot be") && error.contains("hint:"), "{changes}: {error}");
        }
        assert!(of(&json!({"quantization_config": 4})).unwrap_err().contains("cannot be 4"));
    }
}
