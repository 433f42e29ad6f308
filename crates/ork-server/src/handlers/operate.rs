//! What people do to runs and workflows: pauses, marks, signals, decisions, reruns.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ork_api::problem::Code;
use ork_api::types::{
    Approve, Commanded, DryRun, List, Mark, MarkState, NewRun, OpenApproval, Part, Pause, Preview,
    Rerun, Run, Signal,
};
use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::rows::{RunRow, VersionId};
use ork_core::run::{self, Command, Decision, Marked, Pausable};
use ork_core::value::Value;
use ork_engine::{Ask, Request};

use super::command::OnRun;
use super::runs::{RunAt, accepted, bounded_reason, loaded_run, made, made_before, new_run, row};
use super::tasks::TaskAt;
use super::workflows::{WorkflowAt, present};
use crate::app::App;
use crate::extract::{At, Fields, InProject, Sent, page};
use crate::guard::Asker;
use crate::plans::Loaded;
use crate::refused::{Refused, Result};
use crate::view;

/// Keeps everything of a run back that would start. What runs goes on.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/pause",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn pause(asked: OnRun<Pause>) -> Result<Json<Commanded<Run>>> {
    set_pause(asked, true).await
}

/// Ends a run's pause.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/resume",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn resume(asked: OnRun<Pause>) -> Result<Json<Commanded<Run>>> {
    set_pause(asked, false).await
}

async fn set_pause(asked: OnRun<Pause>, on: bool) -> Result<Json<Commanded<Run>>> {
    let command = |run, _, by| Command::Pause { what: Pausable::Run(run), on, by };
    asked.told(|body| body.reason.take(), command).await
}

/// Sets the outcome of an instance: a new generation for which nothing is done.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/mark",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Mark, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn mark(asked: OnRun<Mark>) -> Result<Json<Commanded<Run>>> {
    if asked.body.state != MarkState::Success && !asked.body.output.is_null() {
        return Err(Refused::field("output", "only a success has an output"));
    }
    let command = |run, body: Mark, by| {
        let outcome = match body.state {
            MarkState::Success => Marked::Success { output: body.output },
            MarkState::Failed => Marked::Failed,
            MarkState::Skipped => Marked::Skipped,
        };
        Command::Mark { run, path: body.task.as_str().into(), outcome, by }
    };
    asked.told(|body| body.reason.take(), command).await
}

/// Sends a signal to a run, which is kept until a wait takes it.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/signal",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Signal, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn signal(asked: OnRun<Signal>) -> Result<Json<Commanded<Run>>> {
    let command = |run, body: Signal, by| {
        let Signal { name, payload, .. } = body;
        Command::Signal { run, name, payload, by }
    };
    asked.told(|body| body.reason.take(), command).await
}

/// Decides on an approval.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/tasks/{path}/approve",
    params(("project" = String, Path), ("id" = String, Path), ("path" = String, Path), DryRun),
    request_body = Approve, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn approve(
    At(at): At<TaskAt>,
    asked: OnRun<Approve>,
) -> Result<Json<Commanded<Run>>> {
    let command = |run, body: Approve, by| {
        let Approve { approved, comment, form, .. } = body;
        let decision = Decision { approved, comment, form };
        Command::Decide { run, path: at.path, decision, by }
    };
    asked.told(|body| body.reason.take(), command).await
}

/// Approvals that wait for a decision, by run and task.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/approvals",
    params(("project" = String, Path), Part), responses((status = 200, body = List<OpenApproval>))
)]
pub(crate) async fn approvals(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(part): Fields<Part>,
) -> Result<Json<List<OpenApproval>>> {
    let page = page(part.limit, part.cursor)?;
    let after = page.cursor.as_deref().map(place).transpose()?;
    let limit = page.limit;
    let found = app
        .engine
        .inspect(move |machine| {
            let after = after.as_ref().map(|(run, path)| (*run, path));
            machine.approvals(project, after, limit + 1)
        })
        .await?;
    let more = found.len() > limit;
    let items: Vec<OpenApproval> = found.into_iter().take(limit).map(view::approval).collect();
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|last| format!("{}/{}", last.run, last.path));
    Ok(Json(List { items, next_cursor }))
}

fn place(cursor: &str) -> Result<(RunId, InstancePath)> {
    let parts = cursor.split_once('/').and_then(|(run, path)| Some((run.parse().ok()?, path)));
    let (run, path) =
        parts.ok_or_else(|| Refused::malformed("cursor: it is not one of this list"))?;
    Ok((run, path.into()))
}

/// Keeps everything of a workflow back that would start. New runs are accepted and wait.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/workflows/{name}/pause",
    params(("project" = String, Path), ("name" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Preview))
)]
pub(crate) async fn pause_workflow(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Fields(tried): Fields<DryRun>,
    Extension(asker): Extension<Asker>,
    sent: Sent<Pause>,
) -> Result<Json<Preview>> {
    of_workflow(&app, (project, at.name), &asker, sent, true, tried.dry_run).await
}

/// Ends a workflow's pause.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/workflows/{name}/resume",
    params(("project" = String, Path), ("name" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Preview))
)]
pub(crate) async fn resume_workflow(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<WorkflowAt>,
    Fields(tried): Fields<DryRun>,
    Extension(asker): Extension<Asker>,
    sent: Sent<Pause>,
) -> Result<Json<Preview>> {
    of_workflow(&app, (project, at.name), &asker, sent, false, tried.dry_run).await
}

