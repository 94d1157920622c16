//! `load`: many requests at once, on an endpoint or on an engine of ours, by users who wait or at a rate that does not.
//!
//! `prompts → requests → figures → record`: prompts of stated lengths or from a set, sent as a level says (`jobs/requests/`), kept one by one.

mod cache;
mod figures;
mod job;
mod peer;
mod pipeline;
mod prompts;
mod questions;
mod record;
mod render;
mod side_by_side;
mod slo;
mod trace;
mod view;
mod vs;

pub use crate::jobs::requests::{Arrivals, LevelPlan, RequestRecord, RequestScore};
pub use figures::{Distribution, LevelFigures, Second, timeline};
pub use job::{LoadJob, LoadPrompts};
pub use peer::LoadPeer;
pub use pipeline::{LoadFinished, execute};
pub use questions::LevelScore;
pub use record::{CachePoint, LOAD_FORMAT, LevelRecord, LoadPlan, LoadRecord, VariantLoad};
pub use render::render_load;
pub use side_by_side::load_figures;
pub use slo::Slo;
pub use view::LoadView;
pub use vs::load_peers;
