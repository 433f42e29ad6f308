//! Reading and searching.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem::Finder;

use crate::logs::file::{self, Group};
use crate::logs::frame::{self, Extent, Line};
use crate::logs::{FoundLine, LogPart, LogQuery, MAX_PART, MAX_SCAN, Place};

/// A part of the log that these groups make up.
pub(super) fn part(
    path: &Path,
    groups: &[Group],
    query: &LogQuery,
    late: &dyn Fn() -> bool,
) -> io::Result<LogPart> {
    let text = query.text.as_deref().unwrap_or_default();
    let mut search =
        Search { path, query, finder: Finder::new(text), file: None, scanned: 0, found: 0 };
    let mut part = match query.place {
        Place::After(line) => search.forward(groups, line, late),
        Place::Before(line) => search.backward(groups, line, late),
    }?;
    let (low, high) = match query.place {
        Place::After(line) => (line, part.scanned_to),
        Place::Before(line) => (part.scanned_to, line.saturating_sub(1)),
    };
    let seen = |gap: &crate::logs::Gap| gap.after + gap.lines >= low && gap.after < high;
    part.last = groups.last().map_or(0, |group| group.extent.end() - 1);
    part.gaps = file::gaps(groups).filter(seen).collect();
    Ok(part)
}

struct Search<'a> {
    path: &'a Path,
    query: &'a LogQuery,
    finder: Finder<'a>,
    file: Option<(u32, File)>,
    scanned: u64,
    /// Bytes of text found.
    found: usize,
}

impl Search<'_> {
    fn forward(
        &mut self,
        groups: &[Group],
        after: u64,
        late: &dyn Fn() -> bool,
    ) -> io::Result<LogPart> {
        let mut part = LogPart { scanned_to: after, ..LogPart::default() };
        let start = groups.partition_point(|group| group.extent.end() <= after.saturating_add(1));
        for group in &groups[start..] {
            if self.full(part.lines.len()) || self.spent(late) {
                part.more = true;
                return Ok(part);
            }
            // One more than there is room for tells whether there is more.
            let most = self.query.limit.saturating_sub(part.lines.len()) + 1;
            for line in self.group(group, |number| number > after, most)? {
                if self.full(part.lines.len()) {
                    part.more = true;
                    return Ok(part);
                }
                self.found += line.text.len();
                part.scanned_to = line.number;
                part.lines.push(line);
            }
            part.scanned_to = group.extent.end() - 1;
        }
        Ok(part)
    }

    fn backward(
        &mut self,
        groups: &[Group],
        before: u64,
        late: &dyn Fn() -> bool,
    ) -> io::Result<LogPart> {
        let mut part = LogPart { scanned_to: before, ..LogPart::default() };
        let end = groups.partition_point(|group| group.extent.first < before);
        'groups: for group in groups[..end].iter().rev() {
            if self.full(part.lines.len()) || self.spent(late) {
                part.more = true;
                break;
            }
            let lines = self.group(group, |number| number < before, usize::MAX)?;
            for line in lines.into_iter().rev() {
                if self.full(part.lines.len()) {
                    part.more = true;
                    break 'groups;
                }
                self.found += line.text.len();
                part.scanned_to = line.number;
                part.lines.push(line);
            }
            part.scanned_to = group.extent.first;
        }
        part.lines.reverse();
        Ok(part)
    }

    /// Whether it is time to answer; never before something was looked at.
    fn spent(&self, late: &dyn Fn() -> bool) -> bool {
        self.scanned >= MAX_SCAN || (self.scanned > 0 && late())
    }

    fn full(&self, lines: usize) -> bool {
        lines >= self.query.limit || self.found >= MAX_PART
    }

    /// The first lines of a group that are wanted, this many at most.
    fn group(
        &mut self,
        group: &Group,
        here: impl Fn(u64) -> bool,
        most: usize,
    ) -> io::Result<Vec<FoundLine>> {
        if !self.may_hold(&group.extent) {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(group.length).map_err(io::Error::other)?];
        self.file(group.file)?.read_exact_at(&mut bytes, group.offset)?;
        self.scanned += group.raw;
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        while found.len() < most
            && let Some(frame) = frame::read(rest)
        {
            rest = &rest[frame.length..];
            let ends = frame.extent.end() - 1;
            if self.may_hold(&frame.extent) && (here(frame.extent.first) || here(ends)) {
                let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a damaged frame");
                let raw = frame.unpack().ok_or_else(damaged)?;
                self.frame(&frame.extent, &raw, &here, most, &mut found).ok_or_else(damaged)?;
            }
        }
        Ok(found)
    }

    fn frame(
        &self,
        extent: &Extent,
        raw: &[u8],
        here: &impl Fn(u64) -> bool,
        most: usize,
        found: &mut Vec<FoundLine>,
    ) -> Option<()> {
        if self.query.text.is_some() && self.finder.find(frame::text(raw)?).is_none() {
            return Some(());
        }
        let lines = frame::lines(extent, raw)?;
        let wanted = lines.into_iter().filter(|line| here(line.number) && self.wants(line));
        let room = most - found.len();
        found.extend(wanted.take(room).map(|line| FoundLine {
            number: line.number,
            at: line.at,
            stream: line.stream,
            level: line.level,
            cut: line.cut,
            text: String::from_utf8_lossy(line.text).into_owned(),
        }));
        Some(())
    }

    fn may_hold(&self, extent: &Extent) -> bool {
        let query = self.query;
        query.level.is_none_or(|level| extent.levels >> frame::level_code(level) != 0)
            && query.stream.is_none_or(|s| extent.streams >> frame::stream_code(s) & 1 == 1)
            && query.since.is_none_or(|since| extent.to >= since)
            && query.until.is_none_or(|until| extent.from < until)
    }

    fn wants(&self, line: &Line<'_>) -> bool {
        let query = self.query;
        query.level.is_none_or(|level| line.level >= level)
            && query.stream.is_none_or(|stream| line.stream == stream)
            && query.since.is_none_or(|since| line.at >= since)
            && query.until.is_none_or(|until| line.at < until)
            && (query.text.is_none() || self.finder.find(line.text).is_some())
    }

    fn file(&mut self, number: u32) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(open) if open.0 == number => open,
            _ => (number, File::open(file::part(self.path, number))?),
        };
        Ok(&self.file.insert(file).1)
    }
}
