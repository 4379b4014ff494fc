//! Alerts that are of the alerting itself: those that fire while all is well, and those that hold others back.

/// What an alert's name says of the alerting itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfAlerting {
    /// A dead man's switch: nothing else is called so, whatever its severity is. It fires while all is well, and its silence is the news.
    DeadMansSwitch,
    /// A word for the same that other things are called too, such as `Watchdog`.
    Watchdog,
    /// An inhibitor, such as that of kube-prometheus. It fires beside alerts to hold them back, so it says nothing of how all is.
    Inhibitor,
}

/// Names of switches, without separators: a name that ends so is one of them.
const SWITCHES: [&str; 7] = [
    "deadmansswitch",
    "deadmanswitch",
    "deadmansnitch",
    "deadmanssnitch",
    "deadmansignal",
    "deadmanssignal",
    "deadman",
];
const WATCHDOGS: [&str; 5] = ["watchdog", "watchdogs", "heartbeat", "heartbeats", "alwaysfiring"];
/// Words behind such a name that add nothing to it: where it is from, and that it is an alert.
const ADDITIONS: [&str; 13] = [
    "alert",
    "rule",
    "signal",
    "ping",
    "e2e",
    "test",
    "prod",
    "production",
    "staging",
    "stage",
    "dev",
    "development",
    "cluster",
];
/// Words that make it the news that a watchdog, a heartbeat or an inhibition is not there or does not work.
const FAILINGS: [&str; 32] = [
    "no",
    "not",
    "non",
    "never",
    "without",
    "missing",
    "missed",
    "misses",
    "miss",
    "failed",
    "failing",
    "fails",
    "fail",
    "failure",
    "failures",
    "error",
    "errors",
    "lost",
    "loss",
    "absent",
    "down",
    "late",
    "delayed",
    "stale",
    "old",
    "off",
    "disabled",
    "expired",
    "timeout",
    "stopped",
    "gone",
    "unhealthy",
];

/// What an alert of this name is to the alerting itself; `None` for all others. The news that a watchdog is missing is an alert of its
/// own, whose name says that before or after.
pub fn of_alerting(alert_name: &str) -> Option<OfAlerting> {
    let mut words = words(alert_name);
    if words.iter().any(|word| FAILINGS.contains(&word.as_str())) {
        return None;
    }
    if words.first().is_some_and(|word| word == "inhibition") {
        return Some(OfAlerting::Inhibitor);
    }
    loop {
        let name = words.concat();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let ends = |names: &[&str]| names.iter().any(|known| name.ends_with(known));
        if ends(&SWITCHES) {
            return Some(OfAlerting::DeadMansSwitch);
        }
        if ends(&WATCHDOGS) {
            return Some(OfAlerting::Watchdog);
        }
        if ends(&["inhibitor"]) {
            return Some(OfAlerting::Inhibitor);
        }
        let last = words.pop()?;
        if !ADDITIONS.contains(&last.as_str()) && !last.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
}

/// Whether a name says that something is missing or does not work.
pub(crate) fn tells_of_failure(alert_name: &str) -> bool {
    words(alert_name).iter().any(|word| FAILINGS.contains(&word.as_str()))
}

/// The words of a name, in lower case: `NodeLostHeartbeat` and `node-lost_heartbeat` are the same three. An apostrophe parts none.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let letters: Vec<char> = name.chars().filter(|c| !matches!(c, '\'' | '’')).collect();
    let mut begins = true;
    for (at, letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            begins = true;
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let after_small = before.is_some_and(|before| before.is_lowercase());
        let before_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let is_new = letter.is_uppercase()
            && (after_small || (before_small && before.is_some_and(|before| before.is_uppercase())));
        if begins || is_new {
            words.push(String::new());
        }
        begins = false;
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_of_the_alerting_and_its_absence_is_not() {
        for (names, expected) in [
            (
                "Watchdog, watch-dog, Heartbeat, AlwaysFiring, always_firing, MyWatchdog, prod-watchdog, \
                 WatchdogAlert, Watchdog-prod, Watchdog2, PrometheusHeartbeat, alertmanager_heartbeat",
                OfAlerting::Watchdog,
            ),
            (
                "DeadMansSwitch, PrometheusAlertmanagerE2eDeadManSwitch, PrometheusAlertmanagerE2EDeadManSwitch, \
                 dead-mans-switch, DeadMan, Dead Man's Switch, DEADMANSSWITCH, DeadMansSwitchAlert, \
                 MonitoringDeadMansSnitch",
                OfAlerting::DeadMansSwitch,
            ),
            (
                "InfoInhibitor, NamespaceInhibitor, maintenance_inhibitor, QuietInhibitor2, \
                 InhibitionOutsideWorkingHours",
                OfAlerting::Inhibitor,
            ),
        ] {
            for name in names.split(", ") {
                assert_eq!(of_alerting(name), Some(expected), "{name}");
            }
        }
        for name in [
            "WatchdogMissing",
            "MissingWatchdog",
            "KubeletWatchdogFailed",
            "DeadMansSwitchFailed",
            "NoDeadMansSwitch",
            "HeartbeatLost",
            "HeartbeatMissing",
            "MissedHeartbeat",
            "NodeLostHeartbeat",
            "no_heartbeat",
            "PatroniWatchdogOff",
            "WatchdogReset",
            "InhibitorFailed",
            "InhibitionFailed",
            "SqlAlwaysOnUnhealthy",
            "X",
            "",
        ] {
            assert_eq!(of_alerting(name), None, "{name}");
        }
    }
}
