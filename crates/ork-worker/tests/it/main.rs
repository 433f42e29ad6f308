//! The worker with its real spawner and real programs, against a server made of memory.

mod bed;
mod conformance;
mod costs;
mod death;
mod python;
mod run;
