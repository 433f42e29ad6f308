//! A store in memory that fails when told to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ork_core::catalog::Known;
use ork_core::check::Fact;
use ork_core::ids::{BackfillId, Epoch, InstancePath, ProjectId, RunId, Token};
use ork_core::rows::{
    ActiveRun, AnswerRow, AttemptRow, BackfillRow, CacheKey, CacheRow, Change, EventRow, FiringRow,
    PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId, VersionRow,
    WorkflowRow,
};
use ork_core::run::{AttemptState, EventKind};
use ork_core::schedule::Declared;
use ork_core::trigger::Fired;
use ork_core::value::{Data, Value};
use ork_engine::{Found, Led, Read};
use ork_store::{CommitSeq, StoreError};

/// A run's rows.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) run: RunRow,
    pub(super) tasks: BTreeMap<InstancePath, TaskRow>,
    pub(super) attempts: BTreeMap<(InstancePath, u32, u32), AttemptRow>,
}

/// What is durable.
#[derive(Debug, Default)]
pub(super) struct SimStore {
    epoch: u32,
    commits: u64,
    pub(super) runs: BTreeMap<RunId, Kept>,
    /// What commits brought that bears on what spans runs, each with its commit's number.
    pub(super) feed: Vec<(u64, Change)>,
    /// Places of events in the feed, by run.
    events: HashMap<RunId, Vec<usize>>,
    pub(super) answers: HashMap<(ProjectId, String), AnswerRow>,
    pub(super) pauses: BTreeMap<Option<String>, PauseRow>,
    pub(super) cache: Vec<CacheRow>,
    pub(super) workflows: HashMap<String, WorkflowRow>,
    pub(super) pools: BTreeMap<String, PoolRow>,
    pub(super) schedules: BTreeMap<(String, String), ScheduleRow>,
    pub(super) ticks: Vec<TickRow>,
    pub(super) backfills: BTreeMap<BackfillId, BackfillRow>,
    pub(super) triggers: BTreeMap<(String, String), TriggerRow>,
    pub(super) firings: BTreeMap<(RunId, String, String), FiringRow>,
    pub(super) versions: HashMap<(String, VersionId), Arc<VersionRow>>,
    /// The one run whose changes are refused.
    pub(super) poisoned: Option<RunId>,
    /// Whether it may be set aside at least.
    pub(super) yields: bool,
    /// Tokens that were offered.
    tokens: HashMap<Token, RunId>,
}

impl SimStore {
    /// Takes the lead.
    pub(super) fn led(&mut self) -> Led {
        self.epoch += 1;
        let pauses = self.pauses.values().cloned().collect();
        let pools = self.pools.values().cloned().collect();
        let triggers = self.triggers.values().cloned().collect();
        let runs = self.load_active();
        let drafts: Vec<_> = runs.iter().filter(|active| active.run.version.is_draft()).collect();
        let mut limited = self.workflows.clone();
        limited.retain(|name, row| {
            let of_draft = drafts.iter().any(|active| active.run.workflow == *name);
            row.limits.is_some() || row.current.is_some() && of_draft
        });
        let limited = limited.into_values().collect();
        Led { epoch: Epoch(self.epoch), runs, pauses, pools, limited, triggers }
    }

    /// A run that another does again.
    pub(super) fn recall(&self, run: RunId) -> Option<Arc<ActiveRun>> {
        self.runs.get(&run).map(|kept| Arc::new(self.active(kept)))
    }

    /// What there is to be reused of a task.
    pub(super) fn cached(
        &self,
        task: &str,
        key: &CacheKey,
    ) -> (Option<Box<CacheRow>>, Option<Box<CacheRow>>) {
        let last = self.cache.iter().rev();
        let hit = last.clone().find(|row| row.key == *key);
        let last = last.clone().find(|row| row.task == task);
        (hit.cloned().map(Box::new), last.cloned().map(Box::new))
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    fn load_active(&self) -> Vec<ActiveRun> {
        let active = self.runs.values().filter(|kept| !kept.run.state.is_terminal());
        active.map(|kept| self.active(kept)).collect()
    }

    fn active(&self, kept: &Kept) -> ActiveRun {
        let version = &self.versions[&(kept.run.workflow.clone(), kept.run.version)];
        let mut tasks: Vec<TaskRow> = kept.tasks.values().cloned().collect();
        tasks.sort_by_key(|row| row.ordinal);
        let open = |row: &&AttemptRow| {
            use AttemptState::{Dispatched, Running, Stopping};
            matches!(row.state, Dispatched | Running | Stopping)
        };
        ActiveRun {
            run: kept.run.clone(),
            version: Arc::new((**version).clone()),
            tasks,
            attempts: kept.attempts.values().filter(open).cloned().collect(),
            last_seq: self.events(kept.run.id).last().map_or(0, |event| event.seq),
            damage: None,
        }
    }

    /// Keeps what was there before all began.
    pub(super) fn begin_with(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.take(&change).unwrap_or_default();
        }
    }

