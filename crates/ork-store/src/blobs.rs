//! Large contents by digest: outputs, files, code bundles.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use ork_core::time::Wall;
use ork_core::value::Digest;

use crate::dir::{blocking, sync_dir, write_whole};
use crate::sqlite::error::io_failed;
use crate::{DataDir, Result, page};

/// A blob of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last put, by the store's clock.
    pub put_at: Wall,
}

/// Keeps contents by their digest. What is put once is there for all who put the same.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a content; durable when this returns. A content that is there counts as put now.
    async fn put(&self, content: Bytes) -> Result<Digest>;

    /// A content; none when it is not there.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// The bytes of a content from `range.start` up to `range.end` or its end.
    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>>;

    /// The length of a content in bytes.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Blobs by digest after `after`, at most `limit` (1 to [`MAX_PAGE`](crate::MAX_PAGE)).
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Listed>>;

    /// Removes a blob unless it was put at or after `before`; says whether it removed it.
    async fn remove(&self, digest: &Digest, before: Wall) -> Result<bool>;
}

/// Blobs in memory. Its clones hold the same blobs. It has no clock: all were put at time 0.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<Digest, Bytes>>>);

impl MemoryBlobs {
    /// No blobs.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, content: Bytes) -> Result<Digest> {
        let digest = Digest::of(&content);
        self.lock().entry(digest).or_insert(content);
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(self.lock().get(digest).cloned())
    }

    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(self.lock().get(digest).map(|content| {
            let within =
                |at: u64| usize::try_from(at).map_or(content.len(), |at| at.min(content.len()));
            let end = within(range.end);
            content.slice(within(range.start).min(end)..end)
        }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.lock().get(digest).map(|content| content.len() as u64))
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Listed>> {
        page::limit(limit)?;
        let blobs = self.lock();
        let rest = blobs.iter().filter(|(digest, _)| after.is_none_or(|after| **digest > after));
        let listed = rest.map(|(digest, content)| Listed {
            digest: *digest,
            size: content.len() as u64,
            put_at: Wall(0),
        });
        Ok(listed.take(limit).collect())
    }

    async fn remove(&self, digest: &Digest, before: Wall) -> Result<bool> {
        Ok(before > Wall(0) && self.lock().remove(digest).is_some())
    }
}

/// Blobs as files of a data directory: `blobs/ab/cdef…`.
pub struct FileBlobs(Arc<Inner>);

struct Inner {
    root: PathBuf,
    temporary: AtomicU64,
    /// Taken by a put of what is there and by a removal, so that neither loses to the other.
    removal: Mutex<()>,
    _dir: Arc<DataDir>,
}

impl fmt::Debug for FileBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileBlobs").field(&self.0.root).finish()
    }
}

impl FileBlobs {
    /// The blobs of a data directory. Touches no file until there is a blob, but for what a
    /// process that was killed left unfinished, which goes.
    ///
    /// # Errors
    /// The file system refused.
    pub fn open(dir: Arc<DataDir>) -> Result<Self> {
        let root = dir.path().join("blobs");
        let unfinished = root.join("tmp");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_failed(&unfinished, &error));
            }
            _ => {}
        }
        let (temporary, removal) = (AtomicU64::new(0), Mutex::default());
        Ok(Self(Arc::new(Inner { root, temporary, removal, _dir: dir })))
    }
}

impl Inner {
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(&name[2..])
    }

    fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        let path = self.path(&digest);
        if self.touch(&path)? {
            return Ok(digest);
        }
        self.create(&path, content).map_err(|error| io_failed(&path, &error))?;
        Ok(digest)
    }

    /// Counts a blob as put now; false when it is not there.
    fn touch(&self, path: &Path) -> Result<bool> {
        let _held = self.removal.lock().unwrap_or_else(PoisonError::into_inner);
        match File::options().write(true).open(path) {
            Ok(file) => {
                file.set_modified(SystemTime::now()).map_err(|error| io_failed(path, &error))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_failed(path, &error)),
        }
    }

    fn create(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let unfinished = self.root.join("tmp");
        fs::create_dir_all(&unfinished)?;
        if let Some(parent) = path.parent()
            && !parent.exists()
        {
            fs::create_dir_all(parent)?;
            sync_dir(&self.root)?;
        }
        let n = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = unfinished.join(n.to_string());
        let written = write_whole(path, &temporary, content);
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }

    fn open(&self, digest: &Digest) -> Result<Option<(PathBuf, File)>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some((path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_failed(&path, &error)),
        }
    }

    fn range(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some((path, mut file)) = self.open(digest)? else { return Ok(None) };
        let mut content = Vec::new();
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| {
                let length = range.end.saturating_sub(range.start);
                file.take(length).read_to_end(&mut content)
            })
            .map_err(|error| io_failed(&path, &error))?;
        Ok(Some(content.into()))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some((path, file)) = self.open(digest)? else { return Ok(None) };
        let meta = file.metadata().map_err(|error| io_failed(&path, &error))?;
        Ok(Some(meta.len()))
    }

    fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Listed>> {
        let from = after.map_or(0, |after| after.0[0]);
        let mut listed = Vec::new();
        for byte in from..=u8::MAX {
            let path = self.root.join(format!("{byte:02x}"));
            let part = list_part(&path, byte).map_err(|error| io_failed(&path, &error))?;
            listed.extend(part.into_iter().filter(|blob| Some(blob.digest) > after));
            if listed.len() >= limit {
                break;
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    fn remove(&self, digest: &Digest, before: Wall) -> Result<bool> {
        let _held = self.removal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((path, file)) = self.open(digest)? else { return Ok(false) };
        let failed = |error| io_failed(&path, &error);
        let put_at = file.metadata().and_then(|meta| meta.modified()).map_err(failed)?;
        if wall(put_at) >= before {
            return Ok(false);
        }
        fs::remove_file(&path).map_err(failed)?;
        Ok(true)
    }
}

fn list_part(path: &Path, first: u8) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = format!("{first:02x}{}", entry.file_name().to_string_lossy());
        let (Ok(digest), Ok(meta)) = (name.parse(), entry.metadata()) else { continue };
        listed.push(Listed { digest, size: meta.len(), put_at: wall(meta.modified()?) });
    }
    listed.sort_by_key(|blob| blob.digest);
    Ok(listed)
}

/// A time of the file system.
pub(crate) fn wall(time: SystemTime) -> Wall {
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(span) => Wall(micros(span)),
        Err(error) => Wall(-micros(error.duration())),
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, content: Bytes) -> Result<Digest> {
        blocking(&self.0, move |blobs| blobs.put(&content)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        self.get_range(digest, 0..u64::MAX).await
    }

    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        let digest = *digest;
        blocking(&self.0, move |blobs| blobs.range(&digest, range)).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = *digest;
        blocking(&self.0, move |blobs| blobs.size(&digest)).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Listed>> {
        page::limit(limit)?;
        blocking(&self.0, move |blobs| blobs.list(after, limit)).await
    }

    async fn remove(&self, digest: &Digest, before: Wall) -> Result<bool> {
        let digest = *digest;
        blocking(&self.0, move |blobs| blobs.remove(&digest, before)).await
    }
}
