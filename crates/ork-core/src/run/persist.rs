//! Runs as rows, and rows as runs. Deadlines are kept as what is left of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{InstancePath, Token};
use crate::plan::{Action, Scope};
use crate::rows::{
    ActiveRun, AttemptRow, CacheKey, CacheNote, Change, LogSummary, RunRow, TaskRow,
};
use crate::run::active::{Cx, Desk, Facts, Run, RunStop, Stage};
use crate::run::approval::Decided;
use crate::run::inside::{Inside, Kind};
use crate::run::instance::{Closing, Hold, Instance, ItemOf, Ix, Lease, Phase, Rare, Stop};
use crate::run::level::{Root, Shape};
use crate::run::map::Map as Items;
use crate::run::mark::Successor;
use crate::run::signals::Signals;
use crate::run::timers::Owner;
use crate::run::values::Map;
use crate::run::wait::Deferral;
use crate::run::{AttemptState, Failure, RunState, StopReason, TaskState};
use crate::time::{Mono, Now, Span, Wall};
use crate::value::{Data, Value};

/// A deadline in a row: what was left of it, and when.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Left {
    left: Span,
    at: Wall,
}

impl Left {
    fn of(due: Mono, now: Now) -> Self {
        Self { left: Span((due - now.mono).0.max(0)), at: now.wall }
    }

    /// The deadline on the clock of this process. However the civil clock stepped, no more is left
    /// than was, and no less than nothing.
    fn due(self, now: Now) -> Mono {
        let passed = (now.wall - self.at).0.clamp(0, self.left.0.max(0));
        now.mono + Span(self.left.0 - passed)
    }

    /// The deadline where time in which nobody leads does not count.
    fn paused(self, now: Now) -> Mono {
        now.mono + self.left
    }
}

/// The most rows of a new run's instances that are written at once.
const ROWS: usize = 400;

#[derive(Debug, Default, Serialize, Deserialize)]
struct RunDetail {
    project_name: Arc<str>,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<(StopReason, bool)>,
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    signals: Signals,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    key: Arc<str>,
    #[serde(default)]
    admitted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aside: Option<Failure>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct TaskDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<Left>,
    #[serde(default, skip_serializing_if = "is_zero")]
    lost: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    interrupted: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reported: Option<Token>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<StopDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beats: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deferral: Option<Deferral>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wake: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patience: Option<Span>,
    #[serde(default, skip_serializing_if = "is_zero")]
    polls: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided: Option<Decided>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_key: Option<CacheKey>,
    /// Of an item: its place, and the series of its map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    item: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<InsideDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<Arc<str>>,
}

