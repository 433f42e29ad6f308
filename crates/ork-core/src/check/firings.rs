//! Triggers: an end that one waits for starts one run, and nothing else does.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Fact;
use crate::ids::{ProjectId, RunId};
use crate::rows::{EventRow, FiringRow, RunRow, TriggerRow};
use crate::run::{EventKind, RunState};

/// A broken promise about the end of a run and a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trigger {trigger} of {workflow}, run {run}: {broken}")]
pub struct BrokenFiring {
    /// The workflow that has the trigger.
    pub workflow: String,
    /// The trigger.
    pub trigger: String,
    /// The run that ended, or that was started where it is not known by whose end.
    pub run: RunId,
    /// What is broken.
    pub broken: &'static str,
}

/// A trigger's name.
type Key<'a> = (ProjectId, &'a str, &'a str);

/// Checks what became of the ends of runs: `feed` is all that a store was given, with the number of
/// its commit and in the order of commits; `firings` and `runs` are all that it has at rest, of
/// which none may be missing. An end starts one run for each trigger that waits for it, at the
/// first end of the run that it waits for. A trigger that changes in the commit of an end may have
/// waited for it or not.
pub fn check_firings<'a>(
    feed: impl IntoIterator<Item = (u64, Fact<'a>)>,
    firings: impl IntoIterator<Item = &'a FiringRow>,
    runs: impl IntoIterator<Item = &'a RunRow>,
) -> Vec<BrokenFiring> {
    let runs: HashMap<RunId, &RunRow> = runs.into_iter().map(|run| (run.id, run)).collect();
    let ends = Ends::of(feed, &runs);
    let (mut found, mut fired, mut named) = (Vec::new(), HashSet::new(), HashSet::new());
    for row in firings {
        let key = (row.project, &*row.workflow, &*row.trigger);
        if !fired.insert((row.source, key)) {
            found.push(broken(key, row.source, "it is there twice"));
        }
        if !ends.possible.contains(&(row.source, key, row.source_state)) {
            found.push(broken(key, row.source, "there was no such end"));
        }
        found.extend(fault(row, &runs).map(|what| broken(key, row.source, what)));
        if row.run.is_some_and(|run| !named.insert(run)) {
            found.push(broken(key, row.source, "its run is that of another end"));
        }
    }
    let missing = ends.owed.iter().filter(|end| !fired.contains(end));
    found.extend(missing.map(|(run, key)| broken(*key, *run, "its end was lost")));
    for run in runs.values().filter(|run| !named.contains(&run.id)) {
        if let Some(trigger) = run.trigger.strip_prefix("workflow:") {
            let key = (run.project, &*run.workflow, trigger);
            found.push(broken(key, run.id, "it was started by no end"));
        }
    }
    found
}

/// The ends that triggers waited for.
#[derive(Default)]
struct Ends<'a> {
    now: BTreeMap<Key<'a>, &'a TriggerRow>,
    /// What changed in the commit that is being looked at, as it was before.
    before: BTreeMap<Key<'a>, Option<&'a TriggerRow>>,
    /// The runs that ended in that commit.
    ended: Vec<(&'a RunRow, RunState)>,
    owed: HashSet<(RunId, Key<'a>)>,
    possible: HashSet<(RunId, Key<'a>, RunState)>,
}

impl<'a> Ends<'a> {
    fn of(
        feed: impl IntoIterator<Item = (u64, Fact<'a>)>,
        runs: &HashMap<RunId, &'a RunRow>,
    ) -> Self {
        let (mut ends, mut last) = (Self::default(), 0);
        for (commit, fact) in feed {
            if commit != last {
                ends.close();
                last = commit;
            }
            match fact {
                Fact::Event(event) => ends.ended.extend(end(event, runs)),
                Fact::Trigger(row) => {
                    let key = (row.project, &*row.workflow, &*row.name);
                    let old = ends.now.insert(key, row);
                    ends.before.entry(key).or_insert(old);
                }
                _ => {}
            }
        }
        ends.close();
        ends
    }

    /// A commit is over.
    fn close(&mut self) {
        for (run, state) in std::mem::take(&mut self.ended) {
            for (key, row) in &self.now {
                let waits = |row: &TriggerRow| {
                    let own = !row.removed && row.project == run.project;
                    own && row.spec.waits_for(&run.workflow, state)
                };
                let after = waits(row);
                let old = self.before.get(key);
                let before = old.map_or(after, |old| old.is_some_and(waits));
                if before && after {
                    self.owed.insert((run.id, *key));
                }
                if before || after {
                    self.possible.insert((run.id, *key, state));
                }
            }
        }
        self.before.clear();
    }
}

/// The end of a run that may start others: a draft starts none.
fn end<'a>(event: &EventRow, runs: &HashMap<RunId, &'a RunRow>) -> Option<(&'a RunRow, RunState)> {
    let EventKind::RunFinished { state, .. } = event.kind else { return None };
    let run = runs.get(&event.run).filter(|run| !run.version.is_draft())?;
    Some((run, state))
}

/// What is wrong with an answer by itself.
fn fault(row: &FiringRow, runs: &HashMap<RunId, &RunRow>) -> Option<&'static str> {
    if row.decided_at.is_none() {
        return Some("its end has no answer");
    }
    let Some(id) = row.run else {
        return row.reason.is_none().then_some("it has neither a run nor a reason");
    };
    let Some(run) = runs.get(&id) else { return Some("its run is not there") };
    let fits = (run.project, &run.workflow) == (row.project, &row.workflow)
        && run.trigger == format!("workflow:{}", row.trigger)
        && run.after == Some(row.source);
    (!fits).then_some("its run is another's")
}

fn broken(key: Key<'_>, run: RunId, broken: &'static str) -> BrokenFiring {
    let (_, workflow, trigger) = key;
    BrokenFiring { workflow: workflow.to_owned(), trigger: trigger.to_owned(), run, broken }
}
