//! What is known of a run from its events. Pure: it reads no clock and draws nothing.

use indexmap::IndexMap;
use ork_api::types::{Event, LogChunk, Run};
use ork_core::ids::InstancePath;
use ork_core::run::{EventKind, Failure, RunState, TaskState};
use ork_core::time::Wall;

/// A run as far as its events tell.
pub(crate) struct Progress {
    pub(crate) state: RunState,
    pub(crate) failure: Option<Failure>,
    pub(crate) started: Option<Wall>,
    pub(crate) finished: Option<Wall>,
    pub(crate) tasks: IndexMap<InstancePath, TaskLine>,
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
    pub(crate) last: Option<String>,
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
            last: None,
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
                self.tasks.extend(tasks.iter().map(|path| (path.clone(), TaskLine::default())));
            }
            EventKind::RunStarted { run_attempt } => {
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
            EventKind::RunStopping { .. } | EventKind::RunQuarantined { .. } => {}
            _ => self.apply_to_task(event),
        }
    }

    fn apply_to_task(&mut self, event: &Event) {
        let Some(path) = &event.path else { return };
        let task = self.tasks.entry(path.clone()).or_default();
        task.generation = event.generation.unwrap_or(task.generation);
        task.attempt = event.attempt.unwrap_or(task.attempt);
        match &event.data {
            EventKind::TaskReset => {
                *task = TaskLine { generation: task.generation, ..TaskLine::default() };
            }
            EventKind::TaskQueued | EventKind::TaskUnclaimed { .. } => {
                task.state = TaskState::Queued;
            }
            EventKind::TaskDispatched { .. } => task.state = TaskState::Dispatched,
            EventKind::TaskStarted { .. } => {
                task.state = TaskState::Running;
                task.started = Some(event.at.0);
            }
            EventKind::TaskStopping { .. } => task.state = TaskState::Stopping,
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
        if let Some(line) = chunk.lines.iter().rev().find(|line| !line.text.trim().is_empty()) {
            task.last = Some(line.text.clone());
        }
        true
    }

    /// How many instances are in each state, in the order of the states' first instances.
    pub(crate) fn counts(&self) -> IndexMap<&'static str, usize> {
        let mut counts = IndexMap::new();
        for task in self.tasks.values() {
            *counts.entry(super::task_word(task.state)).or_insert(0) += 1;
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
