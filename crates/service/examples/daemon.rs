//! The smallest daemon: the silhouette that every `main` of Quell has. It serves a metrics page until a signal ends it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use prometheus_client::registry::Registry;
use quell_service::http::{metrics_response, register_build_info};
use quell_service::{
    ArgsCommon, BindError, Config, Daemon, Environment, Handle, ServeReport, bind, run_daemon, serve,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: ArgsCommon,
    /// Address to listen on
    #[arg(long)]
    listen: Option<SocketAddr>,
}

struct Running {
    address: SocketAddr,
    server: tokio::task::JoinHandle<ServeReport>,
}

async fn start(config: Config) -> Result<Running, BindError> {
    let listener = bind(config.diagnostic.listen, "diagnostic.listen").await?;
    let address = listener.local_addr().unwrap_or(config.diagnostic.listen);
    let mut registry = Registry::default();
    register_build_info(&mut registry, "example", VERSION);
    let registry = Arc::new(registry);
    let router = Router::new().route("/metrics", get(move || async move { metrics_response(&registry) }));
    Ok(Running { address, server: tokio::spawn(serve(listener, router, std::future::pending())) })
}

impl Handle for Running {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("http", self.address)]
    }

    async fn reload(&mut self, _config: Config) -> Result<(), String> {
        Ok(())
    }

    async fn stop(self, _drain: Duration) {
        self.server.abort();
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let flags =
        |config: &mut Config| config.diagnostic.listen = args.listen.unwrap_or(config.diagnostic.listen);
    run_daemon(Daemon::Diagnostic, VERSION, &args.common, Environment::of_process(), flags, |_| Ok(()), start)
}
