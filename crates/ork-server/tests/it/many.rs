//! Commands on many runs, and tries of commands on what is no run.

use ork_api::backfills::{Backfill, NewBackfill, SteerBackfill};
use ork_api::problem::Code;
use ork_api::schedules::PauseSchedule;
use ork_api::triggers::RotateTrigger;
use ork_api::types::{
    ApproveEach, Cancel, Deploy, Each, Mark, MarkState, Part, Preview, Removal, Rerun, Retry,
    RunQuery, SetPool, Signal, TaskQuery,
};
use ork_core::ids::RunId;
use ork_core::rows::{BackfillState, Order};
use ork_core::run::{RunState, TaskState};
use serde_json::{Value, json};

use crate::harness::{Ork, STORAGES};

async fn deploy(ork: &Ork, source: &str) {
    let (file, source) = ("w.yaml".to_owned(), source.to_owned());
    ork.client.deploy(&Deploy { file, source, bundle: None, reason: None }).await.unwrap();
}

fn of(workflow: &str) -> RunQuery {
    RunQuery { workflow: Some(workflow.into()), ..RunQuery::default() }
}

/// The runs that were told without a refusal.
fn done(each: &Each) -> Vec<RunId> {
    each.items.iter().filter(|told| told.problem.is_none()).map(|told| told.run).collect()
}

async fn state(ork: &Ork, run: RunId, task: &str) -> TaskState {
    ork.client.task(run, task).await.unwrap().state
}

/// An unset variable of a script must not mean all runs.
#[tokio::test]
async fn a_filter_that_says_nothing_is_refused() {
    let ork = Ork::start(STORAGES[0]).await;
    let empty = || Some(String::new());
    let filters = [
        RunQuery::default(),
        RunQuery { state: empty(), ..RunQuery::default() },
        RunQuery { state: Some(",".into()), ..of("w") },
        RunQuery { workflow: empty(), ..RunQuery::default() },
        RunQuery { q: Some(" ".into()), ..RunQuery::default() },
    ];
    for filter in filters {
        let refused = ork.client.each("cancel", &filter, &Cancel::default(), false).await;
        let told = refused.expect_err("all runs are meant").to_string();
        assert!(told.contains("filter") || told.contains("say which runs"), "{filter:?}: {told}");
    }
}

#[tokio::test]
async fn a_command_is_given_to_all_runs_that_a_filter_finds() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let client = &ork.client;
        ork.deploy("bad", &["fail"]).await;
        ork.deploy("other", &["fail"]).await;
        let (one, two) = (ork.done("bad").await.id, ork.done("bad").await.id);
        let apart = ork.done("other").await;

        let failed = RunQuery { state: Some("failed".into()), ..of("bad") };
        let mark = Mark {
            task: "fail".into(),
            state: MarkState::Success,
            output: Value::Null,
            reason: Some("known".into()),
        };
        let tried = client.each("mark", &failed, &mark, true).await.unwrap();
        assert_eq!(done(&tried), [two, one]);
        assert!(tried.items.iter().all(|told| !told.changes.is_empty()), "{tried:?}");
        assert_eq!(state(&ork, one, "fail").await, TaskState::Failed, "a try changes nothing");
        assert_eq!(done(&client.each("mark", &failed, &mark, false).await.unwrap()), [two, one]);
        for run in [one, two] {
            assert_eq!(state(&ork, run, "fail").await, TaskState::Success, "{storage:?}");
        }
        assert_eq!(state(&ork, apart.id, "fail").await, TaskState::Failed);

        let rerun = Rerun::default();
        let made = client.each("rerun", &of("bad"), &rerun, false).await.unwrap();
        let made: Vec<_> = made.items.iter().map(|told| (told.run, told.made.unwrap())).collect();
        assert_eq!(made.len(), 2);
        for (earlier, new) in made {
            assert_eq!(client.run(new).await.unwrap().rerun_of, Some(earlier));
            ork.ended(new).await;
        }

        // One that does not fit is answered for on its own.
        let cancel = Cancel::default();
        let told = client.each("cancel", &of("bad"), &cancel, false).await.unwrap();
        assert!(done(&told).is_empty() && told.items.len() == 4, "{told:?}");
        let codes = told.items.iter().map(|told| told.problem.as_ref().unwrap().code);
        assert!(codes.clone().all(|code| code == Code::Conflict));
        let retried = client.each("retry", &of("other"), &Retry::default(), false).await.unwrap();
        assert_eq!(done(&retried), [apart.id]);
        for query in [RunQuery::default(), RunQuery { limit: Some(1), ..of("bad") }] {
            let refused = client.each("retry", &query, &Retry::default(), false).await;
            assert_eq!(refused.unwrap_err().code(), Some(Code::Malformed));
        }
    }
}

#[tokio::test]
async fn signals_and_decisions_reach_many_runs() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let client = &ork.client;
        deploy(
            &ork,
            "name: w\ntasks:\n  ask: { approval: { prompt: ok? } }\n  \
             come: { wait: { event: go }, depends_on: ask }\n",
        )
        .await;
        let runs = [ork.create("w").await.id, ork.create("w").await.id];
        let until = async |task: &str, wanted| {
            for run in runs {
                while state(&ork, run, task).await != wanted {
                    tokio::task::yield_now().await;
                }
            }
        };
        until("ask", TaskState::Deferred).await;
        let decide = ApproveEach { task: "ask".into(), approved: true, ..ApproveEach::default() };
        let tried = client.each("approve", &of("w"), &decide, true).await.unwrap();
        assert_eq!(done(&tried).len(), 2, "{tried:?}");
        until("ask", TaskState::Deferred).await;
        let told = client.each("approve", &of("w"), &decide, false).await.unwrap();
        assert_eq!(done(&told).len(), 2, "{told:?}");
        until("ask", TaskState::Success).await;
        let signal = Signal { name: "go".into(), payload: json!({"n": 1}), reason: None };
        assert_eq!(done(&client.each("signal", &of("w"), &signal, false).await.unwrap()).len(), 2);
        for run in runs {
            assert_eq!(ork.ended(run).await.state, RunState::Success);
        }
    }
}

