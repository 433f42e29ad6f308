//! The life of an attempt: offered, confirmed, started, ended, stopped, lost.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::ids::{AttemptRef, Token, WorkerId};
use crate::lang::expr::EvalError;
use crate::plan::Action;
use crate::rows::{AttemptRow, LogSummary};
use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Closing, Hold, Instance, Ix, Lease, Phase, Stop};
use crate::run::retry::Next;
use crate::run::scope::{each, fit};
use crate::run::transition::{Illegal, Step};
use crate::run::{
    Assignment, AttemptState, Effect, EventKind, Failure, FailureKind, Finished, Outcome, Refusal,
    RefusalCode, Report, StopReason, TaskState,
};
use crate::time::{Mono, Span, Wall};
use crate::value::{Data, Value};

/// What an attempt needs beside its instance's inputs; read anew for each.
struct Work {
    env: IndexMap<String, String>,
    spec: Value,
}

impl Run {
    /// Offers a ready instance to a worker, unless a value is missing or an expression fails.
    pub(super) fn offer(
        &mut self,
        ix: Ix,
        worker: &WorkerId,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match self.prepare(ix, cx) {
            Ok(work) => self.send_offer(ix, worker, work, cx),
            Err(error) => self.cannot_offer(ix, error, cx),
        }
    }

    /// What an offer needs is missing, or cannot be had.
    pub(super) fn cannot_offer(
        &mut self,
        ix: Ix,
        error: EvalError,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match error {
            EvalError::Need(needs) => {
                self.set_hold(ix, Hold::Values, cx.desk);
                self.park(Some(ix), needs, cx);
                Ok(())
            }
            EvalError::Failed(message) => {
                let ending = Ending::failed(FailureKind::Expression, message);
                self.end(ix, TaskState::Failed, ending, cx)?;
                self.drain(cx)
            }
        }
    }

    fn send_offer(
        &mut self,
        ix: Ix,
        worker: &WorkerId,
        work: Work,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(token) = cx.desk.token() else {
            self.stand_again(ix, cx.desk);
            return Ok(());
        };
        let attempt = self.instance(ix).next_attempt();
        self.halt_patience(ix, cx);
        self.begin_poll(ix, cx);
        let (worker, offered_at) = (worker.clone(), cx.now.wall);
        let lease =
            Lease { token, worker: worker.clone(), offered_at, started_at: None, beats: None };
        let phase = Phase::Offered { lease, confirmed: false, kept: false };
        self.shift(ix, Step::Offer, phase, cx)?;
        let instance = self.instance_mut(ix);
        instance.attempt = attempt;
        instance.attempt_dirty = true;
        cx.desk.offers.push(self.key(ix));
        let pool = self.pool_place(ix, cx.desk);
        let event = EventKind::TaskDispatched { token, worker: worker.clone(), pool };
        self.log_at(ix, event, cx);
        let assignment = Box::new(self.assignment(ix, token, work));
        cx.out.effects.push(Effect::Dispatch { worker, assignment });
        Ok(())
    }

    /// Sends an offer again under its token.
    pub(super) fn offer_again(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        let Phase::Offered { lease, confirmed: false, .. } = &self.instance(ix).phase else {
            return;
        };
        let (token, worker) = (lease.token, lease.worker.clone());
        self.instance_mut(ix).due = None;
        cx.desk.offers.push(self.key(ix));
        match self.prepare(ix, cx) {
            Ok(work) => {
                self.unpark(ix, cx.desk);
                let assignment = Box::new(self.assignment(ix, token, work));
                cx.out.effects.push(Effect::Dispatch { worker, assignment });
            }
            Err(EvalError::Need(needs)) => self.park(Some(ix), needs, cx),
            // It could be evaluated when it was offered; if not any more, the claim runs out and
            // the next offer says why.
            Err(EvalError::Failed(_)) => self.unpark(ix, cx.desk),
        }
    }

