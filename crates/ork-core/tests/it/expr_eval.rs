//! Evaluation and bindings.

use std::fmt::Write as _;

use indexmap::IndexMap;
use ork_core::lang::expr::{EvalError, eval, resolve};
use ork_core::plan::{Binding, Expr, TextPart};
use ork_core::value::{Data, Value};
use serde_json::json;

use crate::expr_world::World;

fn table(world: &World, sources: &[&str]) -> String {
    let mut out = String::new();
    for source in sources {
        let _ = match eval(&Expr::new(*source), world) {
            Ok(value) => writeln!(out, "{source}  →  {value}"),
            Err(error) => writeln!(out, "{source}  ✗  {error}"),
        };
    }
    out
}

#[test]
fn values() {
    insta::assert_snapshot!(table(
        &World::new(),
        &[
            "1 + 2 * 3",
            "7 / 2",
            "-7 / 2",
            "-7 % 3",
            "7.0 / 2.0",
            "1.0 / 3.0",
            "0x10",
            "1e3",
            "-9223372036854775808",
            "'a' + 'b'",
            "r'\\d'",
            "'\\u00e9\\n'",
            "\"\"\"a\"b\"\"\"",
            "[1, 2] + [3]",
            "{'a': [1], 'b': null}",
            "true || params.config.none",
            "false && params.config.none",
            "1 == 1.0",
            "1 < 1.5",
            "9007199254740993 == 9007199254740992.0",
            "[1, 2] == [1.0, 2.0]",
            "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
            "null == null",
            "'a' < 'b'",
            "'x' == null",
            "params.day",
            "params.day + days(8)",
            "run.logical_date - days(1)",
            "params.day - date('2026-11-20') == days(4)",
            "params.day == date('2026-11-24')",
            "params.day.format('%d.%m.%Y')",
            "params.at",
            "params.at.in_zone('UTC')",
            "params.at == params.utc",
            "params.at + hours(1)",
            "run.logical_time + days(1)",
            "run.logical_time.in_zone('Europe/Berlin') + days(1)",
            "run.logical_time.in_zone('Europe/Berlin') + hours(24)",
            "params.local.in_zone('America/New_York')",
            "params.local + minutes(90)",
            "date(params.at)",
            "date('2026-01-31') + days(1)",
            "max(params.day, run.logical_date)",
            "min([3, 1, 2])",
            "sum([1, 2, 3])",
            "sum([1.5, 2])",
            "sum([])",
            "max('a', 'b')",
            "params.rate * 2.0",
            "params.rate / 4.0",
            "tasks.load.output.rows + 1",
            "tasks.load.output",
            "tasks.load.state",
            "tasks.load.output.note",
            "tasks.flaky.output",
            "default(tasks.flaky.output.rows, 0)",
            "has(tasks.flaky.output.rows)",
            "has(tasks.load.output.note)",
            "has(params.config.deep.list)",
            "has(params.config.nope.x)",
            "default(params.regions[7], 'none')",
            "succeeded(tasks.parts.output)",
            "sum(succeeded(tasks.parts.output))",
            "size('é€')",
            "size(params.regions)",
            "size(params.limits)",
            "params.regions.map(r, r + '-x')",
            "params.regions.filter(r, r != 'eu')",
            "params.regions.exists(r, r == 'us')",
            "params.regions.all(r, size(r) == 2)",
            "params.regions.exists_one(r, r == 'eu')",
            "range(4).map(i, i > 1, params.day - days(i))",
            "params.limits.map(k, params.limits[k])",
            "'eu' in params.regions",
            "'eu' in params.limits",
            "2 in [1, 2.0]",
            "join([1, 2.5, true, 'x'], '-')",
            "join([params.day], '')",
            "split('a,b,,c', ',')",
            "split('abc', '')",
            "range(2, 5)",
            "range(5, 2)",
            "int('42')",
            "int(2.9)",
            "int(-2.9)",
            "double('1.5')",
            "double(3)",
            "string(2.0)",
            "string(1.5)",
            "string(true)",
            "string(params.at)",
            "'abc'.contains('b')",
            "'abc'.startsWith('ab')",
            "'abc'.endsWith('bc')",
            "'a1'.matches('^[a-z][0-9]$')",
            "attempt",
            "vars.bucket",
            "error.exit_code",
            "run.failed_tasks",
            "params.config.deep.list[1] + 1",
            "params['n']",
            "params.config['n']",
            "params.n > 2 ? 'many' : 'few'",
            "!params.dry_run",
            "-params.n",
            "2 * days(1) == days(2)",
            "params.note",
            "params",
        ]
    ));
}

#[test]
fn failures() {
    insta::assert_snapshot!(table(
        &World::new(),
        &[
            "1 / 0",
            "1 % 0",
            "1.0 / 0.0",
            "9223372036854775807 + 1",
            "-9223372036854775808 - 1",
            "-9223372036854775808 / -1",
            "-(-9223372036854775807 - 1)",
            "9223372036854775807 * 2",
            "int(1e19)",
            "int('x')",
            "double('x')",
            "date('x')",
            "params.config.none",
            "params.config.deep.list[9]",
            "params.config.deep.list.x",
            "params.config.n.x",
            "params.limits.us",
            "params.config.deep.list[2] + 1",
            "params.config.deep.list[2] * 2",
            "params.config < 1",
            "params.config ? 1 : 2",
            "!params.config",
            "params.config.n.map(x, x)",
            "min([])",
            "sum(params.regions)",
            "params.config in 'x'",
            "params.day + days(9999999)",
            "days(9223372036854775807) + days(1) > days(1)",
            "hours(9223372036854775807) > hours(1)",
            "range(100001)",
            "range(60000) + range(60000)",
            "range(1000).map(i, range(1000))",
            "range(1000).map(i, range(1000).map(j, i * j))",
            "range(20).map(i, i).map(x, 'x')",
            "nope",
            "nope(1)",
            "tasks.nope.output",
            "1 +",
            "params.day.format('%Q')",
            "params.config.n.format('%Y')",
            "params.at.in_zone(params.mode)",
            "'a'.matches(params.config.deep.list[2] + '(')",
            "join([[1]], ',')",
            "days(1)",
        ]
    ));
}

