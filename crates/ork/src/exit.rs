//! How the command ends: one table of exit codes, one type that carries them.

use std::fmt;
use std::process::ExitCode;

use ork_api::client::ClientError;
use ork_core::run::RunState;

/// The exit codes. Scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; also a run that was accepted and is not waited for.
    Ok = 0,
    /// The run failed, or a check found errors.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The server cannot be reached, or is not ready: safe to repeat.
    Unreachable = 3,
    /// The server says no.
    Refused = 4,
    /// The run was cancelled or skipped.
    Cancelled = 5,
    /// Interrupted while watching; the run goes on.
    Interrupted = 130,
}

impl Exit {
    /// What a run's end means for the command that waited for it.
    pub(crate) fn of(state: RunState) -> Self {
        match state {
            RunState::Failed => Self::Failed,
            RunState::Cancelled | RunState::Skipped => Self::Cancelled,
            RunState::Pending | RunState::Running | RunState::Success => Self::Ok,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked, and the code with which it ends.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

/// The result of a command.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The same with what to do next, on a line of its own.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.message = format!("{}\n  hint: {hint}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable(_) => Exit::Unreachable,
            ClientError::Refused(problem) => match problem.status {
                429 | 503 => Exit::Unreachable,
                400..=499 => Exit::Refused,
                _ => Exit::Failed,
            },
            ClientError::Unexpected(_) => Exit::Failed,
        };
        let mut message = error.to_string();
        if let Some(problem) = error.problem().filter(|problem| problem.status >= 500)
            && !problem.request_id.is_empty()
        {
            message = format!("{message} (request {})", problem.request_id);
        }
        Self { exit, message }
    }
}

/// A failure of the machine: a file that cannot be read or written. Names the path.
pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use ork_api::problem::{Code, Problem};

    use super::*;

    #[test]
    fn every_problem_has_its_exit_code() {
        for code in Code::ALL {
            let failure = Failure::from(ClientError::Refused(Box::new(Problem::new(*code, "x"))));
            let expected = match code.status() {
                429 | 503 => Exit::Unreachable,
                500 => Exit::Failed,
                _ => Exit::Refused,
            };
            assert_eq!(failure.exit, expected, "{code:?}");
        }
    }
}
