//! What each source file imports, resolved through re-exports to the file that defines it. Used by `layers.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path from the suite's root, the engine's crate being its module `engine`: `["jobs", "eval", "plan"]`.
pub(crate) type ModulePath = Vec<String>;

/// The module that is the engine's crate.
const ENGINE: &str = "engine";

/// The source files of the program by module.
pub(crate) struct Sources {
    pub(crate) modules: BTreeMap<ModulePath, Module>,
}

/// One source file.
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Comments and string contents blanked.
    code: String,
    /// Names that it re-exports, and from where.
    reexports: BTreeMap<String, ModulePath>,
}

impl Sources {
    /// Reads every file below `src`.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(files.len() > 20, "the sources were not found");
        let mut modules: BTreeMap<ModulePath, Module> = BTreeMap::new();
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            let code = program_part(&without_comments(&text));
            modules.insert(module_path(&root, &path), Module { path, text, code, reexports: BTreeMap::new() });
        }
        let mut all = Self { modules };
        let found: Vec<(ModulePath, BTreeMap<String, ModulePath>)> = all
            .modules
            .iter()
            .map(|(module, file)| {
                let uses = use_paths(&file.code, true).into_iter().filter_map(|(path, alias)| {
                    let name = alias.or_else(|| path.last().cloned())?;
                    Some((name, all.absolute(module, &path)?))
                });
                (module.clone(), uses.collect())
            })
            .collect();
        for (module, reexports) in found {
            all.modules.get_mut(&module).unwrap().reexports = reexports;
        }
        all
    }

    /// Every file that a module's file imports something from, itself left out.
    pub(crate) fn imports(&self, module: &ModulePath) -> BTreeSet<ModulePath> {
        let file = &self.modules[module];
        let used = use_paths(&file.code, false).into_iter().map(|(path, _)| path).chain(inline_paths(&file.code));
        used.filter_map(|path| self.define(&self.absolute(module, &path)?, 0)).filter(|found| found != module).collect()
    }

    /// From the crate's root; `None` for another crate's. Paths within a file's inline modules are the file's.
    fn absolute(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => crate_root(module),
            "evalsuite_engine" => vec![ENGINE.to_owned()],
            "self" => module.clone(),
            "super" => parent(module),
            other => {
                let child = [module.as_slice(), &[other.to_owned()]].concat();
                if !self.modules.contains_key(&child) {
                    return None;
                }
                child
            }
        };
        for segment in rest {
            if segment == "super" { base = parent(&base) } else { base.push(segment.clone()) }
        }
        Some(base)
    }

    /// The module whose file defines what an absolute path names.
    fn define(&self, path: &[String], depth: usize) -> Option<ModulePath> {
        if depth > 16 {
            return None;
        }
        let known = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = path[..known].to_vec();
        match path.get(known).and_then(|name| self.modules[&module].reexports.get(name)) {
            Some(target) => self.define(&[target.as_slice(), &path[known + 1..]].concat(), depth + 1),
            None => Some(module),
        }
    }

    /// Files that import each other around a circle; one circle at most.
    pub(crate) fn circle(&self) -> Option<Vec<ModulePath>> {
        let imports: BTreeMap<&ModulePath, BTreeSet<ModulePath>> =
            self.modules.keys().map(|module| (module, self.imports(module))).collect();
        let mut done: BTreeSet<&ModulePath> = BTreeSet::new();
        for start in self.modules.keys() {
            let mut trail: Vec<&ModulePath> = Vec::new();
            if let Some(circle) = visit(start, &imports, &mut trail, &mut done) {
                return Some(circle);
            }
        }
        None
    }
}

fn visit<'a>(
    module: &'a ModulePath,
    imports: &'a BTreeMap<&'a ModulePath, BTreeSet<ModulePath>>,
    trail: &mut Vec<&'a ModulePath>,
    done: &mut BTreeSet<&'a ModulePath>,
) -> Option<Vec<ModulePath>> {
    if let Some(position) = trail.iter().position(|before| *before == module) {
        return Some(trail[position..].iter().map(|module| (*module).clone()).collect());
    }
    if done.contains(module) {
        return None;
    }
    trail.push(module);
    for next in &imports[module] {
        if let Some(circle) = visit(next, imports, trail, done) {
            return Some(circle);
        }
    }
    trail.pop();
    done.insert(module);
    None
}

/// What `crate` means in a module.
fn crate_root(module: &[String]) -> ModulePath {
    module.iter().take(1).filter(|first| *first == ENGINE).cloned().collect()
}

