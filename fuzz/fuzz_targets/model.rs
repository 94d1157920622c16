//! A file of a model's folder: the first byte says which, the others are what stands in it. The rest is the bundled model's.

#![no_main]

use evalsuite::engine::bundled;
use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::hub::Hub;
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 5] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (at, name) in FILES.into_iter().enumerate() {
        let own = bundled::model_file(name).unwrap_or_default();
        let content = if at == usize::from(*which) % FILES.len() { content } else { own };
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let spec = ModelSpec { source: folder.path().display().to_string(), revision: "main".to_owned() };
    let Ok(source) = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()) else { return };
    let _ = source.tokenizer.encode("How many are 1 and 2?", true);
    for name in source.tensors.names() {
        let _ = source.tensors.read(&name);
    }
});
