//! The run machine.

mod aside;
mod build;
mod check;
mod exhaustive;
mod large;
mod random;
mod traces;
mod world;
