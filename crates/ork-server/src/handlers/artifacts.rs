//! The files that attempts left.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use ork_api::types::{Artifact, ArtifactQuery, DEFAULT_LIMIT, List, MAX_LIMIT, Part};
use ork_core::ids::{InstancePath, RunId};
use ork_core::rows::{AttemptRow, TaskRow};
use ork_core::value::{Data, FileRef, Value};
use ork_store::{Blobs as _, Page};
use serde::Deserialize;

use super::runs::{RunAt, known};
use super::tasks::{TaskAt, row};
use crate::app::App;
use crate::content::serve;
use crate::extract::{At, Fields, InProject};
use crate::refused::{Refused, Result};

/// How many instances are looked at together.
const TOGETHER: usize = 50;

/// An artifact in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct ArtifactAt {
    id: RunId,
    path: InstancePath,
    name: String,
}

/// The files that the newest attempts of a run's instances left, by instance and name.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/artifacts",
    params(("project" = String, Path), ("id" = String, Path), Part),
    responses((status = 200, body = List<Artifact>))
)]
pub(crate) async fn of_run(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Artifact>>> {
    let limit = limit(part.limit)?;
    let (mut cursor, mut skip) = place(part.cursor.as_deref())?;
    if part.cursor.is_none() {
        known(&app, project, at.id).await?;
    }
    let mut items = Vec::new();
    loop {
        let page = Page { limit: TOGETHER, cursor: cursor.clone() };
        let tasks = app.store.tasks(project, at.id, &[], &page).await?;
        let mut found = Vec::new();
        for task in tasks.items.iter().filter(|task| task.attempt > 0) {
            found.extend(of_task(&app, task).await?);
        }
        let total = found.len();
        items.extend(found.into_iter().skip(skip).take(limit - items.len()));
        if items.len() == limit && skip + limit < total {
            let next_cursor = Some(format!("{}~{}", skip + limit, cursor.unwrap_or_default()));
            return Ok(Json(List { items, next_cursor }));
        }
        (cursor, skip) = (tasks.next, 0);
        let Some(next) = &cursor else { return Ok(Json(List { items, next_cursor: None })) };
        if items.len() == limit {
            return Ok(Json(List { items, next_cursor: Some(format!("0~{next}")) }));
        }
    }
}

/// The files that an attempt of an instance left, by name; the newest unless the query says which.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/artifacts",
    params(("project" = String, Path), ("id" = String, Path), ("path" = String, Path), ArtifactQuery),
    responses((status = 200, body = List<Artifact>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TaskAt>,
    Fields(query): Fields<ArtifactQuery>,
) -> Result<Json<List<Artifact>>> {
    let limit = limit(query.limit)?;
    let task = row(&app, project, &at).await?;
    let all = match attempt(&app, &task, &query).await? {
        Some(attempt) => files(&app, &attempt).await?,
        None => Vec::new(),
    };
    let after = |artifact: &Artifact| query.cursor.as_ref().is_none_or(|c| artifact.name > *c);
    let mut items: Vec<_> = all.into_iter().filter(after).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(List { items, next_cursor }))
}

/// A file that an attempt of an instance left, or the part of it that `Range` names.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/artifacts/{name}",
    params(
        ("project" = String, Path), ("id" = String, Path), ("path" = String, Path),
        ("name" = String, Path, description = "percent-encoded, also its slashes"), ArtifactQuery
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = [u8]),
        (status = 206, content_type = "application/octet-stream", body = [u8]),
        (status = 304), (status = 416)
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<ArtifactAt>,
    Fields(query): Fields<ArtifactQuery>,
    asked: HeaderMap,
) -> Result<Response> {
    let task = row(&app, project, &TaskAt { id: at.id, path: at.path.clone() }).await?;
    let all = match attempt(&app, &task, &query).await? {
        Some(attempt) => files(&app, &attempt).await?,
        None => Vec::new(),
    };
    let found = all.into_iter().find(|artifact| artifact.name == at.name).ok_or_else(|| {
        Refused::not_found(format_args!(
            "artifact `{}` of task `{}` in run {}",
            at.name, at.path, at.id
        ))
    })?;
    let file = FileRef { digest: found.digest, name: found.name, size: found.size };
    serve(app.logs.blobs(), &file, &asked).await
}

