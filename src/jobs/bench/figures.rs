//! A benchmark as figures that stand beside those of other records.

use super::peers::chosen;
use super::sweep::SweepPoint;
use super::{BenchRecord, BenchRow, DtypeBench, LoadRun, ManyRun, Peers};
use super::{sweep_view, view};
use crate::record::{Elsewhere, SweepAxis};
use crate::report::words::thousands;
use crate::report::{FigurePart, Figures, MeasuredFigure, RecordFacts, Series};
use crate::score::Spread;

/// What a record measured, what stands beside it there, and the rows of `vs` that belong to it. `name` tells it from other records.
pub fn figures(record: &BenchRecord, name: &str, vs: &[Elsewhere]) -> Figures {
    let variants: Vec<String> = record.dtypes.iter().map(|bench| bench.dtype.to_string()).collect();
    let variants: Vec<&str> = variants.iter().map(String::as_str).collect();
    let variants = (!record.target.has_endpoint()).then_some(&*variants);
    let elsewhere = vs.iter().map(|file| chosen(file.clone(), &record.target.model.name, variants));
    let peers: Vec<Peers> = record.peers.iter().cloned().chain(elsewhere).collect();
    let mut builder = Builder { record, figures: Figures::default() };
    builder.figures.records.push(facts(record, name));
    builder.figures.notes.extend(record.notes.iter().cloned());
    if record.interrupted {
        builder.figures.notes.push(format!("{name} was interrupted: what is missing was not measured"));
    }
    for bench in &record.dtypes {
        builder.own(bench);
    }
    for peers in &peers {
        if peers.rows.is_empty() {
            let model = &record.target.model.name;
            builder.figures.notes.push(format!("{} has no row for {model} in these precisions", peers.source));
        }
        for row in &peers.rows {
            builder.peer(peers, row);
        }
    }
    builder.figures.words = words(&builder.figures);
    builder.figures
}

struct Builder<'a> {
    record: &'a BenchRecord,
    figures: Figures,
}

