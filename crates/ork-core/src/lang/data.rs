//! YAML files that hold data rather than a workflow, such as the params of a run.

use super::binding::literal;
use super::diagnostic::{Diagnostic, Report};
use super::tree::{self, Limits, Node, Yaml};
use crate::value::Value;

/// Reads a YAML or JSON file as a value, within the same limits as a workflow.
///
/// # Errors
/// All that is wrong with it.
pub fn data(file: &str, bytes: &[u8]) -> Result<Value, Vec<Diagnostic>> {
    let limits = Limits::default();
    let text = super::decoded(file, bytes, &limits)?;
    let mut report = Report::new(file, &text);
    let tree = tree::parse(&mut report, &limits, false);
    let value = tree.and_then(|tree| value(&mut report, &tree.root));
    value.ok_or_else(|| report.finish())
}

/// What stands there as JSON.
pub(super) fn value(report: &mut Report, node: &Node) -> Option<Value> {
    match &node.yaml {
        Yaml::List { items, .. } => items.iter().map(|item| value(report, item)).collect(),
        Yaml::Map { entries, .. } => {
            let fields = entries.iter().map(|e| Some((e.key.clone(), value(report, &e.value)?)));
            fields.collect::<Option<_>>().map(Value::Object)
        }
        Yaml::Scalar(scalar) => {
            let value = literal(scalar).ok();
            if value.is_none() {
                let message = format!("`{}` is no number that JSON can hold", scalar.text);
                report.error(node.place, "bad-number", message);
            }
            value
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read_as_values() {
        let yaml = b"day: 2026-11-24\nregions: [eu, us]\nlimit: 5\nnested: {a: null, b: 'true'}\n";
        let read = json!({"day": "2026-11-24", "regions": ["eu", "us"], "limit": 5,
            "nested": {"a": null, "b": "true"}});
        assert_eq!(data("p.yaml", yaml).unwrap(), read);
        assert_eq!(data("p.json", read.to_string().as_bytes()).unwrap(), read);
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let found = data("p.yaml", b"a: 1\nb: .nan\n").unwrap_err();
        assert_eq!(
            found[0].to_string(),
            "p.yaml:2:4: error[bad-number]: `.nan` is no number that JSON can hold"
        );
    }
}
