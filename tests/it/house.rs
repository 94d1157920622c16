//! The house rules that a machine can check: no upward import, small files, `mod.rs` that only re-exports.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first. A module imports only from floors below its own; modules of one floor do not import one
/// another, but for the lowest, whose small helpers may (`hub` uses `files`).
const FLOORS: [&[&str]; 8] = [
    &["bundled", "checkpoint", "files", "hub", "random", "system", "text"],
    &["score"],
    &["task", "engine"],
    &["record", "quantize", "synth"],
    &["report"],
    &["run"],
    &["bench", "golden"],
    &["cli"],
];

const LONGEST_FILE: usize = 600;
/// Declarations, re-exports and a seam's types; no more.
const LONGEST_MOD: usize = 120;

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The top module that a file belongs to: `engine` for `src/engine/cpu/mod.rs`, `files` for `src/files.rs`.
fn top_module(path: &Path) -> String {
    let relative = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Every top module that a text names behind `crate::`, in a group (`crate::{a, b::c}`) too, or by climbing there with
/// `super::super::`.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (position, root) in code.match_indices("crate::").chain(code.match_indices("super::super::")) {
        let rest = &code[position + root.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut expect_name = true;
            for (offset, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => expect_name = true,
                    c if depth == 0 && expect_name && !c.is_whitespace() => {
                        found.push(identifier(&group[offset..]));
                        expect_name = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(identifier(rest));
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_in_every_spelling() {
    let text = "use crate::files::sha256;\nuse crate::{hub::{Hub, HubError}, text};\n// use crate::cli;\nfn f() { \
                super::super::run::go(); crate::score::score() }";
    assert_eq!(imports(text), ["files", "hub", "text", "score", "run"]);
}

#[test]
fn no_module_imports_upward() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = top_module(&path);
        if matches!(module.as_str(), "main" | "lib") {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("{module} has no floor: give it one here and in lib.rs"));
        for import in imports(&text) {
            let Some(imported) = floor(&import) else { continue };
            let allowed = import == module || imported < own || (own == 0 && imported == 0);
            if !allowed {
                faults.push(format!("{}: imports {import}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "upward imports:\n{}", faults.join("\n"));
}

#[test]
fn scoring_imports_nothing_of_this_program() {
    for (path, text) in sources().into_iter().filter(|(path, _)| top_module(path) == "score") {
        let strangers: Vec<String> = imports(&text).into_iter().filter(|module| module != "score").collect();
        assert!(strangers.is_empty(), "{}: imports {strangers:?}", path.display());
    }
}

#[test]
fn only_the_command_line_sees_clap() {
    for (path, text) in sources() {
        let module = top_module(&path);
        let sees = ["clap::", "indicatif::"].iter().any(|name| text.contains(name));
        // The hub's client shows its own progress of a download.
        assert!(!sees || module == "cli" || module == "hub", "{}: sees the command line", path.display());
    }
}

#[test]
fn files_fit_in_one_head() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let limit = if path.ends_with("mod.rs") { LONGEST_MOD } else { LONGEST_FILE };
        let limit = if path.ends_with("src/main.rs") { 40 } else { limit };
        if lines > limit {
            faults.push(format!("{}: {lines} lines, {limit} at most", path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
