//! Checking a folder without opening it for writing.

use std::path::Path;

use uuid::Uuid;

use crate::disk::{Access, Disk, RealDisk};
use crate::error::{Damage, DamageReason, Error};
use crate::format::{ChainHash, Head, RecordHeader};
use crate::read::Entry;
use crate::recover::{
    MarkFile, Verdict, check_first, check_mark, find_mark, judge, list_segments, read_mark,
};
use crate::scan::{Segment, walk};
use crate::ticket::Position;

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The journal's identity.
    pub journal_id: Uuid,
    /// How many segment files there are.
    pub segments: usize,
    /// How many sound records of whole requests were read, from the first on.
    pub records: u64,
    /// The last of them.
    pub head: Head,
    /// How many of the anchors agree with the chain.
    pub anchors_agreeing: usize,
    /// Bytes at the end that were never acknowledged: a crash's remains, or a write under way.
    pub torn_tail_bytes: u64,
    /// The first thing that is wrong; none if all is well.
    pub first_bad: Option<Damage>,
}

/// Recomputes every checksum, digest and chain hash, and compares the chain with heads that were noted elsewhere.
///
/// Takes no lock and changes nothing: it may run beside an open journal. Damage is a finding in the report; an error
/// means that the folder could not be judged.
pub fn verify(folder: &Path, anchors: &[Head]) -> Result<VerifyReport, Error> {
    verify_on(&RealDisk, folder, anchors)
}

/// [`verify`] on another file system, for tests.
pub fn verify_on(disk: &dyn Disk, folder: &Path, anchors: &[Head]) -> Result<VerifyReport, Error> {
    check(disk, folder, anchors, &mut |_, _, _| {})
}

/// [`verify`], showing each sound record on the way, in order, up to the first thing that is wrong. The last ones may not be
/// durable yet: compare with [`durable_head`], asked for before.
pub fn verify_each(
    folder: &Path,
    anchors: &[Head],
    visit: &mut dyn FnMut(Entry),
) -> Result<VerifyReport, Error> {
    check(&RealDisk, folder, anchors, &mut |header, position, payload| {
        visit(Entry::new(header, payload, position));
    })
}

/// How far the journal in the folder is known to be durable; none when nothing there says so.
pub fn durable_head(folder: &Path) -> Result<Option<Head>, Error> {
    Ok(read_mark(&RealDisk, folder)?.map(|mark| mark.head))
}

/// What the durable mark in a folder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurableMark {
    /// There is none.
    Missing,
    /// There is one, and its content is not a mark.
    Unreadable,
    /// The journal is durable up to here.
    UpTo(Head),
}

/// [`durable_head`], telling a mark that is missing from one that cannot be read.
pub fn durable_mark(folder: &Path) -> Result<DurableMark, Error> {
    Ok(match find_mark(&RealDisk, folder)? {
        MarkFile::Missing => DurableMark::Missing,
        MarkFile::Unreadable => DurableMark::Unreadable,
        MarkFile::Read(mark) => DurableMark::UpTo(mark.head),
    })
}

fn check(
    disk: &dyn Disk,
    folder: &Path,
    anchors: &[Head],
    visit: &mut dyn FnMut(&RecordHeader, Position, &[u8]),
) -> Result<VerifyReport, Error> {
    // Read first: a mark that is older than the segments only says less.
    let mark = read_mark(disk, folder)?;
    let sequences = list_segments(disk, folder)?;
    let missing = |sequence| Error::SegmentMissing { folder: folder.to_owned(), sequence };
    let first = Segment::open(disk, folder, *sequences.first().ok_or_else(|| missing(1))?, Access::Read)?;
    let id = first.header.id;
    let genesis = Head { sequence: 0, chain_hash: ChainHash::genesis(id) };
    check_mark(mark.as_ref(), id, folder)?;
    let mut report = VerifyReport {
        journal_id: id,
        segments: sequences.len(),
        records: 0,
        head: genesis,
        anchors_agreeing: 0,
        torn_tail_bytes: 0,
        first_bad: None,
    };
    if let Err(error) = check_first(&first, genesis, folder) {
        return finding(report, error);
    }

    for anchor in anchors.iter().filter(|anchor| anchor.sequence == 0) {
        if *anchor != genesis {
            let (segment, reason) = (first.path.clone(), DamageReason::Anchor);
            report.first_bad = Some(Damage { segment, offset: 0, sequence: 0, reason });
            return Ok(report);
        }
        report.anchors_agreeing += 1;
    }

    for (index, sequence) in sequences.iter().enumerate() {
        if report.head.sequence + 1 < *sequence {
            return Err(missing(report.head.sequence + 1));
        }
        let segment = match Segment::open(disk, folder, *sequence, Access::Read) {
            Ok(segment) => segment,
            Err(error) => return finding(report, error),
        };
        if let Err(error) = segment.check_continues(id, report.head) {
            return finding(report, error);
        }
        let mut mismatch = None;
        let mut agreeing = 0;
        let found = walk(segment.scanner().with_digests(), report.head, &mut |header, offset, payload| {
            let noted_here = |noted: &&Head| noted.sequence == header.sequence;
            let agrees = |noted: &Head| noted.chain_hash == header.chain_hash;
            agreeing += anchors.iter().filter(noted_here).filter(|noted| agrees(noted)).count();
            let marked = mark.as_ref().map(|mark| &mark.head);
            if anchors.iter().chain(marked).filter(noted_here).any(|noted| !agrees(noted)) {
                mismatch.get_or_insert((offset, header.sequence));
            }
            if mismatch.is_none() {
                visit(header, Position { segment: *sequence, offset }, payload);
            }
        })?;
        report.anchors_agreeing += agreeing;
        report.head = found.head;
        report.records = found.head.sequence;
        if let Some((offset, sequence)) = mismatch {
            let segment = segment.path.clone();
            report.first_bad = Some(Damage { segment, offset, sequence, reason: DamageReason::Anchor });
            return Ok(report);
        }
        let is_last = index + 1 == sequences.len();
        let verdict = match &found.damage {
            Some(damage) if !is_last => Verdict::Corrupt(damage.clone()),
            None if !is_last => Verdict::Sound,
            _ => judge(&segment, &found, mark.as_ref())?,
        };
        let lost = |reason| Damage {
            segment: segment.path.clone(),
            offset: found.good_length,
            sequence: found.head.sequence + 1,
            reason,
        };
        match verdict {
            Verdict::Sound => {}
            Verdict::Torn(_) => report.torn_tail_bytes = segment.length - found.good_length,
            Verdict::Lost(reason) => report.first_bad = Some(lost(reason)),
            Verdict::Corrupt(damage) => report.first_bad = Some(damage),
        }
        if report.first_bad.is_some() {
            return Ok(report);
        }
        if is_last && anchors.iter().any(|anchor| anchor.sequence > report.head.sequence) {
            report.first_bad = Some(lost(DamageReason::Missing));
        }
    }
    Ok(report)
}

/// Damage goes into the report; what prevents judging stays an error.
fn finding(mut report: VerifyReport, error: Error) -> Result<VerifyReport, Error> {
    match error {
        Error::Corrupt(damage) => {
            report.first_bad = Some(damage);
            Ok(report)
        }
        other => Err(other),
    }
}
