//! `ork fmt`: one canonical text for what a file says. Comments, the order of keys and single
//! blank lines stay; indents, quotes and spaces become one way; expression fields are bare.

mod layout;
mod upgrade;
mod write;

use super::binding::{Part, scan};
use super::diagnostic::{Diagnostic, Report};
use super::tree::{self, Limits, Node, Yaml};

/// A formatted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The text; a file that says the same has the same, and formatting it again changes nothing.
    pub text: String,
    /// What to look at after `--upgrade`.
    pub warnings: Vec<Diagnostic>,
}

/// Formats a workflow file; with `upgrade` its tasks of the older form become newer ones. The
/// file need not compile.
///
/// # Errors
/// What keeps it from being read as YAML, or a task of the older form from being rewritten.
pub fn format(file: &str, bytes: &[u8], upgrade: bool) -> Result<Formatted, Vec<Diagnostic>> {
    let limits = Limits::default();
    let text = super::decoded(file, bytes, &limits)?;
    let mut report = Report::new(file, &text);
    let parsed = tree::parse(&mut report, &limits, true).filter(|_| !report.has_errors());
    let Some(mut parsed) = parsed else { return Err(report.finish()) };
    if parsed.root.entries().is_none() {
        let message = format!("the file must be a map, not {}", parsed.root.kind());
        report.error(parsed.root.place, "wrong-kind", message);
    }
    if upgrade {
        upgrade::file(&mut parsed.root, &mut report);
    }
    if report.has_errors() {
        return Err(report.finish());
    }
    bare_fields(&mut parsed.root);
    let layout = layout::Builder::new(&text, &parsed.comments).build(&parsed.root);
    Ok(Formatted { text: write::document(&layout), warnings: report.finish() })
}

/// Takes `${{ }}` off the expression fields of a file's tasks.
fn bare_fields(root: &mut Node) {
    for entry in entries(root) {
        match entry.key.as_str() {
            "tasks" | "finally" => bare_tasks(&mut entry.value),
            "defaults" => bare_task(&mut entry.value),
            "concurrency" => bare_field(&mut entry.value, "key"),
            _ => {}
        }
    }
}

fn bare_tasks(tasks: &mut Node) {
    for task in entries(tasks) {
        bare_task(&mut task.value);
    }
}

fn bare_task(task: &mut Node) {
    for entry in entries(task) {
        let value = &mut entry.value;
        match entry.key.as_str() {
            "when" | "item_key" => bare(value),
            "retries" => bare_field(value, "if"),
            "poll" => bare_field(value, "until"),
            "cache" => bare_field(value, "key"),
            "for_each" if value.scalar().is_some() => bare(value),
            "for_each" => bare_field(value, "in"),
            "tasks" if value.scalar().is_some() => bare(value),
            "tasks" => bare_tasks(value),
            _ => {}
        }
    }
}

fn bare_field(node: &mut Node, key: &str) {
    entries(node)
        .iter_mut()
        .filter(|entry| entry.key == key)
        .for_each(|entry| bare(&mut entry.value));
}

fn bare(node: &mut Node) {
    let Yaml::Scalar(scalar) = &mut node.yaml else { return };
    if let Ok([Part::Expr(at, length)]) = scan(scalar.text.trim()).as_deref() {
        scalar.text = scalar.text.trim()[*at..at + length].trim().to_owned();
    }
}

/// The entries of a map, to change them.
fn entries(node: &mut Node) -> &mut [tree::Entry] {
    match &mut node.yaml {
        Yaml::Map { entries, .. } => entries,
        _ => &mut [],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::diagnostic::Report;
    use super::super::task::value;
    use super::super::tree::{Limits, parse};
    use super::format;
    use crate::value::Value;

    /// What a text means; none when it is not YAML that the language reads.
    fn meaning(text: &str) -> Option<(Value, usize)> {
        let mut report = Report::new("f.yaml", text);
        let tree = parse(&mut report, &Limits::default(), true)?;
        Some((value(&tree.root)?, tree.comments.len())).filter(|_| !report.has_errors())
    }

    fn check(text: &str) {
        let Some((before @ Value::Object(_), comments)) = meaning(text) else { return };
        let Ok(first) = format("f.yaml", text.as_bytes(), false) else {
            panic!("it does not format:\n{text}")
        };
        let after = meaning(&first.text);
        assert_eq!(after, Some((before, comments)), "from\n{text}\nto\n{}", first.text);
        let again = format("f.yaml", first.text.as_bytes(), false).map(|second| second.text);
        assert_eq!(again.as_ref(), Ok(&first.text), "a second time");
    }

    const LINES: &[&str] = &[
        "a: b",
        "b: [x, 'y z', {c: d}]",
        "# note",
        "  # deep note",
        "",
        "c:",
        "  d: |",
        "    text",
        "    more",
        "  e: >-",
        "    folded",
        "    text",
        "f: \"q\\n\"  # right",
        "  - item",
        "  - g: 1",
        "    h: 2",
        "  - - nested",
        "i: {}",
        "j: []",
        "k: 'it''s'",
        "l: ~",
        "m: yes",
        "n: '1'",
        "o: [1,",
        "  2]",
        "p: # after",
        "  q: r",
        "s: \"${{ x }}\"",
        "t: a  b",
        "u: '# no'",
        "\"v w\": x",
        "y: |+",
        "  keep",
        "",
        "z: 'trail '",
        "aa: 'é: x'",
        "- top",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn keeps_meaning_and_comments(picks in prop::collection::vec(0..LINES.len(), 1..14)) {
            let text: Vec<_> = picks.iter().map(|i| LINES[*i]).collect();
            check(&(text.join("\n") + "\n"));
        }
    }

    #[test]
    fn keeps_scalars() {
        for text in [
            "a: 0x1F\n",
            "a: .5\n",
            "a: 1e3\n",
            "a: \"\\u0007\\uFEFF\"\n",
            "a: '- x'\n",
            "a: \"a: b\"\n",
            "'on': x\n",
            "a: |2\n    x\n   y\n",
            "a: >\n  x\n\n  y\n   z\n\n",
        ] {
            check(text);
        }
    }
}
