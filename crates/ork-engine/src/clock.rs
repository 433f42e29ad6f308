//! The one place of the engine that reads time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ork_core::time::{Mono, Now, Wall};

/// Both clocks, as an argument.
pub trait Clock: Send + Sync + 'static {
    /// What they show now.
    fn now(&self) -> Now;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Clocks whose monotonic one starts here.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(micros(self.start.elapsed())), wall: Wall(micros(wall)) }
    }
}

fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
