//! Time as an argument. `Mono` drives leases, timeouts, back-off and grace; `Wall` drives
//! schedules and stamps.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A length of time in microseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Span(pub i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `n` milliseconds.
    pub const fn from_millis(n: i64) -> Self {
        Self(n * 1_000)
    }

    /// `n` seconds.
    pub const fn from_secs(n: i64) -> Self {
        Self(n * 1_000_000)
    }

    /// The span for the standard library; a negative one is zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

/// The language's notation: `1h30m`, `90ms`. What is below a millisecond is left out.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0 / 1_000;
        if left <= 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
        {
            if left >= millis {
                write!(f, "{}{unit}", left / millis)?;
                left %= millis;
            }
        }
        Ok(())
    }
}

/// An instant of a clock that never steps, in microseconds since an arbitrary start. It means
/// nothing outside the process that read it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub i64);

/// An instant of the civil clock, in microseconds since 1970-01-01T00:00:00Z. It may step.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Add<Span> for Mono {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Mono {
    type Output = Span;

    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Wall {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Wall {
    type Output = Span;

    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// The two clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The clock that never steps.
    pub mono: Mono,
    /// The civil clock.
    pub wall: Wall,
}

impl Now {
    /// Both clocks `span` later, as if the civil clock had not stepped.
    #[must_use]
    pub fn after(self, span: Span) -> Self {
        Self { mono: self.mono + span, wall: self.wall + span }
    }
}
