//! One file of an older snapshot, and the file of the same relation of the newest one.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::DedupError;
use super::budget::{ExtentBudget, Run, within};
use super::pace::Pace;
use crate::fsutil::dedupe_range;
use crate::fsutil::fiemap::{self, Extent, Pending};

/// The unit of sharing: the block size of the file systems.
const BLOCK: u64 = 4096;
/// The bytes of each file that are read at once.
const WINDOW: u64 = 1 << 20;

/// The result for one file, or the sum of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sharing {
    /// The bytes that were compared.
    pub(super) examined: u64,
    /// The bytes whose blocks are now the newer file's.
    pub(super) shared: u64,
    /// The bytes of them whose blocks no other file had: they are free now.
    pub(super) saved: u64,
    /// The extents that the older file had, and those that it has now.
    pub(super) extents_before: u64,
    pub(super) extents: u64,
}

/// Both files, with the extents that they had.
struct Pair<'a> {
    newer: &'a File,
    older: &'a File,
    newer_extents: Vec<Extent>,
    older_extents: Vec<Extent>,
    buffers: (Vec<u8>, Vec<u8>),
    /// Whether bytes of each came from the disk.
    is_read: (bool, bool),
    sharing: Sharing,
}

/// Lets the older file have the blocks of the newer one where both have the same bytes at the same offset, and the budget
/// takes the run.
pub(super) fn share(
    newer: &File,
    older: &File,
    budget: &mut ExtentBudget,
    pace: &mut Pace,
) -> Result<Sharing, DedupError> {
    let bytes = length(newer)?.min(length(older)?);
    let is_whole = length(newer)? == length(older)?;
    // The last block of a file can be shared if both files end in it (ioctl_fideduperange(2)).
    let end = if is_whole {
        bytes
    } else {
        bytes / BLOCK * BLOCK
    };
    if end < BLOCK {
        return leave(older);
    }
    let mut pair = Pair::open(newer, older)?;
    for range in unshared(&pair.older_extents, &pair.newer_extents, end) {
        pair.share_range(range, pace, &mut |run| budget.takes(run))?;
    }
    pair.close()
}

/// Shares these ranges, which were equal when the files were compared.
pub(super) fn share_ranges(
    newer: &File,
    older: &File,
    ranges: Vec<Range<u64>>,
    pace: &mut Pace,
) -> Result<Sharing, DedupError> {
    let mut pair = Pair::open(newer, older)?;
    for range in ranges {
        // The kernel reads them in any case, at no pace.
        pair.share_range(range, pace, &mut |_| true)?;
    }
    pair.close()
}

/// A file that the newer snapshot has not.
pub(super) fn leave(older: &File) -> Result<Sharing, DedupError> {
    let extents = count_extents(older)?;
    Ok(Sharing {
        extents_before: extents,
        extents,
        ..Sharing::default()
    })
}

impl<'a> Pair<'a> {
    fn open(newer: &'a File, older: &'a File) -> Result<Self, DedupError> {
        // Without readahead, which would bring bytes from the disk that nothing has paid for, and count as cached.
        for file in [newer, older] {
            fadvise(file, 0, None, Advice::Random).map_err(DedupError::io("read"))?;
        }
        Ok(Self {
            newer,
            older,
            newer_extents: extents(newer)?,
            older_extents: extents(older)?,
            buffers: (Vec::new(), Vec::new()),
            is_read: (false, false),
            sharing: Sharing::default(),
        })
    }

    fn close(self) -> Result<Sharing, DedupError> {
        // Nothing else reads a snapshot's files from the page cache. What was there is left to the comparison with the next
        // one.
        for (file, is_read) in [(self.newer, self.is_read.0), (self.older, self.is_read.1)] {
            if is_read {
                fadvise(file, 0, None, Advice::DontNeed).map_err(DedupError::io("read"))?;
            }
        }
        let extents_before = self.older_extents.len() as u64;
        let extents = match self.sharing.shared {
            0 => extents_before,
            _ => count_extents(self.older)?,
        };
        Ok(Sharing {
            extents_before,
            extents,
            ..self.sharing
        })
    }

    /// Compares a range, and shares the runs of equal blocks that are taken, each at its end: its blocks are in the page
    /// cache then.
    fn share_range(
        &mut self,
        range: Range<u64>,
        pace: &mut Pace,
        takes: &mut dyn FnMut(&Run) -> bool,
    ) -> Result<(), DedupError> {
        let mut equal: Option<Range<u64>> = None;
        let mut at = range.start;
        while at < range.end {
            let window = at..range.end.min(at + WINDOW);
            self.read(&window, pace)?;
            let mut offset = window.start;
            while offset < window.end {
                let block = offset..window.end.min(offset + BLOCK);
                if self.is_equal(&window, &block) {
                    let start = equal.map_or(block.start, |equal| equal.start);
                    equal = Some(start..block.end);
                } else if let Some(equal) = equal.take() {
                    self.share_run(equal, takes)?;
                }
                offset = block.end;
            }
            at = window.end;
        }
        equal.map_or(Ok(()), |equal| self.share_run(equal, takes))
    }

