//! Logs: batches in, parts out, caps, and what a crash leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use ork_core::logs::{Level, LogBatch, LogLine, MAX_LINE, Stream};
use ork_core::rows::LogSummary;
use ork_core::time::Wall;
use ork_store::{
    DataDir, FileLogs, FoundLine, Limits, LogKey, LogPart, LogQuery, Place, StoreError,
};
use proptest::prelude::*;

use crate::rows::{PROJECT, run_id};

const STREAMS: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::System];
const LEVELS: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];

fn key(path: &str) -> LogKey {
    LogKey { project: PROJECT, run: run_id(1), path: path.into(), generation: 1, attempt: 2 }
}

fn open(root: &Path, attempt: u64) -> FileLogs {
    FileLogs::open(DataDir::open(root).unwrap(), Limits { attempt })
}

fn line(n: u64, text: &str) -> FoundLine {
    FoundLine {
        number: n,
        at: Wall(1_000 + i64::try_from(n).unwrap() * 3),
        stream: STREAMS[(n % 3) as usize],
        level: LEVELS[(n % 4) as usize],
        cut: if n.is_multiple_of(7) { n } else { 0 },
        text: text.to_owned(),
    }
}

fn batch(lines: &[FoundLine]) -> LogBatch {
    let text: String = lines.iter().map(|line| line.text.as_str()).collect();
    let lines = lines.iter().map(|line| LogLine {
        length: u32::try_from(line.text.len()).unwrap(),
        cut: line.cut,
        at: line.at,
        stream: line.stream,
        level: line.level,
    });
    LogBatch { text: Bytes::from(text), lines: lines.collect() }
}

fn all() -> LogQuery {
    LogQuery {
        place: Place::After(0),
        level: None,
        stream: None,
        text: None,
        since: None,
        until: None,
        limit: 1_000,
    }
}

async fn read(logs: &FileLogs, query: LogQuery) -> LogPart {
    logs.read(&key("a"), query, || false).await.unwrap()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let dir = root.join("logs/1").join(run_id(1).to_string());
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn no_lines_no_file() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 1 << 20);
    logs.append(&key("a"), LogBatch::default()).await.unwrap();
    assert_eq!(logs.close(&key("a")).await.unwrap(), LogSummary::default());
    assert_eq!(read(&logs, all()).await, LogPart::default());
    assert!(!root.path().join("logs").exists());
}

#[tokio::test]
async fn lines_are_read_while_open_and_after() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 1 << 20);
    let lines: Vec<_> = (1..=50).map(|n| line(n, &format!("line {n} \u{e9}\0\x1b[1m"))).collect();
    for part in lines.chunks(7) {
        logs.append(&key("a"), batch(part)).await.unwrap();
    }
    assert_eq!(read(&logs, all()).await.lines, lines);
    let bytes: u64 = lines.iter().map(|line| line.text.len() as u64 + line.cut).sum();
    let cut = lines.iter().map(|line| line.cut).sum();
    let expected = LogSummary { lines: 50, bytes, dropped_bytes: cut, ..LogSummary::default() };
    assert_eq!(logs.close(&key("a")).await.unwrap(), expected);
    assert_eq!(logs.close(&key("a")).await.unwrap(), expected, "closed again");
    assert_eq!(read(&logs, all()).await.lines, lines);
    logs.append(&key("a"), batch(&[line(51, "late")])).await.unwrap();
    assert_eq!(read(&logs, all()).await.lines.len(), 51);
    assert_eq!(logs.close(&key("a")).await.unwrap().lines, 51);
    assert_eq!(files(root.path()).len(), 1);
}

