//! `evalsuite report` of files that hold measurements of speed: what `bench --out` and `load --out` wrote.

use std::path::{Path, PathBuf};

use crate::compare::REPORT_FORMATS;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::jobs::bench::{BenchRecord, bench_figures};
use crate::jobs::load::{LoadRecord, load_figures, load_peers};
use crate::record::Elsewhere;
use crate::report::{Figures, Format, figures_csv, render_figures};

/// The formats that such records have.
const FORMATS: [&str; 5] = ["terminal", "markdown", "html", "csv", "json"];

/// A record of speed.
pub(super) enum SpeedRecord {
    Bench(Box<BenchRecord>),
    Load(Box<LoadRecord>),
}

impl SpeedRecord {
    /// `None` where the file holds something else.
    fn read(path: &Path) -> Result<Option<Self>, JobError> {
        if !path.is_file() {
            return Ok(None);
        }
        if let Some(record) = BenchRecord::read(path)? {
            return Ok(Some(Self::Bench(Box::new(record))));
        }
        Ok(LoadRecord::read(path)?.map(|record| Self::Load(Box::new(record))))
    }

    fn figures(&self, name: &str, vs: &[PathBuf]) -> Result<Figures, JobError> {
        match self {
            Self::Bench(record) => {
                let rows = vs.iter().map(|path| Elsewhere::read(path)).collect::<Result<Vec<_>, _>>()?;
                Ok(bench_figures(record, name, &rows))
            }
            Self::Load(record) => {
                let model = &record.target.model.name;
                let peers = vs.iter().map(|path| load_peers(path, model)).collect::<Result<Vec<_>, _>>()?.concat();
                Ok(load_figures(record, name, &peers)?)
            }
        }
    }
}

/// The records where files of them were given; `None` where something else was, run folders that is.
pub(super) fn read(paths: &[PathBuf]) -> Result<Option<Vec<SpeedRecord>>, JobError> {
    let records = paths.iter().map(|path| SpeedRecord::read(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = records.iter().position(Option::is_some) else { return Ok(None) };
    if let Some(other) = records.iter().position(Option::is_none) {
        if !paths[other].exists() {
            return Err(JobError::invalid(format!("{} is not there", paths[other].display()), "check the path"));
        }
        return Err(JobError::invalid(
            format!("{} is a record of speed, {} is not", paths[first].display(), paths[other].display()),
            "give runs, and records of `bench` and `load`, to `evalsuite report` apart",
        ));
    }
    Ok(Some(records.into_iter().flatten().collect()))
}

/// The report of them, which lie at these paths, beside the rows of `vs`.
pub(super) fn render(
    records: &[SpeedRecord],
    paths: &[PathBuf],
    name: &str,
    vs: &[PathBuf],
    csv_raw: bool,
    colour: bool,
) -> Result<String, JobError> {
    if !FORMATS.contains(&name) {
        return Err(if REPORT_FORMATS.iter().any(|format| format.name() == name) {
            JobError::invalid(
                format!("--format {name} is for runs, not for records of speed"),
                format!("give one of {}", FORMATS.join(", ")),
            )
        } else {
            Fault::unknown("format", name, &FORMATS).into()
        });
    }
    let mut figures = Figures::default();
    for (record, name) in records.iter().zip(names(paths)) {
        figures.join(record.figures(&name, vs)?);
    }
    if name == "csv" {
        return Ok(figures_csv(&figures, csv_raw)?);
    }
    let format = Format::parse(name, colour)?;
    Ok(render_figures(&figures, &format)?)
}

/// What tells files apart: their names without `.json`, or whole paths where names are the same.
pub(super) fn names(paths: &[PathBuf]) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let stems: Vec<String> = paths.iter().map(|path| stem(path)).collect();
    let is_unique = |name: &String| stems.iter().filter(|other| *other == name).count() == 1;
    let name =
        |(path, stem): (&PathBuf, &String)| if is_unique(stem) { stem.clone() } else { path.display().to_string() };
    paths.iter().zip(&stems).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_the_shortest_name() {
        let names = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a/before.json", "b/after.json"]), ["before", "after"]);
        assert_eq!(names(&["a/bench.json", "b/bench.json", "c.json"]), ["a/bench.json", "b/bench.json", "c"]);
    }
}
