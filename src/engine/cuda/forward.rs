//! One step as kernel launches: prefill and decode rows through all layers, logits, sampling.

use std::collections::HashMap;

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::buffer::{Buffer, Pinned};
use super::cache::Cache;
use super::device::{Device, failed};
use super::element::ElementType;
use super::layer::{Layer, Linear};
use super::matmul::{Epilogue, Gemm, Matmul, Reduction};
use super::ops::argmax::{self, Argmax};
use super::ops::attention::{Attention, DecodeRows, PagedCache, cut};
use super::ops::decode::{self, Decode, HeadRef, LayerRef, NormRef};
use super::ops::elementwise::{Elementwise, NormWeights, Rows};
use super::packing::packing;
use super::step_buffers::{SMALL_ROWS, StepAddresses, StepBuffers, TILE_WORDS};
use super::weights::DeviceWeights;
use crate::engine::batch::{Segment, StepPlan};
use crate::engine::model::{Activation, ModelConfig, ModelSource};
use crate::engine::{Dtype, EngineError};

/// Bytes of logits that are held at a time; more rows are processed in parts.
const LOGITS_BYTES: usize = 512 << 20;

/// Steps of up to this many rows use programmatic dependent launch where all kernels are ours. In longer ones the gaps between kernels
/// matter little.
const OVERLAPPING_ROWS: usize = 512;

/// A typical number of rows of a step that prefills one prompt: algorithms are prepared for it.
const USUAL_PROMPT_ROWS: usize = 128;

/// What one step may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLimits {
    /// Rows of prompts.
    pub(crate) prompt_rows: usize,
    /// Sequences, each of which may feed one row more.
    pub(crate) slots: usize,
    /// Rows whose logits go to the host.
    pub(crate) host_rows: usize,
}

impl StepLimits {
    fn rows(self) -> usize {
        self.prompt_rows + self.slots
    }

    /// Rows that may want logits: one of each sequence, or those of scored continuations.
    fn wanted(self) -> usize {
        self.slots + self.host_rows
    }
}

/// What decides a step's launches besides the contents of its arrays.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    generating: usize,
    longest: usize,
    tiles: usize,
    for_host: usize,
    for_card: usize,
}

impl Shape {
    /// Whether it can be captured and replayed: few rows, all of which decode and are sampled on the device.
    fn is_small(&self) -> bool {
        self.rows <= SMALL_ROWS && self.generating == self.rows && self.for_card == self.rows
    }

    /// Rows whose logits are wanted, for the host or for the card.
    fn wanted(&self) -> usize {
        self.for_host + self.for_card
    }
}

/// A model in device memory, and the buffers of its steps.
pub(crate) struct Model {
    pub(crate) device: Device,
    pub(crate) config: ModelConfig,
    pub(crate) weights: DeviceWeights,
    element: ElementType,
    elementwise: Elementwise,
    attention: Attention,
    argmax: Argmax,
    matmul: Matmul,
    /// Whether every kernel of the large-batch path is ours.
    own_kernels: bool,
    /// Whether the GEMM's epilogue applies the MLP's gates.
    gates: bool,
    /// The small-batch path, where its order of summation may differ from the large-batch path's.
    decode: Option<Decode>,
    reduction: Reduction,
    pub(crate) limits: StepLimits,
    activations: Activations,
    pub(crate) step_buffers: StepBuffers,
    /// i32 `[slots + 1]`: the token that was sampled last on the device for each.
    next_tokens: Buffer,
    /// Logits for the host, as many as were ever wanted.
    host_logits: Option<Pinned<f32>>,
    /// Captured small steps, by rows and longest attention.
    graphs: HashMap<(usize, usize), Graph>,
}

/// A captured step.
struct Graph(CudaGraph);

// SAFETY: its handles belong to the context, not to a thread; a launch binds the context, and no two threads have it at a time.
unsafe impl Send for Graph {}

