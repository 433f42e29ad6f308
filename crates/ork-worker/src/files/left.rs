//! What a task leaves: files of its output, and artifacts.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use ork_api::worker::{Link, LinkError, in_parts};
use ork_core::types::Type;
use ork_core::value::{Digest, FileRef, Value};
use rustix::fs::{Mode, OFlags, open};
use tokio::io::AsyncReadExt as _;

use super::{Local, insist};

/// The most artifacts of an attempt, and the most files of an output.
pub(crate) const MAX_FILES: usize = 1_000;

/// What stands between a task's files and where they are kept.
pub(crate) struct Left<'a> {
    pub(crate) link: &'a dyn Link,
    pub(crate) artifacts: &'a Path,
    pub(crate) scratch: &'a Path,
    /// What the task was given: to return it is to return the same.
    pub(crate) given: &'a Local,
    /// The most bytes of a file.
    pub(crate) most: u64,
    pub(crate) kept: Kept,
}

/// What is kept of a task.
#[derive(Default)]
pub(crate) struct Kept {
    /// By the real path.
    contents: HashMap<PathBuf, (Digest, u64)>,
    /// The files of its output that are its own.
    pub(crate) returned: Vec<FileRef>,
}

/// The texts that stand where the type says `file`, with their places.
fn paths<'v>(
    ty: &Type,
    value: &'v mut Value,
    place: &str,
    found: &mut Vec<(String, &'v mut Value)>,
) {
    match (ty, value) {
        (Type::File, value @ (Value::String(_) | Value::Object(_))) => {
            found.push((place.to_owned(), value));
        }
        (Type::Nullable(inner), value) => paths(inner, value, place, found),
        (Type::List(inner), Value::Array(items)) => {
            for (n, item) in items.iter_mut().enumerate() {
                paths(inner, item, &format!("{place}[{n}]"), found);
            }
        }
        (Type::Dict(inner), Value::Object(fields)) => {
            for (name, field) in fields {
                paths(inner, field, &joined(place, name), found);
            }
        }
        (Type::Object(types), Value::Object(fields)) => {
            for (name, field) in fields {
                if let Some(ty) = types.get(name) {
                    paths(ty, field, &joined(place, name), found);
                }
            }
        }
        _ => {}
    }
}

fn joined(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

impl Left<'_> {
    /// Keeps the files whose paths stand in an output, and puts files in the place of the paths.
    ///
    /// # Errors
    /// One sentence that names the first path which is no file that may be kept.
    pub(crate) async fn take(&mut self, ty: &Type, output: &mut Value) -> Result<(), String> {
        let mut found = Vec::new();
        paths(ty, output, "", &mut found);
        if found.len() > MAX_FILES {
            return Err(format!("it has {} files; at most {MAX_FILES} are kept", found.len()));
        }
        for (place, value) in found {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let Value::String(path) = &*value else {
                return Err(format!("{place}a file is given by its path, not as an object"));
            };
            let file = self.file(path).await.map_err(|why| format!("{place}`{path}` {why}"))?;
            *value = file.to_value();
        }
        Ok(())
    }

    async fn file(&mut self, path: &str) -> Result<FileRef, String> {
        if let Some(given) = self.given.at(Path::new(path)) {
            return Ok(given.clone());
        }
        let real = self.real(path)?;
        let name = Path::new(path).file_name().or(real.file_name());
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (digest, size) = self.keep(&real).await?;
        let file = FileRef { digest, name, size };
        self.kept.returned.push(file.clone());
        Ok(file)
    }

    /// The place that a path of the task's leads to, within its folders.
    fn real(&self, path: &str) -> Result<PathBuf, String> {
        let relative = Path::new(path).is_relative();
        let place = if relative {
            let known = [self.artifacts, self.scratch].map(|folder| folder.join(path));
            let found = known.into_iter().find(|place| fs::symlink_metadata(place).is_ok());
            found.ok_or("is neither in $ORK_ARTIFACTS nor in $ORK_SCRATCH")?
        } else {
            PathBuf::from(path)
        };
        let real = fs::canonicalize(&place).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("cannot be read: {error}"),
        })?;
        let within = [self.artifacts, self.scratch]
            .iter()
            .any(|folder| fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder)));
        if within {
            return Ok(real);
        }
        let leads = if real == place { String::new() } else { format!(" ({})", real.display()) };
        Err(format!(
            "is outside of the task's folders{leads}: write it below $ORK_ARTIFACTS or $ORK_SCRATCH"
        ))
    }

    /// Keeps a file, once.
    async fn keep(&mut self, real: &Path) -> Result<(Digest, u64), String> {
        if let Some(kept) = self.kept.contents.get(real) {
            return Ok(*kept);
        }
        let size = opened(real)?.1;
        if size > self.most {
            let most = self.most;
            return Err(format!("has {size} bytes; the limit (limits.artifact) is {most}"));
        }
        let kept = insist("a file", || async {
            // What was read in part is read again from its begin.
            let (file, size) = opened(real).map_err(LinkError::Refused)?;
            let content = tokio::fs::File::from_std(file).take(size);
            self.link.put_stream(in_parts(content)).await
        });
        let kept = kept.await.map_err(|error| format!("could not be kept: {error}"))?;
        self.kept.contents.insert(real.to_owned(), kept);
        Ok(kept)
    }

    /// Keeps the artifacts, with the files of the output. Beside them come sentences about what was
    /// not kept.
    pub(crate) async fn artifacts(&mut self) -> (Vec<FileRef>, Vec<String>) {
        let folder = self.artifacts.to_owned();
        let listed = tokio::task::spawn_blocking(move || list(&folder)).await;
        let (names, mut lost) = match listed.map_err(io::Error::other).flatten() {
            Ok(listed) => listed,
            Err(error) => return (Vec::new(), vec![format!("artifacts cannot be read: {error}")]),
        };
        let mut kept = Vec::new();
        for name in names {
            let path = self.artifacts.join(&name);
            let real = fs::canonicalize(&path).unwrap_or(path);
            match self.keep(&real).await {
                Ok((digest, size)) => kept.push(FileRef { digest, name, size }),
                Err(why) => lost.push(format!("the artifact `{name}` {why}")),
            }
        }
        for file in &self.kept.returned {
            add(&mut kept, file);
        }
        (kept, lost)
    }
}

