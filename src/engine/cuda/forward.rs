//! One step as kernel launches: prefill and decode rows through all layers, logits, sampling.

use super::buffer::Pinned;
use super::cache::Cache;
use super::device::failed;
use super::element::ElementType;
use super::layer::{ExpertLayer, Linear};
use super::matmul::{Epilogue, Gemm};
use super::model::{Graph, Model};
use super::ops::attention::{Attention, DecodeRows, PagedCache, cut};
use super::ops::decode::Decode;
use super::ops::elementwise::{NormWeights, Rows};
use super::ops::experts::ExpertKernels;
use super::ops::features::adds_changed_rows;
use super::step_buffers::{CAPTURED_ROWS, StepAddresses, TILE_WORDS, padded_rows};
use crate::EngineError;
use crate::batch::{Segment, StepPlan};
use crate::model::PositionKind;

/// Steps of up to this many rows use programmatic dependent launch between kernels of ours. In longer ones the gaps matter little.
const OVERLAPPING_ROWS: usize = 512;

/// What decides a step's launches besides the contents of its arrays.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    decode_rows: usize,
    longest: usize,
    tiles: usize,
    sampled_on_host: usize,
    sampled_on_device: usize,
    /// Where the normalised states of the rows with logits indices go, in place of logits: of texts that are read.
    states: Option<u64>,
}

impl Shape {
    /// Whether it can be captured and replayed: not too many rows, all of which decode and are sampled on the device.
    fn is_decode(&self) -> bool {
        self.rows <= CAPTURED_ROWS && self.decode_rows == self.rows && self.sampled_on_device == self.rows
    }

    /// The captured step that computes it: with padding rows, and for any length of its bucket.
    fn captured(&self) -> Self {
        let rows = padded_rows(self.rows);
        let longest = Attention::bucket(self.longest);
        Self { rows, decode_rows: rows, sampled_on_device: rows, longest, ..*self }
    }

    /// Rows whose logits are needed, on the host or on the device.
    fn logits_rows(&self) -> usize {
        self.sampled_on_host + self.sampled_on_device
    }
}

impl Model {
    /// Enqueues a step; returns its ring slot. The token sampled at each row of `plan.sampled_on_device` comes back
    /// with [`super::step_buffers::StepBuffers::collect`]; logits for the host lie in [`Model::host_logits`] once it has.
    pub(crate) fn enqueue(&mut self, plan: &StepPlan, cache: &Cache) -> Result<usize, EngineError> {
        self.enqueue_to(plan, cache, None)
    }

    /// The same for texts that are read: the normalised hidden states of the plan's rows, element `[rows, hidden]`, go to `states`.
    pub(crate) fn enqueue_reading(
        &mut self,
        plan: &StepPlan,
        cache: &Cache,
        states: u64,
    ) -> Result<usize, EngineError> {
        self.enqueue_to(plan, cache, Some(states))
    }

    fn enqueue_to(&mut self, plan: &StepPlan, cache: &Cache, states: Option<u64>) -> Result<usize, EngineError> {
        let tiles = self.tiles(plan);
        let (ring_slot, at) = self.step_buffers.fill(plan, &tiles);
        let shape = Shape {
            rows: plan.rows(),
            decode_rows: plan.decode_rows,
            longest: plan.longest,
            tiles: tiles.len() / TILE_WORDS,
            sampled_on_host: plan.sampled_on_host.len(),
            sampled_on_device: plan.sampled_on_device.len(),
            states,
        };
        if shape.is_decode() {
            self.replay(&shape.captured(), cache, &at)?;
        } else {
            self.launch(&shape, cache, &at)?;
        }
        self.step_buffers.end(&self.device, ring_slot)?;
        Ok(ring_slot)
    }

    fn tiles(&self, plan: &StepPlan) -> Vec<i32> {
        let tile = self.attention.tile();
        let cut = |segment: &Segment| cut(segment.first_row, segment.rows, segment.slot, segment.first_position, tile);
        plan.segments.iter().flat_map(cut).flatten().collect()
    }

    /// A decode step, captured once as a CUDA graph for each number of rows and bucket of lengths: launching a graph costs the host less
    /// than the device needs for it, launching its kernels one by one does not.
    fn replay(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        let key = (shape.rows, shape.longest);
        if let Some(graph) = self.graphs.get(&key) {
            return graph.0.launch().map_err(|error| failed("replay a step", error));
        }
        if self.small_batch(shape).is_none() {
            self.measure_gemms(shape.rows)?;
        }
        // This launch computes the step, and allocates what is allocated at first use: a capture may not allocate.
        self.launch(shape, cache, at)?;
        self.device.synchronize()?;
        let device = self.device.clone();
        let captured = device.capture(|| self.launch(shape, cache, at))?;
        let graph = captured.map_err(|error| failed("capture a step", error))?;
        self.graphs.extend(graph.map(|graph| (key, Graph(graph))));
        Ok(())
    }

