//! A store in one `SQLite` file, for one server.
//!
//! One thread writes, each commit a transaction that is on disk (`synchronous=FULL`) before it is
//! answered; a few read-only connections answer queries beside it. A process that is killed leaves
//! every commit that was answered, and perhaps the one that was not.

pub(crate) mod error;
mod read;
mod schema;
mod write;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ork_core::ids::{BackfillId, Epoch, InstancePath, ProjectId, RunId};
use ork_core::rows::{
    ActiveRun, AnswerRow, AttemptRow, BackfillRow, CacheKey, Change, FiringRow, HistoryRow,
    PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId, VersionRow,
    WorkflowRow,
};
use ork_core::run::TaskState;
use ork_core::time::Wall;
use ork_core::value::Digest;
use rusqlite::{Connection, Params, params};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Cached, CommitSeq, Committed, DataDir, Items, Page, Result, Retention, RunFilter, Store,
    StoreError, page,
};

/// Connections for reading; each is opened when it is first needed.
const READERS: usize = 4;

/// Connections for what the leader waits for, so that no list is before it.
const LEADERS_READERS: usize = 2;

/// A store in `ork.db` of a data directory.
pub struct Sqlite {
    writer: writer::Writer,
    readers: Arc<Readers>,
    leaders: Arc<Readers>,
    /// Held until the writer is gone.
    _dir: Arc<DataDir>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqlite").field(&self.readers.path).finish()
    }
}

struct Readers {
    path: PathBuf,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens the store of a data directory, makes it if there is none, and brings its schema up
    /// to date. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] when a newer program has changed its schema, or when the file is no
    /// database.
    pub fn open(dir: Arc<DataDir>) -> Result<Self> {
        let path = dir.path().join("ork.db");
        let writer = writer::Writer::start(schema::open_writer(&path)?, path.clone())?;
        let readers = Readers::new(path.clone(), READERS);
        let leaders = Readers::new(path, LEADERS_READERS);
        Ok(Self { writer, readers, leaders, _dir: dir })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.read(work).await
    }

    /// The same for what the leader waits for.
    async fn read_first<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.leaders.read(work).await
    }
}

impl Readers {
    fn new(path: PathBuf, connections: usize) -> Arc<Self> {
        let (places, idle) = (Semaphore::new(connections), Mutex::default());
        Arc::new(Self { path, places, idle })
    }

