//! `ork fmt --upgrade`: tasks of the older form, rewritten.

use super::super::diagnostic::Report;
use super::super::executors::{self, Executor};
use super::super::read::Fields;
use super::super::tree::{Entry, Literal, Node, Place, Scalar, Style, Yaml};
use super::entries;

/// Rewrites the tasks of a file.
pub(super) fn file(root: &mut Node, report: &mut Report) {
    let mut changed = false;
    for entry in entries(root).iter_mut().filter(|e| matches!(e.key.as_str(), "tasks" | "finally"))
    {
        for task in entries(&mut entry.value) {
            changed |= self::task(task, report);
        }
    }
    if changed {
        entries(root)
            .iter_mut()
            .filter(|entry| entry.key == "types")
            .for_each(|entry| types(&mut entry.value));
    }
}

/// Rewrites a task; whether it had the older form.
fn task(task: &mut Entry, report: &mut Report) -> bool {
    let Some(word) = task.value.get("executor").and_then(Node::scalar) else { return false };
    let found = executors::ALL.iter().copied().find(|e| e.older.name == word.text);
    let Some(executor) = found else {
        let message = format!("`{}`: `executor: {}` has no newer form", task.key, word.text);
        report.error(task.place, "older-executor", message);
        return false;
    };
    let fields = Fields { entries: task.value.entries().unwrap_or_default(), place: task.place };
    let Some(block) = (executor.older.block)(report, &fields) else { return false };
    if executor.older.reads_output {
        let message = format!(
            "`{}` now gives its output in the file `$ORK_OUTPUT`, and has the outputs of others in `inputs` alone",
            task.key
        );
        report
            .warning(task.place, "upgrade-output", message)
            .hint("where the program prints `ORK_OUTPUT:` or reads `ORK_UPSTREAM_JSON`, change it");
    }
    let Yaml::Map { entries, .. } = &mut task.value.yaml else { return false };
    rewrite(entries, executor, block);
    true
}

fn rewrite(entries: &mut Vec<Entry>, executor: &'static Executor, block: Node) {
    let old = executor.older.keys;
    entries.retain(|entry| !old.contains(&entry.key.as_str()));
    for entry in entries.iter_mut() {
        match entry.key.as_str() {
            "input_type" | "output_type" => types(&mut entry.value),
            "inputs" => {
                for entry in self::entries(&mut entry.value) {
                    input(&mut entry.value);
                }
            }
            "timeout" => seconds(&mut entry.value),
            _ => {}
        }
    }
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key == "executor") {
        executor.name.clone_into(&mut entry.key);
        entry.value = (executor.older.shorten)(block);
    }
}

/// Takes `types.` off the names of types.
fn types(node: &mut Node) {
    match &mut node.yaml {
        Yaml::Scalar(scalar) => scalar.text = scalar.text.replace("types.", ""),
        Yaml::List { items, .. } => items.iter_mut().for_each(types),
        Yaml::Map { entries, .. } => entries.iter_mut().for_each(|entry| types(&mut entry.value)),
    }
}

/// `{const: v}` and `{ref: e}` as values.
fn input(node: &mut Node) {
    let Yaml::Map { entries, .. } = &mut node.yaml else { return };
    let [Entry { key, value, .. }] = entries.as_mut_slice() else { return };
    let mut value = match (key.as_str(), &value.yaml) {
        ("const", _) => {
            escape(value);
            value.clone()
        }
        ("ref", Yaml::Scalar(scalar)) => {
            text(format!("${{{{ {} }}}}", scalar.text.trim()), value.place)
        }
        _ => return,
    };
    value.place = Place::new(node.place.start.max(value.place.start), value.place.end);
    *node = value;
}

/// Keeps what looks like an expression from being one.
fn escape(node: &mut Node) {
    match &mut node.yaml {
        Yaml::Scalar(scalar) => scalar.text = scalar.text.replace("${{", "$${{"),
        Yaml::List { items, .. } => items.iter_mut().for_each(escape),
        Yaml::Map { entries, .. } => entries.iter_mut().for_each(|entry| escape(&mut entry.value)),
    }
}

/// A bare number of seconds, with its unit.
fn seconds(node: &mut Node) {
    if let Yaml::Scalar(scalar) = &mut node.yaml
        && let Literal::Int(n) = scalar.literal()
    {
        scalar.text = format!("{n}s");
    }
}

fn text(text: String, place: Place) -> Node {
    Node { yaml: Yaml::Scalar(Scalar { text, style: Style::Quoted }), place }
}
