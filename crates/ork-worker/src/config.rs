//! A worker's settings.

use std::path::PathBuf;
use std::time::Duration;

use ork_core::ids::WorkerId;

/// A worker's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// This boot of the worker.
    pub worker: WorkerId,
    /// How many attempts it does at a time; the server keeps to it.
    pub slots: u32,
    /// The queues it serves; `*`: all of them.
    pub queues: Vec<String>,
    /// Its folders.
    pub dirs: Dirs,
    /// The Python interpreter; without one the code root's `.venv`, else `python3` from `PATH`.
    pub python: Option<PathBuf>,
    /// How long an interpreter that Python tasks are forked from stays without work.
    pub python_idle: Duration,
    /// Names of further variables of its own environment that tasks see; see
    /// [`crate::environment`].
    pub pass_env: Vec<String>,
    /// The most bytes of a task's output.
    pub max_output: usize,
    /// The most bytes of a file that a task leaves, be it an artifact or of its output.
    pub max_artifact: u64,
}

/// The most bytes of a task's output, unless configured otherwise.
pub const MAX_OUTPUT: usize = 1 << 20;

/// How long an interpreter that Python tasks are forked from stays without work, unless configured
/// otherwise.
pub const PYTHON_IDLE: Duration = Duration::from_mins(5);

/// A worker's folders. All are absolute; what is missing is made when first needed.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Small files that live as long as an attempt; best in memory. This boot's own: the worker
    /// removes it when it ends.
    pub scratch: PathBuf,
    /// The attempts' own files, while they last: where the system keeps temporary files, since
    /// they may be large. This boot's own: the worker removes it when it ends.
    pub temporary: PathBuf,
    /// What attempts put into `ORK_ARTIFACTS`, until it is kept: on a disk, since it may be large.
    /// This boot's own: the worker removes it when it ends.
    pub artifacts: PathBuf,
    /// Unpacked code bundles, virtual environments, the Python runner: all can be made again.
    pub cache: PathBuf,
}

impl Dirs {
    /// The folders of one boot: artifacts on their way in `data`, what can be made again in `cache`, short-lived
    /// files in `/dev/shm` where there is one.
    pub fn of(worker: &WorkerId, data: &std::path::Path, cache: PathBuf) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let scratch = if rustix::fs::access(memory, rustix::fs::Access::WRITE_OK).is_ok() {
            memory.join(format!("ork-{worker}"))
        } else {
            data.join("scratch").join(worker.0.as_ref())
        };
        let temporary = std::env::temp_dir().join(format!("ork-{worker}"));
        let artifacts = data.join("artifacts").join(worker.0.as_ref());
        Self { scratch, temporary, artifacts, cache }
    }

    /// Removes what the boot kept for itself alone. What is not there is no error.
    pub fn remove(&self) {
        for dir in [&self.scratch, &self.temporary, &self.artifacts] {
            let _ = crate::bundle::remove(dir);
        }
    }
}
