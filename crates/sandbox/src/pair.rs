//! A real Prometheus and a real Alertmanager on free loopback ports, with the files of `monitoring/` made faster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quell_child::{Manner, Process, find, free_addresses};
use serde_json::Value;

use crate::SandboxError;
use crate::ask::{Asking, until};

const PROMETHEUS: &str = include_str!("../../../monitoring/prometheus.yml");
const ALERTMANAGER: &str = include_str!("../../../monitoring/alertmanager.yml");
const RULES: &str = include_str!("../../../monitoring/rules.yml");

/// How long both may take until they are ready; Prometheus alone waits five seconds before it scrapes anything.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often every exporter has been scraped by then: a diagnosis compares with the time before a fault.
const SCRAPES_BEFORE: f64 = 8.0;

/// Where the two programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub(crate) prometheus: PathBuf,
    pub(crate) alertmanager: PathBuf,
}

/// The path of a second Alertmanager, of another version than the one in the PATH; `cargo xtask test` sets it.
pub const ANOTHER_ALERTMANAGER: &str = "QUELL_ALERTMANAGER_NEWER";

impl Programs {
    /// One for each version of Alertmanager that is there, the one in the PATH first. Empty without any, or without a Prometheus.
    pub fn alertmanagers() -> Vec<Self> {
        let Ok(first) = Self::find() else { return Vec::new() };
        #[allow(clippy::disallowed_methods, reason = "where test programs are is told by the environment")]
        let another = std::env::var_os(ANOTHER_ALERTMANAGER).map(PathBuf::from).filter(|path| path.is_file());
        let another = another.map(|alertmanager| Self { alertmanager, ..first.clone() });
        std::iter::once(first).chain(another).collect()
    }

    /// Where Alertmanager is.
    pub fn alertmanager(&self) -> &Path {
        &self.alertmanager
    }

    /// Looks for them where programs are.
    ///
    /// # Errors
    /// The names of what is missing, for people.
    pub fn find() -> Result<Self, String> {
        // Debian puts a prefix before Alertmanager's name.
        let alertmanager = find("prometheus-alertmanager").or_else(|| find("alertmanager"));
        match (find("prometheus"), alertmanager) {
            (Some(prometheus), Some(alertmanager)) => Ok(Self { prometheus, alertmanager }),
            (prometheus, alertmanager) => {
                let missing = [
                    prometheus.is_none().then_some("no `prometheus`"),
                    alertmanager.is_none().then_some("neither `prometheus-alertmanager` nor `alertmanager`"),
                ];
                Err(format!(
                    "{} in the PATH",
                    missing.into_iter().flatten().collect::<Vec<_>>().join(" and ")
                ))
            }
        }
    }
}

/// An exporter beside the simulator's, with rules of its own.
#[derive(Clone, Debug)]
pub struct Also {
    /// What Prometheus scrapes as well.
    pub exporter: SocketAddr,
    /// The entries of one more rule group, as YAML under `rules:`.
    pub rules: String,
}

/// Both, running. Dropping it kills them.
pub struct Pair {
    prometheus: SocketAddr,
    alertmanager: SocketAddr,
    _processes: [Process; 2],
}

impl Pair {
    /// Starts both with their data in `folder`: Prometheus scrapes these exporters (database, application, gateway) and what is to be
    /// scraped also, and Alertmanager sends its webhooks to this address. Waits until both are ready and the exporters have been scraped a few times.
    ///
    /// # Errors
    /// [`SandboxError`], with the last words of the one that did not come up.
    pub async fn start(
        programs: &Programs,
        folder: &Path,
        exporters: [SocketAddr; 3],
        also: Option<&Also>,
        webhook_url: &str,
    ) -> Result<Self, SandboxError> {
        let ground = |error: std::io::Error| SandboxError::Ground(error.to_string());
        let folder = folder.join("pair");
        std::fs::create_dir_all(&folder).map_err(ground)?;
        let [prometheus, alertmanager] = free_addresses()?;
        let mut scraped = prometheus_file(prometheus, alertmanager, exporters)?;
        let mut rules = rules_file()?;
        if let Some(Also { exporter, rules: more }) = also {
            let target = format!("static_configs: [{{targets: [\"{exporter}\"]}}]");
            scraped.push_str(&format!("\n  - job_name: also\n    honor_labels: true\n    {target}\n"));
            rules.push_str(&format!("\n  - name: also\n    interval: 500ms\n    rules:\n{more}\n"));
        }
        for (file, text) in [
            ("prometheus.yml", scraped),
            ("alertmanager.yml", alertmanager_file(webhook_url)?),
            ("rules.yml", rules),
        ] {
            std::fs::write(folder.join(file), text).map_err(ground)?;
        }
        let mut processes = [
            Process::start(
                "alertmanager",
                &programs.alertmanager,
                &[
                    "--config.file=alertmanager.yml".to_owned(),
                    "--storage.path=alertmanager-data".to_owned(),
                    format!("--web.listen-address={alertmanager}"),
                    // Empty: no gossip with other Alertmanagers.
                    "--cluster.listen-address=".to_owned(),
                ],
                &folder,
                Manner::default(),
            )?,
            Process::start(
                "prometheus",
                &programs.prometheus,
                &[
                    "--config.file=prometheus.yml".to_owned(),
                    "--storage.tsdb.path=prometheus-data".to_owned(),
                    format!("--web.listen-address={prometheus}"),
                ],
                &folder,
                Manner::default(),
            )?,
        ];
        let asking = Asking::new()?;
        let query = "query=min(sum_over_time(up[1m]))";
        for (process, url) in processes.iter_mut().zip([
            format!("http://{alertmanager}/-/ready"),
            format!("http://{prometheus}/api/v1/query?{query}"),
        ]) {
            let ready = async || {
                let answer = asking.text(&url).await.map_err(|error| error.to_string())?;
                let enough = !url.ends_with(query) || scrapes(&answer) >= SCRAPES_BEFORE;
                if enough { Ok(()) } else { Err(answer) }
            };
            until(&url, READY_WITHIN, ready)
                .await
                .map_err(|error| SandboxError::Ground(format!("{error}\n{}", process.last_words())))?;
        }
        Ok(Self { prometheus, alertmanager, _processes: processes })
    }

