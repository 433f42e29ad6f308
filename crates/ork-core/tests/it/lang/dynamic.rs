//! Maps, groups, waits, limits and triggers: what is accepted, and what is said of mistakes.

use std::sync::Arc;

use ork_core::lang::{
    GraphFormat, RunFacts, Sources, bind_triggered, compile, format, graph, render,
};
use ork_core::plan::{
    self, Action, Binding, Items, OnLimit, OnReject, OnTimeout, Pinned, Plan, Task, Tolerate, Wait,
    WebhookAuth,
};
use ork_core::rows::{CodeRef, VersionId};
use ork_core::run::RunState;
use ork_core::time::Span;

use super::lower::plan;
use super::traps::gallery;

fn first(yaml: &str) -> Task {
    plan(yaml).body.tasks.swap_remove(0)
}

/// The output type of the task that is named, as a workflow's `output` sees it.
fn seen(tasks: &str, name: &str) -> String {
    let yaml = format!("params: {{ l: [str] }}\n{tasks}output: ${{{{ tasks.{name}.output }}}}\n");
    plan(&yaml).output_type.expect("an output").to_string()
}

#[test]
fn items_of_all_kinds() {
    let yaml = |items: &str| {
        format!(
            "params: {{ l: [date], n: int }}\ntasks:\n  a:\n    for_each: {items}\n    run: [x, '${{{{ item }}}}']\n"
        )
    };
    for (items, item) in [
        ("params.l", "date"),
        ("\"${{ params.l }}\"", "date"),
        ("range(params.n)", "int"),
        ("range(3)", "int"),
        ("[a, b]", "str"),
        ("[1, '${{ params.n }}']", "int"),
        ("{ in: params.l, as: day }", "date"),
    ] {
        let task = first(&yaml(items));
        let for_each = task.for_each.expect("a map");
        assert!(matches!(for_each.items, Items::List(_)), "{items}");
        assert_eq!(for_each.item_type.map(|ty| ty.to_string()).as_deref(), Some(item), "{items}");
    }
}

#[test]
fn a_matrix() {
    let task = first(
        "tasks:
  a:
    for_each:
      matrix: { os: [linux, mac], version: [1, 2] }
      exclude: [{ os: mac, version: 1 }]
      include: [{ os: bsd, version: 3 }]
      as: combination
    max_parallel: 2
    tolerate: 5%
    fail_fast: true
    item_key: \"item.os + '-' + string(item.version)\"
    run: [x, '${{ item.os }}', '${{ combination.version }}', '${{ index }}']
",
    );
    let for_each = task.for_each.expect("a map");
    assert_eq!(for_each.item_type.unwrap().to_string(), "{os: str, version: int}");
    assert_eq!(for_each.name.as_deref(), Some("combination"));
    assert_eq!((for_each.max_parallel, for_each.fail_fast), (Some(2), true));
    assert_eq!(for_each.tolerate, Tolerate::Percent(5.0));
    assert!(for_each.key.is_some() && for_each.when.is_none());
    let Items::Matrix { axes, include, exclude } = for_each.items else { panic!("no matrix") };
    assert_eq!((axes.len(), include.len(), exclude.len()), (2, 1, 1));
}

#[test]
fn a_condition_of_items_is_apart_from_one_of_the_map() {
    let yaml = |when: &str| {
        format!(
            "params: {{ l: [str], b: bool }}\ntasks:\n  a: {{ for_each: params.l, when: \"{when}\", run: [x] }}\n"
        )
    };
    let once = first(&yaml("params.b"));
    assert!(once.when.is_some() && once.for_each.unwrap().when.is_none());
    for when in ["item != 'x'", "index > 2", "params.b && item == 'y'"] {
        let each = first(&yaml(when));
        assert!(each.when.is_none() && each.for_each.unwrap().when.is_some(), "{when}");
    }
}

