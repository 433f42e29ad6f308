//! Schedules: a tick has one answer, and no run has two ticks.

use std::collections::{HashMap, HashSet};

use crate::ids::RunId;
use crate::rows::{RunRow, TickRow};
use crate::time::Wall;

/// A broken promise about a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schedule {schedule} of {workflow}, tick {tick:?}: {broken}")]
pub struct BrokenTick {
    /// The workflow.
    pub workflow: String,
    /// The schedule.
    pub schedule: String,
    /// The tick.
    pub tick: Wall,
    /// What is broken.
    pub broken: &'static str,
}

/// Checks the answers to all ticks of a store against its runs, of which none may be missing.
pub fn check_ticks<'a>(
    ticks: impl IntoIterator<Item = &'a TickRow>,
    runs: impl IntoIterator<Item = &'a RunRow>,
) -> Vec<BrokenTick> {
    let runs: HashMap<RunId, &RunRow> = runs.into_iter().map(|run| (run.id, run)).collect();
    let mut ticks: Vec<&TickRow> = ticks.into_iter().collect();
    ticks.sort_by_key(|row| (row.project, &row.workflow, &row.schedule, row.tick, row.until));
    let (mut found, mut named) = (Vec::new(), HashSet::new());
    let mut last: Option<&TickRow> = None;
    for row in ticks {
        let again = last.is_some_and(|last| {
            let same = (last.project, &last.workflow, &last.schedule)
                == (row.project, &row.workflow, &row.schedule);
            same && last.until >= row.tick
        });
        if again {
            found.push(broken(row, "it has two answers"));
        }
        found.extend(fault(row, &runs).map(|what| broken(row, what)));
        if row.run.is_some_and(|run| !named.insert(run)) {
            found.push(broken(row, "its run is that of another tick"));
        }
        last = Some(row);
    }
    let unnamed = runs.values().filter(|run| !named.contains(&run.id));
    found.extend(unnamed.filter_map(|run| orphan(run)));
    found
}

/// What is wrong with an answer by itself.
fn fault(row: &TickRow, runs: &HashMap<RunId, &RunRow>) -> Option<&'static str> {
    if row.until < row.tick || row.count == 0 {
        return Some("its answer is for nothing");
    }
    let Some(id) = row.run else {
        return row.reason.is_none().then_some("it has neither a run nor a reason");
    };
    if (row.until, row.count) != (row.tick, 1) {
        return Some("its run is for several ticks");
    }
    let Some(run) = runs.get(&id) else { return Some("its run is not there") };
    let fits = (run.project, &run.workflow) == (row.project, &row.workflow)
        && run.trigger == format!("schedule:{}", row.schedule)
        && run.logical_time == row.logical_time;
    (!fits).then_some("its run is another's")
}

/// A run of a schedule that no tick names.
fn orphan(run: &RunRow) -> Option<BrokenTick> {
    let schedule = run.trigger.strip_prefix("schedule:")?.to_owned();
    let (workflow, tick) = (run.workflow.clone(), run.created_at);
    Some(BrokenTick { workflow, schedule, tick, broken: "a run was made for no tick" })
}

fn broken(row: &TickRow, broken: &'static str) -> BrokenTick {
    let (workflow, schedule) = (row.workflow.clone(), row.schedule.clone());
    BrokenTick { workflow, schedule, tick: row.tick, broken }
}
