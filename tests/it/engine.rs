//! Engines fed while they run: requests that join, leave and share beginnings, on the CPU and, where there is one, on the GPU.

use std::ops::ControlFlow;
use std::sync::Arc;

use evalsuite::engine::model::ModelSource;
use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineKind, Event, GenerateOptions, Request, Sampling, Work, gpu_is_present,
};

use crate::complete;
use crate::cuda::{engine, generate, greedy, shaped, source, tokens};
use crate::random_model::SHAPES;

/// The engines of this machine that keep a request's bits whatever else runs.
pub(crate) fn kinds() -> Vec<EngineKind> {
    if gpu_is_present() {
        return vec![EngineKind::Cpu, EngineKind::Cuda];
    }
    crate::skip::skip("gpu", "no GPU (or no driver, NVRTC or cuBLASLt) on this machine to hold beside the CPU");
    vec![EngineKind::Cpu]
}

pub(crate) fn step(engine: &mut dyn Engine, steps: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..steps {
        engine.step(&mut events).unwrap();
    }
    events
}

pub(crate) fn completed(events: Vec<Event>) -> Vec<Completion> {
    let completed = |event| match event {
        Event::Completed(completion) => Some(completion),
        Event::Failed { request, error } => panic!("request {request} failed: {error}"),
        Event::Token(_) | Event::Note(_) | Event::Step { .. } => None,
    };
    events.into_iter().filter_map(completed).collect()
}

/// Steps until nothing is left to do.
pub(crate) fn drain(engine: &mut dyn Engine) -> Vec<Completion> {
    let mut all = Vec::new();
    for _ in 0..10_000 {
        if engine.capacity().is_idle() {
            return all;
        }
        all.extend(completed(step(engine, 1)));
    }
    panic!("the engine does not come to an end");
}

/// Requests of every kind whose prompts begin alike: those of one group in 130 tokens, all in 70.
pub(crate) fn requests(vocabulary: usize) -> Vec<Request> {
    let (all, groups) = (tokens(70, vocabulary, 1), [tokens(60, vocabulary, 2), tokens(60, vocabulary, 3)]);
    let request = |id: usize| {
        let own = tokens(3 + id * 5 % 17, vocabulary, 100 + id as u64);
        let prompt = [all.clone(), groups[id % 2].clone(), own].concat();
        let options = GenerateOptions { details: id.is_multiple_of(3), ..greedy(12 + id % 5) };
        let sampling = Sampling { temperature: 0.8, seed: id as u64, ..Sampling::default() };
        match id % 4 {
            1 => generate(id, prompt, GenerateOptions { sampling, details: true, ..options }),
            2 => Request {
                work: Work::Score { continuation: tokens(20, vocabulary, 7), top_tokens: 0 },
                ..generate(id, prompt, options)
            },
            _ => generate(id, prompt, options),
        }
    };
    (0..12).map(request).collect()
}

/// All that must not depend on anything but the request.
fn bits(completion: &Completion) -> (usize, &[u32], &str, Vec<[u32; 5]>) {
    let of = |detail: &evalsuite::engine::TokenDetail| {
        let floats = [detail.log_probability, detail.margin, detail.log_sum_exp].map(f32::to_bits);
        [detail.token, detail.best, floats[0], floats[1], floats[2]]
    };
    (completion.request, &completion.token_ids, &completion.text, completion.details.iter().map(of).collect())
}

/// Every request alone in an engine that has seen nothing else.
pub(crate) fn each_alone(
    source: &Arc<ModelSource>,
    kind: EngineKind,
    dtype: Dtype,
    requests: &[Request],
) -> Vec<Completion> {
    let longest = requests.iter().map(|request| request.prompt.token_ids.len()).max().unwrap();
    let alone = |request: &Request| {
        let mut engine = engine(source, kind, dtype, 8);
        let completion = complete(engine.as_mut(), vec![request.clone()]).remove(0);
        assert!(completion.cached_tokens == 0 && longest < engine.info().context_tokens);
        completion
    };
    requests.iter().map(alone).collect()
}

pub(crate) fn assert_same(found: &[Completion], alone: &[Completion], what: &str) {
    for completion in found {
        assert_eq!(bits(completion), bits(&alone[completion.request]), "{what}");
    }
}

