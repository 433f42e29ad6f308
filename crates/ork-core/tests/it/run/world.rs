//! A machine with a store made of maps, a clock moved by hand, and a record of what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::ids::{AttemptRef, Epoch, InstancePath, ProjectId, RunId, Token, WorkerId};
use ork_core::plan::{Concurrency, Plan};
use ork_core::rows::{
    ActiveRun, Actor, AttemptRow, CacheRow, Change, CodeRef, EventRow, LogSummary, PauseRow,
    PoolRow, RunRow, TaskRow, VersionId, VersionRow,
};
use ork_core::run::{
    Answer, AttemptState, Command, Config, Departure, Effect, EventKind, Failure, FailureKind,
    Finished, Machine, NewRun, Out, Outcome, Refusal, Report, RetrySelection, Source, TaskState,
    Waiting,
};
use ork_core::time::{Mono, Now, Span, Wall};
use ork_core::value::{Data, Digest, Value};
use uuid::Uuid;

/// 2026-11-24T00:00:00Z.
const START: i64 = 1_795_478_400_000_000;

/// The machine and all around it.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) config: Config,
    epoch: u32,
    /// How many beats there were, of all workers.
    pub(crate) beats: u64,
    pub(crate) now: Now,
    pub(crate) runs: BTreeMap<RunId, RunRow>,
    pub(crate) versions: BTreeMap<RunId, VersionRow>,
    pub(crate) tasks: BTreeMap<(RunId, u32), TaskRow>,
    pub(crate) attempts: BTreeMap<(RunId, InstancePath, u32, u32), AttemptRow>,
    pub(crate) pools: BTreeMap<(ProjectId, String), PoolRow>,
    /// The limits of current versions.
    pub(crate) limits: BTreeMap<String, Option<Concurrency>>,
    pub(crate) events: Vec<EventRow>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    trace: String,
    /// Whether the machine's invariants are checked at every step, and a trace is kept.
    watched: bool,
    /// How long a commit takes.
    commit: Span,
    /// The most changes that one settling made.
    pub(crate) largest: usize,
    /// Whose rerun the next run is.
    pub(crate) rerun_of: Option<RunId>,
    /// What the code of the next run is.
    pub(crate) code: Digest,
    pub(crate) pauses: Vec<PauseRow>,
    pub(crate) cache: Vec<CacheRow>,
}

pub(crate) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

pub(crate) fn by(name: &str) -> Actor {
    Actor { name: name.into(), ..Actor::default() }
}

impl World {
    pub(crate) fn new() -> Self {
        let config = Config::default();
        let mut world = Self {
            machine: Machine::new(config.clone(), Epoch(1)),
            config,
            epoch: 1,
            beats: 0,
            now: Now { mono: Mono(0), wall: Wall(START) },
            runs: BTreeMap::new(),
            versions: BTreeMap::new(),
            tasks: BTreeMap::new(),
            attempts: BTreeMap::new(),
            pools: BTreeMap::new(),
            limits: BTreeMap::new(),
            events: Vec::new(),
            effects: Vec::new(),
            blobs: BTreeMap::new(),
            trace: String::new(),
            watched: true,
            commit: Span::ZERO,
            largest: 0,
            rerun_of: None,
            code: Digest::of(b"code"),
            pauses: Vec::new(),
            cache: Vec::new(),
        };
        world.machine.load(Vec::new(), world.now, &mut Out::default());
        world
    }

    /// With one worker `w1`.
    pub(crate) fn with_worker(slots: u32) -> Self {
        let mut world = Self::new();
        world.join("w1", slots);
        world
    }

    /// For many steps or large runs: without a trace, and without looking at everything each time.
    pub(crate) fn bare(mut self) -> Self {
        self.watched = false;
        self
    }

    /// Applies one command, and settles; the rows are kept and the invariants checked.
    pub(crate) fn apply(&mut self, command: Command) -> Result<Answer, Refusal> {
        let mut out = Out::default();
        let answer = self.machine.apply(command, self.now, &mut out);
        if answer.is_err() {
            assert!(out.changes.is_empty(), "a refused command changed something");
        }
        self.settle_into(out);
        answer
    }

