//! How one level sends its requests.

use serde::{Deserialize, Serialize};

use super::Arrivals;

/// How one level sends its requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LevelPlan {
    /// So many users, each of whom waits for an answer and asks again.
    Users {
        /// Users.
        users: usize,
    },
    /// At a rate that waits for no answer.
    Rate {
        /// Requests a second on the mean.
        rate: f64,
        /// How their gaps are distributed.
        arrivals: Arrivals,
    },
    /// When a trace says.
    Trace,
}

impl LevelPlan {
    /// Whether requests are sent whether or not others are answered.
    pub const fn is_open(&self) -> bool {
        !matches!(self, Self::Users { .. })
    }
}

impl std::fmt::Display for LevelPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Users { users: 1 } => f.write_str("1 user"),
            Self::Users { users } => write!(f, "{users} users"),
            Self::Rate { rate, arrivals: Arrivals::Constant } => write!(f, "{rate}/s"),
            Self::Rate { rate, arrivals } => write!(f, "{rate}/s {arrivals}"),
            Self::Trace => f.write_str("trace"),
        }
    }
}
