//! Several answers to one question: how often one of k is right, what most of them say, and how far repeats lie apart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{boxed_value, exact_value, normalize};

/// One answer of a question, as one rule reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote<'a> {
    /// What was extracted, if anything.
    pub value: Option<&'a str>,
    /// It is the reference.
    pub correct: bool,
}

/// What repeats show that one answer does not. Fractions of 1, over the questions that have all their answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// Answers a question.
    pub repeats: usize,
    /// Questions that have so many.
    pub questions: usize,
    /// For k = 1, 2, 4, … and all repeats.
    pub pass_at: Vec<PassAt>,
    /// The value that most answers of a question give is right; of n values that as many give, each counts 1/n.
    pub majority: f64,
    /// The accuracy of the worst repeat.
    pub lowest: f64,
    /// Of the best.
    pub highest: f64,
    /// The standard deviation of the repeats' accuracies (of a sample: divided by repeats − 1).
    pub standard_deviation: f64,
}

/// The chance that one of k answers to a question is right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassAt {
    /// k.
    pub k: usize,
    /// The mean over questions of the unbiased estimate `1 − C(n − c, k) / C(n, k)`, c of n answers being right.
    pub value: f64,
}

/// Of questions with their answers in the order of repeats; a question that has not `repeats` of them does not count. `None` for fewer
/// than two repeats and where no question counts.
pub fn repeats(questions: &[Vec<Vote>], repeats: usize) -> Option<Repeats> {
    let complete: Vec<&[Vote]> = questions.iter().map(Vec::as_slice).filter(|votes| votes.len() == repeats).collect();
    if repeats < 2 || complete.is_empty() {
        return None;
    }
    let n = complete.len() as f64;
    let mean = |of: &dyn Fn(&[Vote]) -> f64| complete.iter().map(|votes| of(votes)).sum::<f64>() / n;
    let accuracy =
        |repeat: usize| mean(&|votes| f64::from(u8::from(votes.get(repeat).is_some_and(|vote| vote.correct))));
    let accuracies: Vec<f64> = (0..repeats).map(accuracy).collect();
    let pass_at =
        |k| PassAt { k, value: mean(&|votes| pass_at(repeats, votes.iter().filter(|vote| vote.correct).count(), k)) };
    Some(Repeats {
        repeats,
        questions: complete.len(),
        pass_at: powers_of_two(repeats).map(pass_at).collect(),
        majority: mean(&majority),
        lowest: accuracies.iter().copied().fold(f64::INFINITY, f64::min),
        highest: accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        standard_deviation: standard_deviation(&accuracies),
    })
}

/// 1, 2, 4, … below `last`, and `last`.
fn powers_of_two(last: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |k: &usize| k.checked_mul(2)).take_while(move |k| *k < last).chain([last])
}

