//! The machine.

use crate::ids::{Epoch, InstancePath, RunId};
use crate::rows::{ActiveRun, Change};
use crate::run::{Answer, Command, Effect, Refusal};
use crate::time::{Mono, Now, Span};

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            claim: Span::from_secs(5),
            lease: Span::from_secs(15),
            stop_margin: Span::from_secs(30),
            cache_bytes: 64 << 20,
        }
    }
}

/// Where changes and effects go, in the order in which they are made.
#[derive(Debug, Default)]
pub struct Out {
    /// To be made durable.
    pub changes: Vec<Change>,
    /// To be performed after that.
    pub effects: Vec<Effect>,
}

/// Why an instance or a run does not go on. The same code decides admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// An upstream is open.
    Upstream(InstancePath),
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

    /// Takes over the active runs of a store. Offers that were under way are sent again under
    /// their tokens once their worker joins.
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

    /// Why the instance does not go on; empty when it is under way or over.
    pub fn blockers(&self, _run: RunId, _path: &InstancePath) -> Vec<Blocker> {
        Vec::new()
    }

    /// Checks the invariants of the memory: counters equal recounts, every open instance is
    /// reachable by a timer, a wait list, a queue or a worker.
    pub fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}
