//! What simulations found, each as the fewest steps that show it.

use std::sync::Arc;

use ork_core::ids::{ProjectId, RunId};
use ork_core::plan::{Binding, Concurrency, OnLimit, Plan, PoolUse, Tolerate, TriggerRule};
use ork_core::rows::VersionId;
use ork_core::run::TaskState::{Dispatched, Pending, Success};
use ork_core::run::{
    Blocker, Command, Departure, Effect, Marked, Pausable, RefusalCode, RetrySelection, RunState,
    TaskState,
};
use ork_core::time::Span;
use serde_json::json;

use super::build::{call, generated, plan, plan_with_finally, scope, task};
use super::judge::judge;
use super::world::{World, by, run_id};

fn tasks(names: &[&str]) -> RetrySelection {
    RetrySelection::Tasks(names.iter().map(|name| (*name).into()).collect())
}

fn only(names: &[&str]) -> RetrySelection {
    RetrySelection::Only(names.iter().map(|name| (*name).into()).collect())
}

fn retry(run: RunId, selection: RetrySelection) -> Command {
    Command::Retry { run, selection, cancel_downstream: true, by: by("ann") }
}

fn mark(run: RunId, path: &str, outcome: Marked) -> Command {
    Command::Mark { run, path: path.into(), outcome, by: by("ann") }
}

fn one_at_a_time(name: &str, on_limit: OnLimit) -> Plan {
    let concurrency = Some(Concurrency { max_runs: 1, key: None, on_limit });
    Plan { name: name.into(), concurrency, ..plan(vec![task("a")]) }
}

#[test]
fn items_that_are_retried_keep_to_max_parallel() {
    for restart in [false, true] {
        let mut world = World::with_worker(9);
        let every = task("m").each(json!([0, 1, 2, 3])).parallel(2);
        let every = every.mapped(|each| each.tolerate = Tolerate::All);
        let run = world.create(1, &plan(vec![every]));
        for path in ["m[0]", "m[1]", "m[2]", "m[3]"] {
            world.fail(run, path);
        }
        world.retry(run, tasks(&["m[0]", "m[1]", "m[2]", "m[3]"])).unwrap();
        if restart {
            world.reload(Span::ZERO);
            world.join("w1", 9);
        }
        let states = |world: &World| ["m[0]", "m[1]", "m[2]"].map(|path| world.state(run, path));
        assert_eq!(states(&world), [Dispatched, Dispatched, Pending]);
        let blockers = world.machine.blockers(run, &"m[2]".into()).unwrap();
        assert!(
            matches!(&blockers[..], [Blocker::Items { left: 2, max_parallel: Some(2), holders, .. }]
                if holders.len() == 2),
            "{blockers:?}"
        );
        world.succeed(run, "m[0]");
        assert_eq!(states(&world), [Success, Dispatched, Dispatched]);
        judge(&world);
    }
}

#[test]
fn a_map_tells_of_its_items_that_have_not_begun() {
    let mut world = World::with_worker(9);
    let run = world.create(1, &plan(vec![task("m").each(json!([0, 1, 2])).parallel(1)]));
    let blockers = |world: &World| world.machine.blockers(run, &"m".into()).unwrap();
    let [Blocker::Items { left: 2, max_parallel: Some(1), holders, .. }] = &blockers(&world)[..]
    else {
        panic!("{:?}", blockers(&world));
    };
    assert_eq!(holders[0].path.as_ref().unwrap().as_str(), "m[0]");
    world.succeed(run, "m[0]");
    world.succeed(run, "m[1]");
    assert_eq!(blockers(&world), []);
}

#[test]
fn a_map_of_a_run_that_is_not_admitted_is_looked_at_later() {
    let mut world = World::with_worker(1);
    let first = world.create(1, &one_at_a_time("w", OnLimit::Queue));
    let wide = Plan {
        body: scope(vec![task("m").each(json!([0, 1]))]),
        ..one_at_a_time("w", OnLimit::Queue)
    };
    world.succeed(first, "a");
    let run = world.create(2, &wide);
    world.fail(run, "m[0]");
    world.fail(run, "m[1]");
    world.create(3, &one_at_a_time("w", OnLimit::Queue));
    world.retry(run, RetrySelection::Failed).unwrap();
    assert_eq!(world.runs[&run].state, RunState::Pending);
    world.ask(mark(run, "m[0]", Marked::Skipped));
    world.succeed(run_id(3), "a");
    world.succeed(run, "m[1]");
    assert_eq!(world.runs[&run].state, RunState::Success);
    judge(&world);
}

#[test]
fn a_refused_command_writes_nothing_of_a_run_that_never_began() {
    let mut world = World::with_worker(1);
    world.create(1, &one_at_a_time("w", OnLimit::Skip));
    let run = world.create(2, &one_at_a_time("w", OnLimit::Skip));
    assert_eq!(world.runs[&run].state, RunState::Skipped);
    let refused = world.on(run, retry(run, RetrySelection::Failed)).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Conflict);
    assert!(world.tasks.keys().all(|(of, _)| *of != run));
    judge(&world);
}

#[test]
fn what_a_failed_offer_lets_start_in_another_queue_starts_at_once() {
    let mut world = World::new();
    let name = Binding::Const(json!("nobody-declared-it"));
    let pool = PoolUse { name, slots: 1, of: None };
    let a = task("a").with(|task| task.pool = Some(Box::new(pool)));
    let b = task("b").after(&["a"]).rule(TriggerRule::AllDone);
    let run = world.create(1, &plan(vec![a, b.with(|task| task.worker_queue = Some("q".into()))]));
    world.serve("w1", 2, &["default", "q"]);
    assert_eq!(world.state(run, "b"), TaskState::Dispatched);
}

