//! Each rule finds its fault, at its place, and nothing beside it.

use super::{File, Tree, source, text};

const SPEC: (&str, &str) = ("crates/ork-core/src/lang/executors/python.rs", "");

fn tree(files: &[(&str, &str)]) -> Tree {
    let file = |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
    Tree { files: files.iter().map(file).collect() }
}

/// What is found in the source of one file, beside the spec of an executor.
fn found(path: &str, text: &str) -> Vec<String> {
    source::check(&tree(&[SPEC, (path, text)])).unwrap()
}

/// Its lines of code are that many, from the signature to the closing brace.
fn body(lines: usize) -> String {
    format!("() {{\n{}}}\n", "    go();\n".repeat(lines - 2))
}

#[test]
fn a_function_of_more_than_seventy_lines_is_found() {
    let long = |function: &str| vec![format!("{function} has 71 lines, more than 70; split it")];
    let path = "crates/a/src/x.rs";
    assert_eq!(found(path, &format!("fn f{}", body(70))), [] as [&str; 0]);
    assert_eq!(found(path, &format!("\nfn f{}", body(71))), long(&format!("{path}:2: `f`")));
    let method = format!("struct S;\nimpl S {{\n    fn m{}}}", body(71));
    assert_eq!(found(path, &method), long(&format!("{path}:3: `m`")));
    let inner = format!("mod inner {{\n    fn f{}}}", body(71));
    assert_eq!(found(path, &inner), long(&format!("{path}:2: `f`")));
}

#[test]
fn a_list_or_a_snapshot_is_a_line() {
    let items = "        1,\n".repeat(80);
    let list = format!("fn f() {{\n    let all = [\n{items}    ];\n}}\n");
    let snapshot = format!("fn f() {{\n    insta::assert_snapshot!(x, r#\"\n{items}\"#);\n}}\n");
    let call = format!("fn f() {{\n    all(\n{items}    );\n}}\n");
    let path = "crates/a/tests/it/x.rs";
    assert_eq!(found(path, &list), [] as [&str; 0]);
    assert_eq!(found(path, &snapshot), [] as [&str; 0]);
    assert_eq!(found(path, &call), [format!("{path}:1: `f` has 84 lines, more than 70; split it")]);
}

#[test]
fn types_whose_names_say_nothing_are_found() {
    let path = "xtask/src/x.rs";
    let text = "struct RunManager;\nenum LogUtil {}\ntrait StoreService {}\nstruct Implement;\n\
        mod inner {\n    struct QueueHelper;\n}\n";
    let nothing = |line, name| format!("{path}:{line}: `{name}` says nothing; name what it is");
    let expected = [
        nothing(1, "RunManager"),
        nothing(2, "LogUtil"),
        nothing(3, "StoreService"),
        nothing(6, "QueueHelper"),
    ];
    assert_eq!(found(path, text), expected);
}

#[test]
fn an_executor_is_named_in_its_two_places_and_in_tests_alone() {
    let text = "fn f() {\n    go(\"python\");\n    match x { \"python\" => {} _ => {} }\n    \
        let y = json!({ \"a\": [\"python\", \"pythons\", \"run\"] });\n}\n\
        #[cfg(test)]\nmod tests {\n    fn g() { go(\"python\"); }\n}\n";
    let named = |path: &str, line| {
        format!("{path}:{line}: names the executor \"python\" outside its two places")
    };
    for (path, lines) in [
        ("crates/ork-engine/src/x.rs", &[2, 3, 4][..]),
        ("crates/ork-worker/src/executors/python/mod.rs", &[]),
        ("crates/ork-core/src/lang/executors/mod.rs", &[]),
        ("crates/ork/tests/it/x.rs", &[]),
        ("crates/ork-core/src/run/tests.rs", &[]),
        ("xtask/src/x.rs", &[]),
    ] {
        let expected: Vec<String> = lines.iter().map(|line| named(path, *line)).collect();
        assert_eq!(found(path, text), expected);
    }
}

#[test]
fn a_sleep_in_a_test_is_found() {
    let text = "fn f() {\n    sleep(x);\n}\n#[tokio::test]\nasync fn g() {\n    \
        tokio::time::sleep(x).await;\n    tokio::select! { () = sleep_until(x) => {} }\n}\n\
        #[cfg(test)]\nmod tests {\n    fn h() { std::thread::sleep(x); asleep(x); }\n}\n";
    let slept = |path: &str, line| format!("{path}:{line}: a sleep in a test; wait for an event");
    for (path, lines) in
        [("crates/a/src/x.rs", &[6, 7, 11][..]), ("crates/a/tests/it/x.rs", &[2, 6, 7, 11])]
    {
        let expected: Vec<String> = lines.iter().map(|line| slept(path, *line)).collect();
        assert_eq!(found(path, text), expected);
    }
}

#[test]
fn a_file_that_is_not_rust_is_named() {
    let error = source::check(&tree(&[("crates/a/src/x.rs", "fn (")])).unwrap_err();
    assert_eq!(error.to_string(), "crates/a/src/x.rs");
}

#[test]
fn words_and_files_that_do_not_belong_are_found() {
    let to_do = concat!("// TO", "DO");
    let place = concat!("see /work", "/x");
    let tree = tree(&[
        ("docs/a.md", &format!("fine\n{place}\n")),
        ("crates/a/src/x.rs", &format!("{to_do}: later, and include_str!(\"read.sql\")\n")),
        ("crates/a/src/util.rs", ""),
        ("crates/a/src/store_impl.rs", ""),
        ("crates/a/src/simple.rs", ""),
        ("crates/a/sql/read.sql", ""),
        ("crates/b/sql/read.sql", ""),
    ]);
    let expected = [
        concat!("docs/a.md:2: `/work", "/`: a path of one machine"),
        concat!("crates/a/src/x.rs:1: `TO", "DO`: finish it or leave it out"),
        "crates/a/src/util.rs: the name says nothing; name what it holds",
        "crates/a/src/store_impl.rs: the name says nothing; name what it holds",
        "crates/b/sql/read.sql: nothing reads this file; delete it",
    ];
    assert_eq!(text::check(&tree), expected);
}
