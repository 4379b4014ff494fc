//! `cargo xtask bench diagnose`: how long the localisation engines take, how that grows, and how much memory a case needs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::report::percentile;
use crate::interrupt::Interrupt;
use crate::workspace::{Profile, build_these};

/// Flags of the measurement.
#[derive(clap::Args)]
pub(crate) struct DiagnoseArgs {
    /// A folder of suites as for `quell eval rca`: the memory that its largest case needs is measured as well
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Measure what `cargo build` makes: a much slower program, much sooner
    #[arg(long)]
    dev: bool,
}

/// The generated case: services with ten metrics each, points of each series, and log lines.
const SERVICES: usize = 20;
const METRICS: [&str; 10] = [
    "cpu_rate",
    "mem",
    "latency",
    "error_rate",
    "workload",
    "net_rx",
    "net_tx",
    "sysread",
    "syswrite",
    "queue_depth",
];
const POINTS: usize = 60;
const FAULT_POINTS: usize = 5;
const LINES: usize = 5_000;
const STEP_SECONDS: usize = 60;
/// How many times as many series and lines, and how many such cases are measured.
const SIZES: [(usize, usize); 3] = [(1, 15), (10, 5), (100, 3)];
/// How often the memory of a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(super) fn run(args: &DiagnoseArgs) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let profile = if args.dev { Profile::Dev } else { Profile::Release };
    let built = build_these(profile, &["quell"], &[])?;
    let quell = built.get("quell").context("cargo built no quell")?;
    let folder = tempfile::Builder::new().prefix("quell-bench-").tempdir().context("no temporary folder")?;
    println!("{:<10} {:>10} {:>10} {:>12} {:>12}", "series", "lines", "cases", "p50, ms", "max, ms");
    let mut sizes = Vec::new();
    for (factor, cases) in SIZES {
        interrupt.check()?;
        let suite = folder.path().join(format!("times-{factor}"));
        for case in 0..cases {
            generate(&suite.join(format!("case-{case}")), factor).context("the case cannot be written")?;
        }
        let measured = measure(quell, &suite, folder.path())?;
        let (series, lines) = (factor * SERVICES * METRICS.len(), factor * LINES);
        let (middle, most) =
            (percentile(&measured.milliseconds, 0.5), percentile(&measured.milliseconds, 1.0));
        println!("{series:<10} {lines:>10} {cases:>10} {middle:>12.2} {most:>12.2}");
        sizes.push(json!({"series": series, "points": POINTS, "lines": lines, "p50_milliseconds": middle, "max_milliseconds": most}));
    }
    let mut largest = Value::Null;
    if let Some(suites) = &args.folder {
        interrupt.check()?;
        let (case, bytes) = largest_case(suites)?.context("there is no case in that folder")?;
        let measured = measure(quell, &case, folder.path())?;
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let peak = measured.peak_bytes.map(|bytes| bytes as f64 / 1e6);
        let told = peak.map_or_else(|| "unknown".to_owned(), |peak| format!("{peak:.0} MB"));
        println!("\nlargest case {name}, {:.1} MB of files: peak memory {told}", bytes as f64 / 1e6);
        largest = json!({"case": name, "bytes": bytes, "peak_megabytes": peak});
    }
    let profile = if args.dev { "dev" } else { "release" };
    let document = json!({"bench": "diagnose", "profile": profile, "sizes": sizes, "largest_case": largest});
    println!("\n{document}");
    Ok(())
}

struct Measured {
    /// Of each case: the engines alone, on one core.
    milliseconds: Vec<f64>,
    /// The most memory that the process ever had, if this system says so.
    peak_bytes: Option<u64>,
}

