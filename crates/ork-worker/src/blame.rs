//! Whose fault it is that an attempt could not begin.
//!
//! It is the worker's where its machine wants for something that it may have again: room on a disk,
//! memory, processes, descriptors. Another attempt may then go well without a change of the task.
//! Everything else is taken to be the task's: a program, file or function that is not there, or may
//! not be used.

use std::io;

use ork_core::run::{Failure, FailureKind};
use rustix::io::Errno;

/// The failure of what could not begin because of `error`.
pub(crate) fn not_begun(message: impl Into<String>, error: &io::Error) -> Failure {
    let kind = if is_want(error) { FailureKind::WorkerFailed } else { FailureKind::NotStarted };
    Failure::new(kind, message)
}

/// The failure of what could not begin, by the task's fault.
pub(crate) fn not_started(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::NotStarted, message)
}

/// Whether what an installer said tells of a full disk.
pub(crate) fn tells_of_want(line: &str) -> bool {
    ["No space left on device", "Disk quota exceeded"].iter().any(|words| line.contains(words))
}

fn is_want(error: &io::Error) -> bool {
    let passing = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::IO];
    let errno = error.raw_os_error();
    passing.iter().any(|want| errno == Some(want.raw_os_error()))
        || matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_wants_for_is_the_workers_fault() {
        use FailureKind::{NotStarted, WorkerFailed};
        let cases = [
            (Errno::NOSPC, WorkerFailed),
            (Errno::DQUOT, WorkerFailed),
            (Errno::NOMEM, WorkerFailed),
            (Errno::AGAIN, WorkerFailed),
            (Errno::MFILE, WorkerFailed),
            (Errno::NFILE, WorkerFailed),
            (Errno::IO, WorkerFailed),
            (Errno::NOENT, NotStarted),
            (Errno::ACCESS, NotStarted),
            (Errno::ROFS, NotStarted),
            (Errno::TOOBIG, NotStarted),
            (Errno::NOEXEC, NotStarted),
        ];
        for (errno, kind) in cases {
            assert_eq!(not_begun("it", &errno.into()).kind, kind, "{errno}");
        }
        let wrapped = io::Error::new(io::ErrorKind::StorageFull, "in an archive");
        assert_eq!(not_begun("it", &wrapped).kind, WorkerFailed);
        assert_eq!(not_begun("it", &io::Error::other("damaged")).kind, NotStarted);
        assert!(tells_of_want("OSError: [Errno 28] No space left on device: 'x'"));
    }
}
