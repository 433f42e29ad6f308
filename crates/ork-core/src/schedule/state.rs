//! Which ticks are due, and what becomes of them.
//!
//! A schedule's `decided` is the instant up to which all its ticks have their answer: a run, or a
//! record that they were skipped. It only grows, and what is decided is made durable in one commit
//! with it. So a tick has one answer, whatever restarts, other servers or steps of the clock there
//! are: a clock that is set back finds the ticks decided, one that is set forward finds them missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{MAX_CATCHUP, Tick, Timetable};
use crate::ids::{ProjectId, RunId};
use crate::lang::{RunFacts, bind_scheduled};
use crate::plan::Plan;
use crate::plan::{Catchup, Schedule};
use crate::rows::{Actor, Change, CodeRef, LastTick, ScheduleRow, TickRow, VersionId, VersionRow};
use crate::run::{MAX_MESSAGE, NewRun};
use crate::time::{Span, Wall};
use crate::value::{Digest, INLINE_LIMIT, Value};

/// How late a run may be made and still count as on time: a restart or a change of the leader is
/// no downtime. What is later was missed, and follows the schedule's `catchup`.
pub const LATE: Span = Span::from_secs(60);

/// Ticks that are skipped together are counted up to this many.
pub const MAX_COUNTED: u64 = 10_000;

/// A schedule's name: its project, its workflow and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleKey {
    /// The project.
    pub project: ProjectId,
    /// The workflow.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
}

impl ScheduleKey {
    /// The schedule that a row is of.
    pub fn of(row: &ScheduleRow) -> Self {
        Self { project: row.project, workflow: row.workflow.clone(), name: row.name.clone() }
    }

    /// What jitter is drawn from.
    fn seed(&self) -> String {
        format!("{}/{}/{}", self.project.0, self.workflow, self.name)
    }
}

/// A version as far as its schedules and their runs need it.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// The version's number.
    pub version: VersionId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its code.
    pub code: CodeRef,
}

impl From<VersionRow> for Declared {
    fn from(row: VersionRow) -> Self {
        let VersionRow { project, workflow, version, plan, code, .. } = row;
        Self { project, workflow, version, plan, code }
    }
}

/// How runs are told where they belong.
#[derive(Clone, Debug)]
pub struct Site {
    /// The project's name.
    pub project_name: Arc<str>,
    /// Where a person finds the server.
    pub url: String,
}

impl Site {
    /// Where a person finds a run.
    pub fn run_url(&self, run: RunId) -> String {
        format!("{}/projects/{}/runs/{run}", self.url, self.project_name)
    }
}

/// One or more ticks with one answer. The caller makes the run, if there is one, and hands it to
/// [`Schedules::settle`] in the same turn.
#[derive(Clone, Debug)]
pub struct Due {
    /// The schedule.
    pub key: ScheduleKey,
    /// The tick, or the first of those skipped.
    pub tick: Tick,
    /// The tick, or the last of those skipped.
    pub until: Wall,
    /// How many; counted up to [`MAX_COUNTED`].
    pub count: u64,
    /// The run to be made, or why there is none.
    pub run: Result<Box<NewRun>, String>,
}

/// The schedules of all current versions.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    entries: BTreeMap<ScheduleKey, Entry>,
    /// When each has to be looked at next.
    wakes: BTreeSet<(Wall, ScheduleKey)>,
}

#[derive(Clone, Debug)]
struct Entry {
    row: ScheduleRow,
    table: Timetable,
    version: Arc<Declared>,
    wake: Option<Wall>,
    /// Missed ticks up to here were found to be kept: each makes its run.
    keep_until: Wall,
}

impl Entry {
    fn due(&self, tick: &Tick) -> Wall {
        self.table.due(tick, self.row.spec.jitter, &ScheduleKey::of(&self.row).seed())
    }

    /// Ticks up to here are missed.
    fn cut(&self, now: Wall) -> Wall {
        let late = Wall(now.0 - LATE.0 - self.row.spec.jitter.0);
        self.row.missed_before.map_or(late, |at| at.max(late))
    }

