//! A tree with its comments and blank lines put where they belong.

use super::super::diagnostic::Report;
use super::super::tree::{Comment, Limits, Node, Scalar, Style, Yaml, parse};
use super::write::chomp;

/// A line above an entry: a comment, or nothing.
pub(super) type Above = Option<String>;

/// An entry of a map, or an item of a list.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) above: Vec<Above>,
    pub(super) key: Option<String>,
    pub(super) value: Value,
    /// A comment at the end of the entry's first line.
    pub(super) right: Option<String>,
}

/// A value to be written.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    /// The lines after `>`, as they are in the source, and the text that they mean.
    Folded(Vec<String>, String),
    /// A list or a map, whether it stays within brackets, and the comments after its last entry.
    Lines {
        lines: Vec<Line>,
        map: bool,
        flow: bool,
        tail: Vec<Above>,
    },
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) value: Value,
}

pub(super) struct Builder<'t> {
    text: &'t str,
    comments: &'t [Comment],
    next: usize,
    /// Up to where the text has been looked through for blank lines.
    seen: usize,
}

impl<'t> Builder<'t> {
    pub(super) fn new(text: &'t str, comments: &'t [Comment]) -> Self {
        Self { text, comments, next: 0, seen: 0 }
    }

    pub(super) fn build(mut self, root: &Node) -> Layout {
        let mut value = self.value(root, self.text.len() + 1);
        let rest = self.above(self.text.len() + 1, 0);
        if let Value::Lines { tail, flow, .. } = &mut value
            && !rest.is_empty()
        {
            *flow = false;
            tail.extend(rest);
        }
        Layout { value }
    }

    /// The comments and blank lines before a byte, of comments that stand at `column` or after.
    fn above(&mut self, before: usize, column: usize) -> Vec<Above> {
        let mut lines = Vec::new();
        while let Some(comment) = self.comments.get(self.next) {
            let at = comment.place.start;
            if at >= before || self.column(at) < column {
                break;
            }
            self.blank(at, &mut lines);
            lines.push(Some(tidy(&comment.text)));
            self.next += 1;
            self.seen = self.seen.max(comment.place.end);
        }
        lines
    }

