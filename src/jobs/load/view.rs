//! What a load test's template sees: the record's numbers, and the same as text that is ready to print.

use serde::Serialize;

use super::{Distribution, LevelPlan, LevelRecord, LoadPeer, LoadRecord, VariantLoad};
use crate::record::LoadPoint;
use crate::report::words::{NOTHING, nothing, p_value, percent, points};
use crate::report::{model, variants};

/// The variables of a load test's template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct LoadView<'a> {
    /// The whole record, field by field.
    pub record: &'a LoadRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// What is asked.
    pub model: String,
    /// Further checkpoints and endpoints: (variant, what it is).
    pub variants: Vec<(String, String)>,
    /// Engines by variant: (variant, `cpu 0.1.0 on CPU, 2 threads`).
    pub engines: Vec<(String, String)>,
    /// `Some CPU, 16 cores`.
    pub machine: String,
    /// `greedy, prompts …`.
    pub prompts: String,
    /// What the user broke off, if they did.
    pub interrupted: Option<String>,
    /// `TTFT 200 ms, ITL 20 ms`, where limits were given.
    pub slo: Option<String>,
    /// One a level and variant.
    pub rows: Vec<Row>,
    /// One a level and variant, where answers are scored.
    pub scores: Vec<ScoreRow>,
    /// Those that stand against an idle run.
    pub paired: Vec<ScoreRow>,
    /// Three a level and variant.
    pub times: Vec<TimeRow>,
    /// `vLLM 0.24.0 f16, from peers.json; note`: one a peer whose rows stand there.
    pub elsewhere: Vec<String>,
    /// `(variant, level, cause, how many, the first in full)`.
    pub failed: Vec<(String, String, String, usize, String)>,
    /// `(variant, why)` of every variant that did not finish.
    pub failures: Vec<(String, String)>,
}

/// Throughput of a level.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which.
    pub variant: String,
    /// `20 users`.
    pub level: String,
    /// Requests sent.
    pub sent: String,
    /// Answered.
    pub ok: String,
    /// Answers a second.
    pub rate: String,
    /// Output tokens a second.
    pub output: String,
    /// Prompt tokens a second.
    pub prompt: String,
    /// Answers a second within the limits.
    pub goodput: String,
    /// The whole level, seconds.
    pub seconds: String,
    /// The KV cache at its fullest.
    pub cache: String,
}

/// What a level's answers are worth.
#[derive(Debug, Clone, Serialize)]
pub struct ScoreRow {
    /// Which.
    pub variant: String,
    /// `20 users`; `idle` is one user.
    pub level: String,
    /// Questions that were answered.
    pub answered: String,
    /// Answers with a value.
    pub extracted: String,
    /// Cut off by the limit of tokens or the context.
    pub cut: String,
    /// `78.5`, percent of those answered.
    pub accuracy: String,
    /// `72.3-83.6`: Wilson's.
    pub interval: String,
    /// Right answers a second that kept every limit.
    pub right: String,
    /// `-0.5` percentage points against the idle run.
    pub delta: String,
    /// `[-1.5, +0.5]`: Tango's.
    pub delta_interval: String,
    /// Right in the idle run alone.
    pub lost: String,
    /// Right under load alone.
    pub won: String,
    /// The exact p-value of `McNemar`.
    pub p: String,
}

/// A distribution of a level, milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct TimeRow {
    /// Which.
    pub variant: String,
    /// `20 users`.
    pub level: String,
    /// `TTFT`
    pub name: &'static str,
    /// Their mean.
    pub mean: String,
    /// The median.
    pub p50: String,
    /// 90 %.
    pub p90: String,
    /// 95 %.
    pub p95: String,
    /// 99 %.
    pub p99: String,
    /// The largest.
    pub max: String,
}

