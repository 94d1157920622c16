//! One pass over the prompts beside the first one: what moved.

use serde::{Deserialize, Serialize};

use crate::score::statistics::Proportion;
use crate::score::{Ratio, clustered_ratio, clustered_wilson, first_divergence, quantile, token_agreement};

/// An answer of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// As it was given.
    pub text: String,
    /// `None` where the target does not tell them.
    pub token_ids: Option<Vec<u32>>,
    /// What the headline rule took from it.
    pub value: Option<String>,
    /// Whether that is right.
    pub right: bool,
}

/// Which prompt an answer is to: its row, and the cluster that the row belongs to, if it has one.
pub(super) type Key = (usize, Option<String>);

/// A pass beside the first one, which has one request at a time, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Requests in the engine at a time.
    pub batch: usize,
    /// Whether the prompts went in in another order.
    pub shuffled: bool,
    /// Seconds that it took.
    pub seconds: f64,
    /// Answers.
    pub answers: usize,
    /// Those with another text, or other tokens where these are told, in row order.
    pub moved: Vec<Moved>,
    /// Of which the headline rule took another value.
    pub values_moved: usize,
    /// Right in the first pass, wrong here.
    pub lost: usize,
    /// Wrong in the first pass, right here.
    pub gained: usize,
    /// Share of answers that moved; the interval takes the task's clusters.
    pub moved_share: Option<Proportion>,
    /// Share of answers that became right or wrong.
    pub flips: Option<Proportion>,
    /// Share of places of the longer answer at which the tokens differ, over all answers, with the delta method's interval over answers
    /// or their clusters; `None` where tokens are not told, and of fewer than two clusters.
    pub tokens_moved: Option<Ratio>,
    /// The median place at which a moved answer leaves the first pass's; `None` where none moved or tokens are not told.
    pub median_divergence: Option<f64>,
    /// Output tokens over the first pass's; `None` where tokens are not told.
    pub length_ratio: Option<f64>,
}

/// An answer that is not the first pass's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Row of the dataset.
    pub sample: usize,
    /// Tokens before the first that differs; `None` where tokens are not told.
    pub at: Option<usize>,
    /// Whether the headline rule took the same value.
    pub same_value: bool,
}

/// What moves though nothing was changed: the most of any pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Share of answers that moved.
    pub answers: Proportion,
    /// Share of answers that became right or wrong.
    pub flips: Proportion,
    /// Difference of accuracy, in percentage points, whichever way.
    pub points: f64,
    /// Share of tokens that moved; `None` where tokens are not told.
    pub tokens: Option<Ratio>,
}

impl Pass {
    /// Of a pass and the first one, by prompt.
    pub(super) fn of(
        keys: &[Key],
        (first, own): (&[Answer], &[Answer]),
        (batch, shuffled): (usize, bool),
        seconds: f64,
    ) -> Self {
        let triples = || keys.iter().zip(first.iter().zip(own));
        let count = |of: &dyn Fn(&Answer, &Answer) -> bool| triples().filter(|(_, (was, is))| of(was, is)).count();
        let share = |of: &dyn Fn(&Answer, &Answer) -> bool| {
            let answers: Vec<_> = triples().map(|(key, (was, is))| (cluster(key), of(was, is))).collect();
            clustered_wilson(&answers)
        };
        let is_moved = |was: &Answer, is: &Answer| was.text != is.text || was.token_ids != is.token_ids;
        let is_flip = |was: &Answer, is: &Answer| was.right != is.right;
        let moved = triples().filter(|(_, (was, is))| is_moved(was, is)).map(|(key, (was, is))| Moved {
            sample: key.0,
            at: tokens_of(was, is).and_then(|(was, is)| first_divergence(was, is)),
            same_value: was.value == is.value,
        });
        let moved: Vec<Moved> = moved.collect();
        let mut places: Vec<f64> = moved.iter().filter_map(|one| one.at).map(|at| at as f64).collect();
        places.sort_unstable_by(f64::total_cmp);
        let tokens: Option<Vec<_>> =
            triples().map(|(key, (was, is))| Some((cluster(key), tokens_of(was, is)?))).collect();
        let total = |of: fn(&Tokens) -> usize| {
            tokens.as_ref().map(|tokens| tokens.iter().map(|(_, pair)| of(pair)).sum::<usize>() as f64)
        };
        let ratio = total(|(_, is)| is.len()).zip(total(|(was, _)| was.len())).filter(|(_, was)| *was > 0.0);
        Self {
            batch,
            shuffled,
            seconds,
            answers: first.len().min(own.len()),
            values_moved: count(&|was, is| was.value != is.value),
            lost: count(&|was, is| was.right && !is.right),
            gained: count(&|was, is| !was.right && is.right),
            moved_share: share(&is_moved),
            flips: share(&is_flip),
            tokens_moved: tokens.as_deref().and_then(tokens_moved),
            median_divergence: quantile(&places, 0.5),
            length_ratio: ratio.map(|(is, was)| is / was),
            moved,
        }
    }
}

