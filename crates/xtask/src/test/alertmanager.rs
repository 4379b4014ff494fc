//! A second, newer Alertmanager: that of Debian 13, unpacked beside Debian 12's without being installed. From 0.28 on Alertmanager says
//! which groups are muted by time intervals, and what Quell makes of that is tested with both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::install::{apt, may_install};
use super::kubernetes::cache;

/// By this the tests find it.
pub(super) const VARIABLE: &str = "QUELL_ALERTMANAGER_NEWER";
const PACKAGE: &str = "prometheus-alertmanager";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Its program, fetched once and kept; `None` where it cannot be had, and then tests say that they skipped it.
pub(super) fn ready(only_say: bool) -> Option<PathBuf> {
    match fetched(only_say) {
        Ok(program) => program,
        Err(error) => {
            println!("Debian 13's Alertmanager cannot be fetched: {error:#}");
            None
        }
    }
}

fn fetched(only_say: bool) -> Result<Option<PathBuf>> {
    let folder = cache()?.join("alertmanager-debian-13");
    let program = folder.join("usr/bin").join(PACKAGE);
    if program.is_file() {
        return Ok(Some(program));
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if only_say || !may_install() || !release.lines().any(|line| line == "VERSION_CODENAME=bookworm") {
        return Ok(None);
    }
    println!("fetching {PACKAGE} of Debian 13");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    fetch(scratch.path(), &folder)?;
    ensure!(program.is_file(), "the package has no {}", program.display());
    Ok(Some(program))
}

/// Downloads the package by lists of its own, so that the system's apt stays as it is, and unpacks it.
fn fetch(scratch: &Path, folder: &Path) -> Result<()> {
    for below in ["lists/partial", "cache/archives/partial", "sources"] {
        fs::create_dir_all(scratch.join(below))?;
    }
    let mirror = mirror().context("the system's sources name no mirror of bookworm")?;
    let source =
        format!("Types: deb\nURIs: {mirror}\nSuites: trixie\nComponents: main\nSigned-By: {KEYRING}\n");
    fs::write(scratch.join("sources/trixie.sources"), source)?;
    let options = [
        "-oDir::Etc::sourcelist=/dev/null".to_owned(),
        format!("-oDir::Etc::sourceparts={}", scratch.join("sources").display()),
        format!("-oDir::State::lists={}", scratch.join("lists").display()),
        format!("-oDir::Cache={}", scratch.join("cache").display()),
        "-oDir::State::status=/dev/null".to_owned(),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    let with = |command: &[&str]| -> Vec<String> {
        options.iter().cloned().chain(command.iter().map(|&word| word.to_owned())).collect()
    };
    apt(&with(&["update", "--quiet"]), Some(scratch))?;
    apt(&with(&["download", "--quiet", PACKAGE]), Some(scratch))?;
    let mut files = fs::read_dir(scratch)?.flatten().map(|entry| entry.path());
    let archive = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
    let archive = archive.context("apt-get download left no package")?;
    let status = Command::new("dpkg-deb").arg("-x").args([&archive, folder]).status();
    let status = status.context("dpkg-deb cannot be run")?;
    ensure!(status.success(), "dpkg-deb ended with {status}");
    Ok(())
}

/// Where this system has its own packages from.
fn mirror() -> Option<String> {
    let mut places = vec![PathBuf::from("/etc/apt/sources.list")];
    places.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    places.iter().filter_map(|place| fs::read_to_string(place).ok()).find_map(|text| mirror_of(&text))
}

/// The mirror of the suite bookworm that a file of sources names, in either of their two forms.
fn mirror_of(text: &str) -> Option<String> {
    let is_address = |word: &&str| word.starts_with("http://") || word.starts_with("https://");
    let by_line = text.lines().filter(|line| line.trim_start().starts_with("deb ")).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(is_address)?;
        (words.get(at + 1) == Some(&"bookworm")).then(|| words[at].to_owned())
    });
    by_line.or_else(|| {
        text.split("\n\n").find_map(|stanza| {
            let field = |name: &str| {
                let values = stanza.lines().find_map(|line| line.strip_prefix(name))?;
                Some(values.split_whitespace().collect::<Vec<_>>())
            };
            let of_bookworm = field("Suites:")?.contains(&"bookworm");
            let address = field("URIs:")?.into_iter().find(is_address)?;
            of_bookworm.then(|| address.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms_of_sources() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/security\nSuites: bookworm-security\n\nTypes: deb\nURIs: \
                       http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(mirror_of(stanzas).as_deref(), Some("http://mirror.example/debian"));
        let lines = "# deb http://a.example bookworm main\ndeb [arch=amd64] https://b.example/x cloud-bookworm main\ndeb \
                     [signed-by=/k] https://c.example/debian bookworm main\n";
        assert_eq!(mirror_of(lines).as_deref(), Some("https://c.example/debian"));
        assert_eq!(mirror_of("deb http://d.example trixie main\n"), None);
    }
}
