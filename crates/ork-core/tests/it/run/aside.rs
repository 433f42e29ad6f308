//! Runs that are set aside, and runs that are refused at the door.

use ork_core::ids::{AttemptRef, Epoch, RunId};
use ork_core::plan::Plan;
use ork_core::run::{
    Blocker, Command, Departure, Machine, Out, Outcome, RefusalCode, Report, RetrySelection,
};
use ork_core::time::Span;

use super::build::{plan, task};
use super::world::{World, finished, run_id};

fn one() -> Plan {
    plan(vec![task("a")])
}

/// A run whose task is under way on a worker's one slot, and another that waits for it.
fn two_for_a_slot() -> (World, AttemptRef) {
    let mut w = World::with_worker(1);
    let run = w.create(1, &one());
    w.start(run, "a");
    w.create(2, &one());
    let attempt = w.attempt(run, "a");
    (w, attempt)
}

fn quarantine(run: RunId) -> Command {
    Command::Quarantine { run, reason: "its rows were refused".into() }
}

fn state(w: &World, run: RunId) -> String {
    format!("{:?}", w.task(run, "a").state)
}

#[test]
fn what_is_set_aside_holds_its_slot_until_its_worker_reports() {
    let (mut w, attempt) = two_for_a_slot();
    w.ask(quarantine(run_id(1)));
    assert_eq!(state(&w, run_id(1)), "Failed");
    assert_eq!(state(&w, run_id(2)), "Queued", "the slot is held still");
    assert_eq!(w.machine.counts().attempts, 1);
    assert_eq!(w.tell(attempt.clone(), Report::Started), Ok(()), "it is being stopped already");
    assert_eq!(state(&w, run_id(2)), "Queued");
    let retried = w.retry(run_id(1), RetrySelection::Failed).unwrap_err();
    assert_eq!(retried.code, RefusalCode::Conflict, "not beside what is left of it");
    assert_eq!(w.tell(attempt.clone(), finished(Outcome::Stopped)), Ok(()));
    assert_eq!(state(&w, run_id(2)), "Dispatched");
    let again = w.tell(attempt, finished(Outcome::Stopped)).unwrap_err();
    assert_eq!(again.code, RefusalCode::StaleLease);
    assert_eq!(w.retry(run_id(1), RetrySelection::Failed), Ok(()));
}

#[test]
fn what_is_set_aside_and_never_reported_is_free_after_grace_and_margin() {
    let (mut w, _) = two_for_a_slot();
    w.ask(quarantine(run_id(1)));
    let told = w.effects.len();
    w.pass_beating(39, &["w1"]);
    assert_eq!(state(&w, run_id(2)), "Queued");
    assert!(w.effects.len() > told + 5, "its worker is told again");
    w.pass_beating(1, &["w1"]);
    assert_eq!(state(&w, run_id(2)), "Dispatched");
}

#[test]
fn what_is_set_aside_ends_with_its_worker() {
    let (mut w, _) = two_for_a_slot();
    w.ask(quarantine(run_id(1)));
    w.gone("w1", Departure::Crashed);
    w.join("w1", 1);
    assert_eq!(state(&w, run_id(2)), "Dispatched");
}

#[test]
fn a_run_that_is_dropped_and_loaded_again_holds_its_slot_throughout() {
    let (mut w, attempt) = two_for_a_slot();
    w.machine.drop_run(run_id(1));
    assert_eq!(w.machine.counts().attempts, 1);
    let mut out = Out::default();
    w.machine.load(vec![w.active(run_id(1))], w.now, &mut out);
    w.keep(out);
    assert_eq!(w.machine.counts().attempts, 1);
    w.pass(Span::ZERO);
    assert_eq!(w.tell(attempt, finished(Outcome::Success { output: None })), Ok(()));
    assert_eq!(state(&w, run_id(2)), "Dispatched");
}

#[test]
fn the_machine_that_follows_inherits_what_is_left() {
    let (mut w, attempt) = two_for_a_slot();
    w.ask(quarantine(run_id(1)));
    let remnants = w.machine.take_remnants();
    let mut next = Machine::new(w.config.clone(), Epoch(2));
    let joined =
        Command::WorkerJoined { worker: "w1".into(), slots: 1, queues: Vec::new(), confirms: true };
    let mut out = Out::default();
    next.apply(joined, w.now, &mut out).unwrap();
    next.inherit(remnants, w.now);
    assert_eq!(next.counts().attempts, 1);
    let report = finished(Outcome::Stopped);
    next.apply(Command::Report { attempt, report, beats: 0 }, w.now, &mut out).unwrap();
    assert_eq!(next.counts().attempts, 0);
}

#[test]
fn a_run_that_is_left_alone_says_why() {
    let mut w = World::with_worker(1);
    w.machine.leave_alone(run_id(1), "the run machine failed: it".into());
    let reason = "the run machine failed: it".to_owned();
    let blockers = w.machine.blockers(run_id(1), &"a".into());
    assert_eq!(blockers, Some(vec![Blocker::SetAside { reason }]));
}

#[test]
fn so_many_runs_of_a_workflow_may_wait_and_no_more() {
    let mut w = World::with_worker(1);
    w.config.max_pending = 2;
    w.reload(Span::ZERO);
    let create = |w: &mut World, n| {
        let mut out = Out::default();
        let command = w.creation(n, &one());
        let made = w.machine.apply(command, w.now, &mut out);
        (made.map_err(|refusal| refusal.code), out)
    };
    let (first, mut kept) = create(&mut w, 1);
    let (second, more) = create(&mut w, 2);
    assert!(first.is_ok() && second.is_ok());
    kept.changes.extend(more.changes);
    let (third, refused) = create(&mut w, 3);
    assert_eq!(third.unwrap_err(), RefusalCode::LimitReached);
    assert!(refused.changes.is_empty());
    let (again, _) = create(&mut w, 2);
    assert!(again.is_ok(), "it is there already");
    w.keep(kept);
    w.pass(Span::ZERO);
    let (after, _) = create(&mut w, 3);
    assert!(after.is_ok(), "the others have started");
}
