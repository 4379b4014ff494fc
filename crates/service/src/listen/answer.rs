//! Answers, which do not wait for ever for their readers and are not held in any number.
//!
//! HTTP/2 lets a reader stop one answer and read the others, so that the socket tells nothing: each answer is watched by itself. It
//! goes out in small copies, since what was handed to the protocol is out of sight: a single large one would be kept whole there, and a
//! part of it would keep the whole as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::budget::{ByteBudget, ByteShare};
use super::options::ServeOptions;
use super::pace::Pace;
use super::standing::{Counted, Phase};

/// What is handed to the protocol at once.
const PIECE_BYTES: usize = 32 << 10;
/// Answers up to this size are not counted: they are what keeps a site alive.
const SMALL_BYTES: usize = 64 << 10;
/// How often a watch looks, as a part of the time that a reader has.
const LOOKS: u32 = 4;

tokio::task_local! {
    /// The watch over the answer that this task sends.
    static WATCH: Arc<Watch>;
}

/// An answer on its way out. Its request counts as long as it exists.
pub(super) struct Answer {
    body: Body,
    rest: Bytes,
    share: Option<ByteShare>,
    budget: ByteBudget,
    counted: Arc<Counted>,
    watch: Option<Arc<Watch>>,
}

impl Answer {
    /// The body back if there is no room for it now.
    pub(super) fn new(body: Body, budget: &ByteBudget, counted: &Arc<Counted>) -> Result<Self, Body> {
        let bytes = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let share = match bytes > SMALL_BYTES {
            true => match budget.take(bytes) {
                Some(share) => Some(share),
                None => return Err(body),
            },
            false => None,
        };
        Ok(Self::with(body, share, budget, counted))
    }

    /// One that goes out whether or not there is room for it.
    pub(super) fn in_any_case(body: Body, budget: &ByteBudget, counted: &Arc<Counted>) -> Self {
        Self::with(body, None, budget, counted)
    }

    fn with(body: Body, share: Option<ByteShare>, budget: &ByteBudget, counted: &Arc<Counted>) -> Self {
        let watch = WATCH.try_with(Arc::clone).ok();
        if let Some(watch) = &watch {
            watch.state().counted = Some(Arc::clone(counted));
        }
        let (budget, counted) = (budget.clone(), Arc::clone(counted));
        Self { body, rest: Bytes::new(), share, budget, counted, watch }
    }

    /// The next piece of what is there. The last one gives the room back.
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.len().min(PIECE_BYTES);
        let piece = Bytes::copy_from_slice(&self.rest.split_to(bytes));
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            if self.body.is_end_stream() {
                self.share = None;
            }
        }
        self.goes_out(bytes);
        Frame::data(piece)
    }

    fn goes_out(&self, bytes: usize) {
        if let Some(watch) = &self.watch {
            let mut state = watch.state();
            state.pace.went_on(bytes);
            state.pace.wait();
        }
    }

    /// Counts what comes in one piece and was not announced.
    fn room_for(&mut self, bytes: usize) -> bool {
        match &mut self.share {
            Some(share) => share.grow_to(bytes),
            None if bytes <= SMALL_BYTES => true,
            None => {
                self.share = self.budget.take(bytes);
                self.share.is_some()
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(watch) = &self.watch {
            watch.state().pace.went_on(0);
        }
        self.counted.shift(Phase::Working);
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        if !self.room_for(data.len()) {
            let why = "there is no room for this answer until others are read";
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        }
        if data.len() <= PIECE_BYTES {
            self.goes_out(data.len());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.rest = data;
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut with_rest = SizeHint::new();
        with_rest.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper.saturating_add(rest));
        }
        with_rest
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            let mut state = watch.state();
            state.pace.done();
            state.counted = None;
        }
    }
}

/// Looks after the answer of one HTTP/2 stream.
struct Watch(Mutex<Watched>);

struct Watched {
    pace: Pace,
    counted: Option<Arc<Counted>>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the reader has fallen too far behind.
    async fn not_read(&self, look_every: Duration) {
        loop {
            tokio::time::sleep(look_every).await;
            let state = self.state();
            let now = Instant::now();
            if state.pace.too_late_at().is_some_and(|at| at <= now) {
                return;
            }
            if state.pace.waiting_since().is_some_and(|since| since + look_every <= now)
                && let Some(counted) = &state.counted
            {
                counted.shift(Phase::Unread);
            }
        }
    }
}

/// Runs the streams of HTTP/2 connections, each with a watch. A stream that is dropped is reset; the connection and its other streams
/// go on.
#[derive(Clone)]
pub(super) struct Streams {
    rate_min: u64,
    behind_max: Duration,
}

impl Streams {
    pub(super) fn new(options: &ServeOptions) -> Self {
        Self { rate_min: options.rate_min, behind_max: options.behind_max }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let pace = Pace::new(self.rate_min, self.behind_max);
        let watch = Arc::new(Watch(Mutex::new(Watched { pace, counted: None })));
        let look_every = self.behind_max / LOOKS;
        tokio::spawn(WATCH.scope(Arc::clone(&watch), async move {
            tokio::select! {
                _ = stream => {}
                () = watch.not_read(look_every) => tracing::debug!("an answer is cut off: it is not read"),
            }
        }));
    }
}
