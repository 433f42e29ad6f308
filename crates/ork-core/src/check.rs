//! The checker: replays a run's events and says where they break a promise.
//!
//! It shares no logic with [`crate::run`]: it is the second opinion by which simulations, chaos
//! tests and `ork doctor` judge the machine, the engine and the store together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::ids::{InstancePath, RunId, Token, WorkerId};
use crate::plan::{Plan, Task, TriggerRule};
use crate::rows::{AttemptRow, EventRow, RunRow, TaskRow};
use crate::run::{
    AttemptState, EventKind, Failure, FailureKind, MAX_INTERRUPTIONS, RunState, StopReason,
    TaskState,
};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The run.
    pub run: RunId,
    /// The event at which it shows; none when the rows differ from the replay.
    pub seq: Option<u64>,
    /// The instance, if one is concerned.
    pub path: Option<InstancePath>,
    /// What is broken.
    pub broken: Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.run)?;
        if let Some(seq) = self.seq {
            write!(f, ", event {seq}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ", {path}")?;
        }
        write!(f, ": {}", self.broken)
    }
}

/// The promises, each as what breaks it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Events of a run count from 1 without gaps.
    #[error("expected event {expected}")]
    Gap {
        /// The number that should have come.
        expected: u64,
    },
    /// An instance that the run does not have.
    #[error("the run has no such instance")]
    UnknownInstance,
    /// An event of an instance names its path, generation and attempt.
    #[error("the event names generation {generation:?} and attempt {attempt:?}, not {expected:?}")]
    Misnamed {
        /// The generation in the event.
        generation: Option<u32>,
        /// The attempt in the event.
        attempt: Option<u32>,
        /// Both, by the replay.
        expected: (u32, u32),
    },
    /// A transition of the run that is not in the table.
    #[error("the run cannot go from {from:?} by {by}")]
    RunTransition {
        /// Where the run stood; none before it was made.
        from: Option<RunState>,
        /// The event.
        by: &'static str,
    },
    /// A transition of an instance that is not in the table.
    #[error("the instance cannot go from {from:?} by {by}")]
    Transition {
        /// Where it stood.
        from: TaskState,
        /// The event.
        by: &'static str,
    },
    /// Something happened under a token that was not the current one.
    #[error("token {given} is not the current one, which is {current:?}")]
    Stale {
        /// The token of the event.
        given: Token,
        /// The current one, if any.
        current: Option<Token>,
    },
    /// Tokens grow and are never used again.
    #[error("token {given} does not come after {last}")]
    TokenNotNew {
        /// The token of the offer.
        given: Token,
        /// An earlier one.
        last: Token,
    },
    /// An attempt is executed at most once.
    #[error("attempt {attempt} was executed before")]
    ExecutedTwice {
        /// The attempt.
        attempt: u32,
    },
    /// There are as many attempts as `retries` and `lost_retries` allow.
    #[error("{given} attempts were tried again where {allowed} are allowed")]
    TooManyRetries {
        /// How many were.
        given: u32,
        /// How many may be.
        allowed: u32,
    },
    /// A start needs its upstreams' outcomes to satisfy its rule.
    #[error("{rule:?} does not hold for {upstreams:?}")]
    StartNotJustified {
        /// The rule.
        rule: TriggerRule,
        /// The upstreams' states.
        upstreams: Vec<TaskState>,
    },
    /// An instance that is not done has to have a reason.
    #[error("{state:?} is not justified: {rule:?} over {upstreams:?}")]
    EndNotJustified {
        /// How it ended.
        state: TaskState,
        /// The rule.
        rule: TriggerRule,
        /// The upstreams' states.
        upstreams: Vec<TaskState>,
    },
    /// `finally` begins when all else is terminal, and nothing begins in a run that is being
    /// ended or is over.
    #[error("the run was in no state for it: {0}")]
    OutOfTurn(&'static str),
    /// A run is terminal if and only if all its instances are.
    #[error("the run is {run:?} while instances are {open:?}")]
    NotAllTerminal {
        /// The run's state.
        run: RunState,
        /// Instances that are not terminal.
        open: Vec<InstancePath>,
    },
    /// A run ends as its instances did.
    #[error("the run ended in {given:?}, and should have in {expected:?}")]
    WrongResult {
        /// Its state.
        given: RunState,
        /// What follows from its instances.
        expected: RunState,
    },
    /// A worker never has more attempts than slots.
    #[error("worker {worker} had {held} attempts on {slots} slots")]
    SlotsExceeded {
        /// The worker.
        worker: WorkerId,
        /// Its attempts.
        held: u32,
        /// Its slots.
        slots: u32,
    },
    /// Rows equal the replay.
    #[error("the row's {field} is {row}, and {replay} by the events")]
    RowDiffers {
        /// Which field.
        field: &'static str,
        /// What the row holds.
        row: String,
        /// What the events say.
        replay: String,
    },
}

