//! Tasks: the built-in files, and data of every shape read as a task file says. All rows are our own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evalsuite::hub::Hub;
use evalsuite::score::score;
use evalsuite::task::{Dataset, DatasetSpec, Fewshot, Protocol, Sample, Task};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::hub_server::{HubServer, Repository};

fn hub() -> Hub {
    Hub::from_environment(true).unwrap()
}

/// A data file in a folder, read as a task's.
fn open(task: &Task, name: &str, bytes: impl AsRef<[u8]>) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let spec = DatasetSpec::of(task, path.to_str(), None);
    Dataset::open_as(task, &spec, &hub(), |_| true).map_err(|error| {
        let message = error.to_string();
        assert!(message.contains("\nhint: ") && message.contains(name) && message.len() < 1500, "{message}");
        message
    })
}

/// A task of the test's own, from TOML text.
fn task(text: &str) -> Task {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, text).unwrap();
    Task::read(&path, None).unwrap()
}

const NUMBERS: &str = r#"
title = "Sums"
description = "sums"
licence = "our own"
protocol = "direct"
[source]
dataset = "bundled"
[columns]
question = "ask"
answer = "sum"
[reference]
rule = "whole"
type = "number"
"#;

fn references(dataset: &Dataset) -> Vec<&str> {
    dataset.samples.iter().map(|sample| sample.reference.as_str()).collect()
}

#[test]
fn every_task_file_is_built_in_and_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tasks");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut built_in: Vec<&str> = evalsuite::bundled::TASKS.iter().map(|(name, _)| *name).collect();
    built_in.sort_unstable();
    files.sort_by_key(|file| file.file_stem().map(std::ffi::OsStr::to_owned));
    let stems: Vec<&str> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(stems, built_in, "a task file needs its line in bundled.rs");

    let names = Task::names();
    for language in ["bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"] {
        assert!(names.contains(&format!("mgsm-{language}")), "{language}");
    }
    for (name, description) in Task::list() {
        let task = Task::open(&name).unwrap();
        assert_eq!(task.name, name);
        assert!(!description.is_empty() && description.len() < 100 && !task.title.contains('{'), "{name}");
        Protocol::open(&task.protocol).unwrap();
        let longest = (0..files.len()).filter(|at| name.starts_with(stems[*at])).max_by_key(|at| stems[*at].len());
        let from_file = Task::read(&files[longest.unwrap()], Some(&name)).unwrap();
        assert_eq!((from_file.sha256, from_file.dataset), (task.sha256, task.dataset), "{name}");
    }
    assert!(Task::gsm8k().unwrap().is_gsm8k() && !Task::open("svamp").unwrap().is_gsm8k());
}

