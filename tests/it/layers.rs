//! The rules of the architecture that a machine can check: data flows one way, no circle of files, small files.

use crate::imports::{ModulePath, Sources};

/// The layers, lowest first. A module imports only from layers below its own; modules of one layer do not import one another, but
/// for the lowest, whose small helpers may (`hub` uses `files`).
const LAYERS: [&[&str]; 8] = [
    &["bundled", "checkpoint", "fault", "files", "hub", "random", "system", "text"],
    &["score"],
    &["task", "engine"],
    &["record", "quantize", "synth"],
    &["report"],
    &["jobs"],
    &["compare", "golden"],
    &["cli"],
];

/// Jobs are vertical slices: none imports another. `bench` alone reads the lengths of a finished evaluation (`--workload RUN`).
const JOBS: [&str; 4] = ["eval", "bench", "perplexity", "quality"];
const BETWEEN_JOBS: [(&str, &str); 1] = [("bench", "eval")];

const LONGEST_FILE: usize = 600;
/// Declarations, re-exports and an interface's types; no more.
const LONGEST_MOD: usize = 120;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn program(sources: &Sources) -> Vec<&ModulePath> {
    sources.modules.keys().filter(|module| !module.is_empty() && module[0] != "main").collect()
}

#[test]
fn no_module_imports_upward() {
    let sources = Sources::read();
    let mut faults = Vec::new();
    for module in program(&sources) {
        let own =
            layer(&module[0]).unwrap_or_else(|| panic!("{} has no layer: give it one here and in lib.rs", module[0]));
        for imported in sources.imports(module) {
            let Some(top) = imported.first() else { continue };
            let Some(theirs) = layer(top) else { continue };
            if !(*top == module[0] || theirs < own || (own == 0 && theirs == 0)) {
                faults.push(format!("{} imports {}", module.join("::"), imported.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "upward imports:\n{}", faults.join("\n"));
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
        let is_stranger = |imported: &ModulePath| !["score", "fault"].contains(&imported[0].as_str());
        let strangers: Vec<ModulePath> = sources.imports(module).into_iter().filter(is_stranger).collect();
        assert!(strangers.is_empty(), "{}: imports {strangers:?}", module.join("::"));
    }
}

#[test]
fn only_the_command_line_sees_clap() {
    let sources = Sources::read();
    for module in program(&sources) {
        let text = &sources.modules[module].text;
        let sees = ["clap::", "indicatif::"].iter().any(|name| text.contains(name));
        // The hub's client shows its own progress of a download.
        assert!(!sees || ["cli", "hub"].contains(&module[0].as_str()), "{}: sees the command line", module.join("::"));
    }
}

#[test]
fn files_fit_in_one_head() {
    let sources = Sources::read();
    let mut faults = Vec::new();
    for module in sources.modules.values() {
        let lines = module.text.lines().count();
        let limit = if module.path.ends_with("mod.rs") { LONGEST_MOD } else { LONGEST_FILE };
        let limit = if module.path.ends_with("src/main.rs") { 40 } else { limit };
        if lines > limit {
            faults.push(format!("{}: {lines} lines, {limit} at most", module.path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
