//! A store in memory: for tests, simulation, and runs that need not outlive the process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ork_core::ids::{BackfillId, Epoch, InstancePath, ProjectId, RunId};
use ork_core::rows::{
    ActiveRun, AnswerRow, AttemptRow, BackfillRow, CacheKey, CacheRow, Change, EventRow, FiringRow,
    HistoryRow, PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId,
    VersionRow, WorkflowRow,
};
use ork_core::run::TaskState;
use ork_core::time::Wall;
use ork_core::value::Digest;

use crate::damage;
use crate::{
    Cached, CommitSeq, Committed, DRAFT_GRACE, Items, Page, Result, Retention, RunFilter, Store,
    StoreError, check, page, refs,
};

type RunKey = (ProjectId, RunId);

/// A store in memory. Its clones are the same store, as several openings of one database would be.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    epoch: Epoch,
    last: CommitSeq,
    runs: BTreeMap<RunKey, RunRow>,
    tasks: BTreeMap<(RunKey, InstancePath), TaskRow>,
    attempts: BTreeMap<(RunKey, InstancePath, (u32, u32)), AttemptRow>,
    events: BTreeMap<(RunKey, u64), (CommitSeq, u32)>,
    feed: BTreeMap<(CommitSeq, u32), Arc<EventRow>>,
    workflows: BTreeMap<(ProjectId, String), WorkflowRow>,
    history: BTreeMap<(ProjectId, String), Vec<HistoryRow>>,
    versions: BTreeMap<(ProjectId, String, VersionId), Arc<VersionRow>>,
    answers: BTreeMap<(ProjectId, String), AnswerRow>,
    pauses: BTreeMap<(ProjectId, Option<String>), PauseRow>,
    cache: BTreeMap<(ProjectId, String, String, Digest), CacheRow>,
    schedules: BTreeMap<(ProjectId, String, String), ScheduleRow>,
    ticks: BTreeMap<TickKey, TickRow>,
    pools: BTreeMap<(ProjectId, String), PoolRow>,
    triggers: BTreeMap<(ProjectId, String, String), TriggerRow>,
    firings: BTreeMap<FiringKey, FiringRow>,
    backfills: BTreeMap<(ProjectId, BackfillId), BackfillRow>,
}

type FiringKey = (ProjectId, RunId, String, String);

fn firing_key(row: &FiringRow) -> FiringKey {
    (row.project, row.source, row.workflow.clone(), row.trigger.clone())
}

type TickKey = (ProjectId, String, String, Wall);

fn tick_key(row: &TickRow) -> TickKey {
    (row.project, row.workflow.clone(), row.schedule.clone(), row.tick)
}

impl State {
    fn leads(&self, ours: Epoch) -> Result<()> {
        if self.epoch == ours { Ok(()) } else { Err(StoreError::Fenced { ours }) }
    }

