//! Instances that may start and wait for a slot, in the order in which they get one: in turn
//! between projects, then workflows, then runs; within a run by age, then by the plan's order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ids::{ProjectId, RunId};
use crate::run::instance::{Ix, Key};
use crate::time::Wall;

/// Where an instance stands in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) queue: Arc<str>,
    pub(super) project: ProjectId,
    pub(super) workflow: Arc<str>,
    pub(super) key: Key,
    /// Since when it may start.
    pub(super) since: Wall,
}

/// What takes turns.
trait Turns {
    /// What comes next of it.
    fn take(&mut self) -> Option<Key>;
    /// Whether nothing is left.
    fn is_empty(&self) -> bool;
}

/// Parts that take turns. An emptied part keeps its turn until it comes round, so that leaving
/// and coming back gains nothing.
#[derive(Debug)]
struct Ring<K, T> {
    turn: VecDeque<K>,
    parts: BTreeMap<K, T>,
    filled: usize,
}

impl<K, T> Default for Ring<K, T> {
    fn default() -> Self {
        Self { turn: VecDeque::new(), parts: BTreeMap::new(), filled: 0 }
    }
}

impl<K: Ord + Clone, T: Turns + Default> Ring<K, T> {
    /// Changes a part, which is made if it was not there.
    fn with<R>(&mut self, key: &K, change: impl FnOnce(&mut T) -> R) -> R {
        if !self.parts.contains_key(key) {
            self.turn.push_back(key.clone());
        }
        let part = self.parts.entry(key.clone()).or_default();
        let was = !part.is_empty();
        let result = change(part);
        match (was, !part.is_empty()) {
            (false, true) => self.filled += 1,
            (true, false) => self.filled -= 1,
            _ => {}
        }
        result
    }
}

impl<K: Ord + Clone, T: Turns> Turns for Ring<K, T> {
    fn take(&mut self) -> Option<Key> {
        while self.filled > 0 {
            let name = self.turn.pop_front()?;
            let Some(part) = self.parts.get_mut(&name) else { continue };
            let Some(key) = part.take() else {
                self.parts.remove(&name);
                continue;
            };
            if part.is_empty() {
                self.filled -= 1;
            }
            self.turn.push_back(name);
            return Some(key);
        }
        self.turn.clear();
        self.parts.clear();
        None
    }

    fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// A run's own, oldest first.
#[derive(Debug, Default)]
struct Line {
    run: Option<RunId>,
    order: BTreeSet<(Wall, Ix)>,
}

impl Turns for Line {
    fn take(&mut self) -> Option<Key> {
        let (_, ix) = self.order.pop_first()?;
        self.run.map(|run| Key { run, ix })
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// The order of one queue.
type Order = Ring<ProjectId, Ring<Arc<str>, Ring<RunId, Line>>>;

/// All that are ready, by queue.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queues: BTreeMap<Arc<str>, Order>,
    count: usize,
}

impl Ready {
    fn line<R>(&mut self, place: &Place, change: impl FnOnce(&mut Line) -> R) -> R {
        let order = self.queues.entry(Arc::clone(&place.queue)).or_default();
        order.with(&place.project, |workflows| {
            workflows.with(&place.workflow, |runs| runs.with(&place.key.run, change))
        })
    }

    /// Puts an instance in.
    pub(super) fn insert(&mut self, place: &Place) {
        let new = self.line(place, |line| {
            line.run = Some(place.key.run);
            line.order.insert((place.since, place.key.ix))
        });
        self.count += usize::from(new);
    }

    /// Takes an instance out, if it is in.
    pub(super) fn remove(&mut self, place: &Place) {
        let was = self.line(place, |line| line.order.remove(&(place.since, place.key.ix)));
        self.count -= usize::from(was);
    }

    /// Takes the one whose turn it is.
    pub(super) fn take(&mut self, queue: &str) -> Option<Key> {
        let key = self.queues.get_mut(queue)?.take()?;
        self.count -= 1;
        Some(key)
    }

    /// The queues that anything ever waited in.
    pub(super) fn queues(&self) -> Vec<Arc<str>> {
        self.queues.keys().cloned().collect()
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether the instance is in. For invariants.
    pub(super) fn contains(&self, place: &Place) -> bool {
        let line = self
            .queues
            .get(&place.queue)
            .and_then(|order| order.parts.get(&place.project))
            .and_then(|workflows| workflows.parts.get(&place.workflow))
            .and_then(|runs| runs.parts.get(&place.key.run));
        line.is_some_and(|line| line.order.contains(&(place.since, place.key.ix)))
    }
}
