//! Runs.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::{Extension, Json};
use indexmap::IndexMap;
use ork_api::problem::{Code, FieldError};
use ork_api::stamp::{NoStamp, Stamp};
use ork_api::types::{
    Cancel, Commanded, Draft, DryRun, List, MAX_LABEL, MAX_LABELS, MAX_REASON, NewRun, Retry, Run,
    RunQuery,
};
use ork_core::catalog;
use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::lang::{Given, ParamError, RunFacts, bind_params};
use ork_core::plan::Plan;
use ork_core::rows::{ActiveRun, CodeRef, RunRow, VersionId, WorkflowRow};
use ork_core::run::{self, Command, RetrySelection, RunState};
use ork_core::time::Wall;
use ork_core::value::{Digest, INLINE_LIMIT, Value};
use ork_engine::{Answer, Ask, Key, Request};
use ork_store::{MAX_PAGE, Page, RunFilter};
use serde::Deserialize;

use super::artifacts::keep_files;
use crate::app::App;
use crate::code::Folder;
use crate::door::Entered;
use crate::extract::{At, InProject, Sent, fields, page, words};
use crate::guard::Asker;
use crate::handlers::command::OnRun;
use crate::handlers::workflows::{checked, compile, refuse_deleted};
use crate::plans::Loaded;
use crate::refused::{Refused, Result};
use crate::{random, view};

/// A run in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct RunAt {
    pub(crate) id: RunId,
}

/// The row of a run.
pub(crate) async fn row(app: &App, project: ProjectId, id: RunId) -> Result<RunRow> {
    let row = app.store.run(project, id).await?;
    row.ok_or_else(|| Refused::not_found(format_args!("run {id}")))
}

/// Refuses a run that is not there.
pub(crate) async fn known(app: &App, project: ProjectId, id: RunId) -> Result<()> {
    row(app, project, id).await.map(drop)
}

/// Runs, newest first unless `sort` says otherwise. Labels are filtered by as `label.KEY=VALUE`.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs",
    params(("project" = String, Path), RunQuery),
    responses((status = 200, body = List<Run>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    uri: Uri,
) -> Result<Json<List<Run>>> {
    let (query, labels) = filter(&uri)?;
    let page = page(query.limit, query.cursor.clone())?;
    let filter = run_filter(&app, project, query, labels).await?;
    let found = app.store.runs(project, &filter, &page).await?;
    let items = found.items.into_iter().map(|row| view::run(row, &app.project)).collect();
    Ok(Json(List { items, next_cursor: found.next }))
}

async fn run_filter(
    app: &App,
    project: ProjectId,
    query: RunQuery,
    labels: Vec<(String, String)>,
) -> Result<RunFilter> {
    let workflows = chosen(app, project, &query).await?;
    Ok(RunFilter {
        workflows,
        oldest_first: oldest_first(query.sort.as_deref())?,
        states: words("state", query.state.as_deref())?,
        trigger: query.trigger,
        labels,
        created_after: query.created_after.map(|stamp| stamp.0),
        created_before: query.created_before.map(|stamp| stamp.0),
    })
}

/// The runs that a command is for.
pub(crate) struct Chosen(pub(crate) RunFilter);

/// The runs that a query finds, and whether it is only told what would become of them. All runs
/// are not meant by saying nothing.
pub(crate) async fn chosen_runs(
    app: &App,
    project: ProjectId,
    uri: &Uri,
) -> Result<(Chosen, DryRun)> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let (tried, rest): (Vec<_>, Vec<_>) = pairs.partition(|pair| pair.starts_with("dry_run="));
    let tried = fields(&in_query(&tried)?)?;
    let (query, labels) = filter(&in_query(&rest)?)?;
    let RunQuery { limit, cursor, .. } = &query;
    if limit.is_some() || cursor.is_some() {
        return Err(Refused::malformed("a command is for all runs that the filter finds"));
    }
    let asked = RunQuery { sort: None, ..query.clone() };
    if asked == RunQuery::default() && labels.is_empty() {
        let message = "say which runs: by `workflow`, `state`, `label.KEY`, `tag`, `trigger`, \
                       `created_after` or `created_before`";
        return Err(Refused::malformed(message));
    }
    let said = [&query.workflow, &query.state, &query.tag, &query.q, &query.trigger];
    let empty = |text: &str| text.split(',').all(|word| word.trim().is_empty());
    if said.into_iter().flatten().any(|text| empty(text)) {
        return Err(Refused::malformed(
            "a part of the filter says nothing: leave it out to mean all",
        ));
    }
    Ok((Chosen(run_filter(app, project, query, labels).await?), tried))
}

