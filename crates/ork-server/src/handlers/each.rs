//! Commands on all runs that a filter finds. The filter is that of the list of runs, and says
//! something; each run is answered for on its own.

use axum::Json;
use ork_api::types::{
    Approve, ApproveEach, Cancel, Commanded, DryRun, Each, Mark, Pause, Rerun, Retry, Run,
    RunQuery, Signal,
};

use super::command::{On, OnRun, OnRuns};
use super::tasks::TaskAt;
use super::{operate, runs};
use crate::extract::At;
use crate::refused::Result;

/// Ends the bodies of all runs that the filter finds, or an instance of each.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/cancel",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Cancel, responses((status = 200, body = Each))
)]
pub(crate) async fn cancel(asked: OnRuns<Cancel>) -> Result<Json<Each>> {
    asked.each(runs::cancel).await
}

/// Does parts of all runs that the filter finds again.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/retry",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Retry, responses((status = 200, body = Each))
)]
pub(crate) async fn retry(asked: OnRuns<Retry>) -> Result<Json<Each>> {
    asked.each(runs::retry).await
}

/// Keeps everything back that would start, in all runs that the filter finds.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/pause",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Pause, responses((status = 200, body = Each))
)]
pub(crate) async fn pause(asked: OnRuns<Pause>) -> Result<Json<Each>> {
    asked.each(operate::pause).await
}

/// Ends the pauses of all runs that the filter finds.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/resume",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Pause, responses((status = 200, body = Each))
)]
pub(crate) async fn resume(asked: OnRuns<Pause>) -> Result<Json<Each>> {
    asked.each(operate::resume).await
}

/// Sets the outcome of an instance in all runs that the filter finds.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/mark",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Mark, responses((status = 200, body = Each))
)]
pub(crate) async fn mark(asked: OnRuns<Mark>) -> Result<Json<Each>> {
    asked.each(operate::mark).await
}

/// Sends a signal to all runs that the filter finds.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/signal",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Signal, responses((status = 200, body = Each))
)]
pub(crate) async fn signal(asked: OnRuns<Signal>) -> Result<Json<Each>> {
    asked.each(operate::signal).await
}

/// Makes a run for each that the filter finds, which does it again.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/rerun",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = Rerun, responses((status = 200, body = Each))
)]
pub(crate) async fn rerun(asked: OnRuns<Rerun>) -> Result<Json<Each>> {
    asked.each(|one| async { operate::rerun(one).await.map(|(_, told)| told) }).await
}

/// Decides on the approval of a task in all runs that the filter finds.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/approve",
    params(("project" = String, Path), RunQuery, DryRun),
    request_body = ApproveEach, responses((status = 200, body = Each))
)]
pub(crate) async fn approve(asked: OnRuns<ApproveEach>) -> Result<Json<Each>> {
    asked.each(approve_one).await
}

async fn approve_one(asked: OnRun<ApproveEach>) -> Result<Json<Commanded<Run>>> {
    let On { app, project, at, asker, body, key, dry_run, expected } = asked;
    let ApproveEach { task, approved, comment, form, reason } = body;
    let task = TaskAt { id: at.id, path: task.as_str().into() };
    let body = Approve { approved, comment, form, reason };
    operate::approve(At(task), On { app, project, at, asker, body, key, dry_run, expected }).await
}
