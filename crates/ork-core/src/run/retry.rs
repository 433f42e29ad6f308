//! Whether another attempt follows, and after how long.

use crate::ids::{InstancePath, RunId};
use crate::lang::expr::EvalError;
use crate::plan::{Backoff, Retry, RetryOn};
use crate::run::active::{Desk, Run};
use crate::run::instance::Ix;
use crate::run::{Failure, FailureKind, MAX_INTERRUPTIONS};
use crate::time::Span;
use crate::value::Digest;

/// What follows an attempt that did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Another, after this long.
    Retry(Span),
    /// Nothing.
    GiveUp,
    /// Nothing, since the condition could not be evaluated.
    Broken(String),
}

impl Run {
    /// What follows an attempt that ended with `failure`. Attempts lost with their worker have a
    /// budget of their own and follow at once, or after the task's back-off where the worker may
    /// fail again; those whose worker was told to leave follow at once, on none.
    pub(super) fn next(&self, ix: Ix, failure: &Failure, desk: &Desk) -> Next {
        let (instance, task) = (self.instance(ix), self.task(ix));
        if self.is_ended(ix) {
            return Next::GiveUp;
        }
        let back_off = |n| {
            let seed = jitter_seed(self.id, &instance.path, instance.attempt);
            Next::Retry(wait(&task.retry, n, seed))
        };
        let spent = |given, allowed| (given > allowed).then_some(Next::GiveUp);
        let lost = spent(instance.lost, task.lost_retries);
        match failure.kind {
            FailureKind::Lost => return lost.unwrap_or(Next::Retry(Span::ZERO)),
            FailureKind::WorkerFailed => return lost.unwrap_or_else(|| back_off(instance.lost)),
            FailureKind::Interrupted => {
                let gone = spent(instance.interrupted, MAX_INTERRUPTIONS);
                return gone.unwrap_or(Next::Retry(Span::ZERO));
            }
            _ => {}
        }
        let spared = instance.lost + instance.interrupted + instance.rare().polls;
        let failures = instance.attempt.saturating_sub(spared);
        if failures > task.retry.max || !is_wanted(&task.retry.on, failure) {
            return Next::GiveUp;
        }
        let holds = match &task.retry.condition {
            Some(condition) => self.view_of(ix, failure, desk).holds(condition),
            None => Ok(true),
        };
        match holds {
            Ok(true) => back_off(failures),
            Ok(false) => Next::GiveUp,
            Err(EvalError::Failed(message)) => Next::Broken(format!("retries.if: {message}")),
            Err(EvalError::Need(_)) => {
                Next::Broken("retries.if: sees `error` and `attempt` alone".into())
            }
        }
    }
}

fn is_wanted(on: &[RetryOn], failure: &Failure) -> bool {
    let timeout = failure.kind == FailureKind::Timeout;
    on.is_empty()
        || on.iter().any(|wanted| match wanted {
            RetryOn::Failure => !timeout,
            RetryOn::Timeout => timeout,
            RetryOn::Exit(code) => failure.exit_code == Some(*code),
        })
}

/// The wait before the `n`-th retry, from 1. With jitter it lies in the upper half of what it
/// would be without.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
pub(super) fn wait(retry: &Retry, n: u32, seed: u64) -> Span {
    let delay = retry.delay.0.max(0) as f64;
    let grown = match retry.backoff {
        Backoff::Constant => delay,
        Backoff::Linear => delay * f64::from(n),
        Backoff::Exponential => {
            delay * retry.multiplier.powi(i32::try_from(n).unwrap_or(i32::MAX) - 1)
        }
    };
    // A float beyond the range becomes the nearest number in it.
    let full = (grown as i64).min(retry.max_delay.0).max(0);
    if !retry.jitter || full < 2 {
        return Span(full);
    }
    let half = full / 2;
    let part = (u128::from(seed) * (half as u128 + 1)) >> 64;
    Span(full - half + part as i64)
}

/// The same for the same attempt, whoever computes it.
fn jitter_seed(run: RunId, path: &InstancePath, attempt: u32) -> u64 {
    let digest = Digest::of(format!("{run}/{path}#{attempt}").as_bytes());
    digest.0.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}
