//! `action.yml` and the workflows of docs/ci.md run as they are written: their steps by bash, with a `cargo` that copies the program in the place
//! of building it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

use crate::awq_writer::Checkpoint;
use crate::checkout;
use crate::program::{evalsuite, text};

/// `cargo install --locked --path PATH [--root ROOT]`, where PATH is a checkout.
const CARGO: &str = r#"#!/bin/bash
set -e
[ "$1 $2 $3" = "install --locked --path" ] && [ -f "$4/Cargo.toml" ]
root=$HOME/.cargo
[ $# -eq 4 ] || { [ "$5" = --root ] && root=$6; }
mkdir -p "$root/bin"
cp "$PROGRAM" "$root/bin/evalsuite"
"#;

/// What a workflow works on, as docs/ci.md names it: a model, problems, a baseline, golden files; and what stands for GitHub's machine.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    fs::rename(checkpoint.write_dense().keep(), here.join("model")).unwrap();
    fs::rename(checkpoint.write().keep(), here.join("model-awq")).unwrap();
    let problem = |n: usize| format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n");
    fs::write(here.join("test.jsonl"), (1..5).map(problem).collect::<String>()).unwrap();
    let run = "gsm8k --model ./model --dataset ./test.jsonl --out baseline";
    let golden = "golden accept --suite gsm8k --model ./model --dtype f32 -- --dataset test.jsonl --max-tokens 6";
    for line in [run, golden] {
        let output = evalsuite().current_dir(here).args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    }
    fs::create_dir(here.join("bin")).unwrap();
    fs::write(here.join("bin/cargo"), CARGO).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(here.join("bin/cargo")).status().unwrap().success());
    std::os::unix::fs::symlink(checkout(), here.join("evalsuite")).unwrap();
    folder
}

