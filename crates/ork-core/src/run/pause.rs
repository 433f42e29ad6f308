//! Pauses: a flag on a run, a workflow or a project that keeps new starts back. What runs goes on,
//! and so do deadlines and retry times.

use serde::{Deserialize, Serialize};

use crate::ids::{ProjectId, RunId};
use crate::rows::{Actor, Change, Happened, HistoryRow, Pause, PauseRow};
use crate::run::active::{Cx, Desk, Run, Stage};
use crate::run::control::{Answered, over};
use crate::run::instance::{Hold, Ix, Phase};
use crate::run::machine::{self, Blocker, Machine, Out};
use crate::run::transition::Illegal;
use crate::run::values::Map;
use crate::run::{Answer, EventKind, Pausable};
use crate::time::Now;

/// What is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseScope {
    /// The run.
    Run,
    /// Its workflow.
    Workflow,
    /// Its project.
    Project,
}

/// The workflows and projects that are paused.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses(Map<(ProjectId, Option<String>), Pause>);

impl Pauses {
    fn set(&mut self, row: PauseRow) {
        let key = (row.project, row.workflow);
        match row.pause {
            Some(pause) => drop(self.0.insert(key, pause)),
            None => drop(self.0.remove(&key)),
        }
    }

    fn project(&self, project: ProjectId) -> Option<&Pause> {
        self.0.get(&(project, None))
    }

    fn workflow(&self, project: ProjectId, workflow: &str) -> Option<&Pause> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(project, Some(workflow.to_owned())))
    }
}

impl Machine {
    /// Learns what is paused by the rows of a store; before the runs are loaded.
    pub fn learn_pauses(&mut self, rows: Vec<PauseRow>) {
        for row in rows {
            self.desk.pauses.set(row);
        }
    }

    /// Who paused a workflow, or its project.
    pub fn paused(&self, project: ProjectId, workflow: Option<&str>) -> Option<&Pause> {
        let pauses = &self.desk.pauses;
        let own = workflow.and_then(|workflow| pauses.workflow(project, workflow));
        own.or_else(|| pauses.project(project))
    }

    /// Whether a workflow itself is paused.
    pub fn pauses_workflow(&self, project: ProjectId, workflow: &str) -> bool {
        self.desk.pauses.workflow(project, workflow).is_some()
    }

    pub(super) fn pause(
        &mut self,
        what: Pausable,
        on: bool,
        by: &Actor,
        (now, out): (Now, &mut Out),
    ) -> machine::Answered {
        let (project, workflow) = match what {
            Pausable::Run(id) => {
                return self.ask_run(id, by, (now, out), |run, cx| run.pause(on, cx));
            }
            Pausable::Workflow(project, workflow) => (project, Some(workflow)),
            Pausable::Project(project) => (project, None),
        };
        let known = match &workflow {
            Some(workflow) => self.desk.pauses.workflow(project, workflow),
            None => self.desk.pauses.project(project),
        };
        if known.is_some() == on {
            return Ok(Answer::Done);
        }
        let pause = on.then(|| Pause { by: by.clone(), at: now.wall });
        let row = PauseRow { project, workflow, pause, by: by.clone(), at: now.wall };
        self.desk.pauses.set(row.clone());
        let mine = |run: &Run| {
            run.facts.project == project
                && row.workflow.as_ref().is_none_or(|name| **name == *run.facts.workflow)
        };
        let mut ids: Vec<RunId> =
            self.runs.values().filter(|run| mine(run)).map(|run| run.id).collect();
        ids.sort_unstable();
        out.changes.extend(noted(&row));
        out.changes.push(Change::Pause(Box::new(row)));
        for id in ids {
            self.step_by(id, by, (now, out), Run::rest);
        }
        Ok(Answer::Done)
    }
}