    pub(crate) fn ask(&mut self, command: Command) {
        if let Err(refusal) = self.apply(command) {
            let _ = writeln!(self.trace, "  refused: {refusal}");
        }
    }

    fn settle_into(&mut self, mut out: Out) {
        loop {
            self.machine.settle(self.now, &mut out);
            self.largest = self.largest.max(out.changes.len());
            self.keep(std::mem::take(&mut out));
            if self.machine.next_wakeup().is_none_or(|at| at > self.now.mono) {
                break;
            }
        }
        if self.watched {
            let violations = self.machine.check();
            assert!(violations.is_empty(), "{violations:?}\n{}", self.trace);
        }
    }

    pub(crate) fn keep(&mut self, out: Out) {
        if !out.changes.is_empty() {
            self.now = self.now.after(self.commit);
        }
        for blob in out.blobs {
            self.blobs.insert(blob.digest, blob.content);
        }
        for change in out.changes {
            match change {
                Change::Run(row) => {
                    self.runs.insert(row.id, *row);
                }
                Change::Task(row) => {
                    if row.generation > 1 {
                        self.tasks.retain(|(run, _), old| *run != row.run || old.path != row.path);
                    }
                    self.tasks.insert((row.run, row.ordinal), *row);
                }
                Change::Attempt(row) => {
                    let key = (row.run, row.path.clone(), row.generation, row.attempt);
                    self.attempts.insert(key, *row);
                }
                Change::Event(row) => self.keep_event((*row).clone()),
                Change::Pause(row) => {
                    self.pauses.retain(|other| other.workflow != row.workflow);
                    self.pauses.push(*row);
                }
                Change::Cache(row) => self.cache.push(*row),
                Change::Pool(row) => {
                    self.pools.insert((row.project, row.name.clone()), *row);
                }
                Change::History(_) => {}
                other => panic!("the machine does not make {other:?}"),
            }
        }
        for effect in out.effects {
            if self.watched {
                let _ = writeln!(self.trace, "    {}", show_effect(&effect));
            }
            self.effects.push(effect);
        }
        self.machine.released(self.now);
    }

    fn keep_event(&mut self, row: EventRow) {
        let last = self.events.iter().rev().find(|e| e.run == row.run).map_or(0, |e| e.seq);
        assert_eq!(row.seq, last + 1, "a gap in the events of a run");
        if self.watched {
            let _ = writeln!(self.trace, "  {}", show_event(&row));
        }
        self.events.push(row);
    }

    /// Time passes; what is due on the way fires at its time.
    pub(crate) fn pass(&mut self, span: Span) {
        let end = self.now.after(span);
        loop {
            let next = self.machine.next_wakeup().filter(|at| *at <= end.mono);
            let Some(at) = next else { break };
            let step = Span((at - self.now.mono).0.max(0));
            self.now = self.now.after(step);
            self.settle_into(Out::default());
        }
        self.now = end;
        self.settle_into(Out::default());
    }

    pub(crate) fn pass_secs(&mut self, secs: i64) {
        self.pass(Span::from_secs(secs));
    }

    /// Time passes, and these workers beat.
    pub(crate) fn pass_beating(&mut self, secs: i64, workers: &[&str]) {
        for _ in 0..secs {
            self.pass_secs(1);
            for worker in workers {
                self.beat(worker);
            }
        }
    }

    pub(crate) fn join(&mut self, worker: &str, slots: u32) {
        let queues = vec!["default".to_owned()];
        self.ask(Command::WorkerJoined { worker: worker.into(), slots, queues, confirms: true });
    }

    /// Joins a worker of this process.
    pub(crate) fn join_near(&mut self, worker: &str, slots: u32) {
        let (worker, queues) = (worker.into(), Vec::new());
        self.ask(Command::WorkerJoined { worker, slots, queues, confirms: false });
    }

    /// Joins a worker of these queues.
    pub(crate) fn serve(&mut self, worker: &str, slots: u32, queues: &[&str]) {
        let queues = queues.iter().map(ToString::to_string).collect();
        self.ask(Command::WorkerJoined { worker: worker.into(), slots, queues, confirms: true });
    }

