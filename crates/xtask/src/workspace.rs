//! Where the project is, and cargo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    #[allow(
        clippy::disallowed_methods,
        reason = "set by cargo run; the compiled-in one may have moved since"
    )]
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.ancestors().nth(2).map_or_else(|| own.clone(), Path::to_path_buf)
}

/// Cargo, in the workspace, with these arguments; the one that runs this task.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    #[allow(clippy::disallowed_methods, reason = "set by cargo for what it runs")]
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// How binaries are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Ready much sooner.
    Dev,
    /// As it is shipped.
    Release,
}

/// The programs that people run.
pub(crate) const BINARIES: [&str; 5] =
    ["quell", "quell-coordinator", "quell-diagnostic", "quell-resolution", "quell-simulator"];

/// Builds [`BINARIES`]; cargo's progress goes to standard error. Returns where each one is.
pub(crate) fn build(profile: Profile) -> Result<BTreeMap<String, PathBuf>> {
    build_these(profile, &BINARIES, &[])
}

/// Builds these programs of the workspace, with further arguments for cargo.
pub(crate) fn build_these(
    profile: Profile,
    binaries: &[&str],
    further: &[&str],
) -> Result<BTreeMap<String, PathBuf>> {
    let mut arguments = vec!["build", "--message-format=json-render-diagnostics"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    for binary in binaries {
        arguments.extend(["--bin", binary]);
    }
    arguments.extend(further);
    let output = cargo(arguments).stderr(Stdio::inherit()).output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "the build failed");
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(name), Some(file)) = (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            found.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    for binary in binaries {
        ensure!(found.contains_key(*binary), "cargo built no {binary}");
    }
    Ok(found)
}
