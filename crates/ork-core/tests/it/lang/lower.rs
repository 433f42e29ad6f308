//! Files that are accepted, and the plans that they become.

use ork_core::lang::executors::{Program, PythonSpec, RunOutput, RunSpec, Shell};
use ork_core::lang::{compile, render};
use ork_core::plan::{Action, Backoff, Binding, Plan, RetryOn, TriggerRule};
use ork_core::time::Span;
use ork_core::types::Type;

use super::Files;

/// The plan of a file that must be accepted.
pub(crate) fn plan_with(yaml: &str, files: &Files) -> Plan {
    let compiled = compile("flow.yaml", yaml.as_bytes(), files);
    let shown = render(&compiled.diagnostics, |_| Some(yaml), false);
    compiled.plan.unwrap_or_else(|| panic!("not accepted:\n{shown}"))
}

pub(crate) fn plan(yaml: &str) -> Plan {
    plan_with(yaml, &Files::default())
}

/// The spec of a task whose block holds no expression.
fn spec(plan: &Plan, task: usize) -> serde_json::Value {
    let Action::Execute { spec: Binding::Const(value), .. } = &plan.body.tasks[task].action else {
        panic!("not a constant: {:?}", plan.body.tasks[task].action)
    };
    value.clone()
}

#[test]
fn run_in_all_its_forms() {
    let plan = plan(
        "tasks:
  a: { run: [./x.sh, 5, true, 'two words'] }
  b: { run: { argv: [x], cwd: sub/./dir, output: stdout_json, stdin: hello } }
  c: { run: { shell: 'ls | wc', with: sh, output: none } }
",
    );
    let program =
        |argv: &[&str]| Program::Argv { argv: argv.iter().map(|a| (*a).to_owned()).collect() };
    let read = |at: usize| serde_json::from_value::<RunSpec>(spec_args(&plan, at)).unwrap();
    let a = RunSpec {
        program: program(&["./x.sh", "5", "true", "two words"]),
        cwd: None,
        stdin: None,
        output: RunOutput::File,
        legacy: None,
    };
    assert_eq!(read(0), a);
    let b = RunSpec {
        program: program(&["x"]),
        cwd: Some("sub/dir".into()),
        stdin: Some("hello".into()),
        output: RunOutput::StdoutJson,
        legacy: None,
    };
    assert_eq!(read(1), b);
    let shell = Program::Shell { shell: "ls | wc".into(), with: Shell::Sh };
    let c =
        RunSpec { program: shell, cwd: None, stdin: None, output: RunOutput::None, legacy: None };
    assert_eq!(read(2), c);
}

/// The spec of a task, its arguments taken as they are.
fn spec_args(plan: &Plan, task: usize) -> serde_json::Value {
    fn value(binding: &Binding) -> serde_json::Value {
        match binding {
            Binding::Const(value) => value.clone(),
            Binding::Args(items) | Binding::List(items) => items.iter().map(value).collect(),
            Binding::Map(map) => map.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
            other => panic!("not a constant: {other:?}"),
        }
    }
    let Action::Execute { spec, .. } = &plan.body.tasks[task].action else { panic!("no spec") };
    value(spec)
}

#[test]
fn references_are_dependencies() {
    let plan = plan(
        "params: { day: date }
tasks:
  report:
    run: [./report.sh, '${{ tasks.load.output.table }}', 'rows=${{ tasks.load.output.rows }}']
    when: tasks.check.state == 'success'
    depends_on: start
  load: { run: [x], output_type: { table: str, rows: int } , env: { DAY: '${{ params.day }}' } }
  check: { run: [x] }
  start: { run: [x] }
",
    );
    assert_eq!(plan.body.tasks[0].upstreams, vec![3, 2, 1]);
}

