//! A workflow's code as its compiler reads it: a folder of this machine, or a bundle.

use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use ork_core::ids::ProjectId;
use ork_core::lang::Sources;
use ork_core::plan::Pinned;
use ork_core::rows::VersionRow;
use ork_store::Store;
use tokio::runtime::Handle;

use crate::hub::Hub;

/// The largest code file that is read to check it, in bytes.
const MAX_FILE: u64 = 10 << 20;

/// The most entries of a bundle.
const MAX_ENTRIES: usize = 100_000;

/// A folder of this machine.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Sources for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        if !is_inside(path) {
            return Err(Some(format!("`{path}` is not a path within the code root")));
        }
        let file = match std::fs::File::open(self.0.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(None),
            Err(error) => return Err(Some(error.to_string())),
        };
        let mut content = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut content);
        read.map_err(|error| Some(error.to_string()))?;
        if content.len() as u64 > MAX_FILE {
            return Err(Some(format!("`{path}` is larger than {MAX_FILE} bytes")));
        }
        Ok(content)
    }
}

/// Code among what a file of a project may name: workflows, pools, queues. To be read off the
/// threads that answer requests, since it waits for the store.
pub(crate) struct InCatalog<S> {
    pub(crate) files: S,
    pub(crate) project: ProjectId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) runtime: Handle,
}

impl<S: Sources> Sources for InCatalog<S> {
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        self.files.read(path)
    }

    fn workflow(&self, name: &str) -> Option<Pinned> {
        let current = async {
            let row = self.store.workflow(self.project, name).await.ok()??;
            let version = row.current.filter(|_| row.deleted_at.is_none())?;
            self.store.version(self.project, name, version).await.ok()?
        };
        let VersionRow { version, plan, code, .. } = self.runtime.block_on(current)?;
        Some(Pinned { version, plan, code })
    }

    fn knows_workflows(&self) -> bool {
        true
    }

    fn has_pool(&self, name: &str) -> Option<bool> {
        let pools = self.runtime.block_on(self.store.pools()).ok()?;
        Some(pools.iter().any(|pool| pool.project == self.project && pool.name == name))
    }

    fn has_queue(&self, name: &str) -> Option<bool> {
        self.hub.serves(name)
    }
}

/// A tar archive of plain files and folders.
#[derive(Debug)]
pub(crate) struct Bundle {
    content: Bytes,
    files: HashMap<String, Range<usize>>,
}

impl Bundle {
    /// The archive without entries.
    pub(crate) fn nothing() -> Bytes {
        Bytes::from_static(&[0; 1_024])
    }

    /// Reads the archive's table.
    ///
    /// # Errors
    /// A sentence for what is no archive, or has entries that are neither files nor folders, or
    /// that lie outside of it.
    pub(crate) fn open(content: Bytes) -> Result<Self, String> {
        let mut files = HashMap::new();
        let mut archive = tar::Archive::new(&content[..]);
        let entries = archive.entries().map_err(|error| error.to_string())?;
        for (count, entry) in entries.enumerate() {
            let entry = entry.map_err(|error| format!("not a tar archive: {error}"))?;
            if count >= MAX_ENTRIES {
                return Err(format!("more than {MAX_ENTRIES} entries"));
            }
            let path = entry.path().map_err(|error| error.to_string())?;
            let name = path.to_str().ok_or("an entry's name is not UTF-8")?.to_owned();
            if !is_inside(&name) {
                return Err(format!("`{name}` is not a path within the archive"));
            }
            match entry.header().entry_type() {
                tar::EntryType::Regular => files.insert(name, range(&entry, content.len())?),
                tar::EntryType::Directory => continue,
                other => return Err(format!("`{name}` is neither file nor folder, but {other:?}")),
            };
        }
        Ok(Self { content, files })
    }
}

fn range<R: std::io::Read>(entry: &tar::Entry<'_, R>, end: usize) -> Result<Range<usize>, String> {
    let from = usize::try_from(entry.raw_file_position()).ok();
    let size = usize::try_from(entry.size()).ok();
    let range = from.zip(size).and_then(|(from, size)| Some(from..from.checked_add(size)?));
    range.filter(|range| range.end <= end).ok_or_else(|| "the archive is cut off".to_owned())
}

impl Sources for Bundle {
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        let range = self.files.get(path).cloned().ok_or(None)?;
        Ok(self.content[range].to_vec())
    }
}

/// Whether a path stays where it begins.
fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Bytes {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().into()
    }

    #[test]
    fn files_of_a_bundle() {
        use tar::EntryType::{Directory, Regular};
        let entries =
            [("a.py", Regular, "A"), ("lib/", Directory, ""), ("lib/b.py", Regular, "BB")];
        let bundle = Bundle::open(archive(&entries)).unwrap();
        assert_eq!(bundle.read("a.py").unwrap(), b"A");
        assert_eq!(bundle.read("lib/b.py").unwrap(), b"BB");
        assert_eq!(bundle.read("c.py"), Err(None));
    }

    #[test]
    fn hostile_bundles_are_refused() {
        use tar::EntryType::{Char, Link, Regular, Symlink};
        for (name, kind, part) in [
            ("../up", Regular, "not a path within"),
            ("/etc/passwd", Regular, "not a path within"),
            ("a/../../b", Regular, "not a path within"),
            ("link", Symlink, "neither file nor folder"),
            ("hard", Link, "neither file nor folder"),
            ("dev", Char, "neither file nor folder"),
        ] {
            let error = Bundle::open(archive(&[(name, kind, "")])).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
        assert!(Bundle::open(Bytes::from_static(&[7; 600])).is_err());
    }

    #[test]
    fn a_folder_is_not_left() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.py"), "A").unwrap();
        let folder = Folder(directory.path().to_owned());
        assert_eq!(folder.read("a.py").unwrap(), b"A");
        assert_eq!(folder.read("none.py"), Err(None));
        for path in ["../a.py", "/etc/passwd", "x/../../a.py", ""] {
            assert!(matches!(folder.read(path), Err(Some(_))), "{path}");
        }
    }
}
