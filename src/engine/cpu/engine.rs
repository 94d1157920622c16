//! Continuous batching: requests join and leave the running batch between steps.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::forward::{Cache, Feed};
use super::load::Model;
use super::simd::InstructionSet;
use crate::engine::model::{ModelSource, ModelTokenizer};
use crate::engine::{Dtype, Engine, EngineError, EngineInfo, Event, Generation, LoadTimes, Request, Work};
use crate::system::available_memory_bytes;
use crate::text::bytes;

/// Rows that one step feeds at most: enough to keep the kernels busy, few enough to stay in the cache.
const STEP_ROWS: usize = 256;

/// Requests that advance together where the user does not say.
const DEFAULT_BATCH: usize = 32;

/// A common beginning of all prompts shorter than this is not worth computing apart.
const SHARED_PREFIX_TOKENS: usize = 16;

/// The reference engine.
pub struct CpuEngine {
    model: Model,
    tokenizer: Arc<ModelTokenizer>,
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
        let info = EngineInfo {
            name: "cpu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: format!("CPU, {} threads, {set}", rayon::current_num_threads()),
            dtype,
            context_tokens: model.config.context_tokens,
            batch: batch.unwrap_or(DEFAULT_BATCH).max(1),
            load: LoadTimes { read_seconds: total_seconds, prepare_seconds: 0.0, total_seconds },
            weight_bytes: model.weight_bytes() as u64,
            device_bytes: None,
            arithmetic: None,
        };
        Ok(Self { model, tokenizer: Arc::clone(&source.tokenizer), info })
    }

    /// Feeds a whole text and returns the logits behind its last `count` tokens, row by row: for tests and for those who
    /// want numbers rather than words.
    pub fn logits(&self, tokens: &[u32], count: usize) -> Vec<Vec<f32>> {
        let mut cache = Cache::new(&self.model);
        let logits = self.model.forward(&mut [Feed { cache: &mut cache, tokens, logits: count.min(tokens.len()) }]);
        (0..logits.rows()).map(|row| logits.row(row).to_vec()).collect()
    }

    /// Bytes that so many tokens take in the cache.
    fn cache_bytes(&self, tokens: usize) -> u64 {
        let config = &self.model.config;
        (tokens * 2 * config.layers * config.kv_heads * config.head_dim * size_of::<f32>()) as u64
    }

    /// Computes what all prompts begin with once, to be copied into every request's cache.
    fn shared_prefix(&self, requests: &VecDeque<Request>) -> Cache {
        let mut cache = Cache::new(&self.model);
        let Some(first) = requests.front() else { return cache };
        let prompts = || requests.iter().map(|request| request.prompt.token_ids.as_slice());
        let common = prompts().fold(first.prompt.token_ids.len(), |length, prompt| {
            // The last token of every prompt is fed by its own request, which needs the logits behind it.
            let same = prompt.iter().zip(&first.prompt.token_ids).take_while(|(a, b)| a == b).count();
            length.min(same).min(prompt.len() - 1)
        });
        if requests.len() > 1 && common >= SHARED_PREFIX_TOKENS {
            for tokens in first.prompt.token_ids[..common].chunks(STEP_ROWS) {
                self.model.forward(&mut [Feed { cache: &mut cache, tokens, logits: 0 }]);
            }
        }
        cache
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let submitted = Instant::now();
        requests
            .iter()
            .try_for_each(|request| request.check(self.model.config.vocabulary, self.info.context_tokens))?;
        let mut waiting = VecDeque::from(requests);
        let prefix = self.shared_prefix(&waiting);
        let cache_budget = available_memory_bytes().map_or(u64::MAX, |bytes| bytes / 10 * 7);
        let mut running: Vec<Sequence> = Vec::new();
        let mut output_tokens = 0;
        while !waiting.is_empty() || !running.is_empty() {
            while running.len() < self.info.batch
                && let Some(request) = waiting.front()
            {
                let reserved = request.most_tokens(self.info.context_tokens);
                let need = self.cache_bytes(reserved_tokens(&running) + reserved);
                if need > cache_budget && !running.is_empty() {
                    break; // it waits until others have left
                }
                let Some(request) = waiting.pop_front() else { break };
                let given =
                    if let Work::Score { continuation } = &request.work { continuation.clone() } else { Vec::new() };
                let tokenizer = Arc::clone(&self.tokenizer);
                let mut generation = Generation::new(request, tokenizer, self.info.context_tokens, submitted);
                if let Some(finish) = generation.is_empty() {
                    if sink(Event::Completed(generation.complete(finish)?)).is_break() {
                        return Ok(());
                    }
                    continue;
                }
                running.push(Sequence::new(generation, &given, prefix.clone(), reserved));
            }
            let before: usize = running.iter().map(|sequence| sequence.generation.output_tokens()).sum();
            self.step(&mut running)?;
            let after: usize = running.iter().map(|sequence| sequence.generation.output_tokens()).sum();
            output_tokens += (after - before) as u64;
            let (ended, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(|sequence| sequence.finish.is_some());
            running = rest;
            // All that ended are told, whoever breaks off.
            let mut breaks = false;
            for mut sequence in ended {
                let Some(finish) = sequence.finish else { continue };
                breaks |= sink(Event::Completed(sequence.generation.complete(finish)?)).is_break();
            }
            let cache_bytes = Some(self.cache_bytes(reserved_tokens(&running)));
            breaks |= sink(Event::Step { running: running.len(), output_tokens, cache_bytes }).is_break();
            if breaks {
                return Ok(());
            }
        }
        Ok(())
    }

    fn predict(
        &mut self,
        tokens: &[u32],
        from: usize,
        sink: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        Request::scoring(0, tokens, from).check(self.model.config.vocabulary, self.info.context_tokens)?;
        let mut cache = Cache::new(&self.model);
        // The logits behind a token predict the next; nothing is left to be predicted behind the last.
        let fed = tokens.len() - 1;
        for start in (0..fed).step_by(STEP_ROWS) {
            let end = fed.min(start + STEP_ROWS);
            let wanted = end.saturating_sub(start.max(from - 1));
            let mut feeds = [Feed { cache: &mut cache, tokens: &tokens[start..end], logits: wanted }];
            let logits = self.model.forward(&mut feeds);
            if wanted > 0 && sink(&logits.values).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl CpuEngine {
    /// Feeds every sequence its next tokens: one each to those that generate, the rest of the step's rows to those that
    /// still read.
    fn step(&self, running: &mut [Sequence]) -> Result<(), EngineError> {
        let mut spare = STEP_ROWS.saturating_sub(running.len());
        let mut feeds = Vec::with_capacity(running.len());
        let mut counts = Vec::with_capacity(running.len());
        for sequence in running.iter_mut() {
            let length = sequence.pending.len().min(1 + spare);
            spare -= length - 1;
            let fed = sequence.fed..sequence.fed + length;
            let logits = fed.end.saturating_sub(sequence.first_logits.max(fed.start));
            sequence.fed = fed.end;
            counts.push(logits);
            sequence.feeding = sequence.pending.drain(..length).collect();
            feeds.push(Feed { cache: &mut sequence.cache, tokens: &sequence.feeding, logits });
        }
        let logits = self.model.forward(&mut feeds);
        let mut row = 0;
        for (sequence, count) in running.iter_mut().zip(counts) {
            for _ in 0..count {
                match sequence.generation.accept(logits.row(row))? {
                    Ok(token) if sequence.pending.is_empty() => sequence.pending.push_back(token),
                    Ok(_) => (),
                    Err(finish) => sequence.finish = Some(finish),
                }
                row += 1;
            }
        }
        Ok(())
    }
}

/// A request that is being worked on.
struct Sequence {
    generation: Generation,
    cache: Cache,
    /// Tokens that the model has not seen yet.
    pending: VecDeque<u32>,
    /// Tokens of the current step.
    feeding: Vec<u32>,
    /// Tokens that the model has seen.
    fed: usize,
    /// The first token behind which logits are wanted.
    first_logits: usize,
    reserved_tokens: usize,
    finish: Option<crate::engine::Finish>,
}

impl Sequence {
    /// `given` is the continuation to be scored: all but its last token are fed along with the prompt.
    fn new(generation: Generation, given: &[u32], cache: Cache, reserved_tokens: usize) -> Self {
        let prompt = generation.prompt_ids();
        let given = given.split_last().map_or(&[][..], |(_, all_but_last)| all_but_last);
        let pending = prompt[cache.length..].iter().chain(given).copied().collect();
        let first_logits = prompt.len() - 1;
        let fed = cache.length;
        Self { generation, cache, pending, feeding: Vec::new(), fed, first_logits, reserved_tokens, finish: None }
    }
}

/// Tokens that these can come to hold in the cache.
fn reserved_tokens(running: &[Sequence]) -> usize {
    running.iter().map(|sequence| sequence.reserved_tokens).sum()
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
