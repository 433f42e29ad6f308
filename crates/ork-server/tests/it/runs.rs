//! Runs from their making to their end.

use ork_api::problem::Code;
use ork_api::types::{
    Cancel, Deploy, Draft, EventQuery, NewRun, Part, Payload, Retry, RunQuery, SingleTask,
    TaskQuery, Validate,
};
use ork_core::run::{AttemptState, RunState, TaskState};
use ork_server::Storage;
use serde_json::json;

use crate::harness::{Ork, STORAGES, ended_well, run_of, workflow};

#[tokio::test]
async fn a_run_of_a_deployed_workflow() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a", "b"]).await;
        let run = ork.done("w").await;
        ended_well(&run);
        assert_eq!((&*run.workflow, run.version, run.run_attempt), ("w", 1, 1));
        let tasks = ork.client.tasks(run.id, &TaskQuery::default()).await.unwrap().items;
        let paths: Vec<_> = tasks.iter().map(|task| task.path.as_str()).collect();
        assert_eq!(paths, ["a", "b"]);
        assert_eq!(tasks[0].output, Some(Payload::Value(json!({ "n": 1 }))));
        let attempts = ork.client.attempts(run.id, "a", &Part::default()).await.unwrap().items;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].state, AttemptState::Success);
    }
}

#[tokio::test]
async fn versions_are_made_where_content_is_new() {
    let ork = Ork::start(Storage::Sqlite).await;
    let deploy = |tasks: &[&str]| Deploy {
        file: "w.yaml".into(),
        source: workflow("w", tasks),
        bundle: None,
        reason: None,
    };
    let mut seen = Vec::new();
    for tasks in [&["a"][..], &["a"], &["a", "b"], &["a"]] {
        let deployed = ork.client.deploy(&deploy(tasks)).await.unwrap();
        let run = ork.create("w").await;
        assert_eq!(run.version, deployed.version);
        seen.push((deployed.version, deployed.created));
    }
    assert_eq!(seen, [(1, true), (1, false), (2, true), (1, false)]);
    let versions = ork.client.versions("w", &Part::default()).await.unwrap().items;
    assert_eq!(versions.iter().map(|item| item.version).collect::<Vec<_>>(), [2, 1]);
    let version = ork.client.version("w", 2).await.unwrap();
    assert_eq!(version.source, workflow("w", &["a", "b"]));
    assert_eq!(version.tasks[1].upstreams, ["a"]);
    assert_eq!(ork.client.workflow("w").await.unwrap().current, Some(1));
}

#[tokio::test]
async fn a_draft_of_a_file_in_place() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let code = tempfile::tempdir().unwrap();
        let draft = |tasks: &[&str]| NewRun {
            draft: Some(Draft {
                file: "w.yaml".into(),
                source: workflow("w", tasks),
                root: code.path().to_str().unwrap().into(),
                task: None,
            }),
            ..NewRun::default()
        };
        let mut versions = Vec::new();
        for tasks in [&["a"][..], &["a"], &["b"]] {
            let run = ork.client.create_run(&draft(tasks)).await.unwrap();
            versions.push(run.version);
            ended_well(&ork.ended(run.id).await);
        }
        assert_eq!(versions, [-1, -1, -2]);
        assert_eq!(ork.client.workflow("w").await.unwrap().current, None);
        let error = ork.client.create_run(&run_of("w")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound));
        assert!(error.to_string().contains("ork deploy"), "{error}");
    }
}

#[tokio::test]
async fn params_come_as_json_and_as_text() {
    let ork = Ork::start(Storage::Memory).await;
    let source = "name: w\nparams:\n  day: { type: date }\n  n: { type: int, default: 7 }\n  \
                  names: { type: \"[str]\" }\ntasks:\n  a: { run: [\"true\"] }\n";
    let deploy =
        Deploy { file: "w.yaml".into(), source: source.into(), bundle: None, reason: None };
    ork.client.deploy(&deploy).await.unwrap();
    let run = NewRun {
        params: [("day".to_owned(), json!("2026-11-24"))].into_iter().collect(),
        params_text: [("names".to_owned(), "x,y".to_owned())].into_iter().collect(),
        ..run_of("w")
    };
    let run = ork.client.create_run(&run).await.unwrap();
    assert_eq!(run.params, json!({ "day": "2026-11-24", "n": 7, "names": ["x", "y"] }));
}

