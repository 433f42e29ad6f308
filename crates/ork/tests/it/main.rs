//! The real binary in folders of its own.

#![allow(clippy::unwrap_used)]

mod chaos;
mod docs;
mod examples;
mod files;
mod offline;
mod online;
mod schedules;
mod settings;
mod terminal;
mod triggers;
mod workflows;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder, and the binary in it without the settings of whoever runs the tests.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Place {
    /// A folder with files.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    /// A path in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// The command with these words, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_ork"));
        command.args(words);
        command
    }

    /// Any program in the folder.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORK_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).env("NO_COLOR", "1");
        command.env("XDG_CACHE_HOME", self.path(".cache"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub fn ork(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
