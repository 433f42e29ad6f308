//! One trace for each rule of groups, maps, called workflows and generated DAGs.

use std::sync::Arc;

use insta::assert_snapshot;
use ork_core::ids::RunId;
use ork_core::plan::{Binding, Expr, Items, Plan, Tolerate, TriggerRule};
use ork_core::run::{Command, Effect, Out, Outcome, RetrySelection, RunState, TaskState};
use ork_core::time::Span;
use ork_core::value::Data;
use serde_json::{Value, json};

use super::build::{call, generated, group, plan, plan_with_finally, scope, task};
use super::world::{World, finished};

/// Runs a plan on one worker with four slots; the script sees the world after the first offers.
fn trace(plan: &Plan, script: impl FnOnce(&mut World, RunId)) -> String {
    let mut world = World::with_worker(4);
    let run = world.create(1, plan);
    script(&mut world, run);
    world.take_trace()
}

/// The output of an instance, loaded.
fn output(world: &World, run: RunId, path: &str) -> Value {
    match world.task(run, path).output.clone() {
        None => Value::Null,
        Some(Data::Inline(value)) => value,
        Some(Data::Blob { digest, .. }) => serde_json::from_slice(&world.blobs[&digest]).unwrap(),
    }
}

/// Lets every attempt succeed with what it is told to do, until nothing is under way.
fn succeed_all(world: &mut World, next: &mut usize, made: impl Fn(&str) -> Value) {
    while let Some(effect) = world.effects.get(*next) {
        *next += 1;
        let Effect::Dispatch { assignment, .. } = effect else { continue };
        let attempt = assignment.attempt.clone();
        let output = made(attempt.path.as_str());
        let report = finished(Outcome::Success { output: Some(Data::Inline(output)) });
        let _ = world.tell(attempt, report);
    }
}

#[test]
fn a_group_is_one_upstream_and_its_output_is_its_members() {
    let tasks = vec![
        task("a"),
        group("g", vec![task("x"), task("y").after(&["x"]).input("n", "tasks.x.output + 1")])
            .after(&["a"]),
        task("b").after(&["g"]).input("all", "tasks.g.output.y"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed(run, "a");
        w.succeed_with(run, "g/x", json!(1));
        w.succeed_with(run, "g/y", json!(2));
        w.succeed(run, "b");
        assert_eq!(output(w, run, "g"), json!({"x": 1, "y": 2}));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    g opened with 2 inside
    g/x queued
    g/x #1 dispatched t1.2 to w1
      → w1: do g/x t1.2 #1
    g/x #1 started t1.2
    g/x #1 success
    g/y queued
    g/y #1 dispatched t1.3 to w1
      → w1: do g/y t1.3 #1 n=2
    g/y #1 started t1.3
    g/y #1 success
    g success
    b queued
    b #1 dispatched t1.4 to w1
      → w1: do b t1.4 #1 all=2
    b #1 started t1.4
    b #1 success
    run success
    "#);
}

#[test]
fn a_group_fails_with_a_member_unless_that_may() {
    let tasks = vec![
        group("g", vec![task("x"), task("y").allow_failure(), task("z").after(&["x"])]),
        group("h", vec![task("x").allow_failure()]),
        task("b").after(&["g"]),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.fail(run, "h/x");
        w.fail(run, "g/y");
        w.fail(run, "g/x");
    }), @r#"
    run created
    run started, attempt 1
    g opened with 3 inside
    h opened with 1 inside
    g/x queued
    g/y queued
    h/x queued
    g/x #1 dispatched t1.1 to w1
    g/y #1 dispatched t1.2 to w1
    h/x #1 dispatched t1.3 to w1
      → w1: do g/x t1.1 #1
      → w1: do g/y t1.2 #1
      → w1: do h/x t1.3 #1
    h/x #1 started t1.3
    h/x #1 failed (failure: exited with 1)
    h success
    g/y #1 started t1.2
    g/y #1 failed (failure: exited with 1)
    g/x #1 started t1.1
    g/x #1 failed (failure: exited with 1)
    g/z upstream_failed because of g/x
    g failed (task_failed: g/x failed: exited with 1)
    b upstream_failed because of g
    run failed (task_failed: g failed: g/x failed: exited with 1)
    "#);
}

#[test]
fn a_group_sees_its_own_tasks_first_and_then_those_around() {
    let tasks = vec![
        task("a"),
        group("g", vec![task("x").input("v", "tasks.a.output")])
            .after(&["a"])
            .output("tasks.x.output * 2"),
        task("b").after(&["g"]).input("v", "tasks.g.output"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "a", json!(3));
        w.succeed_with(run, "g/x", json!(4));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    g opened with 1 inside
    g/x queued
    g/x #1 dispatched t1.2 to w1
      → w1: do g/x t1.2 #1 v=3
    g/x #1 started t1.2
    g/x #1 success
    g success
    b queued
    b #1 dispatched t1.3 to w1
      → w1: do b t1.3 #1 v=8
    "#);
}

#[test]
fn a_group_that_takes_too_long_is_ended() {
    let tasks = vec![
        group("g", vec![task("x"), task("y").after(&["x"])]).timeout(10),
        task("b").after(&["g"]).rule(TriggerRule::AllDone),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "g/x");
        w.pass_beating(11, &["w1"]);
        w.report(run, "g/x", finished(Outcome::Stopped));
    }), @r#"
    run created
    run started, attempt 1
    g opened with 2 inside
    g/x queued
    g/x #1 dispatched t1.1 to w1
      → w1: do g/x t1.1 #1
    g/x #1 started t1.1
    g closing, timed_out
    g/x #1 stopping t1.1, timed_out
    g/y cancelled (timeout: took longer than its timeout of 10s)
      → w1: stop g/x t1.1
    g/x #1 failed (timeout: took longer than its timeout of 10s)
    g failed (timeout: took longer than its timeout of 10s)
    b queued
    b #1 dispatched t1.2 to w1
      → w1: do b t1.2 #1
    "#);
}