    /// How many of the missed ticks make their runs.
    fn kept(&self, now: Wall) -> usize {
        match self.row.spec.catchup {
            Catchup::None => 0,
            Catchup::Last => {
                let next = self.table.next(self.cut(now).max(self.row.decided));
                let on_time = next.is_some_and(|tick| self.due(&tick) <= now);
                usize::from(!on_time)
            }
            Catchup::All => MAX_CATCHUP,
            Catchup::Max(most) => MAX_CATCHUP.min(most as usize),
        }
    }

    /// The next answer that is due: a tick that makes its run, or the first and the last instant of
    /// those that are skipped together.
    fn next_due(&mut self, now: Wall) -> Option<Result<Tick, (Tick, Wall)>> {
        let (decided, cut) = (self.row.decided, self.cut(now));
        let first = self.table.next(decided)?;
        if first.at <= self.keep_until {
            return Some(Ok(first));
        }
        if first.at > cut {
            return (self.due(&first) <= now).then_some(Ok(first));
        }
        let Some(kept) = self.table.latest(decided, cut, self.kept(now)).first().copied() else {
            return Some(Err((first, cut)));
        };
        self.keep_until = cut;
        Some(if kept == first { Ok(first) } else { Err((first, Wall(kept.at.0 - 1))) })
    }

    /// Where the row stands now, for those who read it.
    fn refresh(&mut self, now: Wall) {
        let next =
            self.table.next(self.row.decided.max(self.row.missed_before.unwrap_or(Wall(i64::MIN))));
        self.row.next = next.map(|tick| tick.at);
        self.row.updated_at = now;
    }
}

