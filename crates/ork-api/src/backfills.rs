//! Backfills, as JSON.

use ork_core::ids::BackfillId;
use ork_core::rows::{Actor, BackfillState, Order};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schedules::Upcoming;
use crate::schema;
use crate::stamp::Stamp;

/// A backfill to be made: a run for each tick of a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackfill {
    /// The schedule's name.
    pub schedule: String,
    /// The first tick or an instant before it: a time with or without an offset, or a date, in the
    /// schedule's zone.
    pub from: String,
    /// The last tick or an instant after it; a date is taken to its end.
    pub to: String,
    /// How many runs may go on at a time: 1 to 1,000 (1).
    #[serde(default = "one")]
    pub max_runs: u32,
    /// Which ticks come first.
    #[serde(default)]
    #[schema(schema_with = schema::order)]
    pub order: Order,
    /// Whether the ticks are only listed.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

const fn one() -> u32 {
    1
}

/// What came of a backfill that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backfilled {
    /// How many ticks the range has.
    pub total: u64,
    /// The first of them in the order of the backfill, at most 500.
    pub ticks: Vec<Upcoming>,
    /// The backfill; none for a dry run.
    pub backfill: Option<Backfill>,
}

/// A backfill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backfill {
    /// The backfill. Its runs have the trigger `backfill:ID`.
    #[schema(value_type = String)]
    pub id: BackfillId,
    /// The workflow's name.
    pub workflow: String,
    /// The schedule's name.
    pub schedule: String,
    /// The version whose runs it makes.
    pub version: i64,
    /// No tick before, in the schedule's zone.
    pub from: String,
    /// No tick after, in the schedule's zone.
    pub to: String,
    /// How many of its runs may go on at a time.
    pub max_runs: u32,
    /// Which ticks come first.
    #[schema(schema_with = schema::order)]
    pub order: Order,
    /// Where it stands.
    #[schema(schema_with = schema::backfill_state)]
    pub state: BackfillState,
    /// How many ticks the range has.
    pub total: u64,
    /// How many runs it has made.
    pub made: u64,
    /// How many ticks have no run.
    pub skipped: u64,
    /// Why the last of these has none.
    pub reason: Option<String>,
    /// Who made it.
    #[schema(value_type = Object)]
    pub created_by: Actor,
    /// Who paused, resumed, cancelled or retried it last.
    #[schema(value_type = Option<Object>)]
    pub changed_by: Option<Actor>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Stamp,
    /// When its last run had ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Stamp>,
}

/// Pauses, resumes, cancels or retries a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteerBackfill {
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
