//! Datasets: where they come from, and everything that can be wrong with them.

use std::io::Write as _;
use std::path::Path;

use evalsuite::hub::Hub;
use evalsuite::task::{Dataset, DatasetSpec, Fewshot, Protocol, Task};

use crate::shared_file;

fn spec(source: &str) -> DatasetSpec {
    DatasetSpec { source: source.to_owned(), split: "test".to_owned(), revision: String::new(), sha256: None }
}

fn open(spec: &DatasetSpec) -> Result<Dataset, String> {
    let hub = Hub::from_environment(true).unwrap();
    Dataset::open(spec, &hub).map_err(|error| {
        let message = error.to_string();
        assert!(message.contains("\nhint: ") && message.len() < 1500, "{message}");
        message
    })
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> DatasetSpec {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    spec(path.to_str().unwrap())
}

#[test]
fn parquet_and_jsonl_hold_the_same_rows() {
    let [Some(parquet), Some(jsonl)] = ["gsm8k/main", "gsm8k/test.jsonl"].map(shared_file) else { return };
    let parquet = parquet.join("test-00000-of-00001.parquet");
    let [parquet, jsonl] = [parquet, jsonl].map(|path| open(&spec(path.to_str().unwrap())).unwrap());
    assert_eq!(parquet.samples.len(), 1319);
    assert_eq!(parquet.samples, jsonl.samples);
    assert_eq!(parquet.samples[1318].index, 1318);
    assert_eq!(jsonl.sha256, "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14");
    assert_eq!((jsonl.name.as_str(), jsonl.split.as_str()), ("test.jsonl", "test"));
}

#[test]
fn a_folder_is_read_like_a_hub_repository() {
    let Some(folder) = shared_file("gsm8k/main") else { return };
    // The folder above has test.jsonl too; its config `main` is the usual one.
    for source in [folder.as_path(), folder.parent().unwrap()] {
        let mut spec = spec(source.to_str().unwrap());
        assert_eq!(open(&spec).unwrap().samples.len(), 1319);
        spec.split = "train".to_owned();
        assert_eq!(open(&spec).unwrap().samples.len(), 7473);
        spec.split = "tset".to_owned();
        assert!(open(&spec).unwrap_err().contains("did you mean `test`"));
    }
}

#[test]
fn sources_tell_the_hash_and_rows_of_what_is_fetched() {
    let Some(folder) = shared_file("gsm8k") else { return };
    let sources: toml::Table = toml::from_str(evalsuite::bundled::SOURCES).unwrap();
    let source = &sources["source"][0];
    for split in ["test", "train"] {
        let entry = &source["splits"][split];
        let dataset = open(&spec(folder.join(entry["file"].as_str().unwrap()).to_str().unwrap())).unwrap();
        assert!(entry["sha256"].as_array().unwrap().iter().any(|hash| hash.as_str() == Some(&dataset.sha256)));
        assert_eq!(entry["rows"].as_integer().unwrap() as usize, dataset.samples.len());
    }
}

#[test]
fn a_wrong_hash_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = write(folder.path(), "a.jsonl", "{\"question\": \"q\", \"answer\": \"#### 1\"}\n");
    let sha256 = open(&spec).unwrap().sha256;
    spec.sha256 = Some("ab".repeat(32));
    let message = open(&spec).unwrap_err();
    assert!(message.contains(&sha256) && message.contains(&"ab".repeat(32)), "{message}");
    spec.sha256 = Some(sha256.to_uppercase());
    assert!(open(&spec).is_ok());
}

