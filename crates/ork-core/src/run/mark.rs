//! Outcomes that a person sets, and what becomes of an instance whose generation is replaced.

use serde::{Deserialize, Serialize};

use crate::ids::InstancePath;
use crate::rows::{Actor, LogSummary};
use crate::run::active::{Cx, Run, Stage};
use crate::run::control::{Answered, no_task};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::rule::Verdict;
use crate::run::scope::fit;
use crate::run::transition::Illegal;
use crate::run::{
    Answer, AttemptState, Failure, FailureKind, Marked, Refusal, RefusalCode, Source, StopReason,
    TaskState,
};
use crate::value::{Data, Value};

/// What an instance becomes once the attempt of its old generation is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    /// It is done again.
    Again,
    /// It has this outcome.
    Outcome(Outcome),
}

/// What comes after a superseded attempt, and who asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Successor {
    then: Then,
    by: Actor,
}

/// An outcome that a person set, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    state: TaskState,
    failure: Option<Failure>,
    output: Option<Data>,
}

impl Run {
    /// Sets the outcome of an instance.
    pub(super) fn mark_as(
        &mut self,
        path: &InstancePath,
        marked: Marked,
        cx: &mut Cx<'_>,
    ) -> Answered {
        let Some(ix) = self.current(path) else { return Ok(Err(no_task(self.id, path))) };
        if matches!(self.instance(ix).phase, Phase::Open(_)) {
            let message = format!("{path} of run {} is under way; mark what is inside", self.id);
            return Ok(Err(Refusal::new(RefusalCode::Conflict, message)));
        }
        let outcome = match self.outcome(ix, marked, cx) {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.has_outcome(ix, &outcome) {
            return Ok(Ok(Answer::Done));
        }
        self.supersede(ix, Then::Outcome(outcome), cx)?;
        if !matches!(self.stage, Stage::Over(_)) {
            self.drain(cx)?;
        }
        Ok(Ok(Answer::Done))
    }

    fn outcome(&self, ix: Ix, marked: Marked, cx: &mut Cx<'_>) -> Result<Outcome, Refusal> {
        let by = &cx.by.name;
        match marked {
            Marked::Success { output } => {
                let output = self.read_output(ix, output)?;
                let output = fit(Data::Inline(output), cx.out)
                    .map_err(|e| Refusal::new(RefusalCode::Invalid, format!("output: {e}")))?;
                Ok(Outcome { state: TaskState::Success, failure: None, output: Some(output) })
            }
            Marked::Failed => {
                let failure = Failure::new(FailureKind::Failure, format!("marked failed by {by}"));
                Ok(Outcome { state: TaskState::Failed, failure: Some(failure), output: None })
            }
            Marked::Skipped => {
                Ok(Outcome { state: TaskState::Skipped, failure: None, output: None })
            }
        }
    }

    fn read_output(&self, ix: Ix, output: Value) -> Result<Value, Refusal> {
        let Some(ty) = &self.task(ix).output_type else { return Ok(output) };
        ty.read(output).map_err(|mismatch| {
            let path = &self.instance(ix).path;
            let message = format!("the output does not fit {path}: {mismatch}");
            Refusal::new(RefusalCode::Invalid, message)
        })
    }

    fn has_outcome(&self, ix: Ix, outcome: &Outcome) -> bool {
        let instance = self.instance(ix);
        instance.rare().marked
            && instance.state() == outcome.state
            && instance.output.as_deref() == outcome.output.as_ref()
    }

    /// Gives an instance a new generation: at once, or when the processes of the old one are gone.
    pub(super) fn supersede(&mut self, ix: Ix, then: Then, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if self.instance(ix).phase.lease().is_none() {
            return self.replace(ix, then, cx);
        }
        if !matches!(self.instance(ix).phase, Phase::Stopping(_)) {
            let message = format!("replaced by {}", cx.by.name);
            let failure = Failure::new(FailureKind::Cancelled, message);
            self.stop_attempt(ix, StopReason::Superseded, failure, false, cx)?;
        }
        if let Phase::Stopping(stop) = &mut self.instance_mut(ix).phase {
            stop.successor = Some(Box::new(Successor { then, by: cx.by.clone() }));
            self.mark(ix, cx.desk);
        }
        Ok(())
    }

    /// The processes of a superseded attempt are gone.
    pub(super) fn end_superseded(
        &mut self,
        ix: Ix,
        successor: Successor,
        logs: LogSummary,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Successor { then, by } = successor;
        let failure = match &self.instance(ix).phase {
            Phase::Stopping(stop) => Some(stop.failure.clone()),
            _ => None,
        };
        self.close_attempt(ix, AttemptState::Cancelled, failure, logs, cx);
        let Cx { desk, out, now, .. } = cx;
        self.replace(ix, then, &mut Cx { desk, out, now: *now, by: &by })
    }

    fn replace(&mut self, ix: Ix, then: Then, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.reset(ix, false, cx)?;
        self.recount(ix);
        match then {
            Then::Again => self.todo.push_back(ix),
            Then::Outcome(Outcome { state, failure, output }) => {
                self.instance_mut(ix).rare_mut().marked = true;
                let source = Some(Source::Mark);
                let ending = Ending { failure, output, source, ..Ending::default() };
                self.end(ix, state, ending, cx)?;
                if !matches!(self.stage, Stage::Over(_)) {
                    self.reopen_owners(ix, cx)?;
                    self.reconsider(ix, cx)?;
                }
            }
        }
        Ok(())
    }

    /// Decides anew what an instance is inside of, as far as that is over: with what is inside. What
    /// a person marked stays as it is, and so does what the run has left behind.
    fn reopen_owners(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let over = |owner: &Ix| matches!(self.instance(*owner).phase, Phase::Over(_));
        let owners: Vec<Ix> = self.owners(ix).take_while(over).collect();
        let marked = owners.iter().any(|owner| self.instance(*owner).rare().marked);
        let goes_on = |ix: &&Ix| self.is_open(**ix) || self.comes(**ix);
        let Some(outermost) = owners.last().filter(|ix| !marked && goes_on(ix)) else {
            return Ok(());
        };
        self.todo.push_back(*outermost);
        for &owner in owners.iter().rev() {
            self.reset(owner, true, cx)?;
            self.recount(owner);
            self.reconsider(owner, cx)?;
        }
        Ok(())
    }

    /// Whether what an instance is inside of has yet to begin.
    fn comes(&self, ix: Ix) -> bool {
        let owner = self.owner(ix).map(|owner| &self.instance(owner).phase);
        matches!(self.stage, Stage::Pending) || matches!(owner, Some(Phase::Pending))
    }

    /// Decides anew what was decided by the old outcome of `ix`: what did not start because of it,
    /// and what would not start any more.
    fn reconsider(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let mut left = self.downs(ix);
        while let Some(down) = left.pop() {
            self.recount(down);
            if !self.comes(down) && !self.is_open(down) {
                continue;
            }
            let instance = self.instance(down);
            let rule = self.task(down).trigger_rule;
            let moot = match &instance.phase {
                Phase::Over(TaskState::Skipped | TaskState::UpstreamFailed) => {
                    !instance.rare().marked
                }
                Phase::Queued { .. } => {
                    instance.attempt == 0 && instance.tally.verdict(rule) != Verdict::Holds
                }
                _ => false,
            };
            if moot {
                self.reset(down, false, cx)?;
                self.recount(down);
                left.extend(self.downs(down));
            }
            if matches!(self.instance(down).phase, Phase::Pending) {
                self.todo.push_back(down);
            }
        }
        Ok(())
    }
}
