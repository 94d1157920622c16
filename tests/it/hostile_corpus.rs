//! Two thousand files that mean harm, made from fixed seeds: each is a mistake with a hint or is read, within 1 GB and 5 s of a processor.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::gguf_writer::{GgufWriter, tiny};
use crate::models::opt_folder;
use crate::mutate::{self, Random};
use crate::program::{evalsuite, mistake, text};
use crate::{checkout, data, hostile_templates, stored_zip, tiny_model};

/// What the program may have: kilobytes of memory, all that is mapped, and seconds of a processor. A clock ends what only waits.
const BUDGET: &str = "ulimit -v 1048576; ulimit -t 5; exec timeout --signal KILL 60 \"$0\" \"$@\"";

/// A command within [`BUDGET`], but for these arguments the same. Threads take what they allocate from one place: each arena more would be 64 MB
/// of addresses that nobody uses.
fn within_budget(arguments: &[&str], path: &Path) -> Output {
    let program = evalsuite();
    let mut command = Command::new("bash");
    command.args(["-c", BUDGET]).arg(program.get_program()).args(arguments).arg(path);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("MALLOC_ARENA_MAX", "1").env("HF_HUB_OFFLINE", "1").env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Why this is not how a file may end, if it is not.
fn fault_of(output: &Output) -> Option<String> {
    let said = text(&output.stderr);
    if output.status.success() {
        return said.contains("panicked").then_some(said);
    }
    std::panic::catch_unwind(|| mistake(output)).is_err().then(|| format!("{}: {said}", output.status))
}

/// One kind of file, and the command that reads it.
struct Kind<'a> {
    name: &'static str,
    /// The last word of the command line is `target`.
    arguments: &'a [&'static str],
    target: &'a Path,
    /// The file that is mutated: `target`, or a file in it.
    file: &'a Path,
}

impl Kind<'_> {
    /// Reads `count` files that `make` makes, and the file as it is. At least a tenth must be refused: mutations that nobody sees are none.
    fn hold(&self, count: usize, mut make: impl FnMut(&mut Random) -> Vec<u8>) {
        let valid = std::fs::read(self.file).unwrap();
        let output = within_budget(self.arguments, self.target);
        assert!(output.status.success(), "{}: the file as it is: {}", self.name, text(&output.stderr));
        let mut random = Random(self.name.bytes().fold(2026, |seed, byte| seed * 131 + u64::from(byte)));
        let (mut refused, mut faults) = (0, Vec::new());
        for number in 0..count {
            let bytes = make(&mut random);
            std::fs::write(self.file, &bytes).unwrap();
            let output = within_budget(self.arguments, self.target);
            refused += usize::from(!output.status.success());
            if let Some(fault) = fault_of(&output) {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", self.name));
                std::fs::write(&kept, bytes).unwrap();
                faults.push(format!("{}: {fault}", kept.display()));
            }
        }
        std::fs::write(self.file, valid).unwrap();
        assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
        assert!(refused * 10 >= count, "{}: {refused} of {count} were refused", self.name);
    }
}

const PROMPT: [&str; 7] = ["gsm8k", "--engine", "cpu", "--threads", "1", "--show-prompt", "0"];

fn prompt_of(what: &'static str) -> Vec<&'static str> {
    PROMPT.into_iter().chain([what]).collect()
}

/// Loads the whole model and computes a little with it.
fn reading_of(corpus: &Path) -> Vec<&'static str> {
    let corpus: &'static str = corpus.to_str().unwrap().to_owned().leak();
    ["perplexity", "--engine", "cpu", "--threads", "1", "--dtype", "f32", "--text", corpus, "--model"].to_vec()
}

fn corpus() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, "ab a1 b2 ab ab").unwrap();
    (folder, path)
}