/// The rows of a run, as a store holds them.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// The run.
    pub run: &'a RunRow,
    /// All its instances.
    pub tasks: Vec<&'a TaskRow>,
    /// All its attempts, or some.
    pub attempts: Vec<&'a AttemptRow>,
}

/// Checks one run's events, in order, from the first to the last, and its rows against them.
pub fn check_run<'a>(
    plan: &'a Plan,
    events: impl IntoIterator<Item = &'a EventRow>,
    rows: &Rows<'_>,
) -> Vec<Violation> {
    let mut replay = Replay::new(rows.run.id, plan);
    for event in events {
        replay.event(event);
    }
    replay.end();
    replay.rows(rows);
    replay.violations
}

/// Checks what spans runs: `feed` is every event of a store with the number of its commit, in the
/// order of commits; `slots` says how many each worker has, and workers not in it are not counted.
/// Within one commit the order of a release and a claim does not matter.
pub fn check_feed<'a>(
    feed: impl IntoIterator<Item = (u64, &'a EventRow)>,
    slots: &BTreeMap<WorkerId, u32>,
) -> Vec<Violation> {
    let mut ledger = Ledger::new(slots);
    let mut commit = 0;
    for (number, event) in feed {
        if number != commit {
            ledger.balance();
            commit = number;
        }
        ledger.event(event);
    }
    ledger.balance();
    ledger.violations
}

/// Who holds which slot.
struct Ledger<'a> {
    slots: &'a BTreeMap<WorkerId, u32>,
    holders: HashMap<(RunId, &'a str), &'a WorkerId>,
    held: HashMap<&'a WorkerId, (u32, Option<&'a EventRow>)>,
    tokens: HashSet<Token>,
    violations: Vec<Violation>,
}

impl<'a> Ledger<'a> {
    fn new(slots: &'a BTreeMap<WorkerId, u32>) -> Self {
        Self {
            slots,
            holders: HashMap::new(),
            held: HashMap::new(),
            tokens: HashSet::new(),
            violations: Vec::new(),
        }
    }

    fn event(&mut self, event: &'a EventRow) {
        let Some(path) = &event.path else { return };
        let place = (event.run, path.as_str());
        match &event.kind {
            EventKind::TaskDispatched { token, worker } => {
                if !self.tokens.insert(*token) {
                    let broken = Broken::TokenNotNew { given: *token, last: *token };
                    self.violations.push(violation(event, broken));
                }
                self.holders.insert(place, worker);
                let (held, last) = self.held.entry(worker).or_default();
                *held += 1;
                *last = Some(event);
            }
            EventKind::TaskUnclaimed { .. }
            | EventKind::TaskRetrying { .. }
            | EventKind::TaskFinished { .. } => {
                if let Some(worker) = self.holders.remove(&place)
                    && let Some((held, _)) = self.held.get_mut(worker)
                {
                    *held -= 1;
                }
            }
            _ => {}
        }
    }

    fn balance(&mut self) {
        for (worker, (held, last)) in &mut self.held {
            let Some(event) = last.take() else { continue };
            let Some(slots) = self.slots.get(*worker) else { continue };
            if *held > *slots {
                let broken =
                    Broken::SlotsExceeded { worker: (*worker).clone(), held: *held, slots: *slots };
                self.violations.push(violation(event, broken));
            }
        }
    }
}

