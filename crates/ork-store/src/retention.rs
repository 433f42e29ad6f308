//! What is removed with old runs: their logs, and the blobs that nothing refers to any more.

use std::collections::BTreeSet;

use ork_core::ids::{Epoch, ProjectId, RunId};
use ork_core::time::Wall;
use ork_core::value::Digest;

use crate::{Blobs, FileLogs, Listed, MAX_PAGE, Result, Retention, Store};

/// Removes one batch of old runs, then their logs; returns the runs. Fewer than the batch: all is
/// done. After a crash between the two, [`sweep_logs`] finds the logs that were left.
///
/// # Errors
/// Those of [`Store::prune`] and of the file system.
pub async fn prune(
    store: &dyn Store,
    logs: &FileLogs,
    epoch: Epoch,
    retention: &Retention,
) -> Result<Vec<(ProjectId, RunId)>> {
    let runs = store.prune(epoch, retention).await?;
    for (project, run) in &runs {
        logs.remove(*project, *run).await?;
    }
    Ok(runs)
}

/// Removes the logs of runs that are not in the store; returns how many runs they were of.
///
/// # Errors
/// Those of the store and of the file system.
pub async fn sweep_logs(store: &dyn Store, logs: &FileLogs) -> Result<usize> {
    let mut removed = 0;
    for (project, run) in logs.runs().await? {
        if store.run(project, run).await?.is_none() {
            logs.remove(project, run).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A part of a sweep through the blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Where the next part begins; none when this was the last.
    pub next: Option<Digest>,
    /// Blobs removed.
    pub removed: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks at the next [`MAX_PAGE`] blobs after `after`, and removes those that no row refers to and
/// that were last put before `before`: long enough ago that a row which is about to refer to one
/// has come. `named` are the files that kept values name ([`Blobs::named`]); they stay.
///
/// # Errors
/// Those of the stores.
pub async fn sweep_blobs(
    store: &dyn Store,
    blobs: &dyn Blobs,
    named: &BTreeSet<Digest>,
    after: Option<Digest>,
    before: Wall,
) -> Result<Swept> {
    let listed = blobs.list(after, MAX_PAGE).await?;
    let next = listed.last().filter(|_| listed.len() == MAX_PAGE).map(|blob| blob.digest);
    let is_old = |blob: &&Listed| blob.put_at < before && !named.contains(&blob.digest);
    let old: Vec<_> = listed.iter().filter(is_old).collect();
    let digests: Vec<_> = old.iter().map(|blob| blob.digest).collect();
    let mut swept = Swept { next, removed: 0, bytes: 0 };
    for digest in store.unreferenced(&digests).await? {
        if blobs.remove(&digest, before).await? {
            swept.removed += 1;
            let size = old.iter().find(|blob| blob.digest == digest).map_or(0, |blob| blob.size);
            swept.bytes += size;
        }
    }
    Ok(swept)
}
