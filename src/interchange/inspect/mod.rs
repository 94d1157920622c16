//! Inspect AI: a JSON log a model and task.

mod read;
mod write;

pub(super) use read::{is_log, read};
pub(super) use write::files;

/// The version of its logs.
const LOG_VERSION: u32 = 2;
