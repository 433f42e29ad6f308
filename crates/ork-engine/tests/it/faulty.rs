//! A store in memory whose commits wait or fail when told to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ork_core::ids::{BackfillId, Epoch, InstancePath, ProjectId, RunId};
use ork_core::rows::{
    ActiveRun, AnswerRow, AttemptRow, BackfillRow, CacheKey, Change, FiringRow, HistoryRow,
    PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId, VersionRow,
    WorkflowRow,
};
use ork_core::run::TaskState;
use ork_core::value::Digest;
use ork_store::Memory;
use ork_store::{
    Cached, CommitSeq, Committed, Items, Page, Result, Retention, RunFilter, Store, StoreError,
};
use tokio::sync::{RwLock, mpsc};
use tokio::time::Instant;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Retryable,
    Rejected,
    /// It is done, and nobody says so.
    Done,
    /// It is not done, and nobody says so.
    NotDone,
}

pub(crate) struct Faulty {
    pub(crate) memory: Memory,
    /// Commits wait while somebody else holds it.
    pub(crate) held: RwLock<()>,
    fates: Mutex<VecDeque<Fate>>,
    /// How many reads of schedules and of runs fail yet.
    pub(crate) unreadable: AtomicUsize,
    /// When those were asked for.
    pub(crate) reads: Mutex<Vec<Instant>>,
    began: mpsc::UnboundedSender<usize>,
}

impl Faulty {
    /// The store, and the sizes of the commits that it is asked for.
    pub(crate) fn new(memory: Memory) -> (Arc<Self>, mpsc::UnboundedReceiver<usize>) {
        let (began, commits) = mpsc::unbounded_channel();
        let held = RwLock::new(());
        let (unreadable, reads) = (AtomicUsize::new(0), Mutex::default());
        let fates = Mutex::default();
        (Arc::new(Self { memory, held, fates, unreadable, reads, began }), commits)
    }

    /// Fails while reads are to fail.
    #[expect(clippy::disallowed_methods, reason = "the waits between reads are what is tested")]
    fn read(&self) -> Result<()> {
        self.reads.lock().unwrap().push(Instant::now());
        let fail = |left: usize| left.checked_sub(1);
        match self.unreadable.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail) {
            Ok(_) => Err(StoreError::Retryable("away".into())),
            Err(_) => Ok(()),
        }
    }

    /// What becomes of the next commits.
    pub(crate) fn next(&self, fates: &[Fate]) {
        self.fates.lock().unwrap().extend(fates);
    }
}

#[async_trait]
impl Store for Faulty {
    async fn commit(&self, epoch: Epoch, changes: Arc<[Change]>) -> Result<CommitSeq> {
        let _ = self.began.send(changes.len());
        let _free = self.held.read().await;
        let fate = self.fates.lock().unwrap().pop_front();
        match fate {
            None => self.memory.commit(epoch, changes).await,
            Some(Fate::Retryable) => Err(StoreError::Retryable("busy".into())),
            Some(Fate::Rejected) => Err(StoreError::Rejected("a constraint".into())),
            Some(Fate::NotDone) => Err(StoreError::Unknown("cut".into())),
            Some(Fate::Done) => {
                self.memory.commit(epoch, changes).await?;
                Err(StoreError::Unknown("cut".into()))
            }
        }
    }

    async fn lead(&self) -> Result<Epoch> {
        self.memory.lead().await
    }

    async fn load_active(&self) -> Result<Vec<ActiveRun>> {
        self.memory.load_active().await
    }

    async fn load_run(&self, project: ProjectId, run: RunId) -> Result<Option<ActiveRun>> {
        self.read()?;
        self.memory.load_run(project, run).await
    }

    async fn last_commit(&self) -> Result<CommitSeq> {
        self.memory.last_commit().await
    }

    async fn run(&self, project: ProjectId, run: RunId) -> Result<Option<RunRow>> {
        self.memory.run(project, run).await
    }

