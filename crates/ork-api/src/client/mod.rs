//! A typed client of the API. The CLI, tests and tools use it and nothing else.

mod stream;
mod transport;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::stream::{EventStream, LogStream, Streamed, StreamedItem};
pub use self::transport::{Body, Http, Transport, TransportError};
use crate::backfills::{Backfill, Backfilled, NewBackfill, SteerBackfill};
use crate::encode::{query, segment};
use crate::problem::{self, Code, Problem};
use crate::schedules::{PauseSchedule, PreviewQuery, Schedule, ScheduleQuery, Ticked, Upcoming};
use crate::triggers::{Firing, RotateTrigger, Rotated, Trigger, TriggerQuery};
use crate::types::{
    Approve, Artifact, ArtifactQuery, Attempt, AttemptQuery, Blob, Cancel, Deploy, Deployed,
    DescribeWorkflow, Diff, DiffQuery, Each, Event, EventQuery, Explanation, Health, HistoryItem,
    LOG_COMPLETE, List, LogFormat, LogLine, LogQuery, Mark, Me, NewRun, OpenApproval, Part, Pause,
    Pool, Preview, Removal, Rerun, Retry, Run, RunLogQuery, RunQuery, SCANNED_TO, SetPool, Signal,
    Task, TaskQuery, Validate, Validated, Version, VersionItem, Workflow,
};
use crate::worker::Content;
use ork_core::ids::{BackfillId, RunId};
use ork_core::value::Digest;

/// The largest answer that is read whole, in bytes; streams have no such limit.
pub const MAX_ANSWER: usize = 256 << 20;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached, or the connection broke. Safe to repeat where the call is.
    #[error("{0}")]
    Unreachable(String),
    /// The server says no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// What came back is not an answer of this API.
    #[error("{0}")]
    Unexpected(String),
}

impl ClientError {
    /// The server's problem, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// The problem's code, if it is one.
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }
}

impl From<TransportError> for ClientError {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(error.0)
    }
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, ClientError>;

/// A part of an attempt's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The lines that fit the query.
    pub lines: Vec<LogLine>,
    /// Up to which line the log was searched; ask for what follows with `after`.
    pub scanned_to: u64,
    /// Whether that was its end at that time.
    pub complete: bool,
}

/// A client of one project on one server.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    token: Option<Arc<str>>,
    project: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("project", &self.project).finish_non_exhaustive()
    }
}

impl Client {
    /// A client over `transport` in the project `default`.
    pub fn new(transport: Arc<dyn Transport>, token: Option<&str>) -> Self {
        Self { transport, token: token.map(Arc::from), project: Arc::from("default") }
    }

    /// A client of the server at `url`, which begins with `http://`.
    ///
    /// # Errors
    /// A sentence where the URL is none, or is `https`, which this version does not speak.
    pub fn http(url: &str, token: Option<&str>) -> Result<Self> {
        Ok(Self::new(Arc::new(Http::new(url)?), token))
    }

    /// The same client in another project.
    #[must_use]
    pub fn in_project(mut self, project: &str) -> Self {
        self.project = Arc::from(project);
        self
    }

    /// Whether the server lives. Needs no token.
    ///
    /// # Errors
    /// See [`ClientError`]; so for every call.
    pub async fn healthz(&self) -> Result<Health> {
        self.get("/healthz".into()).await
    }

