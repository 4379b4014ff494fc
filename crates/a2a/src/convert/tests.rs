use jiff::Timestamp;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::proto;
use crate::types::*;

fn part(content: PartContent) -> Part {
    let metadata = json!({ "k": [1, 2.5, null] }).as_object().cloned();
    Part { content, metadata, filename: "f.txt".into(), media_type: "text/x-thing".into() }
}

fn message() -> Message {
    Message {
        message_id: "m".into(),
        context_id: "c".into(),
        task_id: "t".into(),
        role: Role::Agent,
        parts: vec![
            part(PartContent::Text("hello".into())),
            part(PartContent::Raw(vec![0, 255])),
            part(PartContent::Url("https://example.com/x".into())),
            part(PartContent::Data(json!({ "a": { "b": [true, "x", 3] } }))),
        ],
        metadata: json!({ "skill": "diagnose" }).as_object().cloned(),
        extensions: vec!["urn:e".into()],
        reference_task_ids: vec!["other".into()],
    }
}

fn artifact() -> Artifact {
    Artifact {
        artifact_id: "a".into(),
        name: "report".into(),
        description: "what was found".into(),
        parts: vec![Part::data(json!([1]))],
        metadata: json!({}).as_object().cloned(),
        extensions: vec!["urn:e".into()],
    }
}

fn status(state: TaskState) -> TaskStatus {
    let timestamp = Timestamp::from_nanosecond(1_700_000_000_123_456_789).ok();
    TaskStatus { state, message: Some(message()), timestamp }
}

fn task(state: TaskState) -> Task {
    Task {
        id: "t".into(),
        context_id: "c".into(),
        status: status(state),
        artifacts: vec![artifact()],
        history: vec![message(), message()],
        metadata: json!({ "x": 1 }).as_object().cloned(),
    }
}

/// Through the bytes of the wire, not only through the generated types.
fn wire<T: prost::Message + Default>(sent: &T) -> T {
    T::decode(sent.encode_to_vec().as_slice()).unwrap()
}

#[test]
fn tasks_in_every_state_survive_the_wire() {
    for state in TaskState::ALL {
        let sent = task(state);
        assert_eq!(task_from_proto(wire(&task_to_proto(sent.clone()).unwrap())).unwrap(), sent);
    }
}

#[test]
fn sends_survive_the_wire() {
    let sent = SendRequest {
        tenant: "blue".into(),
        message: message(),
        configuration: SendConfiguration {
            accepted_output_modes: vec!["application/json".into()],
            history_length: Some(0),
            return_immediately: true,
            wants_push_notifications: false,
        },
        metadata: json!({ "n": -1 }).as_object().cloned(),
    };
    assert_eq!(send_from_proto(wire(&send_to_proto(sent.clone()).unwrap())).unwrap(), sent);
    let plain = SendRequest::new(Message::user("m", vec![Part::text("x")]));
    assert_eq!(send_from_proto(wire(&send_to_proto(plain.clone()).unwrap())).unwrap(), plain);
}

#[test]
fn replies_and_events_survive_the_wire() {
    for sent in [SendReply::Task(task(TaskState::Working)), SendReply::Message(message())] {
        assert_eq!(reply_from_proto(wire(&reply_to_proto(sent.clone()).unwrap())).unwrap(), sent);
    }
    let (task_id, context_id) = ("t".to_owned(), "c".to_owned());
    let metadata = json!({ "m": "x" }).as_object().cloned();
    let events = [
        StreamEvent::Task(task(TaskState::Submitted)),
        StreamEvent::Message(message()),
        StreamEvent::StatusUpdate {
            task_id: task_id.clone(),
            context_id: context_id.clone(),
            status: status(TaskState::AuthRequired),
            metadata: metadata.clone(),
        },
        StreamEvent::ArtifactUpdate {
            task_id,
            context_id,
            artifact: artifact(),
            append: true,
            last_chunk: true,
            metadata,
        },
    ];
    for sent in events {
        assert_eq!(event_from_proto(wire(&event_to_proto(sent.clone()).unwrap())).unwrap(), sent);
    }
}

#[test]
fn lists_survive_the_wire() {
    let sent = ListTasks {
        tenant: "blue".into(),
        context_id: "c".into(),
        status: Some(TaskState::InputRequired),
        page_size: Some(7),
        page_token: "next".into(),
        history_length: Some(3),
        status_timestamp_after: Timestamp::from_nanosecond(-1).ok(),
        include_artifacts: true,
    };
    assert_eq!(list_from_proto(wire(&list_to_proto(sent.clone()))).unwrap(), sent);
    assert_eq!(list_from_proto(wire(&list_to_proto(ListTasks::default()))).unwrap(), ListTasks::default());
    let sent = TaskPage {
        tasks: vec![task(TaskState::Failed)],
        next_page_token: "next".into(),
        page_size: 50,
        total_size: 120,
    };
    assert_eq!(page_from_proto(wire(&page_to_proto(sent.clone()).unwrap())).unwrap(), sent);
}

