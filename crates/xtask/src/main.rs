//! `cargo xtask`: the tasks of this project, in Rust, so that they need nothing but cargo.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: printing is what it is for"
)]

mod attack;
mod bench;
mod check_deps;
mod child;
mod ci;
mod codegen;
mod demo;
mod deny;
mod http;
mod interrupt;
#[cfg(test)]
mod log_dumps;
mod monitoring;
mod soak;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of this project
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the whole loop on the simulator: from a fault to a verified, closed incident
    Demo(demo::Args),
    /// Run all tests, with the real components that can be had, and count what was skipped
    Test(test::Args),
    /// Everything that has to hold before a change is taken in
    Ci,
    /// Attack the programs with sockets, streams and bodies, and see who is answered meanwhile
    Attack(attack::Args),
    /// Simulated histories and kills for as long as one likes
    Soak(soak::Args),
    /// Write the files that are made from templates
    Codegen(codegen::Args),
    /// Check who depends on whom, licences, and the length of files
    CheckDeps,
    /// Check licences, duplicates and sources of what is depended on, with cargo-deny
    Deny,
    /// Measure how fast it is
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Ci => ci::run(),
        Task::Attack(args) => attack::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Codegen(args) => codegen::run(&args),
        Task::CheckDeps => check_deps::run(),
        Task::Deny => {
            deny::run().map(|skipped| skipped.into_iter().for_each(|reason| println!("skipped: {reason}")))
        }
        Task::Bench(bench) => bench::run(&bench),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("\x1b[1;31merror\x1b[0m: {error:#}");
            // What shells expect of a program that was interrupted.
            ExitCode::from(if error.is::<interrupt::Interrupted>() { 130 } else { 1 })
        }
    }
}
