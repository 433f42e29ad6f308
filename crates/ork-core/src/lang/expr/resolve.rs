//! From bindings to values.

use serde_json::Map;

use super::value::Val;
use super::{Env, EvalError};
use crate::plan::{Binding, Expr, TextPart};
use crate::types::describe;
use crate::value::{Data, Value};

/// Evaluates an expression to JSON. Dates and times become ISO 8601 text.
///
/// # Errors
/// See [`EvalError`].
pub fn eval(expr: &Expr, env: &dyn Env) -> Result<Value, EvalError> {
    with_value(expr, env, |value| to_json(expr, value))
}

/// Resolves a binding. A binding that is exactly one reference to an output that is a blob stays a
/// reference; anything else that looks into a blob needs it at hand.
///
/// # Errors
/// See [`EvalError`].
pub fn resolve(binding: &Binding, env: &dyn Env) -> Result<Data, EvalError> {
    match binding {
        Binding::Expr(expr) => match whole_output(expr, env) {
            Some(data) => Ok(data),
            None => eval(expr, env).map(Data::Inline),
        },
        _ => value(binding, env).map(Data::Inline),
    }
}

fn with_value<T>(
    expr: &Expr,
    env: &dyn Env,
    take: impl FnOnce(&Val<'_>) -> Result<T, EvalError>,
) -> Result<T, EvalError> {
    expr.program().run(&expr.source, env, take)
}

fn to_json(expr: &Expr, value: &Val<'_>) -> Result<Value, EvalError> {
    value.to_json().map_err(|why| EvalError::Failed(format!("`{}`: {why}", expr.source)))
}

fn whole_output(expr: &Expr, env: &dyn Env) -> Option<Data> {
    let task = env.task(expr.program().whole_output()?)?;
    Some(task.output.cloned().unwrap_or(Data::NULL))
}

fn value(binding: &Binding, env: &dyn Env) -> Result<Value, EvalError> {
    match binding {
        Binding::Const(value) => Ok(value.clone()),
        Binding::Expr(expr) => eval(expr, env),
        Binding::Text(parts) => text(parts, env).map(Value::String),
        Binding::List(items) => each(items, |item| value(item, env)).map(Value::Array),
        Binding::Args(items) => args(items, env),
        Binding::Map(fields) => {
            let mut values = Map::new();
            let mut missing = Missing::default();
            for (name, field) in fields {
                if let Some(value) = missing.take(value(field, env))? {
                    values.insert(name.clone(), value);
                }
            }
            missing.none().map(|()| Value::Object(values))
        }
    }
}

/// Collects all blobs that are needed, so that they are asked for at once.
#[derive(Default)]
struct Missing(Vec<crate::value::Digest>);

impl Missing {
    fn take<T>(&mut self, result: Result<T, EvalError>) -> Result<Option<T>, EvalError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(EvalError::Need(digests)) => {
                for digest in digests {
                    if !self.0.contains(&digest) {
                        self.0.push(digest);
                    }
                }
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    }

    fn none(self) -> Result<(), EvalError> {
        if self.0.is_empty() { Ok(()) } else { Err(EvalError::Need(self.0)) }
    }
}

fn each<B, T>(
    items: &[B],
    mut one: impl FnMut(&B) -> Result<T, EvalError>,
) -> Result<Vec<T>, EvalError> {
    let mut values = Vec::with_capacity(items.len());
    let mut missing = Missing::default();
    for item in items {
        values.extend(missing.take(one(item))?);
    }
    missing.none().map(|()| values)
}

fn text(parts: &[TextPart], env: &dyn Env) -> Result<String, EvalError> {
    let parts = each(parts, |part| match part {
        TextPart::Literal(text) => Ok(text.clone()),
        TextPart::Expr(expr) => with_value(expr, env, |value| expr_text(expr, value)),
    })?;
    Ok(parts.concat())
}

fn expr_text(expr: &Expr, value: &Val<'_>) -> Result<String, EvalError> {
    if let Val::File(file) = value {
        return Ok(file.mark());
    }
    value.to_text().ok_or_else(|| {
        let hint = match value {
            Val::Null => "; write `default(x, '')`",
            _ if value.is_list() => "; join it: `join(list, ',')`",
            _ => "",
        };
        let what = value.describe();
        EvalError::Failed(format!("`{}` is {what}, which cannot stand in text{hint}", expr.source))
    })
}

fn args(items: &[Binding], env: &dyn Env) -> Result<Value, EvalError> {
    let args = each(items, |item| match item {
        Binding::Expr(expr) => with_value(expr, env, |value| expr_args(expr, value)),
        other => value(other, env).and_then(|value| const_args(&value)),
    })?;
    Ok(Value::Array(args.into_iter().flatten().map(Value::String).collect()))
}

fn expr_args(expr: &Expr, value: &Val<'_>) -> Result<Vec<String>, EvalError> {
    match value.items().filter(|_| value.is_list()) {
        Some(items) => items.iter().map(|item| expr_text(expr, item)).collect(),
        None => Ok(vec![expr_text(expr, value)?]),
    }
}

fn const_args(value: &Value) -> Result<Vec<String>, EvalError> {
    match value {
        Value::Array(items) => each(items, const_args).map(|args| args.concat()),
        _ => Val::of(value, None).to_text().map(|text| vec![text]).ok_or_else(|| {
            EvalError::Failed(format!("{} cannot be a program argument", describe(value)))
        }),
    }
}