#[test]
fn what_was_to_be_done_again_inside_ends_with_what_it_is_inside_of() {
    let mut world = World::with_worker(4);
    let called = || one_at_a_time("called", OnLimit::Queue);
    let calls = vec![call("b", called(), &[]), call("c", called(), &[])];
    let run = world.create(1, &plan(calls));
    world.fail(run, "b/a");
    assert_eq!(world.state(run, "c/a"), Dispatched);
    world.ask(retry(run, RetrySelection::Failed));
    assert_eq!(["b", "b/a"].map(|path| world.state(run, path)), [Pending; 2], "it has no place");
    world.cancel(run, Some("b"), false);
    assert_eq!(["b", "b/a"].map(|path| world.state(run, path)), [TaskState::Cancelled; 2]);
    world.succeed(run, "c/a");
    assert_eq!(world.runs[&run].state, RunState::Failed);
    judge(&world);
}

#[test]
fn a_dag_that_comes_too_late_is_asked_for_again() {
    let mut world = World::with_worker(4);
    let made = generated("g", "1").after(&["a"]).rule(TriggerRule::OneDone);
    let run = world.create(1, &plan(vec![task("a"), made]));
    world.succeed(run, "a");
    let ask = |world: &World| {
        world.effects.iter().rev().find_map(|effect| match effect {
            Effect::Compile(ask) => Some((ask.path.clone(), ask.generation)),
            _ => None,
        })
    };
    let (path, generation) = ask(&world).unwrap();
    world.ask(retry(run, only(&["a"])));
    let answer = |world: &mut World| {
        let (path, result) = (path.clone(), Ok(Arc::new(scope(vec![task("x")]))));
        world.ask(Command::Compiled { run, path, generation, result });
    };
    answer(&mut world);
    assert_eq!(world.state(run, "g"), TaskState::Pending, "`a` is being done again");
    world.succeed(run, "a");
    answer(&mut world);
    world.succeed(run, "g/x");
    assert_eq!(world.runs[&run].state, RunState::Success);
    judge(&world);
}

#[test]
fn a_called_workflow_goes_back_to_its_body() {
    let mut world = World::with_worker(4);
    let called = plan_with_finally(vec![task("x")], vec![task("f"), task("g")]);
    let called = Plan { name: "called".into(), ..called };
    let run = world.create(1, &plan(vec![call("c", called, &[])]));
    world.succeed(run, "c/x");
    world.succeed(run, "c/finally/f");
    world.start(run, "c/finally/g");
    let mut refused = retry(run, tasks(&["c/x"]));
    if let Command::Retry { cancel_downstream, .. } = &mut refused {
        *cancel_downstream = false;
    }
    assert_eq!(world.apply(refused).unwrap_err().code, RefusalCode::Conflict);
    world.ask(retry(run, tasks(&["c/x"])));
    world.report(run, "c/finally/g", super::world::finished(ork_core::run::Outcome::Stopped));
    world.succeed(run, "c/x");
    world.succeed(run, "c/finally/f");
    world.succeed(run, "c/finally/g");
    assert_eq!(world.runs[&run].state, RunState::Success);
    judge(&world);
}

#[test]
fn a_run_all_of_which_is_over_before_it_began_is_over() {
    let mut world = World::with_worker(1);
    let workflow = Pausable::Workflow(ProjectId::DEFAULT, "w".into());
    world.ask(Command::Pause { what: workflow, on: true, by: by("ann") });
    let run = world.create(1, &plan(vec![task("a")]));
    world.cancel(run, Some("a"), false);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    assert!(!world.machine.holds(run));
    judge(&world);
}

#[test]
fn what_is_left_at_a_worker_that_dies_frees_its_pool() {
    let mut world = World::with_worker(1);
    let pool = |name: &str| {
        let name = (name, Binding::Const(json!("db")));
        let pool = PoolUse { name: name.1, slots: 1, of: Some(1) };
        task(name.0).with(|task| task.pool = Some(Box::new(pool)))
    };
    let run = world.create(1, &plan(vec![pool("a")]));
    world.start(run, "a");
    world.ask(Command::Quarantine { run, reason: "its rows were refused".into() });
    world.gone("w1", Departure::Crashed);
    world.join("w2", 1);
    let next = world.create(2, &plan(vec![pool("a")]));
    assert_eq!(world.state(next, "a"), TaskState::Dispatched);
}

#[test]
fn a_version_without_limits_binds_the_runs_of_an_older_one_after_a_restart() {
    let mut world = World::with_worker(4);
    world.machine.learn_limits(Vec::new());
    let runs = [1, 2].map(|n| world.create(n, &one_at_a_time("w", OnLimit::Queue)));
    for run in runs {
        assert_eq!(world.runs[&run].state, RunState::Running);
    }
    // Of a draft that nothing is deployed beside, its own limits hold.
    let drafts = [3, 4].map(|n| {
        let mut creation = world.creation(n, &one_at_a_time("d", OnLimit::Queue));
        if let Command::Create(new) = &mut creation {
            new.version = VersionId(-1);
        }
        world.ask(creation);
        run_id(n)
    });
    assert_eq!(world.runs[&drafts[1]].state, RunState::Pending);
}