    /// What cannot be told from a change alone. Nothing has been applied yet.
    fn check(&self, changes: &[Change]) -> Result<()> {
        let mut events = HashSet::new();
        let mut runs: HashMap<RunKey, &RunRow> = HashMap::new();
        let mut digests = HashMap::new();
        let (mut ticks, mut firings) = (HashSet::new(), HashMap::new());
        for change in changes {
            match change {
                Change::Event(row) => {
                    let key = ((row.project, row.run), row.seq);
                    if self.events.contains_key(&key) || !events.insert(key) {
                        return refuse(format!("event {} of run {} is there", row.seq, row.run));
                    }
                }
                Change::Run(row) => {
                    let key = (row.project, row.id);
                    let before = runs.insert(key, row).or_else(|| self.runs.get(&key));
                    if before.is_some_and(|before| identity(before) != identity(row)) {
                        return refuse(format!("run {} is there as another", row.id));
                    }
                }
                Change::Version(row) => self.check_version(row, &mut digests)?,
                Change::Tick(row) => {
                    let key = tick_key(row);
                    if self.ticks.contains_key(&key) || !ticks.insert(key) {
                        return refuse(check::answered(row));
                    }
                }
                Change::Firing(row) => {
                    let key = firing_key(row);
                    let known = self.firings.get(&key).map(|known| known.decided_at.is_some());
                    let known = firings.get(&key).copied().or(known);
                    if row.decided_at.is_some() && known != Some(false) {
                        return refuse(check::not_open(row));
                    }
                    firings.insert(key, known == Some(true) || row.decided_at.is_some());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_version<'a>(
        &self,
        row: &'a VersionRow,
        digests: &mut HashMap<(ProjectId, &'a str, bool, Digest), VersionId>,
    ) -> Result<()> {
        let key = (row.project, row.workflow.clone(), row.version);
        if self.versions.contains_key(&key) {
            return Ok(());
        }
        let draft = row.version.is_draft();
        let content = (row.project, row.workflow.as_str(), draft, row.digest);
        let same = self.by_digest(row.project, &row.workflow, &row.digest, draft);
        let before = same.map(|same| same.version).or_else(|| digests.get(&content).copied());
        if before.is_some_and(|before| before != row.version) {
            let (version, workflow) = (row.version.0, &row.workflow);
            return refuse(format!("version {version} of `{workflow}` is there as another"));
        }
        digests.insert(content, row.version);
        Ok(())
    }

    fn by_digest(
        &self,
        project: ProjectId,
        workflow: &str,
        digest: &Digest,
        draft: bool,
    ) -> Option<&VersionRow> {
        self.versions_of(project, workflow)
            .find(|row| row.digest == *digest && row.version.is_draft() == draft)
    }

    fn versions_of(
        &self,
        project: ProjectId,
        workflow: &str,
    ) -> impl DoubleEndedIterator<Item = &VersionRow> {
        let bound = |version| (project, workflow.to_owned(), VersionId(version));
        self.versions.range(bound(i64::MIN)..=bound(i64::MAX)).map(|(_, row)| &**row)
    }

    fn apply(&mut self, change: &Change, position: &mut u32) {
        match change {
            Change::Run(row) => drop(self.runs.insert((row.project, row.id), (**row).clone())),
            Change::Task(row) => {
                let key = ((row.project, row.run), row.path.clone());
                self.tasks.insert(key, (**row).clone());
            }
            Change::Attempt(row) => {
                let number = (row.generation, row.attempt);
                let key = ((row.project, row.run), row.path.clone(), number);
                self.attempts.insert(key, (**row).clone());
            }
            Change::Event(row) => {
                let place = (self.last, *position);
                *position += 1;
                self.events.insert(((row.project, row.run), row.seq), place);
                self.feed.insert(place, Arc::clone(row));
            }
            Change::Workflow(row) => {
                self.workflows.insert((row.project, row.name.clone()), (**row).clone());
            }
            Change::History(row) => {
                let key = (row.project, row.workflow.clone());
                let rows = self.history.entry(key).or_default();
                let number = rows.len() as u64 + 1;
                rows.push(HistoryRow { number, ..(**row).clone() });
            }
            Change::Version(row) => {
                let key = (row.project, row.workflow.clone(), row.version);
                self.versions.entry(key).or_insert_with(|| Arc::new((**row).clone()));
            }
            Change::Answer(row) => {
                self.answers.insert((row.project, row.key.clone()), (**row).clone());
            }
            Change::Schedule(row, _) => {
                let key = (row.project, row.workflow.clone(), row.name.clone());
                self.schedules.insert(key, (**row).clone());
            }
            Change::Trigger(row) => {
                let key = (row.project, row.workflow.clone(), row.name.clone());
                self.triggers.insert(key, (**row).clone());
            }
            Change::Firing(row) => {
                let slot = self.firings.entry(firing_key(row)).or_insert_with(|| (**row).clone());
                if row.decided_at.is_some() {
                    slot.clone_from(row);
                }
            }
            Change::Tick(row) => drop(self.ticks.insert(tick_key(row), (**row).clone())),
            Change::Backfill(row, _) => {
                self.backfills.insert((row.project, row.id), (**row).clone());
            }
            Change::Pause(row) => {
                self.pauses.insert((row.project, row.workflow.clone()), (**row).clone());
            }
            Change::Cache(row) => {
                let (workflow, task) = (row.workflow.clone(), row.task.clone());
                let key = (row.project, workflow, task, row.key.digest());
                self.cache.insert(key, (**row).clone());
            }
            Change::Pool(row) => {
                let key = (row.project, row.name.clone());
                match row.slots {
                    Some(_) => drop(self.pools.insert(key, (**row).clone())),
                    None => drop(self.pools.remove(&key)),
                }
            }
        }
    }

    fn tasks_of(&self, run: RunKey) -> Vec<&TaskRow> {
        let from = (run, InstancePath::from(""));
        let rows = self.tasks.range(from..).take_while(|((of, _), _)| *of == run);
        let mut rows: Vec<_> = rows.map(|(_, row)| row).collect();
        rows.sort_by_key(|row| (row.ordinal, &row.path));
        rows
    }

    fn attempts_of(&self, run: RunKey) -> impl Iterator<Item = &AttemptRow> {
        let from = (run, InstancePath::from(""), (0, 0));
        let rows = self.attempts.range(from..).take_while(move |((of, ..), _)| *of == run);
        rows.map(|(_, row)| row)
    }

    fn active(&self, run: &RunRow) -> ActiveRun {
        let key = (run.project, run.id);
        let version = self.versions.get(&(run.project, run.workflow.clone(), run.version)).cloned();
        let damage = version.is_none().then(|| damage::missing(run));
        let open = self.attempts_of(key).filter(|row| row.finished_at.is_none());
        let last = self.events.range((key, 0)..=(key, u64::MAX)).next_back();
        ActiveRun {
            run: run.clone(),
            version: version.unwrap_or_else(|| damage::no_version(run)),
            tasks: self.tasks_of(key).into_iter().cloned().collect(),
            attempts: open.cloned().collect(),
            last_seq: last.map_or(0, |((_, seq), _)| *seq),
            damage,
        }
    }

    fn committed(&self, places: impl RangeBounds<(CommitSeq, u32)>) -> Vec<Committed> {
        let rows = self.feed.range(places);
        rows.map(|(place, row)| committed(*place, row)).collect()
    }

    /// Terminal runs that are to go: those that ended too early, and of each workflow the oldest of
    /// those that are too many.
    fn surplus(&self, retention: &Retention) -> Vec<RunKey> {
        let over = |run: &RunRow| run.finished_at.map(|at| (at, run.id, run.project));
        let mut early: Vec<_> = self.runs.values().filter_map(over).collect();
        early.retain(|(at, ..)| retention.finished_before.is_some_and(|before| *at < before));
        let mut of: HashMap<(ProjectId, &str), Vec<&RunRow>> = HashMap::new();
        for run in self.runs.values().filter(|run| run.finished_at.is_some()) {
            of.entry((run.project, &run.workflow)).or_default().push(run);
        }
        for runs in of.values_mut() {
            runs.sort_by_key(|run| (run.created_at, run.id));
            let keep = retention.keep_per_workflow.and_then(|keep| usize::try_from(keep).ok());
            let many = keep.map_or(0, |keep| runs.len().saturating_sub(keep));
            let oldest = runs.iter().take(many.min(retention.batch));
            early.extend(oldest.filter_map(|run| over(run)));
        }
        early.sort_unstable();
        early.dedup();
        early.truncate(retention.batch);
        early.into_iter().map(|(_, run, project)| (project, run)).collect()
    }

    fn remove(&mut self, run: RunKey) {
        self.runs.remove(&run);
        self.tasks.retain(|(of, _), _| *of != run);
        self.attempts.retain(|(of, ..), _| *of != run);
        self.events.retain(|(of, _), _| *of != run);
        self.feed.retain(|_, row| (row.project, row.run) != run);
        self.firings.retain(|_, row| (row.project, row.source) != run);
        self.answers.retain(|_, row| row.run.map(|of| (row.project, of)) != Some(run));
        self.cache.retain(|_, row| (row.project, row.run) != run);
    }

    fn remove_drafts(&mut self, now: Wall) {
        let used: BTreeSet<_> = self
            .runs
            .values()
            .map(|run| (run.project, run.workflow.clone(), run.version))
            .collect();
        self.versions.retain(|key, row| {
            !row.version.is_draft() || used.contains(key) || row.created_at + DRAFT_GRACE > now
        });
    }
}

fn refuse<T>(message: String) -> Result<T> {
    Err(StoreError::Rejected(message))
}

/// What stays as it was when a run is replaced: what runs are listed and filtered by, besides
/// their state.
fn identity(row: &RunRow) -> impl PartialEq {
    (&row.workflow, &row.trigger, &row.labels, row.created_at)
}

fn committed(place: (CommitSeq, u32), row: &Arc<EventRow>) -> Committed {
    Committed { commit: place.0, position: place.1, event: Arc::clone(row) }
}

fn matches(filter: &RunFilter, row: &RunRow) -> bool {
    filter.workflows.as_ref().is_none_or(|names| names.contains(&row.workflow))
        && (filter.states.is_empty() || filter.states.contains(&row.state))
        && filter.trigger.as_ref().is_none_or(|trigger| *trigger == row.trigger)
        && filter.labels.iter().all(|(key, value)| row.labels.get(key) == Some(value))
        && filter.created_after.is_none_or(|after| row.created_at >= after)
        && filter.created_before.is_none_or(|before| row.created_at < before)
}

#[async_trait]
impl Store for Memory {
    async fn lead(&self) -> Result<Epoch> {
        let mut state = self.state();
        state.epoch.0 += 1;
        Ok(state.epoch)
    }

    async fn load_active(&self) -> Result<Vec<ActiveRun>> {
        let state = self.state();
        let open = state.runs.values().filter(|run| run.finished_at.is_none());
        let mut runs: Vec<_> = open.map(|run| state.active(run)).collect();
        runs.sort_by_key(|active| active.run.id);
        Ok(runs)
    }

    async fn load_run(&self, project: ProjectId, run: RunId) -> Result<Option<ActiveRun>> {
        let state = self.state();
        Ok(state.runs.get(&(project, run)).map(|run| state.active(run)))
    }

    async fn commit(&self, epoch: Epoch, changes: Arc<[Change]>) -> Result<CommitSeq> {
        let mut state = self.state();
        state.leads(epoch)?;
        check::changes(&changes)?;
        state.check(&changes)?;
        state.last.0 += 1;
        let mut position = 0;
        changes.iter().for_each(|change| state.apply(change, &mut position));
        Ok(state.last)
    }

    async fn last_commit(&self) -> Result<CommitSeq> {
        Ok(self.state().last)
    }

    async fn run(&self, project: ProjectId, run: RunId) -> Result<Option<RunRow>> {
        Ok(self.state().runs.get(&(project, run)).cloned())
    }

    async fn runs(
        &self,
        project: ProjectId,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Items<RunRow>> {
        let after: Option<(Wall, RunId)> = page::after(page)?;
        let state = self.state();
        let mut rows: Vec<_> = state
            .runs
            .values()
            .filter(|row| row.project == project && matches(filter, row))
            .filter(|row| match after {
                Some(after) if filter.oldest_first => (row.created_at, row.id) > after,
                Some(after) => (row.created_at, row.id) < after,
                None => true,
            })
            .collect();
        rows.sort_by_key(|row| (row.created_at, row.id));
        if !filter.oldest_first {
            rows.reverse();
        }
        let rows = rows.into_iter().take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, |row: &RunRow| (row.created_at, row.id)))
    }

    async fn task(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
    ) -> Result<Option<TaskRow>> {
        Ok(self.state().tasks.get(&((project, run), path.clone())).cloned())
    }

    async fn tasks(
        &self,
        project: ProjectId,
        run: RunId,
        states: &[TaskState],
        page: &Page,
    ) -> Result<Items<TaskRow>> {
        let after: Option<(u32, InstancePath)> = page::after(page)?;
        let key = |row: &TaskRow| (row.ordinal, row.path.clone());
        let state = self.state();
        let rows = state.tasks_of((project, run)).into_iter();
        let rows = rows.filter(|row| states.is_empty() || states.contains(&row.state));
        let rows = rows.filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
        Ok(page::items(rows.take(page.limit + 1).cloned().collect(), page.limit, key))
    }

    async fn attempts(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
        page: &Page,
    ) -> Result<Items<AttemptRow>> {
        let after: Option<(u32, u32)> = page::after(page)?;
        let key = |row: &AttemptRow| (row.generation, row.attempt);
        let state = self.state();
        let rows = state.attempts_of((project, run)).filter(|row| row.path == *path);
        let rows = rows.filter(|row| after.is_none_or(|after| key(row) > after));
        Ok(page::items(rows.take(page.limit + 1).cloned().collect(), page.limit, key))
    }

    async fn events(
        &self,
        project: ProjectId,
        run: RunId,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Committed>> {
        page::limit(limit)?;
        let state = self.state();
        let key = (project, run);
        let Some(from) = seq.checked_add(1) else { return Ok(Vec::new()) };
        let places = state.events.range((key, from)..=(key, u64::MAX)).take(limit);
        Ok(places.flat_map(|(_, place)| state.committed(*place..=*place)).collect())
    }

    async fn feed(&self, after: (CommitSeq, u32), limit: usize) -> Result<Vec<Committed>> {
        page::limit(limit)?;
        let state = self.state();
        let rows = state.feed.range(after..).filter(|(place, _)| **place != after);
        Ok(rows.take(limit).map(|(place, row)| committed(*place, row)).collect())
    }

    async fn workflow(&self, project: ProjectId, name: &str) -> Result<Option<WorkflowRow>> {
        Ok(self.state().workflows.get(&(project, name.to_owned())).cloned())
    }

    async fn workflows(&self, project: ProjectId, page: &Page) -> Result<Items<WorkflowRow>> {
        let after: Option<String> = page::after(page)?;
        let state = self.state();
        let there = |row: &&WorkflowRow| row.project == project && row.deleted_at.is_none();
        let rows = state.workflows.values().filter(there);
        let rows = rows.filter(|row| after.as_ref().is_none_or(|after| row.name > *after));
        let rows = rows.take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, |row: &WorkflowRow| row.name.clone()))
    }

    async fn history(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<HistoryRow>> {
        let before = page::after(page)?.unwrap_or(u64::MAX);
        let state = self.state();
        let rows = state.history.get(&(project, workflow.to_owned()));
        let rows = rows.into_iter().flatten().rev().filter(|row| row.number < before);
        let rows = rows.take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, |row: &HistoryRow| row.number))
    }

    async fn version(
        &self,
        project: ProjectId,
        workflow: &str,
        version: VersionId,
    ) -> Result<Option<VersionRow>> {
        let key = (project, workflow.to_owned(), version);
        Ok(self.state().versions.get(&key).map(|row| (**row).clone()))
    }

    async fn versions(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<VersionRow>> {
        let after: Option<VersionId> = page::after(page)?;
        let state = self.state();
        let rows = state.versions_of(project, workflow).rev();
        let rows = rows.filter(|row| !row.version.is_draft());
        let rows = rows.filter(|row| after.is_none_or(|after| row.version < after));
        let rows = rows.take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, |row: &VersionRow| row.version))
    }

