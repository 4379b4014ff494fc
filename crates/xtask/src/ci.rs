//! `cargo xtask ci`: what has to hold before a change is taken in.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{deny, test, workspace};

/// A part of the run, in the order in which they are most useful to know.
struct Stage {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

/// Runs every stage, also after one failed, and ends with how long each took and the count of tests.
pub(crate) fn run() -> Result<()> {
    let mut stages = Vec::new();
    let (mut summary, mut skipped) = (None, None);
    stage(&mut stages, "fmt", || succeed(workspace::cargo(["fmt", "--all", "--check"])));
    stage(&mut stages, "clippy", || {
        succeed(workspace::cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))
    });
    // With the features of clippy, so that the dependencies are not checked twice.
    stage(&mut stages, "doc", || {
        let mut command = workspace::cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
        command.env("RUSTDOCFLAGS", "-D warnings");
        succeed(command)
    });
    stage(&mut stages, "codegen", || succeed(task(&["codegen", "--check"])));
    stage(&mut stages, "check-deps", || succeed(task(&["check-deps"])));
    stage(&mut stages, "deny", || {
        skipped = deny::run()?;
        Ok(())
    });
    stage(&mut stages, "test", || {
        let found = test::run_all(&test::Args::default())?;
        found.print();
        let checked = found.check();
        summary = Some(found);
        checked
    });
    stage(&mut stages, "demo", || succeed(task(&["demo", "--yes", "--scenario", "all", "--json"])));
    stage(&mut stages, "demo --real", || succeed(task(&["demo", "--yes", "--real", "--json"])));
    stage(&mut stages, "attack", || succeed(task(&["attack", "--show-times"])));

    println!();
    for stage in &stages {
        let end = stage.error.as_deref().unwrap_or("ok");
        println!("{:<12} {:>6.0} s  {end}", stage.name, stage.took.as_secs_f64());
    }
    let total: Duration = stages.iter().map(|stage| stage.took).sum();
    println!("{:<12} {:>6.0} s", "all", total.as_secs_f64());
    let failed = stages.iter().filter(|stage| stage.error.is_some()).count();
    if let (Some(summary), Some(reason)) = (&mut summary, skipped) {
        summary.skip(reason);
    }
    match &summary {
        Some(summary) => summary.print(),
        None => println!("0 passed, 0 failed: the tests did not run"),
    }
    if failed > 0 {
        bail!("{failed} of {} stages failed", stages.len());
    }
    Ok(())
}

fn stage(stages: &mut Vec<Stage>, name: &'static str, work: impl FnOnce() -> Result<()>) {
    println!("\n== {name}");
    let started = Instant::now();
    let done = work();
    let error = done.err().map(|error| format!("{error:#}"));
    println!("== {name}: {}", error.as_deref().unwrap_or("ok"));
    stages.push(Stage { name, took: started.elapsed(), error });
}

/// Another task, as people run it. Not by this program's own file, which the tests may have built anew.
fn task(arguments: &[&str]) -> Command {
    workspace::cargo(["xtask"].into_iter().chain(arguments.iter().copied()))
}

fn succeed(mut command: Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("{} cannot be run", command.get_program().display()))?;
    ensure!(status.success(), "failed with {status}");
    Ok(())
}
