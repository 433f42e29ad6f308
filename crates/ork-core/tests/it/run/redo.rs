//! What is inside of others, done again and marked.

use std::sync::Arc;

use ork_core::ids::{InstancePath, RunId};
use ork_core::plan::{Expr, ForEach, Tolerate};
use ork_core::run::{
    Command, Effect, Marked, Out, RefusalCode, RetrySelection, RunState, TaskState, preview,
};
use ork_core::time::Span;
use serde_json::{Value, json};

use super::build::{Build, call, generated, group, plan, plan_with_finally, scope, task};
use super::judge::judge;
use super::world::{World, by};

fn mark(run: RunId, path: &str, outcome: Marked) -> Command {
    Command::Mark { run, path: path.into(), outcome, by: by("ann") }
}

fn success(output: Value) -> Marked {
    Marked::Success { output }
}

fn tasks(names: &[&str]) -> RetrySelection {
    RetrySelection::Tasks(names.iter().map(|name| (*name).into()).collect())
}

/// Answers the compiler's part for the last DAG that was asked for.
fn compile(world: &mut World, tasks: Vec<Build>) {
    let asked = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Compile(ask) => Some((ask.run, ask.path.clone(), ask.generation)),
        _ => None,
    });
    let (run, path, generation) = asked.expect("a DAG to compile");
    let result = Ok(Arc::new(scope(tasks)));
    world.ask(Command::Compiled { run, path, generation, result });
}

/// A run whose DAG was made twice, the second time without `y` and with another `m`.
fn made_twice(world: &mut World) -> RunId {
    let run = world.create(1, &plan(vec![generated("g", "1"), task("z").after(&["g"])]));
    let items = |list: Value| task("m").each(list);
    compile(world, vec![task("x"), task("y"), items(json!([1, 2]))]);
    for path in ["g/x", "g/y", "g/m[0]", "g/m[1]"] {
        world.succeed(run, path);
    }
    world.fail(run, "z");
    world.retry(run, tasks(&["g"])).unwrap();
    compile(world, vec![task("x"), items(json!([1]))]);
    run
}

#[test]
fn nothing_can_be_asked_of_what_an_earlier_dag_left() {
    for restart in [false, true] {
        let mut world = World::with_worker(4);
        let run = made_twice(&mut world);
        if restart {
            world.reload(Span::ZERO);
            world.join("w1", 4);
        }
        for path in ["g/y", "g/m[1]"] {
            for command in [
                mark(run, path, Marked::Failed),
                mark(run, path, success(json!(1))),
                Command::Cancel { run, path: Some(path.into()), force: false, by: by("ann") },
                Command::Retry {
                    run,
                    selection: tasks(&[path]),
                    cancel_downstream: true,
                    by: by("ann"),
                },
            ] {
                let refusal = world.on(run, command).unwrap_err();
                assert_eq!(refusal.code, RefusalCode::NotFound, "{path}: {refusal}");
            }
            assert!(world.machine.blockers(run, &path.into()).is_none());
        }
        assert_eq!(world.task(run, "g/x").generation, 2);
        assert_eq!(world.task(run, "g/m[0]").generation, 2);
        world.succeed(run, "g/x");
        world.succeed(run, "g/m[0]");
        world.succeed(run, "z");
        assert_eq!(world.runs[&run].state, RunState::Success);
        judge(&world);
    }
}

#[test]
fn what_comes_back_under_a_path_is_its_next_generation() {
    for restart in [false, true] {
        let mut world = World::with_worker(4);
        let run = made_twice(&mut world);
        if restart {
            world.reload(Span::ZERO);
            world.join("w1", 4);
        }
        world.succeed(run, "g/x");
        world.succeed(run, "g/m[0]");
        world.fail(run, "z");
        world.retry(run, tasks(&["g"])).unwrap();
        compile(&mut world, vec![task("y")]);
        assert_eq!(world.task(run, "g/y").generation, 2);
        judge(&world);
    }
}

