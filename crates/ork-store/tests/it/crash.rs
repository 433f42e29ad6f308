//! What a killed process and a full disk leave.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use ork_core::logs::{Level, LogBatch, LogLine, Stream};
use ork_core::rows::Change;
use ork_core::time::Wall;
use ork_store::{
    Blobs, CommitSeq, DataDir, FileBlobs, FileLogs, Limits, LogKey, LogQuery, Place, Sqlite, Store,
    StoreError,
};
use serde_json::json;

use crate::rows::{IntoChange, PROJECT, event, run_id, task};

/// Set in the child that is killed.
const DATA: &str = "ORK_STORE_TEST_DATA";

fn key() -> LogKey {
    LogKey { project: PROJECT, run: run_id(1), path: "a".into(), generation: 1, attempt: 1 }
}

fn line(text: &str) -> LogBatch {
    let line = LogLine {
        length: u32::try_from(text.len()).unwrap(),
        cut: 0,
        at: Wall(1),
        stream: Stream::Stdout,
        level: Level::Info,
    };
    LogBatch { text: Bytes::from(text.to_owned()), lines: vec![line] }
}

/// Not a test of its own: the child of the next one, which commits until it is killed.
#[tokio::test]
async fn child_commits_until_it_is_killed() {
    let Ok(data) = std::env::var(DATA) else { return };
    let dir = DataDir::open(Path::new(&data)).unwrap();
    let store = Sqlite::open(dir.clone()).unwrap();
    let logs = FileLogs::open(dir, Limits::default());
    let epoch = store.lead().await.unwrap();
    let mut n = store.last_commit().await.unwrap().0;
    loop {
        n += 1;
        logs.append(&key(), line(&format!("commit {n}"))).await.unwrap();
        let path = format!("load[{n}]");
        let changes: Arc<[Change]> =
            vec![event(1, n).change(), task(1, &path, u32::try_from(n).unwrap()).change()].into();
        let commit = store.commit(epoch, changes).await.unwrap();
        println!("\nacknowledged {}", commit.0);
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..8_u64 {
        // Killed after this many acknowledgements, at whatever it does just then.
        let until = acknowledged + 1 + round * 37 % 90;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_commits_until_it_is_killed", "--nocapture"])
            .env(DATA, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut killed = false;
        for text in output.lines() {
            let text = text.unwrap();
            let Some(n) = text.strip_prefix("acknowledged ") else { continue };
            acknowledged = n.parse().unwrap();
            if acknowledged >= until && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        acknowledged = verify(root.path(), acknowledged).await;
    }
}

/// Everything that was acknowledged is there, whole and without gaps.
async fn verify(root: &Path, acknowledged: u64) -> u64 {
    let dir = DataDir::open(root).unwrap();
    let store = Sqlite::open(dir.clone()).unwrap();
    let last = store.last_commit().await.unwrap();
    assert!(last.0 == acknowledged || last.0 == acknowledged + 1, "{last:?}, {acknowledged}");
    let mut place = (CommitSeq(0), 0);
    let mut expected = 1;
    loop {
        let part = store.feed(place, 500).await.unwrap();
        let Some(end) = part.last() else { break };
        place = (end.commit, end.position);
        for found in part {
            assert_eq!((found.commit.0, found.position, found.event.seq), (expected, 0, expected));
            let path = format!("load[{expected}]").as_str().into();
            assert!(store.task(PROJECT, run_id(1), &path).await.unwrap().is_some());
            expected += 1;
        }
    }
    assert_eq!(expected, last.0 + 1);
    let logs = FileLogs::open(dir, Limits::default());
    let query = LogQuery {
        place: Place::END,
        level: None,
        stream: None,
        text: Some(format!("commit {acknowledged}")),
        since: None,
        until: None,
        limit: 1,
    };
    let part = logs.read(&key(), query, || false).await.unwrap();
    assert_eq!(part.lines.len(), 1, "the line before the last acknowledged commit");
    last.0
}

/// Set in the child whose disk is small.
const DISK: &str = "SMALL_DISK";
const DISK_BYTES: usize = 4 << 20;

/// A small file system of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this process may mount nothing.
    fn mount() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let options = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(root.path());
        mount.output().is_ok_and(|said| said.status.success()).then_some(Self(root))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

/// Not a test of its own: the child of the next one, whose disk is full by its libc.
#[tokio::test]
async fn child_fills_its_disk() {
    let Ok(root) = std::env::var(DISK) else { return };
    fill(Path::new(&root)).await;
}

#[tokio::test]
async fn a_full_disk_is_a_clear_refusal_and_passes() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("small_disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/small_disk.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    let disk = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_fills_its_disk", "--nocapture"])
        .env(DISK, disk.path())
        .env("SMALL_DISK_BYTES", DISK_BYTES.to_string())
        .env("LD_PRELOAD", library)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    // Where a real one can be had, it must come to the same.
    if let Some(disk) = SmallDisk::mount() {
        fill(disk.0.path()).await;
    }
}

async fn fill(root: &Path) {
    let dir = DataDir::open(root).unwrap();
    let store = Sqlite::open(dir.clone()).unwrap();
    let epoch = store.lead().await.unwrap();
    let large = |n: u64| {
        let mut row = task(1, &format!("load[{n}]"), u32::try_from(n).unwrap());
        row.detail = json!("x".repeat(30_000));
        vec![row.change(), event(1, n).change()].into()
    };
    fs::write(root.join("ballast"), vec![0; 1 << 20]).unwrap();
    let mut n = 1;
    let error = loop {
        match store.commit(epoch, large(n)).await {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, StoreError::Retryable(w) if w.contains("full")), "{error}");
    store.commit(epoch, large(n)).await.unwrap_err();
    assert_eq!(store.last_commit().await.unwrap(), CommitSeq(n - 1), "reads go on");

    let blobs = FileBlobs::open(dir.clone()).unwrap();
    let error = blobs.put(Bytes::from(vec![1; 4 << 20])).await.unwrap_err();
    assert!(matches!(&error, StoreError::Retryable(w) if w.contains("space")), "{error}");
    assert_eq!(blobs.list(None, 9).await.unwrap(), []);

    let logs = FileLogs::open(dir.clone(), Limits::default());
    let noise: String =
        (0..1_u32 << 20).map(|i| char::from(b' ' + (i.wrapping_mul(i) % 89) as u8)).collect();
    let lines: Vec<_> =
        noise.as_bytes().chunks(60_000).map(|c| std::str::from_utf8(c).unwrap()).collect();
    let mut kept = 0;
    let error = loop {
        match logs.append(&key(), line(lines[kept % lines.len()])).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100_000, "the disk never fills");
    };
    assert!(matches!(&error, StoreError::Retryable(w) if w.contains("space")), "{error}");

    fs::remove_file(root.join("ballast")).unwrap();
    assert_eq!(store.commit(epoch, large(n)).await.unwrap(), CommitSeq(n));
    logs.append(&key(), line("after")).await.unwrap();
    assert_eq!(logs.close(&key()).await.unwrap().lines, kept as u64 + 1);
    blobs.put(Bytes::from_static(b"small")).await.unwrap();
    drop(store);
    let store = Sqlite::open(dir).unwrap();
    assert_eq!(store.events(PROJECT, run_id(1), 0, 1_000).await.unwrap().len() as u64, n);
}
