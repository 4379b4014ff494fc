//! What `cargo xtask bench templates` runs: the same lines through the miner of this project and through `logdrain` with its masks,
//! one after the other, on one core.

#![allow(clippy::print_stdout, reason = "a command line tool: printing is what it is for")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use logdrain::builtin_masks::{email, hex32, ipv4, jwt, uuid};
use quell_diagnose::template;
use serde_json::json;

/// Lines per second of template miners
#[derive(Parser)]
struct Args {
    /// A folder of `*.log`; without it lines are made up
    folder: Option<PathBuf>,
    /// How often each of both is measured, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A round mines the lines again until so much time has passed.
const ROUND: Duration = Duration::from_millis(700);
const LINES: usize = 100_000;

fn main() -> Result<()> {
    let args = Args::parse();
    let systems = match &args.folder {
        Some(folder) => read(folder)?,
        None => vec![made_up()],
    };
    let lines: usize = systems.iter().map(Vec::len).sum();
    ensure!(lines > 0, "there is no line to measure with");
    let rate = |mine: &dyn Fn(&[String]) -> usize| {
        let begun = Instant::now();
        let (mut mined, mut templates) = (0, 0);
        while begun.elapsed() < ROUND {
            templates = systems.iter().map(|lines| mine(lines)).sum();
            mined += lines;
        }
        (mined as f64 / begun.elapsed().as_secs_f64(), templates)
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_templates, mut their_templates) = (0, 0);
    for _ in 0..args.rounds.max(1) {
        let (rate_of_ours, templates) = rate(&mine);
        (our_templates, _) = (templates, ours.push(rate_of_ours));
        let (rate_of_theirs, templates) = rate(&mine_with_logdrain);
        (their_templates, _) = (templates, theirs.push(rate_of_theirs));
    }
    let middle = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2].round()
    };
    let (ours, theirs) = (middle(&mut ours), middle(&mut theirs));
    println!("{lines} lines, {} rounds, the middle one of each\n", args.rounds.max(1));
    println!("{:<22} {ours:>10.0} lines/s {our_templates:>6} templates", "quell");
    println!("{:<22} {theirs:>10.0} lines/s {their_templates:>6} templates", "logdrain with masks");
    println!("{:<22} {:>10.2}", "ratio", ours / theirs);
    let document = json!({
        "bench": "templates",
        "lines": lines,
        "lines_per_second": {"quell": ours, "logdrain": theirs},
        "templates": {"quell": our_templates, "logdrain": their_templates},
        "ratio": ours / theirs,
    });
    println!("\n{document}");
    Ok(())
}

fn mine(lines: &[String]) -> usize {
    let mut miner = template::Miner::default();
    for line in lines {
        miner.add(line, true);
    }
    miner.finish().texts().len()
}

fn mine_with_logdrain(lines: &[String]) -> usize {
    let masks = [uuid(), hex32(), email(), ipv4(), jwt()];
    let Ok(miner) = logdrain::Miner::builder().masks(masks).build() else { return 0 };
    let mut templates = 0;
    for line in lines {
        templates = templates.max(miner.add(line).cluster_id as usize + 1);
    }
    templates
}

fn read(folder: &PathBuf) -> Result<Vec<Vec<String>>> {
    let mut systems = Vec::new();
    for entry in std::fs::read_dir(folder).context("the folder cannot be read")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            systems.push(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect());
        }
    }
    Ok(systems)
}

/// Lines as services write them, no two alike.
fn made_up() -> Vec<String> {
    let mut state = 7_u64;
    let mut draw = move |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let words = ["orders", "carts", "payment", "search", "profile", "shipping", "stock", "mail"];
    (0..LINES)
        .map(|number| {
            let (a, b, c) = (draw(250), draw(65_000), draw(1_000_000));
            let word = words[draw(8) as usize];
            match draw(8) {
                0 => format!("connection from 10.{a}.{}.7:{b} accepted by worker {}", draw(250), draw(32)),
                1 => format!("GET /api/v1/{word}/{c}/items 200 {b}ms request_id={:08x}{number:08x}", c * 97),
                2 => format!("error while handling message {c} of topic {word}: connection timeout after {b} ms"),
                3 => format!("block blk_{c}{b} of size {b} was moved to /10.{a}.0.{a}:50010"),
                4 => format!("user '{word}{c}' logged in from 192.168.{a}.{a} session=0x{c:x}{b:x}"),
                5 => format!("2026-03-01T09:{:02}:{:02}Z slow query took {b} ms in {word}: SELECT * FROM t WHERE id = {c}", a % 60, b % 60),
                6 => format!("cache {word} has {c} entries, {b} hits and {a} misses ({}%)", a % 100),
                _ => format!("job {number} of queue {word} finished with state ok after {b}.{a} s"),
            }
        })
        .collect()
}
