//! Where programs are.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The first program of this name on a search path; folders that are not absolute do not count.
pub(crate) fn on_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    let places = std::env::split_paths(path).filter(|place| place.is_absolute());
    places.map(|place| place.join(name)).find(|file| is_program(file))
}

/// Whether this is a file that may be executed by somebody.
pub(crate) fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
