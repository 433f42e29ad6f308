//! Values while an expression is evaluated.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};
use regex::{Regex, RegexBuilder};
use serde_json::Number;

use crate::types::{Moment, Type, describe, zone};
use crate::value::{FileRef, Value};

/// The most items of a list that an expression makes.
pub(super) const MAX_LIST: usize = 100_000;

/// A value. Lists and objects of JSON are not copied; their parts become values when looked at.
#[derive(Clone, Debug)]
pub(super) enum Val<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Cow<'v, str>),
    Moment(Moment),
    Duration(Duration),
    List(Rc<Vec<Val<'v>>>),
    Map(Rc<Vec<(Cow<'v, str>, Val<'v>)>>),
    /// A file that is kept.
    File(Rc<FileRef>),
    /// A list or an object, and its type where that is known.
    Json(&'v Value, Option<&'v Type>),
}

/// A length of time: days by the calendar, and time by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duration {
    pub(super) days: i64,
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

impl Duration {
    pub(super) const ZERO: Self = Self { days: 0, seconds: 0, nanos: 0 };

    pub(super) fn from_clock(time: SignedDuration) -> Self {
        Self { days: 0, seconds: time.as_secs(), nanos: time.subsec_nanos() }
    }

    fn clock(self) -> SignedDuration {
        SignedDuration::new(self.seconds, self.nanos)
    }

    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        let clock = self.clock().checked_add(other.clock())?;
        let days = self.days.checked_add(other.days)?;
        Some(Self { days, ..Self::from_clock(clock) })
    }

    pub(super) fn checked_mul(self, n: i64) -> Option<Self> {
        let clock = self.clock().as_nanos().checked_mul(i128::from(n))?;
        let clock = SignedDuration::try_from_nanos_i128(clock)?;
        Some(Self { days: self.days.checked_mul(n)?, ..Self::from_clock(clock) })
    }

    /// As nanoseconds, a day as 24 hours.
    fn order(self) -> i128 {
        i128::from(self.days) * 86_400_000_000_000 + self.clock().as_nanos()
    }

    /// The moment this much later; none when that is no moment.
    pub(super) fn after(self, moment: &Moment) -> Option<Moment> {
        let days = i32::try_from(self.days).ok().and_then(|days| 0.days().try_days(days).ok())?;
        let clock = self.clock();
        match moment {
            Moment::Day(date) if clock.is_zero() => date.checked_add(days).ok().map(Moment::Day),
            Moment::Day(_) => None,
            Moment::Civil(time) => {
                time.checked_add(days).and_then(|t| t.checked_add(clock)).ok().map(Moment::Civil)
            }
            Moment::Zoned(time) => {
                time.checked_add(days).and_then(|t| t.checked_add(clock)).ok().map(Moment::Zoned)
            }
        }
    }
}

