//! A test double, and said so: an engine that answers from a script, and a model that is nothing but a tokenizer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evalsuite::engine::model::{
    Family, FileHash, ModelConfig, ModelSource, ModelSpec, ModelTokenizer, TensorData, Tensors, WeightFormat,
};
use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, EngineKind, Event, Finish, LoadTimes, OpenOptions,
    Request, Timings, Work,
};
use evalsuite::jobs::eval::{EvalInputs, EvalJob, EvalRecord, SamplingOptions};
use evalsuite::jobs::{Checkpoints, Destination, Event as RunEvent, Finished, JobContext, JobError, Target};
use evalsuite::report::Format;
use evalsuite::task::{ChatUse, Dataset, DatasetSpec, Fewshot, Protocol, Sample, Selection, Task};

/// Questions ask for `index + 100`; every third f16 answer is wrong, so that precisions differ.
pub(crate) const ROWS: usize = 5;

/// The engine: answers by arithmetic on the question, one request a step.
struct Scripted {
    info: EngineInfo,
    requests: Vec<Request>,
}

impl Engine for Scripted {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.limits().check(&request)?;
        self.requests.push(request);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        // Last first, so that nothing may rely on the order.
        if let Some(request) = self.requests.pop() {
            events.push(Event::Completed(answer(&request, self.info.dtype.expect("a scripted engine has one"))));
            events.push(Event::Step { running: self.requests.len(), new_tokens: 3, cache_bytes: None });
        }
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        let before = self.requests.len();
        self.requests.retain(|waiting| waiting.id != request);
        self.requests.len() < before
    }

    fn capacity(&self) -> Capacity {
        Capacity { running: self.requests.len(), free_slots: 1, ..Capacity::default() }
    }
}

pub(crate) fn answer(request: &Request, dtype: Dtype) -> Completion {
    let Work::Generate(options) = &request.work else { panic!("the script only generates") };
    let number: u64 = request
        .prompt
        .text
        .split(|c: char| !c.is_ascii_digit())
        .find(|word| !word.is_empty())
        .and_then(|word| word.parse().ok())
        .expect("every question holds its number");
    let right = dtype != Dtype::F16 || !number.is_multiple_of(3);
    // A sampled answer tells its seed, so that equal bytes mean equal seeds.
    let aside =
        if options.sampling.temperature > 0.0 { format!("seed-{:x} ", options.sampling.seed) } else { String::new() };
    let value = if right { number + 100 } else { 1 };
    Completion {
        request: request.id,
        token_ids: vec![number as u32, 7, 2],
        text: format!("{aside}é\nThe answer is {value}0."),
        thought: None,
        finish: if number == 4 { Finish::Length } else { Finish::EndOfSequence },
        details: Vec::new(),
        top_tokens: Vec::new(),
        timings: Timings { queued_seconds: 0.0, first_token_seconds: 0.001, total_seconds: 0.002 },
        cached_tokens: 0,
        server: None,
    }
}

/// A scripted engine for a precision; `version` tells two apart.
pub(crate) fn engine(dtype: Dtype, version: &str) -> Box<dyn Engine> {
    engine_on(dtype, version, None)
}

/// The same on some card.
pub(crate) fn engine_on(dtype: Dtype, version: &str, arithmetic: Option<&str>) -> Box<dyn Engine> {
    Box::new(Scripted {
        requests: Vec::new(),
        info: EngineInfo {
            name: "scripted".to_owned(),
            version: version.to_owned(),
            device: "a test".to_owned(),
            dtype: Some(dtype),
            context_tokens: 512,
            batch: 2,
            load: LoadTimes { read_seconds: 0.25, prepare_seconds: 0.25, total_seconds: 0.5 },
            weight_bytes: Some(1000),
            device_bytes: None,
            cache_bytes: None,
            arithmetic: arithmetic.map(str::to_owned),
        },
    })
}

struct NoTensors;

impl Tensors for NoTensors {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        Err(EngineError::invalid(format!("no tensor {name}"), "the scripted model has none"))
    }
}

/// A word-level tokenizer that puts `<s>` in front.
const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "<s>": 1, "Q": 2, "A": 3}}
}"#;

