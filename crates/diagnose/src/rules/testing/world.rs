//! From what a case says to the request and the evidence that a diagnosis gets.

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::contract::{DiagnoseRequest, IncidentBrief};
use quell_incident::evidence::{EvidenceSet, LogLine, LogLines, Point, Series, SeriesSet, Unavailable};
use quell_incident::ids::{IncidentId, SourceName};
use quell_incident::severity::{Priority, Severity};
use quell_incident::surroundings::{
    ChangeRecord, Edge, HealthCheck, HealthSet, PlatformEvent, PlatformObject, PlatformSet, Topology,
};
use serde_saphyr::{Location, Spanned};

use super::file::{CaseText, LineText, SourceText};
use super::series::{samples, selector};
use crate::rules::RuleSet;

/// 2026-01-01T12:00:00Z: when the fault of every case begins.
const FAULT_SECONDS: i64 = 1_767_268_800;
/// How long before the fault the first sample was taken.
const BEFORE: SignedDuration = SignedDuration::from_mins(30);
/// One sample a minute.
const STEP: SignedDuration = SignedDuration::from_mins(1);
/// When the alert fires, after the fault.
const ALERT: SignedDuration = SignedDuration::from_mins(2);
/// When the diagnosis is made, after the fault.
const REFERENCE: SignedDuration = SignedDuration::from_mins(5);
/// Lines of one case at the most.
const LINES_MAX: u32 = 5_000;

/// A mistake: its place, its field, and what was expected.
pub(super) type Mistake = (Option<Location>, String, String);

