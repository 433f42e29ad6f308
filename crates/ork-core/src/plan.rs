//! A workflow as the run machine sees it: checked, lowered, with no trace of YAML. A version
//! keeps its plan as JSON, so that a run never depends on a file that may be gone.

use std::fmt;
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::lang::expr::Program;
use crate::run::RunState;
use crate::time::{Span, Wall};
use crate::types::Type;
use crate::value::Value;

/// A checked workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The workflow's name, unique in its project.
    pub name: String,
    /// What people read and filter by. It is no part of what a version is.
    pub metadata: Metadata,
    /// Declared run parameters, in order.
    pub params: IndexMap<String, Param>,
    /// Environment for every task; a task's own entries win.
    pub env: IndexMap<String, Binding>,
    /// How long a run may take.
    pub timeout: Option<Span>,
    /// The tasks.
    pub body: Scope,
    /// The tasks that run after all else is terminal. Their paths begin with `finally/`.
    pub finally: Scope,
    /// The run's result.
    pub output: Option<Binding>,
    /// The type of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_type: Option<Type>,
    /// What is packed as code: the root folder and the patterns, as declared.
    pub code: Code,
    /// How many runs there may be at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What else starts a run, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub triggers: IndexMap<String, Trigger>,
    /// When runs are made by themselves, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub schedules: IndexMap<String, Schedule>,
    /// What tasks that are made at run time have of the file; none where no task makes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Box<Preset>>,
}

/// What a file says once for all its tasks, for the compiler of those that are made at run time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// What stands under `defaults`; null where nothing does.
    pub defaults: Value,
    /// The named types.
    pub types: IndexMap<String, Type>,
}

impl Plan {
    /// A workflow with nothing but its tasks.
    pub fn new(name: impl Into<String>, body: Scope) -> Self {
        Self {
            name: name.into(),
            metadata: Metadata::default(),
            params: IndexMap::new(),
            env: IndexMap::new(),
            timeout: None,
            body,
            finally: Scope::default(),
            output: None,
            output_type: None,
            code: Code::default(),
            concurrency: None,
            triggers: IndexMap::new(),
            schedules: IndexMap::new(),
            preset: None,
        }
    }

    /// The workflows whose ends its triggers wait for.
    pub fn awaits(&self) -> Vec<String> {
        self.triggers.values().filter_map(Trigger::awaited).map(str::to_owned).collect()
    }

    /// All its tasks, those inside groups too; not those of called workflows.
    pub fn all_tasks(&self) -> Vec<&Task> {
        let mut all = Vec::new();
        self.body.collect(&mut all);
        self.finally.collect(&mut all);
        all
    }

    /// The task at `path`: its name, with `finally/` before it where it stands there.
    pub fn task(&self, path: &str) -> Option<&Task> {
        let (scope, name) = match path.strip_prefix("finally/") {
            Some(name) => (&self.finally, name),
            None => (&self.body, path),
        };
        scope.find(name).map(|at| &scope.tasks[at])
    }

