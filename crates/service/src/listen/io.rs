//! A socket that does not wait for ever for a reader.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::options::ServeOptions;
use super::pace::Pace;
use super::standing::Standings;

/// The stream of a connection. Writing to somebody who does not read is an error after a while, which ends the connection with all
/// that waits in it.
pub(super) struct Patient {
    stream: TcpStream,
    pace: Pace,
    standings: Arc<Standings>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, options: &ServeOptions, standings: Arc<Standings>) -> Self {
        let pace = Pace::new(options.rate_min, options.behind_max);
        Self { stream, pace, standings, late: None }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.pace.went_on(*written.as_ref().unwrap_or(&0));
            self.standings.is_read(true);
            return Poll::Ready(written);
        }
        self.pace.wait();
        self.standings.is_read(false);
        if let Some(at) = self.pace.too_late_at() {
            let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if late.deadline() != at {
                late.as_mut().reset(at);
            }
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is not read")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever flushes has written all that it had.
        self.pace.done();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
