//! Values that flags of several commands take.

use crate::fault::Fault;
use crate::jobs::{JobError, OnGpuFailure};
use crate::task::ChatUse;

/// When prompts go through the model's chat template.
pub(super) fn chat(name: &str) -> Result<ChatUse, JobError> {
    match name {
        "auto" => Ok(ChatUse::Auto),
        "never" => Ok(ChatUse::Never),
        "required" => Ok(ChatUse::Required),
        other => Err(Fault::unknown("use of the chat template", other, &["auto", "never", "required"]).into()),
    }
}

/// What becomes of a run whose GPU fails.
pub(super) fn on_gpu_failure(name: &str) -> Result<OnGpuFailure, JobError> {
    let found = OnGpuFailure::ALL.into_iter().find(|action| action.name() == name);
    found.ok_or_else(|| Fault::unknown("action", name, &OnGpuFailure::ALL.map(OnGpuFailure::name)).into())
}

/// On or off.
pub(super) fn switch(word: &str) -> Result<bool, JobError> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Fault::unknown("switch", other, &["on", "off"]).into()),
    }
}

/// Refuses 0 as the value of a flag that counts something.
pub(super) fn at_least_one(flags: &[(&str, Option<usize>)]) -> Result<(), JobError> {
    match flags.iter().find(|(_, value)| *value == Some(0)) {
        Some((flag, _)) => {
            Err(JobError::invalid(format!("{flag} 0 asks for nothing"), format!("give {flag} 1 or more")))
        }
        None => Ok(()),
    }
}
