//! What is harmed, and what must hold whatever comes in.

use indexmap::IndexMap;
use ork_core::lang::expr::{CheckScope, Name, Presence, TaskType, check};
use ork_core::lang::python::{Target as Place, signature};
use ork_core::lang::{Diagnostic, Severity, Sources, compile, data, format, render};
use ork_core::plan::{Param, Plan};
use ork_core::types::Type;

use super::harm::harmed;
use super::{Chance, Corpus};

/// A part of the language that reads what people write.
pub(crate) struct Target {
    pub(super) name: &'static str,
    pub(super) make: fn(&mut Chance, &Corpus) -> Vec<u8>,
    /// Takes a file, and the code file that a workflow names.
    pub(super) run: fn(&[u8], &[u8]) -> Result<(), String>,
}

/// All of them; those that do more are there more often.
pub(super) const TARGETS: &[Target] = &[
    Target { name: "workflow", make: workflow, run: compiles },
    Target { name: "workflow", make: workflow, run: compiles },
    Target { name: "format", make: workflow, run: formats },
    Target { name: "upgrade", make: workflow, run: upgrades },
    Target { name: "expression", make: expression, run: checks },
    Target { name: "signature", make: code, run: signatures },
    Target { name: "type", make: notation, run: types },
    Target { name: "data", make: workflow, run: values },
];

const YAML: &[&str] = &[
    "tasks:\n",
    "  a:\n",
    "    run: [x]\n",
    "python: a.py:f\n",
    "${{ ",
    " }}",
    "$${{",
    "params.p",
    "tasks.a.output",
    "when: ",
    "retries: {max: 3, for: [failure, \"exit:75\"], if: attempt < 3}",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "|\n",
    "|2-\n",
    ">-\n",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    " #",
    "\t",
    "\u{feff}",
    "\0",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\r\n",
    "\n",
    "  ",
    "executor: process\n",
    "command: 'a | b'\n",
    "inputs: {x: {ref: tasks.a.output}}\n",
    "types:\n",
    "{enum: [a, b]}",
    "dict[",
    "]?",
    "finally:\n",
    "output: ",
    "depends_on: [a, b]\n",
    "{{ ds }}",
    "trigger_rule: all_done\n",
    "timeout: 1h30m\n",
    "99999999999999999999",
    "1e400",
    ".nan",
    "~",
    "default: ",
    "shell: ",
    "code: {root: ..}\n",
    "é",
    "🦀",
    "\u{2028}",
    "\\",
];

const PYTHON: &[&str] = &[
    "def f(",
    "class C(TypedDict):\n",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    "*",
    "**",
    ", ",
    " -> ",
    " = ",
    "None",
    "Optional[",
    "list[",
    "dict[str, ",
    "Literal['a', ",
    "@dataclass\n",
    "import x\n",
    "from . import y\n",
    "from a import f\n",
    "\\\n",
    "\"\"\"",
    "'",
    "lambda: ",
    "async ",
    "    ",
    "\t",
    " | ",
    "if x:\n",
    "try:\n",
    "C = C\n",
    "...",
    "\u{feff}",
    "\0",
    "\r\n",
    "\n",
    "é",
    "🦀",
    "0x",
    "f'{",
];

const EXPRESSION: &[&str] = &[
    "params.p",
    "params.day",
    "tasks.t.output",
    "tasks.t.state",
    ".a",
    "[0]",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\\",
    "'''",
    "r'",
    " && ",
    " || ",
    "!",
    " == ",
    " in ",
    " ? ",
    " : ",
    " + ",
    "-",
    " * ",
    " / ",
    " % ",
    " < ",
    "1",
    "1.5",
    "9223372036854775807",
    "-9223372036854775808",
    "1e400",
    "0x",
    ".map(x, ",
    ".filter(x, ",
    ".exists(x, ",
    "has(",
    "default(",
    "range(",
    "join(",
    "days(",
    "date('2026-02-30')",
    ".matches('",
    ".format('%Y')",
    ".in_zone('UTC')",
    "null",
    "true",
    ", ",
    "é",
    "🦀",
    "\0",
    "\n",
    " ",
    "//",
    "=",
    "&",
    "|",
];

const TYPES: &[&str] = &[
    "str",
    "int",
    "[",
    "]",
    "{",
    "}",
    "a: ",
    ", ",
    "?",
    "dict[",
    "{enum: [",
    "a",
    "'",
    "\"",
    "types.X",
    "list[str]",
    " | ",
    "datetime",
    "é",
    "🦀",
    "\0",
    "\n",
    " ",
    "|",
];

fn workflow(chance: &mut Chance, corpus: &Corpus) -> Vec<u8> {
    harmed(chance, &corpus.workflows, YAML)
}

pub(super) fn code(chance: &mut Chance, corpus: &Corpus) -> Vec<u8> {
    harmed(chance, &corpus.code, PYTHON)
}

fn expression(chance: &mut Chance, corpus: &Corpus) -> Vec<u8> {
    harmed(chance, &corpus.expressions, EXPRESSION)
}

fn notation(chance: &mut Chance, _corpus: &Corpus) -> Vec<u8> {
    let files = ["{a: [str]?, b: dict[{enum: [x, 'y z']}]}", "[[int]]", "datetime_utc?"];
    harmed(chance, &files.map(|text| text.as_bytes().to_vec()), TYPES)
}

