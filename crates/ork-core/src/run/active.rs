//! A run in memory, and the one door through which its instances change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::ids::{Epoch, InstancePath, ProjectId, RunId, Token};
use crate::plan::{Plan, Scope, Task};
use crate::rows::{Actor, AttemptRow, Change, CodeRef, EventRow, VersionId};
use crate::run::instance::{Hold, Instance, Ix, Key, Lease, Parked, Phase};
use crate::run::machine::{Config, Out};
use crate::run::ready::{Place, Ready};
use crate::run::remnant::Remnants;
use crate::run::timers::{Owner, Timers};
use crate::run::transition::{self, Illegal, Step};
use crate::run::values::{Map, Values};
use crate::run::workers::{DEFAULT_QUEUE, Workers};
use crate::run::{EventKind, Failure, NewRun, RunState, StopReason};
use crate::time::{Mono, Now, Wall};
use crate::value::{Data, Value};

/// What all runs share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) config: Config,
    pub(super) epoch: Epoch,
    /// Tokens issued in this epoch.
    pub(super) tokens: u32,
    pub(super) workers: Workers,
    pub(super) remnants: Remnants,
    /// Runs that are left alone, and why.
    pub(super) left_alone: BTreeMap<RunId, String>,
    pub(super) ready: Ready,
    pub(super) timers: Timers,
    pub(super) values: Values,
    /// Runs that have rows to write, each once.
    pub(super) touched: Vec<RunId>,
    /// Runs that wait for admission.
    pub(super) starting: VecDeque<RunId>,
    /// How many runs of each workflow those are.
    pub(super) pending: Pending,
    /// Runs that had more to do than one commit should carry.
    pub(super) backlog: Vec<RunId>,
    /// Offers that were made and have not left yet.
    pub(super) offers: Vec<Key>,
    /// The name of the one queue, shared.
    pub(super) queue: Arc<str>,
}

impl Desk {
    pub(super) fn new(config: Config, epoch: Epoch) -> Self {
        let values = Values::new(config.cache_bytes);
        Self {
            config,
            epoch,
            tokens: 0,
            workers: Workers::default(),
            remnants: Remnants::new(),
            left_alone: BTreeMap::new(),
            ready: Ready::default(),
            timers: Timers::default(),
            values,
            touched: Vec::new(),
            starting: VecDeque::new(),
            pending: Pending::default(),
            backlog: Vec::new(),
            offers: Vec::new(),
            queue: DEFAULT_QUEUE.into(),
        }
    }

    /// A token that was never issued before; none when the epoch has no more.
    pub(super) fn token(&mut self) -> Option<Token> {
        self.tokens = self.tokens.checked_add(1)?;
        Some(Token::new(self.epoch, self.tokens))
    }
}

/// How many runs of each workflow wait for admission.
#[derive(Debug, Default)]
pub(super) struct Pending(Map<(ProjectId, Arc<str>), usize>);

impl Pending {
    /// Those of one workflow.
    pub(super) fn of(&self, project: ProjectId, workflow: &str) -> usize {
        self.0.get(&(project, workflow.into())).copied().unwrap_or(0)
    }

    fn add(&mut self, facts: &Facts) {
        *self.0.entry((facts.project, Arc::clone(&facts.workflow))).or_default() += 1;
    }

    fn take(&mut self, facts: &Facts) {
        let key = (facts.project, Arc::clone(&facts.workflow));
        if let Some(count) = self.0.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }
}

/// What a step of a run works with.
pub(super) struct Cx<'a> {
    pub(super) desk: &'a mut Desk,
    pub(super) out: &'a mut Out,
    pub(super) now: Now,
    pub(super) by: &'a Actor,
}

/// How far a run attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for admission.
    Pending,
    /// The body is under way.
    Body,
    /// The body is over, `finally` is under way.
    Finally,
    /// All instances are over; the output is evaluated.
    Output,
    /// Over.
    Over(RunState),
}

impl Stage {
    /// Its name.
    pub(super) fn state(self) -> RunState {
        match self {
            Self::Pending => RunState::Pending,
            Self::Body | Self::Finally | Self::Output => RunState::Running,
            Self::Over(state) => state,
        }
    }
}

