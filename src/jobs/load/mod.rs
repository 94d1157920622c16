//! `load`: many requests at once, on an endpoint or on an engine of ours, by users who wait or at a rate that does not.
//!
//! `prompts → drive → figures → record`: prompts of stated lengths or from a set, sent as a level says, measured by the clock at the read
//! that brought a token, kept one by one.

mod arrivals;
mod cache;
mod drive;
mod figures;
mod job;
mod level;
mod pipeline;
mod prompts;
mod record;
mod request;
mod served;
mod side_by_side;
mod slo;
mod trace;
mod view;

pub use arrivals::Arrivals;
pub use figures::{Distribution, LevelFigures, Second, timeline};
pub use job::{LoadJob, LoadPrompts};
pub use level::LevelPlan;
pub use pipeline::{LoadFinished, execute};
pub use record::{CachePoint, LOAD_FORMAT, LevelRecord, LoadPlan, LoadRecord, VariantLoad};
pub use request::RequestRecord;
pub use side_by_side::load_figures;
pub use slo::Slo;
pub use view::{LoadView, render_load};
