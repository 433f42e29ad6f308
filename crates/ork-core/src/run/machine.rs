//! The machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptRef, Epoch, InstancePath, ProjectId, RunId, WorkerId};
use crate::rows::{ActiveRun, Actor, Change, VersionId};
use crate::run::active::{Cx, Desk, Run, Stage};
use crate::run::attempt::stale;
use crate::run::control::Answered as RunAnswered;
use crate::run::instance::{Ix, Key};
use crate::run::pause::PauseScope;
use crate::run::timers::Owner;
use crate::run::transition::Illegal;
use crate::run::values::Map;
use crate::run::workers::DEFAULT_QUEUE;
use crate::run::{
    Answer, Command, Departure, Effect, Failure, FailureKind, NewRun, Refusal, RefusalCode, Report,
};
use crate::time::{Mono, Now, Span, Wall};
use crate::value::{Digest, Value};

/// The machine's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long an offer may go unconfirmed.
    pub claim: Span,
    /// How long a worker may be silent.
    pub lease: Span,
    /// How long past `grace` a stop may take before the slot is taken to be free.
    pub stop_margin: Span,
    /// The most runs of one workflow that may wait for admission; more are refused.
    pub max_pending: usize,
    /// The most bytes of fetched values that are kept.
    pub cache_bytes: usize,
    /// The most instances of a run: no item begins past it, and nothing that has others inside.
    pub max_instances: usize,
    /// A rule that is broken on purpose, to see whether the checks find it.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<Sabotage>,
}

/// A rule of the machine that can be broken on purpose.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Reports are taken whatever their token.
    SkipTokenCheck,
    /// A slot is free as soon as its attempt is told to stop.
    ReleaseEarly,
    /// Pools are taken to be large enough for all.
    IgnorePools,
    /// Runs find a place whatever `max_runs` says.
    IgnorePlaces,
    /// Pauses keep nothing back.
    IgnorePauses,
    /// All items of a map begin at once.
    IgnoreMaxParallel,
    /// The end of a task named `boom` makes the machine panic.
    Panic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            claim: Span::from_secs(5),
            lease: Span::from_secs(15),
            stop_margin: Span::from_secs(30),
            max_pending: 10_000,
            cache_bytes: 64 << 20,
            max_instances: 1_000_000,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// Where changes and effects go, in the order in which they are made.
#[derive(Debug, Default)]
pub struct Out {
    /// To be put into the blob store before the changes are committed, which refer to them.
    pub blobs: Vec<Blob>,
    /// To be made durable.
    pub changes: Vec<Change>,
    /// To be performed after that.
    pub effects: Vec<Effect>,
}

/// A value that is too large for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The digest of the content.
    pub digest: Digest,
    /// The value's JSON.
    pub content: Vec<u8>,
}

