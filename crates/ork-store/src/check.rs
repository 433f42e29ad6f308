//! What every member refuses: sizes, and rows that contradict themselves. Databases repeat the
//! same as constraints; here the message can name the row.

use std::io;

use ork_core::rows::{
    AnswerRow, AttemptRow, BackfillRow, CacheRow, Change, EventRow, FiringRow, HistoryRow, RunRow,
    ScheduleRow, TaskRow, TickRow, TriggerRow, VersionRow, WorkflowRow,
};
use ork_core::run::{AttemptState, EventKind, Failure};
use ork_core::value::{DETAIL_LIMIT, Data, INLINE_LIMIT, Value};
use serde::Serialize;

use crate::{MAX_CHANGES, MAX_VERSION, Result, StoreError};

/// The longest name of a pool, in bytes.
const MAX_NAME: usize = 200;

/// Checks a commit without looking at what is stored.
pub(crate) fn changes(changes: &[Change]) -> Result<()> {
    if changes.len() > MAX_CHANGES {
        let count = changes.len();
        return refuse(format!("{count} changes in one commit; {MAX_CHANGES} is the most"));
    }
    changes.iter().try_for_each(change)
}

fn change(change: &Change) -> Result<()> {
    match change {
        Change::Run(row) => run(row),
        Change::Task(row) => task(row),
        Change::Attempt(row) => attempt(row),
        Change::Event(row) => event(row),
        Change::Workflow(row) => workflow(row),
        Change::History(row) => history(row),
        Change::Version(row) => version(row),
        Change::Answer(row) => answer(row),
        Change::Pool(row) => fits(|| "a pool".to_owned(), "its name", row.name.len(), MAX_NAME),
        Change::Schedule(row, _) => schedule(row),
        Change::Tick(row) => tick(row),
        Change::Trigger(row) => trigger(row),
        Change::Firing(row) => firing(row),
        Change::Pause(_) => Ok(()),
        Change::Backfill(row, _) => backfill(row),
        Change::Cache(row) => cache(row),
    }
}

fn schedule(row: &ScheduleRow) -> Result<()> {
    let name = || format!("schedule `{}` of `{}`", row.name, row.workflow);
    fits(name, "row", json_len(row), MAX_VERSION)
}

fn backfill(row: &BackfillRow) -> Result<()> {
    fits(|| format!("backfill {}", row.id), "row", json_len(row), MAX_VERSION)
}

fn tick(row: &TickRow) -> Result<()> {
    let name = || format!("tick {} of `{}` of `{}`", row.logical_time, row.schedule, row.workflow);
    holds(row.run.is_some() != row.reason.is_some(), name, "it has a run or a reason")?;
    holds(row.until >= row.tick && row.count >= 1, name, "it is one tick at least")?;
    fits(name, "reason", row.reason.as_ref().map_or(0, String::len), INLINE_LIMIT)
}

fn trigger(row: &TriggerRow) -> Result<()> {
    let name = || format!("trigger `{}` of `{}`", row.name, row.workflow);
    fits(name, "row", json_len(row), MAX_VERSION)
}

fn firing(row: &FiringRow) -> Result<()> {
    let name = || format!("firing of `{}` of `{}` by {}", row.trigger, row.workflow, row.source);
    let answers = usize::from(row.run.is_some()) + usize::from(row.reason.is_some());
    holds(answers == usize::from(row.decided_at.is_some()), name, "decided, it has one answer")?;
    fits(name, "reason", row.reason.as_ref().map_or(0, String::len), INLINE_LIMIT)
}

/// What is said of the answer to a firing that has one, or is not there.
pub(crate) fn not_open(row: &FiringRow) -> String {
    let FiringRow { trigger, workflow, source, .. } = row;
    format!("the trigger `{trigger}` of `{workflow}` waits for no answer about run {source}")
}

/// What is said of a tick that has its answer.
pub(crate) fn answered(row: &TickRow) -> String {
    format!("tick {} of `{}` of `{}` has its answer", row.logical_time, row.schedule, row.workflow)
}

fn run(row: &RunRow) -> Result<()> {
    let name = || format!("run {}", row.id);
    holds(row.run_attempt >= 1, name, "run attempts count from 1")?;
    holds(row.state.is_terminal() == row.finished_at.is_some(), name, ENDED)?;
    payload(name, "params", &row.params)?;
    fits(name, "detail", json_len(&row.detail), DETAIL_LIMIT)?;
    data(name, "output", row.output.as_ref())?;
    failure(name, row.failure.as_ref())
}

