//! Several engines of one model with one queue: what one alone would say, whoever joins, leaves or fails.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use evalsuite::engine::model::ModelSource;
use evalsuite::engine::{
    Batching, Completion, Devices, Dtype, Engine, EngineError, EngineHandle, EngineKind, Event, GenerateOptions,
    HandleOptions, OpenOptions, Replica, Replicas, Request, Update, gpu_description, gpu_is_present, open,
};

use crate::cuda::{engine, generate, greedy, source, tokens};
use crate::double::{Double, Strings, until};
use crate::engine::{assert_same, completed, drain, each_alone, requests, step};
use crate::{complete, scripted};

fn replicas(engines: impl IntoIterator<Item = Box<dyn Engine>>) -> Replicas {
    let named =
        engines.into_iter().enumerate().map(|(number, engine)| Replica { name: format!("replica {number}"), engine });
    Replicas::new(named.collect(), "replicas".to_owned(), 0.5).unwrap()
}

fn on_cpu(source: &Arc<ModelSource>, dtype: Dtype, batch: usize, count: usize) -> Replicas {
    replicas((0..count).map(|_| engine(source, EngineKind::Cpu, dtype, batch)))
}

#[test]
fn replicas_say_what_one_engine_says() {
    let source = source("bundled");
    for (dtype, count, batch) in [(Dtype::F32, 2, 5), (Dtype::F16, 3, 2), (Dtype::F32, 1, 4)] {
        let requests = requests(source.config.vocabulary);
        let alone = each_alone(&source, EngineKind::Cpu, dtype, &requests);
        let mut all = on_cpu(&source, dtype, batch, count);
        assert_eq!(all.capacity().free_slots, batch * count);
        for round in ["miss", "hit"] {
            let together = complete(&mut all, requests.clone());
            assert_eq!(together.len(), requests.len());
            assert_same(&together, &alone, &format!("{count} replicas, together, {round}"));
            if round == "hit" {
                let hits = together.iter().filter(|completion| completion.cached_tokens >= 64).count();
                assert!(hits >= 8, "{count} replicas: {hits} hits");
            }
        }
        let mut staggered = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            all.submit(request.clone()).unwrap();
            staggered.extend(completed(step(&mut all, 1 + index % 4)));
        }
        staggered.extend(drain(&mut all));
        assert_eq!(staggered.len(), requests.len());
        assert_same(&staggered, &alone, &format!("{count} replicas, staggered"));
        let mut left = Vec::new();
        let mut gone = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            all.submit(request.clone()).unwrap();
            if index % 2 == 1 {
                left.extend(completed(step(&mut all, index % 5)));
                if all.cancel(index - 1) {
                    gone.push(index - 1);
                }
            }
        }
        left.extend(drain(&mut all));
        assert_eq!(left.len() + gone.len(), requests.len());
        assert!(left.iter().all(|completion| !gone.contains(&completion.request)));
        assert_same(&left, &alone, &format!("{count} replicas, beside cancelled ones"));
        until("all slots are free again", || all.capacity().free_slots == batch * count);
        assert_eq!((all.capacity().running, all.capacity().queued), (0, 0));
    }
}

