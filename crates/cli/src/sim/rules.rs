//! How long a fault has to last so that its alert fires, by the shipped Prometheus rules.
//!
//! A rule fires when its expression has been true for its `for` without a break, as seen at the evaluations. How long it is true
//! follows from the fault's duration and from the range that the expression looks back over.

use std::time::Duration;

/// Seconds between two scrapes and two evaluations, as shipped.
const SCRAPE_SECONDS: u64 = 10;
const EVALUATION_SECONDS: u64 = 15;

/// How an expression follows its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A gauge: true from the first scrape in the fault to the first one after it.
    Level,
    /// A rate not far over its threshold: true when much of the range lies in the fault, so about as long as the fault.
    Rate,
    /// A rate far over its threshold: true at once, and until the whole range lies after the fault.
    SteepRate,
}

struct Rule {
    scenario: &'static str,
    alert: &'static str,
    kind: Kind,
    range_seconds: u64,
    for_seconds: u64,
}

const fn rule(
    scenario: &'static str,
    alert: &'static str,
    kind: Kind,
    range_seconds: u64,
    for_seconds: u64,
) -> Rule {
    Rule { scenario, alert, kind, range_seconds, for_seconds }
}

const RULES: [Rule; 8] = [
    rule("database_timeout", "DatabaseConnectionTimeout", Kind::Rate, 60, 60),
    rule("memory_leak", "HighMemoryUsage", Kind::Level, 0, 120),
    rule("high_cpu", "HighCPUUsage", Kind::Rate, 60, 120),
    rule("api_503", "APIGateway503Errors", Kind::SteepRate, 60, 60),
    rule("disk_full", "DiskSpaceCritical", Kind::Level, 0, 60),
    rule("certificate_expiry", "CertificateExpiringSoon", Kind::Level, 0, 60),
    rule("kafka_lag", "KafkaConsumerLagHigh", Kind::Level, 0, 60),
    rule("postgres_connections", "PostgreSQLConnectionsHigh", Kind::Level, 0, 60),
];

impl Rule {
    /// The longest time that the expression can be seen true after a fault of that many seconds.
    fn seen_seconds_max(&self, fault_seconds: u64) -> u64 {
        match self.kind {
            Kind::Level => fault_seconds + SCRAPE_SECONDS - 1,
            Kind::Rate => fault_seconds,
            Kind::SteepRate => fault_seconds + self.range_seconds,
        }
    }

    /// A fault of so many seconds fires the alert wherever it falls between scrapes and evaluations.
    fn sure_seconds(&self) -> u64 {
        let needed = match self.kind {
            Kind::Level => self.for_seconds,
            Kind::Rate => self.range_seconds + self.for_seconds,
            Kind::SteepRate => self.for_seconds.saturating_sub(self.range_seconds),
        };
        needed + SCRAPE_SECONDS + EVALUATION_SECONDS
    }
}

/// Why a fault of that duration cannot fire its alert, or not surely; nothing when it will.
pub(crate) fn too_short(scenario: &str, duration: Duration) -> Option<String> {
    let rule = RULES.iter().find(|rule| rule.scenario == scenario)?;
    let given = duration.as_secs();
    let sure = rule.sure_seconds();
    if given >= sure {
        return None;
    }
    let verdict = if rule.seen_seconds_max(given) <= rule.for_seconds { "cannot" } else { "may not" };
    let needs = match rule.range_seconds {
        0 => format!("its rule must hold for {} s", rule.for_seconds),
        range => {
            let both = range + rule.for_seconds;
            format!(
                "its rule looks back {range} s and must hold for {} s, {both} s together (range + for)",
                rule.for_seconds
            )
        }
    };
    let alert = rule.alert;
    Some(format!(
        "{alert} {verdict} fire within {given} s: {needs}, and scrapes and evaluations take their time; \
         {sure} s are enough, or no duration at all (with the shipped Prometheus settings)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped rules are the truth; this table only repeats what it needs of them.
    #[test]
    fn the_table_agrees_with_the_shipped_rules() {
        let shipped = include_str!("../../../../monitoring/rules.yml");
        for rule in &RULES {
            let (_, text) = shipped.split_once(&format!("- alert: {}\n", rule.alert)).expect(rule.alert);
            let text = text.split("- alert: ").next().unwrap();
            let value = |key: &str| {
                let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default();
                line.trim().to_owned()
            };
            let minutes = |text: &str| text.strip_suffix('m').unwrap().parse::<u64>().unwrap() * 60;
            assert_eq!(minutes(&value("for:")), rule.for_seconds, "for of {}", rule.alert);
            let expression = value("expr:");
            let range =
                expression.split_once('[').map(|(_, rest)| rest.split(']').next().unwrap().to_owned());
            assert_eq!(
                range.map_or(0, |range| minutes(&range)),
                rule.range_seconds,
                "range of {}",
                rule.alert
            );
        }
        let settings = include_str!("../../../../monitoring/prometheus.yml");
        assert!(settings.contains(&format!("scrape_interval: {SCRAPE_SECONDS}s")));
        assert!(settings.contains(&format!("evaluation_interval: {EVALUATION_SECONDS}s")));
    }

    #[test]
    fn the_seconds_of_the_menu() {
        let verdict = |scenario: &str, seconds: u64| {
            let told = too_short(scenario, Duration::from_secs(seconds)).unwrap_or_default();
            ["cannot", "may not"].into_iter().find(|word| told.contains(word)).unwrap_or("fires")
        };
        let cases = [
            ("database_timeout", 60, "cannot"),
            ("memory_leak", 120, "may not"),
            ("high_cpu", 90, "cannot"),
            ("api_503", 90, "fires"),
            ("disk_full", 60, "may not"),
            ("certificate_expiry", 120, "fires"),
            ("kafka_lag", 90, "fires"),
            ("postgres_connections", 90, "fires"),
            ("database_timeout", 100, "may not"),
            ("database_timeout", 180, "fires"),
            ("kafka_lag", 30, "cannot"),
            ("unheard_of", 1, "fires"),
        ];
        for (scenario, seconds, expected) in cases {
            assert_eq!(verdict(scenario, seconds), expected, "{scenario} for {seconds} s");
        }
    }
}
