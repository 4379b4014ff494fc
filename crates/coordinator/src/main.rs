//! `quell-coordinator`: takes alerts, opens incidents and sees them through.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use quell_coordinator::{Setup, check, print_public_key, start};
use quell_service::{
    ArgsCommon, Config, Daemon, Environment, FaultPoints, SystemClock, SystemIds, run_daemon,
};

/// Alerts are many small pieces that one thread makes and another gives back: the system's allocator is slow at that, and keeps what
/// a storm has taken. Of the others this one is built with a C compiler alone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "Examples:
  quell-coordinator                               with the defaults, on loopback
  quell-coordinator --config quell.yaml --check   is the configuration sound?
  WEBHOOK_PORT=5001 quell-coordinator --data-dir ./data";

/// Takes alerts, opens incidents and sees them through to a verified end
#[derive(Parser)]
#[command(name = "quell-coordinator", version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    common: ArgsCommon,
    /// Address of webhooks and API [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of A2A over gRPC [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Folder of the incidents; one coordinator at a time
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Print the public key by which the resolution agent knows this coordinator's permits, and end
    #[arg(long)]
    print_public_key: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let flags = |config: &mut Config| {
        let coordinator = &mut config.coordinator;
        coordinator.listen = args.listen.unwrap_or(coordinator.listen);
        coordinator.grpc_listen = args.grpc_listen.unwrap_or(coordinator.grpc_listen);
        if let Some(folder) = &args.data_dir {
            coordinator.data_dir = Some(folder.clone());
        }
    };
    if args.print_public_key {
        return print_public_key(args.common.config.clone(), Environment::of_process(), flags);
    }
    let start = |config| {
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(SystemIds::new(clock.clone()));
        start(Setup { config, clock, ids, faults: FaultPoints::disabled() })
    };
    run_daemon(
        Daemon::Coordinator,
        env!("CARGO_PKG_VERSION"),
        &args.common,
        Environment::of_process(),
        flags,
        check,
        start,
    )
}
