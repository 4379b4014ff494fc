//! The command line of Quell.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    quell_cli::run(std::env::args_os()).await
}
