//! A workflow as the run machine sees it: checked, lowered, with no trace of YAML. A version
//! keeps its plan as JSON, so that a run never depends on a file that may be gone.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::time::Span;
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
    /// What is packed as code: the root folder and the patterns, as declared.
    pub code: Code,
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
}

/// How a task runs. One variant until groups, waits and approvals come.
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
    pub(crate) program: Arc<std::sync::OnceLock<crate::lang::expr::Program>>,
}

impl Expr {
    /// An expression that is known to have been checked.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), program: Arc::default() }
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
