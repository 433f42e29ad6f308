//! Cron expressions: reading them, and the days and times of the calendar that they match.
//!
//! Five fields (minute, hour, day of month, month, day of week), or six with seconds first, or an
//! alias such as `@daily`. A field is `*` or a list of numbers, names, ranges and steps. Days of the
//! month also know `L` (the last), `LW` (the last weekday) and `15W` (the weekday nearest to the
//! 15th, in months that have one, and in the same month); days of the week `FRI#2` (the second Friday) and `FRIL` (the last). Where both kinds of
//! days are restricted, a day that fits either is meant; where one of them begins with `*`, it must
//! fit both. That is the rule of Vixie's cron, and so is 7 for Sunday.

use jiff::civil::{Date, DateTime, Weekday};

/// What is wrong with a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// Where it begins, in characters of the text.
    pub offset: usize,
    /// How many characters are meant.
    pub length: usize,
    /// One sentence that names the thing.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// A cron expression, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: Days,
    weekdays: Weekdays,
    /// A day must fit both the day of the month and the day of the week.
    both: bool,
    /// The hours are not fixed: `*`, or with a step.
    any_hour: bool,
}

/// Days of the month, each a bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Days {
    plain: u64,
    /// The weekday nearest to this day.
    nearest: u64,
    last: bool,
    last_weekday: bool,
}

/// Days of the week, each a bit; Sunday is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Weekdays {
    plain: u64,
    /// The last one of the month.
    last: u64,
    /// The first to fifth of the month.
    nth: [u64; 5],
}

/// What the five or six places of an expression may hold.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", least: 0, most: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

const ALIASES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A piece of the text, with its place in characters.
#[derive(Clone, Copy)]
struct Piece<'t> {
    text: &'t str,
    offset: usize,
}

impl Piece<'_> {
    /// The parts between separators.
    fn split(self, separator: impl Fn(char) -> bool) -> Vec<Self> {
        let (mut parts, mut from, mut offset) = (Vec::new(), 0, self.offset);
        for (count, (at, c)) in self.text.char_indices().enumerate() {
            if separator(c) {
                parts.push(Self { text: &self.text[from..at], offset });
                (from, offset) = (at + c.len_utf8(), self.offset + count + 1);
            }
        }
        parts.push(Self { text: &self.text[from..], offset });
        parts
    }

    fn halves(self, separator: char) -> Option<(Self, Self)> {
        let (left, right) = self.text.split_once(separator)?;
        let offset = self.offset + left.chars().count() + 1;
        Some((Self { text: left, ..self }, Self { text: right, offset }))
    }

    fn wrong(self, message: impl Into<String>) -> CronError {
        let length = self.text.chars().count().max(1);
        CronError { offset: self.offset, length, message: message.into(), hint: None }
    }

    fn wrong_with(self, message: impl Into<String>, hint: impl Into<String>) -> CronError {
        CronError { hint: Some(hint.into()), ..self.wrong(message) }
    }
}

impl Field {
    /// A number or a name.
    fn value(&self, piece: Piece<'_>) -> Result<u8, CronError> {
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(piece.text)) {
            return Ok(u8::try_from(at).unwrap_or(u8::MAX) + self.least);
        }
        let number = piece.text.bytes().all(|b| b.is_ascii_digit()).then(|| piece.text.parse());
        match number {
            Some(Ok(n)) if (self.least..=self.most).contains(&n) => Ok(n),
            Some(_) if !piece.text.is_empty() => Err(piece.wrong(format!(
                "the {} goes from {}, not `{}`",
                self.name,
                self.span(),
                piece.text
            ))),
            _ => Err(self.no_value(piece)),
        }
    }

    fn span(&self) -> String {
        format!("{} to {}", self.least, self.most)
    }

    fn no_value(&self, piece: Piece<'_>) -> CronError {
        let what = if piece.text.is_empty() {
            format!("the {} is missing here", self.name)
        } else {
            format!("`{}` is no {}", piece.text, self.name)
        };
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => {
                piece.wrong_with(what, format!("{}, or {first} to {last}", self.span()))
            }
            _ => piece.wrong_with(what, self.span()),
        }
    }

    /// One item of a list: `*`, `a`, `a-b`, each perhaps with `/n`.
    fn item(&self, piece: Piece<'_>) -> Result<u64, CronError> {
        let (range, step) = match piece.halves('/') {
            Some((range, step)) => (range, Some(step)),
            None => (piece, None),
        };
        let by = match step.map(|step| (step, step.text.parse::<u8>())) {
            None => 1,
            Some((_, Ok(by))) if by > 0 && by <= self.most => by,
            Some((step, _)) => {
                let message = format!("a step of the {} goes from 1 to {}", self.name, self.most);
                return Err(step.wrong(message));
            }
        };
        // 7 is another word for Sunday, not an eighth day.
        let end = if self.most == 7 { 6 } else { self.most };
        let (from, to) = if matches!(range.text, "*" | "?") {
            (self.least, end)
        } else if let Some((from, to)) = range.halves('-') {
            (self.value(from)?, self.value(to)?)
        } else {
            let from = self.value(range)?;
            (from, if step.is_some() && from < end { end } else { from })
        };
        // Sunday may end a range, as 7 or by its name.
        let to = if to == 0 && from > 0 && self.most == 7 { 7 } else { to };
        if from > to {
            return Err(range.wrong_with(
                format!("the range `{}` runs backwards", range.text),
                format!("write two: `{from}-{end},{}-{to}`", self.least),
            ));
        }
        Ok((from..=to).step_by(usize::from(by)).fold(0, |bits, n| bits | 1 << n))
    }

    fn list(&self, piece: Piece<'_>) -> Result<u64, CronError> {
        piece.split(|c| c == ',').into_iter().try_fold(0, |bits, item| Ok(bits | self.item(item)?))
    }
}

