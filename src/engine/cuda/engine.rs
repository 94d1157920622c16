//! Continuous batching on the card: requests join and leave between steps, and the host runs ahead.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::blocks::blocks_of;
use super::cache::Cache;
use super::device::Device;
use super::forward::{Model, StepLimits};
use super::matmul::Reduction;
use super::schedule::{Chosen, Limits, Sequence, Step, next_step, shared_prefix};
use super::step_buffers::RING;
use crate::engine::model::{ModelSource, ModelTokenizer};
use crate::engine::{
    Batching, Engine, EngineError, EngineInfo, Event, Generation, LoadTimes, OpenOptions, Request, Work,
};

/// Rows of prompts that one step reads at most: enough for the matrix products to be at their best.
const PROMPT_ROWS: usize = 8192;

/// Rows whose logits one step brings to the host at most.
const HOST_ROWS: usize = 256;

/// Requests that advance together where the user does not say, as far as memory goes.
const DEFAULT_BATCH: usize = 2048;

/// Sequences from which the host's share of a step is spread over threads.
const PARALLEL_SEQUENCES: usize = 16;

/// The engine on an NVIDIA GPU.
pub(crate) struct CudaEngine {
    model: Model,
    cache: Cache,
    tokenizer: Arc<ModelTokenizer>,
    info: EngineInfo,
}

impl CudaEngine {
    /// Loads a model onto the card that `options` names.
    pub(crate) fn load(source: &ModelSource, options: &OpenOptions) -> Result<Self, EngineError> {
        let begin = Instant::now();
        source.check_format(options.dtype.format)?;
        let (dtype, config) = (options.dtype, &source.config);
        let device = Device::open(options.device)?;
        let slots = options.batch.unwrap_or(DEFAULT_BATCH).max(1);
        let limits = StepLimits { prompt_rows: PROMPT_ROWS, slots, host_rows: HOST_ROWS };
        let reduction = match options.batching {
            Batching::Invariant => Reduction::Invariant,
            Batching::Fast => Reduction::Fastest,
        };
        let opened_seconds = begin.elapsed().as_secs_f64();
        let model = Model::load(device, source, dtype, reduction, limits)?;
        let loaded_seconds = begin.elapsed().as_secs_f64();
        let cache = Cache::new(&model.device, config, model.element(), slots)?;
        model.attach(&cache)?;
        let total_seconds = begin.elapsed().as_secs_f64();
        let read_seconds = loaded_seconds - opened_seconds;
        let (major, minor) = model.device.capability;
        let info = EngineInfo {
            name: "cuda".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: format!("GPU {}: {}, compute capability {major}.{minor}", options.device, model.device.name),
            dtype,
            context_tokens: config.context_tokens,
            batch: slots,
            load: LoadTimes { read_seconds, prepare_seconds: total_seconds - read_seconds, total_seconds },
            weight_bytes: model.weights.bytes() as u64,
            device_bytes: Some((model.weights.bytes() + model.workspace_bytes() + cache.bytes()) as u64),
            arithmetic: Some(model.device.arithmetic()),
        };
        Ok(Self { model, cache, tokenizer: Arc::clone(&source.tokenizer), info })
    }
}

impl Engine for CudaEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let submitted = Instant::now();
        self.model.device.bind()?;
        let (vocabulary, context) = (self.model.config.vocabulary, self.info.context_tokens);
        requests.iter().try_for_each(|request| {
            request.check(vocabulary, context)?;
            self.cache.pool.check(&format!("request {}", request.id), request.most_tokens(context))
        })?;
        let prompts = requests.iter().map(|request| request.prompt.token_ids.as_slice());
        let prefix = self.compute_prefix(shared_prefix(prompts), requests.first())?;
        let mut batch = Batch {
            engine: self,
            waiting: requests.into(),
            sequences: Vec::new(),
            order: Vec::new(),
            prefix,
            in_flight: VecDeque::new(),
            next_id: 0,
            submitted,
            output_tokens: 0,
        };
        let ended = batch.run(sink);
        batch.wind_up();
        ended
    }

    fn predict(
        &mut self,
        tokens: &[u32],
        from: usize,
        sink: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.model.device.bind()?;
        Request::scoring(0, tokens, from).check(self.model.config.vocabulary, self.info.context_tokens)?;
        let slot = self.cache.slots;
        // The logits behind a token predict the next; nothing is left to be predicted behind the last.
        let fed = tokens.len() - 1;
        let blocks = self.take_blocks(fed)?;
        self.cache.assign(&self.model.device, slot, &[&blocks])?;
        let mut ended = Ok(());
        for start in (0..fed).step_by(HOST_ROWS) {
            let end = fed.min(start + HOST_ROWS);
            let mut step = Step::default();
            step.read(slot, start, &tokens[start..end]);
            step.want_for_host(start.max(from - 1).saturating_sub(start)..end - start, slot);
            ended = self
                .model
                .enqueue(&step, &self.cache)
                .and_then(|turn| self.model.step_buffers.collect(turn, 0).map(|_| ()));
            let wanted = step.to_host.len();
            if ended.is_err() || (wanted > 0 && sink(self.model.host_logits(wanted)).is_break()) {
                break;
            }
        }
        self.cache.pool.give_back(blocks);
        ended
    }
}

