//! Opens a terminal run again: the chosen instances and all that is downstream of them get a new
//! generation, and `finally` runs anew.

use std::collections::BTreeSet;

use crate::run::active::{Cx, Run, Stage};
use crate::run::instance::{Instance, Ix, Phase};
use crate::run::rule::Tally;
use crate::run::transition::{Illegal, Step};
use crate::run::{EventKind, Refusal, RefusalCode, RetrySelection, RunState, TaskState};

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
        self.body_end = None;
        self.dirty = true;
        self.log(EventKind::RunReopened { run_attempt: self.round }, cx);
        let again = self.with_downstream(chosen);
        for &ix in &again {
            self.reset(ix, cx)?;
        }
        for &ix in &again {
            self.recount(ix);
        }
        cx.desk.starting.push_back(self.id);
        Ok(Ok(()))
    }

    fn choose(&self, selection: &RetrySelection) -> Result<Vec<Ix>, Refusal> {
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
                    self.by_path.get(path).copied().ok_or_else(|| Refusal {
                        code: RefusalCode::NotFound,
                        message: format!("run {} has no task {path}; nothing was retried", self.id),
                    })
                })
                .collect(),
        }
    }

    /// What failed or was cancelled; what did not start because of it is downstream of it.
    fn choose_failed(&self, state: RunState) -> Result<Vec<Ix>, Refusal> {
        let failed: Vec<Ix> = (0..)
            .map(Ix)
            .zip(&self.instances)
            .filter(|(_, instance)| {
                matches!(instance.state(), TaskState::Failed | TaskState::Cancelled)
            })
            .map(|(ix, _)| ix)
            .collect();
        if failed.is_empty() && state == RunState::Success {
            let message =
                format!("nothing in run {} failed; name the tasks that are to run again", self.id);
            return Err(Refusal { code: RefusalCode::Conflict, message });
        }
        Ok(failed)
    }

    /// The chosen, all downstream of them, and all of `finally`, in order.
    fn with_downstream(&self, chosen: Vec<Ix>) -> BTreeSet<Ix> {
        let mut again: BTreeSet<Ix> = self.levels[1].all().collect();
        let mut left = chosen;
        while let Some(ix) = left.pop() {
            if again.insert(ix) {
                let level = self.level(ix);
                let downs = level.downs(self.instance(ix).task);
                left.extend(downs.iter().map(|down| level.ix(*down)));
            }
        }
        again
    }

    fn reset(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let scope = self.instance(ix).scope as usize;
        self.shift(ix, Step::Reset, Phase::Pending, cx)?;
        self.levels[scope].open += 1;
        let upstreams = self.task(ix).upstreams.len();
        let instance = self.instance_mut(ix);
        *instance = Instance {
            generation: instance.generation + 1,
            dirty: instance.dirty,
            reported: instance.reported,
            ..Instance::new(instance.path.clone(), instance.scope, instance.task, upstreams)
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
