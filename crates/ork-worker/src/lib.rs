//! Everything that touches user code: slots, processes and their trees, log shipping, code
//! bundles, and the executors, one folder each.
//!
//! A [`Worker`] speaks the worker protocol over a [`ork_api::worker::Link`] and has no access to
//! the store. It starts every program through its [`spawner`], so that nothing of a task is left
//! when the task, the worker or the machine's power over it ends.

mod attempt;
mod blame;
mod bundle;
mod child;
mod config;
pub mod environment;
mod executors;
mod files;
mod json;
mod logs;
mod programs;
mod rooms;
pub mod spawner;
mod worker;

pub use config::{Config, Dirs, MAX_OUTPUT, PYTHON_IDLE};
pub use worker::{Ended, Worker};
