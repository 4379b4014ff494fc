//! `cargo xtask bench alerts`: how often the learned model names the service at fault, beside a random forest of scikit-learn on the same
//! parts of the same incidents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::interrupt::Interrupt;
use crate::workspace::{self, Profile, build_these};

/// Flags of the measurement.
#[derive(clap::Args)]
pub(crate) struct AlertsArgs {
    /// Incidents: a folder of `<system>.jsonl` as for `quell eval alerts`
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// What was at fault: a folder of `alerts_<system>.jsonl`
    #[arg(long, value_name = "DIR")]
    truth: PathBuf,
    /// Into how many parts they are cut; each is predicted by a model of the others
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=50))]
    parts: u8,
    /// A Python that has scikit-learn; the system's own without
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
}

pub(super) fn run(args: &AlertsArgs) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let built = build_these(Profile::Release, &["quell"], &[])?;
    let quell = built.get("quell").context("cargo built no quell")?;
    let has_peer = Command::new(&args.python).args(["-c", "import sklearn"]).output();
    let has_peer = has_peer.is_ok_and(|output| output.status.success());
    if !has_peer {
        println!(
            "{} has no scikit-learn, so nothing is measured beside (pip install scikit-learn)",
            args.python.display()
        );
    }
    println!(
        "{:<12} {:>6} {:>14} {:>8} {:>14} {:>8}",
        "system", "cases", "HR@1, quell", "Brier", "HR@1, forest", "Brier"
    );
    let mut systems = Vec::new();
    for cases in files(&args.folder)? {
        interrupt.check()?;
        let system = cases.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let truth = args.truth.join(format!("alerts_{system}.jsonl"));
        let own = own(quell, &cases, &truth, args.parts)?;
        let share = |pointer: &str| own.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
        let peer = has_peer.then(|| peer(args, &cases, &truth)).transpose()?;
        let of_peer = peer.as_ref().and_then(|peer| {
            let cases = peer["cases"].as_f64().filter(|cases| *cases > 0.0)?;
            Some((peer["hits"].as_f64()? / cases, peer["brier"].as_f64()?))
        });
        let told = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        println!(
            "{system:<12} {:>6} {:>14.3} {:>8.3} {:>14} {:>8}",
            own["scored"],
            share("/shares/0/share"),
            share("/brier"),
            told(of_peer.map(|(share, _)| share)),
            told(of_peer.map(|(_, brier)| brier))
        );
        systems.push(json!({"system": system, "quell": own, "forest": of_peer.map(|(share, brier)| json!({"hr1": share, "brier": brier}))}));
    }
    println!("\n{}", json!({"bench": "alerts", "parts": args.parts, "systems": systems}));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    ensure!(!files.is_empty(), "there is no .jsonl in {}", folder.display());
    Ok(files)
}

fn own(quell: &Path, cases: &Path, truth: &Path, parts: u8) -> Result<Value> {
    let mut command = Command::new(quell);
    command.args(["eval", "alerts", "-o", "json", "--cross-validate", &parts.to_string(), "--train"]);
    answer(command.arg(cases).arg("--truth").arg(truth))
}

fn peer(args: &AlertsArgs, cases: &Path, truth: &Path) -> Result<Value> {
    let script = workspace::root().join("crates/xtask/peers/alerts_forest.py");
    let mut command = Command::new(&args.python);
    answer(command.arg(script).arg(cases).arg(truth).arg(args.parts.to_string()))
}

fn answer(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {error}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON"))
}
