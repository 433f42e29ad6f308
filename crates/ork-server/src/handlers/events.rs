//! Events: of a run as a list, of anything as a stream.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use ork_api::problem::Code;
use ork_api::types::{Event, EventQuery, List, StreamQuery};
use ork_core::ids::ProjectId;

use super::runs::{RunAt, known};
use crate::app::App;
use crate::extract::{At, Fields, InProject, page};
use crate::refused::{Refused, Result};
use crate::stream::{Position, Streaming, Topics};
use crate::view;

/// A run's events, oldest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/events",
    params(("project" = String, Path), ("id" = String, Path), EventQuery),
    responses((status = 200, body = List<Event>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
    Fields(query): Fields<EventQuery>,
) -> Result<Json<List<Event>>> {
    let page = page(query.limit, query.cursor)?;
    let after = page.cursor.as_deref().unwrap_or("0").parse();
    let after = after.map_err(|_| Refused::malformed("cursor: send `next_cursor` as it came"))?;
    let found = app.store.events(project, at.id, after, page.limit).await?;
    if found.is_empty() {
        known(&app, project, at.id).await?;
    }
    let full = found.len() == page.limit;
    let next_cursor = found.last().filter(|_| full).map(|last| last.event.seq.to_string());
    Ok(Json(List { items: found.iter().map(view::event).collect(), next_cursor }))
}

/// Server-sent events of the topics: `Event` without a name, `LogChunk` as `log`, `Reset` as
/// `reset`. Each has an id; `Last-Event-ID` goes on from there without a gap.
#[utoipa::path(
    get, path = "/api/v1/events", params(StreamQuery),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Fields(query): Fields<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let project = ProjectId::DEFAULT;
    let topics = Topics::read(&app, &query.topics)?;
    for run in topics.all_runs() {
        known(&app, project, run).await?;
    }
    let from = headers.get("last-event-id").and_then(|id| id.to_str().ok().map(str::to_owned));
    let from = from.or(query.last_event_id);
    let from = from.map(|id| Position::read(&id, project)).transpose()?;
    let permit = permit(&app)?;
    let streaming = Streaming::open(app, project, topics, from, permit).await?;
    let parts = unfold(streaming, |mut streaming| async {
        let part = streaming.next().await?;
        Some((Ok::<_, Infallible>(part), streaming))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// A place among the streams.
pub(crate) fn permit(app: &App) -> Result<tokio::sync::OwnedSemaphorePermit> {
    app.streams.clone().try_acquire_owned().map_err(|_| {
        let limit = app.limits.streams;
        Refused::new(
            Code::LimitReached,
            format!("{limit} streams are open already (limits.streams)"),
        )
    })
}