    fn launch(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        self.step_buffers.receive(&self.device, at)?;
        match self.small_batch(shape) {
            Some(decode) => self.launch_small_batch(decode, shape, cache, at)?,
            None => self.launch_large_batch(shape, cache, at)?,
        }
        // Sampling is the last of what a step does.
        self.step_buffers.send_back(&self.device, shape.sampled_on_device, shape.is_decode())
    }

    /// The small-batch path's kernels, where a step takes it.
    fn small_batch(&self, shape: &Shape) -> Option<&Decode> {
        self.decode.as_ref().filter(|decode| shape.is_decode() && shape.rows <= decode.max_rows())
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
        let (sampled, next) = (self.step_buffers.sampled.pointer(), self.next_tokens.pointer());
        self.argmax.launch(device, logits, shape.rows, sampled, (next, at.logits_slots), false)
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

    fn decode_rows(&self, shape: &Shape, at: &StepAddresses) -> DecodeRows {
        DecodeRows {
            positions: at.positions,
            slots: at.slots,
            first_row: 0,
            count: shape.decode_rows,
            longest: shape.longest,
            workspace: self.activations.workspace.pointer(),
            new_kv: shape.tiles == 0 && self.stores_kv_in_attention(),
            overlaps: false,
        }
    }

    /// Where keys are stored as they are, decode attention does it.
    fn stores_kv_in_attention(&self) -> bool {
        self.element != ElementType::F32 && matches!(self.config.position, PositionKind::Learned { .. })
    }

    /// The large-batch path, for any rows: GEMMs, attention and element-wise kernels. In short steps a kernel of ours behind one of ours
    /// starts while that one ends (programmatic dependent launch) and waits for it before it touches anything but weights, and the keys and
    /// values of earlier steps.
    fn launch_large_batch(&mut self, shape: &Shape, cache: &Cache, at: &StepAddresses) -> Result<(), EngineError> {
        let device = &self.device;
        let a = &self.activations;
        let (mut x, mut h, qkv, mut attention) = (a.x.pointer(), a.h.pointer(), a.qkv.pointer(), a.attention.pointer());
        let (up, activation) = (a.up.pointer(), a.activation.pointer());
        let short = shape.rows <= OVERLAPPING_ROWS;
        let rows = self.rows(shape, cache, at);
        let decode_rows = self.decode_rows(shape, at);
        let (mut count, mut indices) = (rows.count, Some(at.logits_rows));
        self.elementwise.embed(device, &rows, self.weights.embedding, &self.weights.positions, x)?;
        self.features.scale_embeddings(device, (count, short), x)?;
        // Whether a kernel of ours was launched last.
        let mut ours = true;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let is_last = index + 1 == self.weights.layers.len();
            let kind = self.config.layer_kind(index);
            let (keys, values) = cache.layer(index);
            let input = self.normed((count, short && ours), x, &layer.attention_norm, h)?;
            ours |= input != x;
            ours = self.linear(&layer.qkv, (count, short && ours), input, qkv, Epilogue::Store)?;
            self.features.norm_queries_keys(device, (count, short && ours), qkv, layer.query_key_norms.as_ref())?;
            if !decode_rows.new_kv {
                let positions = self.weights.positions_of(kind);
                let rotation = (positions, kind.rotated);
                let rows = Rows { overlaps: short && ours, ..rows };
                if !self.features.rope_and_store_kv(device, &rows, rotation, qkv, (keys, values))? {
                    self.elementwise.rope_and_store_kv(device, &rows, positions, qkv, keys, values)?;
                }
                ours = true;
            }
            if is_last && shape.logits_rows() == 0 {
                return Ok(()); // such a step only fills the cache
            }
            let paged = PagedCache {
                keys,
                values,
                tables: cache.tables(),
                table_stride: cache.table_stride,
                sinks: layer.sinks,
            };
            let decode_rows = DecodeRows { overlaps: short && ours, ..decode_rows };
            let kernels = self.attention_of(kind);
            kernels.decode(device, qkv, paged, &decode_rows, attention)?;
            kernels.prefill(device, qkv, paged, (at.tiles, shape.tiles), attention, short)?;
            if is_last && shape.logits_rows() < count {
                // After the last keys and values, only rows whose logits are needed go on. h and qkv are free by now, and x will be.
                let logits_rows = (shape.logits_rows(), short);
                self.elementwise.gather_rows(device, logits_rows, at.logits_rows, (x, attention), (h, qkv))?;
                (x, h, attention) = (h, x, qkv);
                (count, indices) = (shape.logits_rows(), None);
            }
            // Side by side, the MLP reads what attention read: before attention's output is added.
            let parallel = self.config.features.parallel_residual;
            let mut input = if parallel { self.normed((count, short), x, &layer.mlp_norm, h)? } else { x };
            ours = self.add_linear((&layer.output, layer.attention_after.as_ref()), (count, short), attention, x, h)?;
            if !parallel {
                input = self.normed((count, short && ours), x, &layer.mlp_norm, h)?;
                ours |= input != x;
            }
            if let (Some(experts), Some(kernels)) = (&layer.experts, &self.experts) {
                ours = self.through_experts(kernels, experts, (count, short && ours, short), input, x)?;
                continue;
            }
            ours = self.mlp_up(&layer.up, (count, short && ours), input, (up, activation))?;
            let down = (&layer.down, layer.mlp_after.as_ref());
            ours = self.add_linear(down, (count, short && ours), activation, x, h)?;
        }
        self.sample(shape, at, (x, h), (indices, ours))
    }

