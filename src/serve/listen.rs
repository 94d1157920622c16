//! Connections: how many, how slow, and how they end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The head of a request comes within this time; so long is a connection kept without one.
const HEAD_SECONDS: Duration = Duration::from_secs(30);
/// A client that reads nothing for so long has gone.
#[cfg(target_os = "linux")]
const UNREAD_MILLISECONDS: u32 = 60_000;
/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// What bounds connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    /// Requests that have begun may take so long after the signal to end.
    pub(super) drain: Duration,
}

/// Serves until `interrupted` is set and what has begun has ended. Whether everything did.
pub(super) async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    interrupted: &AtomicBool,
    closing: impl FnOnce(),
) -> bool {
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(limits.connections)));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_SECONDS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_SECONDS));
    let mut signal = pin!(until(interrupted));
    loop {
        let accepted = tokio::select! {
            () = &mut signal => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // How a connection broke off is the client's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    closing();
    drop(listener);
    timeout(limits.drain, graceful.shutdown()).await.is_ok()
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let Ok((stream, _)) = listener.accept().await else {
        // No more files can be opened, as a rule: others must end first.
        sleep(LOOK).await;
        return None;
    };
    // Tokens go out as they come. Where the system knows no such option, a connection is merely kept longer.
    let _ = stream.set_nodelay(true);
    give_up_unread(&stream);
    Some((stream, place))
}

#[cfg(target_os = "linux")]
fn give_up_unread(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
    let stream = std::os::fd::AsFd::as_fd(stream);
    let _ = setsockopt(&stream, TcpUserTimeout, &UNREAD_MILLISECONDS);
}

#[cfg(not(target_os = "linux"))]
fn give_up_unread(_: &TcpStream) {}

async fn until(interrupted: &AtomicBool) {
    while !interrupted.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
}
