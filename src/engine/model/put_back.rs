//! A checkpoint in which one linear layer has another checkpoint's weights: int4 weights put back to full precision one layer at a time.
//!
//! A quantiser may have scaled a layer's inputs and folded the scales into what makes them, a norm or the rows of another linear layer (AWQ,
//! Lin et al., 2023). The weights that are put back have to fit that: their columns are scaled as the checkpoint's own are, and their rows
//! where what follows expects it. A norm's scales are the ratio of the two checkpoints' norms. Those of rows are not stored: they are what
//! fits the rounded rows best, within some tenths of a percent.

use std::sync::Arc;

use super::names::{BlockNames, TensorNames};
use super::{ModelConfig, ModelSource, RawTensor, TensorData, TensorPlace, TensorValues, Tensors};
use crate::EngineError;
use crate::model::AwqTensor;

/// Of a group's largest weight: quantisers that clip leave weights below this as they are.
const NEVER_CLIPPED: f32 = 0.5;

/// Scaled rows are taken for such where they explain at least a tenth of what rounding alone leaves: fitting noise explains 1 / inputs.
const EXPLAINED: f64 = 0.9;

impl BlockNames {
    /// Its linear layers in the order of the forward pass: q, k, v, the attention's output, gate and up (or up alone), down.
    pub fn linears(&self) -> Vec<&str> {
        let [q, k, v] = &self.qkv;
        let before = [q, k, v, &self.output].into_iter().chain(&self.up);
        before.chain([&self.down]).map(String::as_str).collect()
    }

    /// The same with their [outputs, inputs].
    pub fn linear_shapes(&self, config: &ModelConfig) -> Vec<(&str, [usize; 2])> {
        let (hidden, inside) = (config.hidden, config.intermediate);
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let up = self.up.iter().map(|_| [inside, hidden]);
        let before = [[query, hidden], [key, hidden], [key, hidden], [hidden, query]].into_iter().chain(up);
        self.linears().into_iter().zip(before.chain([[hidden, inside]])).collect()
    }
}

impl ModelSource {
    /// This checkpoint, but that linear layer number `linear` of block `layer` (of [`BlockNames::linears`]) has the weights that `other`, a
    /// checkpoint of the same model, has for it, dense and scaled to fit the layers around it. Biases stay.
    pub fn with_linear_of(self: &Arc<Self>, other: &Self, layer: usize, linear: usize) -> Result<Self, EngineError> {
        self.config.check_layer(other, layer)?;
        let pair = Pair { own: self, other, own_names: names(self, layer), other_names: names(other, layer) };
        let name = pair.own_names.linears().get(linear).map(|name| (*name).to_owned()).ok_or_else(|| {
            EngineError::failed(
                format!("a block of {} has no linear layer number {linear}", self.name),
                "this is a fault of the suite: report it",
            )
        })?;
        let [outputs, inputs] = shape(&self.config, &pair.own_names, linear);
        let mut values = pair.scaled_columns(linear)?;
        if pair.rows_may_be_scaled(linear) {
            let scales = pair.row_scales(linear)?;
            values.chunks_mut(inputs).zip(scales).for_each(|(row, scale)| row.iter_mut().for_each(|w| *w /= scale));
        }
        let weights = TensorData { shape: vec![outputs, inputs], values: TensorValues::F32(values) };
        let tensors = Box::new(WithLinear { base: Arc::clone(self), name, weights });
        Ok(Self {
            name: self.name.clone(),
            source: self.source.clone(),
            sha256: self.sha256.clone(),
            stored_as: self.stored_as.clone(),
            weight_bytes: self.weight_bytes,
            format: self.format,
            quantization: self.quantization.clone(),
            config: self.config.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            tensors,
            files: None,
        })
    }
}

fn names(source: &ModelSource, layer: usize) -> BlockNames {
    TensorNames::new(&source.config, &source.tensors.names()).block(layer)
}

/// Outputs and inputs of a block's linear layer.
fn shape(config: &ModelConfig, names: &BlockNames, linear: usize) -> [usize; 2] {
    names.linear_shapes(config)[linear].1
}

fn weights(source: &ModelSource, names: &BlockNames, linear: usize) -> Result<Vec<f32>, EngineError> {
    let [outputs, inputs] = shape(&source.config, names, linear);
    source.values(&format!("{}.weight", names.linears()[linear]), &[outputs, inputs])
}

