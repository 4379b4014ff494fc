//! What an alert says is kept for long and shown to many, and may hold a secret: a password in an address, a token in a link, a line of a log
//! in an annotation. It is masked before anything keeps it, wherever alerts come in.
//!
//! Labels are masked by what their values look like and never by their names: `secret="db"` names a secret of Kubernetes, and is what two
//! alerts are told apart by. Their masks follow from the value alone, so the same alert has the same labels by a webhook, from
//! Alertmanager's list and from Prometheus. The fingerprint is taken before, so it is Alertmanager's. The group key is masked along with the
//! labels that it repeats, or they would not be the alert's any more.

use quell_incident::Alert;
use quell_tool::{MASK, names_secret, redact};

use crate::alertmanager::Payload;

/// A payload whose alerts have no secrets any more.
pub(crate) fn masked_payload(mut payload: Payload) -> Payload {
    let mut exchanged = Vec::new();
    let mask = |alert: Alert| {
        let (alert, mut values) = masked(alert);
        exchanged.append(&mut values);
        alert
    };
    payload.alerts = payload.alerts.into_iter().map(mask).collect();
    // Many alerts share a value.
    exchanged.sort();
    exchanged.dedup();
    payload.group_key = payload.group_key.map(|key| masked_key(key, &exchanged));
    payload
}

/// The alert without secrets, and the labels' values that are others now.
pub(crate) fn masked(mut alert: Alert) -> (Alert, Vec<(String, String)>) {
    let mut exchanged = Vec::new();
    alert.labels.rewrite(|_, value| {
        let masked = masked_text(value)?;
        exchanged.push((value.to_owned(), masked.clone()));
        Some(masked)
    });
    alert.annotations.rewrite(
        |name, value| {
            if names_secret(name) { Some(MASK.to_owned()) } else { masked_text(value) }
        },
    );
    if let Some(masked) = alert.generator_url.as_deref().and_then(masked_text) {
        alert.generator_url = Some(masked);
    }
    (alert, exchanged)
}

/// The group key with these values of labels in the place of the others.
fn masked_key(key: String, exchanged: &[(String, String)]) -> String {
    exchanged.iter().fold(key, |key, (value, masked)| {
        // As Go quotes it.
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        key.replace(&quoted(value), &quoted(masked))
    })
}

fn masked_text(text: &str) -> Option<String> {
    let masked = redact(text);
    (masked != text).then_some(masked)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use quell_incident::AlertKey;
    use quell_incident::alert::{Fingerprint, Labels};
    use quell_incident::ids::SourceName;

    use super::*;

    const SECRETS: [(&str, &str); 9] = [
        ("url", "see https://me:hunter2@host/x"),
        ("link", "https://host/x?token=hunter2&page=1"),
        ("log", "login with password=hunter2 failed"),
        ("header", "Authorization: Bearer hunter2hunter2"),
        ("json", r#"{"api_key": "hunter2", "n": 1}"#),
        ("aws", "key AKIAHUNTER2HUNTER2AB used"),
        ("pem", "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----"),
        ("db_password", "hunter2"),
        ("dsn", "postgres://quell:hunter2@db:5432/x"),
    ];

    fn alert(labels: Labels, annotations: Labels, url: &str) -> Alert {
        Alert {
            key: AlertKey {
                source: SourceName::declared("alertmanager").unwrap(),
                fingerprint: Fingerprint::of(&labels),
            },
            status: quell_incident::AlertStatus::Firing,
            labels,
            annotations,
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: Some(url.to_owned()),
        }
    }

    #[test]
    fn no_secret_of_an_annotation_is_kept() {
        let labels = Labels::from_iter([("alertname", "A"), ("secret", "db"), ("token", "one")]);
        let annotations =
            Labels::from_iter(SECRETS.into_iter().chain([("summary", "a plain sentence: 5 > 3")]));
        let before = alert(labels, annotations, "http://p/graph?g0.expr=up&token=hunter2");
        let (after, exchanged) = masked(before.clone());
        let shown = serde_json::to_string(&after).unwrap().to_lowercase();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("a plain sentence: 5 > 3") && shown.contains("https://me:***@host/x"),
            "{shown}"
        );
        assert_eq!((&after.key, &after.labels), (&before.key, &before.labels), "what it is stays");
        assert!(exchanged.is_empty());
        assert_eq!(masked(after.clone()).0, after, "masking again changes nothing");
    }

    #[test]
    fn a_secret_in_a_label_is_masked_in_the_group_key_too() {
        let instance = "https://me:hunter2@host/health";
        let labels = Labels::from_iter([("alertname", "ProbeFailed"), ("instance", instance)]);
        let before = alert(labels, Labels::default(), "");
        let (after, exchanged) = masked(before.clone());
        assert_eq!(after.key, before.key, "the fingerprint is that of what Alertmanager sent");
        assert!(after.labels.get("instance").unwrap().is("https://me:***@host/health"));
        let key = format!("{{}}:{{alertname=\"ProbeFailed\", instance=\"{instance}\"}}");
        let key = masked_key(key, &exchanged);
        assert_eq!(key, "{}:{alertname=\"ProbeFailed\", instance=\"https://me:***@host/health\"}");
    }
}
