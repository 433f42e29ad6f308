//! The resources, as JSON.
//!
//! Times are RFC 3339 in UTC. A field that has no value is `null` or left out; both mean the same.

use indexmap::IndexMap;
use ork_core::difference::Difference;
use ork_core::ids::{InstancePath, RunId};
use ork_core::lang::Diagnostic;
use ork_core::plan::TriggerRule;
use ork_core::rows::{Actor, CacheNote, Happened, LogSummary};
use ork_core::run::{AttemptState, EventKind, Failure, Planned, RunState, TaskState};
use ork_core::value::{Data, Digest, Value};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::schema;
use crate::stamp::Stamp;
use ork_core::logs::{Level, Stream};

/// How many items a list has when its reader does not say.
pub const DEFAULT_LIMIT: usize = 50;

/// How many items a list has at most.
pub const MAX_LIMIT: usize = 500;

/// How many lines a part of a log has at most.
pub const MAX_LOG_LINES: usize = 65_536;

/// How many lines a part of a log has when its reader does not say.
pub const DEFAULT_LOG_LINES: usize = 1_000;

/// The largest code bundle, in bytes.
pub const MAX_BUNDLE: usize = 100 << 20;

/// The most bytes of a file that a task leaves or a param gives, unless configured otherwise.
pub const MAX_ARTIFACT: u64 = 16 << 30;

/// The largest JSON body, in bytes. A workflow's file has at most 1 MiB.
pub const MAX_BODY: usize = 4 << 20;

/// The most labels of a run.
pub const MAX_LABELS: usize = 64;

/// The longest name and the longest value of a label, in bytes.
pub const MAX_LABEL: usize = 256;

/// The longest reason for what is asked, in bytes.
pub const MAX_REASON: usize = 4 << 10;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Give it as `cursor` to get what follows; none when this was the last part.
    pub next_cursor: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// How many items: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A value, or where it is kept when it is larger than 64 KiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The value itself.
    Value(Value),
    /// A blob that holds the value's JSON.
    Blob {
        /// Its name under `/blobs`.
        #[schema(value_type = String)]
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
}

impl From<Data> for Payload {
    fn from(data: Data) -> Self {
        match data {
            Data::Inline(value) => Self::Value(value),
            Data::Blob { digest, size } => Self::Blob { digest, size },
        }
    }
}

/// A workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workflow {
    /// Its name, unique in its project.
    pub name: String,
    /// The version that new runs get; none while there are only drafts.
    pub current: Option<i64>,
    /// Free text.
    pub description: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Keys and values to filter by.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub labels: IndexMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Stamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Stamp,
    /// Who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// When it was deleted; a deploy brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Stamp>,
    /// Another for each other state of it; its `ETag`.
    #[schema(value_type = String)]
    pub revision: Digest,
}

/// Changes what people read of a workflow: a JSON merge patch. What is left out stays, what is
/// `null` goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeWorkflow {
    /// Free text.
    #[serde(default, deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    /// Words to filter by: all of them.
    #[serde(default, deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub tags: Option<Option<Vec<String>>>,
    /// Keys and values to filter by; those that are not named stay, and one that is `null` goes.
    #[serde(default, deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, Option<String>>>)]
    pub labels: Option<Option<IndexMap<String, Option<String>>>>,
    /// Who answers for it.
    #[serde(default, deserialize_with = "sent", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<Option<String>>,
    /// Whether it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A field that is there, be it `null`.
fn sent<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Something that was done to a workflow as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryItem {
    /// Counts from 1 in the workflow.
    pub number: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Stamp,
    /// Who, and why.
    #[schema(value_type = Object)]
    pub by: Actor,
    /// What: `deployed`, `described`, `paused`, `resumed`, `deleted`.
    #[schema(schema_with = schema::happened)]
    pub what: Happened,
    /// The version that became current, if this made one so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What is another in its description, tags, labels and owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Difference>,
}

