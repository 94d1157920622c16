//! The golden command on a tiny model, by the program itself: making, checking, reviewing, accepting, and what can go
//! wrong.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use evalsuite::golden::Golden;
use evalsuite::task::Tier;
use tempfile::TempDir;

use crate::awq_writer::Checkpoint;
use crate::program::{evalsuite, text};

const FLAGS: &str = "--dataset problems.jsonl --protocol direct --max-tokens 6";
const PROMPTS: &str = r#"
name = "mine"
tier = "answer"
max_tokens = 5

[[prompts]]
id = "held"
text = "t1 t2"
checks = [{ excludes = "zebra" }]

[[prompts]]
id = "exact"
text = "t3 t4"
tier = "tokens"
"#;

/// A folder with the model `m`, its AWQ form, two problems and two prompts.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    fs::rename(checkpoint.write_dense().keep(), folder.path().join("m")).unwrap();
    fs::rename(checkpoint.write().keep(), folder.path().join("m-awq")).unwrap();
    fs::write(folder.path().join("problems.jsonl"), problem(1) + &problem(2)).unwrap();
    fs::write(folder.path().join("prompts.toml"), PROMPTS).unwrap();
    folder
}

fn problem(n: usize) -> String {
    format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n")
}

fn command(world: &Path, arguments: &str) -> Command {
    let mut command = evalsuite();
    command.current_dir(world).env("HF_HUB_OFFLINE", "1");
    command.env_remove("NO_COLOR").arg("golden").args(arguments.split_whitespace());
    command
}

/// Everything said, stdout first, by a command that ends with `code`.
fn says(world: &Path, code: i32, arguments: &str) -> String {
    says_of(&command(world, arguments).output().expect("the program starts"), code, arguments)
}

