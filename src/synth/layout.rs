//! What a checkpoint holds: every tensor with its element type, its place and the rule for its values.

use half::f16;

use super::SynthError;
use super::random::{Normal, Words, fill_bits};
use crate::checkpoint::safetensors::SHARD_BYTES;
use crate::engine::Precision;
use crate::engine::model::{ModelConfig, Quantization};

/// Standard deviation of every weight: what Llama's are initialised with, small enough that activations stay finite.
pub const WEIGHT_DEVIATION: f64 = 0.02;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynthFormat {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// Four bits within blocks, a scale and a zero point for every this many inputs; the rest in binary16.
    Awq {
        /// Divides the inputs of every layer.
        group_size: usize,
    },
}

impl SynthFormat {
    /// Names on the command line.
    pub const NAMES: [&str; 4] = ["f32", "f16", "bf16", "awq"];

    /// By name or alias; the group size is for AWQ.
    pub fn parse(name: &str, group_size: usize) -> Option<Self> {
        match Precision::parse(name)? {
            Precision::F32 => Some(Self::F32),
            Precision::F16 => Some(Self::F16),
            Precision::Bf16 => Some(Self::Bf16),
            Precision::Awq => Some(Self::Awq { group_size }),
            _ => None,
        }
    }

    /// transformers' name of the element type outside packed layers.
    pub(super) const fn torch_dtype(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 | Self::Awq { .. } => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The `quantization_config` of config.json, if any.
    pub(super) fn quantization(self) -> Option<Quantization> {
        match self {
            Self::Awq { group_size } => Some(Quantization {
                group_size: Some(group_size),
                symmetric: false,
                modules_to_not_convert: Vec::new(),
            }),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }

    /// `f16`, `awq, groups of 128`.
    pub(super) fn in_words(self) -> String {
        match self {
            Self::F32 => "f32".to_owned(),
            Self::F16 => "f16".to_owned(),
            Self::Bf16 => "bf16".to_owned(),
            Self::Awq { group_size } => format!("awq, groups of {group_size}"),
        }
    }
}

/// The rule for a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Normal around 0.
    Normal,
    /// Random bits: codes.
    Bits,
    /// These bytes over and over.
    Constant([u8; 4]),
}

/// One tensor.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// In safetensors' spelling.
    pub(super) element: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
    values: Values,
}

/// What fills tensors.
#[derive(Debug)]
pub(super) struct Filler {
    seed: u64,
    normal: Normal,
    element_bytes: usize,
}

impl Filler {
    pub(super) fn new(seed: u64, format: SynthFormat) -> Self {
        let (normal, element_bytes) = match format {
            SynthFormat::F32 => (Normal::f32(WEIGHT_DEVIATION), 4),
            SynthFormat::F16 | SynthFormat::Awq { .. } => (Normal::f16(WEIGHT_DEVIATION), 2),
            SynthFormat::Bf16 => (Normal::bf16(WEIGHT_DEVIATION), 2),
        };
        Self { seed, normal, element_bytes }
    }

    /// The bytes of a tensor from `start` on, a multiple of 16.
    pub(super) fn fill(&self, tensor: &Tensor, start: u64, out: &mut [u8]) {
        let words = Words::of(self.seed, &tensor.name);
        match tensor.values {
            Values::Normal => {
                let word_bytes = (self.element_bytes * super::random::ELEMENTS_A_WORD) as u64;
                self.normal.fill(words, start / word_bytes, out);
            }
            Values::Bits => fill_bits(words, start / 8, out),
            Values::Constant(pattern) => {
                for chunk in out.chunks_mut(4) {
                    chunk.copy_from_slice(&pattern[..chunk.len()]);
                }
            }
        }
    }
}

/// Every tensor of a model, in the order of the files.
pub(super) fn tensors(config: &ModelConfig, format: SynthFormat) -> Result<Vec<Tensor>, SynthError> {
    let mut tensors = Vec::new();
    if matches!(format, SynthFormat::Awq { .. }) && config.family.fuses_projections(config) {
        return Err(SynthError::invalid(
            format!("there are no AWQ checkpoints of {}, whose files fuse or transpose projections", config.family),
            "give `--dtype f16`, or another shape",
        ));
    }
    let norm = if config.features.zero_centred_norms { 0.0 } else { 1.0 };
    for (name, shape) in config.stored_tensors() {
        match (format, name.strip_suffix(".weight"), &shape[..]) {
            (SynthFormat::Awq { group_size }, Some(layer), [outputs, inputs])
                if name.contains(".layers.") && !chooses_experts(layer) =>
            {
                packed(&mut tensors, layer, [*outputs, *inputs], group_size)?;
            }
            _ => tensors.push(dense(name, shape, format, norm)),
        }
    }
    Ok(tensors)
}

/// What chooses and weighs experts stays in floating point.
fn chooses_experts(layer: &str) -> bool {
    layer.ends_with(".mlp.gate") || layer.ends_with(".shared_expert_gate")
}