    /// Sets the size of a pool.
    pub(crate) fn size_pool(&mut self, name: &str, slots: Option<u32>) {
        let (project, name) = (ProjectId::DEFAULT, name.to_owned());
        self.ask(Command::SetPool { project, name, slots, by: by("ann") });
    }

    /// A version with these limits becomes current.
    pub(crate) fn limit(&mut self, workflow: &str, limits: Option<Concurrency>) {
        self.limits.insert(workflow.into(), limits.clone());
        self.machine.set_limits(ProjectId::DEFAULT, workflow, limits);
        self.settle_into(Out::default());
    }

    /// Makes run number `n` of a plan with params.
    pub(crate) fn create_with(&mut self, n: u128, plan: &Plan, params: Value) -> RunId {
        let mut command = self.creation(n, plan);
        if let Command::Create(new) = &mut command {
            new.params = params;
        }
        self.ask(command);
        run_id(n)
    }

    /// Where an instance stands, by the rows.
    pub(crate) fn state(&self, run: RunId, path: &str) -> TaskState {
        self.task(run, path).state
    }

    /// Settles once more; how many offers that made.
    pub(crate) fn settle_again(&mut self) -> usize {
        let before = self.effects.len();
        self.settle_into(Out::default());
        self.effects.len() - before
    }

    pub(crate) fn crash(&mut self, worker: &str) {
        self.gone(worker, Departure::Crashed);
    }

    pub(crate) fn gone(&mut self, worker: &str, departure: Departure) {
        self.ask(Command::WorkerGone { worker: worker.into(), departure });
    }

    /// How long commits take from here on.
    pub(crate) fn commit_takes(&mut self, span: Span) {
        self.commit = span;
    }

    /// A beat of a worker that has what it should have; false when it is not known.
    pub(crate) fn beat(&mut self, worker: &str) -> bool {
        let held: Vec<_> = self.held(worker).collect();
        self.beat_with(worker, held).is_ok()
    }

    /// A beat that names these attempts; returns those that are stale.
    pub(crate) fn beat_with(
        &mut self,
        worker: &str,
        held: Vec<AttemptRef>,
    ) -> Result<Vec<AttemptRef>, Refusal> {
        self.beats += 1;
        self.late_beat(worker, self.beats, held)
    }

    /// The same, with any number.
    pub(crate) fn late_beat(
        &mut self,
        worker: &str,
        number: u64,
        held: Vec<AttemptRef>,
    ) -> Result<Vec<AttemptRef>, Refusal> {
        let worker = worker.into();
        match self.apply(Command::WorkerBeat { worker, number, held })? {
            Answer::Beat { stale } => Ok(stale),
            other @ Answer::Done => panic!("a beat was answered by {other:?}"),
        }
    }

    /// What a worker has, by the rows.
    fn held(&self, worker: &str) -> impl Iterator<Item = AttemptRef> {
        let worker = WorkerId::from(worker);
        let open = self.attempts.values().filter(move |row| {
            row.worker == worker && row.finished_at.is_none() && is_open(row.state)
        });
        open.map(|row| AttemptRef { run: row.run, path: row.path.clone(), token: row.token })
    }

    /// Makes run number `n` of a plan.
    pub(crate) fn create(&mut self, n: u128, plan: &Plan) -> RunId {
        self.create_in(n, ProjectId::DEFAULT, plan)
    }

    pub(crate) fn create_in(&mut self, n: u128, project: ProjectId, plan: &Plan) -> RunId {
        let command = self.creation_in(n, project, plan);
        self.ask(command);
        run_id(n)
    }

    /// What makes run number `n` of a plan.
    pub(crate) fn creation(&mut self, n: u128, plan: &Plan) -> Command {
        self.creation_in(n, ProjectId::DEFAULT, plan)
    }

    fn creation_in(&mut self, n: u128, project: ProjectId, plan: &Plan) -> Command {
        let (id, plan) = (run_id(n), Arc::new(plan.clone()));
        self.versions.insert(id, version(project, &plan, self.code));
        let rerun_of = self.rerun_of.take();
        Command::Create(Box::new(NewRun {
            project,
            project_name: "p".into(),
            id,
            version: VersionId(1),
            plan,
            code: CodeRef::InPlace { root: "/code".into(), digest: self.code },
            params: Value::Object(serde_json::Map::new()),
            logical_time: "2026-11-24T00:00:00+00:00".into(),
            labels: IndexMap::new(),
            trigger: "manual".into(),
            url: "http://ork/r".into(),
            rerun_of,
            after: None,
            by: by("ann"),
        }))
    }

