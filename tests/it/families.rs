//! The CPU engine on tiny random checkpoints of every family, against transformers in binary64 and against candle-transformers.

use std::ops::ControlFlow;
use std::sync::Arc;

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelConfig, ModelSource};
use evalsuite::engine::{
    Completion, Dtype, Engine, EngineKind, Finish, GenerateOptions, OpenOptions, Prompt, Request, Text, Work, open,
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
    let exact = oracle.logits_float64.concat();
    let largest = exact.iter().map(|exact| exact.abs()).fold(0.0, f64::max);
    let error = crate::largest_difference(&logits.concat(), &exact);
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

#[test]
fn qwen3_with_norms_of_queries_and_keys_and_a_late_window_matches_transformers() {
    assert_logits_match("qwen3");
}

#[test]
fn yarn_matches_transformers() {
    assert_logits_match("qwen3-yarn");
}

#[test]
fn smollm3_with_layers_of_four_kinds_matches_transformers() {
    assert_logits_match("smollm3");
}

#[test]
fn granite_with_its_four_factors_matches_transformers() {
    assert_logits_match("granite");
}

#[test]
fn olmo2_with_norms_behind_matches_transformers() {
    assert_logits_match("olmo2");
}

#[test]
fn gemma2_with_soft_caps_matches_transformers() {
    assert_logits_match("gemma2");
}

#[test]
fn gemma3_with_two_rotary_bases_matches_transformers() {
    assert_logits_match("gemma3");
}

#[test]
fn phi3_with_fused_projections_matches_transformers() {
    assert_logits_match("phi3");
}

#[test]
fn phi3_with_longrope_in_a_part_of_each_head_matches_transformers() {
    assert_logits_match("phi3-long");
}

#[test]
fn gpt2_with_transposed_projections_matches_transformers() {
    assert_logits_match("gpt2");
}

#[test]
fn gpt_neox_side_by_side_and_one_after_the_other_matches_transformers() {
    assert_logits_match("gpt-neox");
    assert_logits_match("gpt-neox-serial");
}

#[test]
fn qwen2_moe_with_a_shared_expert_matches_transformers() {
    assert_logits_match("qwen2-moe");
}

#[test]
fn qwen3_moe_with_a_dense_layer_matches_transformers() {
    assert_logits_match("qwen3-moe");
}

#[test]
fn gpt_oss_with_sinks_and_biased_experts_matches_transformers() {
    assert_logits_match("gpt-oss");
}

/// Its experts as published: four bits, unpacked by transformers for the oracle.
#[test]
fn gpt_oss_in_mxfp4_matches_transformers() {
    assert_logits_match("gpt-oss-mxfp4");
    assert_eq!(tiny("gpt-oss-mxfp4").stored_as, "mxfp4 (group 32)");
}

/// What transformers 4 wrote, and what files with a vision model nest, is the same model.
#[test]
fn gemma3_reads_alike_flat_and_nested() {
    let text = std::fs::read_to_string(data("gemma3").join("config.json")).unwrap();
    let flat: serde_json::Value = serde_json::from_str(&text).unwrap();
    let read = |json: &serde_json::Value| ModelConfig::from_json(json, "config.json").unwrap();
    let nested = serde_json::json!({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": flat, "vision_config": {"hidden_size": 1152}});
    assert_eq!(read(&nested), read(&flat));
    let mut older = flat.clone();
    let keys = older.as_object_mut().unwrap();
    keys.remove("rope_parameters");
    keys.extend([
        ("rope_theta".to_owned(), 20_000.0.into()),
        ("rope_local_base_freq".to_owned(), 100.0.into()),
        ("rope_scaling".to_owned(), serde_json::json!({"rope_type": "linear", "factor": 8.0})),
    ]);
    assert_eq!(read(&older), read(&flat));
    let published = serde_json::json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text",
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}});
    let four_billion = read(&published);
    assert_eq!((four_billion.vocabulary, four_billion.heads, four_billion.head_dim), (262_208, 8, 256));
    assert_eq!([4, 5, 6].map(|layer| four_billion.window_of(layer)), [Some(1024), None, Some(1024)]);
}

