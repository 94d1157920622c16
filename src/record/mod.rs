//! What a run leaves behind: its folder, its journals, its record.
//!
//! ```text
//! RUN/plan.json             what decides every answer; `--resume` compares it
//! RUN/lock                  held while a process works here
//! RUN/samples.jsonl         every question, answer and prompt, so that a report needs no dataset
//! RUN/<dtype>/journal.jsonl one line a completion, as they end, synced
//! RUN/<dtype>/sessions.json one entry each time an engine was opened
//! RUN/answers.jsonl         every answer and score, sorted, without timings
//! RUN/record.json           the results with their provenance
//! ```

mod answers;
mod bench;
mod clock;
mod error;
mod folder;
mod journal;
mod machine;
mod perplexity;
mod plan;
mod quality;
mod quality_summary;
mod result;
mod session;
mod stored;
mod summary;

pub use answers::answers;
pub use bench::{
    BENCH_FORMAT, BenchPart, BenchPlan, BenchRecord, BenchRow, DtypeBench, Lengths, LoadRun, ManyRun, Peers, Range,
    ReadThrough, SingleRun, WorkloadPlan,
};
pub use clock::{utc_now, utc_stamp};
pub use error::RecordError;
pub use folder::RunFolder;
pub use journal::{Journal, Outcome, StoredCompletion, read_journal};
pub use machine::{Machine, MemoryScope, PeakMemory, peak_memory, reset_peak_memory};
pub use perplexity::{
    Divergence, DtypePerplexity, Opinion, PERPLEXITY_FORMAT, PerplexityRecord, Reading, Spread, TextPlan, WindowPlan,
    WorstToken,
};
pub use plan::{AwqPlan, DatasetPlan, Difference, GenerationPlan, ModelPlan, Plan, ProtocolPlan, RunPlan};
pub use quality::{
    Answer, AnswerCloseness, Closeness, ColumnQuality, FirstDivergence, ImportPlan, KindQuality, ModelQuality, Origin,
    PromptQuality, PromptSetPlan, QUALITY_FORMAT, QualityPlan, QualityRecord, ShownToken,
};
pub use quality_summary::{Asked, compare};
pub use result::{DtypeRecord, FORMAT, Record, RuleRecord};
pub use session::Session;
pub use stored::{StoredRun, StoredSample};
pub use summary::{Measured, summarise};
