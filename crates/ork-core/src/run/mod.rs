//! The run machine: `(state, command, now) → changes + effects`.
//!
//! A caller applies commands with [`Machine::apply`], then calls [`Machine::settle`] once, commits
//! the changes, and only then performs the effects and gives the answers. When a commit's outcome
//! is unknown it drops the machine and loads another.

mod active;
mod admit;
mod approval;
mod attempt;
mod audit;
mod cache;
mod call;
mod callers;
mod command;
mod control;
mod deadlines;
mod flow;
mod gather;
mod generate;
mod inside;
mod instance;
mod level;
mod limits;
mod machine;
mod map;
mod mark;
mod pause;
mod persist;
mod poll;
mod pools;
mod preview;
mod ready;
mod remnant;
mod reopen;
mod rerun;
mod retry;
mod rule;
mod scope;
mod signals;
mod state;
mod timers;
pub mod transition;
mod values;
mod wait;
mod workers;

pub use approval::OpenApproval;
pub use command::{
    Answer, Assignment, Command, Compile, Decision, Departure, Effect, Finished, Marked, NewRun,
    Outcome, Pausable, Refusal, RefusalCode, Report, RetrySelection,
};
#[cfg(feature = "sabotage")]
pub use machine::Sabotage;
pub use machine::{Blob, Blocker, Config, Counts, Holder, Machine, Out, Violation, WorkerView};
pub use pause::PauseScope;
pub use pools::{MAX_POOL_NAME, PoolView};
pub use preview::{Planned, preview, preview_rerun};
pub use remnant::Remnant;
pub use signals::{MAX_SIGNALS, MAX_SIGNALS_OF_RUN};
pub use state::{
    AttemptState, EventKind, Failure, FailureKind, MAX_DETAILS, MAX_INTERRUPTIONS, MAX_MESSAGE,
    PoolPlace, RunPlace, RunState, Source, StopReason, TaskState, Waiting,
};
pub use workers::EVERY_QUEUE;
