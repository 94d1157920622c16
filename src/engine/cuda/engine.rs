//! The engine on an NVIDIA GPU: the scheduler's steps, enqueued ahead of their results.
//!
//! The host runs two steps ahead of the device. A step's tokens are the input of the next without passing through the host, which
//! sees them later: so one call of [`Engine::step`] enqueues a step, and brings what an earlier one computed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::BLOCK_TOKENS;
use super::cache::Cache;
use super::device::Device;
use super::energy::EnergyCounter;
use super::matmul::Reduction;
use super::model::{Model, StepLimits};
use super::reading::Held;
use super::step_buffers::RING;
use crate::batch::{BlockPool, Scheduler, SchedulerOptions, StepPlan};
use crate::devices::label;
use crate::model::ModelSource;
use crate::{
    Batching, Capacity, Dtype, Engine, EngineError, EngineInfo, Event, Limits, LoadTimes, Logits, OpenOptions, Request,
    Text,
};

/// Prefill rows of one step at most: enough for the matrix products to be at their best.
const PREFILL_ROWS: usize = 8192;

/// Rows whose logits one step brings to the host at most.
const HOST_ROWS: usize = 256;

/// Requests that advance together where the user does not say, as far as memory goes.
const DEFAULT_BATCH: usize = 2048;

/// The engine on an NVIDIA GPU.
pub(crate) struct CudaEngine {
    model: Model,
    cache: Cache,
    scheduler: Scheduler,
    /// Steps that the device works on, and their ring slots.
    in_flight: VecDeque<(StepPlan, usize)>,
    /// What the texts left that were read last.
    held: Option<Held>,
    /// What [`Engine::read`] brought while it waited for the device.
    early: Vec<Event>,
    info: EngineInfo,
    /// Found when it is first read: most engines need none, and NVML takes its time to begin.
    energy: OnceLock<Option<EnergyCounter>>,
}

impl CudaEngine {
    /// Loads a model onto the GPU with this number.
    pub(crate) fn load(source: &ModelSource, options: &OpenOptions, ordinal: usize) -> Result<Self, EngineError> {
        let begin = Instant::now();
        source.check_format(options.dtype.format)?;
        let (dtype, config) = (options.dtype, &source.config);
        let device = Device::open(ordinal)?;
        let slots = options.batch.unwrap_or(DEFAULT_BATCH).max(1);
        let step_limits = StepLimits { prefill_rows: PREFILL_ROWS, slots, host_rows: HOST_ROWS };
        let reduction = match options.batching {
            Batching::Invariant => Reduction::Invariant,
            Batching::Fast => Reduction::Fastest,
        };
        let opened_seconds = begin.elapsed().as_secs_f64();
        let model = Model::load(device, source, dtype, reduction, step_limits)?;
        let loaded_seconds = begin.elapsed().as_secs_f64();
        let cache = Cache::new(&model.device, config, model.element(), slots)?;
        model.attach(&cache)?;
        let total_seconds = begin.elapsed().as_secs_f64();
        let read_seconds = loaded_seconds - opened_seconds;
        let (major, minor) = model.device.capability;
        let info = EngineInfo {
            name: "cuda".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: format!("{}: {}, compute capability {major}.{minor}", label(ordinal), model.device.name),
            dtype: Some(dtype),
            context_tokens: config.context_tokens,
            batch: slots,
            load: LoadTimes { read_seconds, prepare_seconds: total_seconds - read_seconds, total_seconds },
            weight_bytes: Some(model.weights.bytes() as u64),
            device_bytes: Some((model.weights.bytes() + model.workspace_bytes() + cache.bytes()) as u64),
            cache_bytes: Some(cache.bytes() as u64),
            arithmetic: Some(model.device.arithmetic()),
        };
        let options = SchedulerOptions {
            slots,
            prefill_rows: PREFILL_ROWS,
            rows: usize::MAX,
            host_rows: HOST_ROWS,
            samples_on_device: true,
        };
        let limits = Limits {
            vocabulary: config.vocabulary,
            context_tokens: info.context_tokens,
            // The pool's.
            cache_tokens: None,
            block_tokens: BLOCK_TOKENS,
        };
        // Unused blocks cost nothing: the memory is taken.
        let pool = BlockPool::new(cache.blocks, BLOCK_TOKENS, cache.blocks);
        let scheduler = Scheduler::new(options, limits, Arc::clone(&source.tokenizer), pool);
        Ok(Self {
            model,
            cache,
            scheduler,
            in_flight: VecDeque::new(),
            early: Vec::new(),
            held: None,
            info,
            energy: OnceLock::new(),
        })
    }

