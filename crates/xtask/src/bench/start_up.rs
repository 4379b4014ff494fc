//! From starting a program until it listens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use super::START_WITHIN;
use crate::child::{Process, stop_all};
use crate::interrupt::Interrupt;

/// Each program is started this often, and the median counts: the first start reads it from disk.
const TIMES: usize = 5;

/// Milliseconds by program, each with a fresh data folder.
pub(super) fn measure(
    binaries: &BTreeMap<String, PathBuf>,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<BTreeMap<String, f64>> {
    let mut medians = BTreeMap::new();
    for name in ["quell-coordinator", "quell-diagnostic", "quell-resolution", "quell-simulator"] {
        let mut times = Vec::with_capacity(TIMES);
        for time in 0..TIMES {
            times.push(start(
                name,
                &binaries[name],
                &folder.join(format!("start-{name}-{time}")),
                interrupt,
            )?);
        }
        times.sort_by(f64::total_cmp);
        medians.insert(name.to_owned(), times[TIMES / 2]);
    }
    Ok(medians)
}

fn start(name: &str, program: &Path, folder: &Path, interrupt: &Interrupt) -> Result<f64> {
    std::fs::create_dir(folder)?;
    let file = folder.join("addresses.json");
    let [first, second] = quell_child::free_addresses::<2>()?.map(|address| address.to_string());
    let data = folder.join("data").display().to_string();
    let file_name = file.display().to_string();
    let own: &[&str] = match name {
        "quell-coordinator" => &["--listen", &first, "--grpc-listen", &second, "--data-dir", &data],
        "quell-resolution" => &["--listen", &first, "--data-dir", &data],
        "quell-simulator" => &["--metrics-port", "0"],
        _ => &["--listen", &first],
    };
    let arguments: Vec<_> =
        own.iter().chain(&["--address-file", &file_name]).map(|&word| word.to_owned()).collect();
    let started = Instant::now();
    let mut process = Process::start(name, program, &arguments, folder)?;
    process.wait_for("address file", START_WITHIN, interrupt, || file.is_file().then_some(()))?;
    let took = started.elapsed().as_secs_f64() * 1000.0;
    stop_all(&mut vec![process]);
    Ok(took)
}
