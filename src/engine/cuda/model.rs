//! A model on one device: its kernels, its weights and the buffers of its steps.

use std::collections::HashMap;

use cudarc::driver::CudaGraph;

use super::buffer::{Buffer, Pinned};
use super::cache::Cache;
use super::device::Device;
use super::element::ElementType;
use super::features;
use super::layer::{ExpertLayer, Layer, Linear};
use super::matmul::{Epilogue, Gemm, Matmul, Reduction, Trial, few};
use super::ops::argmax::{self, Argmax};
use super::ops::attention::Attention;
use super::ops::decode::{self, Decode, HeadRef, LayerRef, NormRef};
use super::ops::elementwise::{Elementwise, NormWeights};
use super::ops::experts::ExpertKernels;
use super::ops::features::{FeatureKernels, adds_changed_rows};
use super::packing::packing;
use super::step_buffers::StepBuffers;
use super::weights::DeviceWeights;
use crate::model::{Activation, LayerKind, ModelConfig, ModelSource};
use crate::{Dtype, EngineError};

/// Bytes of logits that are held at a time; more rows are processed in parts.
const LOGITS_BYTES: usize = 512 << 20;

/// A typical number of rows of a step that prefills one prompt: algorithms are prepared for it.
const TYPICAL_PREFILL_ROWS: usize = 128;

/// What one step may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLimits {
    /// Prefill rows.
    pub(crate) prefill_rows: usize,
    /// Sequences, each of which may have one decode row.
    pub(crate) slots: usize,
    /// Rows whose logits go to the host.
    pub(crate) host_rows: usize,
}

impl StepLimits {
    fn rows(self) -> usize {
        self.prefill_rows + self.slots
    }

    /// Rows whose logits may be needed: one of each sequence, or those of scored continuations.
    fn logits_rows(self) -> usize {
        self.slots + self.host_rows
    }
}

/// A model in device memory, and the buffers of its steps.
pub(crate) struct Model {
    pub(crate) device: Device,
    pub(crate) config: ModelConfig,
    pub(crate) weights: DeviceWeights,
    pub(super) element: ElementType,
    pub(super) elementwise: Elementwise,
    pub(super) features: FeatureKernels,
    /// Where it has experts.
    pub(super) experts: Option<ExpertKernels>,
    pub(super) attention: Attention,
    /// That of layers without the model's sliding window, where others have it.
    unwindowed: Option<Attention>,
    pub(super) argmax: Argmax,
    pub(super) matmul: Matmul,
    /// What the MLP's first GEMM does with its sums; where it only stores them, a kernel of its own activates them.
    pub(super) up_epilogue: Epilogue,
    /// The small-batch path, where its order of summation may differ from the large-batch path's.
    pub(super) decode: Option<Decode>,
    pub(super) reduction: Reduction,
    pub(crate) limits: StepLimits,
    pub(super) activations: Activations,
    pub(crate) step_buffers: StepBuffers,
    /// i32 `[slots + 1]`: the token that was sampled last on the device for each.
    pub(super) next_tokens: Buffer,
    /// Logits for the host; grows to what was needed so far.
    pub(super) host_logits: Option<Pinned<f32>>,
    /// Captured decode steps, by rows and longest attention.
    pub(super) graphs: HashMap<(usize, usize), Graph>,
    /// Numbers of rows for which the fastest GEMMs have been found.
    measured_rows: Vec<usize>,
}

/// A captured step.
pub(super) struct Graph(pub(super) CudaGraph);

// SAFETY: its handles belong to the context, not to a thread; a launch binds the context, and no two threads have it at a time.
unsafe impl Send for Graph {}

/// Row-major `[rows, …]`, as many rows as a step may have.
pub(super) struct Activations {
    pub(super) x: Buffer,
    pub(super) h: Buffer,
    pub(super) qkv: Buffer,
    pub(super) attention: Buffer,
    /// Empty where the GEMM's epilogue activates.
    pub(super) up: Buffer,
    pub(super) activation: Buffer,
    /// f32 `[logits_rows, vocabulary]`.
    pub(super) logits: Buffer,
    pub(super) logits_rows: usize,
    pub(super) workspace: Buffer,
}

