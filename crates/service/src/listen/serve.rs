//! Taking connections, and an orderly end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Listening;
use super::budget::ByteBudget;
use super::connection::{Shared, serve_connection};
use super::options::ServeOptions;
use super::seats::{Places, Seats};

/// How long nothing is accepted after the system refused a connection for want of files: those that were told to go need a moment.
const WITHOUT_FILES: Duration = Duration::from_millis(10);
/// How often it is said that connections have to go.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeReport {
    /// Connections that had to be cut because their requests did not end within the drain time; zero after an orderly end.
    pub connections_cut: usize,
}

/// Serves until `shutdown` is done, then drains, with the default [`ServeOptions`].
pub async fn serve(
    listener: impl Into<Listening>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> ServeReport {
    serve_with(listener, router, ServeOptions::default(), shutdown).await
}

/// Serves HTTP/1.1 and HTTP/2 with prior knowledge on one port until `shutdown` is done. Then it accepts no more, lets requests under
/// way end within `drain_within`, and cuts the rest. Each request carries the address of its peer as [`axum::extract::ConnectInfo`].
pub async fn serve_with(
    listener: impl Into<Listening>,
    router: Router,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> ServeReport {
    let listener = listener.into();
    let all = options.connections();
    let per_peer = options.connections_per_peer_max.min(all);
    let seats = Seats::new(Places { all, per_peer, reserved: options.connections_reserved });
    let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
    let connections = TaskTracker::new();
    let drain_within = options.drain_within;
    let answers = ByteBudget::new(options.answer_bytes_max);
    let requests = options.request_bytes_max.map(ByteBudget::new);
    let shared = Arc::new(Shared { router, options, answers, requests });
    let mut shutdown = pin!(shutdown);
    let mut full = Full::default();
    loop {
        let accepted = async {
            seats.few_leaving().await;
            listener.0.accept().await
        };
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    full.say(&seats, &format!("the system refuses a connection: {error}"));
                    seats.spare_one();
                    tokio::time::sleep(WITHOUT_FILES).await;
                    continue;
                }
            },
        };
        let seat = seats.enter(peer.ip());
        full.say(&seats, "all places are taken");
        // Where none is left, the connection is closed at once.
        let Some(seat) = seat else { continue };
        without_delay(&stream);
        let served = serve_connection(stream, peer, seat, Arc::clone(&shared), drain.clone());
        let cut = cut.clone();
        connections.spawn(async move { cut.run_until_cancelled(served).await });
    }
    // The port is free for a successor while the requests under way go on.
    drop(listener);
    drain.cancel();
    connections.close();
    let drained = tokio::time::timeout(drain_within, connections.wait()).await;
    let connections_cut = if drained.is_ok() { 0 } else { connections.len() };
    if connections_cut > 0 {
        tracing::warn!(connections_cut, "requests did not end within the drain time and are cut");
        cut.cancel();
        connections.wait().await;
    }
    ServeReport { connections_cut }
}

/// An answer of several HTTP/2 frames would otherwise wait 40 ms for the other side's delayed acknowledgement.
fn without_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not to be had");
    }
}

/// The other side was gone before its turn came: nothing is wrong here.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says now and then that connections have to go for others.
#[derive(Default)]
struct Full {
    said: Option<Instant>,
    closed: u64,
}

impl Full {
    fn say(&mut self, seats: &Seats, why: &str) {
        let closed = seats.closed();
        let is_time = self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY);
        if closed == self.closed || !is_time {
            return;
        }
        tracing::warn!(
            closed = closed - self.closed,
            "{why}; connections without a request are closed for new ones (`listeners.connections_max`)"
        );
        (self.said, self.closed) = (Some(Instant::now()), closed);
    }
}
