//! The one place of the engine that reads time.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ork_core::time::{Mono, Now, Span, Wall};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// How often the wall clock is looked at where the system does not say that it was set.
const LOOK: Span = Span::from_secs(60);

/// Both clocks, as an argument.
pub trait Clock: Send + Sync + 'static {
    /// What they show now.
    fn now(&self) -> Now;

    /// Waits until the wall clock has been set, or may have been: what is due by it is then to be
    /// found anew. Unless the clock knows better, every minute.
    fn stepped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(LOOK.to_std()))
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    /// Tells when the wall clock is set, by hand, by the network or after a sleep of the machine;
    /// none where the system has no such timer.
    watch: OnceLock<Option<AsyncFd<OwnedFd>>>,
}

impl SystemClock {
    /// Clocks whose monotonic one starts here.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
    pub fn new() -> Self {
        Self { start: Instant::now(), watch: OnceLock::new() }
    }

    async fn set(&self) {
        let watch = self.watch.get_or_init(|| watch().ok());
        let Some(watch) = watch else { return tokio::time::sleep(LOOK.to_std()).await };
        let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
        // It ends by being cancelled, and never by its time.
        let _ = arm(watch.get_ref());
        ready.clear_ready();
    }
}

/// A timer that ends when the wall clock is set.
#[expect(
    deprecated,
    reason = "it is meant for what may change its descriptor; an `OwnedFd` may not"
)]
fn watch() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
    arm(&timer)?;
    AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)
}

/// Puts the timer's end out of reach, to be cancelled by the next setting of the clock.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    match timerfd_settime(timer, flags, &Itimerspec { it_interval: at_once, it_value: never }) {
        // The clock was set since it was armed; it is armed all the same.
        Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
        Err(error) => Err(error.into()),
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

    fn stepped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.set())
    }
}

fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_clock_that_is_not_set_wakes_nobody() {
        let clock = SystemClock::new();
        for _ in 0..3 {
            assert_eq!(clock.stepped().now_or_never(), None);
            tokio::task::yield_now().await;
        }
        assert!(clock.watch.get().is_some_and(Option::is_some), "the system has such timers");
    }
}
