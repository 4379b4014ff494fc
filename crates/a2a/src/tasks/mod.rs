//! Tasks for agents whose work is a set of skills. See [`TaskManager`].

mod manager;
mod page;
mod registry;
mod run;
mod skill;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use manager::TaskManager;
pub use page::paginate;
pub use skill::{Outcome, Skill, SkillError, Updates, Work};

/// How much a [`TaskManager`] takes on and keeps.
#[derive(Clone, Debug)]
pub struct TaskLimits {
    /// Tasks at work at the same time.
    pub running_tasks_max: usize,
    /// Tasks waiting for their turn; one more is refused as unavailable.
    pub queued_tasks_max: usize,
    /// Tasks that have not ended, those that wait for input included; one more is refused as unavailable.
    pub open_tasks_max: usize,
    /// Ended tasks kept, with their message ids.
    pub finished_tasks_max: usize,
    /// Their bytes together, as on the wire; the JSON trees that they are in memory take about ten times as much.
    pub finished_bytes_max: usize,
    /// How long they are kept.
    pub finished_keep: Duration,
    /// Messages and artifacts of one task.
    pub task_bytes_max: usize,
    /// Artifacts of one task.
    pub artifacts_max: usize,
    /// Messages of one task.
    pub history_messages_max: usize,
    /// Events that a subscriber may be behind before it is let go.
    pub subscriber_events_max: usize,
    /// Bytes of one page of a list, give or take one task; such a page is shorter than asked for.
    pub page_bytes_max: usize,
    /// How long a send waits for its task to settle before it answers with a timeout; the task goes on.
    pub send_wait_max: Duration,
    /// How long a cancelled task may take to stop before its work is dropped, where it may be.
    pub cancel_grace: Duration,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            running_tasks_max: 16,
            queued_tasks_max: 128,
            open_tasks_max: 4096,
            finished_tasks_max: 10_000,
            finished_bytes_max: 4 << 20,
            finished_keep: Duration::from_secs(3 * 24 * 3600),
            task_bytes_max: 8 << 20,
            artifacts_max: 256,
            history_messages_max: 256,
            subscriber_events_max: 256,
            page_bytes_max: 4 << 20,
            send_wait_max: Duration::from_secs(30 * 60),
            cancel_grace: Duration::from_secs(5),
        }
    }
}

/// What a [`TaskManager`] is made with.
#[derive(Clone)]
pub struct TaskOptions {
    /// Makes the ids of tasks, contexts and messages: each time another one, and for nobody to guess.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// The clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// For messages that name no skill, where there are several.
    pub default_skill: Option<String>,
    /// The limits.
    pub limits: TaskLimits,
}

impl TaskOptions {
    /// The defaults, with these ids and this clock.
    pub fn new(
        new_id: impl Fn() -> String + Send + Sync + 'static,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            new_id: Arc::new(new_id),
            now: Arc::new(now),
            default_skill: None,
            limits: TaskLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests;
