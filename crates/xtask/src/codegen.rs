//! `cargo xtask codegen`: files that stand in two places are made from one template.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::monitoring::{Place, SHIPPED, TOKEN_COMMENT};
use crate::workspace;

/// Flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if a file is not as it would be written
    #[arg(long)]
    check: bool,
}

/// Writes the files, or checks them.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    let mut stale = Vec::new();
    for (file, text) in files()? {
        let path = root.join(file);
        if fs::read_to_string(&path).ok().as_deref() == Some(text.as_str()) {
            continue;
        }
        if args.check {
            stale.push(file);
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {file}"))?;
            println!("wrote {file}");
        }
    }
    if stale.is_empty() {
        println!("generated files are up to date");
        return Ok(());
    }
    bail!("not as their templates say: {}; run `cargo xtask codegen`", stale.join(", "));
}

/// Every generated file and its content.
fn files() -> Result<Vec<(&'static str, String)>> {
    let (local, compose) = (local(), compose());
    Ok(vec![
        ("monitoring/prometheus.yml", local.prometheus_yml()?),
        ("monitoring/alertmanager.yml", local.alertmanager_yml()?),
        ("deploy/prometheus.yml", compose.prometheus_yml()?),
        ("deploy/alertmanager.yml", compose.alertmanager_yml()?),
    ])
}

/// Everything on one machine, on the default ports.
fn local() -> Place {
    let lines = |program: &str, port: u16| {
        format!(
            "# Start it on its default port, {port}:\n#   {program} --config.file=monitoring/{program}.yml"
        )
    };
    Place {
        prometheus_start: lines("prometheus", 9090),
        alertmanager_start: lines("alertmanager", 9093),
        prometheus: "127.0.0.1:9090".to_owned(),
        alertmanager: "127.0.0.1:9093".to_owned(),
        coordinator: "127.0.0.1:5000".to_owned(),
        exporters: ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"].map(str::to_owned),
        pace: SHIPPED,
        webhook_token: TOKEN_COMMENT,
    }
}

/// The services of deploy/docker-compose.yml, by their names there.
fn compose() -> Place {
    let note = "# For the services of docker-compose.yml.".to_owned();
    Place {
        prometheus_start: note.clone(),
        alertmanager_start: note,
        prometheus: "127.0.0.1:9090".to_owned(),
        alertmanager: "alertmanager:9093".to_owned(),
        coordinator: "coordinator:5000".to_owned(),
        exporters: ["simulator:8000", "simulator:8001", "simulator:8002"].map(str::to_owned),
        pace: SHIPPED,
        webhook_token: "        http_config:\n          authorization:\n            type: Bearer\n            credentials_file: /run/secrets/webhook_token",
    }
}
