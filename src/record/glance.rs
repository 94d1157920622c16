//! Summary of a run folder of any kind: for lists, and for resuming.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::folder::{is_in_use, read_plan};
use super::json::{REMAKE, read_checked};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// The run is complete.
    Complete,
    /// It ended before all of its questions, for `--until` was shown.
    Decided,
    /// It ended, and something failed.
    Incomplete,
    /// It did not end.
    Interrupted,
    /// A process works on it.
    Running,
}

impl RunStatus {
    /// The name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Decided => "decided",
            Self::Incomplete => "incomplete",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
        }
    }
}

/// Summary of a run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The folder.
    pub path: PathBuf,
    /// The command that started it, as words.
    pub command: Vec<String>,
    /// Where that was given; older runs do not say.
    pub working_directory: Option<PathBuf>,
    /// When it began, UTC.
    pub started: String,
    /// The model's name.
    pub model: String,
    /// What was asked: the task where it is another than gsm8k, else the problems, or the prompt set.
    pub task: Option<String>,
    /// The protocol's name, where the run has one.
    pub protocol: Option<String>,
    /// Of answers that were scored anew: the protocol that they were generated under.
    pub generated_under: Option<String>,
    /// The completions were made elsewhere, and only scored here.
    pub is_made_elsewhere: bool,
    /// The columns of its table.
    pub variants: Vec<String>,
    /// Progress so far.
    pub status: RunStatus,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The fields of any run's `plan.json` that are read here.
#[derive(Deserialize)]
struct AnyPlan {
    command: Vec<String>,
    working_directory: Option<PathBuf>,
    started: String,
    model: Named,
    task: Option<Named>,
    dataset: Option<Named>,
    prompts: Option<Named>,
    protocol: Option<Named>,
    generated_under: Option<String>,
    completions: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    dtypes: Vec<String>,
}

/// The fields of any run's `record.json` that are read here.
#[derive(Deserialize)]
struct AnyRecord {
    complete: bool,
    until: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    dtypes: Vec<AnyVariant>,
}

#[derive(Deserialize)]
struct AnyVariant {
    failure: Option<serde::de::IgnoredAny>,
}

impl Glance {
    /// Reads a run folder. One without a plan is no run.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let plan: AnyPlan = read_plan(path)?;
        let record = path.join("record.json");
        let record = record.exists().then(|| read_checked(&record, REMAKE)).transpose()?;
        let record = record.and_then(|bytes| serde_json::from_slice::<AnyRecord>(&bytes).ok());
        let status = match record {
            _ if is_in_use(path) => RunStatus::Running,
            Some(AnyRecord { complete: true, .. }) => RunStatus::Complete,
            Some(AnyRecord { until: Some(_), dtypes, .. }) if dtypes.iter().all(|one| one.failure.is_none()) => {
                RunStatus::Decided
            }
            Some(AnyRecord { complete: false, .. }) => RunStatus::Incomplete,
            None => RunStatus::Interrupted,
        };
        Ok(Self {
            path: path.to_path_buf(),
            command: plan.command,
            working_directory: plan.working_directory,
            started: plan.started,
            model: plan.model.name,
            task: plan.task.or(plan.dataset).or(plan.prompts).map(|named| named.name),
            protocol: plan.protocol.map(|named| named.name),
            generated_under: plan.generated_under,
            is_made_elsewhere: plan.completions.is_some(),
            variants: plan.dtypes,
            status,
        })
    }

    /// The run folders in a folder, the newest first, and what cannot be read as one though it has a plan; none where there is no
    /// such folder.
    pub fn all_in(folder: &Path) -> Result<(Vec<Self>, Vec<RecordError>), RecordError> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            entries => entries.map_err(RecordError::io("read", folder))?,
        };
        let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("plan.json").is_file());
        let (mut runs, mut unread) = (Vec::new(), Vec::new());
        for path in paths {
            match Self::read(&path) {
                Ok(run) => runs.push(run),
                Err(error) => unread.push(error),
            }
        }
        runs.sort_by(|one, other| (&other.started, &other.path).cmp(&(&one.started, &one.path)));
        Ok((runs, unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, name: &str, started: &str, rest: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir(&path).unwrap();
        let plan =
            format!(r#"{{"command": ["evalsuite", "gsm8k"], "started": "{started}", "model": {{"name": "m"}}{rest}}}"#);
        std::fs::write(path.join("plan.json"), plan).unwrap();
        path
    }

    #[test]
    fn runs_of_every_kind_and_age_are_read_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let old = run(folder.path(), "b", "2026-01-01T00:00:00Z", r#", "dataset": {"name": "d"}, "dtypes": ["f32"]"#);
        std::fs::write(old.join("record.json"), r#"{"complete": true}"#).unwrap();
        let new = run(folder.path(), "a", "2026-01-02T00:00:00Z", r#", "prompts": {"name": "p"}"#);
        std::fs::create_dir(folder.path().join("no-run")).unwrap();
        std::fs::create_dir(folder.path().join("bad")).unwrap();
        std::fs::write(folder.path().join("bad/plan.json"), "{}").unwrap();
        let (runs, unread) = Glance::all_in(folder.path()).unwrap();
        assert!(unread.len() == 1 && unread[0].to_string().contains("bad/plan.json"), "{unread:?}");
        let found: Vec<_> = runs.iter().map(|run| (&run.path, run.task.as_deref(), run.status)).collect();
        assert_eq!(found, [(&new, Some("p"), RunStatus::Interrupted), (&old, Some("d"), RunStatus::Complete)],);
        assert_eq!((&runs[1].variants[..], &runs[1].working_directory), (&["f32".to_owned()][..], &None));
        assert_eq!(Glance::all_in(Path::new("/no/such/folder")).unwrap().0, []);
    }

    #[test]
    fn a_run_that_a_process_works_on_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = run(folder.path(), "a", "2026-01-01T00:00:00Z", "");
        let lock = std::fs::File::create(path.join("lock")).unwrap();
        lock.try_lock().unwrap();
        assert_eq!(Glance::read(&path).unwrap().status, RunStatus::Running);
        drop(lock);
        assert_eq!(Glance::read(&path).unwrap().status, RunStatus::Interrupted);
    }
}