/// The promise of golden files, for requests that join and leave: hit or miss, together, staggered, beside neighbours that are
/// cancelled while they wait, prefill or decode, the bits are those of the request alone.
fn keeps_its_bits(name: &str, source: &Arc<ModelSource>, kind: EngineKind, dtype: Dtype) {
    let requests = requests(source.config.vocabulary);
    let alone = each_alone(source, kind, dtype, &requests);
    let mut engine = engine(source, kind, dtype, 5);
    let full = engine.capacity();
    for round in ["miss", "hit"] {
        let together = complete(engine.as_mut(), requests.clone());
        assert_eq!(together.len(), requests.len());
        assert_same(&together, &alone, &format!("{name}, {kind:?} {dtype}, together, {round}"));
        let shared = together.iter().filter(|completion| completion.cached_tokens >= 64).count();
        assert!(shared >= if round == "miss" { 10 } else { 12 }, "{name}, {kind:?}: {shared} {round}");
        assert_eq!(engine.capacity(), full);
    }
    // One after the other, each a few steps behind the one before, into an engine that forgot nothing and into a new one.
    for mut engine in [engine, crate::cuda::engine(source, kind, dtype, 5)] {
        let mut staggered = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            engine.submit(request.clone()).unwrap();
            staggered.extend(completed(step(engine.as_mut(), 1 + index % 4)));
        }
        staggered.extend(drain(engine.as_mut()));
        assert_eq!(staggered.len(), requests.len());
        assert_same(&staggered, &alone, &format!("{name}, {kind:?} {dtype}, staggered"));
        assert_eq!(engine.capacity(), full);
    }
    // Every other request leaves, at another step each: the first of a group, who computes its beginning, too.
    let mut engine = crate::cuda::engine(source, kind, dtype, 5);
    let mut left = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        engine.submit(request.clone()).unwrap();
        if index % 2 == 1 {
            left.extend(completed(step(engine.as_mut(), index % 5)));
            engine.cancel(index - 1);
        }
    }
    left.extend(drain(engine.as_mut()));
    assert!(left.len() >= requests.len() / 2);
    assert_same(&left, &alone, &format!("{name}, {kind:?} {dtype}, beside cancelled ones"));
    assert_eq!(engine.capacity(), full);
}

#[test]
fn bits_do_not_depend_on_who_joins_leaves_or_shares_a_beginning() {
    for kind in kinds() {
        for dtype in [Dtype::F32, Dtype::F16] {
            for shape in [&SHAPES[0], &SHAPES[3], &SHAPES[6]] {
                let (_folder, source) = shaped(shape);
                keeps_its_bits(shape.name, &source, kind, dtype);
            }
            keeps_its_bits("bundled", &source("bundled"), kind, dtype);
        }
    }
}

#[test]
fn a_cancelled_request_gives_everything_back_within_a_step() {
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    for kind in kinds() {
        let request = |id: usize| generate(id, tokens(300, vocabulary, id as u64), greedy(40));
        let alone = complete(engine(&source, kind, Dtype::F32, 3).as_mut(), vec![request(1)]).remove(0);
        let mut engine = engine(&source, kind, Dtype::F32, 3);
        let full = engine.capacity();
        assert!(!engine.cancel(7), "{kind:?}: nobody is there");
        for id in 0..5 {
            engine.submit(request(id)).unwrap();
        }
        assert_eq!((engine.capacity().queued, engine.capacity().running), (5, 0));
        step(engine.as_mut(), 1);
        let busy = engine.capacity();
        assert_eq!((busy.queued, busy.running, busy.free_slots), (2, 3, 0), "{kind:?}");
        assert!(busy.free_tokens.unwrap() <= full.free_tokens.unwrap() - 3 * 340);
        assert!(engine.cancel(4), "{kind:?}: it waits");
        assert!(engine.cancel(2), "{kind:?}: it prefills, or is about to");
        step(engine.as_mut(), 6);
        assert!(engine.cancel(0), "{kind:?}: it decodes");
        assert!(engine.cancel(3), "{kind:?}: it has come up");
        assert_eq!(engine.capacity(), Capacity { running: 1, free_slots: 2, queued: 0, ..engine.capacity() });
        let left = drain(engine.as_mut());
        assert_eq!(left.len(), 1, "{kind:?}");
        assert_eq!(bits(&left[0]), bits(&alone), "{kind:?}");
        assert_eq!(engine.capacity(), full, "{kind:?}");
        assert!(!engine.cancel(1), "{kind:?}: it has ended");
        engine.submit(request(1)).unwrap();
        let again = drain(engine.as_mut());
        assert_eq!(bits(&again[0]), bits(&alone), "{kind:?}");
        assert!(again[0].cached_tokens >= 256, "{kind:?}: {}", again[0].cached_tokens);
    }
}

