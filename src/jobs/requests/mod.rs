//! Requests that are sent to endpoints, or to an engine of ours on a thread of its own: by users who wait or at a rate that does not, each
//! measured by the clock at the read that brought a token. `load` measures by them, and `bench` what it asks of endpoints.

mod arrivals;
mod drive;
mod level;
mod random;
mod request;
mod served;
mod words;

pub use arrivals::Arrivals;
pub(in crate::jobs) use drive::{Driven, Level, Source, drive, start};
pub use level::LevelPlan;
pub(in crate::jobs) use random::{Purpose, RandomPrompts};
pub use request::{RequestRecord, RequestScore};
pub(in crate::jobs) use served::{Answered, LoadRequest, Served};
