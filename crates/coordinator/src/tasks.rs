//! Incidents as a list of tasks: the protocol's own order, filters and pages.

use jiff::Timestamp;
use quell_a2a::{A2aError, ListTasks, Task, TaskPage, TaskState};
use quell_incident::IncidentId;
use quell_store::{ClosedAs, LIST_LIMIT_MAX, ListQuery, Row};

use crate::respond::{store_error, task_of};
use crate::site::Site;

/// Tasks in a page if the caller does not say, and at the most.
const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 100;
/// A page with artifacts ends after so many bytes of them.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Pages of the store that are looked through for one list: the newest incidents.
const STORE_PAGES_MAX: usize = 20;

/// The place of a task in the list: last changed first, then by id.
type Place = (Timestamp, IncidentId);

/// A page of the tasks that match.
///
/// # Errors
/// [`A2aError`] for a page size or a token that is none, and when the store does not answer.
pub(crate) async fn list(site: &Site, query: &ListTasks) -> Result<TaskPage, A2aError> {
    let page_size = query.page_size.unwrap_or(PAGE_SIZE_DEFAULT);
    if !(1..=PAGE_SIZE_MAX).contains(&page_size) {
        let why = format!("is {page_size}, expected 1 to {PAGE_SIZE_MAX}");
        return Err(A2aError::invalid("page_size", why));
    }
    let after = read_token(&query.page_token)?;
    let mut places = matching(site, query).await?;
    places.sort_unstable_by(|left, right| right.cmp(left));
    let total_size = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let begin = after.map_or(0, |after| places.partition_point(|place| *place >= after));

    let mut rest = places.into_iter().skip(begin).peekable();
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    let mut next_page_token = String::new();
    while let Some((changed_at, id)) = rest.next() {
        if let Some(incident) = site.store.incident(id).await.map_err(store_error)? {
            let task = task_of(&incident, query.include_artifacts);
            bytes += bytes_of(&task);
            tasks.push(task);
        }
        if tasks.len() >= page_size as usize || bytes >= PAGE_BYTES_MAX {
            if rest.peek().is_some() {
                next_page_token = format!("{}_{id}", changed_at.as_nanosecond());
            }
            break;
        }
    }
    Ok(TaskPage { tasks, next_page_token, page_size, total_size })
}

/// Where every task stands that the filters let through.
async fn matching(site: &Site, query: &ListTasks) -> Result<Vec<Place>, A2aError> {
    let mut ask = ListQuery { limit: LIST_LIMIT_MAX, ..ListQuery::default() };
    if !query.context_id.is_empty() {
        // A context is named by its caller, or else by its first incident, and then the others came later.
        let first = match query.context_id.parse::<IncidentId>() {
            Ok(id) => site.store.incident(id).await.map_err(store_error)?,
            Err(_) => None,
        };
        let first = first.filter(|first| first.context.is_none());
        ask.since = first.map(|first| first.created_at);
    }
    let mut places = Vec::new();
    for _ in 0..STORE_PAGES_MAX {
        let page = site.store.list(&ask).await.map_err(store_error)?;
        for row in &page.rows {
            if wanted(query, row) {
                places.push((row.updated_at, row.id));
            }
        }
        match page.next {
            Some(next) => ask.cursor = Some(next),
            None => break,
        }
    }
    Ok(places)
}

/// By the row alone: there may be a hundred thousand.
fn wanted(query: &ListTasks, row: &Row) -> bool {
    query.status_timestamp_after.is_none_or(|after| row.updated_at >= after)
        && query.status.is_none_or(|state| state == state_of_row(row))
        && (query.context_id.is_empty() || row.context == Row::context_of(&query.context_id))
}

/// [`state_of`](crate::respond::state_of) an incident in a list.
pub(crate) fn state_of_row(row: &Row) -> TaskState {
    match (row.phase.as_str(), row.closed_as) {
        (_, Some(ClosedAs::Resolved)) => TaskState::Completed,
        (_, Some(ClosedAs::ByPerson)) => TaskState::Failed,
        (_, Some(ClosedAs::Withdrawn)) => TaskState::Canceled,
        ("awaiting_approval" | "escalated" | "taken_over", None) => TaskState::InputRequired,
        _ => TaskState::Working,
    }
}

fn bytes_of(task: &Task) -> usize {
    task.artifacts.iter().filter_map(|artifact| artifact.data()).map(|data| data.to_string().len()).sum()
}

fn read_token(token: &str) -> Result<Option<Place>, A2aError> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (nanoseconds, id) = token.split_once('_')?;
        Some((Timestamp::from_nanosecond(nanoseconds.parse().ok()?).ok()?, id.parse().ok()?))
    };
    read().map(Some).ok_or_else(|| A2aError::invalid("page_token", "is not one that was given out here"))
}
