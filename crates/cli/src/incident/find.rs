//! From what was typed to an incident's id.

use quell_incident::IncidentId;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::shorten;
use crate::view::text;

/// Incidents that are looked through for a short id.
const LOOKED_THROUGH_MAX: usize = 20_000;
const NAMED_MAX: usize = 5;

/// The id that was meant: a whole one as it is, otherwise the only one that begins or ends so.
pub(crate) async fn id(context: &Context<'_>, given: &str) -> Result<String> {
    let given = given.trim().to_ascii_lowercase();
    if let Ok(id) = given.parse::<IncidentId>() {
        return Ok(id.to_string());
    }
    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(Failure::usage(format!("{given:?} is not an incident's id"))
            .next("an id is hexadecimal, such as 3f2a9c; quell incident list shows them"));
    }
    let incidents = super::fetch(context, &[], LOOKED_THROUGH_MAX).await?.incidents;
    only(&incidents, &given).map(|found| text(found, "/id").to_owned())
}

fn only<'a>(incidents: &'a [Value], given: &str) -> Result<&'a Value> {
    let fits = |incident: &&Value| {
        let id = text(incident, "/id");
        id.starts_with(given) || id.ends_with(given)
    };
    let found: Vec<&Value> = incidents.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] if incidents.len() >= LOOKED_THROUGH_MAX => Err(Failure::not_possible(format!(
            "none of the newest {LOOKED_THROUGH_MAX} incidents has an id that begins or ends with {given:?}"
        ))
        .next("give the whole id")),
        [] => Err(Failure::not_possible(format!("no incident has an id that begins or ends with {given:?}"))
            .next("quell incident list shows what there is")),
        several => {
            let named = several.iter().take(NAMED_MAX).map(|incident| {
                format!("{}  {}", text(incident, "/id"), shorten(text(incident, "/title"), 60))
            });
            let more = if several.len() > NAMED_MAX { "\n…" } else { "" };
            let named = named.collect::<Vec<_>>().join("\n");
            Err(Failure::usage(format!("{given:?} fits {} incidents", several.len()))
                .next(format!("give more of the id:\n{named}{more}")))
        }
    }
}
