//! `--kubernetes`: a real API server to compare the fake one with, built from Debian's source package once and kept.
//!
//! There is no package of it. Debian 12's source is version 1.20 and builds with the Go of Debian 12; that takes some ten minutes, so it
//! is asked for and not done in every run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::install::{apt, install, may_install};

/// By this the test finds it.
pub(super) const VARIABLE: &str = "QUELL_KUBE_APISERVER";
const PACKAGES: [&str; 7] = ["golang-1.19-go", "etcd-server", "openssl", "dpkg-dev", "make", "rsync", "jq"];
const GO: &str = "/usr/lib/go-1.19/bin";
const NAME: &str = "kube-apiserver";

/// The server's program; builds it when it is not there yet.
pub(super) fn ready() -> Result<PathBuf> {
    let cache = cache()?.join("kubernetes");
    let program = cache.join(NAME);
    let has_others = ["etcd", "openssl"].iter().all(|name| quell_child::find(name).is_some());
    if program.is_file() && has_others {
        return Ok(program);
    }
    let list = PACKAGES.join(" ");
    ensure!(may_install(), "--kubernetes needs to install {list} on Debian 12, as root");
    println!("installing {list}");
    install(&PACKAGES)?;
    if !program.is_file() {
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let folder = tempfile::Builder::new().prefix("build-").tempdir_in(&cache)?;
        println!("building {NAME} in {}, which takes some ten minutes", folder.path().display());
        build(folder.path(), &program)?;
    }
    Ok(program)
}

/// Where what is expensive to get is kept.
pub(super) fn cache() -> Result<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where caches are is told by the environment")]
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("quell"))
}

fn build(folder: &Path, program: &Path) -> Result<()> {
    fetch_source(folder)?;
    let source = only_folder(folder, "kubernetes-")?;
    // Where a Go of those days looks for a package by its name.
    let workspace = source.join(".go/src/k8s.io");
    fs::create_dir_all(&workspace)?;
    std::os::unix::fs::symlink("../../..", workspace.join("kubernetes"))?;
    let home = folder.join("home");
    fs::create_dir_all(&home)?;
    #[allow(clippy::disallowed_methods, reason = "Go's own folder comes before the others")]
    let path = std::env::var("PATH").unwrap_or_default();
    let status = Command::new("make")
        .arg(format!("WHAT=cmd/{NAME}"))
        .current_dir(workspace.join("kubernetes"))
        .env("PATH", format!("{GO}:{path}"))
        .env("GOPATH", source.join(".go"))
        .env("HOME", &home)
        .env("CGO_ENABLED", "0")
        .status()
        .context("make cannot be run")?;
    ensure!(status.success(), "make ended with {status}");
    let built = source.join("_output/bin").join(NAME);
    let unfinished = folder.join(NAME);
    fs::copy(&built, &unfinished).with_context(|| format!("make built no {}", built.display()))?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
    fs::rename(&unfinished, program)?;
    // Go makes its module cache read-only, and then nobody can remove it.
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(folder).status();
    Ok(())
}

/// Unpacks the source package, from the same places as this system's packages.
fn fetch_source(folder: &Path) -> Result<()> {
    let (parts, lists) = (folder.join("sources"), folder.join("lists/partial"));
    fs::create_dir_all(&parts)?;
    fs::create_dir_all(&lists)?;
    let mut places = vec![PathBuf::from("/etc/apt/sources.list")];
    places.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    for place in places {
        let (Ok(text), Some(name)) = (fs::read_to_string(&place), place.file_name()) else { continue };
        let lines = text.lines().map(|line| match line.trim() {
            "Types: deb" => "Types: deb-src".to_owned(),
            line => {
                line.strip_prefix("deb ").map_or_else(|| line.to_owned(), |rest| format!("deb-src {rest}"))
            }
        });
        fs::write(parts.join(name), lines.collect::<Vec<_>>().join("\n") + "\n")?;
    }
    let options = [
        "-oDir::Etc::sourcelist=/dev/null".to_owned(),
        format!("-oDir::Etc::sourceparts={}", parts.display()),
        format!("-oDir::State::lists={}", folder.join("lists").display()),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    let with = |command: &[&str]| -> Vec<String> {
        options.iter().cloned().chain(command.iter().map(|&word| word.to_owned())).collect()
    };
    apt(&with(&["update", "--quiet"]), Some(folder))?;
    apt(&with(&["source", "--quiet", "kubernetes"]), Some(folder))
}

fn only_folder(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_dir() && name.starts_with(prefix)
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => bail!("the source package did not unpack to one folder {prefix}*"),
    }
}
