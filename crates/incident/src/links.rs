//! Addresses that alerts bring for people: the runbook, the rule, the dashboard. They are telemetry's text, so what is shown is no more
//! than an address that a browser opens.

use serde::Serialize;

use crate::alert::Alert;
use crate::incident::Incident;

/// Links of one incident at the most.
const LINKS_MAX: usize = 20;
/// Characters of an address at the most.
const CHARACTERS_MAX: usize = 2_000;

/// Annotations with an address, by what it leads to. Names are compared without separators and in any case.
const ANNOTATIONS: [(&str, &[&str]); 4] = [
    ("runbook", &["runbookurl", "runbook", "runbooklink", "playbook", "playbookurl"]),
    ("dashboard", &["dashboardurl", "dashboard", "grafanaurl", "dashboardlink"]),
    ("panel", &["panelurl", "panel", "graphurl"]),
    ("other", &["link", "url", "docs", "documentation", "silenceurl"]),
];

/// An address for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// `runbook`, `rule`, `dashboard`, `panel` or `other`.
    pub kind: &'static str,
    /// The address.
    pub url: String,
    /// The name of the alert that brought it.
    pub alert: String,
}

/// The links that an incident's alerts bring, runbooks first, each address once.
pub fn of(incident: &Incident) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for kind in ["runbook", "rule", "dashboard", "panel", "other"] {
        for state in incident.alerts.values() {
            for url in addresses(&state.alert, kind) {
                if links.len() < LINKS_MAX && !links.iter().any(|known| known.url == url) {
                    links.push(Link { kind, url, alert: state.alert.name() });
                }
            }
        }
    }
    links
}

fn addresses(alert: &Alert, kind: &str) -> Vec<String> {
    if kind == "rule" {
        return alert.generator_url.as_deref().and_then(opened_by_browsers).into_iter().collect();
    }
    let names = ANNOTATIONS.iter().filter(|(of, _)| *of == kind).flat_map(|(_, names)| *names);
    let mut found = Vec::new();
    for wanted in names {
        let named = alert.annotations.iter().chain(alert.labels.iter()).filter(|(name, _)| {
            let plain = name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase());
            plain.eq(wanted.chars())
        });
        found.extend(named.filter_map(|(_, value)| opened_by_browsers(value.in_full())));
    }
    found
}

/// The address, if it is of the web: without what is not shown, and without a user and their password.
fn opened_by_browsers(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|c| is_shown(*c)).take(CHARACTERS_MAX).collect();
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    (!host.is_empty()).then(|| format!("{scheme}://{host}{path}"))
}

/// Whether a character of an address is one that people see: no control, no blank, nothing that turns or hides text.
fn is_shown(character: char) -> bool {
    let hides = matches!(character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !character.is_control()
        && !character.is_whitespace()
        && !hides
        && !matches!(character, '"' | '<' | '>' | '\\' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_opens_is_shown() {
        for (text, shown) in [
            ("https://runbooks.example/x", Some("https://runbooks.example/x")),
            (
                " HTTP://prom.example/graph?g0.expr=up%7B%7D#a ",
                Some("http://prom.example/graph?g0.expr=up%7B%7D#a"),
            ),
            ("https://user:password@grafana.example/d?x=a@b", Some("https://grafana.example/d?x=a@b")),
            ("https://a.example/\u{1b}[2J\n\u{202e}x\u{e0041}", Some("https://a.example/[2Jx")),
            ("https://a.example/<script>", Some("https://a.example/script")),
            ("javascript:alert(1)", None),
            ("javascript://a.example/%0aalert(1)", None),
            ("file:///etc/passwd", None),
            ("/graph?g0.expr=x", None),
            ("https://", None),
            ("https://user@", None),
            ("see the wiki", None),
            ("", None),
        ] {
            assert_eq!(opened_by_browsers(text).as_deref(), shown, "{text:?}");
        }
    }
}
