//! Running a call from outside: deadline, panic, size.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use serde::Serialize;

use crate::context::CallContext;
use crate::error::ToolError;

/// How a call ended, before it is known what that means for its effect.
pub(crate) enum Ended<T> {
    Answered(Result<T, ToolError>),
    Late,
    Panicked(String),
}

/// Runs `call` until it answers, panics, or the deadline of `context` has passed; then it is dropped.
pub(crate) async fn run_bounded<T>(
    context: &CallContext,
    call: impl Future<Output = Result<T, ToolError>>,
) -> Ended<T> {
    match tokio::time::timeout_at(context.deadline, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answer)) => Ended::Answered(answer),
        Ok(Err(panic)) => Ended::Panicked(panic_text(panic.as_ref())),
        Err(_elapsed) => Ended::Late,
    }
}

/// Turns the end of a call that has no effect into its answer.
pub(crate) fn without_effect<T>(ended: Ended<T>) -> Result<T, ToolError> {
    match ended {
        Ended::Answered(answer) => answer,
        Ended::Late => Err(ToolError::TimedOut),
        Ended::Panicked(why) => Err(ToolError::Broken { why }),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", crate::truncate(&crate::redact(text.unwrap_or("no message")), 512))
}

/// The size of `value` as JSON in bytes, or the error if that is more than `bytes_max`; nothing is built.
pub(crate) fn json_bytes<T: Serialize>(value: &T, bytes_max: usize) -> Result<usize, ToolError> {
    let mut counter = Counter { bytes: 0, bytes_max };
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => Ok(counter.bytes),
        Err(_) => Err(ToolError::OutputTooLarge { bytes_max }),
    }
}

struct Counter {
    bytes: usize,
    bytes_max: usize,
}

impl io::Write for Counter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes += buffer.len();
        if self.bytes > self.bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
