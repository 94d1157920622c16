//! What a dataset costs in memory does not grow with its rows: a million of each kind of file, of which a run takes ten.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use evalsuite::jobs::eval::EvalRecord;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::program::{evalsuite, text};
use crate::skip::skip;

const MANY: usize = 1_000_000;
/// Less than a third of the smallest of the files holds once it is unpacked, and than a tenth of what its rows would take.
const ROOM: u64 = 20 << 20;

/// How a command ends, and the most memory that was resident in it, in bytes; none where the system does not say.
fn peak(arguments: &[&str]) -> (Output, Option<u64>) {
    let mut command = evalsuite();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (path, mut peak) = (format!("/proc/{}/status", child.id()), None);
    // The mark only rises, so that the last look is the highest; one who has ended has none.
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        peak = peak.max(evalsuite::system::kilobytes(&status, "VmHWM"));
        std::thread::sleep(Duration::from_millis(2));
    }
    (child.wait_with_output().unwrap(), peak)
}

fn question(row: usize) -> String {
    format!("{row} boxes hold 12 eggs each. How many eggs are there in all?")
}

fn answer(row: usize) -> String {
    format!("#### {}", 12 * row)
}

/// A file of `rows` rows, of the kind that its name says.
fn write(path: &Path, rows: usize) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    let file = BufWriter::new(File::create(path).unwrap());
    let mut out: Box<dyn Write + Send> = match name.rsplit_once('.').unwrap().1 {
        "gz" => Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast())),
        "zst" => Box::new(zstd::stream::write::Encoder::new(file, 1).unwrap().auto_finish()),
        _ => Box::new(file),
    };
    let object = |row: usize| format!("{{\"question\": \"{}\", \"answer\": \"{}\"}}", question(row), answer(row));
    match plain.rsplit_once('.').unwrap().1 {
        "parquet" => {
            let one_group = plain.starts_with("one-group");
            let codec = if one_group { Compression::ZSTD(ZstdLevel::default()) } else { Compression::SNAPPY };
            write_parquet(out, rows, if one_group { rows } else { 100_000 }, codec);
        }
        "jsonl" => (0..rows).for_each(|row| writeln!(out, "{}", object(row)).unwrap()),
        "json" => {
            for row in 0..rows {
                write!(out, "{}{}", if row == 0 { "[" } else { "," }, object(row)).unwrap();
            }
            write!(out, "]").unwrap();
        }
        kind => {
            let mark = if kind == "tsv" { "\t" } else { "," };
            writeln!(out, "question{mark}answer").unwrap();
            (0..rows).for_each(|row| writeln!(out, "{}{mark}{}", question(row), answer(row)).unwrap());
        }
    }
}

fn write_parquet(out: impl Write + Send, rows: usize, group: usize, codec: Compression) {
    let schema = "message schema { required binary question (UTF8); required binary answer (UTF8); }";
    let properties = WriterProperties::builder().set_compression(codec).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).unwrap();
    for first in (0..rows).step_by(group) {
        let mut columns = writer.next_row_group().unwrap();
        for value in [question, answer] {
            let mut column = columns.next_column().unwrap().unwrap();
            for start in (first..rows.min(first + group)).step_by(10_000) {
                let values: Vec<ByteArray> = (start..rows.min(first + group).min(start + 10_000))
                    .map(|row| value(row).as_str().into())
                    .collect();
                column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            column.close().unwrap();
        }
        columns.close().unwrap();
    }
    writer.close().unwrap();
}

/// A run of ten samples.
fn run<'a>(dataset: &'a str, protocol: &'a str, out: &'a str) -> Vec<&'a str> {
    let fixed = ["gsm8k", "--engine", "cpu", "--threads", "1", "--dtype", "f32", "--limit", "10", "--max-tokens", "2"];
    [&fixed[..], &["--protocol", protocol, "--dataset", dataset, "--out", out]].concat()
}

/// Holds a run on `file` of a million rows against one on ten rows, and gives its record.
fn hold(file: &str, protocol: &str, write: impl Fn(&Path, usize)) -> Option<EvalRecord> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut peaks = Vec::new();
    for rows in [10, MANY] {
        let place = folder.path().join(rows.to_string());
        std::fs::create_dir(&place).unwrap();
        write(&place, rows);
        let (dataset, out) = (place.join(file).display().to_string(), place.join("run").display().to_string());
        let (output, peak) = peak(&run(&dataset, protocol, &out));
        assert!(output.status.success(), "{file}: {}", text(&output.stderr));
        let record = EvalRecord::read(&place.join("run/record.json")).unwrap();
        assert_eq!((record.plan.dataset.rows, record.plan.dataset.chosen), (rows, 10), "{file}");
        let Some(peak) = peak else {
            skip("linux", "only Linux says how much memory a process took");
            return None;
        };
        peaks.push((peak, record));
    }
    let (ten, million) = (peaks[0].0, peaks[1].0);
    assert!(million < ten + ROOM, "{file}: {million} bytes for a million rows, {ten} for ten");
    peaks.pop().map(|(_, record)| record)
}

fn hold_kinds(names: &[&str]) {
    for name in names {
        hold(name, "direct", |place, rows| write(&place.join(name), rows));
    }
}

#[test]
fn a_million_rows_of_json_cost_no_more_memory_than_ten() {
    hold_kinds(&["a.jsonl", "a.jsonl.gz", "a.json.zst"]);
}

#[test]
fn a_million_rows_of_csv_cost_no_more_memory_than_ten() {
    hold_kinds(&["a.csv", "a.tsv.gz"]);
}

#[test]
fn a_million_rows_of_parquet_cost_no_more_memory_than_ten() {
    hold_kinds(&["a.parquet", "one-group.parquet", "a.parquet.gz"]);
}

#[test]
fn a_million_rows_to_draw_examples_from_cost_no_more_memory_than_ten() {
    hold("my-test.jsonl", "gsm8k", |place, rows| {
        write(&place.join("my-test.jsonl"), rows);
        write(&place.join("my-train.jsonl"), rows.max(5));
    });
}

#[test]
fn the_hash_of_shards_that_are_read_piece_by_piece_is_that_of_their_bytes() {
    let shard = |number: usize| format!("test-0000{number}-of-00002.jsonl");
    let record = hold("", "direct", |place, rows| {
        write(&place.join(shard(0)), rows / 2);
        write(&place.join(shard(1)), rows - rows / 2);
    });
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let hashes = [0, 1].map(|number| {
        let path = folder.path().join(shard(number));
        write(&path, MANY / 2);
        evalsuite::files::sha256(&std::fs::read(path).unwrap())
    });
    if let Some(record) = record {
        assert_eq!(record.plan.dataset.sha256, evalsuite::files::sha256(hashes.concat().as_bytes()));
    }
}