fn bundled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in crate::files_of(&checkout().join("models/bundled")) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn four_hundred_chat_templates() {
    let folder = bundled();
    let file = folder.path().join("tokenizer_config.json");
    let config = read_json(&file);
    let kind = Kind { name: "template", arguments: &prompt_of("--model"), target: folder.path(), file: &file };
    kind.hold(400, |random| {
        let template = if random.once_in(4) {
            let own = config["chat_template"].as_str().unwrap().as_bytes();
            String::from_utf8_lossy(&mutate::bytes(random, own)).into_owned()
        } else {
            hostile_templates::template(random)
        };
        let mut config = config.clone();
        config["chat_template"] = json!(template);
        config.to_string().into_bytes()
    });
}

/// A part of a tokenizer that is hard on those who read it.
fn tokenizer_part(random: &mut Random) -> (&'static str, Value) {
    let text = random.pick(&["", " ", "e", "\u{2581}", "\u{0}", "aaaa"]);
    let number = random.extreme();
    let map = random.pick(&["/////w==", "AAAA", "", "AAAAAA==", "BAAAAAAAAAAA", "CAAAAP////8AAAAA", "!"]);
    let regex =
        random.pick(&["", "(", "(a*)*b", "(?:(?:a{99}){99}){9}", "(?=.)", "\\p{L}+|.", "(.)\\1{50}", "[^\\s\\S]"]);
    let behavior = random.pick(&["Isolated", "Removed", "MergedWithPrevious", "Contiguous", "None"]);
    let nested = |kind: &str, key: &str, inner: Value, deep: usize| {
        (0..deep).fold(inner, |inner, _| json!({"type": kind, key: [inner]}))
    };
    match random.below(20) {
        0 => ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": map})),
        1 => {
            let grow =
                json!({"type": "Replace", "pattern": {"String": text}, "content": "ee".repeat(1 + random.below(99))});
            ("normalizer", json!({"type": "Sequence", "normalizers": vec![grow; 1 + random.below(60)]}))
        }
        2 => ("normalizer", json!({"type": "Replace", "pattern": {"Regex": regex}, "content": "e"})),
        3 => (
            "normalizer",
            nested("Sequence", "normalizers", json!({"type": "Prepend", "prepend": text}), 1 << random.below(9)),
        ),
        4 => (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": random.once_in(2)}),
        ),
        5 => ("pre_tokenizer", json!({"type": "FixedLength", "length": number})),
        6 => (
            "pre_tokenizer",
            json!({"type": "Metaspace", "replacement": text, "prepend_scheme": "always", "split": true}),
        ),
        7 => {
            ("pre_tokenizer", nested("Sequence", "pretokenizers", json!({"type": "Whitespace"}), 1 << random.below(9)))
        }
        8 => ("pre_tokenizer", json!({"type": "Punctuation", "behavior": behavior})),
        9 => (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": text, "type_id": number}}],
            "pair": [], "special_tokens": {text: {"id": text, "ids": [number], "tokens": [text, text]}}}),
        ),
        10 => ("decoder", json!({"type": "Strip", "content": text, "start": number, "stop": number})),
        11 => {
            ("decoder", json!({"type": "Sequence", "decoders": vec![json!({"type": "Fuse"}); 1 + random.below(999)]}))
        }
        12 => (
            "model",
            json!({"type": "Unigram", "unk_id": number, "vocab": [[text, -1.0], ["a", -1e308]], "byte_fallback": true}),
        ),
        13 => (
            "model",
            json!({"type": "WordPiece", "unk_token": text, "continuing_subword_prefix": "##".repeat(random.below(99)),
            "max_input_chars_per_word": number, "vocab": {text: 0, "a": 1}}),
        ),
        14 => ("model", json!({"type": "WordLevel", "unk_token": text, "vocab": {text: number, "a": 0}})),
        15 => (
            "model",
            json!({"type": "BPE", "vocab": {"a": 0, "b": number, "ab": 2}, "merges": [["a", "b"], [text, text]], "dropout": 0.5}),
        ),
        16 => (
            "added_tokens",
            json!([{"id": number, "content": text, "single_word": random.once_in(2), "lstrip": true, "rstrip": true,
            "normalized": random.once_in(2), "special": random.once_in(2)}]),
        ),
        17 => (
            "truncation",
            json!({"direction": "Right", "max_length": number, "strategy": "LongestFirst", "stride": random.extreme()}),
        ),
        18 => (
            "padding",
            json!({"strategy": {"Fixed": number % (1 << 33)}, "direction": "Left", "pad_to_multiple_of": number % 3, "pad_id": number,
            "pad_type_id": 0, "pad_token": text}),
        ),
        _ => (
            "normalizer",
            json!({"type": random.pick(&["NFC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel", "BertNormalizer"])}),
        ),
    }
}

