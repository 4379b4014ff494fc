//! `quell-diagnostic`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use quell_diagnostic::Setup;
use quell_service::config::parse_listen;
use quell_service::{ArgsCommon, Daemon, Environment, SystemClock, SystemIds, run_daemon};

/// The diagnostic agent: looks at metrics and logs, changes nothing, and names the cause
#[derive(Parser)]
#[command(name = "quell-diagnostic", version)]
struct Args {
    #[command(flatten)]
    common: ArgsCommon,
    /// Address to listen on, such as 127.0.0.1:50052
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    listen: Option<std::net::SocketAddr>,
    /// Rules of one's own, beside and instead of the shipped ones
    #[arg(long, value_name = "FILE")]
    rules: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let Args { common, listen, rules } = Args::parse();
    let flags = move |config: &mut quell_service::Config| {
        if let Some(listen) = listen {
            config.diagnostic.listen = listen;
        }
        if let Some(rules) = &rules {
            config.diagnostic.rules_file = Some(rules.clone());
        }
    };
    let start = |config| {
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(SystemIds::new(clock.clone()));
        quell_diagnostic::start(Setup { config, clock, ids })
    };
    let environment = Environment::of_process();
    run_daemon(
        Daemon::Diagnostic,
        env!("CARGO_PKG_VERSION"),
        &common,
        environment,
        flags,
        quell_diagnostic::check,
        start,
    )
}
