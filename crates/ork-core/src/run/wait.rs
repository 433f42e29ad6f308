//! Waits that need no worker and hold nothing: for a time, an event, a person, a sensor's next
//! look.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::lang::expr::EvalError;
use crate::plan::{Action, Wait};
use crate::rows::LogSummary;
use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::machine::Blocker;
use crate::run::transition::{Illegal, Step};
use crate::run::{AttemptState, EventKind, FailureKind, Source, TaskState, Waiting};
use crate::time::{Mono, Now, Span, Wall};
use crate::types::Moment;
use crate::value::{Data, Value};

/// What a deferred instance waits for. Deadlines are in [`Rare`](crate::run::instance::Rare).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wait", rename_all = "snake_case")]
pub(super) enum Deferral {
    /// A length of time.
    Timer,
    /// A time of the civil clock, however that steps.
    Until { at: Wall },
    /// A signal to the run.
    Event { name: Arc<str> },
    /// A decision.
    Approval { prompt: String },
    /// The next look, or a value on which the answer of the last one depends.
    Poll {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Data>,
    },
}

impl Run {
    /// The rule and the condition hold: a wait begins, an earlier success is taken over, or the
    /// instance is queued.
    pub(super) fn launch(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        match &task.action {
            Action::Wait(_) | Action::Approval(_) if self.rests => Ok(()),
            Action::Wait(wait) => self.begin_wait(ix, wait, cx),
            Action::Approval(approval) => self.begin_approval(ix, approval, cx),
            _ if self.reuse(ix, cx)? => Ok(()),
            _ => self.queue(ix, cx),
        }
    }

    fn begin_wait(&mut self, ix: Ix, wait: &Wait, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let view = self.view(Some(ix), cx.desk);
        let deferral = match wait {
            Wait::For(span) if *span <= Span::ZERO => return self.end_wait(ix, None, None, cx),
            Wait::For(span) => {
                return self.defer(ix, Deferral::Timer, Some(cx.now.mono + *span), cx);
            }
            Wait::Until(binding) => {
                view.whole(binding).and_then(|v| instant(&v)).map(|at| Deferral::Until { at })
            }
            Wait::Event(binding) => {
                view.text(binding).map(|name| Deferral::Event { name: name.into() })
            }
        };
        match deferral {
            Ok(Deferral::Until { at }) if at <= cx.now.wall => self.end_wait(ix, None, None, cx),
            Ok(Deferral::Event { name }) if self.signals.has(&name) => {
                self.take_signal(ix, &name, cx)
            }
            Ok(deferral) => self.defer(ix, deferral, None, cx),
            Err(error) => self.no_value(ix, "wait", error, cx),
        }
    }

    /// An expression on which the instance depends has no value, or none yet.
    pub(super) fn no_value(
        &mut self,
        ix: Ix,
        what: &str,
        error: EvalError,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match error {
            EvalError::Need(needs) => {
                self.park(Some(ix), needs, cx);
                Ok(())
            }
            EvalError::Failed(message) => {
                let message = format!("{what}: {message}");
                let ending = Ending::failed(FailureKind::Expression, message);
                self.end(ix, TaskState::Failed, ending, cx)
            }
        }
    }

    /// A wait begins; the task's timeout bounds it.
    pub(super) fn defer(
        &mut self,
        ix: Ix,
        deferral: Deferral,
        wake: Option<Mono>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let timeout = self.task(ix).timeout;
        let wait = self.waiting(ix, &deferral, wake, cx.now);
        self.stamp(ix, cx.now.wall);
        self.shift(ix, Step::Defer, Phase::Deferred(Box::new(deferral)), cx)?;
        if wake.is_some() || timeout.is_some() {
            let rare = self.instance_mut(ix).rare_mut();
            rare.wake = wake;
            rare.limit = timeout.map(|timeout| cx.now.mono + timeout);
            self.arm_due(ix, cx.desk);
        }
        let until = timeout.map(|timeout| cx.now.wall + timeout);
        let logs = LogSummary::default();
        self.log_at(ix, EventKind::TaskDeferred { wait, until, token: None, logs }, cx);
        Ok(())
    }

    /// The wait as events tell of it.
    fn waiting(&self, ix: Ix, deferral: &Deferral, wake: Option<Mono>, now: Now) -> Waiting {
        let wake = wake.map(|at| now.wall + (at - now.mono));
        match deferral {
            Deferral::Timer => Waiting::Time { at: wake.unwrap_or(now.wall) },
            Deferral::Until { at } => Waiting::Time { at: *at },
            Deferral::Event { name } => Waiting::Event { name: name.to_string() },
            Deferral::Approval { prompt } => {
                Waiting::Approval { prompt: prompt.clone(), approvers: self.approvers(ix) }
            }
            Deferral::Poll { .. } => Waiting::Poll { again: wake, attempt: AttemptState::NotReady },
        }
    }

    /// It begins now, if it had not.
    pub(super) fn stamp(&mut self, ix: Ix, now: Wall) {
        let instance = self.instance_mut(ix);
        instance.queued_at.get_or_insert(now);
        instance.started_at.get_or_insert(now);
    }

    /// What was waited for is there.
    pub(super) fn end_wait(
        &mut self,
        ix: Ix,
        output: Option<Data>,
        source: Option<Source>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        self.stamp(ix, cx.now.wall);
        self.end(ix, TaskState::Success, Ending { output, source, ..Ending::default() }, cx)
    }

