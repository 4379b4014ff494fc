//! The evidence of a diagnosis, as it was gathered.

use std::io::{self, Read as _};

use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use quell_service::{Problem, Scope};
use tracing::error;

use super::Web;
use super::api::{PathOf, incident_at, store_problem};

/// `GET /api/incidents/{id}/evidence`: the request, all that was gathered and the calibration that the latest report rests on, as JSON
/// of schema `quell/case/v1`. It is stored packed, and goes out like that to whom accepts gzip.
pub(super) async fn show(
    State(web): State<Web>,
    headers: HeaderMap,
    path: PathOf<String>,
) -> Result<Response, Problem> {
    web.require(&headers, Scope::Read)?;
    let incident = incident_at(&web, path).await?;
    let id = incident.id;
    let report = incident
        .report
        .as_ref()
        .ok_or_else(|| Problem::not_found(format!("incident {id} has no diagnosis yet")))?;
    let none = || Problem::not_found(format!("no evidence is kept of incident {id}; its report tells why"));
    let digest = report.case.ok_or_else(none)?;
    let document = web.site.store.document(id, digest).await.map_err(|error| store_problem(&error))?;
    let packed = document.ok_or_else(none)?;
    let named = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (VARY, "accept-encoding".to_owned()),
        (ETAG, format!("\"{digest}\"")),
    ];
    if accepts_gzip(&headers) {
        return Ok((named, [(CONTENT_ENCODING, "gzip")], packed).into_response());
    }
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut json = Vec::new();
        GzDecoder::new(packed.as_slice()).take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut json)?;
        // A part of it would be no JSON.
        let whole = json.len() as u64 <= UNPACKED_BYTES_MAX;
        whole.then_some(json).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))
    });
    match unpacked.await.map_err(io::Error::other).flatten() {
        Ok(json) => Ok((named, json).into_response()),
        Err(cause) => {
            error!(incident_id = %id, error = %cause, "the stored evidence cannot be unpacked");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored evidence cannot be unpacked"))
        }
    }
}

/// Enough for every document that the diagnostic agent makes.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Whether gzip is among the codings that are accepted (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0));
        matches!(name.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for (value, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("br, identity", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), accepted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
