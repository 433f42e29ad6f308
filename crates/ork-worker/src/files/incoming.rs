//! Local copies of files that attempts are given.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ork_api::worker::{Link, LinkError};
use ork_core::run::Failure;
use ork_core::value::{Digest, FileRef, Hasher, Value};
use tokio::sync::OnceCell;

use super::{PART, insist};
use crate::blame::{not_begun, not_started};

/// The copies of this worker: one of each content, for as long as an attempt has it.
pub(crate) struct Copies {
    dir: PathBuf,
    made: AtomicU64,
    held: Mutex<HashMap<Digest, Weak<Copy>>>,
}

/// One content on this machine; its file goes with its last holder.
pub(crate) struct Copy {
    path: PathBuf,
    fetched: OnceCell<Stamp>,
}

/// What shows that nobody has written to a copy: its length, and when it was last written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Copy {
    fn stamp(&self) -> io::Result<Stamp> {
        let meta = fs::symlink_metadata(&self.path)?;
        Ok(Stamp(meta.len(), meta.mtime(), meta.mtime_nsec()))
    }

    /// Whether it is as it was fetched, or still to be fetched.
    fn is_sound(&self) -> bool {
        self.fetched.get().is_none_or(|stamp| self.stamp().is_ok_and(|now| now == *stamp))
    }
}

impl Copies {
    /// Copies in `dir`, which is made when first needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, made: AtomicU64::new(0), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Copy>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> String {
        self.made.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The copy of a content; one that a task has tampered with is not given to another.
    fn copy(&self, digest: Digest) -> Arc<Copy> {
        let mut held = self.held();
        if let Some(copy) = held.get(&digest).and_then(Weak::upgrade).filter(|copy| copy.is_sound())
        {
            return copy;
        }
        held.retain(|_, copy| copy.strong_count() > 0);
        let path = self.dir.join("copies").join(self.number());
        let copy = Arc::new(Copy { path, fetched: OnceCell::new() });
        held.insert(digest, Arc::downgrade(&copy));
        copy
    }

    /// Puts the files under a new folder where an attempt may read them.
    ///
    /// # Errors
    /// Names the file which cannot be had.
    pub(crate) async fn give(
        &self,
        files: Vec<FileRef>,
        link: &dyn Link,
    ) -> Result<Local, Failure> {
        let mut local = Local::default();
        for file in files {
            if local.path(&file).is_some() {
                continue;
            }
            let why = |failure: Failure| Failure {
                message: format!("the file `{}` cannot be had: {}", file.name, failure.message),
                ..failure
            };
            let copy = self.copy(file.digest);
            let stamp = copy.fetched.get_or_try_init(|| fetch(&copy, &file, link)).await;
            stamp.map_err(why)?;
            let dir = local.dir.get_or_insert_with(|| self.dir.join(self.number()));
            let place = place(dir, local.files.len(), &file.name, &copy.path);
            let place = place.map_err(|error| why(not_begun(error.to_string(), &error)))?;
            local.files.push((file, place));
            local.copies.push(copy);
        }
        Ok(local)
    }
}

/// Gives a copy its name in an attempt's folder.
fn place(dir: &Path, number: usize, name: &str, copy: &Path) -> io::Result<PathBuf> {
    let dir = dir.join(number.to_string());
    private(&dir)?;
    let name = Path::new(name).file_name().unwrap_or("file".as_ref());
    let place = dir.join(name);
    fs::hard_link(copy, &place)?;
    Ok(place)
}

fn private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Fetches a content part by part.
async fn fetch(copy: &Copy, file: &FileRef, link: &dyn Link) -> Result<Stamp, Failure> {
    let words = |error: io::Error| not_begun(format!("{}: {error}", copy.path.display()), &error);
    if let Some(dir) = copy.path.parent() {
        private(dir).map_err(words)?;
    }
    let mut options = OpenOptions::new();
    let mut to =
        options.write(true).create_new(true).mode(0o600).open(&copy.path).map_err(words)?;
    let (mut at, mut hasher) = (0, Hasher::default());
    while at < file.size {
        let part = insist("a part of a file", || link.get_part(&file.digest, at..at + PART)).await;
        let part = part.map_err(|error: LinkError| not_started(error.to_string()))?;
        if part.is_empty() {
            break;
        }
        at += part.len() as u64;
        let written = tokio::task::spawn_blocking(move || {
            hasher.update(&part);
            to.write_all(&part).map(|()| (to, hasher))
        });
        let written = written.await.map_err(io::Error::other).flatten();
        (to, hasher) = written.map_err(words)?;
    }
    if hasher.digest() != file.digest || at != file.size {
        return Err(not_started(format!("it came damaged ({})", file.digest)));
    }
    to.set_permissions(Permissions::from_mode(0o444)).map_err(words)?;
    drop(to);
    copy.stamp().map_err(words)
}

/// The files that an attempt was given.
#[derive(Default)]
pub(crate) struct Local {
    dir: Option<PathBuf>,
    files: Vec<(FileRef, PathBuf)>,
    /// They stay as long as this does.
    copies: Vec<Arc<Copy>>,
}

impl Local {
    /// Where a file is.
    fn path(&self, file: &FileRef) -> Option<&Path> {
        let found = self.files.iter().find(|(known, _)| known == file);
        found.map(|(_, path)| path.as_path())
    }

    /// The file at a path.
    pub(super) fn at(&self, path: &Path) -> Option<&FileRef> {
        self.files.iter().find(|(_, known)| known == path).map(|(file, _)| file)
    }

    /// Puts paths in the place of files.
    pub(crate) fn put_paths(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.put_paths_in(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.put_paths(item)),
            Value::Object(fields) if fields.contains_key(FileRef::KEY) => {
                let path = FileRef::of(value).and_then(|file| self.path(&file));
                if let Some(path) = path.map(Path::to_string_lossy) {
                    *value = path.into();
                }
            }
            Value::Object(fields) => fields.values_mut().for_each(|field| self.put_paths(field)),
            _ => {}
        }
    }

    /// Puts paths in the place of the marks of files.
    pub(crate) fn put_paths_in(&self, text: &mut String) {
        if !text.contains('\0') {
            return;
        }
        let parts = FileRef::marks(text).into_iter().map(|part| match part {
            Ok(file) => self.path(&file).unwrap_or(Path::new("")).to_string_lossy().into_owned(),
            Err(text) => text.to_owned(),
        });
        *text = parts.collect();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            let _ = crate::bundle::remove(dir);
        }
    }
}

/// The files that a value names, also in its texts.
pub(crate) fn named(value: &Value, found: &mut Vec<FileRef>) {
    match value {
        Value::String(text) => named_in(text, found),
        Value::Array(items) => items.iter().for_each(|item| named(item, found)),
        Value::Object(fields) => match FileRef::of(value) {
            Some(file) => found.push(file),
            None => fields.values().for_each(|field| named(field, found)),
        },
        _ => {}
    }
}

/// The files whose marks a text holds.
pub(crate) fn named_in(text: &str, found: &mut Vec<FileRef>) {
    if text.contains('\0') {
        found.extend(FileRef::marks(text).into_iter().flatten());
    }
}
