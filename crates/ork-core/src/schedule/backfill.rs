//! Backfills: a run for each tick of a range, made as others of it end.
//!
//! A backfill keeps the version and the schedule that it began with. Its `reached` is the tick up
//! to which all have their runs; it is made durable in the commit of the run that moves it, so no
//! restart makes a run twice or leaves one out. Ticks of the schedule itself know nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::{run_id, tick_run};
use super::{Declared, Site, Tick, Timetable};
use crate::ids::{BackfillId, ProjectId, RunId};
use crate::plan::Schedule;
use crate::rows::{Actor, BackfillRow, BackfillState, Change, Order};
use crate::run::NewRun;
use crate::time::{Span, Wall};

/// The most ticks of a backfill.
pub const MAX_BACKFILL: usize = 100_000;

/// The most runs of a backfill that may go on at a time.
pub const MAX_ABREAST: u32 = 1_000;

/// A backfill to be made.
#[derive(Clone, Debug)]
pub struct NewBackfill {
    /// Its name.
    pub id: BackfillId,
    /// The version whose runs it makes.
    pub version: Arc<Declared>,
    /// The schedule's name.
    pub schedule: String,
    /// What the version says of the schedule.
    pub spec: Schedule,
    /// No tick before.
    pub from: Wall,
    /// No tick after.
    pub to: Wall,
    /// How many runs may go on at a time.
    pub max_runs: u32,
    /// Which ticks come first.
    pub order: Order,
    /// Who asked.
    pub by: Actor,
}

/// What a person may do with a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// No new runs for now.
    Pause,
    /// Goes on.
    Resume,
    /// No new runs ever; those that go on are cancelled.
    Cancel,
    /// These of its runs are done again, within its limit.
    Retry(Vec<RunId>),
}

/// What a backfill needs next.
#[derive(Clone, Debug)]
pub enum Need {
    /// The caller makes this run and says so by [`Backfills::made`].
    Run(BackfillId, Tick, Result<Box<NewRun>, String>),
    /// To retry a run; the caller says by [`Backfills::retried`] what came of it.
    Retry(ProjectId, RunId, Actor),
    /// To cancel a run.
    Cancel(ProjectId, RunId, Actor),
    /// To make this durable.
    Keep(Change),
}

/// The backfills that are not over.
#[derive(Clone, Debug, Default)]
pub struct Backfills(BTreeMap<BackfillId, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    row: BackfillRow,
    table: Timetable,
    version: Arc<Declared>,
    /// Runs whose retry or cancel is on its way.
    asked: BTreeSet<RunId>,
    /// Runs that are on their way to the store.
    sent: BTreeSet<RunId>,
    dirty: bool,
}

/// The ticks of a range, counted up to one more than [`MAX_BACKFILL`].
pub fn count(table: &Timetable, from: Wall, to: Wall) -> usize {
    table.ticks(before(from), to).take(MAX_BACKFILL + 1).count()
}

/// The ticks of a range in an order, at most `most`.
pub fn listed(table: &Timetable, from: Wall, to: Wall, order: Order, most: usize) -> Vec<Tick> {
    match order {
        Order::Oldest => table.ticks(before(from), to).take(most).collect(),
        Order::Newest => {
            let mut ticks = table.latest(before(from), to, most);
            ticks.reverse();
            ticks
        }
    }
}

fn before(at: Wall) -> Wall {
    Wall(at.0.saturating_sub(1))
}

impl Entry {
    fn next(&self) -> Option<Tick> {
        let BackfillRow { from, to, reached, order, .. } = &self.row;
        let (from, to) = match (order, reached) {
            (Order::Oldest, Some(at)) => (*at, *to),
            (Order::Newest, Some(at)) => (before(*from), before(*at)),
            (_, None) => (before(*from), *to),
        };
        match order {
            Order::Oldest => self.table.next(from).filter(|tick| tick.at <= to),
            Order::Newest => self.table.last(from, to),
        }
    }

    fn busy(&self) -> usize {
        let retried = self.asked.iter().filter(|run| !self.row.open.contains(run)).count();
        self.row.open.len() + retried
    }

