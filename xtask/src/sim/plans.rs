//! Small workflows by chance.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::plan::{
    Action, Approval, Backoff, Binding, Cache, Catchup, Concurrency, Expr, ForEach, Items, OnLimit,
    OnReject, OnTimeout, Param, Pinned, Plan, Poll, PoolUse, Retry, Schedule, Scope, Task,
    Tolerate, Trigger, TriggerRule, Wait, WebhookAuth, When,
};
use ork_core::rows::{CodeRef, VersionId};
use ork_core::run::RunState;
use ork_core::schedule::Timetable;
use ork_core::time::{Span, Wall};
use ork_core::types::Type;
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

/// The signal that waits are for.
pub(super) const SIGNAL: &str = "go";
/// The name of the webhooks.
pub(super) const HOOK: &str = "hook";
/// What the spec of a sensor is, which its worker sees.
pub(super) const SENSOR: &str = "sensor";

/// A workflow: what may be deployed of it, and the one that it calls, if it does.
pub(super) struct Workflow {
    pub(super) contents: Vec<Arc<Plan>>,
    pub(super) called: Option<Arc<Plan>>,
}

/// A workflow by chance.
pub(super) fn workflow(chance: &mut Chance, name: &str, start: Wall) -> Workflow {
    let most = if chance.one_in(4) { 8 } else { 4 };
    let mut plan = small(chance, name, most);
    let mut callee = None;
    if chance.one_in(2) {
        callee = chance.one_in(3).then(|| Arc::new(called(chance, name)));
        let mut maker = Maker { chance, called: callee.clone(), left: 5 };
        maker.deepen(&mut plan.body, 0);
        maker.deepen(&mut plan.finally, 1);
    }
    let mut spice = Spice { waits: chance.one_in(3), limits: chance.one_in(3), chance, start };
    spice.season(&mut plan.body);
    spice.season(&mut plan.finally);
    govern(chance, &mut plan, start);
    let second = other(chance, &plan, start);
    let third = other(chance, &plan, start);
    let contents = [plan, second, third].into_iter().map(Arc::new).collect();
    Workflow { contents, called: callee }
}

/// Lets the ends of another workflow's runs start runs of this one, in most of its contents, and
/// gives it a webhook, and some a schedule.
pub(super) fn link(
    chance: &mut Chance,
    workflow: &mut Workflow,
    before: Option<&str>,
    start: Wall,
) {
    let clock = chance.one_in(2).then(|| schedule(chance, start));
    for plan in &mut workflow.contents {
        let plan = Arc::make_mut(plan);
        let k = IndexMap::from([("k".to_owned(), Binding::Expr(Expr::new("trigger.body.k")))]);
        let body = Type::object(IndexMap::from([("k".to_owned(), Type::Int)]));
        let hook = Trigger::Webhook { body, auth: WebhookAuth::Token, params: k };
        plan.triggers.insert(HOOK.to_owned(), hook);
        plan.schedules.extend(clock.clone().map(|clock| ("clock".to_owned(), clock)));
        if let Some(before) = before.filter(|_| !chance.one_in(4)) {
            plan.triggers.insert("after".to_owned(), after(chance, before));
        }
    }
}

fn after(chance: &mut Chance, before: &str) -> Trigger {
    let k = chance.pick(&["0", "trigger.run.state == 'success' ? 1 : 0"]);
    let states: &[RunState] = chance.pick(&[
        &[RunState::Success][..],
        &[RunState::Failed, RunState::Cancelled],
        &[RunState::Success, RunState::Failed, RunState::Cancelled],
    ]);
    Trigger::Workflow {
        workflow: before.to_owned(),
        states: states.to_vec(),
        params: IndexMap::from([("k".to_owned(), Binding::Expr(Expr::new(k)))]),
    }
}

/// The last task gets a name on which the machine panics where that is broken on purpose.
pub(super) fn explode(workflow: &mut Workflow) {
    for plan in &mut workflow.contents {
        if let Some(task) = Arc::make_mut(plan).body.tasks.last_mut() {
            task.name = "boom".into();
        }
    }
}

/// The same workflow with other limits, other schedules, and another task.
fn other(chance: &mut Chance, plan: &Plan, start: Wall) -> Plan {
    let mut other = plan.clone();
    govern(chance, &mut other, start);
    let place = chance.below(other.body.tasks.len());
    if let Action::Execute { spec, .. } = &mut other.body.tasks[place].action
        && chance.one_in(2)
    {
        *spec = Binding::Const(Value::from(chance.below(3)));
    }
    other
}

fn called(chance: &mut Chance, by: &str) -> Plan {
    let mut plan = small(chance, &format!("{by}-called"), 2);
    plan.concurrency = chance.one_in(3).then(|| concurrency(chance));
    plan
}

/// How many runs there may be, and when they are made by themselves.
fn govern(chance: &mut Chance, plan: &mut Plan, start: Wall) {
    plan.concurrency = chance.one_in(4).then(|| concurrency(chance));
    plan.schedules.clear();
    if chance.one_in(5) {
        for number in 0..=chance.below(2) {
            plan.schedules.insert(format!("s{number}"), schedule(chance, start));
        }
    }
}

fn concurrency(chance: &mut Chance) -> Concurrency {
    Concurrency {
        max_runs: 1 + u32::try_from(chance.below(2)).unwrap_or(0),
        key: chance.one_in(2).then(|| Expr::new("params.k")),
        on_limit: chance.pick(&[
            OnLimit::Queue,
            OnLimit::Queue,
            OnLimit::Skip,
            OnLimit::CancelOldest,
        ]),
    }
}

