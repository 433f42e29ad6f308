//! What `SQLite`'s errors mean to a caller.

use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::StoreError;

/// An error of a step before COMMIT: the transaction is rolled back, so nothing was done.
pub(super) fn failed(what: &'static str) -> impl Fn(Error) -> StoreError {
    move |error| {
        let words = format!("cannot {what}: {error}");
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen,
            ) => StoreError::Retryable(words),
            _ => StoreError::Rejected(words),
        }
    }
}

/// An error of COMMIT. A full disk keeps the commit's last page out, so nothing was done; an I/O
/// error may have come after it was written.
pub(super) fn commit_failed(error: Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => StoreError::Unknown(error.to_string()),
        _ => failed("commit")(error),
    }
}

/// An error of the file system. After one of the device nobody knows what it wrote.
pub(crate) fn io_failed(path: &Path, error: &io::Error) -> StoreError {
    let words = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory => StoreError::Rejected(words),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            StoreError::Unknown(words)
        }
        _ => StoreError::Retryable(words),
    }
}
