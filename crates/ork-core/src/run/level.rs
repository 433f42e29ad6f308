//! The DAGs of a run: as they are written, and as they are instantiated.

use std::ops::Deref;
use std::sync::Arc;

use crate::plan::{Action, Plan, Scope, Task};
use crate::rows::CodeRef;
use crate::run::instance::Ix;
use crate::run::{Failure, RunState};
use crate::value::Value;

/// Where a DAG stands in its workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Under `tasks`.
    Body,
    /// Under `finally`.
    Finally,
}

/// Where the way to a DAG begins.
#[derive(Clone, Debug)]
pub(super) enum Root {
    /// A workflow's tasks.
    Body(Arc<Plan>),
    /// A workflow's `finally`.
    Finally(Arc<Plan>),
    /// A DAG that was made at run time.
    Made(Arc<Scope>),
}

/// A DAG as it is written, and its edges the other way round. All its instantiations share it.
#[derive(Debug)]
pub(super) struct Shape {
    root: Root,
    /// The groups on the way from the root, each by its position.
    steps: Box<[u32]>,
    /// Downstreams: those of task `i` are `targets[starts[i]..starts[i + 1]]`.
    starts: Box<[u32]>,
    targets: Box<[u32]>,
}

impl Shape {
    /// The DAG at the root.
    pub(super) fn of(root: Root) -> Arc<Self> {
        Self::at(root, Box::default())
    }

    /// The DAG of the group at `task` of another.
    pub(super) fn inside(outer: &Self, task: u32) -> Arc<Self> {
        let steps = outer.steps.iter().copied().chain([task]).collect();
        Self::at(outer.root.clone(), steps)
    }

    /// Whether nothing around it can be named in it.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(self.root, Root::Made(_)) && self.steps.is_empty()
    }

    fn at(root: Root, steps: Box<[u32]>) -> Arc<Self> {
        let (starts, targets) = downstreams(walk(&root, &steps));
        Arc::new(Self { root, steps, starts, targets })
    }

    /// The DAG itself.
    pub(super) fn scope(&self) -> &Scope {
        walk(&self.root, &self.steps)
    }

    /// The task at a position.
    pub(super) fn task(&self, task: u32) -> &Task {
        &self.scope().tasks[task as usize]
    }

    /// The positions of the tasks that have the one at `task` as an upstream.
    pub(super) fn downs(&self, task: u32) -> &[u32] {
        let (from, to) = (self.starts[task as usize], self.starts[task as usize + 1]);
        &self.targets[from as usize..to as usize]
    }
}

fn walk<'r>(root: &'r Root, steps: &[u32]) -> &'r Scope {
    let first = match root {
        Root::Body(plan) => &plan.body,
        Root::Finally(plan) => &plan.finally,
        Root::Made(scope) => scope,
    };
    steps.iter().fold(first, |scope, step| match &scope.tasks[*step as usize].action {
        Action::Group { tasks, .. } => tasks,
        _ => scope,
    })
}

fn downstreams(scope: &Scope) -> (Box<[u32]>, Box<[u32]>) {
    let mut starts = vec![0; scope.tasks.len() + 1];
    for upstream in scope.tasks.iter().flat_map(|task| &task.upstreams) {
        starts[upstream + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut targets = vec![0; starts.last().copied().unwrap_or(0) as usize];
    for (i, task) in (0..).zip(&scope.tasks) {
        for &upstream in &task.upstreams {
            targets[next[upstream] as usize] = i;
            next[upstream] += 1;
        }
    }
    (starts.into(), targets.into())
}

/// The instances of a DAG.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) shape: Arc<Shape>,
    /// The workflow that it belongs to, among the run's.
    pub(super) frame: u32,
    /// The instance whose inside it is; none: the run's own.
    pub(super) owner: Option<Ix>,
    /// Whether it belongs to its workflow's `finally`.
    pub(super) part: Part,
    /// Its first instance; the others follow in the plan's order.
    pub(super) first: u32,
    /// How many it has.
    pub(super) len: u32,
    /// How many of them are not over.
    pub(super) open: u32,
}

impl Level {
    /// The instance of the task at `task`.
    pub(super) fn ix(&self, task: u32) -> Ix {
        Ix(self.first + task)
    }

    /// Whether the instance is one of its own.
    pub(super) fn has(&self, ix: Ix) -> bool {
        (self.first..self.first + self.len).contains(&ix.0)
    }

    /// All its instances.
    pub(super) fn all(&self) -> impl Iterator<Item = Ix> + use<> {
        (self.first..self.first + self.len).map(Ix)
    }
}

/// How a workflow's body ended, as its `finally` sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BodyEnd {
    pub(super) state: RunState,
    pub(super) failure: Option<Failure>,
    pub(super) failed: Vec<String>,
}

/// A workflow under way: the run's own, or one that an instance calls.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) plan: Arc<Plan>,
    /// The params, checked, defaults filled in.
    pub(super) params: Value,
    pub(super) code: CodeRef,
    /// The instance that calls it; none: it is the run's own.
    pub(super) owner: Option<Ix>,
    /// The level of its tasks.
    pub(super) body: u32,
    /// The level of its `finally`.
    pub(super) finally: u32,
    /// How the body ended, once it has.
    pub(super) end: Option<BodyEnd>,
}

/// A task, apart from its run.
pub(super) struct Held {
    shape: Arc<Shape>,
    task: u32,
}

impl Held {
    /// The task at a position of a DAG.
    pub(super) fn new(shape: &Arc<Shape>, task: u32) -> Self {
        Self { shape: Arc::clone(shape), task }
    }
}

impl Deref for Held {
    type Target = Task;

    fn deref(&self) -> &Task {
        self.shape.task(self.task)
    }
}