fn schedule(chance: &mut Chance, start: Wall) -> Schedule {
    let at = |secs: i64| Wall(start.0 + secs * 1_000_000);
    let (when, many) = match chance.below(5) {
        0 => (When::Interval(Span::from_secs(7)), true),
        1 => (When::Interval(Span::from_secs(60)), true),
        2 => (When::Cron("* * * * *".into()), true),
        3 => (When::Interval(Span::from_secs(1_200)), false),
        _ => (When::At(vec![at(3), at(9), at(chance.between(0, 4_000))]), false),
    };
    let few = [Catchup::None, Catchup::Last, Catchup::Max(2), Catchup::All];
    Schedule {
        when,
        timezone: chance.pick(&["UTC", "Europe/Berlin", "Asia/Kathmandu"]).into(),
        catchup: chance.pick(if many { &few[..3] } else { &few[..] }),
        jitter: Span::from_secs(if chance.one_in(3) { 3 } else { 0 }),
        params: IndexMap::new(),
        paused: chance.one_in(6),
    }
}

/// Makes waits of some tasks, and lets others ask for what is limited.
struct Spice<'c> {
    chance: &'c mut Chance,
    start: Wall,
    waits: bool,
    limits: bool,
}

impl Spice<'_> {
    fn season(&mut self, scope: &mut Scope) {
        for task in &mut scope.tasks {
            match &mut task.action {
                Action::Group { tasks, .. } => self.season(tasks),
                Action::Execute { .. } => {
                    if self.waits && self.chance.one_in(2) {
                        self.wait(task);
                    }
                    if self.limits {
                        self.limit(task);
                    }
                }
                _ => {}
            }
        }
    }

    fn wait(&mut self, task: &mut Task) {
        let chance = &mut *self.chance;
        match chance.below(7) {
            0 => task.action = Action::Wait(Wait::For(Span::from_millis(chance.between(0, 9_000)))),
            1 => {
                let until = Wall(self.start.0 + chance.between(-5, 60) * 1_000_000);
                let until = Binding::Const(Value::from(iso(until)));
                task.action = Action::Wait(Wait::Until(until));
            }
            2 => {
                task.action = Action::Wait(Wait::Event(Binding::Const(Value::from(SIGNAL))));
            }
            3 => task.action = Action::Approval(Box::new(approval(chance))),
            4 | 5 => {
                let spec = Binding::Const(Value::from(SENSOR));
                task.action = Action::Execute { executor: "sim".into(), spec };
                task.poll = Some(Box::new(Poll {
                    every: Span::from_millis(chance.between(100, 4_000)),
                    timeout: chance.one_in(2).then(|| Span::from_secs(chance.between(1, 30))),
                    until: chance.one_in(3).then(|| Expr::new("output != 1")),
                }));
            }
            _ => {
                let millis = chance.between(300, 3_000);
                task.heartbeat_timeout = Some(Span::from_millis(millis));
            }
        }
        if !matches!(task.action, Action::Execute { .. }) {
            task.inputs.clear();
            task.retry = Retry::default();
        }
    }

    fn limit(&mut self, task: &mut Task) {
        if !matches!(task.action, Action::Execute { .. }) {
            return;
        }
        let chance = &mut *self.chance;
        task.priority = chance.pick(&[0, 0, 5, -3]);
        task.worker_queue = chance.one_in(4).then(|| "q".into());
        let within = chance.between(500, 20_000);
        task.start_within = chance.one_in(8).then(|| Span::from_millis(within));
        task.cache = chance.one_in(6).then(|| {
            let ttl = chance.one_in(2).then(|| Span::from_secs(chance.between(1, 20)));
            Box::new(Cache { key: Expr::new("1"), ttl })
        });
        if chance.one_in(3) {
            let name = match chance.below(3) {
                0 => Binding::Expr(Expr::new("'pool' + string(params.k)")),
                _ => Binding::Const(Value::from("pool0")),
            };
            let slots = 1 + u32::try_from(chance.below(2)).unwrap_or(0);
            let of = (!chance.one_in(12)).then_some(2);
            task.pool = Some(Box::new(PoolUse { name, slots, of }));
        }
    }
}

fn approval(chance: &mut Chance) -> Approval {
    Approval {
        prompt: Binding::Const(Value::from("go on?")),
        on_reject: chance.pick(&[OnReject::Skip, OnReject::Fail, OnReject::Continue]),
        on_timeout: chance.pick(&[OnTimeout::Fail, OnTimeout::Approve, OnTimeout::Reject]),
        ..Approval::default()
    }
}

/// An instant as a file writes it.
fn iso(at: Wall) -> String {
    let table = Timetable::new(&When::At(vec![at]), "UTC").ok();
    let tick = table.and_then(|table| table.next(Wall(at.0 - 1)));
    tick.map(|tick| tick.logical_time()).unwrap_or_default()
}

fn small(chance: &mut Chance, name: &str, most: usize) -> Plan {
    let body = 1 + chance.below(most);
    let finally = if chance.one_in(3) { 1 + chance.below(2) } else { 0 };
    let timeout = chance.one_in(8).then(|| Span::from_secs(chance.between(3, 40)));
    let body = scope(chance, body, 't');
    let finally = scope(chance, finally, 'f');
    let default = Some(Binding::Const(Value::from(0)));
    let k = Param { ty: Type::Int, default, description: None };
    let params = IndexMap::from([("k".to_owned(), k)]);
    Plan { timeout, finally, params, ..Plan::new(name, body) }
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