fn task(row: &TaskRow) -> Result<()> {
    let name = || format!("task `{}` of run {}", row.path, row.run);
    holds(row.generation >= 1, name, "generations count from 1")?;
    holds(row.state.is_terminal() == row.finished_at.is_some(), name, ENDED)?;
    for (input, value) in row.inputs.iter().flatten() {
        data(|| format!("input `{input}` of {}", name()), "value", Some(value))?;
    }
    fits(name, "detail", json_len(&row.detail), DETAIL_LIMIT)?;
    data(name, "output", row.output.as_ref())?;
    failure(name, row.failure.as_ref())
}

fn attempt(row: &AttemptRow) -> Result<()> {
    let name = || format!("attempt {} of `{}` of run {}", row.attempt, row.path, row.run);
    holds(row.generation >= 1 && row.attempt >= 1, name, "both its numbers count from 1")?;
    let open = matches!(
        row.state,
        AttemptState::Dispatched | AttemptState::Running | AttemptState::Stopping
    );
    holds(open == row.finished_at.is_none(), name, ENDED)?;
    failure(name, row.failure.as_ref())
}

fn event(row: &EventRow) -> Result<()> {
    let name = || format!("event {} of run {}", row.seq, row.run);
    holds(row.seq >= 1, name, "events count from 1")?;
    match &row.kind {
        EventKind::RunFinished { failure: why, .. }
        | EventKind::TaskFinished { failure: why, .. } => failure(name, why.as_ref()),
        EventKind::TaskRetrying { failure: why, .. } => failure(name, Some(why)),
        _ => Ok(()),
    }
}

fn workflow(row: &WorkflowRow) -> Result<()> {
    let name = || format!("workflow `{}`", row.name);
    holds(row.current.is_none_or(|version| version.0 > 0), name, "a draft is never current")
}

fn history(row: &HistoryRow) -> Result<()> {
    let name = || format!("what was done to workflow `{}`", row.workflow);
    fits(name, "row", json_len(row), MAX_VERSION)
}

fn version(row: &VersionRow) -> Result<()> {
    let name = || format!("version {} of workflow `{}`", row.version.0, row.workflow);
    holds(row.version.0 != 0, name, "versions count from 1 and drafts from -1")?;
    fits(name, "source", row.source.len(), MAX_VERSION)?;
    fits(name, "plan", json_len(&row.plan), MAX_VERSION)
}

fn answer(row: &AnswerRow) -> Result<()> {
    payload(|| format!("the answer for key `{}`", row.key), "answer", &row.answer)
}

fn cache(row: &CacheRow) -> Result<()> {
    let name = || format!("the reusable success of `{}` in run {}", row.path, row.run);
    data(name, "output", row.output.as_ref())
}

const ENDED: &str = "it has a time of its end if, and only if, its state is final";

fn refuse<T>(message: String) -> Result<T> {
    Err(StoreError::Rejected(message))
}

fn holds(rule: bool, name: impl Fn() -> String, words: &str) -> Result<()> {
    if rule { Ok(()) } else { refuse(format!("{}: {words}", name())) }
}

fn failure(name: impl Fn() -> String, failure: Option<&Failure>) -> Result<()> {
    let Some(failure) = failure else { return Ok(()) };
    let size = failure.message.len() + failure.details.as_ref().map_or(0, String::len);
    fits(name, "failure", size, INLINE_LIMIT)
}

fn data(name: impl Fn() -> String, field: &str, data: Option<&Data>) -> Result<()> {
    match data {
        Some(Data::Inline(value)) => payload(name, field, value),
        Some(Data::Blob { .. }) | None => Ok(()),
    }
}

fn payload(name: impl Fn() -> String, field: &str, value: &Value) -> Result<()> {
    let size = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        other => json_len(other),
    };
    fits(name, field, size, INLINE_LIMIT)
}

fn fits(name: impl Fn() -> String, field: &str, size: usize, most: usize) -> Result<()> {
    if size <= most {
        return Ok(());
    }
    refuse(format!("{}: {field} has {size} bytes; {most} is the most in a row", name()))
}

/// How long the JSON of a value is, without making it.
fn json_len(value: &impl Serialize) -> usize {
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