    /// Where Prometheus is.
    pub fn prometheus(&self) -> SocketAddr {
        self.prometheus
    }

    /// Where Alertmanager is.
    pub fn alertmanager(&self) -> SocketAddr {
        self.alertmanager
    }
}

/// The one number of an instant query's answer.
fn scrapes(answer: &str) -> f64 {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let value = answer["data"]["result"][0]["value"][1].as_str();
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

fn prometheus_file(
    prometheus: SocketAddr,
    alertmanager: SocketAddr,
    exporters: [SocketAddr; 3],
) -> Result<String, SandboxError> {
    let [database, application, gateway] = exporters.map(|address| format!("\"{address}\""));
    let replacements = [
        ("scrape_interval: 10s", "scrape_interval: 500ms".to_owned()),
        ("evaluation_interval: 15s", "evaluation_interval: 500ms".to_owned()),
        ("\"127.0.0.1:9090\"", format!("\"{prometheus}\"")),
        ("\"127.0.0.1:9093\"", format!("\"{alertmanager}\"")),
        ("\"127.0.0.1:8000\"", database),
        ("\"127.0.0.1:8001\"", application),
        ("\"127.0.0.1:8002\"", gateway),
    ];
    replaced("prometheus.yml", PROMETHEUS, &replacements)
}

fn alertmanager_file(webhook_url: &str) -> Result<String, SandboxError> {
    let replacements = [
        ("group_wait: 10s", "group_wait: 100ms".to_owned()),
        ("group_interval: 10s", "group_interval: 500ms".to_owned()),
        ("http://127.0.0.1:5000/webhooks/alertmanager", webhook_url.to_owned()),
    ];
    replaced("alertmanager.yml", ALERTMANAGER, &replacements)
}

fn rules_file() -> Result<String, SandboxError> {
    let replacements = [
        ("interval: 15s", "interval: 500ms".to_owned()),
        // Long enough that a busy machine, on which the world stands still for a second, ends no alert.
        ("[1m]", "[8s]".to_owned()),
        ("for: 1m", "for: 1s".to_owned()),
        ("for: 2m", "for: 1s".to_owned()),
    ];
    replaced("rules.yml", RULES, &replacements)
}

/// Everything that is replaced has to be there: a file that changed its shape is noticed instead of being slow.
fn replaced(file: &str, text: &str, replacements: &[(&str, String)]) -> Result<String, SandboxError> {
    let mut text = text.to_owned();
    for (shipped, instead) in replacements {
        if !text.contains(shipped) {
            return Err(SandboxError::Ground(format!("monitoring/{file} has no `{shipped}` to replace")));
        }
        text = text.replace(shipped, instead);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_slow_and_every_fixed_address_is_replaced() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let prometheus = prometheus_file(at(1), at(2), [at(3), at(4), at(5)]).unwrap();
        let alertmanager = alertmanager_file("http://127.0.0.1:6/").unwrap();
        let rules = rules_file().unwrap();
        let settings = |text: &str| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        for line in [prometheus, alertmanager, rules].iter().flat_map(|text| settings(text)) {
            let slow = ["5m]", "1m]", "10s", "15s", "1m", "2m", ":9090\"", ":9093", ":800", ":5000"];
            // Alertmanager's own fallbacks, which nothing here waits for.
            let unused = line.starts_with("resolve_timeout") || line.starts_with("repeat_interval");
            assert!(unused || !slow.iter().any(|slow| line.contains(slow)), "{line}");
        }
    }

    #[test]
    fn a_file_of_another_shape_is_noticed() {
        let error = replaced("rules.yml", "for: 3m", &[("for: 1m", String::new())]).unwrap_err();
        assert!(error.to_string().contains("monitoring/rules.yml has no `for: 1m`"), "{error}");
    }
}