#[test]
fn a_cancelled_group_ends_all_inside() {
    let tasks = vec![group("g", vec![group("h", vec![task("x"), task("y").after(&["x"])])])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.start(run, "g/h/x");
        w.cancel(run, Some("g"), false);
        w.reload(Span::from_secs(1));
        w.join("w1", 4);
        w.report(run, "g/h/x", finished(Outcome::Stopped));
    }), @r#"
    run created
    run started, attempt 1
    g opened with 1 inside
    g/h opened with 2 inside
    g/h/x queued
    g/h/x #1 dispatched t1.1 to w1
      → w1: do g/h/x t1.1 #1
    g/h/x #1 started t1.1
    g closing, cancelled
    g/h closing, cancelled
    g/h/x #1 stopping t1.1, cancelled
    g/h/y cancelled (cancelled: cancelled by ann)
      → w1: stop g/h/x t1.1
    -- reload, 1s later
    g/h/x #1 cancelled (cancelled: cancelled by ann)
    g/h cancelled (cancelled: cancelled by ann)
    g cancelled (cancelled: cancelled by ann)
    run failed (task_failed: g was cancelled by ann)
    "#);
}

#[test]
fn a_map_makes_one_instance_an_item_and_lists_their_outputs() {
    let tasks = vec![
        task("m").each(json!(["eu", "us"])).input("r", "item").input("i", "index"),
        task("b").after(&["m"]).input("all", "tasks.m.output"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "m[1]", json!("US"));
        w.succeed_with(run, "m[0]", json!("EU"));
        w.succeed(run, "b");
        assert_eq!(output(w, run, "m"), json!(["EU", "US"]));
    }), @r#"
    run created
    run started, attempt 1
    m opened with 2 inside
    m[0] queued
    m[1] queued
    m[0] #1 dispatched t1.1 to w1
    m[1] #1 dispatched t1.2 to w1
      → w1: do m[0] t1.1 #1 r="eu" i=0
      → w1: do m[1] t1.2 #1 r="us" i=1
    m[1] #1 started t1.2
    m[1] #1 success
    m[0] #1 started t1.1
    m[0] #1 success
    m success
    b queued
    b #1 dispatched t1.3 to w1
      → w1: do b t1.3 #1 all=["EU","US"]
    b #1 started t1.3
    b #1 success
    run success
    "#);
}