/// A run that is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunStop {
    pub(super) reason: StopReason,
    /// Whether `finally` is ended too.
    pub(super) forced: bool,
}

/// Which DAG of a plan a scope is of. Groups and called workflows will be others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Body,
    Finally,
}

impl Part {
    /// Its DAG.
    pub(super) fn of(self, plan: &Plan) -> &Scope {
        match self {
            Self::Body => &plan.body,
            Self::Finally => &plan.finally,
        }
    }

    /// What its paths begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Body => "",
            Self::Finally => "finally/",
        }
    }
}

/// A DAG of instances.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) part: Part,
    /// Its first instance; the others follow in the plan's order.
    pub(super) first: u32,
    /// How many it has.
    pub(super) len: u32,
    /// How many of them are not over.
    pub(super) open: u32,
    /// Downstreams: those of task `i` are `targets[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    targets: Vec<u32>,
}

impl Level {
    /// The level of a scope with no instance over yet.
    pub(super) fn new(part: Part, scope: &Scope, first: u32) -> Self {
        let len = u32::try_from(scope.tasks.len()).unwrap_or(u32::MAX);
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
        Self { part, first, len, open: len, starts, targets }
    }

    /// The instance of the task at `task`.
    pub(super) fn ix(&self, task: u32) -> Ix {
        Ix(self.first + task)
    }

    /// All its instances.
    pub(super) fn all(&self) -> impl Iterator<Item = Ix> + use<> {
        (self.first..self.first + self.len).map(Ix)
    }

    /// The instances that have the instance of `task` as an upstream.
    pub(super) fn downs(&self, task: u32) -> &[u32] {
        let (from, to) = (self.starts[task as usize], self.starts[task as usize + 1]);
        &self.targets[from as usize..to as usize]
    }
}

/// What a run is, from its creation on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) project: ProjectId,
    pub(super) project_name: Arc<str>,
    pub(super) workflow: Arc<str>,
    pub(super) version: VersionId,
    pub(super) plan: Arc<Plan>,
    pub(super) code: CodeRef,
    pub(super) params: Value,
    pub(super) logical_time: Arc<str>,
    pub(super) labels: IndexMap<String, String>,
    pub(super) trigger: String,
    pub(super) url: String,
    pub(super) created_by: Actor,
    pub(super) created_at: Wall,
}

/// How the body ended, as `finally` sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BodyEnd {
    pub(super) state: RunState,
    pub(super) failure: Option<Failure>,
    pub(super) failed: Vec<String>,
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) facts: Facts,
    /// The number of the run attempt.
    pub(super) round: u32,
    pub(super) stage: Stage,
    pub(super) stop: Option<RunStop>,
    /// When the run times out.
    pub(super) due: Option<Mono>,
    pub(super) started_at: Option<Wall>,
    pub(super) finished_at: Option<Wall>,
    pub(super) failure: Option<Failure>,
    pub(super) output: Option<Data>,
    pub(super) body_end: Option<BodyEnd>,
    /// What the output waits for.
    pub(super) parked: Option<Box<Parked>>,
    pub(super) instances: Vec<Instance>,
    pub(super) by_path: Map<InstancePath, Ix>,
    pub(super) levels: Vec<Level>,
    /// Instances whose rule may have an answer now, or that are to be ended.
    pub(super) todo: VecDeque<Ix>,
    /// How many of those were decided since rows were written.
    pub(super) decided: usize,
    /// The first instance that has had no row yet unless something happened to it.
    pub(super) unwritten: usize,
    pub(super) seq: u64,
    /// Whether the run's own row is to be written.
    pub(super) dirty: bool,
    /// Instances whose rows are, each once.
    pub(super) written: Vec<Ix>,
    /// Attempts that ended since rows were written.
    pub(super) ended: Vec<AttemptRow>,
    /// Whether the run is in [`Desk::touched`].
    pub(super) touched: bool,
}

