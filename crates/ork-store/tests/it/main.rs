//! The tests of `ork-store`.

mod conformance;
mod rows;