/// A block in both checkpoints.
struct Pair<'a> {
    own: &'a ModelSource,
    other: &'a ModelSource,
    own_names: BlockNames,
    other_names: BlockNames,
}

impl Pair<'_> {
    /// The other's weights of a linear layer, each column times the scale of its input.
    fn scaled_columns(&self, linear: usize) -> Result<Vec<f32>, EngineError> {
        let mut weights = weights(self.other, &self.other_names, linear)?;
        let scales = self.input_scales(linear)?;
        let rows = weights.chunks_mut(scales.len().max(1));
        rows.for_each(|row| row.iter_mut().zip(&scales).for_each(|(w, scale)| *w *= scale));
        Ok(weights)
    }

    /// By how much each input of a linear layer is smaller in this checkpoint than in the other.
    fn input_scales(&self, linear: usize) -> Result<Vec<f32>, EngineError> {
        let [_, inputs] = shape(&self.own.config, &self.own_names, linear);
        let last = self.own_names.linears().len() - 1;
        match linear {
            0..=2 => self.norm_scales(|names| &names.attention_norm),
            3 if self.rows_may_be_scaled(2) => self.row_scales(2),
            3 => Ok(vec![1.0; inputs]),
            _ if linear == last => self.row_scales(last - 1),
            _ => self.norm_scales(|names| &names.mlp_norm),
        }
    }

    /// Whether the inputs of the next linear layer are this one's outputs one by one, so that its scales may lie in this one's rows: those
    /// of up, and those of v but for grouped queries, where a value feeds several inputs.
    fn rows_may_be_scaled(&self, linear: usize) -> bool {
        let config = &self.own.config;
        (linear == 2 && config.heads == config.kv_heads) || linear + 2 == self.own_names.linears().len()
    }

    fn norm_scales(&self, norm: fn(&BlockNames) -> &String) -> Result<Vec<f32>, EngineError> {
        let ModelConfig { hidden, features, .. } = &self.own.config;
        if !features.has_norms_before() {
            return Ok(vec![1.0; *hidden]);
        }
        let middle = if features.zero_centred_norms { 1.0 } else { 0.0 };
        let read = |source: &ModelSource, names| -> Result<Vec<f32>, EngineError> {
            let stored = source.values(&format!("{}.weight", norm(names)), &[*hidden])?;
            Ok(stored.into_iter().map(|weight| weight + middle).collect())
        };
        let (own, other) = (read(self.own, &self.own_names)?, read(self.other, &self.other_names)?);
        let ratio = |(own, other): (f32, f32)| if own == 0.0 || other == 0.0 { 1.0 } else { other / own };
        Ok(own.into_iter().zip(other).map(ratio).collect())
    }

    /// What each row of a linear layer was divided by.
    fn row_scales(&self, linear: usize) -> Result<Vec<f32>, EngineError> {
        let [_, inputs] = shape(&self.own.config, &self.own_names, linear);
        let rounded = weights(self.own, &self.own_names, linear)?;
        let group = self.own.quantization.as_ref().map_or(inputs, |found| found.group_of(inputs));
        Ok(fitted_scales(&self.scaled_columns(linear)?, &rounded, inputs, group))
    }
}

/// For rows of `rounded` that are those of `exact` divided by a scale each and rounded: these scales, by least squares over weights that no
/// quantiser clips; all 1 where that explains no more than noise does. Both are `[rows, inputs]`.
fn fitted_scales(exact: &[f32], rounded: &[f32], inputs: usize, group: usize) -> Vec<f32> {
    let (mut fitted, mut as_it_is) = (0.0_f64, 0.0_f64);
    let rows = exact.chunks(inputs.max(1)).zip(rounded.chunks(inputs.max(1)));
    let scales = rows.map(|(exact, rounded)| {
        let groups = exact.chunks(group.max(1)).zip(rounded.chunks(group.max(1)));
        let unclipped = groups.flat_map(|(exact, rounded)| {
            let limit = NEVER_CLIPPED * exact.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
            let pairs = exact.iter().zip(rounded).filter(move |(w, _)| w.abs() <= limit);
            pairs.map(|(exact, rounded)| (f64::from(*exact), f64::from(*rounded)))
        });
        let unclipped: Vec<(f64, f64)> = unclipped.collect();
        let squares: f64 = unclipped.iter().map(|(exact, _)| exact * exact).sum();
        let products: f64 = unclipped.iter().map(|(exact, rounded)| exact * rounded).sum();
        let scale = if squares > 0.0 && products > 0.0 { squares / products } else { 1.0 };
        let rest = |scale: f64| unclipped.iter().map(|(exact, rounded)| (exact / scale - rounded).powi(2)).sum::<f64>();
        fitted += rest(scale);
        as_it_is += rest(1.0);
        scale as f32
    });
    let scales: Vec<f32> = scales.collect();
    if fitted < EXPLAINED * as_it_is { scales } else { vec![1.0; scales.len()] }
}

