//! What can be done to the world, and which fault each operation heals.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::World;
use super::journal::{Action, Level};
use super::parts::{Certificate, DATA_AVAILABLE_NORMAL_BYTES, DATA_PATH, Kind, RUNAWAY_JOB, Settings};
use super::scenario::{Ending, Scenario};
use super::view::TARGET_NAMES;

const REPLICAS_MAX: u32 = 20;
const SETTING_MAX: i64 = 100_000;
const SETTING_BYTES_MAX: usize = 256;

/// One operation on a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Changes settings; all of them or none.
    Config(Map<String, Value>),
    /// Starts the program anew.
    Restart,
    /// Sets the number of replicas, 0 to 20.
    Replicas(u32),
    /// Removes old logs from a filesystem.
    Clean(String),
    /// Issues a new certificate.
    Renew,
    /// Ends the sessions that do nothing.
    EndIdleSessions,
    /// Stops a running job.
    StopJob(String),
}

impl Operation {
    /// The last segment of its address.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Config(_) => "config",
            Operation::Restart => "restart",
            Operation::Replicas(_) => "replicas",
            Operation::Clean(_) => "clean",
            Operation::Renew => "renew",
            Operation::EndIdleSessions => "end-idle-sessions",
            Operation::StopJob(_) => "stop-job",
        }
    }

    fn arguments(&self) -> Value {
        match self {
            Operation::Config(changes) => Value::Object(changes.clone()),
            Operation::Restart | Operation::Renew | Operation::EndIdleSessions => json!({}),
            Operation::Replicas(replicas) => json!({ "replicas": replicas }),
            Operation::Clean(path) => json!({ "path": path }),
            Operation::StopJob(job) => json!({ "job": job }),
        }
    }
}

/// Why an operation was not carried out. Nothing was changed and nothing recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such target.
    #[error("no target is called {name:?}")]
    UnknownTarget {
        /// What was asked for.
        name: String,
    },
    /// The target is of a kind that does not have this operation.
    #[error("target {target} is a {} and has no operation {operation:?}; it has: {}", kind.name(), kind.operations().join(", "))]
    NotOffered {
        /// The target.
        target: &'static str,
        /// Its kind, which knows what it has.
        kind: Kind,
        /// What was asked for.
        operation: &'static str,
    },
    /// The arguments make no sense for the target.
    #[error("{0}")]
    Invalid(String),
}

type Change = (Value, Value);

impl World {
    /// Does something to a target and records it. `key` is the caller's idempotency key, which is only recorded.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when there is no such target or operation, or the arguments are invalid.
    pub fn operate(
        &mut self,
        now: Timestamp,
        target: &str,
        operation: &Operation,
        key: Option<String>,
    ) -> Result<Action, Refusal> {
        self.now = now;
        self.expire();
        let unknown = || Refusal::UnknownTarget { name: target.to_owned() };
        let name = TARGET_NAMES.into_iter().find(|name| *name == target).ok_or_else(unknown)?;
        let kind = self.kind(name).ok_or_else(unknown)?;
        if !kind.operations().contains(&operation.name()) {
            return Err(Refusal::NotOffered { target: name, kind, operation: operation.name() });
        }
        let (from, to) = self.apply(name, operation)?;
        let id = self.actions.next_id();
        self.tell_action(name, operation, &from, &to);
        let healed_all = self.cured_by(name, operation);
        for scenario in &healed_all {
            self.end(*scenario, now, Ending::Healed, Some(id));
        }
        let action = Action {
            id,
            at: now,
            operation: operation.name(),
            target: name,
            arguments: operation.arguments(),
            key,
            from,
            to,
            healed: healed_all.first().copied(),
            healed_all,
        };
        self.actions.push(action.clone());
        Ok(action)
    }

    /// Carries out the operation's own effect, whether it heals anything or not.
    fn apply(&mut self, name: &'static str, operation: &Operation) -> Result<Change, Refusal> {
        match operation {
            Operation::Config(changes) => {
                let settings = match self.workload_mut(name) {
                    Some(workload) => &mut workload.config,
                    None => &mut self.database.config,
                };
                change_settings(name, settings, changes)
            }
            Operation::Restart => Ok(self.restart(name)),
            Operation::Replicas(replicas) => self.scale(name, *replicas),
            Operation::Clean(path) => self.clean(path),
            Operation::Renew => {
                let before = self.certificate.not_after;
                self.certificate = Certificate::issued(self.now);
                Ok((json!({ "not_after": before }), json!({ "not_after": self.certificate.not_after })))
            }
            Operation::EndIdleSessions => {
                let before = self.postgres.sessions;
                self.postgres.sessions.idle = 0;
                self.postgres.idle_ended_at = Some(self.now);
                Ok((json!(before), json!(self.postgres.sessions)))
            }
            Operation::StopJob(job) => self.stop_job(name, job),
        }
    }

    fn restart(&mut self, name: &str) -> Change {
        let now = self.now;
        let before = match self.workload_mut(name) {
            Some(workload) => {
                let before = workload.started_at;
                workload.restart(now);
                before
            }
            None => std::mem::replace(&mut self.database.started_at, now),
        };
        if name == self.orders.name {
            self.database.loaded = self.database.pool();
        }
        (json!({ "started_at": before }), json!({ "started_at": now }))
    }

    fn scale(&mut self, name: &str, replicas: u32) -> Result<Change, Refusal> {
        if replicas > REPLICAS_MAX {
            return Err(Refusal::Invalid(format!("replicas must be 0 to {REPLICAS_MAX}, not {replicas}")));
        }
        let unknown = || Refusal::UnknownTarget { name: name.to_owned() };
        let workload = self.workload_mut(name).ok_or_else(unknown)?;
        let before = std::mem::replace(&mut workload.replicas, replicas);
        Ok((json!({ "replicas": before }), json!({ "replicas": replicas })))
    }