#[test]
fn tokens_are_told_as_they_come() {
    let source = source("bundled");
    for kind in kinds() {
        let mut engine = engine(&source, kind, Dtype::F32, 4);
        let options = GenerateOptions { stream: true, ..greedy(9) };
        engine.submit(generate(0, tokens(20, source.config.vocabulary, 1), options)).unwrap();
        engine.submit(generate(1, tokens(20, source.config.vocabulary, 2), greedy(9))).unwrap();
        let (mut told, mut calls_with_tokens, mut ended) = (Vec::new(), 0, Vec::new());
        while !engine.capacity().is_idle() {
            let before = told.len();
            for event in step(engine.as_mut(), 1) {
                match event {
                    Event::Token(token) => told.push(token),
                    Event::Completed(completion) => ended.push(completion),
                    Event::Failed { error, .. } => panic!("{error}"),
                    Event::Note(_) | Event::Step { .. } => (),
                }
            }
            calls_with_tokens += usize::from(told.len() > before);
        }
        ended.sort_by_key(|completion| completion.request);
        assert!(told.iter().all(|token| token.request == 0), "{kind:?}");
        assert_eq!(told.iter().map(|token| token.token).collect::<Vec<_>>(), ended[0].token_ids, "{kind:?}");
        assert_eq!(calls_with_tokens, 9, "{kind:?}: each when it is there, not all in the end");
        assert!(told.is_sorted_by(|a, b| a.seconds <= b.seconds && a.index + 1 == b.index));
        let timings = ended[0].timings;
        let first = timings.queued_seconds + timings.first_token_seconds;
        assert!((told[0].seconds - first).abs() < 0.1, "{kind:?}: {told:?} {timings:?}");
    }
}

#[test]
fn what_an_engine_cannot_work_on_is_refused_when_it_is_submitted() {
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    for kind in kinds().into_iter().chain([EngineKind::Candle]) {
        let mut engine = engine(&source, kind, Dtype::F32, 2);
        let context = engine.info().context_tokens;
        let good = generate(0, tokens(5, vocabulary, 1), greedy(4));
        engine.submit(good.clone()).unwrap();
        for (bad, part) in [
            (generate(1, Vec::new(), greedy(1)), "request 1 has an empty prompt"),
            (generate(1, vec![vocabulary as u32], greedy(1)), "but the vocabulary ends at"),
            (generate(1, tokens(context, vocabulary, 1), greedy(1)), "but the model's context holds"),
            (good.clone(), "request 0 is in the engine already"),
        ] {
            let text = engine.submit(bad).unwrap_err().to_string();
            assert!(text.contains(part) && text.contains("\nhint: "), "{kind:?}: {text}");
        }
        let ended = drain(engine.as_mut());
        assert_eq!((ended.len(), ended[0].token_ids.len()), (1, 4), "{kind:?}");
        // In a batch, nothing of it is begun, and the engine is clean.
        let batch = vec![good.clone(), generate(1, Vec::new(), greedy(1))];
        assert!(engine.run(batch, &mut |_| panic!("nothing runs")).is_err());
        assert!(engine.capacity().is_idle());
        engine.submit(good).unwrap();
        assert_eq!(drain(engine.as_mut()).len(), 1);
    }
}