#[test]
fn tokens_are_streamed_in_their_order_and_steps_add_up() {
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let mut all = on_cpu(&source, Dtype::F32, 3, 2);
    for id in 0..9 {
        let options = GenerateOptions { stream: id % 2 == 0, ..greedy(5 + id * 3) };
        all.submit(generate(100 + id, tokens(5 + 20 * (id % 3), vocabulary, id as u64), options)).unwrap();
    }
    let mut told: Vec<Vec<u32>> = vec![Vec::new(); 9];
    let (mut ended, mut generated, mut last_running) = (Vec::new(), 0, usize::MAX);
    while !all.capacity().is_idle() {
        let events = step(&mut all, 1);
        let steps = events.iter().filter(|event| matches!(event, Event::Step { .. })).count();
        assert!(steps <= 1 && (steps == 0 || matches!(events.last(), Some(Event::Step { .. }))));
        for event in events {
            match event {
                Event::Token(token) => {
                    let mine = &mut told[token.request - 100];
                    assert_eq!((token.index, token.request % 2), (mine.len(), 0), "only those that stream");
                    assert!(!ended.iter().any(|ended: &Completion| ended.request == token.request));
                    mine.push(token.token);
                }
                Event::Completed(completion) => ended.push(completion),
                Event::Step { running, new_tokens, cache_bytes } => {
                    assert!(running <= 6 && running <= 9 - ended.len(), "{running} run, {} ended", ended.len());
                    assert!(cache_bytes.is_some());
                    generated += new_tokens;
                    last_running = running;
                    if running == 0 {
                        assert_eq!(cache_bytes, Some(0));
                    }
                }
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Note(_) => (),
            }
        }
    }
    assert_eq!((ended.len(), last_running), (9, 0));
    assert_eq!(generated, ended.iter().map(|completion| completion.token_ids.len() as u64).sum::<u64>());
    for completion in &ended {
        let id = completion.request - 100;
        let streamed: &[u32] = if id % 2 == 0 { &completion.token_ids } else { &[] };
        assert_eq!(told[id], streamed, "request {id}");
    }
}

#[test]
fn what_cannot_be_worked_on_is_refused_at_once() {
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let mut all = on_cpu(&source, Dtype::F32, 2, 2);
    let context = all.info().context_tokens;
    let good = generate(0, tokens(5, vocabulary, 1), greedy(4));
    all.submit(good.clone()).unwrap();
    for (bad, part) in [
        (generate(1, Vec::new(), greedy(1)), "request 1 has an empty prompt"),
        (generate(1, vec![vocabulary as u32], greedy(1)), "but the vocabulary ends at"),
        (generate(1, tokens(context, vocabulary, 1), greedy(1)), "but the model's context holds"),
        (good.clone(), "request 0 is in the engine already"),
    ] {
        let text = all.submit(bad).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains("\nhint: "), "{text}");
    }
    assert_eq!((drain(&mut all).len(), all.cancel(0), all.cancel(1)), (1, false, false));
    assert!(step(&mut all, 3).is_empty(), "without requests nothing is done");
    all.submit(good).unwrap();
    assert_eq!(drain(&mut all).len(), 1, "its id is free again");
}

