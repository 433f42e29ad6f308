//! Rules over plain text: words, names of files, SQL files that nobody reads.

use super::{File, Tree};

/// Words that must not stand anywhere: left-overs, and places of one machine. Each is split here
/// so that this file does not find itself.
const WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it or leave it out"),
    (concat!("FIX", "ME"), "mend it"),
    (concat!("/work", "/"), "a path of one machine"),
    (concat!("house", " plan"), "the product speaks of itself"),
    (concat!("shared", "/design"), "the product speaks of itself"),
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "helpers", "util", "utils", "service", "impl"];

/// Every finding of this module's rules.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in &tree.files {
        findings.extend(words(file));
        findings.extend(empty_name(file));
        if file.is("sql") && !is_read(tree, file) {
            findings.push(format!("{}: nothing reads this file; delete it", file.path));
        }
    }
    findings
}

fn words(file: &File) -> impl Iterator<Item = String> {
    let lines = file.text.lines().enumerate();
    lines.flat_map(move |(i, line)| {
        let found = WORDS.iter().filter(|(word, _)| line.contains(word));
        found.map(move |(word, why)| format!("{}:{}: `{word}`: {why}", file.path, i + 1))
    })
}

fn empty_name(file: &File) -> Option<String> {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let stem = name.strip_suffix(".rs")?;
    let empty = EMPTY_NAMES.contains(&stem) || stem.ends_with("_impl");
    empty.then(|| format!("{}: the name says nothing; name what it holds", file.path))
}

/// Whether a source file of the same crate names the SQL file.
fn is_read(tree: &Tree, sql: &File) -> bool {
    let name = sql.path.rsplit('/').next().unwrap_or(&sql.path);
    let mut sources = tree.rust().filter(|file| file.krate() == sql.krate());
    sources.any(|file| file.text.contains(name))
}
