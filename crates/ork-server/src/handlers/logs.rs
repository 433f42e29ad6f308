//! The lines of an attempt.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use ork_api::problem::Code;
use ork_api::types::{
    DEFAULT_LOG_LINES, LOG_COMPLETE, LogFormat, LogLine, LogQuery, MAX_LIMIT, MAX_LOG_LINES,
    MAX_RUN_LINES, RunLogQuery, SCANNED_TO,
};
use ork_core::ids::ProjectId;
use ork_store::{LogKey, Page};
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::events::permit;
use super::runs::{RunAt, known};
use super::tasks::{TaskAt, row};
use crate::app::App;
use crate::attempt_logs::Wanted;
use crate::extract::{At, Fields, InProject};
use crate::refused::{Refused, Result};
use crate::start::stopped;

/// The lines of an instance's attempt, as NDJSON or text. The headers `x-log-scanned-to` and
/// `x-log-complete` say how far the log was searched; what follows is asked for with `after`.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/logs",
    params(("project" = String, Path), ("id" = String, Path), ("path" = String, Path), LogQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = LogLine))
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TaskAt>,
    Fields(query): Fields<LogQuery>,
) -> Result<Response> {
    let wanted = wanted(&query)?;
    let format = query.format.unwrap_or(LogFormat::Ndjson);
    let Some(key) = attempt(&app, project, at, &query).await? else {
        return Ok(answer(format, Body::empty(), Some((0, true))));
    };
    if query.follow {
        return follow(app, key, wanted, format);
    }
    let under_way = app.hub.is_under_way(&key);
    let part = app.logs.read(&key, &wanted).await?;
    let complete = !part.more && !under_way;
    Ok(answer(format, write(&part.lines, format)?.into(), Some((part.scanned_to, complete))))
}

/// The lines of the newest attempts of all instances of a run, in the order of time, as NDJSON or
/// text. A run with more than 10,000 such lines is refused: its tasks are read one by one.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/logs",
    params(("project" = String, Path), ("id" = String, Path), RunLogQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = LogLine))
)]
pub(crate) async fn of_run(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
    Fields(query): Fields<RunLogQuery>,
) -> Result<Response> {
    known(&app, project, at.id).await?;
    let wanted = Wanted {
        level: query.level,
        text: query.q,
        stream: query.stream,
        limit: MAX_LOG_LINES,
        ..Wanted::default()
    };
    let mut lines = Vec::new();
    let mut page = Page { limit: MAX_LIMIT, cursor: None };
    loop {
        let tasks = app.store.tasks(project, at.id, &[], &page).await?;
        for task in tasks.items.into_iter().filter(|task| task.attempt > 0) {
            let (path, generation, attempt) = (task.path, task.generation, task.attempt);
            let key = LogKey { project, run: at.id, path, generation, attempt };
            all_lines(&app, &key, wanted.clone(), &mut lines).await?;
        }
        page.cursor = tasks.next;
        if page.cursor.is_none() {
            break;
        }
    }
    lines.sort_by_key(|line| line.at.0);
    let format = query.format.unwrap_or(LogFormat::Ndjson);
    Ok(answer(format, write(&lines, format)?.into(), None))
}

/// Adds all lines of an attempt that are wanted.
async fn all_lines(
    app: &App,
    key: &LogKey,
    mut wanted: Wanted,
    lines: &mut Vec<LogLine>,
) -> Result<()> {
    loop {
        let part = app.logs.read(key, &wanted).await?;
        let named = |line| LogLine { path: Some(key.path.clone()), ..line };
        lines.extend(part.lines.into_iter().map(named));
        if lines.len() > MAX_RUN_LINES {
            let detail = format!(
                "the run has more than {MAX_RUN_LINES} such lines; read \
                 …/tasks/{{path}}/logs of one task, or ask by level or q"
            );
            return Err(Refused::new(Code::TooLarge, detail));
        }
        if !part.more {
            return Ok(());
        }
        wanted.after = part.scanned_to;
    }
}

