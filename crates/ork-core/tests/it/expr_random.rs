//! Random expressions: nothing panics, what is well typed does not fail for its types, and the
//! part that is plain CEL means what the `cel` crate says.

use ork_core::lang::expr::{EvalError, eval};
use ork_core::plan::Expr;
use ork_core::types::Type;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::expr_world::World;

/// Ints, floats, texts, conditions, lists of ints and dates, each made of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Int,
    Float,
    Text,
    Flag,
    Ints,
    Day,
}

/// Picks by numbers, so that a list of numbers is an expression.
struct Picker<'n> {
    numbers: &'n [u8],
    at: usize,
    /// Without params, tasks and functions that CEL does not have.
    plain: bool,
}

impl Picker<'_> {
    fn next(&mut self) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number)
    }

    fn expr(&mut self, sort: Sort, depth: usize) -> String {
        let forms: &[&str] = match (sort, self.plain) {
            (Sort::Int, true) => &[
                "0",
                "1",
                "7",
                "-3",
                "(I + I)",
                "(I - I)",
                "(I * I)",
                "(I / I)",
                "(I % I)",
                "size(L)",
                "size(S)",
                "(B ? I : I)",
            ],
            (Sort::Int, false) => &[
                "0",
                "1",
                "7",
                "params.n",
                "tasks.load.output.rows",
                "attempt",
                "(I + I)",
                "(I * I)",
                "(I / I)",
                "(I % I)",
                "-I",
                "sum(L)",
                "min(I, I)",
                "max(L)",
                "default(tasks.flaky.output.rows, I)",
                "(B ? I : I)",
                "int(F)",
                "L[0]",
                "size(params.limits)",
                "int(string(I))",
                "(tasks.flaky.state == 'success' ? tasks.flaky.output.rows : I)",
            ],
            (Sort::Float, true) => {
                &["1.5", "-2.0", "(F + F)", "(F * F)", "(F - F)", "(B ? F : F)", "double(I)"]
            }
            (Sort::Float, false) => &[
                "1.5",
                "params.rate",
                "(F / F)",
                "(F + F)",
                "(B ? F : F)",
                "double(I)",
                "max(F, F)",
                "sum([F, F])",
            ],
            (Sort::Text, true) => &["'a'", "'b'", "''", "(S + S)", "(B ? S : S)"],
            (Sort::Text, false) => &[
                "'a'",
                "params.mode",
                "string(I)",
                "D.format('%Y-%m')",
                "default(params.note, S)",
                "(S + S)",
                "join(L, S)",
                "params.regions[0]",
                "string(D)",
                "tasks.load.state",
                "(B ? S : S)",
                "params.regions.map(r, r + S).join('')",
                "split(S, 'a')[0]",
            ],
            (Sort::Flag, true) => &[
                "true",
                "false",
                "(I == I)",
                "(I < I)",
                "(S == S)",
                "!B",
                "(B && B)",
                "(B || B)",
                "(I in L)",
                "L.exists(x, x > I)",
                "L.all(x, x != I)",
                "(F <= F)",
                "(S < S)",
                "S.contains(S)",
                "S.startsWith(S)",
                "(L == L)",
                "L.exists_one(x, x == I)",
                "(I < F)",
            ],
            (Sort::Flag, false) => &[
                "true",
                "params.dry_run",
                "(D < D)",
                "(D - D > days(I))",
                "has(params.note)",
                "has(tasks.flaky.output.rows)",
                "(S in params.regions)",
                "!B",
                "(B && B)",
                "(B || B)",
                "(F > I)",
                "(params.at + hours(I) >= params.utc)",
                "L.exists(x, x > I)",
                "(params.note == S)",
                "(has(tasks.flaky.output) && tasks.flaky.output.rows > I)",
                "S.matches('^[a-c]+$')",
                "('eu' in params.limits)",
            ],
            (Sort::Ints, true) => &[
                "[1, 2]",
                "[I, I]",
                "(L + L)",
                "L.map(x, x + I)",
                "L.filter(x, x > I)",
                "L.map(x, x > I, x * 2)",
            ],
            (Sort::Ints, false) => &[
                "range(3)",
                "[I, I]",
                "(L + L)",
                "L.map(x, x + I)",
                "L.filter(x, x > I)",
                "succeeded(tasks.parts.output)",
                "(B ? L : [])",
            ],
            (Sort::Day, _) => &[
                "params.day",
                "date('2026-02-28')",
                "(D + days(I))",
                "(D - days(I))",
                "max(D, D)",
                "date(params.at)",
                "run.logical_date",
            ],
        };
        let simple = forms
            .iter()
            .take_while(|form| !form.contains(|c: char| "IFSBLD".contains(c) && form.len() > 1))
            .count()
            .max(1);
        let most = if depth == 0 { simple } else { forms.len() };
        let form = forms[self.next() % most];
        self.fill(form, depth.saturating_sub(1))
    }

    /// Puts expressions for the capital letters outside quotes, and names the items of macros apart.
    fn fill(&mut self, form: &str, depth: usize) -> String {
        let item = format!("x{}", self.at);
        let mut out = String::new();
        let mut quoted = false;
        let chars: Vec<char> = form.chars().collect();
        for (i, c) in chars.iter().enumerate() {
            quoted ^= *c == '\'';
            let alone = |at: Option<usize>| {
                at.and_then(|at| chars.get(at)).is_none_or(|c| !c.is_alphanumeric())
            };
            let single = !quoted && alone(i.checked_sub(1)) && alone(Some(i + 1));
            match c {
                'I' if single => out += &self.expr(Sort::Int, depth),
                'F' if single => out += &self.expr(Sort::Float, depth),
                'S' if single => out += &self.expr(Sort::Text, depth),
                'B' if single => out += &self.expr(Sort::Flag, depth),
                'L' if single => out += &self.expr(Sort::Ints, depth),
                'D' if single => out += &self.expr(Sort::Day, depth),
                'x' | 'r' if single => out += &item,
                _ => out.push(*c),
            }
        }
        out
    }
}