impl<'v> Val<'v> {
    /// A value of JSON, read as its type: text as a day or a time, an integer as a double.
    pub(super) fn of(value: &'v Value, ty: Option<&'v Type>) -> Self {
        let ty = ty.map(Type::non_null);
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(n) => Self::number(n, ty),
            Value::String(text) => {
                let is_moment = matches!(
                    ty,
                    Some(Type::Date | Type::DatetimeNotz | Type::DatetimeTz | Type::DatetimeUtc)
                );
                match Moment::parse(text).filter(|_| is_moment) {
                    Some(moment) => Self::Moment(moment),
                    None => Self::Str(Cow::Borrowed(text)),
                }
            }
            Value::Array(_) => Self::Json(value, ty),
            Value::Object(_) => match FileRef::of(value) {
                Some(file) => Self::File(Rc::new(file)),
                None => Self::Json(value, ty),
            },
        }
    }

    fn number(n: &Number, ty: Option<&Type>) -> Self {
        match n.as_i64() {
            Some(n) if ty != Some(&Type::Float) => Self::Int(n),
            _ => n.as_f64().map_or(Self::Null, Self::Float),
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into()))
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// The items of a list, or the keys of an object.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::Map(fields) => {
                Some(fields.iter().map(|(key, _)| Self::Str(key.clone())).collect())
            }
            Self::Json(Value::Array(items), ty) => {
                let item = item_type(*ty);
                Some(items.iter().map(|value| Self::of(value, item)).collect())
            }
            Self::Json(Value::Object(fields), _) => {
                Some(fields.keys().map(|key| Self::Str(Cow::Borrowed(key))).collect())
            }
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::List(_) | Self::Json(Value::Array(_), _))
    }

    /// How many characters, items or fields.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Str(text) => Some(text.chars().count()),
            Self::List(items) => Some(items.len()),
            Self::Map(fields) => Some(fields.len()),
            Self::Json(Value::Array(items), _) => Some(items.len()),
            Self::Json(Value::Object(fields), _) => Some(fields.len()),
            _ => None,
        }
    }

    /// The field `name`: outside none when this has no fields, inside none when it lacks this one.
    pub(super) fn field(&self, name: &str) -> Option<Option<Self>> {
        match self {
            Self::Map(fields) => {
                Some(fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
            }
            Self::File(file) => Some(match name {
                "name" => Some(Self::text(file.name.clone())),
                "digest" => Some(Self::text(file.digest.to_string())),
                "size" => Some(Self::Int(i64::try_from(file.size).unwrap_or(i64::MAX))),
                _ => None,
            }),
            Self::Json(Value::Object(fields), ty) => {
                let ty = match ty {
                    Some(Type::Object(types)) => types.get(name),
                    Some(Type::Dict(item)) => Some(&**item),
                    _ => None,
                };
                match fields.get(name) {
                    Some(value) => Some(Some(Self::of(value, ty))),
                    None if matches!(ty, Some(Type::Nullable(_))) => Some(Some(Self::Null)),
                    None => Some(None),
                }
            }
            _ => None,
        }
    }

    /// The item at `index`: as [`Val::field`].
    pub(super) fn item(&self, index: i64) -> Option<Option<Self>> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        match self {
            Self::List(items) => Some(items.get(at).cloned()),
            Self::Json(Value::Array(items), ty) => {
                Some(items.get(at).map(|value| Self::of(value, item_type(*ty))))
            }
            _ => None,
        }
    }

    /// What it is, in a word or two.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(flag) => format!("bool {flag}"),
            Self::Int(n) => format!("int {n}"),
            Self::Float(n) => format!("float {n}"),
            Self::Str(text) => describe(&Value::String(text.chars().take(50).collect())),
            Self::Moment(Moment::Day(day)) => format!("date {day}"),
            Self::Moment(moment) => format!("datetime {moment}"),
            Self::Duration(_) => "a duration".into(),
            Self::List(items) => format!("list of {}", items.len()),
            Self::Map(fields) => format!("object of {}", fields.len()),
            Self::File(file) => describe(&file.to_value()),
            Self::Json(value, _) => describe(value),
        }
    }

    /// Text as it is, numbers, `true` and `false`, ISO 8601; none for anything else.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Str(text) => Some(text.to_string()),
            Self::Bool(flag) => Some(flag.to_string()),
            Self::Int(n) => Some(n.to_string()),
            Self::Float(n) => Number::from_f64(*n).map(|n| n.to_string()),
            Self::Moment(moment) => Some(moment.to_string()),
            _ => None,
        }
    }

    /// As JSON; the error is what cannot be JSON.
    pub(super) fn to_json(&self) -> Result<Value, &'static str> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(n) => Value::Number((*n).into()),
            Self::Float(n) => {
                Value::Number(Number::from_f64(*n).ok_or("the result is not a finite number")?)
            }
            Self::Str(text) => Value::String(text.to_string()),
            Self::Moment(moment) => Value::String(moment.to_string()),
            Self::Duration(_) => return Err("a duration is no value"),
            Self::List(items) => {
                Value::Array(items.iter().map(Self::to_json).collect::<Result<_, _>>()?)
            }
            Self::Map(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.to_string(), value.to_json()?)))
                    .collect::<Result<_, &'static str>>()?,
            ),
            Self::File(file) => file.to_value(),
            Self::Json(value, _) => (*value).clone(),
        })
    }

    /// Whether two values are equal; values of different kinds are not.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Moment(a), Self::Str(b)) | (Self::Str(b), Self::Moment(a)) => {
                a.to_string() == **b
            }
            _ if self.size().is_some() && other.size().is_some() => self.equal_parts(other),
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    fn equal_parts(&self, other: &Self) -> bool {
        if self.size() != other.size() || self.is_list() != other.is_list() {
            return false;
        }
        let (Some(a), Some(b)) = (self.items(), other.items()) else { return false };
        if self.is_list() {
            return a.iter().zip(&b).all(|(a, b)| a.equals(b));
        }
        a.iter().all(|key| {
            let Self::Str(key) = key else { return false };
            match (self.field(key), other.field(key)) {
                (Some(Some(a)), Some(Some(b))) => a.equals(&b),
                _ => false,
            }
        })
    }

    /// The order of two values of one kind; none for others.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Float(b)) => order_mixed(*a, *b),
            (Self::Float(a), Self::Int(b)) => order_mixed(*b, *a).map(Ordering::reverse),
            (Self::Str(a), Self::Str(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.order().cmp(&b.order())),
            (Self::Moment(a), Self::Moment(b)) => match (a, b) {
                (Moment::Day(a), Moment::Day(b)) => Some(a.cmp(b)),
                (Moment::Civil(a), Moment::Civil(b)) => Some(a.cmp(b)),
                (Moment::Zoned(a), Moment::Zoned(b)) => Some(a.timestamp().cmp(&b.timestamp())),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Compares exactly: not every integer is a double.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn order_mixed(a: i64, b: f64) -> Option<Ordering> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if b.is_nan() {
        return None;
    }
    if b >= TWO_63 {
        return Some(Ordering::Less);
    }
    if b < -TWO_63 {
        return Some(Ordering::Greater);
    }
    let whole = b.trunc();
    let order = a.cmp(&(whole as i64));
    Some(order.then(0.0_f64.partial_cmp(&(b - whole))?))
}

fn item_type(ty: Option<&Type>) -> Option<&Type> {
    match ty {
        Some(Type::List(item)) => Some(item),
        _ => None,
    }
}

/// Reads a regular expression: linear in time, bounded in size.
pub(super) fn read_pattern(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("'{pattern}' is no regular expression: {reason}")
    })
}

