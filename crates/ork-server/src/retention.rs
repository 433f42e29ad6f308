//! What is removed with time: old runs with all that belongs to them, and what nothing refers to
//! any more. It sleeps while nothing can be due.

use std::sync::Arc;
use std::time::Duration;

use ork_core::ids::Epoch;
use ork_core::time::{Span, Wall};
use ork_store::{Blobs as _, CommitSeq, StoreError, prune, sweep_blobs, sweep_logs};

use crate::app::App;
use crate::feed::Place;
use crate::start::stopped;

/// How many runs are removed in one go.
const BATCH: usize = 50;

/// The rest between two goes, so that commits are never held up for long.
const REST: Duration = Duration::from_millis(20);

/// A blob that nothing refers to is kept this long, for the row that is about to refer to it.
const UNREFERENCED: Span = Span::from_secs(24 * 3_600);

const DAY: Span = Span::from_secs(24 * 3_600);

/// What is kept, and when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many days a run is kept after its end; none: for ever.
    pub days: Option<u64>,
    /// How many ended runs of a workflow are kept, the newest; none: all.
    pub runs: Option<u64>,
    /// How long after the start of the server it is first looked at.
    pub after_start: Duration,
    /// How long there is at least between two looks.
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            days: Some(90),
            runs: Some(10_000),
            after_start: Duration::from_mins(1),
            every: Duration::from_hours(1),
        }
    }
}

/// Removes what is too old until the server stops.
pub(crate) struct Sweeper {
    pub(crate) app: Arc<App>,
    pub(crate) retention: Retention,
}

impl Sweeper {
    pub(crate) async fn run(self) {
        let mut stopping = self.app.stopping.clone();
        tokio::select! {
            () = self.forever() => {}
            () = stopped(&mut stopping) => {}
        }
    }

    async fn forever(&self) {
        tokio::time::sleep(self.retention.after_start).await;
        if let Err(error) = self.left_behind().await {
            tracing::warn!(%error, "what removed runs left behind could not be removed");
        }
        loop {
            let seen = self.app.feed.last();
            if let Err(error) = self.pass().await {
                tracing::warn!(%error, "old runs could not be removed; it is tried again later");
            }
            tokio::time::sleep(self.retention.every).await;
            self.until_due(seen).await;
        }
    }

    /// What a crash between the removal of a run and of its files left.
    async fn left_behind(&self) -> Result<(), StoreError> {
        sweep_logs(&*self.app.store, self.app.logs.files()).await.map(drop)
    }

    /// Removes all that is due, batch by batch.
    async fn pass(&self) -> Result<(), StoreError> {
        let Ok(epoch) = self.app.engine.inspect(ork_core::run::Machine::epoch).await else {
            return Ok(());
        };
        while self.batch(epoch).await? == BATCH {
            tokio::time::sleep(REST).await;
        }
        let mut after = None;
        let before = self.now() + Span(-UNREFERENCED.0);
        let blobs = &**self.app.logs.blobs();
        let named = blobs.named().await?;
        loop {
            let swept = sweep_blobs(&*self.app.store, blobs, &named, after, before).await?;
            after = swept.next;
            if after.is_none() {
                return Ok(());
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn batch(&self, epoch: Epoch) -> Result<usize, StoreError> {
        let now = self.now();
        let retention = ork_store::Retention {
            finished_before: self.retention.age().map(|age| now + Span(-age.0)),
            keep_per_workflow: self.retention.runs,
            batch: BATCH,
            now,
        };
        let runs = prune(&*self.app.store, self.app.logs.files(), epoch, &retention).await?;
        Ok(runs.len())
    }

    /// Waits until something may be due: something happened since `seen`, or the oldest run that
    /// is there may have reached its age.
    async fn until_due(&self, seen: Place) {
        let mut changes = self.app.feed.changes();
        let happened = async {
            while self.app.feed.last() == seen {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = happened => {}
            () = self.aged() => {}
        }
    }

    /// Waits until the oldest event that is there is as old as a run may be.
    async fn aged(&self) {
        let oldest = self.app.store.feed((CommitSeq(0), 0), 1).await;
        let oldest = oldest.ok().and_then(|events| Some(events.first()?.event.at));
        let Some((oldest, age)) = oldest.zip(self.retention.age()) else {
            return std::future::pending().await;
        };
        tokio::time::sleep((oldest + age - self.now()).to_std()).await;
    }

    fn now(&self) -> Wall {
        self.app.clock.now().wall
    }
}

impl Retention {
    fn age(&self) -> Option<Span> {
        let days = i64::try_from(self.days?).ok()?;
        Some(Span(DAY.0.saturating_mul(days)))
    }
}
