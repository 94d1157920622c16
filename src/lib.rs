//! evalsuite: does a language model still think straight in FP16 and in AWQ-int4, and what does that buy?
//!
//! `src/ARCHITECTURE.md` is the map. Data flows one way, and a module imports only from layers below its own:
//! `cli → {compare, golden} → jobs → report → {record, quantize, synth} → {task, engine} → score → {bundled, checkpoint, fault, files, hub, random, system, text}`.

pub mod bundled;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod engine;
pub mod fault;
pub mod files;
pub mod golden;
pub mod hub;
pub mod jobs;
pub mod quantize;
pub mod random;
pub mod record;
pub mod report;
pub mod score;
pub mod synth;
pub mod system;
pub mod task;
pub mod text;
