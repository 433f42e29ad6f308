//! Blobs, in memory and in files, and what is removed with old runs.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use ork_core::logs::{Level, LogBatch, LogLine, Stream};
use ork_core::rows::Change;
use ork_core::run::RunState;
use ork_core::time::Wall;
use ork_core::value::{Data, Digest, FileRef, Value};
use ork_store::{
    Blobs, Content, DataDir, FileBlobs, FileLogs, Limits, LogKey, Memory, MemoryBlobs, Retention,
    Store, StoreError, prune, sweep_blobs, sweep_logs,
};

use crate::rows::{IntoChange, PROJECT, attempt, in_state, run, run_id};

#[tokio::test]
async fn blobs_in_memory() {
    check(Arc::new(MemoryBlobs::new())).await;
}

#[tokio::test]
async fn blobs_in_files() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    check(Arc::new(FileBlobs::open(dir.clone()).unwrap())).await;
    std::fs::write(root.path().join("blobs/tmp/left"), "half a blob").unwrap();
    let again = FileBlobs::open(dir).unwrap();
    assert!(!root.path().join("blobs/tmp").exists());
    let digest = Digest::of(b"kept");
    assert_eq!(again.get(&digest).await.unwrap(), Some(Bytes::from_static(b"kept")));
}

async fn check(blobs: Arc<dyn Blobs>) {
    let content = Bytes::from_static(b"0123456789");
    let digest = blobs.put(content.clone()).await.unwrap();
    assert_eq!(digest, Digest::of(&content));
    assert_eq!(blobs.put(content.clone()).await.unwrap(), digest);
    assert_eq!(blobs.get(&digest).await.unwrap(), Some(content));
    assert_eq!(blobs.size(&digest).await.unwrap(), Some(10));
    for (range, expected) in [(2..4, "23"), (8..99, "89"), (10..11, ""), (50..60, "")] {
        let part = blobs.get_range(&digest, range).await.unwrap();
        assert_eq!(part, Some(Bytes::from(expected)));
    }
    let none = Digest::of(b"none");
    assert_eq!(blobs.get(&none).await.unwrap(), None);
    assert_eq!(blobs.size(&none).await.unwrap(), None);
    assert!(!blobs.remove(&none, Wall(i64::MAX)).await.unwrap());
    blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    blobs.put(Bytes::new()).await.unwrap();

    let mut all = Vec::new();
    let mut after = None;
    loop {
        let part = blobs.list(after, 1).await.unwrap();
        let Some(last) = part.last() else { break };
        after = Some(last.digest);
        all.extend(part);
    }
    assert_eq!(all, blobs.list(None, 9).await.unwrap());
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by_key(|blob| blob.digest));
    blobs.list(None, 0).await.unwrap_err();
    assert!(blobs.touch(&digest).await.unwrap() && !blobs.touch(&none).await.unwrap());

    assert!(!blobs.remove(&digest, Wall(i64::MIN)).await.unwrap(), "put since");
    assert!(blobs.remove(&digest, Wall(i64::MAX)).await.unwrap());
    assert_eq!(blobs.get(&digest).await.unwrap(), None);
}

