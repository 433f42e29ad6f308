//! Types as they are written: one word, a list of one type, a map of fields, or quoted text; and
//! the aliases of a file.

use std::cell::Cell;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::Lower;
use super::tree::{Entry, Node, Yaml};
use crate::types::Type;

/// What the aliases of a file may add up to, in parts of types, wherever they are used.
const MOST_PARTS: usize = 200_000;

/// The named types of a file.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    types: IndexMap<String, (Type, usize)>,
    spent: Cell<usize>,
}

impl Aliases {
    /// These types by name.
    pub(crate) fn of(types: &IndexMap<String, Type>) -> Self {
        let sized = types.iter().map(|(name, ty)| (name.clone(), (ty.clone(), parts(ty))));
        Self { types: sized.collect(), spent: Cell::default() }
    }

    /// All of them.
    pub(crate) fn all(&self) -> IndexMap<String, Type> {
        self.types.iter().map(|(name, (ty, _))| (name.clone(), ty.clone())).collect()
    }

    fn find(&self, name: &str) -> Option<Type> {
        let (ty, size) = self.types.get(name)?;
        self.spent.set(self.spent.get() + size);
        Some(if self.spent.get() > MOST_PARTS { Type::Json } else { ty.clone() })
    }
}

impl Lower<'_> {
    /// Reads `types`, each after those it names.
    pub(crate) fn aliases(&mut self, node: &Node) {
        let Some(entries) = self.map(node, "`types`") else { return };
        let by_name: HashMap<_, _> = entries.iter().map(|e| (e.key.as_str(), e)).collect();
        let mut path = Vec::new();
        for entry in entries {
            self.alias(entry, &by_name, &mut path);
        }
    }

    fn alias<'n>(
        &mut self,
        entry: &'n Entry,
        all: &HashMap<&'n str, &'n Entry>,
        path: &mut Vec<&'n str>,
    ) {
        let name = entry.key.as_str();
        if self.aliases.types.contains_key(name) {
            return;
        }
        if let Some(from) = path.iter().position(|on| *on == name) {
            let cycle = [&path[from..], &[name]].concat().join(" -> ");
            self.report.error(
                entry.place,
                "type-cycle",
                format!("the type is made of itself: {cycle}"),
            );
            self.aliases.types.insert(entry.key.clone(), (Type::Json, 1));
            return;
        }
        if path.len() >= 64 {
            self.report.error(entry.place, "type-depth", "types name each other more than 64 deep");
            return;
        }
        path.push(name);
        for word in words(&entry.value) {
            if let Some(other) = all.get(word) {
                self.alias(other, all, path);
            }
        }
        path.pop();
        if self.aliases.types.contains_key(name) {
            return;
        }
        self.check_name(name, entry.place, "a type");
        if Type::words().any(|word| word == name) {
            self.report.error(entry.place, "bad-name", format!("`{name}` is a type already"));
        }
        let ty = self.ty(&entry.value).unwrap_or(Type::Json);
        let size = parts(&ty);
        self.aliases.types.insert(entry.key.clone(), (ty, size));
    }

    /// Reads a type.
    pub(crate) fn ty(&mut self, node: &Node) -> Option<Type> {
        let ty = self.ty_part(node);
        if self.aliases.spent.get() > MOST_PARTS && !self.too_large {
            self.too_large = true;
            self.report
                .error(
                    node.place,
                    "type-size",
                    format!("the file's types have more than {MOST_PARTS} parts"),
                )
                .hint("use `json` for what need not be described");
        }
        ty
    }

    fn ty_part(&mut self, node: &Node) -> Option<Type> {
        match &node.yaml {
            Yaml::Scalar(scalar) => self.ty_text(node, &scalar.text.clone()),
            Yaml::List { items, .. } => match items.as_slice() {
                [item] => self.ty_part(item).map(Type::list),
                _ => {
                    self.report.error(
                        node.place,
                        "type-syntax",
                        "a list type has one type in it: `[str]`",
                    );
                    None
                }
            },
            Yaml::Map { entries, .. } => match entries.as_slice() {
                [only] if only.key == "enum" => {
                    let words = self.texts(&only.value, "`enum`")?;
                    self.choices(&only.value, words)
                }
                _ => self.object(entries),
            },
        }
    }

    pub(crate) fn choices(&mut self, node: &Node, words: Vec<String>) -> Option<Type> {
        if words.is_empty() {
            self.report.error(node.place, "type-syntax", "an enum has at least one value");
            return None;
        }
        Some(Type::choice(words))
    }

    fn object(&mut self, entries: &[Entry]) -> Option<Type> {
        let mut fields = IndexMap::new();
        for entry in entries {
            self.check_name(&entry.key, entry.place, "a field");
            let ty = self.ty_part(&entry.value).unwrap_or(Type::Json);
            fields.insert(entry.key.clone(), ty);
        }
        Some(Type::object(fields))
    }

    fn ty_text(&mut self, node: &Node, text: &str) -> Option<Type> {
        let older = self.older;
        let aliases = &self.aliases;
        let find = |name: &str| aliases.find(name);
        let trimmed = if older { text.replace("types.", "") } else { text.to_owned() };
        match Type::parse(&trimmed, &find) {
            Ok(ty) => Some(ty),
            Err(issue) => {
                let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
                let (from, to) = (byte(issue.offset), byte(issue.offset + issue.length));
                let place = node.part(self.report.text(), from, (to - from).max(1));
                let mut names: Vec<&str> = Type::words().collect();
                names.extend(self.aliases.types.keys().map(String::as_str));
                let near = super::diagnostic::nearest(text, names.into_iter());
                let hint =
                    issue.hint.or_else(|| near.map(|near| format!("did you mean `{near}`?")));
                let found = self.report.error(place, "bad-type", issue.message);
                if let Some(hint) = hint {
                    found.hint(hint);
                }
                None
            }
        }
    }
}

/// The words of a type's notation.
fn words(node: &Node) -> Vec<&str> {
    match &node.yaml {
        Yaml::Scalar(scalar) => scalar
            .text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect(),
        Yaml::List { items, .. } => items.iter().flat_map(words).collect(),
        Yaml::Map { entries, .. } => entries.iter().flat_map(|e| words(&e.value)).collect(),
    }
}

/// How many parts a type has.
fn parts(ty: &Type) -> usize {
    1 + match ty {
        Type::List(inner) | Type::Dict(inner) | Type::Nullable(inner) => parts(inner),
        Type::Object(fields) => fields.values().map(parts).sum(),
        Type::Enum(words) => words.len(),
        _ => 0,
    }
}