fn in_query(pairs: &[&str]) -> Result<Uri> {
    let uri = format!("/?{}", pairs.join("&"));
    uri.parse::<Uri>().map_err(|error| Refused::malformed(error.to_string()))
}

/// The most workflows whose runs are listed together by a tag or a text.
const MOST_WORKFLOWS: usize = 200;

/// The workflows whose runs are asked for; none: all.
async fn chosen(app: &App, project: ProjectId, query: &RunQuery) -> Result<Option<Vec<String>>> {
    if query.tag.is_none() && query.q.is_none() {
        return Ok(query.workflow.clone().map(|name| vec![name]));
    }
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let part = Page { limit: MAX_PAGE, cursor };
        let found = app.store.workflows(project, &part).await?;
        names.extend(found.items.iter().filter(|row| is_chosen(query, row)).map(named));
        if names.len() > MOST_WORKFLOWS {
            let field = if query.tag.is_some() { "tag" } else { "q" };
            let message = format!("more than {MOST_WORKFLOWS} workflows have it; say more");
            return Err(Refused::field(field, message));
        }
        cursor = found.next;
        if cursor.is_none() {
            return Ok(Some(names));
        }
    }
}

fn named(row: &WorkflowRow) -> String {
    row.name.clone()
}

fn is_chosen(query: &RunQuery, row: &WorkflowRow) -> bool {
    let has = |part: &str| {
        let part = part.to_lowercase();
        let about = &row.metadata;
        let texts = [&row.name].into_iter().chain(&about.description).chain(&about.tags);
        texts.into_iter().any(|text| text.to_lowercase().contains(&part))
    };
    query.workflow.as_ref().is_none_or(|name| *name == row.name)
        && query.tag.as_ref().is_none_or(|tag| row.metadata.tags.contains(tag))
        && query.q.as_deref().is_none_or(has)
}

fn oldest_first(sort: Option<&str>) -> Result<bool> {
    match sort {
        None | Some("-created_at") => Ok(false),
        Some("created_at") => Ok(true),
        Some(other) => {
            let message =
                format!("`{other}` is no order of runs; take `created_at` or `-created_at`");
            Err(Refused::field("sort", message))
        }
    }
}

/// The query's fields, and its labels apart: their names are the client's.
fn filter(uri: &Uri) -> Result<(RunQuery, Vec<(String, String)>)> {
    let is_label = |pair: &&str| pair.starts_with("label.");
    let pairs = || uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let labels: Vec<_> = pairs().filter(is_label).collect();
    let labels: Vec<(String, String)> = fields(&in_query(&labels)?)?;
    let labels = labels.into_iter().filter_map(|(name, value)| {
        name.strip_prefix("label.").map(|name| (name.to_owned(), value))
    });
    let rest: Vec<_> = pairs().filter(|pair| !is_label(pair)).collect();
    let rest = fields(&in_query(&rest)?)?;
    Ok((rest, labels.collect()))
}

/// A run.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs/{id}",
    params(("project" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Run))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    At(at): At<RunAt>,
) -> Result<Json<Run>> {
    Ok(Json(view::run(row(&app, project, at.id).await?, &app.project)))
}

