//! What a benchmark's template sees of sweeps and of a cold start.

use serde::Serialize;

use super::sweep::SweepPoint;
use super::{BenchRecord, DtypeBench, LoadRun, Range};
use crate::record::SweepAxis;
use crate::report::words::{digits, nothing, seconds_in_words};
use crate::score::Spread;
use crate::text::bytes;

/// One sweep.
#[derive(Debug, Clone, Serialize)]
pub struct SweepTable {
    /// `batch`
    pub sweep: String,
    /// `n requests at once of 128 prompt and 64 output tokens`
    pub description: String,
    /// Point by point; at each our own variants, then the peers.
    pub rows: Vec<SweepRow>,
}

/// One engine in one variant at one point.
#[derive(Debug, Clone, Serialize)]
pub struct SweepRow {
    /// Where on the sweep's axis.
    pub at: String,
    /// `f16`
    pub dtype: String,
    /// `cpu 0.1.0`, or a peer's name with the number of its note.
    pub engine: String,
    /// Whether others measured it.
    pub is_peer: bool,
    /// Output tokens a second, the median of the repetitions.
    pub speed: String,
    /// Least and largest.
    pub range: String,
    /// `9,112 ± 13`: mean and standard deviation.
    pub mean: String,
    /// The standard deviation alone.
    pub deviation: String,
    /// Seconds of a repetition, the median.
    pub seconds: String,
    /// A request's milliseconds to its first token: mean over the requests, median of the repetitions.
    pub ttft: String,
    /// A request's seconds to its last token, likewise.
    pub latency: String,
    /// Of a peer: our speed in the same precision as a multiple of its.
    pub ratio: String,
}

/// One kind of load.
#[derive(Debug, Clone, Serialize)]
pub struct StartupRow {
    /// `f16`
    pub dtype: String,
    /// `cpu 0.1.0`
    pub engine: String,
    /// `cold` or `warm`
    pub state: &'static str,
    /// Constructor to ready, seconds; of warm ones the median, as all that follows.
    pub ready: String,
    /// Least and largest.
    pub ready_range: String,
    /// Reading and casting weights, seconds.
    pub read: String,
    /// Everything else until the engine was ready, seconds.
    pub prepare: String,
    /// From ready to the first token, seconds.
    pub first_token: String,
    /// Constructor to first token, seconds.
    pub total: String,
    /// Bytes that came from the disk and not from the page cache.
    pub disk: String,
}

/// The sweeps of a record. `engines` names those of its variants and then those of its peers, as tables show them.
pub(super) fn tables(record: &BenchRecord, engines: &[String]) -> Vec<SweepTable> {
    let own: Vec<(&DtypeBench, &String)> = record.dtypes.iter().zip(engines).collect();
    let peers = record.peers.iter().flat_map(|peers| &peers.rows);
    let peers: Vec<_> = peers.zip(engines.iter().skip(record.dtypes.len())).collect();
    let table = |sweep: SweepAxis| {
        let mut points: Vec<usize> = of(record, sweep).map(|measured| measured.point.at).collect();
        points.sort_unstable();
        points.dedup();
        let rows = points.iter().flat_map(|at| {
            let here = |bench: &'_ DtypeBench| {
                bench.sweeps.iter().find(|measured| (measured.point.sweep, measured.point.at) == (sweep, *at)).cloned()
            };
            let ours = own.iter().filter_map(|(bench, engine)| Some(own_row(bench, engine, &here(bench)?)));
            let theirs = peers.iter().filter_map(|(peer, engine)| {
                let speed = *peer.sweeps.get(&sweep)?.get(at)?;
                let ours = own.iter().find(|(bench, _)| bench.dtype.to_string() == peer.dtype);
                let standard = ours.and_then(|(bench, _)| here(bench)).filter(SweepPoint::is_standard);
                let ratio = standard.and_then(|measured| Some(measured.tokens_per_second()?.median / speed));
                Some(peer_row(*at, &peer.dtype, engine, speed, ratio))
            });
            ours.chain(theirs).collect::<Vec<_>>()
        });
        let rows: Vec<SweepRow> = rows.collect();
        let first = of(record, sweep).next()?;
        Some(SweepTable { sweep: sweep.name().to_owned(), description: description(first), rows })
    };
    SweepAxis::ALL.into_iter().filter_map(table).collect()
}

fn of(record: &BenchRecord, sweep: SweepAxis) -> impl Iterator<Item = &SweepPoint> {
    record.dtypes.iter().flat_map(|bench| &bench.sweeps).filter(move |measured| measured.point.sweep == sweep)
}