impl Days {
    fn read(piece: Piece<'_>) -> Result<Self, CronError> {
        let mut days = Self::default();
        for item in piece.split(|c| c == ',') {
            let upper = item.text.to_ascii_uppercase();
            match (upper.as_str(), upper.strip_suffix('W')) {
                ("L", _) => days.last = true,
                ("LW" | "WL", _) => days.last_weekday = true,
                (_, Some(day)) => {
                    let day = Piece { text: &item.text[..day.len()], ..item };
                    days.nearest |= 1 << DAY.value(day)?;
                }
                _ => days.plain |= DAY.item(item)?,
            }
        }
        Ok(days)
    }

    fn match_day(&self, date: Date) -> bool {
        let (day, length) = (date.day(), date.days_in_month());
        has(self.plain, day)
            || (self.last && day == length)
            || (self.last_weekday && day == nearest_weekday(date, length))
            || (self.nearest != 0
                && (day.saturating_sub(2).max(1)..=(day + 2).min(length))
                    .any(|n| has(self.nearest, n) && nearest_weekday(date, n) == day))
    }
}

impl Weekdays {
    fn read(piece: Piece<'_>) -> Result<Self, CronError> {
        let mut weekdays = Self::default();
        for item in piece.split(|c| c == ',') {
            if let Some((day, n)) = item.halves('#') {
                let at = match n.text {
                    "1" => 0,
                    "2" => 1,
                    "3" => 2,
                    "4" => 3,
                    "5" => 4,
                    _ => return Err(n.wrong("after `#` stands which one of the month: 1 to 5")),
                };
                weekdays.nth[at] |= 1 << (WEEKDAY.value(day)? % 7);
            } else if let Some(day) = item.text.strip_suffix(['L', 'l']) {
                weekdays.last |= 1 << (WEEKDAY.value(Piece { text: day, ..item })? % 7);
            } else {
                let bits = WEEKDAY.item(item)?;
                weekdays.plain |= (bits | bits >> 7) & 0x7f;
            }
        }
        Ok(weekdays)
    }

    fn match_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let nth = usize::try_from((date.day() - 1) / 7).unwrap_or(0);
        has(self.plain, weekday)
            || has(self.nth[nth], weekday)
            || (has(self.last, weekday) && date.day() + 7 > date.days_in_month())
    }
}

/// The day of the month that is a Monday to Friday and nearest to the `n`-th, in its month.
fn nearest_weekday(month: Date, n: i8) -> i8 {
    let Ok(date) = Date::new(month.year(), month.month(), n) else { return 0 };
    match date.weekday() {
        Weekday::Saturday if n == 1 => 3,
        Weekday::Saturday => n - 1,
        Weekday::Sunday if n == date.days_in_month() => n - 2,
        Weekday::Sunday => n + 1,
        _ => n,
    }
}

fn has(bits: u64, n: i8) -> bool {
    bits >> n & 1 == 1
}

/// The first bit from `from` on.
fn first(bits: u64, from: i8) -> Option<i8> {
    let left = bits.checked_shr(u32::try_from(from).ok()?)?;
    (left != 0).then(|| from + i8::try_from(left.trailing_zeros()).unwrap_or(0))
}

