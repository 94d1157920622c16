//! What a server is to be, and its life: engines are loaded, requests answered, and what has begun is ended.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderName, HeaderValue, Method, header};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::fields::Told;
use super::listen::{Limits, listen};
use super::metrics::Metrics;
use super::routes::{Shared, router};
use super::served::{Models, Served};
use crate::engine::{EngineHandle, EngineInfo, HandleOptions, Precision, Shutdown};
use crate::hub::Hub;
use crate::jobs::{Event, JobContext, JobError, Model, Target, Variant, Variants, chat_template, thought_marks};
use crate::openai::start_runtime;
use crate::task::ChatUse;

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct ServeJob {
    /// The whole command line.
    pub command: Vec<String>,
    /// Which models, by which engine.
    pub target: Target,
    /// The model's name in the API; `None` is its own.
    pub name: Option<String>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Keys, any of which a request must have; none on this machine alone means that none is asked for.
    pub keys: Vec<String>,
    /// Pages of these origins may ask it.
    pub origins: Vec<String>,
    /// What bounds it.
    pub limits: ServeLimits,
    /// Takes what the user should know while it runs.
    pub note: fn(&str),
}

/// What bounds a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Requests that may wait beside those that the engine works on.
    pub queued: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Connections at a time.
    pub connections: usize,
    /// What has begun may take so long after the signal to end.
    pub drain: Duration,
}

/// A server that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The root of its API.
    pub url: String,
    /// The names of its models.
    pub models: Vec<String>,
}

/// Files that are open beside connections.
#[cfg(unix)]
const OTHER_FILES: usize = 128;
/// Threads that talk to clients at most; the engine has its own.
const MOST_THREADS: usize = 16;

/// Serves until interrupted; `ready` is told when requests are taken. Whether everything that had begun was ended.
pub fn serve(
    job: &ServeJob,
    hub: &Hub,
    context: &mut JobContext,
    ready: &mut dyn FnMut(&Serving),
) -> Result<bool, JobError> {
    job.check()?;
    // Before anything is loaded, which may take minutes.
    let listener = bind(job.address)?;
    let local = listener.local_addr().map_err(|error| cannot_listen(job.address, &error))?;
    let metrics = Metrics::new();
    let models = load(job, hub, &metrics, context)?;
    let names = models.0.iter().map(|served| served.id.clone()).collect();
    let handles: Vec<EngineHandle> = models.0.iter().map(|served| served.handle.clone()).collect();
    let shared = Arc::new(Shared {
        models,
        metrics,
        keys: job.keys.clone(),
        max_body_bytes: job.limits.body_bytes,
        closing: AtomicBool::new(false),
        told: Told::default(),
        note: job.note,
        next: AtomicU64::new(0),
    });
    let runtime = runtime()?;
    let limits = Limits { connections: job.limits.connections.min(open_files()), drain: job.limits.drain };
    let router = router(Arc::clone(&shared));
    let router = if job.origins.is_empty() { router } else { router.layer(cors(&job.origins)) };
    let interrupted = context.interrupted;
    let ended = runtime.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(|error| cannot_listen(local, &error))?;
        ready(&Serving { url: format!("http://{local}/v1"), models: names });
        let closing = || shared.closing.store(true, Ordering::Relaxed);
        Ok::<_, JobError>(listen(listener, router, limits, interrupted, closing).await)
    })?;
    for handle in handles {
        handle.shutdown(Shutdown::Now)?;
    }
    runtime.shutdown_background();
    Ok(ended)
}

impl ServeJob {
    /// Refuses what cannot be safe, before anything is loaded.
    fn check(&self) -> Result<(), JobError> {
        if self.keys.is_empty() && !self.address.ip().is_loopback() {
            return Err(JobError::invalid(
                format!("--host {} can be reached from other machines, and there is no key", self.address.ip()),
                "give `--api-key-file FILE` (or `--api-key KEY`), or leave `--host` out for this machine alone",
            ));
        }
        if let Some(origin) = self.origins.iter().find(|origin| HeaderValue::from_str(origin).is_err()) {
            return Err(JobError::invalid(
                format!("--cors-origin {origin:?} is no origin"),
                "give one such as `https://example.org`",
            ));
        }
        Ok(())
    }
}

