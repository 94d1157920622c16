//! Names of runs, made of what differs between them.

use std::collections::HashSet;

use crate::jobs::eval::StoredRun;

/// One name per run, all different: empty if there is one run, `cpu` and `cuda` where the engine differs.
pub(in crate::compare) fn run_names(runs: &[StoredRun]) -> Vec<String> {
    let parts: [fn(&StoredRun) -> String; 6] = [
        |run| last_part(&run.record.plan.target.model.name),
        engine,
        |run| run.record.plan.dataset.name.clone(),
        |run| run.record.plan.protocol.name.clone(),
        |run| run.record.plan.dataset.selection.clone(),
        |run| run.record.plan.target.awq.as_ref().map_or_else(String::new, |awq| last_part(&awq.name)),
    ];
    let mut names = vec![String::new(); runs.len()];
    for part in parts {
        if all_distinct(&names) {
            break;
        }
        let words: Vec<String> = runs.iter().map(part).collect();
        let tells_apart = words.iter().any(|word| *word != words[0]) && words.iter().all(|word| !word.is_empty());
        if tells_apart {
            for (name, word) in names.iter_mut().zip(words) {
                *name = if name.is_empty() { word } else { format!("{name} {word}") };
            }
        }
    }
    if !all_distinct(&names) {
        names = runs.iter().zip(names).map(|(run, name)| format!("{name} {}", folder(run)).trim().to_owned()).collect();
    }
    if !all_distinct(&names) {
        names = names.iter().enumerate().map(|(index, name)| format!("{name} #{}", index + 1)).collect();
    }
    names
}

fn all_distinct(names: &[String]) -> bool {
    names.iter().collect::<HashSet<_>>().len() == names.len()
}

fn last_part(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// The engine of all columns; nothing where they have several, of which none is the run's name.
fn engine(run: &StoredRun) -> String {
    let mut names = run.record.dtypes.iter().flat_map(|dtype| &dtype.sessions).map(|session| &session.engine.name);
    let Some(first) = names.next() else { return String::new() };
    if names.all(|name| name == first) { first.clone() } else { String::new() }
}

fn folder(run: &StoredRun) -> String {
    run.path.file_name().map_or_else(|| run.path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn names_are_what_differs_and_folders_where_nothing_else_does() {
        let read = || StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let mut other = read();
        other.record.plan.protocol.name = "other".to_owned();
        let runs = [read(), other];
        assert_eq!(run_names(&runs), [runs[0].record.plan.protocol.name.as_str(), "other"]);
        let mut elsewhere = read();
        elsewhere.path = PathBuf::from("runs/elsewhere");
        assert_eq!(run_names(&[read(), elsewhere]), ["run", "elsewhere"]);
        assert_eq!(run_names(&[read()]), [""]);
    }
}