#[test]
fn distributions_are_those_of_one_engine_beside_running_requests() {
    let source = source("bundled");
    let fed = tokens(60, source.config.vocabulary, 3);
    let predicted = |engine: &mut dyn Engine| {
        let mut all = Vec::new();
        let mut sink = |rows: &[f32]| {
            all.extend(rows.iter().map(|logit| logit.to_bits()));
            ControlFlow::Continue(())
        };
        engine.predict(&fed, 7, &mut sink).unwrap();
        all
    };
    let one = predicted(engine(&source, EngineKind::Cpu, Dtype::F32, 2).as_mut());
    let mut all = on_cpu(&source, Dtype::F32, 2, 2);
    let request = |id: usize| generate(id, tokens(9, source.config.vocabulary, id as u64), greedy(40));
    assert!(predicted(&mut all) == one);
    for id in 0..6 {
        all.submit(request(id)).unwrap();
    }
    let mut ended = completed(step(&mut all, 3));
    assert!(predicted(&mut all) == one, "while both are at work");
    ended.extend(drain(&mut all));
    assert_eq!(ended.len(), 6);
    let text = all.predict(&[], 1, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(text.contains("\nhint: "), "{text}");
}

/// Two doubles that work on `slots` requests each at once.
fn pair(slots: usize) -> (Replicas, [Arc<Strings>; 2]) {
    let strings: [Arc<Strings>; 2] = std::array::from_fn(|_| Arc::default());
    (replicas(strings.each_ref().map(|strings| Double::boxed(slots, strings))), strings)
}

/// Holds every double up in its step, or lets it go on.
fn hold(doubles: &[Arc<Strings>; 2], hold: bool) {
    for strings in doubles {
        strings.waits.store(hold, Ordering::Relaxed);
    }
}

/// A request whose prompt begins with its id and one, which is no token 0.
fn request(id: usize, max_tokens: usize) -> Request {
    generate(id, vec![id as u32 + 1, 2], greedy(max_tokens))
}

#[test]
fn replicas_share_one_queue() {
    let (mut all, strings) = pair(2);
    let lengths = |id: usize| if id.is_multiple_of(10) { 60 } else { 3 };
    let ended = complete(&mut all, (0..80).map(|id| request(id, lengths(id))).collect());
    assert_eq!(ended.len(), 80);
    assert!(ended.iter().all(|completion| completion.token_ids.len() == lengths(completion.request)));
    let taken = strings.each_ref().map(|strings| strings.taken.lock().unwrap().clone());
    let all_taken: std::collections::BTreeSet<u32> = taken.iter().flatten().copied().collect();
    assert_eq!((all_taken.len(), taken[0].len() + taken[1].len()), (80, 80), "each once");
    assert!(taken.iter().all(|own| own.len() >= 20 && own.is_sorted()), "first come, first served: {taken:?}");
    // Steps of two slots each in which 696 tokens are made: none was without work while others waited.
    let steps = strings.each_ref().map(|strings| strings.steps.load(Ordering::Relaxed));
    assert!(steps.iter().all(|steps| *steps < 300), "{steps:?}");
}

/// One waits in a long step: the other goes on with all that comes.
#[test]
fn a_replica_that_is_held_up_holds_up_no_other() {
    let (mut all, strings) = pair(2);
    strings[0].waits.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for id in 0..20 {
        all.submit(request(id, 2)).unwrap();
    }
    until("all but what the first has", || {
        ended.extend(completed(step(&mut all, 1)));
        ended.len() == 18
    });
    assert_eq!(strings[0].taken.lock().unwrap().len(), 2);
    strings[0].waits.store(false, Ordering::Relaxed);
    ended.extend(drain(&mut all));
    assert_eq!(ended.len(), 20);
}

#[test]
fn a_step_waits_without_spinning() {
    let (mut all, strings) = pair(1);
    hold(&strings, true);
    all.submit(request(0, 1)).unwrap();
    // With room for another request, one that came would be looked after within a millisecond.
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_millis(100) {
        assert!(step(&mut all, 1).is_empty());
        calls += 1;
    }
    assert!(calls <= 110, "{calls} calls in 100 ms");
    // Without room it waits for as long as it takes.
    all.submit(request(1, 1)).unwrap();
    let opened = strings.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        hold(&opened, false);
    });
    let begun = Instant::now();
    let events = step(&mut all, 1);
    assert!(begun.elapsed() > Duration::from_millis(80) && !events.is_empty());
    opener.join().unwrap();
    drain(&mut all);
}

#[test]
fn a_cancelled_id_is_free_at_once_and_nothing_of_it_follows() {
    let (mut all, strings) = pair(1);
    all.submit(request(5, 1)).unwrap();
    hold(&strings, true);
    step(&mut all, 1);
    until("it is being worked on", || strings[0].steps.load(Ordering::Relaxed) == 1);
    assert!(all.cancel(5) && !all.cancel(5) && all.capacity().is_idle());
    // The step that works on it has not ended: another request of the same id.
    all.submit(generate(5, vec![9, 2], GenerateOptions { stream: true, ..greedy(3) })).unwrap();
    hold(&strings, false);
    let (mut told, mut ended, mut generated) = (0, Vec::new(), 0);
    while !all.capacity().is_idle() {
        for event in step(&mut all, 1) {
            match event {
                Event::Token(_) => told += 1,
                Event::Completed(completion) => ended.push(completion.token_ids.len()),
                Event::Step { new_tokens, .. } => generated += new_tokens,
                Event::Failed { .. } | Event::Note(_) => panic!("{event:?}"),
            }
        }
    }
    assert_eq!((told, ended, generated), (3, vec![3], 3), "nothing of the first, not even its tokens");
}

