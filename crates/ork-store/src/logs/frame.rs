//! A frame: some lines, compressed, with a header that says what is inside.
//!
//! Header, little-endian: magic `okl1`, CRC-32 of all that follows, length of the compressed
//! payload, length of the payload (4 bytes each); first line, lines, bytes before, bytes, cut
//! bytes, earliest and latest time (8 bytes each); stream mask, level mask (1 byte each).
//! Payload, as an LZ4 block: length of the line table (4 bytes), the table, the lines' text, each
//! ended by a line feed. Table, for each line: length (varint), microseconds since the line before
//! or the earliest time (zigzag varint), `stream | level << 2 | cut << 4`, cut bytes if any (varint).

#![expect(clippy::cast_possible_truncation, reason = "a frame holds one batch, which has a limit")]

use ork_core::logs::{Level, LogLine, Stream};
use ork_core::time::Wall;
use serde::{Deserialize, Serialize};

pub(super) const HEADER: usize = 4 * 4 + 7 * 8 + 2;
const MAGIC: [u8; 4] = *b"okl1";

/// What some lines that follow each other have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// The first line's number; lines count from 1.
    pub(super) first: u64,
    pub(super) lines: u64,
    /// Bytes that the task wrote before the first line.
    pub(super) before: u64,
    /// Bytes that it wrote in these lines, cut ones too.
    pub(super) bytes: u64,
    pub(super) cut: u64,
    pub(super) from: Wall,
    pub(super) to: Wall,
    /// Bit n: there are lines of stream n.
    pub(super) streams: u8,
    pub(super) levels: u8,
}

impl Extent {
    /// The number after the last line's.
    pub(super) fn end(&self) -> u64 {
        self.first + self.lines
    }

    /// Bytes that are kept, with the lines' ends.
    pub(super) fn kept(&self) -> u64 {
        self.bytes - self.cut + self.lines
    }

    /// Takes in the lines that follow.
    pub(super) fn extend(&mut self, next: &Self) {
        self.lines += next.lines;
        self.bytes += next.bytes;
        self.cut += next.cut;
        self.from = self.from.min(next.from);
        self.to = self.to.max(next.to);
        self.streams |= next.streams;
        self.levels |= next.levels;
    }

    fn of(first: u64, before: u64, lines: &[LogLine]) -> Self {
        let text: u64 = lines.iter().map(|line| u64::from(line.length)).sum();
        let cut = lines.iter().map(|line| line.cut).sum();
        Self {
            first,
            lines: lines.len() as u64,
            before,
            bytes: text + cut,
            cut,
            from: lines.iter().map(|line| line.at).min().unwrap_or_default(),
            to: lines.iter().map(|line| line.at).max().unwrap_or_default(),
            streams: lines.iter().fold(0, |mask, line| mask | 1 << stream_code(line.stream)),
            levels: lines.iter().fold(0, |mask, line| mask | 1 << level_code(line.level)),
        }
    }
}

pub(super) fn stream_code(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::System => 2,
    }
}

pub(super) fn level_code(level: Level) -> u8 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

/// Appends a frame of these lines, whose text is `text`, to `out`.
pub(super) fn write(
    out: &mut Vec<u8>,
    first: u64,
    before: u64,
    lines: &[LogLine],
    text: &str,
) -> Extent {
    let extent = Extent::of(first, before, lines);
    let raw = payload(&extent, lines, text);
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    for field in [extent.first, extent.lines, extent.before, extent.bytes, extent.cut] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&extent.from.0.to_le_bytes());
    out.extend_from_slice(&extent.to.0.to_le_bytes());
    out.extend_from_slice(&[extent.streams, extent.levels]);
    let body = out.len();
    out.resize(body + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    // The room is large enough for any content, so this cannot fail.
    let length = lz4_flex::block::compress_into(&raw, &mut out[body..]).unwrap_or(0);
    out.truncate(body + length);
    out[start + 8..start + 12].copy_from_slice(&(length as u32).to_le_bytes());
    let sum = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    extent
}