/// How something is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Removal {
    /// Whether it is told what would change, and nothing does.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A version in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionItem {
    /// The workflow's name.
    pub workflow: String,
    /// Its number: from 1 up; drafts count from -1 down.
    pub version: i64,
    /// Whether it was made by `ork run FILE`: never current.
    pub draft: bool,
    /// The digest of the YAML and the code that make it.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Who deployed it.
    #[schema(value_type = Object)]
    pub created_by: Actor,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Stamp,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// What its list has.
    #[serde(flatten)]
    pub item: VersionItem,
    /// The YAML as deployed.
    pub source: String,
    /// Where its code is.
    pub code: Code,
    /// Its run parameters, in order.
    #[schema(value_type = std::collections::HashMap<String, Param>)]
    pub params: IndexMap<String, Param>,
    /// Its tasks, in the order of the file; those of `finally` last.
    pub tasks: Vec<TaskDeclaration>,
}

/// Where the code of a version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// In a folder of the server's machine; for drafts.
    InPlace {
        /// The code root, absolute.
        root: String,
    },
    /// In the blob store, as a tar archive.
    Bundle {
        /// The archive's digest, its name under `/blobs`.
        #[schema(value_type = String)]
        digest: Digest,
    },
}

/// A declared run parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Param {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = Object)]
    pub ty: ork_core::types::Type,
    /// Whether a run cannot be made without it.
    pub required: bool,
    /// Its default where that is a value; one that is an expression is not shown.
    pub default: Option<Value>,
    /// For people.
    pub description: Option<String>,
}

/// A task as its workflow declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskDeclaration {
    /// Its path: its name, with `finally/` before it where it stands there.
    pub path: String,
    /// The paths of its upstreams.
    pub upstreams: Vec<String>,
    /// When its upstreams' outcomes let it start.
    #[schema(schema_with = schema::trigger_rule)]
    pub trigger_rule: TriggerRule,
    /// What runs it.
    pub executor: String,
}

/// A workflow to be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The file's name, for findings and for the workflow's name where it has none.
    pub file: String,
    /// The YAML.
    pub source: String,
    /// The code as a tar archive that is in the blob store already; none: there is no code.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub bundle: Option<Digest>,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What a deploy came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    /// The workflow's name.
    pub workflow: String,
    /// The version that is current now.
    pub version: i64,
    /// Whether this made it; else its content was there already.
    pub created: bool,
    /// Findings that are no errors.
    #[schema(schema_with = schema::diagnostics)]
    pub diagnostics: Vec<Diagnostic>,
}

/// A workflow to be checked on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The file's name, for findings.
    pub file: String,
    /// The YAML.
    pub source: String,
    /// The code as a tar archive that is in the blob store already.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub bundle: Option<Digest>,
}

/// Which versions of a workflow are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// The older version (the one before `to`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The newer version (the current one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// What differs between two versions of a workflow, in its structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The workflow's name.
    pub workflow: String,
    /// The older version.
    pub from: i64,
    /// The newer version; none: what was sent.
    pub to: Option<i64>,
    /// Whether the packed code differs.
    pub code: bool,
    /// What differs in graph, types, params and limits, by path.
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Difference>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Validated {
    /// Whether the workflow may be deployed.
    pub ok: bool,
    /// All findings, by place.
    #[schema(schema_with = schema::diagnostics)]
    pub diagnostics: Vec<Diagnostic>,
}

/// A run to be made: of exactly one of `workflow` and `draft`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The workflow's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The workflow's version (the current one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// A file with its code in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
    /// Its params by name, as JSON. Text stands for a date or a time where one is declared.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub params: IndexMap<String, Value>,
    /// Params as a person types them, read by their declared types: `str` verbatim, lists as
    /// `a,b` or JSON, others as JSON or ISO dates.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub params_text: IndexMap<String, String>,
    /// What the run is for, ISO 8601 with an offset (now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_time: Option<String>,
    /// For people and filters.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub labels: IndexMap<String, String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A workflow's file with its code in place. It is accepted from the server's machine alone, and
/// becomes a draft version: never current.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The file as its user names it, for findings and for the workflow's name where it has none.
    pub file: String,
    /// The YAML.
    pub source: String,
    /// The code root, absolute.
    pub root: String,
    /// Only this task, alone; none: the whole workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<SingleTask>,
}

