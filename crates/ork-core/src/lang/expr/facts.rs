//! What a condition proves: which tasks have succeeded, which values are there.

use super::ast::{Binary, Kind, Node};

#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Tasks that have succeeded.
    pub(super) succeeded: Vec<String>,
    /// Paths such as `tasks.x.output.name` whose value is not null.
    pub(super) present: Vec<String>,
}

impl Facts {
    /// What is known when the condition is true.
    pub(super) fn when_true(node: &Node) -> Self {
        match &node.kind {
            Kind::Binary(Binary::And, a, b) => Self::when_true(a).and(Self::when_true(b)),
            Kind::Binary(Binary::Or, a, b) => Self::when_true(a).or(&Self::when_true(b)),
            Kind::Binary(Binary::Eq, a, b) => Self::equal(a, b),
            Kind::Binary(Binary::NotEq, a, b) => Self::not_null(a, b),
            Kind::Not(inner) => Self::when_false(inner),
            Kind::Has(inner) => Self::has(inner),
            _ => Self::default(),
        }
    }

    /// What is known when the condition is false.
    pub(super) fn when_false(node: &Node) -> Self {
        match &node.kind {
            Kind::Binary(Binary::Or, a, b) => Self::when_false(a).and(Self::when_false(b)),
            Kind::Binary(Binary::And, a, b) => Self::when_false(a).or(&Self::when_false(b)),
            Kind::Binary(Binary::NotEq, a, b) => Self::equal(a, b),
            Kind::Binary(Binary::Eq, a, b) => Self::not_null(a, b),
            Kind::Not(inner) => Self::when_true(inner),
            _ => Self::default(),
        }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.succeeded.extend(other.succeeded);
        self.present.extend(other.present);
        self.succeeded.sort();
        self.succeeded.dedup();
        self
    }

    fn or(mut self, other: &Self) -> Self {
        self.succeeded.retain(|task| other.succeeded.contains(task));
        self.present.retain(|path| other.present.contains(path));
        self
    }

    fn equal(a: &Node, b: &Node) -> Self {
        let success = |node: &Node| matches!(&node.kind, Kind::Str(text) if &**text == "success");
        let task = match (state_of(a), state_of(b)) {
            (Some(task), _) if success(b) => Some(task),
            (_, Some(task)) if success(a) => Some(task),
            _ => None,
        };
        Self { succeeded: task.into_iter().map(Into::into).collect(), present: Vec::new() }
    }

    fn not_null(a: &Node, b: &Node) -> Self {
        match (&a.kind, &b.kind) {
            (Kind::Null, _) => Self::has(b),
            (_, Kind::Null) => Self::has(a),
            _ => Self::default(),
        }
    }

    /// A value that is there has parents that are.
    fn has(node: &Node) -> Self {
        let mut facts = Self::default();
        let mut node = node;
        loop {
            facts.present.extend(path(node));
            match &node.kind {
                Kind::Field(inner, _) | Kind::Index(inner, _) => node = inner,
                _ => return facts,
            }
        }
    }
}

fn state_of(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Field(task, field) if &**field == "state" => task.task_name(),
        _ => None,
    }
}

/// The text of a path of names, fields and constant keys.
pub(super) fn path(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Name(name) => Some(name.to_string()),
        Kind::Field(inner, field) => Some(format!("{}.{field}", path(inner)?)),
        Kind::Index(inner, key) => match &key.kind {
            Kind::Int(n) => Some(format!("{}[{n}]", path(inner)?)),
            Kind::Str(key) => Some(format!("{}.{key}", path(inner)?)),
            _ => None,
        },
        _ => None,
    }
}
