//! What has just become durable, for those who listen: the newest events in memory, and which logs
//! have grown. Older events are read from the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ork_core::rows::EventRow;
use ork_core::run::{EventKind, Failure};
use ork_store::{CommitSeq, Committed, LogKey};
use tokio::sync::{broadcast, watch};

/// How many events are held in memory at most.
const EVENTS: usize = 8_192;

/// How many bytes those may take, about.
const BYTES: usize = 8 << 20;

/// How many news of logs may wait for a listener; one that is further behind looks at all of its
/// logs.
const NEWS: usize = 1_024;

/// A place in the order of commits: after the event that stands there.
pub(crate) type Place = (CommitSeq, u32);

/// What follows a place.
pub(crate) enum Since {
    /// These, in order; more may follow.
    Events(Vec<Committed>),
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
    events: VecDeque<Committed>,
    /// How much memory they take, about.
    bytes: usize,
    /// All that follows this is in `events`.
    start: Place,
    last: Place,
}

impl Feed {
    /// A feed of what comes after `last`.
    pub(crate) fn new(last: CommitSeq) -> Self {
        let start = (last, u32::MAX);
        Self {
            ring: Mutex::new(Ring { events: VecDeque::new(), bytes: 0, start, last: start }),
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
            ring.bytes += weight(&event.event);
            ring.events.push_back(event);
        }
        while (ring.events.len() > EVENTS || ring.bytes > BYTES)
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.bytes -= weight(&oldest.event);
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

/// About how much memory an event takes.
fn weight(event: &EventRow) -> usize {
    let failed = |failure: Option<&Failure>| {
        failure.map_or(0, |why| why.message.len() + why.details.as_ref().map_or(0, String::len))
    };
    let more = match &event.kind {
        EventKind::TaskOpened { made: Some(made), .. } => made.tasks.len() * TASK,
        EventKind::RunFinished { failure, .. } | EventKind::TaskFinished { failure, .. } => {
            failed(failure.as_ref())
        }
        EventKind::TaskRetrying { failure, .. } => failed(Some(failure)),
        EventKind::RunQuarantined { reason } => reason.len(),
        _ => 0,
    };
    size_of::<EventRow>() + event.actor.reason.as_ref().map_or(0, String::len) + PATH + more
}

/// About how much memory a path takes.
const PATH: usize = 64;

/// About how much memory a task of a generated DAG takes.
const TASK: usize = 1_024;

#[cfg(test)]
mod tests {
    use ork_core::ids::{ProjectId, RunId};
    use ork_core::rows::Actor;
    use ork_core::run::{FailureKind, RunState};
    use ork_core::time::Wall;

    use super::*;

    fn event(seq: u64, details: usize) -> Committed {
        let failure = Failure {
            details: Some("x".repeat(details)),
            ..Failure::new(FailureKind::Failure, "it failed")
        };
        let event = EventRow {
            project: ProjectId::DEFAULT,
            run: RunId(uuid::Uuid::from_u128(1)),
            seq,
            at: Wall(0),
            path: None,
            generation: None,
            attempt: None,
            actor: Actor::default(),
            schema_version: 1,
            kind: EventKind::RunFinished { state: RunState::Failed, failure: Some(failure) },
        };
        Committed { commit: CommitSeq(seq), position: 0, event: Arc::new(event) }
    }

    #[test]
    fn the_newest_events_are_held_by_count_and_by_size() {
        let feed = Feed::new(CommitSeq(0));
        feed.push((1..=10_000).map(|seq| event(seq, 0)).collect());
        assert_eq!(feed.ring().events.len(), EVENTS);
        feed.push((10_001..=11_000).map(|seq| event(seq, 32 << 10)).collect());
        let held = feed.ring().events.len();
        assert!((200..=256).contains(&held), "{held}");
        assert!(matches!(feed.since((CommitSeq(10_000), 0), 10), Since::Older));
        let last = feed.since((CommitSeq(10_998), 0), 10);
        let Since::Events(last) = last else { panic!() };
        assert_eq!(last.len(), 2);
        feed.push((11_001..=21_000).map(|seq| event(seq, 0)).collect());
        assert_eq!(feed.ring().events.len(), EVENTS);
    }
}
