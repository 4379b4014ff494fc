//! The alert rules that are shipped for Prometheus, as plain thresholds over the world.
//!
//! Names, expressions, labels and texts are the same as in `monitoring/rules.yml`; a test compares them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::world::Family;

pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) const EXTERNAL_LABEL: (&str, &str) = ("monitor", "incident-response-monitor");

/// What makes a rule's alert active. Series are named by metric.
#[derive(Clone, Copy, Debug)]
enum Condition {
    /// The growth per second over the look-back window, of the series with these labels.
    RateAbove(&'static str, &'static [(&'static str, &'static str)], f64),
    Above(&'static str, f64),
    /// The ratio of two metrics with equal labels.
    RatioAtMost(&'static str, &'static str, f64),
    /// The sum by instance against a share of another metric of that instance.
    SumAboveShare(&'static str, f64, &'static str),
    /// A Unix time that is less than this many seconds ahead.
    SecondsLeftBelow(&'static str, f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// As Prometheus has it.
    pub(crate) expression: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) component: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
    condition: Condition,
}

pub(crate) const RULES: [Rule; 9] = [
    Rule {
        name: "DatabaseConnectionTimeout",
        expression: "rate(db_connection_timeout_total[1m]) > 0.5",
        severity: "critical",
        component: "database",
        summary: "Database connection timeouts on {{ $labels.instance }}",
        description: "Clients of {{ $labels.database }} on {{ $labels.instance }} run into {{ $value | printf \"%.2f\" }} connection timeouts per second.",
        condition: Condition::RateAbove("db_connection_timeout_total", &[], 0.5),
    },
    Rule {
        name: "HighMemoryUsage",
        expression: "process_resident_memory_bytes > 500000000",
        severity: "warning",
        component: "memory",
        summary: "High memory usage on {{ $labels.instance }}",
        description: "{{ $labels.service }} on {{ $labels.instance }} uses {{ $value | printf \"%.0f\" }} bytes of memory.",
        condition: Condition::Above("process_resident_memory_bytes", 500_000_000.0),
    },
    Rule {
        name: "HighCPUUsage",
        expression: "rate(process_cpu_seconds_total[1m]) > 0.8",
        severity: "warning",
        component: "cpu",
        summary: "High CPU usage on {{ $labels.instance }}",
        description: "{{ $labels.service }} on {{ $labels.instance }} uses {{ $value | printf \"%.2f\" }} CPU seconds per second.",
        condition: Condition::RateAbove("process_cpu_seconds_total", &[], 0.8),
    },
    Rule {
        name: "APIGateway503Errors",
        expression: "rate(http_requests_total{status=\"503\"}[1m]) > 0.1",
        severity: "critical",
        component: "api_gateway",
        summary: "503 errors on {{ $labels.instance }}",
        description: "{{ $labels.instance }} answers {{ $value | printf \"%.2f\" }} {{ $labels.method }} requests per second with 503.",
        condition: Condition::RateAbove("http_requests_total", &[("status", "503")], 0.1),
    },
    Rule {
        name: "DiskSpaceCritical",
        expression: "node_filesystem_avail_bytes / node_filesystem_size_bytes <= 0.1",
        severity: "critical",
        component: "disk",
        summary: "Disk space critical on {{ $labels.instance }}",
        description: "{{ $labels.mountpoint }} of {{ $labels.instance }} has a share of {{ $value | printf \"%.3f\" }} left.",
        condition: Condition::RatioAtMost("node_filesystem_avail_bytes", "node_filesystem_size_bytes", 0.1),
    },
    Rule {
        name: "DiskSpaceLow",
        expression: "node_filesystem_avail_bytes / node_filesystem_size_bytes <= 0.2",
        severity: "warning",
        component: "disk",
        summary: "Disk space low on {{ $labels.instance }}",
        description: "{{ $labels.mountpoint }} of {{ $labels.instance }} has a share of {{ $value | printf \"%.3f\" }} left.",
        condition: Condition::RatioAtMost("node_filesystem_avail_bytes", "node_filesystem_size_bytes", 0.2),
    },
    Rule {
        name: "CertificateExpiringSoon",
        expression: "probe_ssl_earliest_cert_expiry - time() < 604800",
        severity: "warning",
        component: "certificate",
        summary: "Certificate of {{ $labels.instance }} expires soon",
        description: "The certificate of {{ $labels.instance }} expires in {{ $value | printf \"%.0f\" }} seconds.",
        condition: Condition::SecondsLeftBelow("probe_ssl_earliest_cert_expiry", 604_800.0),
    },
    Rule {
        name: "KafkaConsumerLagHigh",
        expression: "kafka_consumergroup_lag > 15000",
        severity: "warning",
        component: "kafka",
        summary: "Consumer lag of {{ $labels.consumergroup }} on {{ $labels.instance }}",
        description: "Consumer group {{ $labels.consumergroup }} on {{ $labels.instance }} is {{ $value | printf \"%.0f\" }} messages behind.",
        condition: Condition::Above("kafka_consumergroup_lag", 15_000.0),
    },
    Rule {
        name: "PostgreSQLConnectionsHigh",
        expression: "sum by (instance) (pg_stat_activity_count) > on (instance) 0.9 * pg_settings_max_connections",
        severity: "warning",
        component: "postgresql",
        summary: "PostgreSQL connections high on {{ $labels.instance }}",
        description: "{{ $labels.instance }} has {{ $value | printf \"%.0f\" }} sessions, over 90 % of its maximum.",
        condition: Condition::SumAboveShare("pg_stat_activity_count", 0.9, "pg_settings_max_connections"),
    },
];

/// A series that a rule found.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) rule: &'static Rule,
    /// The labels that Prometheus would give the alert.
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

impl Match {
    pub(crate) fn annotations(&self) -> Labels {
        [("summary", self.rule.summary), ("description", self.rule.description)]
            .map(|(name, template)| (name.to_owned(), render(template, &self.labels, self.value)))
            .into()
    }
}

type SeriesByMetric = BTreeMap<&'static str, Vec<(Labels, f64)>>;

/// Every series of one evaluation, and those of the look-back window before it.
pub(crate) struct Scrapes {
    window: Duration,
    kept: VecDeque<(Timestamp, SeriesByMetric)>,
}

impl Scrapes {
    pub(crate) fn new(window: Duration) -> Scrapes {
        Scrapes { window, kept: VecDeque::new() }
    }

