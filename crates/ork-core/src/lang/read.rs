//! Reading nodes as the plain values that settings want, each mistake a finding with its place.

use super::Lower;
use super::keys::{Key, find, translate};
use super::tree::{Entry, Literal, Node, Place};
use crate::time::Span;

/// A map whose keys have been checked against a table.
pub(crate) struct Fields<'n> {
    pub(crate) entries: &'n [Entry],
    pub(crate) place: Place,
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

/// The places of a key's name, for findings about the key itself.
impl Fields<'_> {
    pub(crate) fn key_place(&self, key: &str) -> Place {
        self.entries.iter().find(|e| e.key == key).map_or(self.place, |entry| entry.place)
    }
}

/// Which keys a map may have.
pub(crate) struct Known<'k> {
    /// What the map is, for messages: `a task`, `the file`.
    pub(crate) what: &'k str,
    pub(crate) table: &'static [Key],
    pub(crate) also: &'k [&'static str],
    pub(crate) words: &'k [(&'static str, &'static str)],
}

impl Lower<'_> {
    /// The fields of a map; unknown keys and keys that are not supported are errors.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, known: &Known) -> Option<Fields<'n>> {
        let entries = self.map(node, known.what)?;
        for entry in entries {
            match find(known.table, &entry.key) {
                Some(key) if key.supported => {}
                Some(_) => self.unsupported(entry.place, &entry.key),
                None if known.also.contains(&entry.key.as_str()) => {}
                None => self.unknown_key(entry, known),
            }
        }
        Some(Fields { entries, place: node.place })
    }

    pub(crate) fn unsupported(&mut self, place: Place, key: &str) {
        self.report
            .error(place, "unsupported", format!("`{key}` is not supported by this version of Ork"))
            .hint("remove it; nothing would enforce it");
    }

    fn unknown_key(&mut self, entry: &Entry, known: &Known) {
        let names = || {
            let keys = known.table.iter().filter(|key| key.supported).map(|key| key.name);
            keys.chain(known.also.iter().copied())
        };
        let hint = match translate(known.words, &entry.key) {
            Some(ours) => Some(format!("here it is called `{ours}`")),
            None => self.report.nearest(&entry.key, names()),
        };
        let hint = hint
            .unwrap_or_else(|| format!("known keys: {}", names().collect::<Vec<_>>().join(", ")));
        self.report
            .error(entry.place, "unknown-key", format!("{} has no key `{}`", known.what, entry.key))
            .hint(hint);
    }

    /// The entries of a map.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        if node.entries().is_none() {
            self.wrong(node, &format!("{what} must be a map"));
        }
        node.entries()
    }

    /// A value of a wrong kind.
    pub(crate) fn wrong(&mut self, node: &Node, message: &str) -> Option<std::convert::Infallible> {
        let message = format!("{message}, not {}", node.kind());
        self.report.error(node.place, "wrong-kind", message);
        None
    }

    /// Text. A number or a bool is not text, but needs quotes to be.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match node.scalar().map(|scalar| (scalar.literal(), scalar)) {
            Some((Literal::Str(_), scalar)) => Some(&scalar.text),
            Some((Literal::Null, _)) | None => {
                self.wrong(node, &format!("{what} must be text"));
                None
            }
            Some((_, scalar)) => {
                let message = format!("{what} must be text, not {}", node.kind());
                self.report
                    .error(node.place, "wrong-kind", message)
                    .hint(format!("put quotes around it: \"{}\"", scalar.text));
                None
            }
        }
    }

    pub(crate) fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let Some(items) = node.items() else {
            self.wrong(node, &format!("{what} must be a list"));
            return None;
        };
        let texts = items.iter().filter_map(|item| self.text(item, what));
        Some(texts.map(str::to_owned).collect())
    }

    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.scalar().map(super::tree::Scalar::literal) {
            Some(Literal::Bool(value)) => return Some(value),
            Some(Literal::Str(word @ ("yes" | "no" | "on" | "off" | "Yes" | "No"))) => {
                let meant = matches!(word, "yes" | "on" | "Yes");
                self.report
                    .error(node.place, "wrong-kind", format!("{what} must be true or false"))
                    .hint(format!("write `{meant}`"));
            }
            _ => drop(self.wrong(node, &format!("{what} must be true or false"))),
        }
        None
    }

    pub(crate) fn integer(&mut self, node: &Node, what: &str, most: u32) -> Option<u32> {
        match node.scalar().map(super::tree::Scalar::literal) {
            Some(Literal::Int(n)) => {
                let fits = u32::try_from(n).ok().filter(|n| *n <= most);
                if fits.is_none() {
                    let message = format!("{what} must be from 0 to {most}, not {n}");
                    self.report.error(node.place, "out-of-range", message);
                }
                fits
            }
            _ => {
                self.wrong(node, &format!("{what} must be a whole number"));
                None
            }
        }
    }

    pub(crate) fn word(&mut self, node: &Node, what: &str, words: &[&str]) -> Option<usize> {
        let text = self.text(node, what)?;
        let at = words.iter().position(|word| *word == text);
        if at.is_none() {
            let hint = self
                .report
                .nearest(text, words.iter().copied())
                .unwrap_or_else(|| format!("one of {}", words.join(", ")));
            self.report
                .error(node.place, "unknown-word", format!("{what} cannot be `{text}`"))
                .hint(hint);
        }
        at
    }

    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<Span> {
        match node.scalar().map(|scalar| (scalar.literal(), duration(&scalar.text))) {
            Some((Literal::Int(_) | Literal::Str(_), Ok(span))) => Some(span),
            Some((Literal::Int(_) | Literal::Str(_), Err(why))) => {
                let message = format!("{what} is no duration: {why}");
                self.report
                    .error(node.place, "duration", message)
                    .hint("such as `500ms`, `90s`, `1h30m`, `2d`; a bare number is seconds");
                None
            }
            _ => {
                self.wrong(node, &format!("{what} must be a duration"));
                None
            }
        }
    }

    /// A name of a task, a param or a field.
    pub(crate) fn check_name(&mut self, name: &str, place: Place, what: &str) -> bool {
        let fine = is_name(name);
        if !fine {
            let found = self.report.error(
                place,
                "bad-name",
                format!("`{name}` cannot name {what}: a name is a letter or `_`, then letters, digits or `_`, at most 64"),
            );
            if name.contains('-') {
                found.hint(format!("`-` is a subtraction: write `{}`", name.replace('-', "_")));
            }
        }
        fine
    }
}

