//! What is removed with time, on real rows, logs and folders.

use std::path::PathBuf;
use std::time::Duration;

use ork_api::types::{LogQuery, RunQuery};
use ork_core::ids::RunId;
use ork_server::Retention;

use crate::harness::{Ork, STORAGES};

/// Looks without a rest, so that tests need not wait.
const EAGER: Retention =
    Retention { days: None, runs: None, after_start: Duration::ZERO, every: Duration::ZERO };

async fn runs(ork: &Ork) -> Vec<RunId> {
    let runs = ork.client.runs(&RunQuery::default()).await.unwrap();
    runs.items.into_iter().map(|run| run.id).collect()
}

async fn until(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never came true");
}

fn log_folder(ork: &Ork, run: RunId) -> PathBuf {
    ork.dir.path().join("logs/1").join(run.to_string())
}

#[tokio::test]
async fn of_each_workflow_the_newest_are_kept_and_the_rest_goes_with_its_files() {
    for storage in STORAGES {
        let ork = Ork::with(|config| {
            config.storage = storage;
            config.retention = Retention { runs: Some(2), ..EAGER };
        })
        .await;
        ork.deploy("many", &["lines"]).await;
        ork.deploy("other", &["lines"]).await;
        let kept = ork.done("other").await.id;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(ork.done("many").await.id);
        }
        until(async || runs(&ork).await.len() == 3).await;
        assert_eq!(runs(&ork).await, [made[4], made[3], kept]);
        assert!(log_folder(&ork, made[4]).is_dir() && log_folder(&ork, kept).is_dir());
        until(async || !log_folder(&ork, made[2]).exists()).await;
        assert!(!log_folder(&ork, made[0]).exists());
        let log = ork.client.logs(made[4], "lines", &LogQuery::default()).await.unwrap();
        assert_eq!(log.lines.len(), 1_000);
        assert!(ork.client.logs(made[0], "lines", &LogQuery::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_run_goes_with_its_files_once_it_ended_so_many_days_ago() {
    for storage in STORAGES {
        let keep = |days, runs| {
            Ork::with(move |config| {
                config.storage = storage;
                config.retention = Retention { days: Some(days), runs, ..EAGER };
            })
        };
        let ork = keep(0, None).await;
        ork.deploy("held", &["hold"]).await;
        ork.deploy("w", &["lines"]).await;
        let held = ork.holding("held").await.id;
        let gone = ork.create("w").await.id;
        until(async || runs(&ork).await == [held]).await;
        until(async || !log_folder(&ork, gone).exists()).await;
        ork.release.notify_one();
        until(async || runs(&ork).await.is_empty()).await;

        let ork = keep(1, Some(1)).await;
        ork.deploy("w", &["lines"]).await;
        let first = ork.done("w").await.id;
        let second = ork.done("w").await.id;
        // That the first is gone shows that there was a look, which the second outlasted.
        until(async || !runs(&ork).await.contains(&first)).await;
        assert_eq!(runs(&ork).await, [second]);
        assert!(log_folder(&ork, second).is_dir());
    }
}

#[tokio::test]
async fn what_a_crash_left_of_removed_runs_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let gone = "01932b00-0000-7000-8000-000000000000";
    let left = dir.path().join("logs/1").join(gone);
    std::fs::create_dir_all(&left).unwrap();
    let mut config = ork_server::Config::local(dir.path());
    config.retention = EAGER;
    let _ork = Ork::on(config, dir).await;
    until(async || !left.exists()).await;
}

#[tokio::test]
async fn a_run_that_is_under_way_stays() {
    let ork = Ork::with(|config| config.retention = Retention { runs: Some(1), ..EAGER }).await;
    ork.deploy("w", &["hold"]).await;
    let held = ork.holding("w").await;
    ork.deploy("w", &["quick"]).await;
    let first = ork.done("w").await.id;
    let second = ork.done("w").await.id;
    until(async || !runs(&ork).await.contains(&first)).await;
    assert_eq!(runs(&ork).await, [second, held.id]);
    ork.release.notify_one();
    until(async || runs(&ork).await == [second]).await;
}