    /// What it needs next, when those of its runs that are over are none of `holds`.
    fn need(&mut self, holds: &impl Fn(RunId) -> bool, now: Wall, site: &Site) -> Option<Need> {
        self.row.open.retain(|run| holds(*run));
        let (project, by) = (self.row.project, self.actor());
        if self.row.state == BackfillState::Cancelled
            && let Some(run) = self.row.open.iter().find(|run| !self.asked.contains(run)).copied()
        {
            self.asked.insert(run);
            return Some(Need::Cancel(project, run, by));
        }
        if self.row.state == BackfillState::Running && self.busy() < self.row.max_runs as usize {
            if let Some(run) = self.row.again.iter().find(|run| !self.asked.contains(run)).copied()
            {
                self.asked.insert(run);
                return Some(Need::Retry(project, run, by));
            }
            if let Some(tick) = self.next() {
                return Some(Need::Run(self.row.id, tick, self.run(&tick, now, site)));
            }
        }
        let stays = self.row.state == BackfillState::Paused
            || !(self.row.open.is_empty() && self.row.again.is_empty());
        if !stays && self.row.finished_at.is_none() {
            if self.row.state == BackfillState::Running {
                self.row.state = BackfillState::Done;
            }
            self.row.finished_at = Some(now);
            self.dirty = true;
        }
        std::mem::take(&mut self.dirty).then(|| Need::Keep(self.change(None, now)))
    }

    fn actor(&self) -> Actor {
        self.row.changed_by.clone().unwrap_or_else(|| self.row.created_by.clone())
    }

    fn run(&self, tick: &Tick, now: Wall, site: &Site) -> Result<Box<NewRun>, String> {
        let trigger = format!("backfill:{}", self.row.id);
        let id = run_id(&format!("{trigger}@{}", tick.at.0), now);
        let by = self.row.created_by.clone();
        tick_run(&self.version, &self.row.spec, tick, id, trigger, by, site).map(Box::new)
    }

    fn change(&mut self, run: Option<RunId>, now: Wall) -> Change {
        self.row.updated_at = now;
        Change::Backfill(Box::new(self.row.clone()), run)
    }
}

impl Backfills {
    /// A backfill that is under way.
    pub fn get(&self, id: BackfillId) -> Option<&BackfillRow> {
        self.0.get(&id).map(|entry| &entry.row)
    }

    /// A backfill of a workflow that is under way.
    pub fn under_way(&self, project: ProjectId, workflow: &str) -> Option<BackfillId> {
        let own = |row: &&BackfillRow| row.project == project && row.workflow == workflow;
        self.0.values().map(|entry| &entry.row).find(own).map(|row| row.id)
    }

    /// Takes over what a store has: those that are not over, and their versions.
    pub fn load(&mut self, rows: Vec<BackfillRow>, versions: &[Arc<Declared>]) {
        self.0.clear();
        for row in rows {
            let version = versions.iter().find(|version| {
                (version.project, &version.workflow, version.version)
                    == (row.project, &row.workflow, row.version)
            });
            let table = Timetable::new(&row.spec.when, &row.spec.timezone);
            if let (Some(version), Ok(table)) = (version, table) {
                self.insert(row, table, version.clone());
            }
        }
    }

    fn insert(&mut self, row: BackfillRow, table: Timetable, version: Arc<Declared>) {
        let entry = Entry {
            table,
            version,
            asked: BTreeSet::new(),
            sent: BTreeSet::new(),
            dirty: false,
            row,
        };
        self.0.insert(entry.row.id, entry);
    }

