//! `serve`: an engine of ours behind `OpenAI`'s API.
//!
//! `listen → routes → request → prompt → work → {whole, stream} → answer`: a connection is taken, a route is found, its body is checked
//! and tokenized, its completions are submitted to the engine, which has a thread of its own, and what comes back is written in the
//! API's shapes, whole or token by token.

mod answer;
mod fault;
mod fields;
mod job;
mod listen;
mod logprobs;
mod metrics;
mod prompt;
mod request;
mod routes;
mod served;
mod stream;
mod text;
mod tokens;
mod whole;
mod work;

pub use job::{ServeJob, ServeLimits, Serving, serve};
