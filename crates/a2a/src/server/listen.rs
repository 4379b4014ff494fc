//! One port for HTTP/1.1 and HTTP/2 with prior knowledge, and an orderly end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Limits of the connections themselves.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections open at the same time; further ones wait in the system's backlog.
    pub connections_max: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// Bytes of headers on one HTTP/2 request.
    pub header_bytes_max: u32,
    /// A connection without a first request for so long is closed.
    pub first_request_within: Duration,
    /// A silent HTTP/2 connection is asked for a sign of life after this time.
    pub keepalive_interval: Duration,
    /// It is closed when none comes within this time.
    pub keepalive_timeout: Duration,
    /// How long calls under way may go on after the shutdown signal.
    pub drain_within: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            streams_per_connection_max: 256,
            header_bytes_max: 32 << 10,
            first_request_within: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            drain_within: Duration::from_secs(10),
        }
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeReport {
    /// Connections that had to be cut because their calls did not end within the drain time; zero after an
    /// orderly end.
    pub connections_cut: usize,
}

/// Serves until `shutdown` is done, then drains, with the default [`ServeOptions`].
pub async fn serve<L>(listener: L, router: Router, shutdown: impl Future<Output = ()>) -> ServeReport
where
    L: Listener,
    L::Addr: Clone + Sync + 'static,
{
    serve_with(listener, router, ServeOptions::default(), shutdown).await
}

/// Serves until `shutdown` is done. Then it accepts no more, lets calls under way end within `drain_within`,
/// and cuts the rest. Any [`Listener`] will do: a `TcpListener`, or one that adds TLS. Each request carries the address of its peer
/// as [`ConnectInfo`].
pub async fn serve_with<L>(
    mut listener: L,
    router: Router,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> ServeReport
where
    L: Listener,
    L::Addr: Clone + Sync + 'static,
{
    let room = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
    let connections = TaskTracker::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (io, peer)) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let (router, options, drain, cut) = (router.clone(), options.clone(), drain.clone(), cut.clone());
        connections.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection(io, ConnectInfo(peer), router, &options, &drain) => {}
            }
        });
    }
    // The port is free for a successor while the calls under way go on.
    drop(listener);
    drain.cancel();
    connections.close();
    let drained = tokio::time::timeout(options.drain_within, connections.wait()).await;
    let connections_cut = if drained.is_ok() { 0 } else { connections.len() };
    if connections_cut > 0 {
        tracing::warn!(connections_cut, "calls did not end within the drain time and are cut");
        cut.cancel();
        connections.wait().await;
    }
    ServeReport { connections_cut }
}

async fn connection<IO, A>(
    io: IO,
    peer: ConnectInfo<A>,
    router: Router,
    options: &ServeOptions,
    drain: &CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.first_request_within);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_per_connection_max)
        .max_header_list_size(options.header_bytes_max)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);

    // A peer that connects and says nothing, or half a preface, is not covered by the protocol's own timers.
    let spoken = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoken);
    let service = router.map_request(move |mut request: http::Request<_>| {
        heard.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer.clone());
        request
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)));
    let mut silence = pin!(tokio::time::sleep(options.first_request_within));
    let (mut listening, mut draining) = (true, false);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "connection ended with an error");
                }
                return;
            }
            () = &mut silence, if listening => {
                listening = false;
                if !spoken.load(Ordering::Relaxed) {
                    tracing::debug!("connection closed: no request came");
                    return;
                }
            }
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
