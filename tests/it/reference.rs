//! SmolLM2-135M-Instruct on the CPU engine against what transformers generates from it in binary32.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evalsuite::engine::model::ModelSource;
use evalsuite::engine::{Completion, Dtype, EngineKind, GenerateOptions, OpenOptions, Prompt, Request, Work, open};
use serde::Deserialize;

use crate::skip::skip;
use crate::tiny_model;

#[derive(Deserialize)]
struct Reference {
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    id: String,
    prompt: String,
    prompt_token_ids: Vec<u32>,
    output_token_ids: Vec<u32>,
    top1_minus_top2: Vec<f32>,
    first_step_logsumexp: f32,
}

/// Two best logits closer than this may change places between two correct engines; first-step log-sum-exps may differ by it.
const TIE: f32 = 1e-3;

fn complete(source: &Arc<ModelSource>, kind: EngineKind, requests: Vec<Request>) -> Vec<Completion> {
    let mut engine = open(source, &OpenOptions::new(kind, Dtype::F32, None)).unwrap();
    crate::complete(engine.as_mut(), requests)
}

#[test]
fn smollm2_in_f32_reproduces_transformers_token_for_token() {
    let Some((model, reference)) = files() else { return };
    let reference: Reference = serde_json::from_str(&std::fs::read_to_string(reference).unwrap()).unwrap();
    let source = Arc::new(tiny_model::open(&model).unwrap());
    hold(&source, EngineKind::Cpu, &reference.samples);
    if evalsuite::engine::gpu_is_present() {
        hold(&source, EngineKind::Cuda, &reference.samples);
    } else {
        skip("gpu", "no GPU to hold against the reference");
    }
    // candle-transformers is slower by far: the first samples suffice to show that it says the same.
    hold(&source, EngineKind::Candle, &reference.samples[..2]);
}

fn hold(source: &Arc<ModelSource>, kind: EngineKind, samples: &[Sample]) {
    let prompt = |sample: &Sample| {
        let token_ids = source.tokenizer.encode(&sample.prompt, false).unwrap();
        assert_eq!(token_ids, sample.prompt_token_ids, "{}: tokenisation", sample.id);
        Arc::new(Prompt { text: sample.prompt.clone(), token_ids })
    };
    let generate = GenerateOptions { max_tokens: 64, ..GenerateOptions::default() };
    let mut requests = Vec::new();
    for (id, sample) in samples.iter().enumerate() {
        let continuation = sample.output_token_ids.clone();
        requests.push(Request { id: 2 * id, prompt: prompt(sample), work: Work::Generate(generate.clone()) });
        requests.push(Request {
            id: 2 * id + 1,
            prompt: prompt(sample),
            work: Work::Score { continuation, top_tokens: 0 },
        });
    }
    let completions = complete(source, kind, requests);
    assert_eq!(completions.len(), 2 * samples.len());
    let mut ties = 0;
    for (sample, pair) in samples.iter().zip(completions.chunks(2)) {
        let (generated, forced) = (&pair[0].token_ids, &pair[1].details);
        assert_eq!(forced.len(), sample.output_token_ids.len(), "{}", sample.id);
        let first = forced[0].log_sum_exp;
        assert!((first - sample.first_step_logsumexp).abs() <= TIE, "{}: log-sum-exp {first}", sample.id);
        // Teacher-forced, every step's best token is the reference's, ties apart.
        for (step, detail) in forced.iter().enumerate() {
            let tie = sample.top1_minus_top2[step] <= TIE;
            assert!(detail.best == detail.token || tie, "{} step {step}: {detail:?}", sample.id);
        }
        // Free-running, the sequences are equal up to the first tie that fell the other way.
        let same = generated.iter().zip(&sample.output_token_ids).take_while(|(a, b)| a == b).count();
        if same < sample.output_token_ids.len() || generated.len() != sample.output_token_ids.len() {
            let margin = sample.top1_minus_top2.get(same).copied().unwrap_or(f32::INFINITY);
            assert!(margin <= TIE, "{}: step {same} differs at a margin of {margin}", sample.id);
            ties += 1;
        }
    }
    eprintln!("{kind:?}: {} samples token for token, {ties} of them up to a tie", samples.len());
}

/// The model and the reference, or a loud word about which is missing.
fn files() -> Option<(PathBuf, PathBuf)> {
    let model = crate::smollm2();
    let reference = crate::shared().join("reference/smollm2-f32-greedy.json");
    for (need, file) in [("smollm2", &model), ("shared", &reference)] {
        if !file.exists() {
            skip(need, format!("{} is absent; the reference test needs it", file.display()));
            return None;
        }
    }
    Some((model, reference))
}

#[derive(Deserialize)]
struct BundledReference {
    entries: Vec<BundledEntry>,
}

#[derive(Deserialize)]
struct BundledEntry {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    first_logsumexp: f32,
}

/// The bundled model says here what it says in transformers; no step of the reference is a near tie.
#[test]
fn the_bundled_model_reproduces_transformers_token_for_token() {
    let text = include_str!("../../models/bundled/reference.json");
    let reference: BundledReference = serde_json::from_str(text).unwrap();
    let source = Arc::new(tiny_model::open(Path::new("bundled")).unwrap());
    let options = GenerateOptions { max_tokens: 64, details: true, ..GenerateOptions::default() };
    let requests = reference.entries.iter().enumerate().map(|(id, entry)| {
        let token_ids = source.tokenizer.encode(&entry.prompt, false).unwrap();
        assert_eq!(token_ids, entry.prompt_ids);
        let prompt = Arc::new(Prompt { text: entry.prompt.clone(), token_ids });
        Request { id, prompt, work: Work::Generate(options.clone()) }
    });
    for (completion, entry) in complete(&source, EngineKind::Cpu, requests.collect()).iter().zip(&reference.entries) {
        assert_eq!(completion.token_ids, entry.greedy_ids, "{}", entry.prompt);
        assert!((completion.details[0].log_sum_exp - entry.first_logsumexp).abs() <= TIE);
    }
}
