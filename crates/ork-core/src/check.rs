//! The checker: replays a run's events and says where they break a promise.
//!
//! It shares no logic with [`crate::run`]: it is the second opinion by which simulations and chaos
//! tests judge the machine, the engine and the store together.

mod copies;
mod firings;
mod limits;
mod ticks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::ids::{InstancePath, RunId, Token, WorkerId};
use crate::plan::{Action, Plan, Scope, Task, TriggerRule, Wait};
use crate::rows::{
    AttemptRow, Change, EventRow, PauseRow, PoolRow, RunRow, TaskRow, TriggerRow, WorkflowRow,
};
use crate::run::{
    AttemptState, EventKind, Failure, FailureKind, MAX_INTERRUPTIONS, RunState, Source, StopReason,
    TaskState, Waiting,
};
use crate::time::Wall;

pub use self::copies::check_copies;
pub use self::firings::{BrokenFiring, check_firings};
pub use self::ticks::{BrokenTick, check_ticks};

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
    /// A wait takes the oldest signal of its name, and no signal is taken twice.
    #[error("signal {given} is not the oldest that is kept of its name, which is {expected:?}")]
    WrongSignal {
        /// The one that was taken.
        given: u64,
        /// The one that should have been, if there is one.
        expected: Option<u64>,
    },
    /// An outcome that no attempt made has a source that can make it.
    #[error("the instance ended in {state:?} by {made_by:?}")]
    WrongSource {
        /// How it ended.
        state: TaskState,
        /// By what.
        made_by: Option<Source>,
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
    /// An instance that others are inside of is terminal only if all of them are.
    #[error("it is {state:?} while {open:?} inside are not over")]
    InsideOpen {
        /// How it ended.
        state: TaskState,
        /// Instances inside that are not terminal.
        open: Vec<InstancePath>,
    },
    /// What is inside is what the plan says, and no more than was told.
    #[error("{given} instances are inside, and {expected} should be")]
    WrongInside {
        /// How many.
        given: u32,
        /// How many there should be.
        expected: u32,
    },
    /// No more items of a map are under way than `max_parallel` says.
    #[error("{open} items are under way where {max_parallel} may be")]
    TooManyItems {
        /// How many are.
        open: u32,
        /// How many may be.
        max_parallel: u32,
    },
    /// An attempt takes the slots that its task says.
    #[error("the attempt took {given:?} of a pool where the task says {said:?}")]
    WrongSlots {
        /// How many it took.
        given: Option<u32>,
        /// How many the task says.
        said: Option<u32>,
    },
    /// A wait for a time ends no earlier.
    #[error("the wait ended before {until:?}, which it is for")]
    EndedEarly {
        /// What it is for.
        until: Wall,
    },
    /// A copied success is one of the same task with the same inputs, and keeps its output.
    #[error("what was copied of run {from} is not a success of the same: its {differs} differs")]
    WrongCopy {
        /// The run that it was copied of.
        from: RunId,
        /// What is another there.
        differs: &'static str,
    },
    /// The limits of a workflow's current version bind every start.
    #[error("the run started under {given:?} where `max_runs` is {said}")]
    LimitIgnored {
        /// The limit by the event.
        given: Option<u32>,
        /// The limit of the current version.
        said: u32,
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
    /// Attempts never hold more slots of a pool than it has.
    #[error("{taken} slots of pool {pool} were taken of {of}")]
    PoolExceeded {
        /// The pool.
        pool: String,
        /// How many were taken.
        taken: u32,
        /// How many it had.
        of: u32,
    },
    /// A start never takes a workflow past its limit.
    #[error("{runs} runs of {workflow} with key `{key}` were under way where {max_runs} may be")]
    RunsExceeded {
        /// The workflow.
        workflow: String,
        /// The key.
        key: String,
        /// How many there were.
        runs: u32,
        /// How many there may be.
        max_runs: u32,
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

/// Something that a store keeps, as far as what spans runs depends on it.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// Something happened in a run.
    Event(&'a EventRow),
    /// A workflow or a project is paused from here on, or goes on.
    Pause(&'a PauseRow),
    /// A pool has another size from here on.
    Pool(&'a PoolRow),
    /// A workflow has other limits from here on.
    Workflow(&'a WorkflowRow),
    /// A workflow has this trigger from here on, or has it no more.
    Trigger(&'a TriggerRow),
}

impl<'a> Fact<'a> {
    /// What of a change matters here.
    pub fn of(change: &'a Change) -> Option<Self> {
        Some(match change {
            Change::Event(row) => Self::Event(row),
            Change::Pause(row) => Self::Pause(row),
            Change::Pool(row) => Self::Pool(row),
            Change::Workflow(row) => Self::Workflow(row),
            Change::Trigger(row) => Self::Trigger(row),
            _ => return None,
        })
    }
}

impl<'a> From<&'a EventRow> for Fact<'a> {
    fn from(row: &'a EventRow) -> Self {
        Self::Event(row)
    }
}

/// Checks what spans runs: `feed` is all that a store was given with the number of its commit, in
/// the order of commits and as it stood in them; it may be events alone, and then what is paused is
/// not known, and limits are as the events tell. `slots` says how many each worker has; workers not
/// in it are not counted. Within one commit the order of a release and a claim does not matter.
pub fn check_feed<'a, F: Into<Fact<'a>>>(
    feed: impl IntoIterator<Item = (u64, F)>,
    slots: &BTreeMap<WorkerId, u32>,
) -> Vec<Violation> {
    let mut ledger = Ledger::new(slots);
    let mut commit = 0;
    for (number, fact) in feed {
        if number != commit {
            ledger.balance();
            commit = number;
        }
        match fact.into() {
            Fact::Event(event) => ledger.event(event),
            other => ledger.limits.ruled(other),
        }
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
    limits: limits::Limits<'a>,
    violations: Vec<Violation>,
}

impl<'a> Ledger<'a> {
    fn new(slots: &'a BTreeMap<WorkerId, u32>) -> Self {
        Self {
            slots,
            holders: HashMap::new(),
            held: HashMap::new(),
            tokens: HashSet::new(),
            limits: limits::Limits::default(),
            violations: Vec::new(),
        }
    }

    fn event(&mut self, event: &'a EventRow) {
        self.limits.event(event, &mut self.violations);
        let Some(path) = &event.path else { return };
        let place = (event.run, path.as_str());
        match &event.kind {
            EventKind::TaskDispatched { token, worker, .. } => {
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
            | EventKind::TaskDeferred { .. }
            | EventKind::TaskReset { .. }
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
        self.limits.balance(&mut self.violations);
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
    paused: bool,
    /// Signals that were received and not taken, by number.
    signals: BTreeMap<u64, &'a str>,
    received: u64,
    instances: Vec<Instance<'a>>,
    levels: Vec<Level>,
    places: HashMap<InstancePath, usize>,
    violations: Vec<Violation>,
}

/// The instances of a DAG.
struct Level {
    /// The instance whose inside it is.
    owner: Option<usize>,
    /// For a `finally`: the level of the body before it.
    after: Option<usize>,
    members: Vec<usize>,
}

/// What is inside an instance.
enum Inside {
    Levels(Vec<usize>),
    Items {
        total: u32,
        /// Counts the times that the items were made anew.
        series: u32,
        made: Vec<usize>,
    },
}

/// An instance as far as its events tell.
struct Instance<'a> {
    path: InstancePath,
    level: usize,
    /// Its map, if it is an item.
    map: Option<usize>,
    /// The series of its map that it is of; 0: none.
    series: u32,
    inside: Option<Inside>,
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
    /// The name of the signal that it waits for.
    event: Option<String>,
    /// The time that it waits for.
    until: Option<Wall>,
    marked: bool,
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
        let mut new = Self {
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
            paused: false,
            signals: BTreeMap::new(),
            received: 0,
            instances: Vec::new(),
            levels: Vec::new(),
            places: HashMap::new(),
            violations: Vec::new(),
        };
        new.add_levels(plan, None);
        new
    }

    /// Adds a workflow's body and `finally`.
    fn add_levels(&mut self, plan: &'a Plan, owner: Option<usize>) -> Vec<usize> {
        let body = self.add_level(&plan.body, owner, None);
        vec![body, self.add_level(&plan.finally, owner, Some(body))]
    }

    /// Adds a DAG. What is there under the path of a task is that task's.
    fn add_level(&mut self, scope: &'a Scope, owner: Option<usize>, after: Option<usize>) -> usize {
        let level = self.levels.len();
        let outer = owner.map(|owner| format!("{}/", self.instances[owner].path));
        let prefix = outer.unwrap_or_default() + if after.is_some() { "finally/" } else { "" };
        let members = scope.tasks.iter().map(|task| {
            let path = InstancePath(format!("{prefix}{}", task.name).into());
            let new = self.instances.len();
            let place = *self.places.entry(path.clone()).or_insert(new);
            if place == new {
                self.instances.push(Instance::new(task, path, level));
            }
            (self.instances[place].task, self.instances[place].level) = (task, level);
            place
        });
        let members = members.collect();
        self.levels.push(Level { owner, after, members });
        level
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
            EventKind::RunPaused | EventKind::RunResumed | EventKind::SignalReceived { .. } => {
                matches!(from, Some(Pending | Running))
            }
            EventKind::RunReopened { .. } => from.is_some_and(RunState::is_terminal),
            _ => return Err(Broken::UnknownInstance),
        };
        let verdict = match kind {
            EventKind::RunCreated { tasks, .. } => self.created(*tasks),
            EventKind::RunPaused | EventKind::RunResumed => {
                let paused = matches!(kind, EventKind::RunPaused);
                let was = std::mem::replace(&mut self.paused, paused);
                if was == paused { Err(Broken::RunTransition { from, by }) } else { Ok(()) }
            }
            EventKind::SignalReceived { name, number } => {
                self.received += 1;
                self.signals.insert(*number, name);
                differs("signal", number, &self.received).map_or(Ok(()), Err)
            }
            EventKind::RunStarted { run_attempt, .. } => {
                self.state = Some(Running);
                self.is_not_paused()?;
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

    fn created(&mut self, tasks: u32) -> Result<(), Broken> {
        self.state = Some(RunState::Pending);
        inside_count(tasks, self.instances.len())
    }

    fn same_attempt(&self, run_attempt: u32) -> Result<(), Broken> {
        differs("run_attempt", &run_attempt, &self.run_attempt).map_or(Ok(()), Err)
    }

    fn finished(&mut self, state: RunState, failure: Option<&Failure>) -> Result<(), Broken> {
        let before = self.state.replace(state);
        if state == RunState::Skipped {
            return self.skipped(before);
        }
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

    /// A run that a limit refused never began.
    fn skipped(&self, before: Option<RunState>) -> Result<(), Broken> {
        let untouched = self.instances.iter().all(|one| one.state == TaskState::Pending);
        if before == Some(RunState::Pending) && self.run_attempt == 1 && untouched {
            return Ok(());
        }
        Err(Broken::WrongResult { given: RunState::Skipped, expected: self.result() })
    }

    fn open(&self) -> Vec<InstancePath> {
        let open = self.instances.iter().filter(|instance| !instance.state.is_terminal());
        open.map(|instance| instance.path.clone()).collect()
    }

    /// How the run has to end, first match.
    fn result(&self) -> RunState {
        if self.quarantined {
            RunState::Failed
        } else if self.cancelled {
            RunState::Cancelled
        } else if self.timed_out || self.is_spoilt(&[0, 1]) {
            RunState::Failed
        } else {
            RunState::Success
        }
    }

    /// Whether something in these levels failed, or was cancelled, and may not.
    fn is_spoilt(&self, levels: &[usize]) -> bool {
        levels.iter().flat_map(|level| &self.levels[*level].members).any(|member| {
            let instance = &self.instances[*member];
            matches!(instance.state, TaskState::Failed | TaskState::Cancelled)
                && !instance.task.allow_failure
        })
    }

    /// The instance of a path: one that is known, or an item that its map makes now.
    fn place(&mut self, path: &InstancePath) -> Result<usize, Broken> {
        let known = self.places.get(path).copied();
        let map = match known {
            Some(place) => self.instances[place].map,
            None => {
                let end = path.as_str().rfind('[').ok_or(Broken::UnknownInstance)?;
                let map = self.places.get(&path.as_str()[..end]);
                Some(*map.ok_or(Broken::UnknownInstance)?)
            }
        };
        let Some(map) = map else { return known.ok_or(Broken::UnknownInstance) };
        let (task, level) = (self.instances[map].task, self.instances[map].level);
        let place = known.unwrap_or(self.instances.len());
        if known.is_none() {
            let item = Instance { map: Some(map), ..Instance::new(task, path.clone(), level) };
            self.instances.push(item);
            self.places.insert(path.clone(), place);
        }
        let state = self.instances[map].state;
        let known = self.instances[place].series;
        let Some(Inside::Items { total, series, made }) = &mut self.instances[map].inside else {
            return Err(Broken::UnknownInstance);
        };
        let series = *series;
        // What an earlier generation of the map left is one of its items again once it is reset.
        // When a run is set aside, maps end before their items.
        let open = matches!(state, TaskState::Running | TaskState::Stopping) || self.quarantined;
        if open && known != series {
            made.push(place);
            let given = u32::try_from(made.len()).unwrap_or(u32::MAX);
            if given > *total {
                return Err(Broken::WrongInside { given, expected: *total });
            }
            self.instances[place].series = series;
        }
        Ok(place)
    }

    /// `pending → running` of an instance that has others inside.
    fn opened(
        &mut self,
        place: usize,
        count: u32,
        kept: bool,
        made: Option<&'a Scope>,
    ) -> Result<(), Broken> {
        self.begins(place, TaskState::Running, "task_opened")?;
        let (task, is_item) = (self.instances[place].task, self.instances[place].map.is_some());
        if task.for_each.is_some() && !is_item {
            let inside = &mut self.instances[place].inside;
            match inside {
                Some(Inside::Items { .. }) if kept => {}
                Some(Inside::Items { total, series, made }) => {
                    (*total, *series) = (count, *series + 1);
                    made.clear();
                }
                _ => *inside = Some(Inside::Items { total: count, series: 1, made: Vec::new() }),
            }
            return Ok(());
        }
        let levels = match (&task.action, made) {
            (Action::Group { tasks, .. }, _) | (Action::Generate { .. }, Some(tasks)) => {
                vec![self.add_level(tasks, Some(place), None)]
            }
            (Action::Call { pinned: Some(pinned), .. }, _) => {
                self.add_levels(&pinned.plan, Some(place))
            }
            _ => return Err(Broken::UnknownInstance),
        };
        let members = levels.iter().map(|level| self.levels[*level].members.len()).sum();
        self.instances[place].inside = Some(Inside::Levels(levels));
        inside_count(count, members)
    }

    /// Whether an instance that others are inside of may end so.
    fn inside_ends(
        &self,
        place: usize,
        state: TaskState,
        why: Option<&Failure>,
    ) -> Result<(), Broken> {
        let instance = &self.instances[place];
        let began = instance.state != TaskState::Pending && !self.quarantined;
        let Some(inside) = instance.inside.as_ref().filter(|_| began) else {
            return Ok(());
        };
        let members: Vec<usize> = match inside {
            Inside::Items { made, .. } => made.clone(),
            Inside::Levels(levels) => {
                levels.iter().flat_map(|level| self.levels[*level].members.clone()).collect()
            }
        };
        let open = members.iter().map(|member| &self.instances[*member]);
        let open = open.filter(|member| !member.state.is_terminal());
        let open: Vec<_> = open.map(|member| member.path.clone()).collect();
        if !open.is_empty() {
            return Err(Broken::InsideOpen { state, open });
        }
        if instance.state == TaskState::Stopping {
            return Ok(());
        }
        let expected = match inside {
            Inside::Levels(levels) if self.is_spoilt(levels) => TaskState::Failed,
            Inside::Levels(_) => TaskState::Success,
            Inside::Items { total, made, .. } => self.items_end(instance.task, *total, made),
        };
        let no_output = why.is_some_and(|failure| failure.kind == FailureKind::Expression);
        let fits = state == expected || state == TaskState::Failed && no_output;
        let upstreams = members.iter().map(|member| self.instances[*member].state).collect();
        let rule = instance.task.trigger_rule;
        if fits { Ok(()) } else { Err(Broken::EndNotJustified { state, rule, upstreams }) }
    }

    /// How a map has to end.
    fn items_end(&self, task: &Task, total: u32, made: &[usize]) -> TaskState {
        let count = |is: fn(TaskState) -> bool| {
            let states = made.iter().map(|item| self.instances[*item].state);
            u32::try_from(states.filter(|state| is(*state)).count()).unwrap_or(u32::MAX)
        };
        let most = task.for_each.as_ref().map_or(0, |each| each.tolerate.of(total));
        if count(spoilt) > most {
            TaskState::Failed
        } else if total > 0 && count(|state| state == TaskState::Skipped) == total {
            TaskState::Skipped
        } else {
            TaskState::Success
        }
    }

    fn task_event(&mut self, event: &'a EventRow, path: &'a InstancePath) -> Result<(), Broken> {
        let place = self.place(path)?;
        let any_time = matches!(
            event.kind,
            EventKind::ReportIgnored { .. }
                | EventKind::TaskReset { .. }
                | EventKind::TaskFinished { source: Some(Source::Mark), .. }
        );
        if self.state.is_none_or(RunState::is_terminal) && !any_time {
            return Err(Broken::OutOfTurn("the run is not active"));
        }
        match &event.kind {
            EventKind::TaskReset { token } => self.instances[place].reset(*token)?,
            EventKind::TaskQueued => self.begins(place, TaskState::Queued, "task_queued")?,
            EventKind::TaskDeferred { token: None, wait, .. } => self.deferred(place, wait)?,
            EventKind::TaskOpened { count, kept, made, .. } => {
                self.opened(place, *count, *kept, made.as_deref())?;
            }
            EventKind::TaskDispatched { token, worker, pool } => {
                self.dispatched(place, event, *token, worker)?;
                let given = pool.as_ref().map(|pool| pool.slots);
                let said = self.instances[place].task.pool.as_ref().map(|pool| pool.slots);
                if given != said {
                    return Err(Broken::WrongSlots { given, said });
                }
            }
            EventKind::TaskFinished { state, failure, source, .. } => {
                self.waited(place, *state, event.at)?;
                self.ended(place, *state, source.as_ref())?;
                if *source != Some(Source::Mark) {
                    self.inside_ends(place, *state, failure.as_ref())?;
                }
                self.sourced(place, *state, source.as_ref())?;
                self.instances[place].finish(&event.kind)?;
            }
            EventKind::ReportIgnored { .. } => return Ok(()),
            other => self.instances[place].step(other)?,
        }
        self.instances[place].named(event)?;
        self.items_fit(place, &event.kind)
    }

    /// Whether an item that begins finds a place among those of its map.
    fn items_fit(&self, place: usize, kind: &EventKind) -> Result<(), Broken> {
        let begins = matches!(
            kind,
            EventKind::TaskQueued
                | EventKind::TaskOpened { .. }
                | EventKind::TaskDeferred { token: None, .. }
        );
        let Some(map) = self.instances[place].map.filter(|_| begins) else { return Ok(()) };
        let each = self.instances[place].task.for_each.as_ref();
        let Some(max_parallel) = each.and_then(|each| each.max_parallel) else { return Ok(()) };
        let Some(Inside::Items { made, .. }) = &self.instances[map].inside else { return Ok(()) };
        let states = made.iter().map(|item| self.instances[*item].state);
        let open = states.filter(|state| *state != TaskState::Pending && !state.is_terminal());
        let open = u32::try_from(open.count()).unwrap_or(u32::MAX);
        if open <= max_parallel { Ok(()) } else { Err(Broken::TooManyItems { open, max_parallel }) }
    }

    /// Whether a wait for a time of the civil clock is over.
    fn waited(&self, place: usize, state: TaskState, at: Wall) -> Result<(), Broken> {
        let instance = &self.instances[place];
        let until = instance.until.filter(|_| {
            let waits = matches!(instance.task.action, Action::Wait(Wait::Until(_)));
            waits && instance.state == TaskState::Deferred && state == TaskState::Success
        });
        match until {
            Some(until) if at < until => Err(Broken::EndedEarly { until }),
            _ => Ok(()),
        }
    }

    /// The states of an instance's upstreams.
    fn upstreams(&self, place: usize) -> Vec<TaskState> {
        let instance = &self.instances[place];
        if instance.map.is_some() {
            return Vec::new();
        }
        let members = &self.levels[instance.level].members;
        let upstreams = instance.task.upstreams.iter();
        upstreams.map(|upstream| self.instances[members[*upstream]].state).collect()
    }

    fn begins(&mut self, place: usize, to: TaskState, by: &'static str) -> Result<(), Broken> {
        self.instances[place].go(&[TaskState::Pending], to, by)?;
        self.resolved(place)
    }

    /// A wait begins.
    fn deferred(&mut self, place: usize, wait: &Waiting) -> Result<(), Broken> {
        self.begins(place, TaskState::Deferred, "task_deferred")?;
        match wait {
            Waiting::Event { name } => self.instances[place].event = Some(name.clone()),
            Waiting::Time { at } => self.instances[place].until = Some(*at),
            Waiting::Approval { .. } | Waiting::Poll { .. } => {}
        }
        self.is_not_paused()
    }

    fn is_not_paused(&self) -> Result<(), Broken> {
        if self.paused { Err(Broken::OutOfTurn("the run is paused")) } else { Ok(()) }
    }

    /// Whether an outcome that no attempt made can be: what is at hand without a wait, what a
    /// person or a signal decided, what was reused.
    fn sourced(
        &mut self,
        place: usize,
        state: TaskState,
        source: Option<&Source>,
    ) -> Result<(), Broken> {
        let instance = &self.instances[place];
        let (from, task) = (instance.state, instance.task);
        let waits = matches!(task.action, Action::Wait(_));
        let approval = matches!(task.action, Action::Approval(_));
        let right = match source {
            Some(Source::Mark) => from == TaskState::Pending,
            Some(Source::Decision | Source::Timeout) => approval && from == TaskState::Deferred,
            Some(Source::Signal { number }) => {
                self.take(place, *number)?;
                waits
            }
            Some(Source::Cache { .. }) => from == TaskState::Pending && task.cache.is_some(),
            Some(Source::Copy { .. }) => from == TaskState::Pending,
            None => match (state, from) {
                (TaskState::Success, TaskState::Pending) => waits,
                (TaskState::Success, TaskState::Deferred) => waits || task.poll.is_some(),
                (TaskState::Skipped, from) => from != TaskState::Deferred,
                _ => true,
            },
        };
        if right { Ok(()) } else { Err(Broken::WrongSource { state, made_by: source.cloned() }) }
    }

    /// A wait takes a signal.
    fn take(&mut self, place: usize, given: u64) -> Result<(), Broken> {
        let name = self.signals.remove(&given);
        let older = self.signals.range(..given).find(|(_, other)| Some(**other) == name);
        let expected = older.map(|(number, _)| *number);
        let event = self.instances[place].event.as_deref();
        let named = name.is_some() && event.is_none_or(|event| Some(event) == name);
        if named && expected.is_none() {
            return Ok(());
        }
        Err(Broken::WrongSignal { given, expected })
    }

    /// Whether an instance's time has come.
    fn resolved(&self, place: usize) -> Result<(), Broken> {
        self.may_start(place)?;
        let upstreams = self.upstreams(place);
        let rule = self.instances[place].task.trigger_rule;
        match holds(rule, &upstreams) {
            Some(true) => Ok(()),
            _ => Err(Broken::StartNotJustified { rule, upstreams }),
        }
    }

    fn may_start(&self, place: usize) -> Result<(), Broken> {
        let instance = &self.instances[place];
        let level = &self.levels[instance.level];
        let after = level.after.filter(|_| instance.map.is_none());
        let open = |member: &usize| !self.instances[*member].state.is_terminal();
        if after.is_some_and(|body| self.levels[body].members.iter().any(open)) {
            return Err(Broken::OutOfTurn("`finally` begins after all else"));
        }
        if let Some(owner) = instance.map.or(level.owner) {
            let owner = self.instances[owner].state;
            let ending = owner == TaskState::Stopping && after.is_some();
            if owner != TaskState::Running && !ending {
                return Err(Broken::OutOfTurn("what it is inside of is not under way"));
            }
        }
        let ending = self.cancelled || self.timed_out;
        let own = level.owner.is_none() && instance.map.is_none();
        if self.quarantined || ending && own && (after.is_none() || self.forced) {
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
        self.is_not_paused()?;
        let last = self.last_token.replace(token);
        if let Some(last) = last.filter(|last| *last >= token) {
            return Err(Broken::TokenNotNew { given: token, last });
        }
        self.instances[place].dispatch(event, token, worker)
    }

    /// Whether the way in which an instance ended follows from its upstreams.
    fn ended(&self, place: usize, state: TaskState, source: Option<&Source>) -> Result<(), Broken> {
        let instance = &self.instances[place];
        let decided = source == Some(&Source::Mark) || self.quarantined;
        if instance.state != TaskState::Pending || decided {
            return Ok(());
        }
        if state == TaskState::Success {
            if source.is_none() || matches!(source, Some(Source::Signal { .. })) {
                self.is_not_paused()?;
            }
            return self.resolved(place);
        }
        let upstreams = self.upstreams(place);
        let rule = instance.task.trigger_rule;
        let verdict = holds(rule, &upstreams);
        let when = match (&instance.task.for_each, instance.map) {
            (Some(each), Some(_)) => &each.when,
            _ => &instance.task.when,
        };
        let guarded = verdict == Some(true) && when.is_some();
        let opens = instance.task.for_each.is_some()
            || !matches!(instance.task.action, Action::Execute { .. });
        let justified = match state {
            TaskState::Skipped => verdict == Some(false) || guarded,
            TaskState::UpstreamFailed => {
                verdict == Some(false) && upstreams.iter().any(|state| spoilt(*state))
            }
            TaskState::Failed => {
                let task = instance.task;
                let evaluates =
                    !matches!(task.action, Action::Execute { .. }) || task.cache.is_some();
                guarded || verdict == Some(true) && (opens || evaluates)
            }
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
                // Nothing has happened to it yet.
                None if row.state == TaskState::Pending && row.path.as_str().ends_with(']') => None,
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
        let known = rows.tasks.iter().filter(|row| self.places.contains_key(&row.path)).count();
        found.extend(
            inside_count(
                u32::try_from(known).unwrap_or(u32::MAX),
                if self.state == Some(RunState::Skipped) { 0 } else { self.instances.len() },
            )
            .err()
            .map(|broken| (None, broken)),
        );
        for (path, broken) in found {
            self.note(None, path, broken);
        }
    }

    fn note(&mut self, seq: Option<u64>, path: Option<InstancePath>, broken: Broken) {
        self.violations.push(Violation { run: self.run, seq, path, broken });
    }
}

impl<'a> Instance<'a> {
    fn new(task: &'a Task, path: InstancePath, level: usize) -> Self {
        Self {
            path,
            level,
            map: None,
            series: 0,
            inside: None,
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
            event: None,
            until: None,
            marked: false,
            attempts: BTreeMap::new(),
        }
    }

    fn go(&mut self, from: &[TaskState], to: TaskState, by: &'static str) -> Result<(), Broken> {
        let state = std::mem::replace(&mut self.state, to);
        if from.contains(&state) { Ok(()) } else { Err(Broken::Transition { from: state, by }) }
    }

    fn reset(&mut self, token: Option<Token>) -> Result<(), Broken> {
        if let Some(token) = token {
            self.current(token)?;
        }
        if !self.spent {
            // Nobody took the last offer, or its attempt was stopped.
            self.tried(AttemptState::Cancelled);
        }
        let from = std::mem::replace(&mut self.state, TaskState::Pending);
        self.token = None;
        (self.event, self.until, self.marked) = (None, None, false);
        self.generation += 1;
        self.attempt = 0;
        self.spent = true;
        self.started = false;
        (self.failures, self.lost, self.interrupted) = (0, 0, 0);
        self.cause = None;
        let by = "task_reset";
        let runs = matches!(from, TaskState::Dispatched | TaskState::Running);
        if runs { Err(Broken::Transition { from, by }) } else { Ok(()) }
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
        use TaskState::{Deferred, Dispatched, Pending, Queued, Running, Stopping};
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
            EventKind::TaskClosing { .. } => {
                if self.inside.is_none() {
                    return Err(Broken::Transition { from: self.state, by: "task_closing" });
                }
                self.go(&[Running], Stopping, "task_closing")
            }
            EventKind::TaskStopping { token, .. } => {
                self.current(*token)?;
                self.tried(AttemptState::Stopping);
                self.go(&[Dispatched, Running], Stopping, "task_stopping")
            }
            EventKind::TaskDeferred { token: Some(token), wait, .. } => {
                self.current(*token)?;
                self.token = None;
                self.spent = true;
                if let Waiting::Poll { attempt, .. } = wait {
                    self.tried(*attempt);
                }
                self.go(&[Running], Deferred, "task_deferred")?;
                self.polls()
            }
            EventKind::TaskResumed => self.go(&[Deferred], Queued, "task_resumed"),
            EventKind::TaskCacheMissed { .. } => self.go(&[Pending], Pending, "task_cache_missed"),
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

    /// Only a sensor looks again.
    fn polls(&self) -> Result<(), Broken> {
        let by = "task_deferred";
        match &self.task.poll {
            Some(_) => Ok(()),
            None => Err(Broken::Transition { from: TaskState::Running, by }),
        }
    }

    /// Counts a failed attempt against its budget.
    fn spend(&mut self, failure: &Failure) -> Result<(), Broken> {
        let (given, allowed) = match failure.kind {
            FailureKind::Lost | FailureKind::WorkerFailed => {
                (&mut self.lost, self.task.lost_retries)
            }
            FailureKind::Interrupted => (&mut self.interrupted, MAX_INTERRUPTIONS),
            _ => (&mut self.failures, self.task.retry.max),
        };
        *given += 1;
        let given = *given;
        if given <= allowed { Ok(()) } else { Err(Broken::TooManyRetries { given, allowed }) }
    }

    fn finish(&mut self, kind: &EventKind) -> Result<(), Broken> {
        use TaskState::{Deferred, Dispatched, Pending, Queued, Running, Stopping};
        let EventKind::TaskFinished { state, token, failure, cause, source, .. } = kind else {
            return Ok(());
        };
        let from: &[TaskState] = match state {
            TaskState::Success => &[Dispatched, Running, Pending, Deferred],
            TaskState::Failed => &[Pending, Queued, Dispatched, Running, Deferred, Stopping],
            TaskState::Skipped if self.inside.is_some() => &[Pending, Running],
            TaskState::Skipped => &[Pending, Deferred],
            TaskState::UpstreamFailed => &[Pending],
            TaskState::Cancelled => &[Pending, Queued, Deferred, Stopping],
            _ => &[],
        };
        self.marked = *source == Some(Source::Mark);
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
            .or_else(|| differs("marked", &row.marked, &self.marked))
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
        kind if kind.is_of_the_worker() => AttemptState::Lost,
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

fn inside_count(given: u32, expected: usize) -> Result<(), Broken> {
    let expected = u32::try_from(expected).unwrap_or(u32::MAX);
    if given == expected { Ok(()) } else { Err(Broken::WrongInside { given, expected }) }
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
        EventKind::RunPaused => "run_paused",
        EventKind::RunResumed => "run_resumed",
        EventKind::SignalReceived { .. } => "signal_received",
        _ => "an event of an instance",
    }
}