#[test]
fn an_empty_map_succeeds_and_one_of_skipped_items_is_skipped() {
    let tasks = vec![
        task("empty").each(json!([])),
        task("skipped").each(json!([1, 2])).mapped(|each| each.when = Some(Expr::new("item > 2"))),
        task("some").each(json!([1, 3])).mapped(|each| each.when = Some(Expr::new("item > 2"))),
        task("broken").each_of("'no list'"),
        task("never").each(json!([1])).when("false"),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "some[1]", json!(9));
        assert_eq!(output(w, run, "empty"), json!([]));
        assert_eq!(output(w, run, "some"), json!([null, 9]));
    }), @r#"
    run created
    run started, attempt 1
    empty opened with 0 inside
    skipped opened with 2 inside
    some opened with 2 inside
    broken failed (expression: for_each: str "no list" is no list)
    never skipped
    empty success
    skipped[0] skipped
    skipped[1] skipped
    skipped skipped
    some[0] skipped
    some[1] queued
    some[1] #1 dispatched t1.1 to w1
      → w1: do some[1] t1.1 #1
    some[1] #1 started t1.1
    some[1] #1 success
    some success
    run failed (task_failed: broken failed: for_each: str "no list" is no list)
    "#);
}

#[test]
fn no_more_items_than_may_be_open_at_a_time() {
    let tasks = vec![task("m").each(json!([1, 2, 3, 4])).parallel(2)];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed(run, "m[0]");
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.succeed(run, "m[1]");
        w.succeed(run, "m[2]");
        w.succeed(run, "m[3]");
    }), @r#"
    run created
    run started, attempt 1
    m opened with 4 inside
    m[0] queued
    m[1] queued
    m[0] #1 dispatched t1.1 to w1
    m[1] #1 dispatched t1.2 to w1
      → w1: do m[0] t1.1 #1
      → w1: do m[1] t1.2 #1
    m[0] #1 started t1.1
    m[0] #1 success
    m[2] queued
    m[2] #1 dispatched t1.3 to w1
      → w1: do m[2] t1.3 #1
    -- reload, 0s later
      → w1: do m[1] t1.2 #1
      → w1: do m[2] t1.3 #1
    m[1] #1 started t1.2
    m[1] #1 success
    m[3] queued
    m[3] #1 dispatched t2.1 to w1
      → w1: do m[3] t2.1 #1
    m[2] #1 started t1.3
    m[2] #1 success
    m[3] #1 started t2.1
    m[3] #1 success
    m success
    run success
    "#);
}

#[test]
fn a_map_past_what_it_tolerates_starts_no_more() {
    let tasks = vec![
        task("m").each(json!([1, 2, 3, 4, 5])).parallel(2).mapped(|each| {
            each.tolerate = Tolerate::Count(1);
        }),
        task("f").each(json!([1, 2])).mapped(|each| each.fail_fast = true),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.fail(run, "m[0]");
        w.fail(run, "m[1]");
        w.note("m goes on with what runs, f stops it");
        w.succeed(run, "m[2]");
        w.fail(run, "f[0]");
        w.report(run, "f[1]", finished(Outcome::Stopped));
    }), @r#"
      run created
      run started, attempt 1
      m opened with 5 inside
      f opened with 2 inside
      m[0] queued
      m[1] queued
      f[0] queued
      f[1] queued
      m[0] #1 dispatched t1.1 to w1
      m[1] #1 dispatched t1.2 to w1
      f[0] #1 dispatched t1.3 to w1
      f[1] #1 dispatched t1.4 to w1
        → w1: do m[0] t1.1 #1
        → w1: do m[1] t1.2 #1
        → w1: do f[0] t1.3 #1
        → w1: do f[1] t1.4 #1
      m[0] #1 started t1.1
      m[0] #1 failed (failure: exited with 1)
      m[2] queued
      m[2] #1 dispatched t1.5 to w1
        → w1: do m[2] t1.5 #1
      m[1] #1 started t1.2
      m[1] #1 failed (failure: exited with 1)
    > m goes on with what runs, f stops it
      m[2] #1 started t1.5
      m[2] #1 success
      m failed (task_failed: 2 of 5 items failed, 1 tolerated (m[0], m[1]): exited with 1)
      f[0] #1 started t1.3
      f[0] #1 failed (failure: exited with 1)
      f closing, cancelled
      f[1] #1 stopping t1.4, cancelled
        → w1: stop f[1] t1.4
      f[1] #1 cancelled (task_failed: 1 of 2 items failed, 0 tolerated (f[0]): exited with 1)
      f failed (task_failed: 1 of 2 items failed, 0 tolerated (f[0]): exited with 1)
      run failed (task_failed: 2 tasks failed: m, f)
    "#);
}

