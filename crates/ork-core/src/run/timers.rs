//! Deadlines: a heap that forgets lazily. An entry counts only while its owner's own deadline is
//! the entry's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ids::{RunId, Token, WorkerId};
use crate::run::instance::Key;
use crate::time::Mono;

/// Whose deadline it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A run's timeout.
    Run(RunId),
    /// An instance's retry time, claim, timeout, or the end of its stop.
    Instance(Key),
    /// A worker's lease.
    Worker(WorkerId),
    /// When the worker of a remnant is told again.
    Remnant(Token),
}

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Mono, Owner)>>,
    /// The size at which entries that do not count are next thrown out.
    sweep_at: usize,
}

/// Below this size a sweep is not worth its while.
const SWEEP_MIN: usize = 1024;

impl Timers {
    /// Sets a deadline; the owner keeps the same instant.
    pub(super) fn set(&mut self, at: Mono, owner: Owner) {
        self.heap.push(Reverse((at, owner)));
    }

    /// Takes the earliest entry that is due.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<(Mono, Owner)> {
        let due = self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now);
        if due { self.heap.pop().map(|Reverse(entry)| entry) } else { None }
    }

    /// The earliest entry's instant.
    pub(super) fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Throws out what does not count: from the top always, the rest once it has doubled.
    pub(super) fn tidy(&mut self, counts: impl Fn(Mono, &Owner) -> bool) {
        while self.heap.peek().is_some_and(|Reverse((at, owner))| !counts(*at, owner)) {
            self.heap.pop();
        }
        if self.heap.len() > self.sweep_at.max(SWEEP_MIN) {
            self.heap.retain(|Reverse((at, owner))| counts(*at, owner));
            self.sweep_at = self.heap.len() * 2;
        }
    }

    /// Whether there is an entry of `owner` at `at`. For invariants; looks at all.
    pub(super) fn has(&self, at: Mono, owner: &Owner) -> bool {
        self.heap.iter().any(|Reverse((a, o))| *a == at && o == owner)
    }
}
