//! What is compiled into the program: the bundled model, problem set, protocols and templates.

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
    ("config.json", include_bytes!("../models/bundled/config.json")),
    ("generation_config.json", include_bytes!("../models/bundled/generation_config.json")),
    ("model.safetensors", include_bytes!("../models/bundled/model.safetensors")),
    ("tokenizer.json", include_bytes!("../models/bundled/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../models/bundled/tokenizer_config.json")),
];

/// Every file of the bundled model's AWQ form with its name; none where this build holds none.
pub fn awq_model_files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    AWQ_MODEL.iter().copied()
}

const AWQ_MODEL: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../models/bundled-awq/config.json")),
    ("generation_config.json", include_bytes!("../models/bundled-awq/generation_config.json")),
    ("model.safetensors", include_bytes!("../models/bundled-awq/model.safetensors")),
    ("tokenizer.json", include_bytes!("../models/bundled-awq/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../models/bundled-awq/tokenizer_config.json")),
];

/// The bundled problem set's parquet file of a split.
pub fn dataset_file(split: &str) -> Option<&'static [u8]> {
    match split {
        "test" => Some(include_bytes!("../datasets/bundled/test.parquet")),
        "train" => Some(include_bytes!("../datasets/bundled/train.parquet")),
        _ => None,
    }
}

/// The protocols under `prompts/protocols/`, as (name, TOML text).
pub const PROTOCOLS: &[(&str, &str)] = &[
    ("stepwise", include_str!("../prompts/protocols/stepwise.toml")),
    ("direct", include_str!("../prompts/protocols/direct.toml")),
    ("gsm8k", include_str!("../prompts/protocols/gsm8k.toml")),
    ("gsm8k-cot", include_str!("../prompts/protocols/gsm8k-cot.toml")),
    ("gsm8k-cot-zeroshot", include_str!("../prompts/protocols/gsm8k-cot-zeroshot.toml")),
    ("gsm8k-cot-llama", include_str!("../prompts/protocols/gsm8k-cot-llama.toml")),
    ("boxed", include_str!("../prompts/protocols/boxed.toml")),
];

/// The tasks under `datasets/tasks/`, as (name, TOML text).
pub const TASKS: &[(&str, &str)] = &[
    ("gsm8k", include_str!("../datasets/tasks/gsm8k.toml")),
    ("gsm8k-platinum", include_str!("../datasets/tasks/gsm8k-platinum.toml")),
    ("svamp", include_str!("../datasets/tasks/svamp.toml")),
    ("mgsm", include_str!("../datasets/tasks/mgsm.toml")),
    ("math-500", include_str!("../datasets/tasks/math-500.toml")),
];

/// A protocol file with every key and what it does: what `evalsuite protocol new` writes.
pub const PROTOCOL_TEMPLATE: &str = include_str!("../prompts/protocol-template.toml");

/// The built-in quality set.
pub const QUALITY: &str = include_str!("../prompts/quality/quality.toml");

/// `datasets/sources.toml`: what is fetched from the hub, and its hashes.
pub const SOURCES: &str = include_str!("../datasets/sources.toml");

/// The templates under `templates/`, as (file name, text).
pub const TEMPLATES: &[(&str, &str)] = &[
    ("bench.txt", include_str!("../templates/bench.txt")),
    ("bench.md", include_str!("../templates/bench.md")),
    ("bench.json", include_str!("../templates/bench.json")),
    ("eval.txt", include_str!("../templates/eval.txt")),
    ("eval.md", include_str!("../templates/eval.md")),
    ("eval.json", include_str!("../templates/eval.json")),
    ("report.txt", include_str!("../templates/report.txt")),
    ("report.md", include_str!("../templates/report.md")),
    ("report.html", include_str!("../templates/report.html")),
    ("report.css", include_str!("../templates/report.css")),
    ("charts.js", include_str!("../templates/charts.js")),
    ("report.js", include_str!("../templates/report.js")),
    ("perplexity.txt", include_str!("../templates/perplexity.txt")),
    ("perplexity.md", include_str!("../templates/perplexity.md")),
    ("perplexity.json", include_str!("../templates/perplexity.json")),
    ("quality.txt", include_str!("../templates/quality.txt")),
    ("quality.md", include_str!("../templates/quality.md")),
    ("quality.json", include_str!("../templates/quality.json")),
    ("quality.html", include_str!("../templates/quality.html")),
];