#[test]
fn every_fault_of_a_jsonl_file_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = "{\"question\": \"q\", \"answer\": \"so\\n#### 1\"}\n";
    for (line, reason) in [
        ("{\"question\": \"q\", \"ans", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("{\"question\": \" \", \"answer\": \"#### 1\"}", "has no `question`"),
        ("{\"answer\": \"#### 1\"}", "has no column `question`"),
        ("{\"question\": \"q\", \"answer\": null}", "has no `answer`"),
        ("{\"question\": 7, \"answer\": \"#### 1\"}", "`question` that is no text: 7"),
        ("{\"question\": \"q\", \"answer\": [18]}", "`answer` that is no text: [18]"),
        ("{\"question\": \"q\", \"answer\": 18}", "`answer` is without `#### VALUE`"),
        ("{\"question\": \"q\", \"answer\": \"18\"}", "`answer` is without `#### VALUE`"),
        ("{\"question\": \"q\", \"answer\": \"so #### \"}", "`answer` is without `#### VALUE`"),
    ] {
        let message = open(&write(folder.path(), "a.jsonl", format!("{good}\n{line}\n"))).unwrap_err();
        assert!(message.contains("line 3 of") && message.contains("a.jsonl") && message.contains(reason), "{message}");
    }
    let message = open(&write(folder.path(), "a.jsonl", [good.as_bytes(), b"\n\xff\n"].concat())).unwrap_err();
    assert!(message.contains("line 3 of") && message.contains("UTF-8"), "{message}");
    let marked = format!("\u{feff}{good}\n");
    assert_eq!(open(&write(folder.path(), "a.jsonl", marked)).unwrap().samples.len(), 1);
    for empty in ["", "\n\n"] {
        assert!(open(&write(folder.path(), "a.jsonl", empty)).unwrap_err().contains("holds no rows"));
    }
}

#[test]
fn what_is_no_dataset_is_said() {
    assert!(open(&spec("none/such.jsonl")).unwrap_err().contains("cannot read none/such.jsonl"));
    for source in ["bundeld", "Cargo.toml", "/none/such"] {
        assert!(open(&spec(source)).unwrap_err().contains("is no dataset"));
    }
    let mut bundled = spec("bundled");
    bundled.split = "tset".to_owned();
    assert!(open(&bundled).unwrap_err().contains("did you mean `test`"));
    let folder = tempfile::tempdir().unwrap();
    assert!(open(&spec(folder.path().to_str().unwrap())).unwrap_err().contains("no parquet, JSON or CSV file"));
}

