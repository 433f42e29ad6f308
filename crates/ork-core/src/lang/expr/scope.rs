//! The names at the roots of expressions: what they are, and what is said of those that are not
//! allowed.

use indexmap::IndexMap;

use super::Name;
use crate::types::Type;

/// The roots.
pub(super) const ROOTS: &[(&str, Name)] = &[
    ("params", Name::Params),
    ("tasks", Name::Tasks),
    ("run", Name::Run),
    ("attempt", Name::Attempt),
    ("error", Name::Error),
    ("vars", Name::Vars),
    ("secrets", Name::Secrets),
];

/// The fields of `run`, those of its end last.
pub(super) const RUN_FIELDS: &[&str] = &[
    "id",
    "workflow",
    "project",
    "logical_time",
    "logical_date",
    "url",
    "state",
    "error",
    "failed_tasks",
];

const TASK_STATES: &[&str] = &[
    "pending",
    "queued",
    "dispatched",
    "running",
    "deferred",
    "stopping",
    "success",
    "failed",
    "skipped",
    "upstream_failed",
    "cancelled",
];

const RUN_RESULTS: &[&str] = &["success", "failed", "cancelled"];

const FAILURE_KINDS: &[&str] = &[
    "failure",
    "signal",
    "out_of_memory",
    "timeout",
    "not_started",
    "input_invalid",
    "output_invalid",
    "expression",
    "lost",
    "worker_failed",
    "interrupted",
    "cancelled",
    "task_failed",
    "quarantined",
];

pub(super) fn root(name: &str) -> Option<Name> {
    ROOTS.iter().find(|(root, _)| *root == name).map(|(_, root)| *root)
}

/// How a root that is no value is used.
pub(super) fn usage(name: &str) -> Option<&'static str> {
    Some(match name {
        "tasks" => "tasks.NAME.output",
        "run" => "run.id",
        "vars" => "vars.NAME",
        "secrets" => "secrets.NAME",
        _ => return None,
    })
}

/// Where a name can be used, for one that cannot be used here.
pub(super) fn place(name: &str) -> Option<&'static str> {
    Some(match name {
        "error" => "`error` is known in `retries.if`; in `finally` there is `run.error`",
        "attempt" => "`attempt` is known while a task is tried, not here",
        "tasks" => "no task has run when this is evaluated",
        "item" | "index" => "it is known in tasks with `for_each`",
        "output" => "write `tasks.NAME.output`",
        _ => return None,
    })
}

/// What to do without a root that this version gives no values.
pub(super) fn later(name: &str) -> Option<&'static str> {
    Some(match name {
        "vars" => "declare a param and write `params.NAME`",
        "secrets" => "remove it; nothing would give it a value",
        _ => return None,
    })
}

/// Words of other languages and ours for them.
pub(super) fn foreign(name: &str) -> Option<&'static str> {
    Some(match name {
        "None" | "nil" | "undefined" => "null",
        "True" | "TRUE" => "true",
        "False" | "FALSE" => "false",
        "ds" | "execution_date" | "logical_date" => "run.logical_date",
        "ts" | "logical_time" => "run.logical_time",
        "inputs" | "inputs_" => "params",
        "steps" | "needs" | "jobs" => "tasks",
        "run_id" => "run.id",
        "env" => "params",
        _ => return None,
    })
}

fn options(words: &[&str]) -> Type {
    Type::choice(words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>())
}

pub(super) fn task_states() -> Type {
    options(TASK_STATES)
}

/// `error`: what the failure of an attempt looks like.
pub(super) fn error_type() -> Type {
    let int = || Type::Int.nullable();
    Type::object(IndexMap::from([
        ("kind".to_string(), options(FAILURE_KINDS)),
        ("message".to_string(), Type::Str),
        ("exit_code".to_string(), int()),
        ("signal".to_string(), int()),
    ]))
}

pub(super) fn run_field(name: &str) -> Option<Type> {
    Some(match name {
        "id" | "workflow" | "project" | "url" => Type::Str,
        "logical_time" => Type::DatetimeTz,
        "logical_date" => Type::Date,
        _ => return None,
    })
}

pub(super) fn run_end_field(name: &str) -> Option<Type> {
    Some(match name {
        "state" => options(RUN_RESULTS),
        "error" => error_type().nullable(),
        "failed_tasks" => Type::list(Type::Str),
        _ => return None,
    })
}

/// The type of a root's field when an expression is evaluated: like the checker's, for values that
/// text stands for in JSON.
pub(super) fn run_type() -> Type {
    let fields = RUN_FIELDS.iter().filter_map(|name| {
        let ty = run_field(name).or_else(|| run_end_field(name))?;
        Some(((*name).to_string(), ty))
    });
    Type::object(fields.collect())
}

/// What is known of a file without its content.
pub(super) fn file_type() -> Type {
    let fields = [("name", Type::Str), ("size", Type::Int), ("digest", Type::Str)];
    Type::object(fields.map(|(name, ty)| (name.to_owned(), ty)).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::{FAILURE_KINDS, RUN_RESULTS, TASK_STATES};
    use crate::run::{FailureKind, RunState, TaskState};

    fn all_read<T: DeserializeOwned>(words: &[&str]) -> bool {
        words.iter().all(|word| serde_json::from_value::<T>((*word).into()).is_ok())
    }

    #[test]
    fn the_words_are_those_of_the_run_machine() {
        assert!(all_read::<TaskState>(TASK_STATES));
        assert!(all_read::<RunState>(RUN_RESULTS));
        assert!(all_read::<FailureKind>(FAILURE_KINDS));
    }
}
