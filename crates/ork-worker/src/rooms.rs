//! Empty folders for attempts. To make one and remove it costs milliseconds on some file systems,
//! and most attempts put nothing into theirs, so that one that is still empty goes to the next.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a folder may be used for and by whom: anything, by its owner alone.
const MODE: u32 = 0o700;

/// The folders in one folder.
pub(crate) struct Rooms {
    dir: PathBuf,
    made: AtomicU64,
    free: Mutex<Vec<PathBuf>>,
}

impl Rooms {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), made: AtomicU64::new(0), free: Mutex::default() }
    }

    /// An empty folder that nobody else has.
    ///
    /// # Errors
    /// When none can be made.
    pub(crate) fn take(&self) -> io::Result<PathBuf> {
        // Whoever cleans up after the system may have removed some.
        while let Some(room) = self.free().pop() {
            if is_as_new(&room) {
                return Ok(room);
            }
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let room = self.dir.join(number.to_string());
        let mut private = fs::DirBuilder::new();
        match private.mode(MODE).create(&room) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private.recursive(true).create(&room)?;
            }
            made => made?,
        }
        Ok(room)
    }

    /// Takes a folder back, with whatever is in it.
    ///
    /// # Errors
    /// When what is in it cannot be removed.
    pub(crate) async fn give_back(&self, room: PathBuf) -> io::Result<()> {
        if is_as_new(&room) {
            self.free().push(room);
            return Ok(());
        }
        let removed = tokio::task::spawn_blocking(move || crate::bundle::remove(&room)).await;
        match removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is a folder, as it was made, with nothing in it.
fn is_as_new(room: &Path) -> bool {
    let kept = |data: fs::Metadata| data.is_dir() && data.permissions().mode() & 0o7777 == MODE;
    fs::symlink_metadata(room).is_ok_and(kept)
        && fs::read_dir(room).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_as_new_goes_to_the_next() {
        let base = tempfile::tempdir().unwrap();
        let rooms = Rooms::new(&base.path().join("deep/er"));
        let first = rooms.take().unwrap();
        assert_ne!(rooms.take().unwrap(), first);
        rooms.give_back(first.clone()).await.unwrap();
        assert_eq!(rooms.take().unwrap(), first);
        fs::create_dir(first.join("sub")).unwrap();
        fs::write(first.join("sub/file"), "x").unwrap();
        fs::set_permissions(first.join("sub"), fs::Permissions::from_mode(0o500)).unwrap();
        rooms.give_back(first.clone()).await.unwrap();
        assert!(!first.exists());
        let open = rooms.take().unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        rooms.give_back(open.clone()).await.unwrap();
        assert!(!open.exists());
        let gone = rooms.take().unwrap();
        fs::remove_dir(&gone).unwrap();
        rooms.give_back(gone.clone()).await.unwrap();
        let swept = rooms.take().unwrap();
        rooms.give_back(swept.clone()).await.unwrap();
        fs::remove_dir_all(base.path().join("deep")).unwrap();
        let new = rooms.take().unwrap();
        assert!(new != swept && new.is_dir());
    }
}
