//! What a benchmark's template sees: the record's numbers, and the same as text that is ready to print.

use serde::Serialize;

use super::sweep_view::{StartupRow, SweepTable, cold_in_words, startup, tables};
use super::{BenchPlan, BenchRecord, BenchRow, DtypeBench, Figure, Lengths, ManyRun, Range, WorkloadPlan};
use crate::record::MemoryScope;
use crate::report::words::{NOTHING, digits, nothing, seconds_in_words, thousands};
use crate::report::{awq, model, variants};
use crate::text::bytes;

/// Letters of an engine's name that a table has room for.
const ENGINE_LETTERS: usize = 17;

/// The variables of a benchmark's template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct BenchView<'a> {
    /// The whole record, field by field.
    pub record: &'a BenchRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// `tinyllama (llama, 1.1 B parameters, stored as f16)`.
    pub model: String,
    /// `tinyllama-awq, awq-int4 (group 128)`: the model's AWQ form, where it lies in files of its own.
    pub awq: Option<String>,
    /// Further checkpoints: (variant, what it is).
    pub variants: Vec<(String, String)>,
    /// `cpu 0.1.0 on CPU, 2 threads, AVX2`.
    pub engine: String,
    /// `Some CPU, 16 cores`.
    pub machine: String,
    /// `random token ids`
    pub prompts: &'static str,
    /// `gsm8k-like: 1,319 requests, 121,330 prompt and 337,664 output tokens`.
    pub workload: String,
    /// `500 requests of 128 prompt and 64 output tokens`.
    pub concurrent: String,
    /// Where the weights were before the first load.
    pub page_cache: String,
    /// What the user broke off, if they did.
    pub interrupted: Option<String>,
    /// The peak of memory is the whole process's.
    pub memory_is_process_wide: bool,
    /// One a variant, then the peers'.
    pub rows: Vec<Row>,
    /// Those with a figure of loading, where loading was a part.
    pub load_rows: Vec<Row>,
    /// Those with a figure of one request alone, where that was a part.
    pub single_rows: Vec<Row>,
    /// Those with a figure of many requests at once, where that was a part.
    pub many_rows: Vec<Row>,
    /// The sweeps that were measured.
    pub sweeps: Vec<SweepTable>,
    /// A cold load and warm ones, where that was a part.
    pub startup_rows: Vec<StartupRow>,
    /// Figures of parts without tables of their own.
    pub figures: Vec<FigureRow>,
    /// Many requests of one length were a part.
    pub has_concurrent: bool,
    /// The workload was a part.
    pub has_workload: bool,
    /// What is left to say of a peer's row: `[1]`, its engine in full, its note.
    pub peer_notes: Vec<String>,
    /// `figures.json (an H200, 2026-01-01)`.
    pub peer_source: Option<String>,
    /// `(dtype, why)` of every variant that did not finish.
    pub failures: Vec<(String, String)>,
}

/// One engine in one variant.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `f16`
    pub dtype: String,
    /// `cpu 0.1.0`, or a peer's name with the number of its note.
    pub engine: String,
    /// Whether others measured it.
    pub is_peer: bool,
    /// Constructor to ready, seconds.
    pub load: String,
    /// Least and largest.
    pub load_range: String,
    /// The first of them.
    pub first_load: String,
    /// Of the last load: reading and casting weights.
    pub read: String,
    /// Constructor to first token, seconds.
    pub load_first_token: String,
    /// Milliseconds to the first token.
    pub ttft: String,
    /// Least and largest.
    pub ttft_range: String,
    /// Tokens a second after the first.
    pub decode: String,
    /// Least and largest.
    pub decode_range: String,
    /// Output tokens a second of many requests of one length.
    pub concurrent: String,
    /// Seconds of the workload.
    pub workload_seconds: String,
    /// Its output tokens a second.
    pub workload_speed: String,
    /// Weights in memory.
    pub weights: String,
    /// Peak memory.
    pub memory: String,
}

/// One figure of a part that has no table of its own.
#[derive(Debug, Clone, Serialize)]
pub struct FigureRow {
    /// `f16`
    pub dtype: String,
    /// The part.
    pub part: String,
    /// `time to first token`
    pub name: String,
    /// `6.06 ms`
    pub value: String,
}