/// One task of a draft, to be tried without the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SingleTask {
    /// Its path: its name, with `finally/` before it where it stands there.
    pub path: String,
    /// Inputs that take the place of its own; those that come from other tasks have to be here.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub inputs: IndexMap<String, Value>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The run.
    #[schema(value_type = String)]
    pub id: RunId,
    /// The project's name.
    pub project: String,
    /// The workflow's name.
    pub workflow: String,
    /// The version that it stays on.
    pub version: i64,
    /// Where it stands.
    #[schema(schema_with = schema::run_state)]
    pub state: RunState,
    /// Counts from 1; `retry` opens the next.
    pub run_attempt: u32,
    /// The params, checked, defaults filled in.
    pub params: Value,
    /// What it is for: ISO 8601 with an offset.
    pub logical_time: String,
    /// For people and filters.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub labels: IndexMap<String, String>,
    /// How it came to be.
    pub trigger: String,
    /// Who made it.
    #[schema(value_type = Object)]
    pub created_by: Actor,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Stamp,
    /// When its first task could start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Stamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Stamp>,
    /// Why it did not succeed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// Its result.
    pub output: Option<Payload>,
    /// The run that it is done again for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rerun_of: Option<RunId>,
    /// The run whose end started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub after: Option<RunId>,
    /// Who paused it; its workflow and its project may be paused beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

/// A pause: from then on nothing starts; what runs goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// Who, and why.
    #[schema(value_type = Object)]
    pub by: Actor,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Stamp,
}

/// Which runs are listed; newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// Of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Of workflows with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Of workflows with this text in their name, description or tags, letters large or small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// In one of these states, with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// With this trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Made at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub created_after: Option<Stamp>,
    /// Made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub created_before: Option<Stamp>,
    /// In which order: `-created_at`, the newest first, or `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// How many: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// With all these labels, each as `label.KEY=VALUE`.
    #[serde(skip)]
    #[param(ignore)]
    pub labels: Vec<(String, String)>,
}

/// An instance of a task in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Where it stands in the run: `extract`, `finally/cleanup`.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// Its place in lists.
    pub ordinal: u32,
    /// Counts from 1 the times it was meant to be done.
    pub generation: u32,
    /// Where it stands.
    #[schema(schema_with = schema::task_state)]
    pub state: TaskState,
    /// Attempts begun in this generation.
    pub attempt: u32,
    /// For `upstream_failed` and `skipped`: the instance that decided it.
    #[schema(value_type = Option<String>)]
    pub cause: Option<InstancePath>,
    /// Why it did not succeed, or why its last attempt did not.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// The inputs of this generation, once resolved.
    #[schema(value_type = Option<std::collections::HashMap<String, Payload>>)]
    pub inputs: Option<IndexMap<String, Payload>>,
    /// Its output.
    pub output: Option<Payload>,
    /// When it could first start in this generation.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub queued_at: Option<Stamp>,
    /// When its first attempt of this generation began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Stamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Stamp>,
    /// Whether a person set its outcome.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// What came of its cache: whose success was reused, or what differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub cache: Option<CacheNote>,
}

/// Which instances are listed, by ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// In one of these states, with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How many: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The instance.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// The instance's generation.
    pub generation: u32,
    /// Counts from 1 within the generation.
    pub attempt: u32,
    /// The worker of its last offer.
    pub worker: String,
    /// Where it stands.
    #[schema(schema_with = schema::attempt_state)]
    pub state: AttemptState,
    /// When it was last offered.
    #[schema(value_type = String, format = DateTime)]
    pub offered_at: Stamp,
    /// When the worker began it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Stamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Stamp>,
    /// Why it did not succeed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// What it wrote.
    #[schema(value_type = Object)]
    pub logs: LogSummary,
}

/// Which attempt of an instance is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttemptQuery {
    /// The generation (the newest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// A file that an attempt left in `ORK_ARTIFACTS` or returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The instance.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// The instance's generation.
    pub generation: u32,
    /// The attempt.
    pub attempt: u32,
    /// Its path in the folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its content.
    #[schema(value_type = String)]
    pub digest: Digest,
}