#[test]
fn four_hundred_tokenizers() {
    let folder = bundled();
    let file = folder.path().join("tokenizer.json");
    let valid = read_json(&file);
    let kind = Kind { name: "tokenizer", arguments: &prompt_of("--model"), target: folder.path(), file: &file };
    kind.hold(400, |random| {
        let mut tokenizer = valid.clone();
        match random.below(4) {
            0 => tokenizer = mutate::json(random, &tokenizer),
            1 => return mutate::bytes(random, valid.to_string().as_bytes()),
            _ => {
                for _ in 0..=random.below(2) {
                    let (part, value) = tokenizer_part(random);
                    tokenizer[part] = value;
                }
            }
        }
        tokenizer.to_string().into_bytes()
    });
}

#[test]
fn two_hundred_and_fifty_pickles() {
    let (folder, (_text, text)) = (opt_folder(), corpus());
    let file = folder.path().join("pytorch_model.bin");
    let valid = std::fs::read(&file).unwrap();
    let files = stored_zip::read(&valid);
    let kind = Kind { name: "pickle", arguments: &reading_of(&text), target: folder.path(), file: &file };
    kind.hold(250, |random| {
        if random.once_in(4) {
            return mutate::bytes(random, &valid);
        }
        // With the checksum that the archive would have.
        let mut files = files.clone();
        let at = if random.once_in(4) { random.below(files.len()) } else { 0 };
        files[at].1 = match random.below(6) {
            0 => {
                let step =
                    random.pick(&[&b"\x85"[..], b")R", b"]", b"(", b"}", b"\x86", b"(d", b"Nq\x00h\x00\x86", b"2\x86"]);
                [b"\x80\x02N", &step.repeat(1 << random.below(19))[..], b"."].concat()
            }
            1 => {
                let claim = [
                    &[*random.pick(&[b"X", b"T", b"B", b"\x8b", b"\x8a"])][0][..],
                    &random.extreme().to_le_bytes(),
                    b"x.",
                ]
                .concat();
                [&b"\x80\x02"[..], &claim].concat()
            }
            _ => mutate::bytes(random, &files[at].1),
        };
        stored_zip::write(&files)
    });
}

#[test]
fn three_hundred_gguf_files() {
    let (folder, (_text, text)) = (tempfile::tempdir().unwrap(), corpus());
    let file = folder.path().join("tiny.gguf");
    let valid = tiny("llama");
    std::fs::write(&file, valid.bytes()).unwrap();
    let kind = Kind { name: "gguf", arguments: &reading_of(&text), target: &file, file: &file };
    kind.hold(300, |random| {
        let mut writer: GgufWriter = valid.clone();
        if random.once_in(2) {
            let part = random.pick(&[
                "block_count",
                "embedding_length",
                "feed_forward_length",
                "attention.head_count",
                "attention.head_count_kv",
                "context_length",
                "vocab_size",
                "rope.dimension_count",
                "attention.key_length",
            ]);
            writer.count(&format!("llama.{part}"), random.extreme() as u32);
        }
        match random.below(6) {
            0 => drop(writer.texts("tokenizer.ggml.tokens", &vec![random.pick(&["", "a", "\u{0}"]); random.below(20)])),
            1 => drop(writer.count("general.alignment", random.extreme() as u32)),
            2 => {
                let at = random.below(writer.tensors.len());
                let tensor = &mut writer.tensors[at];
                match random.below(3) {
                    0 => tensor.1 = (0..random.below(6)).map(|_| random.extreme()).collect(),
                    1 => tensor.2 = random.below(45) as u32,
                    _ => tensor.3.truncate(random.below(64)),
                }
            }
            _ => return mutate::bytes(random, &writer.bytes()),
        }
        writer.bytes()
    });
}