impl Builder<'_> {
    fn own(&mut self, bench: &DtypeBench) {
        let engine = bench.engine.as_ref();
        let series = self.series(Series {
            record: Some(0),
            variant: bench.dtype.to_string(),
            engine: engine.map_or_else(String::new, |engine| format!("{} {}", engine.name, engine.version)),
            elsewhere: None,
            note: None,
            failure: bench.failure.as_deref().and_then(|why| why.lines().next()).map(str::to_owned),
        });
        if let Some(cold) = &bench.cold_load {
            let cold_part = self.part(
                "cold start",
                "Cold start",
                "weights taken out of the page cache before it",
                None,
                "first token",
            );
            self.start(series, cold_part, &[cold.run]);
            let warm_part = self.part("warm start", "Warm start", "weights in the page cache", None, "first token");
            self.start(series, warm_part, &bench.loads);
        }
        if self.has("load") {
            let part = self.load_part();
            self.add(series, part, None, ("ready", "s"), spread(&bench.loads, |load| load.seconds));
            self.add(series, part, None, ("first token", "s"), spread(&bench.loads, |load| load.first_token_seconds));
        }
        if !bench.singles.is_empty() {
            let part = self.single_part();
            let ttft = bench.singles.iter().filter_map(|single| Some(single.first_token_seconds? * 1e3));
            let ttft = Spread::of(ttft);
            let latency = spread(&bench.singles, |single| single.latency_seconds);
            self.add(series, part, None, ("TTFT", "ms"), ttft);
            self.add(series, part, None, ("latency", "s"), latency);
            let decode = Spread::of(bench.singles.iter().filter_map(|single| single.decode_tokens_per_second));
            self.add(series, part, None, ("decode tokens/s", ""), decode);
        }
        if let Some(run) = bench.concurrent {
            let part = self.concurrent_part();
            self.many(series, part, run);
        }
        if let Some(run) = bench.workload {
            let part = self.workload_part();
            self.many(series, part, run);
        }
        for measured in &bench.sweeps {
            self.sweep(series, measured);
        }
        for (name, others) in &bench.figures {
            let part = self.part(name, name, "", None, others.first().map_or("", |figure| figure.name.as_str()));
            for other in others {
                let name = format!("{}, {}", other.name, other.unit);
                self.add(
                    series,
                    part,
                    None,
                    (name.trim_end_matches([',', ' ']), ""),
                    Some(Spread::single(other.value)),
                );
            }
        }
        if let Some(peak) = bench.peak_memory {
            let part = self.part("memory", "Memory", "", None, "peak");
            self.add(series, part, None, ("peak", "bytes"), Some(Spread::single(peak.bytes as f64)));
            let weights = bench.engine.as_ref().and_then(|engine| engine.weight_bytes);
            self.add(series, part, None, ("weights", "bytes"), weights.map(|bytes| Spread::single(bytes as f64)));
        }
    }

    /// What was measured here too.
    fn peer(&mut self, peers: &Peers, row: &BenchRow) {
        let series = self.series(Series {
            record: None,
            variant: row.dtype.clone(),
            engine: row.engine.clone(),
            elsewhere: Some(view::peer_source(peers)),
            note: row.note.clone(),
            failure: None,
        });
        let one = |value: Option<f64>| value.map(Spread::single);
        if self.has("load") {
            let part = self.load_part();
            self.add(series, part, None, ("ready", "s"), one(row.load_s));
            self.add(series, part, None, ("first token", "s"), one(row.load_first_token_s));
        }
        if self.has("single") {
            let part = self.single_part();
            self.add(series, part, None, ("TTFT", "ms"), one(row.b1_ttft_ms));
            self.add(series, part, None, ("decode tokens/s", ""), one(row.b1_decode_tok_s));
        }
        if self.has("concurrent") {
            let part = self.concurrent_part();
            self.add(series, part, None, ("output tokens/s", ""), one(row.req500_128_64_tok_s));
        }
        if self.has("workload") {
            let part = self.workload_part();
            self.add(series, part, None, ("output tokens/s", ""), one(row.gsm8k_shape_tok_s));
            self.add(series, part, None, ("whole", "s"), one(row.gsm8k_shape_s));
        }
        for measured in standard_points(self.record) {
            let figure = row.sweeps.get(&measured.point.sweep).and_then(|points| points.get(&measured.point.at));
            if let Some(figure) = figure {
                let part = self.sweep_part(measured);
                let at = measured.point.at as f64;
                self.add(series, part, Some(at), ("output tokens/s", ""), Some(Spread::single(*figure)));
            }
        }
        // Nothing of it belongs here.
        if !self.figures.figures.iter().any(|figure| figure.series == series) {
            self.figures.series.pop();
        }
    }

    fn has(&self, part: &str) -> bool {
        self.record.plan.parts.iter().any(|name| name == part)
    }

    fn many(&mut self, series: usize, part: usize, run: ManyRun) {
        let speed = Spread::single(run.output_tokens_per_second);
        self.add(series, part, None, ("output tokens/s", ""), Some(speed));
        self.add(series, part, None, ("whole", "s"), Some(Spread::single(run.seconds)));
        let failed = Some(run.failed).filter(|failed| *failed > 0);
        self.add(series, part, None, ("failed", ""), failed.map(|failed| Spread::single(failed as f64)));
    }

    fn sweep(&mut self, series: usize, measured: &SweepPoint) {
        let part = self.sweep_part(measured);
        let at = Some(measured.point.at as f64);
        self.add(series, part, at, ("output tokens/s", ""), measured.tokens_per_second());
        self.add(series, part, at, ("whole", "s"), measured.seconds());
        self.add(series, part, at, ("TTFT", "ms"), measured.ttft_milliseconds());
        self.add(series, part, at, ("latency", "s"), measured.latency_seconds());
        let failed = Some(measured.failed()).filter(|failed| *failed > 0);
        self.add(series, part, at, ("failed", ""), failed.map(|failed| Spread::single(failed as f64)));
    }

    fn start(&mut self, series: usize, part: usize, loads: &[LoadRun]) {
        for (name, seconds) in [
            ("ready", spread(loads, |load| load.seconds)),
            ("read", spread(loads, |load| load.engine.read_seconds)),
            ("rest", spread(loads, |load| load.engine.prepare_seconds)),
            ("first token", spread(loads, |load| load.first_token_seconds)),
        ] {
            self.add(series, part, None, (name, "s"), seconds);
        }
        let from_disk = Spread::of(loads.iter().filter_map(|load| load.disk_bytes).map(|bytes| bytes as f64));
        self.add(series, part, None, ("from disk", "bytes"), from_disk);
    }

    fn load_part(&mut self) -> usize {
        self.part("load", "Load", "weights in the page cache", None, "ready")
    }

    fn single_part(&mut self) -> usize {
        let single = self.record.plan.single;
        let description = format!("{} prompt and {} output tokens", single.prompt_tokens, single.output_tokens);
        self.part("single", "One request", &description, None, "decode tokens/s")
    }

    fn concurrent_part(&mut self) -> usize {
        let description = view::concurrent_in_words(&self.record.plan);
        self.part("concurrent", "Requests of one length at once", &description, None, "output tokens/s")
    }

    fn workload_part(&mut self) -> usize {
        let description = view::workload_in_words(&self.record.plan.workload);
        self.part("workload", "A workload", &description, None, "output tokens/s")
    }

    fn sweep_part(&mut self, measured: &SweepPoint) -> usize {
        let sweep = measured.point.sweep;
        let axis = match sweep {
            SweepAxis::Batch | SweepAxis::Requests => "requests",
            SweepAxis::Length => "tokens",
        };
        let description = sweep_view::description(measured);
        let (name, title) = (format!("sweep {}", sweep.name()), format!("Sweep of {}", sweep.name()));
        self.part(&name, &title, &description, Some(axis), "output tokens/s")
    }

    fn part(&mut self, name: &str, title: &str, description: &str, axis: Option<&str>, headline: &str) -> usize {
        let part = FigurePart {
            name: name.to_owned(),
            title: title.to_owned(),
            description: description.to_owned(),
            axis: axis.map(str::to_owned),
            headline: headline.to_owned(),
            charted: Vec::new(),
        };
        self.figures.add_part(part)
    }

    fn series(&mut self, series: Series) -> usize {
        self.figures.add_series(series)
    }

    fn add(
        &mut self,
        series: usize,
        part: usize,
        at: Option<f64>,
        (name, unit): (&str, &'static str),
        spread: Option<Spread>,
    ) {
        if let Some(spread) = spread {
            self.figures.add(MeasuredFigure { series, part, at, name: name.to_owned(), unit, spread });
        }
    }
}

