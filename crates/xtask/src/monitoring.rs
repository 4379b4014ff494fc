//! The files of Prometheus and Alertmanager for every place where they stand, from one template each.

use anyhow::{Context as _, Result, ensure};

const PROMETHEUS: &str = include_str!("../templates/prometheus.yml");
const ALERTMANAGER: &str = include_str!("../templates/alertmanager.yml");

/// What differs from place to place.
pub(crate) struct Place {
    /// Comment lines: how these files are used there.
    pub(crate) prometheus_start: String,
    pub(crate) alertmanager_start: String,
    pub(crate) prometheus: String,
    pub(crate) alertmanager: String,
    pub(crate) coordinator: String,
    /// Database, application, gateway.
    pub(crate) exporters: [String; 3],
    pub(crate) pace: Pace,
    /// The lines that give Alertmanager the token for the coordinator's webhook, or say how to.
    pub(crate) webhook_token: &'static str,
}

/// How fast alerts come and go.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) scrape_interval: &'static str,
    pub(crate) evaluation_interval: &'static str,
    pub(crate) group_wait: &'static str,
    pub(crate) group_interval: &'static str,
}

/// As shipped.
pub(crate) const SHIPPED: Pace =
    Pace { scrape_interval: "10s", evaluation_interval: "15s", group_wait: "10s", group_interval: "10s" };

/// For a demonstration.
pub(crate) const FAST: Pace = Pace {
    scrape_interval: "500ms",
    evaluation_interval: "500ms",
    group_wait: "100ms",
    group_interval: "500ms",
};

/// How to give a token, where none is needed on loopback.
pub(crate) const TOKEN_COMMENT: &str = "\
        # When the coordinator asks for a token on its webhook, put that token into a file and name it here:
        # http_config:
        #   authorization:
        #     type: Bearer
        #     credentials_file: /etc/alertmanager/webhook-token";

impl Place {
    /// Prometheus' configuration.
    pub(crate) fn prometheus_yml(&self) -> Result<String> {
        let [database, application, gateway] = &self.exporters;
        let values = [
            ("start", self.prometheus_start.as_str()),
            ("scrape_interval", self.pace.scrape_interval),
            ("evaluation_interval", self.pace.evaluation_interval),
            ("prometheus", &self.prometheus),
            ("alertmanager", &self.alertmanager),
            ("database_exporter", database),
            ("application_exporter", application),
            ("gateway_exporter", gateway),
        ];
        fill(PROMETHEUS, &values).context("templates/prometheus.yml")
    }

    /// Alertmanager's configuration.
    pub(crate) fn alertmanager_yml(&self) -> Result<String> {
        let values = [
            ("start", self.alertmanager_start.as_str()),
            ("group_wait", self.pace.group_wait),
            ("group_interval", self.pace.group_interval),
            ("coordinator", &self.coordinator),
            ("webhook_token", self.webhook_token),
        ];
        fill(ALERTMANAGER, &values).context("templates/alertmanager.yml")
    }
}

/// Every value must be used, and nothing may be left open.
fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let mark = format!("@{name}@");
        ensure!(text.contains(&mark), "has no {mark}");
        text = text.replace(&mark, value);
    }
    ensure!(!text.contains('@'), "has a mark that nothing fills: {text}");
    Ok(text)
}

/// The shipped rules with everything that takes its time made short: ranges, `for`, the group's interval.
///
/// What is replaced has to be there, so that a rule file that changed shape is noticed instead of being slow.
pub(crate) fn fast_rules(rules: &str) -> Result<String> {
    let mut text = rules.to_owned();
    for (shipped, fast) in [
        ("interval: 15s", "interval: 500ms"),
        ("[1m]", "[4s]"),
        ("for: 1m", "for: 1s"),
        ("for: 2m", "for: 1s"),
    ] {
        ensure!(text.contains(shipped), "monitoring/rules.yml has no `{shipped}` to shorten");
        text = text.replace(shipped, fast);
    }
    for line in text.lines().map(str::trim) {
        let slow = line.strip_prefix("for:").is_some_and(|time| time.trim() != "1s")
            || line.strip_prefix("expr:").is_some_and(|rule| rule.contains('[') && !rule.contains("[4s]"));
        ensure!(!slow, "monitoring/rules.yml has a duration that the demonstration does not shorten: {line}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_mark_and_an_unused_value_are_errors() {
        assert_eq!(fill("a @b@ c", &[("b", "x")]).unwrap(), "a x c");
        assert!(fill("a @b@ c @d@", &[("b", "x")]).is_err());
        assert!(fill("a", &[("b", "x")]).is_err());
    }

    #[test]
    fn rules_of_another_shape_are_noticed() {
        let shipped = "interval: 15s\nexpr: rate(x[1m])\nfor: 1m\nfor: 2m\n";
        assert_eq!(fast_rules(shipped).unwrap(), "interval: 500ms\nexpr: rate(x[4s])\nfor: 1s\nfor: 1s\n");
        assert!(fast_rules("interval: 15s").is_err());
        assert!(fast_rules(&format!("{shipped}for: 5m\n")).is_err());
        assert!(fast_rules(&format!("{shipped}expr: rate(x[5m])\n")).is_err());
    }
}