/// Makes a run of a workflow, or of a file in place. The answer shows it as it was accepted.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs", params(("project" = String, Path)),
    request_body = NewRun, responses((status = 201, body = Run))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    InProject(project): InProject,
    Extension(asker): Extension<Asker>,
    Sent { body, key }: Sent<NewRun>,
) -> Result<(StatusCode, Json<Run>)> {
    let created = |row| (StatusCode::CREATED, Json(view::run(row, &app.project)));
    // A draft is compiled, and so the key comes first. Else the engine looks for it, unless there
    // is nothing that it could be given.
    if body.draft.is_some()
        && let Some(row) = made_before(&app, project, key.as_ref()).await?
    {
        return Ok(created(row));
    }
    let (run, _open) = match asked(&app, project, &asker, body).await {
        Ok(asked) => asked,
        Err(refused) => {
            let before = made_before(&app, project, key.as_ref()).await?;
            return before.map(created).ok_or(refused);
        }
    };
    let accepted = accepted(&run);
    let (id, created_at) = made(&app, project, run, key).await?;
    let row = if id == accepted.id {
        RunRow { created_at, ..accepted }
    } else {
        row(&app, project, id).await?
    };
    Ok((StatusCode::CREATED, Json(view::run(row, &app.project))))
}

/// The run that is asked for, for as long as the door is open to it. Workers hear of it.
async fn asked<'a>(
    app: &'a App,
    project: ProjectId,
    asker: &Asker,
    body: NewRun,
) -> Result<(run::NewRun, Entered<'a>)> {
    let loaded = match (&body.workflow, &body.draft) {
        (Some(name), None) => {
            let version = body.version.map(VersionId);
            if version.is_some_and(|version| version.0 < 1) && !asker.local {
                return Err(Refused::new(
                    Code::Forbidden,
                    "drafts are run on the server's machine alone; send a version from 1 on",
                ));
            }
            app.plans.get(&*app.store, project, name, version).await?
        }
        (None, Some(draft)) => drafted(app, project, asker, draft).await?,
        _ => return Err(Refused::field("workflow", "send either `workflow` or `draft`")),
    };
    let run = new_run(app, project, asker, &loaded, body)?;
    let open = app.door.enter().await?;
    app.hub.prepare(&app.project, &loaded);
    Ok((run, open))
}

/// The run that an earlier request with this key made. It is the answer whatever became of its
/// workflow since.
pub(crate) async fn made_before(
    app: &App,
    project: ProjectId,
    key: Option<&Key>,
) -> Result<Option<RunRow>> {
    let Some(key) = key else { return Ok(None) };
    let Some(kept) = app.store.answer(project, &key.key).await? else { return Ok(None) };
    if kept.request != key.request {
        return Err(Refused::new(
            Code::IdempotencyKeyReused,
            format!(
                "the idempotency key {:?} was used for another request; use a new key",
                key.key
            ),
        ));
    }
    match serde_json::from_value(kept.answer).map_err(Refused::internal)? {
        Answer::Created { run, .. } => row(app, project, run).await.map(Some),
        other => Err(Refused::internal(format!("a run was asked for, and came to {other:?}"))),
    }
}

pub(crate) async fn made(
    app: &App,
    project: ProjectId,
    run: run::NewRun,
    key: Option<Key>,
) -> Result<(RunId, Wall)> {
    keep_files(app, &run.params).await?;
    let ask = Ask::Run(Command::Create(Box::new(run)));
    match app.engine.submit(Request::new(project, ask).with_key(key)).await? {
        Answer::Created { run, at } => Ok((run, at)),
        other => Err(Refused::internal(format!("a run was asked for, and came to {other:?}"))),
    }
}

