//! What the system says about processes and folders.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Processor time in milliseconds of a process and of all that it started: what has ended and was waited for is in its own count.
pub(super) fn processor_milliseconds(pid: u32) -> Result<f64> {
    let mut ticks = own_ticks(pid)?;
    for child in children(pid) {
        // One may have ended since it was listed; its parent counts it by then.
        ticks += own_ticks(child).unwrap_or(0);
    }
    // The unit of /proc is USER_HZ, which is 100 on every Linux.
    Ok(ticks as f64 * 10.0)
}

/// User and system time of a process and of its children that were waited for, in ticks (proc(5), fields 14 to 17).
fn own_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The name may have spaces in it; it ends at the last bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    fields.get(11..15).unwrap_or_default().iter().map(|field| Ok(field.parse::<u64>()?)).sum()
}

/// The processes that a process started and that run.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Bytes that a folder takes on the disk.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        // Blocks are of 512 bytes, whatever the file system's own are (stat(2)).
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// The one in the middle; of an even number, the lower one.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_the_median_is_a_value() {
        assert!(processor_milliseconds(std::process::id()).is_ok());
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_folder_takes_the_blocks_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![7; 10_000]).unwrap();
        assert!(disk_bytes(folder.path()) >= 10_000);
    }
}