    async fn version_by_digest(
        &self,
        project: ProjectId,
        workflow: &str,
        digest: &Digest,
        draft: bool,
    ) -> Result<Option<VersionRow>> {
        Ok(self.state().by_digest(project, workflow, digest, draft).cloned())
    }

    async fn version_numbers(
        &self,
        project: ProjectId,
        workflow: &str,
    ) -> Result<(VersionId, VersionId)> {
        let state = self.state();
        let mut rows = state.versions_of(project, workflow).map(|row| row.version);
        let lowest = rows.next().unwrap_or(VersionId(0));
        let highest = rows.next_back().unwrap_or(lowest);
        Ok((highest.max(VersionId(0)), lowest.min(VersionId(0))))
    }

    async fn answer(&self, project: ProjectId, key: &str) -> Result<Option<AnswerRow>> {
        Ok(self.state().answers.get(&(project, key.to_owned())).cloned())
    }

    async fn pools(&self) -> Result<Vec<PoolRow>> {
        Ok(self.state().pools.values().cloned().collect())
    }

    async fn load_limits(&self) -> Result<Vec<WorkflowRow>> {
        let state = self.state();
        let limited = state.workflows.values().filter(|row| row.limits.is_some());
        Ok(limited.cloned().collect())
    }

    async fn load_schedules(&self) -> Result<Vec<ScheduleRow>> {
        Ok(self.state().schedules.values().cloned().collect())
    }