/// Norms have the weight that leaves their input as it is.
fn dense(name: String, shape: Vec<usize>, format: SynthFormat, norm: f32) -> Tensor {
    let (element, norm, bytes) = match format {
        SynthFormat::F32 => ("F32", norm.to_le_bytes(), 4),
        SynthFormat::F16 | SynthFormat::Awq { .. } => ("F16", twice(f16::from_f32(norm)), 2),
        SynthFormat::Bf16 => {
            let [low, high] = half::bf16::from_f32(norm).to_le_bytes();
            ("BF16", [low, high, low, high], 2)
        }
    };
    let is_norm = shape.len() == 1 && name.ends_with(".weight");
    let values = if is_norm { Values::Constant(norm) } else { Values::Normal };
    let bytes = shape.iter().map(|length| *length as u64).product::<u64>() * bytes;
    Tensor { name, element, shape, bytes, values }
}

/// `AutoAWQ`'s three tensors of a layer: random codes, the zero points 7 and 8, and one scale, under which the weights (uniform
/// over sixteen steps) deviate as all others do.
fn packed(
    tensors: &mut Vec<Tensor>,
    layer: &str,
    [outputs, inputs]: [usize; 2],
    group_size: usize,
) -> Result<(), SynthError> {
    // 7 and 8 in turn: codes lie around 7.5, and weights that all leaned one way would grow through the layers without end.
    const ZERO_POINTS: [u8; 4] = [0x87; 4];
    if !inputs.is_multiple_of(group_size) || !outputs.is_multiple_of(8) {
        return Err(SynthError::invalid(
            format!(
                "{layer} has {inputs} inputs and {outputs} outputs, which do not divide into groups of {group_size}"
            ),
            "choose a `--group-size` that divides every layer's inputs, or leave it out",
        ));
    }
    let groups = inputs / group_size;
    let deviation_of_codes = (f64::from(16 * 16 - 1) / 12.0).sqrt();
    let scale = twice(f16::from_f64(WEIGHT_DEVIATION / deviation_of_codes));
    let mut add = |part: &str, element, shape: [usize; 2], element_bytes, values| {
        let bytes = shape.iter().map(|length| *length as u64).product::<u64>() * element_bytes;
        tensors.push(Tensor { name: format!("{layer}.{part}"), element, shape: shape.to_vec(), bytes, values });
    };
    add("qweight", "I32", [inputs, outputs / 8], 4, Values::Bits);
    add("qzeros", "I32", [groups, outputs / 8], 4, Values::Constant(ZERO_POINTS));
    add("scales", "F16", [groups, outputs], 2, Values::Constant(scale));
    Ok(())
}

fn twice(value: f16) -> [u8; 4] {
    let [low, high] = value.to_le_bytes();
    [low, high, low, high]
}

