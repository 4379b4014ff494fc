//! The real programs on a data folder that is not what they left: newer, damaged, cut or torn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quell_child::{Manner, Process, Signal, find};
use quell_sandbox::{Asking, until};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{firing, payload, program};
use crate::programs::{COORDINATOR, run};

const WITHIN: Duration = Duration::from_secs(30);
const ALERTS: usize = 20;
/// Where the first record of a segment is.
const FIRST_RECORD: usize = 80;

/// A daemon that listens where the system says, on `folder`/data.
async fn started(name: &str, folder: &Path) -> (Process, String) {
    let file = folder.join("listens.json");
    let _ = fs::remove_file(&file);
    let mut arguments = listens(name);
    arguments.extend(["--data-dir", "data", "--address-file", "listens.json"]);
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let process = Process::start(name, &program(name), &arguments, folder, Manner::default()).unwrap();
    let address = until("it to listen", WITHIN, async || {
        let text = fs::read_to_string(&file).map_err(|_| process.last_words())?;
        let told: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let address = told["addresses"].as_object().and_then(|all| all.get("http").or(all.get("grpc")));
        address.and_then(Value::as_str).map(str::to_owned).ok_or(text)
    });
    let address = address.await.unwrap_or_else(|error| panic!("{error}"));
    (process, format!("http://{address}"))
}

fn listens(name: &str) -> Vec<&'static str> {
    match name {
        COORDINATOR => vec!["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"],
        _ => vec!["--listen", "127.0.0.1:0"],
    }
}

/// The only segment under a folder.
fn segment(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "journal") {
                return path;
            }
        }
    }
    panic!("there is no journal");
}

async fn incidents(address: &str) -> usize {
    let all = Asking::new().unwrap().get(&format!("{address}/api/incidents")).await.unwrap();
    all.as_array().unwrap().len()
}

#[tokio::test]
async fn a_folder_that_is_newer_damaged_or_cut_is_named_and_a_torn_end_heals() {
    let kept = TempDir::new().unwrap();
    let folder = kept.path();
    let (mut process, address) = started(COORDINATOR, folder).await;
    let asking = Asking::new().unwrap();
    for number in 0..ALERTS {
        let name = format!("Alert{number}");
        let body = payload(&[firing(&name, &[("instance", &name)])]);
        let url = format!("{address}/webhooks/alertmanager");
        asking.json(Method::POST, &url, Some(&body)).await.unwrap();
    }
    let all = async || match incidents(&address).await {
        ALERTS => Ok(()),
        count => Err(format!("{count} incidents")),
    };
    until("all incidents", WITHIN, all).await.unwrap_or_else(|error| panic!("{error}"));
    process.end_by(Signal::TERM);
    let file = segment(folder);
    let sound = fs::read(&file).unwrap();
    let middle = sound.len() / 2;

    let name = file.file_name().unwrap().to_str().unwrap();
    let mut arguments = listens(COORDINATOR);
    arguments.extend(["--data-dir", "data"]);
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let cases: [(&str, Change, i32, &[&str]); 3] = [
        ("newer", Box::new(|bytes| bytes[8] = 9), 5, &[name, "format version 9", "use the newer program"]),
        (
            "damaged",
            Box::new(move |bytes| bytes[middle] ^= 1),
            7,
            &[name, "journal is damaged", "put the folder back", "quell store accept-loss"],
        ),
        (
            "cut",
            Box::new(|bytes| bytes.truncate(bytes.len() - 400)),
            7,
            &["put the folder back", "quell store accept-loss"],
        ),
    ];
    for (what, change, code, words) in cases {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let ran = run(COORDINATOR, folder, &arguments).await;
        assert_eq!(ran.code, Some(code), "{what}: {}", ran.error);
        for word in words {
            assert!(ran.error.contains(word), "{what}: {word:?} is not in {}", ran.error);
        }
        assert!(!ran.error.contains("panicked"), "{what}: {}", ran.error);
        assert_eq!(fs::read(&file).unwrap(), bytes, "{what}: it is left as it is");
    }

    // The beginning of a record that was being written when the power went.
    let torn = [&sound[..], &sound[FIRST_RECORD..FIRST_RECORD + 60]].concat();
    fs::write(&file, torn).unwrap();
    let (_process, address) = started(COORDINATOR, folder).await;
    assert_eq!(incidents(&address).await, ALERTS);
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_named() {
    let kept = TempDir::new().unwrap();
    let name = "quell-resolution";
    let (mut process, _) = started(name, kept.path()).await;
    process.end_by(Signal::TERM);
    let file = segment(kept.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 9;
    fs::write(&file, &bytes).unwrap();
    let mut arguments = listens(name);
    arguments.extend(["--data-dir", "data"]);
    let ran = run(name, kept.path(), &arguments).await;
    assert_eq!(ran.code, Some(5), "{}", ran.error);
    for word in ["format version 9", "use the newer program"] {
        assert!(ran.error.contains(word), "{word:?} is not in {}", ran.error);
    }
    assert_eq!(fs::read(&file).unwrap(), bytes, "it is left as it is");
}

/// The lock is the system's and not a file's being there: what a killed process left does not keep the next one out.
#[tokio::test]
async fn of_two_processes_on_one_folder_the_second_is_told_and_the_first_goes_on() {
    let kept = TempDir::new().unwrap();
    let (mut first, address) = started(COORDINATOR, kept.path()).await;
    let mut arguments = listens(COORDINATOR);
    arguments.extend(["--data-dir", "data"]);
    let second = run(COORDINATOR, kept.path(), &arguments).await;
    assert_eq!(second.code, Some(4), "{}", second.error);
    let words = format!("in use by process {}", first.id());
    // `setpriv` becomes the program, so the number is the same.
    assert!(find("setpriv").is_none() || second.error.contains(&words), "{}", second.error);
    assert_eq!(incidents(&address).await, 0, "the first one goes on");
    first.kill();
    let lock = kept.path().join("data/journal/LOCK");
    assert!(lock.is_file(), "the killed one left its file");
    let (_third, address) = started(COORDINATOR, kept.path()).await;
    assert_eq!(incidents(&address).await, 0);
}