/// The zone of a name.
pub(super) fn read_zone(name: &str) -> Result<TimeZone, String> {
    zone(name).ok_or_else(|| {
        format!("there is no time zone '{name}'; names are such as 'Europe/Berlin' and 'UTC'")
    })
}

/// A moment in a `strftime` format.
pub(super) fn format(format: &str, moment: &Moment) -> Result<String, String> {
    let parts = match moment {
        Moment::Day(date) => BrokenDownTime::from(*date),
        Moment::Civil(time) => BrokenDownTime::from(*time),
        Moment::Zoned(time) => BrokenDownTime::from(time),
    };
    strtime::format(format, parts).map_err(|error| {
        format!("'{format}' does not fit {}: {error}", Val::Moment(moment.clone()).describe())
    })
}

/// What is wrong with a format for values of a type.
pub(super) fn format_problem(pattern: &str, ty: &Type) -> Option<String> {
    let sample = match ty {
        Type::Date => "2026-11-24",
        Type::DatetimeNotz => "2026-11-24T10:00:00",
        Type::DatetimeTz | Type::DatetimeUtc => "2026-11-24T10:00:00Z",
        _ => return None,
    };
    let moment = Moment::parse(sample)?;
    format(pattern, &moment).err().map(|_| format!("'{pattern}' is no format for {ty}"))
}
