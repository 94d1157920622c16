//! candle-transformers' own models as they are: an independent implementation to hold the CPU engine against.
//!
//! One request at a time and one token at a time, with nothing of ours between the weights and the logits. Slow, and
//! meant to be: whoever doubts a number runs it again with `--engine candle`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, qwen2};

use super::model::{Family, ModelConfig, ModelSource, ModelTokenizer, PositionKind, RotaryScaling, TensorValues};
use super::{Arithmetic, Engine, EngineError, EngineInfo, Event, Generation, LoadTimes, Precision, Request};

/// candle-transformers behind our seam.
pub struct CandleEngine {
    model: Model,
    tokenizer: Arc<ModelTokenizer>,
    info: EngineInfo,
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
            dtype,
            context_tokens: source.config.context_tokens,
            batch: 1,
            load: LoadTimes { read_seconds: total_seconds, prepare_seconds: 0.0, total_seconds },
            weight_bytes: dtype.weight_bytes(&source.config),
            device_bytes: None,
            arithmetic: None,
        };
        Ok(Self { model, tokenizer: Arc::clone(&source.tokenizer), info })
    }
}

impl Engine for CandleEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let submitted = Instant::now();
        let mut output_tokens = 0;
        for request in requests {
            let prompt = Arc::clone(&request.prompt);
            if prompt.token_ids.is_empty() || prompt.token_ids.len() >= self.info.context_tokens {
                return Err(EngineError::invalid(
                    format!("request {} has {} tokens", request.id, prompt.token_ids.len()),
                    format!(
                        "a prompt has at least one token and fewer than the context's {}",
                        self.info.context_tokens
                    ),
                ));
            }
            let tokenizer = Arc::clone(&self.tokenizer);
            let mut generation = Generation::new(request, tokenizer, self.info.context_tokens, submitted);
            let mut sequence = self.model.begin()?;
            let mut next = prompt.token_ids.clone();
            let finish = loop {
                if let Some(finish) = generation.is_empty() {
                    break finish;
                }
                let logits = self.model.forward(&mut sequence, &next)?;
                match generation.accept(&logits)? {
                    Ok(token) => next = vec![token],
                    Err(finish) => break finish,
                }
                output_tokens += 1;
                if sink(Event::Step { running: 1, output_tokens, cache_bytes: None }).is_break() {
                    return Ok(());
                }
            };
            if sink(Event::Completed(generation.complete(finish)?)).is_break() {
                return Ok(());
            }
        }
        Ok(())
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
        Ok(match config.family {
            Family::Llama => {
                let config = llama_config(config, theta);
                let model = llama::Llama::load(weights, &config)?;
                Self::Llama { model, config: Box::new(config), dtype: candle_dtype }
            }
            Family::Mistral => Self::Mistral(mistral::Model::new(&mistral_config(config, theta), weights)?),
            Family::Qwen2 => Self::Qwen2(qwen2::ModelForCausalLM::new(&qwen2_config(config, theta), weights)?),
            Family::Opt => return Err(unsupported(config, "the OPT family")),
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
        format!("candle-transformers has no {what} as this {:?} model needs it", config.family),
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