#[test]
fn a_call_in_a_dag_that_is_made_again_tells_of_its_generation() {
    for restart in [false, true] {
        let mut world = World::with_worker(4);
        let called = plan_with_finally(vec![task("a")], vec![task("b")]);
        let run = world.create(1, &plan(vec![generated("g", "1")]));
        for _ in 0..2 {
            compile(&mut world, vec![call("c", called.clone(), &[])]);
            world.succeed(run, "g/c/a");
            world.succeed(run, "g/c/finally/b");
            assert_eq!(world.runs[&run].state, RunState::Success);
            judge(&world);
            world.retry(run, tasks(&["g"])).unwrap();
            if restart {
                world.reload(Span::ZERO);
                world.join("w1", 4);
            }
        }
        assert_eq!(world.task(run, "g/c/a").generation, 2);
    }
}

#[test]
fn an_item_of_an_earlier_list_cannot_be_marked() {
    let body = vec![task("a"), task("m").each_of("tasks.a.output").after(&["a"])];
    let mut world = World::with_worker(4);
    let run = world.create(1, &plan(body));
    world.succeed_with(run, "a", json!([1, 2]));
    world.succeed(run, "m[0]");
    world.succeed(run, "m[1]");
    world.retry(run, tasks(&["a"])).unwrap();
    world.succeed_with(run, "a", json!([1]));
    let refusal = world.on(run, mark(run, "m[1]", Marked::Failed)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotFound);
    world.succeed(run, "m[0]");
    assert_eq!(world.runs[&run].state, RunState::Success);
    judge(&world);
}

#[test]
fn a_preview_of_a_run_with_replaced_members() {
    let mut world = World::with_worker(4);
    let run = made_twice(&mut world);
    let active = world.machine.snapshot(run).unwrap();
    let command = mark(run, "g/x", Marked::Failed);
    let changes = preview(world.machine.scratch(), active, command, world.now).unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|planned| (planned.path.as_ref().map(InstancePath::as_str), &*planned.to))
        .collect();
    assert_eq!(told, [(Some("g/x"), "stopping")]);
}

/// A run of a map of which one item failed and a group of which one member did; `slow` is under
/// way.
fn failed_inside(world: &mut World) -> RunId {
    let inner = vec![task("x"), task("y"), task("v").after(&["y"])];
    let body = vec![
        task("m").each(json!([1, 2])),
        group("g", inner).output("tasks.x.output"),
        task("z").after(&["m", "g"]).input("m", "tasks.m.output").input("g", "tasks.g.output"),
        task("slow"),
    ];
    let run = world.create(1, &plan(body));
    world.succeed_with(run, "m[0]", json!(1));
    world.fail(run, "m[1]");
    world.succeed_with(run, "g/x", json!(2));
    world.fail(run, "g/y");
    assert_eq!(world.task(run, "z").state, TaskState::UpstreamFailed);
    run
}

#[test]
fn a_mark_inside_of_what_failed_decides_that_anew() {
    let mut world = World::with_worker(8);
    let run = failed_inside(&mut world);
    world.ask(mark(run, "m[1]", success(json!(7))));
    world.ask(mark(run, "g/y", success(json!(8))));
    world.succeed(run, "g/v");
    world.reload(Span::ZERO);
    world.join("w1", 8);
    for (path, generation) in [("m[0]", 1), ("m[1]", 2), ("m", 2), ("g", 2), ("g/x", 1)] {
        let row = world.task(run, path);
        assert_eq!((row.state, row.generation), (TaskState::Success, generation), "{path}");
    }
    world.succeed(run, "z");
    let inputs = world.task(run, "z").inputs.clone().unwrap();
    let told: Vec<_> = inputs.values().map(|data| serde_json::to_value(data).unwrap()).collect();
    assert_eq!(told, [json!({"inline": [1, 7]}), json!({"inline": 2})]);
    world.ask(mark(run, "m[1]", Marked::Failed));
    assert_eq!(world.task(run, "m").state, TaskState::Failed);
    world.succeed(run, "slow");
    assert_eq!(world.runs[&run].state, RunState::Failed);
    judge(&world);
}

