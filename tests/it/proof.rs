//! Run folders prove themselves: a changed bit is found by whatever reads it, and no report mixes two sources.

use std::fs;
use std::path::{Path, PathBuf};

use evalsuite::hub::Hub;
use evalsuite::jobs::Destination;
use evalsuite::jobs::eval::{EvalInputs, EvalJob, StoredRun, rescore};
use evalsuite::task::{ChatUse, Dataset, DatasetSpec};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{evalsuite, text};
use crate::scripted::{self, evaluate, inputs_of, job, model};
use crate::without_checksums;

const FLIPS: usize = 200;

/// A finished run of the scripted engine on problems that lie in a file, so that it can be rescored; with its job.
struct World {
    scratch: TempDir,
    job: EvalJob,
    inputs: EvalInputs,
}

impl World {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("problems.jsonl");
        let line = |sample: &evalsuite::task::Sample| {
            serde_json::json!({"question": sample.question, "answer": sample.answer}).to_string() + "\n"
        };
        fs::write(&file, scripted::dataset().samples.iter().map(line).collect::<String>()).unwrap();
        let dataset = DatasetSpec {
            source: file.display().to_string(),
            split: "test".to_owned(),
            revision: "main".to_owned(),
            sha256: None,
        };
        let opened = Dataset::open(&dataset, &hub()).unwrap();
        let inputs = inputs_of(model(None), opened, "gsm8k-cot-zeroshot", ChatUse::Never).unwrap();
        let job = EvalJob { dataset, ..job(scratch.path().join("run")) };
        evaluate(&job, &inputs).unwrap();
        Self { scratch, job, inputs }
    }

    fn run(&self) -> PathBuf {
        self.scratch.path().join("run")
    }

    /// Goes on with a copy, so that every time begins alike.
    fn resume(&self) -> Result<(), String> {
        let copy = tempfile::tempdir().unwrap();
        for name in FINISHED.iter().filter(|name| self.run().join(name).exists()) {
            fs::create_dir_all(copy.path().join(name).parent().unwrap()).unwrap();
            fs::copy(self.run().join(name), copy.path().join(name)).unwrap();
        }
        let destination = Destination::Folder(copy.path().to_path_buf());
        let resuming = EvalJob { resume: true, destination, ..self.job.clone() };
        evaluate(&resuming, &self.inputs).map(|_| ()).map_err(|error| error.to_string())
    }

    fn report(&self) -> Result<(), String> {
        StoredRun::read(&self.run()).map(|_| ()).map_err(|error| error.to_string())
    }

    fn rescore(&self) -> Result<(), String> {
        let out = self.scratch.path().join("rescored");
        let result = rescore(&self.run(), "direct", &hub(), Some(&out));
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Flips single bits at random, one at a time; who reads the folder must say each time which file it is.
    fn every_flip_is_found(&self, names: &[&str], reader: &str, read: impl Fn(&Self) -> Result<(), String>) {
        read(self).unwrap();
        let whole: Vec<(&str, Vec<u8>)> =
            names.iter().map(|name| (*name, fs::read(self.run().join(name)).unwrap())).collect();
        let bytes: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for flip in 0..FLIPS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (mut place, bit) = ((random >> 20) as usize % bytes, (random >> 60) & 7);
            // Every file has its turn, and long ones more of them.
            let (name, whole) = if flip < names.len() {
                (whole[flip].0, &whole[flip].1)
            } else {
                let found = whole.iter().find(|(_, bytes)| {
                    let here = place < bytes.len();
                    place -= if here { 0 } else { bytes.len() };
                    here
                });
                found.map(|(name, bytes)| (*name, bytes)).unwrap()
            };
            place %= whole.len();
            let mut changed = whole.clone();
            changed[place] ^= 1 << bit;
            fs::write(self.run().join(name), &changed).unwrap();
            let told = read(self).expect_err(&format!("{reader}: bit {bit} of byte {place} of {name} goes unseen"));
            assert!(told.contains(name) && told.contains("hint: "), "{reader}, {name}, byte {place}: {told}");
            if name.ends_with("journal.jsonl") {
                let line = whole[..place].split(|byte| *byte == b'\n').count();
                assert!(told.contains(&format!("{name}:{line}: damaged line")), "{reader}, byte {place}: {told}");
            }
            fs::write(self.run().join(name), whole).unwrap();
        }
        read(self).unwrap();
    }
}

fn hub() -> Hub {
    Hub::from_environment(true).unwrap()
}

/// What of a finished run decides a number.
const FINISHED: [&str; 8] = [
    "plan.json",
    "samples.jsonl",
    "f32/journal.jsonl",
    "f32/sessions.json",
    "f16/journal.jsonl",
    "f16/sessions.json",
    "answers.jsonl",
    "record.json",
];