    /// The paths of all tasks, in the order of the file; those of `finally` last.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let body = self.body.tasks.iter().map(|task| task.name.clone());
        body.chain(self.finally.tasks.iter().map(|task| format!("finally/{}", task.name)))
    }

    /// The plan of one task alone, with these inputs in the place of its own: no upstreams, no
    /// condition, and its output as the run's.
    ///
    /// # Errors
    /// A sentence where there is no such task or input, or where the task still refers to another.
    pub fn only(&self, path: &str, inputs: &IndexMap<String, Value>) -> Result<Self, String> {
        let task = self.task(path).ok_or_else(|| format!("there is no task `{path}`"))?;
        let mut task = task.clone();
        for (name, value) in inputs {
            let upstream = task.action.upstream_outputs_mut();
            let place = match task.inputs.get_mut(name) {
                Some(input) => Some(input),
                None => upstream.and_then(|outputs| outputs.get_mut(name)),
            };
            let place = place.ok_or_else(|| format!("`{path}` has no input `{name}`"))?;
            *place = Binding::Const(value.clone());
        }
        if let Some((name, _)) = task.inputs.iter().find(|(_, binding)| binding.names_tasks()) {
            return Err(format!("the input `{name}` of `{path}` comes from another task; give it"));
        }
        let mut outputs = task.action.upstream_outputs().into_iter().flatten();
        if let Some((name, _)) = outputs.find(|(_, output)| output.names_tasks()) {
            return Err(format!(
                "`{path}` reads the output of `{name}` in ORK_UPSTREAM_JSON; give it as the input \
                 `{name}`"
            ));
        }
        let Action::Execute { spec, .. } = &task.action else {
            return Err(format!("`{path}` runs nothing itself; name one of its tasks"));
        };
        if spec.names_tasks() || task.env.values().any(Binding::names_tasks) {
            return Err(format!(
                "`{path}` refers to another task outside its inputs; move that into `inputs`"
            ));
        }
        task.upstreams.clear();
        task.trigger_rule = TriggerRule::default();
        task.when = None;
        let output = Some(Binding::Expr(Expr::new(format!("tasks.{}.output", task.name))));
        let body = Scope { tasks: vec![task] };
        Ok(Self { body, finally: Scope::default(), output, ..self.clone() })
    }
}

/// What people read and filter by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Free text.
    pub description: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Keys and values to filter by.
    pub labels: IndexMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

/// A declared run parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its type; an `enum` list beside it is already an [`Type::Enum`].
    pub ty: Type,
    /// What it is when not given; without one the parameter is required.
    pub default: Option<Binding>,
    /// For people.
    pub description: Option<String>,
}

impl Param {
    /// Whether it has to be given: it has no default and may not be null.
    pub fn is_required(&self) -> bool {
        self.default.is_none() && !matches!(self.ty, Type::Nullable(_))
    }
}

/// How many runs of a workflow may be under way at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The most runs with the same key; all runs have the same when there is no key.
    pub max_runs: u32,
    /// What tells runs apart: an expression over `params` and `run`.
    pub key: Option<Expr>,
    /// What becomes of a run that finds no place.
    pub on_limit: OnLimit,
}

/// What becomes of a run that finds no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It waits.
    #[default]
    Queue,
    /// It is recorded as skipped.
    Skip,
    /// The oldest run of the key that is not yet being cancelled is cancelled; the new one waits
    /// until the place is free.
    CancelOldest,
}

/// What starts a run beside people and schedules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A request to the trigger's own address.
    Webhook {
        /// What its body must be.
        body: Type,
        /// How the sender shows who it is.
        auth: WebhookAuth,
        /// The run's params, from `trigger.body` and `trigger.headers`.
        params: IndexMap<String, Binding>,
    },
    /// The end of another workflow's run.
    Workflow {
        /// The other workflow.
        workflow: String,
        /// In which states it must end.
        states: Vec<RunState>,
        /// The run's params, from `trigger.run`.
        params: IndexMap<String, Binding>,
    },
}

impl Trigger {
    /// The type of `trigger`, as the trigger's params see it.
    pub fn value_type(&self) -> Type {
        match self {
            Self::Webhook { body, .. } => Type::object(IndexMap::from([
                ("body".to_owned(), body.clone()),
                ("headers".to_owned(), Type::dict(Type::Str)),
            ])),
            Self::Workflow { .. } => {
                Type::object(IndexMap::from([("run".to_owned(), ended_run())]))
            }
        }
    }

    /// The workflow whose runs' ends it waits for.
    pub fn awaited(&self) -> Option<&str> {
        match self {
            Self::Webhook { .. } => None,
            Self::Workflow { workflow, .. } => Some(workflow),
        }
    }

