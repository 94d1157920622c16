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
