//! Idempotency keys.

use std::collections::HashSet;
use std::sync::Arc;

use ork_api::problem::Code;
use ork_api::types::{Deploy, NewRun, RunQuery};
use tokio::sync::Barrier;

use crate::harness::{Ork, STORAGES, run_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_from_many_clients_makes_one_run() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        let barrier = Arc::new(Barrier::new(50));
        let calls = (0..50).map(|_| {
            let (client, barrier) = (ork.client.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                client.create_run_once(&run_of("w"), "key").await.unwrap().id
            })
        });
        let mut ids = HashSet::new();
        for call in calls.collect::<Vec<_>>() {
            ids.insert(call.await.unwrap());
        }
        assert_eq!(ids.len(), 1, "{storage:?}");
        let runs = ork.client.runs(&RunQuery::default()).await.unwrap();
        assert_eq!(runs.items.len(), 1, "{storage:?}");
    }
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        let first = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        let other = NewRun { reason: Some("other".into()), ..run_of("w") };
        let error = ork.client.create_run_once(&other, "key").await.unwrap_err();
        assert_eq!(error.code(), Some(Code::IdempotencyKeyReused));
        let again = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        assert_eq!(again.id, first.id);
    }
}

#[tokio::test]
async fn a_repetition_gets_its_answer_whatever_became_of_the_workflow() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        let first = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        let source = "name: w\nparams: {n: int}\ntasks: {a: {run: [echo, \"${{ params.n }}\"]}}\n";
        let (file, source) = ("w.yaml".to_owned(), source.to_owned());
        ork.client.deploy(&Deploy { file, source, bundle: None, reason: None }).await.unwrap();
        let again = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        assert_eq!(again.id, first.id, "{storage:?}");
        let error = ork.client.create_run_once(&run_of("w"), "another").await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Invalid), "{storage:?}");
    }
}
