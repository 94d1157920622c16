//! One opening of an engine: what a journal cannot say.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::read_checked;
use super::{DeviceMemory, PeakMemory, RecordError, StoredCompletion};
use crate::engine::EngineInfo;

/// One engine's working time within a run; a resumed run has several a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When the engine was ready, UTC.
    pub started: String,
    /// What it is, and how long it took to load.
    pub engine: EngineInfo,
    /// Threads of the pool that it computes on.
    pub threads: usize,
    /// Wall time from the first request until the engine had emitted the last answer, which may not yet be in the
    /// journal then; `None` after a kill (the journal knows until when).
    pub generate_seconds: Option<f64>,
    /// Wall time from the first request until the last answer was on the disk; `None` after a kill, and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_seconds: Option<f64>,
    /// Share of the machine's processors that other programs used while the engine loaded and generated, of 1; `None` after a kill, and
    /// where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_busy: Option<f64>,
    /// `None` after a kill, and where the system does not say.
    pub peak_memory: Option<PeakMemory>,
    /// On a GPU; `None` elsewhere, after a kill, and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<DeviceMemory>,
    /// Joules that the devices used while it generated, by the driver's counter; `None` where nothing measures it, after a kill, and in
    /// records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Requests that failed, each for itself: they are no answers, and are asked for again when the run is resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRequest>,
}

/// A request that an endpoint did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRequest {
    /// Row of the dataset.
    pub sample: usize,
    /// 0 for the first completion of the sample.
    pub repeat: usize,
    /// What the server or the network said.
    pub why: String,
}

/// The engines that these answers are of, each with how many, in the order in which they took part: more than one where the CPU went on for a
/// GPU that failed.
pub fn engines_of<'a>(sessions: &'a [Session], completions: &[StoredCompletion]) -> Vec<(&'a EngineInfo, usize)> {
    let mut found: Vec<(&Session, usize)> = Vec::new();
    for (index, session) in sessions.iter().enumerate() {
        let answers = completions.iter().filter(|one| one.session == index).count();
        match found.iter_mut().find(|(own, _)| own.engine.computes_like(&session.engine)) {
            Some((_, all)) => *all += answers,
            None => found.push((session, answers)),
        }
    }
    found.into_iter().filter(|(_, answers)| *answers > 0).map(|(session, answers)| (&session.engine, answers)).collect()
}

/// `40 answers are of cuda 0.2.0, 60 of cpu 0.2.0`, where they are of several engines.
pub fn several_engines(sessions: &[Session], completions: &[StoredCompletion]) -> Option<String> {
    let engines = engines_of(sessions, completions);
    let each = engines.iter().enumerate().map(|(at, (engine, answers))| {
        let verb = if at == 0 { " answers are" } else { "" };
        format!("{answers}{verb} of {} {}", engine.name, engine.version)
    });
    (engines.len() > 1).then(|| each.collect::<Vec<_>>().join(", "))
}

/// The sessions written so far; none if the file does not exist.
pub(super) fn read(path: &Path) -> Result<Vec<Session>, RecordError> {
    const HINT: &str =
        "the file was changed, or its disk is at fault: its times cannot be measured again; start a new run folder";
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&read_checked(path, HINT)?)
        .map_err(|error| RecordError::invalid(format!("{}: not a list of sessions: {error}", path.display()), HINT))
}
