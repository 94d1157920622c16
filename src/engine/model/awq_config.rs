//! What a checkpoint says of its own quantisation, in config.json or in the older files beside it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::files::ModelFiles;
use crate::engine::EngineError;

/// Where checkpoints said it before config.json had a place for it.
pub(super) const OLDER_FILES: [&str; 2] = ["quant_config.json", "quantize_config.json"];

/// The only layout that is read.
const LAYOUT: &str = "gemm";

/// transformers' value where a checkpoint names none.
const DEFAULT_GROUP_SIZE: i64 = 128;

/// The `quantization_config` of an AWQ checkpoint in the GEMM layout: four bits, with zero points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwqConfig {
    /// Inputs that share a scale; `None` (in files −1) means all of a layer's.
    pub group_size: Option<usize>,
    /// Parts of the names of linear layers that are left as they are. The tensors themselves decide which.
    pub modules_to_not_convert: Vec<String>,
}

impl AwqConfig {
    /// The group of a layer with this many inputs.
    pub fn group_of(&self, inputs: usize) -> usize {
        self.group_size.unwrap_or(inputs)
    }

    /// The value of `quantization_config` in config.json.
    pub fn to_json(&self) -> Value {
        let kept = &self.modules_to_not_convert;
        json!({
            "quant_method": "awq",
            "bits": 4,
            "group_size": self.group_size.map_or(Value::from(-1), Value::from),
            "zero_point": true,
            "version": LAYOUT,
            "modules_to_not_convert": if kept.is_empty() { Value::Null } else { Value::from(kept.clone()) },
        })
    }

    /// `awq-int4 (group 64)`.
    pub(super) fn in_words(&self) -> String {
        match self.group_size {
            Some(group) => format!("awq-int4 (group {group})"),
            None => "awq-int4 (one group a row)".to_owned(),
        }
    }

    /// The quantisation of a folder whose config.json is `config`; `None` means full precision. Anything but AWQ in the
    /// layout that is read is refused by its name.
    pub(super) fn read(files: &ModelFiles, config: &Value) -> Result<Option<Self>, EngineError> {
        if let Some(found) = Self::of_config_json(config, &format!("config.json of {}", files.place))? {
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
    pub(super) fn of_config_json(config: &Value, file: &str) -> Result<Option<Self>, EngineError> {
        match (config.get("quantization_config"), config.get("compression_config")) {
            (None | Some(Value::Null), None | Some(Value::Null)) => Ok(None),
            (None | Some(Value::Null), Some(_)) => Err(other_layout(file, "compressed-tensors")),
            (Some(section), _) => parse(section, file).map(Some),
        }
    }
}

fn parse(section: &Value, file: &str) -> Result<AwqConfig, EngineError> {
    let section = section.as_object().ok_or_else(|| damaged(file, "the quantisation", section))?;
    let method = method(section);
    if method != "awq" {
        return Err(other_layout(file, method));
    }
    if section.get("backend").and_then(Value::as_str) == Some("llm-awq") {
        return Err(other_layout(file, "llm-awq"));
    }
    let version = text(section, "version", file)?.unwrap_or(LAYOUT).to_lowercase();
    if version != LAYOUT {
        return Err(other_layout(file, &format!("awq, {version}")));
    }
    let bits = whole_number(section, ["bits", "w_bit"], file)?.unwrap_or(4);
    if bits != 4 {
        return Err(other_layout(file, &format!("awq, {bits} bits")));
    }
    match section.get("zero_point") {
        None | Some(Value::Null | Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(other_layout(file, "awq, without zero points")),
        Some(other) => return Err(damaged(file, "`zero_point`", other)),
    }
    let group_size = match whole_number(section, ["group_size", "q_group_size"], file)?.unwrap_or(DEFAULT_GROUP_SIZE) {
        -1 => None,
        size => Some(
            usize::try_from(size)
                .ok()
                .filter(|size| *size > 0)
                .ok_or_else(|| damaged(file, "`group_size`", &size.into()))?,
        ),
    };
    let modules_to_not_convert = match section.get("modules_to_not_convert") {
        None | Some(Value::Null) => Vec::new(),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|_| damaged(file, "`modules_to_not_convert` (a list of names)", names))?,
    };
    Ok(AwqConfig { group_size, modules_to_not_convert })
}

/// The method that a section names, or that its keys give away.
fn method(section: &Map<String, Value>) -> &str {
    let has = |keys: &[&str]| keys.iter().any(|key| section.contains_key(*key));
    match section.get("quant_method").and_then(Value::as_str) {
        Some(method) => method,
        None if has(&["desc_act", "damp_percent"]) => "gptq",
        None if has(&["w_bit", "q_group_size", "zero_point"]) => "awq",
        None if has(&["load_in_8bit", "load_in_4bit"]) => "bitsandbytes",
        None => "unnamed",
    }
}

fn text<'a>(section: &'a Map<String, Value>, key: &str, file: &str) -> Result<Option<&'a str>, EngineError> {
    match section.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(damaged(file, &format!("`{key}`"), other)),
    }
}

