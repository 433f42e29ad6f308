//! The worker with its real spawner and real programs, against a server made of memory.

mod bed;
mod conformance;
mod death;
mod python;
mod run;
