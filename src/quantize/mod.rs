//! Quantisation: from a model in full precision to an AWQ-int4 checkpoint.
//!
//! Layer by layer, each block fed the original output of the one before; finished blocks wait on disk, so that an
//! interrupted run goes on. The same input gives the same bytes, on any number of threads.

mod block;
mod calibration;
mod describe;
mod error;
mod job;
mod round;
mod search;
mod tensors;

pub use error::QuantizeError;
pub use job::{GROUP_SIZES, Method, QuantizeEnd, QuantizeEvent, QuantizeJob, QuantizeProgress, quantize};
