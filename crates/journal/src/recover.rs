//! From a folder to a journal that can be appended to: what is believed, cut, or refused.

use std::io;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::{Access, Disk, DiskFile, read_full};
use crate::error::{Damage, DamageReason, Error};
use crate::format::{
    ChainHash, FORMAT_VERSION, Head, MARK_BYTES, Mark, SEGMENT_HEADER_BYTES, SegmentHeader, Unreadable,
    parse_segment_name, segment_name,
};
use crate::options::{MissingMark, OpenCheck, OpenReport, Options, TornTail};
use crate::scan::{Segment, Walk, Waypoint, followers, walk};
use crate::witness::{Witness, Witnesses};

pub(crate) const MARK_NAME: &str = "durable.mark";
const REWRITE_CHUNK_BYTES: u64 = 1 << 20;

/// What is known of one segment while the journal is open.
#[derive(Debug, Clone)]
pub(crate) struct SegmentView {
    pub(crate) first_sequence: u64,
    /// Its durable length in bytes.
    pub(crate) length: u64,
    /// Some of its records' places, rising; empty when it was not read on opening.
    pub(crate) waypoints: Vec<Waypoint>,
}

/// A journal ready to be appended to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<SegmentView>,
    pub(crate) active: Arc<dyn DiskFile>,
    pub(crate) mark: Arc<dyn DiskFile>,
    pub(crate) report: OpenReport,
}

/// A failed step of writing, and whether it was a sync (which nothing can make good).
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) action: &'static str,
    pub(crate) in_sync: bool,
    pub(crate) source: io::Error,
}

impl Failure {
    pub(crate) fn write(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, in_sync: false, source }
    }

    pub(crate) fn sync(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, in_sync: true, source }
    }
}

/// Makes a new segment appear whole or not at all: written under another name, synced, then renamed.
pub(crate) fn create_segment(
    disk: &dyn Disk,
    folder: &Path,
    header: SegmentHeader,
) -> Result<Arc<dyn DiskFile>, Failure> {
    let path = folder.join(segment_name(header.first_sequence));
    let temporary = path.with_extension("journal.tmp");
    let created = (|| {
        let file = disk.open(&temporary, Access::Write).map_err(Failure::write("create a segment"))?;
        file.set_length(0).map_err(Failure::write("create a segment"))?;
        file.write_at(&header.encode(), 0).map_err(Failure::write("write a segment header"))?;
        file.sync().map_err(Failure::sync("sync a segment header"))?;
        disk.rename(&temporary, &path).map_err(Failure::write("rename a segment"))?;
        disk.sync_folder(folder).map_err(Failure::sync("sync the folder"))?;
        Ok(file)
    })();
    if created.is_err() {
        // Only tidiness: opening removes what stays behind.
        let _ = disk.remove(&temporary);
    }
    created
}

