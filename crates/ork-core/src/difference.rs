//! What differs between two plans of a workflow: in its graph, types, params and limits, not in
//! its text.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::plan::{Metadata, Plan};
use crate::time::Span;
use crate::value::Value;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Where: `tasks.load.timeout`, `params.day.type`.
    pub path: String,
    /// What stood there; none: it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What stands there; none: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// All that differs, by path: what is gone, new or another in `after`. What a file leaves out and
/// what it says as the default are the same.
pub fn differences(before: &Plan, after: &Plan) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", &shape(before), &shape(after), &mut found);
    found
}

/// What differs between the metadata of a workflow and another.
pub fn described(before: &Metadata, after: &Metadata) -> Vec<Difference> {
    let shape = |metadata: &Metadata| match serde_json::to_value(metadata) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|_, value| !value.is_null());
            Value::Object(fields)
        }
        _ => Value::Null,
    };
    let mut found = Vec::new();
    compare("", &shape(before), &shape(after), &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        if before != after {
            let (before, after) = (Some(before.clone()), Some(after.clone()));
            found.push(Difference { path: path.to_owned(), before, after });
        }
        return;
    };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (old.get(name), new.get(name)) {
            (Some(before), Some(after)) => compare(&path, before, after, found),
            (before, after) => {
                found.push(Difference { path, before: before.cloned(), after: after.cloned() });
            }
        }
    }
}

/// The plan as people write it: tasks and their upstreams by name, durations and expressions as
/// text, without what is not there.
fn shape(plan: &Plan) -> Value {
    let Ok(Value::Object(mut plan)) = serde_json::to_value(plan) else { return Value::Null };
    if let Some(Value::Object(metadata)) = plan.remove("metadata") {
        plan.extend(metadata);
    }
    if let Some(Value::Object(preset)) = plan.remove("preset") {
        plan.extend(preset);
    }
    if let Some(body) = plan.remove("body") {
        plan.insert("tasks".to_owned(), body);
    }
    plain(Value::Object(plan), true)
}

/// The tasks of a scope by name, with the names of their upstreams.
fn by_name(tasks: Vec<Value>) -> Map<String, Value> {
    let name = |task: &Value| task["name"].as_str().unwrap_or_default().to_owned();
    let names: Vec<_> = tasks.iter().map(name).collect();
    let mut named = Map::new();
    for mut task in tasks {
        let name = name(&task);
        if let Some(fields) = task.as_object_mut() {
            fields.remove("name");
            let ups = fields.remove("upstreams").unwrap_or_default();
            let at = |up: &Value| names.get(usize::try_from(up.as_u64()?).ok()?).cloned();
            let mut ups: Vec<_> = ups.as_array().into_iter().flatten().filter_map(at).collect();
            ups.sort();
            fields.insert("depends_on".to_owned(), ups.into());
            take_action(fields);
        }
        named.insert(name, task);
    }
    named
}

/// Puts what a task does under the word for it.
fn take_action(task: &mut Map<String, Value>) {
    let Some(Value::Object(action)) = task.remove("action") else { return };
    for (kind, what) in action {
        match what["executor"].as_str() {
            Some(executor) => task.insert(executor.to_owned(), what["spec"].clone()),
            None => task.insert(kind, what),
        };
    }
}

