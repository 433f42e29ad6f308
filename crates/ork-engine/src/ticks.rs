//! The schedules in the loop: when they wake it, and what a due tick comes to.

use std::collections::{BTreeSet, HashMap};

use ork_core::ids::{BackfillId, RunId};
use ork_core::rows::Change;
use ork_core::schedule::{Backfills, Due, ScheduleKey, Schedules, Tick};
use ork_core::time::{Mono, Now, Span, Wall};

use crate::request::{Ask, Found, Request};

/// The most ticks that are answered between two commits.
pub(crate) const MOST: usize = 256;

/// The schedules of the epoch that leads.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    pub(crate) schedules: Schedules,
    pub(crate) backfills: Backfills,
    /// Whether the store's have been taken over.
    known: bool,
    /// Ticks on the way to the store, by their runs.
    sent: HashMap<RunId, Due>,
    /// Ticks whose runs the machine cannot bear.
    cursed: BTreeSet<(ScheduleKey, Wall)>,
    /// The same of backfills.
    cursed_of: BTreeSet<(BackfillId, Wall)>,
}

impl Ticks {
    /// Another epoch leads: nothing is known yet.
    pub(crate) fn forget(&mut self) {
        self.schedules = Schedules::default();
        self.backfills = Backfills::default();
        self.known = false;
        self.sent.clear();
        self.backfills.arrived();
    }

    /// Takes over what the store has; true when it had it.
    pub(crate) fn found(&mut self, found: Found) -> bool {
        let Found::Schedules(rows, backfills, versions) = found else { return false };
        self.schedules.load(rows, &versions);
        self.backfills.load(backfills, &versions);
        self.known = true;
        true
    }

    /// Whether a request has to wait until the schedules are known.
    pub(crate) fn holds_up(&self, request: &Request) -> bool {
        let concerned = match &request.ask {
            Ask::Deploy(deploy) => !deploy.draft,
            Ask::PauseSchedule { .. }
            | Ask::Backfill(_)
            | Ask::Steer { .. }
            | Ask::Delete { .. } => true,
            Ask::Run(_) | Ask::Describe { .. } | Ask::RotateTrigger { .. } => false,
        };
        concerned && !self.known
    }

    /// When the loop has to look again, unless the wall clock is set before.
    pub(crate) fn wakeup(&self, now: Now) -> Option<Mono> {
        let left = self.schedules.next_wakeup()? - now.wall;
        Some(now.mono + left.max(Span::ZERO))
    }

    /// Remembers that a tick is on its way.
    pub(crate) fn send(&mut self, run: RunId, due: Due) {
        self.sent.insert(run, due);
    }

    /// All that was on its way has arrived.
    pub(crate) fn arrived(&mut self) {
        self.sent.clear();
        self.backfills.arrived();
    }

    /// A tick whose run the store will not keep is skipped.
    pub(crate) fn lost(&mut self, run: RunId, reason: &str, now: Wall) -> Vec<Change> {
        self.backfills.lost(run, reason);
        let Some(due) = self.sent.remove(&run) else { return Vec::new() };
        let reason = format!("the store will not keep its run: {reason}");
        self.schedules.settle(&due, Err(reason), now)
    }

    /// Marks a tick of a backfill whose run made the machine fail.
    pub(crate) fn curse_of(&mut self, backfill: BackfillId, tick: &Tick) {
        self.cursed_of.insert((backfill, tick.at));
    }

    /// Whether a tick of a backfill is one whose run made the machine fail.
    pub(crate) fn is_cursed_of(&self, backfill: BackfillId, tick: &Tick) -> bool {
        self.cursed_of.contains(&(backfill, tick.at))
    }

    /// Marks a tick whose run made the machine fail: it is skipped when it comes again.
    pub(crate) fn curse(&mut self, due: &Due) {
        self.cursed.insert((due.key.clone(), due.tick.at));
    }

    /// Why a tick cannot have its run, if it is one that made the machine fail.
    pub(crate) fn is_cursed(&self, due: &Due) -> bool {
        self.cursed.contains(&(due.key.clone(), due.tick.at))
    }
}
