//! Whether two checkpoints are of one model: the same shape, and a tokenizer of the same tokens.

use serde_json::Value;

use super::{ModelConfig, ModelSource};
use crate::EngineError;

/// Between numbers of two configurations: a GGUF file keeps in binary32 what config.json writes in decimal.
const ROUNDING: f64 = 1e-6;

impl ModelSource {
    /// What shows that another checkpoint is of another model, in words; `None` where nothing does. How weights are
    /// stored does not count.
    pub fn difference(&self, other: &Self) -> Option<String> {
        first_difference(&self.config, &other.config).or_else(|| {
            let vocabulary = |source: &Self| source.tokenizer.tokenizer.get_vocab(true);
            (vocabulary(self) != vocabulary(other)).then(|| "the tokenizers have different tokens".to_owned())
        })
    }
}

impl ModelConfig {
    /// Refuses a layer that this model has not, or one of a checkpoint of another shape.
    pub(crate) fn check_layer(&self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        if let Some(different) = first_difference(self, &source.config) {
            return Err(EngineError::invalid(
                format!("{} is another model: {different}", source.name),
                "name a checkpoint of the same model",
            ));
        }
        if layer >= self.layers {
            return Err(EngineError::invalid(
                format!("layer {layer} of {} is not there: it has {}", source.name, self.layers),
                "layers are counted from 0",
            ));
        }
        Ok(())
    }
}

/// The first field in which two configurations differ, in words.
fn first_difference(model: &ModelConfig, form: &ModelConfig) -> Option<String> {
    let (Ok(Value::Object(model)), Ok(Value::Object(form))) = (serde_json::to_value(model), serde_json::to_value(form))
    else {
        return None;
    };
    // A key that stands in one of them alone is a difference as well.
    let of = |config: &serde_json::Map<String, Value>, key: &String| config.get(key).cloned().unwrap_or_default();
    let key = model.keys().chain(form.keys()).find(|key| !same(&of(&model, key), &of(&form, key)))?;
    Some(format!("`{key}` is {} in the one and {} in the other", of(&model, key), of(&form, key)))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= ROUNDING * a.abs()
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Features};

    /// Once, only the first one's keys were looked at: a plain model was the same as one with features, but not the other way round.
    #[test]
    fn what_stands_in_one_configuration_alone_is_a_difference() {
        let plain = ModelConfig::example(Family::Qwen2).unwrap();
        let features = Features { attention_cap: Some(30.0), ..Features::default() };
        let other = ModelConfig { features, ..plain.clone() };
        assert!(first_difference(&plain, &plain).is_none() && first_difference(&other, &other).is_none());
        assert!(first_difference(&plain, &other).unwrap().contains("features"));
        assert!(first_difference(&other, &plain).unwrap().contains("features"));
    }
}