#[test]
fn a_task_that_does_not_exist_gives_the_nearest() {
    let message = |name: &str| Task::open(name).unwrap_err().to_string();
    assert!(message("gsm8k-platinium").contains("did you mean `gsm8k-platinum`"));
    assert!(message("mgsm").contains("it has variants") && message("mgsm").contains("mgsm-bn"));
    assert!(message("mgsm-xx").contains("unknown variant `xx`"));
    assert!(message("gsm8k-").contains("unknown task"));
    assert!(message("none/such.toml").contains("none/such.toml"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tasks/mgsm.toml");
    assert_eq!(Task::read(&file, Some("mgsm-de")).unwrap().title, "MGSM, German");
    assert!(Task::read(&file, Some("svamp")).unwrap_err().to_string().contains("is not the task of"));
}

#[test]
fn numbers_stay_numbers_in_every_format() {
    let task = task(NUMBERS);
    let expected = ["145", "3", "0.1", "1000", "-2.5", "9007199254740993"];
    let json = ["145.0", "3", "0.1", "1e3", "-2.50", "9007199254740993"];
    let lines =
        json.iter().map(|sum| format!("{{\"ask\": \"q\", \"sum\": {sum}}}\n")).collect::<Vec<String>>().concat();
    assert_eq!(references(&open(&task, "a.jsonl", &lines).unwrap()), expected);
    let list = format!("[{}]", lines.trim().replace('\n', ",\n"));
    assert_eq!(references(&open(&task, "a.json", list).unwrap()), expected);
    let quoted =
        json.iter().map(|sum| format!("{{\"sum\": \"{sum}\", \"ask\": \"q\"}}\n")).collect::<Vec<String>>().concat();
    assert_eq!(references(&open(&task, "a.jsonl", quoted).unwrap()), expected);
    let csv = json.iter().map(|sum| format!("\"a, \"\"b\"\"\",{sum}\n")).collect::<Vec<String>>().concat();
    let csv = open(&task, "a.csv", format!("ask,sum\n{csv}")).unwrap();
    assert_eq!((references(&csv), csv.samples[0].question.as_str()), (expected.to_vec(), "a, \"b\""));
    let tsv = json.iter().map(|sum| format!("{sum}\tq\n")).collect::<Vec<String>>().concat();
    assert_eq!(references(&open(&task, "a.tsv", format!("sum\task\n{tsv}")).unwrap()), expected);
}

/// A parquet file of one column of numbers and one of questions, written by this test.
fn parquet(sum: &str, write: impl Fn(&mut parquet::file::writer::SerializedColumnWriter), rows: usize) -> Vec<u8> {
    let schema = format!("message schema {{ required binary ask (UTF8); required {sum}; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut ask = group.next_column().unwrap().unwrap();
    ask.typed::<ByteArrayType>().write_batch(&vec![ByteArray::from("q"); rows], None, None).unwrap();
    ask.close().unwrap();
    let mut sums = group.next_column().unwrap().unwrap();
    write(&mut sums);
    sums.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn numeric_parquet_columns_are_read_exactly() {
    let task = task(NUMBERS);
    let whole = [18, -3, 9_007_199_254_740_993];
    let bytes = parquet(
        "int64 sum",
        |column| {
            column.typed::<Int64Type>().write_batch(&whole, None, None).unwrap();
        },
        3,
    );
    assert_eq!(references(&open(&task, "a.parquet", bytes).unwrap()), ["18", "-3", "9007199254740993"]);
    let doubles = [3.0, 0.1, -2.5, 1e21];
    let bytes = parquet(
        "double sum",
        |column| {
            column.typed::<DoubleType>().write_batch(&doubles, None, None).unwrap();
        },
        4,
    );
    let dataset = open(&task, "a.parquet", bytes).unwrap();
    assert_eq!(references(&dataset), ["3", "0.1", "-2.5", "1000000000000000000000"]);
    let decimals: Vec<FixedLenByteArray> =
        [1250_i32, -5, 300].iter().map(|value| ByteArray::from(value.to_be_bytes().to_vec()).into()).collect();
    let bytes = parquet(
        "fixed_len_byte_array(4) sum (DECIMAL(9,2))",
        |column| {
            column.typed::<FixedLenByteArrayType>().write_batch(&decimals, None, None).unwrap();
        },
        3,
    );
    assert_eq!(references(&open(&task, "a.parquet", bytes).unwrap()), ["12.5", "-0.05", "3"]);
    let bytes = parquet(
        "double sum",
        |column| {
            column.typed::<DoubleType>().write_batch(&[1.0, f64::NAN], None, None).unwrap();
        },
        2,
    );
    assert!(open(&task, "a.parquet", bytes).unwrap_err().contains("row 1 of"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_column_of_numbers_is_the_same_in_parquet_json_and_csv(values in proptest::collection::vec(-1e15f64..1e15, 1..20)) {
        let task = task(NUMBERS);
        let rows = values.len();
        let write = |column: &mut parquet::file::writer::SerializedColumnWriter| {
            column.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
        };
        let parquet = open(&task, "a.parquet", parquet("double sum", write, rows)).unwrap();
        let json = values.iter().map(|sum| format!("{{\"ask\": \"q\", \"sum\": {sum:e}}}\n")).collect::<Vec<String>>().concat();
        let json = open(&task, "a.jsonl", json).unwrap();
        let csv = values.iter().map(|value| format!("{value:e},q\n")).collect::<Vec<String>>().concat();
        let csv = open(&task, "a.csv", format!("sum,ask\n{csv}")).unwrap();
        proptest::prop_assert_eq!(references(&parquet), references(&json));
        proptest::prop_assert_eq!(references(&parquet), references(&csv));
        for (reference, value) in references(&parquet).iter().zip(&values) {
            proptest::prop_assert_eq!(reference.parse::<f64>().unwrap(), *value);
        }
    }
}

#[test]
fn a_column_that_is_not_there_names_those_that_are_and_the_nearest() {
    let task = task(NUMBERS);
    let bytes = parquet(
        "int64 summ",
        |column| {
            column.typed::<Int64Type>().write_batch(&[1], None, None).unwrap();
        },
        1,
    );
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("a.parquet", bytes, "a.parquet has no column `sum`"),
        ("a.jsonl", b"{\"ask\": \"q\", \"sum\": 1}\n{\"ask\": \"q\", \"summ\": 1}\n".to_vec(), "line 2 of "),
        ("a.json", b"[{\"ask\": \"q\", \"summ\": 1}]".to_vec(), "row 0 of "),
        ("a.csv", b"ask,summ\nq,1\n".to_vec(), "a.csv has no column `sum`"),
        ("a.tsv", b"ask\tsumm\nq\t1\n".to_vec(), "a.tsv has no column `sum`"),
    ];
    for (name, bytes, place) in files {
        let message = open(&task, name, bytes).unwrap_err();
        assert!(message.contains(place) && message.contains("has no column `sum`"), "{message}");
        assert!(message.contains("did you mean `summ`? the columns there are: ask, summ"), "{message}");
    }
}

#[test]
fn every_fault_of_a_csv_file_names_its_line() {
    let task = task(NUMBERS);
    for (text, reason) in [
        ("ask,sum\nq,1\nq\n", "line 3 of"),
        ("ask,sum\nq,1\n\"two\nlines\",x\n", "line 3 of"),
        ("ask,sum\nq,1\n\n,2\n", "line 4 of"),
        ("ask,sum\nq,1\nq,\n", "has no `sum`"),
        ("ask,sum\nq,1\nq,1 or 2\n", "`sum` is no number: \"1 or 2\""),
        ("ask,sum\n", "holds no rows"),
        ("", "holds no rows"),
    ] {
        let message = open(&task, "a.csv", text).unwrap_err();
        assert!(message.contains(reason), "{text:?}: {message}");
    }
    assert!(open(&task, "a.csv", b"ask,sum\nq,1\n\xff,2\n").unwrap_err().contains("line 3 of"));
    let marked = open(&task, "a.csv", "\u{feff}ask,sum\r\nq,1\r\n").unwrap();
    assert_eq!((references(&marked), marked.samples[0].question.as_str()), (vec!["1"], "q"));
}

#[test]
fn a_file_without_a_header_is_read_by_the_tasks() {
    let task = Task::open("mgsm-de").unwrap();
    let rows = "Wie viele Äpfel sind 3 und 4?\t7\n\"Ein \"\"Pack\"\" hat 1.000.\"\t1,000\n";
    let dataset = open(&task, "a.tsv", rows).unwrap();
    assert_eq!(references(&dataset), ["7", "1000"]);
    assert_eq!(dataset.samples[1].question, "Ein \"Pack\" hat 1.000.");
    // The same with a header, and as a table of another format.
    let with_header = open(&task, "a.tsv", format!("question\tanswer_number\n{rows}")).unwrap();
    assert_eq!(with_header.samples, dataset.samples);
    let json = "{\"question\": \"Wie viele?\", \"answer\": null, \"answer_number\": 7, \"equation_solution\": null}\n";
    assert_eq!(references(&open(&task, "a.jsonl", json).unwrap()), ["7"]);
    assert!(
        open(&task, "a.tsv", "nur eine Spalte\n").unwrap_err().contains("has 1 columns, and the task's header names")
    );
}

#[test]
fn the_parts_of_a_question_are_joined() {
    let rows = r#"[{"ID": "a", "Body": "A box holds 6 eggs.", "Question": "How many do 2 hold?", "Answer": "12.0"},
        {"ID": "b", "Body": "A box holds 6 eggs.", "Question": "How many do 3 hold?", "Answer": 18.0}]"#;
    let dataset = open(&Task::open("svamp").unwrap(), "test.json", rows).unwrap();
    assert_eq!(dataset.samples[0].question, "A box holds 6 eggs. How many do 2 hold?");
    assert_eq!(references(&dataset), ["12", "18"]);
}

fn boxed_rows() -> String {
    let row = |problem: &str, solution: &str| {
        let row = serde_json::json!({
            "problem": problem, "solution": solution, "answer": "", "subject": "Sums", "level": 1, "unique_id": "x"
        });
        format!("{row}\n")
    };
    [
        row("Half of 3?", "It is $\\boxed{1}$, no, $\\boxed{\\frac{3}{2}}$."),
        row("Which letter?", "It is $\\boxed{x}$."),
        row("All of 1,200?", "$\\boxed{1{,}200}$"),
        row("No box?", "It is 7."),
    ]
    .concat()
}

#[test]
fn rows_whose_reference_is_no_number_are_counted_apart() {
    let task = Task::open("math-500").unwrap();
    let dataset = open(&task, "test.jsonl", boxed_rows()).unwrap();
    assert_eq!((references(&dataset), dataset.left_out, dataset.rows), (vec!["1.5", "1200"], 2, 4));
    assert_eq!(dataset.samples.iter().map(|sample| sample.index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(dataset.samples[0].cluster.as_deref(), Some("Sums"));
    let rules = Protocol::open(&task.protocol).unwrap().rules;
    let right = |completion: &str, sample: &Sample| score(&rules, completion, sample.expected())[0].correct;
    assert!(right("So it is \\boxed{1.50}.", &dataset.samples[0]));
    assert!(right("So it is \\boxed{\\dfrac{6}{4}}.", &dataset.samples[0]));
    assert!(!right("So it is \\boxed{1}.", &dataset.samples[0]));
    assert!(right("\\[\\boxed{1,\\!200}\\]", &dataset.samples[1]));
    let none = boxed_rows().lines().nth(1).unwrap().to_owned();
    assert!(open(&task, "test.jsonl", none).unwrap_err().contains("no row that can be scored: of 1"));
}

#[test]
fn a_reference_by_pattern_and_a_cluster_are_read() {
    let text = NUMBERS
        .replace("answer = \"sum\"", "answer = \"sum\"\ncluster = \"page\"")
        .replace("rule = \"whole\"", "rule = \"pattern\"\npattern = '= (\\d+)'");
    let task = task(&text);
    let dataset = open(&task, "a.csv", "page,ask,sum\n7,q,1 + 1 = 2\n,r,2 + 2 = 4 = 04\n").unwrap();
    assert_eq!(references(&dataset), ["2", "4"]);
    let clusters: Vec<_> = dataset.samples.iter().map(|sample| sample.cluster.as_deref()).collect();
    assert_eq!((clusters, dataset.samples[0].answer.as_str()), (vec![Some("7"), None], "1 + 1 = 2"));
    assert!(open(&task, "a.csv", "page,ask,sum\n7,q,2\n").unwrap_err().contains("without a match of"));
}

#[test]
fn tasks_come_from_the_hub_as_it_lays_them_out() {
    let repository = |path: &str, name: &str, bytes: &[u8]| Repository {
        path: format!("datasets/{path}"),
        revisions: vec![("main".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned())],
        files: vec![("README.md".to_owned(), Vec::new(), false), (name.to_owned(), bytes.to_vec(), true)],
        gate: None,
        old_path: None,
    };
    let gsm8k = b"{\"question\": \"q\", \"answer\": \"#### 3\", \"cleaning_status\": \"x\"}\n";
    let svamp = br#"[{"Body": "B.", "Question": "Q?", "Answer": "3.0"}]"#;
    for (name, path, file, bytes) in [
        ("gsm8k-platinum", "madrylab/gsm8k-platinum", "main/test.jsonl", gsm8k.as_slice()),
        ("svamp", "ChilleD/SVAMP", "test.json", svamp),
        ("mgsm-sw", "juletxara/mgsm", "mgsm_sw.tsv", b"Ngapi?\t3\n"),
        (
            "math-500",
            "HuggingFaceH4/MATH-500",
            "test.jsonl",
            br#"{"problem": "P", "solution": "\\boxed{3}", "subject": "S"}"#,
        ),
    ] {
        let (server, cache) = (HubServer::start(vec![repository(path, file, bytes)]), tempfile::tempdir().unwrap());
        let task = Task::open(name).unwrap();
        let dataset =
            Dataset::open_as(&task, &DatasetSpec::of(&task, None, None), &server.client(cache.path()), |_| true);
        let dataset = dataset.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((references(&dataset), dataset.name.as_str()), (vec!["3"], path), "{name}");
        assert!(dataset.source.ends_with(file) && dataset.source.contains("@0123456789abcdef"), "{}", dataset.source);
    }
}

#[test]
fn worked_examples_are_drawn_from_where_the_task_says() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: usize| {
        let text = (0..rows).map(|row| format!("{name}{row},{row}\n")).collect::<Vec<String>>().concat();
        std::fs::write(folder.path().join(name), format!("ask,sum\n{text}")).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (test, other) = (write("test.csv", 2), write("other.csv", 6));
    let protocol = Protocol::open("gsm8k").unwrap();
    let elsewhere = task(&format!("{NUMBERS}\n[fewshot]\ndataset = \"{other}\"\nsplit = \"train\"\n"));
    let spec = DatasetSpec::of(&elsewhere, Some(&test), None);
    let load = |task: &Task, spec: &DatasetSpec| Fewshot::load(&protocol, None, (task, spec), &hub(), 0..2);
    let Ok((Fewshot::PerSample(rows), Some(_))) = load(&elsewhere, &spec) else { panic!("no examples") };
    assert!(rows.values().flatten().all(|(question, _)| question.starts_with("other.csv")));
    let here = task(&format!("{NUMBERS}\n[fewshot]\nsplit = \"dev\"\n"));
    assert!(load(&here, &spec).unwrap_err().to_string().contains("from the dev split"));
    write("dev.csv", 5);
    assert!(load(&here, &spec).is_ok());
    // One file of a hub's repository is one split.
    let mgsm = Task::open("mgsm-de").unwrap();
    let message = load(&mgsm, &DatasetSpec::of(&mgsm, None, None)).unwrap_err().to_string();
    assert!(message.contains("none beside it") && message.contains("--fewshot FILE"), "{message}");
}

#[test]
fn examples_may_be_any_data_file_or_the_harness_own_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let example = |number: usize| (format!("What is {number} + 1?"), format!("It is {number}: {}.", number + 1));
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let jsonl = (0..8).map(|n| format!("{}\n", serde_json::json!({"question": example(n).0, "target": example(n).1})));
    let csv = (0..8).map(|n| format!("{},{}\n", example(n).1, example(n).0));
    let yaml = (0..8).map(|n| format!("  - question: {}\n    target: '{}'\n", example(n).0, example(n).1));
    let yaml = format!("task: mine\nfewshot_config:\n  sampler: first_n\n  samples:\n{}", yaml.collect::<String>());
    let cot = Protocol::open("gsm8k-cot").unwrap();
    let task = Task::gsm8k().unwrap();
    let spec = DatasetSpec::of(&task, None, None);
    for path in [
        write("a.jsonl", jsonl.collect()),
        write("a.csv", format!("target,question\n{}", csv.collect::<String>())),
        write("a.yaml", yaml),
    ] {
        let (fewshot, sha256) = Fewshot::load(&cot, Some(&path), (&task, &spec), &hub(), 0..1).unwrap();
        assert_eq!(fewshot, Fewshot::Fixed((0..8).map(example).collect()), "{}", path.display());
        assert_eq!(sha256, Some(evalsuite::files::sha256(&std::fs::read(&path).unwrap())));
    }
}