/// A checkpoint with a vision model, as two generations of transformers name its tensors, is read as its language model.
#[test]
fn a_language_model_is_found_beside_a_vision_model() {
    let expected = logits("gemma3", &data("gemma3"));
    for prefix in ["language_model.model.", "model.language_model."] {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(data("gemma3").join(file), folder.path().join(file)).unwrap();
        }
        let bytes = std::fs::read(data("gemma3").join("model.safetensors")).unwrap();
        let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let renamed = stored.iter().map(|(name, view)| (name.replacen("model.", prefix, 1), view));
        let bytes = safetensors::serialize(renamed, None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        assert_eq!(logits("gemma3", folder.path()), expected, "{prefix}");
    }
}

/// GPT-2 as it was published: names without `transformer.`, and the masks of attention among the tensors.
#[test]
fn gpt2_without_a_prefix_is_read() {
    let expected = logits("gpt2", &data("gpt2"));
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(data("gpt2").join(file), folder.path().join(file)).unwrap();
    }
    let bytes = std::fs::read(data("gpt2").join("model.safetensors")).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = stored.iter().map(|(name, view)| (name.trim_start_matches("transformer.").to_owned(), view));
    std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(renamed, None).unwrap()).unwrap();
    assert_eq!(logits("gpt2", folder.path()), expected);
}

/// The bits of the logits of an oracle's tokens.
fn logits(oracle_of: &str, folder: &std::path::Path) -> Vec<Vec<u32>> {
    let source = Arc::new(tiny_model::open(folder).unwrap());
    let engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
    let rows = engine.logits(&oracle(oracle_of).tokens, 3);
    rows.iter().map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect()
}

/// Texts that are read go layer by layer through a cache of one layer; each layer is of its own kind there too.
#[test]
fn texts_are_read_alike_where_layers_differ() {
    for name in ["gemma3", "smollm3", "qwen3"] {
        let (source, tokens) = (tiny(name), oracle(name).tokens);
        let mut engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
        let expected = engine.logits(&tokens[..39], 19);
        let texts = [Text { tokens: &tokens, from: 21 }];
        engine.read(&texts).unwrap();
        let read = engine.read_logits(0..19).unwrap().to_host().unwrap().into_owned();
        assert!(read == expected.concat(), "{name}");
    }
}

/// Beyond the context that its short factors hold in, `LongRoPE` has others: there the model ends.
#[test]
fn longrope_ends_where_its_short_factors_do() {
    assert_eq!(tiny("phi3-long").config.context_tokens, 64);
}

#[test]
fn a_fused_projection_of_another_height_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(data("phi3").join(file), folder.path().join(file)).unwrap();
    }
    let text = std::fs::read_to_string(data("phi3").join("config.json")).unwrap();
    let text = text.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3");
    std::fs::write(folder.path().join("config.json"), text).unwrap();
    let error = tiny_model::open(folder.path()).expect_err("a mismatch").to_string();
    let expected = "`model.layers.0.self_attn.qkv_proj.weight`";
    assert!(error.contains(expected) && error.contains("96 outputs") && error.contains("hint:"), "{error}");
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
    for name in ["opt", "qwen3", "granite"] {
        let error = open(&tiny(name), &options).err().expect("candle-transformers has no such model").to_string();
        assert!(error.contains("hint: run with `--engine cpu`"), "{error}");
    }
}

/// The same request gives the same bits alone, in company, and however its prompt is cut into steps.
#[test]
fn a_request_does_not_see_its_batch() {
    for name in ["llama", "mistral", "opt", "gemma3", "smollm3", "gpt-neox", "qwen2-moe", "gpt-oss"] {
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
        let error = engine
            .run(vec![generate(3, &ids, 1)], &mut |_| ControlFlow::Continue(()))
            .expect_err("must be refused")
            .to_string();
        assert!(error.contains("request 3") && error.contains(expected) && error.contains("hint:"), "{error}");
    }
}
