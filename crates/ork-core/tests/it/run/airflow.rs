//! The trigger rules against Airflow's: a table of every combination of upstream states, up to three
//! upstreams, made by Airflow's own code (`airflow.py`).

use ork_core::ids::RunId;
use ork_core::plan::TriggerRule;
use ork_core::run::TaskState;
use serde_json::json;

use super::build::{Build, plan, task};
use super::world::World;

const TABLE: &str = include_str!("airflow.txt");

/// An upstream that ends in a state: `U` for the failure of what is before it.
fn upstream(name: &str, state: char) -> Vec<Build> {
    let before = format!("{name}-before");
    match state {
        'K' => vec![task(name).when("false")],
        'U' => vec![task(&before), task(name).after(&[&before])],
        _ => vec![task(name)],
    }
}

fn drive(world: &mut World, run: RunId, names: &[String], states: &[char]) {
    for (name, state) in names.iter().zip(states) {
        match state {
            'S' => world.succeed(run, name),
            'F' => world.fail(run, name),
            'U' => world.fail(run, &format!("{name}-before")),
            _ => {}
        }
    }
}

/// What becomes of a task with this rule after upstreams that end so, in this order.
fn outcome(rule: TriggerRule, states: &[char]) -> &'static str {
    let mut world = World::with_worker(9).bare();
    let names: Vec<_> = (0..states.len()).map(|n| format!("u{n}")).collect();
    let mut tasks: Vec<Build> =
        names.iter().zip(states).flat_map(|(name, state)| upstream(name, *state)).collect();
    let after: Vec<_> = names.iter().map(String::as_str).collect();
    tasks.push(task("t").after(&after).rule(rule));
    let run = world.create(1, &plan(tasks));
    drive(&mut world, run, &names, states);
    match world.state(run, "t") {
        TaskState::Dispatched => "runs",
        TaskState::Skipped => "skip",
        TaskState::UpstreamFailed => "fail",
        other => panic!("{rule:?} after {states:?}: {other:?}"),
    }
}

/// All orders of these states.
fn orders(states: &[char]) -> Vec<Vec<char>> {
    let Some((first, rest)) = states.split_first() else { return vec![Vec::new()] };
    let with = |order: Vec<char>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, *first);
            order
        })
    };
    orders(rest).into_iter().flat_map(with).collect()
}

#[test]
fn the_rules_mean_what_airflow_says() {
    let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<TriggerRule> = lines
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|word| serde_json::from_value(json!(word)).unwrap())
        .collect();
    assert_eq!(head.len(), 9);
    let (mut rows, mut differ) = (0, 0);
    for line in lines {
        let mut cells = line.split_whitespace();
        let states: Vec<char> = cells.next().unwrap().chars().collect();
        for (rule, cell) in head.iter().zip(cells) {
            let (airflow, ork) = cell.split_once('/').unwrap_or((cell, cell));
            differ += usize::from(airflow != ork);
            for order in orders(&states) {
                assert_eq!(outcome(*rule, &order), ork, "{rule:?} after {order:?}");
            }
        }
        rows += 1;
    }
    assert_eq!(rows, 4 + 10 + 20, "every combination");
    assert_eq!(differ, 6, "`one_done` where nothing is done but something failed before it");
}
