//! One simulated world: a server that runs the real engine core and the real machine, a store, a
//! network, workers and clients, all driven by one seed.

macro_rules! trace {
    ($world:expr, $($arg:tt)*) => {
        if $world.trace {
            println!("{:>12.6}  {}", $world.seconds(), format!($($arg)*));
        }
    };
}

mod clients;
mod explain;
mod files;
mod tend;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use ork_core::ids::{AttemptRef, InstancePath, ProjectId, RunId, Token, WorkerId};
use ork_core::plan::Plan;
use ork_core::rows::{
    ActiveRun, Actor, Change, CodeRef, LogSummary, VersionId, VersionRow, WorkflowRow,
};
use ork_core::run::{
    Assignment, Command, Compile, Departure, Effect, EventKind, Failure, FailureKind, Finished,
    Outcome, Report, Sabotage,
};
use ork_core::schedule::{Declared, Schedules};
use ork_core::time::{Mono, Now, Span, Wall};
use ork_core::trigger::Triggers;
use ork_core::value::{Data, Digest, Value};
use ork_engine::{Answer, Ask, Config, Core, Error, Found, Output, Read, Request, Step};
use ork_store::{CommitSeq, StoreError};

use self::clients::Wish;
use self::files::Files;
use super::plans;
use super::store::SimStore;
use super::workers::{Held, Stage, Worker};
use crate::chance::Chance;

const MS: i64 = 1_000;
const SECOND: i64 = 1_000_000;
/// Where the civil clock begins: 2026-09-21T14:13:20Z.
const START: i64 = 1_790_000_000 * SECOND;
/// More steps than this and a seed is stuck.
const STEPS: usize = 40_000;

/// Where an answer goes, and to which life of the server it belongs.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Client(usize),
    Hello(usize),
    Beat(usize),
    /// With the number of the holding that it is about.
    Report(usize, Token, Report, u64),
    Nobody,
}

/// What happens at a time.
#[derive(Debug)]
enum Event {
    Arrive(Box<Request>, Slot),
    Answer(Slot, Result<Answer, Error>),
    Assign(usize, Box<Assignment>),
    Stop(usize, AttemptRef, Span),
    End(usize, Token, Option<Report>),
    Repeat(usize, Token),
    Beat(usize),
    Hello(usize),
    Read(u64, Read),
    Blob(u64, Digest),
    Compiled(u64, Box<Compile>),
    Told(u64, Box<Command>),
    Client(usize),
    Kill,
    Restart,
    Spawn(bool, Vec<String>),
    Die(usize),
    Leave(usize),
    Left(usize),
    Sign(usize, Token),
    Tend,
    Silence(usize),
    WallStep,
    Poison,
    Heal,
}

/// How bad the world is.
#[derive(Debug)]
struct Weather {
    /// One commit in this many fails; 0: none.
    commit_fails: usize,
    loses: usize,
    repeats: usize,
    late: usize,
    kills: usize,
}

/// What only some worlds have. It is drawn apart, so that the others are as they were before.
#[derive(Debug)]
struct Extra {
    chance: Chance,
    /// Whether workflows have triggers, and these and their schedules from the beginning.
    linked: bool,
}

pub(super) struct World {
    pub(super) chance: Chance,
    extra: Extra,
    pub(super) trace: bool,
    pub(super) store: SimStore,
    pub(super) problems: Vec<String>,
    /// The contents of each workflow.
    pub(super) plans: Vec<Vec<Arc<Plan>>>,
    pub(super) workers: Vec<Worker>,
    pub(super) config: Config,
    pub(super) core: Option<Core<Slot>>,
    pub(super) steps: usize,
    weather: Weather,
    mono: i64,
    wall_offset: i64,
    events: BinaryHeap<Reverse<(i64, u64, Entry)>>,
    order: u64,
    life: u64,
    loaded_at: i64,
    busy_until: i64,
    waited: bool,
    wake_at: Option<i64>,
    pending: Option<Result<CommitSeq, StoreError>>,
    wishes: Vec<Wish>,
    /// What tasks made of files, where they do.
    pub(super) files: Option<Files>,
    healed: bool,
    trusted: HashMap<Token, Vec<bool>>,
    /// Attempts that the server took for lost: they may run until their workers hear of it.
    given_up: HashSet<Token>,
    executed: HashSet<(RunId, InstancePath, u32, u32)>,
    pub(super) succeeded: HashSet<Token>,
    blobs: HashMap<Digest, Arc<Value>>,
    /// The earlier runs that each rerun was told of.
    pub(super) recalled: HashMap<RunId, Vec<Arc<ActiveRun>>>,
    /// What clients set by hand, by the ids of their requests.
    pub(super) marks: HashMap<String, Value>,
    /// What was to be deployed, by the workflow.
    pub(super) deployed: Vec<String>,
    pub(super) poison: Option<RunId>,
    last_streamed: u64,
}

/// An event in the heap: ordered by its time and number alone.
#[derive(Debug)]
struct Entry(Event);