fn fault() -> Timestamp {
    Timestamp::from_second(FAULT_SECONDS).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn after(offset: SignedDuration) -> Timestamp {
    fault().checked_add(offset).unwrap_or(Timestamp::MAX)
}

fn time(
    text: Option<&Spanned<String>>,
    field: &str,
    otherwise: SignedDuration,
) -> Result<Timestamp, Mistake> {
    duration(text, field, otherwise).map(after)
}

fn duration(
    text: Option<&Spanned<String>>,
    field: &str,
    otherwise: SignedDuration,
) -> Result<SignedDuration, Mistake> {
    let Some(text) = text else { return Ok(otherwise) };
    let limit = SignedDuration::from_hours(24 * 366);
    let parsed = text.value.parse::<SignedDuration>().ok().filter(|found| found.abs() <= limit);
    parsed.ok_or_else(|| {
        let why = format!("is `{}`, where a time such as `90s` or `-5m` is expected", text.value);
        (Some(text.referenced), field.to_owned(), why)
    })
}

/// The request of a case: one alert with its labels.
pub(super) fn request(case: &CaseText) -> Option<DiagnoseRequest> {
    let mut labels: Labels = case.alert.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels.insert("alertname", "RuleTest");
    let source = SourceName::declared("rule-test").ok()?;
    let started_at = after(ALERT);
    let alert = Alert {
        key: AlertKey { source, fingerprint: Fingerprint::of(&labels) },
        status: AlertStatus::Firing,
        labels: labels.clone(),
        annotations: Labels::default(),
        starts_at: started_at,
        ends_at: None,
        generator_url: None,
    };
    Some(DiagnoseRequest {
        schema: "quell/diagnose/v1".to_owned(),
        incident: IncidentBrief {
            id: "0190d2f0-7b1e-7cc0-8000-000000000000".parse::<IncidentId>().ok()?,
            title: case.name.clone(),
            alert_name: "RuleTest".to_owned(),
            priority: Priority::P2,
            severity: Severity::High,
            affected_systems: vec![alert.about().name],
            started_at,
            alerts: vec![alert],
            labels,
        },
        reference_time: after(REFERENCE),
        changes: Vec::new(),
    })
}

/// Every mistake of a case.
pub(super) fn mistakes(case: &CaseText) -> Vec<Mistake> {
    let events = case.events.iter().flatten().map(|one| (one.at.as_ref(), "events.at"));
    let objects = case.objects.iter().flatten().map(|one| (one.changed.as_ref(), "objects.changed"));
    let health = case.health.iter().flatten().map(|one| (one.at.as_ref(), "health.at"));
    let changes = case.changes.iter().map(|one| (one.at.as_ref(), "changes.at"));
    let times = events.chain(objects).chain(health).chain(changes);
    let times = times.filter_map(|(text, field)| time(text, field, STEP).err());
    let series = case.series.iter().filter_map(|(name, values)| one_series(name, values).err());
    let lines = case.lines.iter().flatten().filter_map(|line| log_lines(line).err());
    series.chain(lines).chain(times).collect()
}

/// The evidence of a case, or its first mistake.
pub(super) fn evidence(case: &CaseText, rules: &RuleSet) -> Result<EvidenceSet, Mistake> {
    let mut evidence = EvidenceSet::default();
    if !case.unavailable.contains(&SourceText::Metrics) {
        let (source, query) = ("test".to_owned(), "all series".to_owned());
        evidence.metrics.push(SeriesSet { source, query, series: series(case)?, truncated: false });
    }
    if let Some(lines) = &case.lines {
        let mut all = Vec::new();
        for line in lines {
            all.extend(log_lines(line)?);
        }
        all.sort_by_key(|line| line.at);
        let (source, query) = ("test".to_owned(), "all lines".to_owned());
        evidence.logs.push(LogLines { source, query, lines: all, truncated: false, left_out: Vec::new() });
    }
    if case.events.is_some() || case.objects.is_some() {
        evidence.platform.push(platform(case)?);
    }
    if let Some(checks) = &case.health {
        let (source, query) = ("test".to_owned(), "all dependencies".to_owned());
        let checks = checks.iter().map(|one| {
            Ok(HealthCheck {
                at: time(one.at.as_ref(), "health.at", REFERENCE)?,
                name: one.name.clone(),
                healthy: one.healthy,
                seconds: one.seconds,
                message: one.message.clone(),
            })
        });
        evidence.health.push(HealthSet { source, query, checks: checks.collect::<Result<_, Mistake>>()? });
    }
    let changes = case.changes.iter().map(|one| {
        Ok(ChangeRecord {
            at: time(one.at.as_ref(), "changes.at", SignedDuration::from_mins(-5))?,
            kind: one.kind.clone(),
            service: one.service.clone(),
            version: one.version.clone(),
            by: String::new(),
            summary: one.summary.clone(),
            link: String::new(),
        })
    });
    evidence.changes = changes.collect::<Result<_, Mistake>>()?;
    evidence.changes.sort_by_key(|one| one.at);
    let edges = case.calls.iter().flat_map(|(caller, callees)| {
        callees.iter().map(|callee| Edge { caller: caller.clone(), callee: callee.clone() })
    });
    evidence.topology = Topology { edges: edges.collect() };
    evidence.unavailable = unavailable(case, rules);
    Ok(evidence)
}

fn unavailable(case: &CaseText, rules: &RuleSet) -> Vec<Unavailable> {
    let mut all = Vec::new();
    let mut add = |source: &str, query: &str| {
        let why = "the test says so".to_owned();
        all.push(Unavailable { source: source.to_owned(), query: query.to_owned(), why });
    };
    for source in &case.unavailable {
        match source {
            SourceText::Metrics => {
                rules.reads().iter().for_each(|read| add("query-metrics", &read.metric));
            }
            SourceText::Logs => add("test", "all lines"),
            SourceText::Platform => add("platform-state", "all objects"),
            SourceText::Health => add("health-check", "all dependencies"),
        }
    }
    all
}

fn series(case: &CaseText) -> Result<Vec<Series>, Mistake> {
    case.series.iter().map(|(name, values)| one_series(name, values)).collect()
}

fn one_series(name: &str, values: &Spanned<String>) -> Result<Series, Mistake> {
    let wrong = |why: String| (Some(values.referenced), format!("series.{name}"), why);
    let (metric, labels) = selector(name).map_err(wrong)?;
    let values = samples(&values.value).map_err(wrong)?;
    let points = (0i32..).zip(values).filter_map(|(index, value)| {
        let at = after(STEP * index - BEFORE);
        Some(Point { at, value: value? })
    });
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(Series { metric, labels, points: points.collect() })
}

fn log_lines(text: &LineText) -> Result<Vec<LogLine>, Mistake> {
    let first = duration(text.at.as_ref(), "lines.at", SignedDuration::from_secs(10))?;
    let every = duration(text.every.as_ref(), "lines.every", SignedDuration::from_secs(5))?;
    let count = text.count.unwrap_or(1).min(LINES_MAX);
    let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
    let lines = numbers.map(|number| LogLine {
        at: after(first + every * number),
        level: text.level.clone(),
        service: text.service.clone(),
        instance: text.instance.clone(),
        message: text.message.clone(),
    });
    Ok(lines.collect())
}

fn platform(case: &CaseText) -> Result<PlatformSet, Mistake> {
    let objects = case.objects.iter().flatten().map(|one| {
        let changed = one.changed.as_ref();
        Ok(PlatformObject {
            kind: one.kind.clone(),
            namespace: one.namespace.clone(),
            name: one.name.clone(),
            service: one.service.clone(),
            node: one.node.clone(),
            ready: one.ready,
            state: one.state.clone(),
            restarts: one.restarts,
            last_exit: one.last_exit.clone(),
            revision: one.revision.clone(),
            changed_at: changed.map(|at| time(Some(at), "objects.changed", STEP)).transpose()?,
        })
    });
    let events = case.events.iter().flatten().map(|one| {
        Ok(PlatformEvent {
            at: time(one.at.as_ref(), "events.at", STEP)?,
            kind: one.kind.clone(),
            namespace: one.namespace.clone(),
            name: one.name.clone(),
            service: one.service.clone(),
            reason: one.reason.clone(),
            message: one.message.clone(),
            count: one.count,
            warning: one.warning.unwrap_or(true),
        })
    });
    let mut set = PlatformSet {
        source: "test".to_owned(),
        query: "all objects and events".to_owned(),
        objects: objects.collect::<Result<_, Mistake>>()?,
        events: events.collect::<Result<_, Mistake>>()?,
        truncated: false,
    };
    set.events.sort_by_key(|event| event.at);
    Ok(set)
}
