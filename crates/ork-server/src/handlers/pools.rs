//! Pools: slots that attempts of the whole project share.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ork_api::types::{List, Part, Pool, SetPool};
use ork_core::ids::ProjectId;
use ork_core::lang::MAX_SLOTS;
use ork_core::run::{Command, MAX_POOL_NAME, PoolView};
use ork_engine::{Ask, Request};

use super::runs::bounded_reason;
use super::workflows::WorkflowAt;
use crate::app::App;
use crate::extract::{At, Fields, InProject, Sent, page};
use crate::guard::Asker;
use crate::refused::{Refused, Result};

/// Pools that are declared or in use, by name.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/pools",
    params(("project" = String, Path), Part), responses((status = 200, body = List<Pool>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Pool>>> {
    let page = page(part.limit, part.cursor)?;
    let mut found = app.engine.inspect(move |machine| machine.pools(project)).await?;
    if let Some(after) = &page.cursor {
        found.retain(|pool| pool.name > *after);
    }
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let next_cursor = found.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(List { items: found.into_iter().map(view).collect(), next_cursor }))
}

/// Sets the size of a pool. Attempts that hold slots keep them.
#[utoipa::path(
    put, path = "/api/v1/projects/{project}/pools/{name}",
    params(("project" = String, Path), ("name" = String, Path)),
    request_body = SetPool, responses((status = 200, body = Pool))
)]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Extension(asker): Extension<Asker>,
    Sent { body: SetPool { slots, reason }, key }: Sent<SetPool>,
) -> Result<Json<Pool>> {
    let name = at.name;
    if !(1..=MAX_POOL_NAME).contains(&name.len()) {
        let message = format!("it has {} bytes, not 1 to {MAX_POOL_NAME}", name.len());
        return Err(Refused::field("name", message));
    }
    if i64::from(slots) > MAX_SLOTS {
        let message = format!("from 0 to {MAX_SLOTS}, not {slots}");
        return Err(Refused::field("slots", message));
    }
    let by = asker.actor(bounded_reason(reason)?);
    let command = Command::SetPool { project, name: name.clone(), slots: Some(slots), by };
    app.engine.submit(Request { project, ask: Ask::Run(command), key }).await?;
    let pool = find(&app, project, &name).await?;
    let declared = Pool { name, slots: Some(slots), used: 0, waiting: 0 };
    Ok(Json(pool.map_or(declared, view)))
}

/// Forgets the size of a pool: each task that names it has to say it by `of` then.
#[utoipa::path(
    delete, path = "/api/v1/projects/{project}/pools/{name}",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Extension(asker): Extension<Asker>,
) -> Result<StatusCode> {
    let name = at.name;
    let found = find(&app, project, &name).await?;
    if found.and_then(|pool| pool.slots).is_none() {
        return Err(Refused::not_found(format_args!("declared pool `{name}`")));
    }
    let command = Command::SetPool { project, name, slots: None, by: asker.actor(None) };
    app.engine.submit(Request { project, ask: Ask::Run(command), key: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, project: ProjectId, name: &str) -> Result<Option<PoolView>> {
    let pools = app.engine.inspect(move |machine| machine.pools(project)).await?;
    Ok(pools.into_iter().find(|pool| pool.name == name))
}

fn view(pool: PoolView) -> Pool {
    let PoolView { name, slots, used, waiting } = pool;
    Pool { name, slots, used, waiting }
}