    /// The current offer of an instance of run 1, by the rows.
    pub(crate) fn attempt(&self, run: RunId, path: &str) -> AttemptRef {
        let row = self.attempt_row(run, path);
        AttemptRef { run, path: path.into(), token: row.token }
    }

    pub(crate) fn attempt_row(&self, run: RunId, path: &str) -> &AttemptRow {
        let task = self.task(run, path);
        let key = (run, task.path.clone(), task.generation, task.attempt);
        self.attempts.get(&key).expect("an attempt")
    }

    pub(crate) fn task(&self, run: RunId, path: &str) -> &TaskRow {
        let rows = self.tasks.range((run, 0)..=(run, u32::MAX)).map(|(_, row)| row);
        rows.into_iter().find(|row| row.path.as_str() == path).expect("a task")
    }

    pub(crate) fn tell(&mut self, attempt: AttemptRef, report: Report) -> Result<(), Refusal> {
        let beats = self.beats;
        self.apply(Command::Report { attempt, report, beats }).map(|_| ())
    }

    /// The worker reports on the current attempt.
    pub(crate) fn report(&mut self, run: RunId, path: &str, report: Report) {
        let attempt = self.attempt(run, path);
        let beats = self.beats;
        self.ask(Command::Report { attempt, report, beats });
    }

    pub(crate) fn start(&mut self, run: RunId, path: &str) {
        self.report(run, path, Report::Confirmed);
        self.report(run, path, Report::Started);
    }

    pub(crate) fn succeed(&mut self, run: RunId, path: &str) {
        self.succeed_with(run, path, Value::Null);
    }

    pub(crate) fn succeed_with(&mut self, run: RunId, path: &str, output: Value) {
        self.report(run, path, finished(Outcome::Success { output: Some(Data::Inline(output)) }));
    }

    pub(crate) fn fail(&mut self, run: RunId, path: &str) {
        self.report(run, path, finished(Outcome::Failed(exit(1))));
    }

    pub(crate) fn cancel(&mut self, run: RunId, path: Option<&str>, force: bool) {
        let path = path.map(Into::into);
        self.ask(Command::Cancel { run, path, force, by: by("ann") });
    }

    /// Retries a terminal run as the engine does: loads it first.
    pub(crate) fn retry(&mut self, run: RunId, selection: RetrySelection) -> Result<(), Refusal> {
        let command = Command::Retry { run, selection, cancel_downstream: false, by: by("ann") };
        self.on(run, command)
    }

    /// Asks something of a run as the engine does: loads it first if it is over.
    pub(crate) fn on(&mut self, run: RunId, command: Command) -> Result<(), Refusal> {
        let mut out = Out::default();
        if !self.machine.holds(run) {
            self.machine.load(vec![self.active(run)], self.now, &mut out);
        }
        let answer = self.machine.apply(command, self.now, &mut out);
        if let Err(refusal) = &answer {
            let _ = writeln!(self.trace, "  refused: {refusal}");
        }
        self.settle_into(out);
        answer.map(|_| ())
    }