impl Cron {
    /// Reads a cron expression.
    ///
    /// # Errors
    /// The first thing that is wrong; also an expression that fits no day that there is, such as
    /// the 30th of February.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let whole = Piece { text, offset: 0 };
        let word = text.trim().to_ascii_lowercase();
        if word.starts_with('@') {
            let Some((_, fields)) = ALIASES.iter().find(|(alias, _)| *alias == word) else {
                return Err(no_alias(whole, &word));
            };
            return Self::parse(fields);
        }
        let fields = whole.split(char::is_whitespace).into_iter().filter(|f| !f.text.is_empty());
        let fields: Vec<_> = fields.collect();
        let cron = match *fields.as_slice() {
            [minute, hour, day, month, weekday] => {
                Self::of(1, [minute, hour, day, month, weekday])?
            }
            [second, minute, hour, day, month, weekday] => {
                Self::of(SECOND.list(second)?, [minute, hour, day, month, weekday])?
            }
            _ => {
                let message = format!("a cron expression has 5 fields, not {}", fields.len());
                let hint = "minute, hour, day of the month, month, day of the week: `0 2 * * *`; \
                            seconds may stand before them";
                return Err(whole.wrong_with(message, hint));
            }
        };
        if !cron.ever() {
            let message = format!("`{text}` never fires: there is no such day");
            return Err(whole.wrong(message));
        }
        Ok(cron)
    }

    fn of(seconds: u64, fields: [Piece<'_>; 5]) -> Result<Self, CronError> {
        let [minute, hour, day, month, weekday] = fields;
        let (minutes, hours) = (MINUTE.list(minute)?, HOUR.list(hour)?);
        let star = |field: Piece<'_>| field.text.starts_with(['*', '?']);
        Ok(Self {
            seconds,
            minutes,
            hours,
            days: Days::read(day)?,
            months: MONTH.list(month)?,
            weekdays: Weekdays::read(weekday)?,
            both: star(day) || star(weekday),
            any_hour: hour.text.contains(['*', '?', '/']) || hours == (1 << 24) - 1,
        })
    }

    /// Whether the hours are not fixed: `*`, or with a step. Such an expression fires each time
    /// that the clock shows a time it fits.
    pub fn any_hour(&self) -> bool {
        self.any_hour
    }

    /// Whether there is a day that fits. The calendar repeats itself after 400 years.
    fn ever(&self) -> bool {
        let start = jiff::civil::date(2000, 1, 1);
        self.day_from(start).is_some_and(|day| day.year() < 2400)
    }

    fn match_day(&self, date: Date) -> bool {
        let (day, weekday) = (self.days.match_day(date), self.weekdays.match_day(date));
        if self.both { day && weekday } else { day || weekday }
    }

    /// The first day from `date` on that fits.
    fn day_from(&self, mut date: Date) -> Option<Date> {
        let last = date.year().saturating_add(401);
        while date.year() < last {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.match_day(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }

    /// The first time of a day from this one on.
    fn time_from(&self, hour: i8, minute: i8, second: i8) -> Option<(i8, i8, i8)> {
        let (minute0, second0) = (first(self.minutes, 0)?, first(self.seconds, 0)?);
        if has(self.hours, hour) {
            let second = first(self.seconds, second).filter(|_| has(self.minutes, minute));
            if let Some(second) = second {
                return Some((hour, minute, second));
            }
            if let Some(minute) = first(self.minutes, minute + 1) {
                return Some((hour, minute, second0));
            }
        }
        first(self.hours, hour + 1).map(|hour| (hour, minute0, second0))
    }

    /// The first date and time at or after this one that fits, on a calendar without zones; none
    /// after the year 9999.
    pub fn from(&self, local: DateTime) -> Option<DateTime> {
        let date = self.day_from(local.date())?;
        let subsecond = i8::from(local.subsec_nanosecond() > 0);
        let time = if date == local.date() {
            self.time_from(local.hour(), local.minute(), local.second() + subsecond)
        } else {
            self.time_from(0, 0, 0)
        };
        match time {
            Some((hour, minute, second)) => Some(date.at(hour, minute, second, 0)),
            None => {
                let date = self.day_from(date.tomorrow().ok()?)?;
                let (hour, minute, second) = self.time_from(0, 0, 0)?;
                Some(date.at(hour, minute, second, 0))
            }
        }
    }
}

fn no_alias(whole: Piece<'_>, word: &str) -> CronError {
    let names: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
    match word.split_whitespace().next().unwrap_or_default() {
        "@every" => whole.wrong_with("`@every` is no cron expression", "use `interval` instead"),
        "@reboot" => whole.wrong_with("`@reboot` names no time", "start the run by a request"),
        word => whole.wrong_with(format!("`{word}` is no alias"), names.join(", ")),
    }
}