    /// One blank line where the text has some between what was seen and `at`.
    fn blank(&mut self, at: usize, lines: &mut Vec<Above>) {
        let between = self.text.get(self.seen..at).unwrap_or("");
        let mut inner: Vec<_> = between.split('\n').skip(1).collect();
        inner.pop();
        if self.seen > 0 && inner.iter().any(|line| line.trim().is_empty()) {
            lines.push(None);
        }
        self.seen = self.seen.max(at);
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|text| text.rfind('\n')).map_or(0, |n| n + 1)
    }

    /// A comment that stands after `from` on its line.
    fn right(&mut self, from: usize, before: usize) -> Option<String> {
        let comment = self.comments.get(self.next)?;
        let at = comment.place.start;
        let between = self.text.get(from..at)?;
        if at >= before || between.contains('\n') {
            return None;
        }
        self.next += 1;
        self.seen = self.seen.max(comment.place.end);
        Some(tidy(&comment.text))
    }

    fn value(&mut self, node: &Node, limit: usize) -> Value {
        match &node.yaml {
            Yaml::Scalar(scalar) => {
                self.seen = self.seen.max(node.place.end);
                self.scalar(node, scalar)
            }
            Yaml::List { items, flow } => {
                let items: Vec<_> =
                    items.iter().map(|item| (None, item.place.start, item)).collect();
                self.lines(node, &items, false, *flow, limit)
            }
            Yaml::Map { entries, flow } => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| (Some(entry.key.as_str()), entry.place.start, &entry.value))
                    .collect();
                self.lines(node, &entries, true, *flow, limit)
            }
        }
    }

    fn scalar(&self, node: &Node, scalar: &Scalar) -> Value {
        if scalar.style != Style::Block || !self.is_folded(node) {
            return Value::Scalar(scalar.clone());
        }
        let indent = self.column(node.place.start);
        let raw = self.text.get(node.place.start..node.place.end).unwrap_or("");
        let strip = |line: &str| {
            line.get(indent.min(line.len() - line.trim_start().len())..)
                .unwrap_or("")
                .trim_end()
                .to_owned()
        };
        let lines = raw.trim_end().lines().enumerate();
        let lines =
            lines.map(|(i, line)| if i == 0 { line.trim_end().to_owned() } else { strip(line) });
        let lines: Vec<_> = lines.collect();
        if !means(&lines, &scalar.text) {
            return Value::Scalar(scalar.clone());
        }
        Value::Folded(lines, scalar.text.clone())
    }

    /// Whether a block scalar is written after `>`.
    fn is_folded(&self, node: &Node) -> bool {
        let before = self.text.get(..node.place.start).unwrap_or("").trim_end();
        let header = before.lines().next_back().unwrap_or("");
        let header = header.split(" #").next().unwrap_or(header).trim_end();
        header.trim_end_matches(['-', '+']).ends_with('>')
    }

    fn lines(
        &mut self,
        node: &Node,
        entries: &[(Option<&str>, usize, &Node)],
        map: bool,
        flow: bool,
        limit: usize,
    ) -> Value {
        let commented = self.comments.get(self.next..).unwrap_or_default().iter();
        let inside = |c: &Comment| c.place.start > node.place.start && c.place.end < node.place.end;
        let flow = flow && !commented.take_while(|c| c.place.start < node.place.end).any(inside);
        let mut column = entries.first().map_or(0, |(_, at, _)| self.column(*at));
        if !map {
            column = column.saturating_sub(2);
        }
        let mut lines = Vec::with_capacity(entries.len());
        for (i, (key, start, value)) in entries.iter().enumerate() {
            let end = entries.get(i + 1).map_or(limit, |(_, at, _)| *at);
            lines.push(self.line(*key, *start, value, end, i == 0));
        }
        let tail = if flow { Vec::new() } else { self.above(limit, column.max(1)) };
        self.seen = self.seen.max(node.place.end);
        Value::Lines { lines, map, flow, tail }
    }

    fn line(
        &mut self,
        key: Option<&str>,
        start: usize,
        node: &Node,
        limit: usize,
        first: bool,
    ) -> Line {
        let mut above = self.above(start, 0);
        self.blank(start, &mut above);
        if first {
            while matches!(above.first(), Some(None)) {
                above.remove(0);
            }
        }
        let collection =
            !matches!(node.yaml, Yaml::Scalar(_)) || node.place.start > self.line_end(start);
        let mut right = match key {
            Some(_) if collection => self.right(start, node.place.start.max(start + 1)),
            _ => None,
        };
        let value = self.value(node, limit);
        // The text of a block ends with its line: what follows it stands below.
        let ends_within = match &value {
            Value::Scalar(scalar) => scalar.style != Style::Block,
            Value::Lines { flow, .. } => *flow,
            Value::Folded(..) => false,
        };
        if right.is_none() && ends_within {
            right = self.right(node.place.end.max(start), limit);
        }
        Line { above, key: key.map(str::to_owned), value, right }
    }

    fn line_end(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|text| text.find('\n')).map_or(self.text.len(), |n| at + n)
    }
}

/// Whether lines after `>` mean a text: blank and deeper lines make more of a fold than it seems.
fn means(lines: &[String], text: &str) -> bool {
    let mut folded = format!("k: >{}\n", chomp(text));
    for line in lines {
        folded.push_str(if line.is_empty() { "" } else { "  " });
        folded.push_str(line);
        folded.push('\n');
    }
    let tree = parse(&mut Report::new("", &folded), &Limits::default(), false);
    let read = tree.as_ref().and_then(|tree| tree.root.get("k")?.scalar());
    read.is_some_and(|scalar| scalar.text == text)
}

/// A comment's text after `#`, with one space before words.
fn tidy(text: &str) -> String {
    let text = text.trim_end();
    match text.chars().next() {
        None => "#".into(),
        Some(' ' | '!' | '#') => format!("#{text}"),
        Some(_) => format!("# {text}"),
    }
}
