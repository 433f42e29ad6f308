//! The run machine.

mod build;
mod exhaustive;
mod large;
mod random;
mod traces;
mod world;
