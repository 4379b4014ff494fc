//! Runs the simulator until it is told to stop.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use quell_simulator::settings::Settings;
use quell_simulator::{Clock, start};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(help_or_error) => {
            let _ = help_or_error.print();
            return ExitCode::from(u8::try_from(help_or_error.exit_code()).unwrap_or(2));
        }
    };
    if let Err(error) = settings.init_logging() {
        let _ = clap::Error::raw(clap::error::ErrorKind::InvalidValue, format!("{error}\n")).print();
        return ExitCode::from(2);
    }
    quell_service::listen::raise_open_files();
    run(settings).await.unwrap_or_else(|error| {
        tracing::error!(%error, "simulator did not start");
        ExitCode::FAILURE
    })
}

async fn run(settings: Settings) -> Result<ExitCode, Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let handle = start(settings.into_config(system_clock())).await?;
    for (address, serves) in
        handle.addresses().into_iter().zip(["database, control", "application", "gateway"])
    {
        tracing::info!(%address, serves, "listening");
    }
    either(&mut interrupt, &mut terminate).await;
    tracing::info!("stopping");
    // A second signal does not wait for requests under way.
    tokio::select! {
        () = handle.stop() => Ok(ExitCode::SUCCESS),
        () = either(&mut interrupt, &mut terminate) => Ok(ExitCode::from(130)),
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock; everything else is given it"
)]
fn system_clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}