fn says_of(output: &Output, code: i32, arguments: &str) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    assert!(code != 2 || said.contains("hint: "), "{arguments}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// With golden files of both suites in f32 and awq.
fn accepted() -> TempDir {
    let world = world();
    let said = says(world.path(), 0, &format!("accept --suite gsm8k --model m --dtype f32,awq -- {FLAGS}"));
    assert!(said.contains("accepted  golden/gsm8k/m/f32.json: 2 outputs, tier tokens"), "{said}");
    let said = says(world.path(), 0, "accept --suite quality --model m --dtype f32,awq -- --prompts prompts.toml");
    assert!(said.contains("accepted  golden/quality/m/awq.json: 2 outputs, tier answer"), "{said}");
    world
}

fn path(world: &Path, name: &str) -> PathBuf {
    world.join("golden").join(name)
}

fn golden(world: &Path, name: &str) -> Golden {
    Golden::read(&path(world, name)).unwrap()
}

/// Changes a golden file as a model that had once answered otherwise would have left it.
fn plant(world: &Path, name: &str, change: impl FnOnce(&mut Golden)) {
    let mut golden = golden(world, name);
    change(&mut golden);
    fs::write(path(world, name), golden.to_text().unwrap()).unwrap();
}

fn other_token(golden: &mut Golden, output: usize) {
    let output = &mut golden.outputs[output];
    output.token_ids[2] += 1;
    "an older text".clone_into(&mut output.text);
}

fn pending(world: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for suite in ["gsm8k", "quality"] {
        for entry in fs::read_dir(world.join("golden").join(suite).join("m")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().extension().is_some_and(|extension| extension == "new") {
                found.push(format!("{suite}/m/{name}"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn golden_files_hold_what_came_and_how_to_get_it_again() {
    let world = accepted();
    let made = golden(world.path(), "gsm8k/m/awq.json");
    assert_eq!((made.outputs.len(), made.recipe.model.as_str()), (2, "m"));
    assert_eq!(made.recipe.arguments.join(" "), FLAGS);
    assert_eq!(made.provenance.command, format!("evalsuite gsm8k --model m --dtype awq {FLAGS}"));
    assert!(made.inputs.awq.is_some() && made.inputs.dataset.is_some() && made.provenance.engine.starts_with("cpu "));
    assert!(golden(world.path(), "gsm8k/m/f32.json").inputs.awq.is_none(), "f32 does not read the AWQ form");
    let protocol = made.inputs.protocol.as_ref().unwrap();
    assert!(protocol.name == "direct" && !protocol.rules.is_empty());
    let output = &made.outputs[1];
    assert!(output.id == "1" && output.token_ids.len() <= 6 && !output.scores.is_empty());
    assert_eq!(evalsuite::files::sha256(output.prompt.as_ref().unwrap().as_bytes()), output.prompt_sha256);
    let quality = golden(world.path(), "quality/m/f32.json");
    assert_eq!(
        (quality.tier, quality.outputs[0].tier, quality.outputs[1].tier),
        (Tier::Answer, None, Some(Tier::Tokens))
    );
    // What is written reads back as it was, and to the same bytes.
    let bytes = fs::read_to_string(path(world.path(), "gsm8k/m/awq.json")).unwrap();
    assert_eq!(made.to_text().unwrap(), bytes);
    let line = bytes.lines().find(|line| line.contains("\"id\":\"1\"")).expect("one output, one line");
    assert!(line.ends_with('}'), "{line}");

    let said = says(world.path(), 0, "check");
    assert!(
        said.contains("golden: all 4 hold") && said.contains("ok        quality m f32: 2 outputs, tier tokens, answer"),
        "{said}"
    );
    assert!(says(world.path(), 0, "check --suite gsm8k --dtype f32 --threads 1").contains("golden: all 1 hold"));
    assert!(pending(world.path()).is_empty());
    let said = says(world.path(), 0, "list");
    assert_eq!(said.matches("ok        ").count(), 4, "{said}");
}

#[test]
fn what_changed_is_told_left_pending_and_taken() {
    let world = accepted();
    let world = world.path();
    plant(world, "gsm8k/m/f32.json", |golden| other_token(golden, 1));
    let before = fs::read(path(world, "gsm8k/m/f32.json")).unwrap();
    let said = says(world, 4, "check");
    assert!(said.contains("changed   gsm8k m f32: 1 of 2 outputs differ (1 in tokens), the first is 1"), "{said}");
    assert!(said.contains("row 1: token 2 was \"") && said.contains("(id "), "{said}");
    assert!(said.contains("golden: 1 of 4 does not hold: gsm8k m f32: 1 of 2 outputs differ"), "{said}");
    assert_eq!(pending(world), ["gsm8k/m/f32.json.new"]);
    assert_eq!(fs::read(path(world, "gsm8k/m/f32.json")).unwrap(), before, "a check changes no golden file");
    assert!(says(world, 0, "list").contains("pending   gsm8k m f32: 2 outputs"));

    // Not taken by a name that is nothing's; then by its own.
    assert!(says(world, 2, "accept golden/quality").contains("pending are: golden/gsm8k/m/f32.json.new"));
    assert!(says(world, 2, "accept").contains("--all"));
    assert!(says(world, 0, "accept golden/gsm8k/m/f32.json.new").contains("accepted  golden/gsm8k/m/f32.json"));
    assert!(pending(world).is_empty() && golden(world, "gsm8k/m/f32.json").changes.is_empty());
    says(world, 0, "check");

    // What is equal again is pending no more.
    let good = fs::read(path(world, "quality/m/awq.json")).unwrap();
    plant(world, "quality/m/awq.json", |golden| other_token(golden, 1));
    assert!(says(world, 4, "check --suite quality").contains("prompt exact: token 2 was"));
    fs::write(path(world, "quality/m/awq.json"), good).unwrap();
    assert_eq!(pending(world), ["quality/m/awq.json.new"]);
    says(world, 0, "check --suite quality");
    assert!(pending(world).is_empty());

    // Everything at once, and everything anew.
    plant(world, "gsm8k/m/awq.json", |golden| other_token(golden, 0));
    plant(world, "quality/m/f32.json", |golden| golden.outputs[0].checks[0].passed ^= true);
    let said = says(world, 4, "check");
    assert!(said.contains("prompt held: check `does not contain \"zebra\"` failed, now passed"), "{said}");
    assert!(said.contains("golden: 2 of 4 do not hold: gsm8k m awq, quality m f32"), "{said}");
    assert_eq!(says(world, 0, "accept --all").matches("accepted").count(), 2);
    says(world, 0, "check");
    plant(world, "gsm8k/m/awq.json", |golden| other_token(golden, 0));
    assert_eq!(says(world, 0, "accept --rerun --model m").matches("accepted").count(), 4);
    says(world, 0, "check");
}

#[test]
fn tiers_let_through_what_they_may() {
    let world = accepted();
    let world = world.path();
    // Another way to the same verdict is no difference in the tier `answer`.
    plant(world, "quality/m/f32.json", |golden| other_token(golden, 0));
    says(world, 0, "check --suite quality");
    let said = says(world, 0, "accept --suite gsm8k --model m --dtype f32 --tier answer");
    assert!(said.contains("2 outputs, tier answer"), "{said}");
    plant(world, "gsm8k/m/f32.json", |golden| other_token(golden, 0));
    says(world, 0, "check --suite gsm8k --dtype f32");
    plant(world, "gsm8k/m/f32.json", |golden| golden.outputs[0].scores[0].value = Some("77".to_owned()));
    let said = says(world, 4, "check --suite gsm8k --dtype f32");
    assert!(said.contains("row 0: rule ") && said.contains("extracted \"77\""), "{said}");
    // A tier is kept until another is given.
    says(world, 0, "accept --rerun --suite gsm8k --dtype f32");
    assert_eq!(golden(world, "gsm8k/m/f32.json").tier, Tier::Answer);
    // Terms that hold nothing, or that nothing can keep.
    let few = says(world, 2, "accept --suite gsm8k --model m --dtype f32 --tier statistical");
    assert!(few.contains("2 outputs are too few for a margin of 5 points") && few.contains("--margin 91"), "{few}");
    says(world, 0, "accept --suite gsm8k --model m --dtype f32 --tier statistical --margin 95");
    assert_eq!(golden(world, "gsm8k/m/f32.json").margin_points, Some(95.0));
    let unjudged = "accept --suite quality --model m --dtype f32 --tier answer -- --prompts bare.toml";
    fs::write(world.join("bare.toml"), "[[prompts]]\nid = \"a\"\ntext = \"t1\"\n").unwrap();
    assert!(says(world, 2, unjudged).contains("the prompt `a` declares no check"));
    assert!(says(world, 2, "accept --suite quality --tier tokns").contains("did you mean `tokens`"));
    assert!(says(world, 2, "accept --suite quality --margin 0 --rerun").contains("--margin 0"));
    assert!(says(world, 2, "accept --all --tier answer").contains("--rerun"));
}

#[test]
fn nothing_is_written_or_asked_in_ci() {
    let world = accepted();
    let world = world.path();
    plant(world, "gsm8k/m/f32.json", |golden| other_token(golden, 1));
    let said = says(world, 4, "check --ci --suite gsm8k");
    assert!(pending(world).is_empty() && said.contains("nothing was written"), "{said}");
    let mut in_ci = command(world, "check --suite gsm8k");
    let output = in_ci.env("CI", "true").env("GITHUB_ACTIONS", "true").output().unwrap();
    let said = says_of(&output, 4, "check in CI");
    assert!(pending(world).is_empty(), "{said}");
    let annotation = said.lines().find(|line| line.starts_with("::error ")).expect("an annotation");
    assert!(
        annotation.starts_with("::error file=golden/gsm8k/m/f32.json,title=golden gsm8k m f32::changed: "),
        "{said}"
    );
    assert!(annotation.contains("%0A1: token 2 was") && !said.contains("::error file=golden/gsm8k/m/awq"), "{said}");
    says(world, 4, "check --suite gsm8k");
    for action in ["accept --all", "review"] {
        let said = says_of(&command(world, action).env("CI", "1").output().unwrap(), 2, action);
        assert_eq!(pending(world).len(), 1, "{said}");
    }
    says_of(&command(world, "check --suite quality").env("CI", "false").output().unwrap(), 0, "CI=false is no CI");
}

#[test]
fn a_run_s_folder_is_compared_and_accepted_too() {
    let world = accepted();
    let world = world.path();
    let run = |arguments: &str| {
        let mut command = evalsuite();
        let output = command.current_dir(world).args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    };
    run(&format!("gsm8k --model m --dtype f32,f16 {FLAGS} --out a"));
    let said = says(world, 4, "check --run a");
    assert!(
        said.contains("ok        gsm8k m f32") && said.contains("missing   gsm8k m f16: there is no golden file"),
        "{said}"
    );
    assert_eq!(pending(world), ["gsm8k/m/f16.json.new"]);
    assert!(says(world, 0, "list").contains("missing   gsm8k m f16"));
    says(world, 0, "accept --run a --dtype f16");
    let made = golden(world, "gsm8k/m/f16.json");
    assert_eq!((made.recipe.model.as_str(), made.recipe.arguments.join(" ").as_str()), ("m", FLAGS));
    says(world, 0, "check --run a");
    assert!(says(world, 0, "check --suite gsm8k").contains("golden: all 3 hold"));
    run("quality --model m --dtype f32 --prompts prompts.toml --max-tokens 3 --out b");
    assert!(says(world, 4, "check --ci --run b").contains("max-tokens: was 5, is 3"));
    assert!(says(world, 2, "check --run nowhere").contains("no finished run in nowhere"));
}

#[test]
fn flags_behind_the_dashes_that_would_not_be_heeded_are_refused() {
    let world = world();
    let world = world.path();
    says(world, 0, &format!("accept --suite gsm8k --model m --dtype f32 -- {FLAGS}"));
    for action in ["check --ci", "check --ci --suite gsm8k", "accept --rerun", "accept --suite gsm8k --model m"] {
        for flag in ["--dtype f16", "--dtype=f32", "--awq m-awq", "--threads 1", "--offline", "--min-accuracy 5"] {
            let said = says(world, 2, &format!("{action} -- {FLAGS} {flag}"));
            let name = flag.split([' ', '=']).next().unwrap();
            assert!(said.contains(&format!("error: golden does not heed `{name}` behind `--`")), "{said}");
            assert!(said.contains("hint: behind `--` stand flags of `evalsuite"), "{said}");
        }
    }
    assert!(says(world, 0, &format!("check --dtype f32 -- {FLAGS} --batch 1")).contains("golden: all 1 hold"));
    for flags in ["--dtype f16", "--engine cpu", "-- --limit 1"] {
        let said = says(world, 2, &format!("accept --all {flags}"));
        assert!(said.contains("cannot be used with"), "pending files are taken as they are: {said}");
    }
}

#[test]
fn a_folder_of_runs_is_refused_and_never_said_to_be_superfluous() {
    let world = accepted();
    let world = world.path();
    let mut run = evalsuite();
    let flags = format!("gsm8k --model m --dtype f32 {FLAGS} --out runs/one");
    assert!(run.current_dir(world).args(flags.split(' ')).output().unwrap().status.success());
    for (folder, place) in [("runs", "runs/one"), ("runs/one", "runs/one"), (".", "./runs/one")] {
        for action in ["check --ci", "list", "review", "accept --all", "check --run runs/one", "accept --run runs/one"]
        {
            let said = says(world, 2, &format!("{action} --golden {folder}"));
            assert!(said.contains(&format!("{place} is a run's")), "{action}: {said}");
            assert!(said.contains(&format!("`evalsuite golden check --run {place}`")), "{action}: {said}");
            assert!(!said.contains("delete"), "{action}: {said}");
        }
    }
    assert!(says(world, 0, "check --run ./runs/one").contains("golden: all 1 hold"), "the command of the hint");
    // Other people's files where golden files would lie are nothing to delete either.
    fs::create_dir_all(world.join("strange/deep/deeper")).unwrap();
    fs::write(world.join("strange/deep/deeper/notes.json"), "{}").unwrap();
    let said = says(world, 4, "check --ci --golden strange");
    assert!(said.contains("deeper/notes.json is no golden file") && !said.contains("delete"), "{said}");
    fs::create_dir_all(world.join("golden/mmlu/m")).unwrap();
    fs::copy(path(world, "gsm8k/m/f32.json"), path(world, "mmlu/m/f32.json")).unwrap();
    assert!(says(world, 4, "check --ci").contains("delete golden/mmlu/m/f32.json"));
}

#[test]
fn what_is_no_more_and_what_is_not_yet_there_is_listed() {
    let world = accepted();
    let world = world.path();
    for name in ["mmlu/m/f32.json", "gsm8k/m/f8.json"] {
        fs::create_dir_all(path(world, name).parent().unwrap()).unwrap();
        fs::copy(path(world, "gsm8k/m/f32.json"), path(world, name)).unwrap();
    }
    fs::write(world.join("problems.jsonl"), problem(1)).unwrap();
    fs::write(world.join("prompts.toml"), PROMPTS.replace("id = \"held\"", "id = \"hold\"")).unwrap();
    let said = says(world, 0, "list");
    for part in [
        "orphaned  mmlu m f32: there is no suite `mmlu`",
        "orphaned  gsm8k m f8: there is no dtype `f8`",
        "orphaned  gsm8k m f32: 2 outputs",
        "orphaned: 1\n",
        "orphaned  quality m awq: 2 outputs",
        "orphaned: held\n",
        "missing: hold\n",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = says(world, 4, "check --ci");
    for part in [
        "orphaned  mmlu m f32: there is no suite `mmlu`",
        "orphaned  gsm8k m f8: there is no dtype `f8`",
        "changed   gsm8k m f32: 1 of 1 outputs differ",
        "row 1: orphaned: it is not asked any more",
        "prompt held: orphaned",
        "prompt hold: missing: the golden file has no output of it",
        "note: the dataset: was problems",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let only = "accept --suite quality --model m --dtype f16 -- --prompts prompts.toml --only exact";
    says(world, 0, only);
    fs::write(world.join("prompts.toml"), PROMPTS.replace("id = \"exact\"", "id = \"other\"")).unwrap();
    let said = says(world, 4, "check --ci --suite quality --dtype f16");
    assert!(said.contains("orphaned  quality m f16: no prompt of it is in the set mine any more"), "{said}");
    let said = says(world, 4, "check --ci --suite gsm8k --dtype f16");
    assert!(said.contains("missing   gsm8k m f16: there is no golden file; 1 outputs came"), "{said}");
}

#[test]
fn another_model_is_told_by_both_hashes() {
    let world = accepted();
    let world = world.path();
    let old = golden(world, "gsm8k/m/f32.json").inputs.model.sha256;
    let config = fs::read_to_string(world.join("m/config.json")).unwrap();
    fs::write(world.join("m/config.json"), config + "\n").unwrap();
    let said = says(world, 4, "check --suite gsm8k --dtype f32");
    assert!(said.contains(&format!("the model: sha256 was {old} (f32), is ")), "{said}");
    assert!(said.contains("the model changed; no output of 2 differs"), "{said}");
    // In the tier `statistical` other weights are no difference.
    says(world, 0, "accept --suite gsm8k --model m --dtype f32 --tier statistical --margin 95");
    let config = fs::read_to_string(world.join("m/config.json")).unwrap();
    fs::write(world.join("m/config.json"), config + "\n").unwrap();
    assert!(says(world, 0, "check --suite gsm8k --dtype f32").contains("note: the model: sha256 was"));
}

#[test]
fn mistakes_say_what_and_where() {
    let world = world();
    let world = world.path();
    assert!(says(world, 2, "check").contains("there is no golden file in golden"));
    assert!(
        says(world, 2, "check --suite gsm8k --model m").contains("evalsuite golden accept --suite gsm8k --model m")
    );
    assert!(says(world, 2, "list --golden nowhere").contains("in nowhere"));
    assert!(says(world, 2, "check --suite gsm9k").contains("did you mean `gsm8k`"));
    assert!(says(world, 2, "check --dtype f33").contains("did you mean `f32`"));
    let file = format!("accept --suite gsm8k --model m --dtype f32 --golden problems.jsonl -- {FLAGS}");
    assert!(says(world, 2, &file).contains("problems.jsonl"));
    let stranger = "accept --suite gsm8k --model m -- --limt 3";
    assert!(says(world, 2, stranger).contains("behind `--` stand flags of `evalsuite gsm8k`"));
    assert!(
        says(world, 2, "accept --suite quality -- --import x.json").contains("cannot be used with '--import <FILE>'")
    );
    assert!(says(world, 0, "review").contains("nothing is pending"));

    says(world, 0, &format!("accept --suite gsm8k --model m --dtype f32,awq -- {FLAGS}"));
    let place = path(world, "gsm8k/m/f32.json");
    let good = fs::read_to_string(&place).unwrap();
    let line = 1 + good.lines().position(|line| line.contains("\"id\":\"1\"")).unwrap();
    for (damaged, part) in [
        (good.replacen("\"id\":\"1\"", "\"id\":1", 1), format!("f32.json:{line}: not a golden file")),
        (good[..good.len() / 2].to_owned(), "not a golden file".to_owned()),
        (good.replacen("\"golden_format\": 1", "\"golden_format\": 9", 1), "golden format 9".to_owned()),
        ("{}".to_owned(), "no `golden_format`".to_owned()),
    ] {
        fs::write(&place, damaged).unwrap();
        let said = says(world, 2, "check --ci");
        assert!(said.contains(&part) && said.contains("failed    gsm8k m f32"), "{said}");
        assert!(said.contains("ok        gsm8k m awq"), "the others are compared all the same: {said}");
        assert!(says(world, 0, "list").contains(&part));
    }
    fs::write(&place, good).unwrap();
    fs::remove_dir_all(world.join("m")).unwrap();
    assert!(says(world, 2, "check --ci").contains("left out  gsm8k m f32"), "nothing is left to compare");
    assert!(says(world, 2, "check --ci --require-all").contains("failed    gsm8k m f32"));
    assert!(says(world, 2, "check --ci --model m").contains("failed    gsm8k m f32"));
}

/// A terminal by `script`, its keys from a pipe.
fn review(world: &Path, keys: &str) -> Option<String> {
    let program = format!("{} golden review", env!("CARGO_BIN_EXE_evalsuite"));
    let child = Command::new("script")
        .args(["-qec", &program, "/dev/null"])
        .current_dir(world)
        .env("TERM", "xterm")
        .env_remove("CI")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        crate::skip::skip("script", "no `script` to make a terminal with: the keys of `golden review` are not pressed");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let keys = keys.to_owned();
    let writer = std::thread::spawn(move || {
        for key in keys.chars() {
            // Keys that come before the question are read all the same; the pause keeps the end of input behind them.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let _ = write!(input, "{key}");
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
    Some(text(&output.stdout))
}

#[test]
fn a_review_shows_the_difference_and_takes_one_key() {
    let world = accepted();
    let world = world.path();
    for name in ["gsm8k/m/f32.json", "gsm8k/m/awq.json", "quality/m/f32.json", "quality/m/awq.json"] {
        plant(world, name, |golden| other_token(golden, 1));
    }
    says(world, 4, "check");
    let refused = says(world, 2, "review");
    assert!(refused.contains("no terminal") && refused.contains("golden accept PATHS"), "{refused}");
    let rejected = fs::read(path(world, "gsm8k/m/awq.json")).unwrap();
    let Some(said) = review(world, "arsq") else { return };
    for part in
        ["gsm8k m f32", "prompt", "old", "an older text", "new", "diff", "the texts part at character 0", "token 2 was"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(said.contains("\u{1b}[") && said.contains("1 of 4: (a)ccept"), "{said}");
    assert_eq!(pending(world), ["quality/m/awq.json.new", "quality/m/f32.json.new"]);
    assert_ne!(golden(world, "gsm8k/m/f32.json").outputs[1].text, "an older text");
    assert_eq!(fs::read(path(world, "gsm8k/m/awq.json")).unwrap(), rejected);
}

/// Numbers of processes come round again; the folder of a run used to be named by them.
#[test]
fn a_folder_left_by_a_killed_process_of_the_same_number_is_not_in_the_way() {
    let world = accepted();
    let temporary = tempfile::tempdir().unwrap();
    // `exec` keeps the shell's number.
    let script = "mkdir $TMPDIR/evalsuite-golden-$$-0 && touch $TMPDIR/evalsuite-golden-$$-0/plan.json && exec \"$@\"";
    let check = command(world.path(), "check --ci --suite quality --dtype f32");
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(check.get_program()).args(check.get_args()).current_dir(world.path());
    shell.env("HF_HUB_OFFLINE", "1").env("TMPDIR", temporary.path());
    let said = says_of(&shell.output().expect("sh starts"), 0, "check");
    assert!(said.contains("golden: all 1 hold"), "{said}");
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(matches!(&left[..], [one] if one.to_str().unwrap().ends_with("-0")), "{left:?}");
}

#[test]
fn without_a_folder_for_the_run_a_check_says_which_it_needs() {
    let world = accepted();
    let mut check = command(world.path(), "check --ci --suite quality --dtype f32");
    let said = says_of(&check.env("TMPDIR", world.path().join("nowhere")).output().unwrap(), 2, "check");
    assert!(
        said.contains("cannot make a folder for the run: ") && said.contains("nowhere/evalsuite-golden-"),
        "{said}"
    );
    assert!(said.contains("hint: name a folder that can be written to, and has room, in TMPDIR"), "{said}");
}

#[test]
fn ctrl_c_ends_a_check_without_a_verdict() {
    let world = world();
    let world = world.path();
    says(world, 0, "accept --suite quality --model bundled --dtype f32 -- --only copying --max-tokens 4");
    let mut slow = command(world, "check --suite quality -- --max-tokens 160");
    let child = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (output, rest) = crate::signal_when(child, "loaded in", "-INT");
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(output.stdout.is_empty() && rest.contains("interrupted"), "{rest}");
    assert!(!path(world, "quality/bundled/f32.json.new").exists());
}

const ASKS: &str = r#"
name = "mine"
version = 1
description = "A template that changes."
source = "this test"
chat = "never"
prompt = "{question}\nThe answer, please:"
stops = []
max_tokens = 6
reference = "after ####"
headline = "numeric"

[[rule]]
name = "strict"
pattern = 'It is ([0-9]+)'
take = "last"

[[rule]]
name = "numeric"
extractor = "numeric"
"#;

/// Every golden output has the change; each variant's golden file used to tell it once for each of them.
#[test]
fn a_change_of_all_outputs_is_told_once() {
    let world = world();
    let world = world.path();
    fs::write(world.join("asks.toml"), ASKS).unwrap();
    let flags = "--dataset problems.jsonl --protocol asks.toml";
    says(world, 0, &format!("accept --suite gsm8k --model m --dtype f32,f16 -- {flags}"));
    says(world, 0, "check");
    assert_eq!(golden(world, "gsm8k/m/f32.json").headline(), Some("numeric"));
    fs::write(world.join("asks.toml"), ASKS.replace("please:", "now:").replace("It is", "It was")).unwrap();
    let said = says(world, 4, "check");
    let told = |text: &str, part: &str, times: usize| {
        assert_eq!(text.matches(part).count(), times, "{part} {times} times in {text}");
    };
    told(&said, "common    gsm8k m f32, gsm8k m f16:\n", 1);
    told(&said, "please:\"", 1);
    told(&said, "4 outputs: the prompt changed at character ", 1);
    told(&said, "rule strict of protocol mine: was", 1);
    told(&said, "note: the protocol: was mine (version 1", 1);
    told(&said, "raise it", 1);
    told(&said, "2 of 2 outputs differ (2 in the prompt", 2);
    let json: serde_json::Value =
        serde_json::from_slice(&command(world, "check --ci --format json").output().unwrap().stdout).unwrap();
    let common = json["common"].as_array().unwrap();
    let prompt = common.iter().find(|one| one["what"].as_str().unwrap().starts_with("the prompt changed")).unwrap();
    assert_eq!((&prompt["outputs"], &prompt["is_note"]), (&4.into(), &false.into()));
    assert_eq!(prompt["golden_files"], serde_json::json!(["golden/gsm8k/m/f32.json", "golden/gsm8k/m/f16.json"]));
    told(&json.to_string(), "the prompt changed", 1);
    let mut github = command(world, "check --ci");
    let said = says_of(&github.env("GITHUB_ACTIONS", "true").output().unwrap(), 4, "check in CI");
    let annotations: Vec<&str> = said.lines().filter(|line| line.starts_with("::error ")).collect();
    told(&annotations.join("\n"), "4 outputs: the prompt changed", 1);
    told(&annotations.join("\n"), "::error title=2 golden files::", 2);
    // In review a golden file's own outputs follow what they have in common.
    let pending = Golden::read(&path(world, "gsm8k/m/f32.json.new")).unwrap();
    let shared: Vec<_> = pending.changes.iter().filter(|note| !note.outputs.is_empty()).collect();
    assert!(shared.len() == 1 && shared[0].outputs == ["0", "1"] && shared[0].id.is_none(), "{:?}", pending.changes);
    let review = evalsuite::golden::show(Some(&golden(world, "gsm8k/m/f32.json")), &pending, false);
    told(&review, "2 outputs: the prompt changed", 1);
    told(&review, "the prompt changed", 1);
    // What one golden file alone has is told of it.
    let said = says(world, 4, "check --dtype f32");
    told(&said, "common ", 0);
    told(&said, "2 rows (0, 1): the prompt changed", 1);
}