#[test]
fn a_changed_bit_is_found_by_reports_and_baselines() {
    World::new().every_flip_is_found(&FINISHED, "report", World::report);
}

#[test]
fn a_changed_bit_is_found_by_rescoring() {
    World::new().every_flip_is_found(&FINISHED, "rescore", World::rescore);
}

#[test]
fn a_changed_bit_is_found_by_going_on_with_a_finished_run() {
    World::new().every_flip_is_found(&FINISHED, "resume", World::resume);
}

#[test]
fn a_changed_bit_is_found_by_going_on_with_an_interrupted_run() {
    let world = World::new();
    for name in ["record.json", "answers.jsonl"] {
        fs::remove_file(world.run().join(name)).unwrap();
    }
    fs::remove_dir_all(world.run().join("f16")).unwrap();
    let journal = world.run().join("f32/journal.jsonl");
    let begun: String = fs::read_to_string(&journal).unwrap().split_inclusive('\n').take(3).collect();
    fs::write(&journal, begun).unwrap();
    world.every_flip_is_found(&FINISHED[..4], "resume", World::resume);
}

/// Every command that reads a run, on a run with one changed bit in a file, by the program itself.
#[test]
fn every_command_refuses_a_damaged_run_by_file() {
    let world = World::new();
    let program = |arguments: &str| {
        let mut command = evalsuite();
        command.current_dir(world.scratch.path()).env("HF_HUB_OFFLINE", "1").env("CI", "1");
        let output = command.args(arguments.split_whitespace()).output().expect("the program starts");
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let readers = [
        "show run",
        "show run --format json",
        "resume run",
        "report run",
        "report run --format csv",
        "report run --baseline run",
        "rescore run --protocol direct --out rescored",
        "golden check --run run --golden none",
        "bench --only workload --workload run --repeats 1",
    ];
    let (code, told) = program("report run");
    assert_eq!(code, Some(0), "{told}");
    for name in FINISHED {
        let path = world.run().join(name);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 2;
        fs::write(&path, &changed).unwrap();
        for reader in readers {
            let (code, told) = program(reader);
            assert_eq!(code, Some(2), "{reader}, {name}: {told}");
            assert!(told.contains(name) && told.contains("hint: "), "{reader}, {name}: {told}");
        }
        fs::write(&path, &whole).unwrap();
    }
}

/// A run as an earlier version left it: nothing in it has a checksum.
fn without_any_checksum(run: &Path) {
    for name in FINISHED {
        let path = run.join(name);
        let old = without_checksums(&fs::read_to_string(&path).unwrap());
        fs::write(&path, old).unwrap();
    }
}

#[test]
fn a_run_of_before_checksums_is_read_and_said_to_be_unproven() {
    let world = World::new();
    without_any_checksum(&world.run());
    let stored = StoredRun::read(&world.run()).unwrap();
    assert_eq!(stored.notes.len(), 3, "two journals and the samples: {:?}", stored.notes);
    assert!(stored.notes[0].contains("f32/journal.jsonl: 5 of 5 lines have no checksum"), "{:?}", stored.notes);
    world.rescore().unwrap();
    world.resume().unwrap();
    let output = evalsuite().arg("show").arg(world.run()).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success() && told.contains("note: ") && told.contains("not proven"), "{told}");
}

#[test]
fn an_edited_journal_without_checksums_is_not_the_one_that_the_record_hashes() {
    let world = World::new();
    without_any_checksum(&world.run());
    let journal = world.run().join("f16/journal.jsonl");
    let before = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, before.replacen("\"correct\":true", "\"correct\":false", 1)).unwrap();
    for told in [world.report(), world.rescore(), world.resume()] {
        let told = told.unwrap_err();
        assert!(told.contains("answers.jsonl:") && told.contains("hint: "), "{told}");
    }
    let told = world.report().unwrap_err();
    assert!(told.contains("the journal was changed"), "{told}");
    // The same where nobody kept answers.jsonl, and where that was changed.
    fs::rename(world.run().join("answers.jsonl"), world.scratch.path().join("kept")).unwrap();
    let told = world.report().unwrap_err();
    assert!(told.contains("the journals' answers have the hash"), "{told}");
    fs::write(&journal, before).unwrap();
    let kept = fs::read_to_string(world.scratch.path().join("kept")).unwrap();
    let line = 1 + kept.lines().position(|line| line.contains("\"correct\":true")).unwrap();
    fs::write(world.run().join("answers.jsonl"), kept.replacen("\"correct\":true", "\"correct\":false", 1)).unwrap();
    let told = world.report().unwrap_err();
    assert!(told.contains(&format!("answers.jsonl:{line}: ")) && told.contains("answers.jsonl was changed"), "{told}");
}

