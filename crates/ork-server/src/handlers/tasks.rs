//! Instances and their attempts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ork_api::types::{Attempt, AttemptQuery, List, MAX_LIMIT, Part, Task, TaskQuery};
use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::rows::TaskRow;
use ork_store::Page;
use serde::Deserialize;

use super::runs::{RunAt, known};
use crate::app::App;
use crate::extract::{At, Fields, InProject, page, words};
use crate::refused::{Refused, Result};
use crate::view;

/// An instance in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskAt {
    pub(crate) id: RunId,
    pub(crate) path: InstancePath,
}

/// The row of an instance.
pub(crate) async fn row(app: &App, project: ProjectId, at: &TaskAt) -> Result<TaskRow> {
    match app.store.task(project, at.id, &at.path).await? {
        Some(row) => Ok(row),
        None => Err(Refused::not_found(format_args!("task `{}` in run {}", at.path, at.id))),
    }
}

/// A run's instances by ordinal.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks",
    params(("project" = String, Path), ("id" = String, Path), TaskQuery),
    responses((status = 200, body = List<Task>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
    Fields(query): Fields<TaskQuery>,
) -> Result<Json<List<Task>>> {
    let page = page(query.limit, query.cursor)?;
    let states = words("state", query.state.as_deref())?;
    let found = app.store.tasks(project, at.id, &states, &page).await?;
    if found.items.is_empty() {
        known(&app, project, at.id).await?;
    }
    let items = found.items.into_iter().map(view::task).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// An instance.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}",
    params(("project" = String, Path), ("id" = String, Path), ("path" = String, Path)),
    responses((status = 200, body = Task))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TaskAt>,
) -> Result<Json<Task>> {
    Ok(Json(view::task(row(&app, project, &at).await?)))
}

/// An instance's attempts, oldest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/attempts",
    params(("project" = String, Path), ("id" = String, Path), ("path" = String, Path), Part),
    responses((status = 200, body = List<Attempt>))
)]
pub(crate) async fn attempts(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TaskAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Attempt>>> {
    let page = page(part.limit, part.cursor)?;
    let found = app.store.attempts(project, at.id, &at.path, &page).await?;
    if found.items.is_empty() {
        row(&app, project, &at).await?;
    }
    let items = found.items.into_iter().map(view::attempt).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// An attempt in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct AttemptAt {
    id: RunId,
    path: InstancePath,
    n: u32,
}

/// An attempt of an instance's present generation, or of the one that is named.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/attempts/{n}",
    params(
        ("project" = String, Path), ("id" = String, Path), ("path" = String, Path),
        ("n" = u32, Path), AttemptQuery
    ),
    responses((status = 200, body = Attempt))
)]
pub(crate) async fn attempt(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<AttemptAt>,
    Fields(query): Fields<AttemptQuery>,
) -> Result<Json<Attempt>> {
    let task = TaskAt { id: at.id, path: at.path };
    let newest = row(&app, project, &task).await?.generation;
    let wanted = (query.generation.unwrap_or(newest), at.n);
    let mut page = Page { limit: MAX_LIMIT, cursor: None };
    loop {
        let found = app.store.attempts(project, task.id, &task.path, &page).await?;
        let hit = found.items.into_iter().find(|row| (row.generation, row.attempt) == wanted);
        if let Some(hit) = hit {
            return Ok(Json(view::attempt(hit)));
        }
        page.cursor = found.next;
        if page.cursor.is_none() {
            let (generation, n) = wanted;
            return Err(Refused::not_found(format_args!(
                "attempt {n} of generation {generation} of task `{}` in run {}",
                task.path, task.id
            )));
        }
    }
}