fn violation(event: &EventRow, broken: Broken) -> Violation {
    Violation { run: event.run, seq: Some(event.seq), path: event.path.clone(), broken }
}

/// A run as far as its events tell.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Replay<'a> {
    run: RunId,
    plan: &'a Plan,
    state: Option<RunState>,
    run_attempt: u32,
    seq: u64,
    last_token: Option<Token>,
    cancelled: bool,
    timed_out: bool,
    forced: bool,
    quarantined: bool,
    instances: Vec<Instance<'a>>,
    body: usize,
    places: HashMap<&'a str, usize>,
    violations: Vec<Violation>,
}

/// An instance as far as its events tell.
struct Instance<'a> {
    path: InstancePath,
    task: &'a Task,
    state: TaskState,
    generation: u32,
    attempt: u32,
    token: Option<Token>,
    /// The attempt's number is spent: the next offer has the next.
    spent: bool,
    started: bool,
    failures: u32,
    lost: u32,
    interrupted: u32,
    cause: Option<InstancePath>,
    attempts: BTreeMap<(u32, u32), Tried>,
}

/// An attempt as far as its events tell.
struct Tried {
    state: AttemptState,
    token: Token,
    worker: WorkerId,
}

impl<'a> Replay<'a> {
    fn new(run: RunId, plan: &'a Plan) -> Self {
        let body = plan.body.tasks.iter().map(|task| (task, InstancePath::from(&*task.name)));
        let finally = plan
            .finally
            .tasks
            .iter()
            .map(|task| (task, InstancePath::from(&*format!("finally/{}", task.name))));
        Self {
            run,
            plan,
            state: None,
            run_attempt: 1,
            seq: 0,
            last_token: None,
            cancelled: false,
            timed_out: false,
            forced: false,
            quarantined: false,
            instances: body.chain(finally).map(|(task, path)| Instance::new(task, path)).collect(),
            body: plan.body.tasks.len(),
            places: HashMap::new(),
            violations: Vec::new(),
        }
    }

    fn event(&mut self, event: &'a EventRow) {
        if event.seq != self.seq + 1 {
            self.violations.push(violation(event, Broken::Gap { expected: self.seq + 1 }));
        }
        self.seq = event.seq;
        let verdict = match &event.path {
            None => self.run_event(&event.kind),
            Some(path) => self.task_event(event, path),
        };
        if let Err(broken) = verdict {
            self.violations.push(violation(event, broken));
        }
    }

    fn run_event(&mut self, kind: &'a EventKind) -> Result<(), Broken> {
        use RunState::{Pending, Running};
        let from = self.state;
        let by = run_event_name(kind);
        let legal = match kind {
            EventKind::RunCreated { .. } => from.is_none(),
            EventKind::RunStarted { .. } => from == Some(Pending),
            EventKind::RunStopping { .. }
            | EventKind::RunQuarantined { .. }
            | EventKind::RunFinished { .. } => matches!(from, Some(Pending | Running)),
            EventKind::RunReopened { .. } => from.is_some_and(RunState::is_terminal),
            _ => return Err(Broken::UnknownInstance),
        };
        let verdict = match kind {
            EventKind::RunCreated { tasks, .. } => self.created(tasks),
            EventKind::RunStarted { run_attempt } => {
                self.state = Some(Running);
                self.same_attempt(*run_attempt)
            }
            EventKind::RunStopping { reason, forced } => {
                self.cancelled |= *reason != StopReason::TimedOut;
                self.timed_out |= *reason == StopReason::TimedOut;
                self.forced |= *forced;
                Ok(())
            }
            EventKind::RunQuarantined { .. } => {
                self.quarantined = true;
                Ok(())
            }
            EventKind::RunFinished { state, failure } => self.finished(*state, failure.as_ref()),
            EventKind::RunReopened { run_attempt } => {
                self.state = Some(Pending);
                self.run_attempt += 1;
                (self.cancelled, self.timed_out, self.forced) = (false, false, false);
                self.quarantined = false;
                self.same_attempt(*run_attempt)
            }
            _ => Ok(()),
        };
        if legal { verdict } else { Err(Broken::RunTransition { from, by }) }
    }

