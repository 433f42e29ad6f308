//! Commands: on what, by whom, with which body; on one thing or on all runs that a filter finds.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts as _, Request as HttpRequest};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::{StreamExt as _, stream};
use ork_api::problem::Code;
use ork_api::types::{Commanded, DryRun, Each, MAX_TOLD, Preview, Run, Told, ToldResult};
use ork_core::ids::{ProjectId, RunId};
use ork_core::rows::{Actor, RunRow};
use ork_core::run::{self, Command};
use ork_core::value::Digest;
use ork_engine::{Answer, Ask, Key, Request};
use ork_store::{MAX_PAGE, Page};
use serde::de::DeserializeOwned;

use super::runs::{Chosen, RunAt, bounded_reason, chosen_runs, known, loaded_run, row};
use crate::app::App;
use crate::extract::{At, Fields, InProject, Sent};
use crate::guard::Asker;
use crate::refused::{Refused, Result};
use crate::view;

/// How many of many runs a command is given to at a time.
const ABREAST: usize = 16;

/// A command on what is in the path: who gives it, and what was sent.
pub(crate) struct On<P, T> {
    pub(crate) app: Arc<App>,
    pub(crate) project: ProjectId,
    pub(crate) at: P,
    pub(crate) asker: Asker,
    pub(crate) body: T,
    pub(crate) key: Option<Key>,
    /// Whether it is only told what would change.
    pub(crate) dry_run: bool,
    /// The revision of what it is given to, where the client says it.
    pub(crate) expected: Option<Digest>,
}

/// A command on the run in the path.
pub(crate) type OnRun<T> = On<RunAt, T>;

fn asker(parts: &Parts) -> Result<Asker> {
    let asker = parts.extensions.get::<Asker>().cloned();
    asker.ok_or_else(|| Refused::internal("nobody asks"))
}

/// The revision that `If-Match` names.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<Digest>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let tag = tag.filter(|tag| !tag.contains('"'));
    let tag = tag.ok_or_else(|| Refused::malformed("If-Match: send one `ETag`, or `*`"))?;
    // A tag that is none of ours is that of nothing.
    Ok(Some(tag.parse().unwrap_or_else(|_| Digest::of(tag.as_bytes()))))
}

impl<P, T> FromRequest<Arc<App>> for On<P, T>
where
    P: DeserializeOwned + Send,
    T: DeserializeOwned + Send,
{
    type Rejection = Refused;

    async fn from_request(request: HttpRequest, app: &Arc<App>) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let InProject(project) = InProject::from_request_parts(&mut parts, app).await?;
        let At(at) = At::from_request_parts(&mut parts, app).await?;
        let Fields(DryRun { dry_run }) = Fields::from_request_parts(&mut parts, app).await?;
        let (asker, expected) = (asker(&parts)?, expected(&parts.headers)?);
        let Sent { body, key } =
            Sent::from_request(HttpRequest::from_parts(parts, body), app).await?;
        Ok(Self { app: app.clone(), project, at, asker, body, key, dry_run, expected })
    }
}

impl<P, T> On<P, T> {
    /// Who asks, and why.
    pub(crate) fn by(&self, reason: Option<String>) -> Result<Actor> {
        Ok(self.asker.actor(bounded_reason(reason)?))
    }

    /// Has the engine do it, or tell what it would change.
    pub(crate) async fn submit(&self, ask: Ask) -> Result<Answer> {
        let request = Request::new(self.project, ask).with_key(self.key.clone());
        let request = Request { dry_run: self.dry_run, ..request };
        Ok(self.app.engine.submit(request).await?)
    }

    /// The same, answered by what it was given to as it is then.
    pub(crate) async fn done<D>(
        &self,
        ask: Ask,
        then: impl Future<Output = Result<D>>,
    ) -> Result<Json<Commanded<D>>> {
        match self.submit(ask).await? {
            Answer::Preview(changes) => Ok(Json(Commanded::Preview(Preview { changes }))),
            Answer::Done | Answer::Backfill { .. } => Ok(Json(Commanded::done(then.await?))),
            other => Err(Refused::internal(format!("a command came to {other:?}"))),
        }
    }
}