/// Keeps everything of a project back that would start.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/pause", params(("project" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Preview))
)]
pub(crate) async fn pause_project(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(tried): Fields<DryRun>,
    Extension(asker): Extension<Asker>,
    sent: Sent<Pause>,
) -> Result<Json<Preview>> {
    pause_all(&app, project, Pausable::Project(project), &asker, sent, (true, tried.dry_run)).await
}

/// Ends a project's pause.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/resume", params(("project" = String, Path), DryRun),
    request_body = Pause, responses((status = 200, body = Preview))
)]
pub(crate) async fn resume_project(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Fields(tried): Fields<DryRun>,
    Extension(asker): Extension<Asker>,
    sent: Sent<Pause>,
) -> Result<Json<Preview>> {
    pause_all(&app, project, Pausable::Project(project), &asker, sent, (false, tried.dry_run)).await
}

async fn of_workflow(
    app: &App,
    (project, name): (ProjectId, String),
    asker: &Asker,
    sent: Sent<Pause>,
    on: bool,
    dry_run: bool,
) -> Result<Json<Preview>> {
    let row = app.store.workflow(project, &name).await?;
    present(row, &name)?;
    pause_all(app, project, Pausable::Workflow(project, name), asker, sent, (on, dry_run)).await
}

/// Pauses all runs of something, or lets them go on; answers with the runs for which that changes
/// something.
async fn pause_all(
    app: &App,
    project: ProjectId,
    what: Pausable,
    asker: &Asker,
    sent: Sent<Pause>,
    (on, dry_run): (bool, bool),
) -> Result<Json<Preview>> {
    let by = asker.actor(bounded_reason(sent.body.reason)?);
    let asked = what.clone();
    let changes = app.engine.inspect(move |machine| machine.preview_pause(&asked, on)).await?;
    if !dry_run {
        let ask = Ask::Run(Command::Pause { what, on, by });
        app.engine.submit(Request::new(project, ask).with_key(sent.key)).await?;
    }
    Ok(Json(Preview { changes }))
}

/// Makes a run that does another one again: on its version and with its params, or on others.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/rerun",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Rerun, responses((status = 201, body = Commanded<Run>))
)]
pub(crate) async fn rerun(asked: OnRun<Rerun>) -> Result<(StatusCode, Json<Commanded<Run>>)> {
    let OnRun { app, project, at: RunAt { id }, asker, body, key, dry_run, .. } = asked;
    if let Some(row) = made_before(&app, project, key.as_ref()).await? {
        let run = view::run(row, &app.project);
        return Ok((StatusCode::CREATED, Json(Commanded::done(run))));
    }
    let earlier = row(&app, project, id).await?;
    let loaded = version(&app, project, &asker, &earlier, &body).await?;
    if dry_run {
        let active = loaded_run(&app, project, id).await?;
        let changes = run::preview_rerun(&active, &loaded.plan, &loaded.code);
        return Ok((StatusCode::OK, Json(Commanded::Preview(Preview { changes }))));
    }
    let wanted = again(&earlier, &loaded, body);
    let mut new = new_run(&app, project, &asker, &loaded, wanted)?;
    new.rerun_of = Some(id);
    "rerun".clone_into(&mut new.trigger);
    let _open = app.door.enter().await?;
    app.hub.prepare(&app.project, &loaded);
    let accepted = accepted(&new);
    let (made, created_at) = made(&app, project, new, key).await?;
    let row = if made == accepted.id {
        RunRow { created_at, ..accepted }
    } else {
        row(&app, project, made).await?
    };
    Ok((StatusCode::CREATED, Json(Commanded::done(view::run(row, &app.project)))))
}

async fn version(
    app: &App,
    project: ProjectId,
    asker: &Asker,
    earlier: &RunRow,
    body: &Rerun,
) -> Result<Arc<Loaded>> {
    let version = match (body.version, body.latest) {
        (Some(_), true) => return Err(Refused::field("latest", "send it or `version`, not both")),
        (Some(version), false) => Some(VersionId(version)),
        (None, true) => None,
        (None, false) => Some(earlier.version),
    };
    if version.is_some_and(VersionId::is_draft) && !asker.local {
        return Err(Refused::new(
            Code::Forbidden,
            "drafts are run on the server's machine alone; send a version from 1 on",
        ));
    }
    app.plans.get(&*app.store, project, &earlier.workflow, version).await
}

/// The new run: with the params that were sent and, of the earlier run's, those that its version
/// still has.
fn again(earlier: &RunRow, loaded: &Loaded, body: Rerun) -> NewRun {
    let Rerun { params, params_text, reason, .. } = body;
    let mut all = params;
    if let Value::Object(old) = &earlier.params {
        for (name, value) in old {
            let sent = all.contains_key(name) || params_text.contains_key(name);
            if !sent && loaded.plan.params.contains_key(name) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    NewRun {
        params: all,
        params_text,
        logical_time: Some(earlier.logical_time.clone()),
        labels: earlier.labels.clone(),
        reason,
        ..NewRun::default()
    }
}
