//! A dataset: the first byte says how its file is called.

#![no_main]

use evalsuite::hub::Hub;
use evalsuite::task::{Dataset, DatasetSpec};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = ["a.parquet", "a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst"];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAMES[usize::from(*which) % NAMES.len()]);
    std::fs::write(&path, content).unwrap();
    let source = path.display().to_string();
    let spec = DatasetSpec { source, split: "test".to_owned(), revision: "main".to_owned(), sha256: None };
    let _ = Dataset::open(&spec, &Hub::from_environment(true).unwrap());
});