    /// Whether it waits for this end of a run of that workflow.
    pub fn waits_for(&self, ended: &str, state: RunState) -> bool {
        match self {
            Self::Webhook { .. } => false,
            Self::Workflow { workflow, states, .. } => workflow == ended && states.contains(&state),
        }
    }

    /// The params of its runs; others have their defaults.
    pub fn params(&self) -> &IndexMap<String, Binding> {
        match self {
            Self::Webhook { params, .. } | Self::Workflow { params, .. } => params,
        }
    }

    /// The trigger with these params.
    #[must_use]
    pub fn with_params(mut self, params: IndexMap<String, Binding>) -> Self {
        match &mut self {
            Self::Webhook { params: own, .. } | Self::Workflow { params: own, .. } => *own = params,
        }
        self
    }
}

/// `trigger.run`: the run whose end starts this one.
fn ended_run() -> Type {
    let text = |name: &str| (name.to_owned(), Type::Str);
    Type::object(IndexMap::from([
        text("id"),
        text("workflow"),
        text("state"),
        ("logical_time".to_owned(), Type::DatetimeTz),
        ("params".to_owned(), Type::Json),
        ("output".to_owned(), Type::Json),
    ]))
}

/// How the sender of a webhook shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookAuth {
    /// A signature over the body by a shared secret (HMAC-SHA256).
    Hmac,
    /// A bearer token.
    Token,
}

/// When runs are made by themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its rule.
    pub when: When,
    /// The zone of its local times: an IANA name.
    pub timezone: String,
    /// What becomes of ticks that were missed while it was paused or nothing ran.
    pub catchup: Catchup,
    /// By how much later than its tick a run may be made, to spread load.
    pub jitter: Span,
    /// The params of its runs; others have their defaults.
    pub params: IndexMap<String, Binding>,
    /// Whether it is paused until a person resumes it.
    pub paused: bool,
}

/// The rule of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A cron expression over the zone's local time.
    Cron(String),
    /// Ever after this long, counted from Monday, 1970-01-05T00:00:00Z.
    Interval(Span),
    /// At these instants.
    At(Vec<Wall>),
}

/// What becomes of ticks that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Catchup {
    /// They are recorded as skipped.
    #[default]
    None,
    /// The last of them makes its run.
    Last,
    /// Each makes its run, as far as the bound for all schedules goes.
    All,
    /// The last so many make their runs.
    Max(u32),
}

/// Which files are a workflow's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The folder, relative to the workflow's file; without one the nearest with `ork.toml`, else
    /// the file's own.
    pub root: Option<String>,
    /// Patterns of what is packed; empty means everything.
    pub include: Vec<String>,
    /// Files that the workflow names itself, relative to the root.
    pub files: Vec<String>,
}

/// A DAG of tasks whose names resolve among themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// In the order of the file; edges are by position in this list.
    pub tasks: Vec<Task>,
}

