//! What people ask for, and what they are told.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::catalog::Deploy;
use ork_core::ids::{BackfillId, InstancePath, ProjectId, RunId};
use ork_core::plan::Action;
use ork_core::rows::{Actor, Order};
use ork_core::run::{
    Command, Decision, EventKind, Marked, NewRun, Pausable, RefusalCode, RetrySelection, TaskState,
};
use ork_core::schedule::{NewBackfill, ScheduleKey, Steer};
use ork_core::time::Wall;
use ork_core::trigger::{Birth, triggered_run};
use ork_core::value::{Digest, Value};
use ork_engine::{Answer, Ask, Error, Key, Request};
use serde_json::json;
use uuid::Uuid;

use super::{Event, MS, SECOND, Slot, World, code};
use crate::sim::plans::{HOOK, SIGNAL};

/// A thing that a client wants, until it has an answer.
#[derive(Debug)]
pub(super) struct Wish {
    what: What,
    key: bool,
    pub(super) done: bool,
    tries: u32,
    run: Option<RunId>,
}

impl Wish {
    /// What it is, for people.
    pub(super) fn told(&self) -> String {
        format!("{:?}", self.what)
    }
}

#[derive(Clone, Debug)]
enum What {
    Create {
        plan: usize,
        again: bool,
    },
    /// To call a webhook.
    Call,
    Cancel {
        path: bool,
        force: bool,
    },
    Retry {
        how: usize,
        over: bool,
    },
    Deploy {
        plan: usize,
        content: u8,
        draft: bool,
    },
    Pause {
        of: usize,
        on: bool,
    },
    Signal,
    Decide {
        approved: bool,
    },
    Mark {
        outcome: Marked,
    },
    SetPool {
        slots: Option<u32>,
    },
    PauseSchedule {
        paused: bool,
    },
    Backfill {
        most: u32,
        order: Order,
    },
    Steer {
        how: usize,
    },
}

impl World {
    pub(super) fn make_wishes(&mut self) {
        for _ in 0..=self.chance.below(2) {
            let plan = self.chance.below(self.plans.len());
            self.wish(What::Create { plan, again: false }, SECOND);
        }
        if self.chance.one_in(4) {
            let (path, force) = (self.chance.one_in(2), self.chance.one_in(3));
            self.wish(What::Cancel { path, force }, 20 * SECOND);
        }
        for _ in 0..self.chance.below(3) {
            let (how, over) = (self.chance.below(4), !self.chance.one_in(3));
            self.wish(What::Retry { how, over }, 25 * SECOND);
        }
        for _ in 0..self.chance.below(8).saturating_sub(5) {
            self.wish_deploy();
        }
        for _ in 0..self.chance.below(7).saturating_sub(2) {
            let what = self.some_wish();
            self.wish(what, 20 * SECOND);
        }
        if self.extra.linked {
            for _ in 0..self.extra.chance.below(3) {
                self.wish(What::Call, 20 * SECOND);
            }
        }
        if self.plans.iter().any(|plans| !plans[0].schedules.is_empty()) {
            // Only a deploy declares schedules.
            self.wish_deploy();
        }
    }

    fn wish_deploy(&mut self) {
        let (plan, draft) = (self.chance.below(self.plans.len()), self.chance.one_in(3));
        let content = u8::try_from(self.chance.below(3)).unwrap_or(0);
        self.wish(What::Deploy { plan, content, draft }, 10 * SECOND);
    }

    fn some_wish(&mut self) -> What {
        let chance = &mut self.chance;
        match chance.below(14) {
            0 | 1 => What::Create { plan: chance.below(self.plans.len()), again: true },
            2 | 3 => What::Pause { of: chance.below(3), on: true },
            4 => What::Pause { of: chance.below(3), on: false },
            5 => What::Signal,
            6 => What::Decide { approved: chance.one_in(2) },
            7 | 8 => {
                let outcome = match chance.below(3) {
                    0 => Marked::Failed,
                    1 => Marked::Skipped,
                    _ => Marked::Success { output: Value::from(chance.below(3)) },
                };
                What::Mark { outcome }
            }
            9 => What::SetPool { slots: chance.pick(&[None, Some(0), Some(1), Some(3)]) },
            10 => What::PauseSchedule { paused: chance.one_in(2) },
            11 | 12 => {
                let most = 1 + u32::try_from(chance.below(2)).unwrap_or(0);
                What::Backfill { most, order: chance.pick(&[Order::Oldest, Order::Newest]) }
            }
            _ => What::Steer { how: chance.below(4) },
        }
    }

    fn wish(&mut self, what: What, within: i64) {
        let key = self.chance.one_in(2);
        self.wishes.push(Wish { what, key, done: false, tries: 0, run: None });
        let delay = self.chance.between(0, within);
        self.at(delay, Event::Client(self.wishes.len() - 1));
    }