impl<T> OnRun<T> {
    /// Gives the command, which is by `reason`'s sender, and answers with the run as it is then.
    pub(crate) async fn told(
        self,
        reason: impl FnOnce(&mut T) -> Option<String>,
        command: impl FnOnce(RunId, T, Actor) -> Command,
    ) -> Result<Json<Commanded<Run>>> {
        let Self { app, project, at: RunAt { id: run }, asker, mut body, key, dry_run, .. } = self;
        let by = asker.actor(bounded_reason(reason(&mut body))?);
        known(&app, project, run).await?;
        let command = command(run, body, by);
        if dry_run {
            let active = loaded_run(&app, project, run).await?;
            let scratch = app.engine.inspect(run::Machine::scratch).await?;
            let changes = run::preview(scratch, active, command, app.clock.now());
            let changes = changes.map_err(ork_engine::Error::Refused)?;
            return Ok(Json(Commanded::Preview(Preview { changes })));
        }
        app.engine.submit(Request::run(project, command).with_key(key)).await?;
        let row = row(&app, project, run).await?;
        Ok(Json(Commanded::done(view::run(row, &app.project))))
    }
}

/// Deletes something, and tells what that changes; or only tells.
pub(crate) async fn removed(app: &App, request: Request, dry_run: bool) -> Result<Json<Preview>> {
    let tried = Request { dry_run: true, ..request.clone() };
    let Answer::Preview(changes) = app.engine.submit(tried).await? else {
        return Err(Refused::internal("a try came to something else"));
    };
    if !dry_run {
        app.engine.submit(request).await?;
    }
    Ok(Json(Preview { changes }))
}

/// A command on all runs that the query finds.
pub(crate) struct OnRuns<T> {
    app: Arc<App>,
    project: ProjectId,
    chosen: Chosen,
    asker: Asker,
    body: T,
    key: Option<Key>,
    dry_run: bool,
}

impl<T: DeserializeOwned + Send> FromRequest<Arc<App>> for OnRuns<T> {
    type Rejection = Refused;

    async fn from_request(request: HttpRequest, app: &Arc<App>) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let InProject(project) = InProject::from_request_parts(&mut parts, app).await?;
        let (chosen, DryRun { dry_run }) = chosen_runs(app, project, &parts.uri).await?;
        let asker = asker(&parts)?;
        let Sent { body, key } =
            Sent::from_request(HttpRequest::from_parts(parts, body), app).await?;
        Ok(Self { app: app.clone(), project, chosen, asker, body, key, dry_run })
    }
}

impl<T: Clone> OnRuns<T> {
    /// Gives the command to each of the runs; a refusal of one does not keep it from the others.
    pub(crate) async fn each<F>(self, command: impl Fn(OnRun<T>) -> F) -> Result<Json<Each>>
    where
        F: Future<Output = Result<Json<Commanded<Run>>>>,
    {
        let runs = self.runs().await?;
        let told = runs.into_iter().map(|row| {
            let given = command(self.on(row.id));
            async move { told(row, given.await) }
        });
        let items = stream::iter(told).buffered(ABREAST).collect().await;
        Ok(Json(Each { items }))
    }

    async fn runs(&self) -> Result<Vec<RunRow>> {
        let mut page = Page { limit: MAX_PAGE, cursor: None };
        let mut runs = Vec::new();
        loop {
            let found = self.app.store.runs(self.project, &self.chosen.0, &page).await?;
            runs.extend(found.items);
            page.cursor = found.next;
            if runs.len() > MAX_TOLD || (page.cursor.is_some() && runs.len() == MAX_TOLD) {
                let message = format!("the filter finds more than {MAX_TOLD} runs; narrow it");
                return Err(Refused::new(Code::Invalid, message));
            }
            if page.cursor.is_none() {
                return Ok(runs);
            }
        }
    }

    /// The command as it is given to one of them, under a key of its own.
    fn on(&self, id: RunId) -> OnRun<T> {
        let key = self.key.as_ref();
        let key = key.map(|key| Key { key: format!("{}/{id}", key.key), request: key.request });
        On {
            app: self.app.clone(),
            project: self.project,
            at: RunAt { id },
            asker: self.asker.clone(),
            body: self.body.clone(),
            key,
            dry_run: self.dry_run,
            expected: None,
        }
    }
}

/// What became of one of many.
fn told(row: RunRow, outcome: Result<Json<Commanded<Run>>>) -> Told {
    let mut told = Told {
        run: row.id,
        workflow: row.workflow,
        result: ToldResult::Done,
        problem: None,
        changes: Vec::new(),
        made: None,
    };
    match outcome {
        Ok(Json(Commanded::Preview(preview))) => {
            told.result = ToldResult::Tried;
            told.changes = preview.changes;
        }
        Ok(Json(Commanded::Done(run))) => told.made = Some(run.id).filter(|made| *made != row.id),
        Err(refused) => {
            told.result = ToldResult::Refused;
            told.problem = Some(*refused.0);
        }
    }
    told
}