/// Which attempt's artifacts are meant, and which part of their list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ArtifactQuery {
    /// The generation (the newest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The attempt (the newest; the first, where a generation is given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many at most: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the part before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A line of an attempt's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// The instance; only where lines of several are mixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub path: Option<InstancePath>,
    /// Counts from 1 in the attempt.
    pub seq: u64,
    /// When it was read.
    #[schema(value_type = String, format = DateTime)]
    pub at: Stamp,
    /// Where it came from.
    #[schema(schema_with = schema::stream)]
    pub stream: Stream,
    /// How much it matters.
    #[schema(schema_with = schema::level)]
    pub level: Level,
    /// Its text, without a line end.
    pub text: String,
    /// Bytes at its end that were not kept, since it is longer than a line may be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
    /// What was not kept before this line, since the attempt wrote more than its cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Lines of a log that were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// How many lines.
    pub lines: u64,
    /// How many bytes of text.
    pub bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Which lines of an attempt are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// The generation (the newest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The attempt (the newest of the generation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Lines after this one (0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only the last so many lines, at most 65,536; not with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// Only lines that matter at least so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::level)]
    pub level: Option<Level>,
    /// Only lines with this text in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only lines of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::stream)]
    pub stream: Option<Stream>,
    /// How many lines at most: 1 to 65,536 (1,000). Not with `follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Go on with new lines until the attempt has ended (false).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// `ndjson` (one [`LogLine`] a line) or `text` (`ndjson`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

/// The most lines that are answered for a whole run; those of one with more are read task by task.
pub const MAX_RUN_LINES: usize = 10_000;

/// Which lines of a run are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunLogQuery {
    /// Only lines that matter at least so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::level)]
    pub level: Option<Level>,
    /// Only lines with this text in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only lines of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::stream)]
    pub stream: Option<Stream>,
    /// `ndjson` (one [`LogLine`] a line) or `text` (`ndjson`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

/// How lines are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// JSON objects, one a line.
    Ndjson,
    /// The lines' text alone.
    Text,
}

/// The header that says up to which line a log was searched. What follows is asked for with
/// `after`.
pub const SCANNED_TO: &str = "x-log-scanned-to";

/// The header that says whether the log was searched to its present end: `true` or `false`.
pub const LOG_COMPLETE: &str = "x-log-complete";

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The commit that made it durable.
    pub commit_seq: u64,
    /// Its place in that commit, from 0.
    pub position: u32,
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Counts from 1, without gaps, in the run.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Stamp,
    /// The instance, for events of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub path: Option<InstancePath>,
    /// Its generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Its attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who caused it.
    #[schema(value_type = Object)]
    pub actor: Actor,
    /// The form of `data`.
    pub schema_version: u32,
    /// What happened; its field `kind` names it.
    #[schema(value_type = Object)]
    pub data: EventKind,
}

/// Which events of a run are listed, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// How many: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What a client wants to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// With commas between, at most 16: `run:ID` (the events of a run, from its first),
    /// `project:NAME` (those of all its runs, from now on), `logs:ID` (the lines of all instances
    /// of a run), `logs:ID/PATH` (of one), `recent:ID` and `recent:ID/PATH` (the same, but where a
    /// log is far ahead of its reader, lines are passed over, and `skipped` says how many).
    pub topics: String,
    /// `Last-Event-ID` for clients that cannot send the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_id: Option<String>,
}

/// Lines on the event stream: `event: log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The instance.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// Its generation.
    pub generation: u32,
    /// Its attempt.
    pub attempt: u32,
    /// How many lines before these were passed over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// The lines, in order.
    pub lines: Vec<LogLine>,
}

/// A stream cannot go on from where its reader was: `event: reset`. The reader reads the resources
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reset {
    /// Why.
    pub reason: String,
}

/// Ends a run's body, or one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The instance; none: the run.
    #[serde(default)]
    pub task: Option<String>,
    /// Whether `finally` is ended too.
    #[serde(default)]
    pub force: bool,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Does parts of a run again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The instances to be done again with everything downstream; empty: what failed.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Whether of what is downstream of `tasks` that stays which succeeded.
    #[serde(default)]
    pub only: bool,
    /// Whether what is under way downstream, in a run that is not over, is stopped for it.
    #[serde(default)]
    pub cancel_downstream: bool,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Stops new starts, or lets them go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A pool: slots that attempts of the whole project share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name, unique in its project.
    pub name: String,
    /// How many slots it has, where the project says so; else each task says it by `of`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many slots attempts hold.
    pub used: u32,
    /// How many instances wait for some.
    pub waiting: usize,
}