impl Activations {
    fn new(
        device: &Device,
        config: &ModelConfig,
        element: ElementType,
        limits: StepLimits,
        attention: &Attention,
        up: usize,
    ) -> Result<Self, EngineError> {
        let rows = |columns: usize| Buffer::new(device, limits.rows() * columns * element.bytes());
        let q = config.heads * config.head_dim;
        let max_rows = limits.logits_rows().clamp(16, argmax::MAX_ROWS);
        let logits_rows = (LOGITS_BYTES / (config.vocabulary * size_of::<f32>())).clamp(16, max_rows);
        let workspace = Buffer::new(device, attention.workspace_bytes(limits.slots, config.context_tokens))?;
        workspace.fill(device, 0)?;
        Ok(Self {
            x: rows(config.hidden)?,
            h: rows(config.hidden)?,
            qkv: rows(q + 2 * config.kv_heads * config.head_dim)?,
            attention: rows(q)?,
            up: rows(up)?,
            activation: rows(config.intermediate)?,
            logits: Buffer::new(device, logits_rows * config.vocabulary * size_of::<f32>())?,
            logits_rows,
            workspace,
        })
    }

    fn bytes(&self) -> usize {
        let all =
            [&self.x, &self.h, &self.qkv, &self.attention, &self.up, &self.activation, &self.logits, &self.workspace];
        all.iter().map(|buffer| buffer.bytes()).sum()
    }
}

impl Model {
    /// Loads kernels and weights and reserves everything but the cache.
    pub(crate) fn load(
        device: Device,
        source: &ModelSource,
        dtype: Dtype,
        reduction: Reduction,
        limits: StepLimits,
    ) -> Result<Self, EngineError> {
        let (config, element) = (source.config.clone(), ElementType::of(dtype.arithmetic));
        features::check(&config, dtype)?;
        let (elementwise, ((attention, unwindowed), (argmax, matmul))) = rayon::join(
            || Elementwise::load(&device, &config, element),
            || {
                let attention = || {
                    rayon::join(
                        || Attention::load(&device, &config, dtype),
                        || Attention::load_unwindowed(&device, &config, dtype),
                    )
                };
                rayon::join(attention, || {
                    rayon::join(|| Argmax::load(&device, config.vocabulary), || Matmul::open(&device, element))
                })
            },
        );
        let (elementwise, attention, argmax, mut matmul) = (elementwise?, attention?, argmax?, matmul?);
        let unwindowed = unwindowed?;
        let feature_kernels = FeatureKernels::load(&device, &config, element)?;
        let own_kernels = matmul.is_own(&[config.hidden, config.heads * config.head_dim, config.intermediate]);
        let up_epilogue = match (config.activation, own_kernels) {
            (Activation::SiluGated, true) => Epilogue::Gate,
            (Activation::Relu, false) => Epilogue::Relu,
            _ => Epilogue::Store,
        };
        let packing = packing(source, dtype.format);
        let gpu = (device.multiprocessors, device.shared_bytes);
        let rows = match reduction {
            Reduction::Invariant => vec![1],
            Reduction::Fastest => vec![TYPICAL_PREFILL_ROWS, limits.slots, limits.prefill_rows],
        };
        let gemms: Vec<Gemm> = rows.into_iter().flat_map(|rows| gemms(&config, rows, up_epilogue)).collect();
        let (weights, prepared) = rayon::join(
            || DeviceWeights::load(&device, source, dtype, &elementwise),
            || matmul.prepare(&device, &gemms, reduction),
        );
        let weights = weights?;
        prepared?;
        let fused = reduction == Reduction::Fastest
            && features::is_plain(&config)
            && decode::supports(&config, dtype, packing, gpu)
            && weights.layers.iter().all(|layer| decode::reads(&config, packing, &layer.decode_refs()));
        let head = HeadRef { norm: norm(&weights.final_norm), table: weights.head.weights };
        let decode = if fused { Some(Decode::load(&device, &config, dtype, packing, head)?) } else { None };
        let stored = |layer: &Layer| if up_epilogue == Epilogue::Store { layer.up.outputs } else { 0 };
        let up = weights.layers.iter().map(stored).max().unwrap_or(0);
        let experts = ExpertKernels::load(&device, &config, element, limits.rows())?;
        let longest_attention = unwindowed.as_ref().unwrap_or(&attention);
        let activations = Activations::new(&device, &config, element, limits, longest_attention, up)?;
        let tiles = limits.prefill_rows.div_ceil(attention.tile()) + limits.slots;
        let step_buffers =
            StepBuffers::new(&device, limits.rows(), limits.logits_rows().max(limits.prefill_rows), tiles)?;
        if reduction == Reduction::Invariant {
            let trials = trials(&config, limits, up_epilogue, &weights, &activations);
            matmul.make_invariant(&device, &activations.activation, &trials)?;
        }
        let next_tokens = Buffer::new(&device, (limits.slots + 1) * size_of::<i32>())?;
        next_tokens.fill(&device, 0)?;
        Ok(Self {
            config,
            weights,
            element,
            elementwise,
            features: feature_kernels,
            experts,
            attention,
            unwindowed,
            argmax,
            matmul,
            up_epilogue,
            decode,
            reduction,
            limits,
            activations,
            step_buffers,
            next_tokens,
            host_logits: None,
            graphs: HashMap::new(),
            measured_rows: Vec::new(),
            device,
        })
    }

