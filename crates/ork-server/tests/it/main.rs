//! The server on a real socket, reached by the real client; its worker does what the tests say.

mod access;
mod harness;
mod keys;
mod limits;
mod logs;
mod openapi;
mod problems;
mod runs;
mod start;
mod stream;