/// Adds a file of the output to the artifacts, unless it is one, under a name that none has.
fn add(artifacts: &mut Vec<FileRef>, file: &FileRef) {
    if artifacts.iter().any(|known| known.digest == file.digest) {
        return;
    }
    let taken = |name: &str| artifacts.iter().any(|known| known.name == name);
    let others = (1..).map(|n| format!("output/{n}/{}", file.name));
    let name = std::iter::once(file.name.clone()).chain(others).find(|name| !taken(name));
    artifacts.extend(name.map(|name| FileRef { name, ..file.clone() }));
}

/// Opens a file, without waiting for the other end of what is a pipe; with its length.
fn opened(path: &Path) -> Result<(File, u64), String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refused = |error: io::Error| format!("cannot be read: {error}");
    let meta = fs::symlink_metadata(path).map_err(refused)?;
    if let Some(kind) = no_file(&meta) {
        return Err(format!("is {kind}, not a file"));
    }
    let file = open(path, flags, Mode::empty()).map_err(|error| refused(error.into()))?;
    let file = File::from(file);
    let meta = file.metadata().map_err(refused)?;
    match no_file(&meta) {
        Some(kind) => Err(format!("is {kind}, not a file")),
        None => Ok((file, meta.len())),
    }
}

/// What something is that is no file.
fn no_file(meta: &Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_symlink() => Some("a link"),
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

/// The files below a folder by name, and sentences about what else is there.
fn list(folder: &Path) -> io::Result<(Vec<String>, Vec<String>)> {
    let (mut names, mut lost, mut open) = (Vec::new(), Vec::new(), vec![folder.to_owned()]);
    let mut more = 0_u64;
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (path, meta) = (entry.path(), entry.metadata()?);
            let Ok(name) = path.strip_prefix(folder) else { continue };
            let shown = name.to_string_lossy().into_owned();
            let sound = name.to_str().is_some_and(|name| name.len() <= FileRef::MAX_NAME);
            match no_file(&meta) {
                Some(_) if meta.is_dir() => open.push(path),
                Some(kind) => lost.push(format!("the artifact `{shown}` is {kind}: not kept")),
                None if !sound => {
                    lost.push(format!("the artifact `{shown}`: no name that can be kept"));
                }
                None if names.len() >= MAX_FILES => more += 1,
                None => names.push(shown),
            }
        }
    }
    names.sort();
    if more > 0 {
        lost.push(format!("{more} artifacts beyond the first {MAX_FILES} were not kept"));
    }
    lost.truncate(MAX_FILES);
    Ok((names, lost))
}