    /// Answers what the machine asked of the store last: an earlier run, or earlier successes.
    pub(crate) fn answer_lookups(&mut self) {
        let asked: Vec<_> = self
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Recall { .. } | Effect::Lookup { .. }))
            .cloned()
            .collect();
        self.effects.retain(|e| !matches!(e, Effect::Recall { .. } | Effect::Lookup { .. }));
        for effect in asked {
            let command = match effect {
                Effect::Recall { run, earlier, .. } => {
                    let earlier = self.runs.contains_key(&earlier).then(|| self.active(earlier));
                    Command::Recalled { run, earlier: earlier.map(Arc::new) }
                }
                Effect::Lookup { workflow, task, key, run, path, .. } => {
                    let mine = |row: &&CacheRow| row.workflow == *workflow && row.task == task;
                    let last = self.cache.iter().rev().find(mine).cloned().map(Box::new);
                    let hit = self.cache.iter().rev().find(|row| row.key == key);
                    Command::Found { run, path, hit: hit.cloned().map(Box::new), last }
                }
                _ => continue,
            };
            self.ask(command);
        }
    }

    /// A run from its rows.
    pub(crate) fn active(&self, run: RunId) -> ActiveRun {
        let attempts = self.attempts.values().filter(|a| a.run == run);
        let open = attempts.filter(|a| is_open(a.state));
        ActiveRun {
            run: self.runs[&run].clone(),
            version: Arc::new(self.versions[&run].clone()),
            tasks: self.tasks.range((run, 0)..=(run, u32::MAX)).map(|(_, t)| t.clone()).collect(),
            attempts: open.cloned().collect(),
            last_seq: self.events.iter().filter(|e| e.run == run).map(|e| e.seq).max().unwrap_or(0),
            damage: None,
        }
    }

    /// The process dies and another takes over after `down`; its clock starts elsewhere.
    pub(crate) fn reload(&mut self, down: Span) {
        self.epoch += 1;
        self.now.wall = self.now.wall + down;
        self.now.mono = Mono(self.now.mono.0 / 3 + 77);
        let _ = writeln!(self.trace, "  -- reload, {down} later");
        let open = self.runs.values().filter(|row| !row.state.is_terminal());
        let active: Vec<_> = open.map(|row| self.active(row.id)).collect();
        self.machine = Machine::new(self.config.clone(), Epoch(self.epoch));
        self.machine.learn_pauses(self.pauses.clone());
        self.machine.learn_pools(self.pools.values().cloned().collect());
        for (workflow, limits) in &self.limits {
            self.machine.set_limits(ProjectId::DEFAULT, workflow, limits.clone());
        }
        let mut out = Out::default();
        self.machine.load(active, self.now, &mut out);
        self.settle_into(out);
    }

    /// What happened since the last call.
    pub(crate) fn take_trace(&mut self) -> String {
        std::mem::take(&mut self.trace)
    }

    /// Forgets all rows, events and effects.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.versions.clear();
        self.tasks.clear();
        self.attempts.clear();
        self.events.clear();
        self.effects.clear();
        self.trace.clear();
    }

    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.trace, "> {text}");
    }
}

fn is_open(state: AttemptState) -> bool {
    matches!(state, AttemptState::Dispatched | AttemptState::Running | AttemptState::Stopping)
}

fn version(project: ProjectId, plan: &Arc<Plan>, code: Digest) -> VersionRow {
    VersionRow {
        project,
        workflow: plan.name.clone(),
        version: VersionId(1),
        digest: Digest::of(b"v"),
        source: String::new(),
        plan: Arc::clone(plan),
        code: CodeRef::InPlace { root: "/code".into(), digest: code },
        created_by: by("ann"),
        created_at: Wall(START),
    }
}

pub(crate) fn exit(code: i32) -> Failure {
    Failure {
        exit_code: Some(code),
        ..Failure::new(FailureKind::Failure, format!("exited with {code}"))
    }
}

pub(crate) fn finished(outcome: Outcome) -> Report {
    let logs = LogSummary::default();
    Report::Finished(Box::new(Finished {
        outcome,
        logs,
        artifacts: None,
        took: Span::from_millis(100),
    }))
}

fn show_token(token: Token) -> String {
    format!("t{}.{}", token.epoch().0, token.0 & 0xffff_ffff)
}

fn name(state: impl serde::Serialize) -> String {
    serde_json::to_value(state).expect("a name").as_str().expect("a name").to_owned()
}

fn show_effect(effect: &Effect) -> String {
    let to = |worker: &WorkerId, what: &str, attempt: &AttemptRef| {
        format!("→ {worker}: {what} {} {}", attempt.path, show_token(attempt.token))
    };
    match effect {
        Effect::Dispatch { worker, assignment } => {
            let inputs: Vec<_> = assignment
                .inputs
                .iter()
                .map(|(name, data)| match data {
                    Data::Inline(value) => format!(" {name}={value}"),
                    Data::Blob { .. } => format!(" {name}=blob"),
                })
                .collect();
            let offer = to(worker, "do", &assignment.attempt);
            format!("{offer} #{}{}", assignment.number, inputs.concat())
        }
        Effect::Stop { worker, attempt, .. } => to(worker, "stop", attempt),
        Effect::Fetch { .. } => "→ fetch a value".into(),
        Effect::Compile(ask) => format!("→ compile {} for {}", ask.tasks, ask.path),
        Effect::Recall { .. } => "→ recall a run".into(),
        Effect::Lookup { path, .. } => format!("→ look for a success of {path}"),
    }
}

