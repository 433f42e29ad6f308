//! Identities. Each is a type of its own, so that one cannot stand for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A project: the unit of ownership. It is part of every row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub i64);

impl ProjectId {
    /// The project that every store has from its first start, named `default`.
    pub const DEFAULT: Self = Self(1);
}

/// A run: a version 7 UUID made by the server, so that ids sort by creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A backfill: a version 7 UUID, so that ids sort by creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackfillId(pub Uuid);

impl fmt::Display for BackfillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BackfillId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Counts the times a store was taken over by a leader. Durable; it only grows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// A fencing token: `epoch · 2³² + counter`. It grows with every offer of an attempt and is never
/// reused. In JSON it is a string, since not every client keeps 64-bit numbers whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// The `counter`-th token of `epoch`.
    pub fn new(epoch: Epoch, counter: u32) -> Self {
        Self((u64::from(epoch.0) << 32) | u64::from(counter))
    }

    /// The epoch in which the token was issued.
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as u32)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Token).map_err(de::Error::custom)
    }
}

/// Where an instance stands in its run: `extract`, `load[3]`, `region[2]/convert[acme]`,
/// `finally/cleanup`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstancePath(pub Arc<str>);

impl InstancePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of what it is an item or a member of, and its own part: `load[3]` is an item of
    /// `load`, and `region[2]/convert` a member of `region[2]`. Keys of items hold none of `/[]`.
    pub fn parent(&self) -> Option<&str> {
        let at = if self.0.ends_with(']') { self.0.rfind('[') } else { self.0.rfind('/') };
        at.map(|at| &self.0[..at])
    }
}

impl std::borrow::Borrow<str> for InstancePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for InstancePath {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for InstancePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One boot of one worker. A worker that restarts is another worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Arc<str>);

impl From<&str> for WorkerId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One offer of one attempt, as a worker names it in each report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub path: InstancePath,
    /// The token under which the attempt was offered.
    pub token: Token,
}