impl Run {
    /// A run of which nothing has happened yet.
    pub(super) fn new(id: RunId, facts: Facts) -> Self {
        let plan = Arc::clone(&facts.plan);
        let mut run = Self {
            id,
            facts,
            round: 1,
            stage: Stage::Pending,
            stop: None,
            due: None,
            started_at: None,
            finished_at: None,
            failure: None,
            output: None,
            body_end: None,
            parked: None,
            instances: Vec::with_capacity(plan.body.tasks.len() + plan.finally.tasks.len()),
            by_path: Map::default(),
            levels: Vec::new(),
            todo: VecDeque::new(),
            decided: 0,
            unwritten: usize::MAX,
            seq: 0,
            dirty: false,
            written: Vec::new(),
            ended: Vec::new(),
            touched: false,
        };
        run.add_level(Part::Body, &plan.body);
        run.add_level(Part::Finally, &plan.finally);
        run
    }

    fn add_level(&mut self, part: Part, scope: &Scope) {
        let first = Ix::new(self.instances.len()).0;
        let number = Ix::new(self.levels.len()).0;
        for (task, plan) in (0..).zip(&scope.tasks) {
            let path = InstancePath(format!("{}{}", part.prefix(), plan.name).into());
            self.by_path.insert(path.clone(), Ix(first + task));
            self.instances.push(Instance::new(path, number, task, plan.upstreams.len()));
        }
        self.levels.push(Level::new(part, scope, first));
    }

    /// The run that a command asks for.
    pub(super) fn create(new: NewRun, now: Now) -> Self {
        let facts = Facts {
            project: new.project,
            project_name: new.project_name,
            workflow: new.plan.name.as_str().into(),
            version: new.version,
            plan: new.plan,
            code: new.code,
            params: new.params,
            logical_time: new.logical_time.into(),
            labels: new.labels,
            trigger: new.trigger,
            url: new.url,
            created_by: new.by,
            created_at: now.wall,
        };
        Self::new(new.id, facts)
    }

    /// The run is held from now on: it counts among those that wait, if it does.
    pub(super) fn arrive(&self, desk: &mut Desk) {
        if self.stage == Stage::Pending {
            desk.pending.add(&self.facts);
        }
    }

    /// Goes to a stage.
    pub(super) fn enter(&mut self, stage: Stage, desk: &mut Desk) {
        if self.stage == Stage::Pending {
            desk.pending.take(&self.facts);
        }
        self.stage = stage;
        self.arrive(desk);
    }

    pub(super) fn instance(&self, ix: Ix) -> &Instance {
        &self.instances[ix.at()]
    }

    pub(super) fn instance_mut(&mut self, ix: Ix) -> &mut Instance {
        &mut self.instances[ix.at()]
    }

    /// The level that an instance is in.
    pub(super) fn level(&self, ix: Ix) -> &Level {
        &self.levels[self.instance(ix).scope as usize]
    }

    /// Whether an instance belongs to `finally`.
    pub(super) fn in_finally(&self, ix: Ix) -> bool {
        self.level(ix).part == Part::Finally
    }