#[test]
fn a_truncated_or_damaged_parquet_file_is_an_error_at_every_length() {
    let Some(bytes) = evalsuite::bundled::dataset_file("test") else { panic!("the bundled problems are missing") };
    let folder = tempfile::tempdir().unwrap();
    let step = bytes.len() / 50 + 1;
    for length in (0..bytes.len()).step_by(step).chain([3, 8, bytes.len() - 1]) {
        let message = open(&write(folder.path(), "a.parquet", &bytes[..length])).unwrap_err();
        assert!(message.contains("a.parquet") && message.contains("no whole parquet file"), "{message}");
    }
    // Bytes lost in the middle leave the end in place: reading must fail or give rows, and never panic.
    for start in (4..bytes.len() - 8).step_by(step) {
        let damaged = [&bytes[..start], &bytes[start + 4..]].concat();
        if let Err(message) = open(&write(folder.path(), "a.parquet", damaged)) {
            assert!(message.contains("a.parquet"), "{message}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_to_a_parquet_file_makes_the_reader_panic(
        damage in proptest::collection::vec((proptest::prelude::any::<usize>(), proptest::prelude::any::<u8>()), 1..8),
        in_footer: bool,
    ) {
        let mut bytes = evalsuite::bundled::dataset_file("test").unwrap().to_vec();
        // The footer is small beside the pages, and most of what can go wrong begins there.
        let (length, first) = (bytes.len(), if in_footer { bytes.len() - 800 } else { 0 });
        for (at, byte) in damage {
            bytes[first + at % (length - first)] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        if let Err(message) = open(&write(folder.path(), "a.parquet", bytes)) {
            proptest::prop_assert!(message.contains("a.parquet"), "{message}");
        }
    }
}

mod written {
    //! Parquet files that this test writes itself, with faults of its choosing.

    use std::sync::Arc;

    use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::{open, write};

    fn file(schema: &str, answers: &[Option<&str>], codec: Compression) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            let optional = column.typed::<ByteArrayType>().get_descriptor().max_def_level() > 0;
            let values: Vec<ByteArray> = answers.iter().flatten().map(|text| ByteArray::from(*text)).collect();
            let levels: Vec<i16> = answers.iter().map(|answer| i16::from(answer.is_some())).collect();
            column.typed::<ByteArrayType>().write_batch(&values, optional.then_some(levels.as_slice()), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    const BOTH: &str = "message schema { optional binary answer (UTF8); optional binary question (UTF8); }";

    #[test]
    fn columns_are_found_by_name_and_missing_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let answers = [Some("q #### 1"), Some("q #### 2")];
        let dataset = open(&write(folder.path(), "a.parquet", file(BOTH, &answers, Compression::SNAPPY))).unwrap();
        assert_eq!(dataset.samples[1].answer, "q #### 2");
        let schema = BOTH.replace("answer", "response");
        let message =
            open(&write(folder.path(), "a.parquet", file(&schema, &answers, Compression::SNAPPY))).unwrap_err();
        assert!(message.contains("no column `answer`") && message.contains("response, question"), "{message}");
    }

    #[test]
    fn a_null_names_its_row() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = file(BOTH, &[Some("q #### 1"), None], Compression::UNCOMPRESSED);
        let message = open(&write(folder.path(), "a.parquet", bytes)).unwrap_err();
        assert!(message.contains("row 1 of") && message.contains("has no `question`"), "{message}");
        let none = open(&write(folder.path(), "a.parquet", file(BOTH, &[], Compression::SNAPPY))).unwrap_err();
        assert!(none.contains("holds no rows"), "{none}");
    }

    #[test]
    fn a_column_that_is_no_text_is_named() {
        let schema = "message schema { required int64 question; required int64 answer; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            column.typed::<Int64Type>().write_batch(&[18], None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let message = open(&write(folder.path(), "a.parquet", bytes)).unwrap_err();
        assert!(message.contains("row 0 of") && message.contains("`question` that is no text"), "{message}");
    }

    #[test]
    fn every_codec_but_lzo_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let answers: Vec<String> = (0..200).map(|row| format!("it is row {row}\n#### {row}")).collect();
        let answers: Vec<Option<&str>> = answers.iter().map(|answer| Some(answer.as_str())).collect();
        for codec in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let dataset = open(&write(folder.path(), "a.parquet", file(BOTH, &answers, codec))).unwrap();
            let read: Vec<Option<&str>> = dataset.samples.iter().map(|sample| Some(sample.answer.as_str())).collect();
            assert_eq!(read, answers, "{codec}");
        }
    }

    /// LZO cannot be written here. The codec's name in the footer is all that the check reads, so it is changed there:
    /// field 4 of the column's metadata, an enumeration, from 0 to 3.
    #[test]
    fn a_codec_that_is_not_compiled_in_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = file(BOTH, &[Some("q #### 1")], Compression::UNCOMPRESSED);
        // In the compact protocol: the path list (field 3) ends in the column's name, then 0x15 and the codec.
        let name = b"\x06answer\x15\x00";
        let at = bytes.windows(name.len()).rposition(|window| window == name).expect("the footer has another layout");
        bytes[at + name.len() - 1] = 6;
        let message = open(&write(folder.path(), "a.parquet", bytes)).unwrap_err();
        assert!(message.contains("compressed with LZO") && message.contains("zstd"), "{message}");
    }
}

const ROW: &str = "{\"question\": \"q\", \"answer\": \"#### 18\"}\n";

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_files_are_read_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "question,answer\nq,#### 18\n";
    let tsv = csv.replace(',', "\t");
    // Two members one after the other are one file, as with `cat`.
    let twice = [gzipped(ROW), gzipped(ROW)].concat();
    for (name, bytes, rows) in [
        ("a.jsonl.gz", gzipped(ROW), 1),
        ("b.jsonl.gz", twice, 2),
        ("c.json.gz", gzipped(&format!("[{ROW}]")), 1),
        ("d.csv.gz", gzipped(csv), 1),
        ("e.tsv.gz", gzipped(&tsv), 1),
        ("f.jsonl.zst", zstd::encode_all(ROW.as_bytes(), 3).unwrap(), 1),
        ("g.ndjson", ROW.into(), 1),
    ] {
        let dataset = open(&write(folder.path(), name, bytes)).unwrap();
        assert_eq!((dataset.samples.len(), dataset.samples[0].answer.as_str()), (rows, "#### 18"), "{name}");
    }
    std::fs::write(folder.path().join("test.jsonl.gz"), gzipped(ROW)).unwrap();
    std::fs::write(folder.path().join("train.jsonl.gz"), gzipped(ROW)).unwrap();
    assert_eq!(open(&spec(folder.path().to_str().unwrap())).unwrap().samples.len(), 1, "a folder's split too");
}

