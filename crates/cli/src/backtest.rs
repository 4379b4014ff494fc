//! `quell backtest`: what edited rules would have said of incidents of the past, diagnosed again from the evidence that is kept of them.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use quell_diagnose::{Case, RuleSet};
use quell_incident::Report;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::BacktestArgs;
use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::incident;
use crate::output::{Line, Look, Page, Stream, Table};
use crate::rule;
use crate::view::{short_id, text, time};

/// Files in a folder of cases at the most.
const CASES_MAX: usize = 100_000;
/// One file of a case at the most, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Confidences that differ by less are shown alike.
const SHOWN_ALIKE: f64 = 0.005;

/// What was or would be said.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Verdict {
    /// `None` stands for "none of these".
    root_cause: Option<String>,
    subject: String,
    confidence: f64,
}

impl Verdict {
    fn of(report: &Report) -> Self {
        let cause = report.root_cause.as_ref();
        let subject = cause.map(|cause| {
            let subject = &cause.subject;
            let parts = [&subject.service, &subject.instance, &subject.part];
            parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
        });
        Self {
            root_cause: cause.map(|cause| cause.cause.clone()),
            subject: subject.unwrap_or_default(),
            confidence: report.confidence(),
        }
    }

    fn told(&self) -> String {
        match &self.root_cause {
            Some(cause) => format!("{cause} {:.2}", self.confidence),
            None => "none of these".to_owned(),
        }
    }
}

/// How the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Same,
    OtherConfidence,
    OtherSubject,
    OtherCause,
    AbstainsNow,
    AnswersNow,
}

impl Change {
    fn between(before: &Verdict, after: &Verdict) -> Self {
        match (&before.root_cause, &after.root_cause) {
            (None, Some(_)) => Self::AnswersNow,
            (Some(_), None) => Self::AbstainsNow,
            (one, other) if one != other => Self::OtherCause,
            _ if before.subject != after.subject => Self::OtherSubject,
            _ if (before.confidence - after.confidence).abs() >= SHOWN_ALIKE => Self::OtherConfidence,
            _ => Self::Same,
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Same => "the same",
            Self::OtherConfidence => "other confidence",
            Self::OtherSubject => "other subject",
            Self::OtherCause => "other cause",
            Self::AbstainsNow => "would abstain",
            Self::AnswersNow => "would answer",
        }
    }
}

