//! `evalsuite serve`: typed, resolved, run, said.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::interrupt::steps_come;
use super::model::ModelArguments;
use super::output::print_data;
use super::printer::{note, say};
use super::session::with_context;
use super::values::at_least_one;
use crate::engine::Batching;
use crate::files::read_text;
use crate::jobs::JobError;
use crate::serve::{ServeJob, ServeLimits, Serving, serve};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite serve --model ./qwen2.5-0.5b --dtype f16
      http://127.0.0.1:8000/v1, for this machine alone
  evalsuite serve --model ./qwen2.5-0.5b --dtype f16,awq --batching fast
      two models under one address, each by its name
  evalsuite serve --model ./qwen2.5-0.5b --host 0.0.0.0 --api-key-file key
      for other machines, which need the key

  curl http://127.0.0.1:8000/v1/chat/completions \\
      -d '{\"messages\": [{\"role\": \"user\", \"content\": \"2 + 2?\"}]}'

The address of the API is the one line on stdout, printed when requests are
taken. Ctrl-C takes no more requests and ends those that have begun; a second
one ends at once.";

/// Most of a megabyte: prompts of some 250,000 tokens.
const BODY_MEGABYTES: usize = 8;

/// `evalsuite serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    /// Requests that the engine advances together at most
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,
    /// What the model is called in the API [default: the name of its files]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub served_model: Option<String>,

    /// The address to listen at; one that other machines reach needs a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = "Server")]
    pub host: IpAddr,
    /// The port to listen at; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8000, help_heading = "Server")]
    pub port: u16,
    /// A key that requests must have; who lists processes sees it: a file is safer
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    pub api_key: Option<String>,
    /// A file of keys, one a line
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub api_key_file: Option<PathBuf>,
    /// Pages of this origin may ask it (CORS); `*`: any; repeatable
    #[arg(long, value_name = "ORIGIN", help_heading = "Server")]
    pub cors_origin: Vec<String>,

    /// Requests that may wait beside those being worked on; one more is answered
    /// by 429
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Limits")]
    pub max_queued: usize,
    /// Megabytes of a request's body at most
    #[arg(long, value_name = "MB", default_value_t = BODY_MEGABYTES, help_heading = "Limits")]
    pub max_body: usize,
    /// Connections at a time; others wait
    #[arg(long, value_name = "N", default_value_t = 16_384, help_heading = "Limits")]
    pub max_connections: usize,
    /// After Ctrl-C, requests that have begun may take so long to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Limits")]
    pub drain_seconds: u64,
}

/// Checks the arguments of `serve`. `command` is the whole command line.
pub(super) fn resolve_serve(arguments: &ServeArguments, command: Vec<String>) -> Result<ServeJob, JobError> {
    at_least_one(&[("--max-body", Some(arguments.max_body)), ("--max-connections", Some(arguments.max_connections))])?;
    Ok(ServeJob {
        command,
        target: arguments.model.resolve(Batching::Invariant, arguments.batch)?,
        name: arguments.served_model.clone(),
        address: SocketAddr::new(arguments.host, arguments.port),
        keys: keys(arguments)?,
        origins: arguments.cors_origin.clone(),
        limits: ServeLimits {
            queued: arguments.max_queued,
            body_bytes: arguments.max_body.saturating_mul(1 << 20),
            connections: arguments.max_connections.min(1 << 20),
            drain: Duration::from_secs(arguments.drain_seconds),
        },
        note,
    })
}

fn keys(arguments: &ServeArguments) -> Result<Vec<String>, JobError> {
    let mut keys: Vec<String> = arguments.api_key.iter().cloned().collect();
    if let Some(path) = &arguments.api_key_file {
        let text = read_text(path).map_err(|error| {
            JobError::invalid(
                format!("cannot read the keys in {}: {error}", path.display()),
                "give a text file that holds a key a line",
            )
        })?;
        let before = keys.len();
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        if keys.len() == before {
            return Err(JobError::invalid(
                format!("{} holds no key", path.display()),
                "write one into it, a key a line",
            ));
        }
    }
    if keys.iter().any(String::is_empty) {
        return Err(JobError::invalid("--api-key is empty", "give the key, or leave it out for this machine alone"));
    }
    Ok(keys)
}

/// Runs the command.
pub(super) fn run(arguments: &ServeArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve_serve(arguments, command)?;
    let hub = arguments.model.start()?;
    let mut printed = Ok(());
    let ended = with_context(|context| serve(&job, &hub, context, &mut |serving| printed = announce(serving)))?;
    printed?;
    if !ended {
        say(&format!("requests that had not ended after {} s were broken off", arguments.drain_seconds));
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Success)
}

/// The address on stdout, for the process that started the server.
fn announce(serving: &Serving) -> Result<(), JobError> {
    // From now on answers are let finish, for as long as `--drain-seconds` says.
    steps_come();
    note(&format!("serving {}", serving.models.join(", ")));
    print_data(&serving.url)
}