impl Schedules {
    /// Takes over what a store has: the rows, and the current versions that declare them.
    pub fn load(&mut self, rows: Vec<ScheduleRow>, versions: &[Arc<Declared>]) {
        *self = Self::default();
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

    fn insert(&mut self, row: ScheduleRow, table: Timetable, version: Arc<Declared>) {
        let key = ScheduleKey::of(&row);
        if let Some(old) = self.entries.remove(&key).and_then(|old| old.wake) {
            self.wakes.remove(&(old, key.clone()));
        }
        self.entries.insert(
            key.clone(),
            Entry { row, table, version, wake: None, keep_until: Wall(i64::MIN) },
        );
        self.arm(&key);
    }

    /// Sets the time at which a schedule has to be looked at.
    fn arm(&mut self, key: &ScheduleKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let asleep = entry.row.paused || entry.row.removed;
        let next = entry.table.next(entry.row.decided).filter(|_| !asleep);
        let wake = next.map(|tick| entry.due(&tick));
        if let Some(old) = std::mem::replace(&mut entry.wake, wake) {
            self.wakes.remove(&(old, key.clone()));
        }
        if let Some(wake) = wake {
            self.wakes.insert((wake, key.clone()));
        }
    }

    /// The first time at which a tick is due.
    pub fn next_wakeup(&self) -> Option<Wall> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// A schedule as it stands.
    pub fn get(&self, key: &ScheduleKey) -> Option<&ScheduleRow> {
        self.entries.get(key).map(|entry| &entry.row)
    }

    /// A version became current: its schedules are those of the workflow. A schedule whose rule is
    /// new begins now; one that is as it was goes on; one that is gone is kept by its name, so that
    /// it does not begin anew when it comes back.
    pub fn deploy(&mut self, version: &Arc<Declared>, now: Wall) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, spec) in &version.plan.schedules {
            let key = ScheduleKey {
                project: version.project,
                workflow: version.workflow.clone(),
                name: name.clone(),
            };
            let Ok(table) = Timetable::new(&spec.when, &spec.timezone) else { continue };
            let row = declared(&key, spec, version, self.get(&key), now);
            let before = self.get(&key).cloned();
            self.insert(row, table, version.clone());
            changes.extend(self.changed(&key, before.as_ref(), now));
        }
        for key in self.of(version.project, &version.workflow) {
            if !version.plan.schedules.contains_key(&key.name) {
                changes.extend(self.remove(&key, Some(version), now));
            }
        }
        changes
    }

    /// A workflow is deleted: its schedules are kept by their names.
    pub fn retire(&mut self, project: ProjectId, workflow: &str, now: Wall) -> Vec<Change> {
        let keys = self.of(project, workflow);
        keys.iter().filter_map(|key| self.remove(key, None, now)).collect()
    }

    fn of(&self, project: ProjectId, workflow: &str) -> Vec<ScheduleKey> {
        let own = |key: &&ScheduleKey| key.project == project && key.workflow == workflow;
        self.entries.keys().filter(own).cloned().collect()
    }

    fn remove(
        &mut self,
        key: &ScheduleKey,
        version: Option<&Arc<Declared>>,
        now: Wall,
    ) -> Option<Change> {
        let before = self.get(key).cloned();
        let entry = self.entries.get_mut(key)?;
        entry.row.removed = true;
        if let Some(version) = version {
            entry.row.version = version.version;
            entry.version = version.clone();
        }
        self.arm(key);
        self.changed(key, before.as_ref(), now)
    }

    /// The row of a schedule, where it is not as it was.
    fn changed(
        &mut self,
        key: &ScheduleKey,
        before: Option<&ScheduleRow>,
        now: Wall,
    ) -> Option<Change> {
        let entry = self.entries.get_mut(key)?;
        if before == Some(&entry.row) {
            return None;
        }
        entry.refresh(now);
        Some(Change::Schedule(Box::new(entry.row.clone()), None))
    }

    /// Pauses a schedule, or resumes it: what it missed follows its `catchup` then. None where
    /// there is no such schedule; no change where it is so already.
    pub fn pause(
        &mut self,
        key: &ScheduleKey,
        paused: bool,
        by: &Actor,
        now: Wall,
    ) -> Option<Option<Change>> {
        let entry = self.entries.get_mut(key).filter(|entry| !entry.row.removed)?;
        let before = entry.row.clone();
        if entry.row.paused != paused {
            entry.row.paused = paused;
            entry.row.changed_by = Some(by.clone());
            entry.keep_until = Wall(i64::MIN);
            if !paused {
                entry.row.missed_before = Some(now);
            }
        }
        self.arm(key);
        Some(self.changed(key, Some(&before), now))
    }

    /// The next answer that is due, if one is. It counts as decided from here on, so that each call
    /// goes on; [`Schedules::settle`] says what is to be made durable.
    pub fn due(&mut self, now: Wall, site: &Site) -> Option<Due> {
        let (_, key) = self.wakes.first().filter(|(at, _)| *at <= now).cloned()?;
        let entry = self.entries.get_mut(&key)?;
        let answer = entry.next_due(now)?;
        let due = decide(entry, &key, answer, now, site);
        entry.row.decided = due.until;
        self.arm(&key);
        Some(due)
    }

    /// What is to be made durable of an answer, beside the run itself: the tick and the schedule.
    /// `made` is the run that was made, or why none was.
    pub fn settle(&mut self, due: &Due, made: Result<RunId, String>, now: Wall) -> Vec<Change> {
        let Some(entry) = self.entries.get_mut(&due.key) else { return Vec::new() };
        let run = made.as_ref().ok().copied();
        entry.row.last = Some(LastTick { tick: due.until, run });
        entry.refresh(now);
        let tick = TickRow {
            project: due.key.project,
            workflow: due.key.workflow.clone(),
            schedule: due.key.name.clone(),
            tick: due.tick.at,
            until: due.until,
            count: due.count,
            logical_time: due.tick.logical_time(),
            run,
            reason: made.err().map(|mut reason| {
                reason.truncate(reason.floor_char_boundary(MAX_MESSAGE));
                reason
            }),
            decided_at: now,
        };
        vec![Change::Tick(Box::new(tick)), Change::Schedule(Box::new(entry.row.clone()), run)]
    }
}

