//! Rules of the loop that are broken on purpose, to see whether the simulator finds it.

use ork_core::rows::Change;
use ork_core::time::Wall;

use crate::request::Found;
use crate::turn::Config;

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Dispatches leave before their commit.
    DispatchBeforeCommit,
    /// It is not kept that a tick has its answer: whoever leads next answers it again.
    RepeatTicks,
    /// Whoever takes the lead takes all ticks before for answered.
    LoseTicks,
    /// It is not kept that an end has started its run.
    RepeatEnds,
    /// Whoever takes the lead starts nothing for the ends before.
    LoseEnds,
}

impl Config {
    /// Whether this rule is broken.
    pub(crate) fn breaks(&self, rule: Sabotage) -> bool {
        self.sabotage == Some(rule)
    }

    /// What is kept of these changes.
    pub(crate) fn spoil_changes(&self, changes: &mut Vec<Change>) {
        changes.retain(|change| match change {
            Change::Schedule(_, Some(_)) => !self.breaks(Sabotage::RepeatTicks),
            Change::Firing(row) if row.decided_at.is_some() => !self.breaks(Sabotage::RepeatEnds),
            _ => true,
        });
    }

    /// What is read of the store.
    pub(crate) fn spoilt(&self, mut found: Found, now: Wall) -> Found {
        if let (Found::Schedules(rows, _, _), true) = (&mut found, self.breaks(Sabotage::LoseTicks))
        {
            for row in rows {
                row.decided = row.decided.max(now);
            }
        }
        found
    }
}
