//! Dropping payloads from closed segments.

use std::sync::PoisonError;

use crate::commit::Shared;
use crate::disk::Access;
use crate::error::{Damage, DamageReason, Error};
use crate::format::{ChainHash, SEGMENT_HEADER_BYTES, segment_name};
use crate::read::Entry;
use crate::scan::{Segment, Step, Waypoint, note_waypoint};
use crate::ticket::Position;

/// What is written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A segment of an open journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The sequence of its first record.
    pub first_sequence: u64,
    /// The sequence after its last record.
    pub end_sequence: u64,
    /// Its durable length in bytes.
    pub bytes: u64,
    /// Whether nothing is appended to it any more.
    pub closed: bool,
}

/// What dropping payloads from one segment came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many payloads were dropped.
    pub payloads: u64,
    /// How many bytes shorter the segment is.
    pub bytes: u64,
}

impl Shared {
    pub(crate) fn segments(&self) -> Vec<SegmentInfo> {
        let view = self.view();
        let ends = view.segments.iter().skip(1).map(|next| Some(next.first_sequence)).chain([None]);
        let infos = view.segments.iter().zip(ends).map(|(segment, end)| SegmentInfo {
            first_sequence: segment.first_sequence,
            end_sequence: end.unwrap_or(view.head.sequence + 1),
            bytes: segment.length,
            closed: end.is_some(),
        });
        infos.collect()
    }

    pub(crate) fn drop_payloads(
        &self,
        segment: u64,
        drop: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<Dropped, Error> {
        let _one_at_a_time = self.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
        let info = self.segments().into_iter().find(|info| info.first_sequence == segment);
        let info = info.ok_or(Error::NoRecord { segment, offset: 0 })?;
        if !info.closed {
            return Err(Error::SegmentInUse { segment });
        }
        let disk = &*self.options.disk;
        let path = self.folder.join(segment_name(segment));
        let temporary = path.with_extension("journal.tmp");
        let written = self.write_anew(&info, drop);
        let (dropped, length, waypoints) = match written {
            Ok((dropped, ..)) if dropped.payloads == 0 => {
                disk.remove(&temporary).map_err(|error| Error::io("remove", &temporary, error))?;
                return Ok(dropped);
            }
            Ok(written) => written,
            Err(error) => {
                // Only tidiness: opening removes what stays behind.
                let _ = disk.remove(&temporary);
                return Err(error);
            }
        };
        // Readers look at length and file under this lock, so they see both of the old or both of the new one.
        let mut view = self.view_mut();
        disk.rename(&temporary, &path).map_err(|error| Error::io("rename", &temporary, error))?;
        if let Some(view) = view.segments.iter_mut().find(|view| view.first_sequence == segment) {
            view.length = length;
            view.waypoints = waypoints;
        }
        let mut files = self.read_files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(of, _)| *of != segment);
        std::mem::drop((files, view));
        disk.sync_folder(&self.folder).map_err(|error| Error::io("sync", &self.folder, error))?;
        Ok(dropped)
    }

    /// Writes the segment beside itself, durably; only a sound one that leads to the next segment.
    fn write_anew(
        &self,
        info: &SegmentInfo,
        drop: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<(Dropped, u64, Vec<Waypoint>), Error> {
        let disk = &*self.options.disk;
        let old = Segment::open(disk, &self.folder, info.first_sequence, Access::Read)?;
        let next = Segment::open(disk, &self.folder, info.end_sequence, Access::Read)?;
        let temporary = old.path.with_extension("journal.tmp");
        let failed = |error| Error::io("write", &temporary, error);
        let file = disk.open(&temporary, Access::Write).map_err(failed)?;
        file.set_length(0).map_err(failed)?;
        let mut buffer = old.header.encode().to_vec();
        let mut flushed = 0_u64;
        let mut waypoints = Vec::new();
        let mut dropped = Dropped::default();
        let mut chain: ChainHash = old.header.chain_hash;
        let mut scanner = old.scanner().with_digests();
        loop {
            match scanner.step()? {
                Step::Record { header, offset } => {
                    let position = Position { segment: info.first_sequence, offset };
                    let without =
                        !header.is_dropped() && drop(&Entry::new(&header, scanner.payload(), position));
                    note_waypoint(&mut waypoints, header.sequence, flushed + buffer.len() as u64);
                    if without {
                        dropped.payloads += 1;
                        dropped.bytes += u64::from(header.payload_length);
                        header.without_payload().encode(&mut buffer, self.id);
                    } else {
                        header.encode(&mut buffer, self.id);
                        buffer.extend_from_slice(scanner.payload());
                    }
                    chain = header.chain_hash;
                }
                Step::Damaged(reason) => return Err(Error::Corrupt(scanner.damage(reason))),
                Step::End => break,
            }
            if buffer.len() >= CHUNK_BYTES {
                file.write_at(&buffer, flushed).map_err(failed)?;
                flushed += buffer.len() as u64;
                buffer.clear();
            }
        }
        if scanner.next_sequence != info.end_sequence || chain != next.header.chain_hash {
            let (segment, sequence) = (next.path, info.end_sequence);
            let reason = DamageReason::SegmentChain;
            return Err(Error::Corrupt(Damage { segment, offset: 0, sequence, reason }));
        }
        if dropped.payloads > 0 {
            file.write_at(&buffer, flushed).map_err(failed)?;
            file.sync().map_err(|error| Error::io("sync", &temporary, error))?;
        }
        let length = (flushed + buffer.len() as u64).max(SEGMENT_HEADER_BYTES as u64);
        Ok((dropped, length, waypoints))
    }
}
