//! `quell-resolution`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use quell_resolution::{Setup, StartError};
use quell_service::config::parse_listen;
use quell_service::{ArgsCommon, Daemon, Environment, FaultPoints, SystemClock, SystemIds, run_daemon};

/// The resolution agent: plans, executes, undoes and verifies remediation, and is the only process with power over the site
#[derive(Parser)]
#[command(name = "quell-resolution", version)]
struct Args {
    #[command(flatten)]
    common: ArgsCommon,
    /// Address to listen on, such as 127.0.0.1:50053
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    listen: Option<std::net::SocketAddr>,
    /// Folder of the ledger
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<std::path::PathBuf>,
}

/// For `--check`: what a start would refuse, and what it would say.
#[allow(clippy::print_stderr, reason = "this is what `--check` is for")]
fn check(config: &quell_service::Config) -> Result<(), StartError> {
    quell_resolution::check(config)?;
    for notice in quell_resolution::notices(config)? {
        eprintln!("note: {notice}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let Args { common, listen, data_dir } = Args::parse();
    let flags = move |config: &mut quell_service::Config| {
        if let Some(listen) = listen {
            config.resolution.listen = listen;
        }
        if let Some(data_dir) = &data_dir {
            config.resolution.data_dir = Some(data_dir.clone());
        }
    };
    let start = |config| {
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(SystemIds::new(clock.clone()));
        quell_resolution::start(Setup { config, clock, ids, faults: FaultPoints::disabled() })
    };
    let environment = Environment::of_process();
    run_daemon(Daemon::Resolution, env!("CARGO_PKG_VERSION"), &common, environment, flags, check, start)
}
