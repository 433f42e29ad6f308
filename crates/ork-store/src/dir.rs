//! The data directory: one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// A directory that this process holds; the lock ends with the last clone, or with the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// The process that holds a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Where it answers, once it does.
    pub url: Option<String>,
}

/// Why a data directory cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process has it.
    #[error("{path} is in use by {}", words(.holder.as_ref()))]
    Held {
        /// The directory.
        path: String,
        /// Who has it; none where it has just begun or is just ending.
        holder: Option<Holder>,
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

fn words(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, url: Some(url) }) => {
            format!("process {pid}, which answers at {url}: use that, or stop it first")
        }
        Some(Holder { pid, url: None }) => format!("process {pid}: stop it first"),
        None => "another process: try again, or stop it first".to_owned(),
    }
}

impl DataDir {
    /// Makes the directory, readable by its owner alone, if it is not there, and takes its lock.
    ///
    /// # Errors
    /// [`DirError::Held`] while another process has it.
    pub fn open(path: &Path) -> Result<Arc<Self>, DirError> {
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
        dir.write_holder(None).map_err(failed)?;
        Ok(Arc::new(dir))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says where this process answers, for those who find the directory in use.
    ///
    /// # Errors
    /// The file system refused.
    pub fn announce(&self, url: &str) -> Result<(), DirError> {
        let failed = |error| DirError::Io { path: self.path.display().to_string(), error };
        self.write_holder(Some(url.to_owned())).map_err(failed)
    }

    /// The process that holds a directory now, if one does.
    pub fn holder(path: &Path) -> Option<Holder> {
        let lock = File::open(path.join("lock")).ok()?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => read_holder(lock),
        }
    }

    fn write_holder(&self, url: Option<String>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Holder { pid: std::process::id(), url })?;
        text.push(b'\n');
        self.lock.write_all_at(&text, 0)?;
        self.lock.set_len(text.len() as u64)
    }
}

fn read_holder(mut lock: File) -> Option<Holder> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes a file in whole: a reader sees all of it or none, even after a power loss.
pub(crate) fn write_whole(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