/// The value without the notation of plans. The keys of `is_named` objects are the user's or are
/// fields; others may be a binding's kind.
fn plain(value: Value, is_named: bool) -> Value {
    match value {
        Value::Object(mut fields) => {
            if let (1, Some(Value::Array(tasks))) = (fields.len(), fields.get_mut("tasks")) {
                return plain(Value::Object(by_name(std::mem::take(tasks))), true);
            }
            if let (false, Some(bound)) = (is_named, binding(&fields)) {
                return bound;
            }
            let there = fields.into_iter().filter(|(_, value)| !is_nothing(value));
            let fields = there.map(|(name, value)| {
                let value = match span(&name, &value) {
                    Some(text) => text.into(),
                    None => plain(value, NAMED.contains(&name.as_str())),
                };
                let name = if name == "ty" && !is_named { "type".to_owned() } else { name };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.into_iter().map(|item| plain(item, false)).collect(),
        other => other,
    }
}

/// The fields whose keys are names.
const NAMED: [&str; 5] = ["params", "env", "inputs", "labels", "axes"];

/// The fields that are lengths of time.
const SPANS: [&str; 9] = [
    "timeout",
    "grace",
    "delay",
    "max_delay",
    "heartbeat_timeout",
    "start_within",
    "every",
    "ttl",
    "for",
];

fn span(name: &str, value: &Value) -> Option<String> {
    let micros = value.as_i64().filter(|_| SPANS.contains(&name))?;
    Some(Span(micros).to_string())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What a binding stands for, as it is written in a file.
fn binding(fields: &Map<String, Value>) -> Option<Value> {
    let (kind, inner) = fields.iter().next().filter(|_| fields.len() == 1)?;
    match (kind.as_str(), inner) {
        ("const", value) => Some(value.clone()),
        ("expr", Value::String(source)) => Some(format!("${{{{ {source} }}}}").into()),
        ("text", Value::Array(parts)) => Some(parts.iter().map(part).collect::<String>().into()),
        ("list" | "args", list @ Value::Array(_)) => Some(plain(list.clone(), false)),
        ("map", map @ Value::Object(_)) => Some(plain(map.clone(), true)),
        _ => None,
    }
}

fn part(part: &Value) -> String {
    match (part["literal"].as_str(), part["expr"].as_str()) {
        (Some(text), _) => text.to_owned(),
        (None, source) => format!("${{{{ {} }}}}", source.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{Sources, compile};

    struct Nothing;

    impl Sources for Nothing {
        fn read(&self, _: &str) -> Result<Vec<u8>, Option<String>> {
            Err(None)
        }
    }

    fn plan(text: &str) -> Plan {
        let compiled = compile("w.yaml", text.as_bytes(), &Nothing);
        compiled.plan.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics))
    }

    const BEFORE: &str = "name: w\ndescription: old\nparams: {day: date, n: {type: int, default: 1}}\n\
        tasks:\n  a: {run: [echo, \"${{ params.n }}\"], retries: 1, timeout: 10m}\n  \
        b: {run: [id], depends_on: a}\n  c: {run: [id], depends_on: [a, b]}\n";

    #[test]
    fn the_structure_is_compared_and_not_the_text() {
        let after = "# other words\nname: w\ndescription: new\nparams:\n  day: {type: str}\n  \
            n: {type: int, default: 1}\ntasks:\n  c: {run: [id], depends_on: [b]}\n  \
            b:\n    run: [id]\n    depends_on: [a]\n    retries: 0\n  \
            a: {run: [echo, \"n=${{ params.n }}\"], retries: 3, timeout: 600}\n\
            finally:\n  d: {run: [id]}\n";
        let found = differences(&plan(BEFORE), &plan(after));
        let told = found.iter().map(|one| {
            let side = |value: &Option<Value>| value.as_ref().map(ToString::to_string);
            (one.path.as_str(), side(&one.before), side(&one.after))
        });
        let told: Vec<_> = told.collect();
        let some = |text: &str| Some(text.to_owned());
        for expected in [
            ("description", some("\"old\""), some("\"new\"")),
            ("tasks.a.retry.max", some("1"), some("3")),
            (
                "tasks.a.run.argv",
                some("[\"echo\",\"${{ params.n }}\"]"),
                some("[\"echo\",\"n=${{ params.n }}\"]"),
            ),
            ("tasks.c.depends_on", some("[\"a\",\"b\"]"), some("[\"b\"]")),
        ] {
            assert!(told.contains(&expected), "{expected:?} in {told:#?}");
        }
        let paths: Vec<_> = told.iter().map(|(path, ..)| *path).collect();
        assert!(paths.contains(&"params.day.type") && paths.contains(&"finally.d"), "{paths:?}");
        assert_eq!(paths.len(), 6, "{told:#?}");
    }

    #[test]
    fn a_plan_does_not_differ_from_itself() {
        assert_eq!(differences(&plan(BEFORE), &plan(&BEFORE.replace("10m", "600s"))), []);
    }
}
