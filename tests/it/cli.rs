//! The program as a stranger meets it: help, mistakes, exit codes. What needs a real engine is tested elsewhere.

use std::io::Read as _;
use std::process::{Output, Stdio};

use clap::Parser as _;
use evalsuite::cli::{Arguments, Command as Subcommand, resolve};
use evalsuite::engine::{Dtype, EngineKind};
use evalsuite::jobs::eval::EvalJob;
use evalsuite::jobs::{Destination, JobError};
use evalsuite::task::{ChatUse, Task};

use crate::program::{evalsuite, text};

fn output_of(arguments: &[&str]) -> Output {
    evalsuite().args(arguments).output().expect("the program starts")
}

fn mistake(arguments: &[&str]) -> String {
    crate::program::mistake(&output_of(arguments))
}

fn resolved(words: &str) -> Result<EvalJob, JobError> {
    let arguments = Arguments::try_parse_from(words.split_whitespace()).expect("clap takes it");
    let Subcommand::Gsm8k(arguments) = arguments.command else { panic!("not gsm8k") };
    resolve(Task::gsm8k().unwrap(), &arguments, words.split_whitespace().map(str::to_owned).collect(), false)
}

#[test]
fn help_fits_80_columns_and_documents_the_exit_codes() {
    for arguments in [
        &["--help"][..],
        &["gsm8k", "--help"],
        &["gsm8k", "-h"],
        &["eval", "--help"],
        &["eval", "-h"],
        &["protocol", "--help"],
        &["protocol", "check", "--help"],
        &["rescore", "--help"],
        &["quantize", "--help"],
        &["perplexity", "-h"],
        &["bench", "--help"],
        &["synth", "--help"],
        &["quality", "--help"],
        &["golden", "--help"],
        &["golden", "check", "--help"],
        &["golden", "accept", "--help"],
        &["golden", "review", "-h"],
        &["golden", "list", "-h"],
        &["quality", "-h"],
        &["report", "--help"],
        &["show", "-h"],
    ] {
        let output = output_of(arguments);
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {} columns: {line}", line.chars().count());
        }
        for code in
            ["0    success", "1    the score", "2    a mistake", "3    the engine", "4    outputs", "130  interrupted"]
        {
            assert!(help.contains(code), "{arguments:?} says nothing of {code}");
        }
    }
}

#[test]
fn help_of_gsm8k_names_every_flag_and_shows_examples() {
    let help = text(&output_of(&["gsm8k", "--help"]).stdout);
    let flags = "--model --revision --dtype --awq --engine --device --batch --threads --offline --dataset --split --limit --samples \
                 --protocol --fewshot --chat --show-prompt --max-tokens --temperature --top-p --top-k --seed --repeats \
                 --stop --out --resume --until --min-accuracy --baseline --margin --min-speed-ratio --format --template";
    for flag in flags.split_whitespace() {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(help.contains("Examples:") && help.contains("--dataset openai/gsm8k"), "{help}");
}

#[test]
fn names_that_are_almost_right_get_the_right_one() {
    assert!(mistake(&["gsm8k", "--dtype", "f-16"]).contains("did you mean `f16`"));
    assert!(mistake(&["gsm8k", "--engine", "cpuu"]).contains("did you mean `cpu`"));
    assert!(mistake(&["gsm8k", "--format", "markdwon"]).contains("did you mean `markdown`"));
    assert!(mistake(&["gsm8k", "--chat", "nevr"]).contains("did you mean `never`"));
    assert!(mistake(&["gsm8k", "--protocol", "gsm8k-coot"]).contains("did you mean `gsm8k-cot`"));
    assert!(mistake(&["quantize", "--model", "m", "--out", "o", "--method", "awk"]).contains("did you mean `awq`"));
}

#[test]
fn a_page_that_a_command_does_not_make_is_refused_before_it_runs() {
    for command in ["gsm8k", "perplexity"] {
        assert!(mistake(&[command, "--format", "html"]).contains("evalsuite report RUN --format html"), "{command}");
    }
}

#[test]
fn numbers_out_of_range_are_refused_before_anything_is_opened() {
    for flags in [
        &["--limit", "0"][..],
        &["--repeats", "0"],
        &["--repeats", "3"],
        &["--threads", "0"],
        &["--batch", "0"],
        &["--batch", "65537"],
        &["--max-tokens", "0"],
        &["--temperature", "NaN"],
        &["--temperature=-1"],
        &["--top-p", "0"],
        &["--min-accuracy", "101"],
        &["--until", "better"],
        &["--until", "no worse than 0"],
        &["--stop", ""],
        &["--samples", "7-3"],
        &["--template", "/no/such/template"],
    ] {
        let arguments: Vec<&str> = std::iter::once("gsm8k").chain(flags.iter().copied()).collect();
        mistake(&arguments);
    }
}

#[test]
fn more_completions_than_can_be_held_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let many = u64::MAX.to_string();
    let flags =
        ["--engine", "cpu", "--dtype", "f32", "--limit", "1", "--temperature", "1", "--repeats", &many, "--out"];
    let arguments: Vec<&str> = ["gsm8k"].into_iter().chain(flags).chain(out.to_str()).collect();
    assert!(mistake(&arguments).contains("more than 10000000 completions"));
    assert!(!out.exists());
}

