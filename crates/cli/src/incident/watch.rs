//! `quell incident watch`: the timeline so far, then what happens, until the point that was asked for.
//!
//! The live part comes from the A2A task. A stream can break and its protocol repeats nothing, so after every subscription the
//! timeline is read as well: what is in both is shown once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use quell_a2a::{ErrorKind, StreamEvent, TaskState};
use serde_json::{Value, json};

use crate::a2a::{Responder, summary, told};
use crate::args::{Until, WatchArgs};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Look, Page, Stream};
use crate::view::{list, text};

/// Timeline entries from before the watching that are shown.
const EARLIER_ENTRIES_MAX: usize = 20;
/// Entries that are remembered as shown.
const SHOWN_ENTRIES_MAX: usize = 20_000;
/// Attempts in a row that brought no news before it gives up.
const ATTEMPTS_MAX: u32 = 10;
/// A stream that was open for so long was a good one, also when nothing happened.
const STEADY: Duration = Duration::from_secs(60);
const PAUSE_MILLISECONDS_MIN: u64 = 200;
const PAUSE_MILLISECONDS_MAX: u64 = 5_000;

pub(crate) async fn run(context: &mut Context<'_>, arguments: WatchArgs) -> Result<()> {
    let id = super::find::id(context, &arguments.target.id).await?;
    let responder = Responder::find(context).await?;
    let mut watch =
        Watch { id, until: arguments.until, shown: HashSet::new(), begun: false, summary: String::new() };
    match arguments.timeout {
        None => Box::pin(watch.follow(context, &responder)).await,
        Some(within) => {
            let followed = tokio::time::timeout(within, Box::pin(watch.follow(context, &responder))).await;
            followed.unwrap_or_else(|_| {
                let point = match arguments.until {
                    Until::Question => "a question",
                    Until::Resolved => "resolved",
                    Until::Closed => "closed",
                };
                Err(Failure::failed(format!("not {point} within {} s: {}", within.as_secs(), watch.summary)))
            })
        }
    }
}

struct Watch {
    id: String,
    until: Until,
    /// Entries that were shown, by time, kind and words.
    shown: HashSet<(String, String, String)>,
    begun: bool,
    summary: String,
}

impl Watch {
    async fn follow(&mut self, context: &mut Context<'_>, responder: &Responder) -> Result<()> {
        let mut attempts = 0;
        loop {
            let error = match responder.client.subscribe(&self.id).await {
                Ok(mut events) => {
                    if self.catch_up(context).await? {
                        return Ok(());
                    }
                    let begun = Instant::now();
                    loop {
                        match events.next().await {
                            None => {
                                break quell_a2a::A2aError::unavailable(
                                    "the stream ended before the incident did",
                                );
                            }
                            Some(Ok(event)) => {
                                // The task as it stands comes with every subscription and is no news.
                                if !matches!(event, StreamEvent::Task(_)) {
                                    attempts = 0;
                                }
                                if self.take(context, &event)? {
                                    return Ok(());
                                }
                            }
                            Some(Err(error)) => {
                                if begun.elapsed() > STEADY {
                                    attempts = 0;
                                }
                                break error;
                            }
                        }
                    }
                }
                // An incident that is over changes no more: its timeline is all there is to see.
                Err(error) if error.kind() == ErrorKind::UnsupportedOperation => {
                    self.catch_up(context).await?;
                    return Ok(());
                }
                Err(error) => error,
            };
            attempts += 1;
            if !error.is_retryable() || attempts >= ATTEMPTS_MAX {
                return Err(responder.failure(&error));
            }
            if attempts == 1 {
                context.output.note(format!("connection lost, trying again: {}", error.message()))?;
            }
            let pause =
                PAUSE_MILLISECONDS_MIN.saturating_mul(1 << attempts.min(16)).min(PAUSE_MILLISECONDS_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Shows what the timeline holds and was not shown yet. True when the point is reached.
    async fn catch_up(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let view = super::fetch_one(context, &self.id).await?;
        let entries = list(&view, "/timeline");
        let mut page = Page::default();
        let mut skipped = 0;
        if !self.begun {
            self.begun = true;
            skipped = entries.len().saturating_sub(EARLIER_ENTRIES_MAX);
            page.line(super::headline(&view));
            if skipped > 0 {
                page.line(Line::new().dim(format!("… {skipped} earlier entries, see quell incident show")));
            }
            if !context.output.is_json() {
                context.output.page(Stream::Out, &page)?;
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            let is_new = self.remember(entry);
            if is_new && index >= skipped {
                self.show(context, entry, &json!({"event": entry}))?;
            }
        }
        text(&view, "/summary").clone_into(&mut self.summary);
        let asks = !view["question"].is_null();
        Ok(self.reached(text(&view, "/status"), asks))
    }

    /// Shows what the stream tells. True when the point is reached.
    fn take(&mut self, context: &mut Context<'_>, event: &StreamEvent) -> Result<bool> {
        let status = match event {
            StreamEvent::StatusUpdate { status, .. } => status,
            // The task as it stands is in the timeline, and its results are in what is shown of the incident.
            StreamEvent::Task(task) => &task.status,
            StreamEvent::ArtifactUpdate { .. } | StreamEvent::Message(_) => return Ok(false),
        };
        let message = status.message.as_ref();
        let data = told(message);
        let entry = &data["event"];
        if entry.is_object() {
            if self.remember(entry) {
                self.show(context, entry, &data)?;
            }
        } else if matches!(event, StreamEvent::StatusUpdate { .. }) && summary(message) != self.summary {
            let line = Line::new().dim(format!("{:8}  ", "")).plain(summary(message));
            self.write(context, line, &data)?;
        }
        self.summary = summary(message);
        let over = status.state.is_terminal();
        Ok(over || self.reached(text(&data, "/status"), status.state == TaskState::InputRequired))
    }

    fn reached(&self, status: &str, asks: bool) -> bool {
        match self.until {
            Until::Question => asks || matches!(status, "resolved" | "closed"),
            Until::Resolved => matches!(status, "resolved" | "closed"),
            Until::Closed => status == "closed",
        }
    }

    /// True for an entry that was not there before.
    fn remember(&mut self, entry: &Value) -> bool {
        if self.shown.len() >= SHOWN_ENTRIES_MAX {
            self.shown.clear();
        }
        let part = |name: &str| text(entry, name).to_owned();
        self.shown.insert((part("/at"), part("/type"), part("/text")))
    }

    fn show(&self, context: &mut Context<'_>, entry: &Value, document: &Value) -> Result<()> {
        let at = text(entry, "/at").parse::<Timestamp>();
        let at = at.map(|at| at.strftime("%H:%M:%S").to_string()).unwrap_or_default();
        let look = match text(entry, "/type") {
            "approval_asked" | "escalated" => Look::Warn,
            "resolved" | "closed" => Look::Good,
            _ => Look::Plain,
        };
        let actor = text(entry, "/actor");
        let line = Line::new()
            .dim(format!("{at:8}  "))
            .plain(format!("{actor:<12}  "))
            .with(look, text(entry, "/text"));
        self.write(context, line, document)
    }

    fn write(&self, context: &mut Context<'_>, line: Line, document: &Value) -> Result<()> {
        if context.output.is_json() {
            return Ok(context.output.json_line(document)?);
        }
        Ok(context.output.page(Stream::Out, &Page(vec![line]))?)
    }
}