#[test]
fn outputs_as_others_see_them() {
    let run = "run: [x], output_type: { n: int }";
    for (task, ty) in [
        (format!("for_each: params.l, {run}"), "[{n: int}]"),
        (format!("for_each: params.l, tolerate: 1, {run}"), "[{n: int}?]"),
        (format!("for_each: params.l, tolerate: 0, {run}"), "[{n: int}]"),
        (format!("for_each: params.l, when: \"item != 'a'\", {run}"), "[{n: int}?]"),
        (format!("tasks: {{ b: {{ {run} }} }}"), "{b: {n: int}}"),
        (
            format!("tasks: {{ b: {{ {run} }}, c: {{ when: tasks.b.output.n > 1, {run} }} }}"),
            "{b: {n: int}?, c: {n: int}?}",
        ),
        (format!("tasks: {{ b: {{ {run} }} }}, output: '${{{{ tasks.b.output.n }}}}'"), "int"),
        (format!("for_each: params.l, tasks: {{ b: {{ {run} }} }}"), "[{b: {n: int}}]"),
        ("approval: Go?".into(), "{approved: bool, by: str?, comment: str?, form: {}}"),
        (
            "approval: { prompt: Go?, form: { n: int } }".into(),
            "{approved: bool, by: str?, comment: str?, form: {n: int}}",
        ),
        ("wait: { event: done }, output_type: { n: int }".into(), "{n: int}"),
    ] {
        let tasks = format!("tasks:\n  a: {{ {task} }}\n");
        let ty = format!("{}?", ty.trim_end_matches('?'));
        assert_eq!(seen(&tasks, "a"), ty, "{task}");
    }
}

#[test]
fn references_out_of_a_group_are_the_groups_upstreams() {
    let plan = plan(
        "tasks:
  z: { run: [x], output_type: { n: int } }
  y: { run: [x], output_type: { n: int } }
  g:
    for_each: range(tasks.z.output.n)
    tasks:
      b: { run: [echo, '${{ tasks.y.output.n }}', '${{ item }}'], output_type: { m: int } }
      h:
        tasks:
          c: { run: [echo, '${{ tasks.b.output.m }}', '${{ index }}', '${{ tasks.y.output.n }}'] }
",
    );
    let group = &plan.body.tasks[2];
    assert_eq!(group.upstreams, vec![0, 1]);
    let Action::Group { tasks, .. } = &group.action else { panic!("no group") };
    assert_eq!(tasks.tasks[1].upstreams, vec![0]);
    let Action::Group { tasks, .. } = &tasks.tasks[1].action else { panic!("no group") };
    assert!(tasks.tasks[0].upstreams.is_empty());
}

