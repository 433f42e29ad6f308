//! The server on a real socket, reached by the real client; its worker does what the tests say.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod artifacts;
mod harness;
mod hooks;
mod keys;
mod limits;
mod logs;
mod many;
mod openapi;
mod problems;
mod retention;
mod runs;
mod start;
mod stream;
mod workflows;
