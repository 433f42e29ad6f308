//! Whether a value is of a type, and reading one as a type.

use indexmap::IndexMap;
use serde_json::{Map, Number};

use super::{Moment, Type};
use crate::value::{FileRef, Value};

/// A value that is not of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}expected {expected}, got {got}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Mismatch {
    /// Where in the value: `parts[3].rows`; empty for the whole.
    pub path: String,
    /// What was expected there: a type, or `no field of this name`.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl Mismatch {
    fn new(ty: &Type, value: &Value) -> Self {
        let why = why(ty, value).map_or_else(String::new, |why| format!(", {why}"));
        let got = format!("{}{why}", describe(value));
        Self { path: String::new(), expected: ty.to_string(), got }
    }

    fn field(mut self, name: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{joint}{}", self.path);
        self
    }

    fn item(self, index: usize) -> Self {
        self.field(&format!("[{index}]"))
    }
}

/// What keeps a value that looks right from being of a type.
fn why(ty: &Type, value: &Value) -> Option<&'static str> {
    match (ty, value) {
        (Type::Int, Value::Number(n)) if n.as_f64().is_some_and(|n| n.abs() >= 2_f64.powi(63)) => {
            Some("which is more than an int of 64 bits holds")
        }
        (Type::File, Value::String(_)) => Some("which is no file that is kept"),
        (Type::DatetimeNotz, Value::String(text)) => match Moment::parse(text)? {
            Moment::Zoned(_) => Some("which has an offset; datetime_tz takes that"),
            _ => None,
        },
        (Type::DatetimeTz | Type::DatetimeUtc, Value::String(text)) => match Moment::parse(text)? {
            Moment::Civil(_) => Some("which has no offset; datetime_notz takes that"),
            _ => None,
        },
        _ => None,
    }
}

/// A value in a few words: `int 3`, `str "abc"`, `list of 2`.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => format!("bool {flag}"),
        Value::Number(n) if n.is_f64() => format!("float {n}"),
        Value::Number(n) => format!("int {n}"),
        Value::String(text) if text.chars().count() > 40 => {
            format!("str \"{}…\"", text.chars().take(39).collect::<String>().escape_debug())
        }
        Value::String(text) => format!("str \"{}\"", text.escape_debug()),
        Value::Array(items) => format!("list of {}", items.len()),
        Value::Object(fields) => match FileRef::of(value) {
            Some(file) => format!("file \"{}\"", file.name.escape_debug()),
            None => format!("object of {}", fields.len()),
        },
    }
}

