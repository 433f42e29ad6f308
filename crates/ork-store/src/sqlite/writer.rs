//! The one thread that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::sqlite::error::failed;
use crate::sqlite::schema;
use crate::{Result, StoreError};

/// Pages (4 KiB) of log that are brought into the file together.
const CHECKPOINT_PAGES: i32 = 4_000;

/// Calls that wait for the writer; the next caller waits for a place.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The writer's door. When it is dropped, the thread ends after what was asked before.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(mut db: Connection, path: PathBuf) -> Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let mut log = Log::new(path);
        let pages = log.pages.clone();
        db.wal_hook(Some(move |_: &mut _, count| {
            pages.store(count, Ordering::Relaxed);
            Ok(())
        }))
        .map_err(failed("open"))?;
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&db);
                log.tend(&db);
            }
        };
        let thread = thread::Builder::new().name("ork-writer".into()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Retryable(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does `work` on the writer's thread. It is done whole, even if nobody waits any more.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |db| drop(answer.send(work(db))));
        let gone = || StoreError::Unknown("the writer's thread has ended".to_owned());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Keeps the write-ahead log short without making a commit wait: most of it is brought into the
/// file by a connection of its own; the writer brings the rest, so that the log can begin anew.
struct Log {
    path: PathBuf,
    pages: Arc<AtomicI32>,
    due: i32,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    running: AtomicBool,
    done: AtomicBool,
}

impl Log {
    fn new(path: PathBuf) -> Self {
        Self { path, pages: Arc::default(), due: CHECKPOINT_PAGES, state: Arc::default() }
    }

    fn tend(&mut self, db: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < CHECKPOINT_PAGES {
            self.due = CHECKPOINT_PAGES;
        }
        if self.state.done.swap(false, Ordering::AcqRel) {
            warn(schema::finish_checkpoint(db));
        } else if pages >= self.due && !self.state.running.swap(true, Ordering::AcqRel) {
            // A reader may hold the log back: the next attempt comes after as many pages more.
            self.due = pages.saturating_add(CHECKPOINT_PAGES);
            self.begin();
        }
    }

    fn begin(&self) {
        let (path, state) = (self.path.clone(), self.state.clone());
        let work = move || {
            warn(schema::checkpoint(&path));
            state.done.store(true, Ordering::Release);
            state.running.store(false, Ordering::Release);
        };
        if let Err(error) = thread::Builder::new().name("ork-checkpoint".into()).spawn(work) {
            tracing::warn!(%error, "cannot start a checkpoint");
            self.state.running.store(false, Ordering::Release);
        }
    }
}

fn warn(done: Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the write-ahead log stays long for now");
    }
}
