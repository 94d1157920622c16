//! Quantisation: from a model in full precision to an int4 checkpoint, in `AutoAWQ`'s or compressed-tensors' layout.
//!
//! Layer by layer, each block fed the original output of the one before; finished blocks wait on disk, so that an
//! interrupted run goes on. The same input gives the same bytes, on any number of threads.

mod block;
mod calibration;
mod compressed_tensors;
mod describe;
mod error;
mod job;
mod round;
mod scheme;
mod search;
mod tensors;

pub use error::QuantizeError;
pub use job::{Method, QuantizeEnd, QuantizeEvent, QuantizeJob, QuantizeProgress, quantize};
pub use scheme::{GROUP_SIZES, Groups, Scheme, StoredFormat};