/// Every path names the same file.
struct Same<'b>(&'b [u8]);

impl Sources for Same<'_> {
    fn read(&self, _path: &str) -> Result<Vec<u8>, Option<String>> {
        Ok(self.0.to_vec())
    }
}

const FILE: &str = "flow.yaml";

/// A file has a plan or errors, each finding is in its file, and a plan is the same when it has
/// been stored.
fn compiles(file: &[u8], code: &[u8]) -> Result<(), String> {
    let compiled = compile(FILE, file, &Same(code));
    placed(&compiled.diagnostics, file, code)?;
    let errors = compiled.diagnostics.iter().any(|found| found.severity == Severity::Error);
    must(compiled.plan.is_none() == errors, || "neither a plan nor an error, or both".to_owned())?;
    let Some(plan) = compiled.plan else { return Ok(()) };
    let text = serde_json::to_string(&plan).map_err(|why| why.to_string())?;
    let stored: Plan =
        serde_json::from_str(&text).map_err(|why| format!("a stored plan: {why}"))?;
    must(stored == plan, || format!("another plan when stored: {plan:?}\n{stored:?}"))
}

fn formats(file: &[u8], _code: &[u8]) -> Result<(), String> {
    format_twice(file, false)
}

fn upgrades(file: &[u8], _code: &[u8]) -> Result<(), String> {
    format_twice(file, true)
}

/// Formatting what was formatted changes nothing.
fn format_twice(file: &[u8], upgrade: bool) -> Result<(), String> {
    let first = match format(FILE, file, upgrade) {
        Ok(first) => first,
        Err(found) => return placed(&found, file, &[]),
    };
    placed(&first.warnings, file, &[])?;
    let again = format(FILE, first.text.as_bytes(), upgrade).map(|again| again.text);
    must(again.as_ref() == Ok(&first.text), || format!("{:?}\nthen {again:?}", first.text))
}

/// An expression has a type, or what is wrong with it has a place in it.
fn checks(file: &[u8], _code: &[u8]) -> Result<(), String> {
    let Ok(source) = std::str::from_utf8(file) else { return Ok(()) };
    let param = |ty: Type| Param { ty, default: None, description: None };
    let params = IndexMap::from([
        ("p".to_owned(), param(Type::list(Type::Int))),
        ("day".to_owned(), param(Type::Date)),
    ]);
    let task = TaskType { output: Some(Type::Json), presence: Presence::Maybe };
    let tasks = IndexMap::from([("t".to_owned(), task)]);
    let names = [Name::Params, Name::Tasks, Name::Run];
    let scope = CheckScope {
        params: &params,
        tasks: &tasks,
        names: &names,
        certain: true,
        proven: &[],
        values: &[],
    };
    let issues = check(source, &scope).err().unwrap_or_default();
    let length = source.chars().count();
    issues.iter().try_for_each(|issue| {
        let inside = issue.length > 0 && issue.offset + issue.length <= length.max(1) + 1;
        must(inside, || format!("{issue:?} is not in {length} characters"))
    })
}

/// Each function of a file has a signature, or an error with a place in the file.
fn signatures(file: &[u8], _code: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(file).into_owned();
    let names = text.split("def ").skip(1).filter_map(|rest| rest.split('(').next());
    for name in names.take(8).chain(["f"]) {
        if let Err(error) = signature(&Same(file), Place::File("a.py"), name)
            && let Some((line, column)) = error.place
        {
            inside(&text, line, column, 1).map_err(|why| format!("{error:?}: {why}"))?;
        }
    }
    Ok(())
}

/// A type that was read is read again from what is written of it.
fn types(file: &[u8], _code: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(file) else { return Ok(()) };
    let none = |_: &str| None;
    match Type::parse(text, &none) {
        Ok(ty) => {
            let again = Type::parse(&ty.to_string(), &none);
            must(again.as_ref() == Ok(&ty), || format!("{ty} is read as {again:?}"))
        }
        Err(issue) => {
            let length = text.chars().count();
            let fits = issue.length > 0 && issue.offset + issue.length <= length.max(1) + 1;
            must(fits, || format!("{issue:?} is not in {length} characters"))
        }
    }
}

fn values(file: &[u8], _code: &[u8]) -> Result<(), String> {
    data(FILE, file).map_or_else(|found| placed(&found, file, &[]), |_| Ok(()))
}

/// Each finding is in its file, and can be shown.
fn placed(found: &[Diagnostic], file: &[u8], code: &[u8]) -> Result<(), String> {
    let (text, code) = (String::from_utf8_lossy(file), String::from_utf8_lossy(code));
    for one in found {
        let text = if one.file == FILE { &text } else { &code };
        if one.line > 0 {
            let fits = inside(text, one.line, one.column, one.length);
            fits.map_err(|why| format!("{one}: {why}"))?;
        }
    }
    render(found, |file| Some(if file == FILE { &*text } else { &*code }), true);
    Ok(())
}

/// Whether characters of a line are there; one place after its end is.
fn inside(text: &str, line: usize, column: usize, length: usize) -> Result<(), String> {
    let lines = text.split('\n').count();
    let found = text.split('\n').nth(line - 1).unwrap_or_default();
    let chars = found.chars().count();
    let fits = line <= lines && column > 0 && length > 0 && column - 1 + length <= chars + 1;
    must(fits, || format!("{line}:{column}+{length} is not in {lines} lines, the line has {chars}"))
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
