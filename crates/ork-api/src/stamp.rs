//! Instants on the wire: RFC 3339 in UTC with microseconds; dates are read too.

use std::fmt;

use ork_core::time::Wall;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant as `2026-11-24T08:00:00.000000Z`. Read with any offset or as a date, written
/// in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub Wall);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}", jiff::Timestamp::MAX),
        }
    }
}

/// Text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no date and no time; write 2026-11-24, or 2026-11-24T08:00:00Z")]
pub struct NoStamp(String);

impl std::str::FromStr for Stamp {
    type Err = NoStamp;

    /// A time with an offset, or a date: that is its midnight in UTC.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let midnight = || format!("{text}T00:00:00Z").parse();
        let instant: Result<jiff::Timestamp, _> = text.parse().or_else(|_| midnight());
        let instant = instant.map_err(|_| NoStamp(text.to_owned()))?;
        Ok(Self(Wall(instant.as_microsecond())))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl From<Wall> for Stamp {
    fn from(wall: Wall) -> Self {
        Self(wall)
    }
}
