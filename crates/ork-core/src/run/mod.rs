//! The run machine: `(state, command, now) → changes + effects`.
//!
//! A caller applies commands with [`Machine::apply`], then calls [`Machine::settle`] once, commits
//! the changes, and only then performs the effects and gives the answers. When a commit's outcome
//! is unknown it drops the machine and loads another.

mod active;
mod admit;
mod attempt;
mod audit;
mod call;
mod command;
mod control;
mod flow;
mod gather;
mod generate;
mod inside;
mod instance;
mod level;
mod machine;
mod map;
mod persist;
mod ready;
mod remnant;
mod reopen;
mod retry;
mod rule;
mod scope;
mod state;
mod timers;
pub mod transition;
mod values;
mod workers;

pub use command::{
    Answer, Assignment, Command, Compile, Departure, Effect, Finished, NewRun, Outcome, Refusal,
    RefusalCode, Report, RetrySelection,
};
#[cfg(feature = "sabotage")]
pub use machine::Sabotage;
pub use machine::{Blob, Blocker, Config, Counts, Machine, Out, Violation, WorkerView};
pub use remnant::Remnant;
pub use state::{
    AttemptState, EventKind, Failure, FailureKind, MAX_DETAILS, MAX_INTERRUPTIONS, MAX_MESSAGE,
    RunState, StopReason, TaskState,
};
