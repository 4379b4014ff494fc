//! `cargo xtask attack`: what a hostile neighbour can do to the programs without a credential, on loopback, and how they answer
//! meanwhile. Each attack is a row: answer times before, during and after, and the memory of the attacked program. It fails where an
//! answer stayed away, came too late, or where memory grew without measure, and says which row fell short.

mod attacks;
mod http2;
mod measure;
mod sockets;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::demo::Site;
use crate::interrupt::Interrupt;
use crate::workspace::{self, Profile};
use measure::{Measured, Probe, measure};

/// Flags of the attack.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sockets in the attacks that are only sockets
    #[arg(long, default_value_t = 4000, value_name = "NUMBER")]
    sockets: usize,
    /// Keep the folder with configuration, data and logs, also when all went well
    #[arg(long)]
    keep: bool,
    /// Show how long answers took and fail for none: for a machine that does other work or is slower than a laptop. An answer that stays
    /// away and memory without measure fail all the same
    #[arg(long)]
    show_times: bool,
}

/// How long answers are measured before and after all attacks, and during each.
const QUIET: Duration = Duration::from_secs(2);
const DURING: Duration = Duration::from_millis(2_500);
/// All of it has to end by then, or something hangs.
const ALL_WITHIN: Duration = Duration::from_secs(110);
/// Files for everything but the attacker's sockets.
const OTHER_FILES: usize = 256;
/// By so much the memory of an attacked program may grow: what its budgets allow it for bodies and answers, and some room.
const MEMORY_GROWTH_MAX: u64 = 320 << 20;

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let binaries = workspace::build(Profile::Dev);
    // Cargo gets the same Ctrl-C, and then fails.
    interrupt.check()?;
    let binaries = binaries?;
    let mut folder =
        tempfile::Builder::new().prefix("quell-attack-").tempdir().context("no temporary folder")?;
    let site = Site::start(&binaries, folder.path(), false, &interrupt)?;
    // Only now: the programs have to see to their own limit.
    let sockets = args.sockets.min(raise_open_files().saturating_sub(OTHER_FILES));
    let mut field = Field { site, interrupt, sockets, rows: Vec::new(), began: Instant::now() };
    let done = attacks::all(&mut field);
    let Field { site, rows, began, .. } = field;
    let took = began.elapsed();
    let stubborn = site.stop();
    print(&rows, took, !args.show_times);
    let timed = !args.show_times;
    let mut short: Vec<_> = rows.iter().flat_map(|row| row.short(timed)).collect();
    if timed && took > ALL_WITHIN {
        short.push(format!("it took {} s, more than {} s", took.as_secs(), ALL_WITHIN.as_secs()));
    }
    if !stubborn.is_empty() {
        short.push(format!("did not stop when asked and had to be killed: {}", stubborn.join(", ")));
    }
    if args.keep || done.is_err() || !short.is_empty() {
        folder.disable_cleanup(true);
        eprintln!("configuration, data and logs are in {}", folder.path().display());
    }
    done?;
    if !short.is_empty() {
        bail!("{} of the limits were not kept:\n  {}", short.len(), short.join("\n  "));
    }
    Ok(())
}

/// How many files this process may have open, after asking for all that it can get.
fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The site that is attacked, and what was found so far.
struct Field {
    site: Site,
    interrupt: Interrupt,
    sockets: usize,
    rows: Vec<Row>,
    began: Instant,
}

/// Where an attack goes to, and what is asked there meanwhile.
#[derive(Clone, Copy)]
struct Target {
    program: &'static str,
    port: &'static str,
    server: SocketAddr,
    probe: Probe,
}

/// One attack and what came of it.
struct Row {
    attack: String,
    target: Target,
    measured: Measured,
    /// The time in which 99 of 100 answers have to come.
    p99_max: Duration,
    memory_before: u64,
    memory_after: u64,
    /// What else fell short.
    problems: Vec<String>,
}

impl Row {
    /// Everything in which it fell short, by its name.
    fn short(&self, timed: bool) -> Vec<String> {
        let mut short = self.problems.clone();
        let (measured, p99) = (&self.measured, self.measured.quantile(0.99));
        if let Some(failure) = &measured.failure {
            short.push(format!(
                "{} of {} answers failed, the first: {failure}",
                measured.failed,
                measured.count()
            ));
        }
        if timed && p99 > self.p99_max {
            short.push(format!("p99 {} ms, allowed are {} ms", p99.as_millis(), self.p99_max.as_millis()));
        }
        let growth = measured.memory_most.saturating_sub(self.memory_before);
        if growth > MEMORY_GROWTH_MAX {
            short.push(format!(
                "memory grew by {} MB, allowed are {} MB",
                growth >> 20,
                MEMORY_GROWTH_MAX >> 20
            ));
        }
        let of = format!("{} on {} {}", self.attack, self.target.program, self.target.port);
        short.into_iter().map(|what| format!("{of}: {what}")).collect()
    }
}

impl Field {
    fn memory(&self, program: &str) -> Option<u64> {
        self.site.resident_bytes().into_iter().find(|(name, _)| name == program)?.1
    }

    /// Measures a target while it is attacked; what the attack holds lives until the row is complete, and `look` may look at it.
    fn under<A>(
        &mut self,
        attack: &str,
        target: Target,
        p99_max: Duration,
        begin: impl FnOnce(SocketAddr) -> Result<A>,
        look: impl FnOnce(A) -> Vec<String>,
    ) -> Result<()> {
        self.interrupt.check()?;
        let memory_before = self.memory(target.program).unwrap_or_default();
        let held = begin(target.server).with_context(|| format!("{attack} on {}", target.program))?;
        let memory = || self.memory(target.program);
        let measured = measure(target.server, target.probe, DURING, memory);
        let problems = look(held);
        self.site.check()?;
        let memory_after = self.memory(target.program).unwrap_or_default();
        let attack = attack.to_owned();
        self.rows.push(Row { attack, target, measured, p99_max, memory_before, memory_after, problems });
        Ok(())
    }

    /// Measures a target that nobody attacks.
    fn quiet(&mut self, name: &str, target: Target, p99_max: Duration) -> Result<()> {
        self.interrupt.pause(QUIET)?;
        self.under(name, target, p99_max, |_| Ok(()), |()| Vec::new())
    }
}

fn print(rows: &[Row], took: Duration, timed: bool) {
    println!(
        "{:<50} {:<30} {:>5} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}",
        "attack", "on", "asked", "p50 ms", "p99 ms", "max ms", "MB", "most", "after"
    );
    let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1_000.0);
    for row in rows {
        let (target, measured) = (&row.target, &row.measured);
        println!(
            "{:<50} {:<30} {:>5} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}{}",
            row.attack,
            format!("{} {}", target.program, target.port),
            measured.count(),
            milliseconds(measured.quantile(0.5)),
            milliseconds(measured.quantile(0.99)),
            milliseconds(measured.quantile(1.0)),
            row.memory_before >> 20,
            measured.memory_most >> 20,
            row.memory_after >> 20,
            if row.short(timed).is_empty() { "" } else { "  FELL SHORT" }
        );
    }
    println!("{} rows in {:.0} s", rows.len(), took.as_secs_f64());
}
