//! The types of params, inputs and outputs.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A type of the workflow language. Serialised as the language's own notation is left to
/// [`crate::lang`]; this form is for versions in the store and for the wire.
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
    List(Box<Type>),
    /// A closed object that matches by shape. A field of a nullable type may be left out.
    Object(IndexMap<String, Type>),
    /// Any keys, one type of value.
    Dict(Box<Type>),
    /// One of these strings.
    Enum(Vec<String>),
    /// The type or null.
    Nullable(Box<Type>),
}
