//! What `crates/README.md` names in backticks is there: paths of code, files, and tests in them. So the text cannot speak of what was
//! renamed or removed.
//!
//! - `store::append::Append` begins with a crate's short name, goes on with modules, and ends with a module or an item that is written in
//!   the last one. A method is named by the module that it is written in, without its type.
//! - `store/src/append.rs` is a file and `store/src/` a folder, as seen from `crates/` or from the workspace.
//! - `store/src/append.rs::Append` is an item in a file, which is how a test is named.
//!
//! Not looked at: code blocks, what has a space in it (a command, a line of code), a path that begins with a type, and an address (it
//! begins with a slash). Items are found by their keyword, so what a macro makes is not found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The text that is checked, in the workspace.
const TEXT: &str = "crates/README.md";
/// What stands before the name of an item where it is defined.
const ITEMS: &[&str] = &["fn", "struct", "enum", "union", "trait", "const", "static", "type", "mod"];
/// The files in which a crate begins.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

/// Checks the text of this workspace, whose crates have these short names; returns how many names it looked up.
pub(super) fn check(root: &Path, crates: &BTreeSet<&str>, broken: &mut Vec<String>) -> Result<usize> {
    let text = fs::read_to_string(root.join(TEXT)).context(TEXT)?;
    let sources = Sources { root, crates };
    let (mut checked, mut is_block) = (0, false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
            continue;
        }
        if is_block {
            continue;
        }
        if !line.matches('`').count().is_multiple_of(2) {
            broken.push(format!("{TEXT}:{number}: has a backtick without its other one in the same line"));
        }
        for span in line.split('`').skip(1).step_by(2) {
            let Some(name) = Name::of(span) else { continue };
            checked += 1;
            if let Some(why) = sources.missing(&name)? {
                broken.push(format!("{TEXT}:{number}: `{span}`: {why}"));
            }
        }
    }
    Ok(checked)
}

/// What stands between two backticks, if it is to be looked up.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    /// The parts of a path of code.
    Code(Vec<&'a str>),
    /// A file, and an item in it; or a folder, which ends with a slash.
    File(&'a str, Option<&'a str>),
    /// A path of code that nobody can look up, such as one with braces.
    Unclear,
}

impl<'a> Name<'a> {
    fn of(span: &'a str) -> Option<Self> {
        if span.contains(char::is_whitespace) || span.starts_with('/') {
            return None;
        }
        let (path, item) = match span.split_once("::") {
            Some((path, item)) => (path, Some(item)),
            None => (span, None),
        };
        if path.contains('/') {
            let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let ends = path.rsplit('/').next().is_some_and(|last| last.is_empty() || last.contains('.'));
            return (is_plain && ends).then_some(Self::File(path, item));
        }
        item?;
        let parts: Vec<_> = span.split("::").collect();
        if span.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        Some(if parts.iter().all(|part| is_identifier(part)) { Self::Code(parts) } else { Self::Unclear })
    }
}

fn is_identifier(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where names are looked up.
struct Sources<'a> {
    root: &'a Path,
    crates: &'a BTreeSet<&'a str>,
}

