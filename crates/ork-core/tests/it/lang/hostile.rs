//! Files that try to break the parser: each ends in one clear finding, soon.

use std::fmt::Write as _;

use super::compiled;

fn bomb() -> Vec<u8> {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        let _ = writeln!(text, "a{i}: &a{i} [{refs}]");
    }
    text.into_bytes()
}

fn nested(open: &str, depth: usize) -> Vec<u8> {
    format!("tasks: {}", open.repeat(depth)).into_bytes()
}

fn indented(depth: usize) -> Vec<u8> {
    let mut text = String::new();
    for i in 0..depth {
        let _ = writeln!(text, "{}a:", " ".repeat(i));
    }
    text.into_bytes()
}

/// What it is, its bytes, the code of the finding and its line and column.
type Case = (&'static str, Vec<u8>, &'static str, (usize, usize));

#[test]
fn each_ends_in_one_clear_finding() {
    let long = format!("name: {}", "x".repeat(10 << 20)).into_bytes();
    let table: Vec<Case> = vec![
        ("not UTF-8", b"name: a\ntasks: \xff\xfe\n".to_vec(), "not-utf8", (2, 8)),
        ("UTF-16", b"\xff\xfen\0a\0".to_vec(), "not-utf8", (1, 1)),
        ("byte order mark", b"\xef\xbb\xbfname: a\n".to_vec(), "byte-order-mark", (1, 1)),
        ("NUL", b"name: a\0b\n".to_vec(), "not-text", (1, 8)),
        ("tabs", b"tasks:\n\ta:\n\t\trun: [x]\n".to_vec(), "yaml-tab", (2, 2)),
        ("empty", b"".to_vec(), "empty-file", (1, 1)),
        ("comments alone", b"# nothing\n".to_vec(), "empty-file", (1, 1)),
        ("a list", b"- a\n- b\n".to_vec(), "wrong-kind", (1, 1)),
        ("text", b"hello\n".to_vec(), "wrong-kind", (1, 1)),
        ("10 MB", long, "file-limit", (1, 1)),
        ("alias bomb", bomb(), "alias-limit", (4, 20)),
        ("alias of itself", b"a: &a [*a]\n".to_vec(), "alias-cycle", (1, 8)),
        ("alias of nothing", b"a: *b\n".to_vec(), "yaml-alias", (1, 4)),
        ("depth in brackets", nested("[", 10_000), "nesting-limit", (1, 263)),
        ("depth in braces", nested("{a: ", 10_000), "nesting-limit", (1, 260)),
        ("depth by indent", indented(1_200), "nesting-limit", (65, 65)),
        ("depth by dashes", nested("- ", 10_000), "yaml-syntax", (1, 8)),
        (
            "duplicate keys",
            b"name: a\nname: b\ntasks: {a: {run: [x]}}\n".to_vec(),
            "duplicate-key",
            (2, 1),
        ),
        ("a tag", b"name: !!python/object:os.system x\n".to_vec(), "yaml-tag", (1, 7)),
        ("a merge key", b"a: &a {b: c}\nd:\n  <<: *a\n".to_vec(), "merge-key", (3, 3)),
        ("a key that is a list", b"? [a]\n: b\n".to_vec(), "key-not-text", (1, 3)),
        ("two documents", b"name: a\n---\nname: b\n".to_vec(), "several-documents", (2, 1)),
        ("a directive", b"%YAML 1.1\n---\nname: a\n".to_vec(), "yaml-directive", (1, 1)),
        ("an open quote", b"name: \"abc\ntasks: {}\n".to_vec(), "yaml-syntax", (1, 7)),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, code, place) in table {
        let compiled = compiled(&bytes);
        let first = compiled.diagnostics.first();
        let got = first.map(|d| (&*d.code, (d.line, d.column)));
        if got != Some((code, place)) || compiled.plan.is_some() {
            wrong.push(format!("{what}: {first:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_program_is_given_a_nul() {
    for (yaml, what) in [
        (r#"run: [echo, "a\0b"]"#, "an argument"),
        (r#"run: { shell: "echo \0" }"#, "`shell`"),
        (r#"run: [x], env: { A: "\0" }"#, "the variable `A`"),
    ] {
        let said = super::shown(&format!("tasks:\n  a: {{ {yaml} }}\n"));
        assert!(said.contains("error[holds-nul]"), "{said}");
        assert!(said.contains(&format!("{what} holds NUL")) && said.contains(":2:"), "{said}");
    }
}
