//! Parts of lists: each continues after a key, so that page 1,000 costs what page 1 costs.

use ork_core::ids::{BackfillId, InstancePath, RunId};
use ork_core::rows::VersionId;
use ork_core::time::Wall;

use crate::{Items, MAX_PAGE, Page, Result, StoreError};

/// What a list is ordered by, and so where a part of it ends.
pub(crate) trait Key: Sized {
    fn encode(&self) -> String;
    fn decode(text: &str) -> Option<Self>;
}

impl Key for (Wall, RunId) {
    fn encode(&self) -> String {
        format!("{}.{}", self.0.0, self.1)
    }

    fn decode(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some((Wall(at.parse().ok()?), id.parse().ok()?))
    }
}

impl Key for BackfillId {
    fn encode(&self) -> String {
        self.to_string()
    }

    fn decode(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for (u32, InstancePath) {
    fn encode(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn decode(text: &str) -> Option<Self> {
        let (ordinal, path) = text.split_once('.')?;
        Some((ordinal.parse().ok()?, path.into()))
    }
}

impl Key for (u32, u32) {
    fn encode(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn decode(text: &str) -> Option<Self> {
        let (generation, attempt) = text.split_once('.')?;
        Some((generation.parse().ok()?, attempt.parse().ok()?))
    }
}

impl Key for (String, String) {
    fn encode(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn decode(text: &str) -> Option<Self> {
        let (workflow, name) = text.split_once('.')?;
        Some((workflow.to_owned(), name.to_owned()))
    }
}

impl Key for Wall {
    fn encode(&self) -> String {
        self.0.to_string()
    }

    fn decode(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// A name, marked so that no other text passes for one.
impl Key for String {
    fn encode(&self) -> String {
        format!("after.{self}")
    }

    fn decode(text: &str) -> Option<Self> {
        let name = text.strip_prefix("after.")?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

impl Key for u64 {
    fn encode(&self) -> String {
        self.to_string()
    }

    fn decode(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for VersionId {
    fn encode(&self) -> String {
        self.0.to_string()
    }

    fn decode(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// Checks a limit.
pub(crate) fn limit(limit: usize) -> Result<usize> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(StoreError::Malformed(format!("a limit of {limit}: from 1 to {MAX_PAGE} is possible")))
}

/// Where a part begins; none at the start of the list.
pub(crate) fn after<K: Key>(page: &Page) -> Result<Option<K>> {
    limit(page.limit)?;
    let Some(cursor) = &page.cursor else { return Ok(None) };
    match K::decode(cursor) {
        Some(key) => Ok(Some(key)),
        None => Err(StoreError::Malformed(format!(
            "`{cursor}` is no cursor of this list; take `next_cursor` of the part before, or none"
        ))),
    }
}

/// A part made of its rows and, if there is one, the row after it.
pub(crate) fn items<T, K: Key>(mut rows: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Items<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| key(row).encode());
    Items { items: rows, next }
}