/// A safetensors file whose header is mutated as JSON and has the length that it says.
fn with_header(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let header = mutate::json(random, &header).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &file[8 + length..]].concat()
}

#[test]
fn two_hundred_and_fifty_safetensors_files() {
    let (folder, (_text, text)) = (tiny_model::folder(), corpus());
    let file = folder.path().join("model.safetensors");
    let valid = std::fs::read(&file).unwrap();
    let kind = Kind { name: "safetensors", arguments: &reading_of(&text), target: folder.path(), file: &file };
    kind.hold(
        250,
        |random| if random.once_in(2) { with_header(random, &valid) } else { mutate::bytes(random, &valid) },
    );
}

#[test]
fn a_hundred_and_fifty_parquet_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.parquet");
    let valid = evalsuite::bundled::dataset_file("test").unwrap();
    std::fs::write(&file, valid).unwrap();
    let kind = Kind { name: "parquet", arguments: &prompt_of("--dataset"), target: &file, file: &file };
    kind.hold(150, |random| mutate::bytes(random, valid));
}

/// A JSON file, or one of a JSON value a line, mutated as values or as bytes.
fn json_lines(random: &mut Random, file: &[u8]) -> Vec<u8> {
    if random.once_in(3) {
        return mutate::bytes(random, file);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(file) {
        return mutate::json(random, &value).to_string().into_bytes();
    }
    let lines: Vec<&str> = std::str::from_utf8(file).unwrap().lines().collect();
    let changed = random.below(lines.len());
    let line = mutate::json(random, &serde_json::from_str(lines[changed]).unwrap()).to_string();
    let lines = lines.iter().enumerate().map(|(at, own)| if at == changed { line.as_str() } else { own });
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

#[test]
fn a_hundred_json_files_of_models_and_datasets() {
    let folder = bundled();
    let file = folder.path().join("config.json");
    let valid = std::fs::read(&file).unwrap();
    let kind = Kind { name: "config", arguments: &prompt_of("--model"), target: folder.path(), file: &file };
    kind.hold(60, |random| json_lines(random, &valid));
    let file = folder.path().join("rows.jsonl");
    let rows = "{\"question\": \"How many are 1 and 2?\", \"answer\": \"1 + 2 = 3\\n#### 3\"}\n".repeat(3);
    std::fs::write(&file, &rows).unwrap();
    let kind = Kind { name: "dataset", arguments: &prompt_of("--dataset"), target: &file, file: &file };
    kind.hold(40, |random| json_lines(random, rows.as_bytes()));
}

/// As an earlier version wrote them: without checksums, which would see any of this.
#[test]
fn a_hundred_and_fifty_json_files_of_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert!(Command::new("cp").arg("-r").arg(data("e113425/run")).arg(&run).status().unwrap().success());
    for (name, path, count) in [
        ("record", "record.json", 60),
        ("journal", "f32/journal.jsonl", 30),
        ("samples", "samples.jsonl", 20),
        ("plan", "plan.json", 20),
        ("sessions", "f32/sessions.json", 20),
    ] {
        let file = run.join(path);
        let valid = std::fs::read(&file).unwrap();
        let kind = Kind { name, arguments: &["report", "--format", "json"], target: &run, file: &file };
        kind.hold(count, |random| json_lines(random, &valid));
    }
}
