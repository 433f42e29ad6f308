//! Expressions: CEL with the types of the language. Parsed, checked and evaluated here; tests hold
//! the common part against the `cel` crate.

mod ast;
mod check;
mod cost;
mod eval;
mod facts;
mod functions;
mod infer;
mod lexer;
mod parse;
mod problem;
mod program;
mod resolve;
mod scope;
mod value;

use indexmap::IndexMap;

pub(crate) use self::check::check_with;
pub use self::check::{CheckScope, ExprIssue, Name, Presence, TaskType, Typed, check};
pub(crate) use self::infer::unify;
use self::problem::Problem;
pub use self::program::Program;
pub use self::resolve::{eval, resolve};
use crate::plan::Param;
use crate::run::TaskState;
use crate::types::Type;
use crate::value::{Data, Digest, Value};

/// Whether a name stands for something in every expression.
pub(crate) fn is_taken(name: &str) -> bool {
    scope::root(name).is_some() || ["output", "trigger"].contains(&name)
}

/// Whether an expression looks at one of the names.
pub(crate) fn looks_at(source: &str, names: &[(String, Type)]) -> bool {
    let program = Program::new(source);
    names.iter().any(|(name, _)| program.looks_at(name))
}

/// What an expression can see while a run is under way.
pub trait Env {
    /// The run's params and their types.
    fn params(&self) -> (&Value, &IndexMap<String, Param>);
    /// `run`: `id`, `workflow`, `project`, `logical_time`, `logical_date`, `url`, and in `finally`
    /// also `state`, `error`, `failed_tasks`.
    fn run(&self) -> Value;
    /// The task `name`, from where the expression stands.
    fn task(&self, name: &str) -> Option<TaskView<'_>>;
    /// A value kept as a blob, when it is at hand.
    fn blob(&self, digest: &Digest) -> Option<std::sync::Arc<Value>>;
    /// The blob that the value of another name is in, where that has to be at hand first.
    fn needs(&self, _name: &str) -> Option<Digest> {
        None
    }
    /// Other names: `attempt`, `error` in a retry condition, `item` and `index` in a map and what
    /// `as` names them, `output` in `poll.until`, `trigger`.
    fn other(&self, name: &str) -> Option<Named<'_>>;
}

/// A value with its type, by which its texts are dates and times.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// The value.
    pub value: Value,
    /// Its type; none where JSON says all.
    pub ty: Option<&'a Type>,
}

impl From<Value> for Named<'_> {
    fn from(value: Value) -> Self {
        Self { value, ty: None }
    }
}

/// A task as an expression sees it.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    /// Its state.
    pub state: TaskState,
    /// Its output; none when it has not succeeded.
    pub output: Option<&'a Data>,
    /// The output's type.
    pub output_type: Option<&'a Type>,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// These blobs must be at hand first.
    #[error("needs values that are not loaded")]
    Need(Vec<Digest>),
    /// The expression fails on these values.
    #[error("{0}")]
    Failed(String),
}
