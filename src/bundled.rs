//! What is compiled into the program: the bundled model, problem set, protocols and templates.

/// The name that stands for the bundled model and the bundled problem set.
pub const NAME: &str = "bundled";

/// A file of the bundled model, by its name in the model folder (`config.json`, `model.safetensors`, …).
pub fn model_file(name: &str) -> Option<&'static [u8]> {
    MODEL.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}

/// Every file of the bundled model with its name.
pub fn model_files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    MODEL.iter().copied()
}

const MODEL: &[(&str, &[u8])] = &[];

/// The bundled problem set's parquet file of a split.
pub fn dataset_file(split: &str) -> Option<&'static [u8]> {
    let _ = split;
    None
}

/// The protocols under `prompts/protocols/`, as (name, TOML text).
pub const PROTOCOLS: &[(&str, &str)] = &[];

/// The templates under `templates/`, as (file name, text).
pub const TEMPLATES: &[(&str, &str)] = &[];