    fn take(&mut self, change: &Change) -> Result<(), StoreError> {
        if !matches!(change, Change::Event(_)) && Fact::of(change).is_some() {
            self.feed.push((self.commits, change.clone()));
        }
        self.apply(change)
    }

    pub(super) fn commit(
        &mut self,
        epoch: Epoch,
        changes: &[Change],
    ) -> Result<CommitSeq, StoreError> {
        if epoch.0 != self.epoch {
            return Err(StoreError::Fenced { ours: epoch });
        }
        let poisoned =
            |change: &Change| change.run().is_some_and(|(_, run)| Some(run) == self.poisoned);
        let set_aside = |change: &Change| {
            matches!(change, Change::Event(row)
                if Some(row.run) == self.poisoned
                    && matches!(row.kind, EventKind::RunQuarantined { .. }))
        };
        let yields = self.yields && changes.iter().any(set_aside);
        if !yields && changes.iter().any(poisoned) {
            return Err(StoreError::Rejected("a constraint, by chance".into()));
        }
        self.commits += 1;
        for change in changes {
            self.take(change)?;
        }
        Ok(CommitSeq(self.commits))
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Run(row) => match self.runs.get_mut(&row.id) {
                Some(kept) => kept.run = (**row).clone(),
                None => {
                    self.runs.insert(row.id, Kept::new(row));
                }
            },
            Change::Task(row) => {
                self.of(row.run)?.tasks.insert(row.path.clone(), (**row).clone());
            }
            Change::Attempt(row) => {
                self.tokens.insert(row.token, row.run);
                let key = (row.path.clone(), row.generation, row.attempt);
                self.of(row.run)?.attempts.insert(key, (**row).clone());
            }
            Change::Event(row) => self.append(row),
            Change::Workflow(row) => {
                self.workflows.insert(row.name.clone(), (**row).clone());
            }
            Change::Version(row) => {
                let key = (row.workflow.clone(), row.version);
                self.versions.entry(key).or_insert_with(|| Arc::new((**row).clone()));
            }
            Change::Pool(row) => {
                self.pools.insert(row.name.clone(), (**row).clone());
            }
            Change::Answer(row) => {
                self.answers.insert((row.project, row.key.clone()), (**row).clone());
            }
            Change::Schedule(row, _) => {
                let key = (row.workflow.clone(), row.name.clone());
                self.schedules.insert(key, (**row).clone());
            }
            Change::Trigger(row) => {
                let key = (row.workflow.clone(), row.name.clone());
                self.triggers.insert(key, (**row).clone());
            }
            Change::Firing(row) => self.fire(row)?,
            Change::Tick(row) => self.ticks.push((**row).clone()),
            Change::Backfill(row, _) => {
                self.backfills.insert(row.id, (**row).clone());
            }
            Change::Pause(row) => {
                self.pauses.insert(row.workflow.clone(), (**row).clone());
            }
            Change::Cache(row) => self.cache.push((**row).clone()),
            // Nothing that is checked follows from it.
            Change::History(_) => {}
        }
        Ok(())
    }

    /// The first firing stays, and so does the first answer to it.
    fn fire(&mut self, row: &FiringRow) -> Result<(), StoreError> {
        let key = (row.source, row.workflow.clone(), row.trigger.clone());
        match (row.decided_at, self.firings.get(&key)) {
            (None, Some(_)) => {}
            (None, None) => drop(self.firings.insert(key, row.clone())),
            (Some(_), Some(FiringRow { decided_at: None, .. })) => {
                self.firings.insert(key, row.clone());
            }
            (Some(_), _) => {
                return Err(StoreError::Rejected("a firing that waits for no answer".into()));
            }
        }
        Ok(())
    }

    /// The firings without an answer, with what they need.
    fn read_firings(&self) -> Found {
        let open = self.firings.values().filter(|row| row.decided_at.is_none());
        let fired = open.map(|firing| {
            let source = self.runs.get(&firing.source).map(|kept| kept.run.clone());
            let output = match source.as_ref().and_then(|run| run.output.clone()) {
                None => Ok(Value::Null),
                Some(Data::Inline(value)) => Ok(value),
                Some(Data::Blob { digest, .. }) => Err(format!("there is no blob {digest}")),
            };
            let row = self.triggers.get(&(firing.workflow.clone(), firing.trigger.clone()));
            let row = row.filter(|row| !row.removed);
            let version = row.and_then(|row| self.declared(&row.workflow, row.version));
            Fired { firing: firing.clone(), source, output, version }
        });
        Found::Firings(fired.collect())
    }

    fn append(&mut self, row: &Arc<EventRow>) {
        self.events.entry(row.run).or_default().push(self.feed.len());
        self.feed.push((self.commits, Change::Event(Arc::clone(row))));
        if let EventKind::TaskDispatched { token, .. } = row.kind {
            self.tokens.insert(token, row.run);
        }
    }

    fn of(&mut self, run: RunId) -> Result<&mut Kept, StoreError> {
        let missing = || StoreError::Rejected(format!("a row of run {run}, which is not there"));
        self.runs.get_mut(&run).ok_or_else(missing)
    }

    pub(super) fn has_token(&self, token: Token) -> bool {
        self.tokens.contains_key(&token)
    }

    /// A run's events, in order.
    pub(super) fn events(&self, run: RunId) -> impl Iterator<Item = &EventRow> {
        let places = self.events.get(&run).into_iter().flatten();
        places.filter_map(|place| event_of(&self.feed[*place].1))
    }

    /// All events, in the order of commits.
    pub(super) fn all_events(&self) -> impl Iterator<Item = &EventRow> {
        self.feed.iter().filter_map(|(_, change)| event_of(change))
    }

    /// A version as schedules and backfills know it.
    pub(super) fn declared(&self, workflow: &str, version: VersionId) -> Option<Arc<Declared>> {
        let row = self.versions.get(&(workflow.to_owned(), version))?;
        Some(Arc::new(Declared::from((**row).clone())))
    }

    fn read_schedules(&self) -> Found {
        let rows: Vec<_> = self.schedules.values().cloned().collect();
        let open = self.backfills.values().filter(|row| row.finished_at.is_none());
        let open: Vec<_> = open.cloned().collect();
        let named = rows.iter().map(|row| (&row.workflow, row.version));
        let named = named.chain(open.iter().map(|row| (&row.workflow, row.version)));
        let versions = named.filter_map(|(name, version)| self.declared(name, version)).collect();
        Found::Schedules(rows, open, versions)
    }

    pub(super) fn read(&self, read: &Read) -> Found {
        match read {
            Read::Answer { project, key } => {
                Found::Answer(self.answers.get(&(*project, key.clone())).cloned())
            }
            Read::Firings { .. } => self.read_firings(),
            Read::Schedules { .. } => self.read_schedules(),
            Read::Run { run, .. } => {
                let kept = self.runs.get(run);
                Found::Run(kept.map(|kept| Box::new(self.active(kept))))
            }
            Read::Ended { attempt, .. } => {
                let attempts = self.runs.get(&attempt.run).map(|kept| &kept.attempts);
                let mut attempts = attempts.into_iter().flat_map(BTreeMap::values);
                let own = attempts.find(|row| row.token == attempt.token);
                Found::Ended(own.is_some_and(|row| {
                    row.finished_at.is_some() && row.state != AttemptState::Lost
                }))
            }
            Read::Workflow { name, digest, draft, .. } => {
                let numbers = || {
                    let of_name = self.versions.values().filter(|row| row.workflow == *name);
                    of_name.map(|row| row.version)
                };
                let same = self.versions.values().find(|row| {
                    row.workflow == *name
                        && Some(row.digest) == *digest
                        && row.version.is_draft() == *draft
                });
                Found::Workflow(Box::new(Known {
                    workflow: self.workflows.get(name).cloned(),
                    same: same.map(|row| row.version),
                    highest: numbers().max().unwrap_or_default(),
                    lowest: numbers().min().unwrap_or_default(),
                }))
            }
        }
    }
}

impl Kept {
    fn new(row: &RunRow) -> Self {
        Self { run: row.clone(), tasks: BTreeMap::new(), attempts: BTreeMap::new() }
    }
}

/// The event that a change appends.
pub(super) fn event_of(change: &Change) -> Option<&EventRow> {
    match change {
        Change::Event(row) => Some(row),
        _ => None,
    }
}