/// Sets the size of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    /// How many slots it has: 0 to 1,000,000. What needs more than that waits.
    pub slots: u32,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Sets the outcome of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The instance.
    pub task: String,
    /// The outcome.
    pub state: MarkState,
    /// For `success`: its output, of the task's type.
    #[serde(default)]
    pub output: Value,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The outcomes that a person can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkState {
    /// Success.
    Success,
    /// Failed.
    Failed,
    /// Skipped.
    Skipped,
}

/// A signal to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// What it says.
    #[serde(default)]
    pub payload: Value,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A decision on an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Whether it is a yes.
    pub approved: bool,
    /// What is said to it.
    #[serde(default)]
    pub comment: Option<String>,
    /// What was filled in: an object, or null for nothing.
    #[serde(default)]
    pub form: Value,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// An approval that waits for a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenApproval {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// The instance.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// What is asked.
    pub prompt: String,
    /// Who may decide; empty: whoever may run the workflow.
    pub approvers: Vec<String>,
    /// What is to be filled in.
    #[schema(value_type = std::collections::HashMap<String, Param>)]
    pub form: IndexMap<String, Param>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Stamp>,
    /// When silence counts as an answer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Stamp>,
}

/// Makes a run that does another one again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rerun {
    /// The workflow's version (that of the run).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Whether it is the workflow's current version.
    #[serde(default)]
    pub latest: bool,
    /// Params by name, as JSON; the others are the run's.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub params: IndexMap<String, Value>,
    /// Params as a person types them.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub params_text: IndexMap<String, String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a command is only tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// Whether it is told what would change, and nothing does.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a command came to: what it was given to as it is then, or what would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Commanded<T> {
    /// It is done.
    Done(Box<T>),
    /// For a dry run.
    Preview(Preview),
}

impl<T> Commanded<T> {
    /// It is done.
    pub fn done(it: T) -> Self {
        Self::Done(Box::new(it))
    }
}

/// What a command that was given to many runs came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Each {
    /// Each run that the filter found, newest first.
    pub items: Vec<Told>,
}

/// What a command came to for one of many runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// `done`, `tried` or `refused`.
    #[schema(schema_with = schema::result)]
    pub result: ToldResult,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// For a dry run: what would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Planned>,
    /// The run that was made, for a rerun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub made: Option<RunId>,
}

/// Whether a command was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToldResult {
    /// It was.
    Done,
    /// It was only tried.
    Tried,
    /// It was refused.
    Refused,
}

/// The most runs that one command is given to.
pub const MAX_TOLD: usize = 1_000;

/// Decides on the approval of a task, in many runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveEach {
    /// The task.
    pub task: String,
    /// Whether it is a yes.
    pub approved: bool,
    /// What is said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The values of its form, by name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Object)]
    pub form: Value,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a command would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Each change.
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Planned>,
}

/// Why a run, or an instance of it, does not go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Where it stands.
    #[schema(schema_with = schema::run_state)]
    pub state: RunState,
    /// Why it did not succeed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// Why it has not begun.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
    /// Its instances that are not terminal, by ordinal, and those that did not succeed; then those
    /// that succeeded and have a cache.
    pub tasks: Vec<TaskExplanation>,
    /// Whether there are more of them than are told.
    pub truncated: bool,
    /// When the engine wakes by itself; none: when something happens.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_wakeup: Option<Stamp>,
}

/// Why an instance does not go on, or how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskExplanation {
    /// The instance.
    #[schema(value_type = String)]
    pub path: InstancePath,
    /// Where it stands.
    #[schema(schema_with = schema::task_state)]
    pub state: TaskState,
    /// What it waits for; empty when it is under way or over.
    pub blockers: Vec<Blocker>,
    /// The instance that decided it.
    #[schema(value_type = Option<String>)]
    pub cause: Option<InstancePath>,
    /// Why it, or its last attempt, did not succeed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// What came of its cache: whose success was reused, or what differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub cache: Option<CacheNote>,
}

/// One thing that an instance waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocker {
    /// Its kind, for programs: `upstream`, `no_worker`, `slots`, `retry_at`.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// Whether the server lives, or is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or what is amiss.
    pub status: String,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The user's or service's name.
    pub name: String,
    /// The server's version.
    pub server_version: String,
    /// The projects that may be seen.
    pub projects: Vec<String>,
    /// Whether in-place drafts are accepted from where the request came.
    pub local: bool,
}

/// A blob that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blob {
    /// Its name.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}
