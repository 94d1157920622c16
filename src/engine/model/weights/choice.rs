//! Which of a folder's or a repository's files hold the weights.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::EngineError;
use crate::model::files::ModelFiles;

/// The weight files that are read; only one format, the first that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) enum WeightFiles {
    /// One file of safetensors.
    Safetensors(&'static str),
    /// An index of safetensors shards.
    SafetensorsIndex(&'static str),
    /// One file of `PyTorch`'s pickle format.
    Pickle(&'static str),
    /// An index of pickle shards.
    PickleIndex(&'static str),
}

impl WeightFiles {
    /// The one file to read first.
    pub(in crate::model) const fn entry(&self) -> &'static str {
        match self {
            Self::Safetensors(name) | Self::SafetensorsIndex(name) | Self::Pickle(name) | Self::PickleIndex(name) => {
                name
            }
        }
    }

    /// Whether [`WeightFiles::entry`] names other files, which [`shards`] lists.
    pub(in crate::model) const fn is_index(&self) -> bool {
        matches!(self, Self::SafetensorsIndex(_) | Self::PickleIndex(_))
    }

    /// Every file that holds tensors.
    pub(in crate::model) fn shards(&self, files: &ModelFiles) -> Result<Vec<String>, EngineError> {
        if self.is_index() { shards(files, self.entry()) } else { Ok(vec![self.entry().to_owned()]) }
    }
}

/// Safetensors before pickle, one file before shards, as transformers looks for them.
pub(in crate::model) fn choose(names: &[&str], place: &str) -> Result<WeightFiles, EngineError> {
    let known = [
        WeightFiles::Safetensors("model.safetensors"),
        WeightFiles::SafetensorsIndex("model.safetensors.index.json"),
        WeightFiles::Pickle("pytorch_model.bin"),
        WeightFiles::PickleIndex("pytorch_model.bin.index.json"),
    ];
    let expected = known.each_ref().map(WeightFiles::entry).join(", ");
    known.into_iter().find(|choice| names.contains(&choice.entry())).ok_or_else(|| {
        let is_gguf = |name: &&&str| name.to_lowercase().ends_with(".gguf");
        let hint = match names.iter().find(is_gguf) {
            Some(gguf) => format!(
                "there is a GGUF file, `{gguf}`: name it after the folder or the repository, as `…/{gguf}`; of a repository its label \
                 does too, as `owner/name:Q4_K_M`"
            ),
            None => "copy the weights from the model's repository into the folder".to_owned(),
        };
        EngineError::invalid(format!("no weights in {place}: none of {expected}"), hint)
    })
}

/// The shard files that an index names.
pub(in crate::model) fn shards(files: &ModelFiles, index: &str) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let json = files.json(index)?.unwrap_or_default();
    let Index { weight_map } = serde_json::from_value(json).map_err(|error| {
        EngineError::invalid(
            format!("{index} in {} is not an index of weights: {error}", files.place),
            "fetch the file again; its `weight_map` gives the file of every tensor",
        )
    })?;
    let shards: BTreeSet<String> = weight_map.into_values().collect();
    if shards.is_empty() {
        let what = format!("{index} in {} names no file", files.place);
        return Err(EngineError::invalid(what, "fetch the file again"));
    }
    Ok(shards.into_iter().collect())
}
