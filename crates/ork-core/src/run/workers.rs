//! The workers, their slots and their leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{Token, WorkerId};
use crate::run::WorkerView;
use crate::run::instance::Key;
use crate::time::Mono;

/// The queue of tasks that name none, and of workers that name none.
pub(super) const DEFAULT_QUEUE: &str = "default";

/// Among a worker's queues: it serves them all.
pub const EVERY_QUEUE: &str = "*";

/// A worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    pub(super) slots: u32,
    pub(super) queues: Vec<Arc<str>>,
    /// Whether it said hello to this machine.
    pub(super) joined: bool,
    /// Whether it takes no more.
    pub(super) leaving: bool,
    /// Whether it lives in this process: it does not wait for the answer to a confirmation, and
    /// has no lease.
    pub(super) near: bool,
    /// What it has; each takes a slot.
    pub(super) held: BTreeSet<Key>,
    /// What of its attempts is left of runs that are not held any more; each takes a slot.
    pub(super) remnants: BTreeSet<Token>,
    /// Its latest beat.
    pub(super) beats: u64,
    /// When its lease ends.
    pub(super) due: Option<Mono>,
    /// When its timer fires; it is set anew if the lease has been renewed meanwhile.
    pub(super) timer: Option<Mono>,
}

impl Worker {
    /// How many slots are taken.
    pub(super) fn used(&self) -> usize {
        self.held.len() + self.remnants.len()
    }

    fn serves(&self, queue: &str) -> bool {
        self.queues.iter().any(|name| [queue, EVERY_QUEUE].contains(&&**name))
    }

    fn has_room(&self) -> bool {
        self.joined && !self.leaving && self.used() < self.slots as usize
    }

    /// How full it is, in parts of 65,536.
    fn load(&self) -> u64 {
        (self.used() as u64) * 65_536 / u64::from(self.slots.max(1))
    }
}

/// All workers; those with room listed by queue, the least loaded first.
#[derive(Debug, Default)]
pub(super) struct Workers {
    all: BTreeMap<WorkerId, Worker>,
    room: BTreeMap<Arc<str>, BTreeSet<(u64, WorkerId)>>,
}

impl Workers {
    pub(super) fn get(&self, id: &WorkerId) -> Option<&Worker> {
        self.all.get(id)
    }

    /// For what changes neither slots nor queues.
    pub(super) fn get_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        self.all.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.all.iter()
    }

    /// Changes a worker, made if it was not there, and lists it anew.
    pub(super) fn change(&mut self, id: &WorkerId, change: impl FnOnce(&mut Worker)) {
        let worker = self.all.entry(id.clone()).or_default();
        let (had_room, load) = (worker.has_room(), worker.load());
        if had_room {
            unlist(&mut self.room, worker, load, id);
        }
        change(worker);
        if worker.has_room() {
            let entry = (worker.load(), id.clone());
            for queue in &worker.queues {
                self.room.entry(Arc::clone(queue)).or_default().insert(entry.clone());
            }
        }
    }

    /// Removes a worker.
    pub(super) fn remove(&mut self, id: &WorkerId) -> Option<Worker> {
        let worker = self.all.remove(id)?;
        unlist(&mut self.room, &worker, worker.load(), id);
        Some(worker)
    }

    /// An attempt takes a slot.
    pub(super) fn take(&mut self, id: &WorkerId, key: Key) {
        self.change(id, |worker| {
            worker.held.insert(key);
        });
    }

    /// An attempt's slot is free; of a worker that is gone, nothing.
    pub(super) fn free(&mut self, id: &WorkerId, key: Key) {
        if self.all.contains_key(id) {
            self.change(id, |worker| {
                worker.held.remove(&key);
            });
        }
    }

    /// The least loaded worker with room that serves the queue.
    pub(super) fn pick(&self, queue: &str) -> Option<&WorkerId> {
        let first = |queue| self.room.get(queue).and_then(BTreeSet::first);
        let least = first(queue).into_iter().chain(first(EVERY_QUEUE)).min();
        least.map(|(_, id)| id)
    }

    /// How many slots serve the queue.
    pub(super) fn slots(&self, queue: &str) -> u32 {
        self.all
            .values()
            .filter(|w| w.joined && !w.leaving && w.serves(queue))
            .map(|w| w.slots)
            .fold(0, u32::saturating_add)
    }

    /// For people.
    pub(super) fn views(&self) -> Vec<WorkerView> {
        let view = |(id, worker): (&WorkerId, &Worker)| WorkerView {
            worker: id.clone(),
            joined: worker.joined,
            leaving: worker.leaving,
            slots: worker.slots,
            used: u32::try_from(worker.used()).unwrap_or(u32::MAX),
            queues: worker.queues.iter().map(ToString::to_string).collect(),
        };
        self.all.iter().map(view).collect()
    }

    /// Whether the lists of room are what a recount gives.
    pub(super) fn lists_agree(&self) -> bool {
        let mut again: BTreeMap<Arc<str>, BTreeSet<(u64, WorkerId)>> = BTreeMap::new();
        for (id, worker) in self.all.iter().filter(|(_, w)| w.has_room()) {
            for queue in &worker.queues {
                again.entry(Arc::clone(queue)).or_default().insert((worker.load(), id.clone()));
            }
        }
        self.room.iter().filter(|(_, list)| !list.is_empty()).eq(again.iter())
    }
}

fn unlist(
    room: &mut BTreeMap<Arc<str>, BTreeSet<(u64, WorkerId)>>,
    worker: &Worker,
    load: u64,
    id: &WorkerId,
) {
    let entry = (load, id.clone());
    for queue in &worker.queues {
        if let Some(list) = room.get_mut(queue) {
            list.remove(&entry);
        }
    }
}
