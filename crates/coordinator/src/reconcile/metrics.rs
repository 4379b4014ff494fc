//! What reconciliation counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByInstance {
    instance: String,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct ReconcileMetrics {
    rounds: Family<ByResult, Counter>,
    polls: Family<ByResult, Counter>,
    repairs: Family<ByKind, Counter>,
    reachable: Family<ByInstance, Gauge>,
    held: Gauge,
}

impl ReconcileMetrics {
    /// Makes them visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "quell_reconcile_rounds",
            "Comparisons with Alertmanager, by result: complete, partial, unreachable, late, store",
            self.rounds.clone(),
        );
        registry.register(
            "quell_prometheus_polls",
            "Readings of Prometheus' alerts, by result: complete, unreachable, late, store",
            self.polls.clone(),
        );
        registry.register(
            "quell_reconcile_repairs",
            "Differences that were repaired, by kind: missed_firing, missed_resolved, suppressed, unsuppressed, polled_firing, \
             polled_resolved",
            self.repairs.clone(),
        );
        registry.register(
            "quell_alertmanager_reachable",
            "Whether the Alertmanager answered the last time that it was asked by the reconciler",
            self.reachable.clone(),
        );
        registry.register(
            "quell_alertmanager_alerts",
            "Alerts that the Alertmanagers held the last time that the reconciler asked",
            self.held.clone(),
        );
    }

    pub(super) fn round(&self, result: &str) {
        self.rounds.get_or_create(&ByResult { result: result.to_owned() }).inc();
    }

    pub(super) fn poll(&self, result: &str) {
        self.polls.get_or_create(&ByResult { result: result.to_owned() }).inc();
    }

    pub(super) fn repaired(&self, kind: &str, count: u64) {
        if count > 0 {
            self.repairs.get_or_create(&ByKind { kind: kind.to_owned() }).inc_by(count);
        }
    }

    pub(super) fn reachable(&self, instance: &str, is: bool) {
        self.reachable.get_or_create(&ByInstance { instance: instance.to_owned() }).set(i64::from(is));
    }

    pub(super) fn held(&self, alerts: usize) {
        self.held.set(i64::try_from(alerts).unwrap_or(i64::MAX));
    }
}