    /// Takes what the exporters show now, with the job that Prometheus would add.
    pub(crate) fn take(&mut self, now: Timestamp, exporters: Vec<(&'static str, Vec<Family>)>) {
        let mut series = SeriesByMetric::new();
        for (job, families) in exporters {
            for family in families {
                for sample in family.samples.into_iter().filter(|sample| sample.suffix.is_empty()) {
                    let own = sample.labels.into_iter().chain([("job", job)]);
                    let labels = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    series.entry(family.name).or_default().push((labels, sample.value));
                }
            }
        }
        let window = SignedDuration::try_from(self.window).unwrap_or(SignedDuration::MAX);
        while self.kept.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
            self.kept.pop_front();
        }
        self.kept.push_back((now, series));
    }

    /// Every series that meets a rule's condition at the last scrape.
    pub(crate) fn matches(&self) -> Vec<Match> {
        let Some((now, _)) = self.kept.back() else { return Vec::new() };
        let mut found = Vec::new();
        for rule in &RULES {
            for (mut labels, value) in self.evaluate(rule.condition, *now) {
                for (name, value) in [
                    ("alertname", rule.name),
                    ("severity", rule.severity),
                    ("component", rule.component),
                    EXTERNAL_LABEL,
                ] {
                    labels.insert(name.to_owned(), value.to_owned());
                }
                found.push(Match { rule, labels, value });
            }
        }
        found
    }

    fn evaluate(&self, condition: Condition, now: Timestamp) -> Vec<(Labels, f64)> {
        match condition {
            Condition::RateAbove(metric, selector, limit) => self
                .current(metric)
                .filter(|(labels, _)| {
                    selector.iter().all(|(name, value)| labels.get(*name).is_some_and(|is| is == value))
                })
                .filter_map(|(labels, _)| Some((labels.clone(), self.rate(metric, labels)?)))
                .filter(|(_, rate)| *rate > limit)
                .collect(),
            Condition::Above(metric, limit) => {
                self.current(metric).filter(|(_, value)| *value > limit).cloned().collect()
            }
            Condition::RatioAtMost(part, whole, limit) => self
                .current(part)
                .filter_map(|(labels, value)| {
                    let (_, size) = self.current(whole).find(|(other, _)| other == labels)?;
                    Some((labels.clone(), value / size))
                })
                .filter(|(_, ratio)| *ratio <= limit)
                .collect(),
            Condition::SumAboveShare(metric, share, maximum) => {
                let mut sums: BTreeMap<&String, f64> = BTreeMap::new();
                for (labels, value) in self.current(metric) {
                    if let Some(instance) = labels.get("instance") {
                        *sums.entry(instance).or_default() += value;
                    }
                }
                let above = |(instance, sum): (&String, f64)| {
                    let same = |labels: &Labels| labels.get("instance") == Some(instance);
                    let (_, maximum) = self.current(maximum).find(|(labels, _)| same(labels))?;
                    let labels = Labels::from([("instance".to_owned(), instance.clone())]);
                    (sum > share * maximum).then_some((labels, sum))
                };
                sums.into_iter().filter_map(above).collect()
            }
            Condition::SecondsLeftBelow(metric, limit) => self
                .current(metric)
                .map(|(labels, at)| (labels.clone(), at - now.as_millisecond() as f64 / 1000.0))
                .filter(|(_, left)| *left < limit)
                .collect(),
        }
    }

    fn current(&self, metric: &str) -> impl Iterator<Item = &(Labels, f64)> {
        self.kept.back().and_then(|(_, series)| series.get(metric)).into_iter().flatten()
    }

    /// Growth per second between the first and the last scrape in the window; a counter that begins again at 0 loses
    /// nothing. None until half of the window is known: the growth in a shorter time says little.
    fn rate(&self, metric: &str, labels: &Labels) -> Option<f64> {
        let mut points = self.kept.iter().filter_map(|(at, series)| {
            let (_, value) = series.get(metric)?.iter().find(|(other, _)| other == labels)?;
            Some((*at, *value))
        });
        let (first, mut last) = points.next()?;
        let (mut grown, mut end) = (0.0, first);
        for (at, value) in points {
            grown += if value < last { value } else { value - last };
            (last, end) = (value, at);
        }
        let seconds = end.duration_since(first).as_secs_f64();
        (seconds > 0.0 && seconds >= self.window.as_secs_f64() / 2.0).then(|| grown / seconds)
    }
}

/// Fills in `{{ $labels.name }}` and `{{ $value | printf "%.2f" }}`, the two forms that the shipped rules use.
fn render(template: &str, labels: &Labels, value: f64) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((action, following)) = after.split_once("}}") else { break };
        rest = following;
        let action = action.trim();
        if let Some(name) = action.strip_prefix("$labels.") {
            text.push_str(labels.get(name).map(String::as_str).unwrap_or_default());
        } else {
            let digits =
                action.split_once("%.").and_then(|(_, format)| format.get(..1)?.parse().ok()).unwrap_or(0);
            text.push_str(&format!("{value:.digits$}"));
        }
    }
    text.push_str(rest);
    text
}
