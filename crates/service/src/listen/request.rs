//! The body of a request, which has to arrive in time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
pub(super) use quell_web::is_grpc;
use tokio::time::{Instant, Sleep};

use super::budget::ByteBudget;
use super::options::ServeOptions;
use super::pace::Pace;
use super::standing::{Counted, Fault, Phase};

/// What is answered also on a reserved place, by the beginning of the path: whoever asks how it is, and alerts.
const KEPT_PATHS: [&str; 5] = ["/live", "/health", "/ready", "/webhook", "/grpc.health.v1.Health/"];

pub(super) fn is_kept(path: &str) -> bool {
    KEPT_PATHS.iter().any(|kept| path.starts_with(kept))
}

/// A body on its way. Reading it is an error once its sender has fallen too far behind, or once it has taken too long in all.
pub(super) struct Arriving {
    body: Incoming,
    counted: Arc<Counted>,
    budget: Option<ByteBudget>,
    bytes: usize,
    pace: Pace,
    /// By then it has to be here, however it comes.
    end: Instant,
    late: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(
        body: Incoming,
        counted: Arc<Counted>,
        options: &ServeOptions,
        budget: Option<ByteBudget>,
    ) -> Self {
        Self {
            body,
            counted,
            budget,
            bytes: 0,
            pace: Pace::new(options.rate_min, options.behind_max),
            end: Instant::now() + options.body_within,
            late: None,
        }
    }

    fn has_room(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| self.counted.keeps(budget, self.bytes))
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.bytes = self.bytes.saturating_add(bytes);
                self.pace.went_on(bytes);
                if !self.has_room() {
                    self.counted.fails(Fault::NoRoom);
                    let why = io::Error::other("there is no room for this request beside the others");
                    return Poll::Ready(Some(Err(why.into())));
                }
            }
            if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
                self.counted.shift(Phase::Working);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.pace.wait();
        let at = self.pace.too_late_at().map_or(self.end, |at| at.min(self.end));
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if late.deadline() != at {
            late.as_mut().reset(at);
        }
        if late.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.counted.fails(Fault::TooSlow);
        let why = io::Error::new(io::ErrorKind::TimedOut, "the body of the request arrives too slowly");
        Poll::Ready(Some(Err(why.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // Whoever does not read the rest is at work on the answer.
        self.counted.shift(Phase::Working);
    }
}