/// Why an instance does not go on. Admission asks the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blocker {
    /// The run can neither be decided nor ended, and is left alone.
    SetAside {
        /// Why.
        reason: String,
    },
    /// The run is about to be admitted.
    RunPending,
    /// The run waits for a place among the runs of its workflow.
    RunLimit {
        /// The workflow whose limit it is.
        workflow: String,
        /// What tells its runs apart, if anything does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// How many there may be at a time.
        max_runs: u32,
        /// How many wait longer.
        ahead: usize,
        /// Who has the places; the first five.
        holders: Vec<Holder>,
    },
    /// The slots of its pool are taken.
    Pool {
        /// The pool.
        name: String,
        /// How many slots it needs. More than the pool has it never gets.
        slots: u32,
        /// How many the pool has.
        of: u32,
        /// How many are taken.
        used: u32,
        /// By whom; the first five.
        holders: Vec<Holder>,
    },
    /// Items of the map have not begun, since as many as may are under way.
    Items {
        /// The map.
        path: InstancePath,
        /// How many have not begun, or wait to be done again.
        left: u32,
        /// How many may be under way; none: they follow as others leave the queue for a worker.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_parallel: Option<u32>,
        /// Those that are; the first five.
        holders: Vec<Holder>,
    },
    /// It belongs to `finally`, and this many instances of the body are not over.
    Body {
        /// How many.
        open: u32,
    },
    /// What it is inside of has not begun.
    Outer {
        /// Which.
        path: InstancePath,
        /// Where that stands.
        state: crate::run::TaskState,
    },
    /// The DAG that it is to hold is being compiled.
    Compiler,
    /// An upstream is not over.
    Upstream {
        /// Which.
        path: InstancePath,
        /// Where the upstream stands.
        state: crate::run::TaskState,
    },
    /// It is tried again at this time.
    RetryAt {
        /// When.
        at: Wall,
    },
    /// Nothing of it may start.
    Paused {
        /// What is paused.
        scope: PauseScope,
        /// Who paused it.
        by: String,
        /// Why, as they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Since when.
        since: Wall,
    },
    /// It waits for a time.
    Time {
        /// Which.
        at: Wall,
        /// When the wait is given up.
        until: Option<Wall>,
    },
    /// It waits for a signal.
    Event {
        /// Its name.
        name: String,
        /// When the wait is given up.
        until: Option<Wall>,
    },
    /// It waits for a person.
    Approval {
        /// What is asked.
        prompt: String,
        /// Who may decide; empty: whoever may run the workflow.
        approvers: Vec<String>,
        /// When silence counts as an answer.
        until: Option<Wall>,
    },
    /// What it looks for was not there; it looks again.
    Poll {
        /// When.
        at: Wall,
        /// When it is given up.
        until: Option<Wall>,
    },
    /// An earlier success that may be reused is being looked for.
    Earlier {
        /// The run whose successes are copied, if it is that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    /// Values that an expression needs are being loaded.
    Values {
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// No worker serves the queue.
    NoWorker {
        /// The queue.
        queue: String,
    },
    /// All slots of the workers that serve the queue are taken.
    NoSlot {
        /// The queue.
        queue: String,
        /// How many slots there are.
        slots: u32,
    },
}

/// Who holds what is limited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    pub run: RunId,
    /// The instance; none: the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<InstancePath>,
}

/// How much the machine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs that wait for admission.
    pub pending: usize,
    /// Runs under way.
    pub running: usize,
    /// Instances that may start and wait for a slot.
    pub queued: usize,
    /// Attempts that hold a slot.
    pub attempts: usize,
}

/// A worker as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker: WorkerId,
    /// Whether it is here; else it is known by attempts it had when the store was taken over.
    pub joined: bool,
    /// Whether it takes no more attempts.
    pub leaving: bool,
    /// How many attempts it does at a time.
    pub slots: u32,
    /// How many it has.
    pub used: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
}

/// A broken invariant of the machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// What a command comes to.
pub(super) type Answered = Result<Answer, Refusal>;

/// The longest time after which the civil clock is looked at while something waits for it.
const ALARM: Span = Span::from_secs(60);

/// Every active run, and the workers.
#[derive(Debug)]
pub struct Machine {
    pub(super) runs: Map<RunId, Run>,
    pub(super) desk: Desk,
    /// Who causes what nobody asked for.
    system: Actor,
    /// The last time that was told.
    pub(super) seen: Now,
    /// Since when this machine has been called in time; none: it has not been called.
    healthy: Option<Mono>,
}

impl Machine {
    /// A machine without runs.
    pub fn new(config: Config, epoch: Epoch) -> Self {
        Self {
            runs: Map::default(),
            desk: Desk::new(config, epoch),
            system: Actor { name: "system".into(), ..Actor::default() },
            seen: Now::default(),
            healthy: None,
        }
    }

