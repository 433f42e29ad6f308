//! Does parts of a run again: the chosen instances and what is downstream of them get a new
//! generation. A run that is over is opened again, and its `finally` runs anew.

use std::collections::BTreeMap;

use crate::ids::InstancePath;
use crate::run::active::{Cx, Run, Stage};
use crate::run::control::{Answered, no_task};
use crate::run::instance::{Instance, Ix, Phase};
use crate::run::level::{Frame, Part};
use crate::run::mark::Then;
use crate::run::rule::Tally;
use crate::run::transition::{Illegal, Step};
use crate::run::{Answer, EventKind, Refusal, RefusalCode, RetrySelection, RunState, TaskState};

/// An instance that is done again, and whether what is inside stays.
type Chosen = (Ix, bool);

/// Instances that are done again, in order, and for each whether what is inside stays.
type Again = BTreeMap<Ix, bool>;

/// The most instances that one retry resets. They are reset in one commit, each by up to three
/// changes, and a commit has a bound.
const MAX_AGAIN: usize = 20_000;

impl Run {
    /// Does again what is selected, or says why not and changes nothing.
    pub(super) fn retry(
        &mut self,
        selection: &RetrySelection,
        cancel_downstream: bool,
        cx: &mut Cx<'_>,
    ) -> Answered {
        if self.stage == Stage::Over(RunState::Skipped) {
            let message = format!("run {} was never started; make a new one", self.id);
            return Ok(Err(Refusal::new(RefusalCode::Conflict, message)));
        }
        let chosen = match self.choose(selection) {
            Ok(chosen) => chosen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let again = self.affected(&chosen, !matches!(selection, RetrySelection::Only(_)));
        if again.len() > MAX_AGAIN {
            let message = format!(
                "{} tasks and items would be done again, more than the {MAX_AGAIN} that a retry \
                 may (limits.retry); name fewer, or the map that they are items of",
                again.len()
            );
            return Ok(Err(Refusal::new(RefusalCode::LimitReached, message)));
        }
        if matches!(self.stage, Stage::Over(_)) {
            self.reopen(&again, cx)?;
            return Ok(Ok(Answer::Done));
        }
        if let Err(refusal) = self.can_go_back(&chosen, &again, cancel_downstream) {
            return Ok(Err(refusal));
        }
        self.go_back(&again, cx)?;
        Ok(Ok(Answer::Done))
    }

    /// Opens the next run attempt.
    fn reopen(&mut self, again: &Again, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.round += 1;
        self.enter(Stage::Pending, cx.desk);
        self.stop = None;
        self.finished_at = None;
        self.failure = None;
        self.output = None;
        self.frames[0].end = None;
        self.dirty = true;
        self.log(EventKind::RunReopened { run_attempt: self.round }, cx);
        for (&ix, &keep) in again {
            self.reset(ix, keep, cx)?;
        }
        self.recount_with_downs(again);
        Ok(())
    }

    /// Whether a run that is not over can go back.
    fn can_go_back(
        &self,
        chosen: &[Chosen],
        again: &Again,
        cancel_downstream: bool,
    ) -> Result<(), Refusal> {
        let conflict = |message: String| Err(Refusal::new(RefusalCode::Conflict, message));
        if self.stop.is_some() {
            return conflict(format!("run {} is being ended; wait for its end", self.id));
        }
        let pending = |(ix, _): &&Chosen| matches!(self.instance(*ix).phase, Phase::Pending);
        if let Some((ix, _)) = chosen.iter().find(pending) {
            let path = &self.instance(*ix).path;
            return conflict(format!("{path} of run {} has not been done yet", self.id));
        }
        for (&ix, &keep) in again {
            let instance = self.instance(ix);
            let (path, id) = (&instance.path, self.id);
            match &instance.phase {
                // What the chosen are inside of goes on.
                Phase::Open(None) if keep => {}
                Phase::Open(_) => {
                    return conflict(format!(
                        "{path} of run {id} is under way; wait for its end, or cancel it first"
                    ));
                }
                phase
                    if !cancel_downstream
                        && (phase.lease().is_some() || matches!(phase, Phase::Deferred(_))) =>
                {
                    return conflict(format!(
                        "{path} of run {id} is under way; wait for its end, or retry with \
                         cancel_downstream to stop it"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes back in a run that is not over.
    fn go_back(&mut self, again: &Again, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if matches!(self.stage, Stage::Finally | Stage::Output) {
            self.unpark_at(None, cx.desk);
            let body = again.keys().any(|ix| !self.in_own_finally(*ix));
            self.stage = if body { Stage::Body } else { Stage::Finally };
            if body {
                self.frames[0].end = None;
                self.arm_run(cx);
            }
            self.dirty = true;
        }
        for frame in again.keys().filter_map(|ix| self.frame_left(*ix)).collect::<Vec<_>>() {
            self.frames[frame].end = None;
        }
        for (&ix, &keep) in again {
            match self.instance(ix).phase {
                Phase::Pending => {}
                Phase::Open(_) => self.wake(ix),
                Phase::Over(_) if keep => self.reset(ix, true, cx)?,
                _ => self.supersede(ix, Then::Again, cx)?,
            }
        }
        self.recount_with_downs(again);
        self.todo.extend(again.keys());
        self.drain(cx)
    }

    /// Whether an instance stands in the run's own `finally`.
    fn in_own_finally(&self, ix: Ix) -> bool {
        let outermost = self.owners(ix).last().unwrap_or(ix);
        self.level(outermost).part == Part::Finally
    }

    fn choose(&self, selection: &RetrySelection) -> Result<Vec<Chosen>, Refusal> {
        match selection {
            RetrySelection::Failed => self.choose_failed(),
            RetrySelection::Tasks(paths) | RetrySelection::Only(paths) if paths.is_empty() => {
                let message = "name at least one task to retry";
                Err(Refusal::new(RefusalCode::Conflict, message))
            }
            RetrySelection::Tasks(paths) | RetrySelection::Only(paths) => {
                paths.iter().map(|path| self.choose_one(path)).collect()
            }
        }
    }

    fn choose_one(&self, path: &InstancePath) -> Result<Chosen, Refusal> {
        self.current(path).map(|ix| (ix, false)).ok_or_else(|| no_task(self.id, path))
    }

    /// What failed or was cancelled, and what was not done because of something that has another
    /// outcome by now.
    fn choose_failed(&self) -> Result<Vec<Chosen>, Refusal> {
        let mut failed = Vec::new();
        for level in [self.frames[0].body, self.frames[0].finally] {
            for ix in self.levels[level as usize].all() {
                self.find_failed(ix, &mut failed);
            }
        }
        let nothing = match self.stage {
            Stage::Over(state) => state == RunState::Success,
            _ => true,
        };
        if failed.is_empty() && nothing {
            let message =
                format!("nothing in run {} failed; name the tasks that are to run again", self.id);
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        Ok(failed)
    }

    /// Goes in until it finds what failed of itself. What is inside stays where none of it failed:
    /// it was marked since, or its owner failed of something else.
    fn find_failed(&self, ix: Ix, failed: &mut Vec<Chosen>) {
        let before = failed.len();
        for child in self.children(ix) {
            self.find_failed(child, failed);
        }
        if failed.len() == before && self.has_failed(ix) {
            failed.push((ix, self.kept(ix).is_some()));
        }
    }

    fn has_failed(&self, ix: Ix) -> bool {
        let instance = self.instance(ix);
        let marked = |cause: Ix| self.instance(cause).rare().marked;
        match instance.state() {
            TaskState::Failed | TaskState::Cancelled => true,
            // What decided it is another by now.
            TaskState::UpstreamFailed | TaskState::Skipped => instance.cause.is_some_and(marked),
            _ => false,
        }
    }

    /// The chosen, what is downstream of them and of what they are inside of (all of it, or what
    /// did not succeed), and `finally` where it has begun; with each whether what is inside stays.
    /// What a person marked stays unless it is chosen.
    fn affected(&self, chosen: &[Chosen], all: bool) -> Again {
        let anew = match self.stage {
            Stage::Over(_) => true,
            Stage::Finally | Stage::Output => {
                chosen.iter().any(|(ix, _)| !self.in_own_finally(*ix))
            }
            Stage::Pending | Stage::Body => false,
        };
        let marked = |ix: Ix| self.instance(ix).rare().marked;
        let finally = self.levels[self.frames[0].finally as usize].all();
        let mut again: Again =
            finally.filter(|ix| anew && !marked(*ix)).map(|ix| (ix, false)).collect();
        let stays = |ix: Ix| {
            let success = matches!(self.instance(ix).phase, Phase::Over(TaskState::Success));
            marked(ix) || !all && success
        };
        let mut left = chosen.to_vec();
        while let Some((ix, keep)) = left.pop() {
            if again.get(&ix).is_some_and(|before| keep || !before) {
                continue;
            }
            again.insert(ix, keep);
            left.extend(self.downs(ix).into_iter().filter(|ix| !stays(*ix)).map(|ix| (ix, false)));
            left.extend(self.owner(ix).map(|owner| (owner, true)));
            let cleanup = self.cleanup_begun(ix).filter(|ix| !marked(*ix));
            left.extend(cleanup.map(|ix| (ix, false)));
        }
        let renewed = |ix: Ix| self.owners(ix).any(|owner| again.get(&owner) == Some(&false));
        again.iter().filter(|(ix, _)| !renewed(**ix)).map(|(ix, keep)| (*ix, *keep)).collect()
    }

    /// What cleans up after an instance in a workflow that is called, where that has begun.
    fn cleanup_begun(&self, ix: Ix) -> impl Iterator<Item = Ix> {
        let finally = self.frame_left(ix).map(|frame| self.frames[frame].finally);
        finally.into_iter().flat_map(|level| self.levels[level as usize].all())
    }

    /// The called workflow whose body an instance stands in, where that body was over.
    fn frame_left(&self, ix: Ix) -> Option<usize> {
        let level = self.instance(ix).level;
        let frame = self.levels[level as usize].frame as usize;
        let Frame { body, owner, end, .. } = &self.frames[frame];
        let item = self.instance(ix).item.is_some();
        (*body == level && owner.is_some() && end.is_some() && !item).then_some(frame)
    }

    /// The instances that have this one as an upstream.
    pub(super) fn downs(&self, ix: Ix) -> Vec<Ix> {
        if self.instance(ix).item.is_some() {
            return Vec::new();
        }
        let level = self.level(ix);
        let downs = level.shape.downs(self.instance(ix).task);
        downs.iter().map(|down| level.ix(*down)).collect()
    }

    /// Gives an instance its next generation.
    pub(super) fn reset(&mut self, ix: Ix, keep: bool, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let state = self.instance(ix).state();
        match self.instance(ix).item {
            _ if !state.is_terminal() => {}
            None => {
                let level = self.instance(ix).level as usize;
                self.levels[level].open += 1;
            }
            Some(item) => {
                if let Some(map) = self.map_of(item) {
                    map.open += 1;
                    map.count(state, false);
                }
            }
        }
        self.renew(ix, keep, cx)?;
        self.await_place(ix);
        Ok(())
    }

    /// [`Run::reset`] without what its level or map counts.
    pub(super) fn renew(&mut self, ix: Ix, keep: bool, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let token = self.instance(ix).phase.lease().map(|lease| lease.token);
        self.close_unclaimed(ix, cx);
        self.shift(ix, Step::Reset, Phase::Pending, cx)?;
        let item = self.instance(ix).item.is_some();
        let upstreams = if item { 0 } else { self.task(ix).upstreams.len() };
        let instance = self.instance_mut(ix);
        let generation = instance.generation + 1;
        let mut inside = instance.inside.take();
        if let Some(inside) = inside.as_mut().filter(|inside| keep && inside.of + 1 == generation) {
            inside.of = generation;
        }
        let mut new =
            Instance::new(instance.path.clone(), instance.level, instance.task, upstreams);
        new.generation = generation;
        new.dirty = instance.dirty;
        new.reported = instance.reported;
        new.item = instance.item;
        new.inside = inside;
        *instance = new;
        self.log_at(ix, EventKind::TaskReset { token }, cx);
        Ok(())
    }

    fn recount_with_downs(&mut self, again: &Again) {
        for &ix in again.keys() {
            self.recount(ix);
            for down in self.downs(ix) {
                self.recount(down);
            }
        }
    }

    /// Counts the upstreams that are over already.
    pub(super) fn recount(&mut self, ix: Ix) {
        self.instance_mut(ix).tally = self.tally_of(ix);
    }

    /// What the tally of an instance must be.
    pub(super) fn tally_of(&self, ix: Ix) -> Tally {
        if self.instance(ix).item.is_some() {
            return Tally::default();
        }
        let upstreams = &self.task(ix).upstreams;
        let mut tally = Tally::of(upstreams.len());
        for up in upstreams {
            if let Phase::Over(state) = self.instance(self.level(ix).ix(Ix::new(*up).0)).phase {
                tally.count(state);
            }
        }
        tally
    }
}
