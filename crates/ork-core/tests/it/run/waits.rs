//! Waits without a slot: times, events, people, sensors; and the deadlines of queues and attempts.

use insta::assert_snapshot;
use ork_core::ids::RunId;
use ork_core::plan::{Action, Approval, Binding, Expr, OnReject, OnTimeout, Param, Poll, Wait};
use ork_core::rows::Actor;
use ork_core::run::{Command, Decision, Outcome, RefusalCode, Report, TaskState};
use ork_core::time::Span;
use ork_core::types::Type;
use ork_core::value::{Data, Value};
use serde_json::json;

use super::build::{Build, plan, task};
use super::judge::judge;
use super::world::{World, by, exit, finished};

pub(crate) fn wait(name: &str, wait: Wait) -> Build {
    task(name).with(|task| task.action = Action::Wait(wait))
}

pub(crate) fn event(name: &str, signal: &str) -> Build {
    wait(name, Wait::Event(Binding::Const(json!(signal))))
}

pub(crate) fn approval(name: &str, change: impl FnOnce(&mut Approval)) -> Build {
    let mut approval = Approval {
        prompt: Binding::Const(json!("go on?")),
        approvers: Vec::new(),
        form: indexmap::IndexMap::new(),
        on_reject: OnReject::default(),
        on_timeout: OnTimeout::default(),
    };
    change(&mut approval);
    task(name).with(|task| task.action = Action::Approval(Box::new(approval)))
}

pub(crate) fn sensor(name: &str, poll: Poll) -> Build {
    task(name).with(|task| task.poll = Some(Box::new(poll)))
}

pub(crate) fn every(secs: i64) -> Poll {
    Poll { every: Span::from_secs(secs), timeout: None, until: None }
}

pub(crate) fn signal(run: RunId, name: &str, payload: Value) -> Command {
    Command::Signal { run, name: name.into(), payload, by: by("bob") }
}

fn decide(run: RunId, path: &str, approved: bool, who: Actor, form: Value) -> Command {
    let decision = Decision { approved, comment: Some("well".into()), form };
    Command::Decide { run, path: path.into(), decision, by: who }
}

fn not_yet() -> Report {
    finished(Outcome::Failed(exit(75)))
}

/// Plays a script on a world without workers; the checker has nothing to say in the end.
fn trace(tasks: Vec<Build>, script: impl FnOnce(&mut World, RunId)) -> String {
    trace_with(0, tasks, script)
}

fn trace_with(slots: u32, tasks: Vec<Build>, script: impl FnOnce(&mut World, RunId)) -> String {
    let mut world = if slots > 0 { World::with_worker(slots) } else { World::new() };
    let run = world.create(1, &plan(tasks));
    script(&mut world, run);
    judge(&world);
    world.take_trace()
}

