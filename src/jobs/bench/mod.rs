//! Speed: how fast each variant of a model loads and generates, beside what others measured.
//! `pipeline.rs` is the file that knows every stage.

mod inputs;
mod job;
mod measure;
mod part;
mod parts;
mod peers;
mod pipeline;
mod prompts;
mod record;
mod view;
mod workload;

pub use inputs::BenchInputs;
pub use job::BenchJob;
pub use part::{Part, PartEnd, Runner};
pub use parts::PARTS;
pub use pipeline::{BenchFinished, evaluate, execute};
pub(in crate::jobs) use prompts::{Prompts as RandomPrompts, Purpose as PromptPurpose};
pub use record::{
    BENCH_FORMAT, BenchPlan, BenchRecord, BenchRow, DtypeBench, Figure, Lengths, LoadRun, ManyRun, Peers, Range,
    ReadThrough, SingleRun, WorkloadPlan,
};
pub use view::{BenchView, render_bench};
pub use workload::{RequestLengths, Workload};