#[tokio::test]
async fn keys_are_apart_whatever_their_path() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 1 << 20);
    let long = "x".repeat(300);
    let paths = ["a", "A", "region[2]/convert[acme]", "../../../etc", "%2F", "/", "a.1.1", &long];
    let longer = format!("{long}y");
    let paths: Vec<_> = paths.into_iter().chain([longer.as_str()]).collect();
    for path in &paths {
        logs.append(&key(path), batch(&[line(1, path)])).await.unwrap();
    }
    for path in &paths {
        let part = logs.read(&key(path), all(), || false).await.unwrap();
        assert_eq!(part.lines, [line(1, path)]);
    }
    assert_eq!(files(root.path()).len(), paths.len());
    logs.remove(PROJECT, run_id(1)).await.unwrap();
    assert_eq!(files(root.path()), [] as [PathBuf; 0]);
    assert_eq!(read(&logs, all()).await.lines, []);
}

type Wanted = fn(&FoundLine) -> bool;

#[tokio::test]
async fn queries_select() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 8 << 20);
    let text = "some words to fill a group with ".repeat(30);
    let lines: Vec<_> = (1..=900).map(|n| line(n, &format!("{text}{n}."))).collect();
    for part in lines.chunks(50) {
        logs.append(&key("a"), batch(part)).await.unwrap();
    }
    for closed in [false, true] {
        if closed {
            logs.close(&key("a")).await.unwrap();
        }
        let tail = read(&logs, LogQuery { place: Place::END, limit: 5, ..all() }).await;
        assert_eq!((&tail.lines[..], tail.scanned_to, tail.more), (&lines[895..], 896, true));
        let before = LogQuery { place: Place::Before(tail.scanned_to), limit: 5, ..all() };
        assert_eq!(read(&logs, before).await.lines, lines[890..895]);
        let seek = read(&logs, LogQuery { place: Place::After(500), limit: 3, ..all() }).await;
        assert_eq!((&seek.lines[..], seek.scanned_to, seek.more), (&lines[500..503], 503, true));
        let end = read(&logs, LogQuery { place: Place::After(899), ..all() }).await;
        assert_eq!((&end.lines[..], end.scanned_to, end.more), (&lines[899..], 900, false));
        let past = read(&logs, LogQuery { place: Place::After(u64::MAX), ..all() }).await;
        assert_eq!(past.lines, []);
        let cases: [(LogQuery, Wanted); 5] = [
            (LogQuery { level: Some(Level::Warn), ..all() }, |l| l.level >= Level::Warn),
            (LogQuery { stream: Some(Stream::Stderr), ..all() }, |l| l.stream == Stream::Stderr),
            (LogQuery { text: Some("with 77".into()), ..all() }, |l| l.text.contains("with 77")),
            (LogQuery { since: Some(Wall(1_300)), until: Some(Wall(1_600)), ..all() }, |l| {
                l.at >= Wall(1_300) && l.at < Wall(1_600)
            }),
            (
                LogQuery {
                    level: Some(Level::Error),
                    stream: Some(Stream::System),
                    text: Some("9.".into()),
                    ..all()
                },
                |l| l.level == Level::Error && l.stream == Stream::System && l.text.contains("9."),
            ),
        ];
        for (query, wanted) in cases {
            let expected: Vec<_> = lines.iter().filter(|line| wanted(line)).cloned().collect();
            assert!(!expected.is_empty(), "{query:?}");
            let found = walk(&logs, LogQuery { limit: 13, ..query.clone() }, false).await;
            assert_eq!(found, expected, "{query:?}");
            let found = walk(&logs, LogQuery { place: Place::END, limit: 13, ..query }, true).await;
            assert_eq!(found, expected);
        }
    }
}

/// Reads part by part, each ended at once by the clock, to the end.
async fn walk(logs: &FileLogs, mut query: LogQuery, backward: bool) -> Vec<FoundLine> {
    let mut found = Vec::new();
    loop {
        let part = logs.read(&key("a"), query.clone(), || true).await.unwrap();
        if backward {
            found.splice(0..0, part.lines);
            query.place = Place::Before(part.scanned_to);
        } else {
            found.extend(part.lines);
            query.place = Place::After(part.scanned_to);
        }
        if !part.more {
            return found;
        }
    }
}