impl CudaEngine {
    fn take_blocks(&mut self, tokens: usize) -> Result<Vec<u32>, EngineError> {
        self.cache.pool.check("a text", tokens)?;
        self.cache.pool.take(blocks_of(tokens)).ok_or_else(|| {
            EngineError::failed(
                format!("{tokens} tokens have no room in a cache that nobody uses"),
                "this is a fault of the engine: report it with the command; `--engine cpu` works instead",
            )
        })
    }

    /// Computes what all prompts begin with once; every request's table then begins with these blocks.
    fn compute_prefix(&mut self, length: usize, first: Option<&Request>) -> Result<Vec<u32>, EngineError> {
        let Some(first) = first.filter(|_| length > 0) else { return Ok(Vec::new()) };
        let slot = self.cache.slots;
        let blocks = self.take_blocks(length)?;
        self.cache.assign(&self.model.device, slot, &[&blocks])?;
        for start in (0..length).step_by(PROMPT_ROWS) {
            let mut step = Step::default();
            step.read(slot, start, &first.prompt.token_ids[start..length.min(start + PROMPT_ROWS)]);
            let turn = self.model.enqueue(&step, &self.cache)?;
            self.model.step_buffers.collect(turn, 0)?;
        }
        Ok(blocks)
    }
}

/// One call of [`Engine::run`].
struct Batch<'a> {
    engine: &'a mut CudaEngine,
    waiting: VecDeque<Request>,
    /// By slot.
    sequences: Vec<Option<Sequence>>,
    /// Occupied slots, the longest there first.
    order: Vec<usize>,
    /// Blocks that every request's table begins with.
    prefix: Vec<u32>,
    /// Steps that the card works on, and the turns that they took.
    in_flight: VecDeque<(Step, usize)>,
    next_id: u64,
    submitted: Instant,
    output_tokens: u64,
}

