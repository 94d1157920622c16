//! evalsuite: does a language model still think straight in FP16 and in AWQ-int4, and what does that buy?
//!
//! `src/ARCHITECTURE.md` is the map. The engine, and what both need, is the crate `evalsuite-engine` in `src/engine/`. Data flows one way, and a module imports only from layers below its own:
//! `cli → {compare, golden, interchange, serve} → jobs → report → {record, quantize, synth, openai} → {task, engine} → score → {bundled, checkpoint, fault, files, hub, random, sandbox, shown, system, text}`.

pub mod bundled;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod golden;
pub mod interchange;
pub mod jobs;
pub mod openai;
pub mod quantize;
pub mod random;
pub mod record;
pub mod report;
pub mod score;
pub mod serve;
pub mod synth;
pub mod task;

pub use evalsuite_engine as engine;
pub use evalsuite_engine::{fault, files, hub, sandbox, shown, system, text};

#[cfg(test)]
#[path = "../tests/it/skip.rs"]
mod skip;