    fn created(&mut self, tasks: &'a [InstancePath]) -> Result<(), Broken> {
        self.state = Some(RunState::Pending);
        let all = self.instances.iter().map(|instance| &instance.path);
        if !all.eq(tasks) {
            return Err(Broken::UnknownInstance);
        }
        self.places = tasks.iter().map(InstancePath::as_str).zip(0..).collect();
        Ok(())
    }

    fn same_attempt(&self, run_attempt: u32) -> Result<(), Broken> {
        differs("run_attempt", &run_attempt, &self.run_attempt).map_or(Ok(()), Err)
    }

    fn finished(&mut self, state: RunState, failure: Option<&Failure>) -> Result<(), Broken> {
        self.state = Some(state);
        let open = self.open();
        if !open.is_empty() {
            return Err(Broken::NotAllTerminal { run: state, open });
        }
        let expected = self.result();
        let no_output = self.plan.output.is_some()
            && expected == RunState::Success
            && failure.is_some_and(|failure| failure.kind == FailureKind::Expression);
        let expected = if no_output { RunState::Failed } else { expected };
        if state == expected { Ok(()) } else { Err(Broken::WrongResult { given: state, expected }) }
    }

    fn open(&self) -> Vec<InstancePath> {
        let open = self.instances.iter().filter(|instance| !instance.state.is_terminal());
        open.map(|instance| instance.path.clone()).collect()
    }

