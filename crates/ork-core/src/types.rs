//! The types of params, inputs and outputs: what they are, how they are written, which may stand
//! for which, and whether a value is of one.

mod iso;
mod notation;
mod values;

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub(crate) use self::iso::{Moment, zone, zone_names};
pub use self::notation::TypeIssue;
pub use self::values::Mismatch;
pub(crate) use self::values::describe;

/// A type of the workflow language. Serialised as the language's own notation is left to
/// [`crate::lang`]; this form is for versions in the store and for the wire. Clones share their parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Text.
    Str,
    /// A 64-bit integer.
    Int,
    /// A double; an `int` may stand for it.
    Float,
    /// `true` or `false`.
    Bool,
    /// A day: `2026-11-24`.
    Date,
    /// A date and time without a zone.
    DatetimeNotz,
    /// A date and time with an offset or zone; `datetime_utc` may stand for it.
    DatetimeTz,
    /// A date and time in UTC.
    DatetimeUtc,
    /// Any JSON value.
    Json,
    /// A file kept by digest.
    File,
    /// A list of one type.
    List(Arc<Type>),
    /// A closed object that matches by shape. A field of a nullable type may be left out.
    Object(Arc<IndexMap<String, Type>>),
    /// Any keys, one type of value.
    Dict(Arc<Type>),
    /// One of these strings.
    Enum(Arc<[String]>),
    /// The type or null.
    Nullable(Arc<Type>),
}

impl Type {
    /// A list of one type.
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    /// An object of any keys and one type of value.
    pub fn dict(item: Self) -> Self {
        Self::Dict(Arc::new(item))
    }

    /// A closed object.
    pub fn object(fields: IndexMap<String, Self>) -> Self {
        Self::Object(Arc::new(fields))
    }

    /// One of these strings.
    pub fn choice(options: impl Into<Arc<[String]>>) -> Self {
        Self::Enum(options.into())
    }

    /// Whether every value of `from` may stand where this type is expected: `int` for `float`,
    /// `datetime_utc` for `datetime_tz`, an enum for `str` or for a wider enum, an object for a
    /// `dict` of what its fields are, `T` for `T?`. `json` on either side fits: what it holds is
    /// checked when it comes.
    pub fn accepts(&self, from: &Self) -> bool {
        match (self, from) {
            (Self::Json, _) | (_, Self::Json) => true,
            (Self::Nullable(inner), _) => inner.accepts(from.non_null()),
            (Self::Float, Self::Int)
            | (Self::DatetimeTz, Self::DatetimeUtc)
            | (Self::Str, Self::Enum(_)) => true,
            (Self::Enum(wide), Self::Enum(narrow)) => narrow.iter().all(|v| wide.contains(v)),
            (Self::List(item), Self::List(from)) | (Self::Dict(item), Self::Dict(from)) => {
                item.accepts(from)
            }
            (Self::Dict(item), Self::Object(fields)) => {
                fields.values().all(|field| item.accepts(field))
            }
            (Self::Object(fields), Self::Object(from)) => object_accepts(fields, from),
            _ => self == from,
        }
    }

    /// The type or null; what may be null already stays as it is.
    #[must_use]
    pub fn nullable(self) -> Self {
        match self {
            Self::Nullable(_) => self,
            _ => Self::Nullable(Arc::new(self)),
        }
    }

    /// Whether a value of the type may have a file in it that its type tells of.
    pub fn has_file(&self) -> bool {
        match self {
            Self::File => true,
            Self::List(inner) | Self::Dict(inner) | Self::Nullable(inner) => inner.has_file(),
            Self::Object(fields) => fields.values().any(Self::has_file),
            _ => false,
        }
    }

    /// The type without null.
    pub fn non_null(&self) -> &Self {
        match self {
            Self::Nullable(inner) => inner.non_null(),
            _ => self,
        }
    }
}

fn object_accepts(fields: &IndexMap<String, Type>, from: &IndexMap<String, Type>) -> bool {
    let all_there = fields.iter().all(|(name, ty)| match from.get(name) {
        Some(given) => ty.accepts(given),
        None => matches!(ty, Type::Nullable(_)),
    });
    all_there && from.keys().all(|name| fields.contains_key(name))
}
