//! The machine.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, InstancePath, RunId, WorkerId};
use crate::rows::{ActiveRun, Change};
use crate::run::{Answer, Command, Effect, Refusal};
use crate::time::{Mono, Now, Span, Wall};
use crate::value::Digest;

/// The machine's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long an offer may go unconfirmed.
    pub claim: Span,
    /// How long a worker may be silent.
    pub lease: Span,
    /// How long past `grace` a stop may take before the slot is taken to be free.
    pub stop_margin: Span,
    /// The most bytes of fetched values that are kept.
    pub cache_bytes: usize,
    /// A rule that is broken on purpose, to see whether the checks find it.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<Sabotage>,
}

/// A rule of the machine that can be broken on purpose.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Reports are taken whatever their token.
    SkipTokenCheck,
    /// A slot is free as soon as its attempt is told to stop.
    ReleaseEarly,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            claim: Span::from_secs(5),
            lease: Span::from_secs(15),
            stop_margin: Span::from_secs(30),
            cache_bytes: 64 << 20,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// Where changes and effects go, in the order in which they are made.
#[derive(Debug, Default)]
pub struct Out {
    /// To be put into the blob store before the changes are committed, which refer to them.
    pub blobs: Vec<Blob>,
    /// To be made durable.
    pub changes: Vec<Change>,
    /// To be performed after that.
    pub effects: Vec<Effect>,
}

/// A value that is too large for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The digest of the content.
    pub digest: Digest,
    /// The value's JSON.
    pub content: Vec<u8>,
}

/// Why an instance does not go on. Admission asks the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blocker {
    /// The run has not been admitted yet.
    RunPending,
    /// It belongs to `finally`, and this many instances of the body are not over.
    Body {
        /// How many.
        open: u32,
    },
    /// An upstream is not over.
    Upstream {
        /// Which.
        path: InstancePath,
        /// Where the upstream stands.
        state: crate::run::TaskState,
    },
    /// It is tried again at this time.
    RetryAt {
        /// When.
        at: Wall,
    },
    /// Values that an expression needs are being loaded.
    Values {
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// No worker serves the queue.
    NoWorker {
        /// The queue.
        queue: String,
    },
    /// All slots of the workers that serve the queue are taken.
    NoSlot {
        /// The queue.
        queue: String,
        /// How many slots there are.
        slots: u32,
    },
}

/// How much the machine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs that wait for admission.
    pub pending: usize,
    /// Runs under way.
    pub running: usize,
    /// Instances that may start and wait for a slot.
    pub queued: usize,
    /// Attempts that hold a slot.
    pub attempts: usize,
}

/// A worker as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker: WorkerId,
    /// Whether it is here; else it is known by attempts it had when the store was taken over.
    pub joined: bool,
    /// Whether it takes no more attempts.
    pub leaving: bool,
    /// How many attempts it does at a time.
    pub slots: u32,
    /// How many it has.
    pub used: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
}

/// A broken invariant of the machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Every active run, and the workers.
#[derive(Debug)]
pub struct Machine {}

impl Machine {
    /// A machine without runs.
    pub fn new(_config: Config, _epoch: Epoch) -> Self {
        Self {}
    }

    /// Takes over the active runs of a store, or one that ended and is to be retried (it is
    /// forgotten by the next [`Machine::settle`] when it is not). Offers that were under way are
    /// sent again under their tokens once their worker joins.
    pub fn load(&mut self, _runs: Vec<ActiveRun>, _now: Now, _out: &mut Out) {}

    /// Applies one command. Events are appended to `out` here, rows by [`Machine::settle`].
    ///
    /// # Errors
    /// A refused command changed nothing.
    pub fn apply(
        &mut self,
        _command: Command,
        _now: Now,
        _out: &mut Out,
    ) -> Result<Answer, Refusal> {
        Ok(Answer::Done)
    }

    /// Fires what is due, admits what may start, and appends the rows that changed since the last
    /// call, each once. To be called once after the commands of a batch.
    pub fn settle(&mut self, _now: Now, _out: &mut Out) {}

    /// When [`Machine::settle`] has to be called next without a command.
    pub fn next_wakeup(&self) -> Option<Mono> {
        None
    }

    /// Why the instance does not go on: empty when it is under way or over, none when the machine
    /// does not hold it.
    pub fn blockers(&self, _run: RunId, _path: &InstancePath) -> Option<Vec<Blocker>> {
        None
    }

    /// Whether the machine holds the run. It holds every run that is not terminal.
    pub fn holds(&self, _run: RunId) -> bool {
        false
    }

    /// How much the machine holds.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// The workers, by name.
    pub fn workers(&self) -> Vec<WorkerView> {
        Vec::new()
    }

    /// Forgets a run with all that hangs on it, as if it had never been loaded; for one whose
    /// changes were refused, before it is loaded again.
    pub fn drop_run(&mut self, _run: RunId) {}

    /// Whether the tokens of this epoch are used up. Nothing is dispatched any more; the caller
    /// takes the lead anew.
    pub fn spent(&self) -> bool {
        false
    }

    /// Checks the invariants of the memory: counters equal recounts, every open instance is
    /// reachable by a timer, a wait list, a queue or a worker.
    pub fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}