    /// Reads one state of the store, off the async threads.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _place = self.place().await?;
        let readers = self.clone();
        let read = tokio::task::spawn_blocking(move || readers.snapshot(work));
        read.await.map_err(|error| StoreError::Retryable(error.to_string()))?
    }

    /// Waits until a connection may be used.
    async fn place(&self) -> Result<SemaphorePermit<'_>> {
        let place = self.places.acquire().await;
        place.map_err(|error| StoreError::Retryable(error.to_string()))
    }

    /// Reads one row by its key, on the caller's thread: it takes less than two changes of threads
    /// do. To be called in a [`Readers::place`].
    fn find<T: DeserializeOwned>(&self, sql: &str, key: impl Params) -> Result<Option<T>> {
        self.snapshot(|db| read::find(db, sql, key))
    }

    fn snapshot<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let db = match self.lock().pop() {
            Some(db) => db,
            None => schema::open_reader(&self.path)?,
        };
        let step = |sql| db.prepare_cached(sql).and_then(|mut step| step.execute([]));
        step("BEGIN").map_err(error::failed("read"))?;
        let value = work(&db)?;
        step("COMMIT").map_err(error::failed("read"))?;
        self.lock().push(db);
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn lead(&self) -> Result<Epoch> {
        self.writer.write(write::lead).await
    }

    async fn load_active(&self) -> Result<Vec<ActiveRun>> {
        self.read_first(read::load_active).await
    }

    async fn load_run(&self, project: ProjectId, run: RunId) -> Result<Option<ActiveRun>> {
        self.read_first(move |db| read::load_run(db, project, run)).await
    }

    async fn commit(&self, epoch: Epoch, changes: Arc<[Change]>) -> Result<CommitSeq> {
        self.writer.write(move |db| write::commit(db, epoch, &changes)).await
    }

    async fn last_commit(&self) -> Result<CommitSeq> {
        self.read(|db| read::one(db, "SELECT commit_seq FROM store", []).map(CommitSeq)).await
    }

    async fn run(&self, project: ProjectId, run: RunId) -> Result<Option<RunRow>> {
        let _place = self.readers.place().await?;
        self.readers.snapshot(|db| read::run(db, project, run))
    }

    async fn runs(
        &self,
        project: ProjectId,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Items<RunRow>> {
        let after: Option<(Wall, RunId)> = page::after(page)?;
        let (filter, limit) = (filter.clone(), page.limit);
        let rows = self.read(move |db| read::runs(db, project, &filter, after, limit + 1)).await?;
        Ok(page::items(rows, limit, |row: &RunRow| (row.created_at, row.id)))
    }

    async fn task(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
    ) -> Result<Option<TaskRow>> {
        let _place = self.readers.place().await?;
        self.readers.find(read::TASK, params![project.0, run.0.as_bytes(), path.as_str()])
    }

    async fn tasks(
        &self,
        project: ProjectId,
        run: RunId,
        states: &[TaskState],
        page: &Page,
    ) -> Result<Items<TaskRow>> {
        let after: Option<(u32, InstancePath)> = page::after(page)?;
        let (states, limit) = (states.to_vec(), page.limit);
        let rows =
            self.read(move |db| read::tasks(db, project, run, &states, after, limit + 1)).await?;
        Ok(page::items(rows, limit, |row: &TaskRow| (row.ordinal, row.path.clone())))
    }

    async fn attempts(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
        page: &Page,
    ) -> Result<Items<AttemptRow>> {
        let after: Option<(u32, u32)> = page::after(page)?;
        let (path, limit) = (path.clone(), page.limit);
        let rows = self
            .read_first(move |db| read::attempts(db, (project, run, &path), after, limit + 1))
            .await?;
        Ok(page::items(rows, limit, |row: &AttemptRow| (row.generation, row.attempt)))
    }

    async fn events(
        &self,
        project: ProjectId,
        run: RunId,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Committed>> {
        page::limit(limit)?;
        let sql = "SELECT place, row FROM events WHERE project = ?1 AND run = ?2 AND seq > ?3
                   ORDER BY seq LIMIT ?4";
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let key =
            move |db: &_| read::events(db, sql, params![project.0, run.0.as_bytes(), seq, limit]);
        self.read(key).await
    }

    async fn feed(&self, after: (CommitSeq, u32), limit: usize) -> Result<Vec<Committed>> {
        page::limit(limit)?;
        let sql = "SELECT place, row FROM events WHERE place > ?1 ORDER BY place LIMIT ?2";
        let place = write::place(after.0, after.1);
        self.read(move |db| read::events(db, sql, params![place, limit])).await
    }

    async fn workflow(&self, project: ProjectId, name: &str) -> Result<Option<WorkflowRow>> {
        let sql = "SELECT row FROM workflows WHERE project = ?1 AND name = ?2";
        let _place = self.readers.place().await?;
        self.readers.find(sql, params![project.0, name])
    }

    async fn workflows(&self, project: ProjectId, page: &Page) -> Result<Items<WorkflowRow>> {
        let after: String = page::after(page)?.unwrap_or_default();
        let limit = page.limit;
        let sql = "SELECT row FROM workflows WHERE project = ?1 AND name > ?2
                     AND json_extract(row, '$.deleted_at') IS NULL ORDER BY name LIMIT ?3";
        let rows = self.read(move |db| read::list(db, sql, params![project.0, after, limit + 1]));
        Ok(page::items(rows.await?, limit, |row: &WorkflowRow| row.name.clone()))
    }

    async fn history(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<HistoryRow>> {
        let before = page::after(page)?.unwrap_or(u64::MAX).min(i64::MAX as u64);
        let (workflow, limit) = (workflow.to_owned(), page.limit);
        let sql = "SELECT row FROM history
                   WHERE project = ?1 AND workflow = ?2 AND number < ?3
                   ORDER BY number DESC LIMIT ?4";
        let list =
            move |db: &_| read::list(db, sql, params![project.0, workflow, before, limit + 1]);
        Ok(page::items(self.read(list).await?, limit, |row: &HistoryRow| row.number))
    }

    async fn version(
        &self,
        project: ProjectId,
        workflow: &str,
        version: VersionId,
    ) -> Result<Option<VersionRow>> {
        let workflow = workflow.to_owned();
        let key =
            move |db: &_| read::find(db, read::VERSION, params![project.0, workflow, version.0]);
        self.read(key).await
    }

    async fn versions(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<VersionRow>> {
        let before = page::after(page)?.unwrap_or(VersionId(i64::MAX));
        let (workflow, limit) = (workflow.to_owned(), page.limit);
        let sql = "SELECT row FROM versions
                   WHERE project = ?1 AND workflow = ?2 AND version > 0 AND version < ?3
                   ORDER BY version DESC LIMIT ?4";
        let list =
            move |db: &_| read::list(db, sql, params![project.0, workflow, before.0, limit + 1]);
        Ok(page::items(self.read(list).await?, limit, |row: &VersionRow| row.version))
    }

    async fn version_by_digest(
        &self,
        project: ProjectId,
        workflow: &str,
        digest: &Digest,
        draft: bool,
    ) -> Result<Option<VersionRow>> {
        let (workflow, digest) = (workflow.to_owned(), digest.0);
        let sql = "SELECT row FROM versions
                   WHERE project = ?1 AND workflow = ?2 AND (version < 0) = ?3 AND digest = ?4";
        self.read_first(move |db| read::find(db, sql, params![project.0, workflow, draft, digest]))
            .await
    }

    async fn version_numbers(
        &self,
        project: ProjectId,
        workflow: &str,
    ) -> Result<(VersionId, VersionId)> {
        let workflow = workflow.to_owned();
        let sql = "SELECT max(0, coalesce((SELECT max(version) FROM versions
                       WHERE project = ?1 AND workflow = ?2), 0)),
                   min(0, coalesce((SELECT min(version) FROM versions
                       WHERE project = ?1 AND workflow = ?2), 0))";
        let numbers = move |db: &Connection| {
            let mut statement = db.prepare_cached(sql).map_err(error::failed("read"))?;
            let row = statement.query_row(params![project.0, workflow], |row| {
                Ok((VersionId(row.get(0)?), VersionId(row.get(1)?)))
            });
            row.map_err(error::failed("read"))
        };
        self.read_first(numbers).await
    }

    async fn answer(&self, project: ProjectId, key: &str) -> Result<Option<AnswerRow>> {
        let sql = "SELECT row FROM answers WHERE project = ?1 AND key = ?2";
        let _place = self.leaders.place().await?;
        self.leaders.find(sql, params![project.0, key])
    }

    async fn pools(&self) -> Result<Vec<PoolRow>> {
        let sql = "SELECT row FROM pools ORDER BY project, name";
        self.read(move |db| read::list(db, sql, [])).await
    }

    async fn load_limits(&self) -> Result<Vec<WorkflowRow>> {
        let sql = "SELECT row FROM workflows WHERE json_extract(row, '$.limits') IS NOT NULL
                   ORDER BY project, name";
        self.read(move |db| read::list(db, sql, [])).await
    }

    async fn load_schedules(&self) -> Result<Vec<ScheduleRow>> {
        let sql = "SELECT row FROM schedules ORDER BY project, workflow, name";
        self.read_first(move |db| read::list(db, sql, [])).await
    }

    async fn schedule(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<ScheduleRow>> {
        let key = (project.0, workflow.to_owned(), name.to_owned());
        let sql = "SELECT row FROM schedules WHERE project = ?1 AND workflow = ?2 AND name = ?3";
        self.read(move |db| read::find(db, sql, params![key.0, key.1, key.2])).await
    }

    async fn schedules(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<ScheduleRow>> {
        let after: Option<(String, String)> = page::after(page)?;
        let (after, name) = after.unwrap_or_default();
        let (workflow, limit) = (workflow.map(str::to_owned), page.limit);
        let sql = "SELECT row FROM schedules
                   WHERE project = ?1 AND (?2 IS NULL OR workflow = ?2)
                     AND (workflow, name) > (?3, ?4) AND NOT json_extract(row, '$.removed')
                   ORDER BY workflow, name LIMIT ?5";
        let rows = self.read(move |db| {
            read::list(db, sql, params![project.0, workflow, after, name, limit + 1])
        });
        let key = |row: &ScheduleRow| (row.workflow.clone(), row.name.clone());
        Ok(page::items(rows.await?, limit, key))
    }

    async fn load_triggers(&self) -> Result<Vec<TriggerRow>> {
        let sql = "SELECT row FROM triggers ORDER BY project, workflow, name";
        self.read_first(move |db| read::list(db, sql, [])).await
    }

    async fn trigger(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<TriggerRow>> {
        let key = (project.0, workflow.to_owned(), name.to_owned());
        let sql = "SELECT row FROM triggers WHERE project = ?1 AND workflow = ?2 AND name = ?3";
        self.read(move |db| read::find(db, sql, params![key.0, key.1, key.2])).await
    }

    async fn hook(&self, hook: &str) -> Result<Option<TriggerRow>> {
        let hook = hook.to_owned();
        let sql = "SELECT row FROM triggers WHERE hook = ?1";
        self.read(move |db| read::find(db, sql, params![hook])).await
    }

    async fn triggers(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<TriggerRow>> {
        let after: Option<(String, String)> = page::after(page)?;
        let (after, name) = after.unwrap_or_default();
        let (workflow, limit) = (workflow.map(str::to_owned), page.limit);
        let sql = "SELECT row FROM triggers
                   WHERE project = ?1 AND (?2 IS NULL OR workflow = ?2)
                     AND (workflow, name) > (?3, ?4) AND NOT json_extract(row, '$.removed')
                   ORDER BY workflow, name LIMIT ?5";
        let rows = self.read(move |db| {
            read::list(db, sql, params![project.0, workflow, after, name, limit + 1])
        });
        let key = |row: &TriggerRow| (row.workflow.clone(), row.name.clone());
        Ok(page::items(rows.await?, limit, key))
    }

    async fn open_firings(&self, limit: usize) -> Result<Vec<FiringRow>> {
        let sql = "SELECT row FROM firings WHERE decided_at IS NULL
                   ORDER BY fired_at, project, source, workflow, trigger LIMIT ?1";
        self.read_first(move |db| read::list(db, sql, params![limit])).await
    }

    async fn firings(
        &self,
        project: ProjectId,
        workflow: &str,
        trigger: &str,
        page: &Page,
    ) -> Result<Items<FiringRow>> {
        let before: Option<(Wall, RunId)> = page::after(page)?;
        let (at, run) = before.unwrap_or((Wall(i64::MAX), RunId(uuid::Uuid::max())));
        let (workflow, trigger, limit) = (workflow.to_owned(), trigger.to_owned(), page.limit);
        let sql = "SELECT row FROM firings
                   WHERE project = ?1 AND workflow = ?2 AND trigger = ?3
                     AND (fired_at, source) < (?4, ?5)
                   ORDER BY fired_at DESC, source DESC LIMIT ?6";
        let rows = self.read(move |db| {
            let run = run.0.as_bytes();
            read::list(db, sql, params![project.0, workflow, trigger, at.0, run, limit + 1])
        });
        Ok(page::items(rows.await?, limit, |row: &FiringRow| (row.fired_at, row.source)))
    }

    async fn load_backfills(&self) -> Result<Vec<BackfillRow>> {
        let sql = "SELECT row FROM backfills WHERE finished_at IS NULL ORDER BY project, id";
        self.read(move |db| read::list(db, sql, [])).await
    }

    async fn backfill(&self, project: ProjectId, id: BackfillId) -> Result<Option<BackfillRow>> {
        let sql = "SELECT row FROM backfills WHERE project = ?1 AND id = ?2";
        self.read(move |db| read::find(db, sql, params![project.0, id.0.as_bytes()])).await
    }

    async fn backfills(&self, project: ProjectId, page: &Page) -> Result<Items<BackfillRow>> {
        let before: Option<BackfillId> = page::after(page)?;
        let before = before.map(|id| id.0.into_bytes());
        let limit = page.limit;
        let sql = "SELECT row FROM backfills WHERE project = ?1 AND (?2 IS NULL OR id < ?2)
                   ORDER BY id DESC LIMIT ?3";
        let rows = self.read(move |db| read::list(db, sql, params![project.0, before, limit + 1]));
        Ok(page::items(rows.await?, limit, |row: &BackfillRow| row.id))
    }

    async fn ticks(
        &self,
        project: ProjectId,
        workflow: &str,
        schedule: &str,
        page: &Page,
    ) -> Result<Items<TickRow>> {
        let before = page::after(page)?.unwrap_or(Wall(i64::MAX));
        let (workflow, schedule, limit) = (workflow.to_owned(), schedule.to_owned(), page.limit);
        let sql = "SELECT row FROM ticks
                   WHERE project = ?1 AND workflow = ?2 AND schedule = ?3 AND tick < ?4
                   ORDER BY tick DESC LIMIT ?5";
        let rows = self.read(move |db| {
            read::list(db, sql, params![project.0, workflow, schedule, before.0, limit + 1])
        });
        Ok(page::items(rows.await?, limit, |row: &TickRow| row.tick))
    }

    async fn pauses(&self) -> Result<Vec<PauseRow>> {
        let sql = "SELECT row FROM pauses ORDER BY project, workflow";
        self.read_first(move |db| read::list(db, sql, [])).await
    }

    async fn cached(
        &self,
        project: ProjectId,
        workflow: &str,
        task: &str,
        key: &CacheKey,
    ) -> Result<Cached> {
        let (workflow, task, digest) = (workflow.to_owned(), task.to_owned(), key.digest().0);
        self.read_first(move |db| {
            let hit = "SELECT row FROM cache
                       WHERE project = ?1 AND workflow = ?2 AND task = ?3 AND digest = ?4";
            let last = "SELECT row FROM cache WHERE project = ?1 AND workflow = ?2 AND task = ?3
                        ORDER BY at DESC LIMIT 1";
            Ok(Cached {
                hit: read::find(db, hit, params![project.0, workflow, task, digest])?,
                last: read::find(db, last, params![project.0, workflow, task])?,
            })
        })
        .await
    }

    async fn unreferenced(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let digests = digests.to_vec();
        self.read(move |db| read::unreferenced(db, &digests)).await
    }

    async fn prune(&self, epoch: Epoch, retention: &Retention) -> Result<Vec<(ProjectId, RunId)>> {
        let asked = *retention;
        let runs = self.read(move |db| read::surplus(db, &asked)).await?;
        let runs = self.writer.write(move |db| write::remove(db, epoch, &runs)).await?;
        while self
            .writer
            .write(move |db| write::sweep(db, epoch, asked.now, asked.finished_before))
            .await?
        {}
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn slow_lists_are_not_before_what_the_leader_waits_for() {
        let root = tempfile::tempdir().unwrap();
        let store = Sqlite::open(DataDir::open(root.path()).unwrap()).unwrap();
        let places = u32::try_from(READERS).unwrap();
        let slow = store.readers.places.acquire_many(places).await.unwrap();
        let (project, run) = (ProjectId::DEFAULT, RunId(uuid::Uuid::from_u128(1)));
        let page = Page { limit: 1, cursor: None };
        let (filter, path) = (RunFilter::default(), InstancePath::from("a"));
        let mut list = pin!(store.runs(project, &filter, &page));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(list.as_mut().poll(&mut context), Poll::Pending));
        assert!(store.load_active().await.unwrap().is_empty());
        assert_eq!(store.load_run(project, run).await.unwrap(), None);
        assert_eq!(store.answer(project, "key").await.unwrap(), None);
        assert_eq!(store.version_numbers(project, "w").await.unwrap(), Default::default());
        let digest = Digest::of(b"w");
        assert_eq!(store.version_by_digest(project, "w", &digest, false).await.unwrap(), None);
        let attempts = store.attempts(project, run, &path, &page).await.unwrap();
        assert!(attempts.items.is_empty());
        drop(slow);
        assert!(list.await.unwrap().items.is_empty());
    }
}
