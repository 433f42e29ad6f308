//! Workflows and their versions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ork_api::problem::{Code, Problem};
use ork_api::types::{
    Deploy, Deployed, Diff, DiffQuery, List, Part, Validate, Validated, Version, VersionItem,
    Workflow,
};
use ork_core::catalog;
use ork_core::difference::differences;
use ork_core::ids::ProjectId;
use ork_core::lang::{self, Compiled, Diagnostic, Severity, Sources};
use ork_core::plan::Plan;
use ork_core::rows::{CodeRef, VersionId};
use ork_core::value::Digest;
use ork_engine::{Answer, Ask, Request};
use ork_store::Blobs as _;
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::app::App;
use crate::code::{Bundle, InCatalog};
use crate::extract::{At, Fields, InProject, Sent, page};
use crate::guard::Asker;
use crate::handlers::runs::bounded_reason;
use crate::refused::{Refused, Result};
use crate::view;

/// A workflow in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct WorkflowAt {
    pub(crate) name: String,
}

/// A version in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionAt {
    name: String,
    version: i64,
}

/// Workflows by name.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows",
    params(("project" = String, Path), Part), responses((status = 200, body = List<Workflow>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(part): Fields<Part>,
) -> Result<Json<List<Workflow>>> {
    let found = app.store.workflows(project, &page(part.limit, part.cursor)?).await?;
    let pauses = app.store.pauses().await?;
    let items = found.items.into_iter().map(|row| view::workflow(row, &pauses)).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// A workflow.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows/{name}",
    params(("project" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Workflow))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
) -> Result<Json<Workflow>> {
    let row = app.store.workflow(project, &at.name).await?;
    let row = row.ok_or_else(|| Refused::not_found(format_args!("workflow `{}`", at.name)))?;
    Ok(Json(view::workflow(row, &app.store.pauses().await?)))
}

/// A workflow's versions without its drafts, newest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows/{name}/versions",
    params(("project" = String, Path), ("name" = String, Path), Part),
    responses((status = 200, body = List<VersionItem>))
)]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<VersionItem>>> {
    let page = page(part.limit, part.cursor)?;
    let found = app.store.versions(project, &at.name, &page).await?;
    if found.items.is_empty() && app.store.workflow(project, &at.name).await?.is_none() {
        return Err(Refused::not_found(format_args!("workflow `{}`", at.name)));
    }
    let items = found.items.iter().map(view::version_item).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// A version.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows/{name}/versions/{version}",
    params(("project" = String, Path), ("name" = String, Path), ("version" = i64, Path)),
    responses((status = 200, body = Version))
)]
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<VersionAt>,
) -> Result<Json<Version>> {
    let row = app.store.version(project, &at.name, VersionId(at.version)).await?;
    let row = row.ok_or_else(|| {
        Refused::not_found(format_args!("version {} of workflow `{}`", at.version, at.name))
    })?;
    Ok(Json(view::version(row)))
}

/// What differs between two versions, in their structure: by default between the current one and
/// the one before.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows/{name}/diff",
    params(("project" = String, Path), ("name" = String, Path), DiffQuery),
    responses((status = 200, body = Diff))
)]
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Fields(query): Fields<DiffQuery>,
) -> Result<Json<Diff>> {
    let get = async |version| app.plans.get(&*app.store, project, &at.name, version).await;
    let to = get(query.to.map(VersionId)).await?;
    let from = VersionId(query.from.unwrap_or(to.version.0 - 1));
    if from.0 == 0 {
        let message = "version 1 is the first; there is none before it to compare with";
        return Err(Refused::field("from", message));
    }
    let from = get(Some(from)).await?;
    let changes = differences(&from.plan, &to.plan);
    let code = from.code != to.code;
    let (from, to) = (from.version.0, Some(to.version.0));
    Ok(Json(Diff { workflow: at.name, from, to, code, changes }))
}

/// What differs between the current version and what is sent.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/workflows/{name}/diff",
    params(("project" = String, Path), ("name" = String, Path)),
    request_body = Validate, responses((status = 200, body = Diff))
)]
pub(crate) async fn diff_with(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Sent { body, .. }: Sent<Validate>,
) -> Result<Json<Diff>> {
    let from = app.plans.get(&*app.store, project, &at.name, None).await?;
    let compiled = compile_bundle(&app, project, (&body.file, &body.source), body.bundle).await?;
    let (plan, _) = checked(compiled)?;
    let code = body.bundle.is_some_and(|digest| from.code != CodeRef::Bundle { digest });
    let changes = differences(&from.plan, &plan);
    Ok(Json(Diff { workflow: at.name, from: from.version.0, to: None, code, changes }))
}

