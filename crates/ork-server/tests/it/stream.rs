//! The event stream.

use std::time::Duration;

use ork_api::client::StreamedItem;
use ork_api::problem::Code;
use ork_api::types::EventQuery;
use ork_core::ids::RunId;
use ork_core::run::EventKind;
use ork_server::{Config, Retention, Storage};

use crate::harness::{Ork, STORAGES};

fn is_end(kind: &EventKind) -> bool {
    matches!(kind, EventKind::RunFinished { .. })
}

/// What the stream brings after `id` up to the end of `last`: places, and what stands there.
async fn read(
    ork: &Ork,
    topics: &[String],
    id: Option<&str>,
    last: RunId,
) -> Vec<(String, Vec<String>)> {
    let mut events = ork.client.events(topics, id).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let streamed = events.next().await.unwrap();
        let (what, is_last) = match streamed.item {
            StreamedItem::Event(event) => (
                vec![format!("{} {}", event.run, event.seq)],
                is_end(&event.data) && event.run == last,
            ),
            StreamedItem::Log(chunk) => {
                let lines = chunk.lines.iter();
                (lines.map(|line| format!("{} line {}", chunk.run, line.seq)).collect(), false)
            }
            StreamedItem::Reset(reset) => panic!("{reset:?}"),
        };
        seen.push((streamed.id, what));
        if is_last {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_run_is_told_from_its_first_event() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a", "b"]).await;
        let run = ork.done("w").await;
        let told = read(&ork, &[format!("run:{}", run.id)], None, run.id).await;
        let events = ork.client.run_events(run.id, &EventQuery::default()).await.unwrap().items;
        let listed: Vec<_> = events.iter().map(|e| vec![format!("{} {}", e.run, e.seq)]).collect();
        assert_eq!(told.into_iter().map(|(_, what)| what).collect::<Vec<_>>(), listed);
        assert_eq!(events[0].seq, 1);
    }
}

#[tokio::test]
async fn a_stream_goes_on_from_anywhere_without_a_gap() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a", "lines"]).await;
        let (first, last) = (ork.done("w").await.id, ork.done("w").await.id);
        let topics = [first, last].map(|id| [format!("run:{id}"), format!("logs:{id}")]).concat();
        let whole = read(&ork, &topics, None, last).await;
        let lines = whole.iter().flat_map(|(_, what)| what).filter(|what| what.contains("line"));
        assert_eq!(lines.count(), 5_000);
        for (at, (id, _)) in whole.iter().enumerate().take(whole.len() - 1) {
            let rest = read(&ork, &topics, Some(id), last).await;
            assert_eq!(rest, whole[at + 1..], "{storage:?} after {id}");
        }
    }
}

#[tokio::test]
async fn recent_lines_pass_over_what_is_far_behind() {
    let ork = Ork::start(Storage::Memory).await;
    ork.deploy("w", &["flood"]).await;
    let run = ork.done("w").await;
    for (topic, all) in [("recent", false), ("logs", true)] {
        let topics = [format!("run:{}", run.id), format!("{topic}:{}", run.id)];
        let mut events = ork.client.events(&topics, None).await.unwrap();
        let (mut next, mut skipped) = (1, 0);
        loop {
            match events.next().await.unwrap().item {
                StreamedItem::Log(chunk) => {
                    next += chunk.skipped;
                    skipped += chunk.skipped;
                    for line in &chunk.lines {
                        assert_eq!(line.seq, next);
                        next += 1;
                    }
                }
                StreamedItem::Event(event) if is_end(&event.data) => break,
                _ => {}
            }
        }
        assert_eq!((next, skipped), (60_001, if all { 0 } else { 55_000 }), "{topic}");
    }
}

#[tokio::test]
async fn lines_come_while_the_task_runs_and_before_its_end() {
    let ork = Ork::start(Storage::Memory).await;
    ork.deploy("w", &["hold"]).await;
    let run = ork.holding("w").await;
    let topics = [format!("run:{}", run.id), format!("logs:{}/hold", run.id)];
    let mut events = ork.client.events(&topics, None).await.unwrap();
    let mut lines = Vec::new();
    loop {
        match events.next().await.unwrap().item {
            StreamedItem::Log(chunk) => lines.extend(chunk.lines.iter().map(|line| line.seq)),
            StreamedItem::Event(event) if is_end(&event.data) => break,
            _ => {}
        }
        if lines.len() == 3 {
            ork.release.notify_one();
        }
    }
    assert_eq!(lines, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_project_is_told_from_now_on() {
    let ork = Ork::start(Storage::Memory).await;
    ork.deploy("w", &["a"]).await;
    ork.done("w").await;
    let mut events = ork.client.events(&["project:default".into()], None).await.unwrap();
    let run = ork.create("w").await;
    let StreamedItem::Event(event) = events.next().await.unwrap().item else { panic!() };
    assert_eq!((event.run, event.seq), (run.id, 1));
}

#[tokio::test]
async fn a_stream_goes_on_after_a_restart() {
    let ork = Ork::start(Storage::Sqlite).await;
    ork.deploy("w", &["a"]).await;
    let first = ork.done("w").await;
    let topics = ["project:default".to_owned()];
    let seen = read(&ork, &[format!("run:{}", first.id)], None, first.id).await;
    let id = seen[1].0.clone();
    let Ork { running, worker, dir, .. } = ork;
    running.shutdown().await;
    worker.await.unwrap();
    let ork = Ork::on(Config::local(dir.path()), dir).await;
    let rest = read(&ork, &topics, Some(&id), first.id).await;
    assert_eq!(rest, seen[2..]);
}

#[tokio::test]
async fn a_place_that_this_store_has_not_reached_is_reset() {
    let ork = Ork::start(Storage::Memory).await;
    let topics = ["project:default".to_owned()];
    let mut events = ork.client.events(&topics, Some("999.0")).await.unwrap();
    let first = events.next().await.unwrap();
    assert!(matches!(first.item, StreamedItem::Reset(_)), "{first:?}");
    ork.deploy("w", &["a"]).await;
    let run = ork.create("w").await;
    let StreamedItem::Event(event) = events.next().await.unwrap().item else { panic!() };
    assert_eq!(event.run, run.id);
}

#[tokio::test]
async fn a_place_older_than_what_is_kept_is_reset() {
    for storage in STORAGES {
        let ork = Ork::with(|config| {
            config.storage = storage;
            config.retention = Retention {
                days: None,
                runs: Some(1),
                after_start: Duration::ZERO,
                every: Duration::ZERO,
            };
        })
        .await;
        ork.deploy("w", &["a"]).await;
        let old = ork.done("w").await;
        let id = read(&ork, &[format!("run:{}", old.id)], None, old.id).await[0].0.clone();
        let kept = ork.done("w").await;
        while ork.client.run(old.id).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // The run's events go after its row, a few at a time.
        let reset = loop {
            let topics = ["project:default".to_owned()];
            let mut events = ork.client.events(&topics, Some(&id)).await.unwrap();
            if let StreamedItem::Reset(reset) = events.next().await.unwrap().item {
                break reset;
            }
        };
        assert!(reset.reason.contains("too old"), "{reset:?}");
        let error = ork.client.events(&[format!("run:{}", old.id)], Some(&id)).await.err().unwrap();
        assert_eq!(error.code(), Some(Code::NotFound));
        assert!(ork.client.run(kept.id).await.is_ok());
    }
}
