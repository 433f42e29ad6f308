//! The loop that drives the run machine over a store: commands → machine → one commit → effects.
//!
//! [`Core`] is all of it that decides: it reads no clock and awaits nothing, so the simulator runs
//! it from a seed. [`Engine`] drives it over a real store and a real clock. Neither knows an
//! executor, a wire or a statement of SQL.
//!
//! Guarantees: an answer, a dispatch and an event leave only after the commit that makes them
//! durable; a commit whose outcome is unknown drops the memory and loads it again; a run that the
//! machine or the store cannot bear is set aside and the others go on.

mod batch;
mod clock;
mod decide;
mod engine;
pub mod failpoint;
mod firings;
mod recent;
mod request;
#[cfg(feature = "sabotage")]
mod sabotage;
mod ticks;
mod turn;

pub use crate::clock::{Clock, SystemClock};
pub use crate::engine::{Compiling, Effects, Engine, Ticket};
pub use crate::request::{Answer, Ask, Error, Found, Key, Read, Request};
#[cfg(feature = "sabotage")]
pub use crate::sabotage::Sabotage;
pub use crate::turn::{Config, Core, Led, Output, Step};
