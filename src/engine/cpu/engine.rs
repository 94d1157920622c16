//! The reference engine: the scheduler's steps, computed on the CPU.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::forward::SequenceInput;
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::Matrix;
use super::load::{Block, Model};
use super::reading::Reading;
use super::simd::InstructionSet;
use crate::batch::{BlockPool, Scheduler, SchedulerOptions, StepPlan};
use crate::model::{ModelConfig, ModelSource};
use crate::system::available_memory_bytes;
use crate::text::bytes;
use crate::{
    Capacity, Dtype, Engine, EngineError, EngineInfo, Event, LayerReading, Limits, LoadTimes, Logits, Request, Text,
};

/// Rows that one step computes at most: enough to keep the kernels busy, few enough to stay in the processor's cache.
const STEP_ROWS: usize = 256;

/// Requests that advance together where the user does not say.
const DEFAULT_BATCH: usize = 32;

/// Memory at most for beginnings of prompts that no running request has, but a later one may.
const CACHED_BYTES: usize = 256 << 20;

/// The reference engine.
pub struct CpuEngine {
    model: Model,
    cache: KvCache,
    scheduler: Scheduler,
    /// Hidden states of the texts that were read last, `[rows, hidden]`.
    read: Matrix,
    /// Texts that are read layer by layer.
    reading: Option<Reading>,
    info: EngineInfo,
}

impl CpuEngine {
    /// Loads a model's weights in `dtype`.
    pub fn load(source: &ModelSource, dtype: Dtype, batch: Option<usize>) -> Result<Self, EngineError> {
        let begin = Instant::now();
        check_memory(source, dtype)?;
        let model = Model::load(source, dtype)?;
        let total_seconds = begin.elapsed().as_secs_f64();
        let set = InstructionSet::detected().name();
        let slots = batch.unwrap_or(DEFAULT_BATCH).max(1);
        let info = EngineInfo {
            name: "cpu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: format!("CPU, {} threads, {set}", rayon::current_num_threads()),
            dtype: Some(dtype),
            context_tokens: model.config.context_tokens,
            batch: slots,
            load: LoadTimes { read_seconds: total_seconds, prepare_seconds: 0.0, total_seconds },
            weight_bytes: Some(model.weight_bytes() as u64),
            device_bytes: None,
            cache_bytes: None,
            arithmetic: None,
        };
        let options = SchedulerOptions {
            slots,
            prefill_rows: STEP_ROWS,
            rows: STEP_ROWS,
            host_rows: usize::MAX,
            samples_on_device: false,
        };
        let limits = Limits {
            vocabulary: model.config.vocabulary,
            context_tokens: info.context_tokens,
            // The pool's.
            cache_tokens: None,
            block_tokens: BLOCK_TOKENS,
        };
        let pool = block_pool(&model.config, slots);
        let scheduler = Scheduler::new(options, limits, Arc::clone(&source.tokenizer), pool);
        let read = Matrix::zeros(0, model.config.hidden);
        Ok(Self { cache: KvCache::new(&model.config), model, scheduler, read, reading: None, info })
    }

    /// Computes a whole text and returns the logits at its last `count` positions, row by row: for tests and for those who
    /// want numbers rather than words.
    pub fn logits(&self, tokens: &[u32], count: usize) -> Vec<Vec<f32>> {
        let blocks = table(tokens.len());
        let input = SequenceInput { blocks: &blocks, position: 0, tokens, logits: count.min(tokens.len()) };
        let logits = self.model.forward(&[input], &mut KvCache::new(&self.model.config));
        (0..logits.rows()).map(|row| logits.row(row).to_vec()).collect()
    }

