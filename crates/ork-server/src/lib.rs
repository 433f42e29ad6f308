//! Ork's REST API and event streams, and the door between the engine and its workers.
//!
//! [`Server::start`] opens a data directory, starts the engine and, where asked, listens. What a
//! run may do is the core's affair; what the store holds is the store's: here requests are
//! checked, named, authorised and limited, and rows become resources.

mod app;
mod attempt_logs;
mod code;
mod content;
mod door;
mod extract;
mod feed;
mod generated;
mod guard;
mod handlers;
mod hooks;
mod hub;
mod limits;
mod listen;
mod openapi;
mod plans;
mod random;
mod refused;
mod retention;
mod routes;
mod start;
mod stream;
mod token;
mod view;

pub use hub::WorkerLink;
pub use limits::Limits;
pub use ork_engine::failpoint;
pub use retention::Retention;
pub use routes::{Access, ROUTES, Route};
pub use start::{Config, Running, Server, ServerFile, StartError, Storage};
