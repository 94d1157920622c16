//! An engine on a thread of its own, shared by many.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use evalsuite::engine::{
    Dtype, EngineError, EngineHandle, GenerateOptions, HandleOptions, Request, Shutdown, Token, Update, Work,
};

use crate::complete;
use crate::cuda::{engine, generate, greedy, source, tokens};
use crate::double::{Double, LONG, Strings, until};
use crate::engine::kinds;

/// A double that works on two requests at once, behind a handle.
fn double(options: HandleOptions) -> (EngineHandle, Arc<Strings>) {
    let strings = Arc::default();
    (EngineHandle::spawn(Double::boxed(2, &strings), options).unwrap(), strings)
}

fn request(id: usize, max_tokens: usize) -> Request {
    generate(id, vec![1, 2], GenerateOptions { stream: true, ..greedy(max_tokens) })
}

/// Threads submit, read, cancel and drop as they like; every answer is the request's own.
#[test]
fn many_callers_share_an_engine() {
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let prompt = |id: usize| [tokens(40, vocabulary, 1), tokens(1 + id % 7, vocabulary, id as u64)].concat();
    for kind in kinds() {
        let all: Vec<Request> = (0..48).map(|id| generate(id, prompt(id), greedy(6 + id % 9))).collect();
        let expected = complete(engine(&source, kind, Dtype::F32, 8).as_mut(), all.clone());
        let handle = EngineHandle::spawn(engine(&source, kind, Dtype::F32, 8), HandleOptions::default()).unwrap();
        let full = handle.capacity();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (handle, all, expected) = (handle.clone(), &all, &expected);
                scope.spawn(move || {
                    for (number, request) in all.iter().enumerate().filter(|(number, _)| number % 8 == thread) {
                        let mut request = request.clone();
                        // Ids are the callers' own: all threads take the same.
                        request.id = number / 8;
                        let streams = number % 3 == 0;
                        if let Work::Generate(options) = &mut request.work {
                            options.stream = streams;
                        }
                        let mut stream = handle.submit(request).unwrap();
                        match number % 5 {
                            3 => drop(stream),
                            4 => {
                                let _ = stream.poll_update(Duration::from_millis(2));
                                stream.cancel();
                                assert!(stream.next_update().is_none());
                            }
                            _ => {
                                let mut told = Vec::new();
                                let mut completion = None;
                                for update in stream.by_ref() {
                                    match update {
                                        Update::Token(token) => told.push(token.token),
                                        Update::Completed(done) => completion = Some(done),
                                        Update::Failed(error) => panic!("{error}"),
                                    }
                                }
                                let completion = completion.unwrap();
                                assert_eq!(completion.request, number / 8);
                                assert_eq!(
                                    completion.token_ids, expected[number].token_ids,
                                    "{kind:?}, request {number}"
                                );
                                assert_eq!(told, if streams { completion.token_ids } else { Vec::new() });
                            }
                        }
                    }
                });
            }
        });
        until("everything is free again", || handle.capacity() == full);
        handle.shutdown(Shutdown::Drain).unwrap();
    }
}

#[test]
fn a_dropped_stream_is_a_cancelled_request() {
    let (handle, _) = double(HandleOptions::default());
    let mut kept = handle.submit(request(5, usize::MAX)).unwrap();
    let dropped = handle.submit(request(6, usize::MAX)).unwrap();
    assert!(matches!(kept.next_update(), Some(Update::Token(Token { request: 5, .. }))));
    drop(dropped);
    until("one is left", || handle.capacity().running == 1);
    kept.cancel();
    assert!(kept.next_update().is_none());
    until("none is left", || handle.capacity().is_idle());
    assert!(kept.wait().unwrap_err().to_string().contains("cancelled\nhint: "));
}

#[test]
fn a_full_queue_refuses_at_once() {
    let (handle, strings) = double(HandleOptions { max_queued: Some(1) });
    strings.waits.store(true, Ordering::Relaxed);
    // Two to work on and one to wait.
    let mut open: Vec<_> = (0..3).map(|id| handle.submit(request(id, 3)).unwrap()).collect();
    let error = handle.submit(request(3, 3)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EngineError::Busy { .. }), "{text}");
    assert!(text.contains("3 requests are open, 3 at most\nhint: "), "{text}");
    // The engine is still in its step: what leaves makes room only after it.
    drop(open.pop());
    strings.waits.store(false, Ordering::Relaxed);
    until("there is room again", || handle.submit(request(4, 1)).is_ok());
    for stream in open {
        assert_eq!(stream.wait().unwrap().token_ids, [7, 7, 7]);
    }
}

