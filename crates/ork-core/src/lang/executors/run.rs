//! `run`: a program with its arguments, or a few lines of shell.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Block, Executor, Legacy, Older, Prepared, inside_root};
use crate::lang::Lower;
use crate::lang::binding::{Bind, has_expression};
use crate::lang::diagnostic::Report;
use crate::lang::keys::{Key, Shape};
use crate::lang::read::Fields;
use crate::lang::tree::{Entry, Node, Scalar, Style, Yaml};
use crate::plan::Binding;
use crate::value::Value;

/// What the driver receives:
/// `{"argv": [..] | "shell": "..", "with": "bash"|"sh", "cwd"?, "stdin"?, "output": "file"|"stdout_json"|"none", "legacy"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// What is run.
    #[serde(flatten)]
    pub program: Program,
    /// The folder to run in, relative to the code root and within it; the root when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// What it reads on standard input; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Where its output is.
    pub output: RunOutput,
    /// For a task of the older form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<Legacy>,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Program {
    /// A program with its arguments, never through a shell. At least one, the program.
    Argv {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Lines for a shell: `bash -euo pipefail -c` or `sh -eu -c`.
    Shell {
        /// The lines.
        shell: String,
        /// Which shell.
        with: Shell,
    },
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    /// `bash -euo pipefail -c`.
    Bash,
    /// `sh -eu -c`.
    Sh,
}

/// Where a program's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutput {
    /// In the file that `ORK_OUTPUT` names, as one JSON value; null when it wrote none.
    File,
    /// On standard output, as one JSON value.
    StdoutJson,
    /// Nowhere: the task has no output.
    None,
}

const TEXT: Shape = Shape::Binding;

pub(super) const EXECUTOR: Executor = Executor {
    name: "run",
    doc: "A program with its arguments.",
    short: Shape::Some(&TEXT),
    keys: KEYS,
    target: &["argv", "shell"],
    words: &["command", "script", "cmd", "args", "bash", "sh", "shell", "exec", "argv", "process"],
    older: Older { name: "process", keys: &["command"], block: older, reads_output: true, shorten },
    prepare,
    lower,
};

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, supported: true }
}

const KEYS: &[Key] = &[
    key("argv", Shape::Some(&TEXT), "The program and its arguments."),
    key("shell", Shape::Text, "Lines for a shell; values go in by `env`."),
    key("with", Shape::Words(&["bash", "sh"]), "Which shell (bash)."),
    key("cwd", Shape::Text, "The folder to run in, within the code root."),
    key("stdin", Shape::Binding, "What it reads on standard input."),
    key("output", Shape::Words(OUTPUTS), "Where its output is (file)."),
];

const OUTPUTS: &[&str] = &["file", "stdout_json", "none"];

/// Files with these endings are code where an argument names them.
const CODE: &[&str] = &["py", "sh", "bash", "pl", "rb", "js", "ts", "mjs", "r", "R", "sql", "lua"];

fn prepare(lower: &mut Lower, block: &Block) -> Option<Prepared> {
    let output = output(lower, block);
    let mut files = Vec::new();
    if let Some(argv) = argv(block) {
        for (i, arg) in argv.iter().filter_map(Node::scalar).enumerate() {
            let code = arg.text.rsplit_once('.').is_some_and(|(_, end)| CODE.contains(&end));
            if (code || (i == 0 && arg.text.contains('/'))) && !has_expression(&arg.text) {
                files.extend(inside_root(&arg.text));
            }
        }
    }
    let word = Binding::Const(OUTPUTS[output as usize].into());
    let spec = IndexMap::from([("output".to_owned(), word)]);
    Some(Prepared { silent: output == RunOutput::None, files, spec, signature: None })
}

fn argv<'n>(block: &Block<'n>) -> Option<&'n [Node]> {
    block.own("argv").unwrap_or(block.node).items()
}

fn output(lower: &mut Lower, block: &Block) -> RunOutput {
    let word = block.get("output").and_then(|node| lower.word(node, "`output`", OUTPUTS));
    [RunOutput::File, RunOutput::StdoutJson, RunOutput::None][word.unwrap_or(0)]
}

fn lower(lower: &mut Lower, block: &Block, bind: &mut Bind) -> Option<IndexMap<String, Binding>> {
    if block.fields.is_none() && block.node.items().is_none() {
        not_a_list(lower, block.node);
        return None;
    }
    let program = program(lower, block, bind);
    let mut spec = IndexMap::new();
    if let Some(cwd) = block.get("cwd") {
        spec.insert("cwd".to_owned(), folder(lower, cwd)?);
    }
    if let Some(stdin) = block.get("stdin") {
        spec.insert("stdin".to_owned(), lower.task_text(stdin, "`stdin`", bind)?);
    }
    spec.extend(program?);
    Some(spec)
}

