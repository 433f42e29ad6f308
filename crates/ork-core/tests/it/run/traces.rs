//! One trace for each rule of the machine: what is asked (`>`), the events, the effects (`→`).

use insta::assert_snapshot;
use ork_core::ids::{AttemptRef, RunId};
use ork_core::plan::{Binding, Expr, Plan, RetryOn, TriggerRule};
use ork_core::run::{
    Command, Departure, Failure, FailureKind, MAX_INTERRUPTIONS, Outcome, Report, RetrySelection,
    TaskState,
};
use ork_core::time::Span;
use ork_core::value::{Data, Digest};
use serde_json::json;
use std::sync::Arc;

use super::build::{Build, plan, plan_with_finally, task};
use super::world::{World, finished, run_id};

/// Runs a plan on one worker with four slots; the script sees the world after the first offers.
fn trace(plan: &Plan, script: impl FnOnce(&mut World, RunId)) -> String {
    let mut world = World::with_worker(4);
    let run = world.create(1, plan);
    script(&mut world, run);
    world.take_trace()
}

fn chain() -> Vec<Build> {
    vec![task("a"), task("b").after(&["a"]).input("x", "tasks.a.output")]
}

#[test]
fn a_successor_is_offered_in_the_commit_that_ends_its_last_upstream() {
    assert_snapshot!(trace(&plan(chain()), |w, run| {
        w.note("a starts and succeeds");
        w.start(run, "a");
        w.succeed_with(run, "a", json!(7));
        w.note("b is short: it only reports its end");
        w.succeed(run, "b");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > a starts and succeeds
      a #1 started t1.1
      a #1 success
      b queued
      b #1 dispatched t1.2 to w1
        → w1: do b t1.2 #1 x=7
    > b is short: it only reports its end
      b #1 started t1.2
      b #1 success
      run success
    "#);
}

#[test]
fn a_failure_reaches_everything_that_needs_it() {
    let tasks = vec![
        task("a"),
        task("b").after(&["a"]),
        task("c").after(&["b"]),
        task("d").after(&["b"]).rule(TriggerRule::AllDone),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.fail(run, "a");
        w.succeed(run, "d");
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
    d queued
    d #1 dispatched t1.2 to w1
      → w1: do d t1.2 #1
    d #1 started t1.2
    d #1 success
    run failed (task_failed: a failed: exited with 1)
    "#);
}

#[test]
fn one_success_does_not_wait_for_the_others() {
    let tasks =
        vec![task("a"), task("b"), task("c").after(&["a", "b"]).rule(TriggerRule::OneSuccess)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed(run, "b");
        w.succeed(run, "c");
        w.fail(run, "a");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    b queued
    a #1 dispatched t1.1 to w1
    b #1 dispatched t1.2 to w1
      → w1: do a t1.1 #1
      → w1: do b t1.2 #1
    b #1 started t1.2
    b #1 success
    c queued
    c #1 dispatched t1.3 to w1
      → w1: do c t1.3 #1
    c #1 started t1.3
    c #1 success
    a #1 started t1.1
    a #1 failed (failure: exited with 1)
    run failed (task_failed: a failed: exited with 1)
    "#);
}

#[test]
fn a_condition_skips_and_a_broken_one_fails() {
    let tasks = vec![
        task("a").when("false"),
        task("b").after(&["a"]),
        task("c").when("1 / 0 > 0"),
        task("d").when("true"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| w.succeed(run, "d")), @r#"
    run created
    run started, attempt 1
    a skipped
    b skipped because of a
    c failed (expression: when: `1 / 0`: division by zero)
    d queued
    d #1 dispatched t1.1 to w1
      → w1: do d t1.1 #1
    d #1 started t1.1
    d #1 success
    run failed (task_failed: c failed: when: `1 / 0`: division by zero)
    "#);
}

#[test]
fn retries_wait_longer_each_time_and_keep_their_inputs() {
    let tasks = vec![task("a"), task("b").after(&["a"]).input("x", "tasks.a.output").retries(2)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "a", json!({ "n": 1 }));
        w.fail(run, "b");
        w.pass_beating(10, &["w1"]);
        w.fail(run, "b");
        w.pass_beating(20, &["w1"]);
        w.fail(run, "b");
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
      → w1: do b t1.2 #1 x={"n":1}
    b #1 started t1.2
    b #1 retrying in 10s (failure: exited with 1)
    b #2 dispatched t1.3 to w1
      → w1: do b t1.3 #2 x={"n":1}
    b #2 started t1.3
    b #2 retrying in 20s (failure: exited with 1)
    b #3 dispatched t1.4 to w1
      → w1: do b t1.4 #3 x={"n":1}
    b #3 started t1.4
    b #3 failed (failure: exited with 1)
    run failed (task_failed: b failed: exited with 1)
    "#);
}

#[test]
fn only_the_failures_that_are_named_are_retried() {
    let only = |on: Vec<RetryOn>| {
        task("a").retries(1).with(|t| {
            t.retry.on = on;
            t.retry.delay = Span::ZERO;
        })
    };
    assert_snapshot!(trace(&plan(vec![only(vec![RetryOn::Timeout])]), |w, run| {
        w.note("for: [timeout]");
        w.fail(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > for: [timeout]
      a #1 started t1.1
      a #1 failed (failure: exited with 1)
      run failed (task_failed: a failed: exited with 1)
    "#);
    assert_snapshot!(trace(&plan(vec![only(vec![RetryOn::Exit(1)])]), |w, run| {
        w.note("for: [exit:1]");
        w.fail(run, "a");
        w.fail(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > for: [exit:1]
      a #1 started t1.1
      a #1 retrying in 0s (failure: exited with 1)
      a #2 dispatched t1.2 to w1
        → w1: do a t1.2 #2
      a #2 started t1.2
      a #2 failed (failure: exited with 1)
      run failed (task_failed: a failed: exited with 1)
    "#);
}

#[test]
fn a_retry_condition_sees_the_error() {
    let tasks = vec![task("a").retries(5).with(|t| {
        t.retry.condition = Some(Expr::new("error.exit_code == 75"));
        t.retry.delay = Span::ZERO;
    })];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        let failure = super::world::exit(75);
        w.report(run, "a", finished(Outcome::Failed(failure)));
        w.fail(run, "a");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 retrying in 0s (failure: exited with 75)
    a #2 dispatched t1.2 to w1
      → w1: do a t1.2 #2
    a #2 started t1.2
    a #2 failed (failure: exited with 1)
    run failed (task_failed: a failed: exited with 1)
    "#);
}

#[test]
fn a_timeout_stops_holds_the_slot_and_then_is_a_failure() {
    let tasks = vec![task("a").timeout(60).retries(1).with(|t| t.retry.delay = Span::ZERO)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "a");
        w.pass_beating(60, &["w1"]);
        assert_eq!(w.machine.counts().attempts, 1, "the slot is held");
        w.note("the worker says that all is gone");
        w.report(run, "a", finished(Outcome::Stopped));
        w.start(run, "a");
        w.pass_beating(60, &["w1"]);
        w.note("a success after the verdict");
        w.succeed(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 stopping t1.1, timed_out
        → w1: stop a t1.1
    > the worker says that all is gone
      a #1 retrying in 0s (timeout: took longer than its timeout of 1m)
      a #2 dispatched t1.2 to w1
        → w1: do a t1.2 #2
      a #2 started t1.2
      a #2 stopping t1.2, timed_out
        → w1: stop a t1.2
    > a success after the verdict
      a #2 ignored: success
      a #2 failed (timeout: took longer than its timeout of 1m)
      run failed (task_failed: a failed: took longer than its timeout of 1m)
    "#);
}

#[test]
fn a_stop_that_nobody_confirms_ends_after_grace_and_margin() {
    let tasks = vec![task("a").timeout(60)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "a");
        w.pass_beating(60, &["w1"]);
        w.note("39 seconds: still held");
        w.pass_beating(39, &["w1"]);
        assert_eq!(w.machine.counts().attempts, 1);
        w.note("40 seconds");
        w.pass_beating(1, &["w1"]);
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 stopping t1.1, timed_out
        → w1: stop a t1.1
    > 39 seconds: still held
        → w1: stop a t1.1
        → w1: stop a t1.1
        → w1: stop a t1.1
        → w1: stop a t1.1
        → w1: stop a t1.1
        → w1: stop a t1.1
        → w1: stop a t1.1
    > 40 seconds
      a #1 failed (timeout: took longer than its timeout of 1m)
      run failed (task_failed: a failed: took longer than its timeout of 1m)
    "#);
}

#[test]
fn an_offer_that_nobody_confirms_is_made_again_under_a_new_token() {
    assert_snapshot!(trace(&plan(vec![task("a")]), |w, run| {
        let old = w.attempt(run, "a");
        w.pass_secs(5);
        let stale = w.tell(old, Report::Started).unwrap_err();
        w.note(&stale.message);
        w.succeed(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 unclaimed t1.1
      a #1 dispatched t1.2 to w1
        → w1: do a t1.2 #1
    > token 4294967297 is not current; stop what runs under it
      a #1 started t1.2
      a #1 success
      run success
    "#);
}

#[test]
fn an_attempts_time_runs_from_its_confirmation() {
    assert_snapshot!(trace(&plan(vec![task("a").timeout(60)]), |w, run| {
        w.report(run, "a", Report::Confirmed);
        w.note("its environment is built");
        w.pass_beating(60, &["w1"]);
        w.report(run, "a", finished(Outcome::Stopped));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > its environment is built
      a #1 stopping t1.1, timed_out
        → w1: stop a t1.1
      a #1 failed (timeout: took longer than its timeout of 1m, before its code had started)
      run failed (task_failed: a failed: took longer than its timeout of 1m, before its code had started)
    "#);
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a").timeout(60)]));
    w.report(run, "a", Report::Confirmed);
    w.pass_beating(40, &["w1"]);
    w.report(run, "a", Report::Confirmed);
    w.report(run, "a", Report::Started);
    w.pass_beating(19, &["w1"]);
    assert_eq!(w.task(run, "a").state, TaskState::Running);
    w.pass_beating(1, &["w1"]);
    assert_eq!(w.task(run, "a").state, TaskState::Stopping, "the start does not give it more");
}

#[test]
fn an_attempts_time_goes_on_over_a_reload() {
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a").timeout(60)]));
    w.report(run, "a", Report::Confirmed);
    w.pass_beating(40, &["w1"]);
    w.reload(Span::from_secs(5));
    w.join("w1", 1);
    w.report(run, "a", Report::Confirmed);
    w.pass_beating(14, &["w1"]);
    assert_eq!(w.task(run, "a").state, TaskState::Dispatched);
    w.pass_beating(1, &["w1"]);
    assert_eq!(w.task(run, "a").state, TaskState::Stopping);
}

#[test]
fn an_offer_waits_for_its_claim_from_when_it_left() {
    let mut w = World::with_worker(1);
    w.commit_takes(Span::from_secs(60));
    let run = w.create(1, &plan(vec![task("a")]));
    let offer = w.attempt(run, "a");
    w.commit_takes(Span::ZERO);
    w.pass_secs(4);
    assert_eq!(w.tell(offer.clone(), Report::Confirmed), Ok(()), "it left four seconds ago");
    w.pass_beating(20, &["w1"]);
    assert_eq!(w.tell(offer, Report::Started), Ok(()));
}

#[test]
fn an_offer_to_a_worker_in_this_process_is_never_taken_back() {
    let mut w = World::new();
    w.join_near("w1", 1);
    let run = w.create(1, &plan(vec![task("a")]));
    let offer = w.attempt(run, "a");
    w.pass_secs(600);
    assert_eq!(w.tell(offer, Report::Started), Ok(()), "nor is it silent for too long");
    w.crash("w1");
    assert_eq!(w.task(run, "a").state, TaskState::Queued, "it is lost with its worker alone");
}

#[test]
fn an_offer_that_may_have_been_confirmed_is_not_given_to_another_after_a_reload() {
    assert_snapshot!(trace(&plan(vec![task("a")]), |w, run| {
        w.report(run, "a", Report::Confirmed);
        w.note("the server dies; w1 runs it");
        w.reload(Span::from_secs(1));
        w.join("w2", 1);
        w.join("w1", 1);
        w.note("the offer does not reach w1, and is made again");
        w.pass_beating(6, &["w1", "w2"]);
        w.report(run, "a", Report::Confirmed);
        w.pass_beating(20, &["w1", "w2"]);
        w.succeed(run, "a");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
    > the server dies; w1 runs it
      -- reload, 1s later
        → w1: do a t1.1 #1
    > the offer does not reach w1, and is made again
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 success
      run success
    "#);
}

#[test]
fn the_same_report_again_gets_the_same_answer() {
    let tasks = vec![task("a"), task("b").after(&["a"])];
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(tasks));
    let a = w.attempt(run, "a");
    w.start(run, "a");
    let events = w.events.len();
    assert_eq!(w.tell(a.clone(), Report::Started), Ok(()));
    assert_eq!(w.tell(a.clone(), Report::Confirmed), Ok(()));
    assert_eq!(w.events.len(), events, "a repeated report changes nothing");
    w.succeed(run, "a");
    let events = w.events.len();
    w.reload(Span::ZERO);
    assert_eq!(w.tell(a, finished(Outcome::Success { output: None })), Ok(()));
    assert_eq!(w.events.len(), events, "also after a reload");
}

#[test]
fn a_silent_worker_loses_what_it_has_within_the_lease() {
    let tasks = vec![task("a").with(|t| t.lost_retries = 1)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "a");
        w.join("w2", 1);
        w.note("w1 falls silent");
        w.pass_beating(15, &["w2"]);
        w.start(run, "a");
        w.note("w2 is gone");
        w.crash("w2");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
    > w1 falls silent
      a #1 retrying in 0s (lost: its worker has been silent for the lease time)
      a #2 dispatched t1.2 to w2
        → w2: do a t1.2 #2
      a #2 started t1.2
    > w2 is gone
      a #2 failed (lost: its worker is gone)
      run failed (task_failed: a failed: its worker is gone)
    "#);
}

#[test]
fn what_its_worker_failed_at_is_tried_again_after_a_while() {
    let tasks = vec![task("killer").with(|t| t.lost_retries = 2)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "killer");
        w.gone("w1", Departure::Broken);
        w.join("w2", 1);
        w.pass_beating(10, &["w2"]);
        let full = Failure::new(FailureKind::WorkerFailed, "its disk is full");
        w.report(run, "killer", finished(Outcome::Failed(full)));
        w.pass_beating(20, &["w2"]);
        w.start(run, "killer");
        w.gone("w2", Departure::Broken);
    }), @r#"
      run created
      run started, attempt 1
      killer queued
      killer #1 dispatched t1.1 to w1
        → w1: do killer t1.1 #1
      killer #1 started t1.1
      killer #1 retrying in 5s439ms (worker_failed: its worker broke: the process that starts programs for it was killed, or it panicked)
      killer #2 dispatched t1.2 to w2
        → w2: do killer t1.2 #2
      killer #2 started t1.2
      killer #2 retrying in 14s124ms (worker_failed: its disk is full)
      killer #3 dispatched t1.3 to w2
        → w2: do killer t1.3 #3
      killer #3 unclaimed t1.3
      killer #3 dispatched t1.4 to w2
        → w2: do killer t1.4 #3
      killer #3 started t1.4
      killer #3 failed (worker_failed: its worker broke: the process that starts programs for it was killed, or it panicked)
      run failed (task_failed: killer failed: its worker broke: the process that starts programs for it was killed, or it panicked)
    "#);
}

#[test]
fn a_worker_that_was_told_to_leave_costs_no_retry() {
    let tasks = vec![task("a").with(|t| (t.lost_retries, t.retry.max) = (0, 0))];
    assert_snapshot!(trace(&plan(tasks.clone()), |w, run| {
        w.start(run, "a");
        w.gone("w1", Departure::Orderly);
        w.reload(Span::ZERO);
        w.join("w2", 1);
        w.crash("w2");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 retrying in 0s (interrupted: its worker was told to leave before it was done; this spends no retry)
    -- reload, 0s later
    a #2 dispatched t2.1 to w2
      → w2: do a t2.1 #2
    a #2 failed (lost: its worker is gone)
    run failed (task_failed: a failed: its worker is gone)
    "#);
    let mut w = World::new().bare();
    let run = w.create(1, &plan(tasks));
    for n in 1..=MAX_INTERRUPTIONS {
        w.join(&format!("w{n}"), 1);
        w.gone(&format!("w{n}"), Departure::Orderly);
        assert_eq!(w.task(run, "a").state, TaskState::Queued, "{n}");
    }
    w.join("last", 1);
    w.gone("last", Departure::Orderly);
    assert_eq!(w.task(run, "a").state, TaskState::Failed);
}

#[test]
fn a_beat_names_what_a_worker_has() {
    let mut w = World::with_worker(2);
    let run = w.create(1, &plan(vec![task("a"), task("b")]));
    let (a, b) = (w.attempt(run, "a"), w.attempt(run, "b"));
    assert_eq!(w.beat_with("w1", vec![]), Ok(vec![]));
    assert_eq!(w.task(run, "a").state, TaskState::Dispatched, "it has not confirmed it yet");
    w.start(run, "a");
    w.report(run, "b", Report::Confirmed);
    assert_eq!(w.beat_with("w1", vec![a.clone(), b.clone()]), Ok(vec![]));
    assert_eq!(w.beat_with("w1", vec![b.clone()]), Ok(vec![]));
    assert_ne!(w.attempt(run, "a").token, a.token, "it is lost, and offered again");
    assert_eq!(w.attempt(run, "b"), b);
    let strange = AttemptRef { run: run_id(7), ..b.clone() };
    let named = vec![a.clone(), b, strange.clone()];
    assert_eq!(w.beat_with("w1", named), Ok(vec![a, strange]), "which it has to stop");
    assert!(w.beat_with("w2", vec![]).is_err(), "nobody has heard of this worker");
}

#[test]
fn a_late_beat_loses_nothing_and_renews_nothing() {
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a")]));
    w.beats = 3;
    w.start(run, "a");
    let a = w.attempt(run, "a");
    assert_eq!(w.late_beat("w1", 3, vec![]), Ok(vec![]));
    assert_eq!(w.attempt(run, "a"), a, "this beat left before the worker had it");
    assert_eq!(w.late_beat("w1", 5, vec![a.clone()]), Ok(vec![]));
    assert_eq!(w.late_beat("w1", 4, vec![]), Ok(vec![]));
    assert_eq!(w.attempt(run, "a"), a, "this one came out of turn");
    w.pass_secs(10);
    assert_eq!(w.late_beat("w1", 5, vec![a.clone()]), Ok(vec![]));
    w.join("w2", 1);
    w.pass_secs(5);
    assert_eq!(w.attempt_row(run, "a").worker, "w2".into(), "the fifth beat is 15 s old");
}

#[test]
fn what_a_worker_had_before_a_reload_it_has_to_name_after_it() {
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a")]));
    w.beats = 3;
    w.start(run, "a");
    let a = w.attempt(run, "a");
    w.reload(Span::from_secs(1));
    w.join("w1", 1);
    assert_eq!(w.late_beat("w1", 3, vec![]), Ok(vec![]));
    assert_eq!(w.attempt(run, "a"), a);
    assert_eq!(w.late_beat("w1", 4, vec![]), Ok(vec![]));
    assert_ne!(w.attempt(run, "a").token, a.token);
    w.start(run, "a");
    w.cancel(run, None, false);
    assert_eq!(w.beat_with("w1", vec![]), Ok(vec![]));
    assert!(!w.machine.holds(run), "what is being stopped and is not there is over");
}

#[test]
fn a_machine_that_was_away_does_not_blame_the_workers() {
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a")]));
    w.start(run, "a");
    w.now = w.now.after(Span::from_secs(300));
    w.pass_secs(14);
    assert!(!w.task(run, "a").state.is_terminal());
    w.beat("w1");
    w.pass_secs(14);
    w.succeed(run, "a");
    assert_eq!(w.attempt_row(run, "a").attempt, 1, "nothing was lost");
}

#[test]
fn cancel_ends_the_body_and_finally_runs() {
    let tasks = plan_with_finally(chain(), vec![task("clean")]);
    assert_snapshot!(trace(&tasks, |w, run| {
        w.start(run, "a");
        w.cancel(run, None, false);
        w.report(run, "a", finished(Outcome::Stopped));
        w.succeed(run, "finally/clean");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    run stopping, cancelled
    a #1 stopping t1.1, cancelled
    b cancelled (cancelled: the run was cancelled)
      → w1: stop a t1.1
    a #1 cancelled (cancelled: the run was cancelled)
    finally/clean queued
    finally/clean #1 dispatched t1.2 to w1
      → w1: do finally/clean t1.2 #1
    finally/clean #1 started t1.2
    finally/clean #1 success
    run cancelled (cancelled: the run was cancelled)
    "#);
}

#[test]
fn a_second_cancel_ends_finally_too() {
    let tasks = plan_with_finally(chain(), vec![task("clean"), task("more").after(&["clean"])]);
    assert_snapshot!(trace(&tasks, |w, run| {
        w.succeed(run, "a");
        w.succeed(run, "b");
        w.note("cancel");
        w.cancel(run, None, false);
        w.note("cancel again");
        w.cancel(run, None, false);
        w.note("and again: nothing");
        w.cancel(run, None, false);
        w.report(run, "finally/clean", finished(Outcome::Stopped));
        w.note("over");
        w.cancel(run, None, false);
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
        → w1: do b t1.2 #1 x=null
      b #1 started t1.2
      b #1 success
      finally/clean queued
      finally/clean #1 dispatched t1.3 to w1
        → w1: do finally/clean t1.3 #1
    > cancel
      run stopping, cancelled
    > cancel again
      run stopping, cancelled, forced
      finally/clean #1 stopping t1.3, cancelled
      finally/more cancelled (cancelled: the run was cancelled)
        → w1: stop finally/clean t1.3
    > and again: nothing
      finally/clean #1 cancelled (cancelled: the run was cancelled)
      run cancelled (cancelled: the run was cancelled)
    > over
      refused: run 00000000-0000-0000-0000-000000000001 is not active
    "#);
}

#[test]
fn a_cancelled_task_fails_the_run() {
    let tasks = vec![task("a"), task("b"), task("c").after(&["a"])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.cancel(run, Some("a"), false);
        w.report(run, "a", finished(Outcome::Stopped));
        w.cancel(run, Some("a"), false);
        w.cancel(run, Some("c"), false);
        w.cancel(run, Some("zz"), false);
        w.succeed(run, "b");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    b queued
    a #1 dispatched t1.1 to w1
    b #1 dispatched t1.2 to w1
      → w1: do a t1.1 #1
      → w1: do b t1.2 #1
    a #1 stopping t1.1, cancelled
      → w1: stop a t1.1
    a #1 cancelled (cancelled: cancelled by ann)
    c upstream_failed because of a
    refused: c of run 00000000-0000-0000-0000-000000000001 is over: upstream_failed
    refused: run 00000000-0000-0000-0000-000000000001 has no task zz
    b #1 started t1.2
    b #1 success
    run failed (task_failed: a was cancelled by ann)
    "#);
}

#[test]
fn the_run_timeout_ends_the_body_alone() {
    let mut timed =
        plan_with_finally(vec![task("a").retries(3), task("b").after(&["a"])], vec![task("clean")]);
    timed.timeout = Some(Span::from_secs(30));
    assert_snapshot!(trace(&timed, |w, run| {
        w.start(run, "a");
        w.pass_beating(30, &["w1"]);
        w.report(run, "a", finished(Outcome::Stopped));
        w.start(run, "finally/clean");
        w.note("finally has all the time it needs");
        w.pass_beating(100, &["w1"]);
        w.succeed(run, "finally/clean");
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      run stopping, timed_out
      a #1 stopping t1.1, timed_out
      b cancelled (timeout: the run took longer than its timeout of 30s)
        → w1: stop a t1.1
      a #1 failed (timeout: the run took longer than its timeout of 30s)
      finally/clean queued
      finally/clean #1 dispatched t1.2 to w1
        → w1: do finally/clean t1.2 #1
      finally/clean #1 started t1.2
    > finally has all the time it needs
      finally/clean #1 success
      run failed (timeout: the run took longer than its timeout of 30s)
    "#);
}

#[test]
fn allow_failure_leaves_the_result_alone() {
    let tasks = vec![task("a").allow_failure(), task("b").after(&["a"])];
    assert_snapshot!(trace(&plan(tasks), |w, run| w.fail(run, "a")), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 failed (failure: exited with 1)
    b upstream_failed because of a
    run success
    "#);
}

#[test]
fn finally_sees_how_the_body_ended() {
    let seen = task("clean").input("state", "run.state").input("failed", "run.failed_tasks");
    let tasks = plan_with_finally(vec![task("a")], vec![seen]);
    assert_snapshot!(trace(&tasks, |w, run| {
        w.fail(run, "a");
        w.succeed(run, "finally/clean");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 failed (failure: exited with 1)
    finally/clean queued
    finally/clean #1 dispatched t1.2 to w1
      → w1: do finally/clean t1.2 #1 state="failed" failed=["a"]
    finally/clean #1 started t1.2
    finally/clean #1 success
    run failed (task_failed: a failed: exited with 1)
    "#);
}

#[test]
fn a_failing_cleanup_fails_the_run() {
    let tasks = plan_with_finally(vec![task("a")], vec![task("clean")]);
    assert_snapshot!(trace(&tasks, |w, run| {
        w.succeed(run, "a");
        w.fail(run, "finally/clean");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    finally/clean queued
    finally/clean #1 dispatched t1.2 to w1
      → w1: do finally/clean t1.2 #1
    finally/clean #1 started t1.2
    finally/clean #1 failed (failure: exited with 1)
    run failed (task_failed: finally/clean failed: exited with 1)
    "#);
}

#[test]
fn a_retry_does_again_what_failed_and_all_below_it() {
    let tasks = plan_with_finally(
        vec![
            task("a"),
            task("b").after(&["a"]),
            task("c").after(&["b"]).rule(TriggerRule::NoneSkipped),
            task("d").after(&["c"]),
        ],
        vec![task("clean")],
    );
    assert_snapshot!(trace(&tasks, |w, run| {
        w.succeed(run, "a");
        w.fail(run, "b");
        w.succeed(run, "c");
        w.succeed(run, "d");
        w.succeed(run, "finally/clean");
        w.note("retry");
        w.retry(run, RetrySelection::Failed).unwrap();
        w.succeed(run, "b");
        w.note("not while it is under way");
        let refused = w.retry(run, RetrySelection::Failed).unwrap_err();
        w.note(&refused.message);
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
      b #1 failed (failure: exited with 1)
      c queued
      c #1 dispatched t1.3 to w1
        → w1: do c t1.3 #1
      c #1 started t1.3
      c #1 success
      d queued
      d #1 dispatched t1.4 to w1
        → w1: do d t1.4 #1
      d #1 started t1.4
      d #1 success
      finally/clean queued
      finally/clean #1 dispatched t1.5 to w1
        → w1: do finally/clean t1.5 #1
      finally/clean #1 started t1.5
      finally/clean #1 success
      run failed (task_failed: b failed: exited with 1)
    > retry
      run reopened, attempt 2
      b reset, generation 2
      c reset, generation 2
      d reset, generation 2
      finally/clean reset, generation 2
      run started, attempt 2
      b queued
      b #1 dispatched t1.6 to w1
        → w1: do b t1.6 #1
      b #1 started t1.6
      b #1 success
      c queued
      c #1 dispatched t1.7 to w1
        → w1: do c t1.7 #1
    > not while it is under way
      refused: nothing in run 00000000-0000-0000-0000-000000000001 failed; name the tasks that are to run again
    > nothing in run 00000000-0000-0000-0000-000000000001 failed; name the tasks that are to run again
    "#);
}

#[test]
fn a_retry_names_what_it_cannot_find() {
    let mut w = World::with_worker(1);
    let run = w.create(1, &plan(vec![task("a"), task("b").after(&["a"])]));
    w.succeed(run, "a");
    w.succeed(run, "b");
    let of = |names: &[&str]| RetrySelection::Tasks(names.iter().map(|n| (*n).into()).collect());
    let refused = w.retry(run, of(&["b", "nope"])).unwrap_err();
    assert!(refused.message.contains("no task nope"), "{refused}");
    assert!(!w.machine.holds(run), "a run that is not retried is forgotten");
    let refused = w.retry(run, RetrySelection::Failed).unwrap_err();
    assert!(refused.message.contains("nothing in run"), "{refused}");
    w.retry(run, of(&["b"])).unwrap();
    assert_eq!(w.task(run, "a").generation, 1);
    assert_eq!(w.task(run, "b").generation, 2);
    w.succeed(run, "b");
    assert_eq!(w.runs[&run].run_attempt, 2);
}

fn large() -> (Data, Vec<u8>) {
    let content = serde_json::to_vec(&json!({ "n": "x".repeat(70_000) })).unwrap();
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    (Data::Blob { digest, size }, content)
}

#[test]
fn a_large_value_is_fetched_once_for_all_who_look_into_it() {
    let tasks = vec![
        task("a"),
        task("b").after(&["a"]).input("whole", "tasks.a.output"),
        task("c").after(&["a"]).when("tasks.a.output.n == 'y'"),
        task("d").after(&["a"]).input("n", "tasks.a.output.n"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        let (output, content) = large();
        w.report(run, "a", finished(Outcome::Success { output: Some(output) }));
        w.note("the value comes");
        let value = serde_json::from_slice(&content).unwrap();
        let digest = Digest::of(&content);
        w.ask(Command::Fetched { digest, value: Ok(Arc::new(value)) });
        assert_eq!(w.blobs.len(), 1, "what d gets of it is too large for its row");
        assert_eq!(w.task(run, "d").state, ork_core::run::TaskState::Dispatched);
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 success
      b queued
      d queued
      b #1 dispatched t1.2 to w1
        → fetch a value
        → w1: do b t1.2 #1 whole=blob
    > the value comes
      c skipped
      d #1 dispatched t1.3 to w1
        → w1: do d t1.3 #1 n=blob
    "#);
}

#[test]
fn a_value_that_cannot_be_loaded_fails_who_needs_it() {
    let mut with_output = plan(vec![
        task("a"),
        task("b").after(&["a"]).when("tasks.a.output.n == 'y'").allow_failure(),
    ]);
    with_output.output = Some(Binding::Expr(Expr::new("tasks.a.output.n")));
    assert_snapshot!(trace(&with_output, |w, run| {
        let (output, content) = large();
        w.report(run, "a", finished(Outcome::Success { output: Some(output) }));
        let digest = Digest::of(&content);
        w.ask(Command::Fetched { digest, value: Err("gone".into()) });
        w.ask(Command::Fetched { digest, value: Err("gone".into()) });
    }).replace(&Digest::of(&large().1).to_string(), "DIGEST"), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
      → fetch a value
    b failed (expression: a value cannot be loaded (DIGEST): gone)
      → fetch a value
    run failed (expression: output: a value cannot be loaded (DIGEST): gone)
    "#);
}

#[test]
fn a_broken_output_fails_the_run() {
    let mut with_output = plan(vec![task("a")]);
    with_output.output = Some(Binding::Expr(Expr::new("1 / 0")));
    assert_snapshot!(trace(&with_output, |w, run| w.succeed(run, "a")), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    run failed (expression: output: `1 / 0`: division by zero)
    "#);
}

#[test]
fn a_quarantined_run_ends_and_others_go_on() {
    assert_snapshot!(trace(&plan(chain()), |w, run| {
        w.start(run, "a");
        w.ask(Command::Quarantine { run, reason: "its rows were refused".into() });
        assert_eq!(w.machine.counts().attempts, 1, "the slot is held");
        let failure = w.runs[&run].failure.clone().map(|f: Failure| f.kind);
        assert_eq!(failure, Some(FailureKind::Quarantined));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    run quarantined: its rows were refused
    a #1 failed (quarantined: its rows were refused)
    b failed (quarantined: its rows were refused)
    run failed (quarantined: its rows were refused)
      → w1: stop a t1.1
    "#);
}

#[test]
fn offers_are_sent_again_under_their_token_when_their_worker_is_back() {
    assert_snapshot!(trace(&plan(vec![task("a"), task("b").timeout(60)]), |w, run| {
        w.start(run, "b");
        w.pass_beating(1, &["w1"]);
        w.note("the server dies and is back");
        w.reload(Span::from_secs(20));
        w.note("the worker is back");
        w.join("w1", 4);
        w.succeed(run, "a");
        w.note("b's timeout went on meanwhile");
        w.pass_beating(39, &["w1"]);
        w.report(run, "b", finished(Outcome::Stopped));
    }), @r#"
      run created
      run started, attempt 1
      a queued
      b queued
      a #1 dispatched t1.1 to w1
      b #1 dispatched t1.2 to w1
        → w1: do a t1.1 #1
        → w1: do b t1.2 #1
      b #1 started t1.2
    > the server dies and is back
      -- reload, 20s later
    > the worker is back
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 success
    > b's timeout went on meanwhile
      b #1 stopping t1.2, timed_out
        → w1: stop b t1.2
      b #1 failed (timeout: took longer than its timeout of 1m)
      run failed (task_failed: b failed: took longer than its timeout of 1m)
    "#);
}

#[test]
fn a_worker_that_dies_with_its_server_is_mended_at_once() {
    assert_snapshot!(trace(&plan(vec![task("a")]), |w, run| {
        w.start(run, "a");
        w.reload(Span::from_secs(1));
        w.crash("w1");
        w.join("w9", 1);
        w.succeed(run, "a");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    -- reload, 1s later
    a #1 retrying in 0s (lost: its worker is gone)
    a #2 dispatched t2.1 to w9
      → w9: do a t2.1 #2
    a #2 started t2.1
    a #2 success
    run success
    "#);
}

#[test]
fn runs_take_turns() {
    let mut w = World::new();
    let wide = plan((0..4).map(|i| task(&format!("t{i}"))).collect());
    for n in 1..=2 {
        w.create(n, &wide);
    }
    let mut other = plan(vec![task("o0"), task("o1")]);
    other.name = "other".into();
    w.create(3, &other);
    w.effects.clear();
    w.join("w1", 8);
    let order: Vec<_> = w
        .effects
        .iter()
        .filter_map(|effect| match effect {
            ork_core::run::Effect::Dispatch { assignment, .. } => {
                let attempt = &assignment.attempt;
                Some(format!("{}/{}", attempt.run.0.as_u128(), attempt.path))
            }
            _ => None,
        })
        .collect();
    assert_eq!(order.join(" "), "1/t0 3/o0 2/t0 3/o1 1/t1 2/t1 1/t2 2/t2");
}

#[test]
fn a_leaving_worker_ends_what_it_has_and_gets_no_more() {
    assert_snapshot!(trace(&plan(vec![task("a"), task("b").after(&["a"])]), |w, run| {
        w.ask(Command::WorkerLeaving { worker: "w1".into() });
        w.succeed(run, "a");
        let blockers = w.machine.blockers(run, &"b".into()).unwrap();
        w.note(&format!("b: {blockers:?}"));
        w.join("w2", 1);
    }), @r#"
      run created
      run started, attempt 1
      a queued
      a #1 dispatched t1.1 to w1
        → w1: do a t1.1 #1
      a #1 started t1.1
      a #1 success
      b queued
    > b: [NoWorker { queue: "default" }]
      b #1 dispatched t1.2 to w2
        → w2: do b t1.2 #1
    "#);
}

#[test]
fn every_instance_can_say_why_it_waits() {
    let tasks = plan_with_finally(
        vec![task("a").retries(1), task("b").after(&["a"]), task("c")],
        vec![task("clean")],
    );
    let mut w = World::new();
    let run = w.create(1, &tasks);
    let why = |w: &World, path: &str| {
        serde_json::to_string(&w.machine.blockers(run, &path.into()).unwrap()).unwrap()
    };
    assert_snapshot!(why(&w, "a"), @r#"[{"kind":"no_worker","queue":"default"}]"#);
    w.join("w1", 1);
    assert_snapshot!(why(&w, "a"), @r#"[]"#);
    assert_snapshot!(why(&w, "b"), @r#"[{"kind":"upstream","path":"a","state":"dispatched"}]"#);
    assert_snapshot!(why(&w, "c"), @r#"[{"kind":"no_slot","queue":"default","slots":1}]"#);
    assert_snapshot!(why(&w, "finally/clean"), @r#"[{"kind":"body","open":3}]"#);
    w.fail(run, "a");
    assert_snapshot!(why(&w, "a"), @r#"[{"kind":"retry_at","at":1795478410000000}]"#);
    assert_eq!(w.machine.blockers(run, &"zz".into()), None);
    w.cancel(run, None, true);
    w.report(run, "c", finished(Outcome::Stopped));
    assert!(!w.machine.holds(run));
}
