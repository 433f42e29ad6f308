//! Days and times in ISO 8601 text, kept strictly apart by kind.

use std::fmt;
use std::sync::LazyLock;

use jiff::ZonedDateTime as Zoned;
use jiff::civil::{Date, DateTime};
use jiff::fmt::temporal::{DateTimeParser, Pieces, PiecesOffset};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

/// The zones that the program was built with: the same on every machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of an IANA name such as `Europe/Berlin`, or `UTC`.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    ZONES.get(name).ok()
}

/// The names of all zones.
pub(crate) fn zone_names() -> Vec<String> {
    ZONES.available().map(|name| name.as_str().to_owned()).collect()
}

/// A day or a time, as its text says which.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Moment {
    /// A day.
    Day(Date),
    /// A date and time without a zone.
    Civil(DateTime),
    /// A date and time with an offset or a zone.
    Zoned(Zoned),
}

impl Moment {
    /// Reads ISO 8601 text; none when it is not that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let pieces = Pieces::parse(text).ok()?;
        let has_zone = pieces.offset().is_some() || pieces.time_zone_annotation().is_some();
        match pieces.time() {
            None if has_zone => None,
            None => Some(Self::Day(pieces.date())),
            Some(time) if !has_zone => Some(Self::Civil(pieces.date().to_datetime(time))),
            Some(time) => zoned(text, &pieces, pieces.date().to_datetime(time)).map(Self::Zoned),
        }
    }

    /// The instant in microseconds since 1970. What has no zone is taken to be in UTC, and a day
    /// begins at midnight.
    pub(crate) fn micros(&self) -> Option<i64> {
        let utc = |time: DateTime| time.to_zoned_datetime(TimeZone::UTC).ok();
        let zoned = match self {
            Self::Day(date) => utc(date.to_datetime(jiff::civil::Time::midnight()))?,
            Self::Civil(time) => utc(*time)?,
            Self::Zoned(zoned) => zoned.clone(),
        };
        Some(zoned.timestamp().as_microsecond())
    }

    /// Whether it is a time in UTC.
    pub(crate) fn is_utc(&self) -> bool {
        matches!(self, Self::Zoned(zoned) if zoned.offset() == Offset::UTC
            && zoned.time_zone().iana_name().is_none_or(|name| name == "UTC"))
    }
}

fn zoned(text: &str, pieces: &Pieces<'_>, local: DateTime) -> Option<Zoned> {
    if pieces.time_zone_annotation().is_some() {
        return DateTimeParser::new().parse_zoned_datetime_with(&ZONES, text).ok();
    }
    let zone = match pieces.offset()? {
        PiecesOffset::Numeric(offset) if offset.offset() != Offset::UTC => {
            TimeZone::fixed(offset.offset())
        }
        _ => TimeZone::UTC,
    };
    local.to_zoned_datetime(zone).ok()
}

impl fmt::Display for Moment {
    /// ISO 8601; a zone is given by its offset, `Z` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(date) => date.fmt(f),
            Self::Civil(time) => time.fmt(f),
            Self::Zoned(zoned) if zoned.offset() == Offset::UTC => zoned.timestamp().fmt(f),
            Self::Zoned(zoned) => zoned.timestamp().display_with_offset(zoned.offset()).fmt(f),
        }
    }
}
