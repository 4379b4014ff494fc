//! `cargo xtask test`: everything that can be tested on this machine, and a count of what could not be.

mod alertmanager;
mod install;
mod kubernetes;
mod monitoring;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Flags.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Install nothing, also as root
    #[arg(long)]
    no_install: bool,
    /// Compare the fake Kubernetes API server with a real one, which is built once; takes some ten minutes the first time
    #[arg(long, conflicts_with = "no_install")]
    kubernetes: bool,
}

/// What came of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    passed: u64,
    failed: u64,
    /// What could not be checked here, and why.
    skipped: Vec<String>,
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }

    /// One more thing that could not be checked here.
    pub(crate) fn skip(&mut self, reason: String) {
        self.skipped.push(reason);
    }

    /// Prints it; the last line is for people and scripts.
    pub(crate) fn print(&self) {
        for reason in &self.skipped {
            println!("skipped: {reason}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len());
    }

    /// An error when something failed, or nothing ran.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self { failed: 0, passed: 1.., .. } => Ok(()),
            Self { failed: 0, .. } => bail!("no test ran"),
            Self { failed, .. } => bail!("{failed} tests failed"),
        }
    }
}

/// Runs everything and prints the summary.
pub(crate) fn run(args: &Args) -> Result<()> {
    let summary = run_all(args)?;
    println!();
    summary.print();
    summary.check()
}

/// Runs everything.
pub(crate) fn run_all(args: &Args) -> Result<Summary> {
    install::run(args.no_install)?;
    let mut also = Vec::new();
    also.extend(alertmanager::ready(args.no_install).map(|program| (alertmanager::VARIABLE, program)));
    if args.kubernetes {
        also.push((kubernetes::VARIABLE, kubernetes::ready()?));
    }
    let tests = || unit_and_integration(&also);
    let mut summary = Summary::default();
    let parts: [(&str, &dyn Fn() -> Result<Summary>); 3] =
        [("monitoring", &monitoring::check), ("tests", &tests), ("doctests", &doctests)];
    for (name, part) in parts {
        let started = Instant::now();
        println!("\n-- {name}");
        summary.add(part().with_context(|| name.to_owned())?);
        println!("-- {name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(summary)
}

/// Programs that are not in the PATH, each with the variable by which its tests find it.
type Also = [(&'static str, PathBuf)];

fn unit_and_integration(also: &Also) -> Result<Summary> {
    let nextest = workspace::cargo(["nextest", "--version"]).output();
    if nextest.is_ok_and(|output| output.status.success()) {
        nextest_run(also)
    } else {
        cargo_test(&["--all-targets"], also)
    }
}

/// A passing test's output is not shown, so the report is read for what was skipped.
fn nextest_run(also: &Also) -> Result<Summary> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let (config, report) = (folder.path().join("nextest.toml"), folder.path().join("junit.xml"));
    let text = format!(
        "[profile.default.junit]\npath = {:?}\nstore-success-output = true\n",
        report.display().to_string()
    );
    fs::write(&config, text)?;
    let tool_config = format!("quell-xtask:{}", config.display());
    let mut command = workspace::cargo([
        "nextest",
        "run",
        // Not --all-targets: that builds examples as tests, and a test of `service` runs one as the program that it is.
        "--workspace",
        "--no-fail-fast",
        "--tool-config-file",
        &tool_config,
    ]);
    command.envs(also.iter().cloned());
    let status = command.status().context("cargo nextest cannot be run")?;
    let summary = match fs::read_to_string(&report) {
        Ok(report) => of_junit(&report),
        Err(_) => Summary::default(),
    };
    if !status.success() && summary.failed == 0 {
        // It did not come to the tests, or it failed beside them.
        bail!("cargo nextest ended with {status}");
    }
    Ok(summary)
}

fn of_junit(report: &str) -> Summary {
    let attribute = |name: &str| -> u64 {
        let head = report.lines().find(|line| line.contains("<testsuites ")).unwrap_or_default();
        let value = head.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let failed = attribute("failures") + attribute("errors");
    Summary { passed: attribute("tests").saturating_sub(failed), failed, skipped: skipped_in(report.lines()) }
}

fn skipped_in<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    // What the report puts before the first line of an output stands before the word.
    let reason = |line: &'a str| Some(line.rsplit_once("skipped: ")?.1.trim_end_matches("</system-out>"));
    let mut reasons: Vec<_> = lines.filter_map(reason).map(unescape).collect();
    reasons.sort();
    reasons
}

fn unescape(text: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.trim().to_owned(), |text, (from, to)| text.replace(from, to))
}

fn doctests() -> Result<Summary> {
    cargo_test(&["--doc"], &[])
}

/// `cargo test`, with its own counts and what its tests say was skipped.
fn cargo_test(what: &[&str], also: &Also) -> Result<Summary> {
    let arguments = ["test", "--workspace", "--no-fail-fast"]
        .into_iter()
        .chain(what.iter().copied())
        .chain(["--", "--show-output"]);
    let mut command = workspace::cargo(arguments);
    command.envs(also.iter().cloned());
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo cannot be run")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut summary = Summary::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        count(&line, &mut summary);
        // The rest is repeated output of tests that passed.
        if line.starts_with("test ") || line.contains("panicked at") || line.starts_with("failures:") {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && summary.failed == 0 {
        bail!("cargo test ended with {status}");
    }
    summary.skipped.sort();
    Ok(summary)
}

fn count(line: &str, summary: &mut Summary) {
    if let Some(counts) = line.strip_prefix("test result: ") {
        let number = |word: &str| -> u64 {
            let before = counts.split_once(word).map_or("", |(before, _)| before.trim_end());
            before.rsplit([' ', '.']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        summary.passed += number(" passed");
        summary.failed += number(" failed");
    } else if let Some(reason) = line.trim_start().strip_prefix("skipped: ") {
        summary.skipped.push(reason.to_owned());
    }
}

/// Runs a checker; what it says is shown when it fails.
fn checker(name: &str, command: &mut Command, folder: &Path, summary: &mut Summary) -> Result<()> {
    let output = command.current_dir(folder).output().with_context(|| format!("{name} cannot be run"))?;
    if output.status.success() {
        summary.passed += 1;
        println!("    PASS {name}");
    } else {
        summary.failed += 1;
        println!("    FAIL {name}");
        let said = [output.stdout, output.stderr].concat();
        print!("{}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = r#"<?xml version="1.0"?>
<testsuites name="nextest-run" tests="12" failures="2" errors="1" time="1">
    <system-out>running 1 test
skipped: a peer: pip &lt;2 &amp; old
test x ... ok</system-out>
    <system-out>skipped: alone</system-out>
</testsuites>"#;
        let skipped = vec!["a peer: pip <2 & old".to_owned(), "alone".to_owned()];
        assert_eq!(of_junit(report), Summary { passed: 9, failed: 3, skipped });
    }

    #[test]
    fn results_of_cargo_are_added_up() {
        let mut summary = Summary::default();
        for line in [
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "skipped: no promtool",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            count(line, &mut summary);
        }
        assert_eq!(summary, Summary { passed: 15, failed: 2, skipped: vec!["no promtool".to_owned()] });
        assert!(summary.check().is_err());
        assert!(Summary::default().check().is_err());
    }
}
