//! One model on several devices, with one queue: an engine of engines, each of which holds the whole model and runs on a thread of its own.
//!
//! A request goes to one of them as soon as one has room, and stays there. As a completion depends on its request alone, it does not
//! matter which. What a step costs the host (sampling, text, finished requests) is paid on the replica's own thread; only what ended, and
//! tokens that are streamed, pass through the thread that calls [`crate::Engine::step`].
//!
//! `dispatch.rs` who waits and which replica gets what, on plain values; `prefixes.rs` which beginnings of prompts a replica has seen;
//! `shared.rs` what the threads share; `worker.rs` a replica's thread; `engine.rs` all of it as one engine.

mod dispatch;
#[cfg(test)]
mod dispatch_tests;
mod engine;
mod prefixes;
mod shared;
mod worker;

pub(crate) use engine::check_alike;
pub use engine::{Replica, Replicas};
