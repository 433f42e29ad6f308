//! The run machine.

mod airflow;
mod aside;
mod build;
mod check;
mod dags;
mod exhaustive;
mod fair;
mod found;
mod judge;
mod large;
mod limits;
mod operate;
mod random;
mod redo;
mod traces;
mod waits;
mod world;