/// A checkpoint whose first MLP overflows binary16 at token 500 and nowhere else: that token alone has something in column 0,
/// where the gate's weights are as large as binary16 goes.
fn overflowing() -> (tempfile::TempDir, Arc<ModelSource>) {
    let folder = SHAPES[0].write();
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let mut change = |name: &str, value: &dyn Fn(usize, usize, f32) -> f32| {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let (columns, length) = (tensor.shape()[1], tensor.data().len());
        let begin = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
        for (index, element) in bytes[begin..begin + length].chunks_mut(4).enumerate() {
            let old = f32::from_le_bytes((&*element).try_into().unwrap());
            element.copy_from_slice(&value(index / columns, index % columns, old).to_le_bytes());
        }
    };
    change("model.embed_tokens.weight", &|row, column, old| match (row, column) {
        (500, 0) => 1000.0,
        (_, 0) => 0.0,
        _ => old,
    });
    change("model.layers.0.self_attn.o_proj.weight", &|row, _, old| if row == 0 { 0.0 } else { old });
    for name in ["gate_proj", "up_proj"] {
        let large = |_: usize, column: usize, old| if column == 0 { 60_000.0 } else { old };
        change(&format!("model.layers.0.mlp.{name}.weight"), &large);
    }
    std::fs::write(path, bytes).unwrap();
    let opened = source(&folder.path().display().to_string());
    (folder, opened)
}

#[test]
fn a_request_that_overflows_fails_alone_and_ends_a_run() {
    let (_folder, source) = overflowing();
    let prompt = |id: usize| -> Vec<u32> {
        let calm = tokens(40, source.config.vocabulary, id as u64).into_iter().map(|token| token % 400 + 5);
        calm.chain((id == 1).then_some(500)).collect()
    };
    let requests: Vec<Request> = (0..3).map(|id| generate(id, prompt(id), greedy(6))).collect();
    for kind in kinds() {
        let mut engine = engine(&source, kind, Dtype::F16, 4);
        let full = engine.capacity();
        for request in &requests {
            engine.submit(request.clone()).unwrap();
        }
        let (mut ended, mut failed) = (Vec::new(), Vec::new());
        while !engine.capacity().is_idle() {
            for event in step(engine.as_mut(), 1) {
                match event {
                    Event::Completed(completion) => ended.push(completion.request),
                    Event::Failed { request, error } => failed.push((request, error.to_string())),
                    Event::Token(_) | Event::Note(_) | Event::Step { .. } => (),
                }
            }
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 2], "{kind:?}");
        assert_eq!(failed.len(), 1, "{kind:?}: {failed:?}");
        let (request, text) = &failed[0];
        assert!(*request == 1 && text.contains("after 41 tokens of request 1\nhint: "), "{kind:?}: {text}");
        assert_eq!(engine.capacity(), full, "{kind:?}");
        let error = engine.run(requests.clone(), &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("request 1"), "{kind:?}: {error}");
        assert_eq!(engine.capacity(), full, "{kind:?}");
    }
}

/// A run that is broken off leaves an engine that is as good as new.
#[test]
fn whoever_breaks_off_a_run_leaves_nothing_behind() {
    let source = source("bundled");
    let requests: Vec<Request> =
        (0..9).map(|id| generate(id, tokens(30, source.config.vocabulary, id as u64), greedy(20))).collect();
    for kind in kinds() {
        let mut engine = engine(&source, kind, Dtype::F32, 4);
        let full = engine.capacity();
        let expected = complete(engine.as_mut(), requests.clone());
        let mut steps = 0;
        let mut sink = |_: Event| {
            steps += 1;
            if steps == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        engine.run(requests.clone(), &mut sink).unwrap();
        assert_eq!(engine.capacity(), full, "{kind:?}");
        let again = complete(engine.as_mut(), requests.clone());
        assert_eq!(again.len(), 9);
        assert_same(&again, &expected, &format!("{kind:?}"));
        // A text read in between disturbs nobody.
        for request in &requests[..4] {
            engine.submit(request.clone()).unwrap();
        }
        let mut ended = completed(step(engine.as_mut(), 4));
        engine.predict(&requests[5].prompt.token_ids, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        ended.extend(drain(engine.as_mut()));
        assert_eq!(ended.len(), 4, "{kind:?}");
        assert_same(&ended, &expected, &format!("{kind:?}, with a text read in between"));
    }
}