/// An inside. Instances are where the first of each level is.
#[derive(Debug, Serialize, Deserialize)]
struct InsideDetail {
    of: u32,
    series: u32,
    kind: KindDetail,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindDetail {
    Dag {
        first: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<Arc<Scope>>,
    },
    Call {
        body: u32,
        finally: u32,
        params: Value,
    },
    Map {
        items: Data,
        total: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct StopDetail {
    reason: StopReason,
    failure: Failure,
    last: bool,
    #[serde(default)]
    forced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<Box<Successor>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Run {
    /// Appends the rows that changed, each once: the run's, instances', ended attempts, and those
    /// under way.
    ///
    /// Of a new run's instances to which nothing happened only so many are written at once. One
    /// without a row is pending, for whoever loads it.
    pub(super) fn write(&mut self, now: Now, changes: &mut Vec<Change>) {
        self.touched = false;
        self.decided = 0;
        if std::mem::take(&mut self.dirty) {
            changes.push(Change::Run(Box::new(self.row(now))));
        }
        let ended = std::mem::take(&mut self.ended);
        changes.extend(ended.into_iter().map(|row| Change::Attempt(Box::new(row))));
        let upto = self.unwritten.saturating_add(ROWS).min(self.instances.len());
        for ix in (self.unwritten..upto).map(Ix::new) {
            let instance = self.instance_mut(ix);
            if !instance.dirty && !instance.is_void() && matches!(instance.phase, Phase::Pending) {
                instance.dirty = true;
                self.written.push(ix);
            }
        }
        if self.unwritten < upto {
            self.unwritten = upto;
        }
        let mut written = std::mem::take(&mut self.written);
        written.sort_unstable();
        for ix in written {
            changes.push(Change::Task(Box::new(self.task_row(ix, now))));
            self.instance_mut(ix).dirty = false;
            if std::mem::take(&mut self.instance_mut(ix).attempt_dirty) {
                changes.extend(self.open_attempt(ix).map(|row| Change::Attempt(Box::new(row))));
            }
        }
    }

    /// Appends the rows of all instances and of the attempts under way.
    pub(super) fn rows(&self, now: Now, changes: &mut Vec<Change>) {
        for ix in (0..self.instances.len()).map(Ix::new) {
            if self.instance(ix).is_void() {
                continue;
            }
            changes.push(Change::Task(Box::new(self.task_row(ix, now))));
            changes.extend(self.open_attempt(ix).map(|row| Change::Attempt(Box::new(row))));
        }
    }

    pub(super) fn row(&self, now: Now) -> RunRow {
        let facts = &self.facts;
        let detail = RunDetail {
            project_name: Arc::clone(&facts.project_name),
            url: facts.url.clone(),
            due: self.due.map(|due| Left::of(due, now)),
            stop: self.stop.map(|stop| (stop.reason, stop.forced)),
            signals: self.signals.clone(),
            key: Arc::clone(&self.key_value),
            admitted: self.admitted,
            aside: self.aside.clone(),
        };
        RunRow {
            project: facts.project,
            id: self.id,
            workflow: facts.workflow.to_string(),
            version: facts.version,
            state: self.stage.state(),
            run_attempt: self.round,
            params: self.frames[0].params.clone(),
            logical_time: facts.logical_time.to_string(),
            labels: facts.labels.clone(),
            trigger: facts.trigger.clone(),
            created_by: facts.created_by.clone(),
            created_at: facts.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            failure: self.failure.clone(),
            output: self.output.clone(),
            rerun_of: facts.rerun_of,
            after: facts.after,
            paused: self.paused.clone(),
            detail: json(&detail),
        }
    }

    fn task_row(&self, ix: Ix, now: Now) -> TaskRow {
        let instance = self.instance(ix);
        let cause = instance.cause.map(|cause| self.instance(cause).path.clone());
        TaskRow {
            project: self.facts.project,
            run: self.id,
            path: instance.path.clone(),
            ordinal: ix.0,
            generation: instance.generation,
            state: instance.state(),
            attempt: instance.attempt,
            cause,
            failure: instance.failure.as_deref().cloned(),
            inputs: instance.inputs.as_deref().cloned(),
            output: instance.output.as_deref().cloned(),
            queued_at: instance.queued_at,
            started_at: instance.started_at,
            finished_at: instance.finished_at,
            marked: instance.rare().marked,
            cache: instance.rare().note.clone(),
            detail: json(&TaskDetail {
                inside: self.inside_detail(ix),
                ..task_detail(instance, now)
            }),
        }
    }

    fn open_attempt(&self, ix: Ix) -> Option<AttemptRow> {
        let phase = &self.instance(ix).phase;
        let state = match phase {
            Phase::Offered { .. } => AttemptState::Dispatched,
            Phase::Running(_) => AttemptState::Running,
            Phase::Stopping(_) => AttemptState::Stopping,
            Phase::Pending
            | Phase::Queued { .. }
            | Phase::Deferred(_)
            | Phase::Open(_)
            | Phase::Over(_) => return None,
        };
        phase.lease().map(|lease| self.attempt_row(ix, lease, state))
    }

    /// The row of an instance's last attempt.
    pub(super) fn attempt_row(&self, ix: Ix, lease: &Lease, state: AttemptState) -> AttemptRow {
        let instance = self.instance(ix);
        AttemptRow {
            project: self.facts.project,
            run: self.id,
            path: instance.path.clone(),
            generation: instance.generation,
            attempt: instance.attempt,
            token: lease.token,
            worker: lease.worker.clone(),
            state,
            offered_at: lease.offered_at,
            started_at: lease.started_at,
            finished_at: None,
            failure: None,
            logs: LogSummary::default(),
            artifacts: None,
        }
    }

    /// Whether there is more to decide or to write than was.
    pub(super) fn has_more(&self) -> bool {
        !self.todo.is_empty() || self.unwritten < self.instances.len() || self.aside.is_some()
    }

    /// The run that the rows tell of. When they make no sense, the second part says why.
    pub(super) fn restore(active: ActiveRun, cx: &mut Cx<'_>) -> (Self, Result<(), String>) {
        let ActiveRun { run: row, version, tasks, attempts, last_seq, damage } = active;
        let detail: Result<RunDetail, _> = serde_json::from_value(row.detail);
        let broken = detail.as_ref().err().map(|error| format!("the run's detail: {error}"));
        let detail = detail.unwrap_or_default();
        let facts = Facts {
            project: row.project,
            project_name: detail.project_name,
            workflow: row.workflow.into(),
            version: row.version,
            logical_time: row.logical_time.into(),
            labels: row.labels,
            trigger: row.trigger,
            url: detail.url,
            rerun_of: row.rerun_of,
            after: row.after,
            created_by: row.created_by,
            created_at: row.created_at,
        };
        let (plan, code) = (Arc::clone(&version.plan), version.code.clone());
        let mut run = Self::new(row.id, facts, plan, row.params, code);
        run.seq = last_seq;
        run.round = row.run_attempt;
        run.started_at = row.started_at;
        run.finished_at = row.finished_at;
        run.failure = row.failure;
        run.output = row.output;
        run.paused = row.paused;
        run.signals = detail.signals;
        run.rests = run.is_paused(cx.desk);
        run.key_value = detail.key;
        run.admitted = detail.admitted;
        run.aside = detail.aside;
        run.stop = detail.stop.map(|(reason, forced)| RunStop { reason, forced });
        run.stage = match row.state {
            RunState::Pending => Stage::Pending,
            RunState::Running => Stage::Body,
            state => Stage::Over(state),
        };
        run.rebase(detail.due, cx);
        if run.round == 1 && !matches!(run.stage, Stage::Over(_)) {
            run.recall(cx);
        }
        let restored = broken.map_or_else(|| run.restore_tasks(tasks, attempts, cx), Err);
        (run, damage.map_or(restored, Err))
    }

    fn rebase(&mut self, due: Option<Left>, cx: &mut Cx<'_>) {
        self.due = due.map(|left| left.due(cx.now));
        if let Some(at) = self.due {
            cx.desk.timers.set(at, Owner::Run(self.id));
        }
    }

    fn restore_tasks(
        &mut self,
        tasks: Vec<TaskRow>,
        attempts: Vec<AttemptRow>,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let mut open: Map<InstancePath, AttemptRow> = Map::default();
        for row in attempts {
            let known = open.get(&row.path).map(|row| (row.generation, row.attempt));
            if known < Some((row.generation, row.attempt)) {
                open.insert(row.path.clone(), row);
            }
        }
        let mut seen = Vec::new();
        let mut causes = Vec::new();
        let mut tasks = tasks;
        tasks.sort_unstable_by_key(|row| row.ordinal);
        for mut row in tasks {
            let detail: TaskDetail = serde_json::from_value(std::mem::take(&mut row.detail))
                .map_err(|e| format!("{}: {e}", row.path))?;
            let Some(ix) = self.place_of(&row, &detail)? else { continue };
            seen.push(ix);
            causes.extend(row.cause.clone().map(|cause| (ix, cause)));
            let attempt = open.remove(&row.path).filter(|a| a.generation == row.generation);
            self.restore_task(ix, row, detail, attempt, cx)?;
        }
        for (ix, cause) in causes {
            self.instance_mut(ix).cause = self.by_path.get(&cause).copied();
        }
        self.first_unseen(&seen, cx.desk);
        self.recount_all()
    }

    /// The instance that a row is of; none for what an earlier DAG made at run time left.
    fn place_of(&mut self, row: &TaskRow, detail: &TaskDetail) -> Result<Option<Ix>, String> {
        let ix = Ix(row.ordinal);
        if let Some(&known) = self.by_path.get(&row.path) {
            let fits = known == ix;
            return if fits { Ok(Some(ix)) } else { Err(format!("{} is out of place", row.path)) };
        }
        let outer = |end: char| row.path.as_str().rfind(end).map(|at| &row.path.as_str()[..at]);
        if let Some((index, series)) = detail.item {
            let map = outer('[').and_then(|path| self.by_path.get(path).copied());
            let Some(map) = map else { return self.left_over(row) };
            let of = self.instance(map);
            let mut instance = Instance::new(row.path.clone(), of.level, of.task, 0);
            instance.item = Some(ItemOf { map, index, series });
            self.put(ix, instance);
            self.by_path.insert(row.path.clone(), ix);
            return Ok(Some(ix));
        }
        self.left_over(row)
    }

    /// What an earlier DAG made at run time left is kept in mind, since what comes under the same
    /// path is its next generation.
    fn left_over(&mut self, row: &TaskRow) -> Result<Option<Ix>, String> {
        let path = row.path.as_str();
        let outer = path.match_indices(['/', '[']).map(|(at, _)| &path[..at]);
        let made = |path: &str| {
            let ix = self.by_path.get(path);
            ix.is_some_and(|ix| matches!(self.task(*ix).action, Action::Generate { .. }))
        };
        if !outer.into_iter().any(made) {
            return Err(format!("its plan has no task {path}"));
        }
        let ix = Ix(row.ordinal);
        if self.instances.len() <= ix.at() {
            self.put(ix, Instance::void());
        }
        self.generations.insert(row.path.clone(), row.generation);
        Ok(None)
    }

    fn first_unseen(&mut self, seen: &[Ix], desk: &mut Desk) {
        let mut rows = vec![false; self.instances.len()];
        for ix in seen {
            rows[ix.at()] = true;
        }
        let unseen = |at: &usize| !rows[*at] && !self.instances[*at].is_void();
        // A run that never began has no rows of instances.
        let began = self.stage != Stage::Over(RunState::Skipped);
        let first = (0..rows.len()).find(unseen).filter(|_| began);
        self.unwritten = first.unwrap_or(usize::MAX);
        if first.is_some() {
            self.touch(desk);
        }
    }

    fn recount_all(&mut self) -> Result<(), String> {
        let mut items = Vec::new();
        for ix in (0..self.instances.len()).map(Ix::new) {
            if self.instance(ix).is_void() {
                continue;
            }
            self.recount(ix);
            items
                .extend(self.instance(ix).item.map(|item| (item.map, item.index, item.series, ix)));
        }
        for level in 0..self.levels.len() {
            self.levels[level].open = self.open_in(level);
        }
        items.sort_unstable_by_key(|(map, index, ..)| (*map, *index));
        for (map, index, series, ix) in items {
            let now = self.instance(map).inside.as_deref().map(|inside| inside.series);
            if now == Some(series) {
                self.restore_item(map, index, ix)?;
            }
        }
        self.recount_ready();
        Ok(())
    }

    /// What stands in a queue was restored before the maps that it is inside of, perhaps.
    fn recount_ready(&mut self) {
        let all = (0..self.instances.len()).map(Ix::new);
        let standing = all.clone().filter(|ix| !self.instance(*ix).is_void());
        let standing: Vec<Ix> = standing.filter(|ix| self.is_standing(*ix)).collect();
        for ix in all {
            if let Some(map) = self.map_mut(ix) {
                map.ready = 0;
            }
        }
        for ix in standing {
            self.count_ready(ix, true);
        }
    }

    fn restore_item(&mut self, map: Ix, index: u32, ix: Ix) -> Result<(), String> {
        let state = self.instance(ix).state();
        let path = self.instance(map).path.clone();
        let Some(map) = self.map_mut(map) else { return Err(format!("{path} has no items")) };
        if map.made.len() != index as usize {
            return Err(format!("item {} of {path} is missing", map.made.len()));
        }
        map.made.push(ix);
        if state.is_terminal() {
            map.count(state, true);
        } else {
            map.open += 1;
        }
        if state == TaskState::Pending {
            self.await_place(ix);
        }
        Ok(())
    }

    fn inside_detail(&self, ix: Ix) -> Option<InsideDetail> {
        let inside = self.instance(ix).inside.as_deref()?;
        let first = |level: u32| self.levels[level as usize].first;
        let kind = match &inside.kind {
            Kind::Dag { level, made } => {
                KindDetail::Dag { first: first(*level), made: made.clone() }
            }
            Kind::Call(frame) => {
                let frame = &self.frames[*frame as usize];
                let (body, finally) = (first(frame.body), first(frame.finally));
                KindDetail::Call { body, finally, params: frame.params.clone() }
            }
            Kind::Map(map) => KindDetail::Map { items: map.data.clone(), total: map.total },
        };
        Some(InsideDetail { of: inside.of, series: inside.series, kind })
    }

    fn restore_inside(&mut self, ix: Ix, detail: InsideDetail) -> Result<(), String> {
        let InsideDetail { of, series, kind } = detail;
        let (task, path) = (self.held_task(ix), self.instance(ix).path.clone());
        let (frame, part) = (self.level(ix).frame, self.level(ix).part);
        let kind = match (kind, &task.action) {
            (KindDetail::Map { items, total }, _) => Kind::Map(Items::new(items, None, total)),
            (KindDetail::Dag { first, made: Some(made) }, _) => {
                let shape = Shape::of(Root::Made(Arc::clone(&made)));
                let level = self.put_level(shape, frame, Some(ix), part, Ix(first));
                Kind::Dag { level, made: Some(made) }
            }
            (KindDetail::Dag { first, made: None }, Action::Group { .. }) => {
                let shape = self.shape_inside(ix);
                let level = self.put_level(shape, frame, Some(ix), part, Ix(first));
                Kind::Dag { level, made: None }
            }
            (
                KindDetail::Call { body, finally, params },
                Action::Call { pinned: Some(pinned), .. },
            ) => {
                let (plan, code) = (Arc::clone(&pinned.plan), pinned.code.clone());
                Kind::Call(self.put_frame(Some(ix), plan, params, code, [Ix(body), Ix(finally)]))
            }
            _ => return Err(format!("{path} is not what it was when it began")),
        };
        self.instance_mut(ix).inside = Some(Box::new(Inside { of, series, kind }));
        self.set_output_type(ix);
        Ok(())
    }

    /// How many instances of a level are not over.
    pub(super) fn open_in(&self, level: usize) -> u32 {
        let open = self.levels[level].all().filter(|ix| !self.instance(*ix).state().is_terminal());
        Ix::new(open.count()).0
    }

    fn restore_task(
        &mut self,
        ix: Ix,
        row: TaskRow,
        detail: TaskDetail,
        attempt: Option<AttemptRow>,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let instance = self.instance_mut(ix);
        instance.generation = row.generation;
        instance.attempt = row.attempt;
        instance.lost = detail.lost;
        instance.interrupted = detail.interrupted;
        instance.reported = detail.reported;
        instance.pool.clone_from(&detail.pool);
        instance.failure = row.failure.map(Box::new);
        instance.inputs = row.inputs.map(Box::new);
        instance.output = row.output.map(Box::new);
        instance.queued_at = row.queued_at;
        instance.started_at = row.started_at;
        instance.finished_at = row.finished_at;
        // The order to stop may not have left yet, so its time begins when it is given again.
        let stopping = row.state == TaskState::Stopping;
        let due = detail.due.map(|l| if stopping { l.paused(cx.now) } else { l.due(cx.now) });
        let rare = detail.rare(row.marked, row.cache, cx.now);
        if let Some(rare) = rare {
            *instance.rare_mut() = rare;
        }
        let lease = attempt.map(|row| Lease {
            token: row.token,
            worker: row.worker,
            offered_at: row.offered_at,
            started_at: row.started_at,
            beats: detail.beats,
        });
        let open = detail.inside.is_some();
        let retry = detail.wake.is_some();
        instance.phase = match row.state {
            TaskState::Running if open => Some(Phase::Open(None)),
            TaskState::Stopping if open => detail.stop.map(closing),
            state => phase(state, due, retry, lease, detail.stop, detail.deferral),
        }
        .ok_or_else(|| format!("{} is {:?}, without what that needs", row.path, row.state))?;
        if let Some(inside) = detail.inside {
            self.restore_inside(ix, inside)?;
        }
        self.restore_call_place(ix, cx.desk);
        self.settle_in(ix, due, cx);
        Ok(())
    }

    /// Takes what the phase of a restored instance holds.
    fn settle_in(&mut self, ix: Ix, due: Option<Mono>, cx: &mut Cx<'_>) {
        let soon = cx.now.mono + cx.desk.config.claim;
        if let Some(lease) = self.instance(ix).phase.lease() {
            let (worker, token) = (lease.worker.clone(), lease.token);
            if let Some(taken) = self.taken(ix) {
                cx.desk.pools.take(token, taken);
            }
            cx.desk.workers.take(&worker, self.key(ix));
            cx.desk.renew(&worker, cx.now);
        }
        match &self.instance(ix).phase {
            Phase::Stopping(stop) => {
                let at = stop.until.min(soon);
                self.arm(ix, at, cx.desk);
            }
            Phase::Open(_) => {
                if let Some(at) = due {
                    self.arm(ix, at, cx.desk);
                }
            }
            Phase::Running(_) => {
                self.beat(ix, cx);
                self.arm_due(ix, cx.desk);
            }
            _ => self.arm_due(ix, cx.desk),
        }
        self.enter_queue(ix, cx.desk);
        self.enter_wait(ix, cx.desk);
    }
}

fn phase(
    state: TaskState,
    due: Option<Mono>,
    retry: bool,
    lease: Option<Lease>,
    stop: Option<StopDetail>,
    deferral: Option<Deferral>,
) -> Option<Phase> {
    Some(match state {
        TaskState::Pending => Phase::Pending,
        TaskState::Queued => {
            let hold = if retry { Hold::Retry } else { Hold::Ready };
            Phase::Queued { hold, unclaimed: lease.map(Box::new) }
        }
        TaskState::Dispatched => Phase::Offered { lease: lease?, confirmed: false, kept: true },
        TaskState::Running => Phase::Running(lease?),
        TaskState::Stopping => {
            let StopDetail { reason, failure, last, successor, .. } = stop?;
            let (lease, until) = (lease?, due?);
            Phase::Stopping(Box::new(Stop { lease, reason, failure, until, last, successor }))
        }
        TaskState::Deferred => Phase::Deferred(Box::new(deferral?)),
        over => Phase::Over(over),
    })
}

fn task_detail(instance: &Instance, now: Now) -> TaskDetail {
    let (due, stop) = match &instance.phase {
        Phase::Stopping(stop) => {
            let Stop { reason, failure, last, until, successor, .. } = &**stop;
            let (failure, successor) = (failure.clone(), successor.clone());
            let detail =
                StopDetail { reason: *reason, failure, last: *last, forced: false, successor };
            (Some(*until), Some(detail))
        }
        Phase::Open(None) => (instance.due, None),
        Phase::Open(Some(closing)) => {
            let Closing { reason, failure, forced } = Closing::clone(closing);
            (None, Some(StopDetail { reason, failure, last: true, forced, successor: None }))
        }
        _ => (None, None),
    };
    let deferral = match &instance.phase {
        Phase::Deferred(deferral) => Some(Deferral::clone(deferral)),
        _ => None,
    };
    let rare = instance.rare();
    let left = |at: Option<Mono>| at.map(|at| Left::of(at, now));
    TaskDetail {
        due: left(due),
        lost: instance.lost,
        interrupted: instance.interrupted,
        reported: instance.reported,
        stop,
        beats: instance.phase.lease().and_then(|lease| lease.beats),
        deferral,
        wake: left(rare.wake),
        limit: left(rare.limit),
        expires: left(rare.expires),
        patience: rare.patience,
        polls: rare.polls,
        decided: rare.decided.clone(),
        cache_key: rare.cache,
        item: instance.item.map(|item| (item.index, item.series)),
        inside: None,
        pool: instance.pool.clone(),
    }
}

fn closing(detail: StopDetail) -> Phase {
    let StopDetail { reason, failure, forced, .. } = detail;
    Phase::Open(Some(Box::new(Closing { reason, failure, forced })))
}

impl TaskDetail {
    /// What few instances have, if this one has any of it.
    fn rare(&self, marked: bool, note: Option<CacheNote>, now: Now) -> Option<Rare> {
        let due = |left: Option<Left>| left.map(|left| left.due(now));
        let (wake, limit, expires) = (due(self.wake), due(self.limit), due(self.expires));
        let none = (wake, limit, expires) == (None, None, None)
            && (self.patience, self.polls, marked) == (None, 0, false)
            && self.decided.is_none()
            && self.cache_key.is_none()
            && note.is_none();
        (!none).then(|| Rare {
            wake,
            limit,
            expires,
            patience: self.patience,
            polls: self.polls,
            marked,
            decided: self.decided.clone(),
            cache: self.cache_key,
            note,
            ..Rare::default()
        })
    }
}

/// These structures always have a JSON form.
fn json(detail: &impl Serialize) -> Value {
    serde_json::to_value(detail).unwrap_or_default()
}

impl Desk {
    /// A worker is alive, or may be: its lease runs anew.
    pub(super) fn renew(&mut self, id: &crate::ids::WorkerId, now: Now) {
        let due = now.mono + self.config.lease;
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.near {
            (worker.due, worker.timer) = (None, None);
            return;
        }
        worker.due = Some(due);
        if worker.timer.is_none() {
            worker.timer = Some(due);
            self.timers.set(due, Owner::Worker(id.clone()));
        }
    }
}
