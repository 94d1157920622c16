//! The API that servers of language models share (OpenAI's `/v1/completions` and `/v1/chat/completions`): what is asked, what is
//! answered, and a client that survives what servers do.
//!
//! `address → client → stream → reply`: an address is checked, a client sends a [`GenerationRequest`] and reads the answer, streamed or not,
//! into a [`Reply`] with the time of every chunk. [`RemoteEngine`] makes an [`crate::engine::Engine`] of one or several endpoints: requests go
//! to whichever has a free place, and what failed for a passing reason is asked again.

mod address;
mod client;
mod engine;
mod failure;
mod reply;
mod request;
mod retry;
mod runtime;
mod server;
mod spread;

pub use address::Address;
pub use client::{ApiKey, Client, ClientOptions};
pub use engine::{ENDPOINT, EndpointOptions, RemoteEngine, cut_at_stops};
pub use failure::{Cause, RequestError};
pub use reply::{ChunkMark, Reply, Usage};
pub use request::{Api, GenerationRequest, PromptForm, Refused};
pub use runtime::start_runtime;
pub use server::ServerInfo;