#[test]
fn bad_requests_are_refused_without_asking_the_engine() {
    let (handle, strings) = double(HandleOptions::default());
    strings.waits.store(true, Ordering::Relaxed);
    let _busy = handle.submit(request(0, 3)).unwrap();
    let empty = generate(1, Vec::new(), GenerateOptions::default());
    let text = handle.submit(empty).unwrap_err().to_string();
    assert!(text.starts_with("request 1 has an empty prompt\nhint: "), "{text}");
    strings.waits.store(false, Ordering::Relaxed);
}

#[test]
fn the_engines_failure_reaches_everyone_who_waits() {
    let (handle, strings) = double(HandleOptions::default());
    let waiting: Vec<_> = (0..4).map(|id| handle.submit(request(id, usize::MAX)).unwrap()).collect();
    let threads: Vec<_> = waiting.into_iter().map(|stream| std::thread::spawn(|| stream.wait())).collect();
    // What is still on its way to the engine when it fails would go on for ever.
    until("all are taken", || strings.taken.lock().unwrap().len() == 4);
    strings.fails.store(true, Ordering::Relaxed);
    for thread in threads {
        let error = thread.join().unwrap().unwrap_err();
        assert!(matches!(error, EngineError::Failed { .. }));
        assert_eq!(error.to_string(), "the device fell over\nhint: pick it up");
    }
    // It has dropped everything and goes on.
    assert_eq!(handle.submit(request(9, 2)).unwrap().wait().unwrap().request, 9);
}

#[test]
fn nobody_waits_for_a_thread_that_is_no_more() {
    let (handle, strings) = double(HandleOptions::default());
    let stream = handle.submit(request(0, usize::MAX)).unwrap();
    strings.panics.store(true, Ordering::Relaxed);
    let text = stream.wait().unwrap_err().to_string();
    assert!(text.contains("the engine's thread has ended\nhint: "), "{text}");
    until("it is gone", || strings.gone.load(Ordering::Relaxed));
    assert!(handle.submit(request(1, 1)).and_then(evalsuite::engine::RequestStream::wait).is_err());
    assert!(handle.shutdown(Shutdown::Drain).is_err());
}

#[test]
fn a_shutdown_drains_or_ends_and_nothing_comes_after_it() {
    let (handle, strings) = double(HandleOptions::default());
    let drained: Vec<_> = (0..3).map(|id| handle.submit(request(id, 400)).unwrap()).collect();
    handle.shutdown(Shutdown::Drain).unwrap();
    assert!(strings.gone.load(Ordering::Relaxed));
    for stream in drained {
        assert_eq!(stream.wait().unwrap().token_ids.len(), 400);
    }
    let text = handle.submit(request(3, 1)).unwrap_err().to_string();
    assert!(text.starts_with("request 3: the engine has been shut down\nhint: "), "{text}");
    handle.shutdown(Shutdown::Now).unwrap();

    let (handle, strings) = double(HandleOptions::default());
    let waiting: Vec<_> = (0..3).map(|id| handle.submit(request(id, usize::MAX)).unwrap()).collect();
    handle.shutdown(Shutdown::Now).unwrap();
    assert!(strings.gone.load(Ordering::Relaxed));
    for (id, stream) in waiting.into_iter().enumerate() {
        let text = stream.wait().unwrap_err().to_string();
        assert!(text.starts_with(&format!("request {id}: the engine has been shut down\nhint: ")), "{text}");
    }
}

#[test]
fn the_thread_ends_with_the_last_handle_and_stream() {
    let (handle, strings) = double(HandleOptions::default());
    let other = handle.clone();
    let mut stream = other.submit(request(0, usize::MAX)).unwrap();
    drop((handle, other));
    assert!(matches!(stream.poll_update(LONG), Poll::Ready(Some(Update::Token(_)))));
    assert!(!strings.gone.load(Ordering::Relaxed), "somebody still waits");
    drop(stream);
    until("it is gone", || strings.gone.load(Ordering::Relaxed));
}
