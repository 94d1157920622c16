//! Threads that wait for servers.

use tokio::runtime::{Builder, Runtime};

use crate::fault::Fault;

/// A runtime as `builder` says, for connections.
pub fn start_runtime(builder: &mut Builder) -> Result<Runtime, Fault> {
    builder.enable_all().build().map_err(|error| {
        Fault::new(
            format!("cannot start the threads that send requests: {error}"),
            "end other programs, or raise the limit of threads (`ulimit -u`)",
        )
    })
}
