//! Workflows and their versions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use ork_api::problem::{Code, Problem};
use ork_api::stamp::Stamp;
use ork_api::types::{
    Commanded, Deploy, Deployed, DescribeWorkflow, Diff, DiffQuery, DryRun, HistoryItem, List,
    MAX_LABEL, MAX_LABELS, Part, Preview, Removal, Validate, Validated, Version, VersionItem,
    Workflow,
};
use ork_core::catalog::{self, Patch};
use ork_core::difference::differences;
use ork_core::ids::ProjectId;
use ork_core::lang::{self, Compiled, Diagnostic, Severity, Sources};
use ork_core::plan::Plan;
use ork_core::rows::{CodeRef, VersionId, WorkflowRow};
use ork_core::value::Digest;
use ork_engine::{Answer, Ask, Request};
use ork_store::Blobs as _;
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::app::App;
use crate::code::{Bundle, InCatalog};
use crate::extract::{At, Fields, InProject, Sent, page};
use crate::guard::Asker;
use crate::handlers::command::{On, expected, removed};
use crate::handlers::runs::{bounded_labels, bounded_reason};
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

/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 16 << 10;

/// A workflow with its `ETag`.
type Tagged = ([(HeaderName, HeaderValue); 1], Json<Workflow>);

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
) -> Result<Tagged> {
    tagged(viewed(&app, project, &at.name).await?)
}

/// What was done to a workflow as a whole, the latest first; what was done to one that is deleted,
/// too.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/workflows/{name}/history",
    params(("project" = String, Path), ("name" = String, Path), Part),
    responses((status = 200, body = List<HistoryItem>))
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Fields(part): Fields<Part>,
) -> Result<Json<List<HistoryItem>>> {
    let page = page(part.limit, part.cursor)?;
    let found = app.store.history(project, &at.name, &page).await?;
    if found.items.is_empty() && app.store.workflow(project, &at.name).await?.is_none() {
        return Err(Refused::not_found(format_args!("workflow `{}`", at.name)));
    }
    let items = found.items.into_iter().map(view::history).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

/// Changes what people read of a workflow, and whether it is paused, without a version: a JSON
/// merge patch. With `If-Match` only where the workflow is as it was then.
#[utoipa::path(
    patch, path = "/api/v1/projects/{project}/workflows/{name}",
    params(("project" = String, Path), ("name" = String, Path), DryRun),
    request_body = DescribeWorkflow, responses((status = 200, body = Commanded<Workflow>))
)]
pub(crate) async fn describe(asked: On<WorkflowAt, DescribeWorkflow>) -> Result<Response> {
    let DescribeWorkflow { description, tags, labels, owner, paused, reason } = asked.body.clone();
    let by = asked.by(reason)?;
    let labels_sent = labels.is_some();
    let labels = labels.map(Option::unwrap_or_default);
    let patch = Patch {
        description,
        tags: tags.map(Option::unwrap_or_default),
        clear_labels: labels_sent && asked.body.labels == Some(None),
        labels: labels.unwrap_or_default(),
        owner,
    };
    bounded(&asked, &patch).await?;
    let workflow = asked.at.name.clone();
    let ask = Ask::Describe {
        workflow: workflow.clone(),
        patch: Box::new(patch),
        paused,
        expected: asked.expected,
        by,
    };
    match asked.submit(ask).await? {
        Answer::Preview(changes) => Ok(Json(Preview { changes }).into_response()),
        Answer::Done => {
            Ok(tagged(viewed(&asked.app, asked.project, &workflow).await?)?.into_response())
        }
        other => Err(Refused::internal(format!("a description came to {other:?}"))),
    }
}

/// Deletes a workflow of which no run is active: its schedules and triggers are no more. Its runs,
/// its versions and its history stay, and a deploy of it brings it back. Answers with what that
/// changes.
#[utoipa::path(
    delete, path = "/api/v1/projects/{project}/workflows/{name}",
    params(("project" = String, Path), ("name" = String, Path), Removal),
    responses((status = 200, body = Preview))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Extension(asker): Extension<Asker>,
    Fields(Removal { dry_run, reason }): Fields<Removal>,
    headers: HeaderMap,
) -> Result<Json<Preview>> {
    let (workflow, expected) = (at.name, expected(&headers)?);
    let by = asker.actor(bounded_reason(reason)?);
    let ask = Ask::Delete { workflow: workflow.clone(), expected, by };
    let preview = removed(&app, Request::new(project, ask), dry_run).await?;
    app.plans.deployed(project, &workflow);
    Ok(preview)
}

/// A workflow that is there, be it deleted.
async fn viewed(app: &App, project: ProjectId, name: &str) -> Result<Workflow> {
    let row = app.store.workflow(project, name).await?;
    let row = row.ok_or_else(|| Refused::not_found(format_args!("workflow `{name}`")))?;
    Ok(view::workflow(row, &app.store.pauses().await?))
}

fn tagged(workflow: Workflow) -> Result<Tagged> {
    let tag = HeaderValue::from_str(&format!("\"{}\"", workflow.revision));
    Ok(([(header::ETAG, tag.map_err(Refused::internal)?)], Json(workflow)))
}

/// A workflow that is there and is not deleted.
pub(crate) fn present(row: Option<WorkflowRow>, name: &str) -> Result<WorkflowRow> {
    let row = row.ok_or_else(|| Refused::not_found(format_args!("workflow `{name}`")))?;
    match row.deleted_at {
        None => Ok(row),
        Some(at) => {
            let at = Stamp(at);
            let message =
                format!("workflow `{name}` was deleted at {at}; deploy it to bring it back");
            Err(Refused::new(Code::WorkflowDeleted, message))
        }
    }
}

/// Refuses what would make a deleted workflow run.
pub(crate) async fn refuse_deleted(app: &App, project: ProjectId, name: &str) -> Result<()> {
    match app.store.workflow(project, name).await? {
        Some(row) if row.deleted_at.is_some() => present(Some(row), name).map(drop),
        _ => Ok(()),
    }
}

/// Refuses metadata that is more than people read.
async fn bounded(asked: &On<WorkflowAt, DescribeWorkflow>, patch: &Patch) -> Result<()> {
    let row = asked.app.store.workflow(asked.project, &asked.at.name).await?;
    let about = patch.clone().applied(&present(row, &asked.at.name)?.metadata);
    let long = |text: &Option<String>, most| text.as_ref().is_some_and(|text| text.len() > most);
    if long(&about.description, MAX_DESCRIPTION) {
        let message = format!("it may have {MAX_DESCRIPTION} bytes");
        return Err(Refused::field("description", message));
    }
    if long(&about.owner, MAX_LABEL) {
        return Err(Refused::field("owner", format!("it may have {MAX_LABEL} bytes")));
    }
    let good = |tag: &String| (1..=MAX_LABEL).contains(&tag.len());
    if about.tags.len() > MAX_LABELS || !about.tags.iter().all(good) {
        let message = format!("at most {MAX_LABELS}, of 1 to {MAX_LABEL} bytes each");
        return Err(Refused::field("tags", message));
    }
    bounded_labels(&about.labels)
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
    let request = Request::deploy(project, deploy).with_key(key);
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