    /// Takes over the active runs of a store, or one that ended and is to be retried (it is
    /// forgotten by the next [`Machine::settle`] when it is not). Offers that were under way are
    /// sent again under their tokens once their worker joins.
    pub fn load(&mut self, runs: Vec<ActiveRun>, now: Now, out: &mut Out) {
        self.notice(now);
        for active in runs {
            let id = active.run.id;
            if self.holds(id) || self.desk.left_alone.contains_key(&id) {
                continue;
            }
            if !active.run.state.is_terminal() {
                self.desk.clear_run(id);
            }
            let mut cx = Cx { desk: &mut self.desk, out: &mut *out, now, by: &self.system };
            let (run, restored) = Run::restore(active, &mut cx);
            self.adopt(&run);
            run.arrive(&mut self.desk);
            self.runs.insert(id, run);
            let mut cx = Cx { desk: &mut self.desk, out: &mut *out, now, by: &self.system };
            let Some(run) = self.runs.get_mut(&id) else { continue };
            guard(run, &mut cx, |run, cx| match restored {
                Err(why) if !matches!(run.stage, Stage::Over(_)) => {
                    run.set_aside(format!("cannot be loaded: {why}"), cx)
                }
                _ => run.go_on(cx),
            });
        }
    }

    /// Applies one command. Events are appended to `out` here, rows by [`Machine::settle`].
    ///
    /// # Errors
    /// A refused command changed nothing.
    pub fn apply(&mut self, command: Command, now: Now, out: &mut Out) -> Result<Answer, Refusal> {
        self.notice(now);
        match command {
            Command::Create(new) => self.create(*new, now, out),
            Command::Cancel { run, path, force, by } => {
                self.cancel(run, path.as_ref(), force, &by, now, out)
            }
            Command::Retry { run, selection, cancel_downstream, by } => {
                self.is_clear(run)?;
                self.ask_run(run, &by, (now, out), |run, cx| {
                    run.retry(&selection, cancel_downstream, cx)
                })
            }
            Command::Pause { what, on, by } => self.pause(what, on, &by, (now, out)),
            Command::Signal { run, name, payload, by } => {
                self.ask_run(run, &by, (now, out), |run, cx| run.signal(&name, payload, cx))
            }
            Command::Decide { run, path, decision, by } => {
                let decide =
                    |run: &mut Run, cx: &mut Cx<'_>| run.decide_approval(&path, decision, cx);
                self.ask_run(run, &by, (now, out), decide)
            }
            Command::Mark { run, path, outcome, by } => {
                self.ask_run(run, &by, (now, out), |run, cx| run.mark_as(&path, outcome, cx))
            }
            Command::Recalled { run, earlier } => {
                self.step(run, now, out, |run, cx| run.recalled(earlier, cx));
                Ok(Answer::Done)
            }
            Command::Found { run, path, hit, last } => {
                let (hit, last) = (hit.map(|row| *row), last.map(|row| *row));
                self.step(run, now, out, |run, cx| run.looked_up(&path, hit, last.as_ref(), cx));
                Ok(Answer::Done)
            }
            Command::SetPool { project, name, slots, by } => {
                self.set_pool(project, name, slots, &by, (now, out));
                Ok(Answer::Done)
            }
            Command::WorkerJoined { worker, slots, queues, confirms } => {
                self.desk.workers.change(&worker, |worker| worker.near = !confirms);
                self.join(&worker, slots, &queues, now, out);
                Ok(Answer::Done)
            }
            Command::WorkerBeat { worker, number, held } => {
                self.beat(&worker, number, held, now, out)
            }
            Command::WorkerGone { worker, departure } => {
                self.lose(&worker, &gone(departure), now, out);
                Ok(Answer::Done)
            }
            Command::WorkerLeaving { worker } => self.leave(&worker),
            Command::Report { attempt, report, beats } => {
                self.report(&attempt, (report, beats), now, out)
            }
            Command::Fetched { digest, value } => {
                self.fetched(digest, value, now, out);
                Ok(Answer::Done)
            }
            Command::Compiled { run, path, generation, result } => {
                self.step(run, now, out, |run, cx| match run.by_path.get(&path) {
                    Some(&ix) => run.compiled(ix, generation, result, cx),
                    None => Ok(()),
                });
                Ok(Answer::Done)
            }
            Command::Quarantine { run, reason } => self.quarantine(run, reason, now, out),
        }
    }

