//! The engine over a store in memory that does what the test says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod driver;
mod faulty;
mod recovery;
mod schedules;
mod setup;
mod triggers;
