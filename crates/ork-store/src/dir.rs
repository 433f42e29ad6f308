//! The data directory: one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::{Result, StoreError};

/// A directory that this process holds; the lock ends with the last clone, or with the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Why a data directory cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process has it.
    #[error("{path} is in use by {}", words(.holder.as_ref()))]
    Held {
        /// The directory.
        path: String,
        /// The process that has it; none where it has just begun or is just ending.
        holder: Option<u32>,
    },
    /// The file system refused.
    #[error("cannot open {path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What it said.
        error: io::Error,
    },
}

fn words(holder: Option<&u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}: stop it first"),
        None => "another process: try again, or stop it first".to_owned(),
    }
}

impl DataDir {
    /// Makes the directory, readable by its owner alone, if it is not there, and takes its lock.
    ///
    /// # Errors
    /// [`DirError::Held`] while another process has it.
    pub fn open(path: &Path) -> std::result::Result<Arc<Self>, DirError> {
        let failed = |error| DirError::Io { path: path.display().to_string(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).read(true).write(true);
        let lock = lock.open(path.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DirError::Held {
                    path: path.display().to_string(),
                    holder: read_holder(lock),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let dir = Self { path: path.to_owned(), lock };
        dir.write_holder().map_err(failed)?;
        Ok(Arc::new(dir))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that holds a directory now, if one does.
    pub fn holder(path: &Path) -> Option<u32> {
        let lock = File::open(path.join("lock")).ok()?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => read_holder(lock),
        }
    }

    fn write_holder(&self) -> io::Result<()> {
        let text = format!("{}\n", std::process::id());
        self.lock.write_all_at(text.as_bytes(), 0)?;
        self.lock.set_len(text.len() as u64)
    }
}

fn read_holder(mut lock: File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Writes a file in whole: a reader sees all of it or none, even after a power loss.
pub(crate) fn write_whole(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Does what waits for the disk apart from the threads that wait for nothing.
pub(crate) async fn blocking<I: Send + Sync + 'static, T: Send + 'static>(
    of: &Arc<I>,
    work: impl FnOnce(&I) -> Result<T> + Send + 'static,
) -> Result<T> {
    let of = of.clone();
    let done = tokio::task::spawn_blocking(move || work(&of)).await;
    done.map_err(|error| StoreError::Retryable(error.to_string()))?
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