/// A checkpoint's tensors with the weights of one linear layer in another's place.
struct WithLinear {
    base: Arc<ModelSource>,
    /// Without `.weight`.
    name: String,
    weights: TensorData,
}

impl WithLinear {
    fn is_weight(&self, tensor: &str) -> bool {
        tensor.strip_suffix(".weight") == Some(&self.name)
    }
}

impl Tensors for WithLinear {
    fn names(&self) -> Vec<String> {
        self.base.tensors.names()
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        if self.is_weight(name) { Ok(self.weights.clone()) } else { self.base.tensors.read(name) }
    }

    fn element(&self, name: &str) -> Option<&str> {
        if self.is_weight(name) { Some("F32") } else { self.base.tensors.element(name) }
    }

    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        self.base.tensors.raw(name)
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        if self.is_weight(name) { None } else { self.base.tensors.place(name) }
    }

    fn is_packed(&self, layer: &str) -> bool {
        layer != self.name && self.base.tensors.is_packed(layer)
    }

    fn read_packed(&self, layer: &str) -> Result<Option<AwqTensor>, EngineError> {
        if layer == self.name { Ok(None) } else { self.base.tensors.read_packed(layer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 40;
    const INPUTS: usize = 128;
    const GROUP: usize = 32;

    /// Sums of four uniform numbers.
    fn weights() -> Vec<f32> {
        let mut state = 9_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..ROWS * INPUTS).map(|_| (0..4).map(|_| next()).sum()).collect()
    }

    /// Rows divided by scales, cut at `limit` of each group's largest weight and rounded to sixteen steps.
    fn rounded(weights: &[f32], scales: &[f32], limit: f32) -> Vec<f32> {
        let mut rounded = weights.to_vec();
        for (row, scale) in rounded.chunks_mut(INPUTS).zip(scales) {
            for group in row.chunks_mut(GROUP) {
                let largest = limit * group.iter().fold(0.0_f32, |largest, w| largest.max(w.abs())) / scale;
                let step = 2.0 * largest / 15.0;
                for w in group {
                    *w = ((*w / scale).clamp(-largest, largest) / step).round() * step;
                }
            }
        }
        rounded
    }

    #[test]
    fn scales_of_rows_are_found_in_rounded_and_clipped_weights() {
        let exact = weights();
        let scales: Vec<f32> = (0..ROWS).map(|row| 0.2 + row as f32 * 0.1).collect();
        for limit in [1.0, 0.75, 0.55] {
            let found = fitted_scales(&exact, &rounded(&exact, &scales, limit), INPUTS, GROUP);
            let errors = found.iter().zip(&scales).map(|(found, scale)| f64::from(found / scale - 1.0));
            let (mean, largest) = errors
                .fold((0.0, 0.0_f64), |(sum, largest), error| (sum + error / ROWS as f64, largest.max(error.abs())));
            assert!(mean.abs() < 0.004 && largest < 0.04, "limit {limit}: mean {mean}, largest {largest}");
        }
    }

    #[test]
    fn rows_that_were_only_rounded_have_no_scales() {
        let exact = weights();
        let ones = [1.0; ROWS];
        for limit in [1.0, 0.75] {
            assert_eq!(fitted_scales(&exact, &rounded(&exact, &ones, limit), INPUTS, GROUP), ones, "{limit}");
        }
        assert_eq!(fitted_scales(&exact, &exact, INPUTS, GROUP), ones);
        assert_eq!(fitted_scales(&[0.0; 64], &[0.0; 64], 32, 32), [1.0; 2]);
    }
}
