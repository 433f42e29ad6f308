//! Types: notation, what fits what, values.

use ork_core::types::Type;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::expr_world::ty;

#[test]
fn notation_is_read_and_written() {
    for text in [
        "str",
        "int",
        "float",
        "bool",
        "date",
        "datetime_notz",
        "datetime_tz",
        "datetime_utc",
        "json",
        "file",
        "[str]",
        "[str]?",
        "[[int?]]",
        "dict[float]",
        "{path: str, rows: int?}",
        "{enum: [a, b-c, 'd e']}",
        "{}",
        "{a: {b: [dict[{enum: [x]}]]}}",
    ] {
        assert_eq!(ty(text).to_string(), text);
    }
    assert_eq!(ty("datetime"), Type::DatetimeTz);
    assert_eq!(ty(" { path : str , rows:int , } ? ? ").to_string(), "{path: str, rows: int}?");
    assert_eq!(ty("{enum: [\"it's\"]}").to_string(), "{enum: [\"it's\"]}");
    let aliases = |name: &str| (name == "Extract").then_some(Type::Int);
    assert_eq!(Type::parse("[types.Extract?]", &aliases).unwrap().to_string(), "[int?]");
}

#[test]
fn wrong_notation_is_explained() {
    let issue = |text: &str| {
        let issue = Type::parse(text, &|_| None).unwrap_err();
        let hint = issue.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{text}  ✗  {}+{} {}{hint}", issue.offset, issue.length, issue.message)
    };
    let texts = [
        "",
        "string",
        "list[str]",
        "List[int]",
        "Optional[str]",
        "str | None",
        "[str",
        "{a: }",
        "{a: str, a: int}",
        "dict",
        "dict[str, int]",
        "integr",
        "boolean",
        "[]",
        "str]",
        "{enum: []}",
        "{enum: [a",
        "Extract",
        "?",
    ];
    insta::assert_snapshot!(texts.map(issue).join("\n"));
    assert!(Type::parse(&"[".repeat(10_000), &|_| None).unwrap_err().message.contains("32 deep"));
}

#[test]
fn what_fits_what() {
    let fits = |to: &str, from: &str| ty(to).accepts(&ty(from));
    for (to, from) in [
        ("float", "int"),
        ("datetime_tz", "datetime_utc"),
        ("str", "{enum: [a]}"),
        ("{enum: [a, b]}", "{enum: [b]}"),
        ("str?", "str"),
        ("str?", "str?"),
        ("[float]", "[int]"),
        ("json", "[int]"),
        ("[int]", "json"),
        ("dict[float]", "{a: int, b: float}"),
        ("{a: int, b: str?}", "{a: int}"),
        ("{a: float?}", "{a: int}"),
    ] {
        assert!(fits(to, from), "{to} <- {from}");
    }
    for (to, from) in [
        ("int", "float"),
        ("datetime_utc", "datetime_tz"),
        ("datetime_notz", "datetime_tz"),
        ("date", "datetime_tz"),
        ("str", "int"),
        ("str", "str?"),
        ("{enum: [a]}", "str"),
        ("{enum: [a]}", "{enum: [a, b]}"),
        ("[str]", "str"),
        ("{a: int}", "{a: int, b: int}"),
        ("{a: int, b: str}", "{a: int}"),
        ("{a: int}", "dict[int]"),
        ("[int]", "[int?]"),
        ("str", "date"),
        ("file", "str"),
        ("str", "json?"),
    ] {
        assert!(!fits(to, from), "{to} <- {from}");
    }
}