    /// Clients whose answer went down with the server ask again, if that is safe.
    pub(super) fn wishes_again(&mut self) {
        for place in 0..self.wishes.len() {
            if !self.wishes[place].done && self.wishes[place].tries > 0 {
                let delay = self.chance.between(0, 3 * SECOND);
                self.at(delay, Event::Client(place));
            }
        }
    }

    pub(super) fn ask(&mut self, place: usize) {
        let wish = &self.wishes[place];
        if wish.done {
            return;
        }
        // Without a key nobody may ask twice for what may have been done.
        if wish.tries > 0 && !wish.key {
            self.wishes[place].done = true;
            return;
        }
        let (what, key) = (wish.what.clone(), wish.key);
        let Some(request) = self.request(place, &what) else {
            self.wishes[place].done = self.healed;
            if !self.healed {
                self.at(SECOND, Event::Client(place));
            }
            return;
        };
        self.wishes[place].tries += 1;
        let request = if key {
            let key = Key {
                key: request_id(place),
                request: Digest([u8::try_from(place).unwrap_or(0); 32]),
            };
            request.with_key(key)
        } else {
            request
        };
        trace!(self, "client {place} asks for {:?}", request.ask);
        if key && self.chance.one_in(10) {
            let delay = self.chance.between(50, 5 * MS);
            self.at(delay, Event::Arrive(Box::new(request.clone()), Slot::Client(place)));
        }
        let delay = self.chance.between(50, 2 * MS);
        self.at(delay, Event::Arrive(Box::new(request), Slot::Client(place)));
        if self.core.is_none() {
            // Refused at the door.
            self.wishes[place].tries -= 1;
            self.at(SECOND, Event::Client(place));
        }
    }

    fn request(&mut self, place: usize, what: &What) -> Option<Request> {
        let by = Actor { request_id: Some(request_id(place)), ..someone() };
        let command = match what.clone() {
            What::Create { plan, again } => self.creation(plan, again, by)?,
            What::Call => self.call(by)?,
            What::Cancel { path, force } => {
                let run = self.some_run(false)?;
                let path = if path { Some(self.some_path(run)?) } else { None };
                Command::Cancel { run, path, force, by }
            }
            What::Retry { how, over } => self.retry(how, over, by)?,
            What::Pause { of, on } => {
                let what = match of {
                    0 => Pausable::Run(self.some_run(false)?),
                    1 => Pausable::Workflow(ProjectId::DEFAULT, self.some_workflow()),
                    _ => Pausable::Project(ProjectId::DEFAULT),
                };
                Command::Pause { what, on, by }
            }
            What::Signal => {
                let (run, payload) = (self.some_run(false)?, Value::from(place));
                Command::Signal { run, name: SIGNAL.into(), payload, by }
            }
            What::Decide { approved } => {
                let (run, path) = self.some_approval()?;
                let decision = Decision { approved, ..Decision::default() };
                Command::Decide { run, path, decision, by }
            }
            What::Mark { outcome } => {
                let over = self.chance.one_in(3);
                let run = self.some_run(over)?;
                let path = self.some_path(run)?;
                if let Marked::Success { output } = &outcome {
                    self.marks.insert(request_id(place), output.clone());
                }
                Command::Mark { run, path, outcome, by }
            }
            What::SetPool { slots } => {
                let (project, name) = (ProjectId::DEFAULT, "pool0".into());
                Command::SetPool { project, name, slots, by }
            }
            What::Deploy { plan, content, draft } => {
                return Some(self.deploy(plan, content, draft, by));
            }
            What::PauseSchedule { .. } | What::Backfill { .. } | What::Steer { .. } => {
                let ask = self.of_schedules(what, by)?;
                return Some(Request::new(ProjectId::DEFAULT, ask));
            }
        };
        Some(Request::run(ProjectId::DEFAULT, command))
    }

    fn retry(&mut self, how: usize, over: bool, by: Actor) -> Option<Command> {
        let run = self.some_run(over)?;
        let selection = match how {
            0 => RetrySelection::Tasks(vec![self.some_path(run)?]),
            1 => RetrySelection::Only(vec![self.some_path(run)?]),
            _ => RetrySelection::Failed,
        };
        let cancel_downstream = self.chance.one_in(2);
        Some(Command::Retry { run, selection, cancel_downstream, by })
    }

    fn deploy(&mut self, plan: usize, content: u8, draft: bool, by: Actor) -> Request {
        let plan = Arc::clone(&self.plans[plan][usize::from(content)]);
        self.deployed.push(plan.name.clone());
        let digest = Digest([content; 32]);
        let deploy = Deploy { digest, source: String::new(), plan, code: code(), draft, by };
        Request::deploy(ProjectId::DEFAULT, deploy)
    }

