//! An instance that calls a workflow takes a place among the runs of that workflow, and stands in
//! the same line for it.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::lang::expr::{Env, EvalError, Named, TaskView};
use crate::plan::{Action, Param, Pinned};
use crate::run::RunPlace;
use crate::run::active::{Cx, Desk, Run};
use crate::run::inside::Kind;
use crate::run::instance::{Ix, Phase};
use crate::run::limits::{Entry, Member, key_text};
use crate::run::machine::Blocker;
use crate::run::transition::Illegal;
use crate::value::{Digest, Value};

/// What a called workflow's key sees.
struct Called<'a> {
    run: Value,
    params: &'a Value,
    declared: &'a IndexMap<String, Param>,
}

impl Env for Called<'_> {
    fn params(&self) -> (&Value, &IndexMap<String, Param>) {
        (self.params, self.declared)
    }

    fn run(&self) -> Value {
        self.run.clone()
    }

    fn task(&self, _name: &str) -> Option<TaskView<'_>> {
        None
    }

    fn blob(&self, _digest: &Digest) -> Option<Arc<Value>> {
        None
    }

    fn other(&self, _name: &str) -> Option<Named<'_>> {
        None
    }
}

impl Run {
    /// The claim of a call; none where the workflow's runs are not limited. A call is as old as
    /// its run.
    fn call_entry(
        &self,
        ix: Ix,
        Pinned { version, plan, .. }: &Pinned,
        params: &Value,
        desk: &mut Desk,
    ) -> Result<Option<Entry>, EvalError> {
        let flow = (self.facts.project, plan.name.as_str().into());
        desk.limits.adopt(&flow, version.is_draft(), plan.concurrency.as_ref());
        let Some(rule) = desk.limits.rule(&flow) else { return Ok(None) };
        let run = self.view(None, desk).run();
        let key = key_text(rule, &Called { run, params, declared: &plan.params })?;
        let (since, who) = (self.facts.created_at, Member::Call(self.key(ix)));
        Ok(Some(Entry { flow, key, since, who }))
    }

    /// Whether a call has its place, or needs none; else it stands in line from now on.
    ///
    /// # Errors
    /// The key cannot be evaluated.
    pub(super) fn has_call_place(
        &mut self,
        ix: Ix,
        pinned: &Pinned,
        params: &Value,
        desk: &mut Desk,
    ) -> Result<bool, EvalError> {
        if let Some(entry) = self.calls.get(&ix) {
            return Ok(desk.limits.is_inside(entry));
        }
        let Some(entry) = self.call_entry(ix, pinned, params, desk)? else { return Ok(true) };
        desk.limits.stand(&entry);
        self.calls.insert(ix, entry);
        Ok(false)
    }

    /// The turn of a call has come.
    pub(super) fn admit_call(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Some(entry) = self.calls.get(&ix) {
            cx.desk.limits.enter(entry);
            self.todo.push_back(ix);
        }
        self.drain(cx)
    }

    /// A call is over: its place is free.
    pub(super) fn leave_call_place(&mut self, ix: Ix, desk: &mut Desk) {
        if let Some(entry) = self.calls.remove(&ix) {
            desk.limits.leave(&entry);
        }
    }

    /// A call that was loaded has its place, as it had.
    pub(super) fn restore_call_place(&mut self, ix: Ix, desk: &mut Desk) {
        let instance = self.instance(ix);
        let (Phase::Open(_), Some(inside)) = (&instance.phase, instance.inside.as_deref()) else {
            return;
        };
        let Kind::Call(frame) = inside.kind else { return };
        let params = self.frames[frame as usize].params.clone();
        let task = self.held_task(ix);
        let Action::Call { pinned: Some(pinned), .. } = &task.action else { return };
        if let Ok(Some(entry)) = self.call_entry(ix, pinned, &params, desk) {
            desk.limits.enter(&entry);
            self.calls.insert(ix, entry);
        }
    }

    /// Whether a call stands in line.
    pub(super) fn awaits_call_place(&self, ix: Ix, desk: &Desk) -> bool {
        self.calls.get(&ix).is_some_and(|entry| desk.limits.is_waiting(entry))
    }

    /// Whom a call in line waits for.
    pub(super) fn call_blocker(&self, ix: Ix, desk: &Desk) -> Option<Blocker> {
        desk.limits.blocker(self.calls.get(&ix)?)
    }

    /// The place of a call, as events tell it.
    pub(super) fn call_place(&self, ix: Ix, desk: &Desk) -> Option<RunPlace> {
        desk.limits.place(self.calls.get(&ix)?)
    }
}
