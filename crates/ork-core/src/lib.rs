//! The pure part of Ork.
//!
//! Nothing here reads a clock, opens a file or a socket, starts a process or draws a random
//! number: time, file contents and ids are arguments. That is what makes the workflow language
//! checkable offline and the run machine simulable from a seed.

pub mod catalog;
pub mod check;
pub mod difference;
pub mod ids;
pub mod lang;
pub mod logs;
pub mod plan;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod time;
pub mod trigger;
pub mod types;
pub mod value;
