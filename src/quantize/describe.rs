//! The files beside the weights: config with `quantization_config`, generation config, tokenizer, chat template.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Groups, QuantizeError, Scheme, StoredFormat, compressed_tensors};
use crate::checkpoint::pretty;
use crate::engine::model::{ModelSource, Quantization, TensorNames};

/// `modules_to_not_convert` for these blocks: the modules within each that hold its linear layers, or the linear layers themselves where
/// they lie in the block. Programs look for these names in a layer's, or read them as regular expressions: `layers.1.` alone would mean
/// layer 10 too. The output projection is never quantised, and a list of one's own replaces the default that says so.
fn kept_modules(names: &TensorNames, keep: &BTreeSet<usize>) -> Vec<String> {
    let mut modules: Vec<String> = Vec::new();
    for layer in keep {
        let names = names.block(*layer);
        let block = format!("layers.{layer}");
        for linear in names.linears() {
            let parent = linear.rsplit_once('.').map_or(linear, |(parent, _)| parent);
            let module = if parent.ends_with(&block) { linear } else { parent };
            if !modules.iter().any(|known| known == module) {
                modules.push(module.to_owned());
            }
        }
    }
    if !modules.is_empty() {
        modules.push(names.output());
    }
    modules
}

/// `ignore`: the linear layers of these blocks by their names, and the output projection, which is a linear layer too.
fn ignored(names: &TensorNames, keep: &BTreeSet<usize>) -> Vec<String> {
    let linears = |layer: &usize| names.block(*layer).linears().into_iter().map(str::to_owned).collect::<Vec<_>>();
    keep.iter().flat_map(linears).chain([names.output()]).collect()
}

/// The value of `quantization_config` where the blocks in `keep` stay as they are.
pub(super) fn section(format: StoredFormat, scheme: Scheme, names: &TensorNames, keep: &BTreeSet<usize>) -> Value {
    match format {
        StoredFormat::CompressedTensors => compressed_tensors::section(scheme, &ignored(names, keep)),
        StoredFormat::Awq => {
            let group_size = match scheme.groups {
                Groups::Size(size) => Some(size),
                Groups::Channel => None,
            };
            let modules_to_not_convert = kept_modules(names, keep);
            Quantization { group_size, symmetric: scheme.symmetric, modules_to_not_convert }.to_awq_json()
        }
    }
}

/// Names and bytes of every file but the weights; `section` says in config.json how these are quantised.
pub(super) fn files(source: &ModelSource, section: Value) -> Result<Vec<(String, Vec<u8>)>, QuantizeError> {
    let mut files = source.companions()?;
    let config = files.iter_mut().find(|(name, _)| name == "config.json");
    let (_, bytes) = config.ok_or_else(|| {
        QuantizeError::invalid(format!("{} has no config.json", source.name), "report this with the model's name")
    })?;
    let damaged = |error: serde_json::Error| {
        QuantizeError::invalid(format!("config.json of {}: {error}", source.name), "fetch the file again")
    };
    let mut config: Value = serde_json::from_slice(bytes).map_err(damaged)?;
    if config.get("quantization_config").is_some_and(|quantization| !quantization.is_null()) {
        return Err(QuantizeError::invalid(
            format!("{} is quantised already", source.name),
            "quantise the model that it was made from: rounding twice loses twice",
        ));
    }
    // transformers' older and newer name of it; both are read.
    config["torch_dtype"] = json!("float16");
    if config.get("dtype").is_some() {
        config["dtype"] = json!("float16");
    }
    config["quantization_config"] = section;
    *bytes = pretty(&config).map_err(|error| damaged(serde_json::Error::io(error)))?;
    Ok(files)
}
