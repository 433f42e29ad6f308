//! The engine without a clock, a task or a wait: what is to be done next, as a value.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ork_core::catalog::{self, Deploy, Known};
use ork_core::ids::{AttemptRef, BackfillId, Epoch, ProjectId, RunId, Token, WorkerId};
use ork_core::rows::{ActiveRun, AnswerRow, Change, PauseRow, PoolRow, TriggerRow, WorkflowRow};
use ork_core::run::{
    self, Blob, Command, Effect, Machine, NewRun, Out, Pausable, Refusal, RefusalCode, Remnant,
    Report, RetrySelection,
};
use ork_core::schedule::{Declared, Need, Site, Tick};
use ork_core::time::{Mono, Now, Span, Wall};
use ork_core::trigger::{Fired, Triggers, fired_run};
use ork_core::value::Digest;
use ork_store::{CommitSeq, Committed, StoreError};

use crate::batch::{self, Chunk, Owner};
use crate::decide;
use crate::firings::{self, Firings};
use crate::recent::{Kept, Recent};
use crate::request::{Answer, Ask, Error, Found, Read, Request};
use crate::ticks::{self, Ticks};

/// How often a store may refuse the changes of one run before the run is set aside.
const REJECTIONS: u32 = 3;
/// How long the answer to a key is kept, where it made no run.
const ANSWER_KEPT: Span = Span::from_secs(24 * 60 * 60);

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The run machine's.
    pub machine: run::Config,
    /// The most changes in one commit, save where one run alone changes more at once.
    pub max_changes: usize,
    /// The most requests that are applied between two commits.
    pub max_requests: usize,
    /// What the runs of schedules are told of where they are.
    pub site: Site,
    /// How long a commit that nobody waits for may wait for another to ride with.
    pub linger: Span,
    /// The wait before the first repetition of a commit or a load; it doubles.
    pub retry_min: Span,
    /// The longest such wait.
    pub retry_max: Span,
    /// How long whoever asks by [`Engine::submit`](crate::Engine::submit) waits for an answer.
    pub patience: Span,
    /// How long after a stop the store may take for what it has been given.
    pub give_up: Span,
    /// A rule that is broken on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            machine: run::Config::default(),
            max_changes: 1_000,
            max_requests: 4_096,
            site: Site { project_name: "default".into(), url: String::new() },
            linger: Span::from_millis(20),
            retry_min: Span::from_millis(10),
            retry_max: Span::from_secs(1),
            patience: Span::from_secs(5),
            give_up: Span::from_secs(10),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

impl Config {
    fn backoff(&self, tries: u32) -> Span {
        match tries {
            0 => Span::ZERO,
            n => Span(self.retry_min.0.saturating_mul(1 << (n - 1).min(20)).min(self.retry_max.0)),
        }
    }
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Wait, take the lead, load what is active, and tell by [`Core::led`].
    Lead {
        /// How long to wait first.
        after: Span,
    },
    /// Wait, commit, and tell by [`Core::committed`].
    Commit {
        /// How long to wait first.
        after: Span,
        /// The epoch to commit under.
        epoch: Epoch,
        /// What to put into the blob store before; the changes refer to it. One that will never be
        /// kept is told by [`Core::unkept`].
        blobs: &'a Arc<[Blob]>,
        /// The changes.
        changes: &'a Arc<[Change]>,
    },
    /// Nothing until a request or a read comes, or this time.
    Wait {
        /// The next deadline.
        until: Option<Mono>,
    },
}

/// What whoever takes the lead of a store finds in it.
#[derive(Clone, Debug)]
pub struct Led {
    /// The epoch that leads now.
    pub epoch: Epoch,
    /// The runs that are not over.
    pub runs: Vec<ActiveRun>,
    /// What is paused.
    pub pauses: Vec<PauseRow>,
    /// The pools of all projects.
    pub pools: Vec<PoolRow>,
    /// The workflows whose runs are limited, and those that are deployed and have drafts among the
    /// runs.
    pub limited: Vec<WorkflowRow>,
    /// The triggers of all projects.
    pub triggers: Vec<TriggerRow>,
}

/// What leaves the engine, in order.
#[derive(Debug)]
pub enum Output<S> {
    /// A request's answer.
    Answer {
        /// As given to [`Core::push`].
        slot: S,
        /// The answer.
        result: Result<Answer, Error>,
    },
    /// Something to perform; its cause is durable.
    Effect(Effect),
    /// Events that are durable now.
    Events(Vec<Committed>),
    /// Something to read of the store, and to bring with [`Core::found`].
    Read {
        /// What.
        read: Read,
        /// How long to wait first; zero unless it has failed before.
        after: Span,
    },
}

/// A request on its way.
#[derive(Debug)]
struct Waiting<S> {
    request: Request,
    /// None for what the engine asks of itself.
    slot: Option<S>,
    /// Its key is known to have no answer.
    keyed: bool,
    /// Its run has been looked for in the store.
    loaded: bool,
    /// How often what it has to read has failed.
    tries: u32,
    /// What others wait for until it is over.
    gates: Vec<Gate>,
}

impl<S> Waiting<S> {
    fn new(request: Request, slot: Option<S>) -> Self {
        Self { request, slot, keyed: false, loaded: false, tries: 0, gates: Vec::new() }
    }
}

/// What one request at a time may pass, from its read to its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Gate {
    Key(ProjectId, String),
    Workflow(ProjectId, String),
    Run(RunId),
    Attempt(Token),
}

/// An answer that waits for its commit.
#[derive(Debug)]
struct Given<S> {
    slot: Option<S>,
    result: Result<Answer, Error>,
    owner: Option<Owner>,
    /// The request, when it can be applied again after a reload.
    again: Option<Request>,
    gates: Vec<Gate>,
}

/// Changes on their way to the store, and what is released once they are durable.
#[derive(Debug)]
struct Flight<S> {
    blobs: Arc<[Blob]>,
    chunks: VecDeque<Chunk>,
    effects: Vec<Effect>,
    answers: Vec<Given<S>>,
    tries: u32,
    lost: Vec<Lost>,
}

impl<S> Flight<S> {
    /// Leaves out what an owner changes.
    fn lose(&mut self, owner: &Owner, reason: &str) {
        if self.lost.iter().any(|lost| lost.owner == *owner) {
            return;
        }
        let is_its = |chunk: &Chunk| chunk.owner.as_ref() == Some(owner);
        let its = self.chunks.iter().filter(|chunk| is_its(chunk));
        let project = its.flat_map(|chunk| chunk.changes.iter()).find_map(Change::run);
        let project = project.map_or(ProjectId::DEFAULT, |(project, _)| project);
        self.chunks.retain(|chunk| !is_its(chunk));
        self.lost.push(Lost { owner: owner.clone(), project, reason: reason.to_owned() });
    }
}

/// What a store would not take.
#[derive(Debug)]
struct Lost {
    owner: Owner,
    project: ProjectId,
    reason: String,
}

/// A worker as it introduced itself.
#[derive(Debug)]
struct Joined {
    slots: u32,
    queues: Vec<String>,
    confirms: bool,
    leaving: bool,
    seen: Mono,
}