    fn of_schedules(&mut self, what: &What, by: Actor) -> Option<Ask> {
        match what {
            What::PauseSchedule { paused } => {
                let keys: Vec<&(String, String)> = self.store.schedules.keys().collect();
                let (workflow, name) = (!keys.is_empty()).then(|| self.chance.pick(&keys))?.clone();
                let key = ScheduleKey { project: ProjectId::DEFAULT, workflow, name };
                Some(Ask::PauseSchedule { key, paused: *paused, by })
            }
            What::Backfill { most, order } => self.backfill(*most, *order, by),
            What::Steer { how } => self.steer(*how, by),
            _ => None,
        }
    }

    fn backfill(&mut self, max_runs: u32, order: Order, by: Actor) -> Option<Ask> {
        let rows: Vec<_> = self.store.schedules.values().filter(|row| !row.removed).collect();
        let row = (!rows.is_empty()).then(|| self.chance.pick(&rows))?.clone();
        let version = self.store.declared(&row.workflow, row.version)?;
        self.order += 1;
        let id = BackfillId(Uuid::from_u128(u128::from(self.order)));
        let from = Wall(super::START + self.chance.between(-100, 100) * SECOND);
        let to = Wall(from.0 + self.chance.between(10, 60) * SECOND);
        let (schedule, spec) = (row.name, row.spec);
        let new = NewBackfill { id, version, schedule, spec, from, to, max_runs, order, by };
        Some(Ask::Backfill(Box::new(new)))
    }

    fn steer(&mut self, how: usize, by: Actor) -> Option<Ask> {
        let ids: Vec<BackfillId> = self.store.backfills.keys().copied().collect();
        let id = (!ids.is_empty()).then(|| self.chance.pick(&ids))?;
        let row = self.store.backfills.get(&id)?.clone();
        let (steer, over) = match how {
            0 => (Steer::Pause, None),
            1 => (Steer::Resume, None),
            2 => (Steer::Cancel, None),
            _ => {
                let trigger = format!("backfill:{id}");
                let runs = self.store.runs.values().map(|kept| &kept.run);
                let failed = runs.filter(|run| run.trigger == trigger && run.state.is_terminal());
                let failed = failed.map(|run| run.id).collect();
                let version = self.store.declared(&row.workflow, row.version)?;
                let over = row.finished_at.is_some().then(|| Box::new((row, version)));
                (Steer::Retry(failed), over)
            }
        };
        Some(Ask::Steer { id, steer, by, over })
    }

    fn some_run(&mut self, over: bool) -> Option<RunId> {
        let runs = self.store.runs.values();
        let runs = runs.filter(|kept| kept.run.state.is_terminal() == over);
        let runs: Vec<RunId> = runs.map(|kept| kept.run.id).collect();
        (!runs.is_empty()).then(|| self.chance.pick(&runs))
    }

    fn some_path(&mut self, run: RunId) -> Option<InstancePath> {
        let paths: Vec<&InstancePath> = self.store.runs.get(&run)?.tasks.keys().collect();
        (!paths.is_empty()).then(|| self.chance.pick(&paths).clone())
    }

    fn some_workflow(&mut self) -> String {
        let place = self.chance.below(self.plans.len());
        self.plans[place][0].name.clone()
    }

    /// An approval that waits, by the rows.
    fn some_approval(&mut self) -> Option<(RunId, InstancePath)> {
        let rows = self.store.runs.values().flat_map(|kept| {
            let deferred = kept.tasks.values().filter(|row| row.state == TaskState::Deferred);
            let version = self.store.versions.get(&(kept.run.workflow.clone(), kept.run.version));
            deferred.filter(move |row| {
                let task = version.and_then(|version| version.plan.task(row.path.as_str()));
                task.is_none_or(|task| matches!(task.action, Action::Approval(_)))
            })
        });
        let rows: Vec<_> = rows.map(|row| (row.run, &row.path)).collect();
        let (run, path) = (!rows.is_empty()).then(|| self.chance.pick(&rows))?;
        Some((run, path.clone()))
    }

    fn creation(&mut self, plan: usize, again: bool, by: Actor) -> Option<Command> {
        let name = self.plans[plan][0].name.clone();
        let rerun_of = if again {
            let runs = self.store.runs.values().map(|kept| &kept.run);
            let over = runs.filter(|run| run.workflow == name && run.state.is_terminal());
            let over: Vec<RunId> = over.map(|run| run.id).collect();
            Some((!over.is_empty()).then(|| self.chance.pick(&over))?)
        } else {
            None
        };
        // A draft is tried right after it was kept, by a server that knows what is deployed.
        let limited = self.store.workflows.get(&name).is_some_and(|row| row.limits.is_some());
        let versions = self.store.versions.values().filter(|row| row.workflow == name);
        let versions = versions.filter(|row| limited || !row.version.is_draft());
        let mut versions: Vec<_> = versions.collect();
        versions.sort_by_key(|row| row.version);
        let version = Arc::clone(self.chance.pick(&versions));
        self.order += 1;
        Some(Command::Create(Box::new(NewRun {
            project: ProjectId::DEFAULT,
            project_name: "default".into(),
            id: RunId(Uuid::from_u128(u128::from(self.order))),
            version: version.version,
            plan: Arc::clone(&version.plan),
            code: version.code.clone(),
            params: json!({ "k": self.chance.below(2) }),
            logical_time: "2026-11-24T08:00:00Z".into(),
            labels: IndexMap::new(),
            trigger: "manual".into(),
            url: String::new(),
            rerun_of,
            after: None,
            by,
        })))
    }