#[tokio::test]
async fn past_the_cap_head_and_tail_stay() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 64 << 10);
    let text = "0123456789abcdef".repeat(16);
    let mut written = Vec::new();
    for n in 1..=2_000 {
        let next = FoundLine { cut: 0, ..line(n, &format!("{text}{n:06}")) };
        logs.append(&key("a"), batch(std::slice::from_ref(&next))).await.unwrap();
        written.push(next);
        if n % 97 == 0 {
            let tail = read(&logs, LogQuery { place: Place::END, limit: 20, ..all() }).await;
            assert_eq!(tail.lines, written[written.len() - 20..], "the tail is live");
        }
    }
    let open_part = read(&logs, all()).await;
    let summary = logs.close(&key("a")).await.unwrap();
    assert_eq!(files(root.path()).len(), 1, "one file in the end");
    let part = read(&logs, all()).await;
    assert_eq!((&part.lines, &part.gaps), (&open_part.lines, &open_part.gaps));
    let [gap] = part.gaps[..] else { panic!("{:?}", part.gaps) };
    assert_eq!(summary.lines, part.lines.len() as u64);
    assert_eq!(summary.lines + summary.dropped_lines, 2_000);
    assert_eq!((gap.lines, gap.bytes), (summary.dropped_lines, summary.dropped_bytes));
    assert_eq!(summary.bytes, 2_000 * 262);
    assert_eq!(gap.bytes, gap.lines * 262);
    let head = usize::try_from(gap.after).unwrap();
    let tail = head + usize::try_from(gap.lines).unwrap();
    assert_eq!(part.lines[..head], written[..head]);
    assert_eq!(part.lines[head..], written[tail..]);
    let kept = summary.lines * 262;
    assert!((48 << 10..=66 << 10).contains(&kept), "{kept} bytes kept");
}

#[tokio::test]
async fn lines_without_text_count_as_well() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 4 << 10);
    for from in (1..=20_000).step_by(500) {
        let lines: Vec<_> = (from..from + 500).map(|n| line(n, "")).collect();
        logs.append(&key("a"), batch(&lines)).await.unwrap();
    }
    let summary = logs.close(&key("a")).await.unwrap();
    assert_eq!(summary.lines + summary.dropped_lines, 20_000);
    assert!((4_096..8_000).contains(&summary.lines), "{summary:?}");
}

#[tokio::test]
async fn long_lines_are_cut_and_bad_batches_refused() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 1 << 20);
    let long = "\u{e9}".repeat(MAX_LINE);
    let lines = [line(1, "before"), line(2, &long), line(3, "after")];
    logs.append(&key("a"), batch(&lines)).await.unwrap();
    let found = read(&logs, all()).await.lines;
    assert_eq!((found[1].text.len(), found[1].cut), (MAX_LINE, MAX_LINE as u64));
    assert_eq!([&found[0], &found[2]], [&lines[0], &lines[2]]);

    let sound = batch(&[line(4, "\u{e9}x")]);
    let mut short = sound.clone();
    short.lines[0].length = 1;
    let mut inside = sound.clone();
    inside.lines =
        vec![LogLine { length: 1, ..sound.lines[0] }, LogLine { length: 2, ..sound.lines[0] }];
    let odd = LogBatch { text: Bytes::from_static(b"\xff\xfe\xfd"), ..sound };
    for bad in [short, inside, odd] {
        let error = logs.append(&key("a"), bad).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    }
    assert_eq!(read(&logs, all()).await.lines.len(), 3);
}

