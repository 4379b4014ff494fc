//! A disk in memory that can fail, fill up and lose power. For tests, of this crate and of those above it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Access, Disk, DiskFile, LockAttempt};

const SECTOR_BYTES: u64 = 512;

/// What of the unsynced changes is on the disk after the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Only what was synced.
    None,
    /// Everything that was written, as when only the process is killed.
    All,
    /// Any of the unsynced sectors and any first part of the unsynced folder changes, by this seed.
    Random(u64),
}

/// A file system in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    syncs: u64,
    cut_at: Option<u64>,
    is_cut: bool,
    fail_sync_at: Option<u64>,
    space_bytes: Option<u64>,
    hold_syncs: bool,
    syncs_held: u64,
    open_files: usize,
}

#[derive(Debug, Default)]
struct Node {
    content: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many syncs of files and folders were asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// How many changes and syncs were asked for: the boundaries at which the power can be cut.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The sync after the next `syncs` ones fails, once; as on Linux, its data are then believed to be clean.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut state = self.state();
        state.fail_sync_at = Some(state.syncs + syncs + 1);
    }

    /// How many bytes files may still grow by; beyond, a write is short and fails. None is without limit.
    pub fn set_space_bytes(&self, bytes: Option<u64>) {
        self.state().space_bytes = bytes;
    }

    /// Lets syncs wait, or go on.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().hold_syncs = hold;
        self.0.released.notify_all();
    }

    /// Blocks until a sync is being held; false if none was within ten seconds.
    #[must_use]
    pub fn wait_for_held_sync(&self) -> bool {
        let limit = Duration::from_secs(10);
        let waited = self.0.released.wait_timeout_while(self.state(), limit, |state| state.syncs_held == 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.syncs_held > 0
    }

    /// How many file handles are open.
    pub fn open_files(&self) -> usize {
        self.state().open_files
    }

    /// Cuts the power during the operation after the next `operations` ones.
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.operations + operations + 1);
    }

    /// Cuts the power now: every later operation fails.
    pub fn cut_power(&self) {
        self.state().is_cut = true;
        self.0.released.notify_all();
    }

    /// Whether the power was cut.
    pub fn is_cut(&self) -> bool {
        self.state().is_cut
    }

    /// The disk as it is found when the machine starts again. This one stays as it is.
    pub fn restart(&self, survival: Survival) -> Self {
        let state = self.state();
        let mut random = Random(match survival {
            Survival::Random(seed) => seed,
            Survival::None | Survival::All => 0,
        });
        let mut survives = move || match survival {
            Survival::None => false,
            Survival::All => true,
            Survival::Random(_) => random.next().is_multiple_of(2),
        };
        let mut restarted = State { names: state.durable_names.clone(), ..State::default() };
        for node in &state.nodes {
            let mut content = node.durable.clone();
            for change in &node.changes {
                match change {
                    Change::Write(offset, bytes) => {
                        write_surviving_sectors(&mut content, *offset, bytes, &mut survives);
                    }
                    Change::Length(length) if survives() => content.resize(*length as usize, 0),
                    Change::Length(_) => {}
                }
            }
            restarted.nodes.push(Node { durable: content.clone(), content, changes: Vec::new() });
        }
        // A file system journals its folders: changes survive in order, up to some point.
        for change in state.name_changes.iter().take_while(|_| survives()) {
            apply(&mut restarted.names, change);
        }
        restarted.durable_names = restarted.names.clone();
        Self(Arc::new(Inner { state: Mutex::new(restarted), released: Condvar::new() }))
    }

    /// A file's content as a reader sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).and_then(|node| state.nodes.get(*node)).map(|node| node.content.clone())
    }

    /// Replaces a file's content, durably: damage done from outside.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state();
        let node = Node { durable: content.clone(), content, changes: Vec::new() };
        match state.names.get(path).copied() {
            Some(index) => state.nodes[index] = node,
            None => {
                let index = state.nodes.len();
                state.nodes.push(node);
                state.names.insert(path.to_owned(), index);
                state.durable_names.insert(path.to_owned(), index);
            }
        }
    }

    /// Removes a file, durably; false if there was none.
    pub fn remove_file(&self, path: &Path) -> bool {
        let mut state = self.state();
        state.durable_names.remove(path);
        state.names.remove(path).is_some()
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a change, which is pending and not acknowledged if the power goes at this very moment.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        state.check_power()?;
        state.operations += 1;
        let done = change(&mut state);
        state.cut_if_due()?;
        done
    }

    /// Syncs; if the power goes at this very moment, nothing more is durable than before.
    fn sync(&self, sync: impl FnOnce(&mut State, bool)) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        state.operations += 1;
        state.syncs += 1;
        let number = state.syncs;
        state.syncs_held += 1;
        self.released.notify_all();
        while state.hold_syncs && !state.is_cut {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.syncs_held -= 1;
        state.check_power()?;
        state.cut_if_due()?;
        let fails = state.fail_sync_at == Some(number);
        sync(&mut state, !fails);
        if fails { Err(io::Error::other("simulated failing sync")) } else { Ok(()) }
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.is_cut { Err(io::Error::other("simulated power cut")) } else { Ok(()) }
    }

    fn cut_if_due(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|at| self.operations >= at) {
            self.is_cut = true;
        }
        self.check_power()
    }

    fn node(&mut self, index: usize) -> io::Result<&mut Node> {
        self.nodes.get_mut(index).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.name_changes.push(change);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Create(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn write_surviving_sectors(
    content: &mut Vec<u8>,
    mut offset: u64,
    mut bytes: &[u8],
    survives: &mut dyn FnMut() -> bool,
) {
    while !bytes.is_empty() {
        let in_sector = (SECTOR_BYTES - offset % SECTOR_BYTES) as usize;
        let (sector, rest) = bytes.split_at(in_sector.min(bytes.len()));
        if survives() {
            write(content, offset, sector);
        }
        offset += sector.len() as u64;
        bytes = rest;
    }
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        self.state().check_power()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let existing = {
            let state = self.state();
            state.check_power()?;
            state.names.get(path).copied()
        };
        let node = match (existing, access) {
            (Some(node), _) => node,
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::Write) => self.0.change(|state| {
                let node = state.nodes.len();
                state.nodes.push(Node::default());
                state.change_name(NameChange::Create(path.to_owned(), node));
                Ok(node)
            })?,
        };
        self.state().open_files += 1;
        Ok(Arc::new(SimulatedFile { disk: Arc::clone(&self.0), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change(|state| {
            state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.change(|state| {
            state.change_name(NameChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        self.0.sync(|state, durable| {
            let changes = std::mem::take(&mut state.name_changes);
            for change in changes.iter().filter(|_| durable) {
                apply(&mut state.durable_names, change);
            }
        })
    }

    fn lock(&self, path: &Path) -> io::Result<LockAttempt> {
        let mut state = self.state();
        state.check_power()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(LockAttempt::Taken { pid: None });
        }
        Ok(LockAttempt::Held(Box::new(HeldLock { disk: Arc::clone(&self.0), path: path.to_owned() })))
    }
}

struct HeldLock {
    disk: Arc<Inner>,
    path: PathBuf,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: Arc<Inner>,
    node: usize,
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.disk.lock().open_files -= 1;
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.check_power()?;
        let content = &state.node(self.node)?.content;
        let available = content.get(offset as usize..).unwrap_or_default();
        let bytes = available.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&available[..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change(|state| {
            let length = state.node(self.node)?.content.len() as u64;
            let growth = (offset + bytes.len() as u64).saturating_sub(length);
            let space = state.space_bytes.unwrap_or(u64::MAX);
            let written =
                &bytes[..bytes.len() - growth.saturating_sub(space).min(bytes.len() as u64) as usize];
            state.space_bytes = state.space_bytes.map(|space| space.saturating_sub(growth));
            let node = state.node(self.node)?;
            write(&mut node.content, offset, written);
            node.changes.push(Change::Write(offset, written.to_vec()));
            if written.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.disk.change(|state| {
            let node = state.node(self.node)?;
            node.content.resize(bytes as usize, 0);
            node.changes.push(Change::Length(bytes));
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.check_power()?;
        Ok(state.node(self.node)?.content.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync(|state, durable| {
            let Some(node) = state.nodes.get_mut(self.node) else { return };
            for change in std::mem::take(&mut node.changes).iter().filter(|_| durable) {
                match change {
                    Change::Write(offset, bytes) => write(&mut node.durable, *offset, bytes),
                    Change::Length(bytes) => node.durable.resize(*bytes as usize, 0),
                }
            }
        })
    }
}
