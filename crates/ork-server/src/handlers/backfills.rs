//! Backfills: runs for the ticks of a range.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ork_api::backfills::{Backfill, Backfilled, NewBackfill, SteerBackfill};
use ork_api::schedules::shown;
use ork_api::types::{Commanded, DryRun, List, Part};
use ork_core::ids::{BackfillId, ProjectId, RunId};
use ork_core::rows::{BackfillRow, BackfillState};
use ork_core::run::RunState;
use ork_core::schedule::{self, Declared, Steer, Zone, count, day, listed};
use ork_core::time::Wall;
use ork_engine::{Answer, Ask, Request};
use ork_store::{MAX_PAGE, Page, RunFilter};
use serde::Deserialize;

use crate::app::App;
use crate::extract::{At, Fields, InProject, Sent, page};
use crate::guard::Asker;
use crate::handlers::command::On;
use crate::handlers::runs::bounded_reason;
use crate::handlers::schedules::timetable;
use crate::handlers::workflows::{WorkflowAt, refuse_deleted};
use crate::refused::{Refused, Result};
use crate::{random, view};

/// How many ticks are listed at most.
const LISTED: usize = 500;

/// How many failed runs are retried at most with one request.
const RETRIED: usize = 10_000;

/// A backfill in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct BackfillAt {
    id: BackfillId,
}

async fn row(app: &App, project: ProjectId, id: BackfillId) -> Result<BackfillRow> {
    let row = app.store.backfill(project, id).await?;
    row.ok_or_else(|| Refused::not_found(format_args!("backfill {id}")))
}

fn view_of(row: BackfillRow) -> Result<Backfill> {
    let table = timetable(&row.spec)?;
    Ok(view::backfill(row, table.zone()))
}

/// Backfills, newest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/backfills", params(("project" = String, Path), Part),
    responses((status = 200, body = List<Backfill>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Backfill>>> {
    let found = app.store.backfills(project, &page(part.limit, part.cursor)?).await?;
    let items = found.items.into_iter().map(view_of).collect::<Result<_>>()?;
    Ok(Json(List { items, next_cursor: found.next }))
}

/// A backfill.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/backfills/{id}",
    params(("project" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Backfill))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<BackfillAt>,
) -> Result<Json<Backfill>> {
    Ok(Json(view_of(row(&app, project, at.id).await?)?))
}

/// Makes a run for each tick that a schedule of the current version has in a range, or lists the
/// ticks.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/workflows/{name}/backfill",
    params(("project" = String, Path), ("name" = String, Path)), request_body = NewBackfill,
    responses((status = 200, body = Backfilled), (status = 201, body = Backfilled))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Extension(asker): Extension<Asker>,
    At(at): At<WorkflowAt>,
    Sent { body, key }: Sent<NewBackfill>,
) -> Result<(StatusCode, Json<Backfilled>)> {
    let loaded = app.plans.get(&*app.store, project, &at.name, None).await?;
    let spec = loaded.plan.schedules.get(&body.schedule).ok_or_else(|| {
        Refused::not_found(format_args!("schedule `{}` of workflow `{}`", body.schedule, at.name))
    })?;
    let table = timetable(spec)?;
    let from = bound(table.zone(), "from", &body.from, |(start, _)| start)?;
    let to = bound(table.zone(), "to", &body.to, |(_, end)| end)?;
    let ticks = listed(&table, from, to, body.order, LISTED);
    let total = count(&table, from, to) as u64;
    let ticks = ticks.into_iter().map(|tick| shown(&table, tick)).collect();
    if body.dry_run {
        return Ok((StatusCode::OK, Json(Backfilled { total, ticks, backfill: None })));
    }
    let declared = Declared {
        project,
        workflow: at.name,
        version: loaded.version,
        plan: loaded.plan.clone(),
        code: loaded.code.clone(),
    };
    let new = schedule::NewBackfill {
        id: BackfillId(random::run_id().map_err(Refused::internal)?.0),
        version: Arc::new(declared),
        schedule: body.schedule,
        spec: spec.clone(),
        from,
        to,
        max_runs: body.max_runs,
        order: body.order,
        by: asker.actor(bounded_reason(body.reason)?),
    };
    let ask = Ask::Backfill(Box::new(new));
    let Answer::Backfill { id } =
        app.engine.submit(Request::new(project, ask).with_key(key)).await?
    else {
        return Err(Refused::internal("a backfill came to something else"));
    };
    let backfill = Some(view_of(row(&app, project, id).await?)?);
    Ok((StatusCode::CREATED, Json(Backfilled { total, ticks, backfill })))
}

