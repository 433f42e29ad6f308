//! The checker: what expressions are, and what is said of wrong ones.

use std::fmt::Write as _;

use ork_core::lang::expr::{ExprIssue, Name, Typed};

use crate::expr_world::{NAMES, World, show};

fn table(sources: &[&str], check: impl Fn(&str) -> Result<Typed, Vec<ExprIssue>>) -> String {
    let mut out = String::new();
    for source in sources {
        match check(source) {
            Ok(typed) => {
                let _ = write!(out, "{source}  →  {}", typed.ty);
                if !typed.tasks.is_empty() {
                    let _ = write!(out, "  uses {}", typed.tasks.join(", "));
                }
                if !typed.proves.is_empty() {
                    let _ = write!(out, "  proves {}", typed.proves.join(", "));
                }
                let _ = writeln!(out, "{}", if typed.constant { "  constant" } else { "" });
            }
            Err(issues) => {
                for issue in &issues {
                    let _ = writeln!(out, "{}", show(source, issue));
                }
            }
        }
    }
    out
}

#[test]
fn types() {
    let world = World::new();
    insta::assert_snapshot!(table(
        &[
            "1",
            "1.5",
            "'a'",
            "true",
            "null",
            "[]",
            "[1, 2]",
            "[1, null]",
            "['a', 'b']",
            "[1, 'a']",
            "{'a': 1, 'b': 'x'}",
            "{params.mode: 1}",
            "params.day",
            "params.note",
            "params.config.deep.list[0]",
            "params.limits.eu",
            "params.limits['us']",
            "params.regions[0]",
            "params['n']",
            "params",
            "run.logical_date - days(1)",
            "run.logical_time + hours(2)",
            "run.logical_date - params.day > days(2)",
            "params.at.in_zone('Europe/Berlin').format('%H:%M')",
            "params.utc - params.at < hours(1)",
            "params.local.in_zone('UTC')",
            "date('2026-01-01')",
            "date(params.at)",
            "tasks.load.output",
            "tasks.load.output.rows > 0",
            "tasks.load.state",
            "tasks.load.state == 'success' && tasks.load.output.rows > 0",
            "tasks.flaky.output",
            "tasks.flaky.state == 'success' ? tasks.flaky.output.rows : 0",
            "tasks.flaky.state != 'success' || tasks.flaky.output.rows == 0",
            "has(tasks.flaky.output) && tasks.flaky.output.rows > 1",
            "tasks.flaky.output != null && tasks.flaky.output.rows > 1",
            "!has(tasks.flaky.output.rows) || tasks.flaky.output.rows > 1",
            "default(tasks.flaky.output.rows, 0)",
            "has(tasks.flaky.output.rows)",
            "default(params.note, 'none')",
            "default(params.note, null)",
            "succeeded(tasks.parts.output)",
            "sum(succeeded(tasks.parts.output))",
            "tasks.parts.output.filter(x, x != null)",
            "tasks.any.output.x[0] + 1",
            "size(params.regions)",
            "params.regions.size()",
            "join(params.regions, ',')",
            "params.regions.join('-')",
            "split('a,b', ',')",
            "range(3)",
            "range(1, params.n)",
            "min(1, 2)",
            "max([1.5, 2.5])",
            "max(params.day, run.logical_date)",
            "params.regions.map(r, r + '-x')",
            "params.regions.filter(r, r != 'eu')",
            "params.regions.exists(r, r == 'eu')",
            "params.regions.all(r, size(r) == 2)",
            "params.regions.exists_one(r, r == 'eu')",
            "range(3).map(i, i > 0, params.day - days(i))",
            "params.limits.map(k, params.limits[k])",
            "'eu' in params.regions",
            "'eu' in params.limits",
            "params.mode in ['fast', 'slow']",
            "double(params.n) * 1.5",
            "int('3')",
            "string(params.at)",
            "params.n % 2 == 0 ? 'even' : 'odd'",
            "-params.n",
            "!params.dry_run",
            "attempt > 1",
            "params.n < params.rate",
            "params.n == 2.5",
            "vars.bucket",
            "params.n > 2 ? null : params.n",
            "days(1) + hours(2) > days(1)",
            "2 * days(1) == days(2)",
            "'abc'.startsWith('a')",
            "'abc'.matches('^a')",
            "[1, 2] + [3]",
            "params.regions + []",
            "params.n > 1 ? [] : params.regions",
        ],
        |source| world.check(source)
    ));
}

