//! What the user typed for a model, and which kind of place it means.

use std::path::{Path, PathBuf};

use super::hub_gguf::HubGguf;
use crate::EngineError;
use crate::hub::DEFAULT_REVISION;
use crate::{bundled, text};

/// What the user typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// `bundled`, a folder, a .gguf file, a hub id such as `HuggingFaceTB/SmolLM2-135M-Instruct`, or a hub id followed
    /// by a GGUF file of that repository (`owner/name/model.gguf`) or by the label of one (`owner/name:Q4_K_M`).
    pub source: String,
    /// A hub model's revision; `main` by default.
    pub revision: String,
}

/// The kind of place that a [`ModelSpec`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Bundled,
    BundledAwq,
    Folder(PathBuf),
    Gguf(PathBuf),
    /// A repository of the hub, and the one GGUF file that is meant, if one is.
    Hub {
        repository: String,
        gguf: Option<HubGguf>,
    },
}

impl ModelSpec {
    /// What exists on disk comes before the hub; a revision is the hub's alone.
    pub(super) fn place(&self) -> Result<Place, EngineError> {
        let place = self.find()?;
        let kind = match place {
            Place::Hub { .. } => return Ok(place),
            _ if self.revision == DEFAULT_REVISION => return Ok(place),
            Place::Bundled | Place::BundledAwq => "compiled in",
            Place::Folder(_) => "a folder here",
            Place::Gguf(_) => "a file here",
        };
        Err(EngineError::invalid(
            format!("--revision {} has no use with the model {}, which is {kind}", self.revision, self.source),
            "leave `--revision` out, or give a hub id, such as `HuggingFaceTB/SmolLM2-135M-Instruct`",
        ))
    }

    /// Whether it names nothing that there may be: no part of the program, nothing on this machine, and no hub id.
    pub fn names_nothing(&self) -> bool {
        let is_bundled = [bundled::NAME, bundled::AWQ_NAME].contains(&self.source.as_str());
        !is_bundled && !Path::new(&self.source).exists() && hub_place(&self.source).is_none()
    }

    fn find(&self) -> Result<Place, EngineError> {
        if self.source == bundled::NAME {
            return Ok(Place::Bundled);
        }
        if self.source == bundled::AWQ_NAME {
            return Ok(Place::BundledAwq);
        }
        let path = Path::new(&self.source);
        if path.is_dir() {
            return Ok(Place::Folder(path.to_path_buf()));
        }
        if path.exists() {
            let weights = path.extension().is_some_and(|extension| extension == "safetensors" || extension == "bin");
            return match path.parent() {
                Some(folder) if weights => Err(EngineError::invalid(
                    format!("{} holds weights only", path.display()),
                    format!("give the folder, which has config.json too: `{}`", folder.join(".").display()),
                )),
                _ => Ok(Place::Gguf(path.to_path_buf())),
            };
        }
        hub_place(&self.source).ok_or_else(|| self.not_found())
    }

    fn not_found(&self) -> EngineError {
        let hint = match near_miss(Path::new(&self.source)) {
            Some(near) => format!("did you mean `{}`?", near.display()),
            None if self.source.starts_with('~') => {
                "the shell leaves `~` alone inside quotes: write the path out".into()
            }
            None => "give `bundled`, a folder, a .gguf file, or a hub id such as `HuggingFaceTB/SmolLM2-135M-Instruct`"
                .to_owned(),
        };
        EngineError::invalid(format!("there is no model at `{}`, and it is no hub id", self.source), hint)
    }
}

/// `owner/name`, `owner/name/path/to/file.gguf`, or `owner/name:Q4_K_M`.
fn hub_place(source: &str) -> Option<Place> {
    if let Some((repository, label)) = source.split_once(':') {
        let is_label =
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        return match hub_place(repository)? {
            Place::Hub { repository, gguf: None } if is_label => {
                Some(Place::Hub { repository, gguf: Some(HubGguf::Label(label.to_owned())) })
            }
            _ => None,
        };
    }
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-', '~'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let parts: Vec<&str> = source.split('/').collect();
    if !parts.iter().all(|part| is_name(part)) {
        return None;
    }
    let is_gguf = source.to_lowercase().ends_with(".gguf");
    match parts[..] {
        [owner, name] if !is_gguf => Some(Place::Hub { repository: format!("{owner}/{name}"), gguf: None }),
        [owner, name, ref file @ ..] if is_gguf && !file.is_empty() => {
            Some(Place::Hub { repository: format!("{owner}/{name}"), gguf: Some(HubGguf::File(file.join("/"))) })
        }
        _ => None,
    }
}