impl PartialEq for Entry {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    pub(super) fn new(seed: u64, config: &Config, trace: bool) -> Self {
        let (mut chance, mut extra) = (Chance::new(seed), Chance::new(!seed));
        let calm = chance.one_in(8);
        let often = |n: usize| if calm { 0 } else { n };
        let weather = Weather {
            commit_fails: often(12),
            loses: often(25),
            repeats: often(15),
            late: often(10),
            kills: often(2),
        };
        let mut config = config.clone();
        if chance.one_in(4) {
            config.max_changes = 6 + chance.below(30);
        }
        let linked = extra.one_in(4);
        let files = extra.one_in(4).then(Files::default);
        let mut world = Self {
            chance,
            extra: Extra { linked, chance: extra },
            trace,
            store: SimStore::default(),
            problems: Vec::new(),
            plans: Vec::new(),
            workers: Vec::new(),
            core: Some(Core::new(config.clone())),
            config,
            steps: 0,
            weather,
            mono: 1,
            wall_offset: START,
            events: BinaryHeap::new(),
            order: 0,
            life: 1,
            loaded_at: 0,
            busy_until: 0,
            waited: false,
            wake_at: Some(0),
            pending: None,
            wishes: Vec::new(),
            files,
            healed: false,
            trusted: HashMap::new(),
            given_up: HashSet::new(),
            executed: HashSet::new(),
            succeeded: HashSet::new(),
            blobs: HashMap::new(),
            recalled: HashMap::new(),
            marks: HashMap::new(),
            deployed: Vec::new(),
            poison: None,
            last_streamed: 0,
        };
        world.populate(calm);
        world
    }

    /// Whether the machine panics on the first workflow's runs.
    pub(super) fn panics(&self) -> bool {
        self.config.machine.sabotage == Some(Sabotage::Panic)
    }

    /// How often somebody wanted to deploy a workflow.
    pub(super) fn deploys(&self, workflow: &str) -> usize {
        self.deployed.iter().filter(|name| *name == workflow).count()
    }