#[test]
fn time_and_space_are_bounded() {
    let doubling = (0..40)
        .fold("'xxxxxxxxxxxxxxxx'".to_string(), |text, _| format!("[{text}].map(x, x + x)[0]"));
    let error = eval(&Expr::new(doubling.as_str()), &World::new()).unwrap_err();
    assert!(matches!(error, EvalError::Failed(_)), "{error}");
    let mut world = World::new();
    world.param("big", "[int]", json!(vec![1; 50_000]));
    let error = eval(&Expr::new("params.big.map(a, params.big.exists(b, b == 2))"), &world);
    assert!(error.unwrap_err().to_string().contains("more than 1000000 steps"));
    world.param("text", "str", json!("x".repeat(1 << 20)));
    let error = eval(&Expr::new("params.text + 'y'"), &world);
    assert!(error.unwrap_err().to_string().contains("more than 1048576 bytes"));
    assert_eq!(eval(&Expr::new("size(params.big.map(x, x + 1))"), &world), Ok(json!(50_000)));
}

fn expr(source: &str) -> Binding {
    Binding::Expr(Expr::new(source))
}

fn text(parts: &[(&str, &str)]) -> Binding {
    let parts = parts.iter().flat_map(|(literal, source)| {
        [TextPart::Literal((*literal).into()), TextPart::Expr(Expr::new(*source))]
    });
    Binding::Text(parts.collect())
}

fn inline(binding: &Binding, world: &World) -> Result<Value, EvalError> {
    resolve(binding, world).map(|data| match data {
        Data::Inline(value) => value,
        Data::Blob { .. } => panic!("a reference"),
    })
}

#[test]
fn bindings() {
    let world = World::new();
    let constant = Binding::Const(json!({"a": ["${{ not looked at }}"]}));
    assert_eq!(inline(&constant, &world), Ok(json!({"a": ["${{ not looked at }}"]})));
    assert_eq!(inline(&expr("params.regions"), &world), Ok(json!(["eu", "us"])));
    let map = Binding::Map(IndexMap::from([
        ("day".to_string(), expr("params.day")),
        ("list".to_string(), Binding::List(vec![expr("1 + 1"), Binding::Const(json!("x"))])),
    ]));
    assert_eq!(inline(&map, &world), Ok(json!({"day": "2026-11-24", "list": [2, "x"]})));
    let line = text(&[
        ("n=", "params.n"),
        (" rate=", "params.rate"),
        (" ", "params.dry_run"),
        (" ", "params.at"),
    ]);
    assert_eq!(inline(&line, &world), Ok(json!("n=3 rate=2.0 false 2026-11-24T10:30:00+01:00")));
    let args = Binding::Args(vec![
        Binding::Const(json!("prog")),
        expr("params.regions"),
        Binding::Const(json!(7)),
        text(&[("--day=", "params.day")]),
        expr("params.n"),
        expr("[]"),
    ]);
    let expected = json!(["prog", "eu", "us", "7", "--day=2026-11-24", "3"]);
    assert_eq!(inline(&args, &world), Ok(expected));
}

#[test]
fn what_cannot_be_text_says_so() {
    let world = World::new();
    let error = |binding: &Binding| resolve(binding, &world).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            error(&text(&[("x", "params.regions")])),
            error(&text(&[("x", "params.note")])),
            error(&text(&[("x", "tasks.load.output")])),
            error(&Binding::Args(vec![expr("params.note")])),
            error(&Binding::Args(vec![expr("[[1]]")])),
            error(&Binding::Args(vec![Binding::Const(json!({"a": 1}))])),
        ]
        .join("\n")
    );
}

#[test]
fn blobs_are_passed_on_or_asked_for() {
    let mut world = World::new();
    let load = world.make_blob("load", false);
    let any = world.make_blob("any", false);
    let whole = resolve(&expr(" tasks.load.output "), &world);
    assert!(matches!(whole, Ok(Data::Blob { digest, .. }) if digest == load));
    assert_eq!(resolve(&expr("tasks.load.state"), &world), Ok(Data::Inline(json!("success"))));
    let need = |binding: &Binding| resolve(binding, &world).unwrap_err();
    assert_eq!(need(&expr("tasks.load.output.rows")), EvalError::Need(vec![load]));
    assert_eq!(
        need(&expr("size(tasks.any.output.x) + tasks.load.output.rows")),
        EvalError::Need(vec![any, load])
    );
    let both = Binding::List(vec![
        expr("tasks.load.output"),
        Binding::Const(json!(1)),
        expr("tasks.any.output"),
    ]);
    assert_eq!(need(&both), EvalError::Need(vec![load, any]));
    let mut world = World::new();
    world.make_blob("load", true);
    assert_eq!(resolve(&expr("tasks.load.output.rows"), &world), Ok(Data::Inline(json!(5))));
}
