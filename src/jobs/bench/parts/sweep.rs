//! Three sweeps: requests at once from 1 to 32, lengths from 32 to 512, requests at once from 10 to 500.

use std::collections::BTreeMap;

use crate::jobs::JobError;
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::ran::Ran;
use crate::jobs::bench::sweep::{LeftOut, PlannedPoint, SweepPlan, SweepPoint, SweepRun, standard};
use crate::jobs::bench::{BenchPlan, DtypeBench, Lengths, Workload};
use crate::jobs::requests::Purpose;
use crate::record::SweepAxis;

pub(in crate::jobs::bench) const NAME: &str = "sweep";

/// Every point, in the order in which they run, with what progress calls it.
const POINTS: [(SweepAxis, usize, &str); 16] = [
    (SweepAxis::Batch, 1, "batch 1"),
    (SweepAxis::Batch, 2, "batch 2"),
    (SweepAxis::Batch, 4, "batch 4"),
    (SweepAxis::Batch, 8, "batch 8"),
    (SweepAxis::Batch, 16, "batch 16"),
    (SweepAxis::Batch, 32, "batch 32"),
    (SweepAxis::Length, 32, "length 32"),
    (SweepAxis::Length, 64, "length 64"),
    (SweepAxis::Length, 128, "length 128"),
    (SweepAxis::Length, 256, "length 256"),
    (SweepAxis::Length, 512, "length 512"),
    (SweepAxis::Requests, 10, "requests 10"),
    (SweepAxis::Requests, 50, "requests 50"),
    (SweepAxis::Requests, 100, "requests 100"),
    (SweepAxis::Requests, 200, "requests 200"),
    (SweepAxis::Requests, 500, "requests 500"),
];

/// No point has so many requests.
const MANY: usize = 1000;

/// `--only sweep`.
#[derive(Debug)]
pub(super) struct Sweep;

impl Part for Sweep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "batch 1-32 and requests 10-500 of 128/64 tokens, length 32-512 of 64 requests"
    }

    fn is_default(&self) -> bool {
        false
    }

    fn longest_request(&self, plan: &BenchPlan, _: &Workload) -> usize {
        plan.sweep.iter().flat_map(|plan| &plan.points).map(|point| tokens(point.lengths)).max().unwrap_or(0)
    }

    /// Each point has its own.
    fn warm_up_requests(&self) -> usize {
        0
    }

    fn run(&self, runner: &mut Runner, opened: &mut Opened, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
        let Some(plan) = &runner.plan.sweep else { return Ok(PartEnd::Done) };
        for (index, (sweep, at, name)) in POINTS.into_iter().enumerate() {
            let planned = plan.points.iter().find(|point| (point.sweep, point.at) == (sweep, at));
            let Some(point) = planned else { continue };
            if measure(runner, opened, bench, *point, (index, name))? == PartEnd::Interrupted {
                return Ok(PartEnd::Interrupted);
            }
        }
        Ok(PartEnd::Done)
    }
}

/// The points that a context of so many tokens holds, with this many requests at most.
pub(in crate::jobs::bench) fn plan(context_tokens: usize, most_requests: Option<usize>) -> SweepPlan {
    let mut plan = SweepPlan { warm_up: "each point once before its repetitions".to_owned(), ..SweepPlan::default() };
    let most = most_requests.unwrap_or(usize::MAX);
    for (sweep, at, _) in POINTS {
        let whole = standard(sweep, at);
        let why = if tokens(whole) > context_tokens {
            format!("{} tokens, but the model's context holds {context_tokens}", tokens(whole))
        } else if sweep != SweepAxis::Length && at > most {
            format!("more than --requests {most}")
        } else {
            let lengths = Lengths { requests: whole.requests.min(most), ..whole };
            plan.points.push(PlannedPoint { sweep, at, lengths });
            continue;
        };
        plan.left_out.push(LeftOut { sweep, at, why });
    }
    plan
}

/// What the user should know of a plan: what is left out, and what is smaller than others measure it.
pub(in crate::jobs::bench) fn notes(plan: &SweepPlan) -> Vec<String> {
    let mut reasons: Vec<(SweepAxis, &str, Vec<String>)> = Vec::new();
    for LeftOut { sweep, at, why } in &plan.left_out {
        match reasons.iter_mut().find(|(other, reason, _)| (other, *reason) == (sweep, why.as_str())) {
            Some((_, _, points)) => points.push(at.to_string()),
            None => reasons.push((*sweep, why, vec![at.to_string()])),
        }
    }
    let left_out = reasons
        .into_iter()
        .map(|(sweep, why, points)| format!("the {} sweep is without {}: {why}", sweep.name(), points.join(", ")));
    let mut smaller: BTreeMap<SweepAxis, usize> = BTreeMap::new();
    for point in plan.points.iter().filter(|point| !point.is_standard()) {
        smaller.insert(point.sweep, point.lengths.requests);
    }
    let smaller = smaller.into_iter().map(|(sweep, requests)| {
        format!("the {} sweep has {requests} requests a point, others' figures have 64", sweep.name())
    });
    left_out.chain(smaller).collect()
}