/// The deepest value that is let out is one that every reader of protobuf takes in, at the deepest place
/// where it can be.
#[test]
fn deepest_value_passes_the_readers_own_limit() {
    let deepest = (0..value::VALUE_DEPTH_MAX).fold(json!(1), |inner, _| json!({ "k": inner }));
    let mut sent = task(TaskState::Completed);
    sent.artifacts[0].parts = vec![Part::data(deepest)];
    let page = TaskPage { tasks: vec![sent], next_page_token: String::new(), page_size: 1, total_size: 1 };
    assert_eq!(page_from_proto(wire(&page_to_proto(page.clone()).unwrap())).unwrap(), page);
}

fn field_of<T: std::fmt::Debug>(result: Result<T, A2aError>) -> String {
    result.unwrap_err().violations()[0].field.clone()
}

#[test]
fn missing_fields_are_named() {
    let good = send_to_proto(SendRequest::new(message())).unwrap();
    let spoilt = |spoil: fn(&mut proto::Message)| {
        let mut request = good.clone();
        spoil(request.message.as_mut().unwrap());
        field_of(send_from_proto(request))
    };
    assert_eq!(field_of(send_from_proto(proto::SendMessageRequest::default())), "message");
    assert_eq!(spoilt(|message| message.message_id.clear()), "message.message_id");
    assert_eq!(spoilt(|message| message.message_id = "x".repeat(257)), "message.message_id");
    assert_eq!(spoilt(|message| message.role = 0), "message.role");
    assert_eq!(spoilt(|message| message.role = 17), "message.role");
    assert_eq!(spoilt(|message| message.parts.clear()), "message.parts");
    assert_eq!(spoilt(|message| message.parts[1].content = None), "message.parts[1].content");
    let mut request = good;
    request.configuration.as_mut().unwrap().history_length = Some(-1);
    assert_eq!(field_of(send_from_proto(request)), "configuration.history_length");

    let good = task_to_proto(task(TaskState::Working)).unwrap();
    assert_eq!(field_of(task_from_proto(proto::Task { id: String::new(), ..good.clone() })), "id");
    assert_eq!(field_of(task_from_proto(proto::Task { status: None, ..good.clone() })), "status");
    let mut bad = good;
    bad.status.as_mut().unwrap().state = 99;
    assert_eq!(field_of(task_from_proto(bad)), "status.state");
    assert_eq!(field_of(event_from_proto(proto::StreamResponse::default())), "payload");
    assert_eq!(
        field_of(list_from_proto(proto::ListTasksRequest { status: 99, ..Default::default() })),
        "status"
    );
}

#[test]
fn times_out_of_range_are_refused() {
    for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
        let time = prost_types::Timestamp { seconds, nanos };
        assert_eq!(field_of(timestamp_from_proto("timestamp", Some(time))), "timestamp");
    }
    for time in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        assert_eq!(timestamp_from_proto("t", Some(timestamp_to_proto(time))).unwrap(), Some(time));
    }
}

fn any_value() -> impl Strategy<Value = prost_types::Value> {
    use prost_types::value::Kind;
    let leaf = prop_oneof![
        Just(None),
        any::<i32>().prop_map(|n| Some(Kind::NullValue(n))),
        any::<bool>().prop_map(|b| Some(Kind::BoolValue(b))),
        any::<f64>().prop_map(|n| Some(Kind::NumberValue(n))),
        Just(Some(Kind::NumberValue(f64::NAN))),
        ".*".prop_map(|s| Some(Kind::StringValue(s))),
    ];
    let leaf = leaf.prop_map(|kind| prost_types::Value { kind });
    leaf.prop_recursive(40, 200, 5, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5)
            .prop_map(|values| Kind::ListValue(prost_types::ListValue { values }));
        let object = prop::collection::btree_map(".{0,4}", inner, 0..5)
            .prop_map(|fields| Kind::StructValue(prost_types::Struct { fields }));
        prop_oneof![list, object].prop_map(|kind| prost_types::Value { kind: Some(kind) })
    })
}

proptest! {
    /// Whatever is accepted goes out again as the same JSON.
    #[test]
    fn any_value_is_refused_or_survives(value in any_value()) {
        if let Ok(read) = value::value_from_proto(value)
            && let Ok(written) = value::value_to_proto(&read)
        {
            prop_assert_eq!(value::value_from_proto(written).unwrap(), read);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = proto::SendMessageRequest::decode(bytes.as_slice()) {
            let _ = send_from_proto(request);
        }
        if let Ok(response) = proto::StreamResponse::decode(bytes.as_slice()) {
            let _ = event_from_proto(response);
        }
        if let Ok(request) = proto::ListTasksRequest::decode(bytes.as_slice()) {
            let _ = list_from_proto(request);
        }
    }

    /// A valid request with one byte changed is refused or read, and what is read can be sent.
    #[test]
    fn any_changed_byte_is_refused_or_read(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = send_to_proto(SendRequest::new(message())).unwrap().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(request) = proto::SendMessageRequest::decode(bytes.as_slice()) {
            let wants_push = request.configuration.as_ref().is_some_and(|c| c.task_push_notification_config.is_some());
            if let Ok(read) = send_from_proto(request) {
                prop_assert!(send_to_proto(read).is_ok() || wants_push);
            }
        }
    }
}