fn wanted(query: &LogQuery) -> Result<Wanted> {
    if query.follow && query.limit.is_some() {
        return Err(Refused::malformed("limit: not with follow"));
    }
    if query.after.is_some() && query.tail.is_some() {
        return Err(Refused::malformed("tail: not with after"));
    }
    if query.limit.is_some() && query.tail.is_some() {
        return Err(Refused::malformed("tail: not with limit"));
    }
    let limit = query.tail.or(query.limit).unwrap_or(DEFAULT_LOG_LINES);
    if !(1..=MAX_LOG_LINES).contains(&limit) {
        let detail = format!("limit, tail: from 1 to {MAX_LOG_LINES}, not {limit}");
        return Err(Refused::malformed(detail));
    }
    Ok(Wanted {
        after: query.after.unwrap_or(0),
        tail: query.tail.is_some(),
        level: query.level,
        text: query.q.clone(),
        stream: query.stream,
        limit,
    })
}

/// The attempt that is meant; none where none has begun.
async fn attempt(
    app: &App,
    project: ProjectId,
    at: TaskAt,
    query: &LogQuery,
) -> Result<Option<Arc<LogKey>>> {
    let task = row(app, project, &at).await?;
    let generation = query.generation.unwrap_or(task.generation);
    let attempt = match query.attempt {
        Some(attempt) if generation == task.generation && attempt > task.attempt => {
            return Err(Refused::not_found(format_args!(
                "attempt {attempt} of task `{}` in run {}; it had {}",
                at.path, at.id, task.attempt
            )));
        }
        Some(attempt) => attempt,
        None if generation == task.generation => task.attempt,
        None => return Err(Refused::malformed("attempt: say which, where generation is given")),
    };
    let key = LogKey { project, run: at.id, path: at.path, generation, attempt };
    Ok((attempt > 0).then(|| Arc::new(key)))
}

fn answer(format: LogFormat, body: Body, scanned: Option<(u64, bool)>) -> Response {
    let kind = match format {
        LogFormat::Ndjson => "application/x-ndjson",
        LogFormat::Text => "text/plain; charset=utf-8",
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let mut response = (headers, body).into_response();
    if let Some((to, complete)) = scanned {
        let complete = HeaderValue::from_static(if complete { "true" } else { "false" });
        response.headers_mut().insert(SCANNED_TO, HeaderValue::from(to));
        response.headers_mut().insert(LOG_COMPLETE, complete);
    }
    response
}

fn write(lines: &[LogLine], format: LogFormat) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        match format {
            LogFormat::Ndjson => {
                serde_json::to_writer(&mut text, line).map_err(Refused::internal)?;
            }
            LogFormat::Text => text.extend_from_slice(line.text.as_bytes()),
        }
        text.push(b'\n');
    }
    Ok(text)
}

fn follow(app: Arc<App>, key: Arc<LogKey>, wanted: Wanted, format: LogFormat) -> Result<Response> {
    let follower =
        Follower { lines: app.feed.lines(), _permit: permit(&app)?, app, key, wanted, format };
    let parts = unfold(follower, |mut follower| async {
        let part = follower.next().await?;
        Some((Ok::<_, Infallible>(part), follower))
    });
    Ok(answer(format, Body::from_stream(parts), None))
}

/// A reader that waits for more.
struct Follower {
    app: Arc<App>,
    key: Arc<LogKey>,
    wanted: Wanted,
    format: LogFormat,
    lines: broadcast::Receiver<Arc<LogKey>>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        let mut stopping = self.app.stopping.clone();
        loop {
            let under_way = self.app.hub.is_under_way(&self.key);
            let part = self.app.logs.read(&self.key, &self.wanted).await;
            let part =
                part.inspect_err(|error| tracing::warn!(%error, "a log stream ends")).ok()?;
            self.wanted.after = self.wanted.after.max(part.scanned_to);
            self.wanted.tail = false;
            self.wanted.limit = MAX_LOG_LINES;
            if !part.lines.is_empty() {
                return write(&part.lines, self.format).ok().map(Bytes::from);
            }
            if !part.more && !under_way {
                return None;
            }
            if part.more {
                continue;
            }
            tokio::select! {
                () = grown(&mut self.lines, &self.key) => {}
                () = stopped(&mut stopping) => return None,
                () = tokio::time::sleep(self.app.limits.keep_alive) => {
                    if self.format == LogFormat::Ndjson {
                        return Some(Bytes::from_static(b"\n"));
                    }
                }
            }
        }
    }
}

/// Waits until the log of `key` has grown or ended.
async fn grown(lines: &mut broadcast::Receiver<Arc<LogKey>>, key: &LogKey) {
    while let Ok(grown) = lines.recv().await {
        if *grown == *key {
            return;
        }
    }
}
