//! DAGs that are made at run time: what is accepted, and the fence.

use ork_core::lang::generated;
use ork_core::plan::{Action, Plan, Scope};
use ork_core::time::Span;
use ork_core::types::Type;
use rstest::rstest;
use serde_json::{Value, json};

use super::Files;
use super::lower::plan;

fn outer() -> Plan {
    plan("params: { n: int }\ntasks: { a: { run: [x] } }\n")
}

fn compile(value: &Value) -> Result<Scope, String> {
    let values = [("item".to_owned(), Type::Str)];
    let allow = ["run".to_owned()];
    generated(value, &allow, &outer(), &values, &Files::default()).map_err(|found| {
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn a_dag_sees_params_items_and_its_own_tasks() {
    let dag = compile(&json!({
        "x": { "run": ["echo", "${{ params.n }}", "${{ item }}"] },
        "y": { "run": ["echo", "${{ tasks.x.state }}"] },
        "g": { "tasks": { "z": { "run": ["echo"], "depends_on": [] } }, "depends_on": "y" },
    }));
    let dag = dag.unwrap();
    let upstreams: Vec<_> = dag.tasks.iter().map(|task| task.upstreams.clone()).collect();
    assert_eq!(upstreams, [vec![], vec![0], vec![1]]);
    assert!(matches!(dag.tasks[2].action, Action::Group { .. }));
}

#[test]
fn a_dag_has_the_defaults_and_the_types_of_its_file() {
    let file = "\
types: { Row: { id: int }, Rows: '[Row]' }
defaults: { timeout: 5s, retries: { max: 2, delay: 1s }, worker_queue: far, run: { with: sh } }
tasks: { a: { run: { argv: [x], output: stdout_json } }, b: { tasks: tasks.a.output, allow: [run], depends_on: a } }
";
    let outer = plan(file);
    let dag = |value: &Value, outer: &Plan| {
        generated(value, &["run".to_owned()], outer, &[], &Files::default())
    };
    let value = json!({
        "x": { "run": { "shell": "x", "output": "stdout_json" }, "output_type": "Rows" },
        "y": { "run": ["y"], "timeout": "1s", "inputs": { "id": "${{ tasks.x.output[0].id }}" } },
    });
    let made = dag(&value, &outer).unwrap();
    let written =
        plan(&file.replace(
            "b: {",
            "x: { run: { shell: x, output: stdout_json }, output_type: Rows }, b: {",
        ));
    assert_eq!(Some(&made.tasks[0]), written.task("x"));
    assert_eq!(made.tasks[0].worker_queue.as_deref(), Some("far"));
    assert_eq!((made.tasks[1].timeout, made.tasks[1].retry.max), (Some(Span::from_secs(1)), 2));
    let kept: Plan = serde_json::from_value(serde_json::to_value(&outer).unwrap()).unwrap();
    assert_eq!(dag(&value, &kept).unwrap(), made);
    // A plan that was kept without them has neither.
    let mut older = serde_json::to_value(&outer).unwrap();
    older.as_object_mut().unwrap().remove("preset");
    let told = dag(&value, &serde_json::from_value(older).unwrap()).unwrap_err();
    assert!(told[0].to_string().contains("Rows"), "{}", told[0]);
    assert!(
        plan(&file.replace("tasks: tasks.a.output, allow: [run]", "run: [x]")).preset.is_none()
    );
}

#[rstest]
#[case(json!(1), "tasks")]
#[case(json!({}), "no tasks")]
#[case(json!({ "x": { "python": "f.py:g" } }), "`x` is run by `python`, which is not allowed")]
#[case(json!({ "x": { "run": ["${{ tasks.a.state }}"] } }), "there is no task `a`")]
#[case(json!({ "x": { "run": ["x"], "env": { "K": "${{ secrets.k }}" } } }), "secrets")]
#[case(json!({ "x": { "workflow": "other" } }), "`x` calls a workflow, which a DAG made")]
#[case(json!({ "x": { "tasks": "item", "allow": ["run"] } }), "made at run time inside another")]
#[case(
    json!({ "g": { "tasks": { "x": { "python": "f.py:g" } } } }),
    "`x` is run by `python`, which is not allowed"
)]
fn what_is_fenced_off(#[case] value: Value, #[case] expected: &str) {
    let told = compile(&value).unwrap_err();
    assert!(told.contains(expected), "{told}");
}