impl Scope {
    pub(crate) fn collect<'p>(&'p self, all: &mut Vec<&'p Task>) {
        for task in &self.tasks {
            all.push(task);
            if let Action::Group { tasks, .. } = &task.action {
                tasks.collect(all);
            }
        }
    }

    /// The position of the task called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.tasks.iter().position(|task| task.name == name)
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, unique in its scope.
    pub name: String,
    /// Positions of its upstreams in its scope: those it names in `depends_on` and those it
    /// refers to, each once.
    pub upstreams: Vec<usize>,
    /// When its upstreams' outcomes let it start.
    pub trigger_rule: TriggerRule,
    /// A condition; false skips the task.
    pub when: Option<Expr>,
    /// Named arguments.
    pub inputs: IndexMap<String, Binding>,
    /// What the inputs must be, checked before an attempt starts.
    pub input_type: Option<Type>,
    /// What the output must be, checked when an attempt ends.
    pub output_type: Option<Type>,
    /// Attempts after the first, on failure.
    pub retry: Retry,
    /// Attempts after the first that were lost with their worker.
    pub lost_retries: u32,
    /// How long one attempt may take.
    pub timeout: Option<Span>,
    /// How long between the polite stop and the kill.
    pub grace: Span,
    /// Whether its failure leaves the run's result alone.
    pub allow_failure: bool,
    /// Environment.
    pub env: IndexMap<String, Binding>,
    /// How it runs.
    pub action: Action,
    /// Makes it a map: one instance an item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<Box<ForEach>>,
    /// Makes it a sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Box<Poll>>,
    /// How often user code has to give a sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Span>,
    /// How long it may be queued before it fails; pauses and retry waits do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// -100 to 100; the higher goes first within its run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Which workers may take it; none: the default queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_queue: Option<String>,
    /// A semaphore of the project that it holds while an attempt is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Box<PoolUse>>,
    /// Reuses an earlier success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Box<Cache>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl Task {
    /// A task with nothing but its action, and defaults for all else.
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self {
            name: name.into(),
            upstreams: Vec::new(),
            trigger_rule: TriggerRule::default(),
            when: None,
            inputs: IndexMap::new(),
            input_type: None,
            output_type: None,
            retry: Retry::default(),
            lost_retries: 3,
            timeout: None,
            grace: Span::from_secs(10),
            allow_failure: false,
            env: IndexMap::new(),
            action,
            for_each: None,
            poll: None,
            heartbeat_timeout: None,
            start_within: None,
            priority: 0,
            worker_queue: None,
            pool: None,
            cache: None,
        }
    }
}

/// One instance an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// The items.
    pub items: Items,
    /// What an item is called in expressions of the task and of what is inside it, beside `item`,
    /// which is the nearest map's.
    pub name: Option<String>,
    /// What an item is; none: any JSON.
    pub item_type: Option<Type>,
    /// Names instances, over the item and `index`; without one an instance's key is its index.
    pub key: Option<Expr>,
    /// A condition for each item, which names the item or `index`; [`Task::when`] is asked once
    /// before the map.
    pub when: Option<Expr>,
    /// The most instances at a time.
    pub max_parallel: Option<u32>,
    /// How many items may fail.
    pub tolerate: Tolerate,
    /// Whether running items are stopped once more have failed.
    pub fail_fast: bool,
}

/// Where the items of a map come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// A list.
    List(Binding),
    /// Every combination of the axes' values, as objects, the last axis the fastest; less what an
    /// object of `exclude` matches, and then the objects of `include`.
    Matrix {
        /// Name to list.
        axes: IndexMap<String, Binding>,
        /// Objects that are added.
        include: Vec<Binding>,
        /// Objects of some of the axes; a combination that agrees with one is left out.
        exclude: Vec<Binding>,
    },
}

/// How many items of a map may fail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerate {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(f64),
    /// All of them.
    All,
}

impl Tolerate {
    /// How many of `total` items may fail.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (f64::from(total) * percent / 100.0).floor() as u32,
            Self::All => total,
        }
    }
}

/// A sensor: an attempt may say `not yet`, and the task is tried again later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Poll {
    /// The wait between two attempts.
    pub every: Span,
    /// How long it may take in all.
    pub timeout: Option<Span>,
    /// A condition over `output`; false means not yet.
    pub until: Option<Expr>,
}

/// The use of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolUse {
    /// Its name, which may be computed.
    pub name: Binding,
    /// How many of its slots an attempt takes.
    pub slots: u32,
    /// How many it has where the project does not say.
    pub of: Option<u32>,
}

/// The reuse of an earlier success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// What must be equal beside the task itself.
    pub key: Expr,
    /// How long a success may be reused; none: as long as it is kept.
    pub ttl: Option<Span>,
}

