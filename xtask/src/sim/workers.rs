//! Workers of a simulation: slow, silent, late, repeating themselves, dying.

use std::collections::BTreeMap;

use ork_core::ids::{AttemptRef, Token, WorkerId};
use ork_core::run::{Assignment, Report};
use ork_core::time::Span;

use super::plans::SENSOR;

/// A worker's side of an attempt.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) attempt: AttemptRef,
    pub(super) generation: u32,
    pub(super) number: u32,
    pub(super) stage: Stage,
    /// Which holding of the token it is: one may be given up and come again.
    pub(super) holding: u64,
    /// How often it has to give a sign of life.
    pub(super) heartbeat: Option<Span>,
    /// Whether it looks for something that may not be there yet.
    pub(super) sensor: bool,
    /// It was told to stop and takes its time.
    pub(super) stopping: bool,
}

/// How far a worker is with an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Has it; user code waits for the server's word.
    Offered,
    /// User code runs.
    Running,
    /// User code is gone; the report is repeated until it is answered.
    Ended(Report),
    /// Nothing more to say.
    Done,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slots: u32,
    /// The queues it serves; none: the default one.
    pub(super) queues: Vec<String>,
    /// It lives in the server's process: it starts at once what it is given, and dies with it.
    pub(super) embedded: bool,
    pub(super) alive: bool,
    /// Nothing of what it says arrives before this, and nothing reaches it.
    pub(super) silent_until: i64,
    /// When the server last heard that it is alive; reports do not count.
    pub(super) heard: i64,
    /// The number of its latest beat.
    pub(super) beats: u64,
    /// The number of its latest beat that the server heard: an earlier one renews nothing.
    heard_beat: u64,
    /// By token; also what is over, so that an offer that comes again is known.
    pub(super) held: BTreeMap<Token, Held>,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        slots: u32,
        queues: Vec<String>,
        embedded: bool,
        now: i64,
    ) -> Self {
        Self {
            id: WorkerId::from(&*format!("w{number}")),
            slots,
            queues,
            embedded,
            alive: true,
            silent_until: now,
            heard: now,
            beats: 0,
            heard_beat: 0,
            held: BTreeMap::new(),
        }
    }

    /// The server hears a beat, perhaps late or again.
    pub(super) fn hear(&mut self, beat: u64, now: i64) {
        if beat > self.heard_beat {
            (self.heard, self.heard_beat) = (now, beat);
        }
    }

    /// What it names in a beat.
    pub(super) fn named(&self) -> Vec<AttemptRef> {
        let open = self.held.values().filter(|held| held.stage != Stage::Done);
        open.map(|held| held.attempt.clone()).collect()
    }

    /// Whether user code of this instance runs here.
    pub(super) fn runs(&self, of: &AttemptRef) -> Option<&Held> {
        self.held.values().find(|held| {
            held.stage == Stage::Running
                && held.attempt.run == of.run
                && held.attempt.path == of.path
        })
    }
}

impl Held {
    pub(super) fn new(assignment: &Assignment) -> Self {
        Self {
            attempt: assignment.attempt.clone(),
            generation: assignment.generation,
            number: assignment.number,
            stage: Stage::Offered,
            holding: 0,
            heartbeat: assignment.heartbeat,
            sensor: assignment.spec == SENSOR,
            stopping: false,
        }
    }

    /// What a worker knows of an attempt that it was told to stop before it came.
    pub(super) fn never(attempt: AttemptRef, report: Report) -> Self {
        Self {
            attempt,
            generation: 0,
            number: 0,
            stage: Stage::Ended(report),
            holding: 0,
            heartbeat: None,
            sensor: false,
            stopping: true,
        }
    }
}
