//! Reading the API's JSON: it may grow fields, so nothing here depends on there being no others.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The text at that place, empty without one.
pub(crate) fn text<'a>(view: &'a Value, pointer: &str) -> &'a str {
    view.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at that place, empty without one.
pub(crate) fn list<'a>(view: &'a Value, pointer: &str) -> &'a [Value] {
    view.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the list at that place, with commas.
pub(crate) fn joined(view: &Value, pointer: &str) -> String {
    list(view, pointer).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The time at that place.
pub(crate) fn time(view: &Value, pointer: &str) -> Option<Timestamp> {
    text(view, pointer).parse().ok()
}

/// What people are shown of an id: its end, which is the random part.
pub(crate) fn short_id(id: &str) -> &str {
    let start = id.char_indices().rev().nth(7).map_or(0, |(start, _)| start);
    &id[start..]
}

/// A value as people write it: texts without quotes, nothing for null.
pub(crate) fn bare(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `2026-05-01 12:00:00 UTC`.
pub(crate) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `3m ago`, `in 4m`, `now`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(at);
    match distance.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("{} ago", rough(distance)),
        _ => format!("in {}", rough(-distance)),
    }
}

/// In its largest unit.
pub(crate) fn rough(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        ..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The absolute time and how far it is from now.
pub(crate) fn both(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map(|at| format!("{} ({})", utc(at), relative(at, now))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_in_their_largest_unit() {
        let now = Timestamp::UNIX_EPOCH;
        let cases = [(0, "now"), (1, "1s ago"), (119, "119s ago"), (180, "3m ago"), (7200, "2h ago")];
        let more = [(259_200, "3d ago"), (-30, "in 30s"), (-300, "in 5m")];
        for (seconds_ago, told) in cases.into_iter().chain(more) {
            assert_eq!(relative(now - SignedDuration::from_secs(seconds_ago), now), told);
        }
    }

    #[test]
    fn short_ids_are_ends() {
        assert_eq!(short_id("0190d2f0-7b1e-7cc0-8000-0000003f2a9c"), "003f2a9c");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(short_id(""), "");
    }
}
