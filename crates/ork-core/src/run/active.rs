//! A run in memory, and the one door through which its instances change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::ids::{Epoch, InstancePath, ProjectId, RunId, Token};
use crate::plan::{Plan, Task};
use crate::rows::{Actor, AttemptRow, Change, CodeRef, EventRow, Pause, VersionId};
use crate::run::instance::{Closing, Hold, Instance, Ix, Key, Lease, Parked, Phase};
use crate::run::level::{Frame, Held, Level, Part, Shape};
use crate::run::limits::{Entry, Limits};
use crate::run::machine::{Config, Out};
use crate::run::pause::Pauses;
use crate::run::pools::{Pools, Taken};
use crate::run::ready::{Place, Ready};
use crate::run::remnant::Remnants;
use crate::run::rerun::Earlier;
use crate::run::signals::Signals;
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
    pub(super) pools: Pools,
    /// Places of runs, and who waits for one.
    pub(super) limits: Limits,
    /// How many runs of each workflow wait for admission.
    pub(super) pending: Pending,
    /// Runs that had more to do than one commit should carry.
    pub(super) backlog: Vec<RunId>,
    /// Workflows and projects that are paused.
    pub(super) pauses: Pauses,
    /// Pending runs that are paused.
    pub(super) resting: BTreeSet<RunId>,
    /// Instances that wait for a wall time, the earliest first.
    pub(super) alarms: BTreeSet<(Wall, Key)>,
    /// Approvals that are open.
    pub(super) approvals: BTreeSet<Key>,
    /// Offers that were made and have not left yet.
    pub(super) offers: Vec<Key>,
    /// The name of the queue of tasks that name none, shared.
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
            pools: Pools::default(),
            limits: Limits::default(),
            pending: Pending::default(),
            backlog: Vec::new(),
            pauses: Pauses::default(),
            resting: BTreeSet::new(),
            alarms: BTreeSet::new(),
            approvals: BTreeSet::new(),
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

    /// All of them.
    pub(super) fn all(&self) -> usize {
        self.0.values().sum()
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

/// What a run is, from its creation on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) project: ProjectId,
    pub(super) project_name: Arc<str>,
    pub(super) workflow: Arc<str>,
    pub(super) version: VersionId,
    pub(super) logical_time: Arc<str>,
    pub(super) labels: IndexMap<String, String>,
    pub(super) trigger: String,
    pub(super) url: String,
    pub(super) rerun_of: Option<RunId>,
    pub(super) after: Option<RunId>,
    pub(super) created_by: Actor,
    pub(super) created_at: Wall,
}

