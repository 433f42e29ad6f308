//! The run machine.

mod build;
mod check;
mod exhaustive;
mod large;
mod random;
mod traces;
mod world;