/// What answers share that belong together: the cluster, else the row.
fn cluster((sample, cluster): &Key) -> Result<&str, usize> {
    cluster.as_deref().ok_or(*sample)
}

fn tokens_of<'a>(was: &'a Answer, is: &'a Answer) -> Option<Tokens<'a>> {
    Some((was.token_ids.as_deref()?, is.token_ids.as_deref()?))
}

/// Tokens of the first pass and of another.
type Tokens<'a> = (&'a [u32], &'a [u32]);

/// Places that differ over places, cluster by cluster.
fn tokens_moved<K: Ord>(tokens: &[(K, Tokens)]) -> Option<Ratio> {
    let ratio = clustered_ratio(tokens.iter().map(|(key, (was, is))| {
        let longer = was.len().max(is.len()) as f64;
        (key, [longer, (1.0 - token_agreement(was, is)) * longer])
    }))?;
    Some(Ratio { low: ratio.low.max(0.0), high: ratio.high.min(1.0), ..ratio })
}

impl Floor {
    /// The most of any pass; `None` of none.
    pub fn of(passes: &[Pass]) -> Option<Self> {
        let most = |of: fn(&Pass) -> Option<Proportion>| {
            passes.iter().filter_map(of).max_by(|one, other| one.value.total_cmp(&other.value))
        };
        let points = |pass: &Pass| pass.lost.abs_diff(pass.gained) as f64 * 100.0 / pass.answers.max(1) as f64;
        Some(Self {
            answers: most(|pass| pass.moved_share)?,
            flips: most(|pass| pass.flips)?,
            points: passes.iter().map(points).fold(0.0, f64::max),
            tokens: passes
                .iter()
                .map(|pass| pass.tokens_moved)
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().max_by(|one, other| one.value.total_cmp(&other.value))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[u32], value: &str, right: bool) -> Answer {
        let text = tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        Answer { text, token_ids: Some(tokens.to_vec()), value: Some(value.to_owned()), right }
    }

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|row| (row + 10, None)).collect()
    }

    /// Nothing, all from place 1, all, and one more token.
    fn passes() -> ([Answer; 4], [Answer; 4]) {
        let first = [
            answer(&[1, 2, 3, 4], "1", true),
            answer(&[5, 6], "2", true),
            answer(&[7], "3", false),
            answer(&[8], "4", true),
        ];
        let own = [
            answer(&[1, 2, 3, 4], "1", true),
            answer(&[5, 9, 9, 9], "0", false),
            answer(&[6], "4", true),
            answer(&[8, 9], "4", true),
        ];
        (first, own)
    }

    #[test]
    fn what_moved_by_hand() {
        let (first, own) = passes();
        let pass = Pass::of(&keys(4), (&first, &own), (8, true), 1.5);
        assert_eq!((pass.answers, pass.values_moved, pass.lost, pass.gained), (4, 2, 1, 1));
        let moved = |sample, at, same_value| Moved { sample, at: Some(at), same_value };
        assert_eq!(pass.moved, [moved(11, 1, false), moved(12, 0, false), moved(13, 1, true)]);
        let share = pass.moved_share.unwrap();
        assert_eq!((share.successes, share.n, share), (3, 4, crate::score::statistics::wilson(3, 4).unwrap()));
        assert_eq!(pass.flips.unwrap(), crate::score::statistics::wilson(2, 4).unwrap());
        // Of 4 + 4 + 1 + 2 places 4 + 1 + 0 + 1 are the same. Residuals of 5/11: −20, 13, 6, 1 elevenths; their standard error is
        // √(606 / 3 / 4) / 11 over the mean of 11/4 places.
        let tokens = pass.tokens_moved.unwrap();
        assert!((tokens.value - 5.0 / 11.0).abs() < 1e-12);
        let half = 1.959_963_984_540_054 * (606.0_f64 / 12.0).sqrt() / 11.0 / 2.75;
        assert!((tokens.high - (tokens.value + half).min(1.0)).abs() < 1e-12 && tokens.low == 0.0, "{tokens:?}");
        // Places 1, 0 and 1; 11 tokens in the place of 8.
        assert_eq!((pass.median_divergence, pass.length_ratio), (Some(1.0), Some(11.0 / 8.0)));
    }

