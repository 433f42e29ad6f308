//! What people do to runs: pause, retry, mark, rerun; and the reuse of earlier successes.

use insta::assert_snapshot;
use ork_core::ids::{ProjectId, RunId};
use ork_core::plan::{Action, Binding, Cache, Expr, Plan, TriggerRule, Wait};
use ork_core::rows::{CacheNote, CachePart};
use ork_core::run::{
    Command, Marked, Outcome, Pausable, RetrySelection, RunState, TaskState, preview,
};
use ork_core::time::Span;
use ork_core::types::Type;
use ork_core::value::{Data, Digest, Value};
use serde_json::json;

use super::build::{Build, plan, plan_with_finally, task};
use super::judge::judge;
use super::waits::{approval, event, signal, wait};
use super::world::{World, by, finished};

fn trace(slots: u32, plan: &Plan, script: impl FnOnce(&mut World, RunId)) -> String {
    let mut world = World::with_worker(slots);
    let run = world.create(1, plan);
    script(&mut world, run);
    judge(&world);
    world.take_trace()
}

fn chain() -> Vec<Build> {
    vec![task("a"), task("b").after(&["a"]), task("c").after(&["b"])]
}

fn pause(what: Pausable, on: bool) -> Command {
    Command::Pause { what, on, by: by("ann") }
}

fn mark(run: RunId, path: &str, outcome: Marked) -> Command {
    Command::Mark { run, path: path.into(), outcome, by: by("ann") }
}

fn success(output: Value) -> Marked {
    Marked::Success { output }
}

fn retry(run: RunId, selection: RetrySelection, cancel_downstream: bool) -> Command {
    Command::Retry { run, selection, cancel_downstream, by: by("ann") }
}

fn tasks(names: &[&str]) -> RetrySelection {
    RetrySelection::Tasks(names.iter().map(|name| (*name).into()).collect())
}

fn only(names: &[&str]) -> RetrySelection {
    RetrySelection::Only(names.iter().map(|name| (*name).into()).collect())
}

