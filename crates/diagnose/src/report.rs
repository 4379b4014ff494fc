//! From the ranking to the report: every claim gets the ids of its evidence, and what else changed is listed as well.

use std::collections::{BTreeMap, BTreeSet};

use quell_incident::Report;
use quell_incident::contract::DiagnoseRequest;
use quell_incident::evidence::Point;
use quell_incident::report::{
    Claim, EVIDENCE_MAX, Evidence, EvidenceData, EvidenceKind, Hypothesis, LogData, MetricData, REPORT_SCHEMA,
};

use crate::candidate::Cited;
use crate::gathered::{Evidences, Gathered};
use crate::rank::{CONFIDENCE_MIN, Ranked, Ranking};
use crate::rules::RuleSet;
use crate::rules::sentence::{name_of, rounded};
use crate::series::{Reading, SeriesKind};
use crate::surroundings::Item;
use crate::template::{SAMPLES_MAX, TemplateChange, TemplateClass, changes, cleaned, sample, template};

/// Points of one series in the report at the most; enough for a chart.
const POINTS_TOLD_MAX: usize = 120;
/// Other series or templates that changed, at the most of each.
const OTHERS_MAX: usize = 20;
/// A template in a sentence at the most, in characters.
const TEMPLATE_TOLD_MAX: usize = 120;

pub(crate) fn write(
    request: &DiagnoseRequest,
    evidences: &Evidences,
    rules: &RuleSet,
    ranking: Ranking,
) -> Report {
    let mut book = Book {
        evidences,
        ids: BTreeMap::new(),
        written: Vec::new(),
        metrics: 0,
        logs: 0,
        others: BTreeMap::new(),
    };
    let has_cause = ranking.abstained.is_none();
    let first_confidence = ranking.ranked.first().map_or(0.0, |first| first.confidence);
    let mut root_cause = None;
    let mut alternatives = Vec::new();
    for (place, ranked) in ranking.ranked.into_iter().enumerate() {
        let is_first = place == 0 && has_cause;
        let not_first_because = (!is_first).then(|| why_not_first(&ranked, has_cause, first_confidence));
        let Some(mut hypothesis) = hypothesis(ranked, &mut book) else { continue };
        hypothesis.not_first_because = not_first_because;
        if is_first {
            root_cause = Some(hypothesis);
        } else {
            alternatives.push(hypothesis);
        }
    }
    book.add_other_changes();
    Report {
        schema: REPORT_SCHEMA.to_owned(),
        incident_id: request.incident.id,
        reference_time: request.reference_time,
        abstained: ranking
            .abstained
            .or_else(|| root_cause.is_none().then(|| "no evidence could be kept".to_owned())),
        root_cause,
        alternatives,
        evidence: book.written,
        unavailable: evidences.unavailable.clone(),
        second_opinion: None,
        engine: format!("quell-diagnose {} rules {}", env!("CARGO_PKG_VERSION"), rules.digest().short()),
        case: None,
    }
}

fn why_not_first(ranked: &Ranked, has_cause: bool, first: f64) -> String {
    if let Some(because) = &ranked.located {
        format!("no rule knows a cause for it: {because}")
    } else if !ranked.related {
        "it has nothing to do with what the alerts speak of".to_owned()
    } else if has_cause {
        format!("less evidence speaks for it: {:.2} against {first:.2}", ranked.confidence)
    } else if ranked.confidence < CONFIDENCE_MIN {
        format!(
            "its confidence of {:.2} is under the {CONFIDENCE_MIN:.2} that a root cause needs",
            ranked.confidence
        )
    } else {
        "another cause is about as likely".to_owned()
    }
}

