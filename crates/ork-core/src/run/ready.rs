//! Instances that may start and wait for a slot, in the order in which they get one: in turn
//! between projects, then workflows, then runs; within a run by priority, then by age, then by
//! the plan's order.

use std::cmp::Reverse;
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
    /// The higher goes first within its run.
    pub(super) priority: i32,
    /// Since when it may start.
    pub(super) since: Wall,
}

/// Where an instance stands within its run.
type Rank = (Reverse<i32>, Wall, Ix);

impl Place {
    fn rank(&self) -> Rank {
        (Reverse(self.priority), self.since, self.key.ix)
    }
}

/// What takes turns.
trait Turns {
    /// What comes next of it.
    fn take(&mut self) -> Option<Key>;
    /// The same, which stays.
    fn peek(&self) -> Option<Key>;
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

    fn peek(&self) -> Option<Key> {
        self.turn.iter().find_map(|name| self.parts.get(name)?.peek())
    }

    fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// A run's own, the first one first.
#[derive(Debug, Default)]
struct Line {
    run: Option<RunId>,
    order: BTreeSet<Rank>,
}

impl Turns for Line {
    fn take(&mut self) -> Option<Key> {
        let (.., ix) = self.order.pop_first()?;
        self.run.map(|run| Key { run, ix })
    }

    fn peek(&self) -> Option<Key> {
        let (.., ix) = *self.order.first()?;
        self.run.map(|run| Key { run, ix })
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// An order by turns.
#[derive(Debug, Default)]
pub(super) struct Order(Ring<ProjectId, Ring<Arc<str>, Ring<RunId, Line>>>);

impl Order {
    fn line<R>(&mut self, place: &Place, change: impl FnOnce(&mut Line) -> R) -> R {
        self.0.with(&place.project, |workflows| {
            workflows.with(&place.workflow, |runs| runs.with(&place.key.run, change))
        })
    }

    /// Puts an instance in; false when it was in.
    pub(super) fn insert(&mut self, place: &Place) -> bool {
        self.line(place, |line| {
            line.run = Some(place.key.run);
            line.order.insert(place.rank())
        })
    }

    /// Takes an instance out; false when it was not in.
    pub(super) fn remove(&mut self, place: &Place) -> bool {
        self.line(place, |line| line.order.remove(&place.rank()))
    }

    /// Takes the one whose turn it is.
    pub(super) fn take(&mut self) -> Option<Key> {
        self.0.take()
    }

    /// The one whose turn it is.
    pub(super) fn peek(&self) -> Option<Key> {
        self.0.peek()
    }

    /// Whether nobody is in.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, place: &Place) -> bool {
        let workflows = self.0.parts.get(&place.project);
        let runs = workflows.and_then(|workflows| workflows.parts.get(&place.workflow));
        let line = runs.and_then(|runs| runs.parts.get(&place.key.run));
        line.is_some_and(|line| line.order.contains(&place.rank()))
    }
}

/// All that are ready, by queue. The queues take turns too, since a worker may serve several.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queues: BTreeMap<Arc<str>, Order>,
    turn: VecDeque<Arc<str>>,
    count: usize,
}

impl Ready {
    /// Puts an instance in.
    pub(super) fn insert(&mut self, place: &Place) {
        if !self.queues.contains_key(&place.queue) {
            self.turn.push_back(Arc::clone(&place.queue));
        }
        let order = self.queues.entry(Arc::clone(&place.queue)).or_default();
        self.count += usize::from(order.insert(place));
    }

    /// Takes an instance out, if it is in.
    pub(super) fn remove(&mut self, place: &Place) {
        let Some(order) = self.queues.get_mut(&place.queue) else { return };
        self.count -= usize::from(order.remove(place));
    }

    /// Takes the one whose turn it is.
    pub(super) fn take(&mut self, queue: &str) -> Option<Key> {
        let key = self.queues.get_mut(queue)?.take()?;
        self.count -= 1;
        Some(key)
    }

    /// The queues in which anything waits, in turn.
    pub(super) fn turn(&self) -> VecDeque<Arc<str>> {
        let filled = |name: &&Arc<str>| self.queues.get(*name).is_some_and(|q| !q.is_empty());
        self.turn.iter().filter(filled).cloned().collect()
    }

    /// Whether anything waits in a queue of this kind.
    pub(super) fn waits_for(&self, is: impl Fn(&str) -> bool) -> bool {
        self.queues.iter().any(|(name, order)| !order.is_empty() && is(name))
    }

    /// A queue has had its turn.
    pub(super) fn pass(&mut self, queue: &Arc<str>) {
        self.turn.retain(|name| name != queue);
        self.turn.push_back(Arc::clone(queue));
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether the instance is in. For invariants.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.queues.get(&place.queue).is_some_and(|order| order.contains(place))
    }
}