/// The engine's state. `S` is where an answer goes; it is handed back as it came.
///
/// A driver calls [`Core::step`], does what it says and reports, performs [`Core::outputs`] after
/// each call, and pushes requests and reads whenever they come.
#[derive(Debug)]
pub struct Core<S> {
    config: Config,
    machine: Option<Machine>,
    epoch: Epoch,
    incoming: VecDeque<Waiting<S>>,
    found: VecDeque<(Read, Found)>,
    reading: HashMap<Read, Waiting<S>>,
    behind: HashMap<Gate, VecDeque<Waiting<S>>>,
    /// How many those are.
    queued: usize,
    out: Out,
    answers: Vec<Given<S>>,
    urgent: bool,
    held_since: Option<Mono>,
    flight: Option<Flight<S>>,
    outputs: Vec<Output<S>>,
    recent: Recent,
    workers: BTreeMap<WorkerId, Joined>,
    ticks: Ticks,
    firings: Firings,
    /// When the schedules have to be looked at.
    look: Option<Mono>,
    /// Requests that wait until the schedules are known.
    parked: Vec<Waiting<S>>,
    /// Runs to be set aside once they are loaded.
    condemned: Vec<(RunId, String)>,
    /// Runs that are being set aside, and why: a request to end them is on its way.
    aside: BTreeMap<RunId, String>,
    /// Runs that could not even be set aside, and why: no machine of this engine loads them.
    left_alone: BTreeMap<RunId, String>,
    /// What is left of set-aside runs at workers, from one machine to the next.
    remnants: Vec<Remnant>,
    /// Workflows that were deleted under this epoch: no run of them is made by who read them before.
    deleted: BTreeSet<(ProjectId, String)>,
    /// A panic could not be laid to a run: each is tried alone at the next load.
    suspicious: bool,
    lead_tries: u32,
    /// How often the schedules could not be read.
    schedule_tries: u32,
    last: Mono,
    wall: Wall,
    expected: Option<Mono>,
    closing: bool,
}

