//! Schedules: what they are, what became of their ticks, and which are to come.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ork_api::schedules::{
    DEFAULT_PREVIEW, MAX_PREVIEW, PauseSchedule, PreviewQuery, Schedule, ScheduleQuery, Ticked,
    Upcoming, upcoming,
};
use ork_api::types::{Commanded, DryRun, List, Part};
use ork_core::ids::ProjectId;
use ork_core::plan;
use ork_core::rows::ScheduleRow;
use ork_core::schedule::{ScheduleKey, Timetable};
use ork_engine::Ask;
use serde::Deserialize;

use crate::app::App;
use crate::extract::{At, Fields, InProject, page};
use crate::handlers::command::On;
use crate::refused::{Refused, Result};
use crate::{random, view};

/// A schedule in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct ScheduleAt {
    workflow: String,
    schedule: String,
}

/// The row of a schedule that its workflow has now.
async fn row(app: &App, project: ProjectId, at: &ScheduleAt) -> Result<ScheduleRow> {
    let row = app.store.schedule(project, &at.workflow, &at.schedule).await?;
    row.filter(|row| !row.removed).ok_or_else(|| {
        let (name, workflow) = (&at.schedule, &at.workflow);
        Refused::not_found(format_args!("schedule `{name}` of workflow `{workflow}`"))
    })
}

/// The timetable of what was accepted at the deploy.
pub(crate) fn timetable(spec: &plan::Schedule) -> Result<Timetable> {
    Timetable::new(&spec.when, &spec.timezone).map_err(Refused::internal)
}

/// Schedules by workflow and name.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/schedules",
    params(("project" = String, Path), ScheduleQuery),
    responses((status = 200, body = List<Schedule>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(query): Fields<ScheduleQuery>,
) -> Result<Json<List<Schedule>>> {
    let page = page(query.limit, query.cursor)?;
    let found = app.store.schedules(project, query.workflow.as_deref(), &page).await?;
    let items = found.items.into_iter().map(shown).collect::<Result<_>>()?;
    Ok(Json(List { items, next_cursor: found.next }))
}

fn shown(row: ScheduleRow) -> Result<Schedule> {
    let table = timetable(&row.spec)?;
    Ok(view::schedule(row, table.zone()))
}

/// A schedule.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/schedules/{workflow}/{schedule}",
    params(("project" = String, Path), ("workflow" = String, Path), ("schedule" = String, Path)),
    responses((status = 200, body = Schedule))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<ScheduleAt>,
) -> Result<Json<Schedule>> {
    Ok(Json(shown(row(&app, project, &at).await?)?))
}

/// What became of a schedule's ticks, the latest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/ticks",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("schedule" = String, Path), Part
    ),
    responses((status = 200, body = List<Ticked>))
)]
pub(crate) async fn ticks(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<ScheduleAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Ticked>>> {
    row(&app, project, &at).await?;
    let page = page(part.limit, part.cursor)?;
    let found = app.store.ticks(project, &at.workflow, &at.schedule, &page).await?;
    let items = found.items.into_iter().map(view::ticked).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// The ticks of a schedule that are to come, whether it is paused or not.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/preview",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("schedule" = String, Path),
        PreviewQuery
    ),
    responses((status = 200, body = List<Upcoming>))
)]
pub(crate) async fn preview(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<ScheduleAt>,
    Fields(query): Fields<PreviewQuery>,
) -> Result<Json<List<Upcoming>>> {
    let count = query.count.unwrap_or(DEFAULT_PREVIEW);
    if !(1..=MAX_PREVIEW).contains(&count) {
        return Err(Refused::field("count", format!("from 1 to {MAX_PREVIEW}")));
    }
    let table = timetable(&row(&app, project, &at).await?.spec)?;
    let after = query.after.map_or_else(random::wall, |after| after.0);
    Ok(Json(List { items: upcoming(&table, after, count), next_cursor: None }))
}

/// Pauses a schedule. What it misses follows its `catchup` when it is resumed.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/pause",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("schedule" = String, Path), DryRun
    ),
    request_body = PauseSchedule, responses((status = 200, body = Commanded<Schedule>))
)]
pub(crate) async fn pause(asked: OnSchedule) -> Result<Json<Commanded<Schedule>>> {
    set_paused(asked, true).await
}

/// Lets a paused schedule go on.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/resume",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("schedule" = String, Path), DryRun
    ),
    request_body = PauseSchedule, responses((status = 200, body = Commanded<Schedule>))
)]
pub(crate) async fn resume(asked: OnSchedule) -> Result<Json<Commanded<Schedule>>> {
    set_paused(asked, false).await
}

type OnSchedule = On<ScheduleAt, PauseSchedule>;

async fn set_paused(asked: OnSchedule, paused: bool) -> Result<Json<Commanded<Schedule>>> {
    let by = asked.by(asked.body.reason.clone())?;
    let (project, at) = (asked.project, &asked.at);
    let key = ScheduleKey { project, workflow: at.workflow.clone(), name: at.schedule.clone() };
    let ask = Ask::PauseSchedule { key, paused, by };
    asked.done(ask, async { shown(row(&asked.app, project, at).await?) }).await
}
