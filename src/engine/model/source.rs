//! Where a model comes from: the program itself, a folder, a GGUF file, the hub.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::files::{ModelFiles, read_failure};
use super::fused;
use super::gguf::{self, OpenedGguf};
use super::hub_gguf::HubGguf;
use super::quant::{self, Detected, PackedTensors, Quantization, WeightFormat};
use super::spec::{self, Place};
use super::stacked;
use super::weights::{self, GgufTensors, OpenedWeights, PickleTensors, SafetensorsFiles, WeightFiles};
use super::{FileHash, ModelConfig, ModelSpec, ModelTokenizer, Tensors, tokenizer_files};
use crate::EngineError;
use crate::bundled;
use crate::fault::Fault;
use crate::hub::{Hub, HubError, RepositoryKind};

/// A model's files, read as far as every precision shares them. Weights stay on disk until an engine asks for them.
pub struct ModelSource {
    /// A short name for tables: the hub id, the folder's or file's name, `bundled`.
    pub name: String,
    /// `bundled`, the absolute path, or the hub address with the commit.
    pub source: String,
    /// Over every file that decides an answer: SHA-256 of the sorted lines `{sha256}  {file name}`.
    pub sha256: FileHash,
    /// What the files' tensors were stored in, for the table: `f32`, `bf16`, `Q4_K_M`, `awq-int4 (group 64)`, …
    pub stored_as: String,
    /// Bytes of all tensors in the files.
    pub weight_bytes: u64,
    /// The format of the files' linear layers.
    pub format: WeightFormat,
    /// How they are packed, where they are. The tensors also read as dense ones.
    pub quantization: Option<Quantization>,
    /// Shape of the model.
    pub config: ModelConfig,
    /// Tokenizer.
    pub tokenizer: Arc<ModelTokenizer>,
    /// The weights by Hugging Face names.
    pub tensors: Box<dyn Tensors>,
    /// The files of a folder or a repository; none where a GGUF file holds everything.
    pub files: Option<ModelFiles>,
}

