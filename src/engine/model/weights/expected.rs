//! The tensors that a configuration calls for, held against those that the files have.

use std::collections::BTreeMap;

use crate::EngineError;
use crate::model::ModelConfig;
use crate::model::names::TensorNames;

/// Refuses weights that lack a tensor of the model or have one in another shape; `place` names the files.
pub(in crate::model) fn check(
    config: &ModelConfig,
    shapes: &BTreeMap<String, Vec<usize>>,
    place: &str,
) -> Result<(), EngineError> {
    let present: Vec<String> = shapes.keys().cloned().collect();
    let check_one = |(name, shape): (String, Vec<usize>)| match shapes.get(&name) {
        None => Err(missing(&name, &shape, &present, config, place)),
        Some(found) if *found != shape => Err(EngineError::invalid(
            format!("tensor `{name}` in {place} has shape {found:?}, but the config calls for {shape:?}"),
            "take the weights and config.json from one repository and one revision",
        )),
        Some(_) => Ok(()),
    };
    TensorNames::new(config, &present).tensors(config).try_for_each(check_one)
}

/// Parts of a packed linear layer, and what writes them.
const PACKED: [(&str, &str); 8] = [
    ("qweight", "AWQ or GPTQ"),
    ("weight_packed", "compressed-tensors"),
    ("weight_scale_inv", "FP8"),
    ("weight_scale", "FP8 or int8"),
    ("SCB", "bitsandbytes"),
    ("weight.absmax", "bitsandbytes"),
    ("blocks", "MXFP4"),
    ("trellis", "EXL3"),
];

/// A tensor that is not there, with what the names of those that are say of the reason.
fn missing(name: &str, shape: &[usize], present: &[String], config: &ModelConfig, place: &str) -> EngineError {
    let what = format!("no tensor `{name}` in {place}");
    if let Some(prefix) = prefix(name, present) {
        let hint = match prefix {
            "_orig_mod." => {
                "torch.compile puts it there: save `model._orig_mod` in place of `model`, or take it off the names"
            }
            "module." => {
                "torch.nn.DataParallel puts it there: save `model.module` in place of `model`, or take it off the names"
            }
            _ => "take the prefix off the names, or save the language model alone",
        };
        return EngineError::invalid(format!("{what}: every name of a tensor begins with `{prefix}` there"), hint);
    }
    if let Some(adapter) = present.iter().find(|name| name.contains(".lora_A.") || name.contains("lora_embedding")) {
        return EngineError::invalid(
            format!("{what}: the weights are an adapter (`{adapter}`), not a model"),
            "merge it into its base model: peft's `merge_and_unload`, then save that",
        );
    }
    let layer = name.strip_suffix(".weight").unwrap_or(name);
    let packed = PACKED.iter().find(|(part, _)| present.iter().any(|name| *name == format!("{layer}.{part}")));
    if let Some((part, writer)) = packed {
        return EngineError::invalid(
            format!(
                "{what}: the layer is packed (`{layer}.{part}`, as {writer} has it), and config.json does not say how"
            ),
            "take config.json with its `quantization_config` from the repository of the quantised weights",
        );
    }
    EngineError::invalid(
        format!("{what}: a {} model needs one of shape {shape:?}", config.family),
        "fetch the weights again, and take them and config.json from one repository",
    )
}

/// What stands in front of every name, the one that is missed among them.
fn prefix<'a>(name: &str, present: &'a [String]) -> Option<&'a str> {
    let ends = |found: &&String| found.strip_suffix(name).is_some_and(|front| front.ends_with('.'));
    let found = present.iter().find(ends)?;
    let prefix = found.strip_suffix(name)?;
    present.iter().all(|name| name.starts_with(prefix)).then_some(prefix)
}
