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
        None => Err(EngineError::invalid(
            format!("no tensor `{name}` in {place}: a {} model needs one of shape {shape:?}", config.family),
            "fetch the weights again, and take them and config.json from one repository",
        )),
        Some(found) if *found != shape => Err(EngineError::invalid(
            format!("tensor `{name}` in {place} has shape {found:?}, but the config calls for {shape:?}"),
            "take the weights and config.json from one repository and one revision",
        )),
        Some(_) => Ok(()),
    };
    TensorNames::new(config, &present).tensors(config).try_for_each(check_one)
}
