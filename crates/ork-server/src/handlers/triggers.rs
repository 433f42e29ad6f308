//! Triggers: what they are, what came of them, and the addresses of webhooks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ork_api::problem::Code;
use ork_api::triggers::{Delivered, Firing, RotateTrigger, Rotated, Trigger, TriggerQuery};
use ork_api::types::{Commanded, DryRun, List, Part, Preview};
use ork_core::ids::ProjectId;
use ork_core::plan;
use ork_core::rows::{Actor, TriggerRow};
use ork_core::schedule::{Declared, Site};
use ork_core::trigger::{Birth, TriggerKey, triggered_run};
use ork_core::value::{Digest, Value};
use ork_engine::{Answer, Ask, Key};
use serde::Deserialize;

use crate::app::App;
use crate::extract::{At, Delivery, Fields, InProject, page};
use crate::guard::Asker;
use crate::handlers::command::On;
use crate::handlers::runs::{bounded_params, made, made_before, refused_params};
use crate::plans::Loaded;
use crate::refused::{Refused, Result};
use crate::{hooks, random, view};

/// A trigger in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct TriggerAt {
    workflow: String,
    trigger: String,
}

/// A webhook in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct HookAt {
    id: String,
}

/// The row of a trigger that its workflow has now.
async fn row(app: &App, project: ProjectId, at: &TriggerAt) -> Result<TriggerRow> {
    let row = app.store.trigger(project, &at.workflow, &at.trigger).await?;
    row.filter(|row| !row.removed).ok_or_else(|| {
        let (name, workflow) = (&at.trigger, &at.workflow);
        Refused::not_found(format_args!("trigger `{name}` of workflow `{workflow}`"))
    })
}

/// Triggers by workflow and name.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/triggers",
    params(("project" = String, Path), TriggerQuery),
    responses((status = 200, body = List<Trigger>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(query): Fields<TriggerQuery>,
) -> Result<Json<List<Trigger>>> {
    let page = page(query.limit, query.cursor)?;
    let found = app.store.triggers(project, query.workflow.as_deref(), &page).await?;
    let items = found.items.into_iter().map(|row| view::trigger(row, &app.url)).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// A trigger.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/triggers/{workflow}/{trigger}",
    params(("project" = String, Path), ("workflow" = String, Path), ("trigger" = String, Path)),
    responses((status = 200, body = Trigger))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TriggerAt>,
) -> Result<Json<Trigger>> {
    Ok(Json(view::trigger(row(&app, project, &at).await?, &app.url)))
}

/// The ends of runs that a trigger waited for, and what came of them, the latest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/triggers/{workflow}/{trigger}/firings",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("trigger" = String, Path), Part
    ),
    responses((status = 200, body = List<Firing>))
)]
pub(crate) async fn firings(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<TriggerAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Firing>>> {
    row(&app, project, &at).await?;
    let page = page(part.limit, part.cursor)?;
    let found = app.store.firings(project, &at.workflow, &at.trigger, &page).await?;
    let items = found.items.into_iter().map(view::firing).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// Gives a webhook a new secret, which the answer shows and nothing else ever does. The old one is
/// of no use from then on.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/triggers/{workflow}/{trigger}/rotate",
    params(
        ("project" = String, Path), ("workflow" = String, Path), ("trigger" = String, Path), DryRun
    ),
    request_body = RotateTrigger, responses((status = 200, body = Commanded<Rotated>))
)]
pub(crate) async fn rotate(
    asked: On<TriggerAt, RotateTrigger>,
) -> Result<Json<Commanded<Rotated>>> {
    let row = row(&asked.app, asked.project, &asked.at).await?;
    let (plan::Trigger::Webhook { auth, .. }, Some(hook)) = (&row.spec, &row.hook) else {
        let message = format!("`{}` waits for a workflow, and has no secret", row.name);
        return Err(Refused::new(Code::Conflict, message));
    };
    let (shown, secret) = hooks::make(*auth)?;
    let digest = Digest::of(shown.as_bytes());
    let by = asked.by(asked.body.reason.clone())?;
    let ask = Ask::RotateTrigger { key: TriggerKey::of(&row), secret, shown: digest, by };
    match asked.submit(ask).await? {
        Answer::Preview(changes) => return Ok(Json(Commanded::Preview(Preview { changes }))),
        Answer::Rotated { shown: kept } if kept == digest => {}
        Answer::Rotated { .. } => {
            let message = "the secret was made by an earlier request with this idempotency key, \
                           and was shown then; make another one with a new key";
            return Err(Refused::new(Code::Conflict, message));
        }
        other => return Err(Refused::internal(format!("a secret came to {other:?}"))),
    }
    let url = format!("{}/hooks/{hook}", asked.app.url);
    let (workflow, name) = (row.workflow.clone(), row.name.clone());
    Ok(Json(Commanded::done(Rotated { workflow, name, url, auth: *auth, secret: shown })))
}