    /// Whether the server is ready to work. Needs no token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn readyz(&self) -> Result<Health> {
        self.get("/readyz".into()).await
    }

    /// Who this is to the server.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn me(&self) -> Result<Me> {
        self.get("/api/v1/me".into()).await
    }

    /// The `OpenAPI` document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn openapi(&self) -> Result<serde_json::Value> {
        self.get("/api/v1/openapi.json".into()).await
    }

    /// Workflows by name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn workflows(&self, part: &Part) -> Result<List<Workflow>> {
        self.get(self.path("/workflows") + &query(part)).await
    }

    /// A workflow.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn workflow(&self, name: &str) -> Result<Workflow> {
        self.get(self.path("/workflows/") + &segment(name)).await
    }

    /// What was done to a workflow, the latest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn workflow_history(&self, name: &str, part: &Part) -> Result<List<HistoryItem>> {
        let path = format!("/workflows/{}/history", segment(name));
        self.get(self.path(&path) + &query(part)).await
    }

    /// Changes what people read of a workflow; with a revision only where it is as it was then.
    ///
    /// # Errors
    /// See [`ClientError`]; [`Code::PreconditionFailed`] where it is of another revision.
    pub async fn describe_workflow(
        &self,
        name: &str,
        patch: &DescribeWorkflow,
        revision: Option<&Digest>,
    ) -> Result<Workflow> {
        self.patch_workflow(name, "", patch, revision).await
    }

    /// What that would change.
    ///
    /// # Errors
    /// See [`Client::describe_workflow`].
    pub async fn preview_describe(&self, name: &str, patch: &DescribeWorkflow) -> Result<Preview> {
        self.patch_workflow(name, "?dry_run=true", patch, None).await
    }

    async fn patch_workflow<T: DeserializeOwned>(
        &self,
        name: &str,
        rest: &str,
        patch: &DescribeWorkflow,
        revision: Option<&Digest>,
    ) -> Result<T> {
        let target = self.path(&format!("/workflows/{}{rest}", segment(name)));
        let key = self.transport.may_lose_answers().then(new_key).transpose()?;
        let mut sent =
            Sent { method: Method::PATCH, target, body: written(patch)?, key, tag: None };
        sent.tag = revision.map(|digest| format!("\"{digest}\""));
        self.write(sent).await
    }

    /// Deletes a workflow of which no run is active, or tells what that would change. What was
    /// stays.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_workflow(&self, name: &str, how: &Removal) -> Result<Preview> {
        let target = self.path(&format!("/workflows/{}", segment(name))) + &query(how);
        read(&whole(self.send(Method::DELETE, target, Bytes::new()).await?).await?)
    }

    /// A workflow's versions without its drafts, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn versions(&self, name: &str, part: &Part) -> Result<List<VersionItem>> {
        let path = format!("/workflows/{}/versions", segment(name));
        self.get(self.path(&path) + &query(part)).await
    }

    /// A version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn version(&self, name: &str, version: i64) -> Result<Version> {
        self.get(self.path(&format!("/workflows/{}/versions/{version}", segment(name)))).await
    }

    /// What differs between two versions of a workflow.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn diff(&self, name: &str, wanted: &DiffQuery) -> Result<Diff> {
        self.get(self.path(&format!("/workflows/{}/diff", segment(name))) + &query(wanted)).await
    }

    /// What differs between a workflow's current version and what is sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn diff_with(&self, name: &str, sent: &Validate) -> Result<Diff> {
        self.post(self.path(&format!("/workflows/{}/diff", segment(name))), sent).await
    }

    /// Makes a version current, if its content is not already. The bundle must be there before:
    /// see [`Client::put_blob`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deploy(&self, deploy: &Deploy) -> Result<Deployed> {
        self.post(self.path("/workflows"), deploy).await
    }

    /// Checks a workflow on the server.
    ///
    /// # Errors
    /// See [`ClientError`]; a workflow with errors is an answer, not one of these.
    pub async fn validate(&self, validate: &Validate) -> Result<Validated> {
        self.post(self.path("/validate"), validate).await
    }

    /// Makes a run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_run(&self, run: &NewRun) -> Result<Run> {
        self.post(self.path("/runs"), run).await
    }

    /// The same, under a key of the caller: a repetition gets the first one's answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_run_once(&self, run: &NewRun, key: &str) -> Result<Run> {
        self.post_once(self.path("/runs"), run, Some(key.to_owned())).await
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn runs(&self, filter: &RunQuery) -> Result<List<Run>> {
        self.get(self.path("/runs") + &filtered(filter)).await
    }

    /// Gives a command to all runs that a filter finds, or tells what it would change: `verb` is
    /// the last part of its path, such as `cancel`, and `body` what it takes.
    ///
    /// # Errors
    /// See [`ClientError`]; what is wrong with one of the runs is in the answer.
    pub async fn each<T: Serialize>(
        &self,
        verb: &str,
        filter: &RunQuery,
        body: &T,
        dry_run: bool,
    ) -> Result<Each> {
        let mut target = self.path(&format!("/runs/{verb}")) + &filtered(filter);
        if dry_run {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str("dry_run=true");
        }
        self.post(target, body).await
    }

    /// A run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn run(&self, run: RunId) -> Result<Run> {
        self.get(self.run_path(run, "")).await
    }

    /// A run's instances by ordinal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tasks(&self, run: RunId, filter: &TaskQuery) -> Result<List<Task>> {
        self.get(self.run_path(run, "/tasks") + &query(filter)).await
    }

    /// An instance.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task(&self, run: RunId, path: &str) -> Result<Task> {
        self.get(self.task_path(run, path, "")).await
    }

    /// An instance's attempts, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempts(&self, run: RunId, path: &str, part: &Part) -> Result<List<Attempt>> {
        self.get(self.task_path(run, path, "/attempts") + &query(part)).await
    }

    /// A part of an instance's log, from its newest attempt unless the query says which.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn logs(&self, run: RunId, path: &str, wanted: &LogQuery) -> Result<LogPart> {
        let response = self.fetch(self.task_path(run, path, "/logs") + &query(wanted)).await?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let scanned_to = header(SCANNED_TO).and_then(|text| text.parse().ok()).unwrap_or(0);
        let complete = header(LOG_COMPLETE) == Some("true");
        let body = whole(response).await?;
        let lines = body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(read)
            .collect::<Result<_>>()?;
        Ok(LogPart { lines, scanned_to, complete })
    }

    /// An instance's log from where the query says, and what comes until the attempt has ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn follow_logs(
        &self,
        run: RunId,
        path: &str,
        wanted: &LogQuery,
    ) -> Result<LogStream> {
        let wanted = LogQuery { follow: true, format: None, ..wanted.clone() };
        let response = self.fetch(self.task_path(run, path, "/logs") + &query(&wanted)).await?;
        Ok(LogStream::new(response.into_body()))
    }

    /// An attempt of an instance.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attempt(
        &self,
        run: RunId,
        path: &str,
        number: u32,
        wanted: &AttemptQuery,
    ) -> Result<Attempt> {
        let rest = format!("/attempts/{number}{}", query(wanted));
        self.get(self.task_path(run, path, &rest)).await
    }

    /// The lines of all instances of a run, in the order of time.
    ///
    /// # Errors
    /// See [`ClientError`]; [`Code::TooLarge`] for a run with more than
    /// [`MAX_RUN_LINES`](crate::types::MAX_RUN_LINES).
    pub async fn run_logs(&self, run: RunId, wanted: &RunLogQuery) -> Result<Vec<LogLine>> {
        let wanted = RunLogQuery { format: Some(LogFormat::Ndjson), ..wanted.clone() };
        let path = self.run_path(run, &format!("/logs{}", query(&wanted)));
        let body = whole(self.fetch(path).await?).await?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(read).collect()
    }

    /// A run's events, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn run_events(&self, run: RunId, wanted: &EventQuery) -> Result<List<Event>> {
        self.get(self.run_path(run, "/events") + &query(wanted)).await
    }

    /// The stream of events and log lines of `topics`: `run:ID`, `project:NAME`, `logs:ID`,
    /// `logs:ID/PATH`. It begins after `last_event_id` or, without one, with what is there
    /// already, and mends a broken connection by itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(
        &self,
        topics: &[String],
        last_event_id: Option<&str>,
    ) -> Result<EventStream> {
        EventStream::open(self.clone(), topics, last_event_id).await
    }

    /// Ends a run's body, or one instance. A second one, or a forced one, ends `finally` too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel(&self, run: RunId, cancel: &Cancel) -> Result<Run> {
        self.post(self.run_path(run, "/cancel"), cancel).await
    }

    /// Does parts of a run again: opens one that is over, or goes back in one that is not.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retry(&self, run: RunId, retry: &Retry) -> Result<Run> {
        self.post(self.run_path(run, "/retry"), retry).await
    }

    /// Keeps everything of a run back that would start.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause(&self, run: RunId, pause: &Pause) -> Result<Run> {
        self.post(self.run_path(run, "/pause"), pause).await
    }

    /// Ends a run's pause.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resume(&self, run: RunId, pause: &Pause) -> Result<Run> {
        self.post(self.run_path(run, "/resume"), pause).await
    }

    /// Keeps everything of a workflow back that would start, or ends that; tells the runs that it
    /// concerns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause_workflow(&self, name: &str, on: bool, pause: &Pause) -> Result<Preview> {
        let verb = if on { "pause" } else { "resume" };
        self.post(self.path(&format!("/workflows/{}/{verb}", segment(name))), pause).await
    }

    /// Keeps everything of the project back that would start, or ends that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause_project(&self, on: bool, pause: &Pause) -> Result<Preview> {
        self.post(self.path(if on { "/pause" } else { "/resume" }), pause).await
    }

    /// What a command would change, without doing it: `of` is the path of what it is given to, such
    /// as `["schedules", "etl", "nightly"]`, `verb` the last part of its path, and `body` what it
    /// takes.
    ///
    /// # Errors
    /// See [`ClientError`]; so does the command.
    pub async fn preview_of<T: Serialize>(
        &self,
        of: &[&str],
        verb: &str,
        body: &T,
    ) -> Result<Preview> {
        let of: String = of.iter().map(|name| format!("/{}", segment(name))).collect();
        self.post(self.path(&format!("{of}/{verb}?dry_run=true")), body).await
    }

    /// The pools of the project that are declared or in use, by name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pools(&self, part: &Part) -> Result<List<Pool>> {
        self.get(self.path("/pools") + &query(part)).await
    }

    /// Sets the size of a pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_pool(&self, name: &str, set: &SetPool) -> Result<Pool> {
        self.put_pool(name, "", set).await
    }

    /// What that would change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn preview_pool(&self, name: &str, set: &SetPool) -> Result<Preview> {
        self.put_pool(name, "?dry_run=true", set).await
    }

    async fn put_pool<T: DeserializeOwned>(
        &self,
        name: &str,
        rest: &str,
        set: &SetPool,
    ) -> Result<T> {
        let target = self.path(&format!("/pools/{}{rest}", segment(name)));
        let body = written(set)?;
        self.write(Sent { method: Method::PUT, target, body, key: None, tag: None }).await
    }

    /// Forgets the size of a pool: each task that names it has to say it by `of` then. Or tells
    /// what that would change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_pool(&self, name: &str, how: &Removal) -> Result<Preview> {
        let target = self.path(&format!("/pools/{}", segment(name))) + &query(how);
        read(&whole(self.send(Method::DELETE, target, Bytes::new()).await?).await?)
    }

    /// Sets the outcome of an instance.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mark(&self, run: RunId, mark: &Mark) -> Result<Run> {
        self.post(self.run_path(run, "/mark"), mark).await
    }

    /// Sends a signal to a run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn signal(&self, run: RunId, signal: &Signal) -> Result<Run> {
        self.post(self.run_path(run, "/signal"), signal).await
    }

    /// Decides on an approval.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn approve(&self, run: RunId, path: &str, approve: &Approve) -> Result<Run> {
        self.post(self.task_path(run, path, "/approve"), approve).await
    }

    /// Approvals that wait for a decision, by run and task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn approvals(&self, part: &Part) -> Result<List<OpenApproval>> {
        self.get(self.path("/approvals") + &query(part)).await
    }

    /// Makes a run that does another one again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rerun(&self, run: RunId, rerun: &Rerun) -> Result<Run> {
        self.post(self.run_path(run, "/rerun"), rerun).await
    }

    /// What a command on a run would change: `verb` is the last part of its path, such as
    /// `cancel`, and `body` what it takes.
    ///
    /// # Errors
    /// See [`ClientError`]; so does the command.
    pub async fn preview<T: Serialize>(&self, run: RunId, verb: &str, body: &T) -> Result<Preview> {
        self.post(self.run_path(run, &format!("/{verb}?dry_run=true")), body).await
    }

    /// Why a run does not go on, or how it ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, run: RunId) -> Result<Explanation> {
        self.get(self.run_path(run, "/explain")).await
    }

    /// Schedules by workflow and name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn schedules(&self, wanted: &ScheduleQuery) -> Result<List<Schedule>> {
        self.get(self.path("/schedules") + &query(wanted)).await
    }

    /// A schedule.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn schedule(&self, workflow: &str, name: &str) -> Result<Schedule> {
        self.get(self.schedule_path(workflow, name, "")).await
    }

    /// What became of a schedule's ticks, the latest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ticks(&self, workflow: &str, name: &str, part: &Part) -> Result<List<Ticked>> {
        self.get(self.schedule_path(workflow, name, "/ticks") + &query(part)).await
    }

    /// The ticks of a schedule that are to come.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn preview_schedule(
        &self,
        workflow: &str,
        name: &str,
        wanted: &PreviewQuery,
    ) -> Result<List<Upcoming>> {
        self.get(self.schedule_path(workflow, name, "/preview") + &query(wanted)).await
    }

    /// Pauses a schedule.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause_schedule(
        &self,
        workflow: &str,
        name: &str,
        pause: &PauseSchedule,
    ) -> Result<Schedule> {
        self.post(self.schedule_path(workflow, name, "/pause"), pause).await
    }

    /// Lets a paused schedule go on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resume_schedule(
        &self,
        workflow: &str,
        name: &str,
        resume: &PauseSchedule,
    ) -> Result<Schedule> {
        self.post(self.schedule_path(workflow, name, "/resume"), resume).await
    }

    /// Makes runs for the ticks of a range, or lists them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn backfill(&self, workflow: &str, new: &NewBackfill) -> Result<Backfilled> {
        self.post(self.path(&format!("/workflows/{}/backfill", segment(workflow))), new).await
    }

    /// Backfills, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn backfills(&self, part: &Part) -> Result<List<Backfill>> {
        self.get(self.path("/backfills") + &query(part)).await
    }

    /// A backfill.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn show_backfill(&self, id: BackfillId) -> Result<Backfill> {
        self.get(self.path(&format!("/backfills/{id}"))).await
    }

    /// Does `verb` with a backfill: `pause`, `resume`, `cancel` or `retry`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn steer_backfill(
        &self,
        id: BackfillId,
        verb: &str,
        body: &SteerBackfill,
    ) -> Result<Backfill> {
        self.post(self.path(&format!("/backfills/{id}/{verb}")), body).await
    }

    /// Triggers by workflow and name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn triggers(&self, wanted: &TriggerQuery) -> Result<List<Trigger>> {
        self.get(self.path("/triggers") + &query(wanted)).await
    }

    /// A trigger.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn trigger(&self, workflow: &str, name: &str) -> Result<Trigger> {
        self.get(self.trigger_path(workflow, name, "")).await
    }

    /// The ends of runs that a trigger waited for, the latest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn firings(&self, workflow: &str, name: &str, part: &Part) -> Result<List<Firing>> {
        self.get(self.trigger_path(workflow, name, "/firings") + &query(part)).await
    }

    /// Gives a webhook a new secret.
    ///
    /// # Errors
    /// See [`ClientError`]. A conflict where the secret was made, and its answer lost: it has to be
    /// made anew.
    pub async fn rotate_trigger(
        &self,
        workflow: &str,
        name: &str,
        rotate: &RotateTrigger,
    ) -> Result<Rotated> {
        self.post(self.trigger_path(workflow, name, "/rotate"), rotate).await
    }

    fn trigger_path(&self, workflow: &str, name: &str, rest: &str) -> String {
        self.path(&format!("/triggers/{}/{}{rest}", segment(workflow), segment(name)))
    }

    fn schedule_path(&self, workflow: &str, name: &str, rest: &str) -> String {
        self.path(&format!("/schedules/{}/{}{rest}", segment(workflow), segment(name)))
    }

    /// Keeps a blob, such as a code bundle; one that is there is not sent again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_blob(&self, content: Bytes) -> Result<Blob> {
        let digest = Digest::of(&content);
        let target = self.path(&format!("/blobs/{digest}"));
        if self.has_blob(&digest).await? {
            return Ok(Blob { digest, size: content.len() as u64 });
        }
        read(&whole(self.send(Method::PUT, target, content).await?).await?)
    }

    /// Whether the server has a blob; it keeps it for a day from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let target = self.path(&format!("/blobs/{digest}"));
        match self.send(Method::HEAD, target, Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(Code::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the server keep a content of any size, which comes part by part.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_stream(&self, digest: &Digest, content: Content) -> Result<Blob> {
        let target = self.path(&format!("/blobs/{digest}"));
        let request = Request::builder().method(Method::PUT).uri(target);
        let answer = self.call(request.body(transport::streamed(content))).await?;
        read(&whole(answer).await?)
    }

    /// The content of a blob, part by part.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn blob_stream(&self, digest: &Digest) -> Result<Content> {
        let body = self.fetch(self.path(&format!("/blobs/{digest}"))).await?.into_body();
        Ok(body.into_data_stream().map_err(io::Error::other).boxed())
    }

    /// The files that a run's instances left, in the order of the instances.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn artifacts(&self, run: RunId, part: &Part) -> Result<List<Artifact>> {
        self.get(self.run_path(run, "/artifacts") + &query(part)).await
    }

    /// The files that an attempt of an instance left.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task_artifacts(
        &self,
        run: RunId,
        path: &str,
        wanted: &ArtifactQuery,
    ) -> Result<List<Artifact>> {
        self.get(self.task_path(run, path, "/artifacts") + &query(wanted)).await
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        whole(self.fetch(self.path(&format!("/blobs/{digest}"))).await?).await
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/projects/{}{rest}", segment(&self.project))
    }

    fn run_path(&self, run: RunId, rest: &str) -> String {
        self.path(&format!("/runs/{run}{rest}"))
    }

    fn task_path(&self, run: RunId, path: &str, rest: &str) -> String {
        self.run_path(run, &format!("/tasks/{}{rest}", segment(path)))
    }

    async fn fetch(&self, target: String) -> Result<Response<Body>> {
        self.send(Method::GET, target, Bytes::new()).await
    }

    async fn get<T: DeserializeOwned>(&self, target: String) -> Result<T> {
        read(&whole(self.fetch(target).await?).await?)
    }

    /// A POST under a key made here where an answer may be lost on its way, so that it can be
    /// asked for once more.
    async fn post<T: DeserializeOwned>(&self, target: String, body: &impl Serialize) -> Result<T> {
        let key = self.transport.may_lose_answers().then(new_key).transpose()?;
        self.post_once(target, body, key).await
    }

    async fn post_once<T: DeserializeOwned>(
        &self,
        target: String,
        body: &impl Serialize,
        key: Option<String>,
    ) -> Result<T> {
        let body = written(body)?;
        self.write(Sent { method: Method::POST, target, body, key, tag: None }).await
    }

    /// Sends JSON; under a key once more where its answer is lost.
    async fn write<T: DeserializeOwned>(&self, sent: Sent) -> Result<T> {
        let response = match self.call(sent.request()).await {
            Err(ClientError::Unreachable(_)) if sent.key.is_some() => {
                self.call(sent.request()).await?
            }
            other => other?,
        };
        read(&whole(response).await?)
    }

    async fn send(&self, method: Method, target: String, body: Bytes) -> Result<Response<Body>> {
        let request = Request::builder().method(method).uri(target);
        self.call(request.body(transport::at_hand(body))).await
    }

    async fn call(&self, request: http::Result<Request<Body>>) -> Result<Response<Body>> {
        let bad = |error| ClientError::Unexpected(format!("cannot write the request: {error}"));
        let mut request = request.map_err(bad)?;
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| {
                ClientError::Unexpected("the token has characters that no token has".into())
            })?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self.transport.send(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }
}