#[tokio::test]
async fn a_failed_run_is_explained_and_retried() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["fail", "after"]).await;
        let run = ork.done("w").await;
        assert_eq!(run.state, RunState::Failed);
        let told = ork.client.explain(run.id).await.unwrap();
        let states: Vec<_> =
            told.tasks.iter().map(|task| (task.path.as_str(), task.state)).collect();
        assert_eq!(states, [("fail", TaskState::Failed), ("after", TaskState::UpstreamFailed)]);
        assert_eq!(
            told.tasks[1].cause.as_ref().map(ork_core::ids::InstancePath::as_str),
            Some("fail")
        );
        let again = ork.client.retry(run.id, &Retry::default()).await.unwrap();
        assert_eq!(again.run_attempt, 2);
    }
}

#[tokio::test]
async fn an_open_run_says_what_it_waits_for_and_can_be_cancelled() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["hold", "after"]).await;
        let run = ork.holding("w").await;
        let told = ork.client.explain(run.id).await.unwrap();
        let after = &told.tasks[1];
        assert_eq!((after.path.as_str(), after.state), ("after", TaskState::Pending));
        assert_eq!(after.blockers[0].kind, "upstream");
        assert!(after.blockers[0].message.contains("`hold`"), "{:?}", after.blockers);
        let reason = Some("not today".to_owned());
        ork.client.cancel(run.id, &Cancel { reason, ..Cancel::default() }).await.unwrap();
        assert_eq!(ork.ended(run.id).await.state, RunState::Cancelled);
        let events = ork.client.run_events(run.id, &EventQuery::default()).await.unwrap().items;
        assert!(events.iter().any(|event| event.actor.reason.as_deref() == Some("not today")));
        assert!(events.iter().any(|event| event.actor.request_id.is_some()));
    }
}

#[tokio::test]
async fn lists_come_in_parts() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        ork.deploy("v", &["a"]).await;
        let mut made = Vec::new();
        for n in 0..7 {
            let labels = [("n".to_owned(), (n % 2).to_string())].into_iter().collect();
            let run = NewRun { labels, ..run_of(if n < 5 { "w" } else { "v" }) };
            made.push(ork.client.create_run(&run).await.unwrap().id);
        }
        let mut all = Vec::new();
        let mut query = RunQuery { limit: Some(3), ..RunQuery::default() };
        loop {
            let part = ork.client.runs(&query).await.unwrap();
            all.extend(part.items.iter().map(|run| run.id));
            query.cursor = part.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        made.reverse();
        assert_eq!(all, made, "{storage:?}");
        let of = RunQuery { workflow: Some("v".into()), ..RunQuery::default() };
        assert_eq!(ork.client.runs(&of).await.unwrap().items.len(), 2);
        let labelled = RunQuery { labels: vec![("n".into(), "1".into())], ..RunQuery::default() };
        assert_eq!(ork.client.runs(&labelled).await.unwrap().items.len(), 3);
    }
}

#[tokio::test]
async fn a_check_on_the_server_finds_what_is_wrong() {
    let ork = Ork::start(Storage::Memory).await;
    for (source, ok) in [(workflow("w", &["a"]), true), ("name: w\ntasks: {}\n".into(), false)] {
        let validate = Validate { file: "w.yaml".into(), source, bundle: None };
        let told = ork.client.validate(&validate).await.unwrap();
        assert_eq!(told.ok, ok, "{told:?}");
    }
}

#[tokio::test]
async fn blobs_are_kept_by_their_digest() {
    let ork = Ork::start(Storage::Memory).await;
    let content = bytes::Bytes::from_static(b"content");
    let blob = ork.client.put_blob(content.clone()).await.unwrap();
    assert_eq!(ork.client.put_blob(content.clone()).await.unwrap(), blob);
    assert_eq!(ork.client.blob(&blob.digest).await.unwrap(), content);
    let other = ork_core::value::Digest([1; 32]);
    assert_eq!(ork.client.blob(&other).await.unwrap_err().code(), Some(Code::NotFound));
}

