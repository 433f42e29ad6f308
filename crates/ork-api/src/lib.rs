//! What goes over the wire: the resources of the REST API, its error body, the worker protocol,
//! and a typed client.

pub mod backfills;
pub mod client;
pub mod encode;
pub mod problem;
pub mod schedules;
mod schema;
pub mod stamp;
pub mod triggers;
pub mod types;
pub mod worker;
