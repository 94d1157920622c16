//! The rules of the architecture that a machine can check: data flows one way, no circle of files, small files.

use std::fs;
use std::path::Path;

use crate::imports::{ModulePath, Sources};

/// The layers, lowest first. A module imports only from layers below its own; modules of one layer do not import one another, but
/// for the lowest, whose small helpers may (`hub` uses `files`).
const LAYERS: [&[&str]; 8] = [
    &["bundled", "checkpoint", "fault", "files", "hub", "random", "sandbox", "shown", "system", "text"],
    &["score"],
    &["task", "engine"],
    &["record", "quantize", "synth", "openai"],
    &["report"],
    &["jobs"],
    &["compare", "golden", "interchange", "serve"],
    &["cli"],
];

/// Jobs are vertical slices: none imports another. `bench` reads the lengths of a finished evaluation (`--workload RUN`), and `load` sends
/// workloads as `bench` does, and asks (`--score`) what an evaluation asks, as `determinism` does several times. `blame` reads a run's
/// answers as `perplexity` does.
const JOBS: [&str; 8] = ["eval", "bench", "blame", "determinism", "endpoint_probe", "load", "perplexity", "quality"];
const BETWEEN_JOBS: [(&str, &str); 7] = [
    ("bench", "eval"),
    ("blame", "eval"),
    ("blame", "perplexity"),
    ("determinism", "eval"),
    ("load", "bench"),
    ("load", "eval"),
    ("perplexity", "eval"),
];

const LONGEST_FILE: usize = 600;
/// Declarations, re-exports and an interface's types; no more.
const LONGEST_MOD: usize = 120;

/// What stands in the engine's crate because both crates need it. The suite re-exports it.
const IN_ENGINE: [&str; 8] = ["bundled", "fault", "files", "hub", "sandbox", "shown", "system", "text"];

/// The name that a module goes by in [`LAYERS`], wherever its file stands.
fn name(module: &ModulePath) -> &str {
    match module.get(1) {
        Some(second) if module[0] == "engine" && IN_ENGINE.contains(&second.as_str()) => second,
        _ => &module[0],
    }
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn program(sources: &Sources) -> Vec<&ModulePath> {
    sources.modules.keys().filter(|module| !module.is_empty() && module[0] != "main").collect()
}

#[test]
fn no_module_imports_upward() {
    let sources = Sources::read();
    let mut faults = Vec::new();
    for module in program(&sources) {
        let own_name = name(module);
        let own = layer(own_name).unwrap_or_else(|| panic!("{own_name} has no layer: give it one here and in lib.rs"));
        for imported in sources.imports(module).iter().filter(|imported| !imported.is_empty()) {
            let top = name(imported);
            let Some(theirs) = layer(top) else { continue };
            if !(top == own_name || theirs < own || (own == 0 && theirs == 0)) {
                faults.push(format!("{} imports {}", module.join("::"), imported.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "upward imports:\n{}", faults.join("\n"));
}

/// Cargo refuses a circle of crates, but for one by way of the tests.
#[test]
fn the_engine_knows_nothing_of_the_suite() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    assert!(manifest["dependencies"].as_table().is_some_and(|dependencies| dependencies.len() > 10));
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let dependencies = manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten();
        for (name, dependency) in dependencies {
            let ours = name.starts_with("evalsuite") || dependency.get("path").is_some();
            assert!(!ours, "{section}: {name}");
        }
    }
}

#[test]
fn no_circle_of_files() {
    let circle = Sources::read().circle();
    let names = circle.map(|circle| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> "));
    assert!(names.is_none(), "a circle of files: {}", names.unwrap_or_default());
}

#[test]
fn jobs_are_vertical_slices() {
    let sources = Sources::read();
    let job = |module: &ModulePath| -> Option<&'static str> {
        let slice = module.get(1).filter(|_| module[0] == "jobs")?;
        JOBS.into_iter().find(|job| job == slice)
    };
    let mut faults = Vec::new();
    for module in program(&sources) {
        if module[0] != "jobs" {
            continue;
        }
        for imported in sources.imports(module) {
            let fault = match (job(module), job(&imported)) {
                (Some(own), Some(theirs)) => own != theirs && !BETWEEN_JOBS.contains(&(own, theirs)),
                // What jobs share knows none of them.
                (None, Some(_)) => module.len() > 1,
                _ => false,
            };
            if fault {
                faults.push(format!("{} imports {}", module.join("::"), imported.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "between jobs:\n{}", faults.join("\n"));
}

#[test]
fn scoring_imports_nothing_but_the_type_of_its_errors() {
    let sources = Sources::read();
    for module in program(&sources).into_iter().filter(|module| module[0] == "score") {
        let is_stranger = |imported: &ModulePath| !["score", "fault"].contains(&name(imported));
        let strangers: Vec<ModulePath> = sources.imports(module).into_iter().filter(is_stranger).collect();
        assert!(strangers.is_empty(), "{}: imports {strangers:?}", module.join("::"));
    }
}

#[test]
fn mutation_tests_look_at_files_that_there_are() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(".cargo/mutants.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let globs = config["examine_globs"].as_array().unwrap();
    assert!(globs.len() > 10);
    for glob in globs.iter().map(|glob| glob.as_str().unwrap()) {
        let path = root.join(glob.strip_suffix("/**/*.rs").unwrap_or(glob));
        assert!(path.exists(), ".cargo/mutants.toml: {glob} names nothing");
    }
}

#[test]
fn only_the_command_line_sees_clap() {
    let sources = Sources::read();
    for module in program(&sources) {
        let text = &sources.modules[module].text;
        let sees = ["clap::", "indicatif::"].iter().any(|name| text.contains(name));
        // The hub's client shows its own progress of a download.
        assert!(!sees || ["cli", "hub"].contains(&name(module)), "{}: sees the command line", module.join("::"));
    }
}

#[test]
fn files_fit_in_one_head() {
    let sources = Sources::read();
    let mut faults = Vec::new();
    for module in sources.modules.values() {
        let lines = module.text.lines().count();
        let limit = if ["mod.rs", "lib.rs"].iter().any(|name| module.path.ends_with(name)) {
            LONGEST_MOD
        } else {
            LONGEST_FILE
        };
        let limit = if module.path.ends_with("src/main.rs") { 40 } else { limit };
        if lines > limit {
            faults.push(format!("{}: {lines} lines, {limit} at most", module.path.display()));
        }
    }
    for entry in std::fs::read_dir(crate::checkout().join("tests/it")).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines, {LONGEST_FILE} at most", path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
