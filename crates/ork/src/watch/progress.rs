//! What is known of a run from its events. Pure: it reads no clock and draws nothing.

use indexmap::IndexMap;
use ork_api::types::{Event, LogChunk, Run, Task};
use ork_core::ids::InstancePath;
use ork_core::run::{EventKind, Failure, RunState, TaskState};
use ork_core::time::Wall;

use crate::lines;

/// How many of a task's newest lines are held.
const RECENT: usize = 10;

/// A run as far as its events tell.
pub(crate) struct Progress {
    pub(crate) state: RunState,
    pub(crate) failure: Option<Failure>,
    pub(crate) started: Option<Wall>,
    pub(crate) finished: Option<Wall>,
    /// The instances to which something has happened.
    pub(crate) tasks: IndexMap<InstancePath, TaskLine>,
    /// How many instances the run had from the start.
    created: usize,
    /// The run attempt that is watched; events of earlier ones only build the picture.
    wanted: u32,
    seen: u32,
}

/// An instance as far as its events tell.
#[derive(Clone, Debug)]
pub(crate) struct TaskLine {
    pub(crate) state: TaskState,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    pub(crate) started: Option<Wall>,
    pub(crate) finished: Option<Wall>,
    pub(crate) failure: Option<Failure>,
    pub(crate) cause: Option<InstancePath>,
    /// How many others are inside.
    inside: usize,
    /// Its newest lines.
    pub(crate) recent: Vec<String>,
}

impl Default for TaskLine {
    fn default() -> Self {
        Self {
            state: TaskState::Pending,
            generation: 1,
            attempt: 1,
            started: None,
            finished: None,
            failure: None,
            cause: None,
            inside: 0,
            recent: Vec::new(),
        }
    }
}

impl Progress {
    /// Nothing but the run itself is known.
    pub(crate) fn new(run: &Run) -> Self {
        Self {
            state: RunState::Pending,
            failure: None,
            started: None,
            finished: None,
            tasks: IndexMap::new(),
            created: 0,
            wanted: run.run_attempt,
            seen: 1,
        }
    }

    /// Whether the watched run attempt is over.
    pub(crate) fn is_over(&self) -> bool {
        self.is_current() && self.state.is_terminal()
    }

    /// Whether events are of the run attempt that is watched.
    pub(crate) fn is_current(&self) -> bool {
        self.seen >= self.wanted
    }

    /// Takes in an event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match &event.data {
            EventKind::RunCreated { tasks, .. } => {
                self.created = *tasks as usize;
            }
            EventKind::RunStarted { run_attempt, .. } => {
                self.seen = *run_attempt;
                self.state = RunState::Running;
                self.started = Some(event.at.0);
            }
            EventKind::RunReopened { run_attempt } => {
                self.seen = *run_attempt;
                self.state = RunState::Pending;
                (self.started, self.finished, self.failure) = (None, None, None);
            }
            EventKind::RunFinished { state, failure } => {
                self.state = *state;
                self.failure.clone_from(failure);
                self.finished = Some(event.at.0);
            }
            EventKind::RunStopping { .. }
            | EventKind::RunQuarantined { .. }
            | EventKind::RunPaused
            | EventKind::RunResumed
            | EventKind::SignalReceived { .. } => {}
            _ => self.apply_to_task(event),
        }
    }

    fn apply_to_task(&mut self, event: &Event) {
        let Some(path) = &event.path else { return };
        let task = self.tasks.entry(path.clone()).or_default();
        task.generation = event.generation.unwrap_or(task.generation);
        task.attempt = event.attempt.unwrap_or(task.attempt);
        match &event.data {
            EventKind::TaskReset { .. } => {
                *task = TaskLine { generation: task.generation, ..TaskLine::default() };
            }
            EventKind::TaskDeferred { .. } => {
                task.state = TaskState::Deferred;
                task.started.get_or_insert(event.at.0);
            }
            EventKind::TaskQueued | EventKind::TaskResumed | EventKind::TaskUnclaimed { .. } => {
                task.state = TaskState::Queued;
            }
            EventKind::TaskDispatched { .. } => task.state = TaskState::Dispatched,
            EventKind::TaskOpened { count, .. } => {
                task.state = TaskState::Running;
                task.started = Some(event.at.0);
                task.inside = *count as usize;
            }
            EventKind::TaskStarted { .. } => {
                task.state = TaskState::Running;
                task.started = Some(event.at.0);
            }
            EventKind::TaskStopping { .. } | EventKind::TaskClosing { .. } => {
                task.state = TaskState::Stopping;
            }
            EventKind::TaskRetrying { failure, .. } => {
                task.state = TaskState::Queued;
                task.failure = Some(failure.clone());
            }
            EventKind::TaskFinished { state, failure, cause, .. } => {
                task.state = *state;
                task.failure.clone_from(failure);
                task.cause.clone_from(cause);
                task.finished = Some(event.at.0);
            }
            _ => {}
        }
    }

    /// Takes in lines; says whether they are of an instance's present generation.
    pub(crate) fn log(&mut self, chunk: &LogChunk) -> bool {
        let task = self.tasks.entry(chunk.path.clone()).or_default();
        if chunk.generation < task.generation {
            return false;
        }
        let written = chunk.lines.iter().filter(|line| !line.text.trim().is_empty());
        let newest = written.rev().take(RECENT).map(lines::text).collect::<Vec<_>>();
        task.recent.extend(newest.into_iter().rev());
        let surplus = task.recent.len().saturating_sub(RECENT);
        task.recent.drain(..surplus);
        true
    }

    /// Takes the run as its resources show it, after events were missed.
    pub(crate) fn reread(&mut self, run: &Run, tasks: Vec<Task>) {
        self.seen = run.run_attempt;
        self.state = run.state;
        self.failure.clone_from(&run.failure);
        self.started = run.started_at.map(|at| at.0);
        self.finished = run.finished_at.map(|at| at.0);
        for task in tasks {
            let line = self.tasks.entry(task.path).or_default();
            line.state = task.state;
            line.generation = task.generation;
            line.attempt = task.attempt.max(1);
            line.started = task.started_at.map(|at| at.0);
            line.finished = task.finished_at.map(|at| at.0);
            line.failure = task.failure;
            line.cause = task.cause;
        }
    }

    /// How many instances there are, and how many in each state.
    pub(crate) fn summary(&self) -> String {
        let counts = self.counts();
        let counts: Vec<_> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let size = self.size();
        let tasks = if size == 1 { "task" } else { "tasks" };
        format!("{size} {tasks}: {}", counts.join(", "))
    }

    /// How many instances there are, with those to which nothing has happened yet.
    fn size(&self) -> usize {
        let inside: usize = self.tasks.values().map(|task| task.inside).sum();
        self.tasks.len().max(self.created + inside)
    }

    /// How many instances are in each state, in the order of the states' first instances.
    pub(crate) fn counts(&self) -> IndexMap<&'static str, usize> {
        let mut counts = IndexMap::new();
        for task in self.tasks.values() {
            *counts.entry(super::task_word(task.state)).or_insert(0) += 1;
        }
        let untouched = self.size() - self.tasks.len();
        if untouched > 0 {
            // Nothing more happens to them once the run is over.
            let over = self.state.is_terminal();
            let word = if over { "not begun" } else { super::task_word(TaskState::Pending) };
            *counts.entry(word).or_insert(0) += untouched;
        }
        counts
    }
}

impl TaskLine {
    /// How long it has taken until its end, or until `now`, in microseconds.
    pub(crate) fn took(&self, now: Wall) -> Option<i64> {
        Some((self.finished.unwrap_or(now) - self.started?).0)
    }
}
