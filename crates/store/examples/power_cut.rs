//! Cuts the power of an embedded store on ext4 in a loop image, and looks for what was acknowledged.
//!
//! `power_cut trials N [--leave-out-sync]` makes an image, mounts it, has `power_cut write` append to a store there, shuts the file
//! system down under it by ext4's own ioctl (nothing that was not synced survives), mounts it again and opens the store. With the
//! sync left out something has to be lost: otherwise the test would not notice. Takes root, a loop device, e2fsprogs and perl.
//!
//! What is acknowledged after the shutdown began is shown and not judged. A machine without power says nothing, but here the process
//! goes on, and an `fdatasync` that was under way may return success for what is not on the disk: a bare loop of writes and
//! `fdatasync`, without any of this project's code, shows the same under the same shutdown.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests: printing is what it is for"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use quell_incident::ids::SourceName;
use quell_store::{EmbeddedStore, IncidentStore as _, Options, Received, ReceivedPosition};

type Failed = Box<dyn Error + Send + Sync>;

const SKIPPED: u8 = 77;
const IMAGE_BYTES: u64 = 512 << 20;
/// The writer stops by itself, so that the image never fills.
const WRITTEN_BYTES_MAX: u64 = 200 << 20;
const WRITERS: u64 = 4;
const VALUE_BYTES: (u64, u64) = (100, 1 << 20);
const UNMOUNT_WITHIN: Duration = Duration::from_secs(10);
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUTDOWN: &str =
    r#"open(my $f, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($f, 0x8004587D, $how) or die $!;"#;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["write", folder, seed, rest @ ..] => {
            write(Path::new(folder), seed, !rest.is_empty()).await.map(|()| 0)
        }
        ["trials", number, rest @ ..] => trials(number, !rest.is_empty()).await,
        _ => Err("power_cut trials N [--leave-out-sync]".into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// SplitMix64: the same on every machine.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// What is written as number `number`: its content follows from the number, and its length is spread over the orders of magnitude.
fn value(seed: u64, number: u64) -> Result<Received, Failed> {
    let random = mixed(seed ^ mixed(number));
    let (least, most) = VALUE_BYTES;
    let doublings = (most / least).ilog2();
    let bytes = (least << (random % u64::from(doublings + 1))) + random % least;
    let word = format!("{:016x}", mixed(random));
    let mut text = word.repeat((bytes.min(most) as usize).div_ceil(word.len()));
    text.truncate(bytes.min(most) as usize);
    Ok(Received {
        at: Timestamp::UNIX_EPOCH,
        source: SourceName::declared("power-cut")?,
        alerts: Vec::new(),
        group_key: Some(text),
        truncated_alerts: number,
        trace: None,
    })
}

fn options(leave_out_sync: bool) -> Options {
    let mut options = Options::new(uuid::Uuid::from_u128(1));
    // Small, so that the power also goes during a rotation.
    options.journal.segment_bytes_max = 4 << 20;
    options.journal.leave_out_sync = leave_out_sync;
    options
}

/// Appends until it is killed, and says each number once it is acknowledged.
async fn write(folder: &Path, seed: &str, leave_out_sync: bool) -> Result<(), Failed> {
    let seed: u64 = seed.parse()?;
    let store = Arc::new(EmbeddedStore::open(folder, options(leave_out_sync))?);
    let written = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, written) = (Arc::clone(&store), Arc::clone(&written));
        writers.spawn(async move {
            for number in (writer..).step_by(WRITERS as usize) {
                let value = value(seed, number)?;
                let bytes = value.group_key.as_ref().map_or(0, String::len) as u64;
                if written.fetch_add(bytes, Ordering::Relaxed) > WRITTEN_BYTES_MAX {
                    return Ok(());
                }
                let position = store.receive(value).await?;
                // One write, so that lines of two writers do not mix.
                let line = format!("{} {number}\n", position.0);
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes())?;
                out.flush()?;
            }
            Ok::<(), Failed>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    // The store stays open until the power goes.
    std::future::pending::<()>().await;
    Ok(())
}

#[derive(Default)]
struct Sum {
    /// Heard before the power began to go.
    acknowledged: u64,
    lost: u64,
    unopenable: u64,
    /// Heard only then.
    late: u64,
    late_lost: u64,
}

/// Positions and numbers that the writer has said.
fn parsed(text: &str) -> Result<BTreeMap<u64, u64>, Failed> {
    let pair = |line: &str| {
        line.split_once(' ').and_then(|(at, number)| Some((at.parse().ok()?, number.parse().ok()?)))
    };
    let pairs: Option<_> = text.lines().map(pair).collect();
    pairs.ok_or_else(|| "the writer said something strange".into())
}

async fn trials(number: &str, leave_out_sync: bool) -> Result<u8, Failed> {
    let number: u64 = number.parse()?;
    let mut sum = Sum::default();
    for trial in 0..number {
        match one(trial, leave_out_sync).await? {
            None if trial == 0 => {
                println!("skipped: power cuts: they take root, a loop device, mkfs.ext4 and perl");
                return Ok(SKIPPED);
            }
            None => return Err(format!("trial {trial} could not be set up").into()),
            Some(one) => {
                sum.acknowledged += one.acknowledged;
                sum.lost += one.lost;
                sum.unopenable += one.unopenable;
                sum.late += one.late;
                sum.late_lost += one.late_lost;
            }
        }
    }
    let Sum { acknowledged, lost, unopenable, late, late_lost } = sum;
    let how = if leave_out_sync { " with the sync left out" } else { "" };
    println!("{number} power cuts{how}: {acknowledged} acknowledged, {lost} lost, {unopenable} unopenable");
    println!(
        "acknowledged while the power was going, not counted: {late}, of which {late_lost} are not there"
    );
    let is_as_it_should = if leave_out_sync { lost + unopenable > 0 } else { lost + unopenable == 0 };
    Ok(u8::from(!is_as_it_should || acknowledged == 0))
}

/// A mounted image, unmounted when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }

    /// A killed writer may need a moment to let go.
    fn unmount(&self) -> bool {
        let begun = Instant::now();
        loop {
            let done = Command::new("umount").arg(&self.0).output();
            if done.is_ok_and(|output| output.status.success()) {
                return true;
            }
            if begun.elapsed() > UNMOUNT_WITHIN {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Killed when it is dropped.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One trial; none when it cannot be set up here.
async fn one(trial: u64, leave_out_sync: bool) -> Result<Option<Sum>, Failed> {
    let folder = tempfile::tempdir()?;
    let (image, at) = (folder.path().join("image"), folder.path().join("mnt"));
    std::fs::create_dir(&at)?;
    std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    let Some(mounted) = Mounted::mount(&image, &at) else { return Ok(None) };
    let data = at.join("data");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("write").arg(&data).arg(trial.to_string());
    if leave_out_sync {
        command.arg("--leave-out-sync");
    }
    let mut writer = Writer(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let mut said = BufReader::new(writer.0.stdout.take().ok_or("the writer has no output")?);
    let text = Arc::new(Mutex::new(String::new()));
    let hearing = Arc::clone(&text);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let listening = std::thread::spawn(move || {
        while !line.is_empty() {
            // A last line without an end was never said.
            if line.ends_with('\n') {
                hearing.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
            }
            line.clear();
            if said.read_line(&mut line).is_err() {
                return;
            }
        }
    });
    // Somewhere in the middle of its work.
    std::thread::sleep(Duration::from_millis(30 + mixed(trial) % 400));
    let heard = || text.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let before = heard();
    let cut = Command::new("perl").args(["-e", SHUTDOWN]).arg(&at).output()?;
    if !cut.status.success() {
        return Ok(None);
    }
    drop(writer);
    listening.join().map_err(|_| "the listener panicked")?;
    if !mounted.unmount() {
        return Err("the image stays mounted".into());
    }
    std::mem::forget(mounted);
    let acknowledged = parsed(&before)?;
    let all = parsed(&heard())?;
    let Some(mounted) = Mounted::mount(&image, &at) else {
        return Err("the image cannot be mounted again".into());
    };
    let mut sum = Sum { acknowledged: acknowledged.len() as u64, ..Sum::default() };
    match EmbeddedStore::open(&data, options(false)) {
        Err(error) => {
            println!(
                "trial {trial}: {error}: {}",
                error.source().map(ToString::to_string).unwrap_or_default()
            );
            sum.unopenable = 1;
        }
        Ok(store) => {
            let mut found = BTreeMap::new();
            let mut after = ReceivedPosition::default();
            loop {
                let batches = store.received_after(after, 100).await?;
                let Some((last, _)) = batches.last() else { break };
                after = *last;
                for (position, received) in batches {
                    if received == value(trial, received.truncated_alerts)? {
                        found.insert(position.0, received.truncated_alerts);
                    }
                }
            }
            let lost = |said: &BTreeMap<u64, u64>| {
                said.iter().filter(|(at, number)| found.get(at) != Some(number)).count() as u64
            };
            sum.lost = lost(&acknowledged);
            sum.late = (all.len() - acknowledged.len()) as u64;
            sum.late_lost = lost(&all) - sum.lost;
        }
    }
    drop(mounted);
    Ok(Some(sum))
}
