//! Power cuts on a real file system, where that is possible.

use std::path::PathBuf;
use std::process::Command;

/// `examples/power_cut.rs`, which cargo builds along with the tests.
fn trials(arguments: &[&str]) -> (Option<i32>, String) {
    let tests: PathBuf = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("power_cut");
    let output = Command::new(program).arg("trials").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn ten_cuts_lose_nothing_and_without_the_sync_they_do() {
    for arguments in [&["10"][..], &["1", "--leave-out-sync"]] {
        let (code, said) = trials(arguments);
        // What it says is counted by `cargo xtask test` when it was skipped.
        #[allow(clippy::print_stdout, reason = "counted by `cargo xtask test`")]
        {
            print!("{said}");
        }
        if code == Some(77) {
            return;
        }
        assert_eq!(code, Some(0), "{said}");
    }
}