/// A run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) facts: Facts,
    /// The number of the run attempt.
    pub(super) round: u32,
    pub(super) stage: Stage,
    pub(super) stop: Option<RunStop>,
    /// The value of its workflow's `concurrency.key` at its creation.
    pub(super) key_value: Arc<str>,
    /// Whether it has a place among the runs of its workflow.
    pub(super) admitted: bool,
    /// Claims of its calls to places among the runs of other workflows.
    pub(super) calls: BTreeMap<Ix, Entry>,
    /// When the run times out.
    pub(super) due: Option<Mono>,
    pub(super) started_at: Option<Wall>,
    pub(super) finished_at: Option<Wall>,
    pub(super) failure: Option<Failure>,
    pub(super) output: Option<Data>,
    /// What the output waits for.
    pub(super) parked: Option<Box<Parked>>,
    /// Of what it fails, while it is being set aside. Nothing else is done with it then.
    pub(super) aside: Option<Failure>,
    /// The run's own pause.
    pub(super) paused: Option<Pause>,
    /// Whether anything keeps new starts back: its own pause, its workflow's, or its project's.
    pub(super) rests: bool,
    /// Signals that no wait has taken.
    pub(super) signals: Signals,
    /// Instances that wait for a signal, by its name, in the order of the plan.
    pub(super) listening: BTreeMap<Arc<str>, BTreeSet<Ix>>,
    /// The run that this one does again, as far as it is here.
    pub(super) earlier: Earlier,
    pub(super) instances: Vec<Instance>,
    pub(super) by_path: Map<InstancePath, Ix>,
    /// The last generation of what an earlier DAG made at run time left, where there is no more of
    /// it than its row.
    pub(super) generations: Map<InstancePath, u32>,
    pub(super) levels: Vec<Level>,
    /// The workflows under way: its own first, then those that it calls.
    pub(super) frames: Vec<Frame>,
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
    pub(super) fn new(
        id: RunId,
        facts: Facts,
        plan: Arc<Plan>,
        params: Value,
        code: CodeRef,
    ) -> Self {
        let mut run = Self {
            id,
            facts,
            round: 1,
            stage: Stage::Pending,
            stop: None,
            key_value: "".into(),
            admitted: false,
            calls: BTreeMap::new(),
            due: None,
            started_at: None,
            finished_at: None,
            failure: None,
            output: None,
            parked: None,
            aside: None,
            paused: None,
            rests: false,
            signals: Signals::default(),
            listening: BTreeMap::new(),
            earlier: Earlier::None,
            instances: Vec::with_capacity(plan.body.tasks.len() + plan.finally.tasks.len()),
            by_path: Map::default(),
            generations: Map::default(),
            levels: Vec::new(),
            frames: Vec::new(),
            todo: VecDeque::new(),
            decided: 0,
            unwritten: usize::MAX,
            seq: 0,
            dirty: false,
            written: Vec::new(),
            ended: Vec::new(),
            touched: false,
        };
        run.add_frame(None, plan, params, code);
        run
    }

    /// Instantiates a DAG; its instances follow the last that there is. One that an earlier
    /// generation left under the same path makes room.
    pub(super) fn add_level(
        &mut self,
        shape: Arc<Shape>,
        frame: u32,
        owner: Option<Ix>,
        part: Part,
    ) -> u32 {
        let first = Ix::new(self.instances.len());
        self.put_level(shape, frame, owner, part, first)
    }

    /// [`Run::add_level`] with the instances at a certain place.
    pub(super) fn put_level(
        &mut self,
        shape: Arc<Shape>,
        frame: u32,
        owner: Option<Ix>,
        part: Part,
        first: Ix,
    ) -> u32 {
        let number = Ix::new(self.levels.len()).0;
        let tasks = &shape.scope().tasks;
        let len = Ix::new(tasks.len()).0;
        let prefix = self.prefix(frame, owner, part);
        for (task, plan) in (0..).zip(tasks) {
            let (ix, path) =
                (Ix(first.0 + task), InstancePath(format!("{prefix}{}", plan.name).into()));
            let mut instance = Instance::new(path.clone(), number, task, plan.upstreams.len());
            instance.generation = self.move_in(path, ix);
            self.put(ix, instance);
        }
        if len > 0 && self.unwritten == usize::MAX {
            self.unwritten = first.at();
        }
        self.levels.push(Level { shape, frame, owner, part, first: first.0, len, open: len });
        number
    }

    /// Gives a path to an instance, and says which generation that is the first of. What an earlier
    /// time left under the path makes room.
    pub(super) fn move_in(&mut self, path: InstancePath, ix: Ix) -> u32 {
        let known = self.generations.remove(&path);
        let old = self.by_path.insert(path, ix).map(|old| {
            let void = Instance::void();
            std::mem::replace(self.instance_mut(old), void).generation
        });
        old.or(known).map_or(1, |last| last + 1)
    }

    /// Puts an instance in its place; what is between it and the last is none.
    pub(super) fn put(&mut self, ix: Ix, instance: Instance) {
        while self.instances.len() <= ix.at() {
            self.instances.push(Instance::void());
        }
        *self.instance_mut(ix) = instance;
    }

    /// What the paths in a level begin with.
    fn prefix(&self, frame: u32, owner: Option<Ix>, part: Part) -> String {
        let outer = owner.map(|owner| format!("{}/", self.instance(owner).path));
        let root = self.frames[frame as usize].owner == owner;
        let part = if root && part == Part::Finally { "finally/" } else { "" };
        outer.unwrap_or_default() + part
    }

    /// The instance of a name in a level.
    pub(super) fn find(&self, level: &Level, name: &str) -> Option<Ix> {
        let path = self.prefix(level.frame, level.owner, level.part) + name;
        self.by_path.get(path.as_str()).copied().filter(|ix| level.has(*ix))
    }

    /// The instance at a path, if it and all that it is inside of are of the present generation.
    pub(super) fn current(&self, path: &InstancePath) -> Option<Ix> {
        let ix = *self.by_path.get(path)?;
        let mut inner = ix;
        while let Some(owner) = self.owner(inner) {
            if !self.contains(owner, inner) {
                return None;
            }
            inner = owner;
        }
        Some(ix)
    }

    /// Tells of the instances of a new level that have a generation before this one.
    pub(super) fn announce_again(&mut self, level: u32, cx: &mut Cx<'_>) {
        for ix in self.levels[level as usize].all() {
            if self.instance(ix).generation > 1 {
                self.log_at(ix, EventKind::TaskReset { token: None }, cx);
            }
        }
    }

    /// The run that a command asks for.
    pub(super) fn create(new: NewRun, now: Now) -> Self {
        let facts = Facts {
            project: new.project,
            project_name: new.project_name,
            workflow: new.plan.name.as_str().into(),
            version: new.version,
            logical_time: new.logical_time.into(),
            labels: new.labels,
            trigger: new.trigger,
            url: new.url,
            rerun_of: new.rerun_of,
            after: new.after,
            created_by: new.by,
            created_at: now.wall,
        };
        Self::new(new.id, facts, new.plan, new.params, new.code)
    }

    /// The run is held from now on: it waits for a place, or has one, or neither.
    pub(super) fn arrive(&self, desk: &mut Desk) {
        let entry = self.entry();
        if self.stage == Stage::Pending {
            desk.pending.add(&self.facts);
            desk.limits.stand(&entry);
        } else if self.admitted {
            desk.limits.enter(&entry);
        } else {
            desk.limits.leave(&entry);
        }
    }

    /// Goes to a stage.
    pub(super) fn enter(&mut self, stage: Stage, desk: &mut Desk) {
        if self.stage == Stage::Pending {
            desk.pending.take(&self.facts);
        }
        self.stage = stage;
        self.admitted &= !matches!(stage, Stage::Pending | Stage::Over(_));
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
        &self.levels[self.instance(ix).level as usize]
    }

    /// An instance's task.
    pub(super) fn task(&self, ix: Ix) -> &Task {
        self.level(ix).shape.task(self.instance(ix).task)
    }

    /// An instance's task, for use while the run changes.
    pub(super) fn held_task(&self, ix: Ix) -> Held {
        Held::new(&self.level(ix).shape, self.instance(ix).task)
    }

    /// The workflow that an instance belongs to.
    pub(super) fn frame(&self, ix: Ix) -> &Frame {
        &self.frames[self.level(ix).frame as usize]
    }

    /// The run's own plan.
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.frames[0].plan
    }

    pub(super) fn key(&self, ix: Ix) -> Key {
        Key { run: self.id, ix }
    }

    /// What ends the instance before its time, if anything: the run is ended, or what it is
    /// inside of.
    pub(super) fn closing(&self, ix: Ix) -> Option<Closing> {
        if !self.is_ended(ix) {
            return None;
        }
        if let Some(owner) = self.owner(ix) {
            return self.closed(owner);
        }
        let RunStop { reason, forced } = self.stop?;
        Some(Closing { reason, failure: self.stopped(reason), forced })
    }

    /// Whether no attempt of the instance may start any more.
    pub(super) fn is_ended(&self, ix: Ix) -> bool {
        let forced = match self.owner(ix).map(|owner| &self.instance(owner).phase) {
            None => self.stop.map(|stop| stop.forced),
            Some(Phase::Open(closing)) => closing.as_ref().map(|closing| closing.forced),
            Some(_) => None,
        };
        forced.is_some_and(|forced| forced || !self.is_cleanup(ix))
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
        self.leave_wait(ix, cx.desk);
        let (key, taken) = (self.key(ix), self.taken(ix));
        let instance = self.instance_mut(ix);
        instance.clear_deadlines();
        let old = std::mem::replace(&mut instance.phase, phase);
        let new = &instance.phase;
        move_slot(old.lease(), new.lease(), (key, taken), cx.desk);
        #[cfg(feature = "sabotage")]
        release_early(new, key, cx.desk);
        if to.is_terminal() {
            self.leave_call_place(ix, cx.desk);
        }
        self.enter_queue(ix, cx.desk);
        self.enter_wait(ix, cx.desk);
        self.mark(ix, cx.desk);
        Ok(())
    }

    fn place(&self, ix: Ix, desk: &Desk) -> Place {
        Place {
            queue: self.queue_of(ix, desk),
            project: self.facts.project,
            workflow: Arc::clone(&self.facts.workflow),
            key: self.key(ix),
            priority: self.task(ix).priority,
            since: self.since(ix),
        }
    }

    /// The queue whose workers may take it.
    pub(super) fn queue_of(&self, ix: Ix, desk: &Desk) -> Arc<str> {
        let named = self.task(ix).worker_queue.as_deref();
        named.map_or_else(|| Arc::clone(&desk.queue), Into::into)
    }

    /// Whether it stands in the queue for a slot. Nothing of a paused run does.
    pub(super) fn is_ready(&self, ix: Ix) -> bool {
        !self.rests && matches!(self.instance(ix).phase, Phase::Queued { hold: Hold::Ready, .. })
    }

    /// Since when it waits, for the order of the queue. What is inside an item of a map is as old
    /// as the item, so that items that began are done before others begin.
    fn since(&self, ix: Ix) -> Wall {
        let owners = self.owners(ix).map(|owner| self.instance(owner));
        let item = owners.filter(|owner| owner.item.is_some()).last();
        let since = item.map_or(self.instance(ix).queued_at, |item| item.started_at);
        since.unwrap_or_default()
    }

    pub(super) fn leave_queue(&mut self, ix: Ix, desk: &mut Desk) {
        if self.is_ready(ix) {
            let place = self.place(ix, desk);
            desk.ready.remove(&place);
        }
        if self.is_standing(ix) {
            self.count_ready(ix, false);
        }
        if let Some(claim) = self.claim(ix) {
            desk.pools.unpark(&claim.pool, self.key(ix));
        }
    }

    pub(super) fn enter_queue(&mut self, ix: Ix, desk: &mut Desk) {
        if self.is_ready(ix) {
            self.stand_again(ix, desk);
            self.count_ready(ix, true);
        } else if self.awaits_pool(ix)
            && let Some(claim) = self.claim(ix)
        {
            let place = self.place(ix, desk);
            desk.pools.park(place, claim);
            self.count_ready(ix, true);
        }
    }

    /// Puts an instance back that was taken out of the queue and has not left it.
    pub(super) fn stand_again(&self, ix: Ix, desk: &mut Desk) {
        let place = self.place(ix, desk);
        desk.ready.insert(&place);
    }

    /// Whether it stands in the queue for a slot, or in the line of its pool.
    pub(super) fn is_standing(&self, ix: Ix) -> bool {
        self.is_ready(ix) || self.awaits_pool(ix)
    }

    /// Each map that an instance is inside of knows how many stand in a queue, or wait for the
    /// compiler.
    pub(super) fn count_ready(&mut self, ix: Ix, add: bool) {
        let mut at = self.owner(ix);
        while let Some(owner) = at {
            if let Some(map) = self.map_mut(owner) {
                map.ready = if add { map.ready + 1 } else { map.ready.saturating_sub(1) };
                if !add && map.has_room() {
                    self.wake(owner);
                }
            }
            at = self.owner(owner);
        }
    }

    pub(super) fn awaits_pool(&self, ix: Ix) -> bool {
        matches!(self.instance(ix).phase, Phase::Queued { hold: Hold::Pool, .. })
    }

    /// Whether a ready instance has its place in the queue. For invariants.
    pub(super) fn queue_agrees(&self, ix: Ix, desk: &Desk) -> bool {
        let claim = self.claim(ix);
        let parked = claim.is_some_and(|claim| desk.pools.awaits(&claim.pool, self.key(ix)));
        desk.ready.contains(&self.place(ix, desk)) == self.is_ready(ix)
            && parked == self.awaits_pool(ix)
    }

    /// Changes what a queued instance waits for.
    pub(super) fn set_hold(&mut self, ix: Ix, to: Hold, desk: &mut Desk) {
        self.leave_queue(ix, desk);
        self.replace_hold(ix, to);
        self.enter_queue(ix, desk);
    }

    pub(super) fn replace_hold(&mut self, ix: Ix, to: Hold) {
        if let Phase::Queued { hold, .. } = &mut self.instance_mut(ix).phase {
            *hold = to;
        }
    }

    /// Sets the deadline of an instance's phase.
    pub(super) fn arm(&mut self, ix: Ix, at: Mono, desk: &mut Desk) {
        self.instance_mut(ix).due = Some(at);
        desk.timers.set(at, Owner::Instance(self.key(ix)));
    }
}

/// A slot follows the lease, and so do those of a pool.
fn move_slot(
    old: Option<&Lease>,
    new: Option<&Lease>,
    (key, taken): (Key, Option<Taken>),
    desk: &mut Desk,
) {
    match (old, new) {
        (Some(lease), None) => {
            desk.workers.free(&lease.worker, key);
            if let Some(taken) = taken {
                desk.pools.free(&taken.pool, lease.token);
            }
        }
        (None, Some(lease)) => {
            desk.workers.take(&lease.worker, key);
            if let Some(taken) = taken {
                desk.pools.take(lease.token, taken);
            }
        }
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