/// The names of a folder's segments, in order, as their first sequences.
pub(crate) fn list_segments(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>, Error> {
    let names = disk.list(folder).map_err(|error| Error::io("list", folder, error))?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The durable mark as it was found.
pub(crate) enum MarkFile {
    Missing,
    Unreadable,
    Read(Mark),
}

/// The durable mark, if there is a readable one; without it a lost tail looks like a torn one.
pub(crate) fn read_mark(disk: &dyn Disk, folder: &Path) -> Result<Option<Mark>, Error> {
    match find_mark(disk, folder)? {
        MarkFile::Read(mark) => Ok(Some(mark)),
        MarkFile::Missing => Ok(None),
        MarkFile::Unreadable => {
            tracing::warn!(path = %folder.join(MARK_NAME).display(), "durable mark is unreadable");
            Ok(None)
        }
    }
}

/// Reads the durable mark, and tells one that is missing from one that is there and cannot be read.
pub(crate) fn find_mark(disk: &dyn Disk, folder: &Path) -> Result<MarkFile, Error> {
    let path = folder.join(MARK_NAME);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MarkFile::Missing),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let mut bytes = [0; MARK_BYTES];
    let read = read_full(&*file, &mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
    match Mark::decode(&bytes[..read]) {
        Ok(mark) => Ok(MarkFile::Read(mark)),
        Err(Unreadable::Older(found)) => Err(Error::OlderFormat { path, found, known: FORMAT_VERSION }),
        Err(Unreadable::Newer(found)) => Err(Error::NewerFormat { path, found, known: FORMAT_VERSION }),
        Err(Unreadable::Damaged) => Ok(MarkFile::Unreadable),
    }
}

/// The mark speaks of this journal.
pub(crate) fn check_mark(mark: Option<&Mark>, id: Uuid, folder: &Path) -> Result<(), Error> {
    match mark {
        Some(mark) if mark.id != id => {
            Err(Error::ForeignFile { path: folder.join(MARK_NAME), expected: id, found: mark.id })
        }
        _ => Ok(()),
    }
}

/// What the end of the last segment is.
#[derive(Debug)]
pub(crate) enum Verdict {
    Sound,
    /// Bytes that no caller was ever told are durable.
    Torn(DamageReason),
    /// Acknowledged records are gone, and nothing sound stands after them.
    Lost(DamageReason),
    Corrupt(Damage),
}

/// Tells a torn tail from damage.
///
/// A power cut may leave any part of the last, unsynced write, also its end without its beginning. So a sound record
/// after a bad one proves damage only if its write began later, or if the durable mark had passed the bad one.
pub(crate) fn judge(segment: &Segment, walk: &Walk, mark: Option<&Mark>) -> Result<Verdict, Error> {
    let acknowledged = mark.is_some_and(|mark| mark.head.sequence > walk.head.sequence);
    let Some(damage) = &walk.damage else {
        return Ok(if acknowledged { Verdict::Lost(DamageReason::Missing) } else { Verdict::Sound });
    };
    let followers = followers(segment, walk.stopped, damage.sequence)?;
    if followers.later_write || (acknowledged && followers.any) {
        return Ok(Verdict::Corrupt(damage.clone()));
    }
    Ok(if acknowledged { Verdict::Lost(damage.reason) } else { Verdict::Torn(damage.reason) })
}

/// Opens what lies in the folder, or creates a new journal in it. The caller holds the lock.
pub(crate) fn recover(
    folder: &Path,
    options: &Options,
    mut witnesses: Vec<Witness>,
) -> Result<Recovered, Error> {
    let disk = &*options.disk;
    crate::import::refuse_unfinished(disk, folder)?;
    let mark = read_mark(disk, folder)?;
    witnesses.extend(mark.as_ref().map(Witness::of_mark));
    let witnesses = Witnesses::new(folder, witnesses);
    let first_sequences = list_segments(disk, folder)?;
    let mut recovered = match first_sequences.split_last() {
        None => create(folder, options, &witnesses)?,
        Some((last, closed)) => reopen(folder, options, (mark.as_ref(), witnesses), closed, *last)?,
    };
    remove_leftovers(disk, folder)?;
    let mark = Mark { id: recovered.report.journal_id, head: recovered.report.head };
    let path = folder.join(MARK_NAME);
    recovered.mark.write_at(&mark.encode(), 0).map_err(|error| Error::io("write", &path, error))?;
    recovered.mark.sync().map_err(|error| Error::io("sync", &path, error))?;
    disk.sync_folder(folder).map_err(|error| Error::io("sync", folder, error))?;
    recovered.report.segments = recovered.segments.len();
    Ok(recovered)
}

pub(crate) fn remove_leftovers(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    for name in disk.list(folder).map_err(|error| Error::io("list", folder, error))? {
        let is_segment = name.strip_suffix(".tmp").is_some_and(|name| parse_segment_name(name).is_some());
        let is_ours = is_segment || name == crate::commit::ROOM_NAME;
        if is_ours {
            let path = folder.join(name);
            disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(())
}

fn missing(folder: &Path, sequence: u64) -> Error {
    Error::SegmentMissing { folder: folder.to_owned(), sequence }
}

pub(crate) fn open_mark(disk: &dyn Disk, folder: &Path) -> Result<Arc<dyn DiskFile>, Error> {
    let path = folder.join(MARK_NAME);
    disk.open(&path, Access::Write).map_err(|error| Error::io("open", &path, error))
}

fn create(folder: &Path, options: &Options, witnesses: &Witnesses<'_>) -> Result<Recovered, Error> {
    witnesses.check_nothing()?;
    let id = options.new_journal_id;
    let head = Head { sequence: 0, chain_hash: ChainHash::genesis(id) };
    let header = SegmentHeader { id, first_sequence: 1, chain_hash: head.chain_hash };
    let active = create_segment(&*options.disk, folder, header)
        .map_err(|failure| Error::io(failure.action, folder, failure.source))?;
    let segment =
        SegmentView { first_sequence: 1, length: SEGMENT_HEADER_BYTES as u64, waypoints: Vec::new() };
    Ok(Recovered {
        segments: vec![segment],
        active,
        mark: open_mark(&*options.disk, folder)?,
        report: OpenReport {
            created: true,
            journal_id: id,
            segments: 1,
            head,
            torn_tail: None,
            mark_missing: false,
        },
    })
}

fn reopen(
    folder: &Path,
    options: &Options,
    (mark, mut witnesses): (Option<&Mark>, Witnesses<'_>),
    closed: &[u64],
    last: u64,
) -> Result<Recovered, Error> {
    let disk = &*options.disk;
    let first = Segment::open(disk, folder, *closed.first().unwrap_or(&last), Access::Read)?;
    let id = first.header.id;
    let mut head = Head { sequence: 0, chain_hash: ChainHash::genesis(id) };
    check_first(&first, head, folder)?;
    // One of another journal is a witness, and says nothing about this one's end.
    let mark = mark.filter(|mark| mark.id == id);

    let mut views = Vec::new();
    for (index, sequence) in closed.iter().enumerate() {
        let segment = Segment::open(disk, folder, *sequence, Access::Read)?;
        segment.check_continues(id, head)?;
        let next = closed.get(index + 1).copied().unwrap_or(last);
        let mut waypoints = Vec::new();
        match options.open_check {
            OpenCheck::Everything => {
                let walk = walk(segment.scanner(), head, &mut |header, _, _| witnesses.look(header))?;
                if let Some(damage) = walk.damage {
                    return Err(Error::Corrupt(damage));
                }
                head = walk.head;
                waypoints = walk.waypoints;
            }
            // The next header vouches for this segment until it is read.
            OpenCheck::LastSegment => {
                let header = Segment::open(disk, folder, next, Access::Read)?.header;
                head = Head { sequence: next.saturating_sub(1), chain_hash: header.chain_hash };
            }
        }
        if head.sequence + 1 < next {
            return Err(missing(folder, head.sequence + 1));
        }
        views.push(SegmentView { first_sequence: *sequence, length: segment.length, waypoints });
    }

    let segment = Segment::open(disk, folder, last, Access::Write)?;
    segment.check_continues(id, head)?;
    let mut walk = walk(segment.scanner(), head, &mut |header, _, _| witnesses.look(header))?;
    let verdict = judge(&segment, &walk, mark)?;
    if let Verdict::Corrupt(damage) = verdict {
        return Err(Error::Corrupt(damage));
    }
    witnesses.check(id, walk.head)?;
    let mark_missing = mark.is_none() && walk.head.sequence > 0;
    if mark_missing && options.missing_mark == MissingMark::Refuse {
        return Err(Error::MarkMissing { folder: folder.to_owned(), end: walk.head });
    }
    let torn_tail = cut_tail(&segment, &walk, &verdict)?;
    if mark.is_none_or(|mark| mark.head.sequence < walk.head.sequence) {
        rewrite(&segment, walk.last_write_offset, walk.good_length)?;
    }
    walk.waypoints.retain(|waypoint| waypoint.offset < walk.good_length);
    views.push(SegmentView { first_sequence: last, length: walk.good_length, waypoints: walk.waypoints });
    Ok(Recovered {
        segments: views,
        active: segment.file,
        mark: open_mark(disk, folder)?,
        report: OpenReport {
            created: false,
            journal_id: id,
            segments: 0,
            head: walk.head,
            torn_tail,
            mark_missing,
        },
    })
}

/// The oldest file begins the journal.
pub(crate) fn check_first(first: &Segment, genesis: Head, folder: &Path) -> Result<(), Error> {
    if first.header.first_sequence != 1 {
        return Err(missing(folder, 1));
    }
    first.check_continues(first.header.id, genesis)
}

/// Cuts off what nobody was told is durable.
fn cut_tail(segment: &Segment, walk: &Walk, verdict: &Verdict) -> Result<Option<TornTail>, Error> {
    let Verdict::Torn(reason) = *verdict else { return Ok(None) };
    let bytes = segment.length - walk.good_length;
    tracing::warn!(
        segment = %segment.path.display(), offset = walk.good_length, bytes, %reason,
        "cutting off the unusable end of the journal"
    );
    if bytes > 0 {
        let cut = segment.file.set_length(walk.good_length).and_then(|()| segment.file.sync());
        cut.map_err(|error| Error::io("cut the torn tail of", &segment.path, error))?;
    }
    Ok(Some(TornTail { segment: segment.path.clone(), offset: walk.good_length, bytes, reason }))
}

/// Writes the last write's bytes once more and syncs them.
///
/// After a crash of the process, or a failed sync, these bytes may stand in the page cache only, in pages the system
/// believes to be clean: reading them back proves nothing, and syncing them again would do nothing.
fn rewrite(segment: &Segment, from: u64, to: u64) -> Result<(), Error> {
    let failed = |error| Error::io("rewrite the last records of", &segment.path, error);
    let mut buffer = Vec::new();
    let mut offset = from;
    while offset < to {
        buffer.resize((to - offset).min(REWRITE_CHUNK_BYTES) as usize, 0);
        let read = read_full(&*segment.file, &mut buffer, offset).map_err(failed)?;
        if read < buffer.len() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        segment.file.write_at(&buffer, offset).map_err(failed)?;
        offset += read as u64;
    }
    segment.file.sync().map_err(failed)
}
