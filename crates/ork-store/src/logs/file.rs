//! One attempt's log on disk: a head, and past half of the cap a tail of segments of which the
//! oldest go.
//!
//! `NAME.log` holds frames, the earliest first; `NAME.log.1`, `NAME.log.2`, … hold the tail. At the
//! close the tail is appended to the head, then an index, then all is synced once. Frames say which
//! lines they hold, so a copy that was interrupted only repeats lines, and those are passed over.

#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of groups, which hold one batch or two"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ork_core::logs::LogLine;
use ork_core::rows::LogSummary;
use serde::{Deserialize, Serialize};

use crate::logs::frame::{self, Extent};
use crate::logs::{Gap, Limits};

/// A group of frames is closed when it has this many bytes unpacked.
const GROUP: u64 = 64 << 10;
/// A frame is closed when it has this many bytes of text, or this many lines.
const FRAME: usize = 256 << 10;
const FRAME_LINES: usize = 2 << 10;
/// Segments of a tail.
const SEGMENTS: usize = 4;
const END: [u8; 8] = *b"okindex1";

/// Frames that follow each other in one file: what an index points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// 0: the head; else a segment of the tail.
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) raw: u64,
    pub(super) extent: Extent,
}

/// A log and where its next frame goes.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Shared with those who read.
    pub(super) groups: Arc<Vec<Group>>,
    /// The file that is written: its number, itself, its length.
    end: (u32, File, u64),
    next_line: u64,
    written: u64,
}

/// The file of a log or of a segment of its tail.
pub(super) fn part(path: &Path, file: u32) -> PathBuf {
    if file == 0 { path.to_owned() } else { path.with_extension(format!("log.{file}")) }
}

/// The groups of a log that is on disk; none when it has no file.
pub(super) fn load(path: &Path) -> io::Result<Option<Vec<Group>>> {
    let head = match File::open(path) {
        Ok(head) => head,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let segments = segments(path)?;
    if segments.is_empty()
        && let Some(groups) = index(&head)?
    {
        return Ok(Some(groups));
    }
    let mut groups = Vec::new();
    scan(&head, 0, &mut groups)?;
    for file in segments {
        scan(&File::open(part(path, file))?, file, &mut groups)?;
    }
    Ok(Some(groups))
}

/// Closes a log that is not open here, if it has a file and is not closed.
pub(super) fn close(path: &Path) -> io::Result<LogSummary> {
    let head = match File::open(path) {
        Ok(head) => head,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogSummary::default()),
        Err(error) => return Err(error),
    };
    match index(&head)? {
        Some(groups) if segments(path)?.is_empty() => Ok(summary(&groups)),
        _ => Log::open(path)?.close(),
    }
}

/// The numbers of the segments that are there, in order.
fn segments(path: &Path) -> io::Result<Vec<u32>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        files.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    files.sort_unstable();
    Ok(files)
}

/// The index at the end of a closed log: its JSON as an LZ4 block, the length of that and its
/// CRC-32 (4 bytes each), and a magic word.
fn index(head: &File) -> io::Result<Option<Vec<Group>>> {
    let length = head.metadata()?.len();
    let Some(start) = length.checked_sub(16) else { return Ok(None) };
    let mut end = [0; 16];
    head.read_exact_at(&mut end, start)?;
    let size = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let sum = u32::from_le_bytes([end[4], end[5], end[6], end[7]]);
    let Some(start) = start.checked_sub(size).filter(|_| end[8..] == END) else {
        return Ok(None);
    };
    let mut packed = vec![0; size as usize];
    head.read_exact_at(&mut packed, start)?;
    if crc32fast::hash(&packed) != sum {
        return Ok(None);
    }
    let json = lz4_flex::block::decompress_size_prepended(&packed).ok();
    Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Finds the frames of a file up to the first that is not whole.
fn scan(mut file: &File, number: u32, groups: &mut Vec<Group>) -> io::Result<()> {
    let mut window = Vec::new();
    let (mut start, mut offset, mut ended) = (0, 0, false);
    loop {
        while let Some(frame) = frame::read(&window[start..]) {
            let next = groups.last().map_or(1, |group| group.extent.end());
            if frame.extent.first >= next {
                push(groups, number, offset, frame.length as u64, frame.raw as u64, frame.extent);
            }
            start += frame.length;
            offset += frame.length as u64;
        }
        if ended {
            return Ok(());
        }
        window.drain(..start);
        start = 0;
        // No frame is longer than this, so what is not whole then is torn.
        let most = 4 * FRAME as u64 + 4 * crate::logs::MAX_BATCH as u64;
        let read = Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut window)?;
        ended = read == 0 || window.len() as u64 > most;
    }
}

fn push(groups: &mut Vec<Group>, file: u32, offset: u64, length: u64, raw: u64, extent: Extent) {
    if let Some(last) = groups.last_mut()
        && last.file == file
        && last.raw < GROUP
        && last.extent.end() == extent.first
        && last.offset + last.length == offset
    {
        last.extent.extend(&extent);
        last.length += length;
        last.raw += raw;
        return;
    }
    groups.push(Group { file, offset, length, raw, extent });
}

