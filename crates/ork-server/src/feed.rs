//! What has just become durable, for those who listen: the newest events in memory, and which logs
//! have grown. Older events are read from the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ork_store::{CommitSeq, Committed, LogKey};
use tokio::sync::{broadcast, watch};

/// How many events are held in memory.
const EVENTS: usize = 8_192;

/// How many news of logs may wait for a listener; one that is further behind looks at all of its
/// logs.
const NEWS: usize = 1_024;

/// A place in the order of commits: after the event that stands there.
pub(crate) type Place = (CommitSeq, u32);

/// What follows a place.
pub(crate) enum Since {
    /// These, in order; more may follow.
    Events(Vec<Arc<Committed>>),
    /// Nothing yet.
    Nothing,
    /// More than is in memory.
    Older,
}

#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    lines: broadcast::Sender<Arc<LogKey>>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Committed>>,
    /// All that follows this is in `events`.
    start: Place,
    last: Place,
}

impl Feed {
    /// A feed of what comes after `last`.
    pub(crate) fn new(last: CommitSeq) -> Self {
        let start = (last, u32::MAX);
        Self {
            ring: Mutex::new(Ring { events: VecDeque::new(), start, last: start }),
            changed: watch::Sender::new(()),
            lines: broadcast::Sender::new(NEWS),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes events that have become durable, in the order of commits.
    pub(crate) fn push(&self, events: Vec<Committed>) {
        let mut ring = self.ring();
        for event in events {
            ring.last = (event.commit, event.position);
            ring.events.push_back(Arc::new(event));
        }
        while ring.events.len() > EVENTS
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.start = (oldest.commit, oldest.position);
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// The place of the last event.
    pub(crate) fn last(&self) -> Place {
        self.ring().last
    }

    /// At most `limit` events after `place`.
    pub(crate) fn since(&self, place: Place, limit: usize) -> Since {
        let ring = self.ring();
        if place < ring.start {
            return Since::Older;
        }
        let from = ring.events.partition_point(|event| (event.commit, event.position) <= place);
        let events: Vec<_> = ring.events.iter().skip(from).take(limit).cloned().collect();
        if events.is_empty() { Since::Nothing } else { Since::Events(events) }
    }

    /// Wakes when events come.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells that a log has grown or ended.
    pub(crate) fn grown(&self, attempt: Arc<LogKey>) {
        // Nobody listening is no error.
        let _ = self.lines.send(attempt);
    }

    /// Tells which logs grow or end.
    pub(crate) fn lines(&self) -> broadcast::Receiver<Arc<LogKey>> {
        self.lines.subscribe()
    }
}
