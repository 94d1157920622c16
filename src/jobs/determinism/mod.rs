//! Determinism: the same prompts at several batch sizes, twice, in another order. What moves there is noise, and no precision's doing.

mod arm;
mod drive;
mod job;
mod pipeline;
mod record;
mod view;

pub use arm::{Arm, Floor, Moved};
pub use job::DeterminismJob;
pub use pipeline::{DeterminismFinished, execute};
pub use record::{DETERMINISM_FORMAT, DeterminismPlan, DeterminismRecord, VariantFloor};
pub use view::{DeterminismView, render_determinism};
