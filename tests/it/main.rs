//! Integration tests: one binary, a module a subject.

use std::path::{Path, PathBuf};

mod families;
mod reference;

/// The folder of real data beside the checkout, or where `EVALSUITE_SHARED` says.
fn shared() -> PathBuf {
    std::env::var_os("EVALSUITE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// SmolLM2's GGUF file: where `EVALSUITE_SMOLLM2` says, or where `.ci/run` puts it.
fn smollm2() -> PathBuf {
    std::env::var_os("EVALSUITE_SMOLLM2").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    )
}
