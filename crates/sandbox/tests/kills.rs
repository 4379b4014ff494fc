//! The real programs are killed with SIGKILL at random instants: what people run themselves as `quell selftest crash`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, and what it found is shown"
)]

mod common;

use std::process::Command;

use serde_json::Value;

/// Rounds of three faults each, which take a minute or two: many are for `cargo xtask soak`, and for whoever runs the command.
const ROUNDS: u64 = 1;

#[test]
fn whoever_is_killed_and_whenever_nothing_is_lost_or_done_twice() {
    let mut selftest = Command::new(common::program("quell"));
    selftest.args(["selftest", "crash", "--rounds", &ROUNDS.to_string(), "--output", "json"]);
    let output = selftest.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {said}", output.status);
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    for zero in ["lost", "duplicated", "stuck", "twice"] {
        assert_eq!(counted[zero], 0, "{zero}");
    }
    assert!(counted["acknowledged"].as_u64().unwrap() >= 10 * ROUNDS, "hardly a load: {counted}");
    // What the kills hit is drawn, and on a busy machine few faults come to a step in one round: the command counts it, over many rounds.
    assert!(counted["steps_started"].as_u64().unwrap() > 0, "not a step: {counted}");
    let kills = counted["kills"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert!(kills >= 3 * ROUNDS, "the killer hardly came to kill: {counted}");
}