#[test]
fn values_are_read_as_their_type() {
    let rows: &[(&str, Value)] = &[
        ("str", json!("x")),
        ("str", json!(1)),
        ("str", json!(null)),
        ("str?", json!(null)),
        ("int", json!("12")),
        ("int", json!(1.5)),
        ("int", json!(1.0)),
        ("int", json!(18_446_744_073_709_551_615_u64)),
        ("float", json!(1)),
        ("float", json!("1.5")),
        ("float", json!("nan")),
        ("bool", json!("true")),
        ("bool", json!(true)),
        ("date", json!("2026-11-24")),
        ("date", json!("2026-02-30")),
        ("date", json!("2026-11-24T00:00:00")),
        ("datetime_notz", json!("2026-11-24 10:00")),
        ("datetime_notz", json!("2026-11-24T10:00:00Z")),
        ("datetime_notz", json!("2026-11-24")),
        ("datetime_tz", json!("2026-11-24T10:00:00+02:00")),
        ("datetime_tz", json!("2026-11-24T10:00[Europe/Berlin]")),
        ("datetime_tz", json!("2026-11-24T10:00:00")),
        ("datetime_utc", json!("2026-11-24T10:00:00+00:00")),
        ("datetime_utc", json!("2026-11-24T10:00:00+02:00")),
        ("{enum: [a, b]}", json!("a")),
        ("{enum: [a, b]}", json!("c")),
        ("[int]", json!([1, "2"])),
        ("[int]", json!([1, "x"])),
        ("[int]", json!({})),
        ("dict[[int]]", json!({"a": [1], "b": [1, null]})),
        ("{a: int, b: str?}", json!({"a": 1})),
        ("{a: int}", json!({})),
        ("{a: int}", json!({"a": 1, "b": 2})),
        ("{a: [{b: int}]}", json!({"a": [{"b": 1}, {"b": "x"}]})),
        ("json", json!({"a": null})),
        ("file", json!("out/x.csv")),
        ("str", json!("a very long text that goes on and on, past what fits")),
        ("[str]", json!(true)),
    ];
    let shown = rows.iter().map(|(text, value)| match ty(text).read(value.clone()) {
        Ok(read) => format!("{text}  {value}  →  {read}"),
        Err(mismatch) => format!("{text}  {value}  ✗  {mismatch}"),
    });
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"));
}

#[test]
fn text_is_read_as_a_type() {
    let rows = [
        ("str", "007"),
        ("str", "null"),
        ("str?", "null"),
        ("int", "7"),
        ("int", "7.5"),
        ("float", "7"),
        ("float", "1e3"),
        ("bool", "true"),
        ("bool", "yes"),
        ("date", "2026-11-24"),
        ("date", "today"),
        ("[str]", "a,b"),
        ("[str]", ""),
        ("[int]", "1,2"),
        ("[int]", "[1, 2]"),
        ("[int]", "1,x"),
        ("[date]", "2026-11-24,2026-11-25"),
        ("{a: int}", "{\"a\": 1}"),
        ("{a: int}", "a=1"),
        ("dict[str]", "{\"a\": \"x\"}"),
        ("json", "[1]"),
        ("json", "x"),
        ("{enum: [a]}", "a"),
        ("{enum: [a]}", "b"),
        ("[[int]]", "[[1]]"),
        ("file", "a/b"),
        ("datetime_tz", "2026-11-24T10:00Z"),
    ];
    let shown = rows.map(|(text, given)| match ty(text).read_text(given) {
        Ok(read) => format!("{text}  {given:?}  →  {read}"),
        Err(mismatch) => format!("{text}  {given:?}  ✗  {mismatch}"),
    });
    insta::assert_snapshot!(shown.join("\n"));
}

fn any_type() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Str),
        Just(Type::Int),
        Just(Type::Float),
        Just(Type::Bool),
        Just(Type::Date),
        Just(Type::DatetimeNotz),
        Just(Type::DatetimeTz),
        Just(Type::DatetimeUtc),
        Just(Type::Json),
        Just(Type::File),
        prop::collection::vec("[a-c ']{1,3}[a-z]", 1..3).prop_map(Type::choice),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(Type::list),
            inner.clone().prop_map(Type::dict),
            inner.clone().prop_map(Type::nullable),
            prop::collection::hash_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Type::object(fields.into_iter().collect())),
        ]
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        "-?[0-9]{1,4}(\\.[0-9])?".prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9](Z|[+-]0[0-9]:00)?)?"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(ty in any_type()) {
        prop_assert_eq!(Type::parse(&ty.to_string(), &|_| None).unwrap(), ty);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        if let Err(issue) = Type::parse(&text, &|_| None) {
            prop_assert!(issue.offset <= text.chars().count() && issue.length > 0);
        }
    }

    #[test]
    fn reading_and_checking_agree(ty in any_type(), value in any_json()) {
        let read = ty.read(value.clone());
        if ty.check(&value).is_ok() {
            prop_assert!(read.is_ok(), "{ty} {value} {read:?}");
        }
        if let Ok(read) = read {
            prop_assert_eq!(ty.check(&read), Ok(()));
            prop_assert_eq!(ty.read(read.clone()), Ok(read));
        }
    }

    #[test]
    fn what_fits_is_accepted_as_a_value(to in any_type(), from in any_type(), value in any_json()) {
        prop_assert!(to.accepts(&to));
        let certain = !to.to_string().contains("json") && !from.to_string().contains("json");
        if certain && to.accepts(&from) && from.check(&value).is_ok() {
            prop_assert_eq!(to.check(&value), Ok(()));
        }
    }
}
