//! Plans without YAML.

use std::sync::Arc;

use ork_core::plan::{
    Action, Binding, Expr, ForEach, Items, Pinned, Plan, Retry, Scope, Task, Tolerate, TriggerRule,
};
use ork_core::rows::{CodeRef, VersionId};
use ork_core::time::Span;
use ork_core::value::Digest;
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

impl Build {
    /// The same as a group of these tasks. What only an attempt can have is gone.
    pub(crate) fn holding(self, tasks: Vec<Self>) -> Self {
        self.with(|task| {
            task.action = Action::Group { tasks: scope(tasks), output: None };
            task.retry = Retry::default();
        })
    }

    /// One instance an item of this list.
    pub(crate) fn each(self, items: serde_json::Value) -> Self {
        self.map(Items::List(Binding::Const(items)))
    }

    /// One instance an item of the list that this expression is.
    pub(crate) fn each_of(self, expr: &str) -> Self {
        self.map(Items::List(Binding::Expr(Expr::new(expr))))
    }

    pub(crate) fn map(self, items: Items) -> Self {
        let each = ForEach {
            items,
            name: None,
            item_type: None,
            key: None,
            when: None,
            max_parallel: None,
            tolerate: Tolerate::Count(0),
            fail_fast: false,
        };
        self.with(|task| task.for_each = Some(Box::new(each)))
    }

    /// Changes how it maps.
    pub(crate) fn mapped(self, change: impl FnOnce(&mut ForEach)) -> Self {
        self.with(|task| change(task.for_each.as_mut().expect("a map")))
    }

    pub(crate) fn parallel(self, most: u32) -> Self {
        self.mapped(|each| each.max_parallel = Some(most))
    }

    pub(crate) fn output(self, expr: &str) -> Self {
        self.with(|task| match &mut task.action {
            Action::Group { output, .. } | Action::Generate { output, .. } => {
                *output = Some(Binding::Expr(Expr::new(expr)));
            }
            _ => panic!("no group"),
        })
    }
}

/// A group of these tasks.
pub(crate) fn group(name: &str, tasks: Vec<Build>) -> Build {
    let action = Action::Group { tasks: scope(tasks), output: None };
    Build { after: Vec::new(), task: Task::new(name, action) }
}

/// A call of a workflow, with these params.
pub(crate) fn call(name: &str, plan: Plan, params: &[(&str, &str)]) -> Build {
    let expr = |(name, expr): &(&str, &str)| ((*name).to_owned(), Binding::Expr(Expr::new(*expr)));
    let code = CodeRef::InPlace { root: "/other".into(), digest: Digest::of(&[]) };
    let action = Action::Call {
        workflow: plan.name.clone(),
        params: params.iter().map(expr).collect(),
        pinned: Some(Box::new(Pinned { version: VersionId(3), plan: Arc::new(plan), code })),
    };
    Build { after: Vec::new(), task: Task::new(name, action) }
}

/// A DAG that an expression makes.
pub(crate) fn generated(name: &str, expr: &str) -> Build {
    let action = Action::Generate { tasks: Expr::new(expr), allow: vec![], output: None };
    Build { after: Vec::new(), task: Task::new(name, action) }
}

fn bare(name: &str) -> Task {
    let spec = Binding::Const(json!({ "does": name }));
    Task::new(name, Action::Execute { executor: "test".into(), spec })
}

pub(crate) fn scope(builds: Vec<Build>) -> Scope {
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
