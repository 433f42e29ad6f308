//! Workflow files on disk: which there are, where their code is, and how the compiler reads it.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use ork_api::types::MAX_BUNDLE;
use ork_core::lang::{Compiled, Limits, Sources, compile_within};
use rustix::io::Errno;

use crate::exit::{Failure, Result};
use crate::settings::{SettingFlags, Settings};

/// Whether an argument names a file rather than a workflow on a server.
pub(crate) fn is_file(argument: &str) -> bool {
    argument.contains('/') || is_yaml(Path::new(argument))
}

/// Whether the name ends as YAML does.
pub(crate) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// A workflow file that has been read and checked.
pub(crate) struct WorkflowFile {
    /// As its user names it.
    pub(crate) path: PathBuf,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
    /// The code root, absolute.
    pub(crate) root: PathBuf,
    /// What came of it.
    pub(crate) compiled: Compiled,
}

impl WorkflowFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read; what is wrong in it is in `compiled`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        must_be_file(path).map_err(|error| missing(path, &error))?;
        let root = code_root(path)?;
        let bytes = read(path, limits(&root)?.bytes).map_err(|error| missing(path, &error))?;
        let compiled = checked(&path.to_string_lossy(), &bytes, &root)?;
        let mut file = Self { path: path.to_owned(), bytes, root, compiled };
        file.take_declared_root()?;
        Ok(file)
    }

    /// A `code.root` of the file takes the place of the nearest folder, and the code is read from
    /// there.
    fn take_declared_root(&mut self) -> Result<()> {
        let name = self.path.to_string_lossy();
        let declared = match &self.compiled.plan {
            Some(plan) => plan.code.root.clone(),
            None => declared_root(&name, &self.bytes),
        };
        if let Some(declared) = declared {
            let parent = self.path.parent().unwrap_or(Path::new(""));
            self.root = absolute(&parent.join(declared))?;
            self.compiled = checked(&name, &self.bytes, &self.root)?;
        }
        Ok(())
    }

    /// The files that were looked at to read this one, each with its mark: itself, the settings
    /// above it and the code files that it names. None where it has errors, since then nobody
    /// knows which code files it would name.
    pub(crate) fn marks(&self) -> Option<Vec<(PathBuf, Option<Mark>)>> {
        let plan = self.compiled.plan.as_ref()?;
        let own = absolute(self.path.parent().unwrap_or(Path::new(""))).ok()?;
        let above = own.ancestors().chain([&*self.root]).map(|folder| folder.join("ork.toml"));
        let code = plan.code.files.iter().map(|file| self.root.join(file));
        let paths = [self.path.clone()].into_iter().chain(above).chain(code);
        Some(paths.map(|path| (path.clone(), Mark::of(&path))).collect())
    }

    /// The file's text; what is not UTF-8 the compiler has refused.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

fn checked(name: &str, bytes: &[u8], root: &Path) -> Result<Compiled> {
    Ok(compile_within(name, bytes, &Folder(root.to_owned()), &limits(root)?))
}

/// What the settings of a code root allow a workflow file.
fn limits(root: &Path) -> Result<Limits> {
    let settings = Settings::resolve(root, &SettingFlags::default())?;
    Ok(settings.limits.language)
}

/// What tells that a file is another one than before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    /// The mark of the file; none where there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for Mark {
    fn from(data: &Metadata) -> Self {
        Self {
            inode: (data.dev(), data.ino()),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// Reads a file of at most `most` bytes. Of a larger one comes one byte more, by which it is known
/// as too large. Folders, pipes and devices are refused unread: they need not have an end.
///
/// # Errors
/// When it is no file, or cannot be read.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    must_be_file(path)?;
    bounded(File::open(path)?, most)
}

fn must_be_file(path: &Path) -> io::Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!("this is {}, not a file", word(kind))))
}

/// Reads at most `most` bytes and one.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn bounded(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn word(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The `code: {root}` of a file that has errors elsewhere, so that its code is found all the same.
fn declared_root(name: &str, bytes: &[u8]) -> Option<String> {
    let value = ork_core::lang::data(name, bytes).ok()?;
    Some(value.get("code")?.get("root")?.as_str()?.to_owned())
}

fn missing(path: &Path, error: &io::Error) -> Failure {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        return Failure::usage(format!("{}: the link leads back to itself", path.display()));
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::usage(format!("{}: {error}", path.display()));
    }
    let failure = Failure::usage(format!("{}: there is no such file", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<_> = names.filter(|name| is_yaml(Path::new(name))).collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    match crate::suggest::nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => {
            failure.hint(format!("did you mean `{}`?", path.with_file_name(near).display()))
        }
        None => failure,
    }
}

/// The nearest parent folder with `ork.toml`, else the file's own.
fn code_root(path: &Path) -> Result<PathBuf> {
    let own = absolute(path.parent().unwrap_or(Path::new("")))?;
    let with_config = own.ancestors().find(|folder| folder.join("ork.toml").is_file());
    Ok(with_config.map_or_else(|| own.clone(), Path::to_path_buf))
}

/// The folder as an absolute path without `.`, `..` and symbolic links.
pub(crate) fn absolute(folder: &Path) -> Result<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::canonicalize(folder).map_err(|error| crate::exit::io(folder, &error))
}

/// A code root on disk.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Sources for Folder {
    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, Option<String>> {
        let relative = Path::new(path);
        if relative
            .components()
            .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(Some(format!("`{path}` leaves the code root")));
        }
        let full = self.0.join(relative);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => None,
            _ => Some(format!("{}: {error}", full.display())),
        };
        let bytes = read(&full, MAX_BUNDLE).map_err(failed)?;
        if bytes.len() > MAX_BUNDLE {
            return Err(Some(format!("{}: it has more than {MAX_BUNDLE} bytes", full.display())));
        }
        Ok(bytes)
    }
}

/// The workflow files among `paths`: files as they are named, and every one under the folders.
///
/// # Errors
/// When a path is not there.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => found.extend(under(path)),
            Ok(_) => found.push(path.clone()),
            Err(error) => return Err(missing(path, &error)),
        }
    }
    Ok(found)
}

/// Every workflow file under a folder, by name; `.gitignore` and `.orkignore` are honoured.
pub(crate) fn under(folder: &Path) -> Vec<PathBuf> {
    let walk = ignore::WalkBuilder::new(folder)
        .add_custom_ignore_filename(".orkignore")
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .build();
    let files = walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    let yaml = files.map(ignore::DirEntry::into_path).filter(|path| is_yaml(path));
    let plain = yaml.map(|path| path.strip_prefix(".").map_or(path.clone(), Path::to_path_buf));
    plain.filter(|path| is_workflow(path)).collect()
}

/// Whether a YAML file is meant as a workflow: by its name, else by a `tasks` key at its top.
pub(crate) fn is_workflow(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".ork.yaml") || name.ends_with(".ork.yml") {
        return true;
    }
    let bytes = read(path, Limits::default().bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().any(|line| {
        line.strip_prefix("tasks").is_some_and(|rest| rest.trim_start().starts_with(':'))
    })
}
