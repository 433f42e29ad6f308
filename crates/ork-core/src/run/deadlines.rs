//! The deadlines of an instance: how long an attempt, a deferral, or the wait for a slot may take,
//! and how often a sign of life must come. [`Instance::due`](crate::run::instance::Instance::due)
//! is the first of those that count in its phase.

use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Hold, Ix, Phase};
use crate::run::transition::Illegal;
use crate::run::{Failure, FailureKind, StopReason, TaskState};
use crate::time::{Mono, Span};

/// A worker looks for signs of life four times as often as they have to come, so one may be told
/// that much later than it came.
fn with_margin(beat: Span) -> Span {
    Span(beat.0.saturating_add(beat.0 / 4))
}

impl Run {
    /// Sets the timer to the first deadline of the phase.
    pub(super) fn arm_due(&mut self, ix: Ix, desk: &mut Desk) {
        let instance = self.instance(ix);
        let rare = instance.rare();
        let deadlines = match instance.phase {
            Phase::Queued { hold: Hold::Retry, .. } => [rare.wake, rare.expires, None],
            Phase::Queued { .. } => [rare.limit, rare.expires, None],
            Phase::Deferred(_) => [rare.wake, rare.limit, rare.expires],
            Phase::Offered { confirmed: true, .. } => [rare.limit, None, None],
            Phase::Running(_) => [rare.limit, rare.beat, rare.expires],
            _ => return,
        };
        match deadlines.into_iter().flatten().min() {
            Some(at) => self.arm(ix, at, desk),
            None => self.instance_mut(ix).due = None,
        }
    }

    /// It is ready: from now on `start_within` runs, unless nothing may start.
    pub(super) fn arm_ready(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        let task = self.task(ix);
        if let Some(within) = task.start_within {
            let rests = self.rests;
            let rare = self.instance_mut(ix).rare_mut();
            let left = rare.patience.take().unwrap_or(within);
            if rests {
                rare.patience = Some(left);
            } else {
                rare.limit = Some(cx.now.mono + left);
            }
        } else if task.poll.is_none() {
            return;
        }
        self.arm_due(ix, cx.desk);
    }

    /// `start_within` stops running: it is offered, or nothing may start.
    pub(super) fn halt_patience(&mut self, ix: Ix, cx: &mut Cx<'_>) {
        if self.instance(ix).rare().limit.is_some() {
            let rare = self.instance_mut(ix).rare_mut();
            rare.patience = rare.limit.take().map(|at| at - cx.now.mono);
            self.arm_due(ix, cx.desk);
            self.mark(ix, cx.desk);
        }
    }

    /// User code runs; the attempt's time has run since its confirmation.
    pub(super) fn arm_running(&mut self, ix: Ix, limit: Option<Mono>, cx: &mut Cx<'_>) {
        let beat = self.task(ix).heartbeat_timeout;
        if limit.is_none() && beat.is_none() && self.instance(ix).rare().expires.is_none() {
            return;
        }
        let rare = self.instance_mut(ix).rare_mut();
        rare.patience = None;
        rare.limit = limit;
        rare.beat = beat.map(|beat| cx.now.mono + with_margin(beat));
        self.arm_due(ix, cx.desk);
    }

    /// User code gave a sign of life. The timer stays as it is, and looks again when it fires.
    pub(super) fn beat(&mut self, ix: Ix, cx: &Cx<'_>) {
        let beat = self.task(ix).heartbeat_timeout.map(|beat| cx.now.mono + with_margin(beat));
        if beat.is_some() && matches!(self.instance(ix).phase, Phase::Running(_)) {
            self.instance_mut(ix).rare_mut().beat = beat;
        }
    }

    /// A deadline of a queued instance has come.
    pub(super) fn queued_due(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        let Phase::Queued { hold, .. } = instance.phase else { return Ok(()) };
        let rare = instance.rare();
        if rare.expires.is_some_and(|at| at <= cx.now.mono) {
            return self.poll_expired(ix, cx);
        }
        if hold == Hold::Retry {
            self.set_hold(ix, Hold::Ready, cx.desk);
            self.instance_mut(ix).clear_deadlines();
            self.arm_ready(ix, cx);
            return Ok(());
        }
        if rare.limit.is_some_and(|at| at <= cx.now.mono) {
            let within = self.task(ix).start_within.unwrap_or_default();
            let message = format!("was not started within {within} (start_within)");
            let ending = Ending::failed(FailureKind::Timeout, message);
            return self.end(ix, TaskState::Failed, ending, cx);
        }
        self.arm_due(ix, cx.desk);
        Ok(())
    }

    /// A deadline of a running attempt has come.
    pub(super) fn running_due(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let (rare, task) = (self.instance(ix).rare(), self.task(ix));
        let come = |at: Option<Mono>| at.is_some_and(|at| at <= cx.now.mono);
        let (message, last) = if come(rare.expires) {
            (self.not_ready_in_time(ix), true)
        } else if come(rare.limit) {
            return self.time_out_attempt(ix, "", cx);
        } else if come(rare.beat) {
            let beat = task.heartbeat_timeout.unwrap_or_default();
            (format!("gave no sign of life for {beat} (heartbeat_timeout)"), false)
        } else {
            self.arm_due(ix, cx.desk);
            return Ok(());
        };
        let failure = Failure::new(FailureKind::Timeout, message);
        self.stop_attempt(ix, StopReason::TimedOut, failure, last, cx)
    }
}