impl<'a> BenchView<'a> {
    /// Of a record.
    pub fn new(record: &'a BenchRecord) -> Result<Self, serde_json::Error> {
        let mut rows: Vec<Row> = record.dtypes.iter().map(own_row).collect();
        let mut peer_notes: Vec<String> = Vec::new();
        for peer in record.peers.iter().flat_map(|peers| &peers.rows) {
            rows.push(peer_row(peer, &mut peer_notes));
        }
        let engines: Vec<String> = rows.iter().map(|row| row.engine.clone()).collect();
        let Header { model, awq, engine, machine, page_cache } = header(record);
        let has = |part: &str| record.plan.parts.iter().any(|name| name == part);
        let (has_concurrent, has_workload) = (has("concurrent"), has("workload"));
        let of = |is_shown: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is_shown(row)).cloned().collect();
        let load_rows = of(&|row| has("load") && is_there(&[&row.load, &row.load_first_token]));
        let single_rows = of(&|row| has("single") && is_there(&[&row.ttft, &row.decode]));
        let many_rows = of(&|row| {
            has_concurrent && is_there(&[&row.concurrent])
                || has_workload && is_there(&[&row.workload_seconds, &row.workload_speed])
        });
        Ok(Self {
            record,
            record_json: serde_json::to_string_pretty(record)?,
            model,
            awq,
            variants: variants(&record.target),
            engine,
            machine,
            prompts: if record.plan.prompts.starts_with("random words") { "random words" } else { "random token ids" },
            workload: workload_in_words(&record.plan.workload),
            concurrent: concurrent_in_words(&record.plan),
            page_cache,
            interrupted: record.interrupted.then(|| "interrupted: what is missing was not measured".to_owned()),
            memory_is_process_wide: record
                .dtypes
                .iter()
                .any(|dtype| dtype.peak_memory.is_some_and(|peak| peak.scope == MemoryScope::Process)),
            load_rows,
            single_rows,
            many_rows,
            sweeps: tables(record, &engines),
            startup_rows: startup(record, &engines),
            figures: record.dtypes.iter().flat_map(figure_rows).collect(),
            has_concurrent,
            has_workload,
            rows,
            peer_notes,
            peer_source: record.peers.as_ref().map(peer_source),
            failures: record.dtypes.iter().filter_map(failure).collect(),
        })
    }
}

/// What a record is of, in words.
pub(super) struct Header {
    pub(super) model: String,
    pub(super) awq: Option<String>,
    pub(super) engine: String,
    pub(super) machine: String,
    pub(super) page_cache: String,
}

pub(super) fn header(record: &BenchRecord) -> Header {
    let engine = record.dtypes.iter().find_map(|dtype| dtype.engine.as_ref());
    Header {
        model: model(&record.target.model),
        awq: awq(&record.target),
        engine: engine
            .map_or_else(nothing, |engine| format!("{} {} on {}", engine.name, engine.version, engine.device)),
        machine: format!("{}, {} cores", record.machine.cpu, record.machine.cores),
        page_cache: page_cache(record),
    }
}

/// `gsm8k-like: 1,319 requests, 121,330 prompt and 337,664 output tokens`.
pub(super) fn workload_in_words(workload: &WorkloadPlan) -> String {
    let [taken, prompt, output] =
        [workload.taken, workload.prompt_tokens, workload.output_tokens].map(|count| thousands(count as u64));
    format!("{}: {taken} requests, {prompt} prompt and {output} output tokens", workload.name)
}

/// `500 requests, 128 prompt and 64 output tokens each`.
pub(super) fn concurrent_in_words(plan: &BenchPlan) -> String {
    let Lengths { requests, prompt_tokens, output_tokens } = plan.concurrent;
    format!("{} requests, {prompt_tokens} prompt and {output_tokens} output tokens each", thousands(requests as u64))
}

fn figure_rows(bench: &DtypeBench) -> Vec<FigureRow> {
    let figures = bench.figures.iter().flat_map(|(part, figures)| figures.iter().map(move |figure| (part, figure)));
    let row = |(part, figure): (&String, &Figure)| FigureRow {
        dtype: bench.dtype.to_string(),
        part: part.clone(),
        name: figure.name.clone(),
        value: format!("{} {}", digits(figure.value), figure.unit).trim_end().to_owned(),
    };
    figures.map(row).collect()
}

/// Whether one of these was measured.
fn is_there(figures: &[&str]) -> bool {
    figures.iter().any(|figure| *figure != NOTHING)
}

fn own_row(bench: &DtypeBench) -> Row {
    let engine = bench.engine.as_ref();
    let seconds = |range: Option<Range>| range.map_or_else(nothing, |range| seconds_in_words(range.median));
    let (load, ttft, decode) = (bench.load_seconds(), bench.ttft_milliseconds(), bench.decode_tokens_per_second());
    let figure = |range: Option<Range>| range.map_or_else(nothing, |range| digits(range.median));
    let speed = |run: Option<ManyRun>| run.map_or_else(nothing, |run| digits(run.output_tokens_per_second));
    Row {
        dtype: bench.dtype.to_string(),
        engine: engine.map_or_else(nothing, |engine| format!("{} {}", engine.name, engine.version)),
        is_peer: false,
        load: seconds(load),
        load_range: load.map_or_else(nothing, |range| ends(range, seconds_in_words)),
        first_load: bench.loads.first().map_or_else(nothing, |load| seconds_in_words(load.seconds)),
        read: bench.loads.last().map_or_else(nothing, |load| seconds_in_words(load.engine.read_seconds)),
        load_first_token: seconds(bench.load_first_token_seconds()),
        ttft: figure(ttft),
        ttft_range: ttft.map_or_else(nothing, |range| ends(range, digits)),
        decode: figure(decode),
        decode_range: decode.map_or_else(nothing, |range| ends(range, digits)),
        concurrent: speed(bench.concurrent),
        workload_seconds: bench.workload.map_or_else(nothing, |run| seconds_in_words(run.seconds)),
        workload_speed: speed(bench.workload),
        weights: engine.and_then(|engine| engine.weight_bytes).map_or_else(nothing, bytes),
        memory: bench.peak_memory.map_or_else(nothing, |peak| bytes(peak.bytes)),
    }
}