/// Whether text is a name of a task, a param or a field: `[a-zA-Z_][a-zA-Z0-9_]{0,63}`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.len() <= 64
}

/// Whether text is a workflow's name: `[a-zA-Z][a-zA-Z0-9_-]{0,63}`.
pub fn is_workflow_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && text.len() <= 64
}

const UNITS: [(&str, i64); 6] = [
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
];

/// Reads a duration: `500ms`, `90s`, `1h30m`, `2d`; units `ms s m h d w`, each once, large to
/// small; a bare integer is seconds.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Span, String> {
    let big = || "it is too long".to_owned();
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let seconds = text.parse::<i64>().map_err(|_| big())?;
        return seconds.checked_mul(1_000_000).map(Span).ok_or_else(big);
    }
    let (mut rest, mut next, mut total) = (text, 0, 0_i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if digits == 0 || letters == 0 {
            return Err(format!("`{text}` is not numbers with units"));
        }
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("`{unit}` is no unit; units are ms, s, m, h, d, w"));
        };
        if at < next {
            return Err("units stand once each, large to small".into());
        }
        next = at + 1;
        let part = number.parse::<i64>().ok().and_then(|n| n.checked_mul(UNITS[at].1));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(big)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() { Err("it is empty".into()) } else { Ok(Span(total)) }
}

/// Reads a size in bytes: `512Mi`, `2Gi` (1024), `500M` (1000), bare bytes.
///
/// # Errors
/// What is wrong with it; `512m` is a thousandth in other tools and refused.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse::<u64>().map_err(|_| format!("`{text}` is no size"))?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "m" => {
            return Err(format!(
                "`{text}` would be thousandths of a byte; write `{number}Mi` or `{number}M`"
            ));
        }
        unit => {
            return Err(format!(
                "`{unit}` is no unit of size; units are Ki, Mi, Gi, Ti, K, M, G, T"
            ));
        }
    };
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))
}
