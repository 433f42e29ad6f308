//! Waiting for files to change. Folders are watched one by one, without those that git ignores
//! and without `.ork`, whose files change all the time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::exit::{Failure, Result};

/// How long nothing has to change until a change is told: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);

/// A watch on folders.
pub(crate) struct Changes {
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
    told: mpsc::UnboundedReceiver<()>,
}

impl Changes {
    /// A watch on nothing yet.
    ///
    /// # Errors
    /// When the system has no more watches to give.
    pub(crate) fn new() -> Result<Self> {
        let (tell, told) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = tell.send(());
            }
        });
        let watcher = watcher.map_err(|error| failed(&error))?;
        Ok(Self { watcher, watched: HashSet::new(), told })
    }

    /// Watches the paths and every folder under them that is not watched yet. A file is watched
    /// by its folder, since editors replace files.
    ///
    /// # Errors
    /// When the system has no more watches to give.
    pub(crate) fn watch(&mut self, paths: &[PathBuf]) -> Result<()> {
        for path in paths {
            if path.is_dir() {
                for folder in folders(path) {
                    self.add(&folder)?;
                }
            } else {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                self.add(parent.unwrap_or(Path::new(".")))?;
            }
        }
        self.watched.retain(|folder| folder.is_dir());
        Ok(())
    }

    fn add(&mut self, folder: &Path) -> Result<()> {
        if self.watched.insert(folder.to_owned()) {
            self.watcher
                .watch(folder, RecursiveMode::NonRecursive)
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Waits for a change, then until there is none for a moment.
    pub(crate) async fn next(&mut self) {
        if self.told.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while tokio::time::timeout(QUIET, self.told.recv()).await.is_ok_and(|told| told.is_some()) {
        }
    }
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let walk = ignore::WalkBuilder::new(path)
        .require_git(false)
        .add_custom_ignore_filename(".orkignore")
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != "__pycache__")
        .build();
    let entries = walk.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_some_and(|kind| kind.is_dir()));
    folders.map(ignore::DirEntry::into_path)
}

fn failed(error: &notify::Error) -> Failure {
    Failure::failed(format!("cannot watch for changes: {error}"))
}