#[test]
fn a_tolerated_failure_leaves_null() {
    let tasks = vec![task("m").each(json!([1, 2])).mapped(|each| {
        each.tolerate = Tolerate::Percent(50.0);
    })];
    let mut world = World::with_worker(4);
    let run = world.create(1, &plan(tasks));
    world.fail(run, "m[0]");
    world.succeed_with(run, "m[1]", json!(2));
    assert_eq!(output(&world, run, "m"), json!([null, 2]));
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn keys_name_items_and_are_unique() {
    let keyed =
        |name, list| task(name).each(list).mapped(|each| each.key = Some(Expr::new("item.id")));
    let tasks = vec![
        keyed("good", json!([{"id": "acme"}, {"id": 7}])),
        keyed("twice", json!([{"id": "a"}, {"id": "a"}])),
        keyed("unfit", json!([{"id": "a/b"}])),
        keyed("other", json!([{"id": [1]}])),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed(run, "good[acme]");
        w.succeed(run, "good[7]");
    }), @r#"
    run created
    run started, attempt 1
    good opened with 2 inside
    twice failed (expression: item_key: two items have the key `a`)
    unfit failed (expression: item_key: item 0: str "a/b" cannot be a key: a key has 1 to 200 bytes, without `/`, `[`, `]` and control characters)
    other failed (expression: item_key: item 0: list of 1 is no text)
    good[acme] queued
    good[7] queued
    good[acme] #1 dispatched t1.1 to w1
    good[7] #1 dispatched t1.2 to w1
      → w1: do good[acme] t1.1 #1
      → w1: do good[7] t1.2 #1
    good[acme] #1 started t1.1
    good[acme] #1 success
    good[7] #1 started t1.2
    good[7] #1 success
    good success
    run failed (task_failed: 3 tasks failed: twice, unfit, other)
    "#);
}

#[test]
fn a_matrix_is_every_combination() {
    let list = |values: Value| Binding::Const(values);
    let items = Items::Matrix {
        axes: [("os".into(), list(json!(["a", "b"]))), ("n".into(), list(json!([1, 2])))].into(),
        include: vec![list(json!({"os": "c"}))],
        exclude: vec![list(json!({"os": "a", "n": 2}))],
    };
    let mut world = World::with_worker(9);
    let run = world.create(1, &plan(vec![task("m").map(items).input("x", "item")]));
    let inputs: Vec<_> = (0..4)
        .map(|i| world.task(run, &format!("m[{i}]")).inputs.clone().unwrap()["x"].clone())
        .collect();
    let expected = [
        json!({"os": "a", "n": 1}),
        json!({"os": "b", "n": 1}),
        json!({"os": "b", "n": 2}),
        json!({"os": "c"}),
    ];
    assert_eq!(inputs, expected.map(Data::Inline));
}

