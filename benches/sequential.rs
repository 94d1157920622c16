//! How many questions `--until "no worse than 2"` takes, and how often it is wrong: simulated pairs of runs.
//!
//! `cargo bench --bench sequential` prints the tables of `benches/results/2026-11-30-until.md`. Each pair of runs has so many questions in
//! random order; of them a share is lost and a share gained, independently. The test is looked at after every question.

use evalsuite::random::{GOLDEN, split_mix};
use evalsuite::score::{Sequential, Shown, paired_score_interval};
use rayon::prelude::*;

const RUNS: u64 = 2000;
const QUESTIONS: usize = 1319;
const MARGIN: f64 = 0.02;

/// Shares of answers that are lost and gained.
const CASES: [(f64, f64); 13] = [
    // Exactly the margin worse: "no worse" is wrong here.
    (0.02, 0.0),
    (0.03, 0.01),
    (0.06, 0.04),
    (0.11, 0.09),
    // No difference: "worse" is wrong here.
    (0.0, 0.0),
    (0.005, 0.005),
    (0.01, 0.01),
    (0.02, 0.02),
    (0.04, 0.04),
    // Better, and worse.
    (0.01, 0.02),
    (0.04, 0.01),
    (0.08, 0.02),
    (0.15, 0.03),
];

/// What one pair of runs showed, after how many questions, and whether Tango's 95 % interval over all of them shows anything.
struct Outcome {
    shown: Shown,
    asked: usize,
    in_full: Shown,
}

fn main() {
    println!("{RUNS} pairs of runs of {QUESTIONS} questions each, margin {} points\n", MARGIN * 100.0);
    println!(
        "| lost, % | gained, % | Δ, points | no worse, % | worse, % | neither, % | questions, mean | median | 90 % | saved, % | all {QUESTIONS}, Tango: no worse, % | worse, % |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (lost, gained) in CASES {
        let outcomes: Vec<Outcome> = (0..RUNS).into_par_iter().map(|run| simulate(run, lost, gained)).collect();
        let share = |wanted: Shown| percent(outcomes.iter().filter(|one| one.shown == wanted).count());
        let full = |wanted: Shown| percent(outcomes.iter().filter(|one| one.in_full == wanted).count());
        let mut asked: Vec<usize> = outcomes.iter().map(|one| one.asked).collect();
        asked.sort_unstable();
        let mean = asked.iter().sum::<usize>() as f64 / RUNS as f64;
        println!(
            "| {:.1} | {:.1} | {:+.1} | {} | {} | {} | {mean:.0} | {} | {} | {:.0} | {} | {} |",
            lost * 100.0,
            gained * 100.0,
            (gained - lost) * 100.0,
            share(Shown::NoWorse),
            share(Shown::Worse),
            share(Shown::Nothing),
            asked[asked.len() / 2],
            asked[asked.len() * 9 / 10],
            (1.0 - mean / QUESTIONS as f64) * 100.0,
            full(Shown::NoWorse),
            full(Shown::Worse),
        );
    }
}

fn simulate(run: u64, lost: f64, gained: f64) -> Outcome {
    let mut state = split_mix(run);
    let mut test = Sequential::new(1);
    let (mut fell, mut rose, mut ended) = (0, 0, None);
    for question in 1..=QUESTIONS {
        state = state.wrapping_add(GOLDEN);
        let at = (split_mix(state) >> 11) as f64 / (1_u64 << 53) as f64;
        let (is_lost, is_gained) = (at < lost, (lost..lost + gained).contains(&at));
        (fell, rose) = (fell + usize::from(is_lost), rose + usize::from(is_gained));
        if ended.is_none() {
            test.add(usize::from(is_lost), usize::from(is_gained), 1);
            ended = Some(test.shown(MARGIN)).filter(|shown| *shown != Shown::Nothing).map(|shown| (shown, question));
        }
    }
    let (shown, asked) = ended.unwrap_or((Shown::Nothing, QUESTIONS));
    let (low, high) = paired_score_interval(fell, rose, QUESTIONS).unwrap_or((-1.0, 1.0));
    let in_full = match () {
        () if high < 0.0 => Shown::Worse,
        () if low > -MARGIN => Shown::NoWorse,
        () => Shown::Nothing,
    };
    Outcome { shown, asked, in_full }
}

fn percent(count: usize) -> String {
    format!("{:.1}", count as f64 * 100.0 / RUNS as f64)
}
