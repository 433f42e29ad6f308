//! A run's params: what was given, read by the declared types, with defaults filled in.

use indexmap::IndexMap;

use super::diagnostic::nearest;
use super::expr::{Env, EvalError, Named, TaskView, resolve};
use crate::plan::{Binding, Param, Plan};
use crate::types::Type;
use crate::value::{Data, Digest, Value};

/// A param as it is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// As a person types it after `-p name=`.
    Text(String),
    /// As JSON.
    Json(Value),
}

/// What an expression default may ask of the run that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// The run's id.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// The project's name.
    pub project: String,
    /// What the run is for: ISO 8601 with an offset.
    pub logical_time: String,
    /// Where a person finds the run.
    pub url: String,
}

impl RunFacts {
    /// `run`, as expressions see it.
    pub fn value(&self) -> Value {
        let day = self.logical_time.get(..10).unwrap_or(&self.logical_time);
        serde_json::json!({
            "id": self.id,
            "workflow": self.workflow,
            "project": self.project,
            "logical_time": self.logical_time,
            "logical_date": day,
            "url": self.url,
        })
    }
}

/// What is wrong with a param.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("param `{name}`: {message}")]
pub struct ParamError {
    /// The param.
    pub name: String,
    /// One sentence.
    pub message: String,
}

/// The params of a run: those given, read as their types, and the defaults of the others.
///
/// # Errors
/// All that is wrong: unknown names, missing ones, values that are not of their type, defaults
/// that fail on this run.
pub fn bind_params(
    plan: &Plan,
    given: &IndexMap<String, Given>,
    facts: &RunFacts,
) -> Result<Value, Vec<ParamError>> {
    bind_all(&plan.params, given, facts, |name| unknown(plan, name))
}

/// The fields of an approval's form, bound like a run's params.
///
/// # Errors
/// All that is wrong.
pub(crate) fn bind_form(
    form: &IndexMap<String, Param>,
    given: &IndexMap<String, Given>,
    facts: &RunFacts,
) -> Result<Value, Vec<ParamError>> {
    let names = || form.keys().map(String::as_str);
    bind_all(form, given, facts, |name| match nearest(name, names()) {
        Some(near) => format!("the form has no such field; did you mean `{near}`?"),
        None if form.is_empty() => "the form has no fields".into(),
        None => {
            format!("the form has no such field; it has {}", names().collect::<Vec<_>>().join(", "))
        }
    })
}

fn bind_all(
    params: &IndexMap<String, Param>,
    given: &IndexMap<String, Given>,
    facts: &RunFacts,
    unknown: impl Fn(&str) -> String,
) -> Result<Value, Vec<ParamError>> {
    let mut errors = Vec::new();
    let mut values = serde_json::Map::new();
    for name in given.keys().filter(|name| !params.contains_key(*name)) {
        errors.push(ParamError { name: name.clone(), message: unknown(name) });
    }
    for (name, param) in params {
        match bind(param, given.get(name), facts) {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(message) => errors.push(ParamError { name: name.clone(), message }),
        }
    }
    if errors.is_empty() { Ok(Value::Object(values)) } else { Err(errors) }
}

/// The params of a run that a schedule makes: its own bindings, evaluated, and the defaults of the
/// others.
///
/// # Errors
/// All that is wrong.
pub fn bind_scheduled(
    plan: &Plan,
    bindings: &IndexMap<String, Binding>,
    facts: &RunFacts,
) -> Result<Value, Vec<ParamError>> {
    let sight = Sight { run: facts.value(), trigger: None };
    bind_given(plan, bindings, facts, &sight, "the schedule's value")
}

/// What the expressions of a trigger's params call it.
pub(crate) const TRIGGER_VALUE: &str = "trigger";

/// The params of a run that a trigger makes: its own bindings, evaluated over `trigger` with its
/// type, and the defaults of the others.
///
/// # Errors
/// All that is wrong.
pub fn bind_triggered(
    plan: &Plan,
    bindings: &IndexMap<String, Binding>,
    facts: &RunFacts,
    (trigger, ty): (Value, &Type),
) -> Result<Value, Vec<ParamError>> {
    let sight = Sight { run: facts.value(), trigger: Some((trigger, ty)) };
    bind_given(plan, bindings, facts, &sight, "the trigger's value")
}

fn bind_given(
    plan: &Plan,
    bindings: &IndexMap<String, Binding>,
    facts: &RunFacts,
    sight: &Sight<'_>,
    whose: &str,
) -> Result<Value, Vec<ParamError>> {
    let mut given = IndexMap::new();
    let mut errors = Vec::new();
    for (name, binding) in bindings {
        match value_of(binding, sight) {
            Ok(value) => drop(given.insert(name.clone(), Given::Json(value))),
            Err(why) => {
                let message = format!("{whose} {why}");
                errors.push(ParamError { name: name.clone(), message });
            }
        }
    }
    if errors.is_empty() { bind_params(plan, &given, facts) } else { Err(errors) }
}

/// What a binding comes to; else what is wrong with it, as a verb's phrase.
fn value_of(binding: &Binding, sight: &Sight<'_>) -> Result<Value, String> {
    match resolve(binding, sight) {
        Ok(Data::Inline(value)) => Ok(value),
        Ok(Data::Blob { .. }) | Err(EvalError::Need(_)) => Err("is too large".into()),
        Err(EvalError::Failed(why)) => Err(format!("fails: {why}")),
    }
}

fn unknown(plan: &Plan, name: &str) -> String {
    let names = || plan.params.keys().map(String::as_str);
    match nearest(name, names()) {
        Some(near) => format!("the workflow has no such param; did you mean `{near}`?"),
        None if plan.params.is_empty() => "the workflow has no params".into(),
        None => format!(
            "the workflow has no such param; it has {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn bind(param: &Param, given: Option<&Given>, facts: &RunFacts) -> Result<Value, String> {
    match (given, &param.default) {
        (Some(Given::Text(text)), _) => param.ty.read_text(text).map_err(|e| e.to_string()),
        (Some(Given::Json(value)), _) => param.ty.read(value.clone()).map_err(|e| e.to_string()),
        (None, Some(default)) => match value_of(default, &Sight::of(facts)) {
            Ok(value) => param.ty.read(value).map_err(|e| format!("its default is wrong: {e}")),
            Err(why) => Err(format!("its default {why}")),
        },
        (None, None) if !param.is_required() => Ok(Value::Null),
        (None, None) => Err(format!("it is required ({})", param.ty)),
    }
}

/// What expressions see before there is a run.
struct Sight<'a> {
    run: Value,
    trigger: Option<(Value, &'a Type)>,
}

impl Sight<'_> {
    fn of(facts: &RunFacts) -> Self {
        Self { run: facts.value(), trigger: None }
    }
}

impl Env for Sight<'_> {
    fn params(&self) -> (&Value, &IndexMap<String, Param>) {
        static NONE: std::sync::OnceLock<IndexMap<String, Param>> = std::sync::OnceLock::new();
        (&Value::Null, NONE.get_or_init(IndexMap::new))
    }

    fn run(&self) -> Value {
        self.run.clone()
    }

    fn task(&self, _name: &str) -> Option<TaskView<'_>> {
        None
    }

    fn blob(&self, _digest: &Digest) -> Option<std::sync::Arc<Value>> {
        None
    }

    fn other(&self, name: &str) -> Option<Named<'_>> {
        let (value, ty) = self.trigger.as_ref().filter(|_| name == TRIGGER_VALUE)?;
        Some(Named { value: value.clone(), ty: Some(ty) })
    }
}