    /// How the run has to end, first match.
    fn result(&self) -> RunState {
        let spoiled = |instance: &Instance<'_>| {
            matches!(instance.state, TaskState::Failed | TaskState::Cancelled)
                && !instance.task.allow_failure
        };
        if self.quarantined {
            RunState::Failed
        } else if self.cancelled {
            RunState::Cancelled
        } else if self.timed_out || self.instances.iter().any(spoiled) {
            RunState::Failed
        } else {
            RunState::Success
        }
    }

    fn task_event(&mut self, event: &'a EventRow, path: &'a InstancePath) -> Result<(), Broken> {
        let place = *self.places.get(path.as_str()).ok_or(Broken::UnknownInstance)?;
        if self.state.is_none_or(RunState::is_terminal)
            && !matches!(event.kind, EventKind::ReportIgnored { .. })
        {
            return Err(Broken::OutOfTurn("the run is not active"));
        }
        match &event.kind {
            EventKind::TaskReset => self.instances[place].reset()?,
            EventKind::TaskQueued => self.queued(place)?,
            EventKind::TaskDispatched { token, worker } => {
                self.dispatched(place, event, *token, worker)?;
            }
            EventKind::TaskFinished { state, .. } => {
                self.ended(place, *state)?;
                self.instances[place].finish(&event.kind)?;
            }
            EventKind::ReportIgnored { .. } => return Ok(()),
            other => self.instances[place].step(other)?,
        }
        self.instances[place].named(event)
    }

    /// The states of an instance's upstreams.
    fn upstreams(&self, place: usize) -> Vec<TaskState> {
        let first = if place < self.body { 0 } else { self.body };
        let upstreams = self.instances[place].task.upstreams.iter();
        upstreams.map(|upstream| self.instances[first + upstream].state).collect()
    }

    fn queued(&mut self, place: usize) -> Result<(), Broken> {
        self.instances[place].go(&[TaskState::Pending], TaskState::Queued, "task_queued")?;
        self.may_start(place)?;
        let upstreams = self.upstreams(place);
        let rule = self.instances[place].task.trigger_rule;
        match holds(rule, &upstreams) {
            Some(true) => Ok(()),
            _ => Err(Broken::StartNotJustified { rule, upstreams }),
        }
    }

    fn may_start(&self, place: usize) -> Result<(), Broken> {
        let body_open = self.instances[..self.body].iter().any(|task| !task.state.is_terminal());
        let finally = place >= self.body;
        if finally && body_open {
            return Err(Broken::OutOfTurn("`finally` begins after all else"));
        }
        let ending = self.cancelled || self.timed_out;
        if self.quarantined || ending && (!finally || self.forced) {
            return Err(Broken::OutOfTurn("the run is being ended"));
        }
        Ok(())
    }

    fn dispatched(
        &mut self,
        place: usize,
        event: &EventRow,
        token: Token,
        worker: &WorkerId,
    ) -> Result<(), Broken> {
        if self.state != Some(RunState::Running) {
            return Err(Broken::OutOfTurn("the run is not running"));
        }
        self.may_start(place)?;
        let last = self.last_token.replace(token);
        if let Some(last) = last.filter(|last| *last >= token) {
            return Err(Broken::TokenNotNew { given: token, last });
        }
        self.instances[place].dispatch(event, token, worker)
    }

    /// Whether the way in which an instance ended follows from its upstreams.
    fn ended(&self, place: usize, state: TaskState) -> Result<(), Broken> {
        let instance = &self.instances[place];
        if instance.state != TaskState::Pending || self.quarantined {
            return Ok(());
        }
        let upstreams = self.upstreams(place);
        let rule = instance.task.trigger_rule;
        let verdict = holds(rule, &upstreams);
        let guarded = verdict == Some(true) && instance.task.when.is_some();
        let justified = match state {
            TaskState::Skipped => verdict == Some(false) || guarded,
            TaskState::UpstreamFailed => {
                verdict == Some(false) && upstreams.iter().any(|state| spoilt(*state))
            }
            TaskState::Failed => guarded,
            _ => true,
        };
        if justified { Ok(()) } else { Err(Broken::EndNotJustified { state, rule, upstreams }) }
    }

    /// After the last event.
    fn end(&mut self) {
        let Some(state) = self.state else { return };
        if !state.is_terminal() && self.open().is_empty() {
            let broken = Broken::NotAllTerminal { run: state, open: Vec::new() };
            self.note(Some(self.seq), None, broken);
        }
    }

    fn rows(&mut self, rows: &Rows<'_>) {
        let mut found: Vec<(Option<InstancePath>, Broken)> = Vec::new();
        let run = differs("state", &Some(rows.run.state), &self.state);
        let run = run.or_else(|| differs("run_attempt", &rows.run.run_attempt, &self.run_attempt));
        found.extend(run.map(|broken| (None, broken)));
        for row in &rows.tasks {
            let broken = match self.places.get(row.path.as_str()) {
                Some(place) => self.instances[*place].row(row),
                None => Some(Broken::UnknownInstance),
            };
            found.extend(broken.map(|broken| (Some(row.path.clone()), broken)));
        }
        for row in &rows.attempts {
            let place = self.places.get(row.path.as_str());
            let broken = match place {
                Some(place) => self.instances[*place].attempt_row(row),
                None => Some(Broken::UnknownInstance),
            };
            found.extend(broken.map(|broken| (Some(row.path.clone()), broken)));
        }
        if rows.tasks.len() != self.plan.body.tasks.len() + self.plan.finally.tasks.len() {
            found.push((None, Broken::UnknownInstance));
        }
        for (path, broken) in found {
            self.note(None, path, broken);
        }
    }

    fn note(&mut self, seq: Option<u64>, path: Option<InstancePath>, broken: Broken) {
        self.violations.push(Violation { run: self.run, seq, path, broken });
    }
}

impl<'a> Instance<'a> {
    fn new(task: &'a Task, path: InstancePath) -> Self {
        Self {
            path,
            task,
            state: TaskState::Pending,
            generation: 1,
            attempt: 0,
            token: None,
            spent: true,
            started: false,
            failures: 0,
            lost: 0,
            interrupted: 0,
            cause: None,
            attempts: BTreeMap::new(),
        }
    }

    fn go(&mut self, from: &[TaskState], to: TaskState, by: &'static str) -> Result<(), Broken> {
        let state = std::mem::replace(&mut self.state, to);
        if from.contains(&state) { Ok(()) } else { Err(Broken::Transition { from: state, by }) }
    }

