//! How a run goes on: rules and conditions, the ends of instances, of levels and of the run.

use crate::lang::expr::EvalError;
use crate::plan::{Task, TriggerRule};
use crate::rows::LogSummary;
use crate::run::active::{Cx, Run, RunStop, Stage};
use crate::run::instance::{Closing, ItemOf, Ix, Phase};
use crate::run::level::{BodyEnd, Frame, Part};
use crate::run::rule::{Verdict, decides};
use crate::run::scope::fit;
use crate::run::timers::Owner;
use crate::run::transition::{Illegal, Step};
use crate::run::{
    AttemptState, EventKind, Failure, FailureKind, RunState, Source, StopReason, TaskState,
};
use crate::value::Data;

/// How many names a message lists.
const NAMES: usize = 5;

/// The most instances of a run that are decided between two commits. Each makes a handful of
/// changes, so that a commit stays small however wide a run is. What is left is decided for the
/// next commit; after a crash it is found again, since it is a matter of what is durable.
pub(super) const BURST: usize = 200;

/// How many instances of a run that is set aside end in one commit, each by up to three changes.
const ASIDE: usize = 10_000;

/// How a generation ends.
#[derive(Default)]
pub(super) struct Ending {
    pub(super) failure: Option<Failure>,
    pub(super) cause: Option<Ix>,
    pub(super) output: Option<Data>,
    pub(super) logs: LogSummary,
    pub(super) source: Option<Source>,
}

impl Ending {
    /// For want of a value.
    pub(super) fn failed(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { failure: Some(Failure::new(kind, message)), ..Self::default() }
    }
}

