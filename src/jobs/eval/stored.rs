//! A run folder read back whole: what a report is made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::placebo::placebos;
use super::{Asked, DtypeRecord, EvalPlan, EvalRecord, Measured, summarise};
use crate::record::{
    RecordError, Recorded, RunFolder, SampleFiles, StoredCompletion, StoredJournals, StoredSample, VariantName,
};

/// A finished run: its results, its questions and every completion.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// The folder.
    pub path: PathBuf,
    /// The results. Every figure of a variant is computed anew from its journal and sessions, so that no report mixes two sources.
    pub record: EvalRecord,
    /// The questions in row order; none in folders of before they were kept.
    pub samples: Arc<Vec<StoredSample>>,
    /// The completions of each variant of the record, by sample and repeat.
    pub completions: Vec<(VariantName, Vec<StoredCompletion>)>,
    /// What the user should know: files that cannot prove themselves.
    pub notes: Vec<String>,
}

impl StoredRun {
    /// Reads a run folder. One that is not there, has not finished, or holds a file that was changed is refused: plan, sessions,
    /// journals and answers must be those of the record, and must give its figures.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        Self::read_with(path, &SampleFiles::default())
    }

    /// Reads several run folders at a time and gives `then` each with its place among them; those of the same questions share them.
    pub fn read_each<T: Send, E: From<RecordError> + Send>(
        paths: &[PathBuf],
        then: impl Fn(usize, Self) -> Result<T, E> + Sync,
    ) -> Result<Vec<T>, E> {
        let samples = SampleFiles::default();
        let read = |(place, path): (usize, &PathBuf)| then(place, Self::read_with(path, &samples)?);
        paths.par_iter().enumerate().map(read).collect()
    }

    fn read_with(path: &Path, samples: &SampleFiles) -> Result<Self, RecordError> {
        if !path.is_dir() {
            let what = if path.exists() { "is not a folder" } else { "is not there" };
            return Err(RecordError::invalid(
                format!("the run {} {what}", path.display()),
                "give the folder of a run; they lie under `runs/` unless `--out` said otherwise",
            ));
        }
        let record = Self::read_record(path)?;
        let StoredJournals { completions, mut notes } = StoredJournals::read(
            path,
            &Recorded {
                plan: &record.plan,
                variants: record.dtypes.iter().map(|one| (&one.dtype, one.n, &one.sessions[..])).collect(),
                answers_sha256: record.answers_sha256.as_deref(),
            },
        )?;
        let (samples, note) = samples.read(path)?;
        notes.extend(note);
        let rules = rules(&record);
        let dtypes = figures(&record, &completions, rules.clone(), &samples);
        if let Some(what) = record.dtypes.iter().zip(&dtypes).find_map(|(recorded, own)| disagreement(recorded, own)) {
            return Err(RecordError::invalid(
                format!("{}: {what}", path.join("record.json").display()),
                "one of the two was changed: put an unchanged copy in its place; if the journals are right, delete record.json and give \
                 `evalsuite resume RUN`, which makes it anew",
            ));
        }
        let placebos = placebos(&record.plan, &completions, &rules, &samples);
        let record = EvalRecord { placebos, dtypes, ..record };
        Ok(Self { path: path.to_path_buf(), record, samples, completions, notes })
    }

    /// Completions that it holds.
    pub fn answers(&self) -> usize {
        self.completions.iter().map(|(_, completions)| completions.len()).sum()
    }

    /// Drops every completion: what the record says of them stays.
    pub fn forget_answers(&mut self) {
        self.completions.iter_mut().for_each(|(_, completions)| *completions = Vec::new());
    }

    fn read_record(path: &Path) -> Result<EvalRecord, RecordError> {
        let file = path.join("record.json");
        if file.exists() {
            return EvalRecord::read(&file);
        }
        // Names the missing file where this is no run folder at all.
        RunFolder::read_plan::<EvalPlan>(path)?;
        Err(RecordError::invalid(
            format!("the run in {} has not finished", path.display()),
            "finish it with `evalsuite resume RUN`",
        ))
    }
}

/// Every rule of any variant.
fn rules(record: &EvalRecord) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for rule in record.dtypes.iter().flat_map(|variant| &variant.rules) {
        if !rules.contains(&rule.rule) {
            rules.push(rule.rule.clone());
        }
    }
    rules
}

/// What the journals give.
fn figures(
    record: &EvalRecord,
    completions: &[(VariantName, Vec<StoredCompletion>)],
    rules: Vec<String>,
    samples: &[StoredSample],
) -> Vec<DtypeRecord> {
    let measured = record.dtypes.iter().zip(completions).map(|(recorded, (variant, completions))| Measured {
        dtype: variant.clone(),
        completions,
        sessions: recorded.sessions.clone(),
        failure: recorded.failure.clone(),
    });
    let measured: Vec<Measured> = measured.collect();
    summarise(&measured, &Asked::new(&record.plan, rules, samples))
}

/// The first figure of a record that is not what its journal gives. What is derived from these figures follows them.
fn disagreement(recorded: &DtypeRecord, own: &DtypeRecord) -> Option<String> {
    let total = |tokens: Option<u64>| tokens.map_or_else(|| "n/a".to_owned(), |tokens| tokens.to_string());
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "n/a".to_owned(), |seconds| format!("{seconds:.6}"));
    let of_run = |one: &DtypeRecord| {
        vec![
            ("answers".to_owned(), one.answered.to_string()),
            ("cut answers".to_owned(), one.cut.to_string()),
            ("prompt tokens".to_owned(), total(one.prompt_tokens)),
            ("output tokens".to_owned(), total(one.output_tokens)),
            ("seconds of generating".to_owned(), seconds(one.generate_seconds)),
            ("tokens/s".to_owned(), seconds(one.output_tokens_per_second)),
            ("seconds of loading".to_owned(), seconds(one.load_seconds)),
        ]
    };
    let figures = |one: &DtypeRecord| {
        let of_rules = one.rules.iter().flat_map(|rule| {
            let right = rule.accuracy.map_or_else(|| "n/a".to_owned(), |accuracy| accuracy.successes.to_string());
            let extracted = rule.extracted.to_string();
            [(format!("values by {}", rule.rule), extracted), (format!("right answers by {}", rule.rule), right)]
        });
        of_run(one).into_iter().chain(of_rules).collect::<Vec<_>>()
    };
    let mut pairs = figures(recorded).into_iter().zip(figures(own));
    let ((what, recorded_value), (_, own_value)) = pairs.find(|(recorded, own)| recorded != own)?;
    Some(format!("{what} of {} are {recorded_value} here, but the journal gives {own_value}", recorded.dtype))
}