fn told(preview: &Preview) -> Vec<(String, String, String)> {
    let item = |planned: &ork_core::run::Planned| {
        let what = planned.what.clone().or(planned.run.map(|run| run.to_string()));
        (what.unwrap(), planned.from.clone(), planned.to.clone())
    };
    preview.changes.iter().map(item).collect()
}

fn one(what: &str, from: &str, to: &str) -> Vec<(String, String, String)> {
    vec![(what.to_owned(), from.to_owned(), to.to_owned())]
}

#[tokio::test]
async fn tries_tell_what_would_change_and_change_nothing() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let client = &ork.client;
        deploy(
            &ork,
            "name: w\nschedules: { daily: { cron: '0 0 * * *' } }\n\
             triggers: { push: { webhook: { body: json, auth: hmac } } }\ntasks: { hold: { run: [x] } }\n",
        )
        .await;
        let of = ["schedules", "w", "daily"];
        let pause = PauseSchedule::default();
        let preview = client.preview_of(&of, "pause", &pause).await.unwrap();
        assert_eq!(told(&preview), one("schedule daily of w", "not paused", "paused"));
        assert!(!client.schedule("w", "daily").await.unwrap().paused);
        let preview = client.preview_of(&of, "resume", &pause).await.unwrap();
        assert_eq!(told(&preview), []);
        let none = client.preview_of(&["schedules", "w", "none"], "pause", &pause).await;
        assert_eq!(none.unwrap_err().code(), Some(Code::NotFound));

        let rotate = RotateTrigger::default();
        let of = ["triggers", "w", "push"];
        let preview = client.preview_of(&of, "rotate", &rotate).await.unwrap();
        assert_eq!(told(&preview), one("trigger push of w", "no secret", "a new secret"));
        assert_eq!(client.trigger("w", "push").await.unwrap().has_secret, Some(false));

        let four = SetPool { slots: 4, reason: None };
        let preview = client.preview_pool("db", &four).await.unwrap();
        assert_eq!(told(&preview), one("pool db", "no size", "4 slots"));
        assert!(client.pools(&Part::default()).await.unwrap().items.is_empty());
        client.set_pool("db", &four).await.unwrap();
        let six = SetPool { slots: 6, reason: None };
        let preview = client.preview_pool("db", &six).await.unwrap();
        assert_eq!(told(&preview), one("pool db", "4 slots", "6 slots"));
        let how = Removal { dry_run: true, reason: None };
        let preview = client.delete_pool("db", &how).await.unwrap();
        assert_eq!(told(&preview), one("pool db", "4 slots", "no size"));
        assert_eq!(client.pools(&Part::default()).await.unwrap().items[0].slots, Some(4));
        client.delete_pool("db", &Removal::default()).await.unwrap();
        assert!(client.pools(&Part::default()).await.unwrap().items.is_empty());
    }
}

#[tokio::test]
async fn a_backfill_is_tried_without_being_steered() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let client = &ork.client;
        deploy(
            &ork,
            "name: w\nschedules: { daily: { cron: '0 0 * * *' } }\ntasks: { hold: { run: [x] } }\n",
        )
        .await;
        let new = NewBackfill {
            schedule: "daily".into(),
            from: "2026-01-01".into(),
            to: "2026-01-02".into(),
            max_runs: 1,
            order: Order::Oldest,
            dry_run: false,
            reason: None,
        };
        let Backfill { id, .. } = client.backfill("w", &new).await.unwrap().backfill.unwrap();
        let run = loop {
            let runs = client.runs(&RunQuery::default()).await.unwrap().items;
            if let Some(run) = runs.first() {
                break run.id;
            }
            tokio::task::yield_now().await;
        };
        let held = TaskQuery::default();
        while client.tasks(run, &held).await.unwrap().items[0].state != TaskState::Running {
            tokio::task::yield_now().await;
        }
        let text = id.to_string();
        let tried = async |verb: &str| {
            let body = SteerBackfill::default();
            client.preview_of(&["backfills", &text], verb, &body).await
        };
        let what = format!("backfill {id}");
        assert_eq!(told(&tried("pause").await.unwrap()), one(&what, "running", "paused"));
        assert_eq!(told(&tried("resume").await.unwrap()), []);
        let mut expected = one(&what, "running", "cancelled");
        expected.extend(one(&run.to_string(), "running", "cancelled"));
        assert_eq!(told(&tried("cancel").await.unwrap()), expected);
        let shown = client.show_backfill(id).await.unwrap();
        assert_eq!(shown.state, BackfillState::Running);
        assert_eq!(client.run(run).await.unwrap().state, RunState::Running);
        // It keeps its workflow.
        let refused = client.delete_workflow("w", &Removal::default()).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Conflict));
        client.steer_backfill(id, "cancel", &SteerBackfill::default()).await.unwrap();
        ork.ended(run).await;
        let refused = tried("pause").await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Conflict));
    }
}