fn hypothesis(ranked: Ranked, book: &mut Book<'_>) -> Option<Hypothesis> {
    let calibrated = ranked.calibrated;
    let claims: Vec<Claim> = ranked
        .drafts
        .into_iter()
        .filter_map(|draft| {
            let ids = draft.cited.into_iter().filter_map(|cited| book.id_of(cited)).collect();
            Claim::new(&draft.by, draft.statement, ids)
        })
        .collect();
    Hypothesis::new(
        &ranked.cause,
        ranked.subject,
        ranked.statement,
        // Rounded, so that the report has the same bytes wherever it was made.
        (ranked.confidence * 1e4).round() / 1e4,
        claims,
        ranked.recommended_actions,
    )
    .map(|hypothesis| Hypothesis { calibrated, ..hypothesis })
}

/// The evidence of a report as it is written down.
struct Book<'a> {
    evidences: &'a Evidences,
    ids: BTreeMap<Cited, String>,
    written: Vec<Evidence>,
    metrics: usize,
    logs: usize,
    /// By the letter of their ids.
    others: BTreeMap<char, usize>,
}

impl Book<'_> {
    fn id_of(&mut self, cited: Cited) -> Option<String> {
        if let Some(id) = self.ids.get(&cited) {
            return Some(id.clone());
        }
        if self.written.len() >= EVIDENCE_MAX {
            return None;
        }
        let evidence = match &cited {
            Cited::Series(index) => self.metric(self.evidences.series.get(*index)?)?,
            Cited::Lines { pattern, fault, before } => self.lines(pattern, fault, *before)?,
            Cited::Item(index) => self.item(self.evidences.around.items.get(*index)?),
        };
        let id = evidence.id.clone();
        self.ids.insert(cited, id.clone());
        self.written.push(evidence);
        Some(id)
    }

    fn metric(&mut self, series: &Gathered) -> Option<Evidence> {
        let kind = SeriesKind::of(&series.metric);
        let reading = Reading::of(&series.points, kind, self.evidences.window)?;
        let (first, last) = (series.points.first()?, series.points.last()?);
        self.metrics += 1;
        Some(Evidence {
            id: format!("m{}", self.metrics),
            kind: EvidenceKind::Metric,
            source: series.source.clone(),
            query: series.query.clone(),
            from: first.at,
            to: last.at,
            summary: metric_summary(series, &reading),
            data: EvidenceData::Metric(MetricData {
                metric: series.metric.clone(),
                labels: series.own.clone(),
                last: reading.last,
                rate_per_second: reading.rate,
                before: reading.before,
                score: reading.score,
                onset: reading.onset,
                points: thinned(&series.points),
            }),
        })
    }

    fn item(&mut self, item: &Item) -> Evidence {
        let number = self.others.entry(item.letter()).or_default();
        *number += 1;
        let split = self.evidences.split;
        Evidence {
            id: format!("{}{number}", item.letter()),
            kind: item.kind(),
            source: item.source.clone(),
            query: item.query.clone(),
            from: item.at().unwrap_or(split.from).min(split.from),
            to: split.to,
            summary: item.summary(),
            data: item.evidence(),
        }
    }

    fn lines(&mut self, pattern: &str, fault: &[usize], before: u64) -> Option<Evidence> {
        let evidences = self.evidences;
        let mut templates: BTreeMap<String, usize> = BTreeMap::new();
        for line in fault.iter().filter_map(|index| evidences.lines.get(*index)) {
            *templates.entry(template(&line.message)).or_default() += 1;
        }
        let template = templates.into_iter().rev().max_by_key(|(_, count)| *count)?.0;
        let samples = fault.iter().filter_map(|index| evidences.lines.get(*index)).take(SAMPLES_MAX);
        let samples: Vec<String> = samples.map(|line| sample(&line.message)).collect();
        let (source, query) = self.log_source(fault)?;
        self.logs += 1;
        let count = fault.len();
        Some(Evidence {
            id: format!("l{}", self.logs),
            kind: EvidenceKind::Log,
            source,
            query,
            from: evidences.split.from,
            to: evidences.split.to,
            summary: format!(
                "{count} lines since {} (before: {before}) like: {}",
                evidences.split.fault_from,
                cleaned(&template, TEMPLATE_TOLD_MAX)
            ),
            data: EvidenceData::Log(LogData {
                template: cleaned(&template, usize::MAX),
                pattern: (!pattern.is_empty()).then(|| pattern.to_owned()),
                class: None,
                service: None,
                level: None,
                count: count as u64,
                before,
                samples,
            }),
        })
    }

    fn log_source(&self, lines: &[usize]) -> Option<(String, String)> {
        let source = lines.first().and_then(|index| self.evidences.line_sources.get(*index))?;
        self.evidences.log_sources.get(*source).cloned()
    }

    /// Series and templates that changed and that no rule has cited: a reader may see in them what no rule knows.
    fn add_other_changes(&mut self) {
        let evidences = self.evidences;
        let mut changed: Vec<(usize, f64)> = evidences
            .series
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.ids.contains_key(&Cited::Series(*index)))
            .filter_map(|(index, series)| {
                let reading = Reading::of(&series.points, SeriesKind::of(&series.metric), evidences.window)?;
                reading.changed().then_some((index, reading.score))
            })
            .collect();
        changed.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        for (index, _) in changed.into_iter().take(OTHERS_MAX) {
            self.id_of(Cited::Series(index));
        }
        let told: BTreeSet<usize> = self
            .ids
            .keys()
            .flat_map(|cited| match cited {
                Cited::Lines { fault, .. } => fault.clone(),
                Cited::Series(_) | Cited::Item(_) => Vec::new(),
            })
            .collect();
        let others = changes(&evidences.lines, evidences.split);
        let others = others.into_iter().filter(|change| !change.lines.iter().any(|line| told.contains(line)));
        for change in others.take(OTHERS_MAX) {
            self.add_template(&change);
        }
    }

    fn add_template(&mut self, change: &TemplateChange) {
        if self.written.len() >= EVIDENCE_MAX {
            return;
        }
        let Some((source, query)) = self.log_source(&change.lines) else { return };
        self.logs += 1;
        let (count, before) = (change.count, change.before);
        let what = match change.class {
            TemplateClass::New => "new",
            TemplateClass::Burst => "more frequent than before",
            TemplateClass::Vanished => "seen no more",
        };
        let told = cleaned(&change.template, TEMPLATE_TOLD_MAX);
        self.written.push(Evidence {
            id: format!("l{}", self.logs),
            kind: EvidenceKind::Log,
            source,
            query,
            from: self.evidences.split.from,
            to: self.evidences.split.to,
            summary: format!(
                "{what} of {}: {count} lines (before: {before}) like: {told}",
                name_of(&change.service, "an unknown service")
            ),
            data: EvidenceData::Log(LogData {
                template: change.template.clone(),
                pattern: None,
                class: Some(change.class.name().to_owned()),
                service: Some(change.service.clone()),
                level: Some(change.level.clone()),
                count,
                before,
                samples: change.samples.clone(),
            }),
        });
    }
}

fn metric_summary(series: &Gathered, reading: &Reading) -> String {
    let labels: Vec<String> =
        series.own.iter().map(|(name, value)| format!("{name}=\"{}\"", cleaned(value, 80))).collect();
    let name = format!("{}{{{}}}", series.metric, labels.join(","));
    let before = reading.before.map_or_else(|| "unknown".to_owned(), rounded);
    match reading.rate {
        Some(rate) => format!("{name} grows by {} a second (before: {before})", rounded(rate)),
        None => format!("{name} is at {} (before: {before})", rounded(reading.last)),
    }
}

/// Evenly chosen points, the newest among them.
fn thinned(points: &[Point]) -> Vec<Point> {
    let step = points.len().div_ceil(POINTS_TOLD_MAX).max(1);
    let mut kept: Vec<Point> = points.iter().rev().step_by(step).copied().collect();
    kept.reverse();
    kept
}