/// Tensors one after the other into files of at most 5 GB.
pub(super) fn shards(tensors: Vec<Tensor>) -> Vec<Vec<Tensor>> {
    let mut shards: Vec<Vec<Tensor>> = Vec::new();
    let mut filled = 0;
    for tensor in tensors {
        match shards.last_mut() {
            Some(shard) if filled + tensor.bytes <= SHARD_BYTES => {
                filled += tensor.bytes;
                shard.push(tensor);
            }
            _ => {
                filled = tensor.bytes;
                shards.push(vec![tensor]);
            }
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::ModelShape;

    fn layout(shape: &str, format: SynthFormat) -> Vec<Vec<Tensor>> {
        let shape = ModelShape::parse(shape).unwrap();
        let config = shape.config(shape.layers(), format.torch_dtype());
        shards(tensors(&ModelConfig::from_json(&config, shape.name).unwrap(), format).unwrap())
    }

    /// Once, the router of experts was packed with them.
    #[test]
    fn what_chooses_experts_is_not_packed() {
        let shards = layout("qwen1.5-moe-a2.7b", SynthFormat::Awq { group_size: 32 });
        let is_there = |name: &str| shards.iter().flatten().any(|tensor| tensor.name == name);
        assert!(is_there("model.layers.3.mlp.gate.weight") && is_there("model.layers.3.mlp.shared_expert_gate.weight"));
        assert!(!is_there("model.layers.3.mlp.gate.qweight"));
        assert!(is_there("model.layers.3.mlp.experts.7.up_proj.qweight"));
    }

    #[test]
    fn published_models_have_their_published_sizes() {
        let bytes = |shape, format| layout(shape, format).iter().flatten().map(|tensor| tensor.bytes).sum::<u64>();
        assert_eq!(bytes("tinyllama-1.1b", SynthFormat::F32), 4 * 1_100_048_384);
        assert_eq!(bytes("llama2-7b", SynthFormat::F16), 2 * 6_738_415_616);
        assert_eq!(bytes("mistral-7b", SynthFormat::Bf16), 2 * 7_241_732_096);
        assert_eq!(bytes("smollm2-135m", SynthFormat::F16), 2 * 134_515_008);
        assert_eq!(bytes("smollm2-1.7b", SynthFormat::F16), 2 * 1_711_376_384);
        assert_eq!(bytes("llama3.2-1b", SynthFormat::F16), 2 * 1_235_814_400);
        assert_eq!(bytes("llama3.1-8b", SynthFormat::F16), 2 * 8_030_261_248);
        assert_eq!(bytes("qwen2.5-0.5b", SynthFormat::F16), 2 * 494_032_768);
        assert_eq!(bytes("qwen2.5-7b", SynthFormat::F16), 2 * 7_615_616_512);
        assert_eq!(bytes("opt-125m", SynthFormat::F16), 2 * 125_239_296);
        assert_eq!(bytes("qwen3-0.6b", SynthFormat::F16), 2 * 596_049_920);
        assert_eq!(bytes("qwen1.5-moe-a2.7b", SynthFormat::Bf16), 2 * 14_315_784_192);
        assert_eq!(bytes("qwen3-30b-a3b", SynthFormat::Bf16), 2 * 30_532_122_624);
        assert_eq!(bytes("gpt-oss-20b", SynthFormat::Bf16), 2 * 20_914_757_184);
        assert_eq!(bytes("qwen3-8b", SynthFormat::Bf16), 2 * 8_190_735_360);
        assert_eq!(bytes("smollm3-3b", SynthFormat::Bf16), 2 * 3_075_098_624);
        assert_eq!(bytes("granite3.3-2b", SynthFormat::Bf16), 2 * 2_533_539_840);
        assert_eq!(bytes("olmo2-1b", SynthFormat::F32), 4 * 1_484_916_736);
        assert_eq!(bytes("gemma2-2b", SynthFormat::F32), 4 * 2_614_341_888);
        assert_eq!(bytes("gemma3-1b", SynthFormat::Bf16), 2 * 999_885_952);
        assert_eq!(bytes("phi3-mini", SynthFormat::Bf16), 2 * 3_821_079_552);
        assert_eq!(bytes("gpt2", SynthFormat::F32), 4 * 124_439_808);
        assert_eq!(bytes("pythia-160m", SynthFormat::F16), 2 * 162_322_944);
    }

    #[test]
    fn norms_leave_their_input_as_it_is() {
        for (shape, name, expected) in [
            ("gemma3-1b", "model.norm.weight", 0.0),
            ("gpt2", "transformer.ln_f.weight", 1.0),
            ("olmo2-1b", "model.norm.weight", 1.0),
        ] {
            let tensors = layout(shape, SynthFormat::F32).into_iter().flatten().find(|tensor| tensor.name == name);
            assert_eq!(tensors.unwrap().values, Values::Constant(f32::to_le_bytes(expected)), "{shape}");
        }
    }

    #[test]
    fn fused_projections_are_not_packed() {
        let shape = ModelShape::parse("phi3-mini").unwrap();
        let config = ModelConfig::from_json(&shape.config(1, "float16"), shape.name).unwrap();
        let error = tensors(&config, SynthFormat::Awq { group_size: 128 }).unwrap_err().to_string();
        assert!(error.contains("AWQ") && error.contains("phi3") && error.contains("hint:"), "{error}");
    }

    #[test]
    fn shards_hold_five_gigabytes_at_most() {
        let sizes = |format| layout("llama2-7b", format).iter().map(|s| s.iter().map(|t| t.bytes).sum()).collect();
        let sizes: Vec<u64> = sizes(SynthFormat::F16);
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|bytes| *bytes <= SHARD_BYTES), "{sizes:?}");
        assert_eq!(layout("llama2-7b", SynthFormat::Awq { group_size: 128 }).len(), 1);
    }

    #[test]
    fn packed_weights_deviate_as_dense_ones_do() {
        let tensors = layout("tiny", SynthFormat::Awq { group_size: 32 }).into_iter().flatten().collect::<Vec<_>>();
        let find =
            |name: &str| tensors.iter().find(|t| t.name == format!("model.layers.0.mlp.down_proj.{name}")).unwrap();
        let filler = Filler::new(1, SynthFormat::Awq { group_size: 32 });
        let bytes = |tensor: &Tensor| {
            let mut bytes = vec![0; tensor.bytes as usize];
            filler.fill(tensor, 0, &mut bytes);
            bytes
        };
        assert_eq!(find("qweight").shape, [128, 8]);
        assert!(bytes(find("qzeros")).iter().all(|byte| *byte == 0x87));
        let scale = f16::from_le_bytes([bytes(find("scales"))[0], bytes(find("scales"))[1]]).to_f64();
        let codes = bytes(find("qweight"));
        let weights: Vec<f64> = codes
            .iter()
            .flat_map(|byte| [f64::from(byte & 15) - 7.0, f64::from(byte >> 4) - 8.0])
            .map(|q| q * scale)
            .collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / weights.len() as f64;
        assert!((variance.sqrt() / WEIGHT_DEVIATION - 1.0).abs() < 0.03, "{}", variance.sqrt());
    }
}