#[test]
fn a_parquet_file_that_is_compressed_as_a_whole_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = evalsuite::bundled::dataset_file("test").unwrap();
    let plain = open(&write(folder.path(), "a.parquet", bytes)).unwrap();
    let packed = open(&write(folder.path(), "a.parquet.zst", zstd::encode_all(bytes, 3).unwrap())).unwrap();
    assert_eq!(plain.samples, packed.samples);
}

#[test]
fn a_list_is_read_element_by_element_and_every_fault_of_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let object =
        |question: &str| format!("{{\"question\": {question:?}, \"answer\": \"#### 18\", \"more\": [{{}}, [1, 2]]}}");
    // Whatever could be taken for an element's end, and a row that is longer than what is read at a time.
    let long = "x, ]} ".repeat(30_000);
    let questions = ["a ] b", "c } , d", "e \" ] f", "g \\", "[", &long, "last"];
    let rows: Vec<String> = questions.iter().map(|question| object(question)).collect();
    let dataset = open(&write(folder.path(), "a.json", format!(" \n[ {} \n]\n", rows.join("\n,\n ")))).unwrap();
    assert_eq!(dataset.samples.iter().map(|sample| sample.question.as_str()).collect::<Vec<_>>(), questions);
    assert!(open(&write(folder.path(), "a.json", "[ ]")).unwrap_err().contains("holds no rows"));
    let good = object("q");
    for (text, reason) in [
        (format!("[{good}"), "row 0: the file ends before the list does"),
        (format!("[{good}, {good},"), "row 2: the file ends before the list does"),
        (format!("[{good}, {{\"question\": \"]"), "row 1: the file ends before the list does"),
        (format!("[{good}, {good}] {good}"), "row 1: something stands behind the list's end"),
        (format!("[{good} {good}]"), "row 0: trailing characters"),
        (format!("[{good}, {good},]"), "row 2: EOF"),
        (format!("[{good}, 7]"), "row 1: invalid type"),
        (format!("[{good}}}, {good}]"), "row 0: trailing characters"),
    ] {
        let message = open(&write(folder.path(), "a.json", &text)).unwrap_err();
        assert!(message.contains("is no list of JSON objects") && message.contains(reason), "{text}: {message}");
    }
    let bytes = [b"[".as_slice(), good.as_bytes(), b", \"\xff\"]"].concat();
    assert!(open(&write(folder.path(), "a.json", bytes)).unwrap_err().contains("row 1 of"));
}

#[test]
fn lines_are_counted_however_far_into_a_file_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    // Two lines a record and a blank one behind it, many times what is read at a time.
    let record = "\"a question,\n of two lines\",#### 18\r\n\n";
    let csv = |last: &str| format!("\u{feff}question,answer\n{}{last}", record.repeat(5_000));
    assert_eq!(open(&write(folder.path(), "a.csv", csv(""))).unwrap().samples.len(), 5_000);
    for (last, reason) in [("q,18\n", "`answer` is without"), ("q\n", "has 1 fields"), ("q,#### 1,2\n", "has 3 fields")]
    {
        let message = open(&write(folder.path(), "a.csv", csv(last))).unwrap_err();
        assert!(message.contains("line 15002 of") && message.contains(reason), "{message}");
    }
    let bytes = [csv("").as_bytes(), b"\xff,#### 1\n"].concat();
    let message = open(&write(folder.path(), "a.csv", bytes)).unwrap_err();
    assert!(message.contains("line 15002 of") && message.contains("UTF-8"), "{message}");
    // Lines in front of the first row count.
    let message = open(&write(folder.path(), "a.jsonl", format!("\n \n\n{ROW}{{}}\n"))).unwrap_err();
    assert!(message.contains("line 5 of"), "{message}");
}

#[test]
fn what_is_wrong_behind_the_rows_that_a_run_takes_is_said_too() {
    let folder = tempfile::tempdir().unwrap();
    let bad = format!("{}{{\"question\": \"q\", \"answer\": \"18\"}}\n", ROW.repeat(20));
    write(folder.path(), "a.jsonl", bad);
    let message = crate::program::refused(folder.path(), "gsm8k --dataset a.jsonl --limit 3 --show-prompt 0");
    assert!(message.contains("line 21 of a.jsonl"), "{message}");
    let cut = gzipped(&ROW.repeat(50_000));
    write(folder.path(), "a.jsonl.gz", &cut[..cut.len() - 40]);
    let message = crate::program::refused(folder.path(), "gsm8k --dataset a.jsonl.gz --limit 3 --show-prompt 0");
    assert!(message.contains("a.jsonl.gz cannot be unpacked"), "{message}");
}