#[test]
fn a_retry_keeps_what_was_marked_inside_of_what_failed() {
    let mut world = World::with_worker(8);
    let run = failed_inside(&mut world);
    world.succeed(run, "slow");
    world.on(run, mark(run, "m[1]", success(json!(7)))).unwrap();
    world.on(run, mark(run, "g/y", success(json!(8)))).unwrap();
    world.retry(run, RetrySelection::Failed).unwrap();
    world.succeed(run, "g/v");
    world.succeed(run, "z");
    assert_eq!(world.runs[&run].state, RunState::Success);
    for (path, generation) in [("m[0]", 1), ("m[1]", 2), ("g/x", 1), ("g/y", 2), ("slow", 1)] {
        assert_eq!(world.task(run, path).generation, generation, "{path}");
    }
    judge(&world);
}

#[test]
fn a_map_of_generated_dags_asks_for_so_many_at_a_time() {
    let items: Vec<_> = (0..1_000).collect();
    let mut world = World::with_worker(4).bare();
    let run = world.create(1, &plan(vec![generated("g", "item").each(json!(items))]));
    let asked = |world: &World| {
        world.effects.iter().filter(|effect| matches!(effect, Effect::Compile(_))).count()
    };
    assert_eq!(asked(&world), 200);
    let answer = |world: &mut World, at: usize| {
        let asked: Vec<_> = world
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Compile(ask) => Some((ask.run, ask.path.clone(), ask.generation)),
                _ => None,
            })
            .collect();
        let (run, path, generation) = asked[at].clone();
        let result = Err("no DAG".into());
        world.ask(Command::Compiled { run, path, generation, result });
    };
    for at in 0..99 {
        answer(&mut world, at);
    }
    assert!(world.machine.check().is_empty());
    assert_eq!(world.task(run, "g").state, TaskState::Running);
}

#[test]
fn a_run_has_so_many_instances_and_no_more() {
    let mut world = World::new();
    world.config.max_instances = 20;
    world.reload(Span::ZERO);
    world.join("w1", 100);
    let inner = group("o", vec![task("m").each(json!([1, 2, 3, 4, 5]))]);
    let run = world.create(1, &plan(vec![inner.each(json!([1, 2, 3, 4, 5]))]));
    world.cancel(run, None, false);
    let told = world.tasks.values().filter_map(|row| row.failure.as_ref());
    let told = told.filter(|failure| failure.message.contains("limits.instances")).count();
    assert!(told > 0, "the limit is named");
    assert!(world.tasks.len() <= 20, "{} instances", world.tasks.len());
}

#[test]
fn a_retry_of_more_than_a_commit_holds_is_refused() {
    let items: Vec<_> = (0..=20_000).collect();
    let bad = |each: &mut ForEach| each.when = Some(Expr::new("item / 0 > 1"));
    let map = task("m").each(json!(items)).mapped(bad);
    let map = map.mapped(|each| each.tolerate = Tolerate::Count(30_000));
    let mut world = World::with_worker(4).bare();
    let run = world.create(1, &plan(vec![map]));
    while !world.runs[&run].state.is_terminal() {
        world.pass(Span::ZERO);
    }
    assert_eq!(world.task(run, "m[20000]").state, TaskState::Failed);
    let mut out = Out::default();
    world.machine.load(vec![world.active(run)], world.now, &mut out);
    let by = by("ann");
    let selection =
        RetrySelection::Tasks(items.iter().map(|n| format!("m[{n}]").as_str().into()).collect());
    let command = Command::Retry { run, selection, cancel_downstream: false, by: by.clone() };
    let refusal = world.machine.apply(command, world.now, &mut out).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::LimitReached);
    assert!(refusal.message.contains("limits.retry"), "{refusal}");
    assert!(out.changes.is_empty(), "a refused command changes nothing");
    let command = Command::Retry { run, selection: tasks(&["m"]), cancel_downstream: false, by };
    world.machine.apply(command, world.now, &mut out).unwrap();
}
