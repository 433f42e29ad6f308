//! Plans without YAML.

use ork_core::plan::{Action, Binding, Expr, Plan, Retry, Scope, Task, TriggerRule};
use ork_core::time::Span;
use serde_json::json;

/// A task that does nothing in particular, to be changed by the calls below.
pub(crate) fn task(name: &str) -> Build {
    Build { after: Vec::new(), task: bare(name) }
}

/// A task with the names of its upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    after: Vec<String>,
    task: Task,
}

impl Build {
    pub(crate) fn after(mut self, names: &[&str]) -> Self {
        self.after = names.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn rule(self, rule: TriggerRule) -> Self {
        self.with(|task| task.trigger_rule = rule)
    }

    pub(crate) fn when(self, expr: &str) -> Self {
        self.with(|task| task.when = Some(Expr::new(expr)))
    }

    pub(crate) fn retries(self, max: u32) -> Self {
        self.with(|task| task.retry = Retry { max, jitter: false, ..Retry::default() })
    }

    pub(crate) fn timeout(self, secs: i64) -> Self {
        self.with(|task| task.timeout = Some(Span::from_secs(secs)))
    }

    pub(crate) fn input(self, name: &str, expr: &str) -> Self {
        self.with(|task| {
            task.inputs.insert(name.into(), Binding::Expr(Expr::new(expr)));
        })
    }

    pub(crate) fn allow_failure(self) -> Self {
        self.with(|task| task.allow_failure = true)
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Task)) -> Self {
        change(&mut self.task);
        self
    }
}

fn bare(name: &str) -> Task {
    let spec = Binding::Const(json!({ "does": name }));
    Task::new(name, Action::Execute { executor: "test".into(), spec })
}

fn scope(builds: Vec<Build>) -> Scope {
    let names: Vec<_> = builds.iter().map(|b| b.task.name.clone()).collect();
    let place = |name: &String| names.iter().position(|n| n == name).expect("an upstream's name");
    let tasks = builds.into_iter().map(|Build { after, mut task }| {
        task.upstreams = after.iter().map(place).collect();
        task
    });
    Scope { tasks: tasks.collect() }
}

/// A workflow of these tasks.
pub(crate) fn plan(body: Vec<Build>) -> Plan {
    Plan::new("w", scope(body))
}

/// The same with tasks in `finally`.
pub(crate) fn plan_with_finally(body: Vec<Build>, finally: Vec<Build>) -> Plan {
    Plan { finally: scope(finally), ..plan(body) }
}
