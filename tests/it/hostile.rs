//! Files of a model that mean harm: every one ends as a mistake with a hint, soon, and within the memory of a small machine.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checkout;
use crate::models::opt_folder;
use crate::program::{evalsuite, mistake, text};
use crate::stored_zip;

/// How long a refusal may take at most, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(15);

/// The bundled model, with what `change` makes of one of its files.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in crate::files_of(&checkout().join("models/bundled")) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
    folder
}

fn show_prompt(model: &Path) -> Output {
    let mut command = evalsuite();
    command.args(["gsm8k", "--engine", "cpu", "--threads", "1", "--show-prompt", "0", "--model"]).arg(model);
    command.output().unwrap()
}

/// The message about a model whose first prompt cannot be made.
#[track_caller]
fn refused(model: &Path) -> String {
    let begun = Instant::now();
    let message = mistake(&show_prompt(model));
    assert!(begun.elapsed() < SOON, "{:?}: {message}", begun.elapsed());
    message
}

#[track_caller]
fn template_refused(template: &str) -> String {
    let folder = changed("tokenizer_config.json", |json| json["chat_template"] = json!(template));
    let message = refused(folder.path());
    assert!(message.contains("chat template failed"), "{message}");
    message
}

#[track_caller]
fn tokenizer_refused(part: &str, value: &Value) -> String {
    let folder = changed("tokenizer.json", |json| json[part] = value.clone());
    refused(folder.path())
}

#[test]
fn a_chat_template_that_nests_without_end_is_refused() {
    let deep = |before: &str, after: &str| format!("{{{{ {}1{} }}}}", before.repeat(20_000), after.repeat(20_000));
    for (before, after) in
        [("1+", ""), ("not ", ""), ("", "|abs"), ("", ".a"), ("", "[0]"), ("1~", ""), ("1 if 1 else ", "")]
    {
        let message = template_refused(&deep(before, after));
        assert!(message.contains("nested too deeply"), "{before} {after}: {message}");
    }
    let elif = format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(20_000));
    assert!(template_refused(&elif).contains("nested too deeply"));
    template_refused(&deep("(", ")"));
    let list = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}";
    assert!(template_refused(list).contains("nested too deeply"));
}

#[test]
fn a_chat_template_that_never_ends_is_refused() {
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    assert!(template_refused(loops).contains("more than 10000000 steps"));
    let tree =
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}";
    assert!(template_refused(tree).contains("takes longer"));
    assert!(template_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").contains("recursion"));
}

#[test]
fn a_chat_template_that_takes_all_memory_is_refused() {
    let doubled = "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    for (template, named) in [
        ("{{ 'a\nb' | indent(10000000000) }}", "a width of 10000000000 characters"),
        ("{{ [1] | tojson(indent=10000000000) }}", "a width of 10000000000 characters"),
        // What has no width of its own meets the child's limit.
        ("{{ '{:>1000000000}'.format(1) }}", "more memory"),
        ("{{ [1] | slice(10000000000) | list | length }}", "more memory"),
        (doubled, "more memory"),
    ] {
        let message = template_refused(template);
        assert!(message.contains(named), "{template}: {message}");
    }
    assert!(template_refused("{{ 'a\nb' | indent(18446744073709551615) }}").contains("to i64"));
    let long = "{{ 'x' * 20000000 }}";
    assert!(template_refused(long).contains("20000000 bytes of a conversation"));
}

#[test]
fn a_tokenizer_that_is_damaged_or_grows_is_refused() {
    for map in ["/////w==", "AAAA", "", "AAAAAA=="] {
        let message = tokenizer_refused("normalizer", &json!({"type": "Precompiled", "precompiled_charsmap": map}));
        assert!(message.contains("precompiled_charsmap is damaged"), "{map}: {message}");
    }
    let grow = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "ee"});
    let message = tokenizer_refused("normalizer", &json!({"type": "Sequence", "normalizers": vec![grow; 60]}));
    assert!(message.contains("grow more than 1000 times"), "{message}");
    let split = json!({"type": "Split", "pattern": {"Regex": "(?:(?:a{999}){999}){999}"}, "behavior": "Isolated", "invert": false});
    assert!(tokenizer_refused("pre_tokenizer", &split).contains("copies of a part"));
}

/// The tokenizers library panics on these.
#[test]
fn a_tokenizer_that_panics_is_a_mistake_of_its_file() {
    assert!(tokenizer_refused("pre_tokenizer", &json!({"type": "FixedLength", "length": 0})).contains("cannot encode"));
    let folder = changed("tokenizer.json", |json| json["model"]["continuing_subword_prefix"] = json!("#".repeat(99)));
    assert!(refused(folder.path()).contains("it is damaged"));
}

