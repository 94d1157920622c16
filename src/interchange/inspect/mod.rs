//! Inspect AI: a JSON log a model and task.

mod write;

pub(super) use write::files;

/// The version of its logs.
const LOG_VERSION: u32 = 2;
