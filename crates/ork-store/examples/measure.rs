//! Measures the store on this machine: `cargo run --release -p ork-store --example measure`.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ork_core::ids::{Epoch, InstancePath, ProjectId, RunId, Token};
use ork_core::logs::{Level, LogBatch, LogLine, Stream};
use ork_core::rows::{Actor, Change, EventRow, TaskRow};
use ork_core::run::{EventKind, TaskState};
use ork_core::time::Wall;
use ork_core::value::Value;
use ork_store::{
    DataDir, FileLogs, Limits, LogKey, LogPart, LogQuery, Place, Sqlite, Store, StoreError,
};
use uuid::Uuid;

const PROJECT: ProjectId = ProjectId::DEFAULT;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir_in(std::env::current_dir()?)?;
    let dir = DataDir::open(root.path())?;
    opening(&dir)?;
    let store = Sqlite::open(dir.clone())?;
    let epoch = store.lead().await?;
    commits(&store, epoch).await?;
    rows(&store, epoch).await?;
    drop(store);
    logs(&dir).await
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn opening(dir: &Arc<DataDir>) -> Result<(), StoreError> {
    let file = dir.path().join("ork.db");
    let (mut fresh, mut existing, mut closing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        drop(std::fs::remove_file(&file));
        for times in [&mut fresh, &mut existing] {
            let start = Instant::now();
            let store = Sqlite::open(dir.clone())?;
            times.push(start.elapsed());
            let start = Instant::now();
            drop(store);
            closing.push(start.elapsed());
        }
    }
    for (what, times) in [("fresh", fresh), ("existing", existing), ("close", closing)] {
        println!("{what:<32} {:>10.2} ms (median)", ms(median(times)));
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn step(run: RunId, n: u32) -> [Change; 2] {
    let path = InstancePath::from(format!("load[{n}]").as_str());
    let event = EventRow {
        project: PROJECT,
        run,
        seq: u64::from(n) + 1,
        at: Wall(1),
        path: Some(path.clone()),
        generation: Some(1),
        attempt: Some(1),
        actor: Actor { name: "system".into(), reason: None, request_id: None, ..Actor::default() },
        schema_version: 1,
        kind: EventKind::TaskStarted { token: Token::new(Epoch(1), n) },
    };
    let task = TaskRow {
        project: PROJECT,
        run,
        path,
        ordinal: n,
        generation: 1,
        state: TaskState::Queued,
        attempt: 1,
        cause: None,
        failure: None,
        inputs: None,
        output: None,
        queued_at: Some(Wall(1)),
        started_at: None,
        finished_at: None,
        marked: false,
        cache: None,
        detail: Value::Null,
    };
    [Change::Task(Box::new(task)), Change::Event(Arc::new(event))]
}

async fn commits(store: &Sqlite, epoch: Epoch) -> Result<(), StoreError> {
    let run = RunId(Uuid::from_u128(1));
    let mut times = Vec::new();
    let start = Instant::now();
    for n in 0..5_000 {
        let begun = Instant::now();
        store.commit(epoch, Arc::new(step(run, n))).await?;
        times.push(begun.elapsed());
    }
    let rate = 5_000.0 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let (half, most) = (ms(times[2_500]), ms(times[4_950]));
    println!("commits of 2 rows {rate:>25.0} /s, p50 {half:.2} ms, p99 {most:.2} ms");
    Ok(())
}

async fn rows(store: &Sqlite, epoch: Epoch) -> Result<(), StoreError> {
    let commits: Vec<Arc<[Change]>> = (0..200)
        .map(|commit| {
            let run = RunId(Uuid::from_u128(2 + commit / 50));
            let first = (commit % 50) as u32 * 500;
            (first..first + 500).flat_map(|n| step(run, n)).collect()
        })
        .collect();
    for what in ["rows inserted", "rows replaced"] {
        let start = Instant::now();
        let mut count = 0;
        for changes in &commits {
            let changes: Arc<[Change]> = match what {
                "rows inserted" => changes.clone(),
                _ => changes.iter().filter(|c| matches!(c, Change::Task(_))).cloned().collect(),
            };
            count += changes.len();
            store.commit(epoch, changes).await?;
        }
        println!("{what:<32} {:>10.0} /s", count as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn batch(first: usize, count: usize) -> LogBatch {
    let mut text = String::new();
    let mut lines = Vec::with_capacity(count);
    for n in first..first + count {
        let start = text.len();
        text.push_str(&format!(
            "2026-11-24T08:00:00 INFO loaded part {n:08} of table orders, 1024 rows, checksum {:08x}",
            n.wrapping_mul(2_654_435_761) as u32
        ));
        lines.push(LogLine {
            length: (text.len() - start) as u32,
            cut: 0,
            at: Wall(n as i64),
            stream: Stream::Stdout,
            level: if n % 1_000_003 == 7 { Level::Error } else { Level::Info },
        });
    }
    LogBatch { text: Bytes::from(text), lines }
}

async fn logs(dir: &Arc<DataDir>) -> Result<(), Box<dyn std::error::Error>> {
    let logs = FileLogs::open(dir.clone(), Limits { attempt: u64::MAX });
    let key = LogKey {
        project: PROJECT,
        run: RunId(Uuid::from_u128(1)),
        path: "load".into(),
        generation: 1,
        attempt: 1,
    };
    let (mut spent, mut bytes) = (Duration::ZERO, 0);
    for n in 0..4_000 {
        let batch = batch(n * 2_500, 2_500);
        bytes += batch.text.len();
        let start = Instant::now();
        logs.append(&key, batch).await?;
        spent += start.elapsed();
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    println!("log intake {:>32.0} MiB/s", mib / spent.as_secs_f64());
    let start = Instant::now();
    let summary = logs.close(&key).await?;
    println!("close of {} lines {:>20.1} ms", summary.lines, ms(start.elapsed()));
    let query = |place, level, text: Option<&str>| LogQuery {
        place,
        level,
        stream: None,
        text: text.map(str::to_owned),
        since: None,
        until: None,
        limit: 200,
    };
    let queries = [
        ("tail 200", query(Place::END, None, None)),
        ("seek to the middle", query(Place::After(5_000_000), None, None)),
        ("errors from the start", query(Place::After(0), Some(Level::Error), None)),
        ("text from the start", query(Place::After(0), None, Some("part 09999999"))),
    ];
    for (what, query) in queries {
        let start = Instant::now();
        let late = move || start.elapsed() > Duration::from_millis(90);
        let LogPart { lines, scanned_to, more, .. } = logs.read(&key, query, late).await?;
        let (took, found) = (ms(start.elapsed()), lines.len());
        println!("{what:<32} {took:>10.1} ms, {found} lines, to line {scanned_to}, more: {more}");
    }
    Ok(())
}
