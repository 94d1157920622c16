//! Which answers belong together: those to one question, and where a task names clusters, those to all questions of one.

use std::collections::HashMap;

use crate::record::StoredSample;

/// The clusters of a run's samples.
#[derive(Debug, Clone, Default)]
pub struct Clusters<'a>(HashMap<usize, &'a str>);

/// What answers share that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterKey<'a> {
    /// The question, by its row.
    Question(usize),
    /// The cluster that the task gives it.
    Cluster(&'a str),
}

impl<'a> Clusters<'a> {
    /// Of the samples that a run folder keeps; none are needed where every question stands for itself.
    pub fn new(samples: &'a [StoredSample]) -> Self {
        Self(samples.iter().filter_map(|one| Some((one.sample, one.cluster.as_deref()?))).collect())
    }

    /// Where the answers to a sample belong.
    pub fn of(&self, sample: usize) -> ClusterKey<'a> {
        self.0.get(&sample).map_or(ClusterKey::Question(sample), |cluster| ClusterKey::Cluster(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_one_cluster_belong_together_and_others_stand_alone() {
        let sample = |sample, cluster: Option<&str>| StoredSample {
            sample,
            id: None,
            question: String::new(),
            answer: String::new(),
            reference: None,
            cluster: cluster.map(str::to_owned),
            prompt: String::new(),
        };
        let samples = [sample(0, Some("a")), sample(1, None), sample(2, Some("a")), sample(3, Some("1"))];
        let clusters = Clusters::new(&samples);
        assert_eq!(clusters.of(0), clusters.of(2));
        assert_eq!(clusters.of(1), ClusterKey::Question(1));
        assert_eq!(clusters.of(7), ClusterKey::Question(7), "of a sample that the folder does not keep");
        assert!(clusters.of(3) != clusters.of(1) && clusters.of(3) != clusters.of(0));
    }
}
