//! The run machine.

mod aside;
mod build;
mod check;
mod dags;
mod exhaustive;
mod large;
mod random;
mod traces;
mod world;
