//! `cargo xtask check-deps`: who may depend on whom, and what stands apart, as rules that are run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::workspace;

mod licence;
mod names;

/// A crate, what it may depend on inside the workspace, and why.
struct Direction {
    name: &'static str,
    may_use: &'static [&'static str],
    why: &'static str,
}

/// What is built before daemons and knows nothing of them stands first. Tests may use anything that makes no circle.
const DIRECTIONS: &[Direction] = &[
    Direction { name: "incident", may_use: &[], why: "the domain is pure and everyone's" },
    Direction {
        name: "a2a",
        may_use: &[],
        why: "the protocol is useful on its own and knows nothing of incidents",
    },
    Direction { name: "tool", may_use: &[], why: "tools can be served and used without Quell" },
    Direction { name: "journal", may_use: &[], why: "a log of bytes does not know what they mean" },
    Direction { name: "child", may_use: &[], why: "starts programs and does not know which" },
    Direction { name: "web", may_use: &[], why: "keeps web pages out of any port, whatever it serves" },
    Direction { name: "service", may_use: &["web"], why: "what daemons share has no part in what they do" },
    Direction { name: "sign", may_use: &[], why: "keys and signatures do not know what is signed" },
    Direction {
        name: "simulator",
        may_use: &["service", "web"],
        why: "the simulated world must not know who repairs it; its ports are served like any other",
    },
    Direction {
        name: "store",
        may_use: &["incident", "journal", "sign"],
        why: "keeps incidents in a journal",
    },
    Direction { name: "diagnose", may_use: &["incident"], why: "pure engines: evidence in, report out" },
    Direction {
        name: "remedy",
        may_use: &["incident", "journal", "sign", "tool"],
        why: "plans and steps over tools, with a ledger",
    },
    Direction {
        name: "connect",
        may_use: &["incident", "tool"],
        why: "outside systems as tools; it decides nothing",
    },
    Direction { name: "console", may_use: &["incident", "store"], why: "shows; no decision is made there" },
    Direction {
        name: "coordinator",
        may_use: &["a2a", "connect", "console", "incident", "service", "sign", "store", "tool", "web"],
        why: "asks agents by A2A alone: neither engines nor runbooks are linked into it",
    },
    Direction {
        name: "diagnostic",
        may_use: &["a2a", "connect", "diagnose", "incident", "service", "tool", "web"],
        why: "has nothing that acts, and no store",
    },
    Direction {
        name: "resolution",
        may_use: &["a2a", "connect", "incident", "journal", "remedy", "service", "sign", "tool", "web"],
        why: "the only one with power; incidents are the coordinator's",
    },
    Direction {
        name: "cli",
        may_use: &["a2a", "child", "diagnose", "incident", "remedy", "service", "store"],
        why: "a client like any other; it opens a store only to audit and to move it, finds it as the coordinator does, measures the engines, and explains rules and runbooks",
    },
    Direction {
        name: "sandbox",
        may_use: &[
            "a2a",
            "child",
            "connect",
            "console",
            "coordinator",
            "diagnose",
            "diagnostic",
            "incident",
            "journal",
            "remedy",
            "resolution",
            "service",
            "sign",
            "simulator",
            "store",
            "tool",
        ],
        why: "all of it in one process, for tests",
    },
    Direction {
        name: "xtask",
        may_use: &["child", "diagnose"],
        why: "has to build in seconds: it runs the programs as people do, and links an engine only behind a feature",
    },
];

/// Packages that only some crates may name, so that exchanging them changes one crate.
const FENCED: &[(&[&str], &[&str], &str)] = &[
    (
        &["prost", "prost-types", "tonic", "tonic-prost", "tonic-health", "tonic-reflection", "tonic-types"],
        &["a2a"],
        "only a2a names protobuf and gRPC",
    ),
    (&["sled", "sqlx"], &["store"], "only store names databases"),
    (&["aws-lc-rs"], &["sign"], "only sign names the library of signatures"),
    (&["askama", "rust-embed"], &["console"], "only console names HTML"),
    (
        &["logdrain"],
        &["xtask"],
        "only measured against: it brings bincode 1, which nobody maintains, into no program that is shipped",
    ),
];