impl<'a> LoadView<'a> {
    /// The view of a record.
    pub fn new(record: &'a LoadRecord) -> Result<Self, serde_json::Error> {
        let levels = || record.variants.iter().flat_map(|one| one.levels.iter().map(move |level| (one, level)));
        let measured = || record.plan.levels.iter().filter(|level| levels().any(|(_, own)| own.level == **level));
        let peers = || {
            let at = |peer: &'a LoadPeer| measured().filter_map(move |level| Some((peer, level, peer.at(level)?)));
            record.peers.iter().flat_map(at).collect::<Vec<_>>().into_iter()
        };
        let scores: Vec<ScoreRow> = levels().filter_map(|(one, level)| score_row(one, level)).collect();
        let engine = |one: &VariantLoad| {
            let engine = one.engine.as_ref()?;
            Some((one.dtype.to_string(), format!("{} {} on {}", engine.name, engine.version, engine.device)))
        };
        Ok(Self {
            record_json: serde_json::to_string_pretty(record)?,
            record,
            model: model(&record.target.model),
            variants: variants(&record.target),
            engines: record.variants.iter().filter_map(engine).collect(),
            machine: format!("{}, {} cores", record.machine.cpu, record.machine.cores),
            prompts: format!(
                "{}; {}{}",
                record.plan.prompts,
                record.plan.decoding,
                if record.plan.exact_lengths {
                    ", ends of sequence ignored".to_owned()
                } else {
                    format!(", at most {} tokens", record.plan.max_tokens)
                }
            ),
            interrupted: record.interrupted.then(|| "Interrupted: levels are missing, or end early".to_owned()),
            slo: (!record.plan.slo.is_none()).then(|| record.plan.slo.to_string()),
            rows: levels()
                .map(|(one, level)| row(one, level))
                .chain(peers().map(|(peer, level, point)| peer_row(peer, level, point)))
                .collect(),
            paired: scores.iter().filter(|row| !row.delta.is_empty()).cloned().collect(),
            scores,
            times: levels()
                .flat_map(|(one, level)| times(one, level))
                .chain(peers().flat_map(|(peer, level, point)| peer_times(peer, level, point)))
                .collect(),
            elsewhere: elsewhere(record, peers().map(|(peer, ..)| peer)),
            failed: levels().flat_map(|(one, level)| failed(one, level)).collect(),
            failures: record
                .variants
                .iter()
                .filter_map(|one| Some((one.dtype.to_string(), one.failure.clone()?)))
                .collect(),
        })
    }
}

fn row(one: &VariantLoad, level: &LevelRecord) -> Row {
    let figures = &level.figures;
    let number = |value: Option<f64>| value.map_or_else(nothing, |value| format!("{value:.1}"));
    let used = level.cache.iter().filter_map(|point| point.used).max_by(f64::total_cmp);
    Row {
        variant: one.dtype.to_string(),
        level: level.level.to_string(),
        sent: figures.sent.to_string(),
        ok: figures.completed.to_string(),
        rate: format!("{:.2}", figures.requests_per_second),
        output: number(figures.output_tokens_per_second),
        prompt: number(figures.prompt_tokens_per_second),
        goodput: figures.goodput.map_or_else(nothing, |goodput| format!("{goodput:.2}")),
        seconds: format!("{:.2}", figures.seconds),
        cache: used.map_or_else(nothing, |used| format!("{:.1} %", used * 100.0)),
    }
}

/// Letters of a peer's name that a table has room for.
const PEER_LETTERS: usize = 17;

fn peer_name(peer: &LoadPeer) -> String {
    let engine: String =
        peer.engine.split([',', '(']).next().unwrap_or_default().trim().chars().take(PEER_LETTERS).collect();
    format!("{} {}", engine.trim_end(), peer.variant)
}

/// One line a peer.
fn elsewhere<'a>(record: &LoadRecord, shown: impl Iterator<Item = &'a LoadPeer>) -> Vec<String> {
    let shown: Vec<&LoadPeer> = shown.collect();
    let line = |peer: &LoadPeer| {
        let note = peer.note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
        format!("{}: {}, from {}{note}", peer_name(peer), peer.engine, peer.source)
    };
    record.peers.iter().filter(|peer| shown.contains(peer)).map(line).collect()
}

