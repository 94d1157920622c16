//! What is compiled into the program: the bundled model (with the engine), problem set, protocols and templates.

pub use evalsuite_engine::bundled::*;

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
    ("blame.txt", include_str!("../templates/blame.txt")),
    ("blame.md", include_str!("../templates/blame.md")),
    ("blame.html", include_str!("../templates/blame.html")),
    ("blame.json", include_str!("../templates/blame.json")),
    ("determinism.txt", include_str!("../templates/determinism.txt")),
    ("determinism.md", include_str!("../templates/determinism.md")),
    ("determinism.json", include_str!("../templates/determinism.json")),
    ("figures.txt", include_str!("../templates/figures.txt")),
    ("figures.md", include_str!("../templates/figures.md")),
    ("figures.html", include_str!("../templates/figures.html")),
    ("figures.json", include_str!("../templates/figures.json")),
    ("endpoint_probe.txt", include_str!("../templates/endpoint_probe.txt")),
    ("endpoint_probe.md", include_str!("../templates/endpoint_probe.md")),
    ("endpoint_probe.json", include_str!("../templates/endpoint_probe.json")),
    ("model-card.md", include_str!("../templates/model-card.md")),
    ("eval.txt", include_str!("../templates/eval.txt")),
    ("eval.md", include_str!("../templates/eval.md")),
    ("eval.json", include_str!("../templates/eval.json")),
    ("load.txt", include_str!("../templates/load.txt")),
    ("load.md", include_str!("../templates/load.md")),
    ("load.json", include_str!("../templates/load.json")),
    ("reading.txt", include_str!("../templates/reading.txt")),
    ("reading.md", include_str!("../templates/reading.md")),
    ("reading.json", include_str!("../templates/reading.json")),
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
