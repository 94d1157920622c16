//! Engines: whatever turns token ids into more token ids, behind one interface ([`Engine`]).
//!
//! A crate of its own, which knows nothing of the suite. The suite has it as `crate::engine`.

mod api;
mod arithmetic;
mod batch;
pub mod bundled;
pub mod candle;
pub mod cpu;
mod cuda;
mod detokenizer;
mod devices;
mod error;
pub mod fault;
pub mod files;
mod generation;
mod handle;
pub mod hub;
mod interface;
mod kind;
mod logits;
pub mod model;
mod open;
mod precision;
mod reading;
mod replicas;
mod sampling;
pub mod sandbox;
pub mod shown;
pub mod system;
pub mod text;
mod thought;

pub use api::{
    Completion, CountedBy, EngineInfo, Finish, GenerateOptions, LoadTimes, Prompt, Request, Sampling, ServerCounts,
    Timings, TokenDetail, TopToken, Work,
};
pub use arithmetic::Arithmetic;
pub use cuda::{DeviceLogits, describe as gpu_description, is_present as gpu_is_present};
pub use detokenizer::Detokenizer;
pub use devices::Devices;
pub use error::EngineError;
pub use generation::{Accepted, Generation};
pub use handle::{EngineHandle, HandleOptions, RequestStream, Shutdown, Ticket, Update, UpdateSink};
pub use interface::{Capacity, Engine, Event, Limits, Token};
pub use kind::{Batching, EngineEntry, EngineKind, OpenOptions};
pub use logits::Logits;
pub use open::{OpenDevices, check_devices, open};
pub use precision::{Precision, Precision as Dtype};
pub use reading::{LayerReading, READ_ROWS, Text, TokenScore};
pub use replicas::{Replica, Replicas};
pub use thought::{SplitThought, Thought, ThoughtMarks};

#[cfg(test)]
#[path = "../../tests/it/skip.rs"]
mod skip;
