//! A load test as figures that stand beside those of other records.

use super::{Distribution, LevelPlan, LevelRecord, LoadPeer, LoadRecord, LoadView};
use crate::report::{FigurePart, Figures, MeasuredFigure, RecordFacts, ReportError, Series};
use crate::score::Spread;
use crate::text::command_line;

/// What a record measured: each level is a point of its users or of its rate. `name` tells it from other records; beside
/// it stand the peers that it was measured beside, and these.
pub fn load_figures(record: &LoadRecord, name: &str, vs: &[LoadPeer]) -> Result<Figures, ReportError> {
    let view = LoadView::new(record).map_err(|error| ReportError::fault("a load test's figures", &error))?;
    let mut figures = Figures { notes: record.notes.clone(), words: words(), ..Figures::default() };
    if let Some(interrupted) = &view.interrupted {
        figures.notes.push(format!("{name}: {interrupted}"));
    }
    for variant in &record.variants {
        let engine = variant.engine.as_ref();
        let series = figures.add_series(Series {
            record: Some(0),
            variant: variant.dtype.to_string(),
            engine: engine.map_or_else(String::new, |engine| format!("{} {}", engine.name, engine.version)),
            elsewhere: None,
            note: None,
            failure: variant.failure.as_deref().and_then(|why| why.lines().next()).map(str::to_owned),
        });
        for level in &variant.levels {
            add_level(&mut figures, series, level, &view.prompts);
        }
    }
    for peer in record.peers.iter().chain(vs) {
        add_peer(&mut figures, record, peer, &view.prompts);
    }
    figures.records.push(facts(record, name, &view));
    Ok(figures)
}

/// Its figures at the levels that were measured here.
fn add_peer(figures: &mut Figures, record: &LoadRecord, peer: &LoadPeer, prompts: &str) {
    let levels = record.variants.iter().flat_map(|variant| &variant.levels).map(|level| level.level);
    let points: Vec<_> = levels.filter_map(|level| Some((level, *peer.at(&level)?))).collect();
    if points.is_empty() {
        return;
    }
    let series = figures.add_series(Series {
        record: None,
        variant: peer.variant.clone(),
        engine: peer.engine.clone(),
        elsewhere: Some(peer.source.clone()),
        note: peer.note.clone(),
        failure: None,
    });
    for (level, point) in points {
        let (part, at) = part_of(&level, prompts);
        let part = figures.add_part(part);
        add_figures(figures, (series, part, at), point.figures());
    }
}

/// The part that a level belongs to, and its point there.
fn part_of(level: &LevelPlan, prompts: &str) -> (FigurePart, Option<f64>) {
    let (axis, at, title) = match *level {
        LevelPlan::Users { users } => (Some("users".to_owned()), Some(users as f64), "Load by users".to_owned()),
        LevelPlan::Rate { rate, arrivals } => {
            (Some("requests/s".to_owned()), Some(rate), format!("Load by rate, arrivals {arrivals}"))
        }
        LevelPlan::Trace => (None, None, "Load by a trace".to_owned()),
    };
    let part = FigurePart {
        name: format!("load {}", axis.as_deref().unwrap_or("trace")),
        title,
        description: prompts.to_owned(),
        axis,
        headline: "output tokens/s".to_owned(),
        charted: ["TTFT 50 %", "TTFT 99 %", "ITL 50 %"].map(str::to_owned).to_vec(),
    };
    (part, at)
}

fn add_level(figures: &mut Figures, series: usize, level: &LevelRecord, prompts: &str) {
    let (part, at) = part_of(&level.level, prompts);
    let part = figures.add_part(part);
    let of = &level.figures;
    let failed: usize = of.failed.values().sum();
    let ms = |distribution: Option<Distribution>, value: fn(&Distribution) -> f64| {
        distribution.as_ref().map(|distribution| value(distribution) * 1e3)
    };
    let all = [
        ("output tokens/s", "", of.output_tokens_per_second),
        ("answers/s", "", Some(of.requests_per_second)),
        ("goodput", "", of.goodput),
        ("sent", "", Some(of.sent as f64)),
        ("answered", "", Some(of.completed as f64)),
        ("failed", "", Some(failed as f64)),
        ("TTFT mean", "ms", ms(of.ttft, |it| it.mean)),
        ("TTFT 50 %", "ms", ms(of.ttft, |it| it.p50)),
        ("TTFT 99 %", "ms", ms(of.ttft, |it| it.p99)),
        ("ITL mean", "ms", ms(of.itl, |it| it.mean)),
        ("ITL 50 %", "ms", ms(of.itl, |it| it.p50)),
        ("ITL 99 %", "ms", ms(of.itl, |it| it.p99)),
        ("E2E mean", "ms", ms(of.e2e, |it| it.mean)),
        ("E2E 50 %", "ms", ms(of.e2e, |it| it.p50)),
        ("E2E 99 %", "ms", ms(of.e2e, |it| it.p99)),
        ("whole", "s", Some(of.seconds)),
    ];
    let known = all.into_iter().filter_map(|(name, unit, value)| Some((name, unit, value?)));
    add_figures(figures, (series, part, at), known);
}

