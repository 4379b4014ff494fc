//! Lists: sorted by status time, last changed first, and continued by a cursor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::error::A2aError;
use crate::types::{ListTasks, Task, TaskPage};

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 100;

/// Where a task stands in the list; the id decides between tasks that changed at the same instant.
type Place<'a> = (Timestamp, &'a str);

/// Picks one page out of all tasks that the caller may see, in any order; each comes with its size in bytes.
/// For agents that keep their tasks themselves: the order, the filters, the limits and the cursor are the
/// protocol's. A page holds at least one task and ends early once it has `page_bytes_max`.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) for a page size beyond 1 to 100 and for a page token that this
/// function did not give out.
pub fn paginate<'a>(
    tasks: impl Iterator<Item = (&'a Task, usize)>,
    query: &ListTasks,
    page_bytes_max: usize,
) -> Result<TaskPage, A2aError> {
    let page_size = query.page_size.unwrap_or(PAGE_SIZE_DEFAULT);
    if !(1..=PAGE_SIZE_MAX).contains(&page_size) {
        return Err(A2aError::invalid(
            "page_size",
            format!("is {page_size} and must be from 1 to {PAGE_SIZE_MAX}"),
        ));
    }
    let after = read_token(&query.page_token)?;
    let mut matching: Vec<(&Task, usize)> = tasks.filter(|(task, _)| matches(task, query)).collect();
    let total_size = u32::try_from(matching.len()).unwrap_or(u32::MAX);
    matching.sort_unstable_by(|(left, _), (right, _)| place(right).cmp(&place(left)));
    let begin = match &after {
        None => 0,
        Some((time, id)) => matching.partition_point(|(task, _)| place(task) >= (*time, id.as_str())),
    };

    let mut rest = matching.into_iter().skip(begin).peekable();
    let mut page = TaskPage { tasks: Vec::new(), next_page_token: String::new(), page_size, total_size };
    let mut page_bytes = 0_usize;
    while let Some((task, bytes)) = rest.next() {
        page.tasks.push(reduced(task, query));
        page_bytes = page_bytes.saturating_add(bytes);
        let full = page.tasks.len() >= page_size as usize || page_bytes >= page_bytes_max;
        if full && rest.peek().is_some() {
            page.next_page_token = write_token(place(task));
        }
        if full {
            break;
        }
    }
    Ok(page)
}

fn place(task: &Task) -> Place<'_> {
    (task.status.timestamp.unwrap_or(Timestamp::MIN), &task.id)
}

fn matches(task: &Task, query: &ListTasks) -> bool {
    (query.context_id.is_empty() || task.context_id == query.context_id)
        && query.status.is_none_or(|state| task.state() == state)
        && query
            .status_timestamp_after
            .is_none_or(|after| task.status.timestamp.is_some_and(|time| time >= after))
}

fn reduced(task: &Task, query: &ListTasks) -> Task {
    let kept =
        query.history_length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
    let surplus = task.history.len().saturating_sub(kept);
    Task {
        id: task.id.clone(),
        context_id: task.context_id.clone(),
        status: task.status.clone(),
        artifacts: if query.include_artifacts { task.artifacts.clone() } else { Vec::new() },
        history: task.history[surplus..].to_vec(),
        metadata: task.metadata.clone(),
    }
}

fn write_token((time, id): Place<'_>) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{id}", time.as_nanosecond()))
}

fn read_token(token: &str) -> Result<Option<(Timestamp, String)>, A2aError> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (nanoseconds, id) = text.split_once(':')?;
        Some((Timestamp::from_nanosecond(nanoseconds.parse().ok()?).ok()?, id.to_owned()))
    };
    read().map(Some).ok_or_else(|| A2aError::invalid("page_token", "is not one that this agent gave out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Artifact, Message, Part, TaskState, TaskStatus};

    fn task(id: &str, second: i64, state: TaskState) -> Task {
        let timestamp = Timestamp::from_second(second).ok();
        Task {
            id: id.into(),
            context_id: format!("context-{}", second % 2),
            status: TaskStatus { state, message: None, timestamp },
            artifacts: vec![Artifact::new("a", vec![Part::text("x")])],
            history: vec![
                Message::user("1", vec![Part::text("x")]),
                Message::user("2", vec![Part::text("y")]),
            ],
            metadata: None,
        }
    }

    fn tasks() -> Vec<Task> {
        let seconds = [5, 3, 9, 3, 1, 7];
        let states = [TaskState::Working, TaskState::Completed].into_iter().cycle();
        seconds
            .into_iter()
            .zip(states)
            .enumerate()
            .map(|(n, (s, state))| task(&format!("t{n}"), s, state))
            .collect()
    }

    fn get(query: &ListTasks) -> Result<TaskPage, A2aError> {
        paginate(tasks().iter().map(|task| (task, 100)), query, usize::MAX)
    }

    fn ids(page: &TaskPage) -> Vec<&str> {
        page.tasks.iter().map(|task| task.id.as_str()).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap() {
        let mut query = ListTasks { page_size: Some(2), ..ListTasks::default() };
        let mut seen = Vec::new();
        loop {
            let page = get(&query).unwrap();
            assert_eq!((page.total_size, page.page_size), (6, 2));
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            query.page_token = page.next_page_token;
            if query.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["t2", "t5", "t0", "t3", "t1", "t4"]);
    }

    #[test]
    fn filters_apply_before_counting() {
        let page = get(&ListTasks { status: Some(TaskState::Completed), ..ListTasks::default() }).unwrap();
        assert_eq!((ids(&page), page.total_size), (vec!["t5", "t3", "t1"], 3));
        let after = Timestamp::from_second(5).ok();
        let page = get(&ListTasks { status_timestamp_after: after, ..ListTasks::default() }).unwrap();
        assert_eq!(ids(&page), ["t2", "t5", "t0"]);
        let page = get(&ListTasks { context_id: "context-0".into(), ..ListTasks::default() }).unwrap();
        assert_eq!(page.total_size, 0);
    }

    #[test]
    fn artifacts_and_history_come_when_asked_for() {
        let page = get(&ListTasks { history_length: Some(1), ..ListTasks::default() }).unwrap();
        assert!(page.tasks[0].artifacts.is_empty());
        assert_eq!(page.tasks[0].history[0].message_id, "2");
        let page = get(&ListTasks { include_artifacts: true, ..ListTasks::default() }).unwrap();
        assert_eq!((page.tasks[0].artifacts.len(), page.tasks[0].history.len()), (1, 2));
    }

    #[test]
    fn a_page_is_limited_in_bytes_too() {
        let page = paginate(tasks().iter().map(|task| (task, 100)), &ListTasks::default(), 150).unwrap();
        assert_eq!(ids(&page), ["t2", "t5"]);
        assert!(!page.next_page_token.is_empty());
    }

    #[test]
    fn sizes_and_tokens_are_checked() {
        for page_size in [0, 101] {
            let query = ListTasks { page_size: Some(page_size), ..ListTasks::default() };
            assert_eq!(get(&query).unwrap_err().violations()[0].field, "page_size");
        }
        for token in ["x", "!", "YWJj"] {
            let query = ListTasks { page_token: token.into(), ..ListTasks::default() };
            assert_eq!(get(&query).unwrap_err().violations()[0].field, "page_token");
        }
    }
}
