//! Evaluation: a task's problems in every precision, scored by a protocol's rules. `pipeline.rs` is the file that knows every stage.

mod endings;
mod finding;
mod findings;
mod inputs;
mod job;
mod pipeline;
mod plan;
mod prompts;
mod reading;
mod reading_view;
mod record;
mod rescore;
mod rows;
mod stored;
mod summary;
mod verdict;
mod view;

pub use endings::{Endings, Reader, endings};
pub(crate) use finding::sentences;
pub use finding::{Finding, FindingKind};
pub use findings::{Answers, findings};
pub use inputs::EvalInputs;
pub use job::{EvalJob, SamplingOptions};
pub use pipeline::{evaluate, execute};
pub use plan::{DatasetPlan, EvalPlan, ProtocolPlan, TaskPlan};
pub use prompts::{ShownPrompt, show_prompt};
pub use reading::{ReadAnswer, ReadSample, Reading, ReadingChoice, Taken, read_answers};
pub use reading_view::{ReadingView, render_reading};
pub use record::{DtypeRecord, EVAL_FORMAT, EvalRecord, Lengths, RuleRecord};
pub use rescore::{Rescored, rescore};
pub use stored::StoredRun;
pub use summary::{Measured, summarise};
pub use verdict::{DEFAULT_MARGIN_POINTS, Judged, unreadable, verdict};
pub use view::{EvalView, render};
pub(crate) use view::{dataset, protocol};