#[test]
fn a_mapped_group_finishes_items_before_it_begins_others() {
    let inner =
        vec![task("x").input("r", "item"), task("y").after(&["x"]).input("x", "tasks.x.output")];
    let mut world = World::with_worker(2);
    let run = world.create(1, &plan(vec![group("m", inner).each(json!(["p", "q", "r"]))]));
    world.succeed(run, "m[0]/x");
    world.succeed(run, "m[1]/x");
    world.succeed(run, "m[0]/y");
    world.succeed(run, "m[1]/y");
    let (mut next, mut order) = (0, Vec::new());
    succeed_all(&mut world, &mut next, |_| Value::Null);
    for effect in &world.effects {
        if let Effect::Dispatch { assignment, .. } = effect {
            order.push(assignment.attempt.path.to_string());
        }
    }
    assert_eq!(order, ["m[0]/x", "m[1]/x", "m[0]/y", "m[1]/y", "m[2]/x", "m[2]/y"]);
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn maps_in_maps_see_their_own_item_and_the_outer_by_its_name() {
    let inner = task("x")
        .each_of("region.tables")
        .input("t", "item")
        .input("r", "region.name")
        .input("i", "index");
    let items = json!([{"name": "eu", "tables": ["a"]}, {"name": "us", "tables": ["b", "c"]}]);
    let outer =
        group("m", vec![inner]).each(items).mapped(|each| each.name = Some("region".into()));
    assert_snapshot!(trace(&plan(vec![outer]), |w, run| {
        for path in ["m[0]/x[0]", "m[1]/x[0]", "m[1]/x[1]"] {
            w.succeed_with(run, path, json!(path));
        }
        let expected = json!([{"x": ["m[0]/x[0]"]}, {"x": ["m[1]/x[0]", "m[1]/x[1]"]}]);
        assert_eq!(output(w, run, "m"), expected);
    }), @r#"
    run created
    run started, attempt 1
    m opened with 2 inside
    m[0] opened with 1 inside
    m[1] opened with 1 inside
    m[0]/x opened with 1 inside
    m[1]/x opened with 2 inside
    m[0]/x[0] queued
    m[1]/x[0] queued
    m[1]/x[1] queued
    m[0]/x[0] #1 dispatched t1.1 to w1
    m[1]/x[0] #1 dispatched t1.2 to w1
    m[1]/x[1] #1 dispatched t1.3 to w1
      → w1: do m[0]/x[0] t1.1 #1 t="a" r="eu" i=0
      → w1: do m[1]/x[0] t1.2 #1 t="b" r="us" i=0
      → w1: do m[1]/x[1] t1.3 #1 t="c" r="us" i=1
    m[0]/x[0] #1 started t1.1
    m[0]/x[0] #1 success
    m[0]/x success
    m[0] success
    m[1]/x[0] #1 started t1.2
    m[1]/x[0] #1 success
    m[1]/x[1] #1 started t1.3
    m[1]/x[1] #1 success
    m[1]/x success
    m[1] success
    m success
    run success
    "#);
}

fn called() -> Plan {
    let int = ork_core::types::Type::Int;
    let param = |default| ork_core::plan::Param { ty: int.clone(), default, description: None };
    let mut plan = plan_with_finally(
        vec![task("a").input("n", "params.n"), task("b").after(&["a"])],
        vec![task("clean").input("state", "run.state").input("a", "tasks.a.output")],
    );
    plan.name = "other".into();
    plan.params =
        [("n".into(), param(None)), ("m".into(), param(Some(Binding::Const(json!(5)))))].into();
    plan.output = Some(Binding::Expr(Expr::new("tasks.b.output + params.m")));
    plan
}

#[test]
fn a_called_workflow_keeps_its_params_its_finally_and_its_output() {
    let tasks = vec![
        task("a"),
        call("c", called(), &[("n", "tasks.a.output")]).after(&["a"]),
        task("z").after(&["c"]).input("v", "tasks.c.output"),
        call("bad", called(), &[("n", "'text'"), ("x", "1")]),
    ];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "a", json!(1));
        w.succeed_with(run, "c/a", json!(2));
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.succeed_with(run, "c/b", json!(3));
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.succeed(run, "c/finally/clean");
        w.succeed(run, "z");
    }), @r#"
    run created
    run started, attempt 1
    a queued
    bad failed (expression: param `x`: the workflow has no such param; did you mean `m`?; param `n`: expected int, got str "text")
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
    c opened with 3 inside
    c/a queued
    c/a #1 dispatched t1.2 to w1
      → w1: do c/a t1.2 #1 n=1
    c/a #1 started t1.2
    c/a #1 success
    c/b queued
    c/b #1 dispatched t1.3 to w1
      → w1: do c/b t1.3 #1
    -- reload, 0s later
      → w1: do c/b t1.3 #1
    c/b #1 started t1.3
    c/b #1 success
    c/finally/clean queued
    c/finally/clean #1 dispatched t2.1 to w1
      → w1: do c/finally/clean t2.1 #1 state="success" a=2
    -- reload, 0s later
      → w1: do c/finally/clean t2.1 #1 state="success" a=2
    c/finally/clean #1 started t2.1
    c/finally/clean #1 success
    c success
    z queued
    z #1 dispatched t3.1 to w1
      → w1: do z t3.1 #1 v=8
    z #1 started t3.1
    z #1 success
    run failed (task_failed: bad failed: param `x`: the workflow has no such param; did you mean `m`?; param `n`: expected int, got str "text")
    "#);
}

