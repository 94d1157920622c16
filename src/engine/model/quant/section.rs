//! Typed access to the section of a checkpoint's files that says how it is quantised.

use serde_json::{Map, Value};

use crate::EngineError;

/// The method that a section names, or that its keys give away.
pub(super) fn method(section: &Map<String, Value>) -> &str {
    let has = |keys: &[&str]| keys.iter().any(|key| section.contains_key(*key));
    match section.get("quant_method").and_then(Value::as_str) {
        Some(method) => method,
        None if has(&["desc_act", "damp_percent"]) => "gptq",
        None if has(&["w_bit", "q_group_size", "zero_point"]) => "awq",
        None if has(&["quant_algo", "producer"]) => "modelopt",
        None if has(&["config_groups"]) => "compressed-tensors",
        None if has(&["load_in_8bit", "load_in_4bit"]) => "bitsandbytes",
        None => "unnamed",
    }
}

/// A string.
pub(super) fn text<'a>(section: &'a Map<String, Value>, key: &str, file: &str) -> Result<Option<&'a str>, EngineError> {
    match section.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(damaged(file, &format!("`{key}`"), other)),
    }
}

/// The value of the first of these keys that is there.
pub(super) fn whole_number(
    section: &Map<String, Value>,
    keys: [&str; 2],
    file: &str,
) -> Result<Option<i64>, EngineError> {
    let found = keys.into_iter().find_map(|key| Some((key, section.get(key).filter(|value| !value.is_null())?)));
    let Some((key, value)) = found else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| damaged(file, &format!("`{key}`"), value))
}

/// Inputs that share a scale; `None` (in files −1) means all of a layer's. `default` is what files mean that name none.
pub(super) fn group_size(section: &Map<String, Value>, default: i64, file: &str) -> Result<Option<usize>, EngineError> {
    match whole_number(section, ["group_size", "q_group_size"], file)?.unwrap_or(default) {
        -1 => Ok(None),
        size => match usize::try_from(size) {
            Ok(size) if size > 0 => Ok(Some(size)),
            _ => Err(damaged(file, "`group_size`", &size.into())),
        },
    }
}

/// A value that cannot be.
pub(super) fn damaged(file: &str, what: &str, value: &Value) -> EngineError {
    EngineError::invalid(
        format!("{file}: {what} cannot be {value}"),
        "fetch the file again, or compare it with the one that the model was published with",
    )
}

/// A layout that no format reads; `reads` says what is read.
pub(super) fn other_layout(file: &str, layout: &str, reads: &str) -> EngineError {
    EngineError::invalid(
        format!("{file}: the weights are quantised in the layout `{layout}`, which is not read"),
        format!(
            "{reads} is read: look for such a checkpoint, or make one of the full-precision model by `evalsuite quantize \
             --model MODEL --out DIR`"
        ),
    )
}
