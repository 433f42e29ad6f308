//! What is asked of workflows, schedules, triggers and backfills, in earnest or as a try: a try is
//! decided by the same code, on copies.

use ork_core::catalog::{self, Known};
use ork_core::ids::{ProjectId, RunId};
use ork_core::rows::{BackfillState, Change, HistoryRow, WorkflowRow};
use ork_core::run::{Command, Machine, Out, Pausable, Planned, Refusal, RefusalCode};
use ork_core::schedule::{Backfills, ScheduleKey, Schedules};
use ork_core::time::Now;
use ork_core::trigger::{TriggerKey, Triggers};
use ork_core::value::Digest;

use crate::request::{Answer, Ask, Request};

/// How many runs a refusal names.
const NAMED: usize = 3;

/// What is decided about beside the run machine.
pub(crate) struct Parts<'a> {
    pub(crate) schedules: &'a mut Schedules,
    pub(crate) backfills: &'a mut Backfills,
    pub(crate) triggers: &'a mut Triggers,
}

/// What a request came to.
pub(crate) struct Decided {
    /// The workflow that it is about; empty where the request does not say.
    pub(crate) workflow: String,
    pub(crate) changes: Vec<Change>,
    /// What the run machine has to do with it.
    pub(crate) command: Option<Command>,
    pub(crate) answer: Answer,
}

impl Decided {
    fn new(workflow: &str, changes: Vec<Change>) -> Self {
        let workflow = workflow.to_owned();
        Self { workflow, changes, command: None, answer: Answer::Done }
    }
}

fn refusal<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// Decides all that is neither the run machine's alone nor a deploy. `known` is there for what is
/// asked of workflows.
pub(crate) fn decide(
    Request { project, ask, .. }: Request,
    known: Option<&Known>,
    parts: Parts<'_>,
    (machine, now): (&Machine, Now),
) -> Result<Decided, Refusal> {
    let Parts { schedules, backfills, triggers } = parts;
    match ask {
        Ask::Describe { workflow, patch, paused, expected, by } => {
            let row = seen(known, &workflow, (machine, expected))?;
            let command = paused.map(|on| {
                let what = Pausable::Workflow(project, workflow.clone());
                Command::Pause { what, on, by: by.clone() }
            });
            let changes = catalog::describe(row, *patch, &by, now.wall);
            Ok(Decided { command, ..Decided::new(&workflow, changes) })
        }
        Ask::Delete { workflow, expected, by } => {
            let row = seen(known, &workflow, (machine, expected))?;
            unused(project, &workflow, backfills, machine)?;
            let mut changes = catalog::delete(row, &by, now.wall);
            changes.extend(schedules.retire(project, &workflow, now.wall));
            changes.extend(triggers.retire(project, &workflow, now.wall));
            Ok(Decided::new(&workflow, changes))
        }
        Ask::PauseSchedule { key, paused, by } => {
            match schedules.pause(&key, paused, &by, now.wall) {
                Some(change) => Ok(Decided::new(&key.workflow, change.into_iter().collect())),
                None => refusal(RefusalCode::NotFound, no_schedule(&key)),
            }
        }
        Ask::RotateTrigger { key, secret, shown, by } => {
            let Some(change) = triggers.rotate(&key, secret, &by, now.wall) else {
                return refusal(RefusalCode::NotFound, no_webhook(&key));
            };
            let answer = Answer::Rotated { shown };
            Ok(Decided { answer, ..Decided::new(&key.workflow, vec![change]) })
        }
        Ask::Backfill(new) => {
            let (id, workflow) = (new.id, new.version.workflow.clone());
            let change = backfills.create(*new, now.wall);
            let change = change.or_else(|message| refusal(RefusalCode::Conflict, message))?;
            let answer = Answer::Backfill { id };
            Ok(Decided { answer, ..Decided::new(&workflow, vec![change]) })
        }
        Ask::Steer { id, steer, by, over } => {
            if let Some((row, version)) = over.map(|over| *over) {
                backfills.reopen(row, version);
            }
            match backfills.steer((project, id), steer, &by, now.wall) {
                Some(Ok(change)) => Ok(Decided::new("", vec![change])),
                Some(Err(message)) => refusal(RefusalCode::Conflict, message),
                None => refusal(
                    RefusalCode::Conflict,
                    "the backfill is over; `retry` does its failed runs again",
                ),
            }
        }
        Ask::Run(_) | Ask::Deploy(_) => refusal(RefusalCode::Invalid, "it is not decided here"),
    }
}

