//! What expressions see of a run, and what they wait for.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::json;

use crate::lang::expr::{self, Env, EvalError, Named, TaskView};
use crate::plan::{Binding, Expr, Param};
use crate::run::active::{Cx, Desk, Run};
use crate::run::inside::Kind;
use crate::run::instance::{Ix, Parked};
use crate::run::level::{Frame, Level, Part};
use crate::run::machine::{Blob, Out};
use crate::run::map::Map;
use crate::run::values::{Values, Waiter};
use crate::run::{Effect, Failure};
use crate::types::Type;
use crate::value::{Data, Digest, INLINE_LIMIT, Value};

/// The environment of an expression of a run.
pub(super) struct View<'a> {
    run: &'a Run,
    values: &'a Values,
    /// The level whose names are the nearest.
    level: u32,
    /// The instance that the expression belongs to; none: a workflow.
    who: Option<Ix>,
    /// An item that has no instance yet: the map, and its place.
    item: Option<(Ix, u32)>,
    attempt: u32,
    error: Option<&'a Failure>,
    output: Option<&'a Value>,
}

impl Env for View<'_> {
    fn params(&self) -> (&Value, &IndexMap<String, Param>) {
        let frame = self.frame();
        (&frame.params, &frame.plan.params)
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
        if self.level().part == Part::Finally
            && let (Some(end), Some(fields)) = (&self.frame().end, value.as_object_mut())
        {
            fields.insert("state".into(), json!(end.state));
            fields.insert("error".into(), json!(end.failure.as_ref().map(|f| &f.message)));
            fields.insert("failed_tasks".into(), json!(end.failed));
        }
        value
    }

    fn task(&self, name: &str) -> Option<TaskView<'_>> {
        let run = self.run;
        let mut level = self.level();
        loop {
            if let Some(ix) = run.find(level, name) {
                let instance = run.instance(ix);
                let output_type = match run.map(ix) {
                    Some(map) => map.ty.as_deref(),
                    None => run.task(ix).output_type.as_ref(),
                };
                let output = instance.output.as_deref();
                return Some(TaskView { state: instance.state(), output, output_type });
            }
            let frame = &run.frames[level.frame as usize];
            level = match level.owner {
                _ if level.shape.is_fenced() => return None,
                owner if owner != frame.owner => run.level(owner?),
                _ if level.part == Part::Finally => &run.levels[frame.body as usize],
                _ => return None,
            };
        }
    }

    fn blob(&self, digest: &Digest) -> Option<Arc<Value>> {
        self.values.get(digest)
    }

    fn needs(&self, name: &str) -> Option<Digest> {
        match self.found(name)? {
            Found::Index(_) => None,
            Found::Item { map, .. } => match (&map.items, &map.data) {
                (None, Data::Blob { digest, .. }) => Some(*digest),
                _ => None,
            },
        }
    }

    fn other(&self, name: &str) -> Option<Named<'_>> {
        match name {
            "attempt" => Some(Value::from(self.attempt).into()),
            "output" => self.output.map(|output| output.clone().into()),
            "error" => self.error.map(|error| {
                json!({
                    "kind": error.kind,
                    "exit_code": error.exit_code,
                    "message": error.message,
                })
                .into()
            }),
            _ => match self.found(name)? {
                Found::Index(index) => Some(Value::from(index).into()),
                Found::Item { map, index, ty } => {
                    let value = match (&map.items, &map.data) {
                        (Some(items), _) => items.get(index as usize).cloned(),
                        (None, Data::Inline(items)) => items.get(index as usize).cloned(),
                        (None, Data::Blob { digest, .. }) => {
                            self.values.get(digest)?.get(index as usize).cloned()
                        }
                    };
                    Some(Named { value: value?, ty })
                }
            },
        }
    }
}

/// What a name of a map's stands for.
enum Found<'a> {
    Index(u32),
    Item { map: &'a Map, index: u32, ty: Option<&'a Type> },
}

