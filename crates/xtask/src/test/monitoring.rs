//! The files of Prometheus and Alertmanager, checked by their own programs.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Summary, checker};
use crate::workspace;

/// Checks monitoring/ and what deploy/ adds to it.
pub(super) fn check() -> Result<Summary> {
    let mut summary = Summary::default();
    let root = workspace::root();
    // Beside each other, as they stand where they are used: a configuration names the rules by a relative path.
    let laid_out = tempfile::tempdir().context("no temporary folder")?;
    for folder in ["monitoring", "deploy"] {
        let place = laid_out.path().join(folder);
        fs::create_dir(&place)?;
        for file in ["prometheus.yml", "alertmanager.yml"] {
            fs::copy(root.join(folder).join(file), place.join(file))
                .with_context(|| format!("{folder}/{file}"))?;
        }
        for file in ["rules.yml", "rules_test.yml"] {
            fs::copy(root.join("monitoring").join(file), place.join(file))
                .with_context(|| file.to_owned())?;
        }
    }
    let mut run = |name: &str, folder: &str, arguments: &[&str]| match quell_child::find(name) {
        Some(file) => {
            let what = format!("{name} {} ({folder})", arguments.join(" "));
            checker(&what, Command::new(file).args(arguments), &laid_out.path().join(folder), &mut summary)
        }
        None => {
            summary
                .skipped
                .push(format!("{name} {} ({folder}): {name} is not installed", arguments.join(" ")));
            Ok(())
        }
    };
    run("promtool", "monitoring", &["check", "rules", "rules.yml"])?;
    run("promtool", "monitoring", &["test", "rules", "rules_test.yml"])?;
    for folder in ["monitoring", "deploy"] {
        run("promtool", folder, &["check", "config", "prometheus.yml"])?;
        run("amtool", folder, &["check-config", "alertmanager.yml"])?;
    }
    Ok(summary)
}