/// The pause of a workflow, or its end, in the workflow's history.
fn noted(row: &PauseRow) -> Option<Change> {
    Some(Change::History(Box::new(HistoryRow {
        project: row.project,
        workflow: row.workflow.clone()?,
        number: 0,
        at: row.at,
        by: row.by.clone(),
        what: if row.pause.is_some() { Happened::Paused } else { Happened::Resumed },
        version: None,
        changes: Vec::new(),
    })))
}

impl Run {
    /// Pauses the run, or ends its pause.
    pub(super) fn pause(&mut self, on: bool, cx: &mut Cx<'_>) -> Answered {
        if let Stage::Over(state) = self.stage {
            return Ok(Err(over(self.id, state)));
        }
        if self.paused.is_some() != on {
            self.paused = on.then(|| Pause { by: cx.by.clone(), at: cx.now.wall });
            self.dirty = true;
            self.log(if on { EventKind::RunPaused } else { EventKind::RunResumed }, cx);
            self.rest(cx)?;
        }
        Ok(Ok(Answer::Done))
    }

    /// The pauses that keep new starts back.
    pub(super) fn pauses(&self, desk: &Desk) -> Vec<Blocker> {
        let (project, workflow) = (self.facts.project, &self.facts.workflow);
        let found = [
            (PauseScope::Run, self.paused.as_ref()),
            (PauseScope::Workflow, desk.pauses.workflow(project, workflow)),
            (PauseScope::Project, desk.pauses.project(project)),
        ];
        let blocker = |(scope, pause): (PauseScope, Option<&Pause>)| {
            let pause = pause?;
            let (by, reason) = (pause.by.name.clone(), pause.by.reason.clone());
            Some(Blocker::Paused { scope, by, reason, since: pause.at })
        };
        found.into_iter().filter_map(blocker).collect()
    }

    /// Whether anything keeps new starts back.
    pub(super) fn is_paused(&self, desk: &Desk) -> bool {
        let (project, workflow) = (self.facts.project, &self.facts.workflow);
        #[cfg(feature = "sabotage")]
        if desk.config.sabotage == Some(crate::run::Sabotage::IgnorePauses) {
            return false;
        }
        self.paused.is_some()
            || desk.pauses.project(project).is_some()
            || desk.pauses.workflow(project, workflow).is_some()
    }

    /// Whether something else than `what` keeps new starts back.
    pub(super) fn is_paused_beside(&self, what: &Pausable, desk: &Desk) -> bool {
        self.pauses(desk).iter().any(|blocker| {
            let Blocker::Paused { scope, .. } = blocker else { return false };
            !matches!(
                (what, scope),
                (Pausable::Run(_), PauseScope::Run)
                    | (Pausable::Workflow(..), PauseScope::Workflow)
                    | (Pausable::Project(_), PauseScope::Project)
            )
        })
    }

    /// Does what follows from the pauses: instances leave the queue, or come back to it.
    pub(super) fn rest(&mut self, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let rests = self.is_paused(cx.desk);
        if rests == self.rests {
            return Ok(());
        }
        self.leave_pools(cx.desk);
        let ready: Vec<Ix> = (0..self.instances.len())
            .map(Ix::new)
            .filter(|ix| {
                matches!(self.instance(*ix).phase, Phase::Queued { hold: Hold::Ready, .. })
            })
            .collect();
        for &ix in &ready {
            self.leave_queue(ix, cx.desk);
        }
        self.rests = rests;
        for &ix in &ready {
            if rests {
                self.halt_patience(ix, cx);
            } else {
                self.enter_queue(ix, cx.desk);
                self.arm_ready(ix, cx);
            }
        }
        if rests {
            return Ok(());
        }
        if cx.desk.resting.remove(&self.id) {
            let entry = self.entry();
            cx.desk.limits.stand(&entry);
        }
        let pending = (0..).map(Ix).zip(&self.instances);
        let pending = pending.filter(|(_, i)| matches!(i.phase, Phase::Pending));
        let pending: Vec<Ix> = pending.map(|(ix, _)| ix).collect();
        self.todo.extend(pending);
        self.drain(cx)
    }
}
