//! Findings: how they are collected, and how they are shown.

use std::borrow::Cow;
use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use super::tree::Place;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What could not be checked here.
    Note,
    /// Worth knowing; the workflow runs.
    Warning,
    /// The workflow is not accepted.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A finding in a file. Its [`fmt::Display`] is one line: `file:line:col: error[code]: message`;
/// serialised it is the machine form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name: `unknown-key`, `type-mismatch`.
    pub code: Cow<'static, str>,
    /// One sentence that names the thing.
    pub message: String,
    /// The file, as the caller named it, or a code file relative to the root.
    pub file: String,
    /// From 1; 0 when the finding is about the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Says how to mend it.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(printable(&hint.into()));
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, code, message, .. } = self;
        match line {
            0 => write!(f, "{file}: {severity}[{code}]: {message}")?,
            _ => write!(f, "{file}:{line}:{column}: {severity}[{code}]: {message}")?,
        }
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Text without control characters, so that a file cannot drive a terminal through a message.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Shows findings for people, each with its line where the source is at hand, and a last line
/// that counts them.
///
/// `source` gives the text of a file by the name that the findings have for it. Colours are the
/// caller's choice.
pub fn render<'s>(
    found: &[Diagnostic],
    source: impl Fn(&str) -> Option<&'s str>,
    colours: bool,
) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in found {
        out.push_str(&one(diagnostic, source(&diagnostic.file), &renderer));
        out.push_str("\n\n");
    }
    out.push_str(&count(found));
    out
}

fn one(found: &Diagnostic, source: Option<&str>, renderer: &Renderer) -> String {
    let level = match found.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(found.message.as_str()).id(&*found.code);
    let line = source.and_then(|text| text.lines().nth(found.line.checked_sub(1)?));
    let mut group = match line {
        Some(line) => title.element(
            Snippet::source(line)
                .path(found.file.as_str())
                .line_start(found.line)
                .annotation(AnnotationKind::Primary.span(bytes(line, found))),
        ),
        None => title.element(annotate_snippets::Origin::path(found.file.as_str())),
    };
    if let Some(hint) = &found.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// A finding's characters as bytes of its line.
fn bytes(line: &str, found: &Diagnostic) -> std::ops::Range<usize> {
    let from = found.column.saturating_sub(1);
    let at = |n: usize| line.char_indices().nth(n).map_or(line.len(), |(i, _)| i);
    at(from)..at(from + found.length)
}

fn count(found: &[Diagnostic]) -> String {
    let of = |severity| found.iter().filter(|d| d.severity == severity).count();
    let say = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (of(Severity::Error), of(Severity::Warning)) {
        (0, 0) => String::new(),
        (0, warnings) => say(warnings, "warning"),
        (errors, 0) => say(errors, "error"),
        (errors, warnings) => format!("{}, {}", say(errors, "error"), say(warnings, "warning")),
    }
}

/// More findings than this are not kept; the last says so.
const MOST: usize = 500;

/// Suggestions look at this many names in all, so that a file of ten thousand tasks and as many
/// slips of the pen is soon done.
const COMPARED: usize = 50_000;

/// Collects the findings of one file.
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    starts: Vec<usize>,
    found: Vec<Diagnostic>,
    spare: Diagnostic,
    /// How many names suggestions may still look at.
    names_left: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
        let spare = Diagnostic {
            severity: Severity::Error,
            code: "too-many-errors".into(),
            message: format!("more than {MOST} findings; the rest is not shown"),
            file: file.to_owned(),
            line: 0,
            column: 1,
            length: 1,
            hint: None,
        };
        Self {
            file,
            text,
            starts: starts.collect(),
            found: Vec::new(),
            spare,
            names_left: COMPARED,
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The line of a byte, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// How much has been found so far.
    pub(crate) fn mark(&self) -> usize {
        self.found.len()
    }

    /// Forgets what was found after a mark.
    pub(crate) fn forget(&mut self, mark: usize) {
        self.found.truncate(mark);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    pub(crate) fn error(
        &mut self,
        place: Place,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(place, Severity::Error, code, &message.into())
    }

    pub(crate) fn warning(
        &mut self,
        place: Place,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(place, Severity::Warning, code, &message.into())
    }

    fn add(
        &mut self,
        place: Place,
        severity: Severity,
        code: &'static str,
        message: &str,
    ) -> &mut Diagnostic {
        if self.found.len() >= MOST {
            return &mut self.spare;
        }
        let line = self.line_of(place.start.min(self.text.len()));
        let start = self.starts[line - 1];
        let rest = self.text.get(start..).and_then(|s| s.lines().next()).unwrap_or("");
        let chars = |to: usize| {
            let bytes = to.saturating_sub(start).min(rest.len());
            rest.char_indices().take_while(|(i, _)| *i < bytes).count()
        };
        let (from, to) = (chars(place.start), chars(place.end));
        self.push(Diagnostic {
            severity,
            code: code.into(),
            message: printable(message),
            file: self.file.to_owned(),
            line,
            column: from + 1,
            length: to.saturating_sub(from).max(1),
            hint: None,
        })
    }

    /// Adds a finding of another file.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.found.push(diagnostic);
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// `did you mean …`, or what there is, for a name that is not among `names`.
    pub(crate) fn nearest<'n>(
        &mut self,
        name: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> Option<String> {
        let (left, mut compared) = (self.names_left, 0);
        let near = nearest(name, names.take(left).inspect(|_| compared += 1));
        self.spend(compared);
        near.map(|near| format!("did you mean `{near}`?"))
    }

    /// Whether suggestions may look at more names.
    pub(crate) fn suggests(&self) -> bool {
        self.names_left > 0
    }

    /// Counts names that a suggestion has looked at.
    pub(crate) fn spend(&mut self, names: usize) {
        self.names_left = self.names_left.saturating_sub(names);
    }

    /// All findings, by place.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        if self.found.len() >= MOST {
            self.found.push(self.spare);
        }
        self.found.sort_by_key(|d| (d.line == 0, d.line, d.column));
        self.found.dedup();
        self.found
    }
}

/// The name most like `name`, if one is like it at all; of those as like, the first by the alphabet.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let far = name.chars().count().div_ceil(3).max(1);
    names
        .filter(|other| other.len().abs_diff(name.len()) <= far)
        .map(|other| (strsim::osa_distance(name, other), other))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, other)| (*distance, *other))
        .map(|(_, other)| other)
}