impl<S> Core<S> {
    /// An engine that does not lead yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            machine: None,
            epoch: Epoch::default(),
            incoming: VecDeque::new(),
            found: VecDeque::new(),
            reading: HashMap::new(),
            behind: HashMap::new(),
            queued: 0,
            out: Out::default(),
            answers: Vec::new(),
            urgent: false,
            held_since: None,
            flight: None,
            outputs: Vec::new(),
            recent: Recent::default(),
            workers: BTreeMap::new(),
            ticks: Ticks::default(),
            firings: Firings::default(),
            look: None,
            parked: Vec::new(),
            condemned: Vec::new(),
            aside: BTreeMap::new(),
            left_alone: BTreeMap::new(),
            remnants: Vec::new(),
            deleted: BTreeSet::new(),
            suspicious: false,
            lead_tries: 0,
            schedule_tries: 0,
            last: Mono::default(),
            wall: Wall::default(),
            expected: None,
            closing: false,
        }
    }

    /// Takes a request in.
    pub fn push(&mut self, mut request: Request, slot: S) {
        if request.dry_run {
            request.key = None;
        }
        self.incoming.push_back(Waiting::new(request, Some(slot)));
    }

    /// Takes the result of an [`Output::Read`] in.
    pub fn found(&mut self, read: Read, found: Found) {
        self.found.push_back((read, found));
    }

    /// What has to leave since the last call.
    pub fn outputs(&mut self) -> std::vec::Drain<'_, Output<S>> {
        self.outputs.drain(..)
    }

    /// The machine, while this engine leads.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The epoch under which it led last.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many requests are here and have not been applied.
    pub fn backlog(&self) -> usize {
        self.incoming.len() + self.reading.len() + self.queued + self.parked.len()
    }

    /// Whether it leads, and all that it decided is durable and has left.
    pub fn is_settled(&self) -> bool {
        self.machine.is_some() && self.flight.is_none() && self.out.changes.is_empty()
    }

    /// From here on no commit waits for another: the engine is about to stop.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// What has to be done next.
    pub fn step(&mut self, now: Now) -> Step<'_> {
        if self.machine.is_some() && self.flight.is_none() {
            self.release_offers(now);
            self.excuse_silence(now);
            self.turn(now);
            self.release_offers(now);
        }
        self.last = now.mono;
        self.wall = now.wall;
        self.look = self.ticks.wakeup(now);
        if self.machine.is_none() {
            let after = self.config.backoff(self.lead_tries);
            self.expected = Some(now.mono + after);
            return Step::Lead { after };
        }
        let until = self.next_deadline();
        let flight = self.flight.as_ref();
        match flight.and_then(|flight| Some((flight, flight.chunks.front()?))) {
            Some((Flight { blobs, tries, .. }, chunk)) => {
                let after = self.config.backoff(*tries);
                self.expected = Some(now.mono + after);
                Step::Commit { after, epoch: self.epoch, blobs, changes: &chunk.changes }
            }
            None => {
                self.expected = until;
                Step::Wait { until }
            }
        }
    }

    /// Takes the lead, or hears that it could not.
    pub fn led(&mut self, led: Result<Led, StoreError>, now: Now) {
        let Ok(Led { epoch, runs, pauses, pools, limited, triggers }) = led else {
            self.lead_tries += 1;
            return;
        };
        self.lead_tries += 1;
        self.epoch = epoch;
        if std::mem::take(&mut self.suspicious) {
            self.try_alone(&runs, now);
        }
        let projects = runs.iter().map(|active| (active.run.id, active.run.project)).collect();
        let mut machine = Machine::new(self.config.machine.clone(), epoch);
        for (run, why) in &self.left_alone {
            machine.leave_alone(*run, why.clone());
        }
        self.machine = Some(machine);
        let mut known = Triggers::default();
        known.load(triggers);
        self.firings.begin(known);
        #[cfg(feature = "sabotage")]
        if self.config.breaks(crate::Sabotage::LoseEnds) {
            self.firings.arrived();
            self.firings.read(0);
        }
        self.guarded(None, |machine, out| {
            machine.learn_pauses(pauses);
            machine.learn_pools(pools);
            machine.learn_limits(limited);
            machine.load(runs, now, out);
        });
        self.rejoin(now);
        if self.machine.is_some() {
            let remnants = std::mem::take(&mut self.remnants);
            self.guarded(None, |machine, _| machine.inherit(remnants, now));
            self.end_condemned(&projects);
        }
        self.ticks.forget();
        self.schedule_tries = 0;
        self.outputs.push(Output::Read { read: Read::Schedules { epoch }, after: Span::ZERO });
        self.urgent = true;
    }

    /// Asks for the end of the runs that are to be set aside. One that is over needs none.
    fn end_condemned(&mut self, projects: &HashMap<RunId, ProjectId>) {
        for (run, reason) in std::mem::take(&mut self.condemned) {
            if let Some(project) = projects.get(&run) {
                self.quarantine(*project, run, reason);
            }
        }
    }

    fn quarantine(&mut self, project: ProjectId, run: RunId, reason: String) {
        self.aside.insert(run, reason.clone());
        let command = Command::Quarantine { run, reason };
        self.incoming.push_front(Waiting::new(Request::run(project, command), None));
    }

    /// Hears what came of a commit.
    pub fn committed(&mut self, result: Result<CommitSeq, StoreError>) {
        match result {
            Ok(commit) => self.advance(commit),
            Err(StoreError::Retryable(_)) => {
                if let Some(flight) = &mut self.flight {
                    flight.tries += 1;
                }
            }
            Err(StoreError::Rejected(reason) | StoreError::Malformed(reason)) => {
                self.rejected(&reason);
            }
            Err(error @ (StoreError::Unknown(_) | StoreError::Fenced { .. })) => {
                self.fall(&error.to_string());
            }
        }
        self.finish_flight();
    }

    /// Hears that a blob will never be kept: the runs that refer to it are set aside.
    pub fn unkept(&mut self, digest: &Digest, reason: &str) {
        let Some(flight) = &mut self.flight else { return };
        flight.blobs = flight.blobs.iter().filter(|blob| blob.digest != *digest).cloned().collect();
        let refers = |change: &Change| refers_to(change, *digest);
        let changes = flight.chunks.iter().flat_map(|chunk| chunk.changes.iter());
        let owners: Vec<Option<Owner>> = changes.filter(|c| refers(c)).map(Owner::of).collect();
        for chunk in std::mem::take(&mut flight.chunks) {
            if !owners.is_empty() && !chunk.alone {
                let groups = batch::by_owner(chunk.changes.to_vec());
                flight.chunks.extend(groups.into_iter().map(Chunk::from));
            } else {
                flight.chunks.push_back(chunk);
            }
        }
        for owner in owners.into_iter().flatten() {
            flight.lose(&owner, reason);
        }
        self.finish_flight();
    }

    /// Ends without the store: what is on its way may or may not have been done, and what waits has
    /// not.
    pub fn abandon(&mut self, why: &str) {
        self.fall(why);
        let behind = std::mem::take(&mut self.behind).into_values().flatten();
        let reading = std::mem::take(&mut self.reading).into_values();
        let early = self.incoming.drain(..).chain(self.parked.drain(..));
        let waiting: Vec<_> = early.chain(reading).chain(behind).collect();
        self.queued = 0;
        for waiting in waiting {
            let error = if waiting.request.is_repeatable() {
                Error::Unavailable(why.to_owned())
            } else {
                Error::Stopped
            };
            self.answer(waiting.slot, Err(error));
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        if !self.incoming.is_empty() || !self.found.is_empty() {
            return Some(self.last);
        }
        let held = self.held_since.map(|since| since + self.config.linger);
        let timer = self.machine.as_ref().and_then(Machine::next_wakeup);
        [held, timer, self.look].into_iter().flatten().min()
    }

    /// Lets the time run in which offers are to be confirmed, once they have left.
    fn release_offers(&mut self, now: Now) {
        let left = self.flight.is_none() && self.out.effects.is_empty();
        if let Some(machine) = self.machine.as_mut().filter(|_| left) {
            machine.released(now);
        }
    }

    /// One turn of the loop: all that waits is applied, what is due is fired, and the changes are
    /// made ready to commit.
    fn turn(&mut self, now: Now) {
        self.look = self.ticks.wakeup(now);
        let due = self.next_deadline().is_some_and(|at| at <= now.mono);
        let busy = !self.found.is_empty() || !self.incoming.is_empty();
        if !due && !busy && !self.urgent && !self.closing {
            return;
        }
        while let Some((read, found)) = self.found.pop_front() {
            self.resume(&read, found, now);
        }
        for _ in 0..self.config.max_requests {
            let Some(waiting) = self.incoming.pop_front() else { break };
            if self.machine.is_none() {
                return self.incoming.push_front(waiting);
            }
            self.admit(waiting, now);
        }
        self.tick(now);
        let before = self.out.changes.len();
        self.guarded(None, |machine, out| machine.settle(now, out));
        if self.fill(now) {
            self.guarded(None, |machine, out| machine.settle(now, out));
        }
        let fired = self.firings.of(&self.out.changes, now.wall);
        self.out.changes.extend(fired);
        self.urgent |= !busy && self.out.changes.len() > before;
        self.seal(now);
    }

    /// Puts the changes on their way, unless they may wait for others.
    fn seal(&mut self, now: Now) {
        if self.machine.is_none() {
            return;
        }
        #[cfg(feature = "sabotage")]
        {
            self.config.spoil_changes(&mut self.out.changes);
            if self.config.breaks(crate::Sabotage::DispatchBeforeCommit) {
                self.outputs.extend(self.out.effects.drain(..).map(Output::Effect));
            }
        }
        self.urgent |= self.closing || !self.out.effects.is_empty();
        let since = *self.held_since.get_or_insert(now.mono);
        let empty = self.out.changes.is_empty();
        if !empty && !self.urgent && now.mono - since < self.config.linger {
            return;
        }
        let out = std::mem::take(&mut self.out);
        self.firings.sealed();
        self.held_since = None;
        self.urgent = false;
        self.flight = Some(Flight {
            blobs: out.blobs.into(),
            chunks: if empty {
                VecDeque::new()
            } else {
                batch::split(out.changes, self.config.max_changes)
            },
            effects: out.effects,
            answers: std::mem::take(&mut self.answers),
            tries: 0,
            lost: Vec::new(),
        });
        self.finish_flight();
    }

    /// Answers the ticks that are due, each by a run or a record why there is none.
    fn tick(&mut self, now: Now) {
        for _ in 0..ticks::MOST {
            if self.machine.is_none() {
                return;
            }
            let Some(mut due) = self.ticks.schedules.due(now.wall, &self.config.site) else {
                break;
            };
            if self.ticks.is_cursed(&due) {
                due.run = Err("the run machine failed on its run".into());
            }
            let made = match due.run.clone() {
                Ok(run) => {
                    let (id, create) = (run.id, Command::Create(run));
                    let applied =
                        self.guarded(Some(id), |machine, out| machine.apply(create, now, out));
                    match applied {
                        Some(applied) => applied.map(|_| id).map_err(|refusal| refusal.message),
                        None => return self.ticks.curse(&due),
                    }
                }
                Err(reason) => Err(reason),
            };
            let run = made.as_ref().ok().copied();
            self.out.changes.extend(self.ticks.schedules.settle(&due, made, now.wall));
            self.urgent = true;
            if let Some(run) = run {
                self.ticks.send(run, due);
            }
        }
        self.look = self.ticks.wakeup(now);
    }

    /// Does what backfills need, now that some of their runs may be over; true when it was
    /// something.
    fn fill(&mut self, now: Now) -> bool {
        let mut any = false;
        for _ in 0..ticks::MOST {
            let Self { machine: Some(machine), aside, left_alone, ticks, config, .. } = self else {
                return any;
            };
            let is_aside = |run: RunId| aside.contains_key(&run) || left_alone.contains_key(&run);
            let holds = |run| machine.holds(run) || is_aside(run);
            let Some(need) = ticks.backfills.need(holds, now.wall, &config.site) else {
                return any;
            };
            any = true;
            self.urgent = true;
            let command = match need {
                Need::Keep(change) => {
                    self.out.changes.push(change);
                    continue;
                }
                Need::Run(id, tick, run) => {
                    if self.backfill(id, &tick, run, now) {
                        continue;
                    }
                    return any;
                }
                Need::Retry(project, run, by) => (
                    project,
                    Command::Retry {
                        run,
                        selection: RetrySelection::Failed,
                        cancel_downstream: false,
                        by,
                    },
                ),
                Need::Cancel(project, run, by) => {
                    (project, Command::Cancel { run, path: None, force: false, by })
                }
            };
            self.incoming.push_back(Waiting::new(Request::run(command.0, command.1), None));
        }
        any
    }

    /// Makes a run of a backfill; false when there can be none just now.
    fn backfill(
        &mut self,
        id: BackfillId,
        tick: &Tick,
        run: Result<Box<NewRun>, String>,
        now: Now,
    ) -> bool {
        let made = match run {
            Err(reason) => Err(reason),
            Ok(_) if self.ticks.is_cursed_of(id, tick) => {
                Err("the run machine failed on its run".into())
            }
            Ok(run) => {
                let (name, create) = (run.id, Command::Create(run));
                match self.guarded(Some(name), |machine, out| machine.apply(create, now, out)) {
                    Some(Ok(_)) => Ok(name),
                    // There are too many runs that wait; when one of them is over it is tried again.
                    Some(Err(_)) => return false,
                    None => {
                        self.ticks.curse_of(id, tick);
                        return false;
                    }
                }
            }
        };
        self.out.changes.extend(self.ticks.backfills.made(id, tick, made, now.wall));
        true
    }

    fn admit(&mut self, waiting: Waiting<S>, now: Now) {
        if self.ticks.holds_up(&waiting.request) {
            return self.parked.push(waiting);
        }
        let request = &waiting.request;
        let project = request.project;
        if let (Some(key), false) = (&request.key, waiting.keyed) {
            let kept = self.recent.get(project, &key.key).cloned();
            let gate = Gate::Key(project, key.key.clone());
            let read = Read::Answer { project, key: key.key.clone() };
            return match kept {
                Some(kept) => self.repeat(waiting, kept),
                None => self.read_first(waiting, gate, read),
            };
        }
        let (name, digest, draft) = match &request.ask {
            Ask::Run(_) if request.dry_run => return self.decide(waiting, None, now),
            Ask::Run(_) => return self.command(waiting, now),
            Ask::Deploy(deploy) => (&deploy.plan.name, Some(deploy.digest), deploy.draft),
            Ask::Describe { workflow, .. } | Ask::Delete { workflow, .. } => {
                (workflow, None, false)
            }
            _ => return self.decide(waiting, None, now),
        };
        let gate = Gate::Workflow(project, name.clone());
        let read = Read::Workflow { project, name: name.clone(), digest, draft };
        self.read_first(waiting, gate, read);
    }

    /// Sends a request to read, behind those that came to the same gate before.
    fn read_first(&mut self, mut waiting: Waiting<S>, gate: Gate, read: Read) {
        if let Some(queue) = self.behind.get_mut(&gate) {
            self.queued += 1;
            return queue.push_back(waiting);
        }
        self.behind.insert(gate.clone(), VecDeque::new());
        waiting.gates.push(gate);
        self.outputs.push(Output::Read { read: read.clone(), after: Span::ZERO });
        self.reading.insert(read, waiting);
    }

    /// Goes on with the request that waited for a read.
    fn resume(&mut self, read: &Read, found: Found, now: Now) {
        #[cfg(feature = "sabotage")]
        let found = self.config.spoilt(found, now.wall);
        if let Read::Schedules { epoch } = read {
            return self.learn_schedules(*epoch, found);
        }
        if let Read::Firings { epoch } = read {
            return self.learn_firings(*epoch, found, now);
        }
        let Some(mut waiting) = self.reading.remove(read) else { return };
        match found {
            Found::Failed(error) if waiting.slot.is_none() => {
                self.read_again(read.clone(), waiting, &error, now);
            }
            Found::Failed(error) => {
                let error = Error::Unavailable(error.to_string());
                self.give(waiting, Err(error), None, None);
            }
            Found::Schedules(..) | Found::Firings(_) => {}
            Found::Answer(row) => match row.and_then(|row| kept(row, now.wall)) {
                Some(kept) => self.repeat(waiting, kept),
                None => {
                    waiting.keyed = true;
                    self.admit(waiting, now);
                }
            },
            Found::Workflow(known) => self.catalog(waiting, &known, now),
            Found::Ended(true) => self.give(waiting, Ok(Answer::Done), None, None),
            Found::Ended(false) => {
                waiting.loaded = true;
                self.command(waiting, now);
            }
            Found::Run(Some(active))
                if active.run.state.is_terminal() && active.damage.is_some() =>
            {
                let message = format!("the run cannot be opened again: {:?}", active.damage);
                let refusal = Refusal { code: RefusalCode::Conflict, message };
                self.give(waiting, Err(Error::Refused(refusal)), None, None);
            }
            Found::Run(Some(active)) if self.is_outdated(&active) => {
                self.urgent = true;
                self.read_later(read.clone(), waiting);
            }
            Found::Run(active) => {
                waiting.loaded = true;
                if let Some(active) = active {
                    let run = active.run.id;
                    self.guarded(Some(run), |machine, out| machine.load(vec![*active], now, out));
                }
                self.command(waiting, now);
            }
        }
    }

    /// What the engine asks of itself is read until it can be, less and less often. A run that the
    /// store will never give cannot be set aside.
    fn read_again(&mut self, read: Read, waiting: Waiting<S>, error: &StoreError, now: Now) {
        match (&read, error) {
            (Read::Run { run, .. }, StoreError::Rejected(_) | StoreError::Malformed(_)) => {
                let run = *run;
                self.leave_alone(run, error.to_string());
                self.command(waiting, now);
            }
            _ => self.read_later(read, waiting),
        }
    }

    /// Reads once more, later each time.
    fn read_later(&mut self, read: Read, mut waiting: Waiting<S>) {
        waiting.tries += 1;
        let after = self.config.backoff(waiting.tries);
        self.outputs.push(Output::Read { read: read.clone(), after });
        self.reading.insert(read, waiting);
    }

    /// Answers as before, if it is the same request.
    fn repeat(&mut self, waiting: Waiting<S>, kept: Kept) {
        let Some(key) = &waiting.request.key else { return };
        let result = if key.request == kept.request {
            Ok(kept.answer)
        } else {
            Err(Error::Refused(Refusal {
                code: RefusalCode::KeyReused,
                message: format!(
                    "the idempotency key {:?} was used for another request; use a new key",
                    key.key
                ),
            }))
        };
        self.give(waiting, result, kept.owner, None);
    }

    /// Applies a command of the run machine.
    fn command(&mut self, mut waiting: Waiting<S>, now: Now) {
        let again = waiting.request.is_repeatable().then(|| waiting.request.clone());
        let Ask::Run(command) = &mut waiting.request.ask else { return };
        self.remember_worker(command, now);
        let run = run_of(command);
        let retried = matches!(command, Command::Retry { .. }) && waiting.slot.is_none();
        if let Some((run, refusal)) = run.and_then(|run| Some((run, self.untouched(command, run)?)))
        {
            if retried {
                self.ticks.backfills.retried(run, false);
            }
            return self.give(waiting, Err(Error::Refused(refusal)), Some(Owner::Run(run)), None);
        }
        if let Some(run) = self.missing(command, waiting.loaded) {
            let read = Read::Run { project: waiting.request.project, run };
            return self.read_first(waiting, Gate::Run(run), read);
        }
        if matches!(command, Command::Report { .. }) && run.is_some_and(|run| self.is_aside(run)) {
            let error = Error::Unavailable("the run is being set aside".into());
            return self.answer(waiting.slot, Err(error));
        }
        if let Some(attempt) = self.perhaps_ended(command, waiting.loaded) {
            let (project, gate) = (waiting.request.project, Gate::Attempt(attempt.token));
            return self.read_first(waiting, gate, Read::Ended { project, attempt });
        }
        let made = matches!(command, Command::Create(_));
        let pool = match command {
            Command::SetPool { project, name, .. } => Some(Owner::Pool(*project, name.clone())),
            _ => None,
        };
        let command = std::mem::replace(command, Command::WorkerLeaving { worker: "".into() });
        let before = self.out.changes.len();
        let applied = self.guarded(run, |machine, out| machine.apply(command, now, out));
        let result = match (applied, run) {
            (None, _) => Err(Error::Rejected("the run machine failed on it".into())),
            (Some(Ok(_)), Some(run)) if made => Ok(Answer::Created { run, at: now.wall }),
            (Some(Ok(answer)), _) => Ok(self.told(answer)),
            (Some(Err(refusal)), _) => Err(Error::Refused(refusal)),
        };
        if let Some(run) = run.filter(|_| retried) {
            self.ticks.backfills.retried(run, result.is_ok());
        }
        let changed = self.out.changes.len() > before;
        if !again.as_ref().is_some_and(Request::can_ride) {
            self.urgent = true;
        } else if is_quiet(&result) && !changed {
            return self.answer(waiting.slot, result);
        }
        let owner = pool.or(run.map(Owner::Run));
        self.keep_answer(&waiting, &result, owner.clone(), now);
        self.give(waiting, result, owner, again);
    }

    /// The machine's answer as it is given. Of runs that are being set aside the machine knows
    /// nothing, and their attempts are not stale.
    fn told(&self, answer: run::Answer) -> Answer {
        match answer {
            run::Answer::Done => Answer::Done,
            run::Answer::Beat { mut stale } => {
                stale.retain(|attempt| !self.is_aside(attempt.run));
                Answer::Beat { stale }
            }
        }
    }

    /// Whether the run is out of memory though it is not over: a report on it is neither stale nor
    /// to be taken, and its worker keeps it.
    fn is_aside(&self, run: RunId) -> bool {
        let held = self.machine.as_ref().is_some_and(|machine| machine.holds(run));
        !held && (self.aside.contains_key(&run) || self.left_alone.contains_key(&run))
    }

    /// Whether the run has ended since it was read: the machine holds all that have not, so its end
    /// is still on its way to the store.
    fn is_outdated(&self, active: &ActiveRun) -> bool {
        let run = active.run.id;
        let held = self.machine.as_ref().is_some_and(|machine| machine.holds(run));
        !active.run.state.is_terminal() && !held && !self.is_aside(run)
    }

    /// Why nothing can be asked of a run that is left alone, or why it cannot be made.
    fn untouched(&self, command: &Command, run: RunId) -> Option<Refusal> {
        if let Command::Create(new) = command {
            let workflow = (new.project, new.plan.name.clone());
            let deleted = !new.version.is_draft() && self.deleted.contains(&workflow);
            let message = decide::deleted(&new.plan.name);
            return deleted.then_some(Refusal { code: RefusalCode::Deleted, message });
        }
        let why = self.left_alone.get(&run)?;
        let asked = matches!(
            command,
            Command::Cancel { .. }
                | Command::Retry { .. }
                | Command::Mark { .. }
                | Command::Signal { .. }
                | Command::Decide { .. }
                | Command::Pause { .. }
                | Command::Quarantine { .. }
        );
        let message = format!(
            "run {run} is left alone, since it can neither be decided nor ended ({why}); \
             start the server again to try it once more"
        );
        asked.then_some(Refusal { code: RefusalCode::Conflict, message })
    }

    /// The run that has to be loaded before the command can be applied.
    fn missing(&self, command: &Command, loaded: bool) -> Option<RunId> {
        let (Command::Cancel { run, .. }
        | Command::Retry { run, .. }
        | Command::Mark { run, .. }
        | Command::Signal { run, .. }
        | Command::Decide { run, .. }
        | Command::Pause { what: Pausable::Run(run), .. }
        | Command::Quarantine { run, .. }) = command
        else {
            return None;
        };
        let held = self.machine.as_ref().is_some_and(|machine| machine.holds(*run));
        (!loaded && !held).then_some(*run)
    }

    /// The attempt whose end was perhaps reported before its run ended: the same report again gets
    /// the same answer, for which its row has to be read.
    fn perhaps_ended(&self, command: &Command, loaded: bool) -> Option<AttemptRef> {
        let Command::Report { attempt, report: Report::Finished(_), .. } = command else {
            return None;
        };
        let held = self.machine.as_ref().is_some_and(|machine| {
            machine.holds(attempt.run) || machine.has_remnant(attempt.token)
        });
        (!loaded && !held).then(|| attempt.clone())
    }

    /// Takes over what the store has of schedules, and lets those in who waited for it.
    fn learn_schedules(&mut self, epoch: Epoch, found: Found) {
        if epoch != self.epoch {
            return;
        }
        if !self.ticks.found(found) {
            self.schedule_tries += 1;
            let after = self.config.backoff(self.schedule_tries);
            return self.outputs.push(Output::Read { read: Read::Schedules { epoch }, after });
        }
        // Whatever is due is so at once.
        self.look = self.ticks.schedules.next_wakeup().map(|_| self.last);
        for waiting in self.parked.drain(..).rev() {
            self.incoming.push_front(waiting);
        }
    }

    /// Makes the runs that ends of other runs start, each with the answer to its firing.
    fn learn_firings(&mut self, epoch: Epoch, found: Found, now: Now) {
        if epoch != self.epoch {
            return;
        }
        let Found::Firings(fired) = found else {
            let after = self.config.backoff(self.firings.failed());
            return self.outputs.push(Output::Read { read: Read::Firings { epoch }, after });
        };
        self.firings.read(fired.len());
        for fired in fired {
            let Some(made) = self.start(&fired, now) else {
                return self.firings.curse(&fired.firing);
            };
            self.out.changes.push(self.firings.send(&fired.firing, made, now.wall));
            self.urgent = true;
        }
    }

    /// The run that a firing makes, or why there is none; nothing where the machine failed on it.
    fn start(&mut self, fired: &Fired, now: Now) -> Option<Result<RunId, String>> {
        if let Some(reason) = self.firings.hindered(fired) {
            return Some(Err(reason));
        }
        let run = match fired_run(fired, now.wall, &self.config.site) {
            Ok(run) => run,
            Err(reason) => return Some(Err(reason)),
        };
        let (id, create) = (run.id, Command::Create(Box::new(run)));
        let applied = self.guarded(Some(id), |machine, out| machine.apply(create, now, out))?;
        Some(applied.map(|_| id).map_err(|refusal| refusal.message))
    }

    /// Does what is asked of workflows, schedules, triggers and backfills, or tells what it would
    /// change.
    fn decide(&mut self, waiting: Waiting<S>, known: Option<&Known>, now: Now) {
        let Some(machine) = self.machine.as_ref() else {
            let error = Error::Unavailable("the engine does not lead".into());
            return self.give(waiting, Err(error), None, None);
        };
        self.urgent = true;
        let request = waiting.request.clone();
        let project = request.project;
        let (schedules, backfills) = (&mut self.ticks.schedules, &mut self.ticks.backfills);
        let triggers = &mut self.firings.triggers;
        if request.dry_run {
            let there = (&*schedules, &*backfills, &*triggers);
            let tried = decide::try_out(request, known, there, (machine, now));
            let result = tried.map(Answer::Preview).map_err(Error::Refused);
            return self.give(waiting, result, None, None);
        }
        let deletes = matches!(request.ask, Ask::Delete { .. });
        let parts = decide::Parts { schedules, backfills, triggers };
        let (result, workflow) = match decide::decide(request, known, parts, (machine, now)) {
            Ok(decided) => {
                self.out.changes.extend(decided.changes);
                if deletes {
                    self.deleted.insert((project, decided.workflow.clone()));
                }
                if let Some(command) = decided.command {
                    self.guarded(None, |machine, out| machine.apply(command, now, out));
                }
                (Ok(decided.answer), decided.workflow)
            }
            Err(refusal) => (Err(Error::Refused(refusal)), String::new()),
        };
        let owner = Some(Owner::Workflow(project, workflow));
        self.keep_answer(&waiting, &result, owner.clone(), now);
        self.give(waiting, result, owner, None);
    }

    /// Decides a deploy, or a change of metadata.
    fn catalog(&mut self, mut waiting: Waiting<S>, known: &Known, now: Now) {
        if self.ticks.holds_up(&waiting.request) {
            self.open(std::mem::take(&mut waiting.gates));
            return self.parked.push(waiting);
        }
        let project = waiting.request.project;
        let Ask::Deploy(deploy) = waiting.request.ask.clone() else {
            return self.decide(waiting, Some(known), now);
        };
        let name = deploy.plan.name.clone();
        let result = self.deploy(project, *deploy, known, now);
        self.urgent = true;
        let owner = Some(Owner::Workflow(project, name));
        self.keep_answer(&waiting, &result, owner.clone(), now);
        self.give(waiting, result, owner, None);
    }

    fn deploy(
        &mut self,
        project: ProjectId,
        deploy: Deploy,
        known: &Known,
        now: Now,
    ) -> Result<Answer, Error> {
        let (plan, code, draft) = (deploy.plan.clone(), deploy.code.clone(), deploy.draft);
        if let (false, Some(way)) = (draft, self.firings.triggers.cycle(project, &plan)) {
            return Err(Error::Refused(firings::cycle(&way)));
        }
        if !draft {
            self.deleted.remove(&(project, plan.name.clone()));
        }
        let deployed = catalog::deploy(project, deploy, known, now.wall);
        self.out.changes.extend(deployed.changes);
        let (version, created) = (deployed.version, deployed.created);
        if !draft {
            let (name, limits) = (plan.name.clone(), plan.concurrency.clone());
            self.guarded(None, |machine, _| machine.set_limits(project, &name, limits));
            let triggers = &mut self.firings.triggers;
            self.out.changes.extend(triggers.deploy(project, version, &plan, now.wall));
            let declared = Declared { project, workflow: name, version, plan, code };
            let schedules = &mut self.ticks.schedules;
            self.out.changes.extend(schedules.deploy(&Arc::new(declared), now.wall));
        } else if let Some(row) = known.workflow.as_ref().filter(|row| row.current.is_some()) {
            // Its runs are bound by what is deployed.
            let limits = row.limits.clone();
            self.guarded(None, |machine, _| machine.set_limits(project, &row.name, limits));
        }
        Ok(Answer::Deployed { version, created })
    }

    /// Writes the answer of a request with a key beside what the request changed.
    fn keep_answer(
        &mut self,
        waiting: &Waiting<S>,
        result: &Result<Answer, Error>,
        owner: Option<Owner>,
        now: Now,
    ) {
        let (Some(key), Ok(answer)) = (&waiting.request.key, result) else { return };
        let Ok(value) = serde_json::to_value(answer) else { return };
        let run = match &owner {
            Some(Owner::Run(run)) => Some(*run),
            _ => None,
        };
        let lasts = matches!(answer, Answer::Created { .. });
        let project = waiting.request.project;
        self.out.changes.push(Change::Answer(Box::new(AnswerRow {
            project,
            key: key.key.clone(),
            request: key.request,
            run,
            answer: value,
            expires_at: (!lasts).then(|| now.wall + ANSWER_KEPT),
        })));
        let kept = Kept { request: key.request, answer: answer.clone(), owner };
        self.recent.insert(project, key.key.clone(), kept);
    }

    /// Sets an answer down until the commit.
    fn give(
        &mut self,
        waiting: Waiting<S>,
        result: Result<Answer, Error>,
        owner: Option<Owner>,
        again: Option<Request>,
    ) {
        let Waiting { slot, gates, .. } = waiting;
        self.answers.push(Given { slot, result, owner, again, gates });
    }

    /// Lets an answer out, and those in who waited behind its request.
    fn release(&mut self, given: Given<S>, result: Result<Answer, Error>) {
        self.open(given.gates);
        let done = matches!(result, Ok(_) | Err(Error::Refused(_)));
        if let (None, Some(Owner::Run(run)), true) = (&given.slot, &given.owner, done) {
            self.aside.remove(run);
        }
        self.answer(given.slot, result);
    }

    fn answer(&mut self, slot: Option<S>, result: Result<Answer, Error>) {
        if let Some(slot) = slot {
            self.outputs.push(Output::Answer { slot, result });
        }
    }

    fn open(&mut self, gates: Vec<Gate>) {
        for gate in gates {
            let queue = self.behind.remove(&gate).unwrap_or_default();
            self.queued -= queue.len();
            for waiting in queue.into_iter().rev() {
                self.incoming.push_front(waiting);
            }
        }
    }

    fn remember_worker(&mut self, command: &Command, now: Now) {
        match command {
            Command::WorkerJoined { worker, slots, queues, confirms } => {
                let joined = Joined {
                    slots: *slots,
                    queues: queues.clone(),
                    confirms: *confirms,
                    leaving: false,
                    seen: now.mono,
                };
                self.workers.insert(worker.clone(), joined);
            }
            Command::WorkerBeat { worker, .. } => {
                if let Some(joined) = self.workers.get_mut(worker) {
                    joined.seen = now.mono;
                }
            }
            Command::WorkerLeaving { worker } => {
                if let Some(joined) = self.workers.get_mut(worker) {
                    joined.leaving = true;
                }
            }
            Command::WorkerGone { worker, .. } => {
                self.workers.remove(worker);
            }
            _ => {}
        }
    }

    /// Introduces the workers to a machine that has just loaded.
    fn rejoin(&mut self, now: Now) {
        let mut commands = Vec::new();
        for (worker, joined) in &self.workers {
            commands.push(Command::WorkerJoined {
                worker: worker.clone(),
                slots: joined.slots,
                queues: joined.queues.clone(),
                confirms: joined.confirms,
            });
            if joined.leaving {
                commands.push(Command::WorkerLeaving { worker: worker.clone() });
            }
        }
        for command in commands {
            self.guarded(None, |machine, out| machine.apply(command, now, out));
        }
    }

    /// After a stall of this engine the workers' silence says nothing: each is taken to have been
    /// heard now.
    fn excuse_silence(&mut self, now: Now) {
        let stalled =
            self.expected.is_some_and(|at| (now.mono - at).0 >= self.config.machine.lease.0 / 3);
        if !stalled {
            return;
        }
        let heard = |(worker, joined): (&WorkerId, &mut Joined)| {
            joined.seen = now.mono;
            worker.clone()
        };
        let workers: Vec<WorkerId> = self.workers.iter_mut().map(heard).collect();
        for worker in workers {
            self.guarded(None, |machine, _| machine.excuse(&worker, now));
        }
    }

    /// Goes on to the next part of a batch.
    fn advance(&mut self, commit: CommitSeq) {
        self.lead_tries = 0;
        let Some(flight) = &mut self.flight else { return };
        flight.tries = 0;
        flight.blobs = Arc::default();
        let Some(chunk) = flight.chunks.pop_front() else { return };
        let events = chunk.changes.iter().filter_map(|change| match change {
            Change::Event(event) => Some(Arc::clone(event)),
            _ => None,
        });
        let place = |(event, position)| Committed { commit, position, event };
        let events: Vec<Committed> = events.zip(0..).map(place).collect();
        if !events.is_empty() {
            self.outputs.push(Output::Events(events));
        }
    }

    /// Finds out whose changes the store will not take, and goes on without them.
    fn rejected(&mut self, reason: &str) {
        let Some(flight) = &mut self.flight else { return };
        let Some(chunk) = flight.chunks.pop_front() else { return };
        if !chunk.alone {
            for group in batch::by_owner(chunk.changes.to_vec()).into_iter().rev() {
                flight.chunks.push_front(group.into());
            }
            return;
        }
        flight.tries += 1;
        if flight.tries < REJECTIONS {
            return flight.chunks.push_front(chunk);
        }
        flight.tries = 0;
        if let Some(owner) = chunk.owner.clone() {
            flight.chunks.push_front(chunk);
            flight.lose(&owner, reason);
        }
    }

    /// When all is durable that can be: lets the answers and the effects out.
    fn finish_flight(&mut self) {
        if self.flight.as_ref().is_none_or(|flight| !flight.chunks.is_empty()) {
            return;
        }
        let Some(flight) = self.flight.take() else { return };
        let reason = |owner: &Option<Owner>| {
            let lost = flight.lost.iter().find(|lost| Some(&lost.owner) == owner.as_ref());
            lost.map(|lost| lost.reason.clone())
        };
        for mut given in flight.answers {
            let mut result = std::mem::replace(&mut given.result, Err(Error::Stopped));
            // What made these stale is not to be: their runs are as the store has them again.
            if let Ok(Answer::Beat { stale }) = &mut result {
                stale.retain(|attempt| reason(&Some(Owner::Run(attempt.run))).is_none());
            }
            match (reason(&given.owner), given.again.take()) {
                (None, _) => self.release(given, result),
                (Some(_), Some(request)) => {
                    self.incoming.push_front(Waiting::new(request, given.slot));
                }
                (Some(reason), None) => self.release(given, Err(Error::Rejected(reason))),
            }
        }
        let effects = flight.effects.into_iter();
        let kept = effects.filter(|effect| reason(&run_of_effect(effect)).is_none());
        self.outputs.extend(kept.map(Output::Effect));
        for lost in flight.lost {
            if let Owner::Run(run) = lost.owner {
                let skipped = self.ticks.lost(run, &lost.reason, self.wall);
                self.urgent |= !skipped.is_empty();
                self.out.changes.extend(skipped);
                let unfired = self.firings.lost(run, &lost.reason, self.wall);
                self.urgent |= unfired.is_some();
                self.out.changes.extend(unfired);
            }
            self.set_aside(lost);
        }
        self.ticks.arrived();
        if self.machine.is_some() && self.firings.arrived() {
            let read = Read::Firings { epoch: self.epoch };
            self.outputs.push(Output::Read { read, after: Span::ZERO });
        }
        if self.machine.as_ref().is_some_and(Machine::spent) {
            self.fall("the tokens of this epoch are used up");
        }
    }

    /// Takes back what the store refused: of a run, to what the store has of it, and ends it there.
    fn set_aside(&mut self, lost: Lost) {
        self.recent.forget(&lost.owner);
        let run = match lost.owner {
            Owner::Run(run) => run,
            Owner::Workflow(project, name) => {
                self.deleted.remove(&(project, name));
                return;
            }
            Owner::Pool(..) => return,
        };
        self.guarded(Some(run), |machine, _| machine.drop_run(run));
        if self.aside.contains_key(&run) {
            return self.leave_alone(run, lost.reason);
        }
        self.quarantine(lost.project, run, lost.reason);
    }

    /// Marks a run to be set aside at the next load.
    fn condemn(&mut self, run: RunId, reason: String) {
        if self.condemned.iter().all(|(other, _)| *other != run) {
            self.condemned.push((run, reason));
        }
    }

    /// Has nothing to do any more with a run that cannot even be set aside, until the engine is
    /// started again.
    fn leave_alone(&mut self, run: RunId, reason: String) {
        tracing::error!(%run, reason, "the run cannot be set aside and is left alone");
        self.aside.remove(&run);
        self.condemned.retain(|(other, _)| *other != run);
        self.left_alone.insert(run, reason.clone());
        self.guarded(None, |machine, _| machine.leave_alone(run, reason));
    }

    /// Drops the memory: the store alone says now what is true.
    fn fall(&mut self, why: &str) {
        if let Some(mut machine) = self.machine.take() {
            self.remnants.extend(machine.take_remnants());
        }
        self.ticks.forget();
        self.firings.sealed();
        // Nobody knows whether what ends them is durable.
        for (run, reason) in std::mem::take(&mut self.aside) {
            self.condemn(run, reason);
        }
        self.out = Out::default();
        self.deleted.clear();
        self.recent.clear();
        self.held_since = None;
        self.urgent = false;
        let lease = self.config.machine.lease;
        let last = self.last;
        self.workers.retain(|_, joined| !joined.confirms || last - joined.seen < lease);
        let mut given = std::mem::take(&mut self.answers);
        given.extend(self.flight.take().into_iter().flat_map(|flight| flight.answers));
        let mut repeated = Vec::new();
        for mut answer in given {
            match answer.again.take() {
                Some(request) => {
                    self.open(std::mem::take(&mut answer.gates));
                    repeated.push(Waiting::new(request, answer.slot));
                }
                None => self.release(answer, Err(Error::Unavailable(why.to_owned()))),
            }
        }
        for waiting in repeated.into_iter().rev() {
            self.incoming.push_front(waiting);
        }
    }

    /// Calls the machine; if it panics, drops it and sets the run aside that made it.
    fn guarded<T>(
        &mut self,
        culprit: Option<RunId>,
        call: impl FnOnce(&mut Machine, &mut Out) -> T,
    ) -> Option<T> {
        let machine = self.machine.as_mut()?;
        let out = &mut self.out;
        match catch_unwind(AssertUnwindSafe(|| call(machine, out))) {
            Ok(value) => Some(value),
            Err(panic) => {
                let reason = format!("the run machine failed: {}", panic_text(&*panic));
                let again = culprit.is_some_and(|run| self.aside.contains_key(&run));
                self.fall(&reason);
                match culprit {
                    Some(run) if again => self.leave_alone(run, reason),
                    Some(run) => self.condemn(run, reason),
                    None => self.suspicious = true,
                }
                None
            }
        }
    }

    /// Loads each run into a machine of its own, and condemns those that make it panic.
    fn try_alone(&mut self, runs: &[ActiveRun], now: Now) {
        for active in runs {
            let id = active.run.id;
            let load = |quarantine: Option<&str>| {
                let mut machine = Machine::new(self.config.machine.clone(), self.epoch);
                let mut out = Out::default();
                catch_unwind(AssertUnwindSafe(|| {
                    machine.load(vec![active.clone()], now, &mut out);
                    if let Some(reason) = quarantine {
                        let reason = reason.to_owned();
                        let _ =
                            machine.apply(Command::Quarantine { run: id, reason }, now, &mut out);
                    }
                    machine.settle(now, &mut out);
                }))
            };
            let Err(panic) = load(None) else { continue };
            let reason = format!("the run machine failed: {}", panic_text(&*panic));
            if load(Some(&reason)).is_ok() {
                self.condemn(id, reason);
            } else {
                self.leave_alone(id, reason);
            }
        }
    }
}