    /// Computes what the scheduler planned: logits `[plan.sampled_on_host, vocabulary]`.
    fn compute(&mut self, plan: &StepPlan) -> Vec<f32> {
        let tokens: Vec<u32> = plan.tokens.iter().map(|token| token.cast_unsigned()).collect();
        let logits = |rows: std::ops::Range<usize>| {
            plan.sampled_on_host.iter().filter(|sampled| rows.contains(&sampled.row)).count()
        };
        let scheduler = &self.scheduler;
        let decoded = (0..plan.decode_rows).map(|row| SequenceInput {
            blocks: scheduler.table(plan.slots[row].cast_unsigned() as usize),
            position: plan.positions[row].cast_unsigned() as usize,
            tokens: &tokens[row..=row],
            logits: 1,
        });
        let prefilled = plan.segments.iter().map(|segment| {
            let rows = segment.first_row..segment.first_row + segment.rows;
            SequenceInput {
                blocks: scheduler.table(segment.slot),
                position: segment.first_position,
                tokens: &tokens[rows.clone()],
                logits: logits(rows),
            }
        });
        let inputs: Vec<SequenceInput<'_>> = decoded.chain(prefilled).collect();
        self.model.forward(&inputs, &mut self.cache).values
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn limits(&self) -> Limits {
        self.scheduler.limits()
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.scheduler.submit(request)
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.scheduler.admit(events);
        let plan = self.scheduler.plan();
        if plan.rows() > 0 {
            let logits = self.compute(&plan);
            let new_tokens = self.scheduler.accept(&plan, &[], &logits, events);
            let cache_bytes = self.scheduler.pool.held() * KvCache::block_bytes(&self.model.config);
            let running = self.scheduler.running();
            events.push(Event::Step { running, new_tokens, cache_bytes: Some(cache_bytes as u64) });
        }
        if self.scheduler.capacity().is_idle() {
            self.cache.free(|block| self.scheduler.pool.is_free(block));
        }
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.scheduler.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.scheduler.capacity()
    }

    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.limits().check_texts(texts)?;
        self.reading = None;
        self.read = Reading::new(&self.model, texts).last_states(&self.model);
        Ok(())
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        if rows.end > self.read.rows() {
            return Err(EngineError::not_read(&rows, self.read.rows()));
        }
        let rows: Vec<usize> = rows.collect();
        Ok(Logits::Host(Cow::Owned(self.model.logits(&self.read, &rows).values)))
    }

    fn layers(&mut self) -> Option<&mut dyn LayerReading> {
        Some(self)
    }

    fn reload_layer(&mut self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        let precision = self.info.dtype.unwrap_or(Dtype::F32);
        self.model.config.check_layer(source, layer)?;
        self.model.blocks[layer] = Block::load(source, layer, precision)?;
        // What other weights computed is of no use any more, the prefix cache's and the texts' alike.
        self.scheduler.clear();
        self.cache.free(|_| true);
        self.read = Matrix::zeros(0, self.model.config.hidden);
        Ok(())
    }
}

impl LayerReading for CpuEngine {
    fn begin(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.limits().check_texts(texts)?;
        self.reading = Some(Reading::new(&self.model, texts));
        Ok(())
    }

    fn layer(&self) -> usize {
        self.reading.as_ref().map_or(0, Reading::layer)
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        if let Some(reading) = &mut self.reading {
            reading.advance(&self.model);
        }
        Ok(())
    }

    fn states(&self) -> Vec<f32> {
        self.reading.as_ref().map_or_else(Vec::new, |reading| reading.states().values)
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        if let Some(reading) = &self.reading {
            self.read = reading.last_states(&self.model);
        }
        Ok(())
    }
}

/// Blocks of a sequence that is alone in its cache.
fn table(tokens: usize) -> Vec<u32> {
    (0..tokens.div_ceil(BLOCK_TOKENS) as u32).collect()
}

/// Bytes that keys and values may take where the system does not say what is available.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// Keys and values may take 70 % of the memory that is available now, and always have room for one request of any length.
fn block_pool(config: &ModelConfig, slots: usize) -> BlockPool {
    let block_bytes = KvCache::block_bytes(config);
    let of_one = config.context_tokens.div_ceil(BLOCK_TOKENS);
    let budget = available_memory_bytes().map_or(UNKNOWN_MEMORY, |bytes| bytes / 10 * 7) as usize / block_bytes;
    let total = slots.saturating_mul(of_one).min(budget.max(of_one));
    BlockPool::new(total, BLOCK_TOKENS, max_cached_blocks(config))
}

/// Blocks that stay after the last request that held them: as many as the longest prompt fills, for requests that follow one
/// another with a common beginning. Those that run together hold theirs and need none of these.
fn max_cached_blocks(config: &ModelConfig) -> usize {
    config.context_tokens.div_ceil(BLOCK_TOKENS).min(CACHED_BYTES / KvCache::block_bytes(config))
}

