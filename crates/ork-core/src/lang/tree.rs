//! A file's YAML as a tree in which each node knows its place.
//!
//! Built straight from the parser's events, so that styles, tags and comments are seen as they
//! were written. Everything that YAML allows and a workflow does not (tags, duplicate keys, merge
//! keys, keys that are not plain words, several documents) is refused here, and every budget is
//! checked here, before a node is made.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, StrInput, StructureStyle};

use super::diagnostic::Report;

/// What a file may cost. Reaching one is an error that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `limits.file`: bytes of a file.
    pub bytes: usize,
    /// `limits.nesting`: lists and maps inside each other, at most 128.
    pub nesting: usize,
    /// `limits.expansion`: what aliases may add, as a multiple of the file's size.
    pub expansion: usize,
    /// `limits.tasks`: tasks of a file.
    pub tasks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 20, nesting: 64, expansion: 10, tasks: 10_000 }
    }
}

/// A range of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Place {
    /// From one byte to before another.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// How a scalar or a collection is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A scalar without quotes.
    Plain,
    /// A scalar in single or double quotes.
    Quoted,
    /// A scalar after `|` or `>`.
    Block,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub yaml: Yaml,
    /// Where it is written; for an alias, where the alias is.
    pub place: Place,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Yaml {
    /// Text, or a word that means null, a number or a bool.
    Scalar(Scalar),
    /// A list.
    List {
        /// Its items.
        items: Vec<Node>,
        /// Whether it is written in brackets.
        flow: bool,
    },
    /// A map.
    Map {
        /// Its entries, in order, each key once.
        entries: Vec<Entry>,
        /// Whether it is written in braces.
        flow: bool,
    },
}

/// A scalar as it is written.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The text, escapes resolved.
    pub text: String,
    /// How it is written.
    pub style: Style,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// The value.
    pub value: Node,
}

/// What a scalar means under the YAML 1.2 core schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal<'a> {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number; not finite ones are refused where a value is wanted.
    Float(f64),
    /// Text.
    Str(&'a str),
}

impl Scalar {
    /// What it means.
    pub fn literal(&self) -> Literal<'_> {
        if self.style != Style::Plain {
            return Literal::Str(&self.text);
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Literal::Null,
            "true" | "True" | "TRUE" => Literal::Bool(true),
            "false" | "False" | "FALSE" => Literal::Bool(false),
            text => number(text).unwrap_or(Literal::Str(text)),
        }
    }
}

/// A number of the core schema.
fn number(text: &str) -> Option<Literal<'_>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(octal) = digits.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().map(Literal::Int);
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(Literal::Int);
    }
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Some(Literal::Float(sign * f64::INFINITY));
    }
    if matches!(digits, ".nan" | ".NaN" | ".NAN") {
        return Some(Literal::Float(f64::NAN));
    }
    if !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    match text.parse::<i64>() {
        Ok(n) => Some(Literal::Int(n)),
        Err(_) => text.parse::<f64>().ok().map(Literal::Float),
    }
}

impl Node {
    /// The text of a scalar.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.yaml {
            Yaml::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Whether it says nothing.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.literal() == Literal::Null)
    }

    /// The entries of a map.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.yaml {
            Yaml::Map { entries, .. } => Some(entries),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.yaml {
            Yaml::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What it is, for a message: `a list`, `text`.
    pub fn kind(&self) -> &'static str {
        match &self.yaml {
            Yaml::List { .. } => "a list",
            Yaml::Map { .. } => "a map",
            Yaml::Scalar(scalar) => match scalar.literal() {
                Literal::Null => "nothing",
                Literal::Bool(_) => "a bool",
                Literal::Int(_) | Literal::Float(_) => "a number",
                Literal::Str(_) => "text",
            },
        }
    }

    /// The place of a part of a scalar's text, as near as its notation allows: exact where the
    /// text stands in the file as it is.
    pub fn part(&self, source: &str, start: usize, length: usize) -> Place {
        let Some(scalar) = self.scalar() else { return self.place };
        let raw = source.get(self.place.start..self.place.end).unwrap_or("");
        match raw.find(scalar.text.as_str()) {
            Some(at) if !scalar.text.is_empty() => {
                let from = self.place.start + at + start.min(scalar.text.len());
                Place::new(from, (from + length).min(self.place.end).max(from))
            }
            _ => self.place,
        }
    }
}