#[test]
fn whoever_breaks_off_leaves_nothing_behind() {
    let (mut all, _) = pair(2);
    for round in 0..20 {
        let mut steps = 0;
        let mut sink = |event| {
            steps += usize::from(matches!(event, Event::Step { .. }));
            if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        all.run((0..9).map(|id| request(id, 30)).collect(), &mut sink).unwrap();
        assert!(all.capacity().is_idle());
        let mut generated = 0;
        let mut ended = 0;
        let requests = (0..5).map(|id| request(id, 2 + id)).collect();
        let mut sink = |event| {
            match event {
                Event::Step { new_tokens, .. } => generated += new_tokens,
                Event::Completed(_) => ended += 1,
                _ => panic!("{event:?}"),
            }
            ControlFlow::Continue(())
        };
        all.run(requests, &mut sink).unwrap();
        assert_eq!((ended, generated), (5, 2 + 3 + 4 + 5 + 6), "round {round}");
    }
}

#[test]
fn a_replica_that_fails_drops_all_and_new_requests_are_taken() {
    let (mut all, strings) = pair(2);
    for round in 0..3 {
        for id in 0..9 {
            all.submit(request(id, 500)).unwrap();
        }
        step(&mut all, 2);
        strings[1].fails.store(true, Ordering::Relaxed);
        let mut events = Vec::new();
        let error = loop {
            if let Err(error) = all.step(&mut events) {
                break error;
            }
        };
        assert!(matches!(error, EngineError::Failed { .. }));
        assert_eq!(error.to_string(), "replica 1: the device fell over\nhint: pick it up", "round {round}");
        assert!(all.capacity().is_idle() && !all.cancel(3), "all are dropped");
        assert!(step(&mut all, 2).is_empty());
        // The same ids again, while the other replica is still at work on the old ones.
        let again = complete(&mut all, (0..9).map(|id| request(id, 4)).collect());
        assert_eq!(again.len(), 9);
        assert!(again.iter().all(|completion| completion.token_ids.len() == 4), "round {round}");
    }
}

#[test]
fn what_ended_before_a_failure_is_told() {
    let (mut all, strings) = pair(1);
    strings[1].waits.store(true, Ordering::Relaxed);
    strings[1].fails.store(true, Ordering::Relaxed);
    all.submit(request(0, 1)).unwrap();
    all.submit(request(1, 1)).unwrap();
    step(&mut all, 0);
    let mut events = Vec::new();
    all.step(&mut events).unwrap();
    // Both the completion and the failure are there before anybody asks again.
    until("the first has ended", || strings[0].steps.load(Ordering::Relaxed) >= 1);
    std::thread::sleep(Duration::from_millis(20));
    strings[1].waits.store(false, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    let error = loop {
        if let Err(error) = all.step(&mut events) {
            break error;
        }
    };
    assert!(error.to_string().starts_with("replica 1: "), "{error}");
    assert_eq!(completed(events).iter().map(|completion| completion.request).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_replica_that_loses_requests_is_found_out() {
    let (mut all, strings) = pair(2);
    strings[0].loses.store(true, Ordering::Relaxed);
    let requests = (0..4).map(|id| request(id, 5)).collect();
    let error = all.run(requests, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(
        error.starts_with("replica 0: the engine has nothing left to do, and requests without an end\nhint: "),
        "{error}"
    );
    assert_eq!(complete(&mut all, (0..4).map(|id| request(id, 5)).collect()).len(), 4);
}

#[test]
fn a_thread_that_panics_is_missed_by_nobody() {
    let (mut all, strings) = pair(1);
    strings[0].panics.store(true, Ordering::Relaxed);
    let run =
        |all: &mut Replicas| all.run((0..6).map(|id| request(id, 3)).collect(), &mut |_| ControlFlow::Continue(()));
    let error = run(&mut all).unwrap_err().to_string();
    assert!(error.starts_with("replica 0: the engine's thread has ended\nhint: "), "{error}");
    // The other is still there.
    assert_eq!(complete(&mut all, (0..6).map(|id| request(id, 3)).collect()).len(), 6);
    strings[1].panics.store(true, Ordering::Relaxed);
    assert!(run(&mut all).is_err());
    for _ in 0..2 {
        let error = run(&mut all).unwrap_err().to_string();
        assert!(error.starts_with("the threads of all devices have ended\nhint: "), "{error}");
    }
    let error = all.predict(&[1, 2], 1, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("thread has ended\nhint: "), "{error}");
    drop(all);
    assert!(strings.iter().all(|strings| strings.gone.load(Ordering::Relaxed)));
}

#[test]
fn waiting_counts_from_the_submission() {
    let (mut all, strings) = pair(1);
    hold(&strings, true);
    for id in 0..3 {
        all.submit(generate(id, vec![id as u32 + 1, 2], GenerateOptions { stream: true, ..greedy(1) })).unwrap();
    }
    step(&mut all, 0);
    let opened = strings.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(60));
        hold(&opened, false);
    });
    let (mut told, mut ended) = (Vec::new(), Vec::new());
    while !all.capacity().is_idle() {
        for event in step(&mut all, 1) {
            match event {
                Event::Token(token) => told.push((token.request, token.seconds)),
                Event::Completed(completion) => ended.push((completion.request, completion.timings.queued_seconds)),
                _ => (),
            }
        }
    }
    opener.join().unwrap();
    // The double says that it took no time. Two begin at once, the third when one of them has ended.
    let third = ended.iter().find(|(id, _)| *id == 2).unwrap().1;
    assert!((0.05..10.0).contains(&third), "{ended:?}");
    assert!(told.iter().find(|(id, _)| *id == 2).unwrap().1 == third, "{told:?} {ended:?}");
    assert!(ended.iter().filter(|(id, _)| *id < 2).all(|(_, queued)| *queued < third), "{ended:?}");
}

#[test]
fn many_callers_share_replicas_behind_a_handle() {
    let (all, strings) = pair(3);
    let handle = EngineHandle::spawn(Box::new(all), HandleOptions::default()).unwrap();
    assert_eq!(handle.info().batch, 6);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let handle = handle.clone();
            scope.spawn(move || {
                for number in 0..30 {
                    let length = 1 + (thread * 7 + number) % 9;
                    let streams = number % 2 == 0;
                    let options = GenerateOptions { stream: streams, ..greedy(length) };
                    let mut stream = handle.submit(generate(number, vec![3, 2], options)).unwrap();
                    if number % 5 == 4 {
                        drop(stream);
                        continue;
                    }
                    let mut told = 0;
                    let mut ended = None;
                    for update in stream.by_ref() {
                        match update {
                            Update::Token(_) => told += 1,
                            Update::Completed(completion) => ended = Some(completion),
                            Update::Failed(error) => panic!("{error}"),
                        }
                    }
                    let ended = ended.unwrap();
                    assert_eq!((ended.request, ended.token_ids.len()), (number, length));
                    assert_eq!(told, if streams { length } else { 0 });
                }
            });
        }
    });
    until("everything is free again", || handle.capacity().is_idle() && handle.capacity().free_slots == 6);
    assert!(strings.iter().all(|strings| strings.taken.lock().unwrap().len() > 20), "both work");
    drop(handle);
    until("the engines are gone", || strings.iter().all(|strings| strings.gone.load(Ordering::Relaxed)));
}

