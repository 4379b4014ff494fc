//! The skill `diagnose`.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use quell_a2a::{A2aError, Artifact, Message, Outcome, Part, Skill, SkillError, Work};
use quell_diagnose::case::CASE_MEDIA_TYPE;
use quell_diagnose::{Aids, Case, RuleSet};
use quell_incident::Report;
use quell_incident::contract::DiagnoseRequest;
use quell_incident::document::{self, Document};
use quell_incident::ids::Digest;
use serde_json::Value;
use tracing::Instrument;

use crate::gather::{Gathering, gather};
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::sources::Tools;

/// The id of the skill.
pub(crate) const DIAGNOSE: &str = "diagnose";
/// The name of its artifact.
const ARTIFACT: &str = "report";
/// The name of the artifact from which the report can be made again.
const CASE_ARTIFACT: &str = "case";

/// What a diagnosis is made with; replaced as a whole by a reload, while those under way go on with what they began with.
pub(crate) struct Means {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) tools: Tools,
    pub(crate) gathering: Gathering,
    pub(crate) aids: Aids,
    pub(crate) reader: Option<Arc<Reader>>,
}

/// The means that are in effect.
pub(crate) struct Current(RwLock<Arc<Means>>);

impl Current {
    pub(crate) fn new(means: Means) -> Self {
        Self(RwLock::new(Arc::new(means)))
    }

    pub(crate) fn get(&self) -> Arc<Means> {
        // Replacing is a single assignment, so nothing is ever half done behind a poisoned lock.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, means: Means) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(means);
    }
}

pub(crate) struct Diagnose {
    pub(crate) current: Arc<Current>,
    pub(crate) metrics: Arc<Metrics>,
}

#[async_trait]
impl Skill for Diagnose {
    fn id(&self) -> &str {
        DIAGNOSE
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        request(message.data()).map(|_| ()).map_err(|(field, why)| A2aError::invalid(field, why))
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        let request =
            request(work.data()).map_err(|(field, why)| SkillError::rejected(format!("{field}: {why}")))?;
        let span =
            tracing::info_span!("diagnose", incident_id = %request.incident.id, task_id = work.task_id);
        let (report, case) = self.diagnose(request).instrument(span).await?;
        let document = serde_json::to_value(report)
            .map_err(|error| SkillError::failed_because("the report cannot be written as JSON", error))?;
        let mut artifacts = vec![Artifact::new(ARTIFACT, vec![Part::data(document)]).with_name(ARTIFACT)];
        artifacts.extend(case.map(|case| {
            Artifact::new(CASE_ARTIFACT, vec![Part::raw(case, CASE_MEDIA_TYPE)]).with_name(CASE_ARTIFACT)
        }));
        Ok(Outcome::completed(artifacts))
    }
}

impl Diagnose {
    async fn diagnose(&self, request: DiagnoseRequest) -> Result<(Report, Option<Vec<u8>>), SkillError> {
        let began = Instant::now();
        let means = self.current.get();
        let evidence = gather(&means.tools, &means.rules, &request, &means.gathering).await;
        for missing in &evidence.unavailable {
            let (source, query, why) = (&missing.source, &missing.query, &missing.why);
            tracing::warn!(source, query, why, "evidence is unavailable");
        }
        let (series, lines) = (
            evidence.metrics.iter().map(|set| set.series.len()).sum::<usize>(),
            evidence.logs.iter().map(|set| set.lines.len()).sum::<usize>(),
        );
        self.metrics.gathered(&evidence);
        let case = Case::new(request, evidence, means.aids.clone());
        let rules = Arc::clone(&means.rules);
        let (mut report, mut case) = computed(move || (case.diagnose(&rules), case)).await?;
        if let Some(reader) = &means.reader {
            let readings = reader.read(&case.request, &report, &self.metrics).await;
            case.take_readings(&mut report, readings);
        }
        let packed = computed(move || case.pack()).await?;
        report.case = packed.as_ref().ok().map(|packed| Digest::of_bytes(packed));
        let cause = report.root_cause.as_ref().map(|cause| cause.cause.as_str());
        let (confidence, abstained) = (report.confidence(), report.abstained.as_deref());
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(cause, confidence, abstained, series, lines, duration_ms, "diagnosed");
        if let Some(opinion) = &report.second_opinion {
            let (cause, confidence, counts) = (opinion.cause.as_str(), opinion.confidence, opinion.counts);
            tracing::info!(cause, confidence, counts, "by this site's resolved incidents");
        }
        self.metrics.diagnosed(cause.is_some(), began.elapsed());
        let packed = packed.inspect_err(|error| {
            tracing::warn!(%error, "the evidence is not kept, so this diagnosis cannot be made again");
        });
        Ok((report, packed.ok()))
    }
}

/// The engines only compute, and are kept off the threads that serve calls.
async fn computed<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Result<T, SkillError> {
    let work = tokio::task::spawn_blocking(compute);
    work.await.map_err(|error| SkillError::failed_because("the diagnosis failed", error))
}

/// The request in a message's data part, or the field that is wrong and why.
fn request(data: Option<&Value>) -> Result<DiagnoseRequest, (String, String)> {
    let data = data
        .ok_or_else(|| ("parts".to_owned(), "one data part with a diagnose request is needed".to_owned()))?;
    document::named(data, DiagnoseRequest::SCHEMA)
        .map_err(|unfit| (format!("parts[0].data.{}", unfit.field), unfit.why))?;
    serde_path_to_error::deserialize(data)
        .map_err(|error| (format!("parts[0].data.{}", error.path()), error.into_inner().to_string()))
}
