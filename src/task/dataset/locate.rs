//! From what the user typed to the bytes of a split.

use std::path::{Path, PathBuf};

use super::data_file::DataFile;
use super::names;
use super::sources::Source;
use super::spec::DatasetSpec;
use crate::bundled;
use crate::fault::Fault;
use crate::hub::{DEFAULT_REVISION, Hub, RepositoryKind};
use crate::task::TaskError;
use crate::task::definition::Task;

/// The files of one split with their provenance.
pub(super) struct Located {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) files: Vec<DataFile>,
    /// The SHA-256 must be one of these; none means that any will do.
    expected: Vec<String>,
}

impl Located {
    fn sha256(&self) -> Result<String, TaskError> {
        let hashes: Vec<String> = self.files.iter().map(DataFile::sha256).collect::<Result<_, _>>()?;
        Ok(match hashes.as_slice() {
            [only] => only.clone(),
            shards => crate::files::sha256(shards.concat().as_bytes()),
        })
    }

    /// The hash of the files, which is the expected one where any is.
    pub(super) fn checked_sha256(&self) -> Result<String, TaskError> {
        let actual = self.sha256()?;
        self.check(&actual)?;
        Ok(actual)
    }

    fn check(&self, actual: &str) -> Result<(), TaskError> {
        if self.expected.is_empty() || self.expected.iter().any(|hash| hash.eq_ignore_ascii_case(actual)) {
            return Ok(());
        }
        Err(TaskError::invalid(
            format!("{} has SHA-256 {actual}, but {} is expected", self.source, self.expected.join(" or ")),
            "the file is damaged or another one: fetch it again, or state the hash you mean",
        ))
    }
}

pub(super) fn locate(spec: &DatasetSpec, hub: &Hub) -> Result<Located, TaskError> {
    let mut located = match Kind::of(&spec.source)? {
        Kind::Bundled => from_program(&spec.split)?,
        Kind::File(path) => from_file(&path)?,
        Kind::Folder(path) => from_folder(&path, &spec.split)?,
        Kind::Hub(address) => from_hub(spec, hub, &address)?,
    };
    if let Some(sha256) = &spec.sha256 {
        located.expected = vec![sha256.clone()];
    }
    Ok(located)
}

/// Where worked examples are drawn from: the dataset that the task names, or the train split of the same dataset. For a file, that is
/// the file beside it with `train` in the place of the split's name.
pub(in crate::task) fn train_split(task: &Task, spec: &DatasetSpec) -> Result<DatasetSpec, TaskError> {
    let split = task.fewshot.as_ref().map_or("train", |fewshot| fewshot.split.as_str());
    let mut train = DatasetSpec { split: split.to_owned(), sha256: None, ..spec.clone() };
    if let Some(dataset) = task.fewshot.as_ref().and_then(|fewshot| fewshot.dataset.as_ref()) {
        return Ok(DatasetSpec { source: dataset.clone(), revision: String::new(), ..train });
    }
    if spec.split == train.split {
        return Ok(train);
    }
    let none = || {
        TaskError::invalid(
            format!("the protocol draws its examples from the {split} split, and {} has none beside it", spec.source),
            format!(
                "put the {split} split in the same folder, named like the file with `{split}` for `{}`; or give fixed \
                 examples by `--fewshot FILE`",
                spec.split
            ),
        )
    };
    match Kind::of(&spec.source)? {
        Kind::File(path) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let sibling = path.with_file_name(name.replacen(&spec.split, split, 1));
            if sibling == path || !sibling.is_file() {
                return Err(none());
            }
            train.source = sibling.to_string_lossy().into_owned();
        }
        Kind::Hub(HubAddress { file: Some(_), .. }) => return Err(none()),
        _ => {}
    }
    Ok(train)
}

enum Kind<'a> {
    Bundled,
    File(PathBuf),
    Folder(PathBuf),
    Hub(HubAddress<'a>),
}

/// `openai/gsm8k`, `openai/gsm8k/main`, or `juletxara/mgsm:mgsm_de.tsv`.
#[derive(Debug, PartialEq, Eq)]
struct HubAddress<'a> {
    repository: &'a str,
    config: Option<&'a str>,
    file: Option<&'a str>,
}