    /// Fires what is due, admits what may start, and appends the rows that changed since the last
    /// call, each once. To be called once after the commands of a batch.
    pub fn settle(&mut self, now: Now, out: &mut Out) {
        self.notice(now);
        for id in std::mem::take(&mut self.desk.backlog) {
            let mut cx = Cx { desk: &mut self.desk, out: &mut *out, now, by: &self.system };
            let Some(run) = self.runs.get_mut(&id) else { continue };
            guard(run, &mut cx, |run, cx| {
                run.touch(cx.desk);
                if run.aside.is_some() { run.go_aside(cx) } else { run.drain(cx) }
            });
        }
        self.fire(now, out);
        self.admit(now, out);
        for id in std::mem::take(&mut self.desk.touched) {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            run.write(now, &mut out.changes);
            if matches!(run.stage, Stage::Over(_)) {
                self.runs.remove(&id);
            } else if run.has_more() {
                self.desk.backlog.push(id);
            }
        }
        self.desk.values.evict();
        let Self { runs, desk: Desk { timers, workers, remnants, .. }, .. } = self;
        timers.tidy(|at, owner| match owner {
            Owner::Run(id) => runs.get(id).is_some_and(|run| run.due == Some(at)),
            Owner::Instance(key) => {
                runs.get(&key.run).is_some_and(|run| run.instance(key.ix).due == Some(at))
            }
            Owner::Worker(id) => workers.get(id).is_some_and(|worker| worker.timer == Some(at)),
            Owner::Remnant(token) => remnants.get(token).is_some_and(|left| left.due == at),
        });
    }

    /// Takes a worker to have been heard now, since it is not its fault if it was not.
    pub fn excuse(&mut self, worker: &WorkerId, now: Now) {
        self.notice(now);
        self.desk.renew(worker, now);
    }

    /// Hears that the effects of the last [`Machine::settle`] have left: from now on the offers
    /// among them may be confirmed, and are taken back when that takes too long.
    pub fn released(&mut self, now: Now) {
        let until = now.mono + self.desk.config.claim;
        for key in std::mem::take(&mut self.desk.offers) {
            if let Some(run) = self.runs.get_mut(&key.run) {
                run.await_claim(key.ix, until, &mut self.desk);
            }
        }
    }

    /// When [`Machine::settle`] has to be called next without a command. An instant that has
    /// passed means at once: a wide run goes on in several steps, each small enough for a commit.
    pub fn next_wakeup(&self) -> Option<Mono> {
        if !self.desk.backlog.is_empty() {
            return Some(self.seen.mono);
        }
        let alarm = self.desk.alarms.first().map(|(at, _)| self.alarm(*at));
        [alarm, self.desk.timers.next()].into_iter().flatten().min()
    }

    /// When to look whether the civil clock has come to `at`. It may step, so that is not put off
    /// for long.
    fn alarm(&self, at: Wall) -> Mono {
        let left = at - self.seen.wall;
        self.seen.mono + Span(left.0.clamp(0, ALARM.0))
    }

    /// When the run next goes on by itself: the first of its own deadlines. None where it waits
    /// for others, or is not held.
    pub fn run_wakeup(&self, run: RunId) -> Option<Mono> {
        let run = self.runs.get(&run)?;
        let timers = run.instances.iter().filter_map(|instance| instance.due).chain(run.due);
        let alarms = self.desk.alarms.iter().find(|(_, key)| key.run == run.id);
        timers.chain(alarms.map(|(at, _)| self.seen.mono + (*at - self.seen.wall))).min()
    }