/// Takes a delivery to a webhook: it starts a run. The same delivery again is answered by the same
/// run.
///
/// With `auth: hmac` it is signed as Standard Webhooks say (`webhook-id`, `webhook-timestamp`,
/// `webhook-signature`), or as GitHub does (`X-Hub-Signature-256`). With `auth: token` it carries
/// the token (`Authorization: Bearer`, or `X-Gitlab-Token`), and an `Idempotency-Key` where it may
/// be repeated.
#[utoipa::path(
    post, path = "/hooks/{id}", params(("id" = String, Path)), request_body = Object,
    responses((status = 200, body = Delivered), (status = 201, body = Delivered)),
    security(())
)]
pub(crate) async fn call(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    At(at): At<HookAt>,
    delivery: Delivery,
) -> Result<(StatusCode, Json<Delivered>)> {
    let row = app.store.hook(&at.id).await?.filter(|row| !row.removed);
    let row = row.ok_or_else(|| Refused::not_found("webhook here"))?;
    let secret = row.secret.as_ref().ok_or_else(|| {
        let message = "the webhook has no secret yet, and takes nothing; its owner makes one with \
                       `ork triggers rotate`";
        Refused::new(Code::Unauthenticated, message)
    })?;
    let known = hooks::admit(secret, &delivery.headers, &delivery.body, random::wall())?;
    let key = known.map(|known| key(&row, &known, &delivery.body));
    if let Some(run) = made_before(&app, row.project, key.as_ref()).await? {
        return Ok((StatusCode::OK, Json(Delivered { run: run.id, repeated: true })));
    }
    let (run, loaded) = started(&app, &row, &asker, &delivery).await?;
    let _open = app.door.enter().await?;
    app.hub.prepare(&app.project, &loaded);
    let id = run.id;
    let (run, _) = made(&app, row.project, run, key).await?;
    Ok((StatusCode::CREATED, Json(Delivered { run, repeated: run != id })))
}

/// The key under which a delivery's answer is kept: no client's key looks like it.
fn key(row: &TriggerRow, known: &str, body: &[u8]) -> Key {
    let hook = row.hook.as_deref().unwrap_or_default();
    let key = format!("hook {hook} {}", Digest::of(known.as_bytes()));
    Key { key, request: Digest::of(body) }
}

/// The run that a delivery starts.
async fn started(
    app: &App,
    row: &TriggerRow,
    asker: &Asker,
    delivery: &Delivery,
) -> Result<(ork_core::run::NewRun, Arc<Loaded>)> {
    let plan::Trigger::Webhook { body, .. } = &row.spec else {
        return Err(Refused::internal("what was called is no webhook"));
    };
    let body = body.read(delivery.value()?).map_err(|wrong| {
        let joint = if wrong.path.is_empty() || wrong.path.starts_with('[') { "" } else { "." };
        let message = format!("expected {}, got {}", wrong.expected, wrong.got);
        Refused::field(format!("body{joint}{}", wrong.path), message)
    })?;
    let loaded = app.plans.get(&*app.store, row.project, &row.workflow, Some(row.version)).await?;
    let version = Declared {
        project: row.project,
        workflow: row.workflow.clone(),
        version: loaded.version,
        plan: loaded.plan.clone(),
        code: loaded.code.clone(),
    };
    let value: Value =
        serde_json::json!({ "body": body, "headers": hooks::told(&delivery.headers) });
    let birth = Birth {
        id: random::run_id().map_err(Refused::internal)?,
        trigger: &row.name,
        value,
        after: None,
        by: Actor { name: "webhook".to_owned(), ..asker.actor(None) },
        at: random::wall(),
    };
    let site = Site { project_name: app.project.clone(), url: app.url.clone() };
    let run = triggered_run(&version, birth, &site).map_err(refused_params)?;
    bounded_params(&run.params)?;
    Ok((run, loaded))
}
