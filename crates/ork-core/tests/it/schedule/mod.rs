//! Schedules: when they tick.

mod answers;
mod clocks;
mod cron;
mod laws;
mod state;

use ork_core::plan::When;
use ork_core::schedule::Timetable;
use ork_core::time::Wall;

/// A timetable by a cron expression.
fn cron(text: &str, zone: &str) -> Timetable {
    Timetable::new(&When::Cron(text.into()), zone).unwrap()
}

/// An instant, from ISO 8601 with an offset.
fn at(text: &str) -> Wall {
    let zone = ork_core::schedule::Zone::named("UTC").unwrap();
    zone.read(text).unwrap()
}