#[test]
fn settings_and_their_defaults() {
    let plan = plan(
        "name: my-flow
description: d
owner: o
tags: [a, b]
labels: { team: x }
timeout: 1h30m
env: { A: '1', N: 1.10 }
defaults: { retries: { max: 2, delay: 1m }, timeout: 10m, run: { output: none } }
tasks:
  a: { run: [x] }
  b:
    run: { argv: [x], output: file }
    retries: { max: 5, backoff: linear, for: [timeout, 'exit:75'], if: attempt < 3 }
    lost_retries: 0
    timeout: 90
    grace: 500ms
    allow_failure: true
    trigger_rule: all_done
    depends_on: [a, a]
finally:
  c: { run: [rm, -rf, scratch] }
output: { n: 1 }
",
    );
    let [a, b] = plan.body.tasks.as_slice() else { panic!() };
    assert_eq!(
        (a.retry.max, a.retry.delay, a.timeout),
        (2, Span::from_secs(60), Some(Span::from_secs(600)))
    );
    assert_eq!(
        (b.retry.max, b.retry.delay, b.retry.backoff),
        (5, Span::from_secs(60), Backoff::Linear)
    );
    assert_eq!(b.retry.on, vec![RetryOn::Timeout, RetryOn::Exit(75)]);
    assert_eq!(
        (b.lost_retries, b.timeout, b.grace),
        (0, Some(Span::from_secs(90)), Span::from_millis(500))
    );
    assert!(b.allow_failure && b.trigger_rule == TriggerRule::AllDone);
    assert_eq!(b.upstreams, vec![0]);
    assert_eq!(plan.finally.tasks[0].retry.max, 2);
    assert_eq!(plan.env["N"], Binding::Const("1.10".into()));
    assert_eq!(plan.timeout, Some(Span::from_secs(5_400)));
    assert_eq!((plan.name.as_str(), plan.metadata.tags.len()), ("my-flow", 2));
    let back: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(back, plan);
}

#[test]
fn the_name_is_the_stem() {
    let yaml = b"tasks: { a: { run: [x] } }";
    let compiled = compile("/some/where/daily.ork.yaml", yaml, &Files::default());
    assert_eq!(compiled.plan.unwrap().name, "daily");
}

#[test]
fn params_and_types() {
    let plan = plan(
        "types:
  Part: { path: str, rows: int }
  Parts: [Part]
params:
  a: str
  b: [int]
  c: { type: date, default: '${{ run.logical_date - days(1) }}' }
  d: { type: str, enum: [x, y], default: x }
  e: { type: Parts, default: [{ path: p, rows: 1 }] }
  f: 'dict[float]?'
tasks:
  t: { run: [x], output_type: Part }
",
    );
    let part = plan.body.tasks[0].output_type.clone().unwrap();
    assert_eq!(plan.params["e"].ty, Type::list(part));
    assert_eq!(plan.params["d"].ty, Type::choice(["x".into(), "y".into()]));
    assert!(matches!(plan.params["c"].default, Some(Binding::Expr(_))));
    assert_eq!(plan.params["f"].ty, Type::dict(Type::Float).nullable());
}

const ETL: &str = "from datetime import date
from typing import TypedDict

class Extract(TypedDict):
    path: str
    rows: int

def extract(region: str, day: date, limit: int = 10) -> Extract:
    ...

def load(parts: list[Extract]) -> int:
    ...
";

#[test]
fn python_signatures_type_inputs_and_outputs() {
    let files = Files::new([("etl.py", ETL)]);
    let plan = plan_with(
        "params: { day: date }
tasks:
  extract:
    python: etl.py:extract
    inputs: { region: eu, day: '${{ params.day }}' }
  load:
    python: { file: etl.py, function: load, requirements: [requests] }
    inputs: { parts: ['${{ tasks.extract.output }}'] }
  show: { run: [echo, '${{ tasks.extract.output.rows }}'] }
",
        &files,
    );
    let [extract, load, show] = plan.body.tasks.as_slice() else { panic!() };
    assert!(
        matches!(&extract.output_type, Some(Type::Object(fields)) if fields["rows"] == Type::Int)
    );
    assert!(matches!(&extract.input_type, Some(Type::Object(fields)) if fields.len() == 2));
    assert_eq!(
        (load.output_type.as_ref(), load.upstreams.as_slice()),
        (Some(&Type::Int), &[0][..])
    );
    assert_eq!(show.upstreams, vec![0]);
    assert_eq!(plan.code.files, vec!["etl.py"]);
    let spec: PythonSpec = serde_json::from_value(spec(&plan, 1)).unwrap();
    assert_eq!(spec.requirements, vec!["requests"]);
}

