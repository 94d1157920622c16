//! The results of `evalsuite bench`, with every repetition and everything needed to believe them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lengths::Lengths;
use super::sweep::{SweepPlan, SweepPoint, figures, is_none};
use crate::engine::{Devices, EngineInfo, LoadTimes};
use crate::record::{
    Invocation, Machine, PeakMemory, RecordError, SweepFigures, TargetPlan, VariantName, read_json, write_json,
};
use crate::score::quantile;

/// The version of a benchmark's file; raised when a field changes its meaning.
pub const BENCH_FORMAT: u32 = 1;

/// How fast each variant of a model loads and generates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRecord {
    /// [`BENCH_FORMAT`].
    pub bench_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine.
    pub machine: Machine,
    /// CPU threads.
    pub threads: usize,
    /// The model, and what stands beside it.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// The engine asked for: `auto`, `cpu`, …
    pub engine: String,
    /// The GPUs asked for, where the engine runs on one.
    pub device: Devices,
    /// Requests that advance together at most, if the user said so.
    pub batch: Option<usize>,
    /// What was measured, and how.
    pub plan: BenchPlan,
    /// Whether every part of every variant is there.
    pub complete: bool,
    /// Whether the user broke off.
    pub interrupted: bool,
    /// What the user was told.
    pub notes: Vec<String>,
    /// Every repetition, one entry a variant, in the run's order.
    pub dtypes: Vec<DtypeBench>,
    /// Their medians, one row a variant, in the format that `--vs` reads.
    pub rows: Vec<BenchRow>,
    /// What others measured, if the user named a file of it.
    pub peers: Option<Peers>,
}

/// What was measured, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchPlan {
    /// Which parts, by their names.
    pub parts: Vec<String>,
    /// Of every prompt's token ids.
    pub seed: u64,
    /// Repetitions of loading and of the single request.
    pub repeats: usize,
    /// What prompts are.
    pub prompts: String,
    /// What is generated.
    pub decoding: String,
    /// What runs first and is not counted.
    pub warm_up: String,
    /// One request alone.
    pub single: Lengths,
    /// Many requests of one length at once.
    pub concurrent: Lengths,
    /// The workload.
    pub workload: WorkloadPlan,
    /// Tokens that all prompts of a part begin with, over and above their own length.
    pub shared_prefix_tokens: usize,
    /// The sweeps, where they are a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepPlan>,
}

/// A workload's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadPlan {
    /// For tables.
    pub name: String,
    /// `built in`, or the path.
    pub source: String,
    /// Of the file, or of the same as JSON where it is built in.
    pub sha256: String,
    /// Requests in it.
    pub requests: usize,
    /// The first of them that were taken.
    pub taken: usize,
    /// Prompt tokens of those, shared beginnings included.
    pub prompt_tokens: usize,
    /// Output tokens of those.
    pub output_tokens: usize,
}

/// One variant's measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DtypeBench {
    /// Which.
    pub dtype: VariantName,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// Its engine, as it was opened last.
    pub engine: Option<EngineInfo>,
    /// The reading that brings the weights into the page cache before the first load; `None` where they are compiled in.
    pub read_through: Option<ReadThrough>,
    /// The load before those, where a cold one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_load: Option<ColdLoad>,
    /// Every load, the first first.
    pub loads: Vec<LoadRun>,
    /// Every repetition of the single request.
    pub singles: Vec<SingleRun>,
    /// Many requests of one length.
    pub concurrent: Option<ManyRun>,
    /// The workload.
    pub workload: Option<ManyRun>,
    /// The points of the sweeps, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<SweepPoint>,
    /// Figures of parts that have no fields of their own, by the part's name; left out where there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, Vec<Figure>>,
    /// The process's memory, from before the first load to the end.
    pub peak_memory: Option<PeakMemory>,
}

/// One reading of all weight files, unused but for what it leaves in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReadThrough {
    /// Bytes read.
    pub bytes: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// Memory that was available then: a page cache cannot hold more.
    pub available_memory_bytes: Option<u64>,
}

/// One figure of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `time to first token`
    pub name: String,
    /// `ms`
    pub unit: String,
    /// How much.
    pub value: f64,
}

/// One opening of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadRun {
    /// From the begin of the constructor until the engine was ready, by this program's clock.
    pub seconds: f64,
    /// The same by the engine's own, and what took the time.
    pub engine: LoadTimes,
    /// From the begin of the constructor until the first token of the first request.
    pub first_token_seconds: f64,
    /// Bytes that this process read from disks until the engine was ready, the page cache's left out; `None` where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// A load of weights that were taken out of the page cache. The first variant's is also the process's first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColdLoad {
    /// How long it took.
    #[serde(flatten)]
    pub run: LoadRun,
    /// Bytes of the weight files; `None` where the weights are compiled in.
    pub weight_file_bytes: Option<u64>,
}

/// One request alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SingleRun {
    /// From submission until the first token, by the engine's clock; `None` where the answer came whole.
    pub first_token_seconds: Option<f64>,
    /// From submission until the last token, by the engine's clock.
    pub latency_seconds: f64,
    /// From submission until the engine returned, by this program's clock.
    pub wall_seconds: f64,
    /// Tokens generated, the first included.
    pub output_tokens: usize,
    /// (output tokens − 1) / (latency − time to first token).
    pub decode_tokens_per_second: Option<f64>,
}

