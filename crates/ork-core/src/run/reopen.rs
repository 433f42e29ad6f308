//! Opens a terminal run again: the chosen instances and all that is downstream of them get a new
//! generation, and `finally` runs anew.

use std::collections::BTreeMap;

use crate::run::active::{Cx, Run, Stage};
use crate::run::instance::{Instance, Ix, Phase};
use crate::run::rule::Tally;
use crate::run::transition::{Illegal, Step};
use crate::run::{EventKind, Refusal, RefusalCode, RetrySelection, RunState, TaskState};

/// An instance that is done again, and whether what is inside stays.
type Chosen = (Ix, bool);

impl Run {
    /// Opens the next run attempt, or says why not and changes nothing.
    pub(super) fn reopen(
        &mut self,
        selection: &RetrySelection,
        cx: &mut Cx<'_>,
    ) -> Result<Result<(), Refusal>, Illegal> {
        let chosen = match self.choose(selection) {
            Ok(chosen) => chosen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.round += 1;
        self.enter(Stage::Pending, cx.desk);
        self.stop = None;
        self.finished_at = None;
        self.failure = None;
        self.output = None;
        self.frames[0].end = None;
        self.dirty = true;
        self.log(EventKind::RunReopened { run_attempt: self.round }, cx);
        let again = self.with_downstream(chosen);
        for (&ix, &keep) in &again {
            self.reset(ix, keep, cx)?;
        }
        for &ix in again.keys() {
            self.recount(ix);
        }
        cx.desk.starting.push_back(self.id);
        Ok(Ok(()))
    }

    fn choose(&self, selection: &RetrySelection) -> Result<Vec<Chosen>, Refusal> {
        let Stage::Over(state) = self.stage else {
            let message =
                format!("run {} is not over; wait for its end, or cancel it first", self.id);
            return Err(Refusal { code: RefusalCode::Conflict, message });
        };
        match selection {
            RetrySelection::Failed => self.choose_failed(state),
            RetrySelection::Tasks(paths) if paths.is_empty() => {
                let message = "name at least one task to retry".into();
                Err(Refusal { code: RefusalCode::Conflict, message })
            }
            RetrySelection::Tasks(paths) => paths
                .iter()
                .map(|path| {
                    self.by_path
                        .get(path)
                        .filter(|ix| self.is_current(**ix))
                        .map(|ix| (*ix, false))
                        .ok_or_else(|| Refusal {
                            code: RefusalCode::NotFound,
                            message: format!(
                                "run {} has no task {path}; nothing was retried",
                                self.id
                            ),
                        })
                })
                .collect(),
        }
    }

    /// What failed or was cancelled; what did not start because of it is downstream of it.
    fn choose_failed(&self, state: RunState) -> Result<Vec<Chosen>, Refusal> {
        let mut failed = Vec::new();
        for level in [self.frames[0].body, self.frames[0].finally] {
            for ix in self.levels[level as usize].all() {
                self.find_failed(ix, &mut failed);
            }
        }
        if failed.is_empty() && state == RunState::Success {
            let message =
                format!("nothing in run {} failed; name the tasks that are to run again", self.id);
            return Err(Refusal { code: RefusalCode::Conflict, message });
        }
        Ok(failed)
    }

    /// Goes in until it finds what failed of itself.
    fn find_failed(&self, ix: Ix, failed: &mut Vec<Chosen>) {
        let before = failed.len();
        for child in self.children(ix) {
            self.find_failed(child, failed);
        }
        let state = self.instance(ix).state();
        if failed.len() == before && matches!(state, TaskState::Failed | TaskState::Cancelled) {
            let unfinished = self.map(ix).is_some_and(|map| map.left() > 0);
            failed.push((ix, unfinished && self.kept(ix).is_some()));
        }
    }

    /// Whether an instance, and all that it is inside of, is of the present generation.
    fn is_current(&self, ix: Ix) -> bool {
        let mut inner = ix;
        for owner in self.owners(ix) {
            if self.kept(owner).is_none() || !self.children(owner).contains(&inner) {
                return false;
            }
            inner = owner;
        }
        true
    }

    /// The chosen, all downstream of them and of what they are inside of, and all of `finally`, in
    /// order; with each whether what is inside stays.
    fn with_downstream(&self, chosen: Vec<Chosen>) -> BTreeMap<Ix, bool> {
        let finally = self.levels[self.frames[0].finally as usize].all();
        let mut again: BTreeMap<Ix, bool> = finally.map(|ix| (ix, false)).collect();
        let mut left = chosen;
        while let Some((ix, keep)) = left.pop() {
            if again.get(&ix).is_some_and(|before| keep || !before) {
                continue;
            }
            again.insert(ix, keep);
            if self.instance(ix).item.is_none() {
                let level = self.level(ix);
                let downs = level.shape.downs(self.instance(ix).task);
                left.extend(downs.iter().map(|down| (level.ix(*down), false)));
            }
            left.extend(self.owner(ix).map(|owner| (owner, true)));
        }
        let anew = |ix: Ix| self.owners(ix).any(|owner| again.get(&owner) == Some(&false));
        again.iter().filter(|(ix, _)| !anew(**ix)).map(|(ix, keep)| (*ix, *keep)).collect()
    }

    /// Gives an instance its next generation.
    pub(super) fn reset(&mut self, ix: Ix, keep: bool, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let state = self.instance(ix).state();
        match self.instance(ix).item {
            None => {
                let level = self.instance(ix).level as usize;
                self.levels[level].open += 1;
            }
            Some(item) => {
                if let Some(map) = self.map_mut(item.map) {
                    map.open += 1;
                    map.count(state, false);
                }
            }
        }
        self.renew(ix, keep, cx)
    }

    /// [`Run::reset`] without what its level or map counts.
    pub(super) fn renew(&mut self, ix: Ix, keep: bool, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        self.shift(ix, Step::Reset, Phase::Pending, cx)?;
        let item = self.instance(ix).item.is_some();
        let upstreams = if item { 0 } else { self.task(ix).upstreams.len() };
        let instance = self.instance_mut(ix);
        let generation = instance.generation + 1;
        let mut inside = instance.inside.take();
        if let Some(inside) = inside.as_mut().filter(|inside| keep && inside.of + 1 == generation) {
            inside.of = generation;
        }
        *instance = Instance {
            generation,
            dirty: instance.dirty,
            reported: instance.reported,
            item: instance.item,
            inside,
            ..Instance::new(instance.path.clone(), instance.level, instance.task, upstreams)
        };
        self.log_at(ix, EventKind::TaskReset, cx);
        Ok(())
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
