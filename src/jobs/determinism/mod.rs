//! Determinism: the same prompts at several batch sizes, twice, in another order. What moves there is noise, and no precision's doing.

mod drive;
mod job;
mod lines;
mod pass;
mod pipeline;
mod progress;
mod record;
mod view;

pub use job::DeterminismJob;
pub use lines::determinism_lines;
pub use pass::{Answer, Floor, Moved, Pass};
pub use pipeline::{DeterminismFinished, execute};
pub use progress::progress_path;
pub use record::{DETERMINISM_FORMAT, DeterminismPlan, DeterminismRecord, VariantFloor};
pub use view::{DeterminismView, render_determinism};