/// A comment of the file.
#[derive(Clone, Debug)]
pub struct Comment {
    /// What follows `#`.
    pub text: String,
    /// From `#` to the line's end.
    pub place: Place,
}

/// A file's tree.
#[derive(Debug)]
pub struct Tree {
    /// The root.
    pub root: Node,
    /// The comments, where asked for.
    pub comments: Vec<Comment>,
}

/// Checks that the bytes are text that can be parsed at all.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<String, (usize, Refusal)> {
    if bytes.len() > limits.bytes {
        return Err((0, Refusal::TooLarge));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err((0, Refusal::Utf16));
    }
    if bytes.starts_with(&[0xEF, 0xBB, 0xBF]) {
        return Err((0, Refusal::Bom));
    }
    match std::str::from_utf8(bytes) {
        Err(e) => Err((e.valid_up_to(), Refusal::NotUtf8)),
        Ok(text) => match text.find('\0') {
            Some(at) => Err((at, Refusal::Nul)),
            None => Ok(text.to_owned()),
        },
    }
}

/// Why bytes are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLarge,
    Utf16,
    Bom,
    NotUtf8,
    Nul,
}

/// Parses a file. Errors go to the report; without a tree there is at least one.
pub(crate) fn parse(report: &mut Report, limits: &Limits, comments: bool) -> Option<Tree> {
    let text = report.text().to_owned();
    let mut options = Options::default();
    options.set_emit_comments(comments);
    options.max_buffered_comment_events = usize::MAX;
    options.disallow_directives = true;
    let builder = Builder {
        parser: Parser::new_from_str_with_options(&text, options),
        report,
        limits,
        source: &text,
        anchors: HashMap::new(),
        comments: Vec::new(),
        expanded: 0,
    };
    builder.document()
}

type Parsed = (Event<'static>, Place);

/// An anchored node and what it costs to repeat it.
struct Anchor {
    node: Option<Node>,
    weight: usize,
}

struct Builder<'r, 'a, 's> {
    parser: Parser<'s, StrInput<'s>>,
    report: &'r mut Report<'a>,
    limits: &'r Limits,
    source: &'s str,
    anchors: HashMap<usize, Anchor>,
    comments: Vec<Comment>,
    expanded: usize,
}

/// Parsing is over; the report says why.
struct Stopped;

type Built<T> = Result<T, Stopped>;