    /// The norm of x in h, or x itself where the layer has no such norm.
    fn normed(&self, rows: (usize, bool), x: u64, norm: &NormWeights, h: u64) -> Result<u64, EngineError> {
        if norm.weight == 0 {
            return Ok(x);
        }
        self.elementwise.norm(&self.device, rows, x, None, norm, h)?;
        Ok(h)
    }

    /// x += linear · input, by way of `scratch` where what is added is normalised or scaled first. Whether by a kernel of ours last.
    fn add_linear(
        &self,
        (linear, norm): (&Linear, Option<&NormWeights>),
        (count, overlaps): (usize, bool),
        input: u64,
        x: u64,
        scratch: u64,
    ) -> Result<bool, EngineError> {
        if !adds_changed_rows(&self.config) {
            return self.linear(linear, (count, overlaps), input, x, Epilogue::Add);
        }
        let ours = self.linear(linear, (count, overlaps), input, scratch, Epilogue::Store)?;
        self.features.add_rows(&self.device, (count, overlaps && ours), x, scratch, norm)?;
        Ok(true)
    }

    /// x += what h comes to in the experts that are chosen for each row, and in the shared MLP. Whether by a kernel of ours last.
    fn through_experts(
        &self,
        kernels: &ExpertKernels,
        layer: &ExpertLayer,
        (count, overlaps, short): (usize, bool, bool),
        h: u64,
        x: u64,
    ) -> Result<bool, EngineError> {
        let device = &self.device;
        let (mut overlaps, mut shared_gate) = (overlaps, 0);
        if let Some((up, down, gate)) = &layer.shared {
            let (inside, activation) = (kernels.up.pointer(), kernels.activation.pointer());
            let ours = self.linear(up, (count, overlaps), h, inside, Epilogue::Store)?;
            kernels.gate(device, (count, short && ours), down.inputs, inside, activation)?;
            overlaps =
                short && self.linear(down, (count, short), activation, kernels.shared.pointer(), Epilogue::Store)?;
            shared_gate = *gate;
        }
        let ours = self.linear(&layer.router, (count, overlaps), h, kernels.scores.pointer(), Epilogue::Store)?;
        let matrices = (&layer.up, &layer.down);
        kernels.through(device, (count, short && ours, short), matrices, (h, shared_gate), x)?;
        Ok(true)
    }

    /// The MLP's first GEMM and its non-linearity, of h's rows, to `activation`. Whether by a kernel of ours last.
    fn mlp_up(
        &self,
        linear: &Linear,
        (count, overlaps): (usize, bool),
        h: u64,
        (up, activation): (u64, u64),
    ) -> Result<bool, EngineError> {
        let epilogue = self.up_epilogue_of(linear, count);
        if epilogue != Epilogue::Store {
            return self.linear(linear, (count, overlaps), h, activation, epilogue);
        }
        let overlaps = self.linear(linear, (count, overlaps), h, up, Epilogue::Store)? && overlaps;
        self.elementwise.activate(&self.device, (count, overlaps), up, activation)?;
        Ok(true)
    }

    /// What the MLP's first GEMM does with its sums: few rows may have the gates applied where many do not.
    fn up_epilogue_of(&self, linear: &Linear, rows: usize) -> Epilogue {
        let gated = gemm_of(linear, (rows, false), 0, 0, Epilogue::Gate);
        if self.matmul.has_epilogue(&gated, self.reduction) { Epilogue::Gate } else { self.up_epilogue }
    }

    /// A linear layer; `overlaps` where it is computed by a kernel of ours. Whether it was.
    fn linear(
        &self,
        linear: &Linear,
        rows: (usize, bool),
        x: u64,
        y: u64,
        epilogue: Epilogue,
    ) -> Result<bool, EngineError> {
        self.matmul.launch(&self.device, &gemm_of(linear, rows, x, y, epilogue), self.reduction)
    }