/// How a task runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Something a worker does.
    Execute {
        /// The executor's name; only its spec and its driver know what it means.
        executor: String,
        /// The executor's block of the file, its defaults filled in. Its driver reads what comes
        /// out when the expressions in it are resolved.
        spec: Binding,
    },
    /// A DAG of its own, with one key.
    Group {
        /// Its tasks.
        tasks: Scope,
        /// Its output; without one `{member: output}`.
        output: Option<Binding>,
    },
    /// A DAG that is made at run time.
    Generate {
        /// What YAML would hold under `tasks`.
        tasks: Expr,
        /// The executors that it may use.
        allow: Vec<String>,
        /// Its output; without one `{member: output}`.
        output: Option<Binding>,
    },
    /// Another workflow's DAG.
    Call {
        /// Its name.
        workflow: String,
        /// Its params, not yet checked against what is pinned.
        params: IndexMap<String, Binding>,
        /// What it is, once the calling workflow is deployed; a plan without it cannot run.
        pinned: Option<Box<Pinned>>,
    },
    /// A person's decision.
    Approval(Box<Approval>),
    /// A time or an event.
    Wait(Wait),
}

impl Action {
    /// The outputs that a task of the older form finds in `ORK_UPSTREAM_JSON`, by upstream.
    pub fn upstream_outputs(&self) -> Option<&IndexMap<String, Binding>> {
        let Self::Execute { spec: Binding::Map(spec), .. } = self else { return None };
        let Binding::Map(older) = spec.get("legacy")? else { return None };
        let Binding::Map(outputs) = older.get("upstream")? else { return None };
        Some(outputs)
    }

    fn upstream_outputs_mut(&mut self) -> Option<&mut IndexMap<String, Binding>> {
        let Self::Execute { spec: Binding::Map(spec), .. } = self else { return None };
        let Binding::Map(older) = spec.get_mut("legacy")? else { return None };
        let Binding::Map(outputs) = older.get_mut("upstream")? else { return None };
        Some(outputs)
    }

    /// The key of the file that says what the task does: the executor's name, or `tasks`,
    /// `workflow`, `approval`, `wait`.
    pub fn word(&self) -> &str {
        match self {
            Self::Execute { executor, .. } => executor,
            Self::Group { .. } | Self::Generate { .. } => "tasks",
            Self::Call { .. } => "workflow",
            Self::Approval(_) => "approval",
            Self::Wait(_) => "wait",
        }
    }
}

/// A called workflow as it was when its caller was deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// Its version.
    pub version: crate::rows::VersionId,
    /// Its plan, whose own calls are pinned too.
    pub plan: Arc<Plan>,
    /// Its code.
    pub code: crate::rows::CodeRef,
}

/// A person's decision. Its output is `{approved, by, comment, form}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What is asked: text.
    pub prompt: Binding,
    /// Who may decide: a user's name, `group:G` or `role:R`; empty: whoever may run the workflow.
    pub approvers: Vec<String>,
    /// What is to be filled in.
    pub form: IndexMap<String, Param>,
    /// What a rejection comes to.
    pub on_reject: OnReject,
    /// What the task's timeout comes to.
    pub on_timeout: OnTimeout,
}

impl Default for Approval {
    fn default() -> Self {
        Self {
            prompt: Binding::Const(Value::Null),
            approvers: Vec::new(),
            form: IndexMap::new(),
            on_reject: OnReject::default(),
            on_timeout: OnTimeout::default(),
        }
    }
}

/// What a rejection comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// The task is skipped.
    #[default]
    Skip,
    /// The task fails.
    Fail,
    /// The task succeeds with `approved: false`.
    Continue,
}

/// What the end of the time for a decision comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The task fails.
    #[default]
    Fail,
    /// As if approved.
    Approve,
    /// As if rejected.
    Reject,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// This long.
    For(Span),
    /// A datetime; one that has passed is not waited for.
    Until(Binding),
    /// A signal to the run by this name; its payload, of the task's output type, is the output.
    Event(Binding),
}