#[test]
fn a_report_mixes_no_two_sources() {
    let world = World::new();
    without_any_checksum(&world.run());
    let path = world.run().join("record.json");
    let record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let refused = |pointer: &str, value: Value, part: &str| {
        let mut edited = record.clone();
        let place = edited.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_ne!(*place, value, "{pointer}");
        *place = value;
        fs::write(&path, edited.to_string()).unwrap();
        let told = world.report().expect_err(pointer);
        assert!(told.contains(part) && told.contains("hint: "), "{pointer}: {told}");
    };
    refused("/dtypes/1/rules/0/accuracy/successes", 5.into(), "right answers by");
    refused("/dtypes/1/rules/0/extracted", 0.into(), "values by");
    refused("/dtypes/0/cut", 4.into(), "cut answers of f32 are 4 here, but the journal gives 1");
    refused("/dtypes/0/answered", 1.into(), "answers of f32 are 1");
    refused("/dtypes/0/output_tokens", 1.into(), "output tokens of f32");
    refused("/dtypes/0/prompt_tokens", 1.into(), "prompt tokens of f32");
    refused("/dtypes/0/generate_seconds", 77.5.into(), "seconds of generating of f32 are 77.5");
    refused("/dtypes/0/load_seconds", 77.5.into(), "seconds of loading of f32 are 77.5");
    refused("/dtypes/0/sessions/0/threads", 77.into(), "f32/sessions.json");
    refused("/plan/generation/max_tokens", 77.into(), "plan.json is not the plan of the run's record.json");
    refused("/dtypes/0/n", 4.into(), "holds 5 completions");
    // What a report says is computed from the journals, whatever an old record holds besides.
    let mut edited = record.clone();
    edited["dtypes"][1]["rules"][0]["against_f32"]["lost"] = 0.into();
    edited["dtypes"][1]["rules"][0]["accuracy"]["value"] = 1.into();
    fs::write(&path, edited.to_string()).unwrap();
    let own = StoredRun::read(&world.run()).unwrap().record;
    let recorded: Vec<&Value> = record["dtypes"].as_array().unwrap().iter().map(|one| &one["rules"]).collect();
    let own = serde_json::to_value(own.dtypes.iter().map(|one| &one.rules).collect::<Vec<_>>()).unwrap();
    assert_eq!(own.as_array().unwrap().iter().collect::<Vec<_>>(), recorded);
}

#[test]
fn a_prompt_with_other_tokens_is_not_the_one_that_a_run_began_with() {
    let world = World::new();
    let journal = world.run().join("f32/journal.jsonl");
    let before = without_checksums(&fs::read_to_string(&journal).unwrap());
    assert_eq!(before.matches("\"prompt_ids_sha256\":\"").count(), 5, "{before}");
    fs::write(&journal, before.replacen("\"prompt_ids_sha256\":\"", "\"prompt_ids_sha256\":\"0", 1)).unwrap();
    let told = world.resume().unwrap_err();
    assert!(told.contains("has other tokens now than when the f32 journal was begun"), "{told}");
}

/// A quality run's record holds its answers a second time.
#[test]
fn the_answers_of_a_quality_record_are_those_of_its_journals() {
    let scratch = tempfile::tempdir().unwrap();
    let stored = crate::data("e113425/quality");
    let copy = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(stored.join(name), &path).unwrap();
        path
    };
    for name in FINISHED.iter().filter(|name| stored.join(name).exists()) {
        copy(name);
    }
    for name in ["awq/journal.jsonl", "awq/sessions.json"] {
        copy(name);
    }
    let show = || {
        let output = evalsuite().arg("show").arg(scratch.path()).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = show();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("not proven"), "{told}");

    let path = scratch.path().join("record.json");
    let record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let answer = "/models/0/prompts/0/answers/1";
    for (field, value) in
        [("text", Value::from("another")), ("token_ids", serde_json::json!([1])), ("finish", "context".into())]
    {
        let mut edited = record.clone();
        edited.pointer_mut(answer).unwrap()[field] = value;
        fs::write(&path, edited.to_string()).unwrap();
        let (code, told) = show();
        assert_eq!(code, Some(2), "{field}: {told}");
        assert!(told.contains("the answers of awq are not those of its journal"), "{field}: {told}");
    }
    fs::write(&path, record.to_string()).unwrap();
    let journal = scratch.path().join("awq/journal.jsonl");
    let before = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, before.replacen("\"text\":\"", "\"text\":\"x", 1)).unwrap();
    let (code, told) = show();
    assert!(code == Some(2) && told.contains("answers.jsonl:"), "{told}");
}