    /// Reads one layer anew from another checkpoint of the model. Decode goes the large-batch path from then on, for the fused kernel's own
    /// copy of the weights is no longer theirs.
    pub(crate) fn reload_layer(&mut self, source: &ModelSource, dtype: Dtype, layer: usize) -> Result<(), EngineError> {
        self.config.check_layer(source, layer)?;
        self.decode = None;
        self.graphs.clear();
        self.weights.reload_layer(&self.device, (source, dtype), &self.elementwise, layer)
    }

    /// The attention of a layer of this kind.
    pub(super) fn attention_of(&self, kind: LayerKind) -> &Attention {
        self.unwindowed.as_ref().filter(|_| !kind.windowed).unwrap_or(&self.attention)
    }

    /// The element type.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// Bytes of device memory that are neither weights nor KV cache.
    pub(crate) fn workspace_bytes(&self) -> usize {
        let more =
            self.decode.as_ref().map_or(0, Decode::bytes) + self.experts.as_ref().map_or(0, ExpertKernels::bytes);
        self.activations.bytes() + self.step_buffers.bytes() + more
    }

    /// Sets the KV cache of the steps to come.
    pub(crate) fn attach(&self, cache: &Cache) -> Result<(), EngineError> {
        let Some(decode) = &self.decode else { return Ok(()) };
        let layer = |(index, layer): (usize, &Layer)| {
            let (keys, values) = cache.layer(index);
            let (attention_norm, mlp_norm) = (norm(&layer.attention_norm), norm(&layer.mlp_norm));
            LayerRef { attention_norm, linears: layer.decode_refs(), mlp_norm, keys, values }
        };
        let layers: Vec<LayerRef> = self.weights.layers.iter().enumerate().map(layer).collect();
        decode.set_layers(&self.device, &layers)
    }

    /// Finds the fastest GEMMs for decode steps of few rows, between two steps and once for each number of rows that share them.
    pub(super) fn measure_gemms(&mut self, rows: usize) -> Result<(), EngineError> {
        let Some(rows) = few(rows).filter(|_| self.reduction == Reduction::Fastest) else { return Ok(()) };
        if self.measured_rows.contains(&rows) {
            return Ok(());
        }
        self.measured_rows.push(rows);
        self.device.synchronize()?;
        let trials = trials(&self.config, self.limits, self.up_epilogue, &self.weights, &self.activations);
        self.matmul.make_fastest(&self.device, &self.activations.activation, &trials, rows)
    }

    /// Logits `[rows, vocabulary]` of the last collected step's `sampled_on_host`.
    pub(crate) fn host_logits(&self, rows: usize) -> &[f32] {
        self.host_logits.as_ref().map_or(&[], |logits| &logits[..rows * self.config.vocabulary])
    }
}