#[test]
fn quantize_refuses_what_it_cannot_mean() {
    for (flags, part) in [
        (&["--group-size", "100"][..], "128, 64 or 32"),
        (&["--threads", "0"], "--threads 1"),
        (&["--symmetric"], "add `--format compressed-tensors`"),
        (&["--format", "compressed"], "did you mean `compressed-tensors`"),
        (&["--format", "awq,compressed-tensors"], "one checkpoint is written"),
        (&["--method", "rtn", "--calibration", "text.txt"], "no use with --method rtn"),
    ] {
        let arguments: Vec<&str> = ["quantize", "--model", "m", "--out", "o"].iter().chain(flags).copied().collect();
        assert!(mistake(&arguments).contains(part), "{flags:?}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_said_once_and_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for command in ["gsm8k", "quality", "perplexity", "bench"] {
        // With a GPU there is still no hundredth.
        let message = mistake(&[command, "--engine", "cuda", "--device", "99", "--out", out]);
        assert_eq!(message.matches("error: ").count(), 1, "{command}: {message}");
        assert!(message.contains("there is no GPU 99") || message.contains("libcuda.so.1"), "{command}: {message}");
        assert!(!std::path::Path::new(out).exists(), "{command} made its folder or file");
        let message = mistake(&[command, "--engine", "cpu", "--device", "1", "--out", out]);
        assert!(message.contains("leave `--device` out"), "{command}: {message}");
    }
}

#[test]
fn several_gpus_are_named_once_each_and_on_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for command in ["eval gsm8k", "gsm8k", "quality", "perplexity", "bench", "load"] {
        let told = |device: &str, engine: &str| {
            let words =
                [command.split(' ').collect(), vec!["--engine", engine, "--device", device, "--out", out]].concat();
            let message = mistake(&words);
            assert!(!std::path::Path::new(out).exists(), "{command} made its folder or file");
            message
        };
        let twice = told("1,0,1", "cuda");
        assert!(
            twice.contains("--device 1,0,1 names GPU 1 twice\nhint: name each once, such as `--device 0,1`"),
            "{twice}"
        );
        let on_cpu = told("0,1", "cpu");
        assert!(
            on_cpu.contains("--device 0,1: the engine asked for runs on the CPU, which is one device\nhint: "),
            "{on_cpu}"
        );
        let unknown = told("0,98", "cuda");
        assert!(unknown.contains("there is no GPU 98") || unknown.contains("libcuda.so.1"), "{command}: {unknown}");
        let none = told("x", "cuda");
        assert!(none.contains("--device"), "{command}: {none}");
    }
}

#[test]
fn flags_that_would_mean_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for command in ["gsm8k", "quality", "perplexity", "bench", "quantize"] {
        let message = mistake(&[command, "--model", "bundled", "--revision", "v2", "--out", out]);
        assert!(message.contains("--revision v2 has no use with the model bundled"), "{command}: {message}");
        assert!(!std::path::Path::new(out).exists(), "{command} made its folder or file");
    }
    let message = mistake(&["quality", "--ground-truth", "f32", "--out", out]);
    assert!(message.contains("--ground-truth f32 names a column of an import"), "{message}");
    assert!(!std::path::Path::new(out).exists());
    // The other way round: what only a run heeds has no place beside an import.
    for flag in ["--model", "--revision", "--engine", "--device", "--batching", "--chat"] {
        let message = mistake(&["quality", "--import", "answers.json", flag, "1"]);
        assert!(message.contains("cannot be used with") && message.contains(flag), "{flag}: {message}");
    }
}

#[test]
fn mistakes_that_the_parser_finds_have_a_hint_too() {
    for (arguments, hint) in [
        (&["gsm8k", "--limt", "3"][..], "did you mean `--limit`? `evalsuite gsm8k --help` says what there is"),
        (
            &["compare", "runs/a", "--formt", "csv"],
            "did you mean `--format`? `evalsuite report --help` says what there is",
        ),
        (&["gsm8"], "did you mean `gsm8k`? `evalsuite --help` says what there is"),
        (&["golden", "chek"], "did you mean `check`? `evalsuite golden --help` says what there is"),
        (&["gsm8k", "--limit", "3", "--samples", "1"], "leave one of them out; `evalsuite gsm8k --help` says"),
        (&["gsm8k", "--limit", "many"], "`evalsuite gsm8k --help` says what there is"),
        (&["gsm8k", "--limit"], "`evalsuite gsm8k --help` says what there is"),
        (&["golden", "check", "--golden"], "`evalsuite golden check --help` says what there is"),
        (&["rescore", "runs/RUN"], "add what is missing; `evalsuite rescore --help` says what there is"),
    ] {
        let message = mistake(arguments);
        assert!(message.lines().any(|line| line.starts_with(&format!("hint: {hint}"))), "{arguments:?}: {message}");
        assert_eq!(message.matches("hint: ").count(), 1, "{message}");
    }
    // A command that is missing brings its whole help, and then the hint.
    for (arguments, whose) in [(&[][..], "evalsuite"), (&["golden"], "evalsuite golden")] {
        let output = output_of(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(&format!("hint: name one of the commands; `{whose} --help`")), "{message}");
    }
    let version = output_of(&["--version"]);
    assert_eq!((version.status.code(), text(&version.stderr).as_str()), (Some(0), ""));
}

