//! What tests need from the system: installed as root on Debian, else named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A package, and the programs by which it is known to be there.
const PACKAGES: &[(&str, &[&str])] = &[
    ("prometheus", &["prometheus", "promtool"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager", "amtool"]),
    ("python3", &["python3"]),
    // Shows pages that try to act on Quell.
    ("chromium", &["chromium"]),
];
/// Without it a Python has `venv` in name only. It has no program of its own.
const VENV: &str = "python3-venv";
/// Its programs are not where others are, and a client alone has some of them.
const POSTGRESQL: &str = "postgresql";
/// While it is there and says so, no daemon starts by being installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing, or says it.
pub(super) fn run(only_say: bool) -> Result<()> {
    let mut missing: Vec<_> = PACKAGES
        .iter()
        .filter(|(_, programs)| programs.iter().any(|name| quell_child::find(name).is_none()))
        .map(|(package, _)| *package)
        .collect();
    if !has_venv() {
        missing.push(VENV);
    }
    if !has_postgresql() {
        missing.push(POSTGRESQL);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if only_say || !may_install() {
        println!(
            "missing: {list}; what needs them is skipped and counted. On Debian, as root: apt-get install --no-install-recommends {list}"
        );
        return Ok(());
    }
    println!("installing {list}");
    install(&missing)
}

/// Whether packages can be installed here.
pub(super) fn may_install() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/etc/debian_version").exists()
}

fn has_venv() -> bool {
    let probe = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    probe.is_ok_and(|output| output.status.success())
}

fn has_postgresql() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/initdb")).any(|program| program.is_file())
}

pub(super) fn install(packages: &[&str]) -> Result<()> {
    let _policy = Policy::set()?;
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    // Lists may be missing altogether, as in a fresh container.
    apt(&words(&["update", "--quiet"]), None)?;
    let mut arguments = words(&["install", "--quiet", "--yes", "--no-install-recommends"]);
    arguments.extend(words(packages));
    apt(&arguments, None)
}

/// Runs apt-get, in a folder if one is named.
pub(super) fn apt(arguments: &[String], folder: Option<&Path>) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let status = command.status().context("apt-get cannot be run")?;
    ensure!(status.success(), "apt-get {} ended with {status}", arguments.join(" "));
    Ok(())
}

/// Keeps daemons from starting; removed when dropped, unless somebody else had put one there.
struct Policy {
    is_ours: bool,
}

impl Policy {
    fn set() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { is_ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        let policy = Self { is_ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
