//! File names of a dataset: which of them make up a split.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::task::TaskError;

/// How a data file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Json,
    Csv,
}

/// How a data file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// Of several files for one split, those of the first of these are taken.
const EXTENSIONS: [(&str, Format); 6] = [
    (".parquet", Format::Parquet),
    (".jsonl", Format::Json),
    (".ndjson", Format::Json),
    (".json", Format::Json),
    (".csv", Format::Csv),
    (".tsv", Format::Csv),
];
/// Where several configs have the split and none is named, the first of these that has it is meant.
const USUAL_CONFIGS: [&str; 4] = ["main", "default", "data", ""];

impl Format {
    /// What a file's name says that it is.
    pub(super) fn of(name: &str) -> Option<Self> {
        EXTENSIONS.iter().find(|(extension, _)| plain(name).ends_with(extension)).map(|(_, format)| *format)
    }
}

impl Compression {
    /// What the end of a file's name says.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The bytes that such a file begins with.
    pub(super) const fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => b"\x1f\x8b",
            Self::Zstd => b"\x28\xb5\x2f\xfd",
        }
    }
}

/// A name without the ending that says how the file is packed.
pub(super) fn plain(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

pub(super) fn is_data(name: &str) -> bool {
    Format::of(name).is_some()
}

/// The files of a split among all `names` of a dataset: `<config>/<split>-00000-of-00002.parquet` and its fellows,
/// `<config>/<split>.parquet`, `<split>.jsonl`; parquet before jsonl, and CSV last.
pub(super) fn of_split(
    dataset: &str,
    names: &[String],
    config: Option<&str>,
    split: &str,
) -> Result<Vec<String>, TaskError> {
    let mut configs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names.iter().filter(|name| is_data(name) && split_of(name) == split) {
        configs.entry(folder_of(name)).or_default().push(name);
    }
    let chosen = match config {
        Some(config) => configs.remove(config),
        None if configs.len() == 1 => configs.pop_first().map(|(_, files)| files),
        None => USUAL_CONFIGS.iter().find_map(|usual| configs.remove(usual)),
    };
    let Some(mut files) = chosen else { return Err(missing(dataset, names, &configs, config, split)) };
    if let Some((first, _)) =
        EXTENSIONS.iter().find(|(extension, _)| files.iter().any(|name| plain(name).ends_with(extension)))
    {
        files.retain(|name| plain(name).ends_with(first));
    }
    files.sort_unstable();
    check_shards(dataset, &files)?;
    Ok(files.into_iter().map(str::to_owned).collect())
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `test` of `main/test-00000-of-00001.parquet` and of `test.jsonl`.
fn split_of(name: &str) -> &str {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let end = file.find(['-', '.']).unwrap_or(file.len());
    &file[..end]
}

fn check_shards(dataset: &str, files: &[&str]) -> Result<(), TaskError> {
    let total = |name: &str| -> Option<usize> { name.rsplit_once("-of-")?.1.split('.').next()?.parse().ok() };
    match files.first().and_then(|name| total(name)) {
        Some(total) if total != files.len() => Err(TaskError::invalid(
            format!("{dataset} has {} of the {total} shards of {}", files.len(), files[0]),
            "fetch the missing shards",
        )),
        None if files.len() > 1 => Err(TaskError::invalid(
            format!("{dataset} has several files for one split: {}", files.join(", ")),
            "give the path of the one you mean",
        )),
        _ => Ok(()),
    }
}

fn missing(
    dataset: &str,
    names: &[String],
    configs: &BTreeMap<&str, Vec<&str>>,
    config: Option<&str>,
    split: &str,
) -> TaskError {
    if !configs.is_empty() {
        let all: Vec<&str> = configs.keys().copied().collect();
        let what = match config {
            Some(config) => Fault::unknown("config", config, &all).what + &format!(" of {dataset}"),
            None => format!("{dataset} has the split `{split}` in several configs"),
        };
        return TaskError::invalid(what, format!("write `{dataset}/CONFIG` with one of: {}", all.join(", ")));
    }
    let mut splits: Vec<&str> = names.iter().filter(|name| is_data(name)).map(|name| split_of(name)).collect();
    splits.sort_unstable();
    splits.dedup();
    if splits.is_empty() {
        let hint = "a dataset is made of .parquet, .jsonl, .json, .csv or .tsv files named after their split, .gz and .zst too";
        return TaskError::invalid(format!("{dataset} has no parquet, JSON or CSV file"), hint);
    }
    let Fault { what, hint } = Fault::unknown("split", split, &splits);
    TaskError::invalid(format!("{what} of {dataset}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(names: &[&str], config: Option<&str>, split: &str) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        of_split("a/b", &names, config, split).map_err(|error| error.to_string())
    }

    const HUB: &[&str] = &[
        "README.md",
        "main/test-00000-of-00001.parquet",
        "main/train-00000-of-00001.parquet",
        "socratic/test-00000-of-00001.parquet",
        "socratic/train-00000-of-00001.parquet",
    ];

    #[test]
    fn the_usual_config_is_taken_unless_another_is_named() {
        assert_eq!(choose(HUB, None, "test").unwrap(), ["main/test-00000-of-00001.parquet"]);
        assert_eq!(choose(HUB, Some("socratic"), "train").unwrap(), ["socratic/train-00000-of-00001.parquet"]);
        let message = choose(HUB, Some("socratix"), "test").unwrap_err();
        assert!(message.contains("unknown config `socratix`") && message.contains("main, socratic"), "{message}");
        assert!(choose(&["x/test.jsonl", "y/test.jsonl"], None, "test").unwrap_err().contains("several configs"));
    }

    #[test]
    fn shards_are_ordered_and_complete() {
        let names = ["d/test-00001-of-00002.parquet", "d/test-00000-of-00002.parquet", "d/test.jsonl"];
        assert_eq!(choose(&names, None, "test").unwrap(), [names[1], names[0]]);
        assert!(choose(&names[..1], None, "test").unwrap_err().contains("1 of the 2 shards"));
    }

    #[test]
    fn a_split_that_does_not_exist_gives_the_nearest() {
        let message = choose(HUB, None, "tset").unwrap_err();
        assert!(message.contains("unknown split `tset` of a/b") && message.contains("`test`"), "{message}");
        assert!(choose(&["README.md"], None, "test").unwrap_err().contains("no parquet, JSON or CSV file"));
        assert_eq!(choose(&["test.csv", "test.json", "train.csv"], None, "test").unwrap(), ["test.json"]);
    }
}