#[test]
fn defaults_are_the_bundled_ones_in_every_precision() {
    let job = resolved("evalsuite gsm8k").unwrap();
    assert_eq!((job.target.model.source.as_str(), job.dataset.source.as_str()), ("bundled", "bundled"));
    assert_eq!((job.protocol.as_str(), job.dataset.split.as_str()), ("stepwise", "test"));
    assert!(job.target.dtypes.is_empty(), "the model decides, when it is open");
    assert_eq!(job.destination, Destination::Under("runs".into()));
    assert_eq!((job.target.engine, job.chat, job.resume), (EngineKind::Auto, None, false));
    assert!(job.sampling.temperature == 0.0 && job.sampling.max_tokens.is_none());
}

#[test]
fn flags_become_a_job() {
    let words = "evalsuite gsm8k --model m --dtype bf16,f32,bfloat16 --samples 3,17,40-42 --chat required --out here \
                 --resume --temperature 0.5 --repeats 2 --stop X --stop Y";
    let job = resolved(words).unwrap();
    assert_eq!(job.target.dtypes, [Dtype::F32, Dtype::Bf16], "the ground truth first, none twice");
    assert_eq!(job.selection.indices, [3, 17, 40, 41, 42]);
    assert_eq!(job.chat, Some(ChatUse::Required));
    assert_eq!(job.destination, Destination::Folder("here".into()));
    assert_eq!(job.sampling.stop_strings, ["X", "Y"]);
    assert_eq!(job.dataset.source, "bundled", "a model of one's own still gets the bundled problems");
    assert_eq!(job.command.join(" "), words.split_whitespace().collect::<Vec<_>>().join(" "));
}

#[test]
fn a_run_that_is_not_there_is_a_mistake() {
    assert!(mistake(&["show", "/no/such/run"]).contains("/no/such/run"));
    assert!(mistake(&["rescore", "/no/such/run", "--protocol", "gsm8k"]).contains("/no/such/run"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("record.json"), "{\"format\": 99}").unwrap();
    assert!(mistake(&["show", folder.path().to_str().unwrap()]).contains("format 99"));
    std::fs::write(folder.path().join("record.json"), "{").unwrap();
    assert!(mistake(&["show", folder.path().to_str().unwrap()]).contains("not a record"));
}

#[test]
fn doctor_says_what_this_machine_offers() {
    let output = output_of(&["doctor"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in [
        "CPU",
        "instruction sets",
        "engine uses",
        "GPU",
        "driver",
        "libcuda.so",
        "hub cache",
        "free",
        "reachable",
        "no (",
    ] {
        assert!(report.contains(part), "{part} is not in:\n{report}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = evalsuite()
        .args(["gsm8k", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut doctor =
        evalsuite().arg("doctor").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(doctor.stdout.take());
    for mut child in [child, doctor] {
        let mut message = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut message).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{message}");
        assert!(message.is_empty(), "{message}");
    }
}

#[test]
fn a_full_disk_is_told_of_help_and_of_a_report_s_file() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        crate::skip::skip("/dev/full", "no /dev/full to print to");
        return;
    };
    let output = evalsuite().arg("--help").stdout(full).output().expect("the program starts");
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("error: cannot write to stdout"), "{told}");
    assert!(told.contains("hint: is the disk full"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let row = r#"{"question": "q", "reference": "4", "completion": "It is 4."}"#;
    std::fs::write(folder.path().join("rows.jsonl"), row).unwrap();
    let run = |words: &str| {
        evalsuite().current_dir(folder.path()).args(words.split(' ')).output().expect("the program starts")
    };
    assert!(run("score rows.jsonl --protocol direct --out run").status.success());
    let told = crate::program::mistake(&run("report run --format json --out /dev/full"));
    assert!(told.contains("cannot write /dev/full") && told.contains("hint: the disk is full: make room"), "{told}");
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = output_of(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(
            output.status.success() && script.contains("determinism") && script.contains("on-gpu-failure"),
            "{shell}"
        );
    }
    let page = text(&output_of(&["man"]).stdout);
    assert!(page.contains(".TH evalsuite 1") && page.contains("evalsuite\\-golden(1)"), "{page}");
    let page = text(&output_of(&["man", "golden", "check"]).stdout);
    assert!(page.contains(".TH evalsuite-golden-check 1") && page.contains("require\\-all"), "{page}");
    assert!(mistake(&["man", "golden", "chek"]).contains("did you mean `check`?"));
    assert!(mistake(&["completions", "bach"]).contains("`bash`"));
}
