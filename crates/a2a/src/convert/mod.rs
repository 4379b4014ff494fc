//! Between the generated types and the crate's own. What comes in is checked here, once: required fields,
//! enum numbers, lengths, numbers that JSON does not know.

mod call;
mod task;
mod value;

use jiff::Timestamp;

use crate::error::A2aError;
use crate::types::Metadata;

pub(crate) use call::{
    event_from_proto, event_to_proto, history_length_from_proto, history_length_to_proto, required_id,
};
pub(crate) use call::{
    list_from_proto, list_to_proto, page_from_proto, page_to_proto, reply_from_proto, reply_to_proto,
    send_from_proto, send_to_proto,
};
pub(crate) use task::{artifact_to_proto, message_to_proto, task_from_proto, task_to_proto};

/// An id is kept in memory for days.
const ID_BYTES_MAX: usize = 256;
/// Entries of one repeated field.
const REPEATED_MAX: usize = 10_000;

/// Converts every entry and says which one was at fault.
fn each<A, B>(
    field: &str,
    items: Vec<A>,
    convert: impl Fn(A) -> Result<B, A2aError>,
) -> Result<Vec<B>, A2aError> {
    if items.len() > REPEATED_MAX {
        return Err(A2aError::invalid(field, format!("has more than {REPEATED_MAX} entries")));
    }
    let mut converted = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        converted.push(convert(item).map_err(|error| error.within(&format!("{field}[{index}]")))?);
    }
    Ok(converted)
}

fn required<A>(field: &str, value: Option<A>) -> Result<A, A2aError> {
    value.ok_or_else(|| A2aError::invalid(field, "is required"))
}

fn optional_id(field: &str, id: String) -> Result<String, A2aError> {
    if id.len() > ID_BYTES_MAX {
        return Err(A2aError::invalid(field, format!("is longer than {ID_BYTES_MAX} bytes")));
    }
    Ok(id)
}

fn metadata_from_proto(metadata: Option<prost_types::Struct>) -> Result<Option<Metadata>, A2aError> {
    metadata.map(value::struct_from_proto).transpose().map_err(|error| error.within("metadata"))
}

fn metadata_to_proto(metadata: Option<&Metadata>) -> Result<Option<prost_types::Struct>, A2aError> {
    metadata.map(value::struct_to_proto).transpose().map_err(|error| error.within("metadata"))
}

fn timestamp_from_proto(
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, A2aError> {
    let Some(time) = time else { return Ok(None) };
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(A2aError::invalid(field, "has nanoseconds outside of 0 to 999999999"));
    }
    // Before 1970 the two libraries count the nanoseconds from different ends: the sum means the same for
    // both.
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let read = Timestamp::from_nanosecond(nanoseconds);
    read.map(Some).map_err(|_| A2aError::invalid(field, "is not a time between the years 1 and 9999"))
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below a thousand million")]
fn timestamp_to_proto(time: Timestamp) -> prost_types::Timestamp {
    let nanoseconds = time.as_nanosecond();
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let nanos = nanoseconds.rem_euclid(1_000_000_000);
    prost_types::Timestamp { seconds: seconds as i64, nanos: nanos as i32 }
}

#[cfg(test)]
mod tests;