/// Refuses a model that this machine's memory cannot hold, before half of it is read.
fn check_memory(source: &ModelSource, dtype: Dtype) -> Result<(), EngineError> {
    let need = dtype.weight_bytes(&source.config);
    match available_memory_bytes() {
        Some(available) if need > available => Err(EngineError::invalid(
            format!("{} needs {} of memory in {dtype}; {} are available", source.name, bytes(need), bytes(available)),
            "use a smaller precision (`--dtype f16`, `--dtype int8`) or a smaller model, or end other programs",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::bundled;
    use crate::hub::{DEFAULT_REVISION, Hub};
    use crate::model::{Family, ModelSpec};
    use crate::{GenerateOptions, Prompt, Work};

    fn engine() -> CpuEngine {
        let spec = ModelSpec { source: bundled::NAME.to_owned(), revision: DEFAULT_REVISION.to_owned() };
        let source = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap();
        CpuEngine::load(&source, Dtype::F32, Some(4)).unwrap()
    }

    fn request(id: usize, token_ids: Vec<u32>) -> Request {
        let prompt = Arc::new(Prompt { text: String::new(), token_ids });
        let options = GenerateOptions { max_tokens: 2, ignore_eos: true, ..GenerateOptions::default() };
        Request { id, prompt, work: Work::Generate(options) }
    }

    /// Tokens of each prompt that came from the cache, in the order of completion.
    fn cached_tokens(engine: &mut CpuEngine, requests: Vec<Request>) -> Vec<usize> {
        let mut cached = Vec::new();
        let mut sink = |event| {
            if let Event::Completed(completion) = event {
                cached.push(completion.cached_tokens);
            }
            ControlFlow::Continue(())
        };
        engine.run(requests, &mut sink).unwrap();
        cached
    }

    fn open(name: &str) -> Arc<ModelSource> {
        let spec = ModelSpec { source: name.to_owned(), revision: DEFAULT_REVISION.to_owned() };
        Arc::new(ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap())
    }

    /// Three texts of which two begin alike for longer than a block, and so long that they go through a layer in several parts.
    fn texts() -> [Vec<u32>; 3] {
        let words = |count: usize, seed: u32| (0..count as u32).map(move |i| 5 + (i * i * 7 + i * seed) % 200);
        let shared: Vec<u32> = words(200, 3).collect();
        let with = |own: usize, seed: u32| shared.iter().copied().chain(words(own, seed)).collect();
        [with(100, 11), with(37, 13), words(70, 17).collect()]
    }

    fn rows(engine: &mut CpuEngine, count: usize) -> Vec<u32> {
        let logits = engine.read_logits(0..count).unwrap().to_host().unwrap().into_owned();
        logits.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn texts_read_together_have_the_bits_of_each_read_alone_and_of_any_layer_they_are_stopped_at() {
        let (mut engine, texts) = (engine(), texts());
        let texts = [230, 210, 60].iter().zip(&texts).map(|(from, tokens)| Text { tokens, from: *from });
        let texts: Vec<Text> = texts.collect();
        let counts: Vec<usize> = texts.iter().map(Text::rows).collect();
        let mut alone = Vec::new();
        for text in &texts {
            engine.read(&[*text]).unwrap();
            alone.extend(rows(&mut engine, text.rows()));
            let whole = engine.logits(&text.tokens[..text.tokens.len() - 1], text.rows());
            let whole: Vec<u32> = whole.into_iter().flatten().map(f32::to_bits).collect();
            assert!(alone.ends_with(&whole));
        }
        engine.read(&texts).unwrap();
        let all = counts.iter().sum();
        assert!(rows(&mut engine, all) == alone);
        let layers = engine.model.config.layers;
        LayerReading::begin(&mut engine, &texts).unwrap();
        for layer in 0..=layers {
            assert_eq!(LayerReading::layer(&engine), layer);
            assert_eq!(engine.states().len(), all * engine.model.config.hidden);
            engine.finish().unwrap();
            assert!(rows(&mut engine, all) == alone, "from layer {layer} on");
            engine.advance().unwrap();
        }
        assert_eq!(LayerReading::layer(&engine), layers, "there is no further layer");
    }

    #[test]
    fn layers_put_back_one_by_one_make_the_other_checkpoint() {
        let (truth, packed) = (open(bundled::NAME), open(bundled::AWQ_NAME));
        let [tokens, ..] = texts();
        let text = [Text { tokens: &tokens, from: 280 }];
        let read = |engine: &mut CpuEngine| {
            engine.read(&text).unwrap();
            rows(engine, text[0].rows())
        };
        let mut half = CpuEngine::load(&truth, Dtype::F16, Some(1)).unwrap();
        let mut engine = CpuEngine::load(&packed, Dtype::Awq, Some(1)).unwrap();
        let (exact, before) = (read(&mut half), read(&mut engine));
        let request = request(1, tokens.clone());
        assert_eq!(cached_tokens(&mut engine, vec![request.clone()]), [0]);
        for layer in 0..truth.config.layers {
            assert!(read(&mut engine) != exact);
            engine.reload_layer(&truth, layer).unwrap();
            assert!(engine.read_logits(0..1).is_err(), "what other weights computed is gone");
        }
        assert!(read(&mut engine) == exact);
        assert_eq!(cached_tokens(&mut engine, vec![request]), [0], "and so is the prefix cache");
        for layer in 0..truth.config.layers {
            engine.reload_layer(&packed, layer).unwrap();
        }
        assert!(read(&mut engine) == before);
        let error = engine.reload_layer(&truth, truth.config.layers).unwrap_err().to_string();
        assert!(error.contains("is not there: it has") && error.contains("hint: "), "{error}");
    }

    /// The norms of AWQ's checkpoint carry the scales of its inputs: weights that are not scaled to fit would be far off.
    #[test]
    fn linear_layers_put_back_one_by_one_compute_what_the_whole_layer_does() {
        let (truth, packed) = (open(bundled::NAME), open(bundled::AWQ_NAME));
        let [tokens, ..] = texts();
        let states = |source: &ModelSource, layer: usize| {
            let mut engine = CpuEngine::load(&packed, Dtype::Awq, Some(1)).unwrap();
            engine.reload_layer(source, layer).unwrap();
            LayerReading::begin(&mut engine, &[Text { tokens: &tokens, from: 1 }]).unwrap();
            (0..=layer).for_each(|_| engine.advance().unwrap());
            engine.states()
        };
        let distance = |a: &[f32], b: &[f32]| {
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x * x)).sum::<f64>();
            (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())).sqrt()
        };
        for layer in 0..truth.config.layers {
            let whole = states(&truth, layer);
            let mut put_back = Arc::clone(&packed);
            let mut distances = vec![distance(&states(&put_back, layer), &whole)];
            let names = crate::model::TensorNames::new(&truth.config, &truth.tensors.names()).block(layer);
            for linear in 0..names.linears().len() {
                put_back = Arc::new(put_back.with_linear_of(&truth, layer, linear).unwrap());
                distances.push(distance(&states(&put_back, layer), &whole));
            }
            let (first, last) = (distances[0], distances[distances.len() - 1]);
            assert!(last < 0.1 * first, "layer {layer}: {distances:?}");
        }
    }

    /// The default run took 94 MB instead of 51: the cache kept 240 prompts that nothing came back to.
    #[test]
    fn prompts_that_nothing_comes_back_to_take_no_more_than_one_context() {
        let mut engine = engine();
        let prompt = |id: usize| vec![10 + id as u32; 15 * BLOCK_TOKENS + 1];
        let requests = (0..60).map(|id| request(id, prompt(id))).collect();
        assert_eq!(cached_tokens(&mut engine, requests), [0; 60]);
        let of_context = engine.info.context_tokens.div_ceil(BLOCK_TOKENS);
        assert_eq!((engine.cache.blocks_in_memory(), of_context), (64, 64));
        // The last prompts are still there, the first are not.
        let again = [59, 58, 0].map(|id| cached_tokens(&mut engine, vec![request(id, prompt(id))])[0]);
        assert_eq!(again, [15 * BLOCK_TOKENS, 15 * BLOCK_TOKENS, 0]);
    }

    #[test]
    fn a_beginning_as_long_as_the_context_outlives_its_request() {
        let mut engine = engine();
        let shared = engine.info.context_tokens - 2 * BLOCK_TOKENS;
        for id in 0..3 {
            let own = vec![10 + id as u32; BLOCK_TOKENS];
            let cached = cached_tokens(&mut engine, vec![request(id, [vec![5; shared], own].concat())]);
            assert_eq!(cached, [if id == 0 { 0 } else { shared }]);
        }
    }

    #[test]
    fn the_cache_of_a_long_context_is_bounded_in_bytes() {
        let example = ModelConfig::example(Family::Llama).unwrap();
        let config = ModelConfig { context_tokens: 1 << 20, ..example };
        assert_eq!(max_cached_blocks(&config), CACHED_BYTES / KvCache::block_bytes(&config));
    }
}
