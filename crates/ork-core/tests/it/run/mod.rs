//! The run machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod build;
mod exhaustive;
mod large;
mod random;
mod traces;
mod world;