/// Makes a version current, if its content is not already. The bundle is put among the blobs
/// before.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/workflows", params(("project" = String, Path)),
    request_body = Deploy, responses((status = 200, body = Deployed), (status = 201, body = Deployed))
)]
pub(crate) async fn deploy(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Extension(asker): Extension<Asker>,
    Sent { body, key }: Sent<Deploy>,
) -> Result<(StatusCode, Json<Deployed>)> {
    let bundle = match body.bundle {
        Some(digest) => digest,
        None => app.logs.blobs().put(Bundle::nothing()).await?,
    };
    let compiled = compile_bundle(&app, project, (&body.file, &body.source), Some(bundle)).await?;
    let content = [compiled.digest.0, bundle.0].concat();
    let (plan, diagnostics) = checked(compiled)?;
    let name = plan.name.clone();
    let deploy = catalog::Deploy {
        digest: Digest::of(&content),
        source: body.source,
        plan: Arc::new(plan),
        code: CodeRef::Bundle { digest: bundle },
        draft: false,
        by: asker.actor(bounded_reason(body.reason)?),
    };
    let request = Request { project, ask: Ask::Deploy(Box::new(deploy)), key };
    let Answer::Deployed { version, created } = app.engine.submit(request).await? else {
        return Err(Refused::internal("a deploy came to something else"));
    };
    app.plans.deployed(project, &name);
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let deployed = Deployed { workflow: name, version: version.0, created, diagnostics };
    Ok((status, Json(deployed)))
}

/// Checks a workflow.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/validate", params(("project" = String, Path)),
    request_body = Validate, responses((status = 200, body = Validated))
)]
pub(crate) async fn validate(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Sent { body, .. }: Sent<Validate>,
) -> Result<Json<Validated>> {
    let compiled = compile_bundle(&app, project, (&body.file, &body.source), body.bundle).await?;
    let ok = compiled.plan.is_some();
    Ok(Json(Validated { ok, diagnostics: compiled.diagnostics }))
}

async fn compile_bundle(
    app: &App,
    project: ProjectId,
    (file, source): (&str, &str),
    bundle: Option<Digest>,
) -> Result<Compiled> {
    let content = match bundle {
        None => Bundle::nothing(),
        Some(digest) => {
            let missing =
                || Refused::field("bundle", format!("there is no blob {digest}; put it first"));
            let size = app.logs.blobs().size(&digest).await?.ok_or_else(missing)?;
            let most = app.limits.bundle;
            if size > most as u64 {
                let message = format!("it has {size} bytes; the limit (limits.bundle) is {most}");
                return Err(Refused::field("bundle", message));
            }
            app.logs.blobs().get(&digest).await?.ok_or_else(missing)?
        }
    };
    let file = (file.to_owned(), source.to_owned());
    compile(app, project, file, move || Bundle::open(content)).await
}

/// Compiles off the threads that answer requests.
pub(crate) async fn compile<S: Sources + 'static>(
    app: &App,
    project: ProjectId,
    (file, source): (String, String),
    sources: impl FnOnce() -> std::result::Result<S, String> + Send + 'static,
) -> Result<Compiled> {
    let limits = app.limits.language;
    let (store, hub) = (Arc::clone(&app.store), Arc::clone(&app.hub));
    let runtime = Handle::current();
    let compiling = tokio::task::spawn_blocking(move || {
        let sources = InCatalog { files: sources()?, project, store, hub, runtime };
        Ok(lang::compile_within(&file, source.as_bytes(), &sources, &limits))
    });
    let compiled: std::result::Result<Compiled, String> =
        compiling.await.map_err(Refused::internal)?;
    compiled.map_err(|message| Refused::field("bundle", message))
}

/// The plan with its warnings, or a refusal with all findings.
pub(crate) fn checked(compiled: Compiled) -> Result<(Plan, Vec<Diagnostic>)> {
    let diagnostics = compiled.diagnostics;
    match compiled.plan {
        Some(plan) => Ok((plan, diagnostics)),
        None => {
            let first = diagnostics.iter().find(|found| found.severity == Severity::Error);
            let detail = match first {
                Some(found) => format!("{}:{}: {}", found.file, found.line, found.message),
                None => "the workflow is not accepted".to_owned(),
            };
            let problem = Problem::new(Code::WorkflowInvalid, detail);
            Err(Refused(Box::new(Problem { diagnostics, ..problem })))
        }
    }
}