pub(crate) fn new_run(
    app: &App,
    project: ProjectId,
    asker: &Asker,
    loaded: &Loaded,
    body: NewRun,
) -> Result<run::NewRun> {
    let id = random::run_id().map_err(Refused::internal)?;
    let logical_time = match &body.logical_time {
        None => Stamp(random::wall()),
        Some(text) => text
            .parse()
            .map_err(|error: NoStamp| Refused::field("logical_time", error.to_string()))?,
    };
    let logical_time = logical_time.to_string();
    let by = asker.actor(bounded_reason(body.reason)?);
    bounded_labels(&body.labels)?;
    let url = format!("{}/projects/{}/runs/{id}", app.url, app.project);
    let facts = RunFacts {
        id: id.to_string(),
        workflow: loaded.plan.name.clone(),
        project: app.project.to_string(),
        logical_time: logical_time.clone(),
        url: url.clone(),
    };
    let given = given(body.params, body.params_text)?;
    let params = bind_params(&loaded.plan, &given, &facts).map_err(refused_params)?;
    bounded_params(&params)?;
    Ok(run::NewRun {
        project,
        project_name: app.project.clone(),
        id,
        version: loaded.version,
        plan: loaded.plan.clone(),
        code: loaded.code.clone(),
        params,
        logical_time,
        labels: body.labels,
        trigger: "manual".to_owned(),
        url,
        rerun_of: None,
        after: None,
        by,
    })
}

pub(crate) fn bounded_params(params: &Value) -> Result<()> {
    let size = serde_json::to_vec(params).map_err(Refused::internal)?.len();
    if size <= INLINE_LIMIT {
        return Ok(());
    }
    let message = format!(
        "they have {size} bytes as JSON, and {INLINE_LIMIT} is the most; put large data into a \
         file and send its path"
    );
    Err(Refused::field("params", message))
}

pub(crate) fn bounded_labels(labels: &IndexMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        let message = format!("there are {}, and {MAX_LABELS} is the most", labels.len());
        return Err(Refused::field("labels", message));
    }
    if labels.contains_key("") {
        return Err(Refused::field("labels", "one has no name"));
    }
    let long = labels.iter().find(|(name, value)| name.len().max(value.len()) > MAX_LABEL);
    let Some((name, _)) = long else { return Ok(()) };
    let name: String = name.chars().take(MAX_LABEL).collect();
    let message = format!("a name and a value may have {MAX_LABEL} bytes each");
    Err(Refused::field(format!("labels.{name}"), message))
}

/// The reason, unless it is longer than a history can keep.
pub(crate) fn bounded_reason(reason: Option<String>) -> Result<Option<String>> {
    let size = reason.as_ref().map_or(0, String::len);
    if size <= MAX_REASON {
        return Ok(reason);
    }
    let message = format!("it has {size} bytes, and {MAX_REASON} is the most");
    Err(Refused::field("reason", message))
}

fn given(
    json: IndexMap<String, Value>,
    text: IndexMap<String, String>,
) -> Result<IndexMap<String, Given>> {
    let mut given: IndexMap<_, _> =
        json.into_iter().map(|(name, value)| (name, Given::Json(value))).collect();
    for (name, text) in text {
        if given.contains_key(&name) {
            let message = "is in `params` too; send it once";
            return Err(Refused::field(format!("params_text.{name}"), message));
        }
        given.insert(name, Given::Text(text));
    }
    Ok(given)
}

pub(crate) fn refused_params(errors: Vec<ParamError>) -> Refused {
    let errors = errors.into_iter().map(|error| FieldError {
        field: format!("params.{}", error.name),
        message: error.message,
    });
    Refused::fields(errors.collect())
}

/// The run as the engine takes it, but for the time.
pub(crate) fn accepted(run: &run::NewRun) -> RunRow {
    RunRow {
        project: run.project,
        id: run.id,
        workflow: run.plan.name.clone(),
        version: run.version,
        state: RunState::Pending,
        run_attempt: 1,
        params: run.params.clone(),
        logical_time: run.logical_time.clone(),
        labels: run.labels.clone(),
        trigger: run.trigger.clone(),
        created_by: run.by.clone(),
        created_at: Wall::default(),
        started_at: None,
        finished_at: None,
        failure: None,
        output: None,
        rerun_of: run.rerun_of,
        after: run.after,
        paused: None,
        detail: Value::Null,
    }
}