/// The workflow, as its asker saw it.
fn seen<'k>(
    known: Option<&'k Known>,
    workflow: &str,
    (machine, expected): (&Machine, Option<Digest>),
) -> Result<&'k WorkflowRow, Refusal> {
    let Some(row) = known.and_then(|known| known.workflow.as_ref()) else {
        let message = format!("there is no workflow `{workflow}`; deploy it first");
        return refusal(RefusalCode::NotFound, message);
    };
    if row.deleted_at.is_some() {
        return refusal(RefusalCode::Deleted, deleted(workflow));
    }
    let paused = machine.pauses_workflow(row.project, workflow);
    if expected.is_some_and(|expected| expected != catalog::revision(row, paused)) {
        let message = format!("workflow `{workflow}` was changed since it was read; read it again");
        return refusal(RefusalCode::Changed, message);
    }
    Ok(row)
}

/// What is said of a workflow that was deleted.
pub(crate) fn deleted(workflow: &str) -> String {
    format!("workflow `{workflow}` is deleted; a deploy of it brings it back")
}

/// Refuses where something of the workflow goes on.
fn unused(
    project: ProjectId,
    workflow: &str,
    backfills: &Backfills,
    machine: &Machine,
) -> Result<(), Refusal> {
    let runs = machine.open_runs(project, workflow);
    if !runs.is_empty() {
        let named: Vec<_> = runs.iter().take(NAMED).map(RunId::to_string).collect();
        let more = if runs.len() > NAMED { ", …" } else { "" };
        let message = format!(
            "workflow `{workflow}` has {} active runs ({}{more}); let them end, or end them with \
             `ork runs cancel --workflow {workflow}`",
            runs.len(),
            named.join(", ")
        );
        return refusal(RefusalCode::Conflict, message);
    }
    match backfills.under_way(project, workflow) {
        Some(id) => refusal(
            RefusalCode::Conflict,
            format!(
                "backfill {id} of workflow `{workflow}` is not over; `ork backfills cancel {id}`"
            ),
        ),
        None => Ok(()),
    }
}

fn no_schedule(ScheduleKey { name, workflow, .. }: &ScheduleKey) -> String {
    format!("workflow `{workflow}` has no schedule `{name}`; see `ork schedules list`")
}

fn no_webhook(TriggerKey { name, workflow, .. }: &TriggerKey) -> String {
    format!("workflow `{workflow}` has no webhook `{name}`; see `ork triggers list`")
}

/// What a request would change, on copies of what it is about.
pub(crate) fn try_out(
    request: Request,
    known: Option<&Known>,
    (schedules, backfills, triggers): (&Schedules, &Backfills, &Triggers),
    (machine, now): (&Machine, Now),
) -> Result<Vec<Planned>, Refusal> {
    let mut copies = (schedules.clone(), backfills.clone(), triggers.clone());
    let (mut changes, command) = match request.ask {
        Ask::Run(command) => (Vec::new(), Some(command)),
        _ => {
            let parts = Parts {
                schedules: &mut copies.0,
                backfills: &mut copies.1,
                triggers: &mut copies.2,
            };
            let decided = decide(request, known, parts, (machine, now))?;
            (decided.changes, decided.command)
        }
    };
    if let Some(command) = command {
        let mut out = Out::default();
        machine.scratch().apply(command, now, &mut out)?;
        changes.extend(out.changes);
    }
    let seen = Seen { schedules, backfills, triggers, machine };
    Ok(changes.iter().flat_map(|change| seen.planned(change)).collect())
}

/// What is there before a change.
struct Seen<'a> {
    schedules: &'a Schedules,
    backfills: &'a Backfills,
    triggers: &'a Triggers,
    machine: &'a Machine,
}

