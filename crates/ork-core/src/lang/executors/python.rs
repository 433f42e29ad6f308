//! `python`: a function, called with typed arguments.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Block, Executor, Legacy, Older, Prepared, inside_root};
use crate::lang::Lower;
use crate::lang::diagnostic::Report;
use crate::lang::keys::{Key, Shape};
use crate::lang::python::Target;
use crate::lang::read::{Fields, is_name};
use crate::lang::tree::{Entry, Node, Place, Scalar, Style, Yaml};
use crate::plan::Binding;
use crate::value::Value;

/// What the driver receives:
/// `{"file": ".." | "module": "..", "function": "..", "requirements": [..], "legacy"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PythonSpec {
    /// Where the function is.
    #[serde(flatten)]
    pub target: PythonTarget,
    /// The function's name; it is called with the inputs as keyword arguments.
    pub function: String,
    /// What its environment must hold, as `pip` reads it; empty: the interpreter as it is.
    #[serde(default)]
    pub requirements: Vec<String>,
    /// For a task of the older form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<Legacy>,
}

/// Where a function is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PythonTarget {
    /// A file, relative to the code root.
    File(String),
    /// A module that the interpreter finds, the code root first.
    Module(String),
}

const TEXT: Shape = Shape::Text;

pub(super) const EXECUTOR: Executor = Executor {
    name: "python",
    doc: "A function: `file.py:function` or `pkg.mod:function`.",
    short: Shape::Text,
    keys: KEYS,
    target: &["file", "module", "function"],
    words: &["function", "file", "module", "callable", "python_callable"],
    older: Older {
        name: "python",
        keys: &["file", "module", "function"],
        block: older,
        reads_output: false,
        shorten,
    },
    prepare,
    lower: |_, _, _| Some(IndexMap::new()),
};

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, supported: true }
}

const KEYS: &[Key] = &[
    key("file", Shape::Text, "The file, relative to the code root."),
    key("module", Shape::Text, "The module, instead of a file."),
    key("function", Shape::Text, "The function."),
    key("requirements", Shape::List(&TEXT), "Packages that its environment must hold."),
];

/// A function and where it is.
struct Named {
    target: PythonTarget,
    function: String,
    place: Place,
}

fn prepare(lower: &mut Lower, block: &Block) -> Option<Prepared> {
    let named = named(lower, block)?;
    let target = match &named.target {
        PythonTarget::File(file) => Target::File(file),
        PythonTarget::Module(module) => Target::Module(module),
    };
    let mut prepared = Prepared { spec: spec(lower, block, &named)?, ..Prepared::default() };
    match lower.signature(target, &named.function) {
        Ok(found) => {
            prepared.files.push(found.file.clone());
            prepared.signature = Some(found);
        }
        Err(e) => {
            // A module that is not among the sources may be one that is installed.
            if matches!(target, Target::File(_)) || e.code != "python-file" {
                lower.signature_error(named.place, &e);
            }
        }
    }
    Some(prepared)
}

fn spec(lower: &mut Lower, block: &Block, named: &Named) -> Option<IndexMap<String, Binding>> {
    let (key, target) = match &named.target {
        PythonTarget::File(file) => ("file", file),
        PythonTarget::Module(module) => ("module", module),
    };
    let requirements = match block.get("requirements") {
        Some(node) => lower.texts(node, "`requirements`")?,
        None => Vec::new(),
    };
    Some(IndexMap::from([
        (key.to_owned(), Binding::Const(target.as_str().into())),
        ("function".to_owned(), Binding::Const(named.function.as_str().into())),
        ("requirements".to_owned(), Binding::Const(Value::from(requirements))),
    ]))
}

fn named(lower: &mut Lower, block: &Block) -> Option<Named> {
    match &block.fields {
        None => short(lower, block.node),
        Some(fields) => long(lower, fields),
    }
}

