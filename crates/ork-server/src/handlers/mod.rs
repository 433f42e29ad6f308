//! What each route does.

pub(crate) mod artifacts;
pub(crate) mod backfills;
pub(crate) mod blobs;
pub(crate) mod command;
pub(crate) mod each;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod logs;
pub(crate) mod meta;
pub(crate) mod operate;
pub(crate) mod pools;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod triggers;
pub(crate) mod workflows;