#[test]
fn whatever_a_task_refers_to_is_upstream_of_it() {
    let plan = plan(
        "tasks:
  a: { run: [x], output_type: { name: str } }
  b: { run: [x], pool: '${{ tasks.a.output.name }}' }
  c: { run: [x], cache: { key: tasks.a.output.name } }
  d: { run: [x], for_each: [1], item_key: \"tasks.a.output.name + string(index)\" }
  e: { wait: { event: '${{ tasks.a.output.name }}' } }
  f: { run: [x], poll: { every: 1s, until: \"output == tasks.a.output.name\" } }
",
    );
    for task in &plan.body.tasks[1..] {
        assert_eq!(task.upstreams, vec![0], "{}", task.name);
    }
}

#[test]
fn waits_and_approvals() {
    let task = |body: &str| first(&format!("tasks:\n  a: {{ {body} }}\n"));
    assert_eq!(task("wait: 0s").action, Action::Wait(Wait::For(Span::ZERO)));
    assert_eq!(task("wait: { for: 90s }").action, Action::Wait(Wait::For(Span::from_secs(90))));
    assert!(matches!(
        task("wait: { until: '2026-11-24T10:00:00+01:00' }").action,
        Action::Wait(Wait::Until(Binding::Const(_)))
    ));
    assert!(matches!(
        task("wait: { event: 'go-${{ run.id }}' }").action,
        Action::Wait(Wait::Event(_))
    ));
    let approval = task(
        "approval: { prompt: 'Ship?', approvers: [ann, 'role:admin'], on_reject: fail, on_timeout: approve }, timeout: 1h",
    );
    let Action::Approval(asked) = &approval.action else { panic!("no approval") };
    assert_eq!((asked.on_reject, asked.on_timeout), (OnReject::Fail, OnTimeout::Approve));
    assert_eq!((asked.approvers.len(), approval.timeout), (2, Some(Span::from_secs(3_600))));
    let sensor = task(
        "run: [x], output_type: { rows: int }, poll: { every: 30s, timeout: 1h, until: output.rows > 0 }",
    );
    let poll = sensor.poll.expect("a sensor");
    assert_eq!((poll.every, poll.timeout), (Span::from_secs(30), Some(Span::from_secs(3_600))));
    assert!(poll.until.is_some());
}

#[test]
fn limits_of_tasks_and_runs() {
    let plan = plan(
        "params: { day: date, region: str }
concurrency: { max_runs: 2, key: params.region, on_limit: cancel_oldest }
defaults: { priority: 5, worker_queue: big, pool: db }
tasks:
  a: { run: [x] }
  b:
    run: [x]
    priority: -7
    worker_queue: default
    pool: { name: 'db-${{ params.region }}', slots: 2, of: 8 }
    cache: { key: params.day, ttl: 1d }
    heartbeat_timeout: 30s
    start_within: 10m
  c: { tasks: { d: { run: [x] } } }
  e: { wait: 1s }
",
    );
    let limit = plan.concurrency.expect("a limit");
    assert_eq!((limit.max_runs, limit.on_limit), (2, OnLimit::CancelOldest));
    let [a, b, c, e] = &plan.body.tasks[..] else { panic!("four tasks") };
    assert_eq!((a.priority, a.worker_queue.as_deref()), (5, Some("big")));
    assert_eq!((b.priority, b.worker_queue.as_deref()), (-7, None));
    let pool = b.pool.as_ref().expect("a pool");
    assert_eq!((pool.slots, pool.of), (2, Some(8)));
    assert_eq!(
        (b.heartbeat_timeout, b.start_within),
        (Some(Span::from_secs(30)), Some(Span::from_secs(600)))
    );
    let Action::Group { tasks, .. } = &c.action else { panic!("no group") };
    assert_eq!((c.priority, tasks.tasks[0].priority, e.priority), (0, 5, 0));
    assert!(c.pool.is_none() && tasks.tasks[0].pool.is_some());
}

const TRIGGERS: &str = "params: { n: int, who: str, day: date, note: 'str?' }
triggers:
  push: { webhook: { body: { n: int, user: { name: str } }, auth: hmac }, params: { n: '${{ trigger.body.n }}', who: '${{ trigger.body.user.name }}', day: 2026-01-01 } }
  after:
    workflow: other
    states: [success, failed]
    params: { n: 1, who: '${{ trigger.run.id }}', day: '${{ date(trigger.run.logical_time) }}' }
tasks: { a: { run: [x] } }
";

#[test]
fn triggers_are_read() {
    let compiled = compile("flow.yaml", TRIGGERS.as_bytes(), &Project(Vec::new()));
    let plan = compiled.plan.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
    assert_eq!(compiled.unchecked, Vec::<String>::new());
    let [found] = &compiled.diagnostics[..] else { panic!("{:?}", compiled.diagnostics) };
    assert_eq!(
        (&*found.code, &*found.message),
        ("unknown-workflow", "there is no workflow `other` yet")
    );
    let plan::Trigger::Webhook { body, auth, params } = &plan.triggers["push"] else { panic!() };
    assert_eq!(
        (body.to_string().as_str(), *auth),
        ("{n: int, user: {name: str}}", WebhookAuth::Hmac)
    );
    assert_eq!(params.keys().collect::<Vec<_>>(), ["n", "who", "day"]);
    let plan::Trigger::Workflow { workflow, states, .. } = &plan.triggers["after"] else {
        panic!()
    };
    assert_eq!(
        (workflow.as_str(), &states[..]),
        ("other", &[RunState::Success, RunState::Failed][..])
    );
    let other = plan_of("name: other\ntasks: { a: { run: [x] } }\n");
    let project = Project(vec![("other", other)]);
    assert_eq!(compile("flow.yaml", TRIGGERS.as_bytes(), &project).diagnostics, []);
}

fn plan_of(yaml: &str) -> Arc<Plan> {
    Arc::new(plan(yaml))
}

#[test]
fn params_of_a_trigger_are_bound_to_what_came() {
    let plan = plan(TRIGGERS);
    let facts = RunFacts {
        id: "r".into(),
        workflow: "flow".into(),
        project: "p".into(),
        logical_time: "2026-11-24T00:00:00Z".into(),
        url: String::new(),
    };
    let bind = |name: &str, value: serde_json::Value| {
        let spec = &plan.triggers[name];
        bind_triggered(&plan, spec.params(), &facts, (value, &spec.value_type()))
    };
    let body = serde_json::json!({ "n": 3, "user": { "name": "ann" } });
    let bound = bind("push", serde_json::json!({ "body": body, "headers": {} })).unwrap();
    let expected = serde_json::json!({ "n": 3, "who": "ann", "day": "2026-01-01", "note": null });
    assert_eq!(bound, expected);
    let run = serde_json::json!({
        "id": "r1", "workflow": "other", "state": "failed",
        "logical_time": "2026-11-23T02:00:00+01:00", "params": {}, "output": null,
    });
    let bound = bind("after", serde_json::json!({ "run": run })).unwrap();
    assert_eq!((&bound["who"], &bound["day"]), (&"r1".into(), &"2026-11-23".into()));
}

#[test]
fn workflows_that_start_each_other_are_refused() {
    let after = |name: &str, other: &str| {
        format!(
            "name: {name}\ntriggers: {{ t: {{ workflow: {other} }} }}\ntasks: {{ a: {{ run: [x] }} }}\n"
        )
    };
    let project = Project(vec![("b", plan_of(&after("b", "c"))), ("c", plan_of(&after("c", "a")))]);
    for (name, other, way) in [("a", "b", "a -> b -> c -> a"), ("d", "d", "d -> d")] {
        let compiled = compile("a.yaml", after(name, other).as_bytes(), &project);
        assert_eq!(compiled.diagnostics[0].code, "trigger-cycle");
        let message = format!("workflows start each other: {way}");
        assert_eq!(compiled.diagnostics[0].message, message);
    }
    assert!(compile("a.yaml", after("e", "b").as_bytes(), &project).is_ok());
}

/// A project with some deployed workflows.
struct Project(Vec<(&'static str, Arc<Plan>)>);

impl Sources for Project {
    fn read(&self, _path: &str) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }

    fn workflow(&self, name: &str) -> Option<Pinned> {
        let (_, plan) = self.0.iter().find(|(known, _)| *known == name)?;
        let code = CodeRef::InPlace { root: "/".into(), digest: ork_core::value::Digest::of(&[]) };
        Some(Pinned { version: VersionId(3), plan: Arc::clone(plan), code })
    }

    fn knows_workflows(&self) -> bool {
        true
    }
}

#[test]
fn a_called_workflow_is_pinned_and_typed() {
    let callee = "name: load\nparams: { n: int, s: { type: str, default: x } }\ntasks: { a: { run: [x], output_type: { m: int } } }\noutput: \"${{ default(tasks.a.output, {'m': 0}) }}\"\n";
    let project = Project(vec![("load", Arc::new(plan(callee)))]);
    let shown = |yaml: &str| {
        let compiled = compile("flow.yaml", yaml.as_bytes(), &project);
        let text = render(&compiled.diagnostics, |_| Some(yaml), false);
        (compiled, text)
    };
    let good = "tasks:\n  l: { workflow: { name: load, params: { n: 1 } } }\n  b: { run: [echo, '${{ tasks.l.output.m }}'] }\n  u: { workflow: unknown }\n";
    let (compiled, text) = shown(good);
    let plan = compiled.plan.unwrap_or_else(|| panic!("{text}"));
    let Action::Call { pinned: Some(pinned), .. } = &plan.body.tasks[0].action else { panic!() };
    assert_eq!((pinned.version, plan.body.tasks[1].upstreams.as_slice()), (VersionId(3), &[0][..]));
    let [found] = &compiled.diagnostics[..] else { panic!("{text}") };
    assert_eq!(found.message, "there is no workflow `unknown` yet");
    let (_, text) = shown(
        "tasks:\n  l: { workflow: { name: load, params: { n: x, o: 1 } } }\n  m: { workflow: load }\n  o: { workflow: flow }\n",
    );
    insta::assert_snapshot!(text);
}

/// A project that has a pool and a worker, where that is known.
struct Staffed {
    known: bool,
}

impl Sources for Staffed {
    fn read(&self, _path: &str) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }

    fn has_pool(&self, name: &str) -> Option<bool> {
        self.known.then_some(name == "db")
    }

    fn has_queue(&self, name: &str) -> Option<bool> {
        self.known.then_some(name == "gpu")
    }
}

#[test]
fn names_of_pools_and_queues_are_looked_up_where_they_are_known() {
    let yaml = "defaults: { pool: api }
params: { p: str }
tasks:
  a: { run: [x], pool: db, worker_queue: gpu }
  b: { run: [x], worker_queue: tpu }
  c: { run: [x], worker_queue: default }
  d: { run: [x], pool: { name: own, of: 3 } }
  e: { run: [x], pool: { name: '${{ params.p }}' } }
  f: { run: [x], pool: { name: none, slots: 2 } }
  g: { workflow: other }
  h: { workflow: other }
";
    let found = compile("flow.yaml", yaml.as_bytes(), &Staffed { known: true });
    assert_eq!(found.unchecked, ["the workflow `other`"]);
    insta::assert_snapshot!(render(&found.diagnostics, |_| Some(yaml), false), @r"
    warning[unknown-pool]: there is no pool `api` yet
     --> flow.yaml:1:19
      |
    1 | defaults: { pool: api }
      |                   ^^^
      |
      = help: make it with `ork pools set api SLOTS`, or write its size beside its name (`of`)

    warning[unknown-queue]: no worker serves the queue `tpu`
     --> flow.yaml:5:32
      |
    5 |   b: { run: [x], worker_queue: tpu }
      |                                ^^^
      |
      = help: its tasks wait until one does: `worker.queues` of ork.toml names them

    warning[unknown-pool]: there is no pool `none` yet
     --> flow.yaml:9:32
      |
    9 |   f: { run: [x], pool: { name: none, slots: 2 } }
      |                                ^^^^
      |
      = help: make it with `ork pools set none SLOTS`, or write its size beside its name (`of`)

    3 warnings
    ");
    let unknown = compile("flow.yaml", yaml.as_bytes(), &Staffed { known: false });
    assert_eq!((unknown.plan.is_some(), unknown.diagnostics.as_slice()), (true, &[][..]));
    assert_eq!(
        unknown.unchecked,
        [
            "the queue `gpu`",
            "the pool `db`",
            "the queue `tpu`",
            "the pool `api`",
            "the pool `none`",
            "the workflow `other`"
        ]
    );
}

#[test]
fn calls_that_come_back_are_refused() {
    let leaf = plan("name: c\ntasks: { a: { run: [x] } }\n");
    let mut back = plan("name: b\ntasks: { a: { workflow: { name: a } } }\n");
    let Action::Call { pinned, .. } = &mut back.body.tasks[0].action else { panic!() };
    let code = CodeRef::InPlace { root: "/".into(), digest: ork_core::value::Digest::of(&[]) };
    *pinned = Some(Box::new(Pinned { version: VersionId(1), plan: Arc::new(leaf), code }));
    let project = Project(vec![("b", Arc::new(back))]);
    let yaml = "name: a\ntasks: { g: { tasks: { x: { workflow: b } } } }\n";
    let compiled = compile("a.yaml", yaml.as_bytes(), &project);
    assert_eq!(compiled.diagnostics[0].code, "workflow-cycle");
    assert_eq!(compiled.diagnostics[0].message, "workflows call each other: a -> b -> a");
}

#[test]
fn mistakes() {
    gallery(
        "dynamic",
        &[
            ("keys without items", "tasks:\n  a: { run: [x], max_parallel: 2, item_key: index }\n"),
            (
                "no list",
                "params: { n: int, l: '[str]?', m: { type: { a: int } } }\ntasks:\n  a: { run: [x], for_each: params.n }\n  b: { run: [x], for_each: params.l }\n  c: { run: [x], for_each: params.m }\n",
            ),
            ("item outside a map", "tasks:\n  a: { run: [echo, '${{ item }}'] }\n"),
            (
                "a field that items lack",
                "tasks:\n  a: { run: [echo, '${{ item.nam }}'], for_each: { matrix: { name: [a] } } }\n",
            ),
            (
                "a matrix",
                "tasks:\n  a: { run: [x], for_each: { matrix: { os: [a] }, exclude: [{ so: a }] } }\n  b: { run: [x], for_each: { in: [a], include: [{ b: c }] } }\n  c: { run: [x], for_each: { as: item, in: [a] } }\n",
            ),
            (
                "tolerate",
                "tasks:\n  a: { run: [x], for_each: [a], tolerate: half }\n  b: { run: [x], for_each: [a], tolerate: 120% }\n",
            ),
            (
                "a name of a task outside",
                "tasks:\n  a: { run: [x] }\n  g: { tasks: { a: { run: [x] } } }\n",
            ),
            (
                "a member seen from outside",
                "tasks:\n  g: { tasks: { a: { run: [x] } } }\n  b: { run: [x], depends_on: a }\n  c: { run: [echo, '${{ tasks.a.output }}'] }\n",
            ),
            (
                "a cycle through a group",
                "tasks:\n  a: { run: [echo, '${{ tasks.g.state }}'] }\n  g: { tasks: { b: { run: [echo, '${{ tasks.a.output }}'] } } }\n",
            ),
            (
                "retries of a group",
                "tasks:\n  g: { tasks: { a: { run: [x] } }, retries: 3, env: { A: b } }\n",
            ),
            ("output of a task", "tasks:\n  a: { run: [x], output: { n: int } }\n"),
            ("an empty group", "tasks:\n  g: { tasks: {} }\n"),
            (
                "a DAG made at run time",
                "tasks:\n  a: { run: [x] }\n  g: { tasks: tasks.a.output }\n  h: { tasks: '${{ tasks.a.output }}', allow: [pyton] }\n",
            ),
            (
                "two waits",
                "tasks:\n  a: { wait: { for: 1s, event: x } }\n  b: { wait: soon }\n  c: { wait: 1s, output_type: int }\n",
            ),
            (
                "approvals",
                "tasks:\n  a: { approval: { approvers: [] , prompt: x } }\n  b: { approval: { prompt: x, on_reject: no } }\n  c: { approval: { message: x } }\n",
            ),
            (
                "a sensor",
                "tasks:\n  a: { run: [x], output_type: { n: int }, poll: { until: output.m > 1 } }\n  b: { run: [x], output_type: { n: int }, poll: { every: 1s, until: output.m > 1 } }\n",
            ),
            (
                "limits",
                "concurrency: { max_runs: 0 }\ntasks:\n  a: { run: [x], priority: 200, pool: { name: db, slots: 4, of: 2 } }\n  b: { run: [x], worker_queue: 'a b', pool: 'a/b', cache: { ttl: 1d } }\n",
            ),
            (
                "triggers",
                "params: { n: int }\ntriggers:\n  a: { webhook: { body: { m: int }, auth: hmac }, params: { n: '${{ trigger.body.n }}' } }\n  b: { workflow: other, states: [succes] }\n  c: { webhook: { body: json } }\n  d: { params: {} }\ntasks: { a: { run: [x] } }\n",
            ),
            (
                "a tolerated output",
                "params: { l: [str] }\ntasks:\n  a: { for_each: params.l, tolerate: all, run: [x], output_type: { n: int } }\n  b: { run: [x], input_type: { parts: [{ n: int }] }, inputs: { parts: '${{ tasks.a.output }}' } }\n",
            ),
        ],
    );
}

const DYNAMIC: &str = "params: { l: [str] }
concurrency: { max_runs: 1, key: '${{ params.l[0] }}' }
tasks:
  a: { for_each: '${{ params.l }}', item_key: '${{ item }}', run: [x] }
  g:
    depends_on: a
    tasks:
      b: { run: [x], when: \"${{ params.l.size() > 1 }}\" }
      c: { depends_on: b, wait: 1s }
  ok: { depends_on: g, approval: Go on? }
  m: { depends_on: [ok], for_each: { matrix: { x: [1, 2], y: [a] } }, run: [x] }
";

#[test]
fn the_graph_shows_what_is_inside() {
    let plan = plan(DYNAMIC);
    let all = [GraphFormat::Text, GraphFormat::Mermaid, GraphFormat::Dot]
        .map(|format| graph(&plan, format))
        .join("\n");
    insta::assert_snapshot!(all);
}

#[test]
fn expression_fields_become_bare() {
    let formatted = format("f.yaml", DYNAMIC.as_bytes(), false).expect("it formats");
    insta::assert_snapshot!(formatted.text);
}

#[test]
fn percentages_round_down() {
    for (tolerate, total, most) in [
        (Tolerate::Percent(5.0), 100, 5),
        (Tolerate::Percent(5.0), 19, 0),
        (Tolerate::Percent(50.0), 3, 1),
        (Tolerate::All, 7, 7),
        (Tolerate::Count(2), 1, 2),
    ] {
        assert_eq!(tolerate.of(total), most, "{tolerate:?} of {total}");
    }
}