    async fn schedule(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<ScheduleRow>> {
        let key = (project, workflow.to_owned(), name.to_owned());
        Ok(self.state().schedules.get(&key).cloned())
    }

    async fn schedules(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<ScheduleRow>> {
        let after: Option<(String, String)> = page::after(page)?;
        let key = |row: &ScheduleRow| (row.workflow.clone(), row.name.clone());
        let state = self.state();
        let rows = state.schedules.values().filter(|row| row.project == project && !row.removed);
        let rows = rows.filter(|row| workflow.is_none_or(|workflow| row.workflow == workflow));
        let rows = rows.filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
        Ok(page::items(rows.take(page.limit + 1).cloned().collect(), page.limit, key))
    }

    async fn load_triggers(&self) -> Result<Vec<TriggerRow>> {
        Ok(self.state().triggers.values().cloned().collect())
    }

    async fn trigger(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<TriggerRow>> {
        let key = (project, workflow.to_owned(), name.to_owned());
        Ok(self.state().triggers.get(&key).cloned())
    }

    async fn hook(&self, hook: &str) -> Result<Option<TriggerRow>> {
        let state = self.state();
        Ok(state.triggers.values().find(|row| row.hook.as_deref() == Some(hook)).cloned())
    }

    async fn triggers(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<TriggerRow>> {
        let after: Option<(String, String)> = page::after(page)?;
        let key = |row: &TriggerRow| (row.workflow.clone(), row.name.clone());
        let state = self.state();
        let rows = state.triggers.values().filter(|row| row.project == project && !row.removed);
        let rows = rows.filter(|row| workflow.is_none_or(|workflow| row.workflow == workflow));
        let rows = rows.filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
        Ok(page::items(rows.take(page.limit + 1).cloned().collect(), page.limit, key))
    }

    async fn open_firings(&self, limit: usize) -> Result<Vec<FiringRow>> {
        let state = self.state();
        let open = state.firings.values().filter(|row| row.decided_at.is_none());
        let mut rows: Vec<_> = open.cloned().collect();
        rows.sort_by_key(|row| (row.fired_at, firing_key(row)));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn firings(
        &self,
        project: ProjectId,
        workflow: &str,
        trigger: &str,
        page: &Page,
    ) -> Result<Items<FiringRow>> {
        let before: Option<(Wall, RunId)> = page::after(page)?;
        let key = |row: &FiringRow| (row.fired_at, row.source);
        let state = self.state();
        let of = |row: &&FiringRow| {
            (row.project, &*row.workflow, &*row.trigger) == (project, workflow, trigger)
        };
        let mut rows: Vec<_> = state.firings.values().filter(of).collect();
        rows.retain(|row| before.is_none_or(|before| key(row) < before));
        rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
        let rows = rows.into_iter().take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, key))
    }

    async fn load_backfills(&self) -> Result<Vec<BackfillRow>> {
        let state = self.state();
        Ok(state.backfills.values().filter(|row| row.finished_at.is_none()).cloned().collect())
    }

    async fn backfill(&self, project: ProjectId, id: BackfillId) -> Result<Option<BackfillRow>> {
        Ok(self.state().backfills.get(&(project, id)).cloned())
    }

    async fn backfills(&self, project: ProjectId, page: &Page) -> Result<Items<BackfillRow>> {
        let before: Option<BackfillId> = page::after(page)?;
        let state = self.state();
        let rows = state.backfills.values().rev().filter(|row| row.project == project);
        let rows = rows.filter(|row| before.is_none_or(|before| row.id < before));
        let rows = rows.take(page.limit + 1).cloned().collect();
        Ok(page::items(rows, page.limit, |row: &BackfillRow| row.id))
    }

    async fn ticks(
        &self,
        project: ProjectId,
        workflow: &str,
        schedule: &str,
        page: &Page,
    ) -> Result<Items<TickRow>> {
        let before = page::after(page)?.unwrap_or(Wall(i64::MAX));
        let key = |at| (project, workflow.to_owned(), schedule.to_owned(), at);
        let state = self.state();
        let rows = state.ticks.range(key(Wall(i64::MIN))..key(before)).rev();
        let rows = rows.take(page.limit + 1).map(|(_, row)| row.clone()).collect();
        Ok(page::items(rows, page.limit, |row: &TickRow| row.tick))
    }

    async fn pauses(&self) -> Result<Vec<PauseRow>> {
        Ok(self.state().pauses.values().cloned().collect())
    }

    async fn cached(
        &self,
        project: ProjectId,
        workflow: &str,
        task: &str,
        key: &CacheKey,
    ) -> Result<Cached> {
        let state = self.state();
        let of = |row: &&CacheRow| {
            (row.project, &*row.workflow, &*row.task) == (project, workflow, task)
        };
        let place = (project, workflow.to_owned(), task.to_owned(), key.digest());
        Ok(Cached {
            hit: state.cache.get(&place).cloned(),
            last: state.cache.values().filter(of).max_by_key(|row| row.at).cloned(),
        })
    }

    async fn unreferenced(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let state = self.state();
        let mut used = BTreeSet::new();
        let mut found = |digest| {
            used.insert(digest);
        };
        state.runs.values().for_each(|row| refs::run(row, &mut found));
        state.tasks.values().for_each(|row| refs::task(row, &mut found));
        state.attempts.values().for_each(|row| refs::attempt(row, &mut found));
        state.cache.values().for_each(|row| refs::cache(row, &mut found));
        state.backfills.values().for_each(|row| refs::backfill(row, &mut found));
        used.extend(state.versions.values().filter_map(|row| refs::version(row)));
        Ok(digests.iter().copied().filter(|digest| !used.contains(digest)).collect())
    }

    async fn prune(&self, epoch: Epoch, retention: &Retention) -> Result<Vec<(ProjectId, RunId)>> {
        let mut state = self.state();
        state.leads(epoch)?;
        let runs = state.surplus(retention);
        for run in &runs {
            state.remove(*run);
        }
        state.remove_drafts(retention.now);
        state.answers.retain(|_, row| row.expires_at.is_none_or(|at| at > retention.now));
        let before = retention.finished_before;
        state.ticks.retain(|_, row| before.is_none_or(|before| row.decided_at >= before));
        state.cache.retain(|_, row| row.expires_at.is_none_or(|at| at > retention.now));
        Ok(runs)
    }
}
