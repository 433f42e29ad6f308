//! An operator who goes round once the weather is good, and ends whatever keeps runs from their
//! end. What that is comes from the blockers alone: were they wrong, nothing would come to rest.

use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::rows::BackfillState;
use ork_core::run::{Blocker, Command, Decision, Pausable, PauseScope};
use ork_core::schedule::{ScheduleKey, Steer};
use ork_core::value::Value;
use ork_engine::{Ask, Core, Request};

use super::clients::someone;
use super::{Event, SECOND, Slot, World};

impl World {
    /// Whether no schedule makes runs any more, and no backfill.
    pub(super) fn schedules_rest(&self) -> bool {
        self.store.schedules.values().all(|row| row.paused || row.removed)
            && self.store.backfills.values().all(|row| row.finished_at.is_some())
    }

    pub(super) fn tend(&mut self) {
        let asks = self.schedule_asks();
        for ask in asks {
            self.push(Request::new(ProjectId::DEFAULT, ask));
        }
        for (run, path, blocker) in self.what_waits() {
            if let Some(command) = self.cure(run, path, blocker) {
                self.push(Request::run(ProjectId::DEFAULT, command));
            }
        }
        self.at(2 * SECOND, Event::Tend);
    }

    fn push(&mut self, request: Request) {
        if let Some(core) = &mut self.core {
            core.push(request, Slot::Nobody);
        }
    }

    /// Every schedule is paused, and every backfill goes on.
    fn schedule_asks(&self) -> Vec<Ask> {
        let going = self.store.schedules.values().filter(|row| !row.paused && !row.removed);
        let pause = going.map(|row| Ask::PauseSchedule {
            key: ScheduleKey::of(row),
            paused: true,
            by: someone(),
        });
        let open = self.store.backfills.values();
        let open = open.filter(|row| row.state == BackfillState::Paused);
        let resume = open.map(|row| Ask::Steer {
            id: row.id,
            steer: Steer::Resume,
            by: someone(),
            over: None,
        });
        pause.chain(resume).collect()
    }

    /// What keeps each open run, and each open instance by its path.
    fn what_waits(&self) -> Vec<(RunId, Option<InstancePath>, Blocker)> {
        let Some(machine) = self.core.as_ref().and_then(Core::machine) else { return Vec::new() };
        let mut found = Vec::new();
        for kept in self.store.runs.values().filter(|kept| !kept.run.state.is_terminal()) {
            let run = kept.run.id;
            let rows = kept.tasks.values().filter(|row| !row.state.is_terminal());
            let of_rows = rows.map(|row| (Some(&row.path), machine.blockers(run, &row.path)));
            for (path, blockers) in of_rows.chain([(None, machine.run_blockers(run))]) {
                let blockers = blockers.into_iter().flatten();
                found.extend(blockers.map(|blocker| (run, path.cloned(), blocker)));
            }
        }
        found
    }

    /// What ends a blocker that does not end by itself.
    fn cure(
        &mut self,
        run: RunId,
        path: Option<InstancePath>,
        blocker: Blocker,
    ) -> Option<Command> {
        let by = someone();
        Some(match blocker {
            Blocker::Paused { scope, .. } => {
                let workflow = self.store.runs.get(&run)?.run.workflow.clone();
                let what = match scope {
                    PauseScope::Run => Pausable::Run(run),
                    PauseScope::Workflow => Pausable::Workflow(ProjectId::DEFAULT, workflow),
                    PauseScope::Project => Pausable::Project(ProjectId::DEFAULT),
                };
                Command::Pause { what, on: false, by }
            }
            Blocker::Event { name, .. } => Command::Signal { run, name, payload: Value::Null, by },
            Blocker::Approval { .. } => {
                let approved = self.chance.one_in(2);
                let decision = Decision { approved, ..Decision::default() };
                Command::Decide { run, path: path?, decision, by }
            }
            Blocker::Pool { name, slots, of, .. } if of < slots => {
                let project = ProjectId::DEFAULT;
                Command::SetPool { project, name, slots: Some(slots), by }
            }
            Blocker::NoWorker { queue } => {
                let serves = |queues: &[String]| {
                    let default = queues.is_empty() && queue == "default";
                    default || queues.iter().any(|name| [&queue, "*"].contains(&&**name))
                };
                let workers = &mut self.workers.iter();
                if !workers.any(|worker| worker.alive && serves(&worker.queues)) {
                    self.spawn(false, vec![queue]);
                }
                return None;
            }
            _ => return None,
        })
    }
}
