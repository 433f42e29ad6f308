//! What expressions see of a run, and what they wait for.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::json;

use crate::lang::expr::{self, Env, EvalError, Named, TaskView};
use crate::plan::{Binding, Expr, Param};
use crate::run::active::{Cx, Desk, Run};
use crate::run::instance::{Ix, Parked};
use crate::run::machine::{Blob, Out};
use crate::run::values::{Values, Waiter};
use crate::run::{Effect, Failure};
use crate::value::{Data, Digest, INLINE_LIMIT, Value};

/// The environment of an expression of a run.
pub(super) struct View<'a> {
    run: &'a Run,
    values: &'a Values,
    /// The instance that the expression belongs to; none: the run.
    at: Option<Ix>,
    attempt: u32,
    error: Option<&'a Failure>,
}

impl Env for View<'_> {
    fn params(&self) -> (&Value, &IndexMap<String, Param>) {
        (&self.run.facts.params, &self.run.facts.plan.params)
    }

    fn run(&self) -> Value {
        let facts = &self.run.facts;
        let mut value = json!({
            "id": self.run.id.to_string(),
            "workflow": &*facts.workflow,
            "project": &*facts.project_name,
            "logical_time": &*facts.logical_time,
            "logical_date": facts.logical_time.get(..10).unwrap_or(&facts.logical_time),
            "url": facts.url,
        });
        if self.sees_finally()
            && let (Some(end), Some(fields)) = (&self.run.body_end, value.as_object_mut())
        {
            fields.insert("state".into(), json!(end.state));
            fields.insert("error".into(), json!(end.failure.as_ref().map(|f| &f.message)));
            fields.insert("failed_tasks".into(), json!(end.failed));
        }
        value
    }

    fn task(&self, name: &str) -> Option<TaskView<'_>> {
        let sibling = self
            .sees_finally()
            .then(|| self.run.by_path.get(format!("finally/{name}").as_str()))
            .flatten();
        let ix = *sibling.or_else(|| self.run.by_path.get(name))?;
        let instance = self.run.instance(ix);
        Some(TaskView {
            state: instance.state(),
            output: instance.output.as_deref(),
            output_type: self.run.task(ix).output_type.as_ref(),
        })
    }

    fn blob(&self, digest: &Digest) -> Option<Arc<Value>> {
        self.values.get(digest)
    }

    fn other(&self, name: &str) -> Option<Named<'_>> {
        match name {
            "attempt" => Some(Value::from(self.attempt).into()),
            "error" => self.error.map(|error| {
                json!({
                    "kind": error.kind,
                    "exit_code": error.exit_code,
                    "message": error.message,
                })
                .into()
            }),
            _ => None,
        }
    }
}

impl View<'_> {
    fn sees_finally(&self) -> bool {
        self.at.is_some_and(|ix| self.run.in_finally(ix))
    }

    /// A truth.
    pub(super) fn holds(&self, expr: &Expr) -> Result<bool, EvalError> {
        match expr::eval(expr, self)? {
            Value::Bool(value) => Ok(value),
            other => {
                Err(EvalError::Failed(format!("`{}` is {other}, not true or false", expr.source)))
            }
        }
    }

    /// A value that is at hand whole.
    pub(super) fn whole(&self, binding: &Binding) -> Result<Value, EvalError> {
        match expr::resolve(binding, self)? {
            Data::Inline(value) => Ok(value),
            Data::Blob { digest, .. } => match self.values.get(&digest) {
                Some(value) => Ok(Value::clone(&value)),
                None => Err(EvalError::Need(vec![digest])),
            },
        }
    }

    /// A value for the environment of a process.
    pub(super) fn text(&self, binding: &Binding) -> Result<String, EvalError> {
        match self.whole(binding)? {
            Value::String(text) => Ok(text),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null => Err(EvalError::Failed("null is no text; use default(…)".into())),
            _ => Err(EvalError::Failed("a list or map is no text; use join(…)".into())),
        }
    }

    /// A value that may stay where it is.
    pub(super) fn data(&self, binding: &Binding) -> Result<Data, EvalError> {
        expr::resolve(binding, self)
    }
}