    /// An instance's task in `plan`, which is the run's.
    pub(super) fn task_in<'p>(&self, plan: &'p Plan, ix: Ix) -> &'p Task {
        &self.level(ix).part.of(plan).tasks[self.instance(ix).task as usize]
    }

    /// An instance's task.
    pub(super) fn task(&self, ix: Ix) -> &Task {
        self.task_in(&self.facts.plan, ix)
    }

    pub(super) fn key(&self, ix: Ix) -> Key {
        Key { run: self.id, ix }
    }

    /// Whether no attempt may start in the instance's level any more.
    pub(super) fn is_ended(&self, ix: Ix) -> bool {
        self.stop.is_some_and(|stop| stop.forced || !self.in_finally(ix))
    }

    /// Sees to it that rows of the run are written.
    pub(super) fn touch(&mut self, desk: &mut Desk) {
        if !self.touched {
            self.touched = true;
            desk.touched.push(self.id);
        }
    }

    /// Sees to it that the instance's row is written.
    pub(super) fn mark(&mut self, ix: Ix, desk: &mut Desk) {
        self.touch(desk);
        let instance = &mut self.instances[ix.at()];
        if !instance.dirty {
            instance.dirty = true;
            self.written.push(ix);
        }
    }

    /// Appends an event of the run.
    pub(super) fn log(&mut self, kind: EventKind, cx: &mut Cx<'_>) {
        self.append(None, kind, cx);
    }

    /// Appends an event of an instance.
    pub(super) fn log_at(&mut self, ix: Ix, kind: EventKind, cx: &mut Cx<'_>) {
        self.append(Some(ix), kind, cx);
    }

    fn append(&mut self, ix: Option<Ix>, kind: EventKind, cx: &mut Cx<'_>) {
        self.seq += 1;
        self.touch(cx.desk);
        let instance = ix.map(|ix| self.instance(ix));
        let row = EventRow {
            project: self.facts.project,
            run: self.id,
            seq: self.seq,
            at: cx.now.wall,
            path: instance.map(|i| i.path.clone()),
            generation: instance.map(|i| i.generation),
            attempt: instance.map(|i| i.attempt).filter(|n| *n > 0),
            actor: cx.by.clone(),
            schema_version: 1,
            kind,
        };
        cx.out.changes.push(Change::Event(Arc::new(row)));
    }

    /// Takes an instance along one step of the table. What a phase holds (a slot, a place in the
    /// queue, a deadline, pinned values) is taken and freed here and nowhere else.
    pub(super) fn shift(
        &mut self,
        ix: Ix,
        step: Step,
        phase: Phase,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        let from = instance.state();
        let to = transition::next(from, step)?;
        if to != phase.state() {
            return Err(Illegal { from, step });
        }
        self.leave_queue(ix, cx.desk);
        self.unpark(ix, cx.desk);
        let key = self.key(ix);
        let instance = self.instance_mut(ix);
        instance.due = None;
        let old = std::mem::replace(&mut instance.phase, phase);
        let new = &instance.phase;
        move_slot(old.lease(), new.lease(), key, cx.desk);
        #[cfg(feature = "sabotage")]
        release_early(new, key, cx.desk);
        self.enter_queue(ix, cx.desk);
        self.mark(ix, cx.desk);
        Ok(())
    }

    fn place(&self, ix: Ix, desk: &Desk) -> Place {
        Place {
            queue: Arc::clone(&desk.queue),
            project: self.facts.project,
            workflow: Arc::clone(&self.facts.workflow),
            key: self.key(ix),
            since: self.instance(ix).queued_at.unwrap_or_default(),
        }
    }

    fn is_ready(&self, ix: Ix) -> bool {
        matches!(self.instance(ix).phase, Phase::Queued { hold: Hold::Ready, .. })
    }

    pub(super) fn leave_queue(&self, ix: Ix, desk: &mut Desk) {
        if self.is_ready(ix) {
            let place = self.place(ix, desk);
            desk.ready.remove(&place);
        }
    }

    pub(super) fn enter_queue(&self, ix: Ix, desk: &mut Desk) {
        if self.is_ready(ix) {
            let place = self.place(ix, desk);
            desk.ready.insert(&place);
        }
    }

    /// Whether a ready instance has its place in the queue. For invariants.
    pub(super) fn queue_agrees(&self, ix: Ix, desk: &Desk) -> bool {
        desk.ready.contains(&self.place(ix, desk)) == self.is_ready(ix)
    }

    /// Changes what a queued instance waits for.
    pub(super) fn set_hold(&mut self, ix: Ix, to: Hold, desk: &mut Desk) {
        self.leave_queue(ix, desk);
        if let Phase::Queued { hold, .. } = &mut self.instance_mut(ix).phase {
            *hold = to;
        }
        self.enter_queue(ix, desk);
    }

    /// Sets the deadline of an instance's phase.
    pub(super) fn arm(&mut self, ix: Ix, at: Mono, desk: &mut Desk) {
        self.instance_mut(ix).due = Some(at);
        desk.timers.set(at, Owner::Instance(self.key(ix)));
    }
}

/// A slot follows the lease.
fn move_slot(old: Option<&Lease>, new: Option<&Lease>, key: Key, desk: &mut Desk) {
    match (old, new) {
        (Some(lease), None) => desk.workers.free(&lease.worker, key),
        (None, Some(lease)) => desk.workers.take(&lease.worker, key),
        _ => {}
    }
}

#[cfg(feature = "sabotage")]
fn release_early(phase: &Phase, key: Key, desk: &mut Desk) {
    if let (Phase::Stopping(stop), Some(crate::run::Sabotage::ReleaseEarly)) =
        (phase, desk.config.sabotage)
    {
        desk.workers.free(&stop.lease.worker, key);
    }
}