/// One incident, then and again.
#[derive(Debug, Serialize)]
struct Replayed {
    incident: String,
    alert_name: String,
    reference_time: Timestamp,
    before: Verdict,
    after: Verdict,
    change: Change,
    /// The runbook that repaired it, which speaks for what was said then.
    repaired_by: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
struct Replay {
    replayed: Vec<Replayed>,
    /// Incidents of which there is nothing to diagnose.
    without_evidence: usize,
}

pub(crate) async fn run(context: &mut Context<'_>, arguments: &BacktestArgs) -> Result<()> {
    let rules = rule::with_site_rules(&arguments.rules)?;
    let replay = match &arguments.cases {
        Some(folder) => of_folder(folder, arguments, &rules)?,
        None => of_coordinator(context, arguments, &rules).await?,
    };
    if context.output.is_json() {
        let changed = replay.replayed.iter().filter(|one| one.change != Change::Same).count();
        let document = json!({
            "replayed": replay.replayed.len(), "changed": changed,
            "without_evidence": replay.without_evidence, "incidents": replay.replayed,
        });
        return Ok(context.output.json(&document)?);
    }
    Ok(context.output.page(Stream::Out, &page(&replay, arguments.all))?)
}

fn page(replay: &Replay, all: bool) -> Page {
    let mut table = Table::new(&["INCIDENT", "ALERT", "WAS", "WOULD BE", "CHANGE", "REPAIRED BY"]);
    let shown = replay.replayed.iter().filter(|one| all || one.change != Change::Same);
    let mut rows = 0;
    for one in shown {
        rows += 1;
        // What was repaired was right as it was.
        let doubtful = one.repaired_by.is_some()
            && !matches!(one.change, Change::Same | Change::OtherConfidence | Change::AnswersNow);
        let cells = vec![
            short_id(&one.incident).to_owned(),
            one.alert_name.clone(),
            one.before.told(),
            one.after.told(),
            one.change.told().to_owned(),
            one.repaired_by.clone().unwrap_or_default(),
        ];
        table.row(if doubtful { Look::Bad } else { Look::Plain }, cells);
    }
    let mut page = if rows > 0 { table.page() } else { Page::default() };
    let count = replay.replayed.len();
    let changed = replay.replayed.iter().filter(|one| one.change != Change::Same).count();
    page.line(format!("{count} diagnosed again, {changed} would change"));
    let worse = replay.replayed.iter().filter(|one| {
        one.repaired_by.is_some()
            && matches!(one.change, Change::OtherCause | Change::AbstainsNow | Change::OtherSubject)
    });
    match worse.count() {
        0 => {}
        worse => page.line(
            Line::new()
                .bad(format!("{worse} of them were repaired by what was found then: look at those first")),
        ),
    }
    if replay.without_evidence > 0 {
        page.line(Line::new().dim(format!("{} have no evidence that is kept", replay.without_evidence)));
    }
    page
}

fn replayed(case: &Case, before: Verdict, rules: &RuleSet, repaired_by: Option<String>) -> Replayed {
    let after = Verdict::of(&case.diagnose(rules));
    let request = &case.request;
    Replayed {
        incident: request.incident.id.to_string(),
        alert_name: request.incident.alert_name.clone(),
        reference_time: request.reference_time,
        change: Change::between(&before, &after),
        before,
        after,
        repaired_by,
    }
}

/// Files as `quell incident evidence --out` writes them. What was said then is what the shipped rules say.
fn of_folder(folder: &Path, arguments: &BacktestArgs, rules: &RuleSet) -> Result<Replay> {
    let wrong = |why: String| Failure::failed(format!("{}: {why}", folder.display()));
    let shipped = rule::with_site_rules(&[])?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| wrong(error.to_string()))? {
        files.push(entry.map_err(|error| wrong(error.to_string()))?.path());
        if files.len() > CASES_MAX {
            return Err(wrong(format!("more than {CASES_MAX} files")));
        }
    }
    files.retain(|file| {
        file.to_str().is_some_and(|name| name.ends_with(".json") || name.ends_with(".json.gz"))
    });
    files.sort();
    let mut replay = Replay::default();
    for file in files {
        let case = read_case(&file)?;
        if arguments.admits(case.request.reference_time) {
            let before = Verdict::of(&case.diagnose(&shipped));
            replay.replayed.push(replayed(&case, before, rules, None));
        }
    }
    Ok(replay)
}

fn read_case(file: &Path) -> Result<Case> {
    let wrong = |why: String| Failure::failed(format!("{}: {why}", file.display()));
    let length = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let packed = file.extension().is_some_and(|extension| extension == "gz");
    let case = if packed { Case::unpack(&bytes) } else { Case::read(&bytes) };
    case.map_err(|error| wrong(error.to_string()).next("quell incident evidence ID --out writes such a file"))
}

/// The incidents of the coordinator. What was said then is what their reports say.
async fn of_coordinator(
    context: &mut Context<'_>,
    arguments: &BacktestArgs,
    rules: &RuleSet,
) -> Result<Replay> {
    let mut filter = vec![("view", "full".to_owned())];
    filter.extend(arguments.from.map(|from| ("since", from.to_string())));
    let found = incident::fetch(context, &filter, usize::MAX).await?;
    let mut replay = Replay::default();
    for incident in &found.incidents {
        let id = text(incident, "/id");
        if !time(incident, "/created_at").is_some_and(|at| arguments.admits(at)) {
            continue;
        }
        let case = match incident::evidence_of(context, id).await {
            Ok(case) => case,
            Err(failure) if failure.exit == Exit::NotPossible => {
                replay.without_evidence += 1;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let runbook = incident.pointer("/resolution/runbook").and_then(Value::as_str).map(str::to_owned);
        replay.replayed.push(replayed(&case, said(incident), rules, runbook));
    }
    Ok(replay)
}

/// What an incident's report says.
fn said(incident: &Value) -> Verdict {
    let cause = incident.pointer("/diagnostics/root_cause").and_then(Value::as_str);
    let parts =
        ["service", "instance", "part"].map(|part| text(incident, &format!("/diagnostics/subject/{part}")));
    let named: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Verdict {
        root_cause: cause.map(str::to_owned),
        subject: named.join(" "),
        confidence: incident.pointer("/diagnostics/confidence").and_then(Value::as_f64).unwrap_or_default(),
    }
}
