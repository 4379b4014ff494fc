//! `quell selftest crash`: the real programs in a temporary folder, under load, killed at random instants and started again; then what
//! was lost, doubled, stuck or done twice is counted.

mod aim;
mod database;
mod load;
mod round;
mod site;
mod tally;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{CrashArgs, SelftestCommand, StoreKind};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::Page;
use site::Site;
use tally::Tally;

/// Runs a self-test, which uses nothing of the site that the other commands speak to.
pub(crate) async fn run(context: &mut Context<'_>, command: SelftestCommand) -> Result<()> {
    match command {
        SelftestCommand::Crash(args) => {
            let failed = |error: std::io::Error| Failure::failed(format!("no signals: {error}"));
            let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
            let over = "interrupted; everything that was started is ended";
            // What was started is killed when the other side is dropped.
            tokio::select! {
                done = crash(context, &args) => done,
                _ = tokio::signal::ctrl_c() => Err(Failure::failed(over)),
                _ = terminated.recv() => Err(Failure::failed(over)),
            }
        }
    }
}

async fn crash(context: &mut Context<'_>, args: &CrashArgs) -> Result<()> {
    if args.coordinators > 1 && args.store != StoreKind::Postgres {
        return Err(Failure::usage("the embedded store belongs to one coordinator")
            .next("several need --store postgres"));
    }
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let mut random = StdRng::seed_from_u64(seed);
    let mut site = Site::start(args).await?;
    let folder = site.folder().display().to_string();
    context.output.note(format!("seed {seed}, in {folder}"))?;
    let mut tally = Tally::default();
    for number in 1..=args.rounds {
        let clock = context.clock;
        let done = round::run(&mut site, number, &mut random, clock, &mut tally).await;
        let told = match done {
            Ok(told) => told,
            Err(failure) => {
                site.keep();
                return Err(failure.next(format!("replay with --seed {seed}; the logs are in {folder}")));
            }
        };
        context.output.note(format!("round {number} of {}: {told}", args.rounds))?;
    }
    let is_sound = tally.is_sound();
    if args.keep || !is_sound {
        site.keep();
    }
    if context.output.is_json() {
        let mut document = tally.to_json();
        document["seed"] = json!(seed);
        document["rounds"] = json!(args.rounds);
        document["store"] = json!(args.store.to_string());
        document["coordinators"] = json!(args.coordinators);
        context.output.json(&document)?;
    } else {
        let mut page = Page::default();
        for (name, value) in tally.rows() {
            page.line(format!("{name:<26} {value:>8}"));
        }
        context.output.page(crate::output::Stream::Out, &page)?;
    }
    if is_sound {
        return Ok(());
    }
    let mut failure = Failure::failed("something was lost, doubled, stuck or done twice")
        .next(format!("replay with --seed {seed}; the logs are in {folder}"));
    for finding in tally.findings() {
        failure = failure.and_next(finding);
    }
    Err(failure)
}