fn parts(parts: &[&'static [u8]]) -> Content {
    let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
    futures_util::stream::iter(parts).boxed()
}

async fn streams(blobs: Arc<dyn Blobs>) {
    let (digest, size) = blobs.put_stream(parts(&[b"ab", b"", b"cde"]), 5).await.unwrap();
    assert_eq!((digest, size), (Digest::of(b"abcde"), 5));
    assert_eq!(blobs.put_stream(parts(&[b"abcde"]), 9).await.unwrap(), (digest, 5));
    assert_eq!(blobs.put_stream(parts(&[]), 0).await.unwrap(), (Digest::of(b""), 0));
    let long = blobs.put_stream(parts(&[b"ab", b"cde", b"f"]), 5).await.unwrap_err();
    assert!(matches!(long, StoreError::Rejected(_)), "{long}");
    let broken = futures_util::stream::iter([Ok(Bytes::from("x")), Err(io::Error::other("off"))]);
    let broken = blobs.put_stream(broken.boxed(), 9).await.unwrap_err();
    assert!(matches!(broken, StoreError::Retryable(_)), "{broken}");
    assert_eq!(blobs.list(None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn contents_may_come_part_by_part() {
    streams(Arc::new(MemoryBlobs::new())).await;
    let root = tempfile::tempdir().unwrap();
    streams(Arc::new(FileBlobs::open(DataDir::open(root.path()).unwrap()).unwrap())).await;
    assert_eq!(std::fs::read_dir(root.path().join("blobs/tmp")).unwrap().count(), 0);
}

/// A file is kept while a row names it, or a value does that a row names; then it goes.
async fn files_in_use(blobs: Arc<dyn Blobs>) {
    let store = Memory::new();
    let epoch = store.lead().await.unwrap();
    let mut files = Vec::new();
    for name in ["param", "artifact", "listed", "free"] {
        let digest = blobs.put(Bytes::from(name)).await.unwrap();
        files.push(FileRef { digest, name: name.into(), size: name.len() as u64 });
    }
    let list = Value::Array(vec![Value::from("x".repeat(70_000)), files[2].to_value()]);
    let list = Bytes::from(list.to_string());
    let size = list.len() as u64;
    let digest = blobs.put(list).await.unwrap();
    let mut row = in_state(run(1), RunState::Success, 1);
    row.params = serde_json::json!({"deep": [files[0].to_value()]});
    row.output = Some(Data::Blob { digest, size });
    let mut attempt = attempt(1, "a", 1);
    attempt.artifacts = Some(Data::Inline(Value::Array(vec![files[1].to_value()])));
    store
        .commit(epoch, vec![row.change(), Change::Attempt(Box::new(attempt))].into())
        .await
        .unwrap();

    let sweep = async || {
        let named = blobs.named().await.unwrap();
        sweep_blobs(&store, &*blobs, &named, None, Wall(i64::MAX)).await.unwrap().removed
    };
    assert_eq!(sweep().await, 1);
    let mut here = Vec::new();
    for file in &files {
        here.push(blobs.size(&file.digest).await.unwrap().is_some());
    }
    assert_eq!(here, [true, true, true, false]);
    let all = Retention {
        finished_before: Some(Wall(9)),
        keep_per_workflow: None,
        batch: 9,
        now: Wall(0),
    };
    store.prune(epoch, &all).await.unwrap();
    assert_eq!(sweep().await, 3, "what the value names stays until the value is gone");
    assert_eq!(sweep().await, 1);
    assert_eq!(blobs.list(None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn files_stay_while_something_names_them() {
    files_in_use(Arc::new(MemoryBlobs::new())).await;
    let root = tempfile::tempdir().unwrap();
    files_in_use(Arc::new(FileBlobs::open(DataDir::open(root.path()).unwrap()).unwrap())).await;
    assert_eq!(std::fs::read_dir(root.path().join("blobs/names")).unwrap().count(), 0);
}

#[tokio::test]
async fn logs_and_blobs_go_with_their_runs() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let (store, logs) = (Memory::new(), FileLogs::open(dir.clone(), Limits::default()));
    let blobs = FileBlobs::open(dir).unwrap();
    let epoch = store.lead().await.unwrap();
    let mut digests = Vec::new();
    for n in [1_u128, 2] {
        let digest = blobs.put(Bytes::from(n.to_string())).await.unwrap();
        let mut row = in_state(run(n), RunState::Success, i64::try_from(n).unwrap());
        row.output = Some(Data::Blob { digest, size: 1 });
        store.commit(epoch, vec![row.change()].into()).await.unwrap();
        digests.push(digest);
    }
    for n in [1, 2, 3] {
        logs.append(&key(n), line("text")).await.unwrap();
    }
    let there = |n: u128| root.path().join("logs/1").join(run_id(n).to_string()).exists();
    let retention = Retention {
        finished_before: Some(Wall(2)),
        keep_per_workflow: None,
        batch: 10,
        now: Wall(0),
    };
    let gone = prune(&store, &logs, epoch, &retention).await.unwrap();
    assert_eq!(gone, [(PROJECT, run_id(1))]);
    assert_eq!([there(1), there(2), there(3)], [false, true, true]);
    assert_eq!(sweep_logs(&store, &logs).await.unwrap(), 1, "those of a run that is not there");
    assert_eq!([there(2), there(3)], [true, false]);
    let swept = sweep_blobs(&store, &blobs, &BTreeSet::new(), None, Wall(0)).await.unwrap();
    assert_eq!(swept.removed, 0, "all were put since");
    let swept = sweep_blobs(&store, &blobs, &BTreeSet::new(), None, Wall(i64::MAX)).await.unwrap();
    assert_eq!((swept.next, swept.removed, swept.bytes), (None, 1, 1));
    assert_eq!(blobs.get(&digests[0]).await.unwrap(), None);
    assert!(blobs.get(&digests[1]).await.unwrap().is_some());
}

fn key(run: u128) -> LogKey {
    LogKey { project: PROJECT, run: run_id(run), path: "a".into(), generation: 1, attempt: 1 }
}

fn line(text: &'static str) -> LogBatch {
    let line = LogLine {
        length: u32::try_from(text.len()).unwrap(),
        cut: 0,
        at: Wall(1),
        stream: Stream::Stdout,
        level: Level::Info,
    };
    LogBatch { text: Bytes::from_static(text.as_bytes()), lines: vec![line] }
}
