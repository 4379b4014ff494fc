//! One run of a skill, from its turn in the queue to its end.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::types::{Part, TaskState};

use super::manager::Shared;
use super::registry::{RunId, Start};
use super::skill::{Outcome, Skill, SkillError, Updates, Work};
use crate::server::Caller;

/// Held from admission to end, so that the queue's limit counts every run once.
pub(super) type Room = OwnedSemaphorePermit;

/// Waits for its turn, runs the skill apart from everybody who asked for it, and files the result.
pub(super) async fn drive(
    shared: Arc<Shared>,
    skill: Arc<dyn Skill>,
    start: Start,
    caller: Caller,
    room: Room,
) {
    let run = start.run.clone();
    let cancelled = start.cancelled.clone();
    let turn = tokio::select! {
        biased;
        () = cancelled.cancelled() => None,
        turn = Arc::clone(&shared.running).acquire_owned() => turn.ok(),
    };
    let Some(_turn) = turn else {
        return shared.finish_stopped(&run);
    };
    if !shared.begin(&run) {
        return;
    }
    tracing::debug!(task_id = %run.task_id, skill_id = %start.skill_id, caller = %caller.name, "task runs");
    let may_be_dropped = skill.may_be_dropped();
    let work = Work {
        task_id: run.task_id.clone(),
        context_id: start.context_id,
        message: start.message,
        earlier: start.earlier,
        caller,
        cancelled: cancelled.clone(),
        updates: Updates { shared: Arc::clone(&shared), run: run.clone() },
    };
    // A task of its own: a panic ends here, and dropping it is safe where the skill allows that.
    let mut working = tokio::spawn(async move { skill.run(work).await });
    let ended = tokio::select! {
        ended = &mut working => ended,
        () = overdue(&cancelled, &shared), if may_be_dropped => {
            working.abort();
            working.await
        }
    };
    file(&shared, &run, ended, &cancelled);
    drop(room);
}

async fn overdue(cancelled: &CancellationToken, shared: &Shared) {
    cancelled.cancelled().await;
    tokio::time::sleep(shared.limits.cancel_grace).await;
}

fn file(
    shared: &Shared,
    run: &RunId,
    ended: Result<Result<Outcome, SkillError>, JoinError>,
    cancelled: &CancellationToken,
) {
    match ended {
        // Nobody is going to answer a question of a task that was called off.
        Ok(Ok(Outcome::InputRequired { .. } | Outcome::AuthRequired { .. })) if cancelled.is_cancelled() => {
            shared.finish_stopped(run);
        }
        Ok(Ok(Outcome::Completed { artifacts, words })) => {
            for artifact in artifacts {
                if let Err(error) = shared.report_artifact(run, artifact, false, true) {
                    let words = format!("the result cannot be kept: {error}");
                    return shared.finish(run, TaskState::Failed, vec![Part::text(words)]);
                }
            }
            shared.finish(run, TaskState::Completed, words);
        }
        Ok(Ok(Outcome::InputRequired { question })) => shared.finish(run, TaskState::InputRequired, question),
        Ok(Ok(Outcome::AuthRequired { question })) => shared.finish(run, TaskState::AuthRequired, question),
        Ok(Err(SkillError::Failed { message, cause })) => {
            let cause = cause.map(|cause| cause.to_string()).unwrap_or_default();
            tracing::warn!(task_id = %run.task_id, error = %message, cause, "task failed");
            shared.finish(run, TaskState::Failed, vec![Part::text(message)]);
        }
        Ok(Err(SkillError::Rejected { message })) => {
            shared.finish(run, TaskState::Rejected, vec![Part::text(message)]);
        }
        Ok(Err(SkillError::Canceled)) => shared.finish_stopped(run),
        Err(error) if error.is_panic() => {
            tracing::error!(task_id = %run.task_id, "task failed: its skill panicked");
            let words = "the agent failed in the middle of the work; its log says more";
            shared.finish(run, TaskState::Failed, vec![Part::text(words)]);
        }
        Err(_) => shared.finish_stopped(run),
    }
}