/// A script as GitHub runs one by `bash`.
fn bash(world: &Path, script: &str, variables: &BTreeMap<String, String>) -> Output {
    let home = world.join("home");
    let path = format!(
        "{}:{}:{}",
        world.join("bin").display(),
        home.join(".cargo/bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(world).env("PATH", path);
    bash.envs([("HOME", home.as_path()), ("PROGRAM", Path::new(env!("CARGO_BIN_EXE_evalsuite")))]);
    bash.envs([("GITHUB_ACTION_PATH", checkout()), ("GITHUB_STEP_SUMMARY", &world.join("summary.md"))]);
    bash.env("GITHUB_OUTPUT", world.join("output")).envs([("CI", "true"), ("HF_HUB_OFFLINE", "1")]);
    bash.envs(variables).output().unwrap()
}

fn parsed(yaml: &str) -> Yaml {
    YamlLoader::load_from_str(yaml).unwrap().remove(0)
}

/// The blocks of docs/ci.md in YAML.
fn documented() -> Vec<Yaml> {
    let page = fs::read_to_string(checkout().join("docs/ci.md")).unwrap();
    page.split("```yaml\n").skip(1).map(|block| parsed(block.split("```").next().unwrap())).collect()
}

fn steps(workflow: &Yaml) -> &[Yaml] {
    workflow["jobs"]["evaluate"]["steps"].as_vec().unwrap()
}

/// Runs the action with these inputs; how each step ended, by its name.
fn act(world: &Path, with: &BTreeMap<String, String>) -> BTreeMap<String, Output> {
    let action = parsed(&fs::read_to_string(checkout().join("action.yml")).unwrap());
    let declared = action["inputs"].as_hash().unwrap();
    let mut inputs: BTreeMap<String, String> = declared
        .iter()
        .map(|(name, input)| (name.as_str().unwrap().to_owned(), input["default"].as_str().unwrap().to_owned()))
        .collect();
    for (name, value) in with {
        assert!(inputs.insert(name.clone(), value.clone()).is_some(), "action.yml has no input `{name}`");
    }
    let mut ended = BTreeMap::new();
    for step in action["runs"]["steps"].as_vec().unwrap() {
        let (Some(name), Some(script)) = (step["name"].as_str(), step["run"].as_str()) else { continue };
        assert_eq!(step["shell"].as_str(), Some("bash"), "{name}");
        // A cache has nothing, and no run is cancelled.
        let condition = step["if"].as_str().unwrap_or_default();
        let left_out = |(input, value): (&String, &String)| {
            value.is_empty() && condition.contains(&format!("inputs.{input} != ''"))
        };
        if inputs.iter().any(left_out) {
            continue;
        }
        let mut variables = BTreeMap::new();
        for (variable, value) in step["env"].as_hash().into_iter().flatten() {
            let mut value = value.as_str().unwrap().to_owned();
            for (input, given) in &inputs {
                value = value.replace(&format!("${{{{ inputs.{input} }}}}"), given);
            }
            assert!(!value.contains("${{"), "{name}: {value}");
            variables.insert(variable.as_str().unwrap().to_owned(), value);
        }
        assert!(!script.contains("${{"), "{name}: an input in a script is run as one");
        ended.insert(name.to_owned(), bash(world, script, &variables));
    }
    ended
}

/// The inputs of the documented workflow.
fn documented_inputs() -> BTreeMap<String, String> {
    let workflows = documented();
    let step = steps(&workflows[0]).iter().find(|step| !step["with"].is_badvalue()).unwrap();
    let text = |value: &Yaml| match value {
        Yaml::Integer(number) => number.to_string(),
        other => other.as_str().unwrap().to_owned(),
    };
    step["with"].as_hash().unwrap().iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[track_caller]
fn code(ended: &BTreeMap<String, Output>, step: &str) -> Option<i32> {
    ended[step].status.code()
}

#[test]
fn the_action_runs_as_documented() {
    let world = world();
    let world = world.path();
    let ended = act(world, &documented_inputs());
    for (step, output) in &ended {
        assert!(output.status.success(), "{step}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    assert_eq!(ended.len(), 5, "{:?}", ended.keys());
    let output = fs::read_to_string(world.join("output")).unwrap();
    assert_eq!(output.strip_prefix("sha256=").unwrap().trim_end().len(), 64, "{output}");
    for file in ["evalsuite-results/report.html", "evalsuite-results/report.xml", "summary.md"] {
        assert!(fs::metadata(world.join(file)).unwrap().len() > 200, "{file}");
    }
}

#[test]
fn the_action_is_red_where_an_output_changed_and_where_the_run_is_worse() {
    let world = world();
    let world = world.path();
    let mut inputs = documented_inputs();
    // Another limit of tokens ends answers elsewhere.
    inputs.insert("golden-arguments".to_owned(), "-- --max-tokens 5".to_owned());
    // Nothing is within a margin of no points on four questions whose answers differ.
    inputs.insert("run".to_owned(), "gsm8k --model ./model --dataset ./test.jsonl --max-tokens 3".to_owned());
    inputs.insert("margin".to_owned(), "0.5".to_owned());
    let ended = act(world, &inputs);
    assert_eq!(code(&ended, "Hold outputs against golden files"), Some(4));
    assert_eq!(code(&ended, "Run"), Some(0));
    assert_eq!(code(&ended, "Report"), Some(1));
    let said = text(&ended["Report"].stdout) + &text(&ended["Report"].stderr);
    assert!(said.contains("::error") && said.contains("margin of -0.5"), "{said}");
    assert!(world.join("evalsuite-results/report.xml").exists());
}

#[test]
fn the_action_without_inputs_builds_and_no_more() {
    let world = world();
    let ended = act(world.path(), &BTreeMap::new());
    assert_eq!(ended.keys().collect::<Vec<_>>(), ["Build it", "Tell this version from others"]);
    assert!(world.path().join("home/.evalsuite/bin/evalsuite").exists());
}

#[test]
fn the_workflow_by_hand_runs_as_written() {
    let world = world();
    let world = world.path();
    let workflows = documented();
    assert_eq!(workflows.len(), 2);
    let mut ran = 0;
    for script in steps(&workflows[1]).iter().filter_map(|step| step["run"].as_str()) {
        let output = bash(world, script, &BTreeMap::new());
        assert!(output.status.success(), "{script}: {}{}", text(&output.stdout), text(&output.stderr));
        ran += 1;
    }
    assert_eq!(ran, 4);
    for file in ["report.html", "report.xml", "summary.md"] {
        assert!(fs::metadata(world.join(file)).unwrap().len() > 200, "{file}");
    }
}
