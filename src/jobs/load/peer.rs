//! A load test of others, or an earlier one.

use serde::{Deserialize, Serialize};

use super::LevelPlan;
use crate::record::LoadPoint;

/// One engine in one precision, or one variant of another record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadPeer {
    /// Its name.
    pub engine: String,
    /// Its precision, or the variant's name.
    pub variant: String,
    /// Where its figures come from.
    pub source: String,
    /// Whatever a reader has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Level by level.
    pub points: Vec<LoadPoint>,
}

impl LoadPeer {
    /// Its figures at a level, where it has some.
    pub fn at(&self, level: &LevelPlan) -> Option<&LoadPoint> {
        self.points.iter().find(|point| match level {
            LevelPlan::Users { users } => point.users == Some(*users),
            LevelPlan::Rate { rate, .. } => point.rate.is_some_and(|other| (other - rate).abs() <= rate * 1e-9),
            LevelPlan::Trace => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::load::Arrivals;

    #[test]
    fn figures_stand_at_the_level_that_they_are_of() {
        let point = |users: Option<usize>, rate: Option<f64>| LoadPoint { users, rate, ..LoadPoint::default() };
        let points = vec![point(Some(4), None), point(None, Some(2.5)), point(Some(2), None)];
        let peer =
            LoadPeer { engine: String::new(), variant: String::new(), source: String::new(), note: None, points };
        let at = |level: LevelPlan| peer.at(&level).map(|point| (point.users, point.rate));
        let rate = |rate: f64| LevelPlan::Rate { rate, arrivals: Arrivals::Poisson };
        assert_eq!(at(LevelPlan::Users { users: 2 }), Some((Some(2), None)));
        assert_eq!(at(rate(2.5 * (1.0 + 1e-12))), Some((None, Some(2.5))));
        assert_eq!([at(LevelPlan::Users { users: 3 }), at(rate(2.4)), at(rate(4.0)), at(LevelPlan::Trace)], [None; 4]);
    }
}
