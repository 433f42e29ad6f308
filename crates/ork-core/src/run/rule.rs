//! Trigger rules: whether the upstreams' outcomes let an instance start.

use crate::plan::TriggerRule;
use crate::run::TaskState;

/// How an instance's upstreams ended, counted as they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Upstreams that are not over.
    pub(super) open: u32,
    /// Succeeded.
    pub(super) success: u32,
    /// Failed, or cancelled by a person, which counts as failed.
    pub(super) failed: u32,
    /// Skipped.
    pub(super) skipped: u32,
    /// Could not start because of a failure.
    pub(super) upstream_failed: u32,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Upstreams that matter are open.
    Wait,
    /// The instance may start.
    Holds,
    /// It cannot start any more; its outcome is this state, `skipped` or `upstream_failed`.
    Never(TaskState),
}

impl Tally {
    /// Nothing known yet of `upstreams`.
    pub(super) fn of(upstreams: usize) -> Self {
        Self { open: u32::try_from(upstreams).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// An upstream ended in `state`.
    pub(super) fn count(&mut self, state: TaskState) {
        self.open = self.open.saturating_sub(1);
        match state {
            TaskState::Success => self.success += 1,
            TaskState::Skipped => self.skipped += 1,
            TaskState::UpstreamFailed => self.upstream_failed += 1,
            _ => self.failed += 1,
        }
    }

    fn any_failed(self) -> bool {
        self.failed + self.upstream_failed > 0
    }

    /// What `rule` says to this tally. Rules with `one` do not wait for the other upstreams; every
    /// other rule, and every refusal, waits for all. Without upstreams every rule holds.
    pub(super) fn verdict(self, rule: TriggerRule) -> Verdict {
        let early = match rule {
            TriggerRule::OneSuccess => self.success > 0,
            TriggerRule::OneFailed => self.any_failed(),
            TriggerRule::OneDone => self.success + self.failed > 0,
            _ => false,
        };
        if early {
            return Verdict::Holds;
        }
        if self.open > 0 {
            return Verdict::Wait;
        }
        let ended = self.success + self.failed + self.skipped + self.upstream_failed;
        if ended == 0 || self.holds_at_end(rule) {
            return Verdict::Holds;
        }
        Verdict::Never(self.refusal(rule))
    }

    fn holds_at_end(self, rule: TriggerRule) -> bool {
        match rule {
            TriggerRule::AllSuccess => !self.any_failed() && self.skipped == 0,
            TriggerRule::AllDone => true,
            TriggerRule::AllFailed => self.success + self.skipped == 0,
            TriggerRule::NoneFailed => !self.any_failed(),
            TriggerRule::NoneSkipped => self.skipped == 0,
            TriggerRule::NoneFailedMinOneSuccess => !self.any_failed() && self.success > 0,
            TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone => false,
        }
    }

    /// `upstream_failed` where a failure is among the reasons why the rule cannot hold. A rule
    /// that wants failures, or wants no skips, is never broken by a failure.
    fn refusal(self, rule: TriggerRule) -> TaskState {
        let by_failure = match rule {
            TriggerRule::AllFailed | TriggerRule::OneFailed | TriggerRule::NoneSkipped => false,
            _ => self.any_failed(),
        };
        if by_failure { TaskState::UpstreamFailed } else { TaskState::Skipped }
    }
}

/// Whether an upstream that ended in `ended` is among the reasons for the outcome `refusal`.
pub(super) fn decides(rule: TriggerRule, ended: TaskState, refusal: TaskState) -> bool {
    let failed =
        matches!(ended, TaskState::Failed | TaskState::Cancelled | TaskState::UpstreamFailed);
    match (refusal, rule) {
        (TaskState::UpstreamFailed, _) => failed,
        (_, TriggerRule::AllFailed) => matches!(ended, TaskState::Success | TaskState::Skipped),
        (_, TriggerRule::OneFailed) => !failed,
        _ => ended == TaskState::Skipped,
    }
}
