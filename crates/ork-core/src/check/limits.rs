//! Limits by the events: what was taken when something started, against what there was then.

use std::collections::{HashMap, HashSet};

use super::{Broken, Fact, Violation, violation};
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
    /// The workflow of each run.
    flows: HashMap<RunId, &'a str>,
    /// Workflows that are paused; none: the project.
    paused: HashSet<(ProjectId, Option<&'a str>)>,
    /// What projects say of their pools.
    pools: HashMap<(ProjectId, &'a str), u32>,
    /// What current versions say of how many runs there may be; none: any number.
    rules: HashMap<(ProjectId, &'a str), Option<u32>>,
}

impl<'a> Limits<'a> {
    /// Something else holds from here on.
    pub(super) fn ruled(&mut self, fact: Fact<'a>) {
        match fact {
            Fact::Event(_) | Fact::Trigger(_) => {}
            Fact::Pause(row) => {
                let key = (row.project, row.workflow.as_deref());
                if row.pause.is_some() {
                    self.paused.insert(key);
                } else {
                    self.paused.remove(&key);
                }
            }
            Fact::Pool(row) => {
                let key = (row.project, &*row.name);
                match row.slots {
                    Some(slots) => drop(self.pools.insert(key, slots)),
                    None => drop(self.pools.remove(&key)),
                }
            }
            Fact::Workflow(row) if row.current.is_some() => {
                let most = row.limits.as_ref().map(|limits| limits.max_runs);
                self.rules.insert((row.project, &*row.name), most);
            }
            Fact::Workflow(_) => {}
        }
    }

    /// What starts in spite of a pause, or past the limits of the current version.
    fn judge(&self, event: &'a EventRow) -> Option<Broken> {
        let flow = self.flows.get(&event.run).copied();
        let starts = matches!(
            event.kind,
            EventKind::RunStarted { .. }
                | EventKind::TaskDispatched { .. }
                | EventKind::TaskDeferred { token: None, .. }
        );
        let paused = |workflow| self.paused.contains(&(event.project, workflow));
        if starts && (paused(None) || flow.is_some_and(|flow| paused(Some(flow)))) {
            return Some(Broken::OutOfTurn("its workflow or its project is paused"));
        }
        let (place, flow) = match &event.kind {
            EventKind::RunStarted { place, .. } => (place, flow?),
            EventKind::TaskOpened { place: Some(place), .. } => {
                return self.differs(event, &place.workflow, Some(place.max_runs));
            }
            _ => return None,
        };
        self.differs(event, flow, place.as_ref().map(|place| place.max_runs))
    }

    /// Where the current version has no limits, those of a run of another version may bind it.
    fn differs(&self, event: &EventRow, flow: &str, given: Option<u32>) -> Option<Broken> {
        let said = (*self.rules.get(&(event.project, flow))?)?;
        (given != Some(said)).then_some(Broken::LimitIgnored { given, said })
    }

    pub(super) fn event(&mut self, event: &'a EventRow, violations: &mut Vec<Violation>) {
        if let EventKind::RunCreated { workflow, .. } = &event.kind {
            self.flows.insert(event.run, workflow);
        }
        violations.extend(self.judge(event).map(|broken| violation(event, broken)));
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
                let of = self.pools.get(&(event.project, &*pool.name)).copied();
                self.take(what, pool.slots, of.unwrap_or(pool.of), event);
            }
            (
                EventKind::TaskUnclaimed { .. }
                | EventKind::TaskRetrying { .. }
                | EventKind::TaskDeferred { .. }
                | EventKind::TaskReset { .. }
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
