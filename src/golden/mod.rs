//! Golden files: stored outputs of a suite, kept beside the code, that later outputs are compared with.
//!
//! ```text
//! golden/<suite>/<model>/<dtype>.json      outputs, scores, tolerance and provenance
//! golden/<suite>/<model>/<dtype>.json.new  differing outputs, until they are accepted or rejected
//! ```

mod annotation;
mod candidate;
mod change;
mod check;
mod common;
mod common_files;
mod compare;
mod file;
mod orphans;
mod prompt_change;
mod recipe;
mod review;
mod store;
mod suite_job;
mod tolerance;

pub use annotation::annotations;
pub use candidate::{Candidates, Origin, RecipeSource, candidates};
pub use change::{Change, ChangeKind};
pub use check::{Checked, Status, hold};
pub use common_files::{Common, reported_once};
pub use compare::{Comparison, compare};
pub use file::{
    DatasetInput, FileHash, GOLDEN_FORMAT, Golden, Inputs, Note, Output, PromptsInput, ProtocolInput, Provenance,
    RuleInput, Scored, Suite,
};
pub use orphans::{Coverage, coverage};
pub use recipe::{Recipe, RecipeFlag};
pub use review::show;
pub use store::{Entry, Store};
pub use suite_job::{Ran, SuiteEnd, SuiteJob};
pub use tolerance::Tolerance;
