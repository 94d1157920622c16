//! What `cargo package` packs is all that the program is compiled of.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::checkout;

/// The files of a packed crate, whose root is this folder of the checkout.
fn packed(package: &str, root: &str) -> BTreeSet<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["package", "--list", "--allow-dirty", "--offline", "--package", package]);
    let output = command.current_dir(checkout()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| Path::new(root).join(line)).collect()
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part == Component::ParentDir {
            path.pop()
        } else {
            path.push(part);
            true
        };
        path
    })
}

#[test]
fn every_source_and_every_file_in_it_is_packed() {
    let includes = regex::Regex::new(r#"include_(?:str|bytes)!\(\s*"([^"]+)""#).unwrap();
    let (suite, engine) = (packed("evalsuite", ""), packed("evalsuite-engine", "src/engine"));
    let mut found = 0;
    for source in suite.iter().chain(&engine).filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
        let text = std::fs::read_to_string(checkout().join(source)).unwrap();
        // What only tests read need not be there.
        let program = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        if source.to_string_lossy().ends_with("_tests.rs") {
            continue;
        }
        let own = if source.starts_with("src/engine") { &engine } else { &suite };
        for file in includes.captures_iter(program) {
            let file = normal(&source.parent().unwrap().join(&file[1]));
            assert!(own.contains(&file), "{} reads {}, which is not packed", source.display(), file.display());
            found += 1;
        }
    }
    assert!(found > 80, "{found}");
    let all = crate::imports::Sources::read();
    assert!(suite.len() + engine.len() > all.modules.len(), "sources are left out");
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(
            suite.contains(Path::new(licence)) && engine.contains(&Path::new("src/engine").join(licence)),
            "{licence}"
        );
    }
    for not in
        ["tests/it/main.rs", "benches/README.md", "golden/README.md", "fuzz/Cargo.toml", "models/bundled/train.py"]
    {
        assert!(!suite.contains(Path::new(not)) && !engine.contains(Path::new(not)), "{not}");
    }
}