    /// What a server makes of a call to a webhook.
    fn call(&mut self, by: Actor) -> Option<Command> {
        let rows = self.store.triggers.values().filter(|row| row.name == HOOK && !row.removed);
        let rows: Vec<_> = rows.collect();
        let row = (!rows.is_empty()).then(|| self.extra.chance.pick(&rows))?;
        let version = self.store.declared(&row.workflow, row.version)?;
        self.order += 1;
        let birth = Birth {
            id: RunId(Uuid::from_u128(u128::from(self.order))),
            trigger: HOOK,
            value: json!({ "body": { "k": self.extra.chance.below(2) }, "headers": {} }),
            after: None,
            by,
            at: self.now().wall,
        };
        let run = triggered_run(&version, birth, &self.config.site);
        if let Err(wrong) = &run {
            self.problem(format!("a webhook's params are wrong: {wrong:?}"));
        }
        run.ok().map(|run| Command::Create(Box::new(run)))
    }

    pub(super) fn client_hears(&mut self, place: usize, result: &Result<Answer, Error>) {
        if self.wishes[place].done {
            return;
        }
        trace!(self, "client {place} hears {result:?}");
        match result {
            Err(Error::Unavailable(_)) if self.wishes[place].key => {
                let delay = self.chance.between(10 * MS, SECOND);
                self.at(delay, Event::Client(place));
            }
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::KeyReused => {
                self.problem("a key was said to be another request's".into());
            }
            _ => self.wishes[place].done = true,
        }
    }

    /// What a client is told has to be durable.
    pub(super) fn told(&mut self, slot: &Slot, result: &Result<Answer, Error>) {
        let (Slot::Client(wish), Ok(answer)) = (slot, result) else { return };
        match answer {
            Answer::Created { run, .. } => {
                if self.store.events(*run).next().is_none() {
                    self.problem(format!("run {run} was answered for and is not durable"));
                }
                let first = *self.wishes[*wish].run.get_or_insert(*run);
                if self.wishes[*wish].key && first != *run {
                    self.problem(format!("one key made the runs {first} and {run}"));
                }
            }
            Answer::Deployed { version, .. } => {
                let What::Deploy { plan, content, .. } = self.wishes[*wish].what else { return };
                let key = (self.plans[plan][0].name.clone(), *version);
                let kept = self.store.versions.get(&key).map(|row| row.digest);
                if kept != Some(Digest([content; 32])) {
                    self.problem(format!("version {version:?} was answered for wrongly"));
                }
            }
            Answer::Rotated { .. } => self.problem("a client was told of a secret".into()),
            Answer::Preview(_) => self.problem("a client was told of a try".into()),
            Answer::Beat { .. } => self.problem("a client was told of a beat".into()),
            Answer::Backfill { id } => {
                if !self.store.backfills.contains_key(id) {
                    self.problem(format!("backfill {id} was answered for and is not durable"));
                }
            }
            Answer::Done => self.told_done(*wish),
        }
    }

    /// What was done leaves an event of its request, where it cannot have been so already.
    fn told_done(&mut self, wish: usize) {
        let request = request_id(wish);
        let is_its = |kind: &EventKind| match &self.wishes[wish].what {
            What::Retry { .. } => true,
            What::Signal => matches!(kind, EventKind::SignalReceived { .. }),
            _ => false,
        };
        if !matches!(self.wishes[wish].what, What::Retry { .. } | What::Signal) {
            return;
        }
        let found = self.store.all_events().any(|event| {
            event.actor.request_id.as_deref() == Some(&request) && is_its(&event.kind)
        });
        // An attempt that was being stopped already is replaced once it is gone.
        let mut rows = self.store.runs.values().flat_map(|kept| kept.tasks.values());
        let later = rows.any(|row| row.state == TaskState::Stopping);
        if !found && !later {
            self.problem(format!("{request} was answered for and is not durable"));
        }
    }
}

/// Who asks.
pub(super) fn someone() -> Actor {
    Actor { name: "someone".into(), ..Actor::default() }
}

fn request_id(wish: usize) -> String {
    format!("request-{wish}")
}
