//! An instance in memory. Its phase carries what that phase needs, and nothing else can.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::ids::{InstancePath, RunId, Token, WorkerId};
use crate::rows::{CacheKey, CacheNote};
use crate::run::approval::Decided;
use crate::run::inside::Inside;
use crate::run::mark::Successor;
use crate::run::rule::Tally;
use crate::run::wait::Deferral;
use crate::run::{Failure, FailureKind, StopReason, TaskState};
use crate::time::{Mono, Span, Wall};
use crate::value::{Data, Digest};

/// An instance's number within its run. Paths are for the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ix(pub(super) u32);

impl Ix {
    /// The place in the run's list.
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }

    /// The number of the place `at`.
    pub(super) fn new(at: usize) -> Self {
        Self(u32::try_from(at).unwrap_or(u32::MAX))
    }
}

/// An instance's number within the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The run.
    pub(super) run: RunId,
    /// The instance.
    pub(super) ix: Ix,
}

/// An offer that a worker holds, and with it a slot.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) worker: WorkerId,
    pub(super) offered_at: Wall,
    pub(super) started_at: Option<Wall>,
    /// How many beats the worker had sent when it last was known to have it: every later one names
    /// it, or it is lost. None: not known.
    pub(super) beats: Option<u64>,
}

/// Why a queued instance is not among those that are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is ready: in the queue for a slot.
    Ready,
    /// It is tried again at [`Instance::due`].
    Retry,
    /// It waits for [`Instance::parked`] values.
    Values,
    /// It waits for slots of its pool.
    Pool,
}

/// Why something is ended before its time.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    /// What attempts under way are told.
    pub(super) reason: StopReason,
    /// Why; of what is ended, and of all that is inside.
    pub(super) failure: Failure,
    /// Whether the `finally` inside is ended too.
    pub(super) forced: bool,
}

impl Closing {
    /// What an instance becomes whose inside is ended.
    pub(super) fn state(&self) -> TaskState {
        match self.failure.kind {
            FailureKind::Cancelled => TaskState::Cancelled,
            _ => TaskState::Failed,
        }
    }
}

/// A stop under way.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) lease: Lease,
    pub(super) reason: StopReason,
    /// The verdict.
    pub(super) failure: Failure,
    /// When the slot is taken to be free.
    pub(super) until: Mono,
    /// Whether no attempt may follow.
    pub(super) last: bool,
    /// What the instance becomes once its processes are gone, where another generation takes its
    /// place.
    pub(super) successor: Option<Box<Successor>>,
}

/// Where an instance stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Pending,
    Queued {
        hold: Hold,
        /// An offer that nobody confirmed: the next one has the same attempt number.
        unclaimed: Option<Box<Lease>>,
    },
    Offered {
        lease: Lease,
        confirmed: bool,
        /// Whether an earlier machine made it: its worker may have been told to go on, so it is
        /// not taken back, but made again until the worker answers or is lost.
        kept: bool,
    },
    Running(Lease),
    Deferred(Box<Deferral>),
    Stopping(Box<Stop>),
    /// What is inside is under way, or is being ended.
    Open(Option<Box<Closing>>),
    Over(TaskState),
}

impl Phase {
    /// Ready for a slot, for the first time or by a new attempt.
    pub(super) const READY: Self = Self::Queued { hold: Hold::Ready, unclaimed: None };

    /// Its name.
    pub(super) fn state(&self) -> TaskState {
        match self {
            Self::Pending => TaskState::Pending,
            Self::Queued { .. } => TaskState::Queued,
            Self::Offered { .. } => TaskState::Dispatched,
            Self::Running(_) | Self::Open(None) => TaskState::Running,
            Self::Deferred(_) => TaskState::Deferred,
            Self::Stopping(_) | Self::Open(Some(_)) => TaskState::Stopping,
            Self::Over(state) => *state,
        }
    }

    /// The same, to be changed.
    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Offered { lease, .. } | Self::Running(lease) => Some(lease),
            Self::Stopping(stop) => Some(&mut stop.lease),
            Self::Pending
            | Self::Queued { .. }
            | Self::Deferred(_)
            | Self::Open(_)
            | Self::Over(_) => None,
        }
    }

    /// The offer that is under way.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Offered { lease, .. } | Self::Running(lease) => Some(lease),
            Self::Stopping(stop) => Some(&stop.lease),
            Self::Pending
            | Self::Queued { .. }
            | Self::Deferred(_)
            | Self::Open(_)
            | Self::Over(_) => None,
        }
    }
}

/// Values that something waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Parked {
    /// Not here yet.
    pub(super) missing: Vec<Digest>,
    /// Here, and kept until the expression has been evaluated.
    pub(super) held: Vec<Digest>,
    /// Whether a DAG is being compiled for it.
    pub(super) compiling: bool,
}

/// Which item of which map an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemOf {
    pub(super) map: Ix,
    pub(super) index: u32,
    /// The map's [`Inside::series`] that the item is of.
    pub(super) series: u32,
}