    fn seconds(&self) -> f64 {
        std::time::Duration::from_micros(self.mono.unsigned_abs()).as_secs_f64()
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.mono), wall: Wall(self.wall_offset + self.mono) }
    }

    fn at(&mut self, delay: i64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.mono + delay.max(0), self.order, Entry(event))));
    }

    fn problem(&mut self, what: String) {
        trace!(self, "PROBLEM {what}");
        self.problems.push(what);
    }

    fn populate(&mut self, calm: bool) {
        let more = self.chance.below(2);
        for number in 0..=more.max(usize::from(self.extra.linked)) {
            self.workflow(number);
        }
        for _ in 0..=self.chance.below(2) {
            let embedded = self.workers.is_empty() && self.chance.one_in(2);
            let queues = self.some_queues();
            self.at(0, Event::Spawn(embedded, queues));
        }
        self.make_wishes();
        if calm {
            return self.at(20 * SECOND, Event::Heal);
        }
        for _ in 0..self.chance.below(3) {
            let delay = self.chance.between(0, 20 * SECOND);
            let place = self.chance.below(4);
            match self.chance.below(4) {
                0 if self.weather.kills > 0 => self.at(delay, Event::Kill),
                1 => self.at(delay, Event::Die(place)),
                2 => self.at(delay, Event::Leave(place)),
                _ => self.at(delay, Event::Silence(place)),
            }
        }
        for _ in 0..self.chance.below(6).saturating_sub(3) {
            let delay = self.chance.between(0, 10 * SECOND);
            self.at(delay, Event::WallStep);
        }
        if self.chance.one_in(12) {
            let delay = self.chance.between(0, 10 * SECOND);
            self.at(delay, Event::Poison);
        }
        let until = self.chance.between(5 * SECOND, 30 * SECOND);
        self.at(until, Event::Heal);
    }

    fn workflow(&mut self, number: usize) {
        let start = self.now().wall;
        let mut workflow = plans::workflow(&mut self.chance, &format!("p{number}"), start);
        if self.panics() && number == 0 {
            plans::explode(&mut workflow);
        }
        if self.extra.linked {
            let before = self.plans.last().map(|contents| contents[0].name.clone());
            plans::link(&mut self.extra.chance, &mut workflow, before.as_deref(), start);
        }
        self.keep(&workflow.contents[0]);
        if let Some(called) = &workflow.called {
            self.keep(called);
        }
        self.plans.push(workflow.contents);
    }

    /// A workflow that was deployed before all began.
    fn keep(&mut self, plan: &Arc<Plan>) {
        let start = self.now().wall;
        let (project, first) = (ProjectId::DEFAULT, VersionId(1));
        let mut changes = Vec::new();
        if self.extra.linked {
            let (workflow, plan) = (plan.name.clone(), Arc::clone(plan));
            self.deployed.push(workflow.clone());
            changes.extend(Triggers::default().deploy(project, first, &plan, start));
            let version = Declared { project, workflow, version: first, plan, code: code() };
            changes.extend(Schedules::default().deploy(&Arc::new(version), start));
        }
        changes.push(Change::Version(Box::new(version(plan, first, Digest([0; 32]), start))));
        changes.push(Change::Workflow(Box::new(workflow(plan, start))));
        self.store.begin_with(changes);
    }

    /// Runs the world until all is quiet.
    pub(super) fn run(&mut self) {
        loop {
            self.serve();
            if self.healed && self.is_quiet() {
                return;
            }
            self.steps += 1;
            if self.steps > STEPS || self.mono > 4 * 3_600 * SECOND {
                return self.stuck();
            }
            let event = self.events.peek().map(|Reverse((at, _, _))| *at);
            let Some(next) = event.into_iter().chain(self.wake_at).min() else {
                return self.stuck();
            };
            self.mono = self.mono.max(next);
            if event == Some(next)
                && let Some(Reverse((_, _, Entry(event)))) = self.events.pop()
            {
                self.happen(event);
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.wishes.iter().all(|wish| wish.done)
            && self.pending.is_none()
            && self.schedules_rest()
            && self.store.firings.values().all(|row| row.decided_at.is_some())
            && self.store.runs.values().all(|kept| kept.run.state.is_terminal())
            && self
                .core
                .as_ref()
                .is_some_and(|core| core.machine().is_some() && core.backlog() == 0)
    }

    fn stuck(&mut self) {
        let mut why = Vec::new();
        for kept in self.store.runs.values().filter(|kept| !kept.run.state.is_terminal()) {
            why.push(format!("run {} is {:?}", kept.run.id, kept.run.state));
            for row in kept.tasks.values().filter(|row| !row.state.is_terminal()) {
                let machine = self.core.as_ref().and_then(Core::machine);
                let blockers = machine.and_then(|m| m.blockers(kept.run.id, &row.path));
                why.push(format!("{} is {:?}: {blockers:?}", row.path, row.state));
            }
        }
        let open = self.wishes.iter().filter(|wish| !wish.done);
        why.extend(open.map(|wish| format!("no answer for {}", wish.told())));
        self.problem(format!("stuck after {} steps: {}", self.steps, why.join("; ")));
    }

    // The server.

    /// Lets the server go on as far as it can at this moment.
    fn serve(&mut self) {
        if self.mono < self.busy_until {
            return;
        }
        let Some(mut core) = self.core.take() else { return };
        if let Some(result) = self.pending.take() {
            core.committed(result);
            self.perform(&mut core);
        }
        self.wake_at = None;
        while self.step(&mut core) {
            self.perform(&mut core);
        }
        self.perform(&mut core);
        self.core = Some(core);
    }

    /// One step of the engine; false when it has to wait.
    fn step(&mut self, core: &mut Core<Slot>) -> bool {
        let now = self.now();
        let waited = std::mem::take(&mut self.waited);
        match core.step(now) {
            Step::Lead { after } => {
                if !waited && after > Span::ZERO {
                    return self.rest(after);
                }
                let result = if self.commit_fails() {
                    Err(StoreError::Retryable("by chance".into()))
                } else {
                    Ok(self.store.led())
                };
                trace!(self, "leads: {:?}", result.as_ref().map(|led| (led.epoch, led.runs.len())));
                self.loaded_at = self.mono;
                core.led(result, now);
                true
            }
            Step::Commit { after, epoch, changes, blobs } => {
                for blob in &**blobs {
                    let value = serde_json::from_slice(&blob.content).unwrap_or_default();
                    self.blobs.insert(blob.digest, Arc::new(value));
                }
                if !waited && after > Span::ZERO {
                    return self.rest(after);
                }
                let runs: HashSet<_> = changes.iter().filter_map(Change::run).collect();
                if changes.len() > self.config.max_changes && runs.len() > 1 {
                    self.problems.push(format!("a commit of {} changes", changes.len()));
                }
                self.commit(epoch, changes);
                false
            }
            Step::Wait { until } => {
                self.wake_at = until.map(|at| at.0);
                let goes_on = until.is_some_and(|at| at.0 <= self.mono);
                if !goes_on && core.is_settled() {
                    self.look_into(core);
                }
                goes_on
            }
        }
    }

    fn rest(&mut self, after: Span) -> bool {
        self.busy_until = self.mono + after.0;
        self.wake_at = Some(self.busy_until);
        self.waited = true;
        false
    }

    fn commit_fails(&mut self) -> bool {
        !self.healed && self.chance.one_in(self.weather.commit_fails)
    }

    fn commit(&mut self, epoch: ork_core::ids::Epoch, changes: &[Change]) {
        self.note_trusted(changes);
        self.check_references(changes);
        let fails = self.commit_fails();
        let fate = if fails { self.chance.below(4) } else { 9 };
        let result = match fate {
            0 | 1 => Err(StoreError::Retryable("by chance".into())),
            2 => Err(StoreError::Unknown("nothing was done".into())),
            3 => match self.store.commit(epoch, changes) {
                Ok(_) => Err(StoreError::Unknown("it was done".into())),
                error => error,
            },
            _ => self.store.commit(epoch, changes),
        };
        if self.trace {
            trace!(self, "commits {} changes: {result:?}", changes.len());
            for change in changes {
                if let Change::Event(event) = change {
                    println!(
                        "                {} {} {:?} {:?}",
                        event.run, event.seq, event.path, event.kind
                    );
                }
            }
        }
        let slow = fails && self.chance.one_in(3);
        let high = if slow { 12 * SECOND } else { 900 };
        let took = self.chance.between(100, high);
        self.pending = Some(result);
        self.busy_until = self.mono + took;
        self.wake_at = Some(self.busy_until);
        if fails && self.chance.one_in(6) {
            let within = self.chance.between(0, took);
            self.at(within, Event::Kill);
        }
    }

    /// Remembers of each offer which workers the server had reason to trust when it decided it.
    fn note_trusted(&mut self, changes: &[Change]) {
        let lease = self.config.machine.lease.0;
        let heard = |worker: &Worker| worker.heard.max(self.loaded_at);
        let trusted = |worker: &Worker| self.mono - heard(worker) < lease;
        for change in changes {
            let Change::Event(event) = change else { continue };
            if let Some(token) = lost_token(&event.kind) {
                self.given_up.insert(token);
            }
            if let EventKind::TaskDispatched { token, .. } = event.kind {
                self.trusted
                    .entry(token)
                    .or_insert_with(|| self.workers.iter().map(trusted).collect());
            }
        }
    }

    /// Performs what the engine lets out.
    fn perform(&mut self, core: &mut Core<Slot>) {
        for output in core.outputs() {
            match output {
                Output::Answer { slot, result } => {
                    self.told(&slot, &result);
                    let delay = self.chance.between(50, 2 * MS);
                    self.at(delay, Event::Answer(slot, result));
                }
                Output::Effect(Effect::Dispatch { worker, assignment }) => {
                    if !self.store.has_token(assignment.attempt.token) {
                        let token = assignment.attempt.token;
                        self.problem(format!("token {token} was dispatched and is not durable"));
                    }
                    self.send_to(&worker, |place| Event::Assign(place, assignment));
                }
                Output::Effect(Effect::Stop { worker, attempt, grace, .. }) => {
                    self.send_to(&worker, |place| Event::Stop(place, attempt, grace));
                }
                Output::Effect(Effect::Compile(ask)) => {
                    let delay = self.chance.between(100, 50 * MS);
                    self.at(delay, Event::Compiled(self.life, ask));
                }
                Output::Effect(Effect::Fetch { digest }) => {
                    let delay = self.chance.between(100, 5 * MS);
                    self.at(delay, Event::Blob(self.life, digest));
                }
                Output::Effect(Effect::Recall { run, earlier, .. }) => {
                    let earlier = self.store.recall(earlier);
                    self.recalled.entry(run).or_default().extend(earlier.clone());
                    let command = Command::Recalled { run, earlier };
                    let delay = self.chance.between(100, 5 * MS);
                    self.at(delay, Event::Told(self.life, Box::new(command)));
                }
                Output::Effect(Effect::Lookup { task, key, run, path, .. }) => {
                    let (hit, last) = self.store.cached(&task, &key);
                    let command = Command::Found { run, path, hit, last };
                    let delay = self.chance.between(100, 5 * MS);
                    self.at(delay, Event::Told(self.life, Box::new(command)));
                }
                Output::Events(events) => {
                    let commit = events.first().map_or(0, |event| event.commit.0);
                    if commit > self.store.commits() || commit <= self.last_streamed {
                        self.problem(format!("events of commit {commit} came out of turn"));
                    }
                    self.last_streamed = commit;
                }
                Output::Read { read, after } => {
                    let delay = after.0 + self.chance.between(50, 3 * MS) + self.slow(&read);
                    self.at(delay, Event::Read(self.life, read));
                }
            }
        }
    }

    /// How much longer a read takes: between an end and what it starts there is time for faults.
    fn slow(&mut self, read: &Read) -> i64 {
        let slow = matches!(read, Read::Firings { .. }) && self.extra.linked && !self.healed;
        if slow && self.extra.chance.one_in(2) {
            self.extra.chance.between(0, 9 * SECOND)
        } else {
            0
        }
    }

    fn kill(&mut self) {
        if self.healed || self.core.is_none() {
            return;
        }
        self.crash();
        let delay = self.chance.between(10 * MS, 20 * SECOND);
        self.at(delay, Event::Restart);
    }

    fn crash(&mut self) {
        trace!(self, "the server is killed");
        self.core = None;
        self.pending = None;
        self.busy_until = 0;
        self.waited = false;
        self.wake_at = None;
        for place in 0..self.workers.len() {
            if self.workers[place].embedded {
                self.die(place);
            }
        }
    }

    fn restart(&mut self) {
        if self.core.is_some() {
            return;
        }
        trace!(self, "the server starts");
        self.life += 1;
        let mut core = Core::new(self.config.clone());
        let old = self.workers.iter().filter(|worker| worker.embedded);
        for worker in old {
            let departure = Departure::Crashed;
            let gone = Command::WorkerGone { worker: worker.id.clone(), departure };
            core.push(Request::worker(gone), Slot::Nobody);
        }
        self.core = Some(core);
        self.wake_at = Some(self.mono);
        if self.workers.iter().any(|worker| worker.embedded) {
            let queues = self.some_queues();
            self.at(0, Event::Spawn(true, queues));
        }
        for place in 0..self.workers.len() {
            if self.workers[place].alive {
                let delay = self.chance.between(0, 2 * SECOND);
                self.at(delay, Event::Hello(place));
            }
        }
        self.wishes_again();
    }

    // Everything else.

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(request, slot) => self.arrive(*request, slot),
            Event::Answer(slot, result) => self.answer(slot, &result),
            Event::Assign(place, assignment) => self.assign(place, &assignment),
            Event::Stop(place, attempt, grace) => self.stop(place, attempt, grace),
            Event::End(place, token, report) => self.end(place, token, report),
            Event::Repeat(place, token) => self.repeat(place, token),
            Event::Beat(place) => self.beat(place),
            Event::Hello(place) => self.hello(place),
            Event::Read(life, read) => self.read(life, read),
            Event::Blob(life, digest) => self.blob(life, digest),
            Event::Compiled(life, ask) => self.compiled(life, &ask),
            Event::Told(life, command) => self.tell(life, *command),
            Event::Client(wish) => self.ask(wish),
            Event::Kill => self.kill(),
            Event::Restart => self.restart(),
            Event::Spawn(embedded, queues) => self.spawn(embedded, queues),
            Event::Die(seed) => {
                if let Some(place) = self.some_worker(seed) {
                    self.die(place);
                    self.replace_worker();
                }
            }
            Event::Leave(seed) => self.leave(seed),
            Event::Left(place) => self.left(place),
            Event::Sign(place, token) => self.sign(place, token),
            Event::Tend => self.tend(),
            Event::Silence(seed) => self.silence(seed),
            Event::WallStep => {
                self.wall_offset += self.chance.between(-3_600, 3_600) * SECOND;
            }
            Event::Poison => {
                let runs: Vec<RunId> = self.store.runs.keys().copied().collect();
                if !self.healed && !runs.is_empty() {
                    self.poison = Some(self.chance.pick(&runs));
                    self.store.poisoned = self.poison;
                    self.store.yields = self.chance.one_in(2);
                    trace!(self, "run {:?} is poisoned", self.poison);
                }
            }
            Event::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        trace!(self, "all heals");
        self.healed = true;
        self.store.poisoned = None;
        if self.poison.is_some() {
            // What could not even be set aside is loaded again by the next life.
            self.crash();
        }
        self.restart();
        for worker in &mut self.workers {
            worker.silent_until = worker.silent_until.min(self.mono);
        }
        if !self.workers.iter().any(|worker| worker.alive) {
            self.at(0, Event::Spawn(false, Vec::new()));
        }
        if self.chance.one_in(2) {
            // The clock is set right.
            self.wall_offset = self.wall_offset.max(START);
        }
        self.at(0, Event::Tend);
    }

    fn arrive(&mut self, request: Request, slot: Slot) {
        let Some(core) = &mut self.core else { return };
        match (&slot, &request.ask) {
            (Slot::Hello(place), _) => self.workers[*place].heard = self.mono,
            (Slot::Beat(place), Ask::Run(Command::WorkerBeat { number, .. })) => {
                self.workers[*place].hear(*number, self.mono);
            }
            _ => {}
        }
        core.push(request, slot);
    }

    fn read(&mut self, life: u64, read: Read) {
        if life != self.life {
            return;
        }
        let found = if self.commit_fails() {
            Found::Failed(StoreError::Retryable("by chance".into()))
        } else {
            self.store.read(&read)
        };
        if let Some(core) = &mut self.core {
            core.found(read, found);
        }
    }

    fn blob(&mut self, life: u64, digest: Digest) {
        if life != self.life {
            return;
        }
        let value = self.blobs.get(&digest).cloned().ok_or_else(|| "not there".to_owned());
        if let Some(core) = &mut self.core {
            core.push(Request::worker(Command::Fetched { digest, value }), Slot::Nobody);
        }
    }

    /// What is to become a DAG is one already, or none.
    fn compiled(&mut self, life: u64, ask: &Compile) {
        let Some(core) = self.core.as_mut().filter(|_| life == self.life) else { return };
        let scope = serde_json::from_value(Value::clone(&ask.tasks));
        let command = Command::Compiled {
            run: ask.run,
            path: ask.path.clone(),
            generation: ask.generation,
            result: scope.map(Arc::new).map_err(|error| error.to_string()),
        };
        core.push(Request::worker(command), Slot::Nobody);
    }

    fn tell(&mut self, life: u64, command: Command) {
        if let Some(core) = self.core.as_mut().filter(|_| life == self.life) {
            core.push(Request::worker(command), Slot::Nobody);
        }
    }

    fn answer(&mut self, slot: Slot, result: &Result<Answer, Error>) {
        match slot {
            Slot::Client(wish) => self.client_hears(wish, result),
            Slot::Hello(place) => {
                if self.workers[place].alive && matches!(result, Err(Error::Unavailable(_))) {
                    self.at(100 * MS, Event::Hello(place));
                }
            }
            Slot::Beat(place) => match result {
                _ if !self.workers[place].alive => {}
                Ok(Answer::Beat { stale }) => self.fence(place, stale),
                Err(Error::Refused(_)) => self.at(10 * MS, Event::Hello(place)),
                _ => {}
            },
            Slot::Report(place, token, report, holding) => {
                self.worker_hears(place, token, (&report, holding), result);
            }
            Slot::Nobody => {}
        }
    }

    // Workers.

    fn some_queues(&mut self) -> Vec<String> {
        let queues: &[&str] = self.chance.pick(&[&[][..], &[], &["default", "q"], &["q"], &["*"]]);
        queues.iter().map(ToString::to_string).collect()
    }

    /// A worker of a process of its own, while the weather is bad.
    fn some_worker(&self, seed: usize) -> Option<usize> {
        let place = seed % self.workers.len().max(1);
        let fits = |worker: &&Worker| !worker.embedded && worker.alive;
        let worker = self.workers.get(place).filter(fits);
        worker.filter(|_| !self.healed).map(|_| place)
    }

    fn replace_worker(&mut self) {
        let delay = self.chance.between(0, 10 * SECOND);
        let queues = self.some_queues();
        self.at(delay, Event::Spawn(false, queues));
    }

    /// A worker is told to leave: it takes nothing new, and after a while stops what it has.
    fn leave(&mut self, seed: usize) {
        let Some(place) = self.some_worker(seed) else { return };
        let worker = self.workers[place].id.clone();
        self.hear_from(place, Command::WorkerLeaving { worker }, Slot::Nobody);
        let delay = self.chance.between(10 * MS, 4 * SECOND);
        self.at(delay, Event::Left(place));
        self.replace_worker();
    }

    fn left(&mut self, place: usize) {
        if self.workers[place].alive {
            self.die(place);
            let worker = self.workers[place].id.clone();
            let departure = Departure::Orderly;
            self.hear_from(place, Command::WorkerGone { worker, departure }, Slot::Nobody);
        }
    }

    /// User code gives a sign of life, and will again unless it falls silent.
    fn sign(&mut self, place: usize, token: Token) {
        let worker = &self.workers[place];
        let (true, Some(held)) = (worker.alive, worker.held.get(&token)) else { return };
        let (Some(every), Stage::Running) = (held.heartbeat, &held.stage) else { return };
        let attempt = held.attempt.clone();
        if self.core.is_some() {
            self.report(place, attempt, Report::Beat);
        }
        if self.healed || !self.chance.one_in(12) {
            self.at(every.0 / 3, Event::Sign(place, token));
        }
    }

    fn spawn(&mut self, embedded: bool, queues: Vec<String>) {
        let slots = 1 + u32::try_from(self.chance.below(3)).unwrap_or(0);
        let place = self.workers.len();
        if embedded {
            for worker in self.workers.iter_mut().filter(|worker| worker.embedded) {
                worker.embedded = false;
            }
        }
        self.workers.push(Worker::new(place, slots, queues, embedded, self.mono));
        self.at(0, Event::Hello(place));
        self.at(3 * SECOND, Event::Beat(place));
    }

    fn die(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        worker.alive = false;
        worker.held.clear();
        trace!(self, "worker {place} dies");
    }

    fn silence(&mut self, seed: usize) {
        let place = seed % self.workers.len().max(1);
        if self.healed || place >= self.workers.len() || self.workers[place].embedded {
            return;
        }
        let span = self.chance.between(SECOND, 40 * SECOND);
        self.workers[place].silent_until = self.mono + span;
        trace!(self, "worker {place} is silent for {}s", span / SECOND);
    }

    fn send_to(&mut self, worker: &WorkerId, event: impl FnOnce(usize) -> Event) {
        let Some(place) = self.workers.iter().position(|other| other.id == *worker) else {
            return self.problem(format!("worker {worker} is not known"));
        };
        let embedded = self.workers[place].embedded;
        if !embedded && !self.healed && self.chance.one_in(self.weather.loses) {
            return;
        }
        let delay = self.delay(place);
        self.at(delay, event(place));
    }

    /// How long a message to or from a worker takes.
    fn delay(&mut self, place: usize) -> i64 {
        let worker = &self.workers[place];
        if worker.embedded {
            return self.chance.between(5, 200);
        }
        let silence = (worker.silent_until - self.mono).max(0);
        let late = !self.healed && self.chance.one_in(self.weather.late);
        let high = if late { 9 * SECOND } else { 3 * MS };
        silence + self.chance.between(50, high)
    }

    fn hear_from(&mut self, place: usize, command: Command, slot: Slot) {
        let embedded = self.workers[place].embedded;
        if !embedded && !self.healed && self.chance.one_in(self.weather.loses) {
            return;
        }
        let delay = self.delay(place);
        if !embedded && !self.healed && self.chance.one_in(self.weather.repeats) {
            let later = delay + self.chance.between(0, 20 * SECOND);
            let request = Request::worker(command.clone());
            self.at(later, Event::Arrive(Box::new(request), slot.clone()));
        }
        self.at(delay, Event::Arrive(Box::new(Request::worker(command)), slot));
    }

    fn hello(&mut self, place: usize) {
        let worker = &self.workers[place];
        if !worker.alive {
            return;
        }
        let command = Command::WorkerJoined {
            worker: worker.id.clone(),
            slots: worker.slots,
            queues: worker.queues.clone(),
            confirms: !worker.embedded,
        };
        self.hear_from(place, command, Slot::Hello(place));
    }

    fn beat(&mut self, place: usize) {
        let worker = &self.workers[place];
        if !worker.alive {
            return;
        }
        let worker = &mut self.workers[place];
        worker.beats += 1;
        let command = Command::WorkerBeat {
            worker: worker.id.clone(),
            number: worker.beats,
            held: worker.named(),
        };
        if self.core.is_some() {
            self.hear_from(place, command, Slot::Beat(place));
        }
        self.at(3 * SECOND, Event::Beat(place));
    }

    fn report(&mut self, place: usize, attempt: AttemptRef, report: Report) {
        let held = self.workers[place].held.get(&attempt.token).map_or(0, |held| held.holding);
        let slot = Slot::Report(place, attempt.token, report.clone(), held);
        let beats = self.workers[place].beats;
        self.hear_from(place, Command::Report { attempt, report, beats }, slot);
    }

    fn assign(&mut self, place: usize, assignment: &Assignment) {
        if !self.workers[place].alive {
            return;
        }
        self.check_inputs(assignment);
        let worker = &mut self.workers[place];
        let token = assignment.attempt.token;
        if worker.held.contains_key(&token) {
            return self.repeat(place, token);
        }
        self.order += 1;
        worker.held.insert(token, Held { holding: self.order, ..Held::new(assignment) });
        let embedded = worker.embedded;
        trace!(self, "worker {place} has token {token}");
        self.report(place, assignment.attempt.clone(), Report::Confirmed);
        if embedded {
            self.execute(place, token);
        } else {
            self.at(SECOND, Event::Repeat(place, token));
        }
    }

    /// Says again what the server has not answered.
    fn repeat(&mut self, place: usize, token: Token) {
        let worker = &self.workers[place];
        let (true, Some(held)) = (worker.alive, worker.held.get(&token)) else { return };
        if held.stage == Stage::Offered && !self.healed && self.chance.one_in(6) {
            return self.give_up(place, token);
        }
        let again = match &held.stage {
            Stage::Offered => Report::Confirmed,
            Stage::Ended(report) => report.clone(),
            Stage::Running | Stage::Done => return,
        };
        let attempt = held.attempt.clone();
        if self.core.is_some() {
            self.report(place, attempt, again);
        }
        self.at(2 * SECOND, Event::Repeat(place, token));
    }

    /// What a worker has no current token for is stopped without a word.
    fn fence(&mut self, place: usize, stale: &[AttemptRef]) {
        for attempt in stale {
            trace!(self, "worker {place} is told that token {} is stale", attempt.token);
            if let Some(held) = self.workers[place].held.get_mut(&attempt.token) {
                held.stage = Stage::Done;
            }
        }
    }

    /// A worker drops an offer whose confirmation got no answer.
    fn give_up(&mut self, place: usize, token: Token) {
        trace!(self, "worker {place} gives token {token} up");
        self.workers[place].held.remove(&token);
    }

    /// Starts user code, which must be the only one of its attempt.
    fn execute(&mut self, place: usize, token: Token) {
        let Some(held) = self.workers[place].held.get_mut(&token) else { return };
        if held.stage != Stage::Offered {
            return;
        }
        held.stage = Stage::Running;
        let (attempt, sensor) = (held.attempt.clone(), held.sensor);
        let beats = held.heartbeat.is_some();
        let id = (attempt.run, attempt.path.clone(), held.generation, held.number);
        if !self.executed.insert(id.clone()) {
            self.problem(format!("attempt {id:?} is executed twice"));
        }
        self.check_alone(place, &attempt);
        trace!(self, "worker {place} starts {} {} ({token})", attempt.run, attempt.path);
        self.report(place, attempt, Report::Started);
        let slow = self.chance.one_in(6);
        let took = self.chance.between(MS, if slow { 12 * SECOND } else { 300 * MS });
        if beats {
            self.at(0, Event::Sign(place, token));
        }
        let outcome = self.outcome(sensor);
        let (outcome, artifacts) = self.with_files((id.0, &id.1), token, outcome);
        let logs = LogSummary::default();
        let finished = Finished { outcome, logs, artifacts, took: Span(took) };
        self.at(took, Event::End(place, token, Some(Report::Finished(Box::new(finished)))));
    }

    /// No other worker that the server had reason to trust when it decided the offer runs the same instance.
    fn check_alone(&mut self, place: usize, attempt: &AttemptRef) {
        let trusted = self.trusted.get(&attempt.token);
        let other = self.workers.iter().enumerate().find(|(other, worker)| {
            let held = worker.runs(attempt);
            let trusted = trusted.and_then(|all| all.get(*other)) == Some(&true);
            let runs = held
                .is_some_and(|held| !held.stopping && !self.given_up.contains(&held.attempt.token));
            *other != place && worker.alive && trusted && runs
        });
        if let Some((other, _)) = other {
            let (run, path) = (attempt.run, &attempt.path);
            self.problem(format!("{path} of {run} runs at workers {other} and {place}"));
        }
    }

    fn outcome(&mut self, sensor: bool) -> Outcome {
        if sensor && self.chance.one_in(if self.healed { 4 } else { 2 }) {
            let failure = Failure::new(FailureKind::Failure, "not yet");
            return Outcome::Failed(Failure { exit_code: Some(75), ..failure });
        }
        match self.chance.below(10) {
            0..=2 => {
                let kinds = [FailureKind::Failure, FailureKind::Signal, FailureKind::WorkerFailed];
                let kind = self.chance.pick(&kinds);
                Outcome::Failed(Failure::new(kind, "by chance"))
            }
            3 => {
                let value = Value::from(self.chance.below(3));
                let text = value.to_string();
                let digest = Digest::of(text.as_bytes());
                self.blobs.insert(digest, Arc::new(value));
                Outcome::Success { output: Some(Data::Blob { digest, size: text.len() as u64 }) }
            }
            4..=6 => {
                let value = Value::from(self.chance.below(3));
                Outcome::Success { output: Some(Data::Inline(value)) }
            }
            _ => Outcome::Success { output: None },
        }
    }

    /// User code is gone, by itself or stopped.
    fn end(&mut self, place: usize, token: Token, report: Option<Report>) {
        let worker = &mut self.workers[place];
        let (true, Some(held)) = (worker.alive, worker.held.get_mut(&token)) else { return };
        if held.stage != Stage::Running {
            return;
        }
        let report = report.unwrap_or_else(stopped);
        if let Report::Finished(finished) = &report
            && matches!(finished.outcome, Outcome::Success { .. })
        {
            self.succeeded.insert(token);
        }
        held.stage = Stage::Ended(report.clone());
        let attempt = held.attempt.clone();
        trace!(self, "worker {place} ends {} {} ({token})", attempt.run, attempt.path);
        if self.core.is_some() {
            self.report(place, attempt, report);
        }
        self.at(2 * SECOND, Event::Repeat(place, token));
    }

    fn stop(&mut self, place: usize, attempt: AttemptRef, grace: Span) {
        let worker = &mut self.workers[place];
        if !worker.alive {
            return;
        }
        let token = attempt.token;
        match worker.held.get_mut(&token) {
            None => {
                worker.held.insert(token, Held::never(attempt, stopped()));
                self.repeat(place, token);
            }
            Some(held) if held.stage == Stage::Running && !held.stopping => {
                held.stopping = true;
                let took = self.chance.between(MS, grace.0 + SECOND);
                self.at(took, Event::End(place, token, None));
            }
            Some(held) if held.stage == Stage::Offered => {
                held.stage = Stage::Ended(stopped());
                self.repeat(place, token);
            }
            Some(_) => self.repeat(place, token),
        }
    }

    fn worker_hears(
        &mut self,
        place: usize,
        token: Token,
        (report, holding): (&Report, u64),
        result: &Result<Answer, Error>,
    ) {
        let worker = &mut self.workers[place];
        let (true, Some(held)) = (worker.alive, worker.held.get_mut(&token)) else { return };
        if held.holding != holding {
            // It gave that up, and waits for no answer any more.
            return;
        }
        match (result, report) {
            (Ok(_), Report::Confirmed) => self.execute(place, token),
            (Ok(_), Report::Finished(_)) => held.stage = Stage::Done,
            (Err(Error::Refused(_)), _) => {
                trace!(self, "worker {place} drops token {token}");
                if let Some(held) = self.workers[place].held.get_mut(&token) {
                    held.stage = Stage::Done;
                }
            }
            _ => {}
        }
    }
}

