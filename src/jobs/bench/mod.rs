//! Speed: how fast each variant of a model loads and generates, beside what others measured.
//! `pipeline.rs` is the file that knows every stage.

mod figures;
mod inputs;
mod job;
mod lengths;
mod measure;
mod page_cache;
mod part;
mod parts;
mod peers;
mod pipeline;
mod ran;
mod record;
mod render;
mod servers;
mod sweep;
mod sweep_view;
mod view;
mod workload;

pub use figures::figures as bench_figures;
pub use inputs::BenchInputs;
pub use job::BenchJob;
pub use lengths::Lengths;
pub use part::{Opened, Part, PartEnd, Runner};
pub use parts::PARTS;
pub use pipeline::{BenchFinished, evaluate, execute};
pub use record::{
    BENCH_FORMAT, BenchPlan, BenchRecord, BenchRow, ColdLoad, DtypeBench, Figure, LoadRun, ManyRun, Peers, Range,
    ReadThrough, SingleRun, WorkloadPlan,
};
pub use render::render_bench;
pub use servers::Servers;
pub use sweep::{LeftOut, PlannedPoint, SweepPlan, SweepPoint, SweepRun};
pub use sweep_view::{StartupRow, SweepRow, SweepTable};
pub use view::{BenchView, FigureRow, Row};
pub use workload::{RequestLengths, Workload};
