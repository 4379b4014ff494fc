//! About how much memory a task takes here: small things on the wire are large ones in memory.

use serde_json::Value;

use super::{Artifact, Message, Metadata, Part, PartContent, Task};

/// A node of a JSON tree, or a string, with what holds it.
const NODE_BYTES: usize = 32;
/// A part, with its strings.
const PART_BYTES: usize = 256;
/// An artifact or a message. Larger than it is: each further one makes finding one slower as well.
const ENTRY_BYTES: usize = 4 << 10;

impl Task {
    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let artifacts: usize = self.artifacts.iter().map(Artifact::weight).sum();
        let messages: usize = self.history.iter().chain(&self.status.message).map(Message::weight).sum();
        artifacts + messages + metadata(self.metadata.as_ref())
    }
}

impl Artifact {
    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let texts = [&self.artifact_id, &self.name, &self.description];
        let strings: usize = texts.into_iter().chain(&self.extensions).map(|text| string(text)).sum();
        let parts: usize = self.parts.iter().map(part).sum();
        ENTRY_BYTES + strings + parts + metadata(self.metadata.as_ref())
    }

    /// The same for what continues an artifact that is there already.
    pub(crate) fn weight_added(&self) -> usize {
        self.weight() - ENTRY_BYTES
    }
}

impl Message {
    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let strings: usize =
            self.extensions.iter().chain(&self.reference_task_ids).map(|text| string(text)).sum();
        let parts: usize = self.parts.iter().map(part).sum();
        ENTRY_BYTES + strings + parts + metadata(self.metadata.as_ref())
    }
}

fn string(text: &str) -> usize {
    NODE_BYTES + text.len()
}

fn part(part: &Part) -> usize {
    let content = match &part.content {
        PartContent::Text(text) | PartContent::Url(text) => text.len(),
        PartContent::Raw(bytes) => bytes.len(),
        PartContent::Data(data) => value(data),
    };
    let names = part.filename.len() + part.media_type.len();
    PART_BYTES + names + content + metadata(part.metadata.as_ref())
}

fn metadata(metadata: Option<&Metadata>) -> usize {
    metadata.into_iter().flatten().map(|(key, entry)| string(key) + value(entry)).sum()
}

/// Goes no deeper than what was read, which is bounded.
fn value(tree: &Value) -> usize {
    let inner: usize = match tree {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(entries) => entries.iter().map(value).sum(),
        Value::Object(entries) => entries.iter().map(|(key, entry)| string(key) + value(entry)).sum(),
    };
    NODE_BYTES + inner
}
