//! What the coordinator counts. Names follow Prometheus' conventions; the two that operators know from before have no prefix.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use quell_incident::incident::{How, Phase};
use quell_incident::{Event, Incident};

/// A label whose values are the program's own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// The labels of a counter with one dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    kind: Word,
}

fn kind(word: &'static str) -> Kind {
    Kind { kind: Word(word) }
}

/// Seconds from an alert's receipt to things that follow.
fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0])
}

/// When a watchdog last said that it fires, as Unix time; 0 is not yet. Without a first time there is no sample: a sample of 0 would look
/// after every restart as if the watchdog had been silent since 1970, and an alert on its age would fire.
#[derive(Clone, Debug, Default)]
struct LastBeat(Arc<AtomicI64>);

impl Collector for LastBeat {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let at = self.0.load(Ordering::Relaxed);
        if at == 0 {
            return Ok(());
        }
        let metric = encoder.encode_descriptor(
            "quell_heartbeat_last_seen_timestamp",
            "When a watchdog's alert last said by a webhook that it fires, as Unix time; nothing before the first.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(at).encode(metric)
    }
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    incidents: Counter,
    events: Family<Kind, Counter>,
    /// Webhook requests by their answer: `accepted`, `rejected`, `unavailable`.
    webhooks: Family<Kind, Counter>,
    alerts: Family<Kind, Counter>,
    last_beat: LastBeat,
    correlated: Counter,
    resolved: Family<Kind, Counter>,
    success_rate: Gauge<f64, AtomicU64>,
    attempts: AtomicU64,
    successes: AtomicU64,
    agent_calls: Family<Kind, Counter>,
    plan_seconds: Histogram,
    resolve_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            incidents: Counter::default(),
            events: Family::default(),
            webhooks: Family::default(),
            alerts: Family::default(),
            last_beat: LastBeat::default(),
            correlated: Counter::default(),
            resolved: Family::default(),
            success_rate: Gauge::default(),
            attempts: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            agent_calls: Family::default(),
            plan_seconds: seconds(),
            resolve_seconds: seconds(),
        }
    }
}

impl Metrics {
    /// Makes them visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "quell_alerts_correlated",
            "Received alerts that are part of incidents, or changed nothing, since the start; repetitions count",
            self.correlated.clone(),
        );
        registry.register("incidents", "Incidents opened since the start", self.incidents.clone());
        registry.register(
            "remediation_success_rate",
            "Share of carried out plans since the start whose effect was verified; 0 before the first",
            self.success_rate.clone(),
        );
        registry.register("quell_incident_events", "Events appended, by their type", self.events.clone());
        registry.register("quell_webhook_requests", "Webhook requests, by the answer", self.webhooks.clone());
        registry.register(
            "quell_alerts_received",
            "Alert messages taken, by status; heartbeats and inhibitors open nothing and are counted as such alone",
            self.alerts.clone(),
        );
        registry.register_collector(Box::new(self.last_beat.clone()));
        registry.register(
            "quell_incidents_resolved",
            "Incidents resolved, by whose doing",
            self.resolved.clone(),
        );
        registry.register(
            "quell_agent_calls",
            "Requests to agents that ended, by result",
            self.agent_calls.clone(),
        );
        registry.register_with_unit(
            "quell_time_to_plan",
            "From an incident's opening to its first plan",
            Unit::Seconds,
            self.plan_seconds.clone(),
        );
        registry.register_with_unit(
            "quell_time_to_resolve",
            "From an incident's opening to its being resolved",
            Unit::Seconds,
            self.resolve_seconds.clone(),
        );
    }

    /// Counts what a change brought.
    pub(crate) fn count(&self, incident: &Incident, events: &[Event]) {
        let age = || incident.updated_at.duration_since(incident.created_at).as_secs_f64();
        for event in events {
            self.events.get_or_create(&kind(event.kind())).inc();
            match event {
                Event::Opened { .. } => {
                    self.incidents.inc();
                }
                Event::Planned { .. } => self.plan_seconds.observe(age()),
                Event::StepStarted { undo: false, takes, .. } if !takes.is_empty() => {
                    self.attempts.fetch_add(1, Ordering::Relaxed);
                    self.update_rate();
                }
                Event::Resolved { how, .. } => {
                    self.resolve_seconds.observe(age());
                    let by = match how {
                        How::Itself => "itself",
                        How::Runbook { .. } => "runbook",
                        How::Person { .. } => "person",
                    };
                    self.resolved.get_or_create(&kind(by)).inc();
                    if matches!(&incident.phase, Phase::Resolved { how: How::Runbook { .. }, .. }) {
                        self.successes.fetch_add(1, Ordering::Relaxed);
                    }
                    self.update_rate();
                }
                _ => {}
            }
        }
    }

    fn update_rate(&self) {
        let attempts = self.attempts.load(Ordering::Relaxed);
        if attempts > 0 {
            self.success_rate.set(self.successes.load(Ordering::Relaxed) as f64 / attempts as f64);
        }
    }

    /// Received alerts were correlated.
    pub(crate) fn correlated(&self, alerts: u64) {
        self.correlated.inc_by(alerts);
    }

    /// Counts a webhook request by its answer.
    pub(crate) fn webhook(&self, answer: &'static str) {
        self.webhooks.get_or_create(&kind(answer)).inc();
    }

    /// Counts alert messages by their status.
    pub(crate) fn alerts(&self, status: &'static str, count: u64) {
        self.alerts.get_or_create(&kind(status)).inc_by(count);
    }

    /// A watchdog fires, as it does while all is well.
    pub(crate) fn heartbeats(&self, count: u64, at: Timestamp) {
        self.alerts("heartbeat", count);
        self.last_beat.0.store(at.as_second(), Ordering::Relaxed);
    }

    /// Counts a request to an agent by its result.
    pub(crate) fn agent_call(&self, result: &'static str) {
        self.agent_calls.get_or_create(&kind(result)).inc();
    }
}