#[test]
fn the_finally_of_a_called_workflow_runs_when_that_fails_or_is_cancelled() {
    let tasks = vec![call("f", called(), &[("n", "1")]), call("c", called(), &[("n", "2")])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.fail(run, "f/a");
        w.cancel(run, None, false);
        w.report(run, "c/a", finished(Outcome::Stopped));
        w.succeed(run, "f/finally/clean");
        w.succeed(run, "c/finally/clean");
    }), @r#"
    run created
    run started, attempt 1
    f opened with 3 inside
    c opened with 3 inside
    f/a queued
    c/a queued
    f/a #1 dispatched t1.1 to w1
    c/a #1 dispatched t1.2 to w1
      → w1: do f/a t1.1 #1 n=1
      → w1: do c/a t1.2 #1 n=2
    f/a #1 started t1.1
    f/a #1 failed (failure: exited with 1)
    f/b upstream_failed because of f/a
    f/finally/clean queued
    f/finally/clean #1 dispatched t1.3 to w1
      → w1: do f/finally/clean t1.3 #1 state="failed" a=null
    run stopping, cancelled
    f closing, cancelled
    c closing, cancelled
    c/a #1 stopping t1.2, cancelled
    c/b cancelled (cancelled: the run was cancelled)
      → w1: stop c/a t1.2
    c/a #1 cancelled (cancelled: the run was cancelled)
    c/finally/clean queued
    c/finally/clean #1 dispatched t1.4 to w1
      → w1: do c/finally/clean t1.4 #1 state="cancelled" a=null
    f/finally/clean #1 started t1.3
    f/finally/clean #1 success
    f cancelled (cancelled: the run was cancelled)
    c/finally/clean #1 started t1.4
    c/finally/clean #1 success
    c cancelled (cancelled: the run was cancelled)
    run cancelled (cancelled: the run was cancelled)
    "#);
}

#[test]
fn a_second_cancel_ends_the_finally_of_a_call_too() {
    assert_snapshot!(trace(&plan(vec![call("c", called(), &[("n", "2")])]), |w, run| {
        w.cancel(run, Some("c"), false);
        w.report(run, "c/a", finished(Outcome::Stopped));
        w.cancel(run, Some("c"), false);
        w.report(run, "c/finally/clean", finished(Outcome::Stopped));
    }), @r#"
    run created
    run started, attempt 1
    c opened with 3 inside
    c/a queued
    c/a #1 dispatched t1.1 to w1
      → w1: do c/a t1.1 #1 n=2
    c closing, cancelled
    c/a #1 stopping t1.1, cancelled
    c/b cancelled (cancelled: cancelled by ann)
      → w1: stop c/a t1.1
    c/a #1 cancelled (cancelled: cancelled by ann)
    c/finally/clean queued
    c/finally/clean #1 dispatched t1.2 to w1
      → w1: do c/finally/clean t1.2 #1 state="cancelled" a=null
    c/finally/clean #1 stopping t1.2, cancelled
      → w1: stop c/finally/clean t1.2
    c/finally/clean #1 cancelled (cancelled: cancelled by ann)
    c cancelled (cancelled: cancelled by ann)
    run failed (task_failed: c was cancelled by ann)
    "#);
}

/// Answers the compiler's part for the last DAG that was asked for.
fn compile(world: &mut World, result: Result<Vec<super::build::Build>, &str>) {
    let asked = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Compile(ask) => Some((ask.run, ask.path.clone(), ask.generation)),
        _ => None,
    });
    let (run, path, generation) = asked.expect("a DAG to compile");
    let result = result.map(|tasks| Arc::new(scope(tasks))).map_err(Into::into);
    world.ask(Command::Compiled { run, path, generation, result });
}

#[test]
fn a_generated_dag_is_compiled_off_the_loop_and_kept() {
    let tasks = vec![task("a"), generated("g", "tasks.a.output").after(&["a"])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "a", json!({"x": 1}));
        w.reload(Span::ZERO);
        w.join("w1", 4);
        compile(w, Ok(vec![task("x").input("v", "1"), task("y").after(&["x"])]));
        w.succeed_with(run, "g/x", json!(1));
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.succeed_with(run, "g/y", json!(2));
        assert_eq!(output(w, run, "g"), json!({"x": 1, "y": 2}));
    }), @r#"
    run created
    run started, attempt 1
    a queued
    a #1 dispatched t1.1 to w1
      → w1: do a t1.1 #1
    a #1 started t1.1
    a #1 success
      → compile {"x":1} for g
    -- reload, 0s later
      → compile {"x":1} for g
    g opened with 2 inside
    g/x queued
    g/x #1 dispatched t2.1 to w1
      → w1: do g/x t2.1 #1 v=1
    g/x #1 started t2.1
    g/x #1 success
    g/y queued
    g/y #1 dispatched t2.2 to w1
      → w1: do g/y t2.2 #1
    -- reload, 0s later
      → w1: do g/y t2.2 #1
    g/y #1 started t2.2
    g/y #1 success
    g success
    run success
    "#);
}

