//! Values kept as blobs, as far as expressions need them: asked for once, shared, bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::RunId;
use crate::run::instance::Ix;
use crate::value::{Digest, Value};

/// A hash map without randomness; its keys are made by Ork, so nobody can choose them to collide.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Who waits for a value: an instance, or its run's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) run: RunId,
    pub(super) ix: Option<Ix>,
}

#[derive(Debug)]
enum Entry {
    Asked(Vec<Waiter>),
    Held(Held),
}

#[derive(Debug)]
struct Held {
    value: Arc<Value>,
    bytes: usize,
    /// How many waiters have yet to look at it.
    pins: u32,
    used: AtomicU64,
}

/// The values that are here or asked for.
#[derive(Debug)]
pub(super) struct Values {
    entries: Map<Digest, Entry>,
    bytes: usize,
    limit: usize,
    clock: AtomicU64,
}

impl Values {
    /// None, and at most `limit` bytes of those that nobody waits for.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: Map::default(), bytes: 0, limit, clock: AtomicU64::new(0) }
    }

    /// The value, when it is here.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Value>> {
        match self.entries.get(digest)? {
            Entry::Asked(_) => None,
            Entry::Held(held) => {
                let now = self.clock.fetch_add(1, Ordering::Relaxed);
                held.used.store(now, Ordering::Relaxed);
                Some(Arc::clone(&held.value))
            }
        }
    }

    /// Puts a waiter on a value's list. Says whether it has to be fetched, which is so once.
    pub(super) fn ask(&mut self, digest: Digest, waiter: Waiter) -> bool {
        match self.entries.entry(digest) {
            Slot::Vacant(slot) => {
                slot.insert(Entry::Asked(vec![waiter]));
                true
            }
            Slot::Occupied(mut slot) => {
                if let Entry::Asked(waiters) = slot.get_mut()
                    && !waiters.contains(&waiter)
                {
                    waiters.push(waiter);
                }
                false
            }
        }
    }

    /// A value came, or never will. Who waited for it.
    pub(super) fn arrive(&mut self, digest: Digest, value: Option<Arc<Value>>) -> Vec<Waiter> {
        let Some(Entry::Asked(_)) = self.entries.get(&digest) else { return Vec::new() };
        let Some(Entry::Asked(waiters)) = self.entries.remove(&digest) else { return Vec::new() };
        if let Some(value) = value {
            let bytes = weight(&value);
            self.bytes += bytes;
            let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
            self.entries.insert(digest, Entry::Held(Held { value, bytes, pins: 0, used }));
        }
        waiters
    }

    /// Keeps a value until [`Values::unpin`].
    pub(super) fn pin(&mut self, digest: Digest) {
        if let Some(Entry::Held(held)) = self.entries.get_mut(&digest) {
            held.pins += 1;
        }
    }

    /// A waiter has looked at the value.
    pub(super) fn unpin(&mut self, digest: Digest) {
        if let Some(Entry::Held(held)) = self.entries.get_mut(&digest) {
            held.pins = held.pins.saturating_sub(1);
        }
    }

    /// Throws out what was used longest ago, down to three quarters of the limit.
    pub(super) fn evict(&mut self) {
        if self.bytes <= self.limit {
            return;
        }
        let mut idle: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(digest, entry)| match entry {
                Entry::Held(held) if held.pins == 0 => {
                    Some((held.used.load(Ordering::Relaxed), *digest, held.bytes))
                }
                _ => None,
            })
            .collect();
        idle.sort_unstable();
        for (_, digest, bytes) in idle {
            if self.bytes <= self.limit / 4 * 3 {
                return;
            }
            self.entries.remove(&digest);
            self.bytes -= bytes;
        }
    }

    /// Whether the waiter is on the value's list.
    pub(super) fn awaited(&self, digest: &Digest, waiter: Waiter) -> bool {
        matches!(self.entries.get(digest), Some(Entry::Asked(list)) if list.contains(&waiter))
    }
}

/// About how many bytes a value takes in memory.
fn weight(value: &Value) -> usize {
    let below = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(k, v)| 32 + k.len() + weight(v)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + below
}