#[cfg(unix)]
#[test]
fn rows_that_come_out_of_a_pipe_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("a.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    write(folder.path(), "b.jsonl", ROW.repeat(30));
    let written = std::fs::read(folder.path().join("b.jsonl")).unwrap();
    let opened = std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, &written).unwrap());
        open(&spec(pipe.to_str().unwrap())).unwrap()
    });
    let file = open(&spec(folder.path().join("b.jsonl").to_str().unwrap())).unwrap();
    assert_eq!((opened.sha256, opened.rows), (file.sha256, file.rows));
}

#[test]
fn a_place_that_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a.jsonl")).unwrap();
    let message = open(&spec(folder.path().join("a.jsonl").to_str().unwrap())).unwrap_err();
    assert!(message.contains("a.jsonl: it is no regular file"), "{message}");
}

#[test]
fn a_file_of_another_kind_than_its_name_says_is_named_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".as_bytes();
    let cut = gzipped(&ROW.repeat(100));
    for (name, bytes, what) in [
        ("a.jsonl", pointer, "a Git LFS pointer"),
        ("a.parquet", pointer, "a Git LFS pointer"),
        ("a.jsonl.gz", pointer, "a Git LFS pointer"),
        ("a.jsonl", &gzipped(ROW)[..], "is gzip"),
        ("a.csv", &zstd::encode_all(ROW.as_bytes(), 3).unwrap()[..], "is zstd"),
        ("a.jsonl.zst", &gzipped(ROW)[..], "is gzip"),
        ("a.json", b"PAR1", "is parquet"),
        ("a.parquet", ROW.as_bytes(), "is text, not parquet"),
        ("a.jsonl.gz", ROW.as_bytes(), "not gzip, as its name says"),
        ("a.jsonl", b"<!DOCTYPE html>", "a page of HTML"),
        ("a.tsv", b"\xff\xfea\0", "UTF-16"),
        ("a.jsonl", b"PK\x03\x04", "a zip archive"),
        ("a.jsonl.gz", &cut[..cut.len() / 2], "cannot be unpacked"),
    ] {
        let message = open(&write(folder.path(), name, bytes)).unwrap_err();
        assert!(message.contains(name) && message.contains(what), "{name}: {message}");
    }
}

#[test]
fn numbers_that_only_python_reads_in_json_are_no_fault_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let row = "{\"question\": \"is it \\\"NaN\\\" or -Infinity?\", \"answer\": \"#### 18\", \"a\": NaN, \"b\": [-Infinity, Infinity]}";
    for (name, text) in [("a.jsonl", row.to_owned()), ("a.json", format!("[{row}]"))] {
        let dataset = open(&write(folder.path(), name, text)).unwrap();
        assert_eq!(dataset.samples[0].question, "is it \"NaN\" or -Infinity?", "{name}");
    }
    let message = open(&write(folder.path(), "a.jsonl", "{\"question\": \"q\", \"answer\": NaN}")).unwrap_err();
    assert!(message.contains("has no `answer`"), "{message}");
}

#[test]
fn the_train_split_of_a_file_lies_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let row = |n: usize| format!("{{\"question\": \"q{n}\", \"answer\": \"#### {n}\"}}\n");
    let test = write(folder.path(), "my-test.jsonl", row(0));
    let protocol = Protocol::open("gsm8k").unwrap();
    let hub = Hub::from_environment(true).unwrap();
    let task = Task::gsm8k().unwrap();
    let load = |spec: &DatasetSpec, rows: usize| Fewshot::load(&protocol, None, (&task, spec), &hub, 0..rows);
    let message = load(&test, 1).unwrap_err().to_string();
    assert!(message.contains("none beside it") && message.contains("--fewshot FILE"), "{message}");
    let mut train = write(folder.path(), "my-train.jsonl", (0..4).map(row).collect::<String>());
    assert!(load(&test, 1).unwrap_err().to_string().contains("draws 5 examples"));
    write(folder.path(), "my-train.jsonl", (0..6).map(row).collect::<String>());
    assert!(load(&test, 1).is_ok());
    // On the train split itself, no question is its own example.
    train.split = "train".to_owned();
    let Ok((Fewshot::PerSample(rows), _)) = load(&train, 6) else { panic!("no examples") };
    assert_eq!(rows.len(), 6);
    for (index, examples) in rows {
        assert_eq!(examples.len(), 5);
        assert!(examples.iter().all(|(question, _)| *question != format!("q{index}")));
    }
}

