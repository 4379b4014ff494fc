//! Measuring the engines on a small suite that is written here: what people see, and what is said of files with mistakes.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use support::quell;

/// Rows before the fault, and of it.
const NORMAL: usize = 20;
const FAULT: usize = 5;

/// A case of a suite with three services, in which `service` is out of CPU.
fn case(suite: &Path, name: &str, service: &str) {
    let folder = suite.join(name);
    fs::create_dir_all(&folder).unwrap();
    let start = 1_700_000_000;
    let fault = start + 60 * NORMAL;
    let description =
        format!(r#"{{"case": "{name}", "suite": "shop", "inject_time": {fault}, "step_s": 60}}"#);
    fs::write(folder.join("case.json"), description).unwrap();
    let mut metrics = "time".to_owned();
    for one in ["web", "cart", "db"] {
        metrics += &format!(",{one}_cpu_rate,{one}_latency,{one}_workload");
    }
    metrics.push('\n');
    for row in 0..NORMAL + FAULT {
        metrics += &(start + 60 * row).to_string();
        for (place, one) in ["web", "cart", "db"].iter().enumerate() {
            let wave = 1.0 + 0.02 * ((row * 7 + place * 3) % 5) as f64;
            let is_faulty = row >= NORMAL && *one == service;
            let cpu = if is_faulty { 96.0 * wave } else { 12.0 * wave };
            let latency = if is_faulty { 0.9 * wave } else { 0.1 * wave };
            metrics += &format!(",{cpu:.3},{latency:.4},{:.2}", 5.0 * wave);
        }
        metrics.push('\n');
    }
    fs::write(folder.join("metrics.csv"), metrics).unwrap();
}

fn suite(folder: &Path) {
    let suite = folder.join("shop");
    for (name, service) in [("one", "cart"), ("two", "db"), ("three", "web")] {
        case(&suite, name, service);
    }
    fs::write(suite.join("topology.csv"), "caller,callee\nweb,cart\ncart,db\n").unwrap();
    let truth: String = [("one", "cart"), ("two", "db"), ("three", "cart")]
        .iter()
        .map(|(case, service)| format!("{{\"case\": \"{case}\", \"root_cause_service\": \"{service}\"}}\n"))
        .collect();
    fs::create_dir_all(folder.join("truth")).unwrap();
    fs::write(folder.join("truth/shop.jsonl"), truth).unwrap();
    fs::write(folder.join("truth/others.jsonl"), "{\"something\": \"else\"}\n").unwrap();
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// What is not the same in each run: times and the folder.
fn masked(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "FOLDER");
    let lines = text.lines().map(|line| {
        if line.contains(" ms for a case") { "N ms for a case, N ms at the most" } else { line.trim_end() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_suite_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    suite(folder.path());
    let out = path(folder.path(), "predictions.jsonl");
    let (cases, truth) = (path(folder.path(), "shop"), path(folder.path(), "truth"));
    let ran =
        quell(&["eval", "rca", &cases, "--out", &out, "--score", &truth, "--leave-one-out"], None).await;
    assert_eq!(ran.code, 0, "{}", ran.error);
    assert_snapshot!(masked(&ran.out, folder.path()));

    let predictions = fs::read_to_string(&out).unwrap();
    let lines: Vec<serde_json::Value> =
        predictions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let two = lines.iter().find(|line| line["case"] == "two").unwrap();
    assert_eq!(two["ranked"][0], "db");
    assert_eq!(two["fault"], "cpu_saturation");
    assert_eq!(two["n_candidates"], 3);
    assert!(two["confidence"].as_f64().unwrap() > 0.5);
    assert!(two["seconds"].as_f64().unwrap() >= 0.0);

    let json = quell(&["eval", "rca", &cases, "--out", &out, "--score", &truth, "-o", "json"], None).await;
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["calibrated"], false);
    let suite = &document["suites"][0];
    assert_eq!(suite["suite"], "shop");
    assert!((suite["score"]["ac1"]["share"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(suite["calm"]["specificity"]["share"], 1.0);
}

#[tokio::test]
async fn mistakes_are_told_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    suite(folder.path());
    let metrics = folder.path().join("shop/one/metrics.csv");
    let sound = fs::read_to_string(&metrics).unwrap();
    let row = |changed: &str| {
        let mut lines: Vec<&str> = sound.lines().collect();
        lines[3] = changed;
        lines.join("\n")
    };
    let third = sound.lines().nth(3).unwrap();
    let with_cell = |cell: &str| row(&third.replacen(third.split(',').nth(1).unwrap(), cell, 1));
    for (text, expected) in [
        (with_cell("fast"), "one/metrics.csv:4: `web_cpu_rate` is `fast`, expected a finite number"),
        (with_cell("NaN"), "one/metrics.csv:4: `web_cpu_rate` is `NaN`, expected a finite number"),
        (with_cell("inf"), "one/metrics.csv:4: `web_cpu_rate` is `inf`, expected a finite number"),
        (row("1,2"), "one/metrics.csv:4: it has 2 columns where the first line has 10"),
        (sound.replacen("time", "when", 1), "one/metrics.csv:1: the column `time` is missing"),
        (sound.replacen("web_cpu_rate", "cpu", 1), "one/metrics.csv:1: the column `cpu` is not"),
        (with_cell("\"open"), "one/metrics.csv"),
    ] {
        fs::write(&metrics, text).unwrap();
        let cases = path(folder.path(), "shop");
        let ran = quell(&["eval", "rca", &cases, "--out", &path(folder.path(), "p.jsonl")], None).await;
        assert_eq!(ran.code, 1, "{expected}");
        assert!(ran.error.contains(expected), "{expected}: {}", ran.error);
    }
    fs::write(&metrics, with_cell("")).unwrap();
    fs::write(folder.path().join("shop/one/logs.csv"), "time,service\n1,web\n").unwrap();
    let cases = path(folder.path(), "shop");
    let ran = quell(&["eval", "rca", &cases, "--out", &path(folder.path(), "p.jsonl")], None).await;
    assert!(ran.error.contains("one/logs.csv:1: the column `message` is missing"), "{}", ran.error);
    fs::remove_file(folder.path().join("shop/one/logs.csv")).unwrap();
    fs::write(folder.path().join("shop/one/case.json"), "{\n\"case\": 1}").unwrap();
    let ran = quell(&["eval", "rca", &cases, "--out", &path(folder.path(), "p.jsonl")], None).await;
    assert!(ran.error.contains("one/case.json:2: it is no description of a case"), "{}", ran.error);
    let ran = quell(&["eval", "rca", &path(folder.path(), "truth"), "--out", "p.jsonl"], None).await;
    assert_eq!(ran.code, 3);
    assert!(ran.error.contains("there is no case in"), "{}", ran.error);
}

#[tokio::test]
async fn a_calibration_is_fitted_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, model) = (path(folder.path(), "resolved.jsonl"), path(folder.path(), "model.json"));
    // The engines say seven in ten, and are right nine times in ten.
    let resolved: String = (0..60)
        .map(|number| {
            let right = number % 10 != 0;
            format!(
                "{{\"case\": \"c{number}\", \"ranked\": [\"cart\"], \"confidence\": 0.7, \"right\": {right}, \
                 \"features\": {{\"first\": 0.7, \"second\": 0.1, \"groups\": 1}}}}\n"
            )
        })
        .collect();
    fs::write(&lines, &resolved).unwrap();
    let ran = quell(&["eval", "calibrate", &lines, "--out", &model, "-o", "json"], None).await;
    assert_eq!(ran.code, 0, "{}", ran.error);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let validated = &document["cross_validated"];
    assert!(validated["after"].as_f64().unwrap() < validated["before"].as_f64().unwrap(), "{document}");
    assert_eq!(document["model"]["outcomes"], 60);

    suite(folder.path());
    let (cases, out) = (path(folder.path(), "shop"), path(folder.path(), "p.jsonl"));
    let ran = quell(&["eval", "rca", &cases, "--out", &out, "--model", &model, "-o", "json"], None).await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["calibrated"], true);

    fs::write(&lines, resolved.lines().take(9).collect::<Vec<_>>().join("\n")).unwrap();
    let ran = quell(&["eval", "calibrate", &lines, "--out", &model], None).await;
    assert_eq!(ran.code, 3);
    assert!(ran.error.contains("9 outcomes are too few"), "{}", ran.error);
    fs::write(&lines, "{}\n{\"case\":").unwrap();
    let ran = quell(&["eval", "calibrate", &lines, "--out", &model], None).await;
    assert!(ran.error.contains("resolved.jsonl:1: it is not a prediction"), "{}", ran.error);
}
