//! A tokenizer without its model: of a model that runs elsewhere.

use std::sync::Arc;

use serde_json::Value;

use super::files::ModelFiles;
use super::spec::Place;
use super::{ModelSource, ModelSpec, ModelTokenizer, TokenizerFacts, family, tokenizer_files};
use crate::EngineError;
use crate::hub::{Hub, RepositoryKind};

impl ModelTokenizer {
    /// Reads the tokenizer of a folder, a hub id or a .gguf file. Weights are neither needed nor fetched, and the model may be of any
    /// family.
    pub fn open(spec: &ModelSpec, hub: &Hub) -> Result<Arc<Self>, EngineError> {
        let files = match spec.place()? {
            Place::Bundled | Place::BundledAwq | Place::Gguf(_) => {
                return ModelSource::open(spec, hub).map(|source| source.tokenizer);
            }
            Place::Folder(path) => ModelFiles::folder(&path)?,
            Place::Hub { gguf: Some(_), .. } => return ModelSource::open(spec, hub).map(|source| source.tokenizer),
            Place::Hub { repository, gguf: None } => of_hub(&repository, &spec.revision, hub)?,
        };
        let config = files.json("config.json")?.unwrap_or(Value::Null);
        // A family that no engine of ours runs has files that say everything, as a rule.
        let named = config.get("model_type").and_then(Value::as_str).and_then(family::named);
        let facts = named.map_or(&TokenizerFacts::USUAL, |family| &family.entry().tokenizer);
        Ok(Arc::new(tokenizer_files::read(&files, &config, facts)?))
    }
}

fn of_hub(repository: &str, revision: &str, hub: &Hub) -> Result<ModelFiles, EngineError> {
    let kind = RepositoryKind::Model;
    let commit = hub.commit(kind, repository, revision)?;
    let listed = hub.list(kind, repository, &commit)?;
    let mut wanted = vec!["config.json"];
    wanted.extend(tokenizer_files::SURROUNDING_FILES);
    wanted.extend(tokenizer_files::choose(listed.iter().map(String::as_str)));
    let mut paths = Vec::new();
    for name in wanted.into_iter().filter(|name| listed.iter().any(|file| file == name)) {
        paths.push(hub.file(kind, repository, &commit, name)?.path);
    }
    Ok(ModelFiles::of(format!("{repository} on the hub"), paths.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubSettings;

    #[test]
    fn a_tokenizer_is_read_without_weights_and_of_any_family() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "hm", "vocab": {"hm": 0, "two": 1}}}"#;
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "of_another_world"}"#).unwrap();
        let source = folder.path().display().to_string();
        let spec = ModelSpec { source, revision: crate::hub::DEFAULT_REVISION.to_owned() };
        let hub = Hub::new(HubSettings::from_variables(|_| None, true).unwrap());
        assert_eq!(ModelTokenizer::open(&spec, &hub).unwrap().encode("two x", false).unwrap(), [1, 0]);
        std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        assert!(ModelTokenizer::open(&spec, &hub).unwrap_err().to_string().contains("hint: "));
    }
}
