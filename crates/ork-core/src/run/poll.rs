//! Sensors: an attempt that says `not yet` costs no retry, and is followed by another look.

use crate::lang::expr::EvalError;
use crate::plan::{Expr, Poll};
use crate::rows::LogSummary;
use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::transition::{Illegal, Step};
use crate::run::wait::Deferral;
use crate::run::{AttemptState, EventKind, Failure, FailureKind, TaskState, Waiting};
use crate::time::Span;
use crate::value::Data;

/// The exit code by which a program says that what it looks for is not there yet (`EX_TEMPFAIL`).
const NOT_YET: i32 = 75;

impl Run {
    fn poll(&self, ix: Ix) -> Option<&Poll> {
        self.task(ix).poll.as_deref()
    }

    /// Whether a failed attempt only says `not yet`.
    pub(super) fn says_not_yet(&self, ix: Ix, failure: &Failure) -> bool {
        failure.exit_code == Some(NOT_YET) && self.poll(ix).is_some()
    }

    /// The first attempt begins: from now on `poll.timeout` runs.
    pub(super) fn begin_poll(&mut self, ix: Ix, cx: &Cx<'_>) {
        let timeout = self.poll(ix).and_then(|poll| poll.timeout);
        if let Some(timeout) = timeout {
            let expires = cx.now.mono + timeout;
            self.instance_mut(ix).rare_mut().expires.get_or_insert(expires);
        }
    }

    /// The attempt says `not yet`.
    pub(super) fn not_yet(
        &mut self,
        ix: Ix,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        self.close_attempt(ix, AttemptState::NotReady, None, logs, cx);
        self.wait_for_look(ix, AttemptState::NotReady, None, logs, cx)
    }

    /// Asks `poll.until` of an attempt's output; says whether the instance waits for another look.
    pub(super) fn looks_again(
        &mut self,
        ix: Ix,
        output: Option<&Data>,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Illegal> {
        let Some(until) = self.poll(ix).and_then(|poll| poll.until.clone()) else {
            return Ok(false);
        };
        match self.is_there(ix, &until, output, cx.desk) {
            Ok(true) => return Ok(false),
            Ok(false) => {
                self.close_attempt(ix, AttemptState::Success, None, logs, cx);
                self.wait_for_look(ix, AttemptState::Success, None, logs, cx)?;
            }
            Err(EvalError::Need(needs)) => {
                self.close_attempt(ix, AttemptState::Success, None, logs, cx);
                self.wait_for_look(ix, AttemptState::Success, output.cloned(), logs, cx)?;
                self.park(Some(ix), needs, cx);
            }
            Err(EvalError::Failed(message)) => {
                let message = format!("poll.until: {message}");
                let failure = Some(Failure::new(FailureKind::Expression, message));
                self.close_attempt(ix, AttemptState::Failed, failure.clone(), logs, cx);
                let ending = Ending { failure, logs, ..Ending::default() };
                self.end(ix, TaskState::Failed, ending, cx)?;
            }
        }
        Ok(true)
    }

    fn is_there(
        &self,
        ix: Ix,
        until: &Expr,
        output: Option<&Data>,
        desk: &Desk,
    ) -> Result<bool, EvalError> {
        let view = self.view(Some(ix), desk);
        let output = output.cloned().unwrap_or(Data::NULL);
        let output = view.at_hand(output)?;
        view.over(&output).holds(until)
    }

    /// Waits for the next look, or for the value that decides whether there is one.
    fn wait_for_look(
        &mut self,
        ix: Ix,
        attempt: AttemptState,
        output: Option<Data>,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let token = self.instance(ix).phase.lease().map(|lease| lease.token);
        let every = self.poll(ix).map(|poll| poll.every).filter(|_| output.is_none());
        let until = self.instance(ix).rare().expires.map(|at| cx.now.wall + (at - cx.now.mono));
        self.shift(ix, Step::Defer, Phase::Deferred(Box::new(Deferral::Poll { output })), cx)?;
        let rare = self.instance_mut(ix).rare_mut();
        rare.polls += 1;
        self.wake_in(ix, every, cx);
        let wait = Waiting::Poll { again: every.map(|every| cx.now.wall + every), attempt };
        self.log_at(ix, EventKind::TaskDeferred { wait, until, token, logs }, cx);
        Ok(())
    }

    fn wake_in(&mut self, ix: Ix, every: Option<Span>, cx: &mut Cx<'_>) {
        self.instance_mut(ix).rare_mut().wake = every.map(|every| cx.now.mono + every);
        self.arm_due(ix, cx.desk);
    }

    /// The output that decides is here.
    pub(super) fn judge_look(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Phase::Deferred(deferral) = &self.instance(ix).phase else { return Ok(()) };
        let Deferral::Poll { output: Some(output) } = &**deferral else { return Ok(()) };
        let Some(poll) = self.poll(ix) else { return Ok(()) };
        let (output, every) = (output.clone(), poll.every);
        let Some(until) = poll.until.clone() else { return Ok(()) };
        match self.is_there(ix, &until, Some(&output), cx.desk) {
            Ok(true) => {
                let ending = Ending { output: Some(output), ..Ending::default() };
                self.end(ix, TaskState::Success, ending, cx)
            }
            Ok(false) => {
                self.unpark(ix, cx.desk);
                self.instance_mut(ix).phase =
                    Phase::Deferred(Box::new(Deferral::Poll { output: None }));
                self.wake_in(ix, Some(every), cx);
                self.mark(ix, cx.desk);
                Ok(())
            }
            Err(error) => self.no_value(ix, "poll.until", error, cx),
        }
    }

    /// It is time for another look.
    pub(super) fn look_again(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.shift(ix, Step::Resume, Phase::READY, cx)?;
        self.log_at(ix, EventKind::TaskResumed, cx);
        self.arm_ready(ix, cx);
        Ok(())
    }

    /// `poll.timeout` is over.
    pub(super) fn poll_expired(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let ending = Ending::failed(FailureKind::Timeout, self.not_ready_in_time(ix));
        self.end(ix, TaskState::Failed, ending, cx)
    }

    pub(super) fn not_ready_in_time(&self, ix: Ix) -> String {
        let timeout = self.poll(ix).and_then(|poll| poll.timeout).unwrap_or_default();
        format!("was not ready within its poll.timeout of {timeout}")
    }
}
