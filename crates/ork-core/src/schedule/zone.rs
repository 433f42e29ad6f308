//! Time zones: from local times to instants and back, where clocks are changed too.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::{Cron, ScheduleError, Shift, Tick};
use crate::time::{Span, Wall};
use crate::types::{Moment, zone, zone_names};

/// A zone of the IANA database.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
}

impl Zone {
    /// The zone of a name such as `Europe/Berlin` or `UTC`, written as it is called.
    ///
    /// # Errors
    /// [`ScheduleError::Zone`], with a name that is almost so.
    pub fn named(name: &str) -> Result<Self, ScheduleError> {
        match zone(name) {
            Some(zone) if zone.iana_name() == Some(name) => Ok(Self { zone }),
            found => {
                let name = name.to_owned();
                let proper = found.and_then(|zone| zone.iana_name().map(str::to_owned));
                let nearest = proper.or_else(|| near(&name));
                Err(ScheduleError::Zone { name, nearest })
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// What its clock is called at an instant: `CET`, `-03`.
    pub fn abbreviation(&self, at: Wall) -> String {
        let instant = Timestamp::from_microsecond(at.0).unwrap_or_default();
        self.zone.to_offset_info(instant).abbreviation().to_owned()
    }

    /// How far its clock is ahead of UTC at an instant, in seconds.
    pub fn offset(&self, at: Wall) -> i32 {
        let instant = Timestamp::from_microsecond(at.0).unwrap_or_default();
        self.zone.to_offset(instant).seconds()
    }

    /// An instant by this zone's clock, in ISO 8601.
    pub fn show(&self, at: Wall) -> String {
        let instant = Timestamp::from_microsecond(at.0).unwrap_or_default();
        iso(at, self.zone.to_offset(instant).seconds())
    }

    /// The instant that a time is meant to be, as in a schedule's `at`: one with an offset as it
    /// is, one without by this zone's clock, the first where it is there twice and the gap's end
    /// where it is not there at all.
    ///
    /// # Errors
    /// One sentence where the text is no date with a time.
    pub fn read(&self, text: &str) -> Result<Wall, String> {
        let instant = match Moment::parse(text) {
            Some(Moment::Zoned(time)) => Some(time.timestamp()),
            Some(Moment::Civil(local)) => self.instant(local).map(|(instant, ..)| instant),
            Some(Moment::Day(day)) => {
                return Err(format!("`{text}` has no time: write `{day}T00:00`"));
            }
            None => None,
        };
        let instant = instant.ok_or_else(|| format!("`{text}` is no date and time"))?;
        Ok(Wall(instant.as_microsecond()))
    }

    /// A tick at an instant that no local time has moved.
    pub(super) fn tick(&self, at: Wall) -> Option<Tick> {
        let instant = Timestamp::from_microsecond(at.0).ok()?;
        let offset = self.zone.to_offset(instant);
        let local = offset.to_datetime(instant);
        let shift = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Fold { before, .. } if before == offset => Shift::First,
            AmbiguousOffset::Fold { .. } => Shift::Second,
            _ => Shift::None,
        };
        Some(Tick { at, offset: offset.seconds(), shift })
    }

    /// The one instant of a local time.
    fn instant(&self, local: DateTime) -> Option<(Timestamp, Offset, Shift)> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                Some((offset.to_timestamp(local).ok()?, offset, Shift::None))
            }
            AmbiguousOffset::Fold { before, .. } => {
                Some((before.to_timestamp(local).ok()?, before, Shift::First))
            }
            AmbiguousOffset::Gap { after, .. } => {
                let earlier = after.to_timestamp(local).ok()?;
                let end = self.zone.following(earlier).next()?.timestamp();
                Some((end, after, Shift::Moved))
            }
        }
    }

    /// Each local time that fits is one instant; equal instants, after a gap, are one tick.
    pub(super) fn next_of_fixed_hour(&self, cron: &Cron, after: Timestamp) -> Option<Tick> {
        let mut local = cron.from(self.zone.to_datetime(after))?;
        loop {
            let (instant, offset, shift) = self.instant(local)?;
            if instant > after {
                return Some(Self::prefer_own(cron, instant, offset, shift));
            }
            local = cron.from(local.checked_add(jiff::SignedDuration::from_secs(1)).ok()?)?;
        }
    }

    /// A tick that was moved to where the expression fires anyway was not moved.
    fn prefer_own(cron: &Cron, at: Timestamp, offset: Offset, shift: Shift) -> Tick {
        let local = offset.to_datetime(at);
        let own = shift == Shift::Moved && cron.from(local) == Some(local);
        Tick {
            at: Wall(at.as_microsecond()),
            offset: offset.seconds(),
            shift: if own { Shift::None } else { shift },
        }
    }

    /// Each instant whose local time fits is a tick.
    pub(super) fn next_of_any_hour(&self, cron: &Cron, after: Timestamp) -> Option<Tick> {
        let mut from = Wall(after.as_microsecond()) + Span(1);
        loop {
            let instant = Timestamp::from_microsecond(from.0).ok()?;
            let offset = self.zone.to_offset(instant);
            let found = offset.to_timestamp(cron.from(offset.to_datetime(instant))?).ok()?;
            match self.zone.following(instant).next().map(|change| change.timestamp()) {
                Some(change) if change <= found => from = Wall(change.as_microsecond()),
                _ => return self.tick(Wall(found.as_microsecond())),
            }
        }
    }
}

/// An instant in ISO 8601, in UTC with microseconds.
pub(crate) fn utc(at: Wall) -> String {
    format!("{:.6}", Timestamp::from_microsecond(at.0).unwrap_or_default())
}

/// An instant in ISO 8601 by a clock that is this many seconds ahead of UTC.
pub(super) fn iso(at: Wall, offset: i32) -> String {
    let instant = Timestamp::from_microsecond(at.0).unwrap_or_default();
    match Offset::from_seconds(offset) {
        Ok(offset) if offset != Offset::UTC => instant.display_with_offset(offset).to_string(),
        _ => instant.to_string(),
    }
}

/// The name most like one that is not known: as a whole, or by its last part.
fn near(name: &str) -> Option<String> {
    let names = zone_names();
    let place = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let whole = crate::lang::nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    whole.or_else(|| {
        let wanted = place(&name.replace(' ', "_"));
        names.into_iter().find(|other| other.contains('/') && place(other) == wanted)
    })
}
