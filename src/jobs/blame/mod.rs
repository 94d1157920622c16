//! Blame: which layers' and projections' rounded weights made a variant leave the reference's answers. `pipeline.rs` is the file that knows
//! every stage.

mod baseline;
mod choice;
mod inputs;
mod job;
mod lines;
mod map;
mod pipeline;
mod record;
mod score;
mod summary;
mod together;
mod view;
mod work;

pub use inputs::BlameInputs;
pub use job::BlameJob;
pub use lines::blame_lines;
pub use pipeline::{BlameFinished, evaluate, execute};
pub use record::{
    BLAME_FORMAT, BlameRecord, BlamedAnswer, BlamedLayer, BlamedPart, BlamedRun, Kept, PutBack, Restored, Together,
};
pub use view::{BlameView, render_blame};