fn norm(weights: &NormWeights) -> NormRef {
    NormRef { weight: weights.weight, bias: (weights.bias != 0).then_some(weights.bias) }
}

/// The kinds of GEMMs of the large-batch path with the weights of every layer, to be tried in the activations' memory before the first step.
fn trials<'a>(
    config: &ModelConfig,
    limits: StepLimits,
    up_epilogue: Epilogue,
    weights: &DeviceWeights,
    activations: &'a Activations,
) -> Vec<Trial<'a>> {
    let [qkv, output, up, down, head] = gemms(config, limits.rows(), up_epilogue);
    let of_layers = |linear: fn(&Layer) -> &Linear| -> Vec<Linear> {
        // A layer with experts has no one MLP.
        weights.layers.iter().map(|layer| *linear(layer)).filter(|linear| linear.weights != 0).collect()
    };
    let logits = &activations.logits;
    let y =
        [&activations.up, &activations.qkv].into_iter().fold(logits, |a, b| if b.bytes() > a.bytes() { b } else { a });
    let trial = |gemm: Gemm, linears: Vec<Linear>, y: &'a Buffer| {
        let bias = linears.first().map_or(0, |linear| linear.bias);
        let weights = linears.iter().map(|linear| linear.weights).collect();
        Trial { gemm: Gemm { bias, ..gemm }, gates: false, weights, y }
    };
    let gates = config.activation == Activation::SiluGated && up_epilogue == Epilogue::Store;
    let mut trials = vec![
        trial(qkv, of_layers(|layer| &layer.qkv), y),
        trial(output, of_layers(|layer| &layer.output), y),
        Trial { gates, ..trial(up, of_layers(|layer| &layer.up), y) },
        trial(down, of_layers(|layer| &layer.down), y),
        trial(Gemm { rows: activations.logits_rows, ..head }, vec![weights.head], logits),
    ];
    let of_experts = |linear: fn(&ExpertLayer) -> Option<Linear>| -> Vec<Linear> {
        weights.layers.iter().filter_map(|layer| layer.experts.as_ref().and_then(linear)).collect()
    };
    let beside: [fn(&ExpertLayer) -> Option<Linear>; 3] = [
        |experts| Some(experts.router),
        |experts| experts.shared.map(|(up, ..)| up),
        |experts| experts.shared.map(|(_, down, _)| down),
    ];
    for linears in beside.map(of_experts) {
        let Some(Linear { outputs, inputs, .. }) = linears.first().copied() else { continue };
        trials.push(trial(Gemm { outputs, inputs, bias: 0, epilogue: Epilogue::Store, ..qkv }, linears, y));
    }
    trials.retain(|trial| !trial.weights.is_empty());
    trials
}

/// The kinds of GEMMs of the large-batch path (`forward.rs`), of so many rows, without addresses; a bias of 1 stands for one.
fn gemms(config: &ModelConfig, rows: usize, up_epilogue: Epilogue) -> [Gemm; 5] {
    let (hidden, intermediate, q) = (config.hidden, config.intermediate, config.heads * config.head_dim);
    let up = if config.activation.is_gated() { 2 * intermediate } else { intermediate };
    let add = if adds_changed_rows(config) { Epilogue::Store } else { Epilogue::Add };
    let gemm = |outputs, inputs, bias, epilogue, f32_output| {
        let (weights, x, y, overlaps) = (0, 0, 0, false);
        Gemm { rows, outputs, inputs, weights, bias: u64::from(bias), x, y, epilogue, f32_output, overlaps }
    };
    [
        gemm(q + 2 * config.kv_heads * config.head_dim, hidden, config.qkv_bias, Epilogue::Store, false),
        gemm(hidden, q, config.output_bias, add, false),
        gemm(up, hidden, config.mlp_bias, up_epilogue, false),
        gemm(hidden, intermediate, config.mlp_bias, add, false),
        gemm(config.vocabulary, hidden, false, Epilogue::Store, true),
    ]
}
