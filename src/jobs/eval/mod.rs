//! Evaluation: a task's problems in every precision, scored by a protocol's rules. `pipeline.rs` is the file that knows every stage.

mod endings;
mod inputs;
mod job;
mod pipeline;
mod plan;
mod prompts;
mod record;
mod rescore;
mod stored;
mod summary;
mod view;

pub use endings::{Endings, Reader, endings};
pub use inputs::EvalInputs;
pub use job::{EvalJob, SamplingOptions};
pub use pipeline::{evaluate, execute};
pub use plan::{DatasetPlan, EvalPlan, ProtocolPlan, TaskPlan};
pub use prompts::{ShownPrompt, show_prompt};
pub use record::{DtypeRecord, EVAL_FORMAT, EvalRecord, RuleRecord};
pub use rescore::{Rescored, rescore};
pub use stored::StoredRun;
pub use summary::{Measured, summarise};
pub use view::{EvalView, render};
pub(crate) use view::{dataset, protocol};
