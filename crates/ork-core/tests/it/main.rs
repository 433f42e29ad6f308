//! The tests of `ork-core` that use its public face alone.

mod lang;