/// The draft version of a file in place, made where its content is new.
async fn drafted(
    app: &App,
    project: ProjectId,
    asker: &Asker,
    draft: &Draft,
) -> Result<Arc<Loaded>> {
    if !asker.local {
        return Err(Refused::new(
            Code::Forbidden,
            "a file in place is run on the server's machine alone; deploy it, or run it there",
        ));
    }
    let root = PathBuf::from(&draft.root);
    if !root.is_absolute() {
        return Err(Refused::field("draft.root", "send an absolute path"));
    }
    let file = (draft.file.clone(), draft.source.clone());
    let compiled = compile(app, project, file, move || Ok(Folder(root))).await?;
    let files = compiled.code;
    let (digest, plan) = narrowed(compiled.digest, checked(compiled)?.0, draft)?;
    // The same words in another folder are another draft: they run other code.
    let digest = Digest::of(&[&digest.0[..], draft.root.as_bytes()].concat());
    let name = plan.name.clone();
    let code = CodeRef::InPlace { root: draft.root.clone(), digest: files };
    if let Some(version) = app.plans.draft(project, &name, digest) {
        return Ok(Arc::new(Loaded::new(version, plan, code)));
    }
    let deploy = catalog::Deploy {
        digest,
        source: draft.source.clone(),
        plan: plan.clone(),
        code: code.clone(),
        draft: true,
        by: asker.actor(None),
    };
    match app.engine.submit(Request::deploy(project, deploy)).await? {
        Answer::Deployed { version, .. } => {
            app.plans.tried(project, &name, digest, version);
            Ok(Arc::new(Loaded::new(version, plan, code)))
        }
        other => Err(Refused::internal(format!("a draft was kept, and came to {other:?}"))),
    }
}

/// The draft's plan: the whole one, or that of its one task.
fn narrowed(digest: Digest, plan: Plan, draft: &Draft) -> Result<(Digest, Arc<Plan>)> {
    let Some(single) = &draft.task else { return Ok((digest, Arc::new(plan))) };
    let alone = plan.only(&single.path, &single.inputs);
    let alone = alone.map_err(|message| Refused::field("draft.task", message))?;
    let what = serde_json::to_vec(single).map_err(Refused::internal)?;
    Ok((Digest::of(&[&digest.0[..], &what].concat()), Arc::new(alone)))
}

/// A run with its instances, as it is at the moment.
pub(crate) async fn loaded_run(app: &App, project: ProjectId, run: RunId) -> Result<ActiveRun> {
    if let Some(active) = app.engine.inspect(move |machine| machine.snapshot(run)).await? {
        return Ok(active);
    }
    let active = app.store.load_run(project, run).await?;
    active.ok_or_else(|| Refused::not_found(format_args!("run {run}")))
}

/// Ends a run's body, or one instance. A second one, or a forced one, ends `finally` too.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/cancel",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Cancel, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn cancel(asked: OnRun<Cancel>) -> Result<Json<Commanded<Run>>> {
    let command = |run, body: Cancel, by| {
        let path = body.task.as_deref().map(InstancePath::from);
        Command::Cancel { run, path, force: body.force, by }
    };
    asked.told(|body| body.reason.take(), command).await
}

/// Does parts of a run again: what failed, or the named instances, with everything downstream. A
/// run that is over is opened again.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/runs/{id}/retry",
    params(("project" = String, Path), ("id" = String, Path), DryRun),
    request_body = Retry, responses((status = 200, body = Commanded<Run>))
)]
pub(crate) async fn retry(asked: OnRun<Retry>) -> Result<Json<Commanded<Run>>> {
    let app = asked.app.clone();
    let _open = app.door.enter().await?;
    let earlier = row(&app, asked.project, asked.at.id).await?;
    refuse_deleted(&app, asked.project, &earlier.workflow).await?;
    let command = |run, body: Retry, by| {
        let paths = body.tasks.iter().map(|path| path.as_str().into()).collect();
        let selection = match (body.tasks.is_empty(), body.only) {
            (true, _) => RetrySelection::Failed,
            (false, false) => RetrySelection::Tasks(paths),
            (false, true) => RetrySelection::Only(paths),
        };
        Command::Retry { run, selection, cancel_downstream: body.cancel_downstream, by }
    };
    asked.told(|body| body.reason.take(), command).await
}