impl Seen<'_> {
    fn planned(&self, change: &Change) -> Vec<Planned> {
        match change {
            Change::Schedule(row, _) => {
                let before = self.schedules.get(&ScheduleKey::of(row));
                let what = format!("schedule {} of {}", row.name, row.workflow);
                let from = before.map_or("new", |before| standing(before.removed, before.paused));
                vec![Planned::of(what, from, standing(row.removed, row.paused))]
            }
            Change::Trigger(row) => {
                let what = format!("trigger {} of {}", row.name, row.workflow);
                let before = self.triggers.get(&TriggerKey::of(row));
                let has_secret = before.is_some_and(|before| before.secret.is_some());
                let from = if has_secret { "its secret" } else { "no secret" };
                vec![if row.removed {
                    Planned::of(what, "there", "gone")
                } else {
                    Planned::of(what, from, "a new secret")
                }]
            }
            Change::Backfill(row, _) => {
                let before = self.backfills.get(row.id);
                let from = before.map_or(BackfillState::Done, |before| before.state);
                let what = format!("backfill {}", row.id);
                let mut planned = vec![Planned::of(what, word(&from), word(&row.state))];
                planned.retain(|planned| planned.from != planned.to);
                planned.extend(self.runs_of(row, before.map_or(&[], |before| &before.again)));
                planned
            }
            Change::Pool(row) => {
                let before = self.machine.pools(row.project);
                let before = before.into_iter().find(|pool| pool.name == row.name);
                let slots = |slots: Option<u32>| {
                    slots.map_or("no size".to_owned(), |slots| format!("{slots} slots"))
                };
                let from = slots(before.and_then(|pool| pool.slots));
                vec![Planned::of(format!("pool {}", row.name), from, slots(row.slots))]
            }
            Change::Pause(row) => {
                let (of, on) = (row.workflow.clone(), row.pause.is_some());
                let (what, pausable) = match of {
                    Some(name) => {
                        (format!("workflow {name}"), Pausable::Workflow(row.project, name))
                    }
                    None => ("the project".to_owned(), Pausable::Project(row.project)),
                };
                let mut planned =
                    vec![Planned::of(what, standing(false, !on), standing(false, on))];
                planned.extend(self.machine.preview_pause(&pausable, on));
                planned
            }
            Change::History(row) => described(row),
            _ => Vec::new(),
        }
    }

    /// What becomes of the runs of a backfill.
    fn runs_of(&self, row: &ork_core::rows::BackfillRow, before: &[RunId]) -> Vec<Planned> {
        let cancelled = row.state == BackfillState::Cancelled;
        let open = row.open.iter().filter(|_| cancelled).filter_map(|run| {
            let from = word(&self.machine.state(*run)?);
            Some(Planned::of_run(*run, None, from, "cancelled".to_owned()))
        });
        let again = row.again.iter().filter(|run| !before.contains(run)).map(|run| Planned {
            again: true,
            ..Planned::of_run(*run, None, "failed".to_owned(), "pending".to_owned())
        });
        open.chain(again).collect()
    }
}

/// What becomes of a workflow itself.
fn described(row: &HistoryRow) -> Vec<Planned> {
    let what = format!("workflow {}", row.workflow);
    if row.what == ork_core::rows::Happened::Deleted {
        return vec![Planned::of(what, "there", "deleted")];
    }
    let shown = |value: &Option<ork_core::value::Value>| match value {
        None => "none".to_owned(),
        Some(ork_core::value::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let changes = row.changes.iter();
    changes
        .map(|change| {
            let what = format!("{what}: {}", change.path);
            Planned::of(what, shown(&change.before), shown(&change.after))
        })
        .collect()
}

fn standing(removed: bool, paused: bool) -> &'static str {
    match (removed, paused) {
        (true, _) => "gone",
        (false, true) => "paused",
        (false, false) => "not paused",
    }
}

fn word(state: &impl serde::Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(ork_core::value::Value::String(word)) => word,
        _ => String::new(),
    }
}