/// JSON on its way.
struct Sent {
    method: Method,
    target: String,
    body: Bytes,
    key: Option<String>,
    /// What it is given to, as it has to be.
    tag: Option<String>,
}

impl Sent {
    fn request(&self) -> http::Result<Request<Body>> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.target);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(tag) = &self.tag {
            request = request.header(header::IF_MATCH, tag);
        }
        request.body(transport::at_hand(self.body.clone()))
    }
}

/// The fields of a filter, and its labels, as a query.
fn filtered(filter: &RunQuery) -> String {
    let mut text = query(filter);
    for (key, value) in &filter.labels {
        text.push(if text.contains('?') { '&' } else { '?' });
        let _ = write!(text, "label.{}={}", segment(key), segment(value));
    }
    text
}

fn written(body: &impl Serialize) -> Result<Bytes> {
    let body = serde_json::to_vec(body);
    let body = body
        .map_err(|error| ClientError::Unexpected(format!("cannot write the request: {error}")))?;
    Ok(body.into())
}

fn new_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ClientError::Unexpected(format!("no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

async fn whole(response: Response<Body>) -> Result<Bytes> {
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ClientError::Unreachable(format!("the answer broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            whole.extend_from_slice(&data);
        }
        if whole.len() > MAX_ANSWER {
            let message = format!("the answer is larger than {MAX_ANSWER} bytes");
            return Err(ClientError::Unexpected(message));
        }
    }
    Ok(whole.freeze())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| ClientError::Unexpected(format!("not an answer of this API: {error}")))
}

async fn refusal(response: Response<Body>) -> ClientError {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(problem::MEDIA_TYPE.as_bytes()));
    let request_id = response
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = match whole(response).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    if is_problem && let Ok(problem) = read::<Problem>(&body) {
        return ClientError::Refused(Box::new(problem));
    }
    match bare(status) {
        Some(code) => {
            let mut problem = Problem::new(code, format!("the server answered {status}"));
            problem.request_id = request_id;
            ClientError::Refused(Box::new(problem))
        }
        None => ClientError::Unexpected(format!("the server answered {status}")),
    }
}

/// The code of an answer without a problem body: to HEAD, or from a proxy.
fn bare(status: StatusCode) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.status() == status.as_u16())
}