#[test]
fn replicas_say_what_they_are_together_and_must_be_of_one_kind() {
    let of = |version: &str, arithmetic: Option<&str>| scripted::engine_on(Dtype::F32, version, arithmetic);
    let named = |engines: Vec<Box<dyn Engine>>| -> Vec<Replica> {
        engines
            .into_iter()
            .enumerate()
            .map(|(number, engine)| Replica { name: format!("GPU {number}"), engine })
            .collect()
    };
    let all =
        Replicas::new(named(vec![of("1", Some("a card")), of("1", Some("a card"))]), "GPUs 0, 1: it".to_owned(), 0.75);
    let all = all.unwrap();
    let info = all.info();
    assert_eq!((info.batch, info.weight_bytes, info.device_bytes), (4, Some(2000), None));
    assert_eq!((info.device.as_str(), info.arithmetic.as_deref()), ("GPUs 0, 1: it", Some("a card")));
    let load = info.load;
    assert_eq!((load.total_seconds, load.read_seconds, load.prepare_seconds), (0.75, 0.25, 0.5), "as long as all took");
    for (other, part) in
        [(of("2", Some("a card")), "scripted 2"), (of("1", Some("another")), "another"), (of("1", None), "GPU 1")]
    {
        let error = Replicas::new(named(vec![of("1", Some("a card")), other]), String::new(), 0.0).err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("GPU 0 (") && text.contains("would not answer alike\nhint: ") && text.contains(part),
            "{text}"
        );
    }
    assert!(Replicas::new(Vec::new(), String::new(), 0.0).is_err());
}

