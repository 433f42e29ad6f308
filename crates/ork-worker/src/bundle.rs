//! Code bundles: unpacked once per digest, read-only, shared by all attempts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use ork_api::worker::Link;
use ork_core::rows::CodeRef;
use ork_core::run::Failure;
use ork_core::value::Digest;
use tar::EntryType;
use tokio::sync::Mutex;

use crate::blame::{not_begun, not_started};
use crate::files::insist;

/// The most files and folders of a bundle.
const MAX_ENTRIES: usize = 100_000;

/// The bundles of this worker.
pub(crate) struct Bundles {
    dir: PathBuf,
    /// Held while one is unpacked.
    unpacking: Mutex<()>,
}

impl Bundles {
    pub(crate) fn new(cache: &Path) -> Self {
        Self { dir: cache.join("bundles"), unpacking: Mutex::new(()) }
    }

    /// The code root.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn root(&self, code: &CodeRef, link: &dyn Link) -> Result<PathBuf, Failure> {
        match code {
            CodeRef::InPlace { root, .. } => Ok(PathBuf::from(root)),
            CodeRef::Bundle { digest } => self.unpacked(digest, link).await,
        }
    }

    async fn unpacked(&self, digest: &Digest, link: &dyn Link) -> Result<PathBuf, Failure> {
        let target = self.dir.join(digest.to_string());
        if target.is_dir() {
            return Ok(target);
        }
        let _unpacking = self.unpacking.lock().await;
        if target.is_dir() {
            return Ok(target);
        }
        let archive = insist("a code bundle", || link.get_blob(digest)).await.map_err(|error| {
            not_started(format!("the code bundle {digest} cannot be had: {error}"))
        })?;
        if Digest::of(&archive) != *digest {
            return Err(not_started(format!("the code bundle {digest} came damaged")));
        }
        let place = target.clone();
        let unpacked = tokio::task::spawn_blocking(move || unpack(&archive, &place)).await;
        unpacked.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
            not_begun(format!("the code bundle {digest} cannot be unpacked: {error}"), &error)
        })?;
        Ok(target)
    }
}

/// Unpacks beside the target and moves it there when it is whole.
fn unpack(archive: &[u8], target: &Path) -> io::Result<()> {
    let part = target.with_extension(format!("part-{}", std::process::id()));
    let _ = remove(&part);
    fs::create_dir_all(&part)?;
    unpack_into(archive, &part)?;
    match fs::rename(&part, target) {
        // Another process of this machine was quicker.
        Err(_) if target.is_dir() => remove(&part),
        renamed => renamed,
    }
}

fn unpack_into(archive: &[u8], root: &Path) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for (count, entry) in tar::Archive::new(archive).entries()?.enumerate() {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let refuse = |why: &str| Err(io::Error::other(format!("`{}`: {why}", name.display())));
        if count >= MAX_ENTRIES {
            return refuse("more entries than 100,000");
        }
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return refuse("a path that leaves the bundle");
        }
        let place = root.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => {
                fs::create_dir_all(&place)?;
                remember(&mut folders, root, &place);
            }
            EntryType::Regular => {
                if let Some(parent) = place.parent() {
                    fs::create_dir_all(parent)?;
                    remember(&mut folders, root, parent);
                }
                let executable = entry.header().mode()? & 0o111 != 0;
                write(&mut entry, &place, if executable { 0o555 } else { 0o444 })?;
            }
            _ => return refuse("neither a file nor a folder"),
        }
    }
    // What lies deeper sorts later.
    for folder in folders.iter().rev().map(PathBuf::as_path).chain([root]) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555))?;
    }
    sync(root)
}

/// Adds a folder and those above it, up to the root.
fn remember(folders: &mut BTreeSet<PathBuf>, root: &Path, folder: &Path) {
    for above in folder.ancestors().take_while(|above| *above != root) {
        if !folders.insert(above.to_owned()) {
            return;
        }
    }
}

/// Makes what was written durable, so that a folder which is renamed to its last name after this is
/// whole whatever happens to the machine.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(dir)?)?)
}

fn write(from: &mut impl Read, place: &Path, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(place)?;
    io::copy(from, &mut file)?;
    file.flush()
}

/// Removes a folder whose folders may be read-only.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn refuses_entries_that_leave_or_are_no_files() {
        let cases: &[(&str, EntryType)] = &[
            ("../evil", EntryType::Regular),
            ("a/../../evil", EntryType::Regular),
            ("/evil", EntryType::Regular),
            ("link", EntryType::Symlink),
            ("link", EntryType::Link),
            ("device", EntryType::Char),
            ("pipe", EntryType::Fifo),
        ];
        for (name, kind) in cases {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("bundle");
            assert!(unpack(&archive(&[(name, *kind, b"")]), &target).is_err(), "{name}");
            assert!(!target.exists() && !dir.path().join("evil").exists(), "{name}");
        }
    }

    #[test]
    fn unpacks_files_read_only_and_twice_without_harm() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("bundle");
        let bytes = archive(&[
            ("code", EntryType::Directory, b""),
            ("code/run.sh", EntryType::Regular, b"#!/bin/sh\n"),
            ("no/entry/for/this/file", EntryType::Regular, b""),
        ]);
        unpack(&bytes, &target).unwrap();
        unpack(&bytes, &target).unwrap();
        let file = target.join("code/run.sh");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o555);
        for folder in ["", "code", "no", "no/entry", "no/entry/for", "no/entry/for/this"] {
            let mode = fs::metadata(target.join(folder)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o555, "{folder}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&target).unwrap();
    }
}
