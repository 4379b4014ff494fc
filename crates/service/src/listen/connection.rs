//! One connection: HTTP/1.1, or HTTP/2 with prior knowledge, as its first bytes say.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::answer::{Answer, Streams};
use super::budget::ByteBudget;
use super::io::Patient;
use super::options::ServeOptions;
use super::request::{Arriving, is_grpc, is_kept};
use super::seats::Seat;
use super::standing::{Counted, Fault, Patience, Phase, Standings};
use crate::http::Problem;

/// What HTTP/2 takes of one body, and of all bodies of a connection, before a handler reads it.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// What HTTP/2 keeps of one answer besides the piece that goes out.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Requests that are reset before they were taken up; more end the connection.
const RESET_MAX: usize = 20;
/// The least that HTTP/1 needs for reading.
const HTTP1_BYTES_LEAST: usize = 8 << 10;
/// When to come back after a 503.
const RETRY_AFTER_SECONDS: u64 = 2;

/// What the connections of a listener have in common.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) options: ServeOptions,
    pub(super) answers: ByteBudget,
    pub(super) requests: Option<ByteBudget>,
}

/// Serves one connection until it ends, is not needed any more, or has to make room.
pub(super) async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    shared: Arc<Shared>,
    drain: CancellationToken,
) {
    let options = &shared.options;
    let standings = Standings::new(seat);
    let io = Patient::new(stream, options, Arc::clone(&standings));
    let builder = builder(options);
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let phase = if request.body().is_end_stream() { Phase::Working } else { Phase::Arriving };
        let counted = Arc::new(Counted::new(&standings, phase));
        let (shared, is_reserved) = (Arc::clone(&shared), standings.seat.is_reserved);
        async move { Ok::<_, Infallible>(answer(request, &shared, counted, is_reserved).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut look = pin!(tokio::time::sleep(options.head_within.min(options.idle_within)));
    let (mut draining, mut parting) = (false, false);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error = %error, "connection ended with an error");
                }
                return;
            }
            () = standings.seat.close.cancelled() => {
                tracing::debug!(%peer, "connection closed: others need its place");
                return;
            }
            () = &mut look => match standings.patience(options) {
                Patience::Until(at) => look.as_mut().reset(at),
                Patience::SayGoodbye if !parting => {
                    parting = true;
                    connection.as_mut().graceful_shutdown();
                    look.as_mut().reset(tokio::time::Instant::now() + options.head_within);
                }
                Patience::HangUp | Patience::SayGoodbye => {
                    tracing::debug!(%peer, "connection closed: no request came");
                    return;
                }
            },
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(options: &ServeOptions) -> Builder<Streams> {
    let mut builder = Builder::new(Streams::new(options));
    let header_bytes_max = usize::try_from(options.header_bytes_max).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Between two requests it counts from the end of the first one.
        .header_read_timeout(options.idle_within.max(options.head_within))
        .max_buf_size(header_bytes_max.max(HTTP1_BYTES_LEAST));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_per_connection_max)
        .max_header_list_size(options.header_bytes_max)
        .max_pending_accept_reset_streams(RESET_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    counted: Arc<Counted>,
    is_reserved: bool,
) -> Response<Answer> {
    let is_grpc = is_grpc(request.headers());
    let changes_something = !is_grpc && !request.method().is_safe();
    let response = if is_reserved && !is_kept(request.uri().path()) {
        busy("every connection is at work; come back later")
    } else {
        let request = request.map(|body| {
            let (counted, requests) = (Arc::clone(&counted), shared.requests.clone());
            Body::new(Arriving::new(body, counted, &shared.options, requests))
        });
        let Ok(response) = shared.router.clone().oneshot(request).await;
        match counted.fault() {
            Some(Fault::TooSlow) if !is_grpc => too_slow(&shared.options),
            // A gRPC client as well takes this for unavailable.
            Some(Fault::NoRoom) => {
                busy("too many bytes of requests are being worked on; send it again later")
            }
            _ => response,
        }
    };
    counted.answered();
    let mut response = with_room(response, changes_something, shared, &counted);
    if is_reserved {
        // The reserve is for as many as possible, one after another.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer, or that there is no room for it. What has changed something is answered in any case: told to come back later, its sender
/// would do it a second time.
fn with_room(
    response: Response,
    changes_something: bool,
    shared: &Shared,
    counted: &Arc<Counted>,
) -> Response<Answer> {
    let (head, body) = response.into_parts();
    match Answer::new(body, &shared.answers, counted) {
        Ok(answer) => Response::from_parts(head, answer),
        Err(body) if changes_something => {
            Response::from_parts(head, Answer::in_any_case(body, &shared.answers, counted))
        }
        Err(_) => {
            tracing::warn!(
                "an answer is refused: too many others are not read (`listeners.answer_bytes_max`)"
            );
            let refused =
                busy("too many answers wait for their readers; come back later, or ask for less at once");
            refused.map(|body| Answer::in_any_case(body, &shared.answers, counted))
        }
    }
}

fn busy(why: &str) -> Response {
    Problem::unavailable(why, RETRY_AFTER_SECONDS).into_response()
}

fn too_slow(options: &ServeOptions) -> Response {
    let why = format!(
        "the body arrives too slowly: {} bytes a second are expected, and its end within {} s; send it again",
        options.rate_min,
        options.body_within.as_secs_f64()
    );
    // Not 408, which senders of webhooks take for final as any other 4xx; a congested line passes.
    busy(&why)
}