/// What a sweep's requests are.
pub(super) fn description(measured: &SweepPoint) -> String {
    let lengths = measured.point.lengths;
    match measured.point.sweep {
        SweepAxis::Length => format!("{} requests at once of n prompt and n output tokens", lengths.requests),
        SweepAxis::Batch | SweepAxis::Requests => {
            format!(
                "n requests at once of {} prompt and {} output tokens",
                lengths.prompt_tokens, lengths.output_tokens
            )
        }
    }
}

fn own_row(bench: &DtypeBench, engine: &str, measured: &SweepPoint) -> SweepRow {
    let speed = measured.tokens_per_second();
    let median = |spread: Option<Spread>, show: fn(f64) -> String| spread.map_or_else(nothing, |it| show(it.median));
    SweepRow {
        at: measured.point.at.to_string(),
        dtype: bench.dtype.to_string(),
        engine: engine.to_owned(),
        is_peer: false,
        speed: median(speed, digits),
        range: speed.map_or_else(nothing, |it| format!("{}–{}", digits(it.minimum), digits(it.maximum))),
        mean: speed.map_or_else(nothing, mean_in_words),
        deviation: speed.and_then(|it| it.deviation).map_or_else(nothing, digits),
        seconds: median(measured.seconds(), seconds_in_words),
        ttft: median(measured.ttft_milliseconds(), digits),
        latency: median(measured.latency_seconds(), seconds_in_words),
        ratio: String::new(),
    }
}

/// `9,112 ± 13`; of one repetition no deviation is known.
fn mean_in_words(spread: Spread) -> String {
    spread
        .deviation
        .map_or_else(|| digits(spread.mean), |deviation| format!("{} ± {}", digits(spread.mean), digits(deviation)))
}

fn peer_row(at: usize, dtype: &str, engine: &str, speed: f64, ratio: Option<f64>) -> SweepRow {
    SweepRow {
        at: at.to_string(),
        dtype: dtype.to_owned(),
        engine: engine.to_owned(),
        is_peer: true,
        speed: digits(speed),
        range: nothing(),
        mean: nothing(),
        deviation: nothing(),
        seconds: nothing(),
        ttft: nothing(),
        latency: nothing(),
        ratio: ratio.map_or_else(nothing, digits),
    }
}

/// The cold load and the median of the warm ones, of every variant that has a cold one.
pub(super) fn startup(record: &BenchRecord, engines: &[String]) -> Vec<StartupRow> {
    let rows = |(bench, engine): (&DtypeBench, &String)| {
        let cold = bench.cold_load.as_ref()?;
        let of = |state, loads: &[LoadRun]| startup_row(bench, engine, state, loads);
        Some([Some(of("cold", &[cold.run])), (!bench.loads.is_empty()).then(|| of("warm", &bench.loads))])
    };
    record.dtypes.iter().zip(engines).filter_map(rows).flatten().flatten().collect()
}

fn startup_row(bench: &DtypeBench, engine: &str, state: &'static str, loads: &[LoadRun]) -> StartupRow {
    let range = |figure: fn(&LoadRun) -> f64| Range::of(loads.iter().map(figure));
    let seconds = |figure| range(figure).map_or_else(nothing, |range| seconds_in_words(range.median));
    let ready = range(|load| load.seconds);
    let ends = |range: Range| format!("{}–{}", seconds_in_words(range.minimum), seconds_in_words(range.maximum));
    StartupRow {
        dtype: bench.dtype.to_string(),
        engine: engine.to_owned(),
        state,
        ready: seconds(|load| load.seconds),
        ready_range: ready.filter(|_| loads.len() > 1).map_or_else(nothing, ends),
        read: seconds(|load| load.engine.read_seconds),
        prepare: seconds(|load| load.engine.prepare_seconds),
        first_token: seconds(|load| load.first_token_seconds - load.seconds),
        total: seconds(|load| load.first_token_seconds),
        disk: loads.iter().map(|load| load.disk_bytes).max().flatten().map_or_else(nothing, bytes),
    }
}

/// Where the weights were before the first load, if that was to be a cold one.
pub(super) fn cold_in_words(record: &BenchRecord) -> Option<String> {
    let cold: Vec<_> = record.dtypes.iter().filter_map(|bench| bench.cold_load.as_ref()).collect();
    let files = cold.iter().find_map(|load| Some((load.weight_file_bytes?, load.run.disk_bytes)));
    let Some((all, from_disk)) = files else {
        return (!cold.is_empty())
            .then(|| "the weights are compiled in: the cold load is the process's first".to_owned());
    };
    Some(match from_disk {
        None => {
            "taken out of the page cache before the cold load; this system does not say whether they left it".to_owned()
        }
        Some(read) if read >= all / 10 * 9 => {
            format!("on the disk alone before the cold load, which read {} there; then in the page cache", bytes(read))
        }
        Some(read) => format!(
            "in the page cache, which kept them: the cold load read {} of {} from the disk",
            bytes(read),
            bytes(all)
        ),
    })
}