fn parent(module: &[String]) -> ModulePath {
    module[..module.len().saturating_sub(1)].to_vec()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `["engine", "cpu"]` for `src/engine/cpu/mod.rs`; a crate's root for `lib.rs`, its own name for `main.rs`.
fn module_path(root: &Path, path: &Path) -> ModulePath {
    let relative = path.strip_prefix(root).unwrap().with_extension("");
    let mut names: ModulePath = relative.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// Rust source with line comments blanked; strings of this program hold no `//` before code on their line.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// What comes before a file's tests, which may look at any neighbour.
fn program_part(code: &str) -> String {
    let tests = code.match_indices("#[cfg(test)]\nmod ").map(|(position, _)| position);
    let inline =
        tests.into_iter().find(|position| code[*position..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    code[..inline.unwrap_or(code.len())].to_owned()
}

/// Every path of the `use` statements, with its alias: of the re-exports (`pub use`), or of all others. A glob names its module.
fn use_paths(code: &str, reexports: bool) -> Vec<(Vec<String>, Option<String>)> {
    let mut found = Vec::new();
    for (position, _) in code.match_indices("use ") {
        let before = code[..position].rsplit('\n').next().unwrap_or("").trim();
        let is_reexport = before.starts_with("pub");
        if !(before.is_empty() || is_reexport) || is_reexport != reexports {
            continue;
        }
        let Some(end) = code[position..].find(';') else { continue };
        expand(&code[position + 4..position + end], &[], &mut found);
    }
    found
}

/// `a::{b, c::d as e}` as its paths.
fn expand(tree: &str, prefix: &[String], found: &mut Vec<(Vec<String>, Option<String>)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut base = prefix.to_vec();
        base.extend(tree[..open].split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or(&tree[open + 1..]);
        let (mut depth, mut from) = (0_usize, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[from..at], &base, found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return expand(&inner[from..], &base, found);
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let names = path.split("::").map(str::trim).filter(|name| !name.is_empty() && *name != "*" && *name != "self");
    let names: Vec<String> = prefix.iter().cloned().chain(names.map(str::to_owned)).collect();
    if !names.is_empty() {
        found.push((names, alias.map(str::to_owned)));
    }
}

/// Paths that begin at the crate's root outside `use` statements.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.match_indices("crate::")
        .filter(|(position, _)| !code[..*position].ends_with(|c: char| is_word(c) || c == '$' || c == '('))
        .map(|(position, _)| code[position..].chars().take_while(|c| is_word(*c)).collect::<String>())
        .map(|path| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect())
        .collect()
}

#[test]
fn paths_are_found_in_every_spelling() {
    let code = "use crate::files::sha256;\nuse crate::{hub::{Hub, HubError as E}, text};\npub(crate) use gate::refusal;\n\
                fn f() { crate::score::score() }";
    let names = |paths: Vec<(Vec<String>, Option<String>)>| -> Vec<String> {
        paths.into_iter().map(|(path, alias)| path.join("::") + &alias.unwrap_or_default()).collect()
    };
    let used = ["crate::files::sha256", "crate::hub::Hub", "crate::hub::HubErrorE", "crate::text"];
    assert_eq!(names(use_paths(code, false)), used);
    assert_eq!(names(use_paths(code, true)), ["gate::refusal"]);
    let inline: Vec<String> = inline_paths(code).into_iter().map(|path| path.join("::")).collect();
    assert!(inline.contains(&"crate::score::score".to_owned()), "{inline:?}");
}

#[test]
fn a_files_own_tests_are_left_out() {
    let code = "use crate::text;\n#[cfg(test)]\nmod other_tests;\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use super::super::hub;\n}";
    assert!(program_part(code).contains("fn f()") && !program_part(code).contains("hub"));
}

#[test]
fn names_are_resolved_to_the_file_that_defines_them() {
    let sources = Sources::read();
    let path = |text: &str| -> ModulePath { text.split("::").map(str::to_owned).collect() };
    assert_eq!(sources.define(&path("record::RunFolder"), 0), Some(path("record::folder")));
    assert!(sources.imports(&path("jobs::eval::pipeline")).contains(&path("record::folder")));
    assert!(sources.imports(&path("jobs::eval::pipeline")).contains(&path("jobs::eval::record")));
    // Through both crates' roots, and from within the engine's.
    assert_eq!(sources.define(&path("fault::Fault"), 0), Some(path("engine::fault")));
    assert_eq!(sources.define(&path("engine::Engine"), 0), Some(path("engine::interface")));
    assert!(sources.imports(&path("score::check")).contains(&path("engine::fault")));
    assert!(sources.imports(&path("engine::error")).contains(&path("engine::hub::error")));
}