    /// Begins a backfill.
    ///
    /// # Errors
    /// One sentence where the range has no ticks or too many, or the limit is none.
    pub fn create(&mut self, new: NewBackfill, now: Wall) -> Result<Change, String> {
        let table = Timetable::new(&new.spec.when, &new.spec.timezone)
            .map_err(|error| error.to_string())?;
        let total = count(&table, new.from, new.to);
        if total == 0 || total > MAX_BACKFILL {
            let many = if total == 0 { "no".to_owned() } else { format!("over {MAX_BACKFILL}") };
            return Err(format!("the schedule has {many} ticks in this range; choose another"));
        }
        if !(1..=MAX_ABREAST).contains(&new.max_runs) {
            return Err(format!("`max_runs` is from 1 to {MAX_ABREAST}"));
        }
        let row = BackfillRow {
            project: new.version.project,
            id: new.id,
            workflow: new.version.workflow.clone(),
            schedule: new.schedule,
            version: new.version.version,
            spec: new.spec,
            from: new.from,
            to: new.to,
            max_runs: new.max_runs,
            order: new.order,
            state: BackfillState::Running,
            reached: None,
            total: total as u64,
            made: 0,
            skipped: 0,
            reason: None,
            open: Vec::new(),
            again: Vec::new(),
            created_by: new.by,
            changed_by: None,
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        self.insert(row.clone(), table, new.version);
        Ok(Change::Backfill(Box::new(row), None))
    }

    /// Takes a backfill that is over in again, so that its runs can be retried.
    pub fn reopen(&mut self, mut row: BackfillRow, version: Arc<Declared>) {
        let table = Timetable::new(&row.spec.when, &row.spec.timezone);
        if let (Ok(table), false) = (table, self.0.contains_key(&row.id)) {
            row.finished_at = None;
            row.state = BackfillState::Running;
            self.insert(row, table, version);
        }
    }

    /// Does what a person asks. None where no such backfill is under way.
    ///
    /// # Errors
    /// Why it cannot be, in a sentence.
    pub fn steer(
        &mut self,
        (project, id): (ProjectId, BackfillId),
        steer: Steer,
        by: &Actor,
        now: Wall,
    ) -> Option<Result<Change, String>> {
        let entry = self.0.get_mut(&id).filter(|entry| entry.row.project == project)?;
        if entry.row.state == BackfillState::Cancelled {
            return Some(match steer {
                Steer::Cancel => Ok(entry.change(None, now)),
                _ => Err(format!("backfill {id} was cancelled; make another")),
            });
        }
        match steer {
            Steer::Pause => entry.row.state = BackfillState::Paused,
            Steer::Resume => entry.row.state = BackfillState::Running,
            Steer::Cancel => {
                entry.row.state = BackfillState::Cancelled;
                entry.row.again.clear();
                entry.asked.clear();
            }
            Steer::Retry(runs) => {
                for run in runs {
                    if !entry.row.again.contains(&run) && !entry.row.open.contains(&run) {
                        entry.row.again.push(run);
                    }
                }
            }
        }
        entry.row.changed_by = Some(by.clone());
        Some(Ok(entry.change(None, now)))
    }

    /// What is needed next, by any. `holds` tells which runs go on.
    pub fn need(&mut self, holds: impl Fn(RunId) -> bool, now: Wall, site: &Site) -> Option<Need> {
        let need = self.0.values_mut().find_map(|entry| entry.need(&holds, now, site));
        self.0.retain(|_, entry| entry.row.finished_at.is_none() || entry.dirty);
        need
    }

    /// A tick has its run, or why it has none. What is to be made durable beside the run.
    pub fn made(
        &mut self,
        id: BackfillId,
        tick: &Tick,
        made: Result<RunId, String>,
        now: Wall,
    ) -> Option<Change> {
        let entry = self.0.get_mut(&id)?;
        entry.row.reached = Some(tick.at);
        let run = made.as_ref().ok().copied();
        match made {
            Ok(run) => {
                entry.row.made += 1;
                entry.row.open.push(run);
                entry.sent.insert(run);
            }
            Err(reason) => {
                entry.row.skipped += 1;
                entry.row.reason = Some(reason);
            }
        }
        Some(entry.change(run, now))
    }

    /// All that was on its way to the store has arrived.
    pub fn arrived(&mut self) {
        self.0.values_mut().for_each(|entry| entry.sent.clear());
    }

    /// A run that the store will not keep counts as skipped; one whose later changes it will not
    /// keep is there.
    pub fn lost(&mut self, run: RunId, reason: &str) {
        let Some(entry) = self.0.values_mut().find(|entry| entry.sent.contains(&run)) else {
            return;
        };
        entry.sent.remove(&run);
        entry.row.open.retain(|other| *other != run);
        entry.row.made = entry.row.made.saturating_sub(1);
        entry.row.skipped += 1;
        entry.row.reason = Some(format!("the store will not keep its run: {reason}"));
        entry.dirty = true;
    }

    /// What came of a retry.
    pub fn retried(&mut self, run: RunId, goes_on: bool) {
        let Some(entry) = self.0.values_mut().find(|entry| entry.row.again.contains(&run)) else {
            return;
        };
        entry.row.again.retain(|other| *other != run);
        entry.asked.remove(&run);
        if goes_on {
            entry.row.open.push(run);
        }
        entry.dirty = true;
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The span of a day in a zone, as a range takes it: up to its last microsecond.
pub fn day(zone: &super::Zone, text: &str) -> Option<(Wall, Wall)> {
    let day: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let start = |day: jiff::civil::Date| zone.read(&format!("{day}T00:00")).ok();
    let end = start(day.tomorrow().ok()?)?;
    Some((start(day)?, Wall(end.0 - Span(1).0)))
}