fn not_a_list(lower: &mut Lower, node: &Node) {
    let text = node.scalar().map(|scalar| scalar.text.clone());
    let found = lower.report.error(
        node.place,
        "run-not-list",
        format!("`run` must be a list of a program and its arguments, not {}", node.kind()),
    );
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        let list = split(&text).map(|words| format!("`run: [{}]`, or ", words.join(", ")));
        found.hint(format!(
            "write {}`run: {{ shell: … }}` to use a shell",
            list.unwrap_or_default()
        ));
    }
}

fn program(lower: &mut Lower, block: &Block, bind: &mut Bind) -> Option<IndexMap<String, Binding>> {
    match (argv(block), block.own("shell")) {
        (Some(_), Some(shell)) => {
            lower.report.error(shell.place, "run-both", "`argv` and `shell` exclude each other");
            None
        }
        (None, None) => {
            match block.own("argv") {
                Some(node) => not_a_list(lower, node),
                None => drop(lower.report.error(
                    block.key,
                    "missing-key",
                    "`run` needs `argv` or `shell`",
                )),
            }
            None
        }
        (Some([]), None) => {
            lower.report.error(block.node.place, "run-empty", "`run` names no program");
            None
        }
        (Some(items), None) => {
            if let Some(with) = block.own("with") {
                lower.report.error(with.place, "run-with", "`with` goes with `shell` alone");
            }
            for item in items {
                lower.without_nul(item, "an argument");
            }
            let argv = lower.args_binding(items, bind)?;
            Some(IndexMap::from([("argv".to_owned(), argv)]))
        }
        (None, Some(node)) => shell(lower, block, node),
    }
}

fn shell(lower: &mut Lower, block: &Block, node: &Node) -> Option<IndexMap<String, Binding>> {
    lower.without_nul(node, "`shell`");
    let text = lower.text(node, "`shell`")?;
    if let Some(at) = text.find("${{") {
        let place = node.part(lower.report.text(), at, 3);
        lower
            .report
            .error(
                place,
                "expression-in-shell",
                "`${{ }}` inside `shell` is not allowed: a value could run as code",
            )
            .hint("put the value in `env` and use \"$NAME\" in the shell");
        return None;
    }
    let with =
        block.get("with").map_or(Some(0), |node| lower.word(node, "`with`", &["bash", "sh"]));
    let with = if with? == 0 { "bash" } else { "sh" };
    Some(IndexMap::from([
        ("shell".to_owned(), Binding::Const(text.into())),
        ("with".to_owned(), Binding::Const(with.into())),
    ]))
}

fn folder(lower: &mut Lower, node: &Node) -> Option<Binding> {
    let text = lower.fixed_text(node, "`cwd`")?;
    match inside_root(text) {
        Some(path) if path.is_empty() => Some(Binding::Const(".".into())),
        Some(path) => Some(Binding::Const(Value::String(path))),
        None => {
            let text = text.to_owned();
            lower
                .report
                .error(node.place, "cwd-outside", format!("`{text}` leaves the code root"))
                .hint("`cwd` is relative to the code root");
            None
        }
    }
}

/// The block of an older task: its `command` split where no shell is needed.
fn older(report: &mut Report, fields: &Fields) -> Option<Node> {
    let Some(node) = fields.get("command") else {
        report.error(fields.place, "missing-key", "`executor: process` needs `command`");
        return None;
    };
    let place = node.place;
    let make =
        |text: String| Node { yaml: Yaml::Scalar(Scalar { text, style: Style::Quoted }), place };
    let text = super::older_text(report, node, "`command`")?.to_owned();
    let (key, value) = if let Some(words) = split(&text) {
        let items = words.into_iter().map(make).collect();
        ("argv", Node { yaml: Yaml::List { items, flow: true }, place })
    } else {
        report
            .warning(
                place,
                "command-by-shell",
                "the command has characters of a shell and is run by one",
            )
            .hint("`run: { shell: … }` says so, `run: [prog, arg]` needs none");
        ("shell", make(text))
    };
    let entries = vec![Entry { key: key.to_owned(), place, value }];
    Some(Node { yaml: Yaml::Map { entries, flow: false }, place })
}

/// A list of arguments needs no key.
fn shorten(block: Node) -> Node {
    match block.get("argv") {
        Some(argv) => argv.clone(),
        None => super::flow(block),
    }
}

/// The words of a command that needs no shell; none when it has characters that a shell reads.
fn split(command: &str) -> Option<Vec<String>> {
    let plain = |c: char| c.is_alphanumeric() || " \t_-./:=,+@%^".contains(c);
    let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
    let assigns = words.first().is_none_or(|word| word.contains('='));
    (command.chars().all(plain) && !assigns).then_some(words)
}