/// An end of a range: a time in the zone, or a day.
fn bound(zone: &Zone, field: &str, text: &str, end: impl Fn((Wall, Wall)) -> Wall) -> Result<Wall> {
    match day(zone, text) {
        Some(day) => Ok(end(day)),
        None => zone.read(text).map_err(|message| Refused::field(field, message)),
    }
}

type OnBackfill = On<BackfillAt, SteerBackfill>;

/// Does the failed runs of a backfill again, within its limit.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/backfills/{id}/retry",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = SteerBackfill, responses((status = 200, body = Commanded<Backfill>))
)]
pub(crate) async fn retry(asked: OnBackfill) -> Result<Json<Commanded<Backfill>>> {
    let runs = failed(&asked.app, asked.project, asked.at.id).await?;
    steer(asked, Steer::Retry(runs)).await
}

/// The failed runs of a backfill, newest first.
async fn failed(app: &App, project: ProjectId, id: BackfillId) -> Result<Vec<RunId>> {
    let filter = RunFilter {
        trigger: Some(format!("backfill:{id}")),
        states: vec![RunState::Failed],
        ..RunFilter::default()
    };
    let (mut runs, mut page) = (Vec::new(), Page { limit: MAX_PAGE, cursor: None });
    loop {
        let found = app.store.runs(project, &filter, &page).await?;
        runs.extend(found.items.into_iter().map(|row| row.id));
        page.cursor = found.next;
        if page.cursor.is_none() || runs.len() >= RETRIED {
            runs.truncate(RETRIED);
            return Ok(runs);
        }
    }
}

async fn steer(asked: OnBackfill, steer: Steer) -> Result<Json<Commanded<Backfill>>> {
    let by = asked.by(asked.body.reason.clone())?;
    let (app, project, id) = (&asked.app, asked.project, asked.at.id);
    let row_before = row(app, project, id).await?;
    let retries = matches!(steer, Steer::Retry(_));
    if retries {
        refuse_deleted(app, project, &row_before.workflow).await?;
    }
    let over = match row_before.state {
        BackfillState::Done if retries => {
            let version = row_before.version;
            let found = app.store.version(project, &row_before.workflow, version).await?;
            found.map(|found| Box::new((row_before, Arc::new(found.into()))))
        }
        _ => None,
    };
    let ask = Ask::Steer { id, steer, by, over };
    asked.done(ask, async { view_of(row(app, project, id).await?) }).await
}

/// Makes no new runs of a backfill until it is resumed.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/backfills/{id}/pause",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = SteerBackfill, responses((status = 200, body = Commanded<Backfill>))
)]
pub(crate) async fn pause(asked: OnBackfill) -> Result<Json<Commanded<Backfill>>> {
    steer(asked, Steer::Pause).await
}

/// Lets a paused backfill go on.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/backfills/{id}/resume",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = SteerBackfill, responses((status = 200, body = Commanded<Backfill>))
)]
pub(crate) async fn resume(asked: OnBackfill) -> Result<Json<Commanded<Backfill>>> {
    steer(asked, Steer::Resume).await
}

/// Ends a backfill: no new runs, and those that go on are cancelled.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/backfills/{id}/cancel",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = SteerBackfill, responses((status = 200, body = Commanded<Backfill>))
)]
pub(crate) async fn cancel(asked: OnBackfill) -> Result<Json<Commanded<Backfill>>> {
    steer(asked, Steer::Cancel).await
}