impl Type {
    /// Whether a value is of this type.
    ///
    /// # Errors
    /// The first place where it is not.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        match (self, value) {
            (Self::Nullable(_), Value::Null) => Ok(()),
            (Self::Nullable(inner), _) => inner.check(value),
            (Self::List(item), Value::Array(values)) => values
                .iter()
                .enumerate()
                .try_for_each(|(i, value)| item.check(value).map_err(|e| e.item(i))),
            (Self::Dict(item), Value::Object(values)) => values
                .iter()
                .try_for_each(|(key, value)| item.check(value).map_err(|e| e.field(key))),
            (Self::Object(fields), Value::Object(values)) => check_object(fields, values),
            _ if self.has_scalar(value) => Ok(()),
            _ => Err(Mismatch::new(self, value)),
        }
    }

    fn has_scalar(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Json, _)
            | (Self::Str, Value::String(_))
            | (Self::Bool, Value::Bool(_))
            | (Self::Float, Value::Number(_)) => true,
            (Self::Int, Value::Number(n)) => n.is_i64(),
            (Self::Enum(options), Value::String(text)) => options.contains(text),
            (Self::File, _) => FileRef::of(value).is_some(),
            (_, Value::String(text)) => {
                Moment::parse(text).is_some_and(|moment| self.has_moment(&moment))
            }
            _ => false,
        }
    }

    fn has_moment(&self, moment: &Moment) -> bool {
        match self {
            Self::Date => matches!(moment, Moment::Day(_)),
            Self::DatetimeNotz => matches!(moment, Moment::Civil(_)),
            Self::DatetimeTz => matches!(moment, Moment::Zoned(_)),
            Self::DatetimeUtc => moment.is_utc(),
            _ => false,
        }
    }

    /// Reads a literal or a JSON value as this type: JSON strings as numbers where those are
    /// expected, days and times in their usual form. What comes out passes [`Type::check`], and
    /// what passes it can be read.
    ///
    /// # Errors
    /// The first place where it cannot be read.
    pub fn read(&self, value: Value) -> Result<Value, Mismatch> {
        match (self, value) {
            (Self::Nullable(_), Value::Null) => Ok(Value::Null),
            (Self::Nullable(inner), value) => inner.read(value),
            (Self::List(item), Value::Array(values)) => values
                .into_iter()
                .enumerate()
                .map(|(i, value)| item.read(value).map_err(|e| e.item(i)))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            (Self::Dict(item), Value::Object(values)) => {
                read_fields(values, |_| Some(item.as_ref())).map(Value::Object)
            }
            (Self::Object(fields), Value::Object(values)) => {
                check_names(fields, &values)?;
                read_fields(values, |name| fields.get(name)).map(Value::Object)
            }
            (_, value) => self.read_scalar(value),
        }
    }

    fn read_scalar(&self, value: Value) -> Result<Value, Mismatch> {
        let read = match (self, &value) {
            (Self::Int, Value::String(text)) => {
                text.parse::<i64>().ok().map(|n| Value::Number(n.into()))
            }
            (Self::Float, Value::String(text)) => read_float(text).map(Value::Number),
            (
                Self::Date | Self::DatetimeNotz | Self::DatetimeTz | Self::DatetimeUtc,
                Value::String(text),
            ) => Moment::parse(text)
                .filter(|moment| self.has_moment(moment))
                .map(|moment| Value::String(moment.to_string())),
            _ => None,
        };
        match read {
            Some(read) => Ok(read),
            None if self.has_scalar(&value) => Ok(value),
            None => Err(Mismatch::new(self, &value)),
        }
    }

    /// Reads a person's text, as after `-p name=`: `str` and enums verbatim, lists as `a,b` or JSON, numbers, `true` and `false`, days and times in ISO 8601, others as JSON. `null` is
    /// null where that is allowed.
    ///
    /// # Errors
    /// The first place where it cannot be read.
    pub fn read_text(&self, text: &str) -> Result<Value, Mismatch> {
        match self {
            Self::Nullable(_) if text == "null" => Ok(Value::Null),
            Self::Nullable(inner) => inner.read_text(text),
            Self::List(item) if !text.trim_start().starts_with('[') => read_list(item, text),
            Self::Bool => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(Mismatch::new(self, &Value::String(text.into()))),
            },
            Self::File if !text.trim_start().starts_with('{') => {
                self.read(Value::String(text.into()))
            }
            Self::List(_) | Self::Dict(_) | Self::Object(_) | Self::Json | Self::File => {
                let value = serde_json::from_str(text).map_err(|error| Mismatch {
                    path: String::new(),
                    expected: format!("{self} as JSON"),
                    got: format!("text that is not JSON ({error})"),
                })?;
                self.read(value)
            }
            _ => self.read(Value::String(text.into())),
        }
    }
}

fn read_list(item: &Type, text: &str) -> Result<Value, Mismatch> {
    if text.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    text.split(',')
        .enumerate()
        .map(|(i, part)| item.read_text(part).map_err(|e| e.item(i)))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

fn read_float(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(n) => Some(n.into()),
        Err(_) => Number::from_f64(text.parse().ok()?),
    }
}

fn read_fields<'a>(
    values: Map<String, Value>,
    ty: impl Fn(&str) -> Option<&'a Type>,
) -> Result<Map<String, Value>, Mismatch> {
    values
        .into_iter()
        .map(|(name, value)| {
            let read = match ty(&name) {
                Some(ty) => ty.read(value).map_err(|e| e.field(&name))?,
                None => value,
            };
            Ok((name, read))
        })
        .collect()
}

fn check_object(
    fields: &IndexMap<String, Type>,
    values: &Map<String, Value>,
) -> Result<(), Mismatch> {
    check_names(fields, values)?;
    values.iter().try_for_each(|(name, value)| match fields.get(name) {
        Some(ty) => ty.check(value).map_err(|e| e.field(name)),
        None => Ok(()),
    })
}

/// Objects are closed; a field that may be null may be left out.
fn check_names(
    fields: &IndexMap<String, Type>,
    values: &Map<String, Value>,
) -> Result<(), Mismatch> {
    if let Some((name, value)) = values.iter().find(|(name, _)| !fields.contains_key(*name)) {
        let expected = "no field of this name".into();
        return Err(Mismatch { path: name.clone(), expected, got: describe(value) });
    }
    let missing = fields
        .iter()
        .find(|(name, ty)| !matches!(ty, Type::Nullable(_)) && !values.contains_key(*name));
    match missing {
        Some((name, ty)) => {
            Err(Mismatch { path: name.clone(), expected: ty.to_string(), got: "nothing".into() })
        }
        None => Ok(()),
    }
}
