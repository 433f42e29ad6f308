//! The type checker: what an expression is, what it refers to and what is wrong with it, before
//! anything runs.

use indexmap::IndexMap;

use super::ast::{Kind, Node};
use super::facts::Facts;
use super::infer::Checker;
use super::parse::{parse, whole};
use super::{Problem, cost};
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
    /// Other names with their types, of which a later one hides an earlier one: `item`, `index`
    /// and what `as` names them in a map, `output` in `poll.until`, `trigger`.
    pub values: &'a [(String, Type)],
}

/// A task as the checker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskType {
    /// The type of its output; none when it has no output to refer to.
    pub output: Option<Type>,
    /// Whether its output is there.
    pub presence: Presence,
}

/// Whether a task's output is there whenever an expression that refers to it is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// If [`CheckScope::certain`].
    ByRule,
    /// Always: it had succeeded before the group that the expression stands in was opened.
    Always,
    /// Not always: its failure leaves its dependents to run.
    Maybe,
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
    /// Whether the value can stand inside text; if not, why, over the whole expression. `paths`: a
    /// file is its path there.
    ///
    /// # Errors
    /// For a list, an object, what may be null, or a file that has no path.
    pub fn as_text(&self, source: &str, paths: bool) -> Result<(), ExprIssue> {
        let hint = match &self.ty {
            Type::File if !paths => "give it whole, or take its `name`",
            Type::List(_) => "join it: `join(list, ',')`",
            Type::Object(_) | Type::Dict(_) => "take one of its fields",
            Type::Nullable(_) => "write `default(x, '')`",
            _ => return Ok(()),
        };
        let message = format!("a value of type {} cannot stand in text", self.ty);
        Err(Problem::new(whole(source), "expr-text", message).hint(Some(hint)).issue(source))
    }

    /// Whether the value can be one or several program arguments: what can stand in text, and
    /// lists of it.
    ///
    /// # Errors
    /// As [`Typed::as_text`].
    pub fn as_args(&self, source: &str) -> Result<(), ExprIssue> {
        match &self.ty {
            Type::List(item) => Self { ty: (**item).clone(), ..self.clone() }.as_text(source, true),
            _ => self.as_text(source, true),
        }
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

/// Checks an expression, as written between `${{` and `}}`: at most 4 KiB, nested 32 deep, with
/// macros in macros once, and with a cost (nodes × sizes of the lists they are done for) of at
/// most 100,000.
///
/// # Errors
/// All that is wrong with it, by place.
pub fn check(source: &str, scope: &CheckScope<'_>) -> Result<Typed, Vec<ExprIssue>> {
    check_with(source, scope, true)
}

/// [`check`], with names suggested for those that are not there or without.
pub(crate) fn check_with(
    source: &str,
    scope: &CheckScope<'_>,
    suggest: bool,
) -> Result<Typed, Vec<ExprIssue>> {
    let in_place = |mut problems: Vec<Problem>| -> Vec<ExprIssue> {
        problems.sort_by_key(|problem| (problem.at.start, problem.at.end));
        problems.into_iter().map(|problem| problem.issue(source)).collect()
    };
    let node = parse(source).map_err(in_place)?;
    let mut checker = Checker::new(source, scope, suggest);
    let ty = checker.infer(&node, false);
    let ty = checker.value(&node, ty);
    checker.problems.extend(cost::check(&node));
    if !checker.problems.is_empty() {
        return Err(in_place(checker.problems));
    }
    Ok(Typed {
        ty,
        constant: !refers(&node),
        proves: Facts::when_true(&node).succeeded,
        tasks: checker.tasks,
        vars: checker.vars,
        secrets: checker.secrets,
    })
}

/// Whether anything but its own literals and items is read. A name bound by a macro is no
/// reference.
fn refers(node: &Node) -> bool {
    fn walk<'n>(node: &'n Node, bound: &mut Vec<&'n str>) -> bool {
        match &node.kind {
            Kind::Name(name) => !bound.contains(&&**name),
            Kind::Each(each) => {
                if walk(&each.list, bound) {
                    return true;
                }
                bound.push(&each.var);
                let found = each.only.iter().chain([&each.body]).any(|node| walk(node, bound));
                bound.pop();
                found
            }
            _ => node.children().into_iter().any(|child| walk(child, bound)),
        }
    }
    walk(node, &mut Vec::new())
}