#[test]
fn a_pickle_that_nests_or_claims_without_end_is_refused() {
    let copies = |count: u8| {
        [b"\x80\x02N".to_vec(), (0..count).flat_map(|i| [b'q', i, b'h', i, 0x86]).collect(), b".".to_vec()].concat()
    };
    for (what, pickle) in [
        ("nested too deeply", [b"\x80\x02N".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat()),
        ("nested too deeply", [b"\x80\x02N".to_vec(), b")R".repeat(1_000_000), b".".to_vec()].concat()),
        ("more memory", b"\x80\x02X\xff\xff\xff\xff.".to_vec()),
        ("more memory", copies(60)),
    ] {
        let folder = opt_folder();
        std::fs::write(
            folder.path().join("pytorch_model.bin"),
            stored_zip::write(&[("archive/data.pkl".to_owned(), pickle)]),
        )
        .unwrap();
        let message = refused(folder.path());
        assert!(message.contains("pytorch_model.bin") && message.contains(what), "{what}: {message}");
    }
    // What a child has read is then read here, as before.
    let folder = opt_folder();
    let output = show_prompt(folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_users_template_that_knows_no_bound_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("mine.md");
    let show = |text: &str| {
        std::fs::write(&template, text).unwrap();
        let mut command = evalsuite();
        command.arg("show").arg(crate::data("e113425/run")).arg("--template").arg(&template).output().unwrap()
    };
    let doubled = "{% set_global x = 'aa' %}{% for i in range(end=60) %}{% set_global x = x ~ x %}{% endfor %}{{ x }}";
    assert!(mistake(&show(doubled)).contains("more memory"));
    let elif = format!("{{% if false %}}{}{{% endif %}}", "{% elif false %}".repeat(40_000));
    assert!(mistake(&show(&elif)).contains("nested too deeply"));
    let own = show(include_str!("../../templates/eval.md"));
    let edited = show(&format!("{}\n\nmine", include_str!("../../templates/eval.md")));
    assert!(own.status.success() && edited.status.success());
    let (own, edited) = (text(&own.stdout), text(&edited.stdout));
    assert_eq!(edited.trim_end().strip_suffix("mine").unwrap().trim_end(), own.trim_end(), "a child prints as we do");
}

/// Ends by the first signal although it waits for what never comes; how, and after how long.
fn first_signal(command: &mut Command) -> (Output, Duration) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    (child.wait_with_output().unwrap(), begun.elapsed())
}

#[test]
fn the_first_signal_ends_what_waits_for_a_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("rows.jsonl");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut command = evalsuite();
    command.current_dir(folder.path()).args(["gsm8k", "--engine", "cpu", "--dataset"]).arg(&fifo);
    let (output, after) = first_signal(&mut command);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(after < SOON && told.contains("no step came to end after"), "{after:?}: {told}");
}

#[test]
fn the_first_signal_ends_what_waits_for_a_hub_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = evalsuite();
    command.current_dir(folder.path()).args(["gsm8k", "--engine", "cpu", "--model", "owner/name"]);
    command.env("HF_ENDPOINT", format!("http://{}", listener.local_addr().unwrap())).env("HF_HOME", folder.path());
    let (output, after) = first_signal(&mut command);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(after < SOON, "{after:?}");
}

#[test]
fn small_mistakes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |words: &str, change: &dyn Fn(&mut Command)| {
        let mut command = evalsuite();
        command.current_dir(folder.path()).env("HF_HUB_OFFLINE", "1").args(words.split_whitespace());
        change(&mut command);
        mistake(&command.output().unwrap())
    };
    for words in ["gsm8k --engine cpu --limit 1", "quantize --model bundled --method rtn --out made"] {
        let simd = refusal(words, &|command| {
            command.env("EVALSUITE_SIMD", "avx3");
        });
        assert!(simd.contains("unknown EVALSUITE_SIMD `avx3`") && simd.contains("did you mean `avx2`?"), "{simd}");
    }
    assert!(refusal("gsm8k --top-p 0.5", &|_| ()).contains("no use at --temperature 0"));
    assert!(refusal("bench --only single --requests 5", &|_| ()).contains("--requests has no use"));
    let long = format!("{{\"question\": \"{}\", \"answer\": \"#### 1\"}}\n", "How many? ".repeat(3000));
    std::fs::write(folder.path().join("long.jsonl"), long).unwrap();
    let message = refusal("gsm8k --engine cpu --protocol direct --dataset long.jsonl --limit 1", &|_| ());
    assert!(message.contains("it is row 0 of long.jsonl") && !message.contains("fewer examples"), "{message}");
}

/// A tokenizer without what a text needs is a mistake of its file, and a template's hint fits a GGUF file too.
#[test]
fn what_a_file_lacks_is_no_failure_of_the_engine() {
    let words = json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"});
    assert!(tokenizer_refused("model", &words).contains("Missing [UNK]"));
    assert!(template_refused("{% if %}").contains(".gguf"));
}

#[test]
fn a_file_that_may_grow_no_longer_is_an_error_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 1; exec \"$0\" gsm8k --engine cpu --threads 1 --dtype f32 --limit 20 --out run"]);
    let output = command.arg(env!("CARGO_BIN_EXE_evalsuite")).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("too large"), "{}", text(&output.stderr));
}

/// f32 has room for all that a sound checkpoint computes.
#[test]
fn weights_that_overflow_in_f32_are_a_mistake_of_their_file() {
    let folder = crate::tiny_model::folder();
    let file = folder.path().join("model.safetensors");
    let mut weights = std::fs::read(&file).unwrap();
    weights.chunks_exact_mut(4).rev().take(600).for_each(|value| value.copy_from_slice(&3e38_f32.to_le_bytes()));
    std::fs::write(&file, weights).unwrap();
    std::fs::write(folder.path().join("text"), "ab a1 b2 ab").unwrap();
    let mut command = evalsuite();
    command.current_dir(folder.path()).args("perplexity --engine cpu --dtype f32 --text text --model .".split(' '));
    let message = mistake(&command.output().unwrap());
    assert!(message.contains("in f32") && message.contains("fetch it again") && !message.contains("bf16"), "{message}");
}