/// Crates that do no IO, and packages that would let them, also through others.
const PURE: &[&str] = &["incident", "diagnose"];
const IMPURE: &[&str] = &["tokio", "mio", "reqwest", "hyper", "axum", "tonic", "tracing-subscriber"];

/// Lines of a source file: more is an error, and from the lower number on it is named.
const LINES_MAX: usize = 600;
const LINES_NOTICED: usize = 500;

/// Runs all checks and prints what it found.
pub(crate) fn run() -> Result<()> {
    let metadata = metadata()?;
    let packages = packages(&metadata);
    let mut broken = Vec::new();
    directions(&packages, &mut broken);
    fences(&packages, &mut broken);
    purity(&metadata, &packages, &mut broken)?;
    let checked = licence::check(&metadata, &mut broken);
    let (files, long) = file_lengths(&mut broken)?;
    let named = names::check(&workspace::root(), &packages.keys().copied().collect(), &mut broken)?;
    for (file, lines) in &long {
        println!("note: {} has {lines} lines; past {LINES_NOTICED} ask what it is two of", file.display());
    }
    if broken.is_empty() {
        println!(
            "{} crates, {checked} licences, {files} files and {named} names in crates/README.md are as they should be",
            packages.len()
        );
        return Ok(());
    }
    for line in &broken {
        println!("{line}");
    }
    bail!("{} rules of the architecture are broken", broken.len());
}

fn metadata() -> Result<Value> {
    let output = workspace::cargo(["metadata", "--format-version", "1", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "cargo metadata failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A crate of the workspace.
struct Package<'a> {
    id: &'a str,
    /// Names of what it is built with; what only its tests use is not in it.
    uses: BTreeSet<&'a str>,
}

/// By name without `quell-`.
fn packages(metadata: &Value) -> BTreeMap<&str, Package<'_>> {
    let members: BTreeSet<_> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (id, name) = (text(&package["id"]), text(&package["name"]));
        if members.contains(id) {
            let uses = package["dependencies"].as_array().into_iter().flatten();
            let uses = uses.filter(|one| one["kind"] != "dev").map(|one| text(&one["name"])).collect();
            packages.insert(short(name), Package { id, uses });
        }
    }
    packages
}

fn directions(packages: &BTreeMap<&str, Package<'_>>, broken: &mut Vec<String>) {
    for (name, package) in packages {
        let Some(direction) = DIRECTIONS.iter().find(|direction| direction.name == *name) else {
            broken
                .push(format!("{name}: is not in the table of directions; say there what it may depend on"));
            continue;
        };
        for used in package.uses.iter().filter(|used| used.starts_with("quell-")) {
            if !direction.may_use.contains(&short(used)) {
                broken.push(format!("{name}: must not depend on {}: {}", short(used), direction.why));
            }
        }
    }
}

fn fences(packages: &BTreeMap<&str, Package<'_>>, broken: &mut Vec<String>) {
    for (name, package) in packages {
        for (fenced, owners, why) in FENCED {
            for used in fenced.iter().filter(|fenced| package.uses.contains(*fenced)) {
                if !owners.contains(name) {
                    broken.push(format!("{name}: must not depend on {used}: {why}"));
                }
            }
        }
    }
}

