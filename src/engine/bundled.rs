//! The model that is compiled into the program, and its AWQ form.

/// The name that stands for the bundled model and the bundled problem set.
pub const NAME: &str = "bundled";

/// The name that stands for the bundled model's AWQ form.
pub const AWQ_NAME: &str = "bundled-awq";

/// A file of the bundled model, by its name in the model folder (`config.json`, `model.safetensors`, …).
pub fn model_file(name: &str) -> Option<&'static [u8]> {
    MODEL.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}

/// Every file of the bundled model with its name.
pub fn model_files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    MODEL.iter().copied()
}

const MODEL: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("models/bundled/config.json")),
    ("generation_config.json", include_bytes!("models/bundled/generation_config.json")),
    ("model.safetensors", include_bytes!("models/bundled/model.safetensors")),
    ("tokenizer.json", include_bytes!("models/bundled/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("models/bundled/tokenizer_config.json")),
];

/// Every file of the bundled model's AWQ form with its name; none where this build holds none.
pub fn awq_model_files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    AWQ_MODEL.iter().copied()
}

const AWQ_MODEL: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("models/bundled-awq/config.json")),
    ("generation_config.json", include_bytes!("models/bundled-awq/generation_config.json")),
    ("model.safetensors", include_bytes!("models/bundled-awq/model.safetensors")),
    ("tokenizer.json", include_bytes!("models/bundled-awq/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("models/bundled-awq/tokenizer_config.json")),
];