    /// Why the instance does not go on: empty when it is under way or over, none when the machine
    /// does not hold it.
    pub fn blockers(&self, run: RunId, path: &InstancePath) -> Option<Vec<Blocker>> {
        if let Some(reason) = self.left_alone(run) {
            return Some(vec![Blocker::SetAside { reason: reason.to_owned() }]);
        }
        let run = self.runs.get(&run)?;
        let ix = run.current(path)?;
        if let Some(failure) = &run.aside {
            return Some(vec![Blocker::SetAside { reason: failure.message.clone() }]);
        }
        Some(run.blockers(ix, &self.desk, self.seen))
    }

    /// Why the run as a whole does not go on: also where none of its instances is open, as after a
    /// retry of one whose failures were all marked. Empty when it has begun, none when the machine
    /// does not hold it.
    pub fn run_blockers(&self, run: RunId) -> Option<Vec<Blocker>> {
        self.runs.get(&run).map(|run| run.whole_blockers(&self.desk))
    }

    /// Whether the machine holds the run. It holds every run that is not terminal.
    pub fn holds(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// The version that a run stays on; none where the run is not held.
    pub fn version_of(&self, run: RunId) -> Option<(ProjectId, Arc<str>, VersionId)> {
        let facts = &self.runs.get(&run)?.facts;
        Some((facts.project, Arc::clone(&facts.workflow), facts.version))
    }

    /// The versions of the runs that are held, each once.
    pub fn versions(&self) -> BTreeSet<(ProjectId, Arc<str>, VersionId)> {
        self.runs.keys().filter_map(|run| self.version_of(*run)).collect()
    }

    /// How much the machine holds.
    pub fn counts(&self) -> Counts {
        let pending = self.desk.pending.all();
        Counts {
            pending,
            running: self.runs.len().saturating_sub(pending),
            queued: self.desk.ready.len(),
            attempts: self.desk.workers.iter().map(|(_, worker)| worker.used()).sum(),
        }
    }

    /// The workers, by name.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.desk.workers.views()
    }

    /// Forgets a run with all that hangs on it, as if it had never been loaded; for one whose
    /// changes were refused, before it is loaded again. What its workers have of it holds its slots
    /// until then.
    pub fn drop_run(&mut self, run: RunId) {
        let Some(mut run) = self.runs.remove(&run) else { return };
        let (now, desk) = (self.seen.mono, &mut self.desk);
        let left: Vec<_> = (0..run.instances.len())
            .map(Ix::new)
            .filter(|ix| !desk.offers.contains(&run.key(*ix)))
            .filter_map(|ix| run.remnant(ix, now, &desk.config))
            .collect();
        run.let_go(desk);
        for remnant in left {
            desk.leave_behind(remnant);
        }
        if run.stage == Stage::Pending {
            run.enter(Stage::Body, desk);
        }
    }

    /// Leaves a run alone that cannot even be set aside: it is not loaded, and whoever asks is told
    /// why.
    pub fn leave_alone(&mut self, run: RunId, why: String) {
        self.desk.left_alone.insert(run, why);
    }

    /// Why a run is left alone; none where it is not.
    pub fn left_alone(&self, run: RunId) -> Option<&str> {
        self.desk.left_alone.get(&run).map(String::as_str)
    }

    /// The epoch under which it leads.
    pub fn epoch(&self) -> Epoch {
        self.desk.epoch
    }

    /// Whether the tokens of this epoch are used up. Nothing is dispatched any more; the caller
    /// takes the lead anew.
    pub fn spent(&self) -> bool {
        self.desk.tokens == u32::MAX
    }