fn peer_row(peer: &BenchRow, notes: &mut Vec<String>) -> Row {
    let figure = |value: Option<f64>| value.map_or_else(nothing, digits);
    let seconds = |value: Option<f64>| value.map_or_else(nothing, seconds_in_words);
    Row {
        dtype: peer.dtype.clone(),
        engine: peer_engine(peer, notes),
        is_peer: true,
        load: seconds(peer.load_s),
        load_range: nothing(),
        first_load: nothing(),
        read: nothing(),
        load_first_token: seconds(peer.load_first_token_s),
        ttft: figure(peer.b1_ttft_ms),
        ttft_range: nothing(),
        decode: figure(peer.b1_decode_tok_s),
        decode_range: nothing(),
        concurrent: figure(peer.req500_128_64_tok_s),
        workload_seconds: seconds(peer.gsm8k_shape_s),
        workload_speed: figure(peer.gsm8k_shape_tok_s),
        weights: nothing(),
        memory: nothing(),
    }
}

/// The name before the first comma or bracket, with the number of a note that says the rest.
fn peer_engine(peer: &BenchRow, notes: &mut Vec<String>) -> String {
    let short = peer.engine.split([',', '(']).next().unwrap_or_default().trim();
    let cut: String = short.chars().take(ENGINE_LETTERS).collect();
    if cut == peer.engine && peer.note.is_none() {
        return cut;
    }
    let rest = peer.note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
    let said = format!("{}{rest}", peer.engine);
    let number = notes.iter().position(|note| note.ends_with(&said)).unwrap_or_else(|| {
        notes.push(format!("[{}] {said}", notes.len() + 1));
        notes.len() - 1
    });
    format!("{} [{}]", cut.trim_end(), number + 1)
}

/// `figures.json (an H200; 2026-01-01)`.
pub(super) fn peer_source(peers: &crate::jobs::bench::Peers) -> String {
    let name = peers.source.rsplit('/').next().unwrap_or_default();
    let about: Vec<&str> = [&peers.machine, &peers.date].into_iter().flatten().map(String::as_str).collect();
    if about.is_empty() { name.to_owned() } else { format!("{name} ({})", about.join("; ")) }
}

fn page_cache(record: &BenchRecord) -> String {
    if let Some(cold) = cold_in_words(record) {
        return cold;
    }
    if record.target.model.endpoint.is_some() {
        return "unknown: the model answers elsewhere".to_owned();
    }
    let read: Vec<_> = record.dtypes.iter().filter_map(|dtype| dtype.read_through).collect();
    if read.is_empty() {
        return "the weights are compiled in".to_owned();
    }
    let fits = read.iter().all(|read| read.available_memory_bytes.is_none_or(|available| available > read.bytes));
    if fits {
        "warm: all weights were read once before the first load".to_owned()
    } else {
        "cold in part: the weights are larger than the memory that was available".to_owned()
    }
}

fn failure(bench: &DtypeBench) -> Option<(String, String)> {
    let why = bench.failure.as_deref()?.lines().next().unwrap_or_default();
    Some((bench.dtype.to_string(), why.to_owned()))
}

fn ends(range: Range, show: fn(f64) -> String) -> String {
    format!("{}–{}", show(range.minimum), show(range.maximum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_its_two_ends() {
        let range = Range { median: 2.0, minimum: 1.0, maximum: 12.0 };
        assert_eq!(ends(range, digits), "1.00–12.0");
    }

    #[test]
    fn long_names_become_notes_and_equal_ones_share_theirs() {
        let mut notes = Vec::new();
        let row = |engine: &str, note: Option<&str>| BenchRow {
            engine: engine.to_owned(),
            note: note.map(str::to_owned),
            ..BenchRow::default()
        };
        assert_eq!(peer_engine(&row("P 1.0", None), &mut notes), "P 1.0");
        assert_eq!(peer_engine(&row("P 1.0 (fast mode)", None), &mut notes), "P 1.0 [1]");
        assert_eq!(peer_engine(&row("P 1.0", Some("elsewhere")), &mut notes), "P 1.0 [2]");
        assert_eq!(peer_engine(&row("P 1.0 (fast mode)", None), &mut notes), "P 1.0 [1]");
        assert_eq!(peer_engine(&row("A very long name of an engine", None), &mut notes), "A very long name [3]");
        assert_eq!(notes[..2], ["[1] P 1.0 (fast mode)", "[2] P 1.0; elsewhere"]);
    }
}