fn source(numbers: &[u8], sort: Sort, plain: bool) -> String {
    Picker { numbers, at: 0, plain }.expr(sort, 3)
}

fn sorts() -> impl Strategy<Value = Sort> {
    prop_oneof![
        Just(Sort::Int),
        Just(Sort::Float),
        Just(Sort::Text),
        Just(Sort::Flag),
        Just(Sort::Ints)
    ]
}

fn type_of(sort: Sort) -> Type {
    match sort {
        Sort::Int => Type::Int,
        Sort::Float => Type::Float,
        Sort::Text => Type::Str,
        Sort::Flag => Type::Bool,
        Sort::Ints => Type::list(Type::Int),
        Sort::Day => Type::Date,
    }
}

/// Failures that depend on values and not on types.
const VALUES: &[&str] = &[
    "division by zero",
    "does not fit a 64-bit integer",
    "out of range",
    "the list is empty",
    "it has no item",
    "is no integer",
    "is not a finite number",
    "too long a time",
    "more than",
];

fn cel_value(value: &cel::Value) -> Value {
    match value {
        cel::Value::Int(n) => json!(n),
        cel::Value::Float(n) => json!(n),
        cel::Value::Bool(flag) => json!(flag),
        cel::Value::String(text) => json!(**text),
        cel::Value::List(items) => items.iter().map(cel_value).collect(),
        other => json!(format!("{other:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in "[a-z0-9.,()\\[\\]{}'\"?:!<>=&|+*/% -]{0,40}|\\PC{0,40}") {
        let world = World::new();
        if let Err(issues) = world.check(&text) {
            prop_assert!(!issues.is_empty());
            for issue in issues {
                prop_assert!(issue.length > 0 && issue.offset <= text.chars().count());
            }
        }
        let _ = eval(&Expr::new(text), &world);
    }

    #[test]
    fn no_pieces_make_it_panic(pieces in prop::collection::vec(prop::sample::select(&[
        "params", ".", "n", "tasks", "load", "output", "(", ")", "[", "]", "map", "x", ",", "1", "'a'", "&&", "?", ":", "+", "-", "has", "default",
        "days", "null", "in", "!", "{", "}", "date", "sum", "range", "1.5", "state", "==",
    ][..]), 0..24)) {
        let text = pieces.concat();
        let world = World::new();
        let _ = world.check(&text);
        let _ = eval(&Expr::new(text), &world);
    }

    #[test]
    fn what_is_well_typed_does_not_fail_for_its_types(numbers in prop::collection::vec(any::<u8>(), 1..40), sort in sorts(), day in any::<bool>()) {
        let sort = if day && sort == Sort::Int { Sort::Day } else { sort };
        let text = source(&numbers, sort, false);
        let world = World::new();
        let typed = match world.check(&text) {
            Ok(typed) => typed,
            Err(issues) if issues.iter().all(|issue| issue.code == "expr-limit" || issue.message.contains("never")) => return Ok(()),
            Err(issues) => return Err(TestCaseError::fail(format!("{text}: {issues:?}"))),
        };
        prop_assert!(type_of(sort).accepts(&typed.ty), "{text} is {}", typed.ty);
        match eval(&Expr::new(text.as_str()), &world) {
            Ok(value) => prop_assert_eq!(typed.ty.check(&value), Ok(()), "{}", text),
            Err(EvalError::Failed(why)) => prop_assert!(VALUES.iter().any(|known| why.contains(known)), "{text}: {why}"),
            Err(EvalError::Need(_)) => prop_assert!(false, "no blob is there to be needed"),
        }
    }

    #[test]
    fn plain_cel_means_what_the_cel_crate_says(numbers in prop::collection::vec(any::<u8>(), 1..40), sort in sorts()) {
        let text = source(&numbers, sort, true);
        if let Ok(ours) = eval(&Expr::new(text.as_str()), &World::new()) {
            let theirs = cel::Program::compile(&text).unwrap().execute(&cel::Context::default());
            prop_assert_eq!(theirs.as_ref().map(cel_value).ok(), Some(ours), "{}", text);
        }
    }
}
