//! The type checker: what an expression is, what it refers to and what is wrong with it, before
//! anything runs.

use indexmap::IndexMap;

use crate::plan::Param;
use crate::types::Type;

/// A name that may stand at the root of an expression, where its place allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `params`.
    Params,
    /// `tasks`.
    Tasks,
    /// `run`: `id`, `workflow`, `project`, `logical_time`, `logical_date`, `url`.
    Run,
    /// `run.state`, `run.error` and `run.failed_tasks`; in `finally` alone, beside [`Name::Run`].
    RunEnd,
    /// `attempt`.
    Attempt,
    /// `error`, in `retries.if` alone.
    Error,
    /// `vars`.
    Vars,
    /// `secrets`.
    Secrets,
}

/// What an expression may refer to at its place.
#[derive(Clone, Copy, Debug)]
pub struct CheckScope<'a> {
    /// The declared params.
    pub params: &'a IndexMap<String, Param>,
    /// The tasks that can be named from here, except the one that the expression belongs to.
    pub tasks: &'a IndexMap<String, TaskType>,
    /// The names allowed here.
    pub names: &'a [Name],
    /// Whether an output is there whenever this is evaluated, when its task has no
    /// `allow_failure`: true when the rule of the expression's task is `all_success`.
    pub certain: bool,
    /// Tasks that the `when` of the expression's task proves to have succeeded: its
    /// [`Typed::proves`]. Empty for the `when` itself.
    pub proven: &'a [String],
}

/// A task as the checker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskType {
    /// The type of its output; none when it has no output to refer to.
    pub output: Option<Type>,
    /// Whether its failure leaves its dependents to run.
    pub allow_failure: bool,
}

/// A well-typed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// What it evaluates to.
    pub ty: Type,
    /// The tasks that it refers to, by `output` or `state`, each once, in order.
    pub tasks: Vec<String>,
    /// The vars that it refers to.
    pub vars: Vec<String>,
    /// The secrets that it refers to.
    pub secrets: Vec<String>,
    /// Whether it refers to nothing at all, so that it is the same always.
    pub constant: bool,
    /// The tasks that have succeeded whenever it is true.
    pub proves: Vec<String>,
}

impl Typed {
    /// Whether the value can stand inside text; if not, why, over the whole expression.
    ///
    /// # Errors
    /// For a list, an object or what may be null.
    pub fn as_text(&self, _source: &str) -> Result<(), ExprIssue> {
        Ok(())
    }

    /// Whether the value can be one or several program arguments: like [`Typed::as_text`], and
    /// lists of what can stand in text.
    ///
    /// # Errors
    /// As [`Typed::as_text`].
    pub fn as_args(&self, _source: &str) -> Result<(), ExprIssue> {
        Ok(())
    }
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprIssue {
    /// Where it begins, in characters of the source.
    pub offset: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
    /// A stable name: `unknown-name`, `expr-type`.
    pub code: &'static str,
    /// One sentence that names the thing.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Checks an expression, as written between `${{` and `}}`.
///
/// # Errors
/// All that is wrong with it, by place.
pub fn check(_source: &str, _scope: &CheckScope<'_>) -> Result<Typed, Vec<ExprIssue>> {
    Err(Vec::new())
}
