//! Instances that run nothing themselves: groups, maps, called workflows, generated DAGs. Such a
//! one is `running` while its inside is under way, holds no slot, and ends as its inside did.

use std::sync::Arc;

use crate::lang::expr::EvalError;
use crate::plan::{Action, Binding, Scope};
use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Closing, Ix, Phase};
use crate::run::level::{Frame, Part, Shape};
use crate::run::map::Map;
use crate::run::scope::fit;
use crate::run::transition::{Illegal, Step};
use crate::run::{EventKind, Failure, FailureKind, TaskState};

/// How deep instances may stand in each other.
pub(super) const MAX_DEPTH: usize = 32;

/// The inside of an instance. It outlives the instance's end, so that a retry finds what is there.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// The generation of the instance that it belongs to; one of an earlier generation is made
    /// anew when the instance next begins.
    pub(super) of: u32,
    /// The generation in which it was made.
    pub(super) series: u32,
    pub(super) kind: Kind,
}

/// What is inside.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A DAG.
    Dag {
        level: u32,
        /// The DAG, where it was made at run time.
        made: Option<Arc<Scope>>,
    },
    /// A called workflow: its frame.
    Call(u32),
    /// Items.
    Map(Map),
}

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Map,
    Group,
    Generated,
    Call,
    /// No inside.
    Leaf,
}

impl Run {
    /// What an instance is.
    pub(super) fn nature(&self, ix: Ix) -> Nature {
        let task = self.task(ix);
        match &task.action {
            _ if task.for_each.is_some() && self.instance(ix).item.is_none() => Nature::Map,
            Action::Group { .. } => Nature::Group,
            Action::Generate { .. } => Nature::Generated,
            Action::Call { .. } => Nature::Call,
            Action::Execute { .. } | Action::Approval(_) | Action::Wait(_) => Nature::Leaf,
        }
    }

    /// The instance whose inside this one is: a map for its items. It may be a void by now, which
    /// is inside of nothing.
    pub(super) fn owner(&self, ix: Ix) -> Option<Ix> {
        let instance = self.instance(ix);
        let item = instance.item.map(|item| item.map);
        item.or_else(|| self.levels.get(instance.level as usize)?.owner)
    }

    /// All that this one is inside of, the nearest first.
    pub(super) fn owners(&self, ix: Ix) -> impl Iterator<Item = Ix> {
        std::iter::successors(self.owner(ix), |owner| self.owner(*owner))
    }

    /// The instances directly inside, of the present generation.
    pub(super) fn children(&self, ix: Ix) -> Vec<Ix> {
        self.kept(ix).map(|kind| self.members(kind)).unwrap_or_default()
    }

    fn members(&self, kind: &Kind) -> Vec<Ix> {
        match kind {
            Kind::Map(map) => map.made.clone(),
            Kind::Dag { level, .. } => self.levels[*level as usize].all().collect(),
            Kind::Call(frame) => {
                let frame = &self.frames[*frame as usize];
                let levels = [frame.body, frame.finally];
                levels.iter().flat_map(|level| self.levels[*level as usize].all()).collect()
            }
        }
    }

    /// An instance ends that has not begun: what of its inside was to be done again is not.
    pub(super) fn end_inside(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let inside = self.instance(ix).inside.as_deref();
        for child in inside.map(|inside| self.members(&inside.kind)).unwrap_or_default() {
            if matches!(self.instance(child).phase, Phase::Pending) {
                let message = format!("{} was not done again", self.instance(ix).path);
                let ending = Ending::failed(FailureKind::Cancelled, message);
                self.end(child, TaskState::Cancelled, ending, cx)?;
            }
        }
        Ok(())
    }

    /// Whether an instance is directly inside another, in the present generation of that.
    pub(super) fn contains(&self, owner: Ix, inner: Ix) -> bool {
        let within = |level: u32| self.levels[level as usize].has(inner);
        match self.kept(owner) {
            None => false,
            Some(Kind::Map(map)) => {
                let item = self.instance(inner).item;
                item.is_some_and(|item| map.made.get(item.index as usize) == Some(&inner))
            }
            Some(Kind::Dag { level, .. }) => within(*level),
            Some(Kind::Call(frame)) => {
                let Frame { body, finally, .. } = self.frames[*frame as usize];
                within(body) || within(finally)
            }
        }
    }

    /// Lets an instance begin whose rule and condition hold.
    pub(super) fn begin_inside(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if self.owners(ix).count() >= MAX_DEPTH {
            let message = format!("is nested deeper than {MAX_DEPTH}");
            return self.end(ix, TaskState::Failed, broken(message), cx);
        }
        let nature = self.nature(ix);
        if nature != Nature::Leaf
            && self.kept(ix).is_none()
            && let Err(message) = self.has_place(cx.desk)
        {
            return self.end(ix, TaskState::Failed, broken(message), cx);
        }
        match nature {
            Nature::Map => self.open_map(ix, cx),
            Nature::Group => self.open_group(ix, cx),
            Nature::Generated => self.generate(ix, cx),
            Nature::Call => self.open_call(ix, cx),
            Nature::Leaf => self.launch(ix, cx),
        }
    }

