//! The tests of `ork-store`.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blobs;
mod conformance;
mod crash;
mod damage;
mod dir;
mod logs;
mod model;
mod rows;
