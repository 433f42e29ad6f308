//! Schedules, as JSON.

use ork_core::ids::RunId;
use ork_core::plan::{self, When};
use ork_core::rows::Actor;
use ork_core::schedule::{Shift, Tick, Timetable, Zone};
use ork_core::time::Wall;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::schema;
use crate::stamp::Stamp;

/// How many ticks a preview shows at most.
pub const MAX_PREVIEW: usize = 500;

/// How many ticks a preview shows when its reader does not say.
pub const DEFAULT_PREVIEW: usize = 10;

/// A schedule of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// The workflow's name.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
    /// The version that declares it.
    pub version: i64,
    /// The key of its rule with its value: `cron: 0 2 * * *`.
    pub rule: String,
    /// The zone of its local times.
    pub timezone: String,
    /// What becomes of ticks that were missed: `none`, `last`, `all`, `max: N`.
    pub catchup: String,
    /// By how much later than its tick a run may be made: a duration.
    pub jitter: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Who paused or resumed it last.
    #[schema(value_type = Option<Object>)]
    pub changed_by: Option<Actor>,
    /// Its next tick, with the offset of its zone; none where there is no more, or it is paused.
    pub next: Option<String>,
    /// Its last tick that has an answer, in the same form.
    pub last: Option<String>,
    /// The run of that tick; none where it was skipped.
    #[schema(value_type = Option<String>)]
    pub last_run: Option<RunId>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Stamp,
}

/// The answer to a tick, or to several that were skipped together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ticked {
    /// The tick, or the first of several.
    #[schema(value_type = String, format = DateTime)]
    pub tick: Stamp,
    /// The last of several; else the tick.
    #[schema(value_type = String, format = DateTime)]
    pub until: Stamp,
    /// How many; counted up to 10,000.
    pub count: u64,
    /// The tick's local time: ISO 8601 with an offset.
    pub logical_time: String,
    /// Its run.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Why there is no run.
    pub reason: Option<String>,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    pub decided_at: Stamp,
}

/// Which schedules are listed; by workflow and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleQuery {
    /// Of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// How many: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which ticks are to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// How many: 1 to 500 (10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Those after this time (now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub after: Option<Stamp>,
}

/// A tick to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upcoming {
    /// Its instant.
    #[schema(value_type = String, format = DateTime)]
    pub tick: Stamp,
    /// Its local time, which is its run's `logical_time`: ISO 8601 with an offset.
    pub logical_time: String,
    /// What the zone's clock is called then: `CET`.
    pub clock: String,
    /// How it stands to a change of the clock.
    #[schema(schema_with = schema::tick_note)]
    pub note: Option<Note>,
}

/// How a tick stands to a change of its zone's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The zone's offset is another than at the tick before.
    Changed,
    /// Its own time is in a gap; it comes right after.
    Moved,
    /// Its local time is there twice; this is the first.
    First,
    /// Its local time is there twice; this is the second.
    Second,
}

/// Pauses a schedule, or resumes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseSchedule {
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The next `count` ticks of a timetable.
pub fn upcoming(table: &Timetable, after: Wall, count: usize) -> Vec<Upcoming> {
    let mut offset = table.zone().offset(after);
    let noted = |tick: Tick| {
        let changed = std::mem::replace(&mut offset, tick.offset) != tick.offset;
        let Upcoming { note, .. } = shown(table, tick);
        Upcoming { note: note.or(changed.then_some(Note::Changed)), ..shown(table, tick) }
    };
    table.ticks(after, Wall(i64::MAX)).take(count).map(noted).collect()
}

/// A tick of a timetable.
pub fn shown(table: &Timetable, tick: Tick) -> Upcoming {
    Upcoming {
        tick: Stamp(tick.at),
        logical_time: tick.logical_time(),
        clock: table.zone().abbreviation(tick.at),
        note: match tick.shift {
            Shift::Moved => Some(Note::Moved),
            Shift::First => Some(Note::First),
            Shift::Second => Some(Note::Second),
            Shift::None => None,
        },
    }
}

/// The key of a rule with its value.
pub fn rule(when: &When, zone: &Zone) -> String {
    match when {
        When::Cron(text) => format!("cron: {text}"),
        When::Interval(every) => format!("interval: {every}"),
        When::At(times) => match &times[..] {
            [one] => format!("at: {}", zone.show(*one)),
            several => format!("at: {} times", several.len()),
        },
    }
}

/// A `catchup` as it is written.
pub fn catchup(catchup: plan::Catchup) -> String {
    match catchup {
        plan::Catchup::None => "none".into(),
        plan::Catchup::Last => "last".into(),
        plan::Catchup::All => "all".into(),
        plan::Catchup::Max(most) => format!("max: {most}"),
    }
}