/// The attempt that an event takes for lost, or whose run it sets aside.
fn lost_token(kind: &EventKind) -> Option<Token> {
    let (token, failure) = match kind {
        EventKind::TaskRetrying { token, failure, .. } => (*token, failure),
        EventKind::TaskFinished { token: Some(token), failure: Some(failure), .. } => {
            (*token, failure)
        }
        _ => return None,
    };
    matches!(failure.kind, FailureKind::Lost | FailureKind::Quarantined).then_some(token)
}

fn stopped() -> Report {
    Report::Finished(Box::new(Finished {
        outcome: Outcome::Stopped,
        artifacts: None,
        logs: LogSummary::default(),
        took: Span::ZERO,
    }))
}

fn code() -> CodeRef {
    CodeRef::InPlace { root: "/".into(), digest: Digest::of(&[]) }
}

fn workflow(plan: &Plan, now: Wall) -> WorkflowRow {
    WorkflowRow {
        project: ProjectId::DEFAULT,
        name: plan.name.clone(),
        current: Some(VersionId(1)),
        metadata: plan.metadata.clone(),
        declared: None,
        deleted_at: None,
        limits: plan.concurrency.clone(),
        created_at: now,
        updated_at: now,
    }
}

fn version(plan: &Arc<Plan>, version: VersionId, digest: Digest, now: Wall) -> VersionRow {
    VersionRow {
        project: ProjectId::DEFAULT,
        workflow: plan.name.clone(),
        version,
        digest,
        source: String::new(),
        plan: Arc::clone(plan),
        code: code(),
        created_by: Actor::default(),
        created_at: now,
    }
}

/// The slots of each worker, for the checker.
pub(super) fn slots(workers: &[Worker]) -> BTreeMap<WorkerId, u32> {
    workers.iter().map(|worker| (worker.id.clone(), worker.slots)).collect()
}