#[tokio::test]
async fn one_task_of_a_draft_alone() {
    let ork = Ork::start(Storage::Memory).await;
    let code = tempfile::tempdir().unwrap();
    let draft = |path: &str| NewRun {
        draft: Some(Draft {
            file: "w.yaml".into(),
            source: workflow("w", &["fail", "after"]),
            root: code.path().to_str().unwrap().into(),
            task: Some(SingleTask { path: path.into(), inputs: indexmap::IndexMap::default() }),
        }),
        ..NewRun::default()
    };
    let run = ork.client.create_run(&draft("after")).await.unwrap();
    ended_well(&ork.ended(run.id).await);
    let tasks = ork.client.tasks(run.id, &TaskQuery::default()).await.unwrap().items;
    assert_eq!(tasks.iter().map(|task| task.path.as_str()).collect::<Vec<_>>(), ["after"]);
    let error = ork.client.create_run(&draft("none")).await.unwrap_err();
    assert_eq!(error.problem().unwrap().errors[0].field, "draft.task");
}

#[tokio::test]
async fn the_same_words_in_another_folder_are_another_draft() {
    let ork = Ork::start(Storage::Memory).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut versions = Vec::new();
    for at in [0, 1, 0] {
        let draft = Draft {
            file: "w.yaml".into(),
            source: workflow("w", &["a"]),
            root: folders[at].path().to_str().unwrap().into(),
            task: None,
        };
        let run = NewRun { draft: Some(draft), ..NewRun::default() };
        versions.push(ork.client.create_run(&run).await.unwrap().version);
    }
    assert_eq!(versions, [-1, -2, -1]);
}

#[tokio::test]
async fn a_run_is_told_of_its_own_deadlines_alone() {
    let ork = Ork::start(Storage::Memory).await;
    let timed = workflow("timed", &["hold"]) + "timeout: 1h\n";
    let deploy = Deploy { file: "w.yaml".into(), source: timed, bundle: None, reason: None };
    ork.client.deploy(&deploy).await.unwrap();
    ork.deploy("free", &["hold"]).await;
    let (timed, free) = (ork.holding("timed").await, ork.holding("free").await);
    assert!(ork.client.explain(timed.id).await.unwrap().next_wakeup.is_some());
    assert_eq!(ork.client.explain(free.id).await.unwrap().next_wakeup, None);
}

#[tokio::test]
async fn a_logical_time_may_be_a_date() {
    let ork = Ork::start(Storage::Memory).await;
    ork.deploy("w", &["a"]).await;
    let at = |text: &str| NewRun { logical_time: Some(text.into()), ..run_of("w") };
    for (sent, kept) in [
        ("2026-11-24", "2026-11-24T00:00:00.000000Z"),
        ("2026-11-24T02:30:00+01:00", "2026-11-24T01:30:00.000000Z"),
    ] {
        let run = ork.client.create_run(&at(sent)).await.unwrap();
        assert_eq!(run.logical_time, kept);
    }
    for wrong in ["2026-13-01", "yesterday", "2026-11-24T02:30:00", ""] {
        let error = ork.client.create_run(&at(wrong)).await.unwrap_err();
        assert_eq!(error.problem().unwrap().errors[0].field, "logical_time", "{wrong}");
    }
}

#[tokio::test]
async fn a_run_was_made_when_its_answer_says() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        let run = ork.create("w").await;
        assert_eq!(ork.client.run(run.id).await.unwrap().created_at, run.created_at);
        let first = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        let again = ork.client.create_run_once(&run_of("w"), "key").await.unwrap();
        assert_eq!((again.id, again.created_at), (first.id, first.created_at), "{storage:?}");
    }
}

#[tokio::test]
async fn a_cursor_that_no_list_gave_is_malformed() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["a"]).await;
        let run = ork.done("w").await.id;
        let cursor = Some("forged".to_owned());
        let part = Part { cursor: cursor.clone(), ..Part::default() };
        let runs = RunQuery { cursor: cursor.clone(), ..RunQuery::default() };
        let tasks = TaskQuery { cursor, ..TaskQuery::default() };
        let client = &ork.client;
        for error in [
            client.runs(&runs).await.unwrap_err(),
            client.tasks(run, &tasks).await.unwrap_err(),
            client.attempts(run, "a", &part).await.unwrap_err(),
            client.versions("w", &part).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Some(Code::Malformed), "{storage:?}");
            assert!(error.to_string().contains("`forged` is no cursor"), "{error}");
        }
    }
}