fn payload(extent: &Extent, lines: &[LogLine], text: &str) -> Vec<u8> {
    let mut raw = Vec::with_capacity(4 + lines.len() * 8 + text.len());
    raw.extend_from_slice(&[0; 4]);
    let mut last = extent.from;
    for line in lines {
        varint(&mut raw, u64::from(line.length));
        let since = line.at.0.wrapping_sub(last.0);
        varint(&mut raw, (since.wrapping_shl(1) ^ (since >> 63)).cast_unsigned());
        last = line.at;
        let cut = u8::from(line.cut > 0);
        raw.push(stream_code(line.stream) | level_code(line.level) << 2 | cut << 4);
        if cut == 1 {
            varint(&mut raw, line.cut);
        }
    }
    let table = (raw.len() - 4) as u32;
    raw[..4].copy_from_slice(&table.to_le_bytes());
    let mut at = 0;
    for line in lines {
        let end = at + line.length as usize;
        raw.extend_from_slice(&text.as_bytes()[at..end]);
        raw.push(b'\n');
        at = end;
    }
    raw
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A frame as it lies in a file.
pub(super) struct Frame<'a> {
    pub(super) extent: Extent,
    /// All its bytes.
    pub(super) length: usize,
    /// The bytes of its payload when unpacked.
    pub(super) raw: usize,
    packed: &'a [u8],
}

/// The frame at the start of `bytes`; none where there is no whole and sound one.
pub(super) fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let header = bytes.get(..HEADER)?;
    let short = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let long = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| header[at + i]));
    let length = HEADER.checked_add(short(8) as usize)?;
    let whole = bytes.get(..length)?;
    if header[..4] != MAGIC || crc32fast::hash(&whole[8..]) != short(4) {
        return None;
    }
    let extent = Extent {
        first: long(16),
        lines: long(24),
        before: long(32),
        bytes: long(40),
        cut: long(48),
        from: Wall(long(56).cast_signed()),
        to: Wall(long(64).cast_signed()),
        streams: header[72],
        levels: header[73],
    };
    Some(Frame { extent, length, raw: short(12) as usize, packed: &whole[HEADER..] })
}

/// A line of a frame.
pub(super) struct Line<'a> {
    pub(super) number: u64,
    pub(super) at: Wall,
    pub(super) stream: Stream,
    pub(super) level: Level,
    pub(super) cut: u64,
    pub(super) text: &'a [u8],
}

impl Frame<'_> {
    /// The payload.
    pub(super) fn unpack(&self) -> Option<Vec<u8>> {
        lz4_flex::block::decompress(self.packed, self.raw).ok()
    }
}

/// The text of all lines of a payload, each ended by a line feed.
pub(super) fn text(raw: &[u8]) -> Option<&[u8]> {
    let table = u32::from_le_bytes(*raw.first_chunk()?) as usize;
    raw.get(4 + table..)
}

/// The lines of a payload, in order.
pub(super) fn lines<'a>(extent: &Extent, raw: &'a [u8]) -> Option<Vec<Line<'a>>> {
    let mut text = text(raw)?;
    let mut table = raw.get(4..raw.len() - text.len())?;
    let mut at = extent.from;
    let mut lines = Vec::with_capacity(extent.lines as usize);
    for number in extent.first..extent.end() {
        let length = take_varint(&mut table)? as usize;
        let since = take_varint(&mut table)?;
        let since = (since >> 1).cast_signed() ^ -((since & 1).cast_signed());
        at = Wall(at.0.wrapping_add(since));
        let (code, rest) = table.split_first()?;
        table = rest;
        let cut = if code >> 4 == 1 { take_varint(&mut table)? } else { 0 };
        let (stream, level) = (stream(code & 3)?, level(code >> 2 & 3));
        lines.push(Line { number, at, stream, level, cut, text: text.get(..length)? });
        text = text.get(length + 1..)?;
    }
    Some(lines)
}

fn stream(code: u8) -> Option<Stream> {
    [Stream::Stdout, Stream::Stderr, Stream::System].get(usize::from(code)).copied()
}

fn level(code: u8) -> Level {
    [Level::Debug, Level::Info, Level::Warn, Level::Error][usize::from(code & 3)]
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}