/// Row-major `[rows, …]`, as many rows as a step may have.
struct Activations {
    x: Buffer,
    h: Buffer,
    qkv: Buffer,
    attention: Buffer,
    /// Empty where the GEMM's epilogue applies gates.
    up: Buffer,
    activation: Buffer,
    /// f32 `[logits_rows, vocabulary]`.
    logits: Buffer,
    logits_rows: usize,
    workspace: Buffer,
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
        let most_rows = limits.wanted().clamp(16, argmax::MAX_ROWS);
        let logits_rows = (LOGITS_BYTES / (config.vocabulary * size_of::<f32>())).clamp(16, most_rows);
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
        let (elementwise, (attention, (argmax, matmul))) = rayon::join(
            || Elementwise::load(&device, &config, element),
            || {
                rayon::join(
                    || Attention::load(&device, &config, dtype),
                    || rayon::join(|| Argmax::load(&device, config.vocabulary), || Matmul::open(&device, element)),
                )
            },
        );
        let (elementwise, attention, argmax, mut matmul) = (elementwise?, attention?, argmax?, matmul?);
        let own_kernels = matmul.is_own(&[config.hidden, config.heads * config.head_dim, config.intermediate]);
        let gates = own_kernels && config.activation == Activation::SiluGated;
        let packing = packing(source, dtype.format);
        let gpu = (device.multiprocessors, device.shared_bytes);
        let rows = match reduction {
            Reduction::Invariant => vec![1],
            Reduction::Fastest => vec![USUAL_PROMPT_ROWS, limits.slots, limits.prompt_rows],
        };
        let gemms: Vec<Gemm> = rows.into_iter().flat_map(|rows| gemms(&config, rows)).collect();
        let (weights, prepared) = rayon::join(
            || DeviceWeights::load(&device, source, dtype, &elementwise),
            || matmul.prepare(&device, &gemms, reduction),
        );
        let weights = weights?;
        prepared?;
        let fused = reduction == Reduction::Fastest
            && decode::supports(&config, dtype, packing, gpu)
            && weights.layers.iter().all(|layer| decode::reads(&config, packing, &layer.decode_refs()));
        let head = HeadRef { norm: norm(&weights.final_norm), table: weights.head.weights };
        let decode = if fused { Some(Decode::load(&device, &config, dtype, packing, head)?) } else { None };
        let up = if gates { 0 } else { weights.layers.first().map_or(0, |layer| layer.up.outputs) };
        let activations = Activations::new(&device, &config, element, limits, &attention, up)?;
        let tiles = limits.prompt_rows.div_ceil(attention.tile()) + limits.slots;
        let step_buffers = StepBuffers::new(&device, limits.rows(), limits.wanted(), tiles)?;
        let next_tokens = Buffer::new(&device, (limits.slots + 1) * size_of::<i32>())?;
        next_tokens.fill(&device, 0)?;
        Ok(Self {
            config,
            weights,
            element,
            elementwise,
            attention,
            argmax,
            matmul,
            own_kernels,
            gates,
            decode,
            reduction,
            limits,
            activations,
            step_buffers,
            next_tokens,
            host_logits: None,
            graphs: HashMap::new(),
            device,
        })
    }

    /// The element type.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// Bytes of device memory that are neither weights nor KV cache.
    pub(crate) fn workspace_bytes(&self) -> usize {
        self.activations.bytes() + self.step_buffers.bytes() + self.decode.as_ref().map_or(0, Decode::bytes)
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

    /// Enqueues a step; its place in the ring of step buffers. The token sampled at each row of `plan.sampled_on_device` comes back
    /// with [`StepBuffers::collect`]; logits for the host lie in [`Model::host_logits`] once it has.
    pub(crate) fn enqueue(&mut self, plan: &StepPlan, cache: &Cache) -> Result<usize, EngineError> {
        let tiles = self.tiles(plan);
        let (place, at) = self.step_buffers.send(&self.device, plan, &tiles)?;
        let shape = Shape {
            rows: plan.rows(),
            generating: plan.decode_rows,
            longest: plan.longest,
            tiles: tiles.len() / TILE_WORDS,
            for_host: plan.sampled_on_host.len(),
            for_card: plan.sampled_on_device.len(),
        };
        if shape.is_small() {
            self.replay(&shape, cache, &at)?;
        } else {
            self.launch(&shape, cache, &at)?;
        }
        self.step_buffers.send_back(&self.device, place, plan.sampled_on_device.len())?;
        Ok(place)
    }

    /// Logits `[rows, vocabulary]` of the last collected step's `sampled_on_host`.
    pub(crate) fn host_logits(&self, rows: usize) -> &[f32] {
        self.host_logits.as_ref().map_or(&[], |logits| &logits[..rows * self.config.vocabulary])
    }

    fn tiles(&self, plan: &StepPlan) -> Vec<i32> {
        let tile = self.attention.tile();
        let cut = |segment: &Segment| cut(segment.first_row, segment.rows, segment.slot, segment.first_position, tile);
        plan.segments.iter().flat_map(cut).flatten().collect()
    }

    /// A small decode step, captured once as a CUDA graph for each number of rows and bucket of lengths.
    fn replay(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        let shape = Shape { longest: Attention::bucket(shape.longest), ..*shape };
        let key = (shape.rows, shape.longest);
        if let Some(graph) = self.graphs.get(&key) {
            return graph.0.launch().map_err(|error| failed("replay a step", error));
        }
        // This launch computes the step, and looks up what is looked up at first use: a capture may not allocate.
        self.launch(&shape, cache, at)?;
        self.device.synchronize()?;
        let stream = self.device.stream.clone();
        let capture = |error| failed("capture a step", error);
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(capture)?;
        let launched = self.launch(&shape, cache, at);
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags).map_err(capture);
        // What failed to be launched is why the capture came to nothing.
        launched?;
        let graph = graph?;
        self.graphs.extend(graph.map(|graph| (key, Graph(graph))));
        Ok(())
    }

    fn launch(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        match &self.decode {
            Some(decode) if shape.is_small() && shape.rows <= decode.max_rows() => {
                self.launch_small_batch(decode, shape, cache, at)
            }
            _ => self.launch_large_batch(shape, cache, at),
        }
    }

    /// The small-batch path: one fused kernel for all layers, then greedy sampling.
    fn launch_small_batch(
        &self,
        decode: &Decode,
        shape: &Shape,
        cache: &Cache,
        at: &StepAddresses,
    ) -> Result<(), EngineError> {
        let (device, logits) = (&self.device, self.activations.logits.pointer());
        let rows = self.rows(shape, cache, at);
        decode.step(device, &rows, shape.longest, self.weights.embedding, &self.weights.positions, logits)?;
        let (chosen, next) = (self.step_buffers.sampled.pointer(), self.next_tokens.pointer());
        self.argmax.launch(device, logits, shape.rows, chosen, (next, at.logits_slots), false)
    }

    fn rows(&self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Rows {
        Rows {
            count: shape.rows,
            tokens: at.tokens,
            positions: at.positions,
            slots: at.slots,
            next_tokens: self.next_tokens.pointer(),
            tables: cache.tables(),
            table_stride: cache.table_stride,
            overlaps: false,
        }
    }

    fn token_rows(&self, shape: &Shape, at: &StepAddresses) -> DecodeRows {
        DecodeRows {
            positions: at.positions,
            slots: at.slots,
            first_row: 0,
            count: shape.generating,
            longest: shape.longest,
            workspace: self.activations.workspace.pointer(),
            overlaps: false,
        }
    }

    /// The large-batch path, for any rows: GEMMs, attention and element-wise kernels. Where all kernels are ours and the step is short, each
    /// starts while the previous one ends (programmatic dependent launch) and waits for it before it touches anything but weights.
    fn launch_large_batch(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        let device = &self.device;
        let a = &self.activations;
        let (mut x, mut h, qkv, mut attention) = (a.x.pointer(), a.h.pointer(), a.qkv.pointer(), a.attention.pointer());
        let (up, activation) = (a.up.pointer(), a.activation.pointer());
        let overlaps = self.overlaps(shape);
        let rows = Rows { overlaps, ..self.rows(shape, cache, at) };
        let token_rows = DecodeRows { overlaps, ..self.token_rows(shape, at) };
        let (mut count, mut list) = (rows.count, Some(at.logits_rows));
        self.elementwise.embed(device, &rows, self.weights.embedding, &self.weights.positions, x)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let is_last = index + 1 == self.weights.layers.len();
            let (keys, values) = cache.layer(index);
            self.elementwise.norm(device, (count, overlaps), x, None, &layer.attention_norm, h)?;
            self.project(&layer.qkv, (count, overlaps), h, qkv, Epilogue::Store)?;
            self.elementwise.rope_and_store_kv(device, &rows, &self.weights.positions, qkv, keys, values)?;
            if is_last && shape.wanted() == 0 {
                return Ok(()); // the cache is all that such a step is for
            }
            let paged = PagedCache { keys, values, tables: cache.tables(), table_stride: cache.table_stride };
            self.attention.decode(device, qkv, paged, &token_rows, attention)?;
            self.attention.prefill(device, qkv, paged, (at.tiles, shape.tiles), attention, overlaps)?;
            if is_last && shape.wanted() < count {
                // After the last keys and values, only rows whose logits are needed go on. h and qkv are free by now, and x will be.
                let wanted = (shape.wanted(), overlaps);
                self.elementwise.gather_rows(device, wanted, at.logits_rows, (x, attention), (h, qkv))?;
                (x, h, attention) = (h, x, qkv);
                (count, list) = (shape.wanted(), None);
            }
            self.project(&layer.output, (count, overlaps), attention, x, Epilogue::Add)?;
            self.elementwise.norm(device, (count, overlaps), x, None, &layer.mlp_norm, h)?;
            if self.gates {
                self.project(&layer.up, (count, overlaps), h, activation, Epilogue::Gate)?;
            } else {
                self.project(&layer.up, (count, overlaps), h, up, Epilogue::Store)?;
                self.elementwise.activate(device, (count, overlaps), up, activation)?;
            }
            self.project(&layer.down, (count, overlaps), activation, x, Epilogue::Add)?;
        }
        self.choose(shape, at, (x, h), list)
    }

    fn overlaps(&self, shape: &Shape) -> bool {
        self.own_kernels && shape.rows <= OVERLAPPING_ROWS
    }

    fn project(
        &self,
        linear: &Linear,
        (rows, overlaps): (usize, bool),
        x: u64,
        y: u64,
        epilogue: Epilogue,
    ) -> Result<(), EngineError> {
        let Linear { outputs, inputs, weights, bias, .. } = *linear;
        let gemm = Gemm { rows, outputs, inputs, weights, bias, x, y, epilogue, f32_output: false, overlaps };
        self.matmul.launch(&self.device, &gemm, self.reduction)
    }

    /// Logits at the logits indices, in parts where they are many: the host's are copied, from the others the device samples. `list` names
    /// the rows of x, or there is none and they are all of x in order; h is free.
    fn choose(
        &mut self,
        shape: &Shape,
        at: &StepAddresses,
        (x, h): (u64, u64),
        list: Option<u64>,
    ) -> Result<(), EngineError> {
        let (for_host, wanted, overlaps) = (shape.for_host, shape.wanted(), self.overlaps(shape));
        let vocabulary = self.config.vocabulary;
        if for_host > 0 && self.host_logits.as_ref().is_none_or(|logits| logits.len() < for_host * vocabulary) {
            self.host_logits = Some(Pinned::new(&self.device, self.limits.host_rows.max(for_host) * vocabulary)?);
        }
        let (device, a) = (&self.device, &self.activations);
        let mut begin = 0;
        while begin < wanted {
            // A part is either for the host or for the device.
            let end = if begin < for_host { for_host } else { wanted }.min(begin + a.logits_rows);
            let count = end - begin;
            let words = (begin * size_of::<i32>()) as u64;
            let first = if list.is_none() { begin * self.config.hidden * self.element.bytes() } else { 0 };
            let list = list.map(|list| list + words);
            // The previous operation may be a copy to the host, which dependent launches do not apply to.
            self.elementwise.norm(device, (count, false), x + first as u64, list, &self.weights.final_norm, h)?;
            let Linear { outputs, inputs, weights, bias, .. } = self.weights.head;
            let (x, y) = (h, a.logits.pointer());
            let gemm = Gemm {
                rows: count,
                outputs,
                inputs,
                weights,
                bias,
                x,
                y,
                epilogue: Epilogue::Store,
                f32_output: true,
                overlaps,
            };
            self.matmul.launch(device, &gemm, self.reduction)?;
            if begin < for_host {
                if let Some(logits) = &mut self.host_logits {
                    a.logits.read_later(device, 0, &mut logits[begin * vocabulary..end * vocabulary])?;
                }
            } else {
                let chosen = self.step_buffers.sampled.at((begin - for_host) * size_of::<i32>());
                let next = self.next_tokens.pointer();
                self.argmax.launch(
                    device,
                    a.logits.pointer(),
                    count,
                    chosen,
                    (next, at.logits_slots + words),
                    overlaps,
                )?;
            }
            begin = end;
        }
        Ok(())
    }
}

