//! Blobs, in memory and in files, and what is removed with old runs.

use std::sync::Arc;

use bytes::Bytes;
use ork_core::logs::{Level, LogBatch, LogLine, Stream};
use ork_core::run::RunState;
use ork_core::time::Wall;
use ork_core::value::{Data, Digest};
use ork_store::{
    Blobs, DataDir, FileBlobs, FileLogs, Limits, LogKey, Memory, MemoryBlobs, Retention, Store,
    prune, sweep_blobs, sweep_logs,
};

use crate::rows::{IntoChange, PROJECT, in_state, run, run_id};

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

    assert!(!blobs.remove(&digest, Wall(i64::MIN)).await.unwrap(), "put since");
    assert!(blobs.remove(&digest, Wall(i64::MAX)).await.unwrap());
    assert_eq!(blobs.get(&digest).await.unwrap(), None);
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
    let swept = sweep_blobs(&store, &blobs, None, Wall(0)).await.unwrap();
    assert_eq!(swept.removed, 0, "all were put since");
    let swept = sweep_blobs(&store, &blobs, None, Wall(i64::MAX)).await.unwrap();
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