/// Whether an answer may be given at once where nothing has changed.
fn is_quiet(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(Answer::Beat { stale }) => stale.is_empty(),
        result => result.is_ok(),
    }
}

fn run_of(command: &Command) -> Option<RunId> {
    match command {
        Command::Create(new) => Some(new.id),
        Command::Cancel { run, .. }
        | Command::Retry { run, .. }
        | Command::Compiled { run, .. }
        | Command::Mark { run, .. }
        | Command::Signal { run, .. }
        | Command::Decide { run, .. }
        | Command::Pause { what: Pausable::Run(run), .. }
        | Command::Recalled { run, .. }
        | Command::Found { run, .. }
        | Command::Quarantine { run, .. } => Some(*run),
        Command::Report { attempt, .. } => Some(attempt.run),
        Command::SetPool { .. }
        | Command::WorkerJoined { .. }
        | Command::WorkerBeat { .. }
        | Command::WorkerGone { .. }
        | Command::WorkerLeaving { .. }
        | Command::Pause { .. }
        | Command::Fetched { .. } => None,
    }
}

fn run_of_effect(effect: &Effect) -> Option<Owner> {
    match effect {
        Effect::Dispatch { assignment, .. } => Some(Owner::Run(assignment.attempt.run)),
        Effect::Stop { attempt, .. } => Some(Owner::Run(attempt.run)),
        Effect::Compile(ask) => Some(Owner::Run(ask.run)),
        Effect::Recall { run, .. } | Effect::Lookup { run, .. } => Some(Owner::Run(*run)),
        Effect::Fetch { .. } => None,
    }
}