/// Evaluates all, so that what they need is asked for at once. A failure names its binding.
pub(super) fn each<'b, T>(
    what: &str,
    bindings: impl Iterator<Item = (&'b String, &'b Binding)>,
    mut evaluate: impl FnMut(&Binding) -> Result<T, EvalError>,
) -> Result<IndexMap<String, T>, EvalError> {
    let mut values = IndexMap::new();
    let mut needs = Vec::new();
    for (name, binding) in bindings {
        match evaluate(binding) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(EvalError::Need(more)) => needs.extend(more),
            Err(EvalError::Failed(message)) => {
                return Err(EvalError::Failed(format!("{what}.{name}: {message}")));
            }
        }
    }
    if needs.is_empty() { Ok(values) } else { Err(EvalError::Need(needs)) }
}

/// What was evaluated, in a form that fits a row: a large value becomes a blob.
pub(super) fn fit(data: Data, out: &mut Out) -> Result<Data, EvalError> {
    let Data::Inline(value) = &data else { return Ok(data) };
    if is_small(value) {
        return Ok(data);
    }
    let content = serde_json::to_vec(value).map_err(|e| EvalError::Failed(e.to_string()))?;
    if content.len() <= INLINE_LIMIT {
        return Ok(data);
    }
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    out.blobs.push(Blob { digest, content });
    Ok(Data::Blob { digest, size })
}

/// Whether a value's JSON is surely short, without writing it.
fn is_small(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        // A character takes at most six bytes in JSON.
        Value::String(text) => text.len() < INLINE_LIMIT / 6 - 2,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

impl Run {
    /// What the expressions of an instance, or of the run, see.
    pub(super) fn view<'a>(&'a self, at: Option<Ix>, desk: &'a Desk) -> View<'a> {
        let attempt = at.map_or(1, |ix| self.instance(ix).next_attempt());
        View { run: self, values: &desk.values, at, attempt, error: None }
    }

    /// What a retry condition sees after the attempt that failed.
    pub(super) fn view_of<'a>(&'a self, ix: Ix, error: &'a Failure, desk: &'a Desk) -> View<'a> {
        let attempt = self.instance(ix).attempt;
        View { run: self, values: &desk.values, at: Some(ix), attempt, error: Some(error) }
    }

    fn parked_mut(&mut self, at: Option<Ix>) -> &mut Option<Box<Parked>> {
        match at {
            Some(ix) => &mut self.instance_mut(ix).parked,
            None => &mut self.parked,
        }
    }

    /// Waits for values; each is fetched once, whoever waits.
    pub(super) fn park(&mut self, at: Option<Ix>, needs: Vec<Digest>, cx: &mut Cx<'_>) {
        let waiter = Waiter { run: self.id, ix: at };
        let parked = self.parked_mut(at).get_or_insert_default();
        for digest in needs {
            if !parked.missing.contains(&digest) {
                parked.missing.push(digest);
                if cx.desk.values.ask(digest, waiter) {
                    cx.out.effects.push(Effect::Fetch { digest });
                }
            }
        }
    }

    /// A value came. Whether it was the last one that was waited for.
    pub(super) fn arrived(&mut self, at: Option<Ix>, digest: Digest, desk: &mut Desk) -> bool {
        let Some(parked) = self.parked_mut(at) else { return false };
        let Some(found) = parked.missing.iter().position(|d| *d == digest) else { return false };
        parked.missing.swap_remove(found);
        parked.held.push(digest);
        desk.values.pin(digest);
        parked.missing.is_empty()
    }

    /// Whether the value is still waited for.
    pub(super) fn awaits(&mut self, at: Option<Ix>, digest: Digest) -> bool {
        self.parked_mut(at).as_ref().is_some_and(|parked| parked.missing.contains(&digest))
    }

    /// Waits for nothing any more.
    pub(super) fn unpark(&mut self, ix: Ix, desk: &mut Desk) {
        self.unpark_at(Some(ix), desk);
    }

    /// The run's output waits for nothing any more, or an instance.
    pub(super) fn unpark_at(&mut self, at: Option<Ix>, desk: &mut Desk) {
        if let Some(parked) = self.parked_mut(at).take() {
            parked.held.iter().for_each(|digest| desk.values.unpin(*digest));
        }
    }
}