    /// Admits, enqueues a step, and collects the steps that there is no ring slot for any more, or that must be known before the next.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        events.append(&mut self.early);
        for slot in self.scheduler.admit(events) {
            self.cache.assign(&self.model.device, slot, self.scheduler.table(slot))?;
        }
        let plan = self.scheduler.plan();
        let (nothing, for_host) = (plan.rows() == 0, !plan.sampled_on_host.is_empty());
        if !nothing {
            let ring_slot = self.model.enqueue(&plan, &self.cache)?;
            self.in_flight.push_back((plan, ring_slot));
        }
        // One ring slot stays free for the next step. What the host has to choose cannot wait, and its logits have one place
        // only. Where nothing can be planned, whatever the oldest step ends may make room for others.
        let ahead = match (nothing, for_host) {
            (true, _) => self.in_flight.len().saturating_sub(1),
            (false, true) => 0,
            (false, false) => RING - 1,
        };
        while self.in_flight.len() > ahead {
            self.collect(events)?;
        }
        Ok(())
    }

    /// Waits for the oldest step and hands out what it brought. Steps in flight may still write to the blocks of what ended; whoever
    /// gets these next writes later, for the device does everything in order.
    fn collect(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let Some((plan, ring_slot)) = self.in_flight.pop_front() else { return Ok(()) };
        let tokens = self.model.step_buffers.collect(ring_slot, plan.sampled_on_device.len())?;
        let logits = self.model.host_logits(plan.sampled_on_host.len());
        let new_tokens = self.scheduler.accept(&plan, tokens, logits, events);
        let cache_bytes = Some(self.cache.bytes_of(self.scheduler.pool.held()));
        events.push(Event::Step { running: self.scheduler.running(), new_tokens, cache_bytes });
        Ok(())
    }

    /// Drops everything after a failure of the device, what the prefix cache holds included: it may never have been computed.
    fn reset(&mut self) {
        // A failure of the device has been reported, or will be by the next step.
        let _ = self.model.device.synchronize();
        let _ = self.model.step_buffers.restart(&self.model.device);
        self.in_flight.clear();
        self.early.clear();
        self.scheduler.clear();
    }
}

impl Drop for CudaEngine {
    fn drop(&mut self) {
        // Steps may be in flight, on whichever thread the engine ends. A failure has been reported, or does not matter any more.
        let _ = self.model.device.bind().and_then(|()| self.model.device.synchronize());
    }
}

impl Engine for CudaEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn joules(&self) -> Option<f64> {
        self.energy.get_or_init(|| EnergyCounter::of(&self.model.device)).as_ref()?.joules()
    }

    fn limits(&self) -> Limits {
        self.scheduler.limits()
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.scheduler.submit(request)
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let stepped = self.model.device.bind().and_then(|()| self.advance(events));
        if stepped.is_err() {
            self.reset();
        }
        stepped
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.scheduler.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.scheduler.capacity()
    }

    fn reading_tokens(&self) -> usize {
        PREFILL_ROWS
    }

    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.limits().check_texts(texts)?;
        self.model.device.bind()?;
        // The places of steps in flight are about to be used.
        let mut early = std::mem::take(&mut self.early);
        let collected = (0..self.in_flight.len()).try_for_each(|_| self.collect(&mut early));
        self.early = early;
        if let Err(error) = collected {
            self.reset();
            return Err(error);
        }
        let read = Held::read(&mut self.held, &mut self.model, &self.cache, &mut self.scheduler.pool, texts);
        if read.is_err() {
            let _ = self.model.step_buffers.restart(&self.model.device);
        }
        read
    }

    fn reload_layer(&mut self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        self.model.device.bind()?;
        self.reset();
        self.held = None;
        let dtype = self.info.dtype.unwrap_or(Dtype::F32);
        self.model.reload_layer(source, dtype, layer)
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        self.model.device.bind()?;
        Held::logits(self.held.as_ref(), &self.model, rows).map(Logits::Device)
    }
}
