//! How long the rest of a variant's completions takes, told from the tokens that are there.
//!
//! Requests that run together end together: of ten of them one that has ended says nothing about how long nine more would take one
//! after the other. So what is left is counted in tokens: those of the running requests until the longest of them ends, and those
//! of the waiting ones.

use std::collections::VecDeque;

/// As many of the latest completions say how long those are that are longer than so many tokens.
const LATEST: usize = 256;

/// Steps over which the speed of the moment is taken.
const RECENT_STEPS: f64 = 32.0;

/// What is known of the lengths of a variant's completions, in tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lengths {
    /// By request, where each is known of another variant.
    pub(super) known: Option<Vec<f64>>,
    /// Of the dataset's own answers, on average, where they are more than a value.
    pub(super) typical: Option<f64>,
    /// The limit.
    pub(super) most: f64,
}

/// The tokens and seconds of one variant so far.
#[derive(Debug)]
pub(super) struct Remaining {
    lengths: Lengths,
    requests: usize,
    completed: usize,
    /// Of the completed requests.
    completed_tokens: f64,
    /// Of each of the latest.
    latest: VecDeque<f64>,
    /// Of the others, where each is known.
    known_left: f64,
    running: usize,
    output_tokens: f64,
    seconds: f64,
    /// Tokens of a running request a step, the latest steps counting most.
    of_one: f64,
    /// Seconds of a step, likewise.
    step_seconds: f64,
}

impl Lengths {
    /// The mean of what they are expected to be.
    pub(super) fn expected(&self) -> Option<f64> {
        let known = self.known.as_ref().filter(|known| !known.is_empty());
        known
            .map(|known| known.iter().sum::<f64>() / known.len() as f64)
            .or(self.typical)
            .map(|mean| mean.min(self.most))
    }
}

impl Remaining {
    /// Before the first of `requests`.
    pub(super) fn new(lengths: Lengths, requests: usize) -> Self {
        let known_left = lengths.known.as_ref().map_or(0.0, |known| known.iter().sum());
        Self {
            lengths,
            requests,
            completed: 0,
            completed_tokens: 0.0,
            latest: VecDeque::new(),
            known_left,
            running: 0,
            output_tokens: 0.0,
            seconds: 0.0,
            of_one: 0.0,
            step_seconds: 0.0,
        }
    }

    /// A step has brought `new_tokens`, `seconds` after the first request; `running` requests go on.
    pub(super) fn step(&mut self, running: usize, new_tokens: u64, seconds: f64) {
        let took = seconds - self.seconds;
        let of_one = new_tokens as f64 / running.max(self.running).max(1) as f64;
        self.of_one += (of_one - self.of_one) / RECENT_STEPS;
        self.step_seconds += (took - self.step_seconds) / RECENT_STEPS;
        self.running = running;
        self.output_tokens += new_tokens as f64;
        self.seconds = seconds;
    }

    /// A request has ended with so many tokens.
    pub(super) fn complete(&mut self, request: usize, tokens: usize) {
        self.completed += 1;
        self.completed_tokens += tokens as f64;
        self.latest.push_front(tokens as f64);
        self.latest.truncate(LATEST);
        self.known_left -= self.lengths.known.as_ref().and_then(|known| known.get(request)).unwrap_or(&0.0);
    }

    /// Seconds to go; `None` before the first token.
    pub(super) fn seconds(&self) -> Option<f64> {
        if self.of_one <= 0.0 {
            return None;
        }
        let left = self.requests.saturating_sub(self.completed) as f64;
        let running = (self.running as f64).min(left);
        let waiting = left - running;
        // Of a running request, so far.
        let so_far = if running > 0.0 { (self.output_tokens - self.completed_tokens).max(0.0) / running } else { 0.0 };
        let (at_end, of_waiting) = self.lengths_at_end(running, so_far);
        let to_go = (at_end - so_far).max(1.0);
        // The longest of so many that lie evenly between 0 and twice the mean.
        let longest = (2.0 * to_go * running / (running + 1.0)).min((self.lengths.most - so_far).max(1.0));
        let waiting = waiting * of_waiting * self.seconds / self.output_tokens;
        let until_the_longest = if running > 0.0 { longest * self.step_seconds / self.of_one } else { 0.0 };
        Some(waiting + until_the_longest)
    }

