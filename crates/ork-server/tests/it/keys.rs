//! Idempotency keys.

use std::collections::HashSet;
use std::sync::Arc;

use ork_api::problem::Code;
use ork_api::types::{Deploy, EventQuery, NewRun, RunQuery};
use ork_core::ids::RunId;
use ork_core::run::RunState;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::harness::{Ork, STORAGES, raw, run_of, workflow};

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

/// Posts a body under a key, and gives the status with the answer.
async fn post(ork: &Ork, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let head = format!(
        "POST /api/v1/projects/default{path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         authorization: Bearer {}\r\nidempotency-key: {key}\r\nx-request-id: asked-{key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        ork.running.token(),
        body.len()
    );
    let answer = raw(&ork.address(), head.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("x-request-id: asked-{key}")), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn every_command_is_done_once_for_a_key_and_its_request_is_in_the_history() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["hold", "after"]).await;
        let run = ork.holding("w").await.id;
        let on_run = |command: &str| format!("/runs/{run}/{command}");
        let deploy = json!({"file": "v.yaml", "source": workflow("v", &["a"])});
        for (key, path, body) in [
            ("deploy", "/workflows".to_owned(), deploy),
            ("pause-workflow", "/workflows/w/pause".to_owned(), json!({})),
            ("resume-workflow", "/workflows/w/resume".to_owned(), json!({})),
            ("pause-all", "/pause".to_owned(), json!({})),
            ("resume-all", "/resume".to_owned(), json!({})),
            ("pause", on_run("pause"), json!({})),
            ("resume", on_run("resume"), json!({})),
            ("signal", on_run("signal"), json!({"name": "go"})),
            ("mark", on_run("mark"), json!({"task": "after", "state": "skipped"})),
            ("cancel", on_run("cancel"), json!({})),
            ("retry", on_run("retry"), json!({})),
        ] {
            if key == "retry" {
                assert_eq!(ork.ended(run).await.state, RunState::Cancelled);
            }
            let (status, answer) = post(&ork, &path, key, &body).await;
            assert!((200..300).contains(&status), "{key}: {status} {answer}");
            let done = by(&ork, run, key).await;
            assert_eq!(done > 0, path.starts_with("/runs/"), "{key}: {done} events");
            let again = post(&ork, &path, key, &body).await;
            assert_eq!((again.0, by(&ork, run, key).await), (status, done), "{key}: {again:?}");
            let mut other = body.clone();
            other["reason"] = json!("another");
            let (_, refused) = post(&ork, &path, key, &other).await;
            assert_eq!(refused["code"], "idempotency_key_reused", "{key}: {refused}");
        }
    }
}

/// How many events of the run name the request that had this key.
async fn by(ork: &Ork, run: RunId, key: &str) -> usize {
    let wanted = format!("asked-{key}");
    let events = ork.client.run_events(run, &EventQuery::default()).await.unwrap().items;
    events.iter().filter(|event| event.actor.request_id.as_deref() == Some(&*wanted)).count()
}