fn peer_row(peer: &LoadPeer, level: &LevelPlan, point: &LoadPoint) -> Row {
    let number = |value: Option<f64>, digits: usize| value.map_or_else(nothing, |value| format!("{value:.digits$}"));
    Row {
        variant: peer_name(peer),
        level: level.to_string(),
        sent: nothing(),
        ok: nothing(),
        rate: number(point.requests_per_second, 2),
        output: number(point.tokens_per_second, 1),
        prompt: nothing(),
        goodput: nothing(),
        seconds: number(point.seconds, 2),
        cache: nothing(),
    }
}

fn peer_times(peer: &LoadPeer, level: &LevelPlan, point: &LoadPoint) -> Vec<TimeRow> {
    let row = |name: &'static str, [mean, p50, p99]: [Option<f64>; 3]| {
        let ms = |value: Option<f64>| value.map_or_else(nothing, |value| milliseconds(value / 1e3));
        [mean, p50, p99].iter().any(Option::is_some).then(|| TimeRow {
            variant: peer_name(peer),
            level: level.to_string(),
            name,
            mean: ms(mean),
            p50: ms(p50),
            p90: nothing(),
            p95: nothing(),
            p99: ms(p99),
            max: nothing(),
        })
    };
    let rows = [
        row("TTFT", [point.ttft_mean_ms, point.ttft_p50_ms, point.ttft_p99_ms]),
        row("ITL", [point.itl_mean_ms, point.itl_p50_ms, point.itl_p99_ms]),
        row("E2E", [point.e2e_mean_ms, point.e2e_p50_ms, point.e2e_p99_ms]),
    ];
    rows.into_iter().flatten().collect()
}

fn score_row(one: &VariantLoad, level: &LevelRecord) -> Option<ScoreRow> {
    let score = level.score.as_ref()?;
    let paired = score.against_idle;
    let is_idle = one.levels.first().is_some_and(|first| std::ptr::eq(first, level));
    Some(ScoreRow {
        variant: one.dtype.to_string(),
        level: if is_idle { "idle".to_owned() } else { level.level.to_string() },
        answered: score.answered.to_string(),
        extracted: score.extracted.to_string(),
        cut: score.cut.to_string(),
        accuracy: score.accuracy.map_or_else(nothing, |accuracy| percent(accuracy.value)),
        interval: score.accuracy.map_or_else(nothing, |it| format!("{}-{}", percent(it.low), percent(it.high))),
        right: format!("{:.2}", score.right_per_second),
        delta: paired.map_or_else(String::new, |paired| points(paired.difference)),
        delta_interval: paired
            .map_or_else(String::new, |it| format!("[{}, {}]", points(it.difference_low), points(it.difference_high))),
        lost: paired.map_or_else(String::new, |paired| paired.lost.to_string()),
        won: paired.map_or_else(String::new, |paired| paired.gained.to_string()),
        p: paired.map_or_else(String::new, |paired| p_value(paired.mcnemar_p)),
    })
}

fn times(one: &VariantLoad, level: &LevelRecord) -> [TimeRow; 3] {
    let row = |name: &'static str, of: Option<Distribution>| {
        let ms = |value: fn(&Distribution) -> f64| {
            of.as_ref().map_or_else(|| NOTHING.to_owned(), |of| milliseconds(value(of)))
        };
        TimeRow {
            variant: one.dtype.to_string(),
            level: level.level.to_string(),
            name,
            mean: ms(|of| of.mean),
            p50: ms(|of| of.p50),
            p90: ms(|of| of.p90),
            p95: ms(|of| of.p95),
            p99: ms(|of| of.p99),
            max: ms(|of| of.max),
        }
    };
    [row("TTFT", level.figures.ttft), row("ITL", level.figures.itl), row("E2E", level.figures.e2e)]
}

/// Three digits that matter: 0.512, 20.4, 1234.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ..10.0 => format!("{ms:.2}"),
        ..1000.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn failed(one: &VariantLoad, level: &LevelRecord) -> Vec<(String, String, String, usize, String)> {
    let first = |cause: &String| {
        let found = level.requests.iter().find(|request| request.cause.as_ref() == Some(cause));
        found.and_then(|request| request.error.clone()).unwrap_or_default()
    };
    let words = |(cause, count): (&String, &usize)| {
        (one.dtype.to_string(), level.level.to_string(), cause.clone(), *count, first(cause))
    };
    level.figures.failed.iter().map(words).collect()
}
