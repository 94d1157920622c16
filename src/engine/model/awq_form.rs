//! The AWQ form of a full-precision model: where it lies, and whether the two are one model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hub_gguf::HubGguf;
use super::spec::Place;
use super::{ModelSource, ModelSpec, WeightFormat};
use crate::EngineError;
use crate::bundled;
use crate::hub::Hub;

/// Behind the model's name, the name of its AWQ form.
const SUFFIX: &str = "-awq";

impl ModelSpec {
    /// Where the AWQ form of this model is looked for, and where it should be made: `M-awq` beside the folder `M` or the
    /// file `M.gguf`, and in the working folder for a hub model.
    pub fn awq_path(&self) -> PathBuf {
        let named = |path: &Path| {
            // `.` and `..` have a name only when resolved.
            let path = if path.file_name().is_none() { path.canonicalize().ok() } else { None }
                .unwrap_or_else(|| path.to_path_buf());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{}{SUFFIX}", name.strip_suffix(".gguf").unwrap_or(&name)))
        };
        match self.place() {
            Ok(Place::Folder(path) | Place::Gguf(path)) => named(&path),
            Ok(Place::Hub { gguf: Some(HubGguf::File(file)), .. }) => {
                named(Path::new(Path::new(&file).file_name().unwrap_or_default()))
            }
            Ok(Place::Hub { repository, gguf: None | Some(HubGguf::Label(_)) }) => {
                named(Path::new(repository.rsplit('/').next().unwrap_or("model")))
            }
            Ok(Place::Bundled | Place::BundledAwq) | Err(_) => PathBuf::from(bundled::AWQ_NAME),
        }
    }
}

impl ModelSource {
    /// Opens the AWQ form of this model, which `spec` has opened: what `named` names, else what is compiled into the
    /// program, else the folder at [`ModelSpec::awq_path`] beside a local model; `None` where there is none. It comes
    /// with this model's own tokenizer, so that every precision reads and writes the same tokens.
    pub fn open_awq_form(
        &self,
        spec: &ModelSpec,
        named: Option<&ModelSpec>,
        hub: &Hub,
    ) -> Result<Option<Self>, EngineError> {
        if let Some(own) = self.format.checkpoint() {
            return match named {
                None => Ok(None),
                Some(named) => Err(EngineError::invalid(
                    format!(
                        "the model {} is {} already, and {} is named as its AWQ form",
                        self.name, own.title, named.source
                    ),
                    "name the full-precision model as `--model`, or leave `--awq` out",
                )),
            };
        }
        let beside;
        let form = match (named, spec.place()?) {
            (Some(named), _) => named,
            (None, Place::Bundled) if bundled::awq_model_files().next().is_some() => {
                beside = bundled::AWQ_NAME.to_owned();
                &ModelSpec { source: beside, revision: spec.revision.clone() }
            }
            (None, Place::Folder(_) | Place::Gguf(_)) if spec.awq_path().is_dir() => {
                beside = spec.awq_path().to_string_lossy().into_owned();
                &ModelSpec { source: beside, revision: spec.revision.clone() }
            }
            _ => return Ok(None),
        };
        let mut form = Self::open(form, hub)?;
        self.check_awq_form(&form)?;
        form.tokenizer = Arc::clone(&self.tokenizer);
        Ok(Some(form))
    }

    /// Refuses an AWQ form that is not AWQ, of another shape, or of another vocabulary.
    fn check_awq_form(&self, form: &Self) -> Result<(), EngineError> {
        if form.format != WeightFormat::Awq {
            return Err(EngineError::invalid(
                format!("{} is no AWQ checkpoint: its weights are stored as {}", form.source, form.stored_as),
                "name a checkpoint made by `evalsuite quantize`, or another in AutoAWQ's gemm layout",
            ));
        }
        match self.difference(form) {
            None => Ok(()),
            Some(different) => Err(EngineError::invalid(
                format!("{} is not the AWQ form of {}: {different}", form.source, self.name),
                "name the checkpoint that was made of this very model by `--awq`, or make it by `evalsuite quantize`",
            )),
        }
    }
}
