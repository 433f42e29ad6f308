//! Pools: slots that attempts of the whole project share.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use ork_api::types::{Commanded, DryRun, List, Part, Pool, Preview, Removal, SetPool};
use ork_core::ids::ProjectId;
use ork_core::lang::MAX_SLOTS;
use ork_core::run::{Command, MAX_POOL_NAME, PoolView};
use ork_engine::{Ask, Request};

use super::command::{On, removed};
use super::runs::bounded_reason;
use super::workflows::WorkflowAt;
use crate::app::App;
use crate::extract::{At, Fields, InProject, page};
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
    params(("project" = String, Path), ("name" = String, Path), DryRun),
    request_body = SetPool, responses((status = 200, body = Commanded<Pool>))
)]
pub(crate) async fn set(asked: On<WorkflowAt, SetPool>) -> Result<Json<Commanded<Pool>>> {
    let (name, slots) = (&asked.at.name, asked.body.slots);
    if !(1..=MAX_POOL_NAME).contains(&name.len()) {
        let message = format!("it has {} bytes, not 1 to {MAX_POOL_NAME}", name.len());
        return Err(Refused::field("name", message));
    }
    if i64::from(slots) > MAX_SLOTS {
        let message = format!("from 0 to {MAX_SLOTS}, not {slots}");
        return Err(Refused::field("slots", message));
    }
    let (by, project) = (asked.by(asked.body.reason.clone())?, asked.project);
    let command = Command::SetPool { project, name: name.clone(), slots: Some(slots), by };
    let then = async {
        let pool = find(&asked.app, project, name).await?;
        let declared = Pool { name: name.clone(), slots: Some(slots), used: 0, waiting: 0 };
        Ok(pool.map_or(declared, view))
    };
    asked.done(Ask::Run(command), then).await
}

/// Forgets the size of a pool: each task that names it has to say it by `of` then. Answers with
/// what that changes.
#[utoipa::path(
    delete, path = "/api/v1/projects/{project}/pools/{name}",
    params(("project" = String, Path), ("name" = String, Path), Removal),
    responses((status = 200, body = Preview))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Extension(asker): Extension<Asker>,
    Fields(Removal { dry_run, reason }): Fields<Removal>,
) -> Result<Json<Preview>> {
    let name = at.name;
    let found = find(&app, project, &name).await?;
    if found.and_then(|pool| pool.slots).is_none() {
        return Err(Refused::not_found(format_args!("declared pool `{name}`")));
    }
    let by = asker.actor(bounded_reason(reason)?);
    let command = Command::SetPool { project, name, slots: None, by };
    removed(&app, Request::new(project, Ask::Run(command)), dry_run).await
}

async fn find(app: &App, project: ProjectId, name: &str) -> Result<Option<PoolView>> {
    let pools = app.engine.inspect(move |machine| machine.pools(project)).await?;
    Ok(pools.into_iter().find(|pool| pool.name == name))
}

fn view(pool: PoolView) -> Pool {
    let PoolView { name, slots, used, waiting } = pool;
    Pool { name, slots, used, waiting }
}