/// The value of the first of these keys that is there.
fn whole_number(section: &Map<String, Value>, keys: [&str; 2], file: &str) -> Result<Option<i64>, EngineError> {
    let found = keys.into_iter().find_map(|key| Some((key, section.get(key).filter(|value| !value.is_null())?)));
    let Some((key, value)) = found else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| damaged(file, &format!("`{key}`"), value))
}

fn damaged(file: &str, what: &str, value: &Value) -> EngineError {
    EngineError::invalid(
        format!("{file}: {what} cannot be {value}"),
        "fetch the file again, or compare it with the one that the model was published with",
    )
}

fn other_layout(file: &str, layout: &str) -> EngineError {
    EngineError::invalid(
        format!("{file}: the weights are quantised in the layout `{layout}`, which is not read"),
        "AutoAWQ's gemm layout of four bits with zero points is read: look for such a checkpoint, or make one of the \
         full-precision model by `evalsuite quantize --model MODEL --out DIR`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &Value) -> Result<Option<AwqConfig>, String> {
        AwqConfig::of_config_json(config, "config.json").map_err(|error| error.to_string())
    }

    fn awq(changes: &Value) -> Result<AwqConfig, String> {
        let mut section = json!({
            "quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": true, "version": "gemm",
            "modules_to_not_convert": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            section[key] = value.clone();
        }
        of(&json!({"quantization_config": section})).map(Option::unwrap)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for config in [
            AwqConfig { group_size: Some(32), modules_to_not_convert: Vec::new() },
            AwqConfig { group_size: None, modules_to_not_convert: vec!["v_proj".to_owned()] },
        ] {
            assert_eq!(of(&json!({"quantization_config": config.to_json()})), Ok(Some(config)));
        }
        assert_eq!(of(&json!({})), Ok(None));
        assert_eq!(of(&json!({"quantization_config": null})), Ok(None));
    }

    #[test]
    fn both_spellings_and_their_defaults() {
        assert_eq!(awq(&json!({})).unwrap().group_size, Some(64));
        assert_eq!(awq(&json!({"version": "GEMM", "group_size": -1})).unwrap().group_size, None);
        assert_eq!(awq(&json!({"group_size": null, "version": null, "bits": null})).unwrap().group_size, Some(128));
        let kept = awq(&json!({"modules_to_not_convert": ["lm_head", "mlp"]})).unwrap();
        assert_eq!(kept.modules_to_not_convert, ["lm_head", "mlp"]);
        let older = json!({"zero_point": true, "q_group_size": 32, "w_bit": 4, "version": "GEMM"});
        assert_eq!(parse(&older, "quant_config.json").unwrap().group_size, Some(32));
        assert_eq!(awq(&json!({})).unwrap().in_words(), "awq-int4 (group 64)");
    }

    #[test]
    fn other_layouts_are_refused_by_name() {
        let layouts = [
            (json!({"version": "gemv"}), "`awq, gemv`"),
            (json!({"version": "gemv_fast"}), "`awq, gemv_fast`"),
            (json!({"version": "marlin"}), "`awq, marlin`"),
            (json!({"bits": 3}), "`awq, 3 bits`"),
            (json!({"zero_point": false}), "`awq, without zero points`"),
            (json!({"backend": "llm-awq"}), "`llm-awq`"),
            (json!({"quant_method": "gptq"}), "`gptq`"),
            (json!({"quant_method": "compressed-tensors"}), "`compressed-tensors`"),
            (json!({"quant_method": "fp8"}), "`fp8`"),
        ];
        for (changes, layout) in layouts {
            let error = awq(&changes).unwrap_err();
            assert!(error.contains(&format!("layout {layout}")) && error.contains("hint:"), "{error}");
        }
        let older = json!({"bits": 4, "group_size": 128, "desc_act": false});
        assert!(parse(&older, "quantize_config.json").unwrap_err().to_string().contains("layout `gptq`"));
        assert!(of(&json!({"compression_config": {}})).unwrap_err().contains("`compressed-tensors`"));
        assert!(of(&json!({"quantization_config": {"load_in_8bit": true}})).unwrap_err().contains("`bitsandbytes`"));
    }

    #[test]
    fn damaged_sections_are_refused() {
        for changes in [
            json!({"group_size": 0}),
            json!({"group_size": -2}),
            json!({"group_size": "64"}),
            json!({"bits": 4.5}),
            json!({"zero_point": "yes"}),
            json!({"version": 2}),
            json!({"modules_to_not_convert": "lm_head"}),
        ] {
            let error = awq(&changes).unwrap_err();
            assert!(error.contains("cannot be") && error.contains("hint:"), "{changes}: {error}");
        }
        assert!(of(&json!({"quantization_config": 4})).unwrap_err().contains("cannot be 4"));
    }
}
