//! The tests of `ork-store`.

mod blobs;
mod conformance;
mod crash;
mod dir;
mod logs;
mod model;
mod rows;
