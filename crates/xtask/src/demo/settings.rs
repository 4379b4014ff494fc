//! The `quell.yaml` of a demonstration.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

/// Where everything of a demonstration is.
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) diagnostic: SocketAddr,
    pub(crate) resolution: SocketAddr,
    /// Control, application, gateway.
    pub(crate) simulator: [SocketAddr; 3],
    /// Prometheus and Alertmanager, where they are real.
    pub(crate) monitoring: Option<(SocketAddr, SocketAddr)>,
}

/// Execution is switched on and every plan needs a person's approval; the times of the workflow are short, and everything else is as
/// it ships.
pub(crate) fn quell_yaml(addresses: &Addresses, folder: &Path) -> String {
    let Addresses { http, grpc, diagnostic, resolution, simulator, monitoring } = addresses;
    let quoted = |path: &Path| json!(path).to_string();
    let pages: Vec<_> =
        simulator.iter().map(|address| json!(format!("http://{address}/metrics")).to_string()).collect();
    let (sources, delay, log_files) = match monitoring {
        Some((prometheus, alertmanager)) => (
            format!(
                "use_real_data: true\ninfrastructure:\n  monitoring:\n    prometheus:\n      url: \"http://{prometheus}\"\n      \
                 alert_manager_url: \"http://{alertmanager}\"\n"
            ),
            "3s",
            format!("  log_files: [{}]\n", quoted(&folder.join(super::site::SIMULATOR_LOG_LINES))),
        ),
        None => ("use_real_data: false\n".to_owned(), "1s", String::new()),
    };
    format!(
        r#"# Made by `cargo xtask demo`.
{sources}agents:
  resolution:
    execute_real_commands: true
    require_approval: true
    dry_run: false
simulator:
  url: "http://{control}"
  metrics_urls: [{pages}]
coordinator:
  listen: "{http}"
  grpc_listen: "{grpc}"
  data_dir: {coordinator_data}
  diagnostic_url: "http://{diagnostic}"
  resolution_url: "http://{resolution}"
  autonomy: approve
  # Short, so that it can be watched; the defaults are in the documentation.
  workflow:
    settle: 500ms
    verify_interval: 500ms
    quiet_before_close: 1s
    hold_look_again: 500ms
    check_patience: 15s
    alert_pipeline_delay: {delay}
    verification_grace: 60s
    agent_backoff: 500ms
diagnostic:
  listen: "{diagnostic}"
  scrape_interval: 250ms
{log_files}resolution:
  listen: "{resolution}"
  data_dir: {resolution_data}
"#,
        control = simulator[0],
        pages = pages.join(", "),
        coordinator_data = quoted(&folder.join("coordinator")),
        resolution_data = quoted(&folder.join("resolution")),
    )
}