/// GPUs that the driver sees.
fn gpus() -> usize {
    if !gpu_is_present() {
        return 0;
    }
    gpu_description().iter().filter(|(name, _)| *name == "device").count()
}

fn few_gpus() -> bool {
    let missing = gpus() < 2;
    if missing {
        crate::skip::skip("gpus", "fewer than two GPUs on this machine");
    }
    missing
}

/// The same bits on two GPUs as on either, and each works on some.
#[test]
fn two_gpus_say_what_one_says() {
    if few_gpus() {
        return;
    }
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let all: Vec<Request> = (0..400)
        .map(|id| {
            let options = GenerateOptions { details: id % 5 == 0, stream: id % 3 == 0, ..greedy(8 + id * 7 % 50) };
            generate(id, tokens(3 + id * 7 % 211, vocabulary, id as u64), options)
        })
        .chain(requests(vocabulary).into_iter().map(|request| Request { id: 400 + request.id, ..request }))
        .collect();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Int8] {
        let opened = |devices: Vec<usize>, batch: usize| {
            let devices = Devices::new(devices).unwrap();
            open(&source, &OpenOptions { devices, ..OpenOptions::new(EngineKind::Cuda, dtype, Some(batch)) }).unwrap()
        };
        let mut both = opened(vec![0, 1], 64);
        assert!(both.info().device.starts_with("GPUs 0, 1: "), "{}", both.info().device);
        assert_eq!(both.info().batch, 128);
        for device in [0, 1] {
            let one = complete(opened(vec![device], 64).as_mut(), all.clone());
            for round in 0..2 {
                let found = complete(both.as_mut(), all.clone());
                assert_eq!(found.len(), all.len());
                assert_same(&found, &one, &format!("{dtype}, GPU {device}, round {round}"));
            }
        }
        let memory = |engine: &dyn Engine| engine.info().weight_bytes.unwrap();
        assert_eq!(memory(both.as_ref()), 2 * memory(opened(vec![1], 64).as_ref()));
        let mut staggered = Vec::new();
        let mut gone = 0;
        for (index, request) in all.iter().enumerate() {
            both.submit(request.clone()).unwrap();
            staggered.extend(completed(step(both.as_mut(), index % 3)));
            if index % 11 == 10 {
                gone += usize::from(both.cancel(index - 5));
            }
        }
        staggered.extend(drain(both.as_mut()));
        assert_eq!(staggered.len() + gone, all.len());
        let one = complete(opened(vec![0], 64).as_mut(), all.clone());
        assert_same(&staggered, &one, &format!("{dtype}, staggered"));
    }
}

/// Both fast paths and captured steps beside one another; near-ties may fall otherwise, so only lengths are held.
#[test]
fn two_gpus_run_in_fast_batching() {
    if few_gpus() {
        return;
    }
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let devices = Devices::new(vec![1, 0]).unwrap();
    let fast =
        OpenOptions { devices, batching: Batching::Fast, ..OpenOptions::new(EngineKind::Cuda, Dtype::F16, None) };
    let mut both = open(&source, &fast).unwrap();
    for count in [1, 2, 7, 60, 900] {
        let requests: Vec<Request> = (0..count)
            .map(|id| generate(id, tokens(5 + id % 90, vocabulary, id as u64), greedy(1 + id % 40)))
            .collect();
        let ended = complete(both.as_mut(), requests);
        assert_eq!(ended.len(), count);
        assert!(ended.iter().all(|completion| completion.token_ids.len() == 1 + completion.request % 40));
    }
}