/// Every `<<left operator right=result>>` of an answer, as numbers.
fn calculations(answer: &str) -> Vec<(i64, char, i64, i64)> {
    let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{text} in {answer}"));
    let parse = |text: &str| {
        let (calculation, result) = text.split_once('=').unwrap();
        let at = calculation.rfind(['+', '-', '*', '/']).unwrap();
        let operator = calculation[at..].chars().next().unwrap();
        (number(&calculation[..at]), operator, number(&calculation[at + 1..]), number(result))
    };
    answer.split("<<").skip(1).map(|rest| parse(rest.split_once(">>").unwrap().0)).collect()
}

#[test]
fn the_bundled_problems_are_sound() {
    let mut splits = ["test", "train"].map(|split| {
        let mut spec = spec("bundled");
        spec.split = split.to_owned();
        open(&spec).unwrap().samples
    });
    assert!(splits[0].len() >= 200, "{} test problems", splits[0].len());
    assert!(splits[1].len() > splits[0].len());
    for sample in splits.iter().flatten() {
        let calculations = calculations(&sample.answer);
        assert!((1..=3).contains(&calculations.len()), "{sample:?}");
        for &(left, operator, right, result) in &calculations {
            let exact = match operator {
                '+' => left + right == result,
                '-' => left - right == result,
                '*' => left * right == result,
                _ => right != 0 && left == right * result,
            };
            assert!(exact, "{left}{operator}{right}={result} in {sample:?}");
        }
        let last = calculations.last().map(|(.., result)| format!("#### {result}"));
        assert_eq!(sample.answer.lines().last(), last.as_deref(), "{sample:?}");
        assert_eq!(sample.answer.lines().count(), calculations.len() + 1, "one step a line: {sample:?}");
    }
    let steps = |count: usize| splits[0].iter().filter(|sample| calculations(&sample.answer).len() == count).count();
    assert!((1..=3).all(|count| steps(count) > 0), "the test problems have one, two and three steps");

    let [test, train] = splits.each_mut().map(|samples| {
        let mut questions: Vec<String> = samples.iter().map(|sample| sample.question.to_lowercase()).collect();
        let count = questions.len();
        questions.sort_unstable();
        questions.dedup();
        (questions, count)
    });
    assert_eq!(test.0.len(), test.1, "a test question stands twice");
    let shared = test.0.iter().find(|question| train.0.binary_search(question).is_ok());
    assert_eq!(shared, None, "a question is in both splits");
}

/// The real client against a stand-in for the hub: GSM8K by its hub id, and a file with other bytes under that name.
#[test]
fn gsm8k_comes_from_the_hub_and_only_with_the_right_hash() {
    use crate::hub_server::{HubServer, Repository};
    let Some(test) = crate::shared_file("gsm8k/main/test-00000-of-00001.parquet") else { return };
    let repository = |bytes: Vec<u8>| Repository {
        path: "datasets/openai/gsm8k".to_owned(),
        revisions: vec![("main".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned())],
        files: vec![("main/test-00000-of-00001.parquet".to_owned(), bytes, true)],
        gate: None,
        old_path: None,
    };
    let open = |bytes: Vec<u8>| {
        let (server, cache) = (HubServer::start(vec![repository(bytes)]), tempfile::tempdir().unwrap());
        Dataset::open(&spec("openai/gsm8k"), &server.client(cache.path())).map_err(|error| error.to_string())
    };
    let bytes = std::fs::read(test).unwrap();
    let dataset = open(bytes.clone()).unwrap();
    assert_eq!((dataset.samples.len(), dataset.name.as_str()), (1319, "openai/gsm8k"));
    assert!(dataset.source.contains("0123456789abcdef"), "{}", dataset.source);
    let error = open([bytes, b" ".to_vec()].concat()).expect_err("other bytes are refused");
    assert!(error.contains("has SHA-256") && error.contains("hint:"), "{error}");
}