    /// Logits of rows of normalised states, element `[rows, hidden]`, which [`Model::enqueue_reading`] left.
    pub(crate) fn logits_from(&self, states: u64, rows: usize) -> Result<(), EngineError> {
        self.project(states, rows, false).map(|_| ())
    }

    fn project(&self, x: u64, rows: usize, overlaps: bool) -> Result<bool, EngineError> {
        let y = self.activations.logits.pointer();
        let ours =
            self.matmul.launch(&self.device, &self.head(rows, overlaps, x, y, Epilogue::Store), self.reduction)?;
        self.features.finish_logits(&self.device, (rows * self.config.vocabulary, overlaps && ours), y)?;
        Ok(ours)
    }

    fn head(&self, rows: usize, overlaps: bool, x: u64, y: u64, epilogue: Epilogue) -> Gemm {
        Gemm { f32_output: true, ..gemm_of(&self.weights.head, (rows, overlaps), x, y, epilogue) }
    }

    /// Greedy sampling from rows of normalised states, by a GEMM that stores no logits where that is faster. `overlaps`: in short steps.
    fn sample_greedily(
        &self,
        (x, rows): (u64, usize),
        overlaps: bool,
        sampled: u64,
        slots: u64,
    ) -> Result<(), EngineError> {
        let (device, next) = (&self.device, (self.next_tokens.pointer(), slots));
        let highest = self.head(rows, overlaps, x, self.argmax.highest(), Epilogue::Highest);
        if !self.features.finishes_logits() && self.matmul.has_epilogue(&highest, self.reduction) {
            self.matmul.launch(device, &highest, self.reduction)?;
            return self.argmax.take(device, rows, sampled, next, overlaps);
        }
        let ours = self.project(x, rows, overlaps)?;
        self.argmax.launch(device, self.activations.logits.pointer(), rows, sampled, next, overlaps && ours)
    }

    /// Logits at the logits indices, in parts where they are many: the host's are copied, from the others the device samples. `indices` names
    /// the rows of x, or there is none and they are all of x in order; h is free. `ours`: a kernel of ours was launched last.
    fn sample(
        &mut self,
        shape: &Shape,
        at: &StepAddresses,
        (x, h): (u64, u64),
        (indices, mut ours): (Option<u64>, bool),
    ) -> Result<(), EngineError> {
        let (sampled_on_host, logits_rows) = (shape.sampled_on_host, shape.logits_rows());
        let short = shape.rows <= OVERLAPPING_ROWS;
        if let Some(states) = shape.states {
            return self.elementwise.norm(
                &self.device,
                (logits_rows, false),
                x,
                indices,
                &self.weights.final_norm,
                states,
            );
        }
        let vocabulary = self.config.vocabulary;
        if sampled_on_host > 0
            && self.host_logits.as_ref().is_none_or(|logits| logits.len() < sampled_on_host * vocabulary)
        {
            self.host_logits =
                Some(Pinned::new(&self.device, self.limits.host_rows.max(sampled_on_host) * vocabulary)?);
        }
        let (device, a) = (&self.device, &self.activations);
        let mut begin = 0;
        while begin < logits_rows {
            // A part is either for the host or for the device.
            let end = if begin < sampled_on_host { sampled_on_host } else { logits_rows }.min(begin + a.logits_rows);
            let count = end - begin;
            let words = (begin * size_of::<i32>()) as u64;
            let first = if indices.is_none() { begin * self.config.hidden * self.element.bytes() } else { 0 };
            let indices = indices.map(|indices| indices + words);
            let overlaps = short && ours;
            self.elementwise.norm(device, (count, overlaps), x + first as u64, indices, &self.weights.final_norm, h)?;
            if begin < sampled_on_host {
                self.project(h, count, short)?;
                if let Some(logits) = &mut self.host_logits {
                    a.logits.read_later(device, 0, &mut logits[begin * vocabulary..end * vocabulary])?;
                }
                ours = false; // a copy
            } else {
                let sampled = self.step_buffers.sampled.at((begin - sampled_on_host) * size_of::<i32>());
                self.sample_greedily((h, count), short, sampled, at.logits_slots + words)?;
                ours = true;
            }
            begin = end;
        }
        Ok(())
    }
}

/// A linear layer's GEMM.
fn gemm_of(linear: &Linear, (rows, overlaps): (usize, bool), x: u64, y: u64, epilogue: Epilogue) -> Gemm {
    let Linear { outputs, inputs, weights, bias, .. } = *linear;
    Gemm { rows, outputs, inputs, weights, bias, x, y, epilogue, f32_output: false, overlaps }
}