    /// Whether the run may have more instances; if not, a sentence that says so.
    pub(super) fn has_place(&self, desk: &Desk) -> Result<(), String> {
        let most = desk.config.max_instances;
        if self.instances.len() < most {
            return Ok(());
        }
        Err(format!(
            "the run has {most} instances, the most that a run may have (limits.instances); give \
             each item more to do, or do parts of it in runs of their own"
        ))
    }

    /// The inside, when it was kept for this generation by a retry.
    pub(super) fn kept(&self, ix: Ix) -> Option<&Kind> {
        let instance = self.instance(ix);
        let inside = instance.inside.as_deref()?;
        (inside.of == instance.generation).then_some(&inside.kind)
    }

    /// Puts a new inside in the place of what is left of an earlier generation.
    pub(super) fn set_inside(&mut self, ix: Ix, kind: Kind) {
        let instance = self.instance_mut(ix);
        let of = instance.generation;
        instance.inside = Some(Box::new(Inside { of, series: of, kind }));
    }

    /// The instance is under way from here on; `count` is how much is inside.
    pub(super) fn enter_inside(
        &mut self,
        ix: Ix,
        count: u32,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        self.shift(ix, Step::Open, Phase::Open(None), cx)?;
        let at = cx.now.wall;
        let instance = self.instance_mut(ix);
        instance.queued_at.get_or_insert(at);
        instance.started_at.get_or_insert(at);
        let inside = instance.inside.as_deref();
        let kept = inside.is_some_and(|inside| inside.series < inside.of);
        let made = match inside.map(|inside| &inside.kind) {
            Some(Kind::Dag { made, .. }) => made.clone(),
            _ => None,
        };
        if let Some(limit) = self.limit(ix) {
            self.arm(ix, cx.now.mono + limit, cx.desk);
        }
        let place = self.call_place(ix, cx.desk);
        self.log_at(ix, EventKind::TaskOpened { count, kept, made, place }, cx);
        self.todo.extend(self.children(ix));
        self.wake(ix);
        Ok(())
    }

    /// How long the inside may take. A map has no limit of its own: each of its items has.
    pub(super) fn limit(&self, ix: Ix) -> Option<crate::time::Span> {
        let task = self.task(ix);
        match (self.nature(ix), &task.action) {
            (Nature::Map, _) => None,
            (Nature::Call, Action::Call { pinned: Some(pinned), .. }) => {
                task.timeout.into_iter().chain(pinned.plan.timeout).min()
            }
            _ => task.timeout,
        }
    }

    /// Sees to it that an instance with an inside is looked at.
    pub(super) fn wake(&mut self, ix: Ix) {
        if let Some(map) = self.map_mut(ix)
            && std::mem::replace(&mut map.listed, true)
        {
            return;
        }
        self.todo.push_back(ix);
    }

    /// Something inside an instance that is under way has changed: it goes on, or ends.
    pub(super) fn go_inside(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        match self.instance(ix).inside.as_deref().map(|inside| &inside.kind) {
            None => Ok(()),
            Some(Kind::Map(_)) => self.go_map(ix, cx),
            Some(Kind::Call(frame)) => self.go_call(ix, *frame, cx),
            Some(Kind::Dag { level, .. }) => {
                let level = *level;
                if self.levels[level as usize].open > 0 {
                    return Ok(());
                }
                self.leave_group(ix, level, cx)
            }
        }
    }

    /// Ends the inside of an instance that is under way before its time.
    pub(super) fn close(
        &mut self,
        ix: Ix,
        closing: &Closing,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match &mut self.instance_mut(ix).phase {
            Phase::Open(None) => {
                let phase = Phase::Open(Some(Box::new(closing.clone())));
                self.shift(ix, Step::Stop, phase, cx)?;
                self.log_at(ix, EventKind::TaskClosing { reason: closing.reason }, cx);
            }
            Phase::Open(Some(old)) if closing.forced && !old.forced => {
                old.forced = true;
                self.mark(ix, cx.desk);
            }
            _ => return Ok(()),
        }
        for child in self.children(ix) {
            let instance = self.instance(child);
            if instance.state().is_terminal() || !self.is_ended(child) {
                continue;
            }
            if instance.phase.lease().is_some() {
                self.halt(child, closing, cx)?;
            } else {
                self.todo.push_back(child);
            }
        }
        self.wake(ix);
        Ok(())
    }

    /// The end of an instance whose inside was ended before its time.
    pub(super) fn end_closed(
        &mut self,
        ix: Ix,
        closing: &Closing,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let ending = Ending { failure: Some(closing.failure.clone()), ..Ending::default() };
        self.end(ix, closing.state(), ending, cx)
    }

