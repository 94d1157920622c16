//! candle-transformers' own models as they are: an independent implementation to hold the CPU engine against.
//!
//! One request at a time and one token at a time, with nothing of ours between the weights and the logits. Slow, and
//! meant to be: whoever doubts a number runs it again with `--engine candle`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, qwen2};

use super::batch::{Queue, Queued, duplicate};
use super::generation::Accepted;
use super::kind::{EngineEntry, EngineKind};
use super::model::{CandleModel, ModelConfig, ModelSource, ModelTokenizer, PositionKind, RotaryScaling, TensorValues};
use super::{
    Arithmetic, Capacity, Engine, EngineError, EngineInfo, Event, Generation, Limits, LoadTimes, Precision, Request,
};

const ENTRY: EngineEntry = EngineEntry {
    name: "candle",
    description: "candle-transformers' own models, slow: an independent implementation to hold ours against",
    dtypes: &Precision::FLOATING,
    on_gpu: || false,
    open: |source, options, _| Ok(Box::new(CandleEngine::load(source, options.dtype)?)),
};

#[expect(non_upper_case_globals, reason = "engines read like the variants of one type")]
impl EngineKind {
    /// candle-transformers' own models, one request at a time: an independent implementation to hold ours against.
    pub const Candle: Self = Self::new(&ENTRY);
}

/// candle-transformers behind our interface.
pub struct CandleEngine {
    model: Model,
    tokenizer: Arc<ModelTokenizer>,
    info: EngineInfo,
    limits: Limits,
    queue: Queue,
    running: Option<Running>,
}

/// The request that is being worked on.
struct Running {
    generation: Generation,
    sequence: Sequence,
    /// Tokens to compute next.
    tokens: Vec<u32>,
}

enum Model {
    Llama { model: llama::Llama, config: Box<llama::Config>, dtype: DType },
    Mistral(mistral::Model),
    Qwen2(qwen2::ModelForCausalLM),
}

impl CandleEngine {
    /// Loads a model's weights in `dtype`.
    pub fn load(source: &ModelSource, dtype: Precision) -> Result<Self, EngineError> {
        let begin = Instant::now();
        let model = Model::load(source, dtype)?;
        let total_seconds = begin.elapsed().as_secs_f64();
        let info = EngineInfo {
            name: "candle".to_owned(),
            version: "candle-transformers 0.11".to_owned(),
            device: format!("CPU, {} threads", rayon::current_num_threads()),
            dtype: Some(dtype),
            context_tokens: source.config.context_tokens,
            batch: 1,
            load: LoadTimes { read_seconds: total_seconds, prepare_seconds: 0.0, total_seconds },
            weight_bytes: Some(dtype.weight_bytes(&source.config)),
            device_bytes: None,
            cache_bytes: None,
            arithmetic: None,
        };
        let limits = Limits {
            vocabulary: source.config.vocabulary,
            context_tokens: info.context_tokens,
            cache_tokens: None,
            block_tokens: 1,
        };
        let tokenizer = Arc::clone(&source.tokenizer);
        Ok(Self { model, tokenizer, info, limits, queue: Queue::default(), running: None })
    }
}

impl CandleEngine {
    /// The request that is being worked on, or the next one.
    fn take_running(&mut self) -> Result<Option<Running>, EngineError> {
        if let Some(running) = self.running.take() {
            return Ok(Some(running));
        }
        let Some(Queued { request, submitted }) = self.queue.pop() else { return Ok(None) };
        let tokens = request.prompt.token_ids.clone();
        let generation = Generation::new(request, Arc::clone(&self.tokenizer), self.info.context_tokens, submitted);
        Ok(Some(Running { generation, sequence: self.model.begin()?, tokens }))
    }

    fn advance(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let Some(mut running) = self.take_running()? else { return Ok(()) };
        let before = running.generation.output_tokens();
        let accepted = if let Some(finish) = running.generation.finished_before_start() {
            Ok(Accepted::Finished(finish))
        } else {
            let logits = self.model.forward(&mut running.sequence, &running.tokens)?;
            running.generation.accept(&logits)
        };
        let new_tokens = (running.generation.output_tokens() - before) as u64;
        events.extend(running.generation.streamed().map(Event::Token));
        let request = running.generation.request_id();
        let ended = match accepted {
            Ok(Accepted::Next(token)) => {
                running.tokens = vec![token];
                self.running = Some(running);
                None
            }
            Ok(Accepted::Finished(finish)) => Some(running.generation.complete(finish)),
            Err(error) => Some(Err(error)),
        };
        events.extend(ended.map(|ended| match ended {
            Ok(completion) => Event::Completed(completion),
            Err(error) => Event::Failed { request, error },
        }));
        events.push(Event::Step { running: usize::from(self.running.is_some()), new_tokens, cache_bytes: None });
        Ok(())
    }
}

impl Engine for CandleEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.limits.check(&request)?;
        if self.running.as_ref().is_some_and(|running| running.generation.request_id() == request.id) {
            return Err(duplicate(request.id));
        }
        self.queue.push(request)
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let stepped = self.advance(events);
        if stepped.is_err() {
            self.queue.clear();
        }
        stepped
    }

    fn cancel(&mut self, request: usize) -> bool {
        let runs = self.running.take_if(|running| running.generation.request_id() == request).is_some();
        runs || self.queue.remove(request)
    }

    fn capacity(&self) -> Capacity {
        let running = usize::from(self.running.is_some());
        Capacity { running, queued: self.queue.len(), free_slots: 1 - running, free_tokens: None }
    }
}