fn purity(metadata: &Value, packages: &BTreeMap<&str, Package<'_>>, broken: &mut Vec<String>) -> Result<()> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolved nothing")?;
    let by_id: BTreeMap<_, _> = nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let names: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    for pure in PURE {
        let package = packages.get(pure).with_context(|| format!("there is no crate {pure}"))?;
        let (mut seen, mut open) = (BTreeSet::from([package.id]), vec![package.id]);
        while let Some(id) = open.pop() {
            let uses = by_id.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten();
            for used in uses {
                // Build scripts and tests run elsewhere.
                let linked =
                    used["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
                if linked && seen.insert(text(&used["pkg"])) {
                    open.push(text(&used["pkg"]));
                }
            }
        }
        let found: Vec<_> =
            seen.iter().filter_map(|id| names.get(id)).filter(|name| IMPURE.contains(name)).collect();
        for name in found {
            broken.push(format!("{pure}: must not depend on {name}, not even through others: it does no IO"));
        }
    }
    Ok(())
}

/// The number of source files, and the long ones.
fn file_lengths(broken: &mut Vec<String>) -> Result<(usize, Vec<(PathBuf, usize)>)> {
    let root = workspace::root();
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files)?;
    let mut long = Vec::new();
    for file in &files {
        let lines = fs::read_to_string(file).with_context(|| file.display().to_string())?.lines().count();
        let shown = file.strip_prefix(&root).unwrap_or(file);
        if lines > LINES_MAX {
            broken.push(format!(
                "{}: has {lines} lines, at most {LINES_MAX} are read at once",
                shown.display()
            ));
        } else if lines > LINES_NOTICED {
            long.push((shown.to_owned(), lines));
        }
    }
    long.sort();
    Ok((files.len(), long))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                rust_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_prefix("quell-").unwrap_or(name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata_of(name: &str, uses: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<_> =
            uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({
            "workspace_members": ["id"],
            "packages": [{"id": "id", "name": name, "license": "MIT", "dependencies": dependencies}],
        })
    }

    fn broken_by(name: &str, uses: &[(&str, Option<&str>)]) -> Vec<String> {
        let metadata = metadata_of(name, uses);
        let (packages, mut broken) = (packages(&metadata), Vec::new());
        directions(&packages, &mut broken);
        fences(&packages, &mut broken);
        broken
    }

    #[test]
    fn directions_and_fences_are_kept() {
        assert!(broken_by("quell-store", &[("quell-journal", None), ("sled", None)]).is_empty());
        assert!(broken_by("quell-store", &[("quell-coordinator", Some("dev"))]).is_empty());
        assert_eq!(broken_by("quell-store", &[("quell-a2a", None)]).len(), 1);
        assert_eq!(broken_by("quell-store", &[("quell-a2a", Some("build"))]).len(), 1);
        assert_eq!(broken_by("quell-coordinator", &[("tonic", None), ("sled", None)]).len(), 2);
        assert_eq!(broken_by("quell-new", &[]).len(), 1);
    }

    #[test]
    fn purity_is_looked_for_through_others() {
        let node = |id: &str, uses: Value| json!({"id": id, "deps": uses});
        let kinds = |kind: Value| json!([{"kind": kind}]);
        let mut metadata = json!({
            "workspace_members": ["incident", "diagnose"],
            "packages": [
                {"id": "incident", "name": "quell-incident"}, {"id": "diagnose", "name": "quell-diagnose"},
                {"id": "between", "name": "between"}, {"id": "tokio", "name": "tokio"},
            ],
            "resolve": {"nodes": [
                node("incident", json!([])),
                node("diagnose", json!([{"pkg": "between", "dep_kinds": kinds(Value::Null)}])),
                node("between", json!([{"pkg": "tokio", "dep_kinds": kinds(json!("dev"))}])),
            ]},
        });
        let broken = |metadata: &Value| {
            let mut broken = Vec::new();
            purity(metadata, &packages(metadata), &mut broken).unwrap();
            broken
        };
        assert!(broken(&metadata).is_empty());
        metadata["resolve"]["nodes"][2]["deps"][0]["dep_kinds"] = kinds(Value::Null);
        assert_eq!(
            broken(&metadata),
            ["diagnose: must not depend on tokio, not even through others: it does no IO"]
        );
    }
}