fn short(lower: &mut Lower, node: &Node) -> Option<Named> {
    let text = lower.fixed_text(node, "`python`")?;
    let Some((place, function)) = text.rsplit_once(':').filter(|(place, _)| !place.is_empty())
    else {
        lower
            .report
            .error(node.place, "python-target", format!("`{text}` names no function"))
            .hint("write `file.py:function` or `pkg.mod:function`");
        return None;
    };
    check_function(lower, node, function)?;
    let target = if place.contains('/') || is_file(place) {
        file(lower, node, place)?
    } else {
        module(lower, node, place)?
    };
    Some(Named { target, function: function.to_owned(), place: node.place })
}

fn is_file(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, end)| end == "py")
}

fn long(lower: &mut Lower, fields: &Fields) -> Option<Named> {
    let Some(node) = fields.get("function") else {
        lower.report.error(fields.place, "missing-key", "`python` needs `function`");
        return None;
    };
    let function = lower.fixed_text(node, "`function`")?;
    check_function(lower, node, function)?;
    let (target, place) = match (fields.get("file"), fields.get("module")) {
        (Some(node), None) => {
            let text = lower.fixed_text(node, "`file`")?;
            (file(lower, node, text)?, node.place)
        }
        (None, Some(node)) => {
            let text = lower.fixed_text(node, "`module`")?;
            (module(lower, node, text)?, node.place)
        }
        (Some(_), Some(node)) => {
            lower.report.error(node.place, "python-both", "`file` and `module` exclude each other");
            return None;
        }
        (None, None) => {
            lower.report.error(fields.place, "missing-key", "`python` needs `file` or `module`");
            return None;
        }
    };
    Some(Named { target, function: function.to_owned(), place })
}

fn check_function(lower: &mut Lower, node: &Node, function: &str) -> Option<()> {
    if is_name(function) {
        return Some(());
    }
    lower.report.error(node.place, "python-target", format!("`{function}` cannot name a function"));
    None
}

fn file(lower: &mut Lower, node: &Node, path: &str) -> Option<PythonTarget> {
    match inside_root(path).filter(|path| !path.is_empty()) {
        Some(path) => Some(PythonTarget::File(path)),
        None => {
            lower
                .report
                .error(node.place, "file-outside", format!("`{path}` leaves the code root"))
                .hint("files are relative to the code root");
            None
        }
    }
}

fn module(lower: &mut Lower, node: &Node, name: &str) -> Option<PythonTarget> {
    if name.split('.').all(is_name) {
        return Some(PythonTarget::Module(name.to_owned()));
    }
    lower
        .report
        .error(node.place, "python-target", format!("`{name}` cannot name a module"))
        .hint("write `file.py:function` or `pkg.mod:function`");
    None
}

/// The block of an older task: its `file` or `module`, and `function` (`main`).
fn older(_: &mut Report, fields: &Fields) -> Option<Node> {
    let place = fields.place;
    let mut entries: Vec<_> = EXECUTOR
        .target
        .iter()
        .filter_map(|key| Some((key, fields.get(key)?)))
        .map(|(key, value)| Entry {
            key: (*key).to_owned(),
            place: fields.key_place(key),
            value: value.clone(),
        })
        .collect();
    if !entries.iter().any(|entry| entry.key == "function") {
        let scalar = Scalar { text: "main".into(), style: Style::Plain };
        let value = Node { yaml: Yaml::Scalar(scalar), place };
        entries.push(Entry { key: "function".into(), place, value });
    }
    Some(Node { yaml: Yaml::Map { entries, flow: false }, place })
}

/// `file.py:function`.
fn shorten(block: Node) -> Node {
    let text = |key: &str| block.get(key).and_then(Node::scalar).map(|scalar| scalar.text.as_str());
    let (Some(target), Some(function)) = (text("file").or(text("module")), text("function")) else {
        return super::flow(block);
    };
    let scalar = Scalar { text: format!("{target}:{function}"), style: Style::Plain };
    Node { yaml: Yaml::Scalar(scalar), place: block.place }
}