/// The existing path that differs from `path` in its last existing component, if one is near.
pub(super) fn near_miss(path: &Path) -> Option<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return None,
    };
    if !parent.is_dir() {
        let parent = near_miss(parent)?;
        let whole = parent.join(path.file_name()?);
        return Some(if whole.exists() { whole } else { parent });
    }
    let word = path.file_name()?.to_str()?;
    let names: Vec<String> =
        std::fs::read_dir(parent).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let near = text::nearest(word, names.iter().map(String::as_str))?;
    Some(if parent == Path::new(".") { PathBuf::from(near) } else { parent.join(near) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: &str) -> Result<Place, String> {
        let spec = ModelSpec { source: source.to_owned(), revision: DEFAULT_REVISION.to_owned() };
        spec.place().map_err(|error| error.to_string())
    }

    fn hub(repository: &str, gguf: Option<&str>) -> Place {
        Place::Hub { repository: repository.to_owned(), gguf: gguf.map(|file| HubGguf::File(file.to_owned())) }
    }

    #[test]
    fn hub_ids_are_owner_and_name() {
        assert_eq!(place("facebook/opt-125m").unwrap(), hub("facebook/opt-125m", None));
        let file = place("owner/name-GGUF/sub/model.Q4_K_M.gguf").unwrap();
        assert_eq!(file, hub("owner/name-GGUF", Some("sub/model.Q4_K_M.gguf")));
        let label = HubGguf::Label("Q4_K_M".to_owned());
        let labelled = Place::Hub { repository: "owner/name-GGUF".to_owned(), gguf: Some(label) };
        assert_eq!(place("owner/name-GGUF:Q4_K_M").unwrap(), labelled);
        assert_eq!(place("bundled").unwrap(), Place::Bundled);
        for path in [
            "./owner/name",
            "../x",
            "/nowhere/at/all",
            "a/b/c",
            "model.gguf",
            "folder/model.gguf",
            "opt",
            "",
            "a/b:",
            "a/b:c/d",
            "a/b/c.gguf:Q8_0",
            "b:Q8_0",
        ] {
            let error = place(path).unwrap_err();
            assert!(error.contains("no model at") && error.contains("hint:"), "{path}: {error}");
        }
        assert!(place("~/models").unwrap_err().contains("shell"));
    }

    #[test]
    fn a_path_that_is_not_there_names_nothing() {
        let here = tempfile::tempdir().unwrap();
        let names_nothing = |source: &str| {
            ModelSpec { source: source.to_owned(), revision: DEFAULT_REVISION.to_owned() }.names_nothing()
        };
        let names = ["bundled", "bundled-awq", "owner/name", "owner/name/model.gguf", here.path().to_str().unwrap()];
        assert!(!names.into_iter().any(names_nothing));
        assert!(["./owner/name", "model.gguf", "/no/such/folder", "opt"].into_iter().all(names_nothing));
    }

    #[test]
    fn what_exists_comes_before_the_hub_and_a_near_miss_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("smollm2");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(folder.path().join("tiny.gguf"), b"GGUF").unwrap();
        std::fs::write(model.join("model.safetensors"), b"").unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(place(&at("smollm2")).unwrap(), Place::Folder(model));
        assert_eq!(place(&at("tiny.gguf")).unwrap(), Place::Gguf(folder.path().join("tiny.gguf")));
        let error = place(&at("smolm2")).unwrap_err();
        assert!(error.contains(&format!("did you mean `{}`", at("smollm2"))), "{error}");
        let error = place(&at("smolm2/model.safetensors")).unwrap_err();
        assert!(error.contains(&format!("did you mean `{}`", at("smollm2/model.safetensors"))), "{error}");
        assert!(place(&at("smollm2/model.safetensors")).unwrap_err().contains("holds weights only"));
    }

    #[test]
    fn a_revision_of_what_is_no_hub_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, b"GGUF").unwrap();
        let at = |source: &str| {
            ModelSpec { source: source.to_owned(), revision: "v2".to_owned() }
                .place()
                .map_err(|error| error.to_string())
        };
        assert_eq!(at("owner/name").unwrap(), hub("owner/name", None));
        for (source, kind) in [
            ("bundled", "compiled in"),
            (folder.path().to_str().unwrap(), "a folder here"),
            (file.to_str().unwrap(), "a file here"),
        ] {
            let error = at(source).unwrap_err();
            assert!(
                error.contains(&format!("--revision v2 has no use with the model {source}, which is {kind}\nhint: ")),
                "{error}"
            );
        }
    }
}