impl Builder<'_, '_, '_> {
    fn document(mut self) -> Option<Tree> {
        let root = self.root().ok()??;
        Some(Tree { root, comments: self.comments })
    }

    fn root(&mut self) -> Built<Option<Node>> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    self.report
                        .error(
                            place,
                            "several-documents",
                            "a file holds one document, here begins a second",
                        )
                        .hint("put each workflow in a file of its own");
                    return Err(Stopped);
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, place, 0)?.0),
            }
        }
        if root.is_none() {
            self.report
                .error(Place::default(), "empty-file", "the file holds no workflow")
                .hint("`ork init` writes a first one");
        }
        Ok(root)
    }

    /// The next event that is no comment.
    fn next(&mut self) -> Built<Parsed> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, self.end())),
                Some(Err(e)) => {
                    let at = e.marker().byte_offset().unwrap_or(0);
                    syntax(self.report, self.source, at, e.kind(), &e.info());
                    return Err(Stopped);
                }
                Some(Ok((event, span))) => {
                    let place = span
                        .byte_range()
                        .map_or_else(|| self.end(), |r| Place::new(r.start, r.end));
                    if let Event::Comment(text, _) = &event {
                        self.comments.push(Comment { text: text.to_string(), place });
                        continue;
                    }
                    if event.tag().is_some() {
                        let tag = span.tag_span().and_then(|span| span.byte_range());
                        self.refuse_tag(tag.map_or(place, |r| Place::new(r.start, r.end)));
                        return Err(Stopped);
                    }
                    return Ok((owned(event), place));
                }
            }
        }
    }

    fn end(&self) -> Place {
        Place::new(self.source.len(), self.source.len())
    }

    fn refuse_tag(&mut self, place: Place) {
        let tag = self.source.get(place.start..place.end).unwrap_or("!").to_owned();
        self.report
            .error(place, "yaml-tag", format!("`{tag}` is a YAML tag; quote it"))
            .hint(format!("an expression that begins with `!` needs quotes: \"{tag} …\""));
    }

    /// A node and its weight.
    fn node(&mut self, event: Event<'static>, place: Place, depth: usize) -> Built<(Node, usize)> {
        let anchor = event.anchor_id();
        if let Some(id) = anchor {
            self.anchors.insert(id, Anchor { node: None, weight: 0 });
        }
        let (node, weight) = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style, place),
            Event::Alias(id) => self.alias(id, place)?,
            Event::SequenceStart(style, ..) => self.list(style, place, depth + 1)?,
            Event::MappingStart(style, ..) => self.map(style, place, depth + 1)?,
            _ => return Err(Stopped),
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, Anchor { node: Some(node.clone()), weight });
        }
        Ok((node, weight))
    }

    fn check_depth(&mut self, place: Place, depth: usize) -> Built<()> {
        if depth <= self.limits.nesting {
            return Ok(());
        }
        let limit = self.limits.nesting;
        self.report.error(
            Place::new(place.start, place.start + 1),
            "nesting-limit",
            format!("lists and maps are nested more than {limit} deep (limits.nesting)"),
        );
        Err(Stopped)
    }

    fn list(&mut self, style: StructureStyle, place: Place, depth: usize) -> Built<(Node, usize)> {
        self.check_depth(place, depth)?;
        let (mut items, mut weight) = (Vec::new(), 1);
        let end = loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                break at;
            }
            let (node, cost) = self.node(event, at, depth)?;
            weight += cost;
            items.push(node);
        };
        let flow = style == StructureStyle::Flow;
        let last = items.last().map(|node: &Node| node.place.end);
        let place = whole(place, place.start, last, end, flow);
        Ok((Node { yaml: Yaml::List { items, flow }, place }, weight))
    }

    fn map(&mut self, style: StructureStyle, place: Place, depth: usize) -> Built<(Node, usize)> {
        self.check_depth(place, depth)?;
        let (mut entries, mut weight) = (Vec::<Entry>::new(), 1);
        let mut seen = HashMap::new();
        let end = loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                break at;
            }
            let key = self.key(event, at)?;
            let (event, value_at) = self.next()?;
            let (value, cost) = self.node(event, value_at, depth)?;
            weight += cost + key.len();
            if let Some(first) = seen.insert(key.clone(), at) {
                self.duplicate(&key, at, first);
            } else {
                entries.push(Entry { key, place: at, value });
            }
        };
        let flow = style == StructureStyle::Flow;
        let first = entries.first().map_or(place.start, |entry| entry.place.start);
        let last = entries.last().map(|entry| entry.value.place.end.max(entry.place.end));
        let place = whole(place, if flow { place.start } else { first }, last, end, flow);
        Ok((Node { yaml: Yaml::Map { entries, flow }, place }, weight))
    }

    fn duplicate(&mut self, key: &str, at: Place, first: Place) {
        let line = self.report.line_of(first.start);
        self.report
            .error(at, "duplicate-key", format!("the key `{key}` is already there in line {line}"))
            .hint("a key stands once in its map");
    }

    fn key(&mut self, event: Event<'static>, place: Place) -> Built<String> {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => {
                self.report
                    .error(place, "merge-key", "merge keys (`<<`) are not supported")
                    .hint("write the entries out, or use `defaults` for what tasks share");
                Err(Stopped)
            }
            Event::Scalar(text, ..) => Ok(text.into_owned()),
            _ => {
                let braces = self.source.get(..place.start).is_some_and(|s| s.ends_with('{'));
                let found = self.report.error(place, "key-not-text", "a key must be a word");
                if braces {
                    found.hint(
                        "an expression is written `${{ … }}`, in quotes inside `{ }` or `[ ]`",
                    );
                }
                Err(Stopped)
            }
        }
    }

    fn alias(&mut self, id: usize, place: Place) -> Built<(Node, usize)> {
        let (node, weight) = match self.anchors.get(&id) {
            Some(Anchor { node: Some(node), weight }) => (node.clone(), *weight),
            _ => {
                self.report.error(place, "alias-cycle", "the alias stands inside what it repeats");
                return Err(Stopped);
            }
        };
        self.expanded += weight;
        let most = self.limits.expansion * self.source.len();
        if self.expanded > most {
            let times = self.limits.expansion;
            self.report.error(
                place,
                "alias-limit",
                format!(
                    "aliases expand the file to more than {times} times its size (limits.expansion)"
                ),
            );
            return Err(Stopped);
        }
        Ok((Node { place, ..node }, weight))
    }
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Scalar(text, style, id, _) => {
            Event::Scalar(text.into_owned().into(), style, id, None)
        }
        Event::SequenceStart(style, id, _) => Event::SequenceStart(style, id, None),
        Event::MappingStart(style, id, _) => Event::MappingStart(style, id, None),
        Event::Alias(id) => Event::Alias(id),
        Event::DocumentStart(explicit, version) => Event::DocumentStart(explicit, version),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingEnd => Event::MappingEnd,
        Event::StreamStart => Event::StreamStart,
        _ => Event::StreamEnd,
    }
}

