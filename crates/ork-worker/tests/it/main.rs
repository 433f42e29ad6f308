//! The worker with its real spawner and real programs, against a server made of memory.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bed;
mod conformance;
mod costs;
mod death;
mod files;
mod python;
mod run;
