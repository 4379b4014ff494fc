//! No log line of a program holds Rust's own form of a structure: it is made for those who write the program, changes with it, and shows
//! whatever a field has. Numbers and words go into fields that have names.

use std::fs;
use std::path::{Path, PathBuf};

/// What may be written by its form for developers: the names of variants that carry nothing.
const PLAIN: [&str; 2] = ["?message.status", "?self.kind"];
const MACROS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

#[test]
fn no_log_line_holds_a_debug_dump() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut sources, mut calls) = (Vec::new(), 0);
    let folders = fs::read_dir(crates).unwrap().map(|folder| folder.unwrap().path().join("src"));
    folders.for_each(|folder| collect(&folder, &mut sources));
    let mut dumps = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for call in calls_in(&text) {
            calls += 1;
            if is_dump(call) {
                dumps.push(format!("{}: {call}", path.display()));
            }
        }
    }
    assert!(calls > 100, "the programs log: {calls}");
    assert!(dumps.is_empty(), "{}", dumps.join("\n"));
    for (call, dumps) in
        [("?report, \"open\"", true), ("report = ?store.report()", true), ("%error, \"why?\"", false)]
    {
        assert_eq!(is_dump(call), dumps, "{call}");
    }
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("log_dumps.rs")
        {
            sources.push(path);
        }
    }
}

/// The arguments of each call of a log macro.
fn calls_in(text: &str) -> Vec<&str> {
    let begins = MACROS.iter().flat_map(|name| text.match_indices(name).map(|(at, found)| at + found.len()));
    begins.filter_map(|at| inside(text.get(at..)?)).collect()
}

/// What stands before the parenthesis that closes.
fn inside(text: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        if depth == 0 {
            return text.get(..at);
        }
    }
    None
}

/// Whether a field is written by its form for developers.
fn is_dump(call: &str) -> bool {
    let mut quoted = false;
    let fields = call.split(|character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    fields
        .map(|field| field.split_once('=').map_or(field, |(_, value)| value).trim())
        .any(|value| value.starts_with('?') && !PLAIN.contains(&value))
}