fn show_event(row: &EventRow) -> String {
    let path = row.path.as_ref().map_or("run", InstancePath::as_str);
    let message = |failure: &Option<Failure>| {
        failure.as_ref().map_or(String::new(), |f| format!(" ({}: {})", name(f.kind), f.message))
    };
    let what = match &row.kind {
        EventKind::RunCreated { .. } => "created".into(),
        EventKind::RunStarted { run_attempt, .. } => format!("started, attempt {run_attempt}"),
        EventKind::RunStopping { reason, forced } => {
            format!("stopping, {}{}", name(reason), if *forced { ", forced" } else { "" })
        }
        EventKind::RunFinished { state, failure } => format!("{}{}", name(state), message(failure)),
        EventKind::RunReopened { run_attempt } => format!("reopened, attempt {run_attempt}"),
        EventKind::RunQuarantined { reason } => format!("quarantined: {reason}"),
        EventKind::RunPaused => format!("paused by {}", row.actor.name),
        EventKind::RunResumed => format!("resumed by {}", row.actor.name),
        EventKind::SignalReceived { name, number } => format!("signal {number}: {name}"),
        EventKind::TaskCacheMissed { differs } => format!("cache missed {differs:?}"),
        EventKind::TaskDeferred { wait, until, .. } => {
            let until = until.map_or(String::new(), |at| format!(", at most {}", at - row.at));
            let wait = match wait {
                Waiting::Time { at } => format!("time in {}", *at - row.at),
                Waiting::Event { name } => format!("event {name}"),
                Waiting::Approval { prompt, .. } => format!("approval: {prompt}"),
                Waiting::Poll { again, attempt } => {
                    let again = again.map_or("?".into(), |at| (at - row.at).to_string());
                    format!("{}, another look in {again}", name(attempt))
                }
            };
            format!("deferred: {wait}{until}")
        }
        EventKind::TaskResumed => "resumed".into(),
        EventKind::TaskReset { .. } => format!("reset, generation {}", row.generation.unwrap_or(0)),
        EventKind::TaskQueued => "queued".into(),
        EventKind::TaskOpened { count, kept, .. } => {
            format!("opened with {count} inside{}", if *kept { ", kept" } else { "" })
        }
        EventKind::TaskClosing { reason } => format!("closing, {}", name(reason)),
        EventKind::TaskDispatched { token, worker, .. } => {
            format!("dispatched {} to {worker}", show_token(*token))
        }
        EventKind::TaskUnclaimed { token } => format!("unclaimed {}", show_token(*token)),
        EventKind::TaskStarted { token } => format!("started {}", show_token(*token)),
        EventKind::TaskStopping { token, reason } => {
            format!("stopping {}, {}", show_token(*token), name(reason))
        }
        EventKind::TaskRetrying { failure, not_before, .. } => {
            let wait = *not_before - row.at;
            format!("retrying in {wait} ({}: {})", name(failure.kind), failure.message)
        }
        EventKind::TaskFinished { state, failure, cause, source, .. } => {
            let cause = cause.as_ref().map_or(String::new(), |path| format!(" because of {path}"));
            let source = match source {
                None => "",
                Some(Source::Mark) => " by mark",
                Some(Source::Decision) => " by decision",
                Some(Source::Timeout) => " by timeout",
                Some(Source::Signal { .. }) => " by signal",
                Some(Source::Cache { .. }) => " from the cache",
                Some(Source::Copy { .. }) => " by copy",
            };
            format!("{}{}{cause}{source}", name(state), message(failure))
        }
        EventKind::ReportIgnored { outcome, .. } => format!("ignored: {outcome}"),
    };
    let attempt = row.attempt.map_or(String::new(), |n| format!(" #{n}"));
    format!("{path}{attempt} {what}")
}