/// `1 − C(n − c, k) / C(n, k)` (Chen et al., Evaluating large language models trained on code, 2021), as a product that no large number
/// enters: C(n − c, k) / C(n, k) = Π (1 − k / i) for i from n − c + 1 to n.
fn pass_at(n: usize, correct: usize, k: usize) -> f64 {
    if n - correct < k {
        return 1.0;
    }
    1.0 - (n - correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// The right answer's share of the vote: 1 where more answers give it than any other value, 1/t where it is one of t values that as many
/// give, else 0. Answers without a value do not vote. Right values are one value, however they are written; wrong ones are one where they
/// are one number, or the same after [`normalize`].
fn majority(votes: &[Vote]) -> f64 {
    let mut right = 0_usize;
    let mut wrong: HashMap<String, usize> = HashMap::new();
    for vote in votes {
        match vote.value {
            Some(_) if vote.correct => right += 1,
            Some(value) => *wrong.entry(written_once(value)).or_default() += 1,
            None => {}
        }
    }
    let most = wrong.values().copied().max().unwrap_or(0);
    if right == 0 || right < most {
        return 0.0;
    }
    let tied = wrong.values().filter(|count| **count == right).count();
    1.0 / (1 + tied) as f64
}

fn written_once(value: &str) -> String {
    exact_value(value).or_else(|| boxed_value(value)).unwrap_or_else(|| normalize(value))
}

fn standard_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-12, "{actual} is not {expected}");
    }

    /// `18` is right, everything else wrong, the empty text no value.
    fn votes<'a>(values: &[&'a str]) -> Vec<Vote<'a>> {
        let vote =
            |value: &&'a str| Vote { value: Some(*value).filter(|value| !value.is_empty()), correct: *value == "18" };
        values.iter().map(vote).collect()
    }

    #[test]
    fn pass_at_k_matches_counting_every_choice() {
        // By tests/data/make_clusters.py: of all choices of k answers, the share that has a right one among them.
        for (n, correct, k, value) in PASS_AT {
            close(pass_at(n, correct, k), value);
        }
    }

    #[test]
    fn the_majority_is_the_value_that_most_answers_give() {
        for (values, share) in [
            (&["18", "18", "7"][..], 1.0),
            (&["18", "7", "7"], 0.0),
            (&["18", "7"], 0.5),
            (&["18", "7", "8"], 1.0 / 3.0),
            (&["18", "18", "7", "7", "8"], 0.5),
            (&["18", "7", "8", "8"], 0.0),
            // No value is no vote.
            (&["18", "", "", ""], 1.0),
            (&["", ""], 0.0),
            // One number in three writings is one value.
            (&["18", "18", "1,200", "1200", "1200.0"], 0.0),
            (&["18", "18", "$7.", "7", "eight"], 0.5),
            (&["18", "18", "\\frac{1}{2}", "0.5", "1/2"], 0.0),
        ] {
            close(majority(&votes(values)), share);
        }
        // Right values are one value however they are written.
        let mut differently = votes(&["18", "18.0", "7", "7", "7"]);
        differently[1].correct = true;
        differently.push(Vote { value: Some("$18"), correct: true });
        differently.push(Vote { value: Some("18 eggs"), correct: true });
        close(majority(&differently), 1.0);
    }

    #[test]
    fn repeats_are_told_apart() {
        // Right by repeat: 2, 1, 3 and 1 of 4.
        let questions = [
            votes(&["18", "18", "18", "18"]),
            votes(&["18", "7", "18", "8"]),
            votes(&["", "7", "18", "7"]),
            votes(&["", "", "", "7"]),
            votes(&["18", "18"]),
        ];
        let repeats = repeats(&questions, 4).unwrap();
        assert_eq!((repeats.repeats, repeats.questions), (4, 4), "a question without all its answers does not count");
        assert_eq!((repeats.lowest, repeats.highest), (0.25, 0.75));
        // Accuracies 2/4, 1/4, 3/4, 1/4: mean 7/16, squares 1/256 + 9/256 + 25/256 + 9/256 = 44/256, over 3.
        close(repeats.standard_deviation, (44.0_f64 / 256.0 / 3.0).sqrt());
        assert_eq!(repeats.pass_at.iter().map(|pass| pass.k).collect::<Vec<_>>(), [1, 2, 4]);
        // One of two is right: of 4, 2, 1 and 0 right answers 1, 5/6, 1/2 and 0.
        for (pass, expected) in repeats.pass_at.iter().zip([7.0 / 16.0, (1.0 + 5.0 / 6.0 + 0.5) / 4.0, 0.75]) {
            close(pass.value, expected);
        }
        // Four of four; 2 against 1 and 1; 1 against 2; none.
        close(repeats.majority, 0.5);
    }

    #[test]
    fn one_answer_a_question_has_no_spread() {
        assert_eq!(repeats(&[votes(&["18"])], 1), None);
        assert_eq!(repeats(&[votes(&["18"])], 2), None);
        assert_eq!(repeats(&[], 2), None);
        let twice = repeats(&[votes(&["18", "18"])], 2).unwrap();
        assert_eq!((twice.lowest, twice.highest, twice.standard_deviation, twice.majority), (1.0, 1.0, 0.0, 1.0));
    }

    #[test]
    fn k_doubles_up_to_all() {
        let ks = |last| powers_of_two(last).collect::<Vec<_>>();
        assert_eq!((ks(2), ks(3), ks(8), ks(10)), (vec![1, 2], vec![1, 2, 3], vec![1, 2, 4, 8], vec![1, 2, 4, 8, 10]));
    }

    proptest! {
        #[test]
        fn pass_at_k_is_a_share_that_grows_with_k(n in 1_usize..60, correct in 0_usize..60, k in 1_usize..60) {
            let (correct, k) = (correct % (n + 1), 1 + k % n);
            let value = pass_at(n, correct, k);
            prop_assert!((0.0..=1.0).contains(&value));
            prop_assert!((pass_at(n, correct, 1) - correct as f64 / n as f64).abs() < 1e-12);
            prop_assert!(pass_at(n, correct, n) == f64::from(u8::from(correct > 0)));
            if k < n {
                prop_assert!(pass_at(n, correct, k + 1) >= value - 1e-12);
            }
        }

        #[test]
        fn neither_order_changes_the_vote(values in proptest::collection::vec(0_usize..4, 1..12), at in 0_usize..12) {
            let names = ["18", "7", "8", ""];
            let mut texts: Vec<&str> = values.iter().map(|value| names[*value]).collect();
            let before = majority(&votes(&texts));
            let middle = at % texts.len();
            texts.rotate_left(middle);
            prop_assert_eq!(before, majority(&votes(&texts)));
            prop_assert!((0.0..=1.0).contains(&before));
        }
    }

    const PASS_AT: [(usize, usize, usize, f64); 8] = [
        (5, 2, 1, 0.4),
        (5, 2, 2, 0.7),
        (5, 2, 4, 1.0),
        (8, 3, 4, 0.928_571_428_571_428_6),
        (8, 1, 8, 1.0),
        (8, 0, 4, 0.0),
        (16, 5, 8, 0.987_179_487_179_487_2),
        (20, 1, 2, 0.1),
    ];
}