impl Log {
    /// Opens a log to append to it, and makes it if it is not there. What is torn at its end, and
    /// an index, go.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let groups = load(path)?;
        if groups.is_none()
            && let Some(dir) = path.parent()
        {
            fs::create_dir_all(dir)?;
        }
        let groups = groups.unwrap_or_default();
        let number = segments(path)?.last().copied().unwrap_or(0);
        let last = groups.last().copied();
        let length = last.filter(|last| last.file == number).map_or(0, |l| l.offset + l.length);
        let file = create(&part(path, number))?;
        file.set_len(length)?;
        Ok(Self {
            path: path.to_owned(),
            end: (number, file, length),
            next_line: last.map_or(1, |last| last.extent.end()),
            written: last.map_or(0, |last| last.extent.before + last.extent.bytes),
            groups: Arc::new(groups),
        })
    }

    /// Appends lines, all or none.
    pub(super) fn append(
        &mut self,
        lines: &[LogLine],
        text: &str,
        limits: Limits,
    ) -> io::Result<()> {
        self.turn(limits)?;
        let mut frames = Vec::new();
        let mut new = Vec::new();
        let (mut rest, mut at) = (lines, 0);
        let (mut next, mut written) = (self.next_line, self.written);
        while !rest.is_empty() {
            let (count, length) = frame_size(rest);
            let start = frames.len() as u64;
            let text = &text[at..at + length];
            let extent = frame::write(&mut frames, next, written, &rest[..count], text);
            new.push((start, frames.len() as u64 - start, length as u64, extent));
            (next, written) = (extent.end(), extent.before + extent.bytes);
            rest = &rest[count..];
            at += length;
        }
        let (number, file, end) = &mut self.end;
        if let Err(error) = file.write_all_at(&frames, *end) {
            // What was written of it would be passed over as torn, and is overwritten by the next.
            drop(file.set_len(*end));
            return Err(error);
        }
        let groups = Arc::make_mut(&mut self.groups);
        for (start, length, raw, extent) in new {
            push(groups, *number, *end + start, length, raw, extent);
        }
        *end += frames.len() as u64;
        (self.next_line, self.written) = (next, written);
        Ok(())
    }

    /// Goes on in a new segment when the head or the segment is full, and drops the oldest one.
    fn turn(&mut self, limits: Limits) -> io::Result<()> {
        let number = self.end.0;
        let most = if number == 0 { limits.attempt / 2 } else { limits.attempt / 8 };
        let parts = self.groups.iter().filter(|group| group.file == number);
        let kept: u64 = parts.map(|group| group.extent.kept()).sum();
        if kept < most {
            return Ok(());
        }
        let next = number + 1;
        self.end = (next, create(&part(&self.path, next))?, 0);
        if let Some(oldest) = next.checked_sub(SEGMENTS as u32).filter(|oldest| *oldest > 0) {
            Arc::make_mut(&mut self.groups).retain(|group| group.file != oldest);
            fs::remove_file(part(&self.path, oldest))?;
        }
        Ok(())
    }

    /// Puts the tail to the head, writes the index and waits once for the disk.
    pub(super) fn close(mut self) -> io::Result<LogSummary> {
        let summary = summary(&self.groups);
        let groups = Arc::make_mut(&mut self.groups);
        let tail: Vec<_> = groups.extract_if(.., |group| group.file > 0).collect();
        let head = if self.end.0 == 0 { self.end.1 } else { create(&self.path)? };
        let mut end = groups.last().map_or(0, |group| group.offset + group.length);
        for mut group in tail {
            let mut bytes = vec![0; group.length as usize];
            File::open(part(&self.path, group.file))?.read_exact_at(&mut bytes, group.offset)?;
            head.write_all_at(&bytes, end)?;
            (group.file, group.offset) = (0, end);
            end += group.length;
            groups.push(group);
        }
        let packed = lz4_flex::block::compress_prepend_size(&serde_json::to_vec(groups)?);
        let mut index = Vec::with_capacity(packed.len() + 16);
        index.write_all(&packed)?;
        index.write_all(&(packed.len() as u32).to_le_bytes())?;
        index.write_all(&crc32fast::hash(&packed).to_le_bytes())?;
        index.write_all(&END)?;
        head.write_all_at(&index, end)?;
        head.set_len(end + index.len() as u64)?;
        head.sync_all()?;
        for file in segments(&self.path)? {
            fs::remove_file(part(&self.path, file))?;
        }
        Ok(summary)
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

/// How many lines, and how much text, the next frame takes.
fn frame_size(lines: &[LogLine]) -> (usize, usize) {
    let mut size = 0;
    for (count, line) in lines.iter().enumerate() {
        if count == FRAME_LINES || (count > 0 && size >= FRAME) {
            return (count, size);
        }
        size += line.length as usize;
    }
    (lines.len(), size)
}

/// What a log holds.
pub(super) fn summary(groups: &[Group]) -> LogSummary {
    let Some(last) = groups.last() else { return LogSummary::default() };
    let lines = groups.iter().map(|group| group.extent.lines).sum();
    let kept: u64 = groups.iter().map(|group| group.extent.bytes - group.extent.cut).sum();
    let bytes = last.extent.before + last.extent.bytes;
    LogSummary {
        lines,
        dropped_lines: last.extent.end() - 1 - lines,
        bytes,
        dropped_bytes: bytes - kept,
        incomplete: false,
    }
}

/// Where lines were dropped.
pub(super) fn gaps(groups: &[Group]) -> impl Iterator<Item = Gap> {
    groups.windows(2).filter_map(|pair| {
        let (before, after) = (&pair[0].extent, &pair[1].extent);
        (after.first > before.end()).then(|| Gap {
            after: before.end() - 1,
            lines: after.first - before.end(),
            bytes: after.before - before.before - before.bytes,
        })
    })
}