    #[test]
    fn the_median_place_is_that_of_the_answers_that_moved() {
        let first = [[1, 2, 3, 4]; 4].map(|tokens| answer(&tokens, "1", true));
        let own = [[1, 2, 3, 4], [9, 2, 3, 4], [1, 2, 3, 9], [1, 9, 3, 4]].map(|tokens| answer(&tokens, "1", true));
        assert_eq!(Pass::of(&keys(4), (&first, &own), (1, true), 1.0).median_divergence, Some(1.0));
    }

    #[test]
    fn the_floor_is_the_most_of_any_pass() {
        let (first, own) = passes();
        let same = Pass::of(&keys(4), (&first, &first), (1, true), 1.0);
        assert!(same.moved.is_empty() && same.median_divergence.is_none());
        assert_eq!(same.tokens_moved.unwrap().value, 0.0);
        let pass = Pass::of(&keys(4), (&first, &own), (8, true), 1.5);
        let floor = Floor::of(&[pass.clone(), Pass { lost: 2, ..same }]).unwrap();
        assert_eq!((floor.answers, floor.flips), (pass.moved_share.unwrap(), pass.flips.unwrap()));
        assert_eq!((floor.tokens, floor.points), (pass.tokens_moved, 50.0));
        // Of whichever pass it is.
        assert_eq!(Floor::of(&[Pass { lost: 2, ..pass.clone() }, pass.clone()]).unwrap().points, 25.0);
        assert_eq!(Floor::of(&[]), None);
        // One answer is lost and one gained: accuracy stays where it is.
        assert_eq!(Floor::of(std::slice::from_ref(&pass)).unwrap().points, 0.0);
    }

    #[test]
    fn answers_of_one_cluster_count_as_one() {
        let (first, own) = passes();
        let keys: Vec<Key> =
            ["a", "b", "b", "b"].iter().zip(0..).map(|(name, row)| (row, Some((*name).to_owned()))).collect();
        let pass = Pass::of(&keys, (&first, &own), (8, false), 1.0);
        let clustering = pass.moved_share.unwrap().clustering.unwrap();
        assert_eq!(clustering.clusters, 2);
        // Two units of 4 and 7 places, 0 and 5 of them changed: residuals −20/11 and 20/11.
        let half = 1.959_963_984_540_054 * (800.0_f64 / 2.0).sqrt() / 11.0 / 5.5;
        let tokens = pass.tokens_moved.unwrap();
        assert!((tokens.high - (tokens.value + half).min(1.0)).abs() < 1e-12, "{tokens:?}");
    }

    #[test]
    fn other_tokens_of_the_same_text_have_moved() {
        let first = answer(&[5, 6], "1", true);
        let own = Answer { token_ids: Some(vec![5, 9]), ..first.clone() };
        let pass = Pass::of(&keys(1), (&[first], &[own]), (8, false), 1.0);
        assert_eq!(pass.moved, [Moved { sample: 10, at: Some(1), same_value: true }]);
    }

    #[test]
    fn without_tokens_texts_are_compared() {
        let blind = |text: &str| Answer { text: text.to_owned(), token_ids: None, value: None, right: false };
        let pass = Pass::of(&keys(2), (&[blind("a"), blind("b")], &[blind("a"), blind("c")]), (1, false), 1.0);
        assert_eq!(pass.moved, [Moved { sample: 11, at: None, same_value: true }]);
        assert_eq!((pass.tokens_moved, pass.length_ratio), (None, None));
        assert_eq!(Floor::of(&[pass]).unwrap().tokens, None);
    }
}
