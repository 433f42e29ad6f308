//! Virtual environments: one per interpreter and list of requirements, built once.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ork_core::run::{Failure, FailureKind};
use ork_core::value::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::blame::{not_begun, tells_of_want};
use crate::environment::Env;
use crate::programs::on_path;
use crate::spawner::{Program, Stdio3, Word};
use crate::worker::Inner;

/// The file that says that an environment is whole.
const WHOLE: &str = ".ork-whole";
/// How many of an installer's last lines are told.
const TOLD: usize = 15;

/// An environment that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) inner: &'a Inner,
    /// The interpreter that it is made with.
    pub(super) interpreter: &'a Path,
    pub(super) requirements: &'a [String],
    /// Where the requirements' relative paths begin.
    pub(super) root: &'a Path,
}

impl Wanted<'_> {
    fn dir(&self) -> PathBuf {
        let real = fs::canonicalize(self.interpreter).unwrap_or_else(|_| self.interpreter.into());
        let changed = fs::metadata(&real).and_then(|meta| meta.modified());
        let changed =
            changed.map_or(0, |at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
        let mut key = format!("{}\n{changed}\n", real.display());
        for line in self.requirements {
            key.push_str(line.trim());
            key.push('\n');
        }
        let digest = Digest::of(key.as_bytes()).to_string();
        self.inner.config.dirs.cache.join("environments").join(&digest[..32])
    }

    /// The interpreter of the environment, when it is there already.
    pub(super) fn ready(&self) -> Option<PathBuf> {
        let dir = self.dir();
        dir.join(WHOLE).is_file().then(|| dir.join("bin/python"))
    }

    /// Builds the environment and returns its interpreter. Others who want it wait.
    ///
    /// # Errors
    /// What failed, with the installer's last lines.
    pub(super) async fn build(&self) -> Result<PathBuf, Failure> {
        let dir = self.dir();
        let _lock = lock(&dir).await.map_err(|error| {
            let message = format!("the folder for virtual environments cannot be locked: {error}");
            not_begun(message, &error)
        })?;
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let _ = fs::remove_dir_all(&dir);
        self.install(&dir).await?;
        let whole = dir.clone();
        let synced = tokio::task::spawn_blocking(move || crate::bundle::sync(&whole)).await;
        synced
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .and_then(|()| fs::write(dir.join(WHOLE), ""))
            .map_err(|error| {
                not_begun(format!("the virtual environment cannot be kept: {error}"), &error)
            })?;
        Ok(dir.join("bin/python"))
    }

    async fn install(&self, dir: &Path) -> Result<(), Failure> {
        let list = dir.with_extension("txt");
        fs::write(&list, self.requirements.join("\n") + "\n").map_err(|error| {
            not_begun(format!("the requirements cannot be written: {error}"), &error)
        })?;
        let path = self.inner.inherited.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let python = dir.join("bin/python");
        let steps: [(PathBuf, Vec<&OsStr>); 2] = if let Some(uv) = on_path("uv", &path) {
            let make = ["venv", "--quiet", "--python"].map(OsStr::new);
            let make = make.into_iter().chain([self.interpreter.as_os_str(), dir.as_os_str()]);
            let fill = ["pip", "install", "--python"].map(OsStr::new).into_iter();
            let fill = fill.chain([python.as_os_str(), OsStr::new("-r"), list.as_os_str()]);
            [(uv.clone(), make.collect()), (uv, fill.collect())]
        } else {
            let make = ["-m", "venv"].map(OsStr::new).into_iter().chain([dir.as_os_str()]);
            let fill = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-r"];
            let fill = fill.map(OsStr::new).into_iter().chain([list.as_os_str()]);
            [(self.interpreter.to_owned(), make.collect()), (python.clone(), fill.collect())]
        };
        for (program, args) in steps {
            self.step(&program, &args).await?;
        }
        Ok(())
    }

    /// Runs one program of the installation to its end.
    async fn step(&self, program: &Path, args: &[&OsStr]) -> Result<(), Failure> {
        let broken = |error: io::Error| {
            not_begun(format!("{} cannot be run: {error}", program.display()), &error)
        };
        let (words, stderr) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| broken(error.into()))?;
        rustix::io::ioctl_fionbio(&words, true).map_err(|error| broken(error.into()))?;
        let name = [program.as_os_str()].into_iter();
        let spelled = Program {
            file: program.into(),
            argv: name.chain(args.iter().copied()).map(OsStr::to_owned).collect(),
            cwd: self.root.into(),
            env: environment(&self.inner.inherited).into_iter().collect(),
        };
        let stdout = stderr.try_clone().map_err(broken)?;
        let stdio = Stdio3 { stdin: None, stdout, stderr };
        let mut tree = self.inner.spawner.spawn(spelled, stdio, false);
        let words = Receiver::from_owned_fd_unchecked(words).map_err(broken)?;
        let mut lines = BufReader::new(words).lines();
        let mut last = std::collections::VecDeque::new();
        while let Ok(Some(line)) = lines.next_line().await {
            if last.len() == TOLD {
                last.pop_front();
            }
            last.push_back(line);
        }
        loop {
            match tree.next().await {
                Some(Word::Started(_)) => {}
                Some(Word::Gone(gone)) if gone.code == Some(0) => return Ok(()),
                Some(Word::Refused(error)) => return Err(broken(error)),
                _ => break,
            }
        }
        Err(self.failed(&Vec::from(last)))
    }

    /// The failure of an installer that said this last.
    fn failed(&self, last: &[String]) -> Failure {
        let wanted = self.requirements.join(", ");
        let full = last.iter().any(|line| tells_of_want(line));
        let kind = if full { FailureKind::WorkerFailed } else { FailureKind::NotStarted };
        let why = if full { ": the worker's disk is full" } else { "" };
        let message = format!("the requirements ({wanted}) cannot be installed{why}");
        let mut failure = Failure::new(kind, message);
        failure.details = Some(last.join("\n")).filter(|details| !details.is_empty());
        failure
    }
}

/// What installers see: a task's environment, and what they and their network need.
fn environment(inherited: &Env) -> Env {
    let own = |name: &OsString| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        let start = ["PIP_", "UV_"].iter().any(|start| name.starts_with(start));
        start || matches!(&*name, "HTTP_PROXY" | "HTTPS_PROXY" | "ALL_PROXY" | "NO_PROXY")
    };
    let mut env = inherited.clone();
    env.extend(std::env::vars_os().filter(|(name, _)| own(name)));
    env
}

/// Waits until nobody else on this machine builds the environment. The lock ends with the file.
async fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.with_extension("lock");
    let locked = tokio::task::spawn_blocking(move || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = File::create(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