    async fn runs(
        &self,
        project: ProjectId,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Items<RunRow>> {
        self.memory.runs(project, filter, page).await
    }

    async fn task(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
    ) -> Result<Option<TaskRow>> {
        self.memory.task(project, run, path).await
    }

    async fn tasks(
        &self,
        project: ProjectId,
        run: RunId,
        states: &[TaskState],
        page: &Page,
    ) -> Result<Items<TaskRow>> {
        self.memory.tasks(project, run, states, page).await
    }

    async fn attempts(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
        page: &Page,
    ) -> Result<Items<AttemptRow>> {
        self.memory.attempts(project, run, path, page).await
    }

    async fn events(
        &self,
        project: ProjectId,
        run: RunId,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Committed>> {
        self.memory.events(project, run, seq, limit).await
    }

    async fn feed(&self, after: (CommitSeq, u32), limit: usize) -> Result<Vec<Committed>> {
        self.memory.feed(after, limit).await
    }

    async fn workflow(&self, project: ProjectId, name: &str) -> Result<Option<WorkflowRow>> {
        self.memory.workflow(project, name).await
    }

    async fn workflows(&self, project: ProjectId, page: &Page) -> Result<Items<WorkflowRow>> {
        self.memory.workflows(project, page).await
    }

    async fn history(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<HistoryRow>> {
        self.memory.history(project, workflow, page).await
    }

    async fn version(
        &self,
        project: ProjectId,
        workflow: &str,
        version: VersionId,
    ) -> Result<Option<VersionRow>> {
        self.memory.version(project, workflow, version).await
    }

    async fn versions(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<VersionRow>> {
        self.memory.versions(project, workflow, page).await
    }

    async fn version_by_digest(
        &self,
        project: ProjectId,
        workflow: &str,
        digest: &Digest,
        draft: bool,
    ) -> Result<Option<VersionRow>> {
        self.memory.version_by_digest(project, workflow, digest, draft).await
    }

    async fn version_numbers(
        &self,
        project: ProjectId,
        workflow: &str,
    ) -> Result<(VersionId, VersionId)> {
        self.memory.version_numbers(project, workflow).await
    }

    async fn answer(&self, project: ProjectId, key: &str) -> Result<Option<AnswerRow>> {
        self.memory.answer(project, key).await
    }

    async fn pools(&self) -> Result<Vec<PoolRow>> {
        self.memory.pools().await
    }

    async fn load_limits(&self) -> Result<Vec<WorkflowRow>> {
        self.memory.load_limits().await
    }

    async fn load_schedules(&self) -> Result<Vec<ScheduleRow>> {
        self.read()?;
        self.memory.load_schedules().await
    }

    async fn schedule(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<ScheduleRow>> {
        self.memory.schedule(project, workflow, name).await
    }

    async fn schedules(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<ScheduleRow>> {
        self.memory.schedules(project, workflow, page).await
    }

    async fn load_triggers(&self) -> Result<Vec<TriggerRow>> {
        self.memory.load_triggers().await
    }

    async fn trigger(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<TriggerRow>> {
        self.memory.trigger(project, workflow, name).await
    }

    async fn hook(&self, hook: &str) -> Result<Option<TriggerRow>> {
        self.memory.hook(hook).await
    }

    async fn triggers(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<TriggerRow>> {
        self.memory.triggers(project, workflow, page).await
    }

    async fn open_firings(&self, limit: usize) -> Result<Vec<FiringRow>> {
        self.memory.open_firings(limit).await
    }

    async fn firings(
        &self,
        project: ProjectId,
        workflow: &str,
        trigger: &str,
        page: &Page,
    ) -> Result<Items<FiringRow>> {
        self.memory.firings(project, workflow, trigger, page).await
    }

    async fn load_backfills(&self) -> Result<Vec<BackfillRow>> {
        self.memory.load_backfills().await
    }

    async fn backfill(&self, project: ProjectId, id: BackfillId) -> Result<Option<BackfillRow>> {
        self.memory.backfill(project, id).await
    }

    async fn backfills(&self, project: ProjectId, page: &Page) -> Result<Items<BackfillRow>> {
        self.memory.backfills(project, page).await
    }

    async fn ticks(
        &self,
        project: ProjectId,
        workflow: &str,
        schedule: &str,
        page: &Page,
    ) -> Result<Items<TickRow>> {
        self.memory.ticks(project, workflow, schedule, page).await
    }

    async fn pauses(&self) -> Result<Vec<PauseRow>> {
        self.memory.pauses().await
    }

    async fn cached(
        &self,
        project: ProjectId,
        workflow: &str,
        task: &str,
        key: &CacheKey,
    ) -> Result<Cached> {
        self.memory.cached(project, workflow, task, key).await
    }

    async fn unreferenced(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        self.memory.unreferenced(digests).await
    }

    async fn prune(&self, epoch: Epoch, retention: &Retention) -> Result<Vec<(ProjectId, RunId)>> {
        self.memory.prune(epoch, retention).await
    }
}