    fn read(&mut self, window: &Range<u64>, pace: &mut Pace) -> Result<(), DedupError> {
        let length = (window.end - window.start) as usize;
        let (newer, older) = &mut self.buffers;
        let (newer_is_read, older_is_read) = &mut self.is_read;
        for (file, buffer, is_read) in [
            (self.newer, newer, newer_is_read),
            (self.older, older, older_is_read),
        ] {
            buffer.resize(length, 0);
            let cached = read_cached(file, buffer, window.start);
            let missing = &mut buffer[cached..];
            *is_read |= !missing.is_empty();
            pace.take(missing.len() as u64)?;
            let read = file.read_exact_at(missing, window.start + cached as u64);
            read.map_err(|source| DedupError::Io {
                action: "read",
                source,
            })?;
        }
        self.sharing.examined += length as u64;
        Ok(())
    }

    /// Whether both have the same bytes in a block of the read window.
    fn is_equal(&self, window: &Range<u64>, block: &Range<u64>) -> bool {
        let within = (block.start - window.start) as usize..(block.end - window.start) as usize;
        let (newer, older) = &self.buffers;
        newer.get(within.clone()) == older.get(within)
    }

    fn share_run(
        &mut self,
        range: Range<u64>,
        takes: &mut dyn FnMut(&Run) -> bool,
    ) -> Result<(), DedupError> {
        let run = Run::new(range.clone(), &self.older_extents, &self.newer_extents);
        if !takes(&run) {
            return Ok(());
        }
        let length = range.end - range.start;
        let shared = dedupe_range::share(self.newer, self.older, range.start, length);
        let shared = shared.map_err(|error| match error {
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV => DedupError::Unsupported,
            other => DedupError::io("share blocks of")(other),
        })?;
        self.sharing.shared += shared;
        let range = range.start..range.start + shared;
        let given_up = within(&self.older_extents, &range).iter();
        self.sharing.saved += given_up
            .filter(|extent| !extent.is_shared())
            .map(|extent| extent.end().min(range.end) - extent.logical.max(range.start))
            .sum::<u64>();
        Ok(())
    }
}

/// The ranges below `end`, in whole blocks, in which the older file has blocks that the newer one has not at the same
/// offset.
fn unshared(older: &[Extent], newer: &[Extent], end: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut add = |range: Range<u64>| {
        let range = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK).min(end);
        match ranges.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.start < range.end => ranges.push(range),
            _ => {}
        }
    };
    let mut candidates = newer.iter().peekable();
    for extent in older {
        let mut at = extent.logical;
        while at < extent.end() {
            while candidates.next_if(|other| other.end() <= at).is_some() {}
            let Some(other) = candidates
                .peek()
                .filter(|other| other.logical < extent.end())
            else {
                add(at..extent.end());
                break;
            };
            let from = at.max(other.logical);
            let to = extent.end().min(other.end());
            if at < from {
                add(at..from);
            }
            if !is_same_place(extent, other, from) {
                add(from..to);
            }
            at = to;
        }
    }
    ranges
}

/// Whether two extents have the same block at an offset that both have.
fn is_same_place(one: &Extent, other: &Extent, at: u64) -> bool {
    let place = |extent: &Extent| {
        extent
            .has_place()
            .then(|| extent.physical + (at - extent.logical))
    };
    place(one).is_some() && place(one) == place(other)
}

/// Reads the first bytes, as many as the page cache has, and returns how many: all of a snapshot that was just imported,
/// if there is the memory. They put no load on the disk if the kernel reads nothing ahead. A file system that cannot tell
/// (preadv2(2), `RWF_NOWAIT`) has none.
pub(super) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut cached = 0;
    while cached < buffer.len() {
        let mut missing = [IoSliceMut::new(&mut buffer[cached..])];
        let at = offset + cached as u64;
        match preadv2(file, &mut missing, at, ReadWriteFlags::NOWAIT) {
            Ok(read @ 1..) => cached += read,
            Ok(0) | Err(_) => break,
        }
    }
    cached
}

fn extents(file: &File) -> Result<Vec<Extent>, DedupError> {
    let mut found = Vec::new();
    match fiemap::visit(file, Pending::Written, |extent| found.push(*extent)) {
        Ok(true) => Ok(found),
        Ok(false) => Err(DedupError::Unsupported),
        Err(error) => Err(DedupError::io("map the blocks of")(error)),
    }
}

pub(super) fn count_extents(file: &File) -> Result<u64, DedupError> {
    let mut count = 0;
    let visited = fiemap::visit(file, Pending::Written, |_| count += 1);
    match visited.map_err(DedupError::io("map the blocks of"))? {
        true => Ok(count),
        false => Err(DedupError::Unsupported),
    }
}

fn length(file: &File) -> Result<u64, DedupError> {
    let metadata = file.metadata();
    Ok(metadata
        .map_err(|source| DedupError::Io {
            action: "stat",
            source,
        })?
        .len())
}