/// The row of a schedule that a version declares.
fn declared(
    key: &ScheduleKey,
    spec: &Schedule,
    version: &Declared,
    known: Option<&ScheduleRow>,
    now: Wall,
) -> ScheduleRow {
    let Some(known) = known else {
        return ScheduleRow {
            project: key.project,
            workflow: key.workflow.clone(),
            name: key.name.clone(),
            version: version.version,
            spec: spec.clone(),
            paused: spec.paused,
            changed_by: None,
            removed: false,
            decided: now,
            missed_before: None,
            next: None,
            last: None,
            updated_at: now,
        };
    };
    let same = |old: &Schedule| (&old.when, &old.timezone) == (&spec.when, &spec.timezone);
    let goes_on = !known.removed && same(&known.spec) && known.spec.paused == spec.paused;
    ScheduleRow {
        version: version.version,
        spec: spec.clone(),
        paused: if known.spec.paused == spec.paused { known.paused } else { spec.paused },
        removed: false,
        decided: if goes_on { known.decided } else { known.decided.max(now) },
        ..known.clone()
    }
}

fn decide(
    entry: &Entry,
    key: &ScheduleKey,
    answer: Result<Tick, (Tick, Wall)>,
    now: Wall,
    site: &Site,
) -> Due {
    match answer {
        Ok(tick) => {
            let run = scheduled_run(entry, key, &tick, now, site).map(Box::new);
            Due { key: key.clone(), tick, until: tick.at, count: 1, run }
        }
        Err((first, until)) => {
            let most = usize::try_from(MAX_COUNTED).unwrap_or(usize::MAX);
            let count = entry.table.ticks(entry.row.decided, until).take(most).count() as u64;
            let last = entry.table.last(entry.row.decided, until).map_or(first.at, |tick| tick.at);
            let run = Err(missed(entry.row.spec.catchup).to_owned());
            Due { key: key.clone(), tick: first, until: last, count, run }
        }
    }
}

fn missed(catchup: Catchup) -> &'static str {
    match catchup {
        Catchup::None => "missed, and `catchup` is none",
        Catchup::Last => "missed, and `catchup` is for the last alone",
        Catchup::All => "missed, and more than catch-up makes up for",
        Catchup::Max(_) => "missed, and older than those that `catchup` is for",
    }
}

fn scheduled_run(
    entry: &Entry,
    key: &ScheduleKey,
    tick: &Tick,
    now: Wall,
    site: &Site,
) -> Result<NewRun, String> {
    let trigger = format!("schedule:{}", key.name);
    let id = run_id(&format!("{}/{trigger}@{}", key.seed(), tick.at.0), now);
    let by = Actor { name: "system".into(), ..Actor::default() };
    tick_run(&entry.version, &entry.row.spec, tick, id, trigger, by, site)
}

/// The run of a tick.
///
/// # Errors
/// Why its params cannot be had.
pub(super) fn tick_run(
    version: &Declared,
    spec: &Schedule,
    tick: &Tick,
    id: RunId,
    trigger: String,
    by: Actor,
    site: &Site,
) -> Result<NewRun, String> {
    let (logical_time, url) = (tick.logical_time(), site.run_url(id));
    let facts = RunFacts {
        id: id.to_string(),
        workflow: version.workflow.clone(),
        project: site.project_name.to_string(),
        logical_time: logical_time.clone(),
        url: url.clone(),
    };
    let params = bind_scheduled(&version.plan, &spec.params, &facts)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    fitting(&params)?;
    Ok(NewRun {
        project: version.project,
        project_name: site.project_name.clone(),
        id,
        version: version.version,
        plan: version.plan.clone(),
        code: version.code.clone(),
        params,
        logical_time,
        labels: indexmap::IndexMap::new(),
        trigger,
        url,
        rerun_of: None,
        after: None,
        by,
    })
}

/// Refuses params that are more than a row holds.
pub(crate) fn fitting(params: &Value) -> Result<(), String> {
    let bytes = params.to_string().len();
    if bytes <= INLINE_LIMIT {
        return Ok(());
    }
    Err(format!("its params have {bytes} bytes as JSON, and {INLINE_LIMIT} is the most"))
}

/// A version 7 UUID made at an instant, its chance drawn from a hash.
pub(crate) fn run_id(seed: &str, now: Wall) -> RunId {
    let digest = Digest::of(seed.as_bytes());
    let mut chance = [0; 10];
    chance.copy_from_slice(&digest.0[..10]);
    let millis = u64::try_from(now.0 / 1_000).unwrap_or(0);
    RunId(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid())
}