    fn reset(&mut self) -> Result<(), Broken> {
        let from = std::mem::replace(&mut self.state, TaskState::Pending);
        self.generation += 1;
        self.attempt = 0;
        self.spent = true;
        self.started = false;
        (self.failures, self.lost, self.interrupted) = (0, 0, 0);
        self.cause = None;
        let by = "task_reset";
        if from.is_terminal() { Ok(()) } else { Err(Broken::Transition { from, by }) }
    }

    fn named(&self, event: &EventRow) -> Result<(), Broken> {
        let generation_is_right = event.generation == Some(self.generation);
        let attempt_is_right = event.attempt.is_none_or(|attempt| attempt == self.attempt);
        if generation_is_right && attempt_is_right {
            return Ok(());
        }
        let expected = (self.generation, self.attempt);
        Err(Broken::Misnamed { generation: event.generation, attempt: event.attempt, expected })
    }

    fn dispatch(
        &mut self,
        event: &EventRow,
        token: Token,
        worker: &WorkerId,
    ) -> Result<(), Broken> {
        if self.spent {
            self.attempt += 1;
            self.spent = false;
            self.started = false;
        }
        self.token = Some(token);
        self.go(&[TaskState::Queued], TaskState::Dispatched, "task_dispatched")?;
        let tried = Tried { state: AttemptState::Dispatched, token, worker: worker.clone() };
        self.attempts.insert((self.generation, self.attempt), tried);
        if self.started {
            return Err(Broken::ExecutedTwice { attempt: self.attempt });
        }
        self.named(event)
    }

    fn current(&self, given: Token) -> Result<(), Broken> {
        let current = self.token;
        if current == Some(given) { Ok(()) } else { Err(Broken::Stale { given, current }) }
    }

    fn tried(&mut self, state: AttemptState) {
        if let Some(tried) = self.attempts.get_mut(&(self.generation, self.attempt)) {
            tried.state = state;
        }
    }

    /// The transitions of an attempt that is under way.
    fn step(&mut self, kind: &EventKind) -> Result<(), Broken> {
        use TaskState::{Dispatched, Queued, Running, Stopping};
        match kind {
            EventKind::TaskUnclaimed { token } => {
                self.current(*token)?;
                self.token = None;
                self.go(&[Dispatched], Queued, "task_unclaimed")
            }
            EventKind::TaskStarted { token } => {
                self.current(*token)?;
                self.tried(AttemptState::Running);
                if std::mem::replace(&mut self.started, true) {
                    return Err(Broken::ExecutedTwice { attempt: self.attempt });
                }
                self.go(&[Dispatched], Running, "task_started")
            }
            EventKind::TaskStopping { token, .. } => {
                self.current(*token)?;
                self.tried(AttemptState::Stopping);
                self.go(&[Dispatched, Running], Stopping, "task_stopping")
            }
            EventKind::TaskRetrying { token, failure, .. } => {
                self.current(*token)?;
                self.token = None;
                self.spent = true;
                self.tried(lost_or_failed(failure));
                self.go(&[Dispatched, Running, Stopping], Queued, "task_retrying")?;
                self.spend(failure)
            }
            _ => Err(Broken::UnknownInstance),
        }
    }

    /// Counts a failed attempt against its budget.
    fn spend(&mut self, failure: &Failure) -> Result<(), Broken> {
        let (given, allowed) = match failure.kind {
            FailureKind::Lost => (&mut self.lost, self.task.lost_retries),
            FailureKind::Interrupted => (&mut self.interrupted, MAX_INTERRUPTIONS),
            _ => (&mut self.failures, self.task.retry.max),
        };
        *given += 1;
        let given = *given;
        if given <= allowed { Ok(()) } else { Err(Broken::TooManyRetries { given, allowed }) }
    }

