//! The folder of golden files: reading, writing, and accepting or rejecting pending files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Golden, Suite};
use crate::files::write_atomically;
use crate::jobs::JobError;
use crate::record::VariantName;
use crate::text::command_line;

const PENDING: &str = "new";

/// A folder of golden files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

/// The path of a golden file, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The suite's folder.
    pub suite: String,
    /// The model's folder.
    pub model: String,
    /// The file's stem.
    pub dtype: String,
    /// `<dtype>.json`, whether it exists or not.
    pub path: PathBuf,
}

impl Entry {
    /// `gsm8k bundled awq`
    pub fn in_words(&self) -> String {
        format!("{} {} {}", self.suite, self.model, self.dtype)
    }

    /// The path of the pending file.
    pub fn pending_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{PENDING}"));
        path.into()
    }

    /// Whether a pending file exists.
    pub fn is_pending(&self) -> bool {
        self.pending_path().exists()
    }

    /// Whether the golden file exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The golden file, if it exists.
    pub fn golden(&self) -> Result<Option<Golden>, JobError> {
        self.exists().then(|| Golden::read(&self.path)).transpose()
    }

    /// How to get the model, as the file `SOURCE` beside its golden files says; if there is one.
    pub fn source(&self) -> Option<String> {
        let text = fs::read_to_string(self.path.with_file_name("SOURCE")).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Writes a pending file with the differences that the check found.
    pub fn write_pending(&self, golden: &Golden) -> Result<(), JobError> {
        write(&self.pending_path(), golden)
    }

    /// Writes the golden file and removes the pending one.
    pub fn write(&self, golden: &Golden) -> Result<(), JobError> {
        write(&self.path, &Golden { changes: Vec::new(), ..golden.clone() })?;
        self.reject()
    }

    /// Replaces the golden file by the pending one.
    pub fn accept(&self) -> Result<(), JobError> {
        self.write(&Golden::read(&self.pending_path())?)
    }

    /// Removes the pending file, if there is one.
    pub fn reject(&self) -> Result<(), JobError> {
        let path = self.pending_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused("remove", &path, &error)),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// The folder, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the golden file of these lies.
    pub fn entry(&self, suite: Suite, model: &str, variant: &VariantName) -> Entry {
        let model = folder_name(model);
        let path = self.folder.join(suite.name()).join(&model).join(format!("{variant}.json"));
        Entry { suite: suite.name().to_owned(), model, dtype: variant.to_string(), path }
    }

    /// Every golden and pending file, by suite, model and dtype; none if the folder does not exist. A folder
    /// that holds a run is refused: the run's JSON files would be taken for orphaned golden files.
    pub fn entries(&self) -> Result<Vec<Entry>, JobError> {
        let mut found = Vec::new();
        self.refuse_run(&self.folder)?;
        for (suite, suite_path) in children(&self.folder)?.into_iter().filter(|(_, path)| path.is_dir()) {
            self.refuse_run(&suite_path)?;
            for (model, model_path) in children(&suite_path)?.into_iter().filter(|(_, path)| path.is_dir()) {
                self.refuse_run(&model_path)?;
                for (name, _) in children(&model_path)? {
                    let file = name.strip_suffix(&format!(".{PENDING}")).unwrap_or(&name);
                    let Some(dtype) = file.strip_suffix(".json") else { continue };
                    let (suite, model, dtype) = (suite.clone(), model.clone(), dtype.to_owned());
                    found.push(Entry { path: model_path.join(file), suite, model, dtype });
                }
            }
        }
        let rank = |entry: &Entry| VariantName::parse(&entry.dtype).map_or(usize::MAX, |name| name.rank());
        found.sort_by_key(|entry| (entry.suite.clone(), entry.model.clone(), rank(entry), entry.dtype.clone()));
        found.dedup();
        Ok(found)
    }

    fn refuse_run(&self, place: &Path) -> Result<(), JobError> {
        if !["plan.json", "record.json"].iter().any(|file| place.join(file).is_file()) {
            return Ok(());
        }
        let run = place.display().to_string();
        let what = if place == self.folder {
            format!("{run} is a run's folder, not a folder of golden files")
        } else {
            format!("{} is no folder of golden files: {run} is a run's folder", self.folder.display())
        };
        let check = command_line(["evalsuite", "golden", "check", "--run", &run]);
        let hint = "`--golden` takes the folder that `evalsuite golden accept` writes, ./golden unless said otherwise; \
                    a run is compared with its files by";
        Err(JobError::invalid(what, format!("{hint} `{check}`")))
    }
}

/// A model's name as the name of a folder.
pub(super) fn folder_name(model: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = model.replace('/', "--").chars().map(safe).collect();
    if name.trim_matches('.').is_empty() { "model".to_owned() } else { name }
}

fn children(folder: &Path) -> Result<Vec<(String, PathBuf)>, JobError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| refused("read", folder, &error))?,
    };
    let named = entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    Ok(named.collect())
}

fn write(path: &Path, golden: &Golden) -> Result<(), JobError> {
    let text = golden.to_text().map_err(|error| {
        JobError::invalid(format!("cannot write {}: {error}", path.display()), "this is a fault of evalsuite")
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|error| refused("make the folder", folder, &error))?;
    write_atomically(path, text.as_bytes()).map_err(|error| refused("write", path, &error))
}

fn refused(action: &str, path: &Path, error: &io::Error) -> JobError {
    JobError::invalid(
        format!("cannot {action} {}: {error}", path.display()),
        "golden files lie in `--golden DIR`, ./golden by default: choose a folder that you may write to, with room in it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_become_names_of_folders() {
        assert_eq!(folder_name("SmolLM2-135M-Instruct.Q4_1"), "SmolLM2-135M-Instruct.Q4_1");
        assert_eq!(folder_name("owner/name"), "owner--name");
        assert_eq!([folder_name("../.."), folder_name(".."), folder_name("a b")], ["..--..", "model", "a_b"]);
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        assert_eq!(Store::new(Path::new("/no/such/folder")).entries().unwrap(), []);
    }
}
