//! What a run leaves behind, whatever its job: its folder, its plan, its journals, its sessions.
//!
//! ```text
//! RUN/plan.json             what decides every answer; `--resume` compares it
//! RUN/lock                  held while a process works here
//! RUN/samples.jsonl         every question, answer and prompt, so that a report needs no dataset
//! RUN/<variant>/journal.jsonl one line a completion, as they end, synced
//! RUN/<variant>/sessions.json one entry each time an engine was opened
//! RUN/answers.jsonl         every answer and score, sorted, without timings
//! RUN/record.json           the results with their provenance
//! ```
//!
//! Whatever decides a number proves itself: every line of a journal and of `samples.jsonl`, and every JSON file, has a checksum
//! (`checksum.rs`); a finished run's files are held against one another when they are read (`stored.rs`).

mod answers;
mod checksum;
mod clock;
mod elsewhere;
mod error;
mod folder;
mod glance;
mod journal;
mod json;
mod lines;
mod load_point;
mod machine;
mod paired;
mod plan;
mod samples;
mod session;
mod stored;
mod sweep;
mod variant;

pub use answers::answers;
pub use clock::{utc_now, utc_stamp};
pub use elsewhere::{Elsewhere, ElsewhereRow, UNKNOWN as UNKNOWN_PRECISION};
pub use error::RecordError;
pub use folder::RunFolder;
pub use glance::{Glance, RunStatus};
pub use journal::{Journal, StoredCompletion, StoredThought, read_journal};
pub(crate) use json::{REMAKE, Versions, read_checked, read_json, write_json};
pub use lines::Lines;
pub use load_point::LoadPoint;
pub use machine::{DeviceMemory, Machine, MemoryScope, PeakMemory, peak_memory, reset_peak_memory};
pub(crate) use paired::{in_both, merged};
pub use plan::{
    AwqPlan, Difference, EndpointPlan, GenerationPlan, Invocation, ModelPlan, RunPlan, StoredWeights, TargetPlan,
    VariantPlan,
};
pub use samples::StoredSample;
pub(crate) use samples::{SampleFiles, read_samples};
pub use session::{FailedRequest, Session, engines_of, several_engines};
pub(crate) use stored::{Recorded, StoredJournals};
pub use sweep::{SweepAxis, SweepFigures};
pub use variant::VariantName;
