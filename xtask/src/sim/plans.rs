//! Small workflows by chance.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::plan::{
    Action, Backoff, Binding, Expr, ForEach, Items, Pinned, Plan, Retry, Scope, Task, Tolerate,
    TriggerRule,
};
use ork_core::rows::{CodeRef, VersionId};
use ork_core::time::Span;
use ork_core::value::{Digest, Value};

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
    let mut plan = small(chance, name, most);
    if chance.one_in(2) {
        let called = chance.one_in(3).then(|| Arc::new(small(chance, "called", 2)));
        let mut maker = Maker { chance, called, left: 5 };
        maker.deepen(&mut plan.body, 0);
        maker.deepen(&mut plan.finally, 1);
    }
    plan
}

fn small(chance: &mut Chance, name: &str, most: usize) -> Plan {
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

/// Makes groups, maps, calls and generated DAGs of some tasks, and of some inside those.
struct Maker<'c> {
    chance: &'c mut Chance,
    /// A workflow to be called.
    called: Option<Arc<Plan>>,
    /// How many more insides there may be.
    left: usize,
}

impl Maker<'_> {
    fn deepen(&mut self, scope: &mut Scope, depth: usize) {
        for task in &mut scope.tasks {
            if self.left > 0 && self.chance.one_in(2) {
                self.left -= 1;
                if self.chance.one_in(2) {
                    self.fill(task, depth);
                }
                if self.chance.one_in(2) {
                    task.for_each = Some(Box::new(self.each()));
                }
            }
        }
    }

    /// Puts something inside a task.
    fn fill(&mut self, task: &mut Task, depth: usize) {
        let size = 1 + self.chance.below(3);
        let letter = if depth == 0 { 'i' } else { 'j' };
        let mut tasks = scope(self.chance, size, letter);
        if depth < 2 {
            self.deepen(&mut tasks, depth + 1);
        }
        task.action = match (self.chance.below(4), &self.called) {
            (0, Some(called)) => Action::Call {
                workflow: called.name.clone(),
                params: IndexMap::new(),
                pinned: Some(Box::new(Pinned {
                    version: VersionId(1),
                    plan: Arc::clone(called),
                    code: CodeRef::InPlace { root: String::new(), digest: Digest::of(&[]) },
                })),
            },
            (1, _) => generated(&tasks),
            _ => Action::Group { tasks, output: None },
        };
        task.timeout =
            self.chance.one_in(6).then(|| Span::from_millis(self.chance.between(500, 20_000)));
        task.inputs.clear();
    }

    fn each(&mut self) -> ForEach {
        let size = self.chance.below(5);
        let items = Value::from((0..size).collect::<Vec<_>>());
        let most = u32::try_from(self.chance.below(3)).unwrap_or(0);
        ForEach {
            items: Items::List(Binding::Const(items)),
            name: None,
            item_type: None,
            key: self.chance.one_in(3).then(|| Expr::new("'k' + string(item)")),
            when: self.chance.one_in(4).then(|| Expr::new("item != 1")),
            max_parallel: self.chance.one_in(2).then_some(most + 1),
            tolerate: self.chance.pick(&[
                Tolerate::Count(0),
                Tolerate::Count(1),
                Tolerate::Percent(50.0),
                Tolerate::All,
            ]),
            fail_fast: self.chance.one_in(3),
        }
    }
}

/// A DAG whose text the simulated compiler takes as it is.
fn generated(tasks: &Scope) -> Action {
    let text = serde_json::to_value(tasks).unwrap_or_default();
    Action::Generate { tasks: Expr::new(literal(&text)), allow: Vec::new(), output: None }
}

/// A value as an expression.
fn literal(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("'{key}': {}", literal(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => {
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
        }
        other => other.to_string(),
    }
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
