//! The schema, graphs and params of runs.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ork_core::lang::{Given, GraphFormat, RunFacts, bind_params, data, graph, schema};
use serde_json::json;

use super::lower::plan;

const FLOW: &str = "name: flow
tasks:
  extract: { run: [x] }
  load: { run: [x], depends_on: extract }
  check: { run: [x], depends_on: [extract, load], trigger_rule: all_done }
  lone: { run: [x] }
finally:
  clean: { run: [x], when: run.state == 'failed' }
";

#[test]
fn graphs() {
    let plan = plan(FLOW);
    let all: Vec<_> = [GraphFormat::Text, GraphFormat::Mermaid, GraphFormat::Dot]
        .into_iter()
        .map(|format| graph(&plan, format))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn the_schema_takes_what_the_compiler_takes() {
    let schema = schema();
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let good = json!({
        "name": "a",
        "params": { "day": "date", "n": { "type": ["int"], "default": [1] } },
        "defaults": { "retries": 2, "timeout": "10m", "python": { "requirements": ["x"] } },
        "tasks": {
            "a": { "run": ["x", 1], "retries": { "max": 1, "if": "attempt < 2" }, "timeout": 5 },
            "b": { "python": "a.py:f", "when": "params.n[0] > 1", "inputs": { "x": [1] } },
            "c": { "executor": "process", "command": "ls" },
        },
    });
    assert_eq!(validator.validate(&good).map_err(|e| e.to_string()), Ok(()));
    for bad in [
        json!({ "tasks": { "a": { "run": "x" } } }),
        json!({ "tasks": { "a": { "run": ["x"], "needs": "b" } } }),
        json!({ "tasks": { "a": { "run": ["x"], "python": "a.py:f" } } }),
        json!({ "tasks": { "a-b": { "run": ["x"] } } }),
        json!({ "tasks": { "a": { "run": ["x"], "timeout": "5 minutes" } } }),
        json!({ "name": "a" }),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

/// The workflow files under a folder.
fn workflows(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            workflows(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn the_schema_takes_every_example() {
    let mut found = Vec::new();
    workflows(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples"), &mut found);
    assert!(found.len() > 10, "only {found:?}");
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    for path in found {
        let bytes = std::fs::read(&path).expect("a file");
        let value = data(&path.to_string_lossy(), &bytes).expect("YAML");
        let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}

fn facts() -> RunFacts {
    RunFacts {
        id: "01".into(),
        workflow: "flow".into(),
        project: "default".into(),
        logical_time: "2026-11-24T02:00:00+01:00".into(),
        url: "http://x".into(),
    }
}

#[test]
fn params_of_a_run() {
    let plan = plan(
        "params:
  day: { type: date, default: '${{ run.logical_date - days(1) }}' }
  regions: { type: [str], default: [eu] }
  n: int
  s: str?
tasks: { a: { run: [x] } }
",
    );
    let given = IndexMap::from([
        ("n".to_owned(), Given::Text("5".into())),
        ("regions".to_owned(), Given::Text("eu,us".into())),
    ]);
    let bound = bind_params(&plan, &given, &facts());
    let want = json!({ "day": "2026-11-23", "regions": ["eu", "us"], "n": 5, "s": null });
    assert_eq!(bound, Ok(want));
    let given = IndexMap::from([
        ("region".to_owned(), Given::Text("eu".into())),
        ("day".to_owned(), Given::Json(json!("yesterday"))),
    ]);
    let errors = bind_params(&plan, &given, &facts()).unwrap_err();
    insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @r#"
    param `region`: the workflow has no such param; did you mean `regions`?
    param `day`: expected date, got str "yesterday"
    param `n`: it is required (int)
    "#);
}