fn norm(weights: &NormWeights) -> NormRef {
    NormRef { weight: weights.weight, bias: (weights.bias != 0).then_some(weights.bias) }
}

/// The kinds of GEMMs of [`Model::launch_large_batch`], of so many rows, without addresses; a bias of 1 stands for one.
fn gemms(config: &ModelConfig, rows: usize) -> [Gemm; 5] {
    let (hidden, intermediate, q) = (config.hidden, config.intermediate, config.heads * config.head_dim);
    let up = if config.activation == Activation::SiluGated { 2 * intermediate } else { intermediate };
    let gemm = |outputs, inputs, bias, epilogue, f32_output| {
        let (weights, x, y, overlaps) = (0, 0, 0, false);
        Gemm { rows, outputs, inputs, weights, bias: u64::from(bias), x, y, epilogue, f32_output, overlaps }
    };
    [
        gemm(q + 2 * config.kv_heads * config.head_dim, hidden, config.qkv_bias, Epilogue::Store, false),
        gemm(hidden, q, config.output_bias, Epilogue::Add, false),
        gemm(up, hidden, config.mlp_bias, Epilogue::Store, false),
        gemm(hidden, intermediate, config.mlp_bias, Epilogue::Add, false),
        gemm(config.vocabulary, hidden, false, Epilogue::Store, true),
    ]
}