/// Many requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ManyRun {
    /// Requests.
    pub requests: usize,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
    /// From submission until the last completion was emitted.
    pub seconds: f64,
    /// Output tokens / seconds.
    pub output_tokens_per_second: f64,
    /// Requests that were not answered: their tokens are in no figure.
    #[serde(default, skip_serializing_if = "is_none")]
    pub failed: usize,
}

/// A median with the least and the largest value: of few repetitions, all that can be said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The least.
    pub minimum: f64,
    /// The largest.
    pub maximum: f64,
}

impl Range {
    /// Of any values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Self { median: quantile(&sorted, 0.5)?, minimum: *sorted.first()?, maximum: *sorted.last()? })
    }
}

impl DtypeBench {
    /// Nothing measured yet.
    pub const fn new(dtype: VariantName) -> Self {
        Self {
            dtype,
            failure: None,
            engine: None,
            read_through: None,
            cold_load: None,
            loads: Vec::new(),
            singles: Vec::new(),
            concurrent: None,
            workload: None,
            sweeps: Vec::new(),
            figures: BTreeMap::new(),
            peak_memory: None,
        }
    }

    /// Adds a figure of a part that has no fields of its own.
    pub fn add(&mut self, part: &str, name: &str, unit: &str, value: f64) {
        let figure = Figure { name: name.to_owned(), unit: unit.to_owned(), value };
        self.figures.entry(part.to_owned()).or_default().push(figure);
    }

    /// Constructor to ready.
    pub fn load_seconds(&self) -> Option<Range> {
        Range::of(self.loads.iter().map(|load| load.seconds))
    }

    /// Constructor to first token.
    pub fn load_first_token_seconds(&self) -> Option<Range> {
        Range::of(self.loads.iter().map(|load| load.first_token_seconds))
    }

    /// One request's time to first token.
    pub fn ttft_milliseconds(&self) -> Option<Range> {
        Range::of(self.singles.iter().filter_map(|single| Some(single.first_token_seconds? * 1e3)))
    }

    /// One request's speed after the first token.
    pub fn decode_tokens_per_second(&self) -> Option<Range> {
        Range::of(self.singles.iter().filter_map(|single| single.decode_tokens_per_second))
    }

    /// Medians as a row, under the columns' own conditions: what ran otherwise is left out, or said in the note.
    pub fn row(&self, engine: &str, note: Option<String>) -> BenchRow {
        let median = |range: Option<Range>| range.map(|range| range.median);
        let answered = self.workload.filter(|run| run.failed == 0);
        BenchRow {
            engine: engine.to_owned(),
            shape: None,
            dtype: self.dtype.to_string(),
            load_s: median(self.load_seconds()),
            load_first_token_s: median(self.load_first_token_seconds()),
            b1_ttft_ms: median(self.ttft_milliseconds()),
            b1_decode_tok_s: median(self.decode_tokens_per_second()),
            req500_128_64_tok_s: self
                .concurrent
                .filter(|run| run.requests == 500 && run.output_tokens == 500 * 64)
                .map(|run| run.output_tokens_per_second),
            gsm8k_shape_s: answered.map(|run| run.seconds),
            gsm8k_shape_tok_s: answered.map(|run| run.output_tokens_per_second),
            sweeps: figures(&self.sweeps),
            note,
        }
    }
}

/// One engine's figures in one precision: a row of a table, and of a file that `--vs` reads. `None` is not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRow {
    /// Name and version of the engine, then, behind a comma or in brackets, what else decides its speed.
    pub engine: String,
    /// The shape it ran, such as `llama2-7b`; without one the row belongs to the file's main model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// `f32`, `f16`, `bf16`, `int8`, `awq`, or a further checkpoint's name.
    pub dtype: String,
    /// Seconds from the constructor to ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// Seconds from the constructor to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_first_token_s: Option<f64>,
    /// One request of 128 prompt tokens: milliseconds to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b1_ttft_ms: Option<f64>,
    /// One request: tokens a second over the 128 tokens after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b1_decode_tok_s: Option<f64>,
    /// 500 requests at once, 128 prompt and 64 output tokens each: output tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub req500_128_64_tok_s: Option<f64>,
    /// Seconds of the workload, all requests submitted at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsm8k_shape_s: Option<f64>,
    /// Output tokens a second of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsm8k_shape_tok_s: Option<f64>,
    /// The sweeps: output tokens a second by point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sweeps: SweepFigures,
    /// Whatever a reader has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Rows that were measured elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// The file.
    pub source: String,
    /// Its SHA-256.
    pub sha256: String,
    /// The machine, in the file's words.
    pub machine: Option<String>,
    /// The date, in the file's words.
    pub date: Option<String>,
    /// The rows that belong to this model and these precisions.
    pub rows: Vec<BenchRow>,
}

impl BenchRecord {
    /// Writes a record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.bench, BENCH_FORMAT, "benchmark")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_median_and_both_ends() {
        assert_eq!(Range::of([3.0, 1.0, 2.0]), Some(Range { median: 2.0, minimum: 1.0, maximum: 3.0 }));
        assert_eq!(Range::of([4.0, 1.0]), Some(Range { median: 2.5, minimum: 1.0, maximum: 4.0 }));
        assert_eq!(Range::of([]), None);
    }
}