const fn tokens(lengths: Lengths) -> usize {
    lengths.prompt_tokens + lengths.output_tokens
}

/// One point: a round that is not counted, then as many as the job says. What was measured stays, however it ends.
fn measure(
    runner: &mut Runner,
    opened: &mut Opened,
    bench: &mut DtypeBench,
    point: PlannedPoint,
    (index, name): (usize, &'static str),
) -> Result<PartEnd, JobError> {
    let Lengths { requests, prompt_tokens, output_tokens } = point.lengths;
    for round in 0..=runner.job.repeats {
        let asked = |request: usize| {
            let number = (round * MANY + index) * MANY + request;
            runner.asked((Purpose::Sweep, number), 0, prompt_tokens, output_tokens)
        };
        let asked = (0..requests).map(asked).collect();
        let Some(ran) = runner.generate(opened, asked, Some(name))? else {
            return Ok(PartEnd::Interrupted);
        };
        let run = run(&ran, point);
        match round {
            0 => {}
            1 => bench.sweeps.push(SweepPoint { point, runs: vec![run] }),
            _ => bench.sweeps.iter_mut().last().into_iter().for_each(|measured| measured.runs.push(run)),
        }
    }
    runner.ended();
    Ok(PartEnd::Done)
}

fn run(ran: &Ran, point: PlannedPoint) -> SweepRun {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    SweepRun {
        seconds: ran.seconds,
        first_token_seconds: mean(&mut ran.times.iter().filter_map(|times| times.first_token_seconds)),
        latency_seconds: mean(&mut ran.times.iter().map(|times| times.latency_seconds)).unwrap_or_default(),
        output_tokens: Some(ran.output_tokens).filter(|tokens| *tokens != point.output_tokens() as u64),
        failed: ran.failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::bench::ran::Times;

    fn at(plan: &SweepPlan, sweep: SweepAxis) -> Vec<usize> {
        plan.points.iter().filter(|point| point.sweep == sweep).map(|point| point.at).collect()
    }

    #[test]
    fn a_plan_is_the_published_points() {
        let plan = plan(2048, None);
        assert_eq!(at(&plan, SweepAxis::Batch), [1, 2, 4, 8, 16, 32]);
        assert_eq!(at(&plan, SweepAxis::Length), [32, 64, 128, 256, 512]);
        assert_eq!(at(&plan, SweepAxis::Requests), [10, 50, 100, 200, 500]);
        assert!(
            plan.left_out.is_empty() && notes(&plan).is_empty() && plan.points.iter().all(PlannedPoint::is_standard)
        );
        for (sweep, at, name) in POINTS {
            assert_eq!(name, format!("{} {at}", sweep.name()));
            assert!(standard(sweep, at).requests < MANY);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let few = plan(1024, None);
        assert_eq!(few.points.len(), 16, "512 and 512 tokens fit a context of 1024");
        let short = plan(1023, None);
        assert_eq!(at(&short, SweepAxis::Length), [32, 64, 128, 256]);
        assert_eq!(notes(&short), ["the length sweep is without 512: 1024 tokens, but the model's context holds 1023"]);
        let capped = plan(1024, Some(4));
        assert_eq!(at(&capped, SweepAxis::Batch), [1, 2, 4]);
        assert_eq!(at(&capped, SweepAxis::Length), [32, 64, 128, 256, 512]);
        assert_eq!(capped.points.iter().map(|point| point.lengths.requests).max(), Some(4));
        assert_eq!(
            notes(&capped),
            [
                "the batch sweep is without 8, 16, 32: more than --requests 4",
                "the requests sweep is without 10, 50, 100, 200, 500: more than --requests 4",
                "the length sweep has 4 requests a point, others' figures have 64",
            ]
        );
    }

    #[test]
    fn a_run_s_times_are_means_over_its_answers() {
        let times = |first: Option<f64>, latency: f64| Times {
            first_token_seconds: first,
            latency_seconds: latency,
            output_tokens: 64,
        };
        let point = PlannedPoint { sweep: SweepAxis::Batch, at: 2, lengths: standard(SweepAxis::Batch, 2) };
        let both = vec![times(Some(1.5), 3.0), times(Some(4.5), 7.0)];
        let ran = Ran { times: both, seconds: 7.5, output_tokens: 128, failed: 0 };
        let wanted = SweepRun {
            seconds: 7.5,
            first_token_seconds: Some(3.0),
            latency_seconds: 5.0,
            output_tokens: None,
            failed: 0,
        };
        assert_eq!(run(&ran, point), wanted);
        // What servers gave otherwise is kept; a whole answer has no first token.
        let short = Ran { times: vec![times(None, 3.0)], seconds: 7.5, output_tokens: 64, failed: 1 };
        let wanted =
            SweepRun { first_token_seconds: None, latency_seconds: 3.0, output_tokens: Some(64), failed: 1, ..wanted };
        assert_eq!(run(&short, point), wanted);
    }
}