impl<'a> View<'a> {
    fn level(&self) -> &'a Level {
        &self.run.levels[self.level as usize]
    }

    fn frame(&self) -> &'a Frame {
        &self.run.frames[self.level().frame as usize]
    }

    /// The items that the expression is inside of, the nearest first: the map, and the place.
    fn items(&self) -> impl Iterator<Item = (Ix, u32)> {
        let run = self.run;
        let outer = move |ix: Ix| {
            let instance = run.instance(ix);
            if run.is_root(instance.level) { None } else { run.level(ix).owner }
        };
        let all = std::iter::successors(self.who, move |ix| outer(*ix));
        let items = all.filter_map(|ix| run.instance(ix).item).map(|item| (item.map, item.index));
        self.item.into_iter().chain(items)
    }

    /// The names of items, with their types: `item` and `index` of the nearest map, and those that
    /// maps give.
    pub(super) fn names(&self) -> Vec<(String, Type)> {
        let mut names: Vec<(String, Type)> = Vec::new();
        for (map, _) in self.items() {
            let Some(each) = self.run.task(map).for_each.as_deref() else { continue };
            let ty = each.item_type.clone().unwrap_or(Type::Json);
            if names.is_empty() {
                names.extend([("item".into(), ty.clone()), ("index".into(), Type::Int)]);
            }
            if let Some(name) = each.name.as_ref()
                && !names.iter().any(|(known, _)| known == name)
            {
                names.push((name.clone(), ty));
            }
        }
        names
    }

    /// The item or index that a name stands for: `item` and `index` are the nearest map's, any
    /// other name is the nearest map's that gives it.
    fn found(&self, name: &str) -> Option<Found<'a>> {
        let called = |(map, _): &(Ix, u32)| {
            let each = self.run.task(*map).for_each.as_deref();
            each.is_some_and(|each| each.name.as_deref() == Some(name))
        };
        let found = match name {
            "index" => return self.items().next().map(|(_, index)| Found::Index(index)),
            "item" => self.items().next(),
            _ => self.items().find(called),
        };
        let (map, index) = found?;
        let ty = self.run.task(map).for_each.as_deref()?.item_type.as_ref();
        Some(Found::Item { map: self.run.map(map)?, index, ty })
    }

    /// The value of an expression.
    pub(super) fn value(&self, expr: &Expr) -> Result<Value, EvalError> {
        expr::eval(expr, self)
    }

    /// A value that is kept as a blob.
    pub(super) fn loaded(&self, digest: &Digest) -> Result<Arc<Value>, EvalError> {
        self.values.get(digest).ok_or_else(|| EvalError::Need(vec![*digest]))
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

    /// The same, which also sees an attempt's output.
    pub(super) fn over<'b>(&'b self, output: &'b Value) -> View<'b> {
        View { output: Some(output), ..*self }
    }

    /// A value that is at hand whole.
    pub(super) fn whole(&self, binding: &Binding) -> Result<Value, EvalError> {
        self.at_hand(expr::resolve(binding, self)?)
    }

    /// A value, wherever it is kept.
    pub(super) fn at_hand(&self, data: Data) -> Result<Value, EvalError> {
        match data {
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
    match &data {
        Data::Inline(value) if !is_small(value) => fit_within(data, INLINE_LIMIT, out),
        _ => Ok(data),
    }
}

/// What was evaluated, as a blob where its JSON is longer than `limit`.
pub(super) fn fit_within(data: Data, limit: usize, out: &mut Out) -> Result<Data, EvalError> {
    let Data::Inline(value) = &data else { return Ok(data) };
    let content = serde_json::to_vec(value).map_err(|e| EvalError::Failed(e.to_string()))?;
    if content.len() <= limit {
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
        let level = at.map_or(self.frames[0].body, |ix| self.instance(ix).level);
        let values = &desk.values;
        View { run: self, values, level, who: at, item: None, attempt, error: None, output: None }
    }

    /// What a retry condition sees after the attempt that failed.
    pub(super) fn view_of<'a>(&'a self, ix: Ix, error: &'a Failure, desk: &'a Desk) -> View<'a> {
        let attempt = self.instance(ix).attempt;
        View { attempt, error: Some(error), ..self.view(Some(ix), desk) }
    }

    /// What the output of a group sees.
    pub(super) fn view_inside<'a>(&'a self, ix: Ix, desk: &'a Desk) -> View<'a> {
        let view = self.view(Some(ix), desk);
        match self.kept(ix) {
            Some(Kind::Dag { level, .. }) => View { level: *level, ..view },
            _ => view,
        }
    }

    /// What the output of a called workflow sees.
    pub(super) fn view_frame<'a>(&'a self, frame: u32, desk: &'a Desk) -> View<'a> {
        View { level: self.frames[frame as usize].body, ..self.view(None, desk) }
    }

    /// What an expression over an item sees that has no instance yet.
    pub(super) fn view_item<'a>(&'a self, map: Ix, index: u32, desk: &'a Desk) -> View<'a> {
        View { item: Some((map, index)), ..self.view(Some(map), desk) }
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

    /// Lets go of values that were looked at, unless others are waited for.
    pub(super) fn forget_values(&mut self, ix: Ix, desk: &mut Desk) {
        if self.instance(ix).parked.as_ref().is_some_and(|parked| parked.missing.is_empty()) {
            self.unpark(ix, desk);
        }
    }

    /// Waits for nothing any more.
    pub(super) fn unpark(&mut self, ix: Ix, desk: &mut Desk) {
        self.unpark_at(Some(ix), desk);
    }

    /// The run's output waits for nothing any more, or an instance.
    pub(super) fn unpark_at(&mut self, at: Option<Ix>, desk: &mut Desk) {
        if let Some(parked) = self.parked_mut(at).take() {
            parked.held.iter().for_each(|digest| desk.values.unpin(*digest));
            if let Some(ix) = at.filter(|_| parked.compiling) {
                self.count_ready(ix, false);
            }
        }
    }
}