#[tokio::test]
async fn a_log_cut_anywhere_keeps_its_whole_batches() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 1 << 20);
    let mut ends = vec![0];
    for n in 0..6 {
        let lines: Vec<_> = (1..=3).map(|i| line(n * 3 + i, "words of a line")).collect();
        logs.append(&key("a"), batch(&lines)).await.unwrap();
        ends.push(fs::metadata(&files(root.path())[0]).unwrap().len());
    }
    logs.close(&key("a")).await.unwrap();
    drop(logs);
    let whole = fs::read(&files(root.path())[0]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let logs = open(scratch.path(), 1 << 20);
    logs.append(&key("a"), batch(&[line(1, "x")])).await.unwrap();
    drop(logs);
    let file = files(scratch.path())[0].clone();
    for cut in 0..=whole.len() {
        for noise in [&b""[..], &[0; 90]] {
            fs::write(&file, [&whole[..cut], noise].concat()).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            let logs = open(scratch.path(), 1 << 20);
            let part = read(&logs, all()).await;
            assert_eq!(part.lines.len(), kept * 3, "cut at {cut}");
            let next = line(kept as u64 * 3 + 1, "goes on");
            logs.append(&key("a"), batch(std::slice::from_ref(&next))).await.unwrap();
            let summary = logs.close(&key("a")).await.unwrap();
            assert_eq!(summary.lines, kept as u64 * 3 + 1);
            assert_eq!(read(&logs, all()).await.lines.last(), Some(&next));
        }
    }
}

#[tokio::test]
async fn a_close_that_was_cut_anywhere_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 4 << 10);
    for n in 1..=60 {
        logs.append(&key("a"), batch(&[line(n, &"x".repeat(200))])).await.unwrap();
    }
    let expected = read(&logs, all()).await;
    assert_eq!(expected.gaps.len(), 1);
    let before: Vec<_> =
        files(root.path()).into_iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect();
    assert!(before.len() > 2);
    logs.close(&key("a")).await.unwrap();
    drop(logs);
    let closed = fs::read(&before[0].0).unwrap();
    for length in (before[0].1.len()..=closed.len()).step_by(5) {
        for (file, content) in &before[1..] {
            fs::write(file, content).unwrap();
        }
        fs::write(&before[0].0, &closed[..length]).unwrap();
        let logs = open(root.path(), 4 << 10);
        let part = read(&logs, all()).await;
        assert_eq!((&part.lines, &part.gaps), (&expected.lines, &expected.gaps), "at {length}");
        let summary = logs.close(&key("a")).await.unwrap();
        assert_eq!(summary.lines, expected.lines.len() as u64);
        let part = read(&logs, all()).await;
        assert_eq!((&part.lines, &part.gaps), (&expected.lines, &expected.gaps));
        assert_eq!(files(root.path()).len(), 1);
    }
}

#[tokio::test]
async fn the_clock_is_asked_between_groups() {
    let root = tempfile::tempdir().unwrap();
    let logs = open(root.path(), 8 << 20);
    for n in 0..8 {
        let lines: Vec<_> = (1..=100).map(|i| line(n * 100 + i, &"y".repeat(999))).collect();
        logs.append(&key("a"), batch(&lines)).await.unwrap();
    }
    let asked = AtomicU32::new(0);
    let late = move || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let query = LogQuery { text: Some("none".into()), ..all() };
    let part = logs.read(&key("a"), query, late).await.unwrap();
    assert_eq!((part.scanned_to, part.more, part.lines.len()), (300, true, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_lines_come_back(
        batches in prop::collection::vec(
            prop::collection::vec((".{0,40}", 0..3_usize, 0..4_usize, any::<i64>(), 0..3_u64), 0..20),
            1..8,
        ),
        reopened in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            let mut logs = open(root.path(), 1 << 20);
            let mut expected = Vec::new();
            for lines in batches {
                let start = expected.len();
                expected.extend(lines.into_iter().enumerate().map(|(i, (text, s, l, at, cut))| {
                    FoundLine {
                        number: (start + i) as u64 + 1,
                        at: Wall(at),
                        stream: STREAMS[s],
                        level: LEVELS[l],
                        cut,
                        text,
                    }
                }));
                logs.append(&key("a"), batch(&expected[start..])).await.unwrap();
                if reopened {
                    drop(logs);
                    logs = open(root.path(), 1 << 20);
                }
            }
            assert_eq!(read(&logs, all()).await.lines, expected);
        });
    }
}
