//! Limits by the events: what was taken when something started, against what there was then.

use std::collections::HashMap;

use super::{Broken, Violation, violation};
use crate::ids::{ProjectId, RunId};
use crate::rows::EventRow;
use crate::run::EventKind;

/// What is limited: a pool of a project, or the places of a workflow and key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What<'a> {
    Pool(ProjectId, &'a str),
    Places(ProjectId, &'a str, &'a str),
}

#[derive(Default)]
struct Use<'a> {
    taken: u32,
    of: u32,
    /// What took some in this commit.
    last: Option<&'a EventRow>,
}

/// Who holds what is limited.
#[derive(Default)]
pub(super) struct Limits<'a> {
    uses: HashMap<What<'a>, Use<'a>>,
    /// By attempts, and by calls.
    attempts: HashMap<(RunId, &'a str), (What<'a>, u32)>,
    runs: HashMap<RunId, What<'a>>,
}

impl<'a> Limits<'a> {
    pub(super) fn event(&mut self, event: &'a EventRow) {
        let path = event.path.as_ref().map(|path| (event.run, path.as_str()));
        match (&event.kind, path) {
            (EventKind::RunStarted { place: Some(place), .. }, _) => {
                let what = What::Places(event.project, &place.workflow, &place.key);
                self.runs.insert(event.run, what);
                self.take(what, 1, place.max_runs, event);
            }
            (EventKind::TaskOpened { place: Some(place), .. }, Some(path)) => {
                let what = What::Places(event.project, &place.workflow, &place.key);
                self.attempts.insert(path, (what, 1));
                self.take(what, 1, place.max_runs, event);
            }
            (EventKind::RunFinished { .. }, _) => {
                if let Some(what) = self.runs.remove(&event.run) {
                    self.free(what, 1);
                }
            }
            (EventKind::TaskDispatched { pool: Some(pool), .. }, Some(path)) => {
                let what = What::Pool(event.project, &pool.name);
                self.attempts.insert(path, (what, pool.slots));
                self.take(what, pool.slots, pool.of, event);
            }
            (
                EventKind::TaskUnclaimed { .. }
                | EventKind::TaskRetrying { .. }
                | EventKind::TaskFinished { .. },
                Some(path),
            ) => {
                if let Some((what, slots)) = self.attempts.remove(&path) {
                    self.free(what, slots);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, what: What<'a>, count: u32, of: u32, event: &'a EventRow) {
        let used = self.uses.entry(what).or_default();
        used.taken += count;
        (used.of, used.last) = (of, Some(event));
    }

    fn free(&mut self, what: What<'a>, count: u32) {
        if let Some(used) = self.uses.get_mut(&what) {
            used.taken -= count.min(used.taken);
        }
    }

    /// After a commit.
    pub(super) fn balance(&mut self, violations: &mut Vec<Violation>) {
        for (what, used) in &mut self.uses {
            let Some(event) = used.last.take().filter(|_| used.taken > used.of) else { continue };
            let (taken, of) = (used.taken, used.of);
            violations.push(violation(
                event,
                match *what {
                    What::Pool(_, name) => Broken::PoolExceeded { pool: name.into(), taken, of },
                    What::Places(_, workflow, key) => {
                        let (workflow, key) = (workflow.into(), key.into());
                        Broken::RunsExceeded { workflow, key, runs: taken, max_runs: of }
                    }
                },
            ));
        }
    }
}
