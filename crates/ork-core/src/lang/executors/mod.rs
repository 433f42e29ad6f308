//! The executors' side of the language: what their blocks look like, what they check, and the
//! shape in which a worker's driver of the same name receives them.
//!
//! An executor is one file here and one line in `ALL`.

mod python;
mod run;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use self::python::{PythonSpec, PythonTarget};
pub use self::run::{Program, RunOutput, RunSpec, Shell};
use super::Lower;
use super::binding::Bind;
use super::diagnostic::Report;
use super::keys::{Key, Shape};
use super::python::Signature;
use super::read::Fields;
use super::tree::{Node, Place, Yaml};
use crate::plan::Binding;
use crate::types::Type;
use crate::value::Value;

/// Every executor that this version has.
pub(crate) const ALL: &[&Executor] = &[&run::EXECUTOR, &python::EXECUTOR];

/// What the language has to know of an executor.
pub(crate) struct Executor {
    /// Its name, which is its key in a task.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) doc: &'static str,
    /// The short form.
    pub(crate) short: Shape,
    /// The keys of the long form.
    pub(crate) keys: &'static [Key],
    /// Those of them that say what is run, which `defaults` cannot.
    pub(crate) target: &'static [&'static str],
    /// What other tools call it, as keys of a task.
    pub(crate) words: &'static [&'static str],
    /// The older form of it.
    pub(crate) older: Older,
    /// Reads what the task's types depend on, before any expression.
    pub(crate) prepare: fn(&mut Lower, &Block) -> Option<Prepared>,
    /// Lowers the fields of the spec that may hold expressions.
    pub(crate) lower: fn(&mut Lower, &Block, &mut Bind) -> Option<IndexMap<String, Binding>>,
}

/// The older form of an executor.
pub(crate) struct Older {
    /// The word after `executor:`.
    pub(crate) name: &'static str,
    /// The keys that it adds to a task.
    pub(crate) keys: &'static [&'static str],
    /// The block that a task's fields mean.
    pub(crate) block: fn(&mut Report, &Fields) -> Option<Node>,
    /// Whether its output came on a line of standard output.
    pub(crate) reads_output: bool,
    /// The short form of a block, where it has one.
    pub(crate) shorten: fn(Node) -> Node,
}

/// A task's executor block, with what `defaults` add to it.
pub(crate) struct Block<'n> {
    /// The block.
    pub(crate) node: &'n Node,
    /// Its fields when it has the long form.
    pub(crate) fields: Option<Fields<'n>>,
    /// The fields that `defaults` give.
    pub(crate) defaults: Option<&'n Node>,
    /// Where the executor's key is.
    pub(crate) key: Place,
}

impl<'n> Block<'n> {
    /// A field of the block, or of the defaults.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.own(key).or_else(|| self.defaults.and_then(|node| node.get(key)))
    }

    /// A field of the block itself.
    pub(crate) fn own(&self, key: &str) -> Option<&'n Node> {
        self.fields.as_ref().and_then(|fields| fields.get(key))
    }
}

/// What a block says about its task.
#[derive(Default)]
pub(crate) struct Prepared {
    /// The function's signature, where there is one to read.
    pub(crate) signature: Option<Signature>,
    /// Whether the task gives no output.
    pub(crate) silent: bool,
    /// Code files that the block names, relative to the root.
    pub(crate) files: Vec<String>,
    /// The fields of the spec that are fixed.
    pub(crate) spec: IndexMap<String, Binding>,
}

/// What a task of the older form gets besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Legacy {
    /// Whether a last line `ORK_OUTPUT:{json}` on standard output is the output.
    pub output_line: bool,
    /// The outputs of the direct upstreams by name, for `ORK_UPSTREAM_JSON`; null for one that has
    /// none.
    pub upstream: IndexMap<String, Value>,
}

/// The executor whose key in a task is `name`.
pub(crate) fn find(name: &str) -> Option<&'static Executor> {
    ALL.iter().copied().find(|executor| executor.name == name)
}

/// The executor that another tool's key of a task means.
pub(crate) fn translate(word: &str) -> Option<&'static str> {
    ALL.iter().find(|executor| executor.words.contains(&word)).map(|executor| executor.name)
}

/// The type of what a prepared block's task returns, when nothing is declared.
pub(crate) fn output_of(prepared: &Prepared) -> Option<Type> {
    if prepared.silent {
        return None;
    }
    let returns = prepared.signature.as_ref().and_then(|signature| signature.returns.clone());
    Some(returns.unwrap_or(Type::Json))
}

/// A path that stays within the code root, cleaned of `.`; none when it leaves it.
pub(crate) fn inside_root(path: &str) -> Option<String> {
    if path.starts_with(['/', '\\']) || path.contains('\0') || path.get(1..2) == Some(":") {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Ways to run a task that this version does not have.
const LATER: &[&str] = &["container", "kubernetes", "cloudrun", "http"];

/// The way to run a task called `name`, if this version does not have it.
pub(crate) fn later(name: &str) -> Option<&'static str> {
    LATER.iter().copied().find(|later| *later == name)
}

/// Text of a field of the older form.
fn older_text<'n>(report: &mut Report, node: &'n Node, what: &str) -> Option<&'n str> {
    let text = node.scalar().map(|scalar| scalar.text.as_str());
    if text.is_none() {
        let message = format!("{what} must be text, not {}", node.kind());
        report.error(node.place, "wrong-kind", message);
    }
    text
}

/// A map within braces.
fn flow(mut block: Node) -> Node {
    if let Yaml::Map { flow, .. } = &mut block.yaml {
        *flow = true;
    }
    block
}