fn refers_to(change: &Change, digest: Digest) -> bool {
    let mut refers = false;
    ork_store::each_blob(change, &mut |found| refers |= found == digest);
    refers
}

fn kept(row: AnswerRow, now: Wall) -> Option<Kept> {
    if row.expires_at.is_some_and(|at| at <= now) {
        return None;
    }
    let answer = serde_json::from_value(row.answer).ok()?;
    Some(Kept { request: row.request, answer, owner: None })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use ork_core::plan::{Action, Binding, Plan, Scope, Task};
    use ork_core::rows::{Actor, CodeRef, VersionId};
    use ork_core::value::Value;

    use super::*;

    const RUN: RunId = RunId(uuid::Uuid::from_u128(1));

    fn new_run() -> Command {
        let action = Action::Execute { executor: "test".into(), spec: Binding::Const(Value::Null) };
        let plan = Plan::new("w", Scope { tasks: vec![Task::new("a", action)] });
        Command::Create(Box::new(NewRun {
            project: ProjectId::DEFAULT,
            project_name: "default".into(),
            id: RUN,
            version: VersionId(1),
            plan: Arc::new(plan),
            code: CodeRef::InPlace { root: "/".into(), digest: Digest::of(&[]) },
            params: Value::Null,
            logical_time: "2026-11-24T00:00:00Z".into(),
            labels: IndexMap::new(),
            trigger: "manual".into(),
            url: String::new(),
            rerun_of: None,
            after: None,
            by: Actor::default(),
        }))
    }

    /// A core that takes the lead of a store with these runs, and does what it says.
    fn lead(core: &mut Core<()>, runs: Vec<ActiveRun>) {
        let epoch = Epoch(core.epoch.0 + 1);
        let (pauses, pools, limited) = (Vec::new(), Vec::new(), Vec::new());
        core.led(
            Ok(Led { epoch, runs, pauses, pools, limited, triggers: Vec::new() }),
            Now::default(),
        );
    }

    fn commit_all(core: &mut Core<()>) -> usize {
        let mut commits = 0;
        while let Step::Commit { .. } = core.step(Now::default()) {
            commits += 1;
            core.committed(Ok(CommitSeq(commits as u64)));
        }
        commits
    }

    fn fail(core: &mut Core<()>) {
        core.guarded(Some(RUN), |_, _| panic!("on purpose"));
    }

    /// A core with one run, and that run as a store has it.
    fn with_a_run() -> (Core<()>, ActiveRun) {
        let mut core = Core::new(Config::default());
        lead(&mut core, Vec::new());
        core.push(Request::run(ProjectId::DEFAULT, new_run()), ());
        assert_eq!(commit_all(&mut core), 1);
        let active = core.machine().unwrap().snapshot(RUN).unwrap();
        (core, active)
    }

    #[test]
    fn a_run_on_which_the_machine_fails_is_ended_and_forgotten() {
        let (mut core, active) = with_a_run();
        fail(&mut core);
        lead(&mut core, vec![active]);
        assert!(core.aside.contains_key(&RUN));
        assert_eq!(commit_all(&mut core), 1);
        assert!(core.aside.is_empty() && core.left_alone.is_empty());
        assert!(!core.machine().unwrap().holds(RUN));
    }

    #[test]
    fn a_run_that_is_over_when_it_is_to_be_set_aside_needs_nothing() {
        let (mut core, _) = with_a_run();
        fail(&mut core);
        lead(&mut core, Vec::new());
        assert!(core.aside.is_empty() && core.condemned.is_empty());
    }

    #[test]
    fn a_run_that_cannot_be_set_aside_is_left_alone_by_every_machine_and_command() {
        let (mut core, active) = with_a_run();
        fail(&mut core);
        lead(&mut core, vec![active.clone()]);
        fail(&mut core);
        assert!(core.aside.is_empty());
        let loaded = Read::Run { project: ProjectId::DEFAULT, run: RUN };
        for _ in 0..2 {
            lead(&mut core, vec![active.clone()]);
            core.outputs().for_each(drop);
            let by = Actor::default();
            let cancel = Command::Cancel { run: RUN, path: None, force: true, by };
            core.push(Request::run(ProjectId::DEFAULT, cancel), ());
            core.found(loaded.clone(), Found::Run(Some(Box::new(active.clone()))));
            commit_all(&mut core);
            let machine = core.machine().unwrap();
            assert!(!machine.holds(RUN) && machine.left_alone(RUN).is_some());
            let refused = |output: Output<()>| {
                matches!(output, Output::Answer { result: Err(Error::Refused(refusal)), .. }
                    if refusal.message.contains("start the server again"))
            };
            assert!(core.outputs().any(refused));
            core.fall("another epoch leads");
        }
    }

    #[test]
    fn what_is_at_workers_outlasts_a_load_that_fails() {
        let (mut core, active) = with_a_run();
        let worker = Command::WorkerJoined {
            worker: "w1".into(),
            slots: 1,
            queues: Vec::new(),
            confirms: true,
        };
        core.push(Request::worker(worker), ());
        commit_all(&mut core);
        core.guarded(None, |machine, _| machine.released(Now::default()));
        core.guarded(None, |machine, _| machine.drop_run(RUN));
        let left = core.machine.as_mut().unwrap().take_remnants();
        assert!(!left.is_empty());
        core.machine.as_mut().unwrap().inherit(left.clone(), Now::default());
        core.fall("another epoch leads");
        assert_eq!(core.remnants.len(), left.len());
        core.machine = None;
        core.fall("a load failed");
        assert_eq!(core.remnants.len(), left.len());
        lead(&mut core, vec![active]);
        assert!(core.remnants.is_empty());
    }
}
