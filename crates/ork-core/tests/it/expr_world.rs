//! A workflow as expressions see it: params, tasks, a run.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::lang::expr::{
    CheckScope, Env, ExprIssue, Name, Named, Presence, TaskType, TaskView, Typed, check,
};
use ork_core::plan::Param;
use ork_core::run::TaskState;
use ork_core::types::Type;
use ork_core::value::{Data, Digest, Value};
use serde_json::json;

/// Reads a type.
pub(crate) fn ty(text: &str) -> Type {
    Type::parse(text, &|_| None).unwrap()
}

/// All names that there are outside `finally`.
pub(crate) const NAMES: &[Name] =
    &[Name::Params, Name::Tasks, Name::Run, Name::Attempt, Name::Vars];

/// Params and tasks, with types and values.
pub(crate) struct World {
    pub(crate) params: IndexMap<String, Param>,
    pub(crate) param_values: Value,
    pub(crate) types: IndexMap<String, TaskType>,
    pub(crate) outputs: IndexMap<String, (TaskState, Option<Data>)>,
    pub(crate) blobs: Vec<(Digest, Arc<Value>)>,
}

impl World {
    /// What the tables of tests speak of.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            params: IndexMap::new(),
            param_values: json!({}),
            types: IndexMap::new(),
            outputs: IndexMap::new(),
            blobs: Vec::new(),
        };
        for (name, text, value) in [
            ("day", "date", json!("2026-11-24")),
            ("regions", "[str]", json!(["eu", "us"])),
            ("dry_run", "bool", json!(false)),
            ("n", "int", json!(3)),
            ("rate", "float", json!(2)),
            ("mode", "{enum: [fast, slow]}", json!("fast")),
            ("note", "str?", json!(null)),
            ("config", "json", json!({"deep": {"list": [1, 2.5, "x"]}, "n": 7})),
            ("limits", "dict[int]", json!({"eu": 1})),
            ("at", "datetime_tz", json!("2026-11-24T10:30:00+01:00")),
            ("local", "datetime_notz", json!("2026-11-24T10:30:00")),
            ("utc", "datetime_utc", json!("2026-11-24T09:30:00Z")),
        ] {
            world.param(name, text, value);
        }
        world.add_task(
            "load",
            "{table: str, rows: int, note: str?}",
            json!({"table": "t", "rows": 5}),
        );
        world.add_task("parts", "[int?]", json!([1, null, 3]));
        world.add_task("any", "json", json!({"x": [1, 2]}));
        world.types.insert("quiet".into(), TaskType { output: None, presence: Presence::ByRule });
        world.outputs.insert("quiet".into(), (TaskState::Success, None));
        world.add_task("flaky", "{rows: int}", json!(null));
        world.types["flaky"].presence = Presence::Maybe;
        world.outputs["flaky"] = (TaskState::Failed, None);
        world
    }

    pub(crate) fn param(&mut self, name: &str, text: &str, value: Value) {
        let param = Param { ty: ty(text), default: None, description: None };
        self.params.insert(name.into(), param);
        self.param_values[name] = value;
    }

    pub(crate) fn add_task(&mut self, name: &str, text: &str, value: Value) {
        let task = TaskType { output: Some(ty(text)), presence: Presence::ByRule };
        self.types.insert(name.into(), task);
        self.outputs.insert(name.into(), (TaskState::Success, Some(Data::Inline(value))));
    }

    /// Puts a task's output into a blob, at hand or not.
    pub(crate) fn make_blob(&mut self, name: &str, at_hand: bool) -> Digest {
        let Some(Data::Inline(value)) = self.outputs[name].1.clone() else { unreachable!() };
        let text = value.to_string();
        let digest = Digest::of(text.as_bytes());
        self.outputs[name].1 = Some(Data::Blob { digest, size: text.len() as u64 });
        if at_hand {
            self.blobs.push((digest, Arc::new(value)));
        }
        digest
    }

    pub(crate) fn check(&self, source: &str) -> Result<Typed, Vec<ExprIssue>> {
        self.check_with(source, NAMES, true)
    }

    pub(crate) fn check_with(
        &self,
        source: &str,
        names: &[Name],
        certain: bool,
    ) -> Result<Typed, Vec<ExprIssue>> {
        let scope = CheckScope {
            params: &self.params,
            tasks: &self.types,
            names,
            certain,
            proven: &[],
            values: &[],
        };
        check(source, &scope)
    }
}

impl Env for World {
    fn params(&self) -> (&Value, &IndexMap<String, Param>) {
        (&self.param_values, &self.params)
    }

    fn run(&self) -> Value {
        json!({
            "id": "r1", "workflow": "daily", "project": "default", "url": "http://x/r1",
            "logical_time": "2026-03-29T01:30:00+01:00", "logical_date": "2026-03-29",
            "state": "failed", "failed_tasks": ["flaky"],
            "error": {"kind": "task_failed", "message": "flaky failed"},
        })
    }

    fn task(&self, name: &str) -> Option<TaskView<'_>> {
        let (state, output) = self.outputs.get(name)?;
        let output_type = self.types[name].output.as_ref();
        Some(TaskView { state: *state, output: output.as_ref(), output_type })
    }

    fn blob(&self, digest: &Digest) -> Option<Arc<Value>> {
        self.blobs.iter().find(|(known, _)| known == digest).map(|(_, value)| value.clone())
    }

    fn other(&self, name: &str) -> Option<Named<'_>> {
        match name {
            "attempt" => Some(json!(2).into()),
            "vars" => Some(json!({"bucket": "b", "n": 4}).into()),
            "secrets" => Some(json!({"key": "k"}).into()),
            "error" => Some(json!({"kind": "failure", "message": "no", "exit_code": 75}).into()),
            _ => None,
        }
    }
}

/// An issue under its source.
pub(crate) fn show(source: &str, issue: &ExprIssue) -> String {
    let hint = issue.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let marks = format!("{}{}", " ".repeat(issue.offset), "^".repeat(issue.length));
    format!("  {source}\n  {marks} {}: {}{hint}", issue.code, issue.message)
}
