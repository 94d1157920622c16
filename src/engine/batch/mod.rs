//! Continuous batching, the same for every engine that computes many requests together: who waits, who holds which slot and
//! which blocks of the KV cache, and which tokens the next step computes. Pure bookkeeping on the host.
//!
//! `queue.rs` requests that wait, `blocks.rs` the blocks of the KV cache and the prefix cache in them, `sequence.rs` one
//! admitted request, `plan.rs` what one step computes, `scheduler.rs` all of it together.

mod blocks;
mod plan;
mod queue;
mod scheduler;
#[cfg(test)]
mod scheduler_tests;
mod sequence;

pub(crate) use blocks::BlockPool;
pub(crate) use plan::{Segment, StepPlan};
pub(crate) use queue::{Queue, Queued, duplicate};
pub(crate) use scheduler::{Scheduler, SchedulerOptions};
