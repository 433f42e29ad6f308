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

impl Plan {
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
        if let Some(unknown) = inputs.keys().find(|name| !task.inputs.contains_key(*name)) {
            return Err(format!("`{path}` has no input `{unknown}`"));
        }
        for (name, value) in inputs {
            task.inputs.insert(name.clone(), Binding::Const(value.clone()));
        }
        if let Some((name, _)) = task.inputs.iter().find(|(_, binding)| binding.names_tasks()) {
            return Err(format!("the input `{name}` of `{path}` comes from another task; give it"));
        }
        let Action::Execute { spec, .. } = &task.action;
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
    pub(crate) program: Arc<std::sync::OnceLock<crate::lang::expr::Program>>,
}

impl Expr {
    /// An expression that is known to have been checked.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), program: Arc::default() }
    }
}

impl Expr {
    /// Whether the name `tasks` stands in it outside of text.
    fn names_tasks(&self) -> bool {
        let (mut quote, mut word) = (None, String::new());
        let mut chars = self.source.chars();
        while let Some(c) = chars.next() {
            match quote {
                Some(_) if c == '\\' => drop(chars.next()),
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if c.is_alphanumeric() || c == '_' || c == '.' => word.push(c),
                None => {
                    if word == "tasks" || word.starts_with("tasks.") {
                        return true;
                    }
                    word.clear();
                    quote = (c == '\'' || c == '"').then_some(c);
                }
            }
        }
        word == "tasks" || word.starts_with("tasks.")
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