impl Run {
    /// The run is admitted: its roots may start.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.admitted = true;
        self.enter(Stage::Body, cx.desk);
        self.started_at.get_or_insert(cx.now.wall);
        self.dirty = true;
        self.arm_run(cx);
        let place = self.place_taken(cx.desk);
        self.log(EventKind::RunStarted { run_attempt: self.round, place }, cx);
        self.todo.extend(self.levels[self.frames[0].body as usize].all());
        self.drain(cx)
    }

    /// From now on the run's timeout runs.
    pub(super) fn arm_run(&mut self, cx: &mut Cx<'_>) {
        self.due = self.plan().timeout.map(|timeout| cx.now.mono + timeout);
        if let Some(at) = self.due {
            cx.desk.timers.set(at, Owner::Run(self.id));
        }
    }

    /// Decides all that can be decided.
    pub(super) fn drain(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        loop {
            while self.decided < BURST {
                let Some(ix) = self.todo.pop_front() else { break };
                let before = self.seq;
                self.decide(ix, cx)?;
                self.decided += usize::from(self.seq > before);
            }
            if !self.todo.is_empty() {
                self.touch(cx.desk);
                return Ok(());
            }
            if !self.advance(cx) {
                return Ok(());
            }
        }
    }

    /// Goes to the next stage if this one is over.
    fn advance(&mut self, cx: &mut Cx<'_>) -> bool {
        match self.stage {
            // All of it was ended or marked before it could begin.
            Stage::Pending if self.open_of(Part::Body) + self.open_of(Part::Finally) == 0 => {
                cx.desk.resting.remove(&self.id);
                self.enter(Stage::Output, cx.desk);
            }
            Stage::Body if self.open_of(Part::Body) == 0 => self.end_body(),
            Stage::Finally if self.open_of(Part::Finally) == 0 => self.stage = Stage::Output,
            Stage::Output if self.parked.is_none() => {
                self.conclude(cx);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// The body is over. From here on the run's timeout has nothing to end.
    fn end_body(&mut self) {
        self.frames[0].end = Some(self.judge(0, Part::Body));
        self.stage = Stage::Finally;
        self.due = None;
        self.dirty = true;
        self.todo.extend(self.levels[self.frames[0].finally as usize].all());
    }

    /// How many instances of the run's own body or `finally` are not over.
    fn open_of(&self, part: Part) -> u32 {
        let Frame { body, finally, .. } = self.frames[0];
        let level = if part == Part::Body { body } else { finally };
        self.levels[level as usize].open
    }

    /// Whether what the instance is inside of is under way, if it is inside of anything.
    pub(super) fn is_owner_open(&self, ix: Ix) -> bool {
        let owner = self.owner(ix);
        owner.is_none_or(|owner| matches!(self.instance(owner).phase, Phase::Open(_)))
    }

    /// Whether the instance's level has been reached.
    pub(super) fn is_open(&self, ix: Ix) -> bool {
        if !self.is_owner_open(ix) {
            return false;
        }
        if self.instance(ix).item.is_some() || !self.is_root(self.instance(ix).level) {
            return true;
        }
        if self.owner(ix).is_none() && !matches!(self.stage, Stage::Body | Stage::Finally) {
            return false;
        }
        self.frame(ix).end.is_some() == (self.level(ix).part == Part::Finally)
    }

    /// Ends an instance that is to be ended, or decides whether a pending one may start, or whether
    /// one that others are inside of goes on.
    pub(super) fn decide(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Some(map) = self.map_mut(ix) {
            map.listed = false;
        }
        let closing = self.closing(ix);
        if let Some(closing) = &closing {
            self.halt(ix, closing, cx)?;
        }
        match self.instance(ix).phase {
            Phase::Open(_) => self.go_inside(ix, cx),
            _ if closing.is_none() => self.resolve(ix, cx),
            _ => Ok(()),
        }
    }

    /// What an instance that is ended with its run fails of.
    pub(super) fn stopped(&self, reason: StopReason) -> Failure {
        match reason {
            StopReason::TimedOut => self.timed_out(),
            _ => Failure::new(FailureKind::Cancelled, "the run was cancelled"),
        }
    }

    fn resolve(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        if matches!(instance.phase, Phase::Deferred(_)) && instance.parked.is_none() {
            return self.judge_look(ix, cx);
        }
        let parked = instance.parked.as_ref();
        let waits = parked.is_some_and(|parked| parked.compiling || !parked.missing.is_empty());
        if !matches!(instance.phase, Phase::Pending) || waits || !self.is_open(ix) {
            return Ok(());
        }
        if !self.takes_place(ix) {
            return Ok(());
        }
        let rule = self.task(ix).trigger_rule;
        match self.instance(ix).tally.verdict(rule) {
            Verdict::Wait => Ok(()),
            Verdict::Holds => self.decide_when(ix, cx),
            Verdict::Never(state) => {
                let cause = self.cause(ix, rule, state);
                self.end(ix, state, Ending { cause, ..Ending::default() }, cx)
            }
        }
    }

    fn decide_when(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        let when = match (&task.for_each, self.instance(ix).item) {
            (Some(each), Some(_)) => each.when.as_ref(),
            _ => task.when.as_ref(),
        };
        let Some(when) = when else { return self.begin_inside(ix, cx) };
        let holds = self.view(Some(ix), cx.desk).holds(when);
        match holds {
            Ok(true) => self.begin_inside(ix, cx),
            Ok(false) => self.end(ix, TaskState::Skipped, Ending::default(), cx),
            Err(error) => self.no_value(ix, "when", error, cx),
        }
    }

    pub(super) fn queue(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.instance_mut(ix).queued_at = Some(cx.now.wall);
        self.shift(ix, Step::Queue, Phase::READY, cx)?;
        self.log_at(ix, EventKind::TaskQueued, cx);
        self.arm_ready(ix, cx);
        Ok(())
    }

    /// The instance that decided that `ix` cannot start: the first such upstream, or what decided
    /// that one.
    fn cause(&self, ix: Ix, rule: TriggerRule, refusal: TaskState) -> Option<Ix> {
        let level = self.level(ix);
        let upstreams = self.task(ix).upstreams.iter();
        let found = upstreams
            .map(|up| level.ix(Ix::new(*up).0))
            .find(|up| decides(rule, self.instance(*up).state(), refusal))?;
        Some(self.instance(found).cause.unwrap_or(found))
    }

    /// Ends a generation, and tells its downstreams.
    pub(super) fn end(
        &mut self,
        ix: Ix,
        state: TaskState,
        ending: Ending,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Ending { failure, cause, output, logs, source } = ending;
        if matches!(self.instance(ix).phase, Phase::Pending) {
            self.end_inside(ix, cx)?;
        }
        self.close_unclaimed(ix, cx);
        let token = self.instance(ix).phase.lease().map(|lease| lease.token);
        self.shift(ix, Step::End(state), Phase::Over(state), cx)?;
        let instance = self.instance_mut(ix);
        instance.failure = failure.clone().map(Box::new);
        instance.cause = cause;
        instance.output = output.map(Box::new);
        instance.finished_at = Some(cx.now.wall);
        let cause = cause.map(|ix| self.instance(ix).path.clone());
        self.log_at(ix, EventKind::TaskFinished { state, token, failure, cause, logs, source }, cx);
        self.tell_downstreams(ix, state);
        Ok(())
    }

    fn tell_downstreams(&mut self, ix: Ix, state: TaskState) {
        if let Some(item) = self.instance(ix).item {
            return self.tell_map(ix, item, state);
        }
        let Self { instances, levels, todo, .. } = self;
        let instance = &instances[ix.at()];
        let (task, level) = (instance.task, &mut levels[instance.level as usize]);
        level.open -= 1;
        let tasks = &level.shape.scope().tasks;
        for &down in level.shape.downs(task) {
            let ix = level.ix(down);
            let instance = &mut instances[ix.at()];
            instance.tally.count(state);
            let verdict = instance.tally.verdict(tasks[down as usize].trigger_rule);
            if matches!(instance.phase, Phase::Pending) && verdict != Verdict::Wait {
                todo.push_back(ix);
            }
        }
        if let (0, Some(owner)) = (level.open, level.owner) {
            todo.push_back(owner);
        }
    }

    fn tell_map(&mut self, ix: Ix, item: ItemOf, state: TaskState) {
        let Some(map) = self.map_of(item) else { return };
        map.waiting.remove(&ix);
        map.open -= 1;
        map.count(state, true);
        self.wake(item.map);
    }

    /// What of a level failed, or was cancelled, and may not.
    pub(super) fn spoilers(&self, level: u32) -> Vec<Ix> {
        let level = &self.levels[level as usize];
        let tasks = &level.shape.scope().tasks;
        let spoils = |(ix, task): &(Ix, &Task)| {
            let phase = &self.instance(*ix).phase;
            let failed = matches!(phase, Phase::Over(TaskState::Failed | TaskState::Cancelled));
            failed && !task.allow_failure
        };
        level.all().zip(tasks).filter(spoils).map(|(ix, _)| ix).collect()
    }

    /// The result of a workflow so far: of its body, or of all. What failed is named.
    pub(super) fn judge(&self, frame: u32, upto: Part) -> BodyEnd {
        let Frame { body, finally, owner, .. } = self.frames[frame as usize];
        let mut spoilers = self.spoilers(body);
        if upto == Part::Finally {
            spoilers.extend(self.spoilers(finally));
        }
        let stopped = match owner {
            Some(owner) => self.closed(owner).map(|closing| closing.failure),
            None => self.stop.map(|stop| self.stopped(stop.reason)),
        };
        let (state, failure) = match stopped {
            Some(failure) if failure.kind == FailureKind::Cancelled => {
                (RunState::Cancelled, Some(failure))
            }
            Some(failure) => (RunState::Failed, Some(failure)),
            None if spoilers.is_empty() => (RunState::Success, None),
            None => (RunState::Failed, Some(self.task_failed(&spoilers))),
        };
        let failed = spoilers.iter().map(|ix| self.instance(*ix).path.to_string()).collect();
        BodyEnd { state, failure, failed }
    }

    pub(super) fn timed_out(&self) -> Failure {
        let timeout = self.plan().timeout.unwrap_or_default();
        let message = format!("the run took longer than its timeout of {timeout}");
        Failure::new(FailureKind::Timeout, message)
    }

    /// What a workflow or group fails of whose instances failed.
    pub(super) fn task_failed(&self, failed: &[Ix]) -> Failure {
        if let [ix] = failed {
            let instance = self.instance(*ix);
            let path = &instance.path;
            let why = instance.failure.as_ref().map(|failure| &*failure.message);
            let message = match (instance.state(), why) {
                (TaskState::Cancelled, Some(why)) => format!("{path} was {why}"),
                (TaskState::Cancelled, None) => format!("{path} was cancelled"),
                (_, Some(why)) => format!("{path} failed: {why}"),
                (_, None) => format!("{path} failed"),
            };
            return Failure::new(FailureKind::TaskFailed, message);
        }
        let more = match failed.len().saturating_sub(NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = failed.iter().take(NAMES).map(|ix| &*self.instance(*ix).path.0);
        let names = names.collect::<Vec<_>>().join(", ");
        let message = format!("{} tasks failed: {names}{more}", failed.len());
        Failure::new(FailureKind::TaskFailed, message)
    }

    /// All instances are over: the result, and the output if it is a good one.
    pub(super) fn conclude(&mut self, cx: &mut Cx<'_>) {
        let BodyEnd { state, failure, .. } = self.judge(0, Part::Finally);
        let plan = std::sync::Arc::clone(self.plan());
        let Some(binding) = plan.output.as_ref().filter(|_| state == RunState::Success) else {
            return self.over(state, failure, None, cx);
        };
        let output = self.view(None, cx.desk).data(binding);
        match output.and_then(|data| fit(data, cx.out)) {
            Ok(output) => self.over(state, None, Some(output), cx),
            Err(EvalError::Need(needs)) => self.park(None, needs, cx),
            Err(EvalError::Failed(message)) => self.fail_output(&message, cx),
        }
    }

    pub(super) fn fail_output(&mut self, message: &str, cx: &mut Cx<'_>) {
        let failure = Failure::new(FailureKind::Expression, format!("output: {message}"));
        self.over(RunState::Failed, Some(failure), None, cx);
    }

    fn over(
        &mut self,
        state: RunState,
        failure: Option<Failure>,
        output: Option<Data>,
        cx: &mut Cx<'_>,
    ) {
        self.unpark_at(None, cx.desk);
        self.enter(Stage::Over(state), cx.desk);
        self.finished_at = Some(cx.now.wall);
        self.due = None;
        self.failure.clone_from(&failure);
        self.output = output;
        self.dirty = true;
        self.log(EventKind::RunFinished { state, failure }, cx);
    }

    /// Ends the body before its time, and `finally` too when `forced`.
    pub(super) fn stop_run(&mut self, stop: RunStop, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.stop = Some(stop);
        self.dirty = true;
        let RunStop { reason, forced } = stop;
        self.log(EventKind::RunStopping { reason, forced }, cx);
        let closing = Closing { reason, failure: self.stopped(reason), forced };
        for ix in (0..self.instances.len())
            .map(Ix::new)
            .filter(|ix| !self.instance(*ix).state().is_terminal() && self.is_ended(*ix))
            .collect::<Vec<_>>()
        {
            if self.instance(ix).phase.lease().is_some() {
                self.halt(ix, &closing, cx)?;
            } else {
                self.todo.push_back(ix);
            }
        }
        if self.stage == Stage::Pending {
            self.enter(Stage::Body, cx.desk);
            cx.desk.resting.remove(&self.id);
        }
        if self.stage == Stage::Output {
            self.unpark_at(None, cx.desk);
        }
        self.drain(cx)
    }

    /// Ends an instance for good: at once, or when its processes are gone.
    pub(super) fn halt(
        &mut self,
        ix: Ix,
        closing: &Closing,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let failure = &closing.failure;
        match &mut self.instance_mut(ix).phase {
            Phase::Over(_) => Ok(()),
            Phase::Pending | Phase::Queued { .. } | Phase::Deferred(_) => {
                let ending = Ending { failure: Some(failure.clone()), ..Ending::default() };
                self.end(ix, TaskState::Cancelled, ending, cx)
            }
            Phase::Offered { .. } | Phase::Running(_) => {
                self.stop_attempt(ix, closing.reason, failure.clone(), true, cx)
            }
            Phase::Stopping(stop) => {
                stop.last = true;
                stop.successor = None;
                self.mark(ix, cx.desk);
                Ok(())
            }
            Phase::Open(_) => self.close(ix, closing, cx),
        }
    }

    /// Sets the run aside: whatever is open fails with it, whatever runs is told to stop and holds
    /// its slot until it has.
    ///
    /// A commit has a bound, so what is open of a wide run ends in several steps; the run ends with
    /// the last.
    pub(super) fn set_aside(&mut self, reason: String, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.log(EventKind::RunQuarantined { reason: reason.clone() }, cx);
        let failure = Failure::new(FailureKind::Quarantined, reason);
        for ix in (0..self.instances.len()).map(Ix::new) {
            if self.instance(ix).phase.lease().is_none() {
                continue;
            }
            let remnant = self.remnant(ix, cx.now.mono, &cx.desk.config);
            if remnant.is_some() {
                self.send_stop(ix, StopReason::Cancelled, cx);
                self.close_attempt(
                    ix,
                    AttemptState::Failed,
                    Some(failure.clone()),
                    LogSummary::default(),
                    cx,
                );
            }
            let ending = Ending { failure: Some(failure.clone()), ..Ending::default() };
            self.end(ix, TaskState::Failed, ending, cx)?;
            if let Some(remnant) = remnant {
                cx.desk.leave_behind(remnant);
            }
        }
        if self.stage == Stage::Pending {
            cx.desk.resting.remove(&self.id);
            self.enter(Stage::Body, cx.desk);
        }
        self.due = None;
        self.aside = Some(failure);
        self.dirty = true;
        self.go_aside(cx)
    }

    /// Ends some of what is open in a run that is being set aside, and the run if that is all.
    pub(super) fn go_aside(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Some(failure) = self.aside.clone() else { return Ok(()) };
        let open = (0..self.instances.len()).map(Ix::new);
        let open = open.filter(|ix| !self.instance(*ix).state().is_terminal());
        let open: Vec<Ix> = open.take(ASIDE + 1).collect();
        for &ix in open.iter().take(ASIDE) {
            // What it was inside of may have ended it.
            if !self.instance(ix).state().is_terminal() {
                let ending = Ending { failure: Some(failure.clone()), ..Ending::default() };
                self.end(ix, TaskState::Failed, ending, cx)?;
            }
        }
        self.todo.clear();
        if open.len() <= ASIDE {
            self.aside = None;
            self.over(RunState::Failed, Some(failure), None, cx);
            return Ok(());
        }
        self.let_go(cx.desk);
        for instance in &mut self.instances {
            instance.clear_deadlines();
        }
        self.touch(cx.desk);
        Ok(())
    }
}
