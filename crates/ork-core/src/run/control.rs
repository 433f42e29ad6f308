//! What people and the machine itself ask of a run.

use crate::ids::{InstancePath, RunId};
use crate::run::active::{Cx, Desk, Run, RunStop, Stage};
use crate::run::flow::Ending;
use crate::run::instance::{Closing, Hold, Ix, Phase};
use crate::run::transition::Illegal;
use crate::run::{
    Answer, EventKind, Failure, FailureKind, Refusal, RefusalCode, RunState, StopReason, TaskState,
};

/// What a command comes to, unless the run is broken.
pub(super) type Answered = Result<Result<Answer, Refusal>, Illegal>;

impl Run {
    /// The run is accepted.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        let event = EventKind::RunCreated {
            workflow: self.facts.workflow.to_string(),
            version: self.facts.version,
            tasks: Ix::new(self.instances.len()).0,
            rerun_of: self.facts.rerun_of,
        };
        self.log(event, cx);
        self.rests = self.is_paused(cx.desk);
        self.recall(cx);
        self.dirty = true;
        self.unwritten = 0;
    }

    /// A run that was loaded goes on from where it stood.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if self.aside.is_some() {
            return self.go_aside(cx);
        }
        match self.stage {
            Stage::Pending => {}
            Stage::Over(_) => self.touch(cx.desk),
            Stage::Body | Stage::Finally | Stage::Output => {
                let open = (0..).map(Ix).zip(&self.instances);
                let open = open.filter(|(_, instance)| !instance.state().is_terminal());
                self.todo = open.map(|(ix, _)| ix).collect();
                self.drain(cx)?;
            }
        }
        Ok(())
    }

    /// Ends the body; when that was asked for before, or is forced, `finally` too.
    pub(super) fn cancel(&mut self, force: bool, cx: &mut Cx<'_>) -> Answered {
        match self.stage {
            Stage::Over(RunState::Cancelled) => return Ok(Ok(Answer::Done)),
            Stage::Over(state) => return Ok(Err(over(self.id, state))),
            _ => {}
        }
        let before = self.stop.filter(|stop| stop.reason == StopReason::Cancelled);
        // A run that has not begun has nothing to clean up.
        let forced = force || before.is_some() || self.stage == Stage::Pending;
        if before.is_none_or(|stop| !stop.forced) {
            self.stop_run(RunStop { reason: StopReason::Cancelled, forced }, cx)?;
        }
        Ok(Ok(Answer::Done))
    }

    /// Ends one instance.
    pub(super) fn cancel_one(&mut self, path: &InstancePath, cx: &mut Cx<'_>) -> Answered {
        let Some(ix) = self.current(path) else { return Ok(Err(no_task(self.id, path))) };
        match self.instance(ix).state() {
            TaskState::Cancelled => Ok(Ok(Answer::Done)),
            state if state.is_terminal() => {
                let message = format!("{path} of run {} is over: {}", self.id, name(&state));
                Ok(Err(Refusal { code: RefusalCode::Conflict, message }))
            }
            _ => {
                let message = format!("cancelled by {}", cx.by.name);
                let failure = Failure::new(FailureKind::Cancelled, message);
                // A second time, the `finally` inside is ended too.
                let forced =
                    self.closed(ix).is_some_and(|closing| closing.state() == TaskState::Cancelled);
                let closing = Closing { reason: StopReason::Cancelled, failure, forced };
                self.halt(ix, &closing, cx)?;
                self.drain(cx)?;
                Ok(Ok(Answer::Done))
            }
        }
    }

    /// The run took longer than it may.
    pub(super) fn time_out(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.due = None;
        if self.stop.is_some() {
            return Ok(());
        }
        self.stop_run(RunStop { reason: StopReason::TimedOut, forced: false }, cx)
    }

    /// All values that were waited for are here.
    pub(super) fn resume(&mut self, at: Option<Ix>, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Some(ix) = at else {
            self.conclude(cx);
            return Ok(());
        };
        match &self.instance(ix).phase {
            Phase::Pending => {
                self.todo.push_back(ix);
                return self.drain(cx);
            }
            Phase::Queued { .. } => self.set_hold(ix, Hold::Ready, cx.desk),
            Phase::Offered { .. } => self.offer_again(ix, cx),
            Phase::Deferred(_) => {
                self.judge_look(ix, cx)?;
                return self.drain(cx);
            }
            Phase::Open(_) => {
                self.wake(ix);
                self.drain(cx)?;
                self.forget_values(ix, cx.desk);
            }
            Phase::Running(_) | Phase::Stopping(_) | Phase::Over(_) => {}
        }
        Ok(())
    }

    /// A value that is waited for cannot be had.
    pub(super) fn give_up_value(
        &mut self,
        at: Option<Ix>,
        message: &str,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(ix) = at else {
            self.fail_output(message, cx);
            return Ok(());
        };
        if matches!(
            self.instance(ix).phase,
            Phase::Pending | Phase::Queued { .. } | Phase::Deferred(_)
        ) {
            let ending = Ending::failed(FailureKind::Expression, message);
            self.end(ix, TaskState::Failed, ending, cx)?;
            return self.drain(cx);
        }
        if matches!(self.instance(ix).phase, Phase::Open(_)) {
            self.give_up_inside(ix, message, cx)?;
            return self.drain(cx);
        }
        self.unpark(ix, cx.desk);
        Ok(())
    }

    /// Gives up all that the run holds of what is shared.
    pub(super) fn let_go(&mut self, desk: &mut Desk) {
        self.unpark_at(None, desk);
        desk.resting.remove(&self.id);
        for entry in self.calls.values() {
            // A place that it has stays its own until it is loaded again.
            if desk.limits.is_waiting(entry) {
                desk.limits.leave(entry);
            }
        }
        for ix in (0..self.instances.len()).map(Ix::new) {
            self.leave_queue(ix, desk);
            self.leave_wait(ix, desk);
            self.unpark(ix, desk);
            if let Some(lease) = self.instance(ix).phase.lease() {
                desk.workers.free(&lease.worker, self.key(ix));
                if let Some(taken) = self.taken(ix) {
                    desk.pools.free(&taken.pool, lease.token);
                }
            }
        }
    }
}

/// The run is over, and what was asked needs one that is not.
pub(super) fn over(id: RunId, state: RunState) -> Refusal {
    let message = format!("run {id} is over: {}", name(&state));
    Refusal { code: RefusalCode::Conflict, message }
}

/// The run has no such instance.
pub(super) fn no_task(id: RunId, path: &InstancePath) -> Refusal {
    Refusal { code: RefusalCode::NotFound, message: format!("run {id} has no task {path}") }
}

/// A state's name, as rows and clients know it.
pub(super) fn name(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