#[test]
fn a_pause_keeps_back_what_would_start_and_nothing_else() {
    let body = vec![
        task("a"),
        task("b").after(&["a"]),
        event("e", "go").after(&["a"]),
        wait("w", Wait::For(Span::from_secs(30))),
    ];
    let plan = plan_with_finally(body, vec![task("f")]);
    assert_snapshot!(trace(4, &plan, |w, run| {
        w.ask(pause(Pausable::Run(run), true));
        w.ask(pause(Pausable::Run(run), true));
        w.succeed(run, "a");
        w.pass_beating(30, &["w1"]);
        let why = w.machine.blockers(run, &"b".into()).unwrap();
        w.note(&format!("{why:?}"));
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.ask(pause(Pausable::Run(run), false));
        w.succeed(run, "b");
        w.ask(pause(Pausable::Run(run), true));
        w.ask(signal(run, "go", json!(null)));
        w.note("finally does not start while paused");
        w.pass_beating(5, &["w1"]);
        w.ask(pause(Pausable::Run(run), false));
        w.succeed(run, "finally/f");
        w.ask(pause(Pausable::Run(run), true));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      w deferred: time in 30s
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      run paused by ann
      a #1 started t1.1
      a #1 success
      b queued
      w success
    > [Paused { scope: Run, by: "ann", reason: None, since: Wall(1795478400000000) }]
      -- reload, 0s later
      run resumed by ann
      e deferred: event go
      b #1 dispatched t2.1 to w1
        → w1: do b t2.1 #1
      b #1 started t2.1
      b #1 success
      run paused by ann
      run signal 1: go
      e success by signal
      finally/f queued
    > finally does not start while paused
      run resumed by ann
      finally/f #1 dispatched t2.2 to w1
        → w1: do finally/f t2.2 #1
      finally/f #1 started t2.2
      finally/f #1 success
      run success
      refused: run 00000000-0000-0000-0000-000000000001 is not active
    "#);
}

#[test]
fn runs_of_a_paused_workflow_or_project_stay_pending() {
    assert_snapshot!(trace(4, &plan(vec![task("a")]), |w, run| {
        let workflow = || Pausable::Workflow(ProjectId::DEFAULT, "w".into());
        w.ask(pause(workflow(), true));
        let second = w.create(2, &plan(vec![task("a")]));
        w.succeed(run, "a");
        w.ask(pause(Pausable::Project(ProjectId::DEFAULT), true));
        w.ask(pause(workflow(), false));
        w.reload(Span::from_secs(5));
        w.join("w1", 4);
        assert_eq!(w.runs[&second].state, RunState::Pending);
        let why = w.machine.blockers(second, &"a".into()).unwrap();
        w.note(&format!("{why:?}"));
        w.ask(pause(Pausable::Project(ProjectId::DEFAULT), false));
        w.succeed(second, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      run created
      a #1 started t1.1
      a #1 success
      run success
      -- reload, 5s later
    > [Paused { scope: Project, by: "ann", reason: None, since: Wall(1795478400000000) }]
      run started, attempt 1
      a queued
      a #1 dispatched t2.1 to w1
        → w1: do a t2.1 #1
      a #1 started t2.1
      a #1 success
      run success
    "#);
}

#[test]
fn a_paused_run_can_be_cancelled() {
    let plan = plan_with_finally(vec![task("a")], vec![task("f")]);
    assert_snapshot!(trace(4, &plan, |w, run| {
        w.ask(pause(Pausable::Run(run), true));
        w.cancel(run, None, false);
        w.report(run, "a", finished(Outcome::Stopped));
        w.cancel(run, None, false);
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    run paused by ann
    run stopping, cancelled
    a #1 stopping t1.1, cancelled
      → w1: stop a t1.1
    a #1 cancelled (cancelled: the run was cancelled)
    finally/f queued
    run stopping, cancelled, forced
    finally/f cancelled (cancelled: the run was cancelled)
    run cancelled (cancelled: the run was cancelled)
    "#);
}

#[test]
fn a_mark_lets_a_failed_run_go_on() {
    let typed = task("a").with(|task| task.output_type = Some(Type::Int));
    let body = vec![typed, task("b").after(&["a"]).input("x", "tasks.a.output"), task("d")];
    assert_snapshot!(trace(4, &plan(body), |w, run| {
        w.fail(run, "a");
        w.ask(mark(run, "a", success(json!("x"))));
        w.ask(mark(run, "a", success(json!(7))));
        w.note("again: nothing happens");
        w.ask(mark(run, "a", success(json!(7))));
        w.succeed(run, "b");
        w.ask(mark(run, "b", Marked::Failed));
        w.succeed(run, "d");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      d queued
      a #1 dispatched t1.1 to w1
      d #1 dispatched t1.2 to w1
        → w1: do a t1.1 #1
        → w1: do d t1.2 #1
      a #1 started t1.1
      a #1 failed (failure: exited with 1)
      b upstream_failed because of a
      refused: the output does not fit a: expected int, got str "x"
      a reset, generation 2
      a success by mark
      b reset, generation 2
      b queued
      b #1 dispatched t1.3 to w1
        → w1: do b t1.3 #1 x=7
    > again: nothing happens
      b #1 started t1.3
      b #1 success
      b reset, generation 3
      b failed (failure: marked failed by ann) by mark
      d #1 started t1.2
      d #1 success
      run failed (task_failed: b failed: marked failed by ann)
    "#);
}

#[test]
fn marks_on_what_waits_and_on_what_runs() {
    let body = vec![task("a"), approval("b", |_| {}), task("c").after(&["a", "b"]), task("q")];
    assert_snapshot!(trace(1, &plan(body), |w, run| {
        w.start(run, "a");
        w.ask(mark(run, "b", Marked::Skipped));
        w.ask(mark(run, "q", success(json!(1))));
        w.ask(mark(run, "a", success(json!(2))));
        w.reload(Span::from_secs(1));
        w.join("w1", 1);
        w.note("the mark counts once its processes are gone");
        w.report(run, "a", finished(Outcome::Success { output: None }));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      b deferred: approval: go on?
      q queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      b reset, generation 2
      b skipped by mark
      q reset, generation 2
      q success by mark
      a #1 stopping t1.1, superseded
        → w1: stop a t1.1
      -- reload, 1s later
    > the mark counts once its processes are gone
      a #1 ignored: success
      a reset, generation 2
      a success by mark
      c skipped because of b
      run success
    "#);
}

#[test]
fn a_mark_in_a_run_that_is_over_is_honoured_by_the_next_retry() {
    let body = vec![task("a"), task("b").after(&["a"]), task("c").after(&["b"])];
    assert_snapshot!(trace(4, &plan(body), |w, run| {
        w.fail(run, "a");
        let _ = w.on(run, mark(run, "a", success(json!(1))));
        let _ = w.on(run, retry(run, RetrySelection::Failed, false));
        w.succeed(run, "b");
        w.fail(run, "c");
        let _ = w.on(run, mark(run, "b", success(json!(1))));
        w.note("what is marked stays when something above it is done again");
        let _ = w.on(run, retry(run, tasks(&["a"]), false));
        w.succeed(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 failed (failure: exited with 1)
      b upstream_failed because of a
      c upstream_failed because of a
      run failed (task_failed: a failed: exited with 1)
      a reset, generation 2
      a success by mark
      run reopened, attempt 2
      b reset, generation 2
      c reset, generation 2
      run started, attempt 2
      b queued
      b #1 dispatched t1.2 to w1
        → w1: do b t1.2 #1
      b #1 started t1.2
      b #1 success
      c queued
      c #1 dispatched t1.3 to w1
        → w1: do c t1.3 #1
      c #1 started t1.3
      c #1 failed (failure: exited with 1)
      run failed (task_failed: c failed: exited with 1)
      b reset, generation 3
      b success by mark
    > what is marked stays when something above it is done again
      run reopened, attempt 3
      a reset, generation 3
      run started, attempt 3
      a queued
      a #1 dispatched t1.4 to w1
        → w1: do a t1.4 #1
      a #1 started t1.4
      a #1 success
      run failed (task_failed: c failed: exited with 1)
    "#);
}

#[test]
fn a_retry_in_a_run_that_is_not_over() {
    let body = vec![task("a"), task("b").after(&["a"]), task("c").after(&["b"]), task("d")];
    assert_snapshot!(trace(4, &plan(body), |w, run| {
        w.fail(run, "a");
        w.ask(retry(run, RetrySelection::Failed, false));
        w.succeed(run, "a");
        w.start(run, "b");
        w.ask(retry(run, tasks(&["c"]), false));
        w.ask(retry(run, tasks(&["a"]), false));
        w.ask(retry(run, tasks(&["a"]), true));
        w.succeed(run, "a");
        w.note("b comes again once its processes are gone");
        w.report(run, "b", finished(Outcome::Stopped));
        w.succeed(run, "b");
        w.succeed(run, "c");
        w.ask(retry(run, only(&["a"]), false));
        w.succeed(run, "a");
        w.succeed(run, "d");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      d queued
      a #1 dispatched t1.1 to w1
      d #1 dispatched t1.2 to w1
        → w1: do a t1.1 #1
        → w1: do d t1.2 #1
      a #1 started t1.1
      a #1 failed (failure: exited with 1)
      b upstream_failed because of a
      c upstream_failed because of a
      a reset, generation 2
      b reset, generation 2
      c reset, generation 2
      a queued
      a #1 dispatched t1.3 to w1
        → w1: do a t1.3 #1
      a #1 started t1.3
      a #1 success
      b queued
      b #1 dispatched t1.4 to w1
        → w1: do b t1.4 #1
      b #1 started t1.4
      refused: c of run 00000000-0000-0000-0000-000000000001 has not been done yet
      refused: b of run 00000000-0000-0000-0000-000000000001 is under way; wait for its end, or retry with cancel_downstream to stop it
      a reset, generation 3
      b #1 stopping t1.4, superseded
      a queued
      a #1 dispatched t1.5 to w1
        → w1: stop b t1.4
        → w1: do a t1.5 #1
      a #1 started t1.5
      a #1 success
    > b comes again once its processes are gone
      b reset, generation 3
      b queued
      b #1 dispatched t1.6 to w1
        → w1: do b t1.6 #1
      b #1 started t1.6
      b #1 success
      c queued
      c #1 dispatched t1.7 to w1
        → w1: do c t1.7 #1
      c #1 started t1.7
      c #1 success
      a reset, generation 4
      a queued
      a #1 dispatched t1.8 to w1
        → w1: do a t1.8 #1
      a #1 started t1.8
      a #1 success
      d #1 started t1.2
      d #1 success
      run success
    "#);
}

#[test]
fn a_retry_goes_back_from_finally() {
    let plan =
        plan_with_finally(vec![task("a"), task("b")], vec![task("f"), task("g").after(&["f"])]);
    assert_snapshot!(trace(4, &plan, |w, run| {
        w.fail(run, "a");
        w.succeed(run, "b");
        w.ask(retry(run, RetrySelection::Failed, false));
        w.ask(retry(run, RetrySelection::Failed, true));
        w.report(run, "finally/f", finished(Outcome::Stopped));
        w.succeed(run, "a");
        w.succeed(run, "finally/f");
        w.succeed(run, "finally/g");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    b queued
    a #1 dispatched t1.1 to w1
    b #1 dispatched t1.2 to w1
      → w1: do a t1.1 #1
      → w1: do b t1.2 #1
    a #1 started t1.1
    a #1 failed (failure: exited with 1)
    b #1 started t1.2
    b #1 success
    finally/f queued
    finally/f #1 dispatched t1.3 to w1
      → w1: do finally/f t1.3 #1
    refused: finally/f of run 00000000-0000-0000-0000-000000000001 is under way; wait for its end, or retry with cancel_downstream to stop it
    a reset, generation 2
    finally/f #1 stopping t1.3, superseded
    a queued
    a #1 dispatched t1.4 to w1
      → w1: stop finally/f t1.3
      → w1: do a t1.4 #1
    finally/f reset, generation 2
    a #1 started t1.4
    a #1 success
    finally/f queued
    finally/f #1 dispatched t1.5 to w1
      → w1: do finally/f t1.5 #1
    finally/f #1 started t1.5
    finally/f #1 success
    finally/g queued
    finally/g #1 dispatched t1.6 to w1
      → w1: do finally/g t1.6 #1
    finally/g #1 started t1.6
    finally/g #1 success
    run success
    "#);
}

#[test]
fn a_cancel_wins_over_what_was_to_come_again() {
    assert_snapshot!(trace(4, &plan(chain()), |w, run| {
        w.succeed(run, "a");
        w.start(run, "b");
        w.ask(retry(run, tasks(&["a"]), true));
        w.cancel(run, None, false);
        w.report(run, "b", finished(Outcome::Stopped));
        w.report(run, "a", finished(Outcome::Stopped));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    b queued
    b #1 dispatched t1.2 to w1
      → w1: do b t1.2 #1
    b #1 started t1.2
    a reset, generation 2
    b #1 stopping t1.2, superseded
    a queued
    a #1 dispatched t1.3 to w1
      → w1: stop b t1.2
      → w1: do a t1.3 #1
    run stopping, cancelled
    a #1 stopping t1.3, cancelled
    c cancelled (cancelled: the run was cancelled)
      → w1: stop a t1.3
    b #1 cancelled (cancelled: replaced by ann)
    a #1 cancelled (cancelled: the run was cancelled)
    run cancelled (cancelled: the run was cancelled)
    "#);
}

#[test]
fn a_rerun_copies_what_would_be_the_same() {
    let body = || {
        vec![
            task("a"),
            task("b").after(&["a"]).input("x", "tasks.a.output"),
            task("c").after(&["a"]).input("x", "tasks.b.output").after(&["a", "b"]),
        ]
    };
    let mut world = World::with_worker(4);
    let first = world.create(1, &plan(body()));
    world.succeed_with(first, "a", json!(1));
    world.succeed_with(first, "b", json!(2));
    world.fail(first, "c");
    world.rerun_of = Some(first);
    world.take_trace();
    let mut changed = body();
    changed[1] = changed[1].clone().with(|task| {
        drop(task.env.insert("X".into(), ork_core::plan::Binding::Const(json!("1"))));
    });
    let second = world.create(2, &plan(changed));
    world.note("a is the same, b is another task now");
    world.reload(Span::ZERO);
    world.join("w1", 4);
    world.answer_lookups();
    world.succeed_with(second, "b", json!(2));
    world.succeed(second, "c");
    judge(&world);
    assert_snapshot!(world.take_trace(), @r#"
      run created
      run started, attempt 1
        → recall a run
    > a is the same, b is another task now
      -- reload, 0s later
        → recall a run
      a success by copy
      b queued
      b #1 dispatched t2.1 to w1
        → w1: do b t2.1 #1 x=1
      b #1 started t2.1
      b #1 success
      c queued
      c #1 dispatched t2.2 to w1
        → w1: do c t2.2 #1 x=2
      c #1 started t2.2
      c #1 success
      run success
    "#);
}

#[test]
fn a_miss_names_the_inputs_the_code_and_the_run_that_it_was_held_against() {
    let cached = |day: &str, code: &str| {
        let spec = Binding::Map([("argv".to_owned(), Binding::Const(json!([code])))].into());
        plan(vec![task("a").with(|task| {
            task.action = Action::Execute { executor: "run".into(), spec };
            task.inputs.insert("day".into(), Binding::Const(json!(day)));
            task.inputs.insert("region".into(), Binding::Const(json!("eu")));
            task.cache = Some(Box::new(Cache { key: Expr::new("1 + 1"), ttl: None }));
        })])
    };
    let mut world = World::with_worker(4);
    let mut before = world.create(1, &cached("monday", "x"));
    world.answer_lookups();
    world.succeed(before, "a");
    for (n, plan, expected) in [
        (2, cached("tuesday", "x"), vec![CachePart::Task, CachePart::Input("day".into())]),
        (3, cached("tuesday", "y"), vec![CachePart::Task]),
    ] {
        let run = world.create(n, &plan);
        world.answer_lookups();
        let Some(CacheNote::Missed { differs, than }) = world.task(run, "a").cache.clone() else {
            panic!("{:?}", world.task(run, "a").cache)
        };
        assert_eq!((differs, than), (expected, Some(before)));
        world.succeed(run, "a");
        before = run;
    }
    judge(&world);
}

#[test]
fn an_earlier_success_is_reused_and_a_miss_says_what_differs() {
    let cached = |key: &str| {
        plan(vec![task("a").with(|task| {
            let ttl = Some(Span::from_secs(3_600));
            task.cache = Some(Box::new(Cache { key: Expr::new(key), ttl }));
        })])
    };
    let mut world = World::with_worker(4);
    let first = world.create(1, &cached("1 + 1"));
    world.answer_lookups();
    world.succeed_with(first, "a", json!("made"));
    let second = world.create(2, &cached("1 + 1"));
    world.reload(Span::from_secs(5));
    world.join("w1", 4);
    world.answer_lookups();
    assert_eq!(world.task(second, "a").output, Some(Data::Inline(json!("made"))));
    let third = world.create(3, &cached("1 + 2"));
    world.answer_lookups();
    world.succeed(third, "a");
    world.pass_secs(3_600);
    world.join("w2", 4);
    let fourth = world.create(4, &cached("1 + 1"));
    world.answer_lookups();
    world.succeed(fourth, "a");
    judge(&world);
    assert_snapshot!(world.take_trace(), @r#"
    run created
    run started, attempt 1
      → look for a success of a
    a cache missed []
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    run success
    run created
    run started, attempt 1
      → look for a success of a
    -- reload, 5s later
      → look for a success of a
    a success from the cache
    run success
    run created
    run started, attempt 1
      → look for a success of a
    a cache missed [Key]
    a queued
    a #1 dispatched t2.1 to w1
      → w1: do a t2.1 #1
    a #1 started t2.1
    a #1 success
    run success
    run created
    run started, attempt 1
      → look for a success of a
    a cache missed [Age]
    a queued
    a #1 dispatched t2.2 to w2
      → w2: do a t2.2 #1
    a #1 started t2.2
    a #1 success
    run success
    "#);
}

#[test]
fn a_preview_lists_what_would_change_and_changes_nothing() {
    let body = vec![
        task("a"),
        task("b").after(&["a"]),
        event("e", "go"),
        task("x").after(&["a"]).rule(TriggerRule::AllFailed),
    ];
    let mut world = World::with_worker(4);
    let run = world.create(1, &plan(body));
    world.succeed(run, "a");
    world.start(run, "b");
    let before = world.events.len();
    let mut told = String::new();
    for command in [
        pause(Pausable::Run(run), true),
        Command::Cancel { run, path: None, force: false, by: by("ann") },
        retry(run, tasks(&["a"]), false),
        retry(run, tasks(&["a"]), true),
        mark(run, "a", Marked::Failed),
        signal(run, "go", json!(1)),
    ] {
        let name = format!("{command:?}");
        let name = name.split([' ', '{']).next().unwrap();
        let active = world.machine.snapshot(run).unwrap();
        let changes = match preview(world.machine.scratch(), active, command, world.now) {
            Ok(changes) => changes
                .iter()
                .map(|planned| {
                    let path = planned.path.as_ref().map_or("run", |path| path.as_str());
                    let again = if planned.again { " again" } else { "" };
                    format!("  {path}: {} → {}{again}\n", planned.from, planned.to)
                })
                .collect(),
            Err(refusal) => format!("  {refusal}\n"),
        };
        told.push_str(&format!("{name}\n{changes}"));
    }
    assert_eq!(world.events.len(), before);
    assert_eq!(world.task(run, "b").state, TaskState::Running);
    assert_snapshot!(told, @r#"
    Pause
      run: not paused → paused
    Cancel
      b: running → stopping
      e: deferred → cancelled
    Retry
      b of run 00000000-0000-0000-0000-000000000001 is under way; wait for its end, or retry with cancel_downstream to stop it
    Retry
      a: success → queued again
      b: running → stopping
      x: skipped → pending again
    Mark
      a: success → failed again
      x: skipped → queued again
    Signal
      e: deferred → success
    "#);
}

#[test]
fn nothing_is_reused_that_other_code_made() {
    let cached = plan(vec![task("a").with(|task| {
        task.cache = Some(Box::new(Cache { key: Expr::new("1"), ttl: None }));
    })]);
    let mut world = World::with_worker(4);
    let first = world.create(1, &cached);
    world.answer_lookups();
    world.succeed(first, "a");
    world.code = Digest::of(b"edited in place");
    let again = world.create(2, &cached);
    world.answer_lookups();
    assert_eq!(world.task(again, "a").state, TaskState::Dispatched);
    world.succeed(again, "a");
    world.rerun_of = Some(first);
    world.code = Digest::of(b"edited once more");
    let rerun = world.create(3, &cached);
    world.answer_lookups();
    world.answer_lookups();
    assert_eq!(world.task(rerun, "a").state, TaskState::Dispatched);
    world.rerun_of = Some(first);
    world.code = Digest::of(b"code");
    let rerun = world.create(4, &cached);
    world.answer_lookups();
    assert_eq!(world.task(rerun, "a").state, TaskState::Success);
}

#[test]
fn a_preview_knows_what_is_paused() {
    let mut world = World::with_worker(4);
    let run = world
        .create(1, &plan(vec![task("a"), task("b").rule(TriggerRule::AllFailed).after(&["a"])]));
    world.start(run, "a");
    world.ask(pause(Pausable::Workflow(ProjectId::DEFAULT, "w".into()), true));
    let active = world.machine.snapshot(run).unwrap();
    let command = mark(run, "a", Marked::Failed);
    let scratch = world.machine.scratch();
    assert!(scratch.paused(ProjectId::DEFAULT, Some("w")).is_some());
    let changes = preview(scratch, active.clone(), command, world.now).unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let end = pause(Pausable::Run(run), true);
    let changes = preview(world.machine.scratch(), active, end, world.now).unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(!world.machine.scratch().holds(run));
}