impl Batch<'_> {
    fn run(&mut self, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<(), EngineError> {
        loop {
            if self.admit(sink)?.is_break() {
                return Ok(());
            }
            let limits = Limits { prompt_rows: PROMPT_ROWS, host_rows: HOST_ROWS };
            let step = next_step(&mut self.sequences, &self.order, limits);
            let (idle, for_host) = (step.rows() == 0, !step.to_host.is_empty());
            if idle && self.in_flight.is_empty() {
                return Ok(());
            }
            if !idle {
                let turn = self.engine.model.enqueue(&step, &self.engine.cache)?;
                self.in_flight.push_back((step, turn));
            }
            // One turn of the ring stays free for the next step. What the host has to choose cannot wait, and its logits have one
            // place only.
            let ahead = if idle || for_host { 0 } else { RING - 1 };
            while self.in_flight.len() > ahead {
                if self.collect(sink)?.is_break() {
                    return Ok(());
                }
                if idle {
                    break; // whatever ended may make room for others
                }
            }
        }
    }

    /// Gives slots and blocks to requests that wait, first come first served.
    fn admit(&mut self, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<ControlFlow<()>, EngineError> {
        while self.order.len() < self.engine.cache.slots
            && let Some(request) = self.waiting.front()
        {
            let context = self.engine.info.context_tokens;
            let count = blocks_of(request.most_tokens(context)) - self.prefix.len();
            let Some(blocks) = self.engine.cache.pool.take(count) else {
                break; // it waits until others have left
            };
            let Some(request) = self.waiting.pop_front() else { break };
            let given =
                if let Work::Score { continuation } = &request.work { continuation.clone() } else { Vec::new() };
            let tokenizer = Arc::clone(&self.engine.tokenizer);
            let mut generation = Generation::new(request, tokenizer, context, self.submitted);
            if let Some(finish) = generation.is_empty() {
                self.engine.cache.pool.give_back(blocks);
                if sink(Event::Completed(generation.complete(finish)?)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            let slot = self.sequences.iter().position(Option::is_none).unwrap_or(self.sequences.len());
            self.engine.cache.assign(&self.engine.model.device, slot, &[&self.prefix, &blocks])?;
            let prefix_tokens = self.prefix.len() * super::BLOCK_TOKENS;
            let sequence = Sequence::new(generation, self.next_id, &given, prefix_tokens, blocks);
            self.next_id += 1;
            if slot == self.sequences.len() {
                self.sequences.push(Some(sequence));
            } else {
                self.sequences[slot] = Some(sequence);
            }
            self.order.push(slot);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for the oldest step, hands out what it brought, and lets go of who has ended.
    fn collect(&mut self, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<ControlFlow<()>, EngineError> {
        let Some((step, turn)) = self.in_flight.pop_front() else { return Ok(ControlFlow::Continue(())) };
        let (model, vocabulary) = (&self.engine.model, self.engine.model.config.vocabulary);
        let tokens = model.step_buffers.collect(turn, step.to_card.len())?;
        let logits = model.host_logits(step.to_host.len());
        // Rows by slot: a scored continuation has many.
        let mut brought: Vec<Vec<(u64, Chosen)>> = vec![Vec::new(); self.sequences.len()];
        for (wanted, logits) in step.to_host.iter().zip(logits.chunks(vocabulary)) {
            brought[wanted.slot].push((wanted.id, Chosen::ByHost(logits)));
        }
        for (wanted, token) in step.to_card.iter().zip(tokens) {
            brought[wanted.slot].push((wanted.id, Chosen::ByCard(u32::try_from(*token).ok())));
        }
        let accept = |(sequence, brought): (&mut Option<Sequence>, Vec<(u64, Chosen)>)| -> u64 {
            let Some(sequence) = sequence.as_mut() else { return 0 };
            let before = sequence.generation.output_tokens();
            let over = sequence.is_over();
            let current = sequence.id;
            for (_, row) in brought.into_iter().filter(|(id, _)| *id == current) {
                sequence.accept(row);
            }
            match &sequence.ended {
                _ if over => 0,
                Some(completion) => (completion.token_ids.len() - before) as u64,
                None => (sequence.generation.output_tokens() - before) as u64,
            }
        };
        let counted: u64 = if step.to_host.len() + step.to_card.len() < PARALLEL_SEQUENCES {
            self.sequences.iter_mut().zip(brought).map(accept).sum()
        } else {
            self.sequences.par_iter_mut().zip(brought).map(accept).sum()
        };
        self.output_tokens += counted;
        let released = self.release(sink)?;
        let (running, output_tokens) = (self.order.len(), self.output_tokens);
        let cache_bytes = Some(self.engine.cache.bytes_taken());
        let step = sink(Event::Step { running, output_tokens, cache_bytes });
        Ok(if released.is_break() { released } else { step })
    }

    /// Frees slot and blocks of every sequence that is over, and tells of all that ended, whatever failed and whoever breaks off.
    /// Steps in flight may still write there; whoever gets them next writes later, for the card does everything in order.
    fn release(&mut self, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<ControlFlow<()>, EngineError> {
        let mut over = Vec::new();
        for slot in &self.order {
            if self.sequences[*slot].as_ref().is_some_and(Sequence::is_over) {
                over.extend(self.sequences[*slot].take());
            }
        }
        if over.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        self.order.retain(|slot| self.sequences[*slot].is_some());
        let (mut flow, mut failed) = (ControlFlow::Continue(()), None);
        for sequence in over {
            self.engine.cache.pool.give_back(sequence.blocks);
            if let Some(completion) = sequence.ended
                && sink(Event::Completed(completion)).is_break()
            {
                flow = ControlFlow::Break(());
            }
            failed = failed.or(sequence.failed);
        }
        failed.map_or(Ok(flow), Err)
    }

    /// Waits for the card and gives every block back, however the run ended.
    fn wind_up(&mut self) {
        // A failure of the card has been told, or will be by the next run.
        let _ = self.engine.model.device.synchronize();
        let pool = &mut self.engine.cache.pool;
        for sequence in self.sequences.drain(..).flatten() {
            pool.give_back(sequence.blocks);
        }
        pool.give_back(std::mem::take(&mut self.prefix));
    }
}