impl<'a> Kind<'a> {
    /// What is there on disk comes before what a hub might have under the same name.
    fn of(source: &'a str) -> Result<Self, TaskError> {
        if let Some(name) = source.strip_prefix("hf://datasets/") {
            return Self::of_hub_name(name).ok_or_else(|| unknown(source));
        }
        let path = Path::new(source);
        if source == bundled::NAME {
            return Ok(Self::Bundled);
        }
        if let Some((repository, file)) = source.split_once(':')
            && is_hub_id(repository)
            && names::is_data(file)
            && !path.exists()
        {
            return Ok(Self::Hub(HubAddress { repository, config: None, file: Some(file) }));
        }
        if names::is_data(source) {
            return Ok(Self::File(path.to_path_buf()));
        }
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        let (repository, config) = match source.match_indices('/').nth(1) {
            Some((second, _)) => (&source[..second], Some(&source[second + 1..])),
            None => (source, None),
        };
        let is_config = |config: &str| !config.is_empty() && !config.contains('/');
        if path.is_file() || !is_hub_id(repository) || !config.is_none_or(is_config) {
            return Err(unknown(source));
        }
        Ok(Self::Hub(HubAddress { repository, config, file: None }))
    }

    /// `owner/name`, or `owner/name/file`, as in names that begin with `hf://datasets/`.
    fn of_hub_name(name: &'a str) -> Option<Self> {
        let end = name.match_indices('/').nth(1).map_or(name.len(), |(second, _)| second);
        let (repository, rest) = name.split_at(end);
        let file = rest.strip_prefix('/').filter(|file| !file.is_empty());
        let is_meant = is_hub_id(repository) && !repository.contains('@') && file.is_none_or(names::is_data);
        is_meant.then_some(Self::Hub(HubAddress { repository, config: None, file }))
    }
}

/// `owner/name`.
fn is_hub_id(text: &str) -> bool {
    let mut parts = text.split('/');
    !text.starts_with(['.', '/', '~'])
        && !text.contains(':')
        && parts.by_ref().take(2).filter(|part| !part.is_empty()).count() == 2
        && parts.next().is_none()
}

fn unknown(source: &str) -> TaskError {
    TaskError::invalid(
        format!("`{source}` is no dataset"),
        "give `bundled`, a hub id such as openai/gsm8k, a .parquet, .jsonl, .json, .csv or .tsv file (.gz and .zst too), or a folder of such files",
    )
}

fn from_program(split: &str) -> Result<Located, TaskError> {
    let Some(bytes) = bundled::dataset_file(split) else {
        let Fault { what, hint } = Fault::unknown("split", split, &["test", "train"]);
        return Err(TaskError::invalid(format!("{what} of the bundled problems"), hint));
    };
    let files = vec![DataFile::embedded(format!("(bundled)/{split}.parquet"), bytes)];
    Ok(Located { name: bundled::NAME.to_owned(), source: bundled::NAME.to_owned(), files, expected: Vec::new() })
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn base_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn from_file(path: &Path) -> Result<Located, TaskError> {
    Ok(Located {
        name: base_name(path),
        source: absolute(path),
        files: vec![DataFile::open(path)?],
        expected: Vec::new(),
    })
}

fn from_folder(folder: &Path, split: &str) -> Result<Located, TaskError> {
    let chosen = names::of_split(&folder.display().to_string(), &list(folder)?, None, split)?;
    let files = chosen.iter().map(|name| DataFile::open(&folder.join(name))).collect::<Result<_, _>>()?;
    Ok(Located { name: base_name(folder), source: absolute(folder), files, expected: Vec::new() })
}

/// Names of the files in a folder and in the folders directly below it, as a hub would list them.
fn list(folder: &Path) -> Result<Vec<String>, TaskError> {
    let mut result = Vec::new();
    let failed = |error: std::io::Error| {
        TaskError::invalid(format!("cannot list {}: {error}", folder.display()), "check the path and its permissions")
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            let inner = std::fs::read_dir(&path).map_err(failed)?;
            for entry in inner {
                result.push(format!("{}/{}", base_name(&path), base_name(&entry.map_err(failed)?.path())));
            }
        } else {
            result.push(base_name(&path));
        }
    }
    Ok(result)
}