/// Figures (name, unit, value) of one series at one point of a part.
fn add_figures(
    figures: &mut Figures,
    (series, part, at): (usize, usize, Option<f64>),
    all: impl Iterator<Item = (&'static str, &'static str, f64)>,
) {
    for (name, unit, value) in all {
        figures.add(MeasuredFigure { series, part, at, name: name.to_owned(), unit, spread: Spread::single(value) });
    }
}

fn facts(record: &LoadRecord, name: &str, view: &LoadView) -> RecordFacts {
    let mut facts = vec![("model", view.model.clone())];
    facts.extend(view.engines.iter().map(|(_, engine)| ("engine", engine.clone())));
    facts.push(("client", view.machine.clone()));
    facts.push(("prompts", view.prompts.clone()));
    facts.extend(view.slo.clone().map(|slo| ("limits", slo)));
    let invocation = &record.invocation;
    facts.extend([
        ("warm-up", format!("{} requests before each level", record.plan.warm_up)),
        ("evalsuite", format!("{}, {} to {}", invocation.evalsuite, invocation.started, record.finished)),
        ("command", command_line(invocation.command.iter().map(String::as_str))),
    ]);
    RecordFacts {
        name: name.to_owned(),
        subject: record.target.model.name.clone(),
        facts: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

fn words() -> Vec<(String, String)> {
    let words = [
        ("output tokens/s", "output tokens of all answers / whole"),
        ("answers/s", "requests answered / whole; goodput: those that kept every limit / whole"),
        ("TTFT", "a request's sending to its first token"),
        ("ITL", "(latency - TTFT) / (output tokens - 1) of each request"),
        ("E2E", "a request's sending to its last token"),
        ("50 %, 99 %", "percentiles, interpolated linearly; n/a: not measured"),
        ("whole", "seconds from the first request's sending to the last answer's end"),
    ];
    words.map(|(name, meaning)| (name.to_owned(), meaning.to_owned())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::{LevelFigures, RequestRecord, Slo};
    use super::*;

    #[test]
    fn a_level_s_figures_are_those_of_its_record() {
        let request = |latency: f64| RequestRecord {
            ttft_seconds: Some(latency / 10.0),
            latency_seconds: Some(latency),
            output_tokens: Some(4),
            ..RequestRecord::default()
        };
        let (plan, requests) = (LevelPlan::Users { users: 3 }, [1.0, 2.0, 6.0].map(request).to_vec());
        let level = LevelRecord {
            level: plan,
            started: String::new(),
            figures: LevelFigures::of(&plan, &requests, &Slo::parse("e2e=3s").unwrap()),
            score: None,
            chunk_gaps: None,
            timeline: Vec::new(),
            cache: Vec::new(),
            requests,
        };
        let mut figures = Figures::default();
        add_level(&mut figures, 0, &level, "");
        let of = |name: &str| figures.figures.iter().find(|one| one.name == name).unwrap().spread.median;
        let close = |name: &str, expected: f64| assert!((of(name) - expected).abs() < 1e-9, "{name}: {}", of(name));
        close("output tokens/s", 2.0);
        close("answers/s", 0.5);
        close("goodput", 1.0 / 3.0);
        close("TTFT mean", 300.0);
        close("TTFT 50 %", 200.0);
        close("TTFT 99 %", 592.0);
        close("E2E mean", 3000.0);
        close("E2E 50 %", 2000.0);
        close("E2E 99 %", 5920.0);
        close("ITL 50 %", 600.0);
        close("whole", 6.0);
    }
}
