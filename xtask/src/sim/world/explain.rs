//! What the machine says of why things wait, against what is durable.

use ork_core::ids::RunId;
use ork_core::rows::TaskRow;
use ork_core::run::{
    Blocker, EventKind, Holder, Machine, PauseScope, PoolPlace, RunState, TaskState,
};
use ork_engine::Core;

use super::{Slot, World};
use crate::sim::store::Kept;

impl World {
    /// Now and then, when nothing is on its way: the machine's invariants hold, what waits can say
    /// for what, and that is so. What could start has started.
    pub(super) fn look_into(&mut self, core: &Core<Slot>) {
        if !self.chance.one_in(4) {
            return;
        }
        let Some(machine) = core.machine() else { return };
        for violation in machine.check() {
            self.problem(violation.0);
        }
        let open = self.store.runs.values().filter(|kept| !kept.run.state.is_terminal());
        let faults: Vec<String> = open.flat_map(|kept| self.faults(kept, machine)).collect();
        for fault in faults {
            self.problem(fault);
        }
    }

    fn faults(&self, kept: &Kept, machine: &Machine) -> Vec<String> {
        let mut faults = Vec::new();
        for row in kept.tasks.values().filter(|row| !row.state.is_terminal()) {
            let Some(blockers) = machine.blockers(row.run, &row.path) else { continue };
            let waits = [TaskState::Pending, TaskState::Queued, TaskState::Deferred];
            let told =
                |what: &str| format!("{} of {} is {:?}: {what}", row.path, row.run, row.state);
            if waits.contains(&row.state) && blockers.is_empty() {
                faults.push(told("it waits for nothing"));
            }
            for blocker in &blockers {
                if let Some(fault) = self.fault(kept, row, blocker, machine) {
                    faults.push(told(&format!("{fault}: {blocker:?}")));
                }
            }
        }
        faults
    }

    /// What is not so of what a blocker says.
    fn fault(
        &self,
        kept: &Kept,
        row: &TaskRow,
        blocker: &Blocker,
        machine: &Machine,
    ) -> Option<&'static str> {
        let state = |path| kept.tasks.get(path).map(|row| row.state);
        let wrong = match blocker {
            Blocker::RunPending => Some("a run that may start has not"),
            Blocker::Upstream { path, .. } => {
                state(path).is_none_or(TaskState::is_terminal).then_some("the upstream is not open")
            }
            Blocker::Outer { path, .. } => state(path)
                .is_some_and(|state| state == TaskState::Running)
                .then_some("what it is inside of is under way"),
            Blocker::Body { open: 0 } => Some("the body is over"),
            Blocker::Paused { scope, .. } => {
                let workflow = Some(kept.run.workflow.clone());
                let pause = |key| self.store.pauses.get(key).is_some_and(|row| row.pause.is_some());
                let paused = match scope {
                    PauseScope::Run => kept.run.paused.is_some(),
                    PauseScope::Workflow => pause(&workflow),
                    PauseScope::Project => pause(&None),
                };
                (!paused).then_some("it is not paused")
            }
            Blocker::RetryAt { .. } | Blocker::Time { .. } | Blocker::Poll { .. } => {
                let next = machine.run_wakeup(row.run);
                next.is_none_or(|at| at.0 < self.mono).then_some("the time has come")
            }
            Blocker::Items { path, max_parallel: Some(most), holders, .. } => {
                let known = usize::try_from(*most).unwrap_or(usize::MAX).min(5);
                let over = holders.iter().any(|holder| {
                    let path = holder.path.as_ref();
                    path.and_then(state).is_none_or(TaskState::is_terminal)
                });
                let fewer = holders.len() < known || state(path) != Some(TaskState::Running);
                (over || fewer).then_some("an item that may begin has not")
            }
            Blocker::RunLimit { max_runs, holders, .. } => {
                self.run_limit(*max_runs, holders, machine)
            }
            Blocker::Pool { name, slots, of, used, holders } => {
                self.pool(name, (*slots, *of, *used), holders)
            }
            Blocker::NoWorker { queue } => {
                let serves =
                    |queues: &[String]| queues.iter().any(|name| [queue, "*"].contains(&&**name));
                let found = machine.workers().into_iter().any(|worker| {
                    worker.joined && !worker.leaving && worker.slots > 0 && serves(&worker.queues)
                });
                found.then_some("there is a worker")
            }
            Blocker::NoSlot { queue, .. } => {
                let serves =
                    |queues: &[String]| queues.iter().any(|name| [queue, "*"].contains(&&**name));
                let found = machine.workers().into_iter().any(|worker| {
                    let here = worker.joined && !worker.leaving && serves(&worker.queues);
                    here && worker.used < worker.slots
                });
                found.then_some("there is a free slot")
            }
            _ => None,
        };
        let may_run = matches!(blocker, Blocker::Items { .. } | Blocker::SetAside { .. });
        wrong.or_else(|| (row.state == TaskState::Running && !may_run).then_some("it is under way"))
    }

    /// The places are taken, by runs that are under way or that are being set aside.
    fn run_limit(
        &self,
        max_runs: u32,
        holders: &[Holder],
        machine: &Machine,
    ) -> Option<&'static str> {
        let known = usize::try_from(max_runs).unwrap_or(usize::MAX).min(5);
        if holders.len() < known {
            return Some("there is a free place");
        }
        let runs = |run| self.store.runs.get(&run).map(|kept| kept.run.state);
        let mut held = holders.iter().map(|holder| holder.run).filter(|run| machine.holds(*run));
        let idle = held.any(|run| runs(run) != Some(RunState::Running));
        idle.then_some("a holder is not under way")
    }

    /// The slots are taken, by attempts that are under way.
    fn pool(
        &self,
        name: &str,
        (slots, of, used): (u32, u32, u32),
        holders: &[Holder],
    ) -> Option<&'static str> {
        if used == 0 && slots <= of {
            return Some("the pool is free");
        }
        let held = holders.iter().filter_map(|holder| {
            let path = holder.path.as_ref()?;
            let row = self.store.runs.get(&holder.run)?.tasks.get(path)?;
            let under_way = [TaskState::Dispatched, TaskState::Running, TaskState::Stopping];
            under_way.contains(&row.state).then(|| self.last_pool(holder.run, row))?
        });
        let held: u32 = held.filter(|place| place.name == name).map(|place| place.slots).sum();
        let all = holders.len() < 5;
        // What is left of a run that was set aside holds its slots, and has no rows of its own.
        if self.poison.is_none() && !self.panics() && (held > used || all && held != used) {
            return Some("the holders do not hold what is used");
        }
        None
    }

    /// What the last attempt of an instance took of a pool, by its event.
    fn last_pool(&self, run: RunId, row: &TaskRow) -> Option<&PoolPlace> {
        let events: Vec<_> = self.store.events(run).collect();
        events.into_iter().rev().find_map(|event| match &event.kind {
            EventKind::TaskDispatched { pool, .. } if event.path.as_ref() == Some(&row.path) => {
                Some(pool.as_ref())
            }
            _ => None,
        })?
    }
}
