//! What a command would change, without doing it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, InstancePath, ProjectId, RunId};
use crate::plan::Plan;
use crate::rows::{ActiveRun, Change, CodeRef, VersionRow};
use crate::run::active::Run;
use crate::run::rerun::{plain, task_digest};
use crate::run::{Command, Machine, Out, Pausable, Refusal, RunState, TaskState};
use crate::time::Now;
use crate::value::Digest;

/// One thing that a command would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The run, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Else what it is, in words: `schedule nightly of etl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The instance; none: the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<InstancePath>,
    /// How it stands: a state, `paused` or `not paused`, a value.
    pub from: String,
    /// How it would stand.
    pub to: String,
    /// Whether it would get a new generation.
    pub again: bool,
}

impl Planned {
    /// A change of a run, or of an instance of it.
    pub fn of_run(run: RunId, path: Option<InstancePath>, from: String, to: String) -> Self {
        Self { run: Some(run), what: None, path, from, to, again: false }
    }

    /// A change of something that is no run.
    pub fn of(what: String, from: impl Into<String>, to: impl Into<String>) -> Self {
        let (from, to) = (from.into(), to.into());
        Self { run: None, what: Some(what), path: None, from, to, again: false }
    }
}

/// What a command on a run would change at once, before anything else happens. It is applied to a
/// copy of the run in a [scratch machine](Machine::scratch), so it is decided by the code that
/// decides it in earnest.
///
/// # Errors
/// The command would be refused.
pub fn preview(
    mut machine: Machine,
    active: ActiveRun,
    command: Command,
    now: Now,
) -> Result<Vec<Planned>, Refusal> {
    let id = active.run.id;
    machine.load(vec![active], now, &mut Out::default());
    let before = machine.runs.get(&id).map(Standing::of);
    machine.apply(command, now, &mut Out::default())?;
    let after = machine.runs.get(&id).map(Standing::of);
    Ok(match (before, after) {
        (Some(before), Some(after)) => before.differences(&after, id),
        _ => Vec::new(),
    })
}

/// What a rerun of a run with another plan would take over: for each success whether it is copied
/// if its inputs turn out the same. What is not named is done again.
pub fn preview_rerun(earlier: &ActiveRun, plan: &Plan, code: &CodeRef) -> Vec<Planned> {
    let then = &earlier.version;
    let successes = earlier.tasks.iter().filter(|row| row.state == TaskState::Success);
    let same = |path: &InstancePath| {
        let name = plain(path);
        let old = then.plan.task(&name).map(|task| task_digest(&then.plan, task, &then.code));
        let new = plan.task(&name).map(|task| task_digest(plan, task, code));
        old.is_some() && old == new
    };
    successes
        .map(|row| {
            let to = if same(&row.path) && !row.marked {
                "copied if its inputs are the same".to_owned()
            } else {
                "done again".to_owned()
            };
            let path = Some(row.path.clone());
            Planned { again: true, ..Planned::of_run(earlier.run.id, path, name(&row.state), to) }
        })
        .collect()
}

impl Machine {
    /// A machine with the settings, the pauses and the sizes of the pools of this one, and without
    /// its runs: to try commands in.
    #[must_use]
    pub fn scratch(&self) -> Self {
        let mut scratch = Self::new(self.desk.config.clone(), Epoch(u32::MAX));
        scratch.desk.pauses = self.desk.pauses.clone();
        scratch.desk.pools.declare_as(&self.desk.pools);
        scratch
    }

    /// The runs of a workflow that are not over.
    pub fn open_runs(&self, project: ProjectId, workflow: &str) -> Vec<RunId> {
        let own = |run: &&Run| run.facts.project == project && *run.facts.workflow == *workflow;
        let mut runs: Vec<_> = self.runs.values().filter(own).map(|run| run.id).collect();
        runs.sort_unstable();
        runs
    }

    /// How a run that it holds stands.
    pub fn state(&self, run: RunId) -> Option<RunState> {
        self.runs.get(&run).map(|run| run.stage.state())
    }

    /// A run that it holds, as a store would give it back now.
    pub fn snapshot(&self, run: RunId) -> Option<ActiveRun> {
        let run = self.runs.get(&run)?;
        let mut changes = Vec::new();
        run.rows(self.seen, &mut changes);
        let mut active = ActiveRun {
            run: run.row(self.seen),
            version: Arc::new(run.version_row()),
            tasks: Vec::new(),
            attempts: Vec::new(),
            last_seq: run.seq,
            damage: None,
        };
        for change in changes {
            match change {
                Change::Task(row) => active.tasks.push(*row),
                Change::Attempt(row) => active.attempts.push(*row),
                _ => {}
            }
        }
        Some(active)
    }
}

impl Machine {
    /// The runs that a pause, or its end, would concern: those that it would keep back, or let go
    /// on.
    pub fn preview_pause(&self, what: &Pausable, on: bool) -> Vec<Planned> {
        let mine = |run: &&Run| match what {
            Pausable::Run(id) => run.id == *id,
            Pausable::Workflow(project, name) => {
                run.facts.project == *project && *run.facts.workflow == **name
            }
            Pausable::Project(project) => run.facts.project == *project,
        };
        let rests_after = |run: &Run| on || run.is_paused_beside(what, &self.desk);
        let runs = self.runs.values().filter(mine);
        let word = |rests: bool| if rests { "paused" } else { "not paused" }.to_owned();
        let mut changes: Vec<Planned> = runs
            .filter(|run| run.rests != rests_after(run))
            .map(|run| Planned::of_run(run.id, None, word(run.rests), word(!run.rests)))
            .collect();
        changes.sort_unstable_by_key(|planned| planned.run);
        changes
    }
}

impl Run {
    fn version_row(&self) -> VersionRow {
        let facts = &self.facts;
        VersionRow {
            project: facts.project,
            workflow: facts.workflow.to_string(),
            version: facts.version,
            digest: Digest::of(&[]),
            source: String::new(),
            plan: self.plan().clone(),
            code: self.frames[0].code.clone(),
            created_by: facts.created_by.clone(),
            created_at: facts.created_at,
        }
    }
}

/// How a run and its instances stand.
struct Standing {
    run: RunState,
    round: u32,
    paused: bool,
    tasks: BTreeMap<InstancePath, (TaskState, u32)>,
}

impl Standing {
    fn of(run: &Run) -> Self {
        let tasks = run.instances.iter();
        Self {
            run: run.stage.state(),
            round: run.round,
            paused: run.paused.is_some(),
            tasks: tasks.map(|i| (i.path.clone(), (i.state(), i.generation))).collect(),
        }
    }

    fn differences(&self, after: &Self, run: RunId) -> Vec<Planned> {
        let planned =
            |path, from, to, again| Planned { again, ..Planned::of_run(run, path, from, to) };
        let mut found = Vec::new();
        if (self.run, self.round) != (after.run, after.round) {
            let again = self.round != after.round;
            found.push(planned(None, name(&self.run), name(&after.run), again));
        }
        if self.paused != after.paused {
            let word = |paused: bool| if paused { "paused" } else { "not paused" }.to_owned();
            found.push(planned(None, word(self.paused), word(after.paused), false));
        }
        for (path, (state, generation)) in &after.tasks {
            let before = self.tasks.get(path);
            let (from, old) = before.copied().unwrap_or((TaskState::Pending, *generation));
            if (from, old) != (*state, *generation) {
                let again = old != *generation;
                found.push(planned(Some(path.clone()), name(&from), name(state), again));
            }
        }
        found
    }
}

fn name(state: &impl Serialize) -> String {
    super::control::name(state)
}