#[test]
fn mistakes() {
    let world = World::new();
    insta::assert_snapshot!(table(
        &[
            "",
            "1 +",
            "(1",
            "1)",
            "[1, 2",
            "a b",
            "'abc",
            "params.n = 3",
            "params.n & 1",
            "true and false",
            "params.note | upper",
            "1u",
            "b'x'",
            "99999999999999999999",
            "'\\q'",
            "1.foo.",
            "x.map(1, 2)",
            "params.regions.map(r)",
            "${{ params.n }}",
            "{1: 2}",
            "params.n if true else 2",
            "regions",
            "load",
            "parms.n",
            "eu",
            "None",
            "params.regoins",
            "tasks.laod.output",
            "tasks.load",
            "tasks.load.outptu",
            "tasks.load.rows",
            "tasks.load.output.row",
            "tasks.quiet.output",
            "tasks",
            "run",
            "run.logicaldate",
            "run.state",
            "secrets.key",
            "item",
            "error.kind",
            "tasks.flaky.output.rows > 0",
            "tasks.flaky.output.rows + tasks.flaky.output.rows",
            "tasks.flaky.state == 'failed' && tasks.flaky.output.rows > 0",
            "params.note + 'x'",
            "params.note.size() > 0",
            "params.n * 1.5",
            "1.5 / params.n",
            "params.n + 1.5",
            "2 * params.rate",
            "params.n > 1 ? 1 : 2.5",
            "params.n + 'x'",
            "'x' + params.n",
            "params.n == 'x'",
            "params.day == '2026-01-01'",
            "params.day < params.at",
            "params.local < params.at",
            "params.day - hours(1)",
            "params.day + 1",
            "days(1)",
            "[days(1)]",
            "params.regions.map(r, days(1))",
            "tasks.load.state == 'sucess'",
            "tasks.load.state in ['success', 'skiped']",
            "params.mode == 'quick'",
            "'eu' in 'europe'",
            "1 in params.regions",
            "params.regions == 'eu'",
            "params.regions > []",
            "params.regions.eu",
            "params.day.year",
            "params.n.x",
            "params.n[0]",
            "params.regions['x']",
            "params.n && true",
            "!params.regions",
            "params.note ? 1 : 2",
            "-params.mode",
            "sum(params.regions)",
            "min(1, 'a')",
            "sum(tasks.parts.output)",
            "join([[1]], ',')",
            "join(tasks.parts.output, ',')",
            "join(params.regions)",
            "len(params.regions)",
            "float(1)",
            "siz(1)",
            "format(params.day, '%Y')",
            "params.day.format('%Q')",
            "params.day.format('%H')",
            "params.at.in_zone('Europe/Berln')",
            "params.day.in_zone('UTC')",
            "date('yesterday')",
            "days(1.5)",
            "range(1000000)",
            "'a'.matches('(')",
            "params.regions.map(params, 1)",
            "params.regions.map(x, params.regions.map(x, 1))",
            "{'a': 1, 'a': 2}",
            "has(1)",
            "default(1)",
            "map(params.regions, x)",
            "params.n + params.nn + params.nnn",
        ],
        |source| world.check(source)
    ));
}

#[test]
fn limits() {
    let world = World::new();
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    let chain = |n: usize| vec!["1"; n].join(" + ");
    let code = |source: &str| match world.check(source) {
        Ok(_) => "fine",
        Err(issues) => issues[0].code,
    };
    assert_eq!(code(&nested(32)), "fine");
    assert_eq!(code(&nested(33)), "expr-limit");
    assert_eq!(code(&nested(2000)), "expr-limit");
    assert_eq!(code(&"!".repeat(4000)), "expr-limit");
    assert_eq!(code(&"-".repeat(4000)), "expr-limit");
    assert_eq!(code(&"true?true:".repeat(400)), "expr-limit");
    assert_eq!(code(&chain(150)), "fine");
    assert_eq!(code(&chain(1000)), "expr-limit");
    assert_eq!(code(&format!("'{}'", "x".repeat(4094))), "fine");
    assert_eq!(code(&format!("'{}'", "x".repeat(4095))), "expr-limit");
    assert_eq!(code("[1].map(a, [1].map(b, a + b))"), "fine");
    assert_eq!(code("[1].map(a, [1].map(b, [1].map(c, a + b + c)))"), "expr-limit");
    assert_eq!(code("params.regions.map(a, params.regions.exists(b, b == a))"), "fine");
    assert_eq!(code("range(1000).map(a, range(1000).exists(b, b == a))"), "expr-limit");
    assert_eq!(code("range(100000)"), "fine");
    assert_eq!(code("range(100001)"), "expr-limit");
    assert_eq!(code("range(1000).map(i, range(900))"), "expr-limit");
    assert_eq!(code("range(20000).map(a, a + 1)"), "fine");
    assert_eq!(code("range(90000).map(a, a + 1)"), "expr-limit");
}

#[test]
fn places() {
    let world = World::new();
    let finally = [NAMES, &[Name::RunEnd, Name::Secrets, Name::Error]].concat();
    insta::assert_snapshot!(table(
        &[
            "run.state",
            "run.error",
            "run.error.kind",
            "has(run.error) && run.error.kind == 'timeout'",
            "run.failed_tasks.join(', ')",
            "tasks.load.output.rows",
            "tasks.load.output",
            "secrets.key",
            "error.exit_code == 75",
            "error.kind == 'timeot'",
            "run.stat",
        ],
        |source| world.check_with(source, &finally, false)
    ));
    insta::assert_snapshot!(table(
        &[
            "tasks.load.output",
            "params.n",
            "run.id",
            "params['n']",
            "tasks['load'].output",
            "vars.x"
        ],
        |source| world.check_with(source, &[Name::Run], true)
    ));
}

#[test]
fn names_are_reported_with_references() {
    let world = World::new();
    let typed = world
        .check_with(
            "vars.a + secrets.key + string(tasks.load.output.rows)",
            &[Name::Vars, Name::Secrets, Name::Tasks],
            true,
        )
        .unwrap();
    assert_eq!(
        (typed.vars, typed.secrets, typed.tasks),
        (vec!["a".into()], vec!["key".into()], vec!["load".into()])
    );
}

#[test]
fn text_takes_scalars_alone() {
    let world = World::new();
    let hint = |source: &str| {
        let typed = world.check(source).unwrap();
        let text = typed.as_text(source, false).err().and_then(|issue| issue.hint);
        (text.unwrap_or_default(), typed.as_args(source).is_ok())
    };
    assert_eq!(hint("params.n"), (String::new(), true));
    assert_eq!(hint("params.at"), (String::new(), true));
    assert_eq!(hint("params.config"), (String::new(), true));
    assert_eq!(hint("params.regions"), ("join it: `join(list, ',')`".into(), true));
    assert_eq!(hint("[[1]]"), ("join it: `join(list, ',')`".into(), false));
    assert_eq!(hint("params.note"), ("write `default(x, '')`".into(), false));
    assert_eq!(hint("tasks.load.output"), ("take one of its fields".into(), false));
}
