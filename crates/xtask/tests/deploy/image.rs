//! deploy/Dockerfile as lines.

use std::collections::BTreeSet;

use crate::read;

/// What follows the last instruction of that name.
pub(crate) fn line(instruction: &str) -> Option<String> {
    let text = read("deploy/Dockerfile");
    let prefix = format!("{instruction} ");
    text.lines().rev().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

/// The images that it builds on.
pub(crate) fn bases() -> Vec<String> {
    let text = read("deploy/Dockerfile");
    let from = text.lines().filter_map(|line| line.strip_prefix("FROM "));
    from.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

pub(crate) fn exposed() -> BTreeSet<u16> {
    line("EXPOSE").unwrap().split(' ').map(|port| port.parse().unwrap()).collect()
}

/// A variable that the image sets.
pub(crate) fn environment(name: &str) -> String {
    line("ENV").unwrap().strip_prefix(&format!("{name}=")).unwrap().to_owned()
}
