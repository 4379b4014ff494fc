//! The command line and environment of the `quell-simulator` binary.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::EnvFilter;

use crate::{AlertsConfig, Clock, Config};

const EXAMPLES: &str = "\
Examples:
  quell-simulator
      Serve metrics on 127.0.0.1:8000, 8001 and 8002, and the control interface on 8000.
  curl -X POST -d '{\"duration\": 120}' http://127.0.0.1:8000/trigger/memory_leak
      Break something for two minutes. Without a body it lasts until it is healed.
  curl -X POST http://127.0.0.1:8000/targets/order_service/restart
      Heal it.
  quell-simulator --tick 200ms --alerts http://127.0.0.1:5000/webhooks/alertmanager --alerts-for 2s --alerts-interval 500ms
      A fast world that raises its alerts itself, without Prometheus and Alertmanager.
  SIMULATOR_TOKEN=... quell-simulator --listen 0.0.0.0
      Reachable from elsewhere; control requests need the token, scrapes do not.";

/// A small fake infrastructure with faults to trigger, which heals only by the right action.
#[derive(Debug, Parser)]
#[command(name = "quell-simulator", version, after_help = EXAMPLES)]
pub struct Settings {
    /// Address to listen on; one that is not loopback needs --token
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// First of three consecutive ports; 0 takes three free ones
    #[arg(long, env = "METRICS_PORT", default_value_t = 8000)]
    metrics_port: u16,
    /// How often the world moves, 10ms to 5m
    #[arg(long, env = "SIMULATOR_TICK", default_value = "5s", value_parser = duration)]
    tick: Duration,
    /// Makes the world's randomness repeatable
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Bearer token that control requests must carry
    #[arg(long, env = "SIMULATOR_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<SecretString>,
    /// Name by which it is called, beside localhost and IP addresses; several with commas
    #[arg(long = "allowed-host", env = "SIMULATOR_ALLOWED_HOSTS", value_name = "NAME", value_delimiter = ',', value_parser = quell_web::host_name)]
    allowed_hosts: Vec<String>,
    /// Append the log lines of the world to this file, as JSON lines
    #[arg(long, value_name = "PATH")]
    log_file: Option<PathBuf>,
    /// Write the bound addresses to this file, as JSON, when listening
    #[arg(long, value_name = "PATH")]
    address_file: Option<PathBuf>,
    /// How long an operation takes, half of it before its effect and half after; at most 5s
    #[arg(long, default_value = "0s", value_parser = duration)]
    operation_time: Duration,
    /// Post Alertmanager webhooks to this address
    #[arg(long, value_name = "URL")]
    alerts: Option<String>,
    /// Bearer token for --alerts
    #[arg(long, env = "SIMULATOR_ALERTS_TOKEN", hide_env_values = true, value_parser = secret)]
    alerts_token: Option<SecretString>,
    /// How long a threshold must hold before its alert fires
    #[arg(long, default_value = "60s", value_parser = duration)]
    alerts_for: Duration,
    /// Time between two evaluations
    #[arg(long, default_value = "15s", value_parser = duration)]
    alerts_interval: Duration,
    /// Time after which a firing alert is posted again
    #[arg(long, default_value = "12h", value_parser = duration)]
    alerts_repeat: Duration,
    /// What to log: a level, or directives such as quell_simulator=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

impl Settings {
    /// The configuration that these settings mean. An empty token is no token.
    #[must_use]
    pub fn into_config(self, clock: Clock) -> Config {
        let alerts = self.alerts.map(|url| AlertsConfig {
            url,
            token: present(self.alerts_token),
            hold: self.alerts_for,
            interval: self.alerts_interval,
            repeat: self.alerts_repeat,
        });
        Config {
            listen: self.listen,
            metrics_port: self.metrics_port,
            tick: self.tick,
            seed: self.seed,
            token: present(self.token),
            allowed_hosts: self.allowed_hosts,
            log_file: self.log_file,
            address_file: self.address_file,
            operation_time: self.operation_time,
            alerts,
            clock,
        }
    }

    /// Sends log lines to standard error: for people on a terminal, as JSON otherwise.
    ///
    /// # Errors
    ///
    /// When the filter of `--log` cannot be understood, or logging was set up before.
    pub fn init_logging(&self) -> Result<(), String> {
        let filter = EnvFilter::try_new(&self.log).map_err(|error| format!("--log (RUST_LOG): {error}"))?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let result = if std::io::stderr().is_terminal() {
            lines.try_init()
        } else {
            // The same shape as the daemons' log has, so that one reader does for all.
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        };
        result.map_err(|error| error.to_string())
    }
}

fn present(token: Option<SecretString>) -> Option<SecretString> {
    token.filter(|token| !token.expose_secret().is_empty())
}

// clap asks value parsers for a result, and wants an error type that displays.
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|error: jiff::Error| format!("{error}; write it like 200ms or 5s"))?;
    Duration::try_from(parsed).map_err(|_| "it must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let settings = Settings::try_parse_from(["quell-simulator"].iter().chain(arguments)).unwrap();
        settings.into_config(Arc::new(|| jiff::Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn durations_are_friendly() {
        let cases =
            [("200ms", Some(200)), ("5s", Some(5_000)), ("1m 30s", Some(90_000)), ("12h", Some(43_200_000))];
        for (text, milliseconds) in cases.into_iter().chain([("5", None), ("-5s", None), ("soon", None)]) {
            assert_eq!(duration(text).ok(), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn an_empty_token_protects_nothing_and_counts_as_none() {
        assert!(config(&["--token", ""]).token.is_none());
        assert!(config(&["--token", "x"]).token.is_some());
    }

    #[test]
    fn alert_settings_need_an_address() {
        assert!(config(&["--alerts-for", "2s"]).alerts.is_none());
        let alerts = config(&["--alerts", "http://127.0.0.1:5000/", "--alerts-for", "2s"]).alerts.unwrap();
        assert_eq!((alerts.hold, alerts.interval), (Duration::from_secs(2), Duration::from_secs(15)));
    }
}
