//! The tests of `ork-core` that use its public face alone.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod expr_check;
mod expr_eval;
mod expr_random;
mod expr_world;
mod lang;
mod python;
mod run;
mod schedule;
mod types;
