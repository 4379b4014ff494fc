//! Answers that can be read. A caller that says nothing of it reads 4 MiB at once, as gRPC's libraries do by default: a larger answer
//! would be an error there, again and again, and its task could never be read. So the largest parts are left out until the rest fits,
//! and each says so in its place.

use http::HeaderMap;
use prost::Message as _;

use crate::MESSAGE_BYTES_HEADER;
use crate::proto::{self, part::Content, stream_response::Payload};

/// What every library reads by default.
const READ_BYTES_DEFAULT: usize = 4 << 20;
/// What is left out even if the caller could read it.
const READ_BYTES_MAX: usize = 64 << 20;
/// For what stands around a task, and for the notes.
const SLACK_BYTES: usize = 64 << 10;
/// A part below this is not left out: its note would be as large.
const PART_BYTES_LEAST: usize = 1 << 10;

/// How much a caller reads at once.
pub(super) fn read_bytes_max(headers: &HeaderMap) -> usize {
    let said = headers.get(MESSAGE_BYTES_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    said.map_or(READ_BYTES_DEFAULT, |bytes: usize| bytes.clamp(READ_BYTES_DEFAULT, READ_BYTES_MAX))
}

pub(super) fn fit_task(task: &mut proto::Task, bytes_max: usize) {
    let bytes = task.encoded_len();
    let message = task.status.as_mut().and_then(|status| status.message.as_mut());
    let messages = task.history.iter_mut().chain(message).flat_map(|message| &mut message.parts);
    leave_out(
        bytes,
        bytes_max,
        task.artifacts.iter_mut().flat_map(|artifact| &mut artifact.parts).chain(messages),
    );
}

pub(super) fn fit_reply(reply: &mut proto::SendMessageResponse, bytes_max: usize) {
    if let Some(proto::send_message_response::Payload::Task(task)) = &mut reply.payload {
        fit_task(task, bytes_max);
    }
}

/// Each task has its part of the page.
pub(super) fn fit_page(page: &mut proto::ListTasksResponse, bytes_max: usize) {
    if page.encoded_len() + SLACK_BYTES <= bytes_max {
        return;
    }
    let each = bytes_max / page.tasks.len().max(1);
    for task in &mut page.tasks {
        fit_task(task, each);
    }
}

pub(super) fn fit_event(event: &mut proto::StreamResponse, bytes_max: usize) {
    let bytes = event.encoded_len();
    match &mut event.payload {
        Some(Payload::Task(task)) => fit_task(task, bytes_max),
        Some(Payload::Message(message)) => leave_out(bytes, bytes_max, message.parts.iter_mut()),
        Some(Payload::StatusUpdate(update)) => {
            let message = update.status.as_mut().and_then(|status| status.message.as_mut());
            leave_out(bytes, bytes_max, message.into_iter().flat_map(|message| &mut message.parts));
        }
        Some(Payload::ArtifactUpdate(update)) => {
            leave_out(bytes, bytes_max, update.artifact.iter_mut().flat_map(|artifact| &mut artifact.parts));
        }
        None => {}
    }
}

fn leave_out<'a>(mut bytes: usize, bytes_max: usize, parts: impl Iterator<Item = &'a mut proto::Part>) {
    let bytes_max = bytes_max.saturating_sub(SLACK_BYTES.min(bytes_max / 4));
    if bytes <= bytes_max {
        return;
    }
    let mut parts: Vec<_> = parts.map(|part| (part.encoded_len(), part)).collect();
    parts.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    for (size, part) in parts {
        if bytes <= bytes_max || size < PART_BYTES_LEAST {
            return;
        }
        let note = format!(
            "left out: a part of {size} bytes, since the whole is larger than this caller reads at once; a caller that \
             reads more says so in {MESSAGE_BYTES_HEADER}"
        );
        *part = proto::Part {
            content: Some(Content::Text(note)),
            filename: std::mem::take(&mut part.filename),
            media_type: "text/plain".to_owned(),
            metadata: None,
        };
        bytes = bytes.saturating_sub(size) + part.encoded_len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: usize) -> proto::Part {
        let content = Some(Content::Text("x".repeat(bytes)));
        proto::Part { content, filename: "name".into(), media_type: String::new(), metadata: None }
    }

    fn artifact(sizes: &[usize]) -> proto::Artifact {
        proto::Artifact { parts: sizes.iter().map(|bytes| part(*bytes)).collect(), ..Default::default() }
    }

    fn sizes(task: &proto::Task) -> Vec<usize> {
        let parts = task.artifacts.iter().flat_map(|artifact| &artifact.parts);
        parts.map(prost::Message::encoded_len).collect()
    }

    #[test]
    fn the_largest_parts_are_left_out_until_the_rest_fits() {
        const MIB: usize = 1 << 20;
        let whole = proto::Task {
            artifacts: vec![artifact(&[MIB, 100]), artifact(&[3 * MIB, 2 * MIB])],
            ..Default::default()
        };
        let mut task = whole.clone();
        fit_task(&mut task, 16 * MIB);
        assert_eq!(task, whole);
        fit_task(&mut task, 4 * MIB);
        let left = sizes(&task);
        assert!(left[0] > MIB && left[1] > 100 && left[2] < 1_000 && left[3] > 2 * MIB, "{left:?}");
        assert!(task.encoded_len() < 4 * MIB);
        let Some(Content::Text(note)) = &task.artifacts[1].parts[0].content else { panic!("no note") };
        assert!(note.starts_with("left out: a part of 3145"), "{note}");
        assert_eq!(task.artifacts[1].parts[0].filename, "name");
    }

    #[test]
    fn pages_and_events_fit_as_well() {
        const MIB: usize = 1 << 20;
        let task = proto::Task { artifacts: vec![artifact(&[3 * MIB])], ..Default::default() };
        let mut page = proto::ListTasksResponse { tasks: vec![task.clone(), task], ..Default::default() };
        fit_page(&mut page, 4 * MIB);
        assert!(page.encoded_len() < 4 * MIB);
        let update =
            proto::TaskArtifactUpdateEvent { artifact: Some(artifact(&[5 * MIB])), ..Default::default() };
        let mut event = proto::StreamResponse { payload: Some(Payload::ArtifactUpdate(update)) };
        fit_event(&mut event, 4 * MIB);
        assert!(event.encoded_len() < MIB);
    }

    #[test]
    fn callers_say_how_much_they_read() {
        let read = |value: &'static str| {
            read_bytes_max(&HeaderMap::from_iter([(
                http::HeaderName::from_static(MESSAGE_BYTES_HEADER),
                http::HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(read_bytes_max(&HeaderMap::new()), READ_BYTES_DEFAULT);
        assert_eq!(read("16777216"), 16 << 20);
        assert_eq!(
            [read("1"), read("x"), read("99999999999")],
            [READ_BYTES_DEFAULT, READ_BYTES_DEFAULT, READ_BYTES_MAX]
        );
    }
}
