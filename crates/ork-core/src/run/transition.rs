//! The transition table of an instance: every step that there is, and from where.

use crate::run::TaskState;

/// What can happen to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its rule holds and its condition is true.
    Queue,
    /// What is inside begins.
    Open,
    /// It waits for a time, an event, a decision, or its next look.
    Defer,
    /// That wait is over and it is tried again.
    Resume,
    /// It is offered to a worker.
    Offer,
    /// Nobody confirmed the offer.
    Unclaim,
    /// The worker runs user code.
    Start,
    /// The verdict on its attempt is fixed; its processes are being stopped.
    Stop,
    /// Its attempt is over and another will follow.
    Retry,
    /// Its generation is over, in this state.
    End(TaskState),
    /// It gets a new generation.
    Reset,
}

/// A step that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance that is {from:?} cannot take the step {step:?}")]
pub struct Illegal {
    /// Where the instance stood.
    pub from: TaskState,
    /// What was to happen.
    pub step: Step,
}

/// The state after `step`.
///
/// # Errors
/// The step is not possible from there.
pub fn next(from: TaskState, step: Step) -> Result<TaskState, Illegal> {
    use TaskState as S;
    match (step, from) {
        (Step::Queue, S::Pending)
        | (Step::Unclaim, S::Dispatched)
        | (Step::Resume, S::Deferred)
        | (Step::Retry, S::Dispatched | S::Running | S::Stopping) => Ok(S::Queued),
        (Step::Defer, S::Pending | S::Running) => Ok(S::Deferred),
        (Step::Offer, S::Queued) => Ok(S::Dispatched),
        (Step::Start, S::Dispatched) | (Step::Open, S::Pending) => Ok(S::Running),
        (Step::Stop, S::Dispatched | S::Running) => Ok(S::Stopping),
        (Step::End(S::Success), S::Pending | S::Running | S::Deferred) => Ok(S::Success),
        (Step::End(S::Skipped), S::Pending | S::Running | S::Deferred) => Ok(S::Skipped),
        (Step::End(S::UpstreamFailed), S::Pending) => Ok(S::UpstreamFailed),
        (Step::End(S::Cancelled), S::Pending | S::Queued | S::Deferred | S::Stopping) => {
            Ok(S::Cancelled)
        }
        (
            Step::End(S::Failed),
            S::Pending | S::Queued | S::Dispatched | S::Running | S::Deferred | S::Stopping,
        ) => Ok(S::Failed),
        (Step::Reset, S::Dispatched | S::Running) => Err(Illegal { from, step }),
        (Step::Reset, _) => Ok(S::Pending),
        _ => Err(Illegal { from, step }),
    }
}
