//! A target's state as the interface shows it, and what follows from it for an action.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_tool::{Change, ProbeVerdict, ToolError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::action::Action;

/// Clocks may differ by this much: what lies so shortly before the beginning of a step is not decided by comparing times.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(2);
/// Certificates are commonly issued with a beginning that lies a little back.
const BACKDATED_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What is known of a target; each kind of target has some of it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TargetState {
    #[serde(default)]
    replicas: Option<u32>,
    #[serde(default)]
    started_at: Option<Timestamp>,
    #[serde(default)]
    config: Option<Map<String, Value>>,
    #[serde(default)]
    filesystems: Option<BTreeMap<String, Filesystem>>,
    #[serde(default)]
    not_before: Option<Timestamp>,
    #[serde(default)]
    not_after: Option<Timestamp>,
    #[serde(default)]
    sessions: Option<Sessions>,
    #[serde(default)]
    idle_ended_at: Option<Timestamp>,
    #[serde(default)]
    jobs: Option<Vec<Job>>,
}

#[derive(Debug, Deserialize)]
struct Filesystem {
    avail_bytes: u64,
    #[serde(default)]
    cleaned_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    idle: u64,
}

#[derive(Debug, Deserialize)]
struct Job {
    name: String,
    #[serde(default)]
    started_at: Option<Timestamp>,
}

/// What a dry run finds out.
pub(super) struct Foreseen {
    pub(super) summary: String,
    pub(super) changes: Vec<Change>,
    /// Action and parameters that restore what was read.
    pub(super) inverse: Option<(&'static str, Map<String, Value>)>,
    pub(super) limits: Option<&'static str>,
}

impl TargetState {
    /// What the action would change now.
    pub(super) fn foresee(&self, target: &str, action: &Action) -> Result<Foreseen, ToolError> {
        let lacks = |what: &str| ToolError::NotFound { what: format!("{what} of target `{target}`") };
        let change =
            |what: &str, from: Value, to: Value| Change { what: format!("{what} of {target}"), from, to };
        Ok(match action {
            Action::UpdateConfig(wanted) => {
                let config = self.config.as_ref().ok_or_else(|| lacks("a configuration"))?;
                let now = |name: &str| config.get(name).cloned().unwrap_or(Value::Null);
                let changes = wanted.iter().map(|(name, to)| change(name, now(name), to.clone())).collect();
                let is_whole = wanted.keys().all(|name| config.contains_key(name));
                let restoring = || wanted.keys().map(|name| (name.clone(), now(name))).collect();
                let names: Vec<_> = wanted.iter().map(|(name, to)| format!("{name} = {to}")).collect();
                Foreseen {
                    summary: format!("set {} on {target}", names.join(", ")),
                    changes,
                    inverse: is_whole.then(|| ("update_config", restoring())),
                    limits: (!is_whole).then_some("a setting is not there yet, so it cannot be set back"),
                }
            }
            Action::RestartService => {
                let started_at = self.started_at.ok_or_else(|| lacks("a start time"))?;
                Foreseen {
                    summary: format!("restart {target}, which has run since {started_at}"),
                    changes: vec![change("started_at", json!(started_at), Value::Null)],
                    inverse: None,
                    limits: Some("the time of the restart is not known before"),
                }
            }
            Action::Scale { replicas } => {
                let now = self.replicas.ok_or_else(|| lacks("a number of replicas"))?;
                let restoring = Map::from_iter([("replicas".to_owned(), json!(now))]);
                Foreseen {
                    summary: format!("scale {target} from {now} to {replicas} replicas"),
                    changes: vec![change("replicas", json!(now), json!(replicas))],
                    inverse: Some(("scale", restoring)),
                    limits: None,
                }
            }
            Action::CleanDisk { path } => {
                let filesystem = self.filesystem(path).ok_or_else(|| lacks(&format!("filesystem {path}")))?;
                let free = filesystem.avail_bytes;
                Foreseen {
                    summary: format!("remove old logs from {path} on {target}, where {free} bytes are free"),
                    changes: vec![change(&format!("avail_bytes of {path}"), json!(free), Value::Null)],
                    inverse: None,
                    limits: Some("how much will be freed is not known before"),
                }
            }
            Action::RenewCertificate => {
                let not_after = self.not_after.ok_or_else(|| lacks("a certificate"))?;
                Foreseen {
                    summary: format!("renew the certificate {target}, which expires at {not_after}"),
                    changes: vec![change("not_after", json!(not_after), Value::Null)],
                    inverse: None,
                    limits: Some("how long the new certificate lasts is not known before"),
                }
            }
            Action::EndIdleSessions => {
                let idle = self.sessions.as_ref().ok_or_else(|| lacks("sessions"))?.idle;
                Foreseen {
                    summary: format!("end {idle} idle sessions of {target}"),
                    changes: vec![change("idle sessions", json!(idle), json!(0))],
                    inverse: None,
                    limits: Some("sessions come and go until it runs"),
                }
            }
            Action::StopJob { job } => {
                let runs = self.runs(job).ok_or_else(|| lacks("jobs"))?;
                if !runs {
                    return Err(ToolError::NotFound {
                        what: format!("a running job `{job}` of target `{target}`"),
                    });
                }
                Foreseen {
                    summary: format!("stop job {job} of {target}"),
                    changes: vec![change(&format!("job {job}"), json!("running"), json!("stopped"))],
                    inverse: None,
                    limits: None,
                }
            }
        })
    }

