//! Wide runs cost what they hold, and nothing twice.

use ork_core::plan::{Expr, Plan};
use ork_core::run::{Blocker, Command, Counts, Effect, Out, Outcome, RefusalCode, RunState};
use ork_core::time::Span;
use ork_core::value::Data;
use serde_json::json;

use super::build::{plan, task};
use super::world::{World, by, finished};

const WIDTH: usize = 10_000;

#[test]
fn a_wide_join_takes_one_event_a_step() {
    let mut tasks = vec![task("first")];
    tasks.extend((0..WIDTH).map(|i| task(&format!("m{i}")).after(&["first"])));
    tasks.push(task("last"));
    let mut wide = plan(tasks);
    wide.body.tasks[WIDTH + 1].upstreams = (1..=WIDTH).collect();
    let mut world = World::with_worker(100).bare();
    let run = world.create(1, &wide);
    let mut next = 0;
    while let Some(effect) = world.effects.get(next) {
        if let Effect::Dispatch { assignment, .. } = effect {
            let attempt = assignment.attempt.clone();
            let report = finished(Outcome::Success { output: None });
            assert_eq!(world.tell(attempt, report), Ok(()));
        }
        next += 1;
    }
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert_eq!(world.machine.counts(), Counts::default());
    // Queued, dispatched, started, finished; and the run's own three.
    assert_eq!(world.events.len(), 4 * (WIDTH + 2) + 3);
    assert!(world.largest <= 1_000, "{} changes at once", world.largest);
}

#[test]
fn a_long_chain_that_is_skipped_does_not_nest() {
    let mut long = plan((0..WIDTH).map(|i| task(&format!("t{i}"))).collect());
    for (at, task) in long.body.tasks.iter_mut().enumerate() {
        task.upstreams = at.checked_sub(1).into_iter().collect();
    }
    long.body.tasks[0].when = Some(Expr::new("false"));
    let mut world = World::new().bare();
    let run = world.create(1, &long);
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert_eq!(world.tasks.values().filter(|row| row.cause.is_some()).count(), WIDTH - 1);
}

#[test]
fn a_wide_run_is_cancelled_in_small_steps_that_survive_a_restart() {
    let mut world = World::with_worker(10).bare();
    let run = world.create(1, &plan((0..WIDTH).map(|i| task(&format!("t{i}"))).collect()));
    assert_eq!(world.tasks.len(), WIDTH, "every instance has its row");
    let mut out = Out::default();
    let cancel = Command::Cancel { run, path: None, force: false, by: by("ann") };
    world.machine.apply(cancel, world.now, &mut out).unwrap();
    world.machine.settle(world.now, &mut out);
    world.keep(out);
    let open = |world: &World| world.tasks.values().filter(|row| !row.state.is_terminal()).count();
    assert!(open(&world) > WIDTH / 2, "the rest is for later commits");
    world.reload(Span::ZERO);
    assert_eq!(open(&world), 10, "only what runs is left");
    world.crash("w1");
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
    assert!(world.largest <= 1_000, "{} changes at once", world.largest);
}

/// Reports success of every offer that has not been answered, until there is none.
fn answer_all(world: &mut World) {
    let mut next = 0;
    while let Some(effect) = world.effects.get(next) {
        if let Effect::Dispatch { assignment, .. } = effect {
            let attempt = assignment.attempt.clone();
            let output = Some(Data::Inline(next.into()));
            assert_eq!(world.tell(attempt, finished(Outcome::Success { output })), Ok(()));
        }
        next += 1;
    }
}

fn wide_map(items: usize) -> Plan {
    let list: Vec<_> = (0..items).collect();
    plan(vec![task("m").each(json!(list)).input("x", "item"), task("last").after(&["m"])])
}

#[test]
fn a_wide_map_makes_items_as_they_may_begin() {
    let mut world = World::with_worker(10).bare();
    let run = world.create(1, &wide_map(WIDTH));
    assert!(world.tasks.len() <= 2 + 10 + 200, "{} rows at once", world.tasks.len());
    assert_eq!(world.machine.counts().attempts, 10);
    answer_all(&mut world);
    assert_eq!(world.runs[&run].state, RunState::Success);
    // Queued, dispatched, started, finished; the map's two, the last task's four, the run's three.
    assert_eq!(world.events.len(), 4 * WIDTH + 2 + 4 + 3);
    assert!(world.largest <= 1_000, "{} changes at once", world.largest);
}

#[test]
fn a_wide_map_is_cancelled_and_what_has_not_begun_never_is() {
    let mut world = World::with_worker(10).bare();
    let run = world.create(1, &wide_map(WIDTH));
    world.cancel(run, None, false);
    world.reload(Span::ZERO);
    world.crash("w1");
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
    assert!(world.tasks.len() <= 2 + 10 + 200, "{} rows", world.tasks.len());
}

/// The cost of the largest map, to be read and not judged: the machine is not alone.
#[test]
#[ignore = "a measurement"]
fn the_largest_map() {
    let mut world = World::with_worker(100).bare();
    let run = world.create(1, &wide_map(100_000));
    answer_all(&mut world);
    assert_eq!(world.runs[&run].state, RunState::Success);
}

/// A run as wide as it is set aside, in the machine and by its rows.
fn wide_aside(world: &mut World) -> ork_core::ids::RunId {
    let wide = plan((0..3 * WIDTH).map(|i| task(&format!("t{i}"))).collect());
    let run = world.create(1, &wide);
    let reason = "its rows were refused".to_owned();
    let mut out = Out::default();
    world.machine.apply(Command::Quarantine { run, reason }, world.now, &mut out).unwrap();
    world.machine.settle(world.now, &mut out);
    assert!(out.changes.len() <= 30_100, "{} changes at once", out.changes.len());
    world.keep(out);
    run
}

#[test]
fn a_wide_run_is_set_aside_in_steps_that_survive_a_restart() {
    for restart in [false, true] {
        let mut world = World::with_worker(10).bare();
        let run = wide_aside(&mut world);
        assert_eq!(world.runs[&run].state, RunState::Running);
        let blockers = world.machine.blockers(run, &"t29999".into()).unwrap();
        assert!(matches!(&blockers[..], [Blocker::SetAside { .. }]), "{blockers:?}");
        assert_eq!(world.machine.check(), []);
        let cancel = Command::Cancel { run, path: None, force: false, by: by("ann") };
        let mut out = Out::default();
        let refused = world.machine.apply(cancel, world.now, &mut out).unwrap_err();
        assert_eq!(refused.code, RefusalCode::Conflict);
        if restart {
            world.reload(Span::ZERO);
            world.join("w1", 10);
        }
        world.largest = 0;
        world.pass_secs(1);
        assert!(world.largest <= 30_100, "{} changes at once", world.largest);
        assert_eq!(world.runs[&run].state, RunState::Failed);
        let open = world.tasks.values().filter(|row| !row.state.is_terminal());
        assert_eq!(open.count(), 0);
        assert!(!world.machine.holds(run));
        super::judge::judge(&world);
    }
}
