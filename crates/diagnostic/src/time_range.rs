//! Lengths of time as the tools take them: `1h`, `30m`.

use jiff::{SignedDuration, Timestamp};
use quell_service::Period;
use quell_tool::ToolError;

/// The longest time range of a tool.
const RANGE_MAX: Period = Period::seconds(3 * 24 * 3600);

/// Reads a length of time from a tool's input.
pub(crate) fn length(text: Option<&str>, otherwise: Period) -> Result<SignedDuration, ToolError> {
    let period = match text {
        Some(text) => text.parse::<Period>().map_err(|why| ToolError::invalid("time_range", why))?,
        None => otherwise,
    };
    if period > RANGE_MAX || period < Period::seconds(1) {
        return Err(ToolError::invalid("time_range", "must be from 1s to 72h"));
    }
    Ok(period.signed())
}

/// That much earlier, or the first instant there is.
pub(crate) fn before(at: Timestamp, length: SignedDuration) -> Timestamp {
    at.checked_sub(length).unwrap_or(Timestamp::MIN)
}