#[test]
fn the_older_form_runs_unchanged() {
    let files = Files::new([("old.py", "def generate(count):\n    return {'numbers': [1]}\n")]);
    let plan = plan_with(
        "name: polyglot
types:
  Numbers: { numbers: [int] }
  Both: { first: types.Numbers }
tasks:
  make:
    executor: python
    file: old.py
    function: generate
    input_type: { count: int }
    output_type: types.Numbers
    inputs: { count: { const: 5 } }
  raw:
    executor: process
    command: bin/raw --fast
    depends_on: [make]
    timeout: 10
    retries: 1
    input_type: { make: types.Numbers }
    output_type: types.Both
    inputs: { make: { ref: tasks.make.output } }
  new: { run: [echo, '${{ tasks.make.output.numbers }}'] }
",
        &files,
    );
    let Action::Execute { spec: Binding::Map(spec), executor } = &plan.body.tasks[1].action else {
        panic!()
    };
    assert_eq!(executor, "run");
    let Binding::Map(legacy) = &spec["legacy"] else { panic!() };
    assert_eq!(legacy["output_line"], Binding::Const(true.into()));
    assert!(matches!(&legacy["upstream"], Binding::Map(map) if map.contains_key("make")));
    assert_eq!(plan.body.tasks[1].timeout, Some(Span::from_secs(10)));
    assert_eq!(plan.body.tasks[1].upstreams, vec![0]);
}

#[test]
fn a_version_is_its_file_and_its_code() {
    let yaml = b"tasks: { a: { run: [./a.sh] } }";
    let digest = |code: &str| compile("f.yaml", yaml, &Files::new([("a.sh", code)])).digest;
    assert_eq!(digest("x"), digest("x"));
    assert_ne!(digest("x"), digest("y"));
}

#[test]
fn wide_joins_are_fine() {
    use std::fmt::Write as _;
    let mut yaml = String::from("tasks:\n");
    for i in 0..9_999 {
        let _ = writeln!(yaml, "  t{i}: {{ run: [x] }}");
    }
    let names: Vec<_> = (0..9_999).map(|i| format!("t{i}")).collect();
    let _ = writeln!(yaml, "  join: {{ run: [x], depends_on: [{}] }}", names.join(", "));
    assert_eq!(plan(&yaml).body.tasks[9_999].upstreams.len(), 9_999);
}

#[test]
fn a_file_is_a_path_for_tasks_alone() {
    let make = "params: { p: file, more: { type: \"[file]?\", default: null } }\ntasks:\n  \
                make: { run: [x], output_type: \"{path: file, all: [file]}\" }\n";
    let file = "${{ tasks.make.output.path }}";
    for good in [
        &*format!(
            "  a: {{ run: [cat, \"{file}\", \"--in={file}\", \"${{{{ tasks.make.output.all }}}}\"] }}"
        ),
        &format!(
            "  a: {{ run: {{ argv: [cat], stdin: \"at {file}\" }}, env: {{ P: \"{file}\" }} }}"
        ),
        "  a: { run: [x], inputs: { f: \"${{ params.p }}\" }, input_type: \"{f: file}\" }",
        "  a: { run: [x], when: tasks.make.output.path.size > 3 && params.p.name.endsWith('.csv') }",
        "  a: { for_each: tasks.make.output.all, run: [cat, \"${{ item }}\"] }",
    ] {
        plan(&format!("{make}{good}\n"));
    }
    let bad = |task: &str| super::shown(&format!("{make}{task}\n"));
    for (task, expected) in [
        (
            format!("  a: {{ run: [x], inputs: {{ t: \"at {file}\" }} }}"),
            "give it whole, or take its `name`",
        ),
        (format!("  a: {{ approval: \"read {file}\" }}"), "of type file cannot stand in text"),
        (
            format!("  a: {{ run: [x], inputs: {{ t: \"{file}\" }}, input_type: \"{{t: str}}\" }}"),
            "expected str, got file",
        ),
        (
            "  a: { run: [x], inputs: { f: a.csv }, input_type: \"{f: file}\" }".into(),
            "which is no file that is kept",
        ),
        (
            "  a: { run: [x], when: tasks.make.output.path.rows > 3 }".into(),
            "it has name, size, digest",
        ),
        (
            "  a: { run: [x], env: { P: \"${{ join(tasks.make.output.all, ',') }}\" } }".into(),
            "`join` does not take [file]",
        ),
    ] {
        let said = bad(&task);
        assert!(said.contains(expected), "{task}: {said}");
    }
    let default = "params: { p: { type: file, default: a.csv } }\ntasks:\n  a:\n    run: [x]\n";
    assert!(super::shown(default).contains("which is no file that is kept"));
}