/// A collection's place, from its opening to its close, or over its entries where it has none.
fn whole(open: Place, start: usize, last: Option<usize>, close: Place, flow: bool) -> Place {
    let end = if flow { close.end } else { last.unwrap_or(open.end) };
    Place::new(start, end.max(start))
}

fn scalar(text: &str, style: ScalarStyle, place: Place) -> (Node, usize) {
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    };
    // The parser gives `~` for a value that is not there.
    let text = if place.start == place.end && style == Style::Plain { "" } else { text };
    let weight = 1 + text.len();
    (Node { yaml: Yaml::Scalar(Scalar { text: text.to_owned(), style }), place }, weight)
}

/// Reports what the parser could not read, with the trap that most likely led there.
fn syntax(report: &mut Report, source: &str, at: usize, kind: &ErrorKind, info: &str) {
    let at = at.min(source.len());
    let place = Place::new(at, at + 1);
    let start = source.get(..at).and_then(|s| s.rfind('\n')).map_or(0, |n| n + 1);
    let line = source.get(start..).and_then(|s| s.lines().next()).unwrap_or("");
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => {
            report.error(place, "yaml-tab", "a tab cannot indent").hint("indent with spaces");
        }
        ErrorKind::RecursionLimitExceeded => {
            report.error(place, "nesting-limit", "lists and maps are nested too deep");
        }
        ErrorKind::UnknownAnchor => {
            report
                .error(place, "yaml-alias", "an alias without its anchor")
                .hint("text that begins with `*` needs quotes");
        }
        ErrorKind::DirectiveDisallowed => {
            report
                .error(place, "yaml-directive", "YAML directives are not supported")
                .hint("text that begins with `%` needs quotes");
        }
        _ => {
            let (code, hint) = trap(line, kind);
            let found = report.error(place, code, format!("not YAML: {info}"));
            if let Some(hint) = hint {
                found.hint(hint);
            }
        }
    }
}

/// The trap that a line most likely fell into.
fn trap(line: &str, kind: &ErrorKind) -> (&'static str, Option<&'static str>) {
    let seen = HashSet::from(["${{", "]?", "}?", "dict["].map(|s| (s, line.contains(s))));
    let has = |what: &'static str| seen.contains(&(what, true));
    if has("${{") && line.contains(['[', '{']) && !matches!(kind, ErrorKind::MappingValueNotAllowed)
    {
        let hint = "inside `{ }` or `[ ]` put quotes around an expression: \"${{ … }}\"";
        return ("unquoted-expression", Some(hint));
    }
    if has("]?") || has("}?") || has("dict[") {
        return ("unquoted-type", Some("put quotes around the type: \"[str]?\""));
    }
    match kind {
        ErrorKind::MappingValueNotAllowed => {
            ("yaml-syntax", Some("text that contains `: ` needs quotes"))
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            ("yaml-syntax", Some("text that begins with this character needs quotes"))
        }
        _ => ("yaml-syntax", None),
    }
}