    /// What a running request will have come to on average, and a waiting one.
    fn lengths_at_end(&self, running: f64, so_far: f64) -> (f64, f64) {
        let Lengths { known, typical, most } = &self.lengths;
        if known.is_some() {
            let left = self.requests.saturating_sub(self.completed).max(1) as f64;
            let mean = self.known_left.max(0.0) / left;
            return (mean.max(so_far + 1.0).min(*most), mean);
        }
        // Those that have not ended are the longer ones: as long as the longer of those that have, and while there are few of these,
        // at least a third of what the limit leaves.
        let typical = typical.unwrap_or(most / 2.0);
        let guess = so_far + (typical - so_far).max((most - so_far) / 3.0);
        let longer = self.latest.iter().filter(|tokens| **tokens > so_far);
        let (count, tokens) =
            longer.fold((running, running * guess), |(count, sum), tokens| (count + 1.0, sum + tokens));
        let at_end = if count > 0.0 { tokens / count } else { guess };
        let all = self.completed as f64 + running;
        let of_waiting = if all > 0.0 { (self.completed_tokens + running * at_end) / all } else { guess };
        (at_end, of_waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs requests of these lengths in so many slots, a token each a step of `step_seconds`: what is told, and what is true, at every
    /// step from the first.
    fn simulate(lengths: &[usize], slots: usize, step_seconds: f64, known: Lengths) -> Vec<(f64, f64)> {
        let mut remaining = Remaining::new(known, lengths.len());
        let mut waiting = 0..lengths.len();
        let mut running: Vec<(usize, usize)> = waiting.by_ref().take(slots).map(|request| (request, 0)).collect();
        let (mut told, mut steps) = (Vec::new(), 0_u32);
        while !running.is_empty() {
            steps += 1;
            let tokens = running.len() as u64;
            for (_, so_far) in &mut running {
                *so_far += 1;
            }
            let ended: Vec<usize> = running
                .iter()
                .filter(|(request, so_far)| *so_far == lengths[*request])
                .map(|(request, _)| *request)
                .collect();
            for request in ended {
                running.retain(|(other, _)| *other != request);
                running.extend(waiting.next().map(|next| (next, 0)));
                remaining.complete(request, lengths[request]);
            }
            remaining.step(running.len(), tokens, f64::from(steps) * step_seconds);
            told.push(remaining.seconds().unwrap());
        }
        let total = f64::from(steps) * step_seconds;
        told.into_iter().zip(1..).map(|(told, step)| (told, total - f64::from(step) * step_seconds)).collect()
    }

    fn nothing_known(most: usize) -> Lengths {
        Lengths { known: None, typical: None, most: most as f64 }
    }

    fn lengths(count: usize) -> Vec<usize> {
        (0..count).map(|n| 60 + n * 7919 % 140).collect()
    }

    /// They were told 3 min 45 s and took 42 s: the first took 22 s, and nine more were thought to follow.
    #[test]
    fn ten_questions_that_run_together_end_together() {
        let lengths: Vec<usize> = (0..10).map(|n| 130 + n * 14).collect();
        for typical in [None, Some(110.0), Some(200.0)] {
            let told = simulate(&lengths, 10, 42.0 / 256.0, Lengths { typical, ..nothing_known(256) });
            assert_eq!(told.len(), 256);
            for (step, (told, truth)) in told.iter().enumerate() {
                assert!(*told < 42.0 && told - truth < 15.0, "{typical:?}, step {step}: {told} of {truth}");
                let near = *told >= truth / 3.5 && *told < truth * 3.0 + 1.0;
                assert!(near || step < 10, "{typical:?}, step {step}: {told} of {truth}");
            }
        }
    }

    #[test]
    fn many_questions_are_told_within_a_fifth() {
        let told = simulate(&lengths(300), 16, 0.02, nothing_known(256));
        for (told, truth) in &told[told.len() / 10..told.len() * 9 / 10] {
            assert!((told / truth - 1.0).abs() < 0.2, "{told} of {truth}");
        }
    }

    #[test]
    fn what_another_variant_wrote_says_it_from_the_first_step() {
        let lengths = lengths(100);
        let known = Some(lengths.iter().map(|length| *length as f64 * 1.05).collect());
        let told = simulate(&lengths, 8, 0.02, Lengths { known, ..nothing_known(2048) });
        for (told, truth) in &told[..told.len() * 9 / 10] {
            assert!((told / truth - 1.0).abs() < 0.2, "{told} of {truth}");
        }
    }

    #[test]
    fn one_that_runs_alone_is_told_by_the_speed_of_the_moment() {
        // 99 short ones, and a long one that is left over.
        let lengths: Vec<usize> = std::iter::repeat_n(10, 99).chain([1000]).collect();
        let told = simulate(&lengths, 50, 0.1, Lengths { typical: Some(10.0), ..nothing_known(1000) });
        let (told, truth) = told[500];
        assert!(told > truth / 4.0 && told < truth * 1.1, "{told} of {truth}");
    }

    #[test]
    fn steps_that_bring_no_token_count() {
        let mut remaining = Remaining::new(Lengths { typical: Some(100.0), ..nothing_known(100) }, 1);
        for step in 1..=40_u32 {
            remaining.step(1, u64::from(step % 2 == 0), f64::from(step) * 0.5);
        }
        // 20 tokens in 20 s; 80 are to come.
        let told = remaining.seconds().unwrap();
        assert!(told > 60.0 && told < 100.0, "{told}");
    }

    #[test]
    fn what_has_ended_says_how_long_the_longer_ones_get() {
        let mut remaining = Remaining::new(nothing_known(4096), 101);
        for request in 0..100 {
            remaining.complete(request, if request % 2 == 0 { 40 } else { 200 });
        }
        remaining.step(101, 50 * 240, 1.0);
        for step in 1..=150_u32 {
            remaining.step(1, 1, 1.0 + f64::from(step));
        }
        // Of those longer than 150, all but one had 200, and nothing is known of that one but the limit.
        let told = remaining.seconds().unwrap();
        assert!(told > 50.0 && told < 100.0, "{told}");
    }

    #[test]
    fn a_machine_that_became_slow_is_believed() {
        let mut remaining = Remaining::new(Lengths { typical: Some(1100.0), ..nothing_known(1100) }, 1);
        let mut seconds = 0.0;
        for step in 0..1000_u32 {
            seconds += if step < 900 { 0.01 } else { 1.0 };
            remaining.step(1, 1, seconds);
        }
        let told = remaining.seconds().unwrap();
        assert!(told > 90.0 && told <= 100.0, "{told}");
    }

    #[test]
    fn nothing_is_told_before_the_first_token() {
        let mut remaining = Remaining::new(nothing_known(256), 10);
        assert_eq!(remaining.seconds(), None);
        remaining.step(10, 0, 3.0);
        assert_eq!(remaining.seconds(), None);
    }
}