    /// Why the instance is ended before its time, if it is.
    pub(super) fn closed(&self, ix: Ix) -> Option<Closing> {
        match &self.instance(ix).phase {
            Phase::Open(closing) => closing.as_deref().cloned(),
            _ => None,
        }
    }

    fn open_group(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let old = self.instance(ix).inside.as_deref().map(|inside| inside.kind.clone());
        if let Some(Kind::Dag { level, made }) = old {
            let fresh = self.kept(ix).is_none();
            if fresh {
                self.renew_level(level, cx)?;
                self.set_inside(ix, Kind::Dag { level, made });
            }
            let count = self.levels[level as usize].len;
            return self.enter_inside(ix, count, cx);
        }
        let shape = self.shape_inside(ix);
        self.enter_dag(ix, shape, None, cx)
    }

    /// The DAG of a group, shared with the other items of its map.
    pub(super) fn shape_inside(&mut self, ix: Ix) -> Arc<Shape> {
        let (level, task) = (self.level(ix), self.instance(ix).task);
        let outer = Arc::clone(&level.shape);
        let Some(item) = self.instance(ix).item else { return Shape::inside(&outer, task) };
        match self.map_mut(item.map) {
            Some(map) => Arc::clone(map.shape.get_or_insert_with(|| Shape::inside(&outer, task))),
            None => Shape::inside(&outer, task),
        }
    }

    /// Instantiates a DAG inside an instance, and begins it.
    pub(super) fn enter_dag(
        &mut self,
        ix: Ix,
        shape: Arc<Shape>,
        made: Option<Arc<Scope>>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let (frame, part) = (self.level(ix).frame, self.level(ix).part);
        let level = self.add_level(shape, frame, Some(ix), part);
        self.announce_again(level, cx);
        self.set_inside(ix, Kind::Dag { level, made });
        let count = self.levels[level as usize].len;
        self.enter_inside(ix, count, cx)
    }

    /// Gives what an earlier generation left in a level a new one.
    pub(super) fn renew_level(&mut self, level: u32, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        for ix in self.levels[level as usize].all() {
            if self.instance(ix).state().is_terminal() {
                self.reset(ix, false, cx)?;
            }
        }
        for ix in self.levels[level as usize].all() {
            self.recount(ix);
        }
        Ok(())
    }

    fn leave_group(&mut self, ix: Ix, level: u32, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Some(closing) = self.closed(ix) {
            return self.end_closed(ix, &closing, cx);
        }
        let spoilers = self.spoilers(level);
        if !spoilers.is_empty() {
            let ending = Ending { failure: Some(self.task_failed(&spoilers)), ..Ending::default() };
            return self.end(ix, TaskState::Failed, ending, cx);
        }
        let task = self.held_task(ix);
        let output = match &task.action {
            Action::Group { output: Some(output), .. }
            | Action::Generate { output: Some(output), .. } => self.evaluate_inside(ix, output, cx),
            _ => self.gather_members(level, cx),
        };
        self.end_with(ix, output, cx)
    }

    fn evaluate_inside(
        &self,
        ix: Ix,
        output: &Binding,
        cx: &mut Cx<'_>,
    ) -> Result<crate::value::Data, EvalError> {
        let data = self.view_inside(ix, cx.desk).data(output)?;
        fit(data, cx.out)
    }

    /// The instance succeeds with what was evaluated, waits for what that needs, or fails of it.
    pub(super) fn end_with(
        &mut self,
        ix: Ix,
        output: Result<crate::value::Data, EvalError>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        match output {
            Ok(data) => {
                let ending = Ending { output: Some(data), ..Ending::default() };
                self.end(ix, TaskState::Success, ending, cx)
            }
            Err(EvalError::Need(needs)) => {
                self.park(Some(ix), needs, cx);
                Ok(())
            }
            Err(EvalError::Failed(message)) => {
                self.end(ix, TaskState::Failed, broken(format!("output: {message}")), cx)
            }
        }
    }

    /// What an instance that cannot begin or end for want of a value comes to.
    pub(super) fn give_up_inside(
        &mut self,
        ix: Ix,
        message: &str,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let failure = Failure::new(FailureKind::Expression, message);
        let reason = crate::run::StopReason::Cancelled;
        self.unpark(ix, cx.desk);
        self.close(ix, &Closing { reason, failure, forced: false }, cx)
    }

    /// Whether the level is its workflow's own, and not of a group in it.
    pub(super) fn is_root(&self, level: u32) -> bool {
        let level = &self.levels[level as usize];
        level.owner == self.frames[level.frame as usize].owner
    }

    /// Whether the instance belongs to the `finally` of the workflow that `owner` calls.
    pub(super) fn is_cleanup(&self, ix: Ix) -> bool {
        let level = self.level(ix);
        level.part == Part::Finally
            && self.instance(ix).item.is_none()
            && self.is_root(self.instance(ix).level)
    }
}

/// For want of a value.
pub(super) fn broken(message: impl Into<String>) -> Ending {
    Ending::failed(FailureKind::Expression, message)
}