    /// Whether the action, begun at `began_at`, shows in the state.
    pub(super) fn shows(&self, target: &str, action: &Action, began_at: Timestamp) -> ProbeVerdict {
        let change =
            |what: &str, to: Value| Change { what: format!("{what} of {target}"), from: Value::Null, to };
        // Our clock said `began_at` before anything was sent. A target whose clock is behind may date the effect a little earlier.
        let since = |what: &str, at: Option<Timestamp>, margin: SignedDuration| match at {
            None => ProbeVerdict::NotDone,
            Some(at) if at >= began_at => ProbeVerdict::Done { changes: vec![change(what, json!(at))] },
            Some(at) if at < began_at.saturating_sub(margin).unwrap_or(began_at) => ProbeVerdict::NotDone,
            Some(at) => ProbeVerdict::CannotTell {
                why: format!("{what} of {target} is {at}, just before the step began at {began_at}"),
            },
        };
        let lacks = |what: &str| ProbeVerdict::CannotTell { why: format!("target {target} shows no {what}") };
        match action {
            Action::UpdateConfig(wanted) => {
                let Some(config) = &self.config else { return lacks("configuration") };
                let set =
                    wanted.iter().filter(|(name, to)| config.get(*name).is_some_and(|now| same(now, to)));
                match set.count() {
                    0 => ProbeVerdict::NotDone,
                    count if count == wanted.len() => ProbeVerdict::Done {
                        changes: wanted.iter().map(|(name, to)| change(name, to.clone())).collect(),
                    },
                    count => ProbeVerdict::CannotTell {
                        why: format!("{count} of {} settings of {target} are as wanted", wanted.len()),
                    },
                }
            }
            Action::Scale { replicas } => match self.replicas {
                None => lacks("number of replicas"),
                Some(now) if now == *replicas => {
                    ProbeVerdict::Done { changes: vec![change("replicas", json!(now))] }
                }
                Some(_) => ProbeVerdict::NotDone,
            },
            Action::RestartService if self.started_at.is_none() => lacks("start time"),
            Action::RestartService => since("started_at", self.started_at, CLOCK_SKEW_MAX),
            Action::CleanDisk { path } => match self.filesystem(path) {
                None => lacks("such filesystem"),
                Some(filesystem) => since("cleaned_at", filesystem.cleaned_at, CLOCK_SKEW_MAX),
            },
            Action::RenewCertificate if self.not_before.is_none() => lacks("certificate"),
            Action::RenewCertificate => since("not_before", self.not_before, BACKDATED_MAX),
            Action::EndIdleSessions if self.sessions.is_none() => lacks("sessions"),
            Action::EndIdleSessions => since("idle_ended_at", self.idle_ended_at, CLOCK_SKEW_MAX),
            Action::StopJob { job } => {
                let Some(jobs) = &self.jobs else { return lacks("jobs") };
                match jobs.iter().find(|running| running.name == *job) {
                    None => {
                        ProbeVerdict::Done { changes: vec![change(&format!("job {job}"), json!("stopped"))] }
                    }
                    Some(Job { started_at: Some(at), .. }) if *at >= began_at => ProbeVerdict::CannotTell {
                        why: format!("job {job} of {target} was started at {at}, after the step had begun"),
                    },
                    Some(_) => ProbeVerdict::NotDone,
                }
            }
        }
    }

    fn filesystem(&self, path: &str) -> Option<&Filesystem> {
        let trimmed = path.trim_end_matches('/');
        let mountpoint = if trimmed.is_empty() { path } else { trimmed };
        self.filesystems.as_ref()?.get(mountpoint)
    }

    fn runs(&self, job: &str) -> Option<bool> {
        Some(self.jobs.as_ref()?.iter().any(|running| running.name == *job))
    }
}

/// Equal values; numbers by what they are worth, since one may have become a double on its way.
fn same(now: &Value, wanted: &Value) -> bool {
    match (now.as_f64(), wanted.as_f64()) {
        (Some(now), Some(wanted)) => now == wanted,
        _ => now == wanted,
    }
}