impl Sources<'_> {
    /// What was not found of a name.
    fn missing(&self, name: &Name<'_>) -> Result<Option<String>> {
        match name {
            Name::Code(parts) => self.missing_code(parts),
            Name::File(path, item) => self.missing_file(path, *item),
            Name::Unclear => Ok(Some("is no plain path; name each item by itself".to_owned())),
        }
    }

    fn missing_code(&self, parts: &[&str]) -> Result<Option<String>> {
        let Some((name, mut rest)) = parts.split_first() else { return Ok(None) };
        if !self.crates.contains(name) {
            return Ok(Some(format!("`{name}` is no crate's short name, and a path begins with one")));
        }
        let mut folder = self.root.join("crates").join(name).join("src");
        let Some(mut file) = ROOTS.iter().map(|root| folder.join(root)).find(|file| file.is_file()) else {
            return Ok(Some(format!("the crate `{name}` has no sources")));
        };
        while let Some((part, after)) = rest.split_first() {
            let own = [folder.join(format!("{part}.rs")), folder.join(part).join("mod.rs")];
            let Some(found) = own.into_iter().find(|file| file.is_file()) else { break };
            (file, folder, rest) = (found, folder.join(part), after);
        }
        let text = read(&file)?;
        // Modules that are written in that file, and the item.
        for (place, part) in (1..).zip(rest) {
            let is_last = place == rest.len();
            if !defines(&text, if is_last { ITEMS } else { &["mod"] }, part) {
                let kind = if is_last { "item" } else { "module" };
                return Ok(Some(format!("there is no {kind} `{part}` in {}", self.shown(&file))));
            }
        }
        Ok(None)
    }

    fn missing_file(&self, path: &str, item: Option<&str>) -> Result<Option<String>> {
        let places = [self.root.join("crates").join(path), self.root.join(path)];
        let is_there = |place: &PathBuf| if path.ends_with('/') { place.is_dir() } else { place.is_file() };
        let Some(found) = places.into_iter().find(is_there) else {
            let kind = if path.ends_with('/') { "folder" } else { "file" };
            return Ok(Some(format!("there is no such {kind}, neither in crates nor in the workspace")));
        };
        match item {
            Some(item) if !defines(&read(&found)?, ITEMS, item) => {
                Ok(Some(format!("there is no item `{item}` in {}", self.shown(&found))))
            }
            _ => Ok(None),
        }
    }

    fn shown(&self, file: &Path) -> String {
        file.strip_prefix(self.root).unwrap_or(file).display().to_string()
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// Whether a source file has one of these keywords before the name, outside of comments.
fn defines(text: &str, keywords: &[&str], name: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    lines.any(|line| {
        let mut words = line.split_whitespace();
        let mut before = words.next().unwrap_or_default();
        words.any(|word| {
            let is_named = keywords.contains(&before)
                && word
                    .strip_prefix(name)
                    .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
            before = word;
            is_named
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with one crate, `log`, and this text.
    fn broken_by(text: &str) -> (usize, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in [
            (TEXT, text),
            ("crates/log/src/lib.rs", "pub mod write;\n// fn gone() {}\npub struct Log<T>(T);\n"),
            ("crates/log/src/write.rs", "mod queue;\nmod inner {\n    pub(super) const MAX: u8 = 1;\n}\n"),
            (
                "crates/log/src/write/queue.rs",
                "impl Queue {\n    pub(crate) async fn push(&self) {}\n}\nenum Full {}\n",
            ),
            ("crates/log/tests/all.rs", "#[test]\nfn nothing_is_lost() {}\n"),
            ("docs/how.md", ""),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let mut broken = Vec::new();
        let checked = check(root.path(), &BTreeSet::from(["log"]), &mut broken).unwrap();
        (checked, broken)
    }

    #[test]
    fn what_is_there_passes() {
        let text = "`log::Log`, `log::write`, `log::write::queue::push`, `log::write::queue::Full`\n\
            `log::write::inner::MAX` `log/src/write.rs` `log/tests/` `docs/how.md` `crates/log/tests/all.rs`\n\
            `log/tests/all.rs::nothing_is_lost`\n";
        assert_eq!(broken_by(text), (10, Vec::new()));
    }

    #[test]
    fn what_is_not_meant_is_not_looked_up() {
        let text = "`/api/incidents.json` `application/json` `log::{a, b}` `Log::with` `write` `a.rs`\n\
            `http://h/a.rs` `<target>/a.rs`\n```\n`log::nothing` and `\n```\n";
        assert_eq!(broken_by(text), (0, Vec::new()));
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        for (span, why) in [
            ("lag::Log", "`lag` is no crate's short name, and a path begins with one"),
            ("quell_log::Log", "`quell_log` is no crate's short name, and a path begins with one"),
            ("log::Lo", "there is no item `Lo` in crates/log/src/lib.rs"),
            ("log::gone", "there is no item `gone` in crates/log/src/lib.rs"),
            ("log::read::push", "there is no module `read` in crates/log/src/lib.rs"),
            ("log::write::push", "there is no item `push` in crates/log/src/write.rs"),
            ("log::write::queue::pus", "there is no item `pus` in crates/log/src/write/queue.rs"),
            ("log::write::queue::push::x", "there is no module `push` in crates/log/src/write/queue.rs"),
            ("log::{Log,write}", "is no plain path; name each item by itself"),
            ("log::write::push()", "is no plain path; name each item by itself"),
            ("log/src/read.rs", "there is no such file, neither in crates nor in the workspace"),
            ("log/src/write.rs/", "there is no such folder, neither in crates nor in the workspace"),
            ("log/tests/all.rs::is_lost", "there is no item `is_lost` in crates/log/tests/all.rs"),
        ] {
            let expected = format!("crates/README.md:2: `{span}`: {why}");
            assert_eq!(broken_by(&format!("Text.\nOne `{span}`.\n")), (1, vec![expected]), "{span}");
        }
        let odd = "crates/README.md:1: has a backtick without its other one in the same line";
        assert_eq!(broken_by("a `log::Log and\nmore`\n").1[0], odd);
    }
}
