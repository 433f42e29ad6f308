//! Ork's wire types, worker protocol and typed client.

pub mod worker;
