//! The types of params, inputs and outputs.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::value::Value;

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

/// What is wrong with a type's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeIssue {
    /// Where it begins, in characters of the text.
    pub offset: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
    /// One sentence that names the thing.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// A value that is not of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}expected {expected}, got {got}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Mismatch {
    /// Where in the value: `parts[3].rows`; empty for the whole.
    pub path: String,
    /// What was expected there: a type, or `no such field`.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl Type {
    /// Reads the language's notation: `[str]?`, `{path: str, rows: int}`, `dict[float]`,
    /// `{enum: [a, b]}`, an alias.
    ///
    /// # Errors
    /// The first thing that is wrong, with the word of this language for those of others.
    pub fn parse(text: &str, _aliases: &dyn Fn(&str) -> Option<Self>) -> Result<Self, TypeIssue> {
        Err(TypeIssue { offset: 0, length: text.len().max(1), message: String::new(), hint: None })
    }

    /// Whether every value of `from` may stand where this type is expected. `json` on either side
    /// fits: what it holds is checked when it comes.
    pub fn accepts(&self, from: &Self) -> bool {
        self == from
    }

    /// Whether a value is of this type.
    ///
    /// # Errors
    /// The first place where it is not.
    pub fn check(&self, _value: &Value) -> Result<(), Mismatch> {
        Ok(())
    }

    /// Reads a literal or a JSON value as this type: JSON strings as numbers and dates where those
    /// are expected. What comes out passes [`Type::check`].
    ///
    /// # Errors
    /// The first place where it cannot be read.
    pub fn read(&self, value: Value) -> Result<Value, Mismatch> {
        Ok(value)
    }

    /// Reads a person's text, as after `-p name=`: `str` and enums verbatim, lists as `a,b` or
    /// JSON, dates as ISO 8601, others as JSON.
    ///
    /// # Errors
    /// The first place where it cannot be read.
    pub fn read_text(&self, text: &str) -> Result<Value, Mismatch> {
        Ok(Value::String(text.into()))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