/// Opens the files and loads every engine.
fn load(job: &ServeJob, hub: &Hub, metrics: &Metrics, context: &mut JobContext) -> Result<Models, JobError> {
    job.target.check_devices()?;
    let checkpoints = job.target.open(hub)?;
    let target = chosen(&job.target, &checkpoints.model);
    let variants = checkpoints.variants(&target, &job.command)?;
    let mut notes = checkpoints.notes.clone();
    notes.extend(variants.notes());
    let mut all = Vec::new();
    for variant in variants.iter() {
        let files = variant.model.need_files("serve")?;
        let template = chat_template(&variant.model, ChatUse::Auto, "serve", &mut notes)?;
        (context.emit)(Event::Loading { variant: variant.name.clone(), repetition: 1, repetitions: 1 });
        let engine = (context.open_engine)(variant, &target)?;
        let handle = EngineHandle::spawn(engine, HandleOptions { max_queued: Some(job.limits.queued) })?;
        let info = handle.info().clone();
        (context.emit)(Event::Loaded { variant: variant.name.clone(), engine: info.clone(), first_token: None });
        let id = name(job, &variants, variant);
        all.push(Arc::new(Served {
            source: variant.model.unhashed_plan().source,
            tokenizer: Arc::clone(&files.tokenizer),
            template,
            thoughts: Arc::new(thought_marks(None)),
            batching: target.batching,
            fingerprint: fingerprint(&target, variant, &info)?,
            metrics: metrics.of(&id),
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            cache_tokens: handle.limits().cache_tokens,
            id,
            handle,
        }));
    }
    notes.dedup();
    for note in notes {
        (context.emit)(Event::Note(note));
    }
    if all.is_empty() {
        return Err(JobError::invalid("there is nothing to serve", "name a precision by `--dtype`"));
    }
    Ok(Models(all))
}

/// The target in one precision, where the user names none: the weights' own where they are packed, else f16.
fn chosen(target: &Target, model: &Model) -> Target {
    let mut target = target.clone();
    if target.dtypes.is_empty() && !target.only_variants {
        let packed = model.files().filter(|files| files.format.is_packed()).map(|files| Precision::of(files.format));
        target.dtypes = vec![packed.unwrap_or(Precision::F16)];
    }
    target
}

/// A variant's name in the API: the model's own where there is one, else with the variant's behind it.
fn name(job: &ServeJob, variants: &Variants, variant: &Variant) -> String {
    let model = job.name.clone().unwrap_or_else(|| variants.model_name().to_owned());
    if variants.iter().count() == 1 { model } else { format!("{model}-{}", variant.name) }
}

fn fingerprint(target: &Target, variant: &Variant, info: &EngineInfo) -> Result<String, JobError> {
    let weights =
        variant.model.sha256()?.map_or_else(String::new, |sha256| format!("-{}", &sha256[..8.min(sha256.len())]));
    let precision = info.dtype.map_or_else(String::new, |dtype| format!("-{dtype}"));
    Ok(format!("evalsuite-{}-{}{precision}-{}{weights}", info.version, info.name, target.batching.name()))
}

fn bind(address: SocketAddr) -> Result<StdListener, JobError> {
    let listener = StdListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> JobError {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program listens there: end it, or give another `--port` (0: any that is free)"
        }
        std::io::ErrorKind::PermissionDenied => "ports below 1024 are the system's: give a higher `--port`",
        _ => "give an address of this machine as `--host`, such as 127.0.0.1 or 0.0.0.0",
    };
    JobError::invalid(format!("cannot listen at {address}: {error}"), hint)
}

fn runtime() -> Result<Runtime, JobError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_THREADS);
    Ok(start_runtime(Builder::new_multi_thread().worker_threads(threads).thread_name("http"))?)
}

/// Connections that the system lets this process have, as many as it may ask for.
#[cfg(unix)]
fn open_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return OTHER_FILES };
    let files = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES).max(OTHER_FILES)
}

/// No limit of the system's is near here.
#[cfg(not(unix))]
fn open_files() -> usize {
    usize::MAX
}

/// What pages of these origins may do.
fn cors(origins: &[String]) -> CorsLayer {
    let headers: [HeaderName; 2] = [header::AUTHORIZATION, header::CONTENT_TYPE];
    let methods = [Method::GET, Method::POST];
    let layer = CorsLayer::new().allow_methods(methods).allow_headers(headers);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    layer.allow_origin(AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())))
}
