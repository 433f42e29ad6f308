//! Schedules: when runs are made by themselves.
//!
//! A [`Timetable`] says at which instants a schedule ticks. It knows no clock: the next tick is a
//! function of the schedule and an instant. A tick is named by its instant, so it is the same tick
//! whoever computes it, and ticks strictly increase.
//!
//! Where clocks are changed, a cron with fixed hours ticks once: at the first of two equal times,
//! and right after a gap that holds its time. One with `*` or a step in its hours ticks each time
//! the clock shows a time that fits, so in both passes, and not for what a gap leaves out. The
//! rules of zones are those that the program was built with, the same on every machine.

mod backfill;
mod cron;
mod state;
mod zone;

use jiff::Timestamp;

pub use self::backfill::{
    Backfills, MAX_ABREAST, MAX_BACKFILL, Need, NewBackfill, Steer, count, day, listed,
};
pub use self::cron::{Cron, CronError};
pub use self::state::{Declared, Due, LATE, MAX_COUNTED, ScheduleKey, Schedules, Site};
pub(crate) use self::state::{fitting, run_id};
pub use self::zone::Zone;
pub(crate) use self::zone::utc;
use crate::plan::When;
use crate::time::{Span, Wall};
use crate::value::Digest;

/// The shortest interval between ticks.
pub const MIN_INTERVAL: Span = Span::from_secs(1);

/// The most schedules of a workflow.
pub const MAX_SCHEDULES: usize = 100;

/// The most times of a schedule's `at`.
pub const MAX_TIMES: usize = 1_000;

/// The most runs that a schedule makes for ticks that were missed, whatever its `catchup` says.
pub const MAX_CATCHUP: usize = 1_000;

/// Where intervals are counted from: Monday, 1970-01-05T00:00:00Z.
const ANCHOR: i64 = 4 * 24 * 3_600 * 1_000_000;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is no such zone.
    #[error("there is no time zone `{name}`")]
    Zone {
        /// As given.
        name: String,
        /// One that is called almost so.
        nearest: Option<String>,
    },
    /// The cron expression is wrong.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// The interval is too short.
    #[error("an interval is at least {MIN_INTERVAL}, not {0}")]
    Interval(Span),
}

/// When a schedule ticks.
#[derive(Clone, Debug)]
pub struct Timetable {
    zone: Zone,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Box<Cron>),
    Every(Span),
    At(Vec<Wall>),
}

/// One tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick {
    /// Its instant, which is its name.
    pub at: Wall,
    /// How far the schedule's zone is ahead of UTC then, in seconds.
    pub offset: i32,
    /// How it stands to a change of the clock.
    pub shift: Shift,
}

/// How a tick stands to a change of its zone's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shift {
    /// Its local time is there once.
    None,
    /// Its own time was in a gap; it was moved to the gap's end.
    Moved,
    /// Its local time is there twice, and this is the first.
    First,
    /// Its local time is there twice, and this is the second.
    Second,
}

impl Tick {
    /// What a run of this tick is for: its local time with the offset, in ISO 8601.
    pub fn logical_time(&self) -> String {
        zone::iso(self.at, self.offset)
    }
}

impl Timetable {
    /// The timetable of a rule in a zone.
    ///
    /// # Errors
    /// A zone that is not known, a cron expression that cannot be read or never fires, an interval
    /// below [`MIN_INTERVAL`].
    pub fn new(when: &When, timezone: &str) -> Result<Self, ScheduleError> {
        let zone = Zone::named(timezone)?;
        let rule = match when {
            When::Cron(text) => Rule::Cron(Box::new(Cron::parse(text)?)),
            When::Interval(every) if *every < MIN_INTERVAL => {
                return Err(ScheduleError::Interval(*every));
            }
            When::Interval(every) => Rule::Every(*every),
            When::At(instants) => {
                let mut instants = instants.clone();
                instants.sort_unstable();
                instants.dedup();
                Rule::At(instants)
            }
        };
        Ok(Self { zone, rule })
    }

    /// The zone of its local times.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first tick after an instant; none where there is no more, or only after the year 9999.
    pub fn next(&self, after: Wall) -> Option<Tick> {
        match &self.rule {
            Rule::Cron(cron) => {
                let after = Timestamp::from_microsecond(after.0).ok()?;
                if cron.any_hour() {
                    self.zone.next_of_any_hour(cron, after)
                } else {
                    self.zone.next_of_fixed_hour(cron, after)
                }
            }
            Rule::Every(every) => {
                let count = (after.0.checked_sub(ANCHOR)?).div_euclid(every.0).checked_add(1)?;
                let at = count.checked_mul(every.0)?.checked_add(ANCHOR)?;
                self.zone.tick(Wall(at))
            }
            Rule::At(instants) => {
                let at = instants.partition_point(|at| *at <= after);
                self.zone.tick(*instants.get(at)?)
            }
        }
    }

    /// The last tick in `(after, until]`, however many there are.
    pub fn last(&self, after: Wall, until: Wall) -> Option<Tick> {
        let mut found = self.next(after).filter(|tick| tick.at <= until)?;
        let mut past = until.0;
        // What is sought lies in [found, past]: halve it.
        while found.at.0 < past {
            let middle = found.at.0 + (past - found.at.0) / 2;
            match self.next(Wall(middle)).filter(|tick| tick.at <= until) {
                Some(later) => found = later,
                None => past = middle,
            }
        }
        Some(found)
    }

    /// The last `most` ticks in `(after, until]`, in order, however many there are.
    pub fn latest(&self, after: Wall, until: Wall, most: usize) -> Vec<Tick> {
        let (mut ticks, mut until) = (Vec::new(), until);
        while ticks.len() < most {
            let Some(tick) = self.last(after, until) else { break };
            until = Wall(tick.at.0 - 1);
            ticks.push(tick);
        }
        ticks.reverse();
        ticks
    }

    /// All ticks in `(after, until]`, in order.
    pub fn ticks(&self, after: Wall, until: Wall) -> impl Iterator<Item = Tick> + '_ {
        let step = move |tick: &Tick| self.next(tick.at).filter(|next| next.at <= until);
        std::iter::successors(self.next(after).filter(|tick| tick.at <= until), step)
    }

    /// When a tick's run is made: later than the tick by up to `jitter`, but always before the next
    /// tick. It is the same for the same `key` (project, workflow and schedule) and tick.
    pub fn due(&self, tick: &Tick, jitter: Span, key: &str) -> Wall {
        if jitter.0 <= 0 {
            return tick.at;
        }
        let room = self.next(tick.at).map_or(jitter.0, |next| (next.at - tick.at).0 - 1);
        let most = jitter.0.min(room).max(0);
        let digest = Digest::of(format!("{key}@{}", tick.at.0).as_bytes());
        let seed = digest.0.iter().take(8).fold(0_u64, |seed, byte| seed << 8 | u64::from(*byte));
        let part = (u128::from(seed) * (u128::from(most.unsigned_abs()) + 1)) >> 64;
        tick.at + Span(i64::try_from(part).unwrap_or(most))
    }
}