fn spread<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> Option<Spread> {
    Spread::of(runs.iter().map(figure))
}

/// The points that others measure too, each once.
fn standard_points(record: &BenchRecord) -> Vec<&SweepPoint> {
    let mut points: Vec<&SweepPoint> = Vec::new();
    for measured in record.dtypes.iter().flat_map(|bench| &bench.sweeps).filter(|one| one.is_standard()) {
        if !points.iter().any(|other| other.point == measured.point) {
            points.push(measured);
        }
    }
    points
}

fn facts(record: &BenchRecord, name: &str) -> RecordFacts {
    let view = view::header(record);
    let mut facts = vec![("model", view.model)];
    facts.extend(view.awq.map(|awq| ("awq", awq)));
    facts.extend([
        ("source", record.target.model.source.clone()),
        ("sha256", record.target.model.sha256.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("engine", view.engine),
        ("machine", view.machine),
        ("threads", record.threads.to_string()),
        ("weights", view.page_cache),
        ("prompts", format!("{}, seed {}; {}", record.plan.prompts, record.plan.seed, record.plan.decoding)),
        ("repetitions", thousands(record.plan.repeats as u64)),
        ("warm-up", warm_up(record)),
        ("evalsuite", format!("{}, {} to {}", record.invocation.evalsuite, record.invocation.started, record.finished)),
        ("command", crate::text::command_line(record.invocation.command.iter().map(String::as_str))),
    ]);
    RecordFacts {
        name: name.to_owned(),
        subject: record.target.model.name.clone(),
        facts: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

fn warm_up(record: &BenchRecord) -> String {
    let sweep = record.plan.sweep.as_ref().map_or_else(String::new, |sweep| format!("; of sweeps {}", sweep.warm_up));
    format!("{}{sweep}", record.plan.warm_up)
}

/// What the names mean that occur.
fn words(figures: &Figures) -> Vec<(String, String)> {
    let has = |name: &str| figures.figures.iter().any(|figure| figure.name.ends_with(name));
    let words = [
        ("ready", "seconds from the engine's constructor until it was ready for a request"),
        ("read", "of these, reading and casting weights; rest: everything else, such as kernels and tables"),
        ("first token", "seconds from the constructor to the first token of a request of 128 prompt tokens"),
        ("from disk", "bytes read from the disk until the engine was ready; what the page cache held is not in it"),
        ("TTFT", "submission to first token; of several requests the mean"),
        ("latency", "submission of a request to its last token, the mean over the requests"),
        ("decode tokens/s", "tokens after the first / (latency - TTFT)"),
        ("output tokens/s", "output tokens of all requests / whole"),
        ("whole", "seconds from submission of all requests to the last token"),
        ("failed", "requests that were not answered, none of them sent again"),
        ("peak", "the most memory of the process that was resident at once"),
    ];
    let own = words.into_iter().filter(|(name, _)| has(name));
    let always = [("figures", "medians of the repetitions, beside them the whole range; n/a: not measured")];
    own.chain(always).map(|(name, meaning)| (name.to_owned(), meaning.to_owned())).collect()
}
