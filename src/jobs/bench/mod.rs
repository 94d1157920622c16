//! Speed: how fast each precision of a model loads and generates, beside what others measured.
//! `pipeline.rs` is the file that knows every stage.

mod event;
mod inputs;
mod job;
mod load;
mod many;
mod measure;
mod peers;
mod pipeline;
mod prompts;
mod record;
mod single;
mod view;
mod workload;

pub use event::{BenchEvent, BenchProgress};
pub use inputs::BenchInputs;
pub use job::BenchJob;
pub use pipeline::{BenchContext, BenchFinished, evaluate, execute};
pub use record::{
    BENCH_FORMAT, BenchPart, BenchPlan, BenchRecord, BenchRow, DtypeBench, Lengths, LoadRun, ManyRun, Peers, Range,
    ReadThrough, SingleRun, WorkloadPlan,
};
pub use view::{BenchView, render_bench};
pub use workload::{RequestLengths, Workload};
