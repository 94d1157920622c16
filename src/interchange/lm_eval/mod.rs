//! lm-evaluation-harness: a folder a model with `results_TIME.json` and, a task, `samples_TASK_TIME.jsonl`.

mod read;
mod write;

pub(super) use read::{find, is_results, with_results};
pub(super) use write::files;

/// What its filters say where they find nothing.
const INVALID: &str = "[invalid]";
