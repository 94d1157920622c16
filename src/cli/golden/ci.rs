//! Unattended builds: nothing is written there, and nothing is asked.

use crate::jobs::JobError;

/// Whether this is an unattended build, as every such service says it.
pub(super) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Refuses an action that writes, where nobody looks at what it takes.
pub(super) fn refuse_in_ci(action: &str) -> Result<(), JobError> {
    if is_ci() {
        let hint = "run it where someone looks at what is accepted; `env -u CI` in front of the command overrides this";
        return Err(JobError::invalid(format!("golden {action} writes, and the environment variable CI is set"), hint));
    }
    Ok(())
}