    /// An offer has left: it is to be confirmed until then. A worker in this process has it.
    pub(super) fn await_claim(&mut self, ix: Ix, until: Mono, desk: &mut Desk) {
        let Phase::Offered { lease, confirmed: false, .. } = &self.instance(ix).phase else {
            return;
        };
        if desk.workers.get(&lease.worker).is_none_or(|worker| !worker.near) {
            self.arm(ix, until, desk);
        }
    }

    /// Evaluates what the next attempt needs. The inputs are kept for the whole generation.
    fn prepare(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<Work, EvalError> {
        let plan = Arc::clone(&self.frame(ix).plan);
        let task = self.held_task(ix);
        let inputs = self.resolve_inputs(ix, cx);
        let view = self.view(Some(ix), cx.desk);
        let shared = plan.env.iter().filter(|(name, _)| !task.env.contains_key(*name));
        let env = each("env", shared.chain(&task.env), |binding| view.text(binding));
        let Action::Execute { executor, spec } = &task.action else {
            let message = format!("`{}` is not run by a worker", task.action.word());
            return Err(EvalError::Failed(message));
        };
        let spec = view.whole(spec).map_err(|error| match error {
            EvalError::Failed(message) => EvalError::Failed(format!("{executor}: {message}")),
            need @ EvalError::Need(_) => need,
        });
        let ((), env, spec) = all(inputs, env, spec)?;
        Ok(Work { env, spec })
    }

    /// Evaluates the inputs, once a generation.
    pub(super) fn resolve_inputs(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), EvalError> {
        if self.instance(ix).inputs.is_some() {
            return Ok(());
        }
        let view = self.view(Some(ix), cx.desk);
        let inputs = each("inputs", self.task(ix).inputs.iter(), |b| view.data(b))?;
        let fitted: Result<_, EvalError> =
            inputs.into_iter().map(|(name, data)| Ok((name, fit(data, cx.out)?))).collect();
        self.instance_mut(ix).inputs = Some(Box::new(fitted?));
        self.mark(ix, cx.desk);
        Ok(())
    }

    fn assignment(&self, ix: Ix, token: Token, work: Work) -> Assignment {
        let (instance, task, facts) = (self.instance(ix), self.task(ix), &self.facts);
        Assignment {
            attempt: self.attempt_ref(instance, token),
            project: Arc::clone(&facts.project_name),
            workflow: self.workflow_of(ix),
            map_index: instance.item.map(|item| item.index),
            generation: instance.generation,
            number: instance.attempt,
            executor: task.action.word().into(),
            spec: work.spec,
            inputs: instance.inputs.as_deref().cloned().unwrap_or_default(),
            input_type: task.input_type.clone(),
            output_type: task.output_type.clone(),
            env: work.env,
            timeout: task.timeout,
            heartbeat: task.heartbeat_timeout,
            grace: task.grace,
            code: self.frame(ix).code.clone(),
            logical_time: Arc::clone(&facts.logical_time),
            request_id: facts.created_by.request_id.clone(),
        }
    }

    /// The name of the workflow that an instance's task stands in.
    fn workflow_of(&self, ix: Ix) -> Arc<str> {
        match self.level(ix).frame {
            0 => Arc::clone(&self.facts.workflow),
            _ => self.frame(ix).plan.name.as_str().into(),
        }
    }

    pub(super) fn attempt_ref(&self, instance: &Instance, token: Token) -> AttemptRef {
        AttemptRef { run: self.id, path: instance.path.clone(), token }
    }

    /// Takes a worker's word on an attempt.
    pub(super) fn report(
        &mut self,
        ix: Ix,
        token: Token,
        (report, beats): (Report, u64),
        cx: &mut Cx<'_>,
    ) -> Result<Result<(), Refusal>, Illegal> {
        let instance = self.instance(ix);
        if !is_current(instance, token, cx) {
            let answer = if instance.reported == Some(token) { Ok(()) } else { Err(stale(token)) };
            return Ok(answer);
        }
        #[cfg(feature = "sabotage")]
        if cx.desk.config.sabotage == Some(crate::run::Sabotage::Panic)
            && matches!(report, Report::Finished(_))
            && &*self.task(ix).name == "boom"
        {
            panic!("boom");
        }
        self.know(ix, beats, cx.desk);
        match report {
            Report::Confirmed => self.confirm(ix, cx),
            Report::Started => {
                if matches!(self.instance(ix).phase, Phase::Offered { .. }) {
                    self.confirm(ix, cx);
                    let limit = self.instance(ix).rare().limit;
                    self.start(ix, cx.now.wall, cx)?;
                    self.arm_running(ix, limit, cx);
                }
            }
            Report::Beat => self.beat(ix, cx),
            Report::Finished(finished) => {
                self.finish(ix, *finished, cx)?;
                self.instance_mut(ix).reported = Some(token);
                self.drain(cx)?;
            }
        }
        Ok(Ok(()))
    }

    /// The worker had the attempt when it had sent this many beats.
    fn know(&mut self, ix: Ix, beats: u64, desk: &Desk) {
        let Some(lease) = self.instance_mut(ix).phase.lease_mut() else { return };
        if desk.workers.get(&lease.worker).is_some_and(|worker| !worker.near) {
            lease.beats = lease.beats.max(Some(beats));
        }
    }

    /// Hears that a worker has an attempt; false when it should not.
    pub(super) fn is_held(&mut self, ix: Ix, token: Token, number: u64, desk: &Desk) -> bool {
        let current = self.instance(ix).phase.lease().is_some_and(|lease| lease.token == token);
        if current {
            self.know(ix, number, desk);
        }
        current
    }

    /// A beat of its worker does not name the attempt.
    pub(super) fn miss(&mut self, ix: Ix, number: u64, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        let known = instance.phase.lease().and_then(|lease| lease.beats);
        let unconfirmed = matches!(instance.phase, Phase::Offered { confirmed: false, .. });
        if unconfirmed || known.is_none_or(|known| number <= known) {
            return Ok(());
        }
        let why = "its worker does not have it any more";
        self.lose(ix, Failure::new(FailureKind::Lost, why), cx)
    }

    /// The worker has the offer: from now on the attempt's time runs, since getting ready for it
    /// may take long.
    fn confirm(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        let timeout = self.task(ix).timeout;
        let instance = self.instance_mut(ix);
        let Phase::Offered { lease, confirmed, kept } = &mut instance.phase else { return };
        if std::mem::replace(confirmed, true) {
            return;
        }
        // What an earlier machine offered was perhaps confirmed then.
        let passed = if *kept { (cx.now.wall - lease.offered_at).0.max(0) } else { 0 };
        instance.due = None;
        if let Some(timeout) = timeout {
            let left = Span(timeout.0.saturating_sub(passed).max(0));
            self.instance_mut(ix).rare_mut().limit = Some(cx.now.mono + left);
            self.arm_due(ix, cx.desk);
        }
    }

    fn start(&mut self, ix: Ix, at: Wall, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Some(lease) = self.instance(ix).phase.lease() else { return Ok(()) };
        let lease = Lease { started_at: Some(at), ..lease.clone() };
        let token = lease.token;
        self.shift(ix, Step::Start, Phase::Running(lease), cx)?;
        let instance = self.instance_mut(ix);
        instance.started_at.get_or_insert(at);
        instance.attempt_dirty = true;
        self.log_at(ix, EventKind::TaskStarted { token }, cx);
        Ok(())
    }

    fn finish(&mut self, ix: Ix, finished: Finished, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Phase::Offered { lease, .. } = &self.instance(ix).phase {
            let began = cx.now.wall.0.saturating_sub(finished.took.0.max(0));
            let at = Wall(began).max(lease.offered_at).min(cx.now.wall);
            self.start(ix, at, cx)?;
        }
        let logs = finished.logs;
        if let Some(artifacts) = finished.artifacts {
            // What cannot be written to a row is no reason to lose the outcome.
            self.instance_mut(ix).rare_mut().artifacts = fit(artifacts, cx.out).ok();
        }
        if let Phase::Stopping(stop) = &self.instance(ix).phase {
            if matches!(finished.outcome, Outcome::Success { .. }) {
                let token = stop.lease.token;
                let event = EventKind::ReportIgnored { token, outcome: "success".into() };
                self.log_at(ix, event, cx);
            }
            return self.end_stop(ix, logs, cx);
        }
        match finished.outcome {
            Outcome::Success { output } => self.succeed(ix, output, logs, cx),
            Outcome::Failed(failure) if self.says_not_yet(ix, &failure) => {
                self.not_yet(ix, logs, cx)
            }
            Outcome::Failed(failure) => self.fail(ix, failure, logs, cx),
            Outcome::Stopped => {
                let message = "the worker stopped it without being asked to";
                self.fail(ix, Failure::new(FailureKind::Lost, message), logs, cx)
            }
        }
    }

    fn succeed(
        &mut self,
        ix: Ix,
        output: Option<Data>,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let output = match output.map(|data| fit(data, cx.out)).transpose() {
            Ok(output) => output,
            Err(error) => {
                let failure = Failure::new(FailureKind::OutputInvalid, error.to_string());
                return self.fail(ix, failure, logs, cx);
            }
        };
        if self.looks_again(ix, output.as_ref(), logs, cx)? {
            return Ok(());
        }
        self.close_attempt(ix, AttemptState::Success, None, logs, cx);
        self.remember(ix, output.as_ref(), cx);
        self.end(ix, TaskState::Success, Ending { output, logs, ..Ending::default() }, cx)
    }

    /// An attempt is over and did not succeed: another follows, or the instance fails.
    pub(super) fn fail(
        &mut self,
        ix: Ix,
        failure: Failure,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(token) = self.instance(ix).phase.lease().map(|lease| lease.token) else {
            return Ok(());
        };
        // A worker's words may be of any length, and a row's may not.
        let failure = failure.cut();
        let with_worker = failure.kind.is_of_the_worker();
        let state = if with_worker { AttemptState::Lost } else { AttemptState::Failed };
        self.close_attempt(ix, state, Some(failure.clone()), logs, cx);
        let instance = self.instance_mut(ix);
        instance.lost += u32::from(failure.kind.spends_lost_retries());
        instance.interrupted += u32::from(failure.kind == FailureKind::Interrupted);
        let wait = match self.next(ix, &failure, cx.desk) {
            Next::Retry(wait) => wait,
            Next::GiveUp => {
                let ending = Ending { failure: Some(failure), logs, ..Ending::default() };
                return self.end(ix, TaskState::Failed, ending, cx);
            }
            Next::Broken(message) => {
                let ending = Ending { logs, ..Ending::failed(FailureKind::Expression, message) };
                return self.end(ix, TaskState::Failed, ending, cx);
            }
        };
        let hold = if wait > Span::ZERO { Hold::Retry } else { Hold::Ready };
        self.shift(ix, Step::Retry, Phase::Queued { hold, unclaimed: None }, cx)?;
        if hold == Hold::Retry {
            self.instance_mut(ix).rare_mut().wake = Some(cx.now.mono + wait);
            self.arm_due(ix, cx.desk);
        } else {
            self.arm_ready(ix, cx);
        }
        self.instance_mut(ix).failure = Some(Box::new(failure.clone()));
        let not_before = cx.now.wall + wait;
        self.log_at(ix, EventKind::TaskRetrying { token, failure, not_before, logs }, cx);
        Ok(())
    }

    /// Fixes the verdict on an attempt and has its processes stopped. The slot stays held.
    pub(super) fn stop_attempt(
        &mut self,
        ix: Ix,
        reason: StopReason,
        failure: Failure,
        last: bool,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(lease) = self.instance(ix).phase.lease().cloned() else { return Ok(()) };
        let token = lease.token;
        let until = cx.now.mono + self.task(ix).grace + cx.desk.config.stop_margin;
        let stop = Stop { lease, reason, failure, until, last, successor: None };
        self.shift(ix, Step::Stop, Phase::Stopping(Box::new(stop)), cx)?;
        self.instance_mut(ix).attempt_dirty = true;
        self.log_at(ix, EventKind::TaskStopping { token, reason }, cx);
        self.nudge(ix, cx);
        Ok(())
    }

    /// Tells the worker to stop, and sees to it that it is told again until it reports.
    pub(super) fn nudge(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        let Phase::Stopping(stop) = &self.instance(ix).phase else { return };
        let (reason, until) = (stop.reason, stop.until);
        self.send_stop(ix, reason, cx);
        let again = cx.now.mono + cx.desk.config.claim;
        self.arm(ix, again.min(until), cx.desk);
    }

    pub(super) fn send_stop(&self, ix: Ix, reason: StopReason, cx: &mut Cx<'_>) {
        let instance = self.instance(ix);
        if let Some(lease) = instance.phase.lease() {
            cx.out.effects.push(Effect::Stop {
                worker: lease.worker.clone(),
                attempt: self.attempt_ref(instance, lease.token),
                reason,
                grace: self.task(ix).grace,
            });
        }
    }

    /// A stopped attempt is over: its verdict takes effect.
    fn end_stop(&mut self, ix: Ix, logs: LogSummary, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Phase::Stopping(stop) = &self.instance(ix).phase else { return Ok(()) };
        let (reason, last, failure) = (stop.reason, stop.last, stop.failure.clone());
        if let Some(successor) = stop.successor.clone() {
            return self.end_superseded(ix, *successor, logs, cx);
        }
        if reason == StopReason::TimedOut && !last {
            return self.fail(ix, failure, logs, cx);
        }
        let (attempt, state) = match reason {
            StopReason::TimedOut => (AttemptState::Failed, TaskState::Failed),
            _ => (AttemptState::Cancelled, TaskState::Cancelled),
        };
        self.close_attempt(ix, attempt, Some(failure.clone()), logs, cx);
        self.end(ix, state, Ending { failure: Some(failure), logs, ..Ending::default() }, cx)
    }

    /// The worker does not have the attempt any more.
    pub(super) fn lose(
        &mut self,
        ix: Ix,
        failure: Failure,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match &self.instance(ix).phase {
            Phase::Offered { .. } | Phase::Running(_) => {
                self.fail(ix, failure, LogSummary::default(), cx)?;
            }
            Phase::Stopping(_) => self.end_stop(ix, LogSummary::default(), cx)?,
            Phase::Pending
            | Phase::Queued { .. }
            | Phase::Deferred(_)
            | Phase::Open(_)
            | Phase::Over(_) => {}
        }
        self.drain(cx)
    }

    /// The deadline of the instance's phase has come.
    pub(super) fn on_due(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.instance_mut(ix).due = None;
        match &self.instance(ix).phase {
            Phase::Queued { .. } => self.queued_due(ix, cx)?,
            Phase::Deferred(_) => self.deferral_due(ix, cx)?,
            Phase::Running(_) => self.running_due(ix, cx)?,
            Phase::Offered { confirmed: true, .. } => {
                self.time_out_attempt(ix, ", before its code had started", cx)?;
            }
            Phase::Offered { kept: true, .. } => self.offer_again(ix, cx),
            Phase::Offered { .. } => self.unclaim(ix, cx)?,
            Phase::Stopping(stop) if stop.until <= cx.now.mono => {
                self.end_stop(ix, LogSummary::default(), cx)?;
            }
            Phase::Stopping(_) => self.nudge(ix, cx),
            Phase::Open(_) => self.inside_times_out(ix, cx)?,
            Phase::Pending | Phase::Over(_) => {}
        }
        self.drain(cx)
    }

    pub(super) fn time_out_attempt(
        &mut self,
        ix: Ix,
        where_it_stood: &str,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let timeout = self.task(ix).timeout.unwrap_or_default();
        let message = format!("took longer than its timeout of {timeout}{where_it_stood}");
        let failure = Failure::new(FailureKind::Timeout, message);
        self.stop_attempt(ix, StopReason::TimedOut, failure, false, cx)
    }

    fn inside_times_out(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let timeout = self.limit(ix).unwrap_or_default();
        let message = format!("took longer than its timeout of {timeout}");
        let failure = Failure::new(FailureKind::Timeout, message);
        self.close(ix, &Closing { reason: StopReason::TimedOut, failure, forced: false }, cx)
    }

    fn unclaim(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Some(lease) = self.instance(ix).phase.lease().cloned() else { return Ok(()) };
        let token = lease.token;
        let phase = Phase::Queued { hold: Hold::Ready, unclaimed: Some(Box::new(lease)) };
        self.shift(ix, Step::Unclaim, phase, cx)?;
        self.log_at(ix, EventKind::TaskUnclaimed { token }, cx);
        self.arm_ready(ix, cx);
        Ok(())
    }

    /// Keeps the row of the attempt that ends now.
    pub(super) fn close_attempt(
        &mut self,
        ix: Ix,
        state: AttemptState,
        failure: Option<Failure>,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) {
        let Some(lease) = self.instance(ix).phase.lease() else { return };
        let row = self.attempt_row(ix, lease, state);
        let instance = self.instance_mut(ix);
        instance.attempt_dirty = false;
        let artifacts = instance.take_artifacts();
        let finished_at = Some(cx.now.wall);
        self.ended.push(AttemptRow { finished_at, failure, logs, artifacts, ..row });
        self.touch(cx.desk);
    }

    /// An instance ends while an offer of it is void: so does that attempt.
    pub(super) fn close_unclaimed(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        if let Phase::Queued { unclaimed: Some(lease), .. } = &self.instance(ix).phase {
            let row = self.attempt_row(ix, lease, AttemptState::Cancelled);
            self.ended.push(AttemptRow { finished_at: Some(cx.now.wall), ..row });
        }
    }
}

/// The three at once, so that all that they need is asked for together. A failure goes first.
fn all<A, B, C>(
    a: Result<A, EvalError>,
    b: Result<B, EvalError>,
    c: Result<C, EvalError>,
) -> Result<(A, B, C), EvalError> {
    let errors = [a.as_ref().err(), b.as_ref().err(), c.as_ref().err()];
    if let Some(failed) = errors.iter().flatten().find(|e| matches!(e, EvalError::Failed(_))) {
        return Err(EvalError::clone(failed));
    }
    let needs = errors.into_iter().flatten().filter_map(|error| match error {
        EvalError::Need(needs) => Some(needs.clone()),
        EvalError::Failed(_) => None,
    });
    let needs: Vec<_> = needs.flatten().collect();
    match (a, b, c) {
        (Ok(a), Ok(b), Ok(c)) => Ok((a, b, c)),
        _ => Err(EvalError::Need(needs)),
    }
}

fn is_current(instance: &Instance, token: Token, cx: &Cx<'_>) -> bool {
    let Some(lease) = instance.phase.lease() else { return false };
    #[cfg(feature = "sabotage")]
    if cx.desk.config.sabotage == Some(crate::run::Sabotage::SkipTokenCheck) {
        return true;
    }
    let _ = cx;
    lease.token == token
}

pub(super) fn stale(token: Token) -> Refusal {
    Refusal {
        code: RefusalCode::StaleLease,
        message: format!("token {token} is not current; stop what runs under it"),
    }
}