/// Where a sequence stands. Llama's cache is the caller's; the others keep theirs inside the model.
struct Sequence {
    position: usize,
    cache: Option<llama::Cache>,
}

impl Model {
    fn load(source: &ModelSource, precision: Precision) -> Result<Self, EngineError> {
        let config = &source.config;
        if precision.format.is_packed() {
            return Err(EngineError::invalid(
                format!("the engine candle does not run in {precision}"),
                "run with `--engine cpu`, which has every precision",
            ));
        }
        let candle_dtype = match precision.arithmetic {
            Arithmetic::F32 => DType::F32,
            Arithmetic::F16 => DType::F16,
            Arithmetic::Bf16 => DType::BF16,
        };
        let PositionKind::Rotary { theta, scaling: RotaryScaling::None } = config.position else {
            return Err(unsupported(config, "learned or stretched positions"));
        };
        if let Some(feature) = config.features.in_words().first() {
            return Err(unsupported(config, feature));
        }
        if config.head_dim * config.heads != config.hidden {
            return Err(unsupported(config, "a head width of its own"));
        }
        let mut tensors = HashMap::new();
        for name in source.tensors.names() {
            let data = source.tensors.read(&name)?;
            let shape = data.shape.as_slice();
            let tensor = match data.values {
                TensorValues::F32(values) => Tensor::from_vec(values, shape, &Device::Cpu),
                TensorValues::F16(values) => Tensor::from_vec(values, shape, &Device::Cpu),
                TensorValues::Bf16(values) => Tensor::from_vec(values, shape, &Device::Cpu),
                TensorValues::I32(_) => continue, // no family's own
            };
            tensors.insert(name, tensor?.to_dtype(candle_dtype)?);
        }
        let weights = VarBuilder::from_tensors(tensors, candle_dtype, &Device::Cpu);
        Ok(match config.family.entry().candle {
            Some(CandleModel::Llama) => {
                let config = llama_config(config, theta);
                let model = llama::Llama::load(weights, &config)?;
                Self::Llama { model, config: Box::new(config), dtype: candle_dtype }
            }
            Some(CandleModel::Mistral) => Self::Mistral(mistral::Model::new(&mistral_config(config, theta), weights)?),
            Some(CandleModel::Qwen2) => {
                Self::Qwen2(qwen2::ModelForCausalLM::new(&qwen2_config(config, theta), weights)?)
            }
            None => return Err(unsupported(config, "such a family")),
        })
    }

    fn begin(&mut self) -> Result<Sequence, EngineError> {
        let mut cache = None;
        match self {
            Self::Llama { config, dtype, .. } => cache = Some(llama::Cache::new(true, *dtype, config, &Device::Cpu)?),
            Self::Mistral(model) => model.clear_kv_cache(),
            Self::Qwen2(model) => model.clear_kv_cache(),
        }
        Ok(Sequence { position: 0, cache })
    }

    /// Logits behind the last of `tokens`.
    fn forward(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let position = sequence.position;
        sequence.position += tokens.len();
        let logits = match (self, &mut sequence.cache) {
            (Self::Llama { model, .. }, Some(cache)) => model.forward(&input, position, cache)?,
            (Self::Mistral(model), _) => model.forward(&input, position)?,
            (Self::Qwen2(model), _) => model.forward(&input, position)?,
            (Self::Llama { .. }, None) => {
                return Err(EngineError::failed("a Llama sequence without its cache", "report this: it is a defect"));
            }
        };
        Ok(logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
    }
}

fn unsupported(config: &ModelConfig, what: &str) -> EngineError {
    EngineError::invalid(
        format!("candle-transformers has no {what} as this {} model needs it", config.family),
        "run with `--engine cpu`, which has every family",
    )
}

fn llama_config(config: &ModelConfig, theta: f64) -> llama::Config {
    llama::Config {
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        vocab_size: config.vocabulary,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        num_key_value_heads: config.kv_heads,
        use_flash_attn: false,
        rms_norm_eps: config.norm_epsilon,
        rope_theta: theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: config.context_tokens,
        tie_word_embeddings: config.tied_embeddings,
    }
}

fn mistral_config(config: &ModelConfig, theta: f64) -> mistral::Config {
    mistral::Config {
        vocab_size: config.vocabulary,
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        head_dim: Some(config.head_dim),
        num_key_value_heads: config.kv_heads,
        hidden_act: candle_nn::Activation::Silu,
        max_position_embeddings: config.context_tokens,
        rms_norm_eps: config.norm_epsilon,
        rope_theta: theta,
        sliding_window: config.sliding_window,
        use_flash_attn: false,
    }
}

fn qwen2_config(config: &ModelConfig, theta: f64) -> qwen2::Config {
    qwen2::Config {
        vocab_size: config.vocabulary,
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        num_key_value_heads: config.kv_heads,
        max_position_embeddings: config.context_tokens,
        sliding_window: config.sliding_window.unwrap_or(config.context_tokens),
        max_window_layers: 0,
        tie_word_embeddings: config.tied_embeddings,
        rope_theta: theta,
        rms_norm_eps: config.norm_epsilon,
        use_sliding_window: config.sliding_window.is_some(),
        hidden_act: candle_nn::Activation::Silu,
    }
}
