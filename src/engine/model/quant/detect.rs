//! What a checkpoint says of its own quantisation, in config.json or in the older files beside it.

use serde_json::{Map, Value};

use super::section::{damaged, method, other_layout};
use super::unpacked::UnpackedFormat;
use super::{Quantization, UNPACKED, WeightFormat};
use crate::EngineError;
use crate::model::files::ModelFiles;

/// Where checkpoints said it before config.json had a place for it.
pub(in crate::model) const OLDER_FILES: [&str; 3] =
    ["quant_config.json", "quantize_config.json", "hf_quant_config.json"];

/// A checkpoint's format, and what its files say of it.
pub(in crate::model) enum Detected {
    /// Engines compute from the packed layers.
    Packed(WeightFormat, Quantization),
    /// The layers are unpacked as they are read; with the section that says how.
    Unpacked(&'static UnpackedFormat, Map<String, Value>),
}

/// The quantisation of a folder whose config.json is `config`; `None` means full precision. A format that is not read is
/// refused by its name.
pub(in crate::model) fn read(files: &ModelFiles, config: &Value) -> Result<Option<Detected>, EngineError> {
    if let Some(found) = of_config_json(config, &format!("config.json of {}", files.place))? {
        return Ok(Some(found));
    }
    for name in OLDER_FILES {
        if let Some(json) = files.json(name)? {
            return parse(&json, &format!("{name} of {}", files.place)).map(Some);
        }
    }
    Ok(None)
}

/// What config.json alone says.
pub(in crate::model) fn of_config_json(config: &Value, file: &str) -> Result<Option<Detected>, EngineError> {
    match (config.get("quantization_config"), config.get("compression_config")) {
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(None),
        (None | Some(Value::Null), Some(section)) => {
            let section = section.as_object().ok_or_else(|| damaged(file, "the quantisation", section))?;
            unpacked(section, file, super::compressed_tensors::FORMAT.method)
        }
        (Some(section), _) => parse(section, file).map(Some),
    }
}

fn parse(section: &Value, file: &str) -> Result<Detected, EngineError> {
    let section = section.as_object().ok_or_else(|| damaged(file, "the quantisation", section))?;
    let method = method(section);
    for format in WeightFormat::ALL {
        if let Some(checkpoint) = format.checkpoint().filter(|checkpoint| checkpoint.method == method) {
            return Ok(Detected::Packed(*format, (checkpoint.parse)(section, file)?));
        }
    }
    unpacked(section, file, method)?.ok_or_else(|| unknown(file, method))
}

fn unpacked(section: &Map<String, Value>, file: &str, method: &str) -> Result<Option<Detected>, EngineError> {
    let Some(format) = UNPACKED.into_iter().find(|format| format.method == method) else { return Ok(None) };
    (format.check)(section, file)?;
    Ok(Some(Detected::Unpacked(format, section.clone())))
}

fn unknown(file: &str, layout: &str) -> EngineError {
    let formats = WeightFormat::ALL.iter().filter_map(|format| format.checkpoint());
    let reads = formats.map(|checkpoint| checkpoint.reads).chain(UNPACKED.map(|format| format.reads));
    other_layout(file, layout, &reads.collect::<Vec<_>>().join("; "))
}