#[test]
fn a_wait_of_no_time_is_one_event() {
    let tasks =
        vec![wait("a", Wait::For(Span::ZERO)), wait("b", Wait::For(Span::ZERO)).after(&["a"])];
    assert_snapshot!(trace(tasks, |_, _| {}), @r#"
    run created
    run started, attempt 1
    a success
    b success
    run success
    "#);
}

#[test]
fn a_length_of_time_survives_a_restart() {
    assert_snapshot!(trace(vec![wait("a", Wait::For(Span::from_secs(60)))], |w, _| {
        w.pass_secs(20);
        w.reload(Span::from_secs(30));
        w.pass_secs(9);
        w.note("ten seconds are left; nine are over");
        w.pass_secs(1);
    }), @r#"
      run created
      run started, attempt 1
      a deferred: time in 1m
      -- reload, 30s later
    > ten seconds are left; nine are over
      a success
      run success
    "#);
}

#[test]
fn a_time_of_the_clock_follows_its_steps() {
    let until = |text: &str| wait("a", Wait::Until(Binding::Const(json!(text))));
    assert_snapshot!(trace(vec![until("2026-11-24T02:00:00+01:00")], |w, _| {
        w.note("the clock steps back by half an hour, then forth by two");
        w.now.wall = w.now.wall + Span::from_secs(-1_800);
        w.pass_secs(3_600);
        w.now.wall = w.now.wall + Span::from_secs(7_200);
        w.pass_secs(60);
    }), @r#"
      run created
      run started, attempt 1
      a deferred: time in 1h
    > the clock steps back by half an hour, then forth by two
      a success
      run success
    "#);
    assert_snapshot!(trace(vec![until("2020-01-01T00:00:00Z")], |_, _| {}), @r#"
    run created
    run started, attempt 1
    a success
    run success
    "#);
    assert_snapshot!(trace(vec![until("soon")], |_, _| {}), @r#"
    run created
    run started, attempt 1
    a failed (expression: wait: "soon" is not a date and time)
    run failed (task_failed: a failed: wait: "soon" is not a date and time)
    "#);
}

#[test]
fn a_wait_fails_past_its_timeout() {
    assert_snapshot!(trace(vec![event("a", "go").timeout(30)], |w, _| w.pass_secs(30)), @r#"
    run created
    run started, attempt 1
    a deferred: event go, at most 30s
    a failed (timeout: waited longer than its timeout of 30s)
    run failed (task_failed: a failed: waited longer than its timeout of 30s)
    "#);
}

#[test]
fn signals_are_taken_in_their_order_before_and_after_the_wait() {
    let tasks =
        vec![event("a", "go"), event("b", "go").after(&["a"]), event("c", "go").after(&["b"])];
    let mut world = World::new();
    let run = world.create(1, &plan(tasks));
    for n in 1..=2 {
        world.ask(signal(run, "go", json!(n)));
    }
    world.ask(signal(run, "other", json!(0)));
    world.reload(Span::from_secs(5));
    world.ask(signal(run, "go", json!(3)));
    judge(&world);
    let outputs: Vec<_> = world.tasks.values().map(|row| row.output.clone()).collect();
    assert_eq!(outputs, [1, 2, 3].map(|n| Some(Data::Inline(json!(n)))));
    assert_snapshot!(world.take_trace(), @r#"
    run created
    run started, attempt 1
    a deferred: event go
    run signal 1: go
    a success by signal
    b deferred: event go
    run signal 2: go
    b success by signal
    c deferred: event go
    run signal 3: other
    -- reload, 5s later
    run signal 4: go
    c success by signal
    run success
    "#);
}

#[test]
fn a_signal_that_came_too_early_is_kept_whatever_its_size() {
    let tasks = vec![wait("w", Wait::For(Span::from_secs(9))), event("a", "go").after(&["w"])];
    let mut world = World::new();
    let run = world.create(1, &plan(tasks));
    let large = json!("x".repeat(500));
    world.ask(signal(run, "go", large.clone()));
    world.reload(Span::ZERO);
    world.pass_secs(10);
    let Some(Data::Blob { digest, .. }) = &world.task(run, "a").output else { panic!("a blob") };
    assert_eq!(world.blobs[digest], serde_json::to_vec(&large).unwrap());
}

#[test]
fn signals_are_typed_and_counted() {
    let ty = Type::Object(std::sync::Arc::new([("n".to_owned(), Type::Int)].into_iter().collect()));
    let tasks = vec![
        wait("w", Wait::For(Span::from_secs(9))),
        event("a", "go").after(&["w"]).with(|task| task.output_type = Some(ty)),
    ];
    let mut world = World::new();
    let run = world.create(1, &plan(tasks));
    let refused = |world: &mut World, name: &str, payload: Value| {
        let refusal = world.apply(signal(run, name, payload)).unwrap_err();
        (refusal.code, refusal.message)
    };
    let (code, message) = refused(&mut world, "go", json!({ "n": "three" }));
    assert_eq!(code, RefusalCode::Invalid);
    assert_eq!(
        message,
        "the payload of signal \"go\" does not fit: n: expected int, got str \"three\""
    );
    assert_eq!(refused(&mut world, "", json!(1)).0, RefusalCode::Invalid);
    for _ in 0..64 {
        world.apply(signal(run, "go", json!({ "n": 3 }))).unwrap();
    }
    let (code, message) = refused(&mut world, "go", json!({ "n": 3 }));
    assert_eq!(code, RefusalCode::LimitReached);
    assert!(message.contains("64 is the most"), "{message}");
    world.pass_secs(9);
    judge(&world);
    assert_eq!(refused(&mut world, "go", json!({ "n": 3 })).0, RefusalCode::NotFound);
}

#[test]
fn an_approval_is_decided_once_by_whom_it_asks() {
    let ask = approval("a", |approval| {
        approval.approvers = vec!["ann".into(), "group:ops".into(), "role:admin".into()];
        let param = Param { ty: Type::Int, default: None, description: None };
        approval.form.insert("amount".into(), param);
    });
    assert_snapshot!(trace(vec![ask, task("b").after(&["a"])], |w, run| {
        w.ask(decide(run, "a", true, by("eve"), json!({ "amount": 3 })));
        w.ask(decide(run, "a", true, by("ann"), json!({})));
        w.ask(decide(run, "a", true, by("ann"), json!({ "amount": "x", "sum": 3 })));
        w.reload(Span::from_secs(100));
        let ops = Actor { groups: vec!["ops".into()], ..by("oscar") };
        w.ask(decide(run, "a", true, ops.clone(), json!({ "amount": "3" })));
        w.note("again, by the same and by another");
        w.ask(decide(run, "a", true, ops, json!({ "amount": "3" })));
        w.ask(decide(run, "a", false, by("ann"), json!(null)));
        w.cancel(run, None, false);
        let output = w.task(run, "a").output.clone();
        w.note(&format!("{output:?}"));
    }), @r#"
      run created
      run started, attempt 1
      a deferred: approval: go on?
      refused: eve may not decide on a; ann, group:ops, role:admin may
      refused: form.amount: it is required (int)
      refused: form.sum: the form has no such field; it has amount; form.amount: expected int, got str "x"
      -- reload, 1m40s later
      a success by decision
      b queued
    > again, by the same and by another
      refused: a of run 00000000-0000-0000-0000-000000000001 was approved by oscar
      run stopping, cancelled
      b cancelled (cancelled: the run was cancelled)
      run cancelled (cancelled: the run was cancelled)
    > Some(Inline(Object {"approved": Bool(true), "by": String("oscar"), "comment": String("well"), "form": Object {"amount": Number(3)}}))
    "#);
}

#[test]
fn what_a_rejection_and_what_silence_come_to() {
    let asks = |on_reject, on_timeout| {
        let ask = approval("a", |approval| {
            approval.on_reject = on_reject;
            approval.on_timeout = on_timeout;
        });
        vec![ask.timeout(60)]
    };
    let mut ends = Vec::new();
    for on_reject in [OnReject::Skip, OnReject::Fail, OnReject::Continue] {
        for on_timeout in
            [None, Some(OnTimeout::Fail), Some(OnTimeout::Approve), Some(OnTimeout::Reject)]
        {
            let mut world = World::new();
            let run = world.create(1, &plan(asks(on_reject, on_timeout.unwrap_or_default())));
            match on_timeout {
                None => world.ask(decide(run, "a", false, by("ann"), Value::Null)),
                Some(_) => world.pass_secs(60),
            }
            judge(&world);
            let row = world.task(run, "a");
            let message = row.failure.as_ref().map_or("", |failure| &failure.message);
            let approved = match &row.output {
                Some(Data::Inline(output)) => output["approved"].to_string(),
                _ => String::new(),
            };
            let state = format!("{:?} {approved} {message}", row.state);
            ends.push(format!(
                "{on_reject:?} {on_timeout:?}: {state} → run {:?}",
                world.runs[&run].state
            ));
        }
    }
    assert_snapshot!(ends.join("\n"), @r#"
    Skip None: Skipped   → run Success
    Skip Some(Fail): Failed  nobody decided within 1m → run Failed
    Skip Some(Approve): Success true  → run Success
    Skip Some(Reject): Skipped   → run Success
    Fail None: Failed  rejected by ann → run Failed
    Fail Some(Fail): Failed  nobody decided within 1m → run Failed
    Fail Some(Approve): Success true  → run Success
    Fail Some(Reject): Failed  rejected by timeout → run Failed
    Continue None: Success false  → run Success
    Continue Some(Fail): Failed  nobody decided within 1m → run Failed
    Continue Some(Approve): Success true  → run Success
    Continue Some(Reject): Success false  → run Success
    "#);
}

#[test]
fn a_sensor_looks_again_without_a_slot_or_a_retry() {
    assert_snapshot!(trace_with(1, vec![sensor("a", every(30)).retries(1)], |w, run| {
        w.report(run, "a", not_yet());
        w.pass_beating(29, &["w1"]);
        w.reload(Span::from_secs(1));
        w.join("w1", 1);
        w.report(run, "a", not_yet());
        w.pass_beating(30, &["w1"]);
        w.note("a failure is one, and is retried; then it is there");
        w.fail(run, "a");
        w.pass_beating(10, &["w1"]);
        w.succeed_with(run, "a", json!(1));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 deferred: not_ready, another look in 30s
      -- reload, 1s later
      a #1 resumed
      a #2 dispatched t2.1 to w1
        → w1: do a t2.1 #2
      a #2 started t2.1
      a #2 deferred: not_ready, another look in 30s
      a #2 resumed
      a #3 dispatched t2.2 to w1
        → w1: do a t2.2 #3
    > a failure is one, and is retried; then it is there
      a #3 started t2.2
      a #3 retrying in 10s (failure: exited with 1)
      a #4 dispatched t2.3 to w1
        → w1: do a t2.3 #4
      a #4 started t2.3
      a #4 success
      run success
    "#);
}

#[test]
fn a_sensor_without_the_key_simply_fails() {
    assert_snapshot!(trace_with(1, vec![task("a")], |w, run| w.report(run, "a", not_yet())), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 failed (failure: exited with 75)
    run failed (task_failed: a failed: exited with 75)
    "#);
}

#[test]
fn an_output_that_does_not_do_is_looked_for_again() {
    let poll = Poll { until: Some(Expr::new("output.n > 1")), ..every(5) };
    assert_snapshot!(trace_with(1, vec![sensor("a", poll.clone())], |w, run| {
        w.succeed_with(run, "a", json!({ "n": 1 }));
        w.pass_beating(5, &["w1"]);
        w.succeed_with(run, "a", json!({ "n": 2 }));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 deferred: success, another look in 5s
    a #1 resumed
    a #2 dispatched t1.2 to w1
      → w1: do a t1.2 #2
    a #2 started t1.2
    a #2 success
    run success
    "#);
    assert_snapshot!(trace_with(1, vec![sensor("a", poll)], |w, run| {
        w.note("an output that has to be loaded");
        let value = json!({ "n": 1, "text": "x".repeat(70_000) });
        w.succeed_with(run, "a", value.clone());
        let digest = *w.blobs.keys().next().unwrap();
        w.ask(Command::Fetched { digest, value: Ok(std::sync::Arc::new(value)) });
        w.pass_beating(5, &["w1"]);
        w.succeed_with(run, "a", json!({ "m": 2 }));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > an output that has to be loaded
      a #1 started t1.1
      a #1 deferred: success, another look in ?
        → fetch a value
      a #1 resumed
      a #2 dispatched t1.2 to w1
        → w1: do a t1.2 #2
      a #2 started t1.2
      a #2 failed (expression: poll.until: `output` has no field `n`)
      run failed (task_failed: a failed: poll.until: `output` has no field `n`)
    "#);
}

#[test]
fn a_sensor_ends_with_its_time() {
    let poll = Poll { timeout: Some(Span::from_secs(40)), ..every(30) };
    assert_snapshot!(trace_with(1, vec![sensor("a", poll.clone())], |w, run| {
        w.report(run, "a", not_yet());
        w.pass_beating(30, &["w1"]);
        w.note("while an attempt runs");
        w.start(run, "a");
        w.pass_beating(10, &["w1"]);
        w.report(run, "a", finished(Outcome::Stopped));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 deferred: not_ready, another look in 30s, at most 40s
      a #1 resumed
      a #2 dispatched t1.2 to w1
        → w1: do a t1.2 #2
    > while an attempt runs
      a #2 started t1.2
      a #2 stopping t1.2, timed_out
        → w1: stop a t1.2
      a #2 failed (timeout: was not ready within its poll.timeout of 40s)
      run failed (task_failed: a failed: was not ready within its poll.timeout of 40s)
    "#);
    assert_snapshot!(trace_with(1, vec![sensor("a", poll)], |w, run| {
        w.pass_beating(20, &["w1"]);
        w.report(run, "a", not_yet());
        w.pass_beating(20, &["w1"]);
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 unclaimed t1.1
    a #1 dispatched t1.2 to w1
      → w1: do a t1.2 #1
    a #1 unclaimed t1.2
    a #1 dispatched t1.3 to w1
      → w1: do a t1.3 #1
    a #1 unclaimed t1.3
    a #1 dispatched t1.4 to w1
      → w1: do a t1.4 #1
    a #1 unclaimed t1.4
    a #1 dispatched t1.5 to w1
      → w1: do a t1.5 #1
    a #1 started t1.5
    a #1 deferred: not_ready, another look in 30s, at most 20s
    a #1 failed (timeout: was not ready within its poll.timeout of 40s)
    run failed (task_failed: a failed: was not ready within its poll.timeout of 40s)
    "#);
}

#[test]
fn user_code_has_to_give_signs_of_life() {
    let beats = task("a").with(|task| task.heartbeat_timeout = Some(Span::from_secs(10)));
    assert_snapshot!(trace_with(1, vec![beats.retries(1)], |w, run| {
        w.start(run, "a");
        for _ in 0..3 {
            w.pass_beating(8, &["w1"]);
            w.report(run, "a", Report::Beat);
        }
        w.reload(Span::from_secs(2));
        w.join("w1", 1);
        w.pass_beating(13, &["w1"]);
        w.report(run, "a", finished(Outcome::Stopped));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    -- reload, 2s later
    a #1 stopping t1.1, timed_out
      → w1: stop a t1.1
    a #1 retrying in 10s (timeout: gave no sign of life for 10s (heartbeat_timeout))
    "#);
}

#[test]
fn a_queue_may_be_too_long() {
    let soon = |name: &str| task(name).with(|task| task.start_within = Some(Span::from_secs(20)));
    assert_snapshot!(trace(vec![soon("a")], |w, run| {
        w.pass_secs(15);
        w.ask(Command::Pause { what: ork_core::run::Pausable::Run(run), on: true, by: by("ann") });
        w.pass_secs(100);
        w.reload(Span::from_secs(100));
        w.ask(Command::Pause { what: ork_core::run::Pausable::Run(run), on: false, by: by("ann") });
        w.note("five seconds are left");
        w.pass_secs(4);
        w.pass_secs(1);
    }), @r#"
      run created
      run started, attempt 1
      a queued
      run paused by ann
      -- reload, 1m40s later
      run resumed by ann
    > five seconds are left
      a failed (timeout: was not started within 20s (start_within))
      run failed (task_failed: a failed: was not started within 20s (start_within))
    "#);
    assert_snapshot!(trace_with(1, vec![soon("a").retries(1)], |w, run| {
        w.note("neither the wait for a retry nor what runs counts");
        w.start(run, "a");
        w.pass_beating(100, &["w1"]);
        w.fail(run, "a");
        w.pass_beating(10, &["w1"]);
        w.succeed(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > neither the wait for a retry nor what runs counts
      a #1 started t1.1
      a #1 retrying in 10s (failure: exited with 1)
      a #2 dispatched t1.2 to w1
        → w1: do a t1.2 #2
      a #2 started t1.2
      a #2 success
      run success
    "#);
}

#[test]
fn what_waits_can_be_cancelled_and_says_why_it_waits() {
    let mut world = World::new();
    let tasks = vec![
        wait("t", Wait::For(Span::from_secs(60))).timeout(90),
        event("e", "go"),
        approval("a", |_| {}),
    ];
    let run = world.create(1, &plan(tasks));
    let why: Vec<_> = ["t", "e", "a"]
        .iter()
        .map(|path| format!("{path}: {:?}", world.machine.blockers(run, &(*path).into()).unwrap()))
        .collect();
    assert_snapshot!(why.join("\n"), @r#"
    t: [Time { at: Wall(1795478460000000), until: Some(Wall(1795478490000000)) }]
    e: [Event { name: "go", until: None }]
    a: [Approval { prompt: "go on?", approvers: [], until: None }]
    "#);
    assert_eq!(world.machine.approvals(ork_core::ids::ProjectId::DEFAULT, None, 10).len(), 1);
    assert!(world.machine.run_wakeup(run).is_some());
    world.cancel(run, Some("e"), false);
    assert_eq!(world.task(run, "e").state, TaskState::Cancelled);
    world.cancel(run, None, false);
    judge(&world);
    assert!(world.tasks.values().all(|row| row.state == TaskState::Cancelled));
    assert!(world.machine.approvals(ork_core::ids::ProjectId::DEFAULT, None, 10).is_empty());
}
