//! A GGUF file: opened, and every tensor of it read.

#![no_main]

use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::hub::Hub;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzzed.gguf");
    std::fs::write(&path, bytes).unwrap();
    let spec = ModelSpec { source: path.display().to_string(), revision: "main".to_owned() };
    let Ok(source) = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()) else { return };
    for name in source.tensors.names() {
        let _ = source.tensors.read(&name);
    }
});