#[test]
fn a_dag_that_does_not_compile_fails_its_task() {
    assert_snapshot!(trace(&plan(vec![generated("g", "1"), generated("h", "2")]), |w, run| {
        compile(w, Err("tasks:1:1: error: no DAG"));
        w.cancel(run, Some("g"), false);
    }), @r#"
    run created
    run started, attempt 1
      → compile 1 for g
      → compile 2 for h
    h failed (expression: what `tasks` came to is no DAG)
    g cancelled (cancelled: cancelled by ann)
    run failed (task_failed: 2 tasks failed: g, h)
    "#);
}

#[test]
fn a_retry_does_again_what_failed_at_any_depth_and_keeps_the_rest() {
    let inner = vec![task("x").input("i", "item"), task("y").after(&["x"])];
    let tasks = vec![group("m", inner).each(json!([1, 2, 3])).parallel(2), task("z").after(&["m"])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed(run, "m[0]/x");
        w.succeed(run, "m[1]/x");
        w.succeed(run, "m[0]/y");
        w.fail(run, "m[1]/y");
        w.succeed(run, "m[2]/x");
        w.succeed(run, "m[2]/y");
        w.note("retry");
        w.retry(run, RetrySelection::Failed).unwrap();
        w.reload(Span::ZERO);
        w.join("w1", 4);
        w.succeed(run, "m[1]/y");
        w.succeed(run, "z");
    }), @r#"
      run created
      run started, attempt 1
      m opened with 3 inside
      m[0] opened with 2 inside
      m[1] opened with 2 inside
      m[0]/x queued
      m[1]/x queued
      m[0]/x #1 dispatched t1.1 to w1
      m[1]/x #1 dispatched t1.2 to w1
        → w1: do m[0]/x t1.1 #1 i=1
        → w1: do m[1]/x t1.2 #1 i=2
      m[0]/x #1 started t1.1
      m[0]/x #1 success
      m[0]/y queued
      m[0]/y #1 dispatched t1.3 to w1
        → w1: do m[0]/y t1.3 #1
      m[1]/x #1 started t1.2
      m[1]/x #1 success
      m[1]/y queued
      m[1]/y #1 dispatched t1.4 to w1
        → w1: do m[1]/y t1.4 #1
      m[0]/y #1 started t1.3
      m[0]/y #1 success
      m[0] success
      m[2] opened with 2 inside
      m[2]/x queued
      m[2]/x #1 dispatched t1.5 to w1
        → w1: do m[2]/x t1.5 #1 i=3
      m[1]/y #1 started t1.4
      m[1]/y #1 failed (failure: exited with 1)
      m[1] failed (task_failed: m[1]/y failed: exited with 1)
      m[2]/x #1 started t1.5
      m[2]/x #1 success
      m[2]/y queued
      m[2]/y #1 dispatched t1.6 to w1
        → w1: do m[2]/y t1.6 #1
      m[2]/y #1 started t1.6
      m[2]/y #1 success
      m[2] success
      m failed (task_failed: 1 of 3 items failed, 0 tolerated (m[1]): m[1]/y failed: exited with 1)
      z upstream_failed because of m
      run failed (task_failed: m failed: 1 of 3 items failed, 0 tolerated (m[1]): m[1]/y failed: exited with 1)
    > retry
      run reopened, attempt 2
      m reset, generation 2
      z reset, generation 2
      m[1] reset, generation 2
      m[1]/y reset, generation 2
      run started, attempt 2
      m opened with 3 inside, kept
      m[1] opened with 2 inside, kept
      m[1]/y queued
      m[1]/y #1 dispatched t1.7 to w1
        → w1: do m[1]/y t1.7 #1
      -- reload, 0s later
        → w1: do m[1]/y t1.7 #1
      m[1]/y #1 started t1.7
      m[1]/y #1 success
      m[1] success
      m success
      z queued
      z #1 dispatched t2.1 to w1
        → w1: do z t2.1 #1
      z #1 started t2.1
      z #1 success
      run success
    "#);
}