pub(crate) fn model(chat_template: Option<&str>) -> Arc<ModelSource> {
    Arc::new(ModelSource {
        name: "scripted".to_owned(),
        source: "a test double".to_owned(),
        sha256: FileHash::known("5c".repeat(32)),
        stored_as: "f32".to_owned(),
        weight_bytes: 0,
        format: WeightFormat::Dense,
        quantization: None,
        config: ModelConfig {
            vocabulary: 4,
            hidden: 8,
            intermediate: 16,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            ..ModelConfig::example(Family::Llama).expect("it is one")
        },
        tokenizer: Arc::new(ModelTokenizer {
            tokenizer: tokenizers::Tokenizer::from_bytes(TOKENIZER).expect("the tokenizer above is one"),
            chat_template: chat_template.map(str::to_owned),
            bos_token: Some("<s>".to_owned()),
            named_tokens: [("bos_token".to_owned(), "<s>".to_owned())].into(),
            bos_id: Some(1),
            eos_token: None,
            eos_ids: BTreeSet::new(),
            sha256: FileHash::known("70".repeat(32)),
            notes: Vec::new(),
        }),
        tensors: Box::new(NoTensors),
        files: None,
    })
}

pub(crate) fn dataset() -> Dataset {
    let sample = |index: usize| {
        let question = format!("{index} and 1000 less 900 , times ten ?");
        Sample::new(index, question, format!("It is so.\n#### {}0", index + 100))
    };
    Dataset {
        name: "scripted".to_owned(),
        source: "a test".to_owned(),
        split: "test".to_owned(),
        sha256: "da".repeat(32),
        samples: (0..ROWS).map(sample).collect(),
        rows: ROWS,
        left_out: 0,
    }
}

/// The scripted model and problems under a zero-shot protocol without chat template.
pub(crate) fn inputs() -> EvalInputs {
    inputs_of(model(None), dataset(), "gsm8k-cot-zeroshot", ChatUse::Never).expect("the scripted inputs are sound")
}

pub(crate) fn inputs_of(
    model: impl Into<Checkpoints>,
    dataset: Dataset,
    protocol: &str,
    chat: ChatUse,
) -> Result<EvalInputs, JobError> {
    let mut protocol = Protocol::open(protocol)?;
    protocol.chat = chat;
    EvalInputs::new(model, Task::gsm8k()?, dataset, protocol, (Fewshot::None, None))
}

/// A model in some precisions, on the CPU.
pub(crate) fn target(model: &str, dtypes: &[Dtype]) -> Target {
    let model = ModelSpec { source: model.to_owned(), revision: "main".to_owned() };
    Target::new(model, dtypes.to_vec(), EngineKind::Cpu)
}

/// A greedy job in two precisions, into `folder`.
pub(crate) fn job(folder: PathBuf) -> EvalJob {
    EvalJob {
        rule: None,
        command: ["evalsuite", "gsm8k"].map(str::to_owned).to_vec(),
        target: target("scripted", &[Dtype::F32, Dtype::F16]),
        task: Task::gsm8k().expect("it is built in"),
        dataset: DatasetSpec {
            source: "scripted".to_owned(),
            split: "test".to_owned(),
            revision: "main".to_owned(),
            sha256: None,
        },
        selection: Selection::default(),
        protocol: "gsm8k-cot-zeroshot".to_owned(),
        fewshot: None,
        chat: None,
        system: None,
        thinking: None,
        sampling: SamplingOptions::greedy(0, Some(64)),
        until: None,
        placebo: false,
        price_per_hour: None,
        destination: Destination::Folder(folder),
        resume: false,
        format: Format::Terminal { colour: false },
    }
}

/// Runs a job on the scripted engine to its end.
pub(crate) fn evaluate(job: &EvalJob, inputs: &EvalInputs) -> Result<Finished<EvalRecord>, JobError> {
    evaluate_with(job, inputs, &mut |options| Ok(engine(options.dtype, "1")), &mut |_, _| {})
}

/// A test's own way to open an engine.
pub(crate) type Open<'a> = dyn FnMut(&OpenOptions) -> Result<Box<dyn Engine>, EngineError> + 'a;

/// Runs a job with the test's own engines; `tell` may set the flag that interrupts.
pub(crate) fn evaluate_with(
    job: &EvalJob,
    inputs: &EvalInputs,
    open: &mut Open,
    tell: &mut dyn FnMut(RunEvent, &AtomicBool),
) -> Result<Finished<EvalRecord>, JobError> {
    let interrupted = AtomicBool::new(false);
    evalsuite::jobs::eval::evaluate(
        job,
        inputs,
        &mut JobContext {
            open_engine: &mut |variant, target| open(&target.open_options(variant.precision.expect("a local model"))),
            emit: &mut |event| tell(event, &interrupted),
            interrupted: &interrupted,
        },
    )
}
