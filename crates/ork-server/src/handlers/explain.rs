//! Why something does not go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ork_api::stamp::Stamp;
use ork_api::types::{Explanation, MAX_LIMIT, TaskExplanation};
use ork_core::ids::InstancePath;
use ork_core::rows::TaskRow;
use ork_core::run::{Blocker, TaskState};
use ork_store::Page;

use super::runs::{RunAt, row};
use crate::app::App;
use crate::extract::{At, InProject};
use crate::refused::Result;
use crate::view;

/// The states that call for an explanation.
const UNWELL: [TaskState; 9] = [
    TaskState::Pending,
    TaskState::Queued,
    TaskState::Dispatched,
    TaskState::Running,
    TaskState::Deferred,
    TaskState::Stopping,
    TaskState::Failed,
    TaskState::UpstreamFailed,
    TaskState::Cancelled,
];

/// Why a run does not go on, or how it ended: what each of its open instances waits for, by the
/// same code that admits them.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}/explain",
    params(("project" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Explanation))
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
) -> Result<Json<Explanation>> {
    let run = row(&app, project, at.id).await?;
    let page = Page { limit: MAX_LIMIT, cursor: None };
    let found = app.store.tasks(project, at.id, &UNWELL, &page).await?;
    let paths: Vec<InstancePath> = found.items.iter().map(|task| task.path.clone()).collect();
    let id = at.id;
    let (of_run, blockers, wakeup) = app
        .engine
        .inspect(move |machine| {
            let blockers = paths.iter().map(|path| machine.blockers(id, path).unwrap_or_default());
            let of_run = machine.run_blockers(id).unwrap_or_default();
            (of_run, blockers.collect::<Vec<_>>(), machine.run_wakeup(id))
        })
        .await?;
    let now = app.clock.now();
    let next_wakeup = wakeup.filter(|_| !run.state.is_terminal());
    let well = app.store.tasks(project, at.id, &[TaskState::Success], &page).await?;
    let reused = well.items.into_iter().filter(|task| task.cache.is_some());
    let tasks = found.items.into_iter().zip(blockers).chain(reused.map(|task| (task, Vec::new())));
    Ok(Json(Explanation {
        run: run.id,
        state: run.state,
        failure: run.failure,
        blockers: of_run.iter().map(view::blocker).collect(),
        tasks: tasks.map(|(task, blockers)| task_explanation(task, &blockers)).collect(),
        truncated: found.next.is_some(),
        next_wakeup: next_wakeup.map(|at| Stamp(now.wall + (at - now.mono))),
    }))
}

fn task_explanation(task: TaskRow, blockers: &[Blocker]) -> TaskExplanation {
    TaskExplanation {
        path: task.path,
        state: task.state,
        blockers: blockers.iter().map(view::blocker).collect(),
        cause: task.cause,
        failure: task.failure,
        cache: task.cache,
    }
}