    fn finish(&mut self, kind: &EventKind) -> Result<(), Broken> {
        use TaskState::{Dispatched, Pending, Queued, Running, Stopping};
        let EventKind::TaskFinished { state, token, failure, cause, .. } = kind else {
            return Ok(());
        };
        let from: &[TaskState] = match state {
            TaskState::Success => &[Dispatched, Running],
            TaskState::Failed => &[Pending, Queued, Dispatched, Running, Stopping],
            TaskState::Skipped | TaskState::UpstreamFailed => &[Pending],
            TaskState::Cancelled => &[Pending, Queued, Stopping],
            _ => &[],
        };
        self.cause.clone_from(cause);
        let current = self.token.take();
        if !self.spent {
            self.spent = true;
            self.tried(match (state, failure) {
                (TaskState::Success, _) => AttemptState::Success,
                (TaskState::Cancelled, _) => AttemptState::Cancelled,
                // Nobody took the last offer.
                _ if current.is_none() => AttemptState::Cancelled,
                (_, Some(failure)) => lost_or_failed(failure),
                _ => AttemptState::Failed,
            });
        }
        self.go(from, *state, "task_finished")?;
        match token {
            Some(given) if current != Some(*given) => Err(Broken::Stale { given: *given, current }),
            _ => Ok(()),
        }
    }

    fn row(&self, row: &TaskRow) -> Option<Broken> {
        differs("state", &row.state, &self.state)
            .or_else(|| differs("generation", &row.generation, &self.generation))
            .or_else(|| differs("attempt", &row.attempt, &self.attempt))
            .or_else(|| differs("cause", &row.cause, &self.cause))
            .or_else(|| {
                let over = row.finished_at.is_some();
                differs("finished_at", &over, &self.state.is_terminal())
            })
    }

    fn attempt_row(&self, row: &AttemptRow) -> Option<Broken> {
        let Some(tried) = self.attempts.get(&(row.generation, row.attempt)) else {
            return Some(Broken::UnknownInstance);
        };
        differs("attempt state", &row.state, &tried.state)
            .or_else(|| differs("token", &row.token, &tried.token))
            .or_else(|| differs("worker", &row.worker, &tried.worker))
    }
}

fn lost_or_failed(failure: &Failure) -> AttemptState {
    match failure.kind {
        FailureKind::Lost | FailureKind::Interrupted => AttemptState::Lost,
        FailureKind::Cancelled => AttemptState::Cancelled,
        _ => AttemptState::Failed,
    }
}

fn differs<T: PartialEq + fmt::Debug>(field: &'static str, row: &T, replay: &T) -> Option<Broken> {
    (row != replay).then(|| Broken::RowDiffers {
        field,
        row: format!("{row:?}"),
        replay: format!("{replay:?}"),
    })
}

fn spoilt(state: TaskState) -> bool {
    matches!(state, TaskState::Failed | TaskState::UpstreamFailed | TaskState::Cancelled)
}

/// Whether a rule holds for these upstreams; none while that is open.
fn holds(rule: TriggerRule, upstreams: &[TaskState]) -> Option<bool> {
    use TaskState::{Failed, Skipped, Success};
    let any = |test: fn(TaskState) -> bool| upstreams.iter().any(|state| test(*state));
    let all = |test: fn(TaskState) -> bool| upstreams.iter().all(|state| test(*state));
    if upstreams.is_empty() {
        return Some(true);
    }
    let one = match rule {
        TriggerRule::OneSuccess => any(|state| state == Success),
        TriggerRule::OneFailed => any(spoilt),
        TriggerRule::OneDone => {
            any(|state| matches!(state, Success | Failed | TaskState::Cancelled))
        }
        _ => false,
    };
    if one {
        return Some(true);
    }
    if any(|state| !state.is_terminal()) {
        return None;
    }
    Some(match rule {
        TriggerRule::AllSuccess => all(|state| state == Success),
        TriggerRule::AllDone => true,
        TriggerRule::AllFailed => all(spoilt),
        TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone => false,
        TriggerRule::NoneFailed => !any(spoilt),
        TriggerRule::NoneSkipped => !any(|state| state == Skipped),
        TriggerRule::NoneFailedMinOneSuccess => !any(spoilt) && any(|state| state == Success),
    })
}

fn run_event_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::RunCreated { .. } => "run_created",
        EventKind::RunStarted { .. } => "run_started",
        EventKind::RunStopping { .. } => "run_stopping",
        EventKind::RunFinished { .. } => "run_finished",
        EventKind::RunReopened { .. } => "run_reopened",
        EventKind::RunQuarantined { .. } => "run_quarantined",
        _ => "an event of an instance",
    }
}