    /// Does something to a run. One that takes a step that is not possible is set aside; then, and
    /// when there is no such run or it is being set aside, nothing is returned.
    pub(super) fn step<R>(
        &mut self,
        id: RunId,
        now: Now,
        out: &mut Out,
        act: impl FnOnce(&mut Run, &mut Cx<'_>) -> Result<R, Illegal>,
    ) -> Option<R> {
        let Self { runs, desk, system, .. } = self;
        let mut cx = Cx { desk, out, now, by: system };
        let run = runs.get_mut(&id).filter(|run| run.aside.is_none())?;
        guard(run, &mut cx, act)
    }

    /// The same, asked for by somebody.
    pub(super) fn step_by<R>(
        &mut self,
        id: RunId,
        by: &Actor,
        (now, out): (Now, &mut Out),
        act: impl FnOnce(&mut Run, &mut Cx<'_>) -> Result<R, Illegal>,
    ) -> Option<R> {
        let mut cx = Cx { desk: &mut self.desk, out, now, by };
        let run = self.runs.get_mut(&id).filter(|run| run.aside.is_none())?;
        guard(run, &mut cx, act)
    }

    /// Learns the time. A machine that was called much later than it asked for was not there for
    /// its workers, so their silence says nothing.
    fn notice(&mut self, now: Now) {
        let late = |due: Mono| (now.mono - due).0 > self.desk.config.lease.0 / 3;
        if self.healthy.is_none() || self.desk.timers.next().is_some_and(late) {
            self.healthy = Some(now.mono);
        }
        self.seen = now;
    }

    fn create(&mut self, new: NewRun, now: Now, out: &mut Out) -> Answered {
        let (id, by) = (new.id, new.by.clone());
        if self.holds(id) {
            return Ok(Answer::Done);
        }
        if self.desk.pending.of(new.project, &new.plan.name) >= self.desk.config.max_pending {
            return Err(too_many(&new.plan.name, self.desk.config.max_pending));
        }
        let mut run = Run::create(new, now);
        self.bind(&mut run)?;
        run.arrive(&mut self.desk);
        self.runs.insert(id, run);
        self.step_by(id, &by, (now, out), |run, cx| {
            run.announce(cx);
            Ok(())
        });
        self.find_place(id, &by, (now, out));
        Ok(Answer::Done)
    }

    fn cancel(
        &mut self,
        id: RunId,
        path: Option<&InstancePath>,
        force: bool,
        by: &Actor,
        now: Now,
        out: &mut Out,
    ) -> Answered {
        self.ask_run(id, by, (now, out), |run, cx| match path {
            None => run.cancel(force, cx),
            Some(path) => run.cancel_one(path, cx),
        })
    }

    /// Refuses while something is left of the run's attempts that no instance knows of.
    fn is_clear(&self, id: RunId) -> Result<(), Refusal> {
        let Some(left) = self.desk.remnants.values().find(|left| left.attempt.run == id) else {
            return Ok(());
        };
        let message = format!(
            "{} of run {id} is still being stopped; repeat this when that is done",
            left.attempt.path
        );
        Err(Refusal { code: RefusalCode::Conflict, message })
    }

    /// Asks something of a run that the machine holds.
    pub(super) fn ask_run(
        &mut self,
        id: RunId,
        by: &Actor,
        at: (Now, &mut Out),
        act: impl FnOnce(&mut Run, &mut Cx<'_>) -> RunAnswered,
    ) -> Answered {
        self.step_by(id, by, at, act).unwrap_or_else(|| Err(self.not_held(id)))
    }

    /// Why nothing can be asked of a run.
    fn not_held(&self, id: RunId) -> Refusal {
        if self.holds(id) {
            let message = format!("run {id} is being set aside; wait for its end");
            return Refusal { code: RefusalCode::Conflict, message };
        }
        not_held(id)
    }

    fn report(
        &mut self,
        of: &AttemptRef,
        report: (Report, u64),
        now: Now,
        out: &mut Out,
    ) -> Answered {
        if self.has_remnant(of.token) {
            if matches!(report.0, Report::Finished(_)) {
                self.desk.clear(of.token);
            }
            return Ok(Answer::Done);
        }
        self.step(of.run, now, out, |run, cx| match run.by_path.get(&of.path) {
            Some(&ix) => run.report(ix, of.token, report, cx),
            None => Ok(Err(stale(of.token))),
        })
        .unwrap_or_else(|| Err(stale(of.token)))
        .map(|()| Answer::Done)
    }

    fn quarantine(&mut self, id: RunId, reason: String, now: Now, out: &mut Out) -> Answered {
        if self.runs.get(&id).is_some_and(|run| run.aside.is_some()) {
            return Ok(Answer::Done);
        }
        self.step(id, now, out, |run, cx| match run.stage {
            Stage::Over(_) => Ok(()),
            _ => run.set_aside(reason, cx),
        })
        .map(|()| Answer::Done)
        .ok_or_else(|| not_held(id))
    }

    fn join(&mut self, id: &WorkerId, slots: u32, queues: &[String], now: Now, out: &mut Out) {
        let mut names: Vec<Arc<str>> = queues.iter().map(|name| name.as_str().into()).collect();
        if names.is_empty() {
            names.push(DEFAULT_QUEUE.into());
        }
        names.sort_unstable();
        names.dedup();
        self.desk.workers.change(id, |worker| {
            worker.slots = slots;
            worker.queues = names;
            worker.joined = true;
            worker.leaving = false;
        });
        self.desk.renew(id, now);
        let held = self.desk.workers.get(id).map(|worker| worker.held.clone());
        for key in held.unwrap_or_default() {
            self.step(key.run, now, out, |run, cx| {
                run.offer_again(key.ix, cx);
                Ok(())
            });
        }
    }

    fn beat(
        &mut self,
        id: &WorkerId,
        number: u64,
        mut named: Vec<AttemptRef>,
        now: Now,
        out: &mut Out,
    ) -> Answered {
        let Some(worker) = self.desk.workers.get_mut(id).filter(|worker| worker.joined) else {
            return Err(unknown(id));
        };
        let mut missed = worker.held.clone();
        if number > worker.beats {
            worker.beats = number;
            self.desk.renew(id, now);
        }
        named.retain(|attempt| !self.has_remnant(attempt.token));
        named.retain(|attempt| {
            let held = self.held(attempt, number);
            if let Some(key) = held {
                missed.remove(&key);
            }
            held.is_none()
        });
        for key in missed {
            self.step(key.run, now, out, |run, cx| run.miss(key.ix, number, cx));
        }
        Ok(Answer::Beat { stale: named })
    }

    /// The instance of an attempt that a worker names in a beat, if its token is current.
    fn held(&mut self, attempt: &AttemptRef, number: u64) -> Option<Key> {
        let Self { runs, desk, .. } = self;
        let run = runs.get_mut(&attempt.run)?;
        let ix = *run.by_path.get(&attempt.path)?;
        run.is_held(ix, attempt.token, number, desk).then(|| run.key(ix))
    }

    fn leave(&mut self, id: &WorkerId) -> Answered {
        if self.desk.workers.get(id).is_none() {
            return Err(unknown(id));
        }
        self.desk.workers.change(id, |worker| worker.leaving = true);
        Ok(Answer::Done)
    }

    /// A worker is gone, and with it what it had.
    fn lose(&mut self, id: &WorkerId, why: &Failure, now: Now, out: &mut Out) {
        let Some(worker) = self.desk.workers.remove(id) else { return };
        for token in &worker.remnants {
            self.desk.clear(*token);
        }
        for key in worker.held {
            self.step(key.run, now, out, |run, cx| run.lose(key.ix, why.clone(), cx));
        }
    }

    fn fetched(
        &mut self,
        digest: Digest,
        value: Result<Arc<Value>, String>,
        now: Now,
        out: &mut Out,
    ) {
        let (value, error) = match value {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        for waiter in self.desk.values.arrive(digest, value) {
            self.step(waiter.run, now, out, |run, cx| match &error {
                None if run.arrived(waiter.ix, digest, cx.desk) => run.resume(waiter.ix, cx),
                Some(error) if run.awaits(waiter.ix, digest) => {
                    let message = format!("a value cannot be loaded ({digest}): {error}");
                    run.give_up_value(waiter.ix, &message, cx)
                }
                _ => Ok(()),
            });
        }
    }

    fn fire(&mut self, now: Now, out: &mut Out) {
        while let Some((at, owner)) = self.desk.timers.pop_due(now.mono) {
            match owner {
                Owner::Run(id) => {
                    self.step(id, now, out, |run, cx| match run.due {
                        Some(due) if due == at => run.time_out(cx),
                        _ => Ok(()),
                    });
                }
                Owner::Instance(key) => {
                    self.step(key.run, now, out, |run, cx| match run.instance(key.ix).due {
                        Some(due) if due == at => run.on_due(key.ix, cx),
                        _ => Ok(()),
                    });
                }
                Owner::Worker(id) => self.check_lease(&id, at, now, out),
                Owner::Remnant(token) => self.tend_remnant(token, at, now, out),
            }
        }
        while let Some((at, key)) = self.desk.alarms.first().copied() {
            if at > now.wall {
                break;
            }
            self.desk.alarms.pop_first();
            self.step(key.run, now, out, |run, cx| run.on_alarm(key.ix, cx));
        }
    }

    /// A worker's timer fired. Its lease may have been renewed, or it is too early to judge.
    fn check_lease(&mut self, id: &WorkerId, at: Mono, now: Now, out: &mut Out) {
        let gate = self.healthy.unwrap_or(now.mono) + self.desk.config.lease;
        let Some(worker) = self.desk.workers.get_mut(id) else { return };
        if worker.timer != Some(at) {
            return;
        }
        let end = worker.due.unwrap_or(at).max(gate);
        if end <= now.mono {
            let why = "its worker has been silent for the lease time";
            return self.lose(id, &Failure::new(FailureKind::Lost, why), now, out);
        }
        worker.timer = Some(end);
        self.desk.timers.set(end, Owner::Worker(id.clone()));
    }
}

/// Does something to a run, and sets it aside when it takes a step that is not possible.
fn guard<R>(
    run: &mut Run,
    cx: &mut Cx<'_>,
    act: impl FnOnce(&mut Run, &mut Cx<'_>) -> Result<R, Illegal>,
) -> Option<R> {
    match act(run, cx) {
        Ok(result) => Some(result),
        Err(illegal) => {
            // From every open state there is a step to `failed`, so this cannot fail in turn.
            let _ = run.set_aside(illegal.to_string(), cx);
            None
        }
    }
}

/// What becomes of the attempts of a worker that has gone.
fn gone(departure: Departure) -> Failure {
    match departure {
        Departure::Crashed => Failure::new(FailureKind::Lost, "its worker is gone"),
        Departure::Broken => Failure::new(
            FailureKind::WorkerFailed,
            "its worker broke: the process that starts programs for it was killed, or it panicked",
        ),
        Departure::Orderly => Failure::new(
            FailureKind::Interrupted,
            "its worker was told to leave before it was done; this spends no retry",
        ),
    }
}

fn not_held(id: RunId) -> Refusal {
    let message = format!("run {id} is not active");
    Refusal { code: RefusalCode::NotFound, message }
}

fn too_many(workflow: &str, limit: usize) -> Refusal {
    let message = format!(
        "{limit} runs of workflow `{workflow}` wait to start already, and more may not \
         (limits.pending); wait until some have started, or cancel some"
    );
    Refusal { code: RefusalCode::LimitReached, message }
}

fn unknown(id: &WorkerId) -> Refusal {
    let message = format!("worker {id} is not known; it has to join first");
    Refusal { code: RefusalCode::NotFound, message }
}
