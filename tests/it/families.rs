//! The CPU engine on tiny random checkpoints of every family, against transformers in binary64 and against candle-transformers.

use std::ops::ControlFlow;
use std::sync::Arc;

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::ModelSource;
use evalsuite::engine::{
    Completion, Dtype, EngineKind, Finish, GenerateOptions, OpenOptions, Prompt, Request, Work, open,
};
use serde::Deserialize;

use crate::data;
use crate::tiny_model;

#[derive(Deserialize)]
struct Oracle {
    tokens: Vec<u32>,
    logits_float64: Vec<Vec<f64>>,
    float32_largest_error: f64,
}

fn tiny(name: &str) -> Arc<ModelSource> {
    Arc::new(tiny_model::open(&data(name)).unwrap())
}

fn oracle(name: &str) -> Oracle {
    serde_json::from_str(&std::fs::read_to_string(data(name).join("oracle.json")).unwrap()).unwrap()
}

fn run(
    source: &Arc<ModelSource>,
    kind: EngineKind,
    dtype: Dtype,
    batch: usize,
    requests: Vec<Request>,
) -> Vec<Completion> {
    let mut engine = open(source, &OpenOptions::new(kind, dtype, Some(batch))).unwrap();
    crate::complete(engine.as_mut(), requests)
}

fn score(id: usize, tokens: &[u32], given: usize) -> Request {
    Request::scoring(id, tokens, tokens.len() - given)
}

fn generate(id: usize, prompt: &[u32], max_tokens: usize) -> Request {
    let prompt = Arc::new(Prompt { text: String::new(), token_ids: prompt.to_vec() });
    let options = GenerateOptions { max_tokens, ignore_eos: true, details: true, ..GenerateOptions::default() };
    Request { id, prompt, work: Work::Generate(options) }
}

/// Relative to the largest logit, binary32 may be off by 1e-5 for each √layer; and by no more than four times what
/// transformers itself is off in binary32.
fn assert_logits_match(name: &str) {
    let (source, oracle) = (tiny(name), oracle(name));
    let engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
    let logits = engine.logits(&oracle.tokens, oracle.logits_float64.len());
    let pairs = || logits.iter().flatten().zip(oracle.logits_float64.iter().flatten());
    let largest = pairs().map(|(_, exact)| exact.abs()).fold(0.0, f64::max);
    let error = pairs().map(|(ours, exact)| (f64::from(*ours) - exact).abs()).fold(0.0, f64::max);
    let bound = (1e-5 * (source.config.layers as f64).sqrt() * largest).min(4.0 * oracle.float32_largest_error);
    println!("{name}: largest error {error:.2e}, transformers' {:.2e}", oracle.float32_largest_error);
    assert!(error <= bound, "{name}: off by {error:e}, allowed {bound:e}");
}

#[test]
fn llama_logits_match_transformers() {
    assert_logits_match("llama");
}

#[test]
fn llama_with_stretched_rotary_embedding_matches_transformers() {
    assert_logits_match("llama3-rope");
}

#[test]
fn mistral_with_a_sliding_window_matches_transformers() {
    assert_logits_match("mistral");
}

#[test]
fn qwen2_logits_match_transformers() {
    assert_logits_match("qwen2");
}

#[test]
fn opt_logits_match_transformers() {
    assert_logits_match("opt");
}

/// The suite's engine and candle-transformers' own models say the same about every token.
#[test]
fn candle_agrees_with_the_cpu_engine() {
    for name in ["llama", "qwen2"] {
        let (source, tokens) = (tiny(name), oracle(name).tokens);
        let ours = run(&source, EngineKind::Cpu, Dtype::F32, 4, vec![score(0, &tokens, 20)]);
        let theirs = run(&source, EngineKind::Candle, Dtype::F32, 1, vec![score(0, &tokens, 20)]);
        assert_eq!(ours[0].details.len(), 20);
        for (ours, theirs) in ours[0].details.iter().zip(&theirs[0].details) {
            assert_eq!(ours.token, theirs.token);
            assert!((ours.log_probability - theirs.log_probability).abs() < 2e-4, "{name}: {ours:?} {theirs:?}");
            assert!((ours.log_sum_exp - theirs.log_sum_exp).abs() < 2e-4, "{name}: {ours:?} {theirs:?}");
        }
    }
}