fn from_hub(spec: &DatasetSpec, hub: &Hub, address: &HubAddress) -> Result<Located, TaskError> {
    let &HubAddress { repository, config, file } = address;
    let known = if file.is_none() { Source::find(repository, config)? } else { None };
    let pinned = known.as_ref().map_or(DEFAULT_REVISION, |source| source.revision.as_str());
    let revision = if spec.revision.is_empty() { pinned } else { spec.revision.as_str() };
    let (paths, expected) = if let Some(file) = file {
        (vec![file.to_owned()], Vec::new())
    } else if let Some(source) = &known {
        let split = source.split(&spec.split)?;
        // The hashes are those of one revision; at another, other bytes are what was asked for.
        let expected = if revision == pinned { split.sha256.clone() } else { Vec::new() };
        (vec![split.file.clone()], expected)
    } else {
        let listed = hub.list(RepositoryKind::Dataset, repository, revision)?;
        (names::of_split(repository, &listed, config, &spec.split)?, Vec::new())
    };
    let mut files = Vec::new();
    let mut source = String::new();
    for path in &paths {
        let file = hub.file(RepositoryKind::Dataset, repository, revision, path)?;
        let separator = if source.is_empty() { format!("{repository}@{}:", file.commit) } else { ",".to_owned() };
        source = source + &separator + path;
        files.push(DataFile { label: format!("{repository}/{path}"), ..DataFile::open(&file.path)? });
    }
    Ok(Located { name: repository.to_owned(), source, files, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_is_none_of_the_known_names_all_of_them() {
        let located = |expected: &[&str]| Located {
            name: String::new(),
            source: "a/b@c:d.parquet".to_owned(),
            files: vec![DataFile::embedded(String::new(), b"abc")],
            expected: expected.iter().map(|hash| (*hash).to_owned()).collect(),
        };
        let abc = located(&[]).sha256().unwrap();
        assert!(located(&[]).check(&abc).is_ok());
        assert!(located(&["00", &abc]).check(&abc).is_ok());
        let message = located(&["00", "11"]).check(&abc).unwrap_err().to_string();
        assert!(message.contains(&abc) && message.contains("00 or 11 is expected"), "{message}");
    }

    #[test]
    fn the_hash_of_shards_depends_on_their_order() {
        let located = |files: &[&'static [u8]]| Located {
            name: String::new(),
            source: String::new(),
            files: files.iter().map(|bytes| DataFile::embedded(String::new(), bytes)).collect(),
            expected: Vec::new(),
        };
        let sha256 = |files| located(files).sha256().unwrap();
        assert_ne!(sha256(&[b"a", b"b"]), sha256(&[b"b", b"a"]));
        assert_eq!(sha256(&[b"abc"]), crate::files::sha256(b"abc"));
    }

    #[test]
    fn hub_ids_may_name_a_config_or_a_file() {
        let address = |source| match Kind::of(source) {
            Ok(Kind::Hub(HubAddress { repository, config, file })) => (repository, config, file),
            _ => panic!("{source} is no address"),
        };
        assert_eq!(address("openai/gsm8k"), ("openai/gsm8k", None, None));
        assert_eq!(address("openai/gsm8k/socratic"), ("openai/gsm8k", Some("socratic"), None));
        assert_eq!(address("a/b:c/d_e.tsv"), ("a/b", None, Some("c/d_e.tsv")));
        assert_eq!(address("hf://datasets/openai/gsm8k"), ("openai/gsm8k", None, None));
        assert_eq!(address("hf://datasets/a/b/c/d_e.jsonl.gz"), ("a/b", None, Some("c/d_e.jsonl.gz")));
        assert!(matches!(Kind::of("a/b.jsonl"), Ok(Kind::File(_))));
        assert!(matches!(Kind::of("./a/b:c.jsonl"), Ok(Kind::File(_))));
        for source in ["gsm8k", "a//b", "/a/b", "./a/b", "a/b/c/d", "a/b/", "a/b:c", "", "Cargo.toml"] {
            assert!(Kind::of(source).is_err_and(|error| error.to_string().contains("hint: ")), "{source}");
        }
    }
}