    /// The civil clock has reached what is waited for.
    pub(super) fn on_alarm(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Phase::Deferred(deferral) = &self.instance(ix).phase else { return Ok(()) };
        match **deferral {
            Deferral::Until { at } if at <= cx.now.wall => {
                self.end_wait(ix, None, None, cx)?;
                self.drain(cx)
            }
            _ => Ok(()),
        }
    }

    /// A deadline of a deferral has come.
    pub(super) fn deferral_due(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        let Phase::Deferred(deferral) = &instance.phase else { return Ok(()) };
        let rare = instance.rare();
        let come = |at: Option<Mono>| at.is_some_and(|at| at <= cx.now.mono);
        let (wake, limit, expires) = (come(rare.wake), come(rare.limit), come(rare.expires));
        match **deferral {
            Deferral::Poll { .. } if expires => self.poll_expired(ix, cx),
            Deferral::Poll { .. } if wake => self.look_again(ix, cx),
            Deferral::Timer if wake => self.end_wait(ix, None, None, cx),
            Deferral::Approval { .. } if limit => self.undecided(ix, cx),
            _ if limit => {
                let timeout = self.task(ix).timeout.unwrap_or_default();
                let message = format!("waited longer than its timeout of {timeout}");
                let ending = Ending::failed(FailureKind::Timeout, message);
                self.end(ix, TaskState::Failed, ending, cx)
            }
            _ => {
                self.arm_due(ix, cx.desk);
                Ok(())
            }
        }
    }

    /// Takes the instance's place in the lists of those that wait.
    pub(super) fn enter_wait(&mut self, ix: Ix, desk: &mut Desk) {
        let key = self.key(ix);
        let Phase::Deferred(deferral) = &self.instance(ix).phase else { return };
        match &**deferral {
            Deferral::Until { at } => drop(desk.alarms.insert((*at, key))),
            Deferral::Approval { .. } => drop(desk.approvals.insert(key)),
            Deferral::Event { name } => {
                let name = Arc::clone(name);
                self.listening.entry(name).or_default().insert(ix);
            }
            Deferral::Timer | Deferral::Poll { .. } => {}
        }
    }

    /// Gives it up.
    pub(super) fn leave_wait(&mut self, ix: Ix, desk: &mut Desk) {
        let key = self.key(ix);
        let Phase::Deferred(deferral) = &self.instance(ix).phase else { return };
        match &**deferral {
            Deferral::Until { at } => drop(desk.alarms.remove(&(*at, key))),
            Deferral::Approval { .. } => drop(desk.approvals.remove(&key)),
            Deferral::Event { name } => {
                let name = Arc::clone(name);
                if let Some(listeners) = self.listening.get_mut(&name) {
                    listeners.remove(&ix);
                    if listeners.is_empty() {
                        self.listening.remove(&name);
                    }
                }
            }
            Deferral::Timer | Deferral::Poll { .. } => {}
        }
    }

    /// Whether a deferred instance is in the list that its wait needs. For invariants.
    pub(super) fn wait_agrees(&self, ix: Ix, desk: &Desk) -> bool {
        let (key, instance) = (self.key(ix), self.instance(ix));
        let Phase::Deferred(deferral) = &instance.phase else { return true };
        match &**deferral {
            Deferral::Until { at } => desk.alarms.contains(&(*at, key)),
            Deferral::Approval { .. } => desk.approvals.contains(&key),
            Deferral::Event { name } => self.listening.get(name).is_some_and(|l| l.contains(&ix)),
            Deferral::Timer => instance.due.is_some(),
            Deferral::Poll { output: None } => instance.due.is_some(),
            Deferral::Poll { output: Some(_) } => instance.parked.is_some(),
        }
    }

    /// Why a deferred instance does not go on, and when it does.
    pub(super) fn waits_for(&self, ix: Ix, now: Now) -> Vec<Blocker> {
        let instance = self.instance(ix);
        let Phase::Deferred(deferral) = &instance.phase else { return Vec::new() };
        let wall = |at: Option<Mono>| at.map(|at| now.wall + (at - now.mono));
        let rare = instance.rare();
        let until = wall(rare.limit);
        vec![match &**deferral {
            Deferral::Timer => Blocker::Time { at: wall(rare.wake).unwrap_or(now.wall), until },
            Deferral::Until { at } => Blocker::Time { at: *at, until },
            Deferral::Event { name } => Blocker::Event { name: name.to_string(), until },
            Deferral::Approval { prompt } => {
                Blocker::Approval { prompt: prompt.clone(), approvers: self.approvers(ix), until }
            }
            Deferral::Poll { output: None } => {
                let at = wall(rare.wake).unwrap_or(now.wall);
                Blocker::Poll { at, until: wall(rare.expires) }
            }
            Deferral::Poll { output: Some(_) } => {
                let digests = instance.parked.as_ref().map(|parked| parked.missing.clone());
                Blocker::Values { digests: digests.unwrap_or_default() }
            }
        }]
    }
}

/// The instant that a value names.
fn instant(value: &Value) -> Result<Wall, EvalError> {
    let moment = value.as_str().and_then(Moment::parse).and_then(|moment| moment.micros());
    moment.map(Wall).ok_or_else(|| EvalError::Failed(format!("{value} is not a date and time")))
}