#[test]
fn candle_says_which_models_it_lacks() {
    let options = OpenOptions::new(EngineKind::Candle, Dtype::F32, None);
    let error = open(&tiny("opt"), &options).err().expect("candle-transformers has no OPT").to_string();
    assert!(error.contains("hint: run with `--engine cpu`"), "{error}");
}

/// The same request gives the same bits alone, in company, and however its prompt is cut into steps.
#[test]
fn a_request_does_not_see_its_batch() {
    for name in ["llama", "mistral", "opt"] {
        let (source, tokens) = (tiny(name), oracle(name).tokens);
        let prompts: Vec<&[u32]> = (0..64).map(|i| &tokens[i % 7..8 + (i * 5) % 30]).collect();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
            let requests =
                || prompts.iter().enumerate().map(|(id, prompt)| generate(id, prompt, 12)).collect::<Vec<_>>();
            let alone = run(&source, EngineKind::Cpu, dtype, 1, requests());
            for batch in [2, 7, 64] {
                let together = run(&source, EngineKind::Cpu, dtype, batch, requests());
                for (alone, together) in alone.iter().zip(&together) {
                    assert_eq!(alone.token_ids, together.token_ids, "{name} {dtype} batch {batch}");
                    assert_eq!(alone.details, together.details, "{name} {dtype} batch {batch}");
                }
            }
        }
    }
}

/// What all prompts begin with is computed once; nobody's answer may show it.
#[test]
fn a_shared_beginning_changes_no_answer() {
    let (source, tokens) = (tiny("llama"), oracle("llama").tokens);
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| [&tokens[..24], &[10 + i]].concat()).collect();
    let requests = |prompts: &[Vec<u32>]| {
        prompts.iter().enumerate().map(|(id, prompt)| generate(id, prompt, 10)).collect::<Vec<_>>()
    };
    let shared = run(&source, EngineKind::Cpu, Dtype::F32, 5, requests(&prompts));
    for (id, prompt) in prompts.iter().enumerate() {
        let alone = run(&source, EngineKind::Cpu, Dtype::F32, 1, vec![generate(id, prompt, 10)]);
        assert_eq!(shared[id].details, alone[0].details);
    }
}

#[test]
fn generation_ends_where_the_context_ends() {
    let (source, tokens) = (tiny("llama"), oracle("llama").tokens);
    let completions = run(&source, EngineKind::Cpu, Dtype::F32, 1, vec![generate(0, &tokens, 1000)]);
    assert_eq!(completions[0].finish, Finish::Context);
    assert_eq!(tokens.len() + completions[0].token_ids.len(), source.config.context_tokens);
}

#[test]
fn generation_ends_at_a_stop_string_and_the_text_before_it_stays() {
    let (source, tokens) = (tiny("llama"), oracle("llama").tokens);
    let whole = &run(&source, EngineKind::Cpu, Dtype::F32, 1, vec![generate(0, &tokens[..8], 12)])[0];
    let fifth = format!(" t{}", whole.token_ids[5]);
    let options = GenerateOptions {
        max_tokens: 12,
        ignore_eos: true,
        stop_strings: Arc::from([fifth.clone()]),
        ..GenerateOptions::default()
    };
    let mut request = generate(0, &tokens[..8], 12);
    request.work = Work::Generate(options);
    let stopped = &run(&source, EngineKind::Cpu, Dtype::F32, 1, vec![request])[0];
    assert_eq!(stopped.finish, Finish::StopString);
    assert!(whole.text.starts_with(&stopped.text) && !stopped.text.contains(&fifth), "{stopped:?} of {whole:?}");
    assert!(stopped.token_ids.len() <= 6);
}

#[test]
fn a_token_beyond_the_vocabulary_and_an_empty_prompt_are_refused() {
    let source = tiny("llama");
    let mut engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
    for (ids, expected) in [(vec![97], "token 97"), (vec![], "empty prompt"), (vec![5; 64], "64 tokens")] {
        let error =
            evalsuite::engine::Engine::run(&mut engine, vec![generate(3, &ids, 1)], &mut |_| ControlFlow::Continue(()))
                .expect_err("must be refused")
                .to_string();
        assert!(error.contains("request 3") && error.contains(expected) && error.contains("hint:"), "{error}");
    }
}
