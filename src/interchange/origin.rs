//! What an export tells of the run that it was: an import of it is then held to be of the same questions, asked and scored the same.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jobs::eval::{StoredRun, TaskPlan};

/// The key that it stands under in other tools' metadata.
pub(super) const KEY: &str = "evalsuite";

/// Of one of our runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) version: String,
    pub(super) task: Option<TaskPlan>,
    pub(super) protocol: String,
    pub(super) protocol_version: u32,
    pub(super) protocol_sha256: String,
    pub(super) dataset: String,
    pub(super) dataset_sha256: String,
    pub(super) headline: String,
}

impl Origin {
    pub(super) fn of(run: &StoredRun) -> Self {
        let plan = &run.record.plan;
        Self {
            version: plan.invocation.evalsuite.clone(),
            task: plan.task.clone(),
            protocol: plan.protocol.name.clone(),
            protocol_version: plan.protocol.version,
            protocol_sha256: plan.protocol.sha256.clone(),
            dataset: plan.dataset.name.clone(),
            dataset_sha256: plan.dataset.sha256.clone(),
            headline: run.record.headline().to_owned(),
        }
    }

    /// Out of a tool's metadata, if it has one.
    pub(super) fn find(metadata: &Value) -> Option<Self> {
        Self::deserialize(metadata.get(KEY)?).ok()
    }
}