fn limit(limit: Option<usize>) -> Result<usize> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Refused::malformed(format!("limit: from 1 to {MAX_LIMIT}, not {limit}")))
}

/// Where a list of a run goes on: after which instances, and how many artifacts of the next.
fn place(cursor: Option<&str>) -> Result<(Option<String>, usize)> {
    let Some(cursor) = cursor else { return Ok((None, 0)) };
    let place = cursor.split_once('~').and_then(|(skip, rest)| {
        let after = Some(rest.to_owned()).filter(|rest| !rest.is_empty());
        Some((after, skip.parse().ok()?))
    });
    place.ok_or_else(|| Refused::malformed("cursor: not one that this list gave"))
}

async fn of_task(app: &App, task: &TaskRow) -> Result<Vec<Artifact>> {
    match attempt(app, task, &ArtifactQuery::default()).await? {
        Some(attempt) => files(app, &attempt).await,
        None => Ok(Vec::new()),
    }
}

/// The attempt that is meant; none where none has begun.
async fn attempt(app: &App, task: &TaskRow, query: &ArtifactQuery) -> Result<Option<AttemptRow>> {
    let wanted = (
        query.generation.unwrap_or(task.generation),
        query.attempt.unwrap_or(if query.generation.is_none() { task.attempt } else { 1 }),
    );
    if wanted.1 == 0 {
        return Ok(None);
    }
    let mut page = Page { limit: MAX_LIMIT, cursor: None };
    loop {
        let found = app.store.attempts(task.project, task.run, &task.path, &page).await?;
        let hit = found.items.into_iter().find(|row| (row.generation, row.attempt) == wanted);
        page.cursor = found.next;
        if hit.is_some() {
            return Ok(hit);
        }
        if page.cursor.is_none() {
            let (generation, attempt) = wanted;
            return Err(Refused::not_found(format_args!(
                "attempt {attempt} of generation {generation} of task `{}` in run {}",
                task.path, task.run
            )));
        }
    }
}

/// The files of an attempt.
async fn files(app: &App, attempt: &AttemptRow) -> Result<Vec<Artifact>> {
    let list = match &attempt.artifacts {
        None => return Ok(Vec::new()),
        Some(Data::Inline(list)) => list.clone(),
        Some(Data::Blob { digest, .. }) => {
            let content = app.logs.blobs().get(digest).await?.unwrap_or_default();
            serde_json::from_slice::<Value>(&content).map_err(Refused::internal)?
        }
    };
    let files = list.as_array().into_iter().flatten().filter_map(FileRef::of);
    let named = files.map(|file| Artifact {
        run: attempt.run,
        path: attempt.path.clone(),
        generation: attempt.generation,
        attempt: attempt.attempt,
        name: file.name,
        size: file.size,
        digest: file.digest,
    });
    let mut artifacts: Vec<_> = named.collect();
    artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

/// Sees to it that files which params name are kept, for long enough that a row can refer to them.
///
/// # Errors
/// When one is not here.
pub(crate) async fn keep_files(app: &App, params: &Value) -> Result<()> {
    let mut files = Vec::new();
    FileRef::each(params, &mut |file| files.push(file));
    for FileRef { digest, name, size } in files {
        let blobs = app.logs.blobs();
        let here = blobs.touch(&digest).await? && blobs.size(&digest).await? == Some(size);
        if !here {
            let message = format!(
                "the file `{name}` is not kept as {digest} with {size} bytes; PUT it under \
                 blobs/{digest} first"
            );
            return Err(Refused::field("params", message));
        }
    }
    Ok(())
}
