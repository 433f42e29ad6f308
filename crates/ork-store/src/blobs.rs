//! Large contents by digest: outputs, files, code bundles.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ork_core::time::Wall;
use ork_core::value::{Digest, FileRef, Hasher};
use tokio::runtime::Handle;

use crate::dir::{blocking, sync_dir, write_whole};
use crate::sqlite::error::io_failed;
use crate::{DataDir, Result, StoreError, page};

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

/// A content that comes part by part.
pub type Content = BoxStream<'static, io::Result<Bytes>>;

/// Keeps contents by their digest. What is put once is there for all who put the same.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a content; durable when this returns. A content that is there counts as put now.
    async fn put(&self, content: Bytes) -> Result<Digest>;

    /// Keeps a content of any size up to `most` bytes, of which no more than a part is in memory at
    /// a time; otherwise as [`Blobs::put`]. Gives its digest and its length.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for one that is longer, [`StoreError::Retryable`] where it cannot
    /// be read to its end; nothing is kept then.
    async fn put_stream(&self, content: Content, most: u64) -> Result<(Digest, u64)>;

    /// Counts a content as put now; false when it is not there.
    async fn touch(&self, digest: &Digest) -> Result<bool>;

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

    /// The files that values name which were put here by [`Blobs::put`] and are still here.
    async fn named(&self) -> Result<BTreeSet<Digest>>;
}

/// The files that a content names, if it is a value.
fn names(content: &[u8]) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    let key = format!("\"{}\"", FileRef::KEY);
    if memchr::memmem::find(content, key.as_bytes()).is_some()
        && let Ok(value) = serde_json::from_slice(content)
    {
        FileRef::each(&value, &mut |file| {
            found.insert(file.digest);
        });
    }
    found
}

fn too_long(most: u64) -> StoreError {
    StoreError::Rejected(format!("the content is longer than {most} bytes"))
}

fn broke_off(error: &io::Error) -> StoreError {
    StoreError::Retryable(format!("the content broke off: {error}"))
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

    async fn put_stream(&self, mut content: Content, most: u64) -> Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        while let Some(part) = content.next().await {
            bytes.extend_from_slice(&part.map_err(|error| broke_off(&error))?);
            if bytes.len() as u64 > most {
                return Err(too_long(most));
            }
        }
        let size = bytes.len() as u64;
        Ok((self.put(bytes.into()).await?, size))
    }

    async fn touch(&self, digest: &Digest) -> Result<bool> {
        Ok(self.lock().contains_key(digest))
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

    async fn named(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.lock().values().flat_map(|content| names(content)).collect())
    }
}

/// Blobs as files of a data directory: `blobs/ab/cdef…`, and `blobs/names/abcdef…` beside one that
/// is a value with files in it: their digests.
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
        let names = names(content);
        if !names.is_empty() {
            let list: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
            let file = self.names_of(&digest);
            self.create(&file, &list).map_err(|error| io_failed(&file, &error))?;
        }
        self.create(&path, content).map_err(|error| io_failed(&path, &error))?;
        Ok(digest)
    }

    fn names_of(&self, digest: &Digest) -> PathBuf {
        self.root.join("names").join(digest.to_string())
    }

    fn put_stream(
        &self,
        most: u64,
        mut parts: impl Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(Digest, u64)> {
        let temporary = self.unfinished().map_err(|error| io_failed(&self.root, &error))?;
        let kept = self.receive(&temporary, most, &mut parts);
        if kept.is_err() {
            drop(fs::remove_file(&temporary));
        }
        kept
    }

    fn receive(
        &self,
        temporary: &Path,
        most: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(Digest, u64)> {
        let failed = |error| io_failed(temporary, &error);
        let mut file = File::create(temporary).map_err(failed)?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        for part in parts {
            let part = part.map_err(|error| broke_off(&error))?;
            size += part.len() as u64;
            if size > most {
                return Err(too_long(most));
            }
            hasher.update(&part);
            file.write_all(&part).map_err(failed)?;
        }
        let digest = hasher.digest();
        let path = self.path(&digest);
        if self.touch(&path)? {
            fs::remove_file(temporary).map_err(failed)?;
            return Ok((digest, size));
        }
        file.sync_all().map_err(failed)?;
        let moved = self.make_parent(&path).and_then(|()| {
            fs::rename(temporary, &path)?;
            path.parent().map_or(Ok(()), sync_dir)
        });
        moved.map_err(|error| io_failed(&path, &error))?;
        Ok((digest, size))
    }

    /// Where a file may be written that is not whole yet.
    fn unfinished(&self) -> io::Result<PathBuf> {
        let folder = self.root.join("tmp");
        fs::create_dir_all(&folder)?;
        Ok(folder.join(self.temporary.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    fn make_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !parent.exists() => {
                fs::create_dir_all(parent)?;
                sync_dir(&self.root)
            }
            _ => Ok(()),
        }
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
        let temporary = self.unfinished()?;
        self.make_parent(path)?;
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
        match fs::remove_file(self.names_of(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(true),
        }
    }

    fn named(&self) -> Result<BTreeSet<Digest>> {
        let folder = self.root.join("names");
        let failed = |error| io_failed(&folder, &error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut named = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let of = entry.file_name().to_string_lossy().parse();
            if of.is_ok_and(|of| self.path(&of).exists()) {
                let list = fs::read(entry.path()).map_err(failed)?;
                named.extend(list.as_chunks().0.iter().copied().map(Digest));
            }
        }
        Ok(named)
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

    async fn put_stream(&self, mut content: Content, most: u64) -> Result<(Digest, u64)> {
        let runtime = Handle::current();
        let parts = std::iter::from_fn(move || runtime.block_on(content.next()));
        blocking(&self.0, move |blobs| blobs.put_stream(most, parts)).await
    }

    async fn touch(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        blocking(&self.0, move |blobs| blobs.touch(&blobs.path(&digest))).await
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

    async fn named(&self) -> Result<BTreeSet<Digest>> {
        blocking(&self.0, Inner::named).await
    }
}