fn measure(quell: &Path, cases: &Path, folder: &Path) -> Result<Measured> {
    let out = folder.join("predictions.jsonl");
    let mut child = Command::new(quell)
        .args(["eval", "rca"])
        .arg(cases)
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .spawn()
        .context("quell cannot be run")?;
    let mut peak_bytes = None;
    let status = loop {
        // The last look before its end is at most some milliseconds old; a peak is kept by the system.
        peak_bytes = peak_of(child.id()).or(peak_bytes);
        if let Some(status) = child.try_wait().context("quell cannot be waited for")? {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    ensure!(status.success(), "quell eval rca failed: {status}");
    let text = fs::read_to_string(&out).context("the predictions cannot be read")?;
    let mut milliseconds = Vec::new();
    for line in text.lines() {
        let prediction: Value = serde_json::from_str(line).context("a prediction cannot be read")?;
        milliseconds.push(1000.0 * prediction["seconds"].as_f64().context("a prediction has no seconds")?);
    }
    ensure!(!milliseconds.is_empty(), "there are no predictions");
    Ok(Measured { milliseconds, peak_bytes })
}

fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}

/// The case whose files are largest, and how large they are.
fn largest_case(folder: &Path) -> Result<Option<(PathBuf, u64)>> {
    let mut largest: Option<(PathBuf, u64)> = None;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let (mut bytes, mut is_case) = (0, false);
        for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else {
                is_case |= entry.file_name() == "case.json";
                bytes += entry.metadata()?.len();
            }
        }
        if is_case && largest.as_ref().is_none_or(|(_, most)| bytes > *most) {
            largest = Some((folder, bytes));
        }
    }
    Ok(largest)
}

/// Repeatable noise between 0 and 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A case with one service out of CPU, so that the engines have something to say, and lines as services write them.
fn generate(folder: &Path, factor: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    let services = factor * SERVICES;
    let start = 1_700_000_000;
    let fault = start + (POINTS - FAULT_POINTS) * STEP_SECONDS;
    let description = json!({
        "case": folder.file_name().unwrap_or_default().to_string_lossy(),
        "suite": "generated",
        "inject_time": fault,
        "step_s": STEP_SECONDS,
    });
    fs::write(folder.join("case.json"), description.to_string())?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut metrics = "time".to_owned();
    for service in 0..services {
        for metric in METRICS {
            write!(metrics, ",service-{service}_{metric}")?;
        }
    }
    metrics.push('\n');
    for point in 0..POINTS {
        write!(metrics, "{}", start + point * STEP_SECONDS)?;
        let is_fault = point >= POINTS - FAULT_POINTS;
        for service in 0..services {
            for (place, _) in METRICS.iter().enumerate() {
                let level = 10.0 * (place + 1) as f64 * (0.9 + 0.2 * noise.next());
                let level = if is_fault && service == 7 && place == 0 { 97.0 } else { level };
                write!(metrics, ",{level:.3}")?;
            }
        }
        metrics.push('\n');
    }
    fs::write(folder.join("metrics.csv"), metrics)?;
    let lines = factor * LINES;
    let seconds = (POINTS * STEP_SECONDS) as f64;
    let mut logs = "time,service,trace,message\n".to_owned();
    for line in 0..lines {
        let at = start as f64 + seconds * line as f64 / lines as f64;
        let service = (noise.next() * services as f64) as usize;
        let number = (noise.next() * 1e6) as u32;
        let message = match line % 5 {
            0 => format!("INFO order {number} accepted in {} ms", number % 90),
            1 => format!("INFO GET /orders/{number} -> 200 in {} ms", number % 200),
            2 => format!(
                "WARN retry {} of payment {number} at 10.0.{}.{}",
                number % 5,
                number % 250,
                number % 99
            ),
            3 => format!("INFO cache miss for key user:{number:08x}"),
            _ => format!("ERROR query {number} rejected after {} ms", number % 1000),
        };
        writeln!(logs, "{at:.3},service-{service},,{message}")?;
    }
    fs::write(folder.join("logs.csv"), logs)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_case_has_the_size_that_it_is_said_to_have() {
        let folder = tempfile::tempdir().unwrap();
        generate(&folder.path().join("case"), 1).unwrap();
        let metrics = fs::read_to_string(folder.path().join("case/metrics.csv")).unwrap();
        assert_eq!(metrics.lines().count(), POINTS + 1);
        assert!(metrics.lines().all(|line| line.split(',').count() == 201));
        let logs = fs::read_to_string(folder.path().join("case/logs.csv")).unwrap();
        assert_eq!(logs.lines().count(), LINES + 1);
        let (largest, bytes) = largest_case(folder.path()).unwrap().unwrap();
        assert!(largest.ends_with("case") && bytes > 100_000);
    }
}