/// Which outcomes of the upstreams let a task start. The words are Airflow's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerRule {
    /// All succeeded.
    #[default]
    AllSuccess,
    /// All are terminal.
    AllDone,
    /// All failed.
    AllFailed,
    /// One succeeded; does not wait for the others.
    OneSuccess,
    /// One failed; does not wait for the others.
    OneFailed,
    /// One succeeded or failed; does not wait for the others.
    OneDone,
    /// None failed.
    NoneFailed,
    /// None was skipped.
    NoneSkipped,
    /// None failed and at least one succeeded.
    NoneFailedMinOneSuccess,
}

/// What to do after a failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub max: u32,
    /// The wait before the first retry.
    pub delay: Span,
    /// How the wait grows.
    pub backoff: Backoff,
    /// By what it grows, where it grows exponentially.
    pub multiplier: f64,
    /// The longest wait.
    pub max_delay: Span,
    /// Whether the wait is spread over its upper half by a hash of run, path and attempt.
    pub jitter: bool,
    /// Which failures are retried; empty means all.
    pub on: Vec<RetryOn>,
    /// A condition over `error` and `attempt`.
    pub condition: Option<Expr>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max: 0,
            delay: Span::from_secs(10),
            backoff: Backoff::Exponential,
            multiplier: 2.0,
            max_delay: Span::from_secs(600),
            jitter: true,
            on: Vec::new(),
            condition: None,
        }
    }
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// `delay`.
    Constant,
    /// `delay · n`.
    Linear,
    /// `delay · multiplierⁿ⁻¹`.
    Exponential,
}

/// A kind of failure that is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Any failure that is not a timeout.
    Failure,
    /// A timeout.
    Timeout,
    /// This exit code.
    Exit(i32),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Written in the file.
    Const(Value),
    /// One expression, which keeps its type.
    Expr(Expr),
    /// Text with expressions inside, each converted to text.
    Text(Vec<TextPart>),
    /// A list.
    List(Vec<Binding>),
    /// A list of program arguments: each item becomes text, and an expression whose value is a
    /// list becomes several.
    Args(Vec<Binding>),
    /// An object.
    Map(IndexMap<String, Binding>),
}

impl Binding {
    /// Whether an expression in it refers to a task.
    fn names_tasks(&self) -> bool {
        match self {
            Self::Const(_) => false,
            Self::Expr(expr) => expr.names_tasks(),
            Self::Text(parts) => parts.iter().any(|part| match part {
                TextPart::Literal(_) => false,
                TextPart::Expr(expr) => expr.names_tasks(),
            }),
            Self::List(items) | Self::Args(items) => items.iter().any(Self::names_tasks),
            Self::Map(fields) => fields.values().any(Self::names_tasks),
        }
    }
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPart {
    /// As written.
    Literal(String),
    /// To be converted to text: text as it is, numbers, `true` and `false`, ISO dates.
    Expr(Expr),
}

/// A checked expression, as written between `${{` and `}}`. What it evaluates to, and how, is
/// [`crate::lang::expr`]'s; it is parsed once, when first evaluated.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expr {
    /// The text.
    pub source: Arc<str>,
    /// The parsed form, made when first needed and shared by clones.
    #[serde(skip)]
    program: Arc<OnceLock<Program>>,
}

impl Expr {
    /// An expression that is known to have been checked.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), program: Arc::default() }
    }

    /// The parsed form.
    pub(crate) fn program(&self) -> &Program {
        self.program.get_or_init(|| Program::new(&self.source))
    }

    /// Whether it refers to a task.
    fn names_tasks(&self) -> bool {
        self.program().names_tasks()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{{ {} }}}}", self.source)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_names_tasks() {
        for (source, names) in [
            ("tasks.a.output", true),
            ("1 + tasks.a.output.n", true),
            ("has(tasks.a.output)", true),
            ("tasks['a']", true),
            ("params.tasks", false),
            ("params.day == 'tasks.a'", false),
            ("'it\\'s tasks.a' + params.x", false),
            ("mytasks.a", false),
        ] {
            assert_eq!(Expr::new(source).names_tasks(), names, "{source}");
        }
    }
}
