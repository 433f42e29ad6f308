//! The triggers in the loop: which ends of runs they wait for, and the runs that these start.

use std::collections::{BTreeSet, HashMap};

use ork_core::ids::RunId;
use ork_core::rows::{Change, EventRow, FiringRow, RunRow};
use ork_core::run::{EventKind, Refusal, RefusalCode, RunState};
use ork_core::time::Wall;
use ork_core::trigger::{Fired, TriggerKey, Triggers, decided};

/// The most firings that are answered between two commits.
pub(crate) const MOST: usize = 64;

/// The triggers of the epoch that leads.
#[derive(Debug, Default)]
pub(crate) struct Firings {
    pub(crate) triggers: Triggers,
    /// Whether the store may have firings without an answer.
    due: bool,
    /// Whether they are being read. While they are, and until what they came to is durable, they
    /// are not read again.
    reading: bool,
    /// How often that has failed.
    tries: u32,
    /// How many of the changes that wait have been looked at.
    scanned: usize,
    /// Firings whose runs are on their way to the store.
    sent: HashMap<RunId, FiringRow>,
    /// Firings whose runs the machine cannot bear.
    cursed: BTreeSet<(RunId, TriggerKey)>,
}

impl Firings {
    /// Another epoch leads, over a store that has these.
    pub(crate) fn begin(&mut self, triggers: Triggers) {
        let cursed = std::mem::take(&mut self.cursed);
        *self = Self { triggers, due: true, cursed, ..Self::default() };
    }

    /// All that waited is durable: true when it is time to read what is to be answered.
    pub(crate) fn arrived(&mut self) -> bool {
        self.sent.clear();
        let wants = self.due && !self.reading;
        self.reading |= wants;
        self.due &= !wants;
        wants
    }

    /// They could not be read: how often that is so.
    pub(crate) fn failed(&mut self) -> u32 {
        self.tries += 1;
        self.tries
    }

    /// They have been read; there may be more of them.
    pub(crate) fn read(&mut self, found: usize) {
        self.reading = false;
        self.tries = 0;
        self.due |= found >= MOST;
    }

    /// The firings of the runs that ended in these changes, since it was last asked. The changes
    /// are those that wait for their commit, and are asked about until they leave.
    pub(crate) fn of(&mut self, changes: &[Change], now: Wall) -> Vec<Change> {
        let new = changes.get(self.scanned..).unwrap_or(changes);
        let ends = new.iter().filter_map(ended);
        let fired: Vec<_> = ends
            .filter_map(|(event, state)| Some((row(changes, event)?, state)))
            .flat_map(|(run, state)| self.triggers.ended(run, state, now))
            .collect();
        self.due |= !fired.is_empty();
        self.scanned = changes.len() + fired.len();
        fired
    }

    /// The changes have left for their commit.
    pub(crate) fn sealed(&mut self) {
        self.scanned = 0;
    }

    /// Why a firing has no run, where that is clear before.
    pub(crate) fn hindered(&self, fired: &Fired) -> Option<String> {
        let FiringRow { source, source_workflow, .. } = &fired.firing;
        let key = TriggerKey::fired(&fired.firing);
        let awaited = self.triggers.get(&key).and_then(|row| row.spec.awaited());
        if awaited != Some(source_workflow) {
            return Some(format!("the trigger no longer waits for `{source_workflow}`"));
        }
        let cursed = self.cursed.contains(&(*source, key));
        cursed.then(|| "the run machine failed on its run".to_owned())
    }

    /// Marks a firing whose run made the machine fail.
    pub(crate) fn curse(&mut self, firing: &FiringRow) {
        self.cursed.insert((firing.source, TriggerKey::fired(firing)));
    }

    /// What a firing came to is on its way.
    pub(crate) fn send(
        &mut self,
        firing: &FiringRow,
        made: Result<RunId, String>,
        now: Wall,
    ) -> Change {
        if let Ok(run) = made {
            self.sent.insert(run, firing.clone());
        }
        decided(firing, made, now)
    }

    /// The store will not keep the run of a firing.
    pub(crate) fn lost(&mut self, run: RunId, reason: &str, now: Wall) -> Option<Change> {
        let firing = self.sent.remove(&run)?;
        let reason = format!("the store will not keep its run: {reason}");
        Some(decided(&firing, Err(reason), now))
    }
}

fn ended(change: &Change) -> Option<(&EventRow, RunState)> {
    let Change::Event(event) = change else { return None };
    match event.kind {
        EventKind::RunFinished { state, .. } => Some((event, state)),
        _ => None,
    }
}

fn row<'c>(changes: &'c [Change], event: &EventRow) -> Option<&'c RunRow> {
    changes.iter().rev().find_map(|change| match change {
        Change::Run(row) if (row.project, row.id) == (event.project, event.run) => Some(&**row),
        _ => None,
    })
}

/// Workflows would start each other without an end.
pub(crate) fn cycle(way: &[String]) -> Refusal {
    let message = format!("workflows start each other: {}", way.join(" -> "));
    Refusal { code: RefusalCode::Invalid, message }
}