#[test]
fn a_retry_of_a_whole_map_makes_its_items_anew() {
    let tasks = vec![task("a"), task("m").each_of("tasks.a.output").after(&["a"])];
    let mut world = World::with_worker(4);
    let run = world.create(1, &plan(tasks));
    world.succeed_with(run, "a", json!([1, 2]));
    world.succeed(run, "m[0]");
    world.succeed(run, "m[1]");
    world.retry(run, RetrySelection::Tasks(vec!["a".into()])).unwrap();
    world.succeed_with(run, "a", json!([5]));
    assert_eq!(world.task(run, "m[0]").generation, 2);
    assert_eq!(world.task(run, "m[1]").state, TaskState::Success, "it is of an earlier time");
    world.reload(Span::ZERO);
    world.join("w1", 4);
    world.succeed_with(run, "m[0]", json!(6));
    assert_eq!(output(&world, run, "m"), json!([6]));
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn a_retry_of_a_call_does_its_finally_again() {
    let tasks = vec![call("c", called(), &[("n", "1")])];
    assert_snapshot!(trace(&plan(tasks), |w, run| {
        w.succeed_with(run, "c/a", json!(1));
        w.fail(run, "c/b");
        w.succeed(run, "c/finally/clean");
        w.note("retry");
        w.retry(run, RetrySelection::Failed).unwrap();
        w.succeed_with(run, "c/b", json!(1));
        w.succeed(run, "c/finally/clean");
        assert_eq!(output(w, run, "c"), json!(6));
    }), @r#"
      run created
      run started, attempt 1
      c opened with 3 inside
      c/a queued
      c/a #1 dispatched t1.1 to w1
        → w1: do c/a t1.1 #1 n=1
      c/a #1 started t1.1
      c/a #1 success
      c/b queued
      c/b #1 dispatched t1.2 to w1
        → w1: do c/b t1.2 #1
      c/b #1 started t1.2
      c/b #1 failed (failure: exited with 1)
      c/finally/clean queued
      c/finally/clean #1 dispatched t1.3 to w1
        → w1: do c/finally/clean t1.3 #1 state="failed" a=1
      c/finally/clean #1 started t1.3
      c/finally/clean #1 success
      c failed (task_failed: c/b failed: exited with 1)
      run failed (task_failed: c failed: c/b failed: exited with 1)
    > retry
      run reopened, attempt 2
      c reset, generation 2
      c/b reset, generation 2
      run started, attempt 2
      c/finally/clean reset, generation 2
      c opened with 3 inside, kept
      c/b queued
      c/b #1 dispatched t1.4 to w1
        → w1: do c/b t1.4 #1
      c/b #1 started t1.4
      c/b #1 success
      c/finally/clean queued
      c/finally/clean #1 dispatched t1.5 to w1
        → w1: do c/finally/clean t1.5 #1 state="success" a=1
      c/finally/clean #1 started t1.5
      c/finally/clean #1 success
      c success
      run success
    "#);
}

/// A map of many items, with a list that is kept as a blob; restarts on the way.
#[test]
fn a_long_list_is_loaded_again_after_a_restart() {
    let list: Vec<_> = (0..1_000).map(|n| format!("item {n}")).collect();
    let mut world = World::with_worker(10).bare();
    let run = world.create(1, &plan(vec![task("m").each(json!(list)).input("x", "item")]));
    assert!(world.tasks.len() < 400, "{} rows at once", world.tasks.len());
    let mut next = 0;
    let fetch = |world: &mut World| {
        let mut out = Out::default();
        let fetches = world.effects.iter().filter_map(|effect| match effect {
            Effect::Fetch { digest } => Some(*digest),
            _ => None,
        });
        for digest in fetches.collect::<Vec<_>>() {
            let value = Arc::new(serde_json::from_slice(&world.blobs[&digest]).unwrap());
            let command = Command::Fetched { digest, value: Ok(value) };
            world.machine.apply(command, world.now, &mut out).unwrap();
        }
        out
    };
    for path in ["m[0]", "m[1]"] {
        world.succeed(run, path);
    }
    world.effects.clear();
    world.reload(Span::ZERO);
    world.join("w1", 10);
    let out = fetch(&mut world);
    world.keep(out);
    world.pass(Span::ZERO);
    succeed_all(&mut world, &mut next, |path| json!(path));
    assert_eq!(world.runs[&run].state, RunState::Success);
    let listed = output(&world, run, "m");
    assert_eq!(listed.as_array().map(Vec::len), Some(1_000));
    assert_eq!(listed[999], json!("m[999]"));
}