    fn clean(&mut self, path: &str) -> Result<Change, Refusal> {
        let known = self.filesystems.keys().copied().collect::<Vec<_>>().join(", ");
        let now = self.now;
        let trimmed = path.trim_end_matches('/');
        let Some((mountpoint, filesystem)) =
            self.filesystems.iter_mut().find(|(mount, _)| **mount == trimmed)
        else {
            return Err(Refusal::Invalid(format!(
                "no filesystem is mounted at {path:?}; there are: {known}"
            )));
        };
        let before = filesystem.avail_bytes;
        if *mountpoint == DATA_PATH {
            filesystem.avail_bytes = DATA_AVAILABLE_NORMAL_BYTES;
        }
        filesystem.cleaned_at = Some(now);
        Ok((json!({ "avail_bytes": before }), json!({ "avail_bytes": filesystem.avail_bytes })))
    }

    fn stop_job(&mut self, name: &str, job: &str) -> Result<Change, Refusal> {
        let unknown = || Refusal::UnknownTarget { name: name.to_owned() };
        let workload = self.workload_mut(name).ok_or_else(unknown)?;
        let names =
            |workload: &super::parts::Workload| workload.jobs.iter().map(|job| job.name).collect::<Vec<_>>();
        let before = names(workload);
        if !workload.runs(job) {
            let running = if before.is_empty() { "none".to_owned() } else { before.join(", ") };
            return Err(Refusal::Invalid(format!("{name} runs no job {job:?}; running: {running}")));
        }
        workload.jobs.retain(|running| running.name != job);
        Ok((json!({ "jobs": before }), json!({ "jobs": names(workload) })))
    }

    /// The active faults that this operation, already applied, has removed the cause of.
    fn cured_by(&self, target: &str, operation: &Operation) -> Vec<Scenario> {
        let cures = |scenario: Scenario| match (scenario, target, operation) {
            // The pool belongs to the service, which reads the settings when it starts.
            (Scenario::DatabaseTimeout, "order_service", Operation::Restart) => self.database.is_sufficient(),
            (Scenario::MemoryLeak, "order_service", Operation::Restart)
            | (Scenario::Api503, "catalog_service", Operation::Restart)
            | (Scenario::CertificateExpiry, "api.example.com", Operation::Renew)
            | (Scenario::PostgresConnections, "postgres-01", Operation::EndIdleSessions) => true,
            (Scenario::HighCpu, "order_service", Operation::Replicas(replicas))
            | (Scenario::Api503, "api-gateway-01", Operation::Replicas(replicas)) => *replicas >= 4,
            (Scenario::HighCpu, "order_service", Operation::StopJob(job)) => job == RUNAWAY_JOB,
            (Scenario::KafkaLag, "email-service", Operation::Replicas(replicas)) => *replicas >= 6,
            (Scenario::DiskFull, "storage-node-01", Operation::Clean(path)) => {
                path.trim_end_matches('/') == DATA_PATH
            }
            _ => false,
        };
        Scenario::ALL.into_iter().filter(|scenario| self.is_active(*scenario) && cures(*scenario)).collect()
    }

    fn tell_action(&mut self, name: &'static str, operation: &Operation, from: &Value, to: &Value) {
        let host = self.workloads().into_iter().find(|one| one.name == name).map_or(name, |one| one.host);
        let mut message = match operation {
            Operation::Config(_) => format!("configuration changed from {from} to {to}"),
            Operation::Restart => "stopped on request; started".to_owned(),
            Operation::Replicas(_) => format!("scaled from {from} to {to}"),
            Operation::Clean(path) => format!("old logs removed from {path}: {from} -> {to}"),
            Operation::Renew => format!("certificate renewed: {from} -> {to}"),
            Operation::EndIdleSessions => format!("idle sessions ended: {from} -> {to}"),
            Operation::StopJob(job) => format!("job {job} stopped"),
        };
        if matches!(operation, Operation::Config(_)) && name == "db-server-01" {
            message.push_str("; a client reads its pool settings when it starts");
        }
        self.log(Level::Info, name, host, message);
    }
}

fn change_settings(
    name: &str,
    settings: &mut Settings,
    changes: &Map<String, Value>,
) -> Result<Change, Refusal> {
    if changes.is_empty() {
        let known = settings.keys().copied().collect::<Vec<_>>().join(", ");
        return Err(Refusal::Invalid(format!("no setting of {name} was named; there are: {known}")));
    }
    let mut changed = Vec::new();
    for (key, value) in changes {
        let Some((key, current)) = settings.get_key_value(key.as_str()) else {
            let known = settings.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(Refusal::Invalid(format!("{name} has no setting {key:?}; it has: {known}")));
        };
        let fits = match (current, value) {
            (Value::String(_), Value::String(text)) => text.len() <= SETTING_BYTES_MAX,
            (Value::Number(_), Value::Number(number)) => {
                number.as_i64().is_some_and(|number| (1..=SETTING_MAX).contains(&number))
            }
            _ => false,
        };
        if !fits {
            let wanted =
                if current.is_string() { "a short string" } else { "a whole number from 1 to 100000" };
            return Err(Refusal::Invalid(format!("setting {key} of {name} must be {wanted}")));
        }
        changed.push((*key, current.clone(), value.clone()));
    }
    let (mut from, mut to) = (Map::new(), Map::new());
    for (key, before, after) in changed {
        from.insert(key.to_owned(), before);
        to.insert(key.to_owned(), after.clone());
        settings.insert(key, after);
    }
    Ok((Value::Object(from), Value::Object(to)))
}