/// What few instances need, and none needs always.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// When a deferral is over by itself.
    pub(super) wake: Option<Mono>,
    /// When a running attempt, a deferral, or the wait for a slot has taken too long.
    pub(super) limit: Option<Mono>,
    /// When the next sign of life must have come.
    pub(super) beat: Option<Mono>,
    /// When a sensor's time is over, all its attempts together.
    pub(super) expires: Option<Mono>,
    /// What is left of `start_within` while it does not run.
    pub(super) patience: Option<Span>,
    /// Attempts that said `not yet`.
    pub(super) polls: u32,
    /// Whether a person set the outcome.
    pub(super) marked: bool,
    /// Who decided, for an approval that is over.
    pub(super) decided: Option<Decided>,
    /// What a success may be reused for.
    pub(super) cache: Option<CacheKey>,
    /// What came of the cache.
    pub(super) note: Option<CacheNote>,
    /// The files that the attempt left which is ending.
    pub(super) artifacts: Option<Data>,
    /// Whether an earlier success is being looked for.
    pub(super) asked: bool,
    /// Whether one has been looked for.
    pub(super) looked: bool,
}

static NOTHING_RARE: Rare = Rare {
    wake: None,
    limit: None,
    beat: None,
    expires: None,
    patience: None,
    polls: 0,
    marked: false,
    decided: None,
    cache: None,
    note: None,
    artifacts: None,
    asked: false,
    looked: false,
};

/// The level of an instance that is in none.
const NO_LEVEL: u32 = u32::MAX;

/// An instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) path: InstancePath,
    /// Its level in the run.
    pub(super) level: u32,
    /// The item that it is, if its map made it.
    pub(super) item: Option<ItemOf>,
    /// What is inside, once it has begun.
    pub(super) inside: Option<Box<Inside>>,
    /// Its task's position in the level's DAG.
    pub(super) task: u32,
    pub(super) generation: u32,
    /// Attempts begun in this generation.
    pub(super) attempt: u32,
    /// Those of them that were lost with their worker.
    pub(super) lost: u32,
    /// Those of them whose worker was told to leave.
    pub(super) interrupted: u32,
    pub(super) tally: Tally,
    pub(super) phase: Phase,
    /// The phase's deadline, if it has one.
    pub(super) due: Option<Mono>,
    pub(super) parked: Option<Box<Parked>>,
    rare: Option<Box<Rare>>,
    pub(super) cause: Option<Ix>,
    pub(super) failure: Option<Box<Failure>>,
    pub(super) inputs: Option<Box<IndexMap<String, Data>>>,
    pub(super) output: Option<Box<Data>>,
    /// Its pool, once that is named in this generation.
    pub(super) pool: Option<Arc<str>>,
    /// The token of the last attempt that ended by its worker's report, so that the same report
    /// again gets the same answer.
    pub(super) reported: Option<Token>,
    pub(super) queued_at: Option<Wall>,
    pub(super) started_at: Option<Wall>,
    pub(super) finished_at: Option<Wall>,
    /// Whether its row is to be written.
    pub(super) dirty: bool,
    /// Whether its attempt's row is.
    pub(super) attempt_dirty: bool,
}

impl Instance {
    /// One of which nothing has happened yet.
    pub(super) fn new(path: InstancePath, level: u32, task: u32, upstreams: usize) -> Self {
        Self {
            path,
            level,
            item: None,
            inside: None,
            task,
            generation: 1,
            attempt: 0,
            lost: 0,
            interrupted: 0,
            tally: Tally::of(upstreams),
            phase: Phase::Pending,
            due: None,
            parked: None,
            rare: None,
            cause: None,
            failure: None,
            inputs: None,
            output: None,
            pool: None,
            reported: None,
            queued_at: None,
            started_at: None,
            finished_at: None,
            dirty: false,
            attempt_dirty: false,
        }
    }

    /// The place of one that there is no more: nothing that is under way has a part for it.
    pub(super) fn void() -> Self {
        let phase = Phase::Over(TaskState::Cancelled);
        Self { phase, ..Self::new("".into(), NO_LEVEL, 0, 0) }
    }

    /// Whether it is no more than a place.
    pub(super) fn is_void(&self) -> bool {
        self.level == NO_LEVEL
    }

    /// Its state's name.
    pub(super) fn state(&self) -> TaskState {
        self.phase.state()
    }

    /// What it has of what few have.
    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// The same, to be changed.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The files that its attempt left which is ending.
    pub(super) fn take_artifacts(&mut self) -> Option<Data> {
        self.rare.as_mut().and_then(|rare| rare.artifacts.take())
    }

    /// Forgets the deadlines of the phase that is over.
    pub(super) fn clear_deadlines(&mut self) {
        self.due = None;
        if let Some(rare) = &mut self.rare {
            (rare.wake, rare.limit, rare.beat) = (None, None, None);
        }
    }

    /// The number of the attempt that is offered next.
    pub(super) fn next_attempt(&self) -> u32 {
        match self.phase {
            Phase::Queued { unclaimed: Some(_), .. } => self.attempt,
            _ => self.attempt + 1,
        }
    }
}
