//! `GET /logs`: the newest lines that match.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;

use super::problem::Problem;
use crate::simulation::Shared;
use crate::world::LogLine;

const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

/// All conditions must hold; `since` and `until` are inclusive, `contains` and `level` do not care for case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    service: Option<String>,
    level: Option<String>,
    contains: Option<String>,
    limit: Option<usize>,
}

impl LogQuery {
    fn matches(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| since <= line.time)
            && self.until.is_none_or(|until| line.time <= until)
            && self.service.as_ref().is_none_or(|service| service == line.service)
            && self.level.as_ref().is_none_or(|level| level.eq_ignore_ascii_case(line.level.name()))
            && self.contains.as_ref().is_none_or(|text| contains(&line.message, text))
    }
}

fn contains(message: &str, text: &str) -> bool {
    message.to_lowercase().contains(&text.to_lowercase())
}

pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<LogLine>>, Problem> {
    let Query(query) =
        query.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        let detail = format!("limit must be 0 to {LIMIT_MAX}, not {limit}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let mut lines: Vec<LogLine> = shared.with(|world| {
        world.logs().iter().rev().filter(|line| query.matches(line)).take(limit).cloned().collect()
    });
    lines.reverse();
    Ok(Json(lines))
}
