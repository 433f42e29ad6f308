//! Small workflows by chance.

use indexmap::IndexMap;
use ork_core::plan::{
    Action, Backoff, Binding, Code, Expr, Metadata, Plan, Retry, Scope, Task, TriggerRule,
};
use ork_core::time::Span;
use ork_core::value::Value;

use crate::chance::Chance;

const RULES: [TriggerRule; 9] = [
    TriggerRule::AllSuccess,
    TriggerRule::AllDone,
    TriggerRule::AllFailed,
    TriggerRule::OneSuccess,
    TriggerRule::OneFailed,
    TriggerRule::OneDone,
    TriggerRule::NoneFailed,
    TriggerRule::NoneSkipped,
    TriggerRule::NoneFailedMinOneSuccess,
];

pub(super) fn plan(chance: &mut Chance, name: &str) -> Plan {
    let most = if chance.one_in(4) { 8 } else { 4 };
    let body = 1 + chance.below(most);
    let finally = if chance.one_in(3) { 1 + chance.below(2) } else { 0 };
    let timeout = chance.one_in(8).then(|| Span::from_secs(chance.between(3, 40)));
    let body = scope(chance, body, 't');
    let finally = scope(chance, finally, 'f');
    Plan { timeout, finally, ..Plan::new(name, body) }
}

fn scope(chance: &mut Chance, size: usize, letter: char) -> Scope {
    Scope { tasks: (0..size).map(|place| task(chance, place, letter)).collect() }
}

fn task(chance: &mut Chance, place: usize, letter: char) -> Task {
    let upstreams: Vec<usize> = (0..place).filter(|_| chance.one_in(2)).collect();
    let when = chance.one_in(6).then(|| {
        let upstream = upstreams.first();
        match (upstream, chance.below(3)) {
            (Some(upstream), 0) => Expr::new(format!("tasks.{letter}{upstream}.output == 1")),
            (_, 1) => Expr::new("false"),
            _ => Expr::new("true"),
        }
    });
    let action = Action::Execute { executor: "sim".into(), spec: Binding::Const(Value::Null) };
    Task {
        trigger_rule: if chance.one_in(2) { chance.pick(&RULES) } else { TriggerRule::AllSuccess },
        when,
        inputs: inputs(chance, &upstreams, letter),
        upstreams,
        retry: retry(chance),
        lost_retries: u32::try_from(chance.below(4)).unwrap_or(0),
        timeout: chance.one_in(4).then(|| Span::from_millis(chance.between(50, 8_000))),
        grace: Span::from_millis(chance.between(0, 3_000)),
        allow_failure: chance.one_in(5),
        ..Task::new(format!("{letter}{place}"), action)
    }
}

fn inputs(chance: &mut Chance, upstreams: &[usize], letter: char) -> IndexMap<String, Binding> {
    let mut inputs = IndexMap::new();
    if let Some(upstream) = upstreams.last().filter(|_| chance.one_in(6)) {
        let source = match chance.below(2) {
            0 => format!("tasks.{letter}{upstream}.output"),
            _ => format!("[tasks.{letter}{upstream}.output]"),
        };
        inputs.insert("x".to_owned(), Binding::Expr(Expr::new(source)));
    }
    inputs
}

fn retry(chance: &mut Chance) -> Retry {
    if chance.one_in(2) {
        return Retry::default();
    }
    Retry {
        max: u32::try_from(chance.below(4)).unwrap_or(0),
        delay: Span::from_millis(chance.between(0, 3_000)),
        backoff: chance.pick(&[Backoff::Constant, Backoff::Linear, Backoff::Exponential]),
        max_delay: Span::from_secs(10),
        jitter: chance.one_in(2),
        ..Retry::default()
    }
}