impl std::fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelSource")
            .field("source", &self.source)
            .field("stored_as", &self.stored_as)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ModelSource {
    /// Whether the files hold fewer bits than any model is trained in, so that even f32 computes from rounded weights.
    pub fn is_quantized(&self) -> bool {
        !matches!(self.stored_as.as_str(), "f64" | "f32" | "f16" | "bf16")
    }

    /// Finds, checks and opens a model. Nothing large is read but for the hashes, and those on other threads; afterwards every tensor that
    /// the configuration calls for is known to be there, whole, and of the right shape.
    pub fn open(spec: &ModelSpec, hub: &Hub) -> Result<Self, EngineError> {
        match spec.place()? {
            Place::Bundled => {
                let files = ModelFiles::bundled();
                open_files(&files, bundled::NAME.to_owned(), bundled::NAME.to_owned())
            }
            Place::BundledAwq => {
                let name = bundled::AWQ_NAME.to_owned();
                open_files(&ModelFiles::bundled_awq(), name.clone(), name)
            }
            Place::Folder(path) => {
                let absolute = absolute(&path)?;
                open_files(&ModelFiles::folder(&path)?, short_name(&absolute), absolute.display().to_string())
            }
            Place::Gguf(path) => {
                let absolute = absolute(&path)?;
                let name = short_name(&absolute);
                open_gguf(&path, name, absolute.display().to_string())
            }
            Place::Hub { repository, gguf } => {
                open_hub(&repository, gguf.as_ref(), &spec.revision, hub).map_err(|error| local_hint(error, spec))
            }
        }
    }
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, EngineError> {
    std::fs::canonicalize(path).map_err(|source| read_failure(path, source))
}

/// `SmolLM2-135M-Instruct.Q4_1` of `…/SmolLM2-135M-Instruct.Q4_1.gguf`.
fn short_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

/// A mistyped path such as `models/smolm2` looks like a hub id; when the hub does not know it, say what lies near.
fn local_hint(error: EngineError, spec: &ModelSpec) -> EngineError {
    match (error, spec::near_miss(Path::new(&spec.source))) {
        (EngineError::Hub(HubError(Fault { what, hint })), Some(near)) if near.is_dir() => {
            HubError::new(what, format!("{hint}; or did you mean the folder `{}`?", near.display())).into()
        }
        (error, _) => error,
    }
}

/// Opens a model whose files have the names that transformers gives them.
fn open_files(files: &ModelFiles, name: String, source: String) -> Result<ModelSource, EngineError> {
    let config_file = files.json("config.json")?.ok_or_else(|| no_config(files))?;
    let config = ModelConfig::from_json(&config_file, &format!("config.json of {}", files.place))?;
    let detected = quant::read(files, &config_file)?;
    let is_quantized = detected.is_some();
    let mut tokenizer = tokenizer_files::read(files, &config_file, &config.family.entry().tokenizer)?;
    tokenizer.check_against(config.vocabulary, &files.place)?;

    let choice = weights::choose(&files.names().collect::<Vec<_>>(), &files.place)?;
    let shards = choice.shards(files)?;
    let opened = match choice {
        WeightFiles::Safetensors(entry) | WeightFiles::SafetensorsIndex(entry) => {
            SafetensorsFiles::open(files, &shards, entry)?
        }
        WeightFiles::Pickle(entry) | WeightFiles::PickleIndex(entry) => PickleTensors::open(files, &shards, entry)?,
    };
    let (format, quantization, opened) = match detected {
        None => (WeightFormat::Dense, None, opened),
        Some(Detected::Unpacked(unpacked, section)) => {
            let opened = quant::open_unpacked(unpacked, &section, opened, &files.place)?;
            (WeightFormat::Dense, None, opened)
        }
        Some(Detected::Packed(format, found)) => {
            fused::refuse_packed(&config, format, &files.place)?;
            let opened = match format.checkpoint() {
                Some(checkpoint) => PackedTensors::open(opened, checkpoint, &found, &files.place)?,
                None => opened,
            };
            (format, Some(found), opened)
        }
    };
    let opened = stacked::open(&config, opened);
    let OpenedWeights { tensors, shapes, stored_as, bytes } = fused::open(&config, opened, &files.place)?;
    weights::check(&config, &shapes, &files.place)?;

    let mut deciding = shards;
    deciding.extend([choice.entry(), "config.json"].map(str::to_owned));
    if is_quantized {
        deciding.extend(quant::OLDER_FILES.map(str::to_owned));
    }
    deciding.extend(tokenizer_files::deciding(files)?.into_iter().map(str::to_owned));
    let sha256 = files.hash_all(deciding, None);
    let files = Some(files.clone());
    Ok(ModelSource {
        name,
        source,
        sha256,
        stored_as,
        weight_bytes: bytes,
        format,
        quantization,
        config,
        tokenizer: Arc::new(tokenizer),
        tensors,
        files,
    })
}

fn no_config(files: &ModelFiles) -> EngineError {
    let hint = match files.names().find(|name| name.to_lowercase().ends_with(".gguf")) {
        Some(gguf) => format!("there is a GGUF file, `{gguf}`: give its own path"),
        None => "a model folder holds config.json, tokenizer.json and model.safetensors".to_owned(),
    };
    EngineError::invalid(format!("no config.json in {}", files.place), hint)
}

fn open_gguf(path: &Path, name: String, source: String) -> Result<ModelSource, EngineError> {
    let OpenedGguf { header, blobs, paths } = gguf::open(path)?;
    let config = gguf::model_config(&header, &blobs)?;
    let place = path.display().to_string();
    let files = ModelFiles::of(place.clone(), paths.into_iter());
    let names: Vec<String> = files.names().map(str::to_owned).collect();
    let first = header.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let of_first = files.hash(&first);
    let mut tokenizer = gguf::model_tokenizer(&header, config.family, &of_first)?;
    tokenizer.check_against(config.vocabulary, &place)?;
    let OpenedWeights { tensors, shapes, stored_as, bytes } = GgufTensors::open(blobs, header, &config);
    weights::check(&config, &shapes, &place)?;
    let sha256 = files.hash_all(names, Some((first, of_first)));
    let tokenizer = Arc::new(tokenizer);
    let format = WeightFormat::Dense;
    Ok(ModelSource {
        name,
        source,
        sha256,
        stored_as,
        weight_bytes: bytes,
        format,
        quantization: None,
        config,
        tokenizer,
        tensors,
        files: None,
    })
}

/// Fetches the files that are needed, and only those, all of one commit.
fn open_hub(repository: &str, gguf: Option<&HubGguf>, revision: &str, hub: &Hub) -> Result<ModelSource, EngineError> {
    let kind = RepositoryKind::Model;
    let commit = hub.commit(kind, repository, revision)?;
    let address = format!("{}/{repository}/tree/{commit}", hub.settings().endpoint);
    let fetch = |file: &str| hub.file(kind, repository, &commit, file).map(|file| file.path);
    if let Some(gguf) = gguf {
        let file = &match gguf {
            HubGguf::File(file) => file.clone(),
            HubGguf::Label(_) => gguf.find(repository, &hub.list(kind, repository, &commit)?)?,
        };
        let path = fetch(file)?;
        let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        for part in gguf::split_names(&path)? {
            fetch(&format!("{folder}{part}"))?;
        }
        return open_gguf(&path, short_name(Path::new(file)), format!("{address}/{file}"));
    }
    let listed = hub.list(kind, repository, &commit)?;
    let names: Vec<&str> = listed.iter().map(String::as_str).filter(|name| !name.contains('/')).collect();
    let place = format!("{repository} on the hub");
    let choice = weights::choose(&names, &place)?;

    let mut wanted = vec!["config.json"];
    wanted.extend(quant::OLDER_FILES);
    wanted.extend(tokenizer_files::SURROUNDING_FILES);
    wanted.extend(tokenizer_files::choose(names.iter().copied()));
    wanted.retain(|name| names.contains(name));
    wanted.push(choice.entry());
    let mut paths = Vec::new();
    for name in wanted {
        paths.push(fetch(name)?);
        // What can be refused by its config alone is refused before gigabytes are fetched.
        if name == "config.json" {
            let files = ModelFiles::of(place.clone(), paths.iter().cloned());
            let (config, file) = (files.json(name)?.unwrap_or(Value::Null), format!("config.json of {place}"));
            ModelConfig::from_json(&config, &file)?;
            quant::of_config_json(&config, &file)?;
        }
    }
    if choice.is_index() {
        let files = ModelFiles::of(place.clone(), paths.iter().cloned());
        for shard in weights::shards(&files, choice.entry())? {
            paths.push(fetch(&shard)?);
        }
    }
    open_files(&ModelFiles::of(place, paths.into_iter()), repository.to_owned(), address)
}
