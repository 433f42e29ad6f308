//! The JSON Schema of workflow files, from the same tables as the lowering.

use serde_json::{Map, Value, json};

use super::executors::ALL;
use super::keys::{DEFAULTS, FILE, FORMS, Key, PARAM_KEYS, RETRIES, Shape, TASK_KEYS};

/// The JSON Schema (2020-12) of a workflow file, for editors.
///
/// It describes shapes; types, references and expressions are checked by [`super::compile`] alone.
/// The older form of a task is accepted as a whole.
pub fn schema() -> Value {
    let mut root = object(FILE, &["tasks"]);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Ork workflow");
    root["$defs"] = json!({
        "param": any_of(&[one(&Shape::Type), object(PARAM_KEYS, &["type"])]),
        "type": ty(),
        "duration": {
            "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^([0-9]+|([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$", "minLength": 1 },
            ],
        },
        "retries": object(RETRIES, &[]),
        "defaults": defaults(),
        "task": any_of(&[task(), older()]),
    });
    root
}

fn any_of(shapes: &[Value]) -> Value {
    json!({ "anyOf": shapes })
}

/// A type: words, lists, maps of fields, enums.
fn ty() -> Value {
    any_of(&[
        json!({ "type": "string" }),
        json!({ "type": "array", "minItems": 1, "maxItems": 1, "items": { "$ref": "#/$defs/type" } }),
        json!({
            "type": "object",
            "properties": { "enum": {
                "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "$ref": "#/$defs/type" }],
            } },
            "additionalProperties": { "$ref": "#/$defs/type" },
        }),
    ])
}

/// A closed object of the keys that this version supports.
fn object(keys: &[Key], required: &[&str]) -> Value {
    let mut properties = Map::new();
    for key in keys.iter().filter(|key| key.supported) {
        let mut shape = one(&key.shape);
        shape["description"] = json!(key.doc);
        properties.insert(key.name.to_owned(), shape);
    }
    let mut object = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn task() -> Value {
    let mut task = object(TASK_KEYS, &[]);
    for executor in ALL {
        task["properties"][executor.name] = json!({
            "description": executor.doc,
            "anyOf": [one(&executor.short), object(executor.keys, &[])],
        });
    }
    for form in FORMS {
        let mut shape = one(&form.shape);
        shape["description"] = json!(form.doc);
        task["properties"][form.name] = shape;
    }
    task["properties"]["allow"] = json!({
        "description": "The executors that a DAG made at run time may use.",
        "type": "array",
        "items": { "enum": ALL.iter().map(|executor| executor.name).collect::<Vec<_>>() },
    });
    let names = ALL.iter().map(|executor| executor.name).chain(FORMS.iter().map(|form| form.name));
    let one_of: Vec<_> = names.map(|name| json!({ "required": [name] })).collect();
    task["oneOf"] = json!(one_of);
    task
}

/// A task of the older form.
fn older() -> Value {
    let names: Vec<_> = ALL.iter().map(|executor| executor.older.name).collect();
    json!({
        "type": "object",
        "required": ["executor"],
        "properties": { "executor": { "enum": names } },
    })
}

fn defaults() -> Value {
    let mut defaults = object(DEFAULTS, &[]);
    for executor in ALL {
        let mut block = object(executor.keys, &[]);
        if let Some(properties) = block["properties"].as_object_mut() {
            properties.retain(|name, _| !executor.target.contains(&name.as_str()));
        }
        defaults["properties"][executor.name] = block;
    }
    defaults
}

fn one(shape: &Shape) -> Value {
    let name = "^[a-zA-Z_][a-zA-Z0-9_]{0,63}$";
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::WorkflowName => {
            json!({ "type": "string", "pattern": "^[a-zA-Z][a-zA-Z0-9_-]{0,63}$" })
        }
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Int(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Number(least) => json!({ "type": "number", "minimum": least }),
        Shape::Duration => json!({ "$ref": "#/$defs/duration" }),
        Shape::Type => json!({ "$ref": "#/$defs/type" }),
        Shape::Expression => json!({ "type": "string", "minLength": 1 }),
        Shape::Binding => json!({}),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::List(item) => json!({ "type": "array", "items": one(item) }),
        Shape::Some(item) => json!({ "type": "array", "minItems": 1, "items": one(item) }),
        Shape::Names(item) => json!({
            "type": "object",
            "propertyNames": { "pattern": name },
            "additionalProperties": one(item),
        }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": one(item) }),
        Shape::Object(keys) => object(keys, &[]),
        Shape::OneOf(shapes) => any_of(&shapes.iter().map(one).collect::<Vec<_>>()),
        Shape::Ref(name) => json!({ "$ref": format!("#/$defs/{name}") }),
    }
}
