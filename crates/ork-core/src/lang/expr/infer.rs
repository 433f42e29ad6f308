//! The type of each node.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use super::ast::{Binary, Each, Kind, Macro, Node, Span};
use super::facts::{Facts, path};
use super::{CheckScope, Name, Presence, Problem, scope};
use crate::lang::nearest;
use crate::types::Type;

/// What a node is while it is checked: a type of the language, or what only lives inside
/// expressions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ty {
    /// Not known, since something is wrong there already.
    Wrong,
    /// The literal null.
    Null,
    /// Whole days.
    Days,
    /// A length of time that need not be whole days.
    Time,
    Of(Type),
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("unknown"),
            Self::Null => f.write_str("null"),
            Self::Days => f.write_str("days"),
            Self::Time => f.write_str("a duration"),
            Self::Of(Type::Enum(options)) if options.len() == 1 => f.write_str("str"),
            Self::Of(ty) => ty.fmt(f),
        }
    }
}

pub(super) const BOOL: Ty = Ty::Of(Type::Bool);
pub(super) const INT: Ty = Ty::Of(Type::Int);
pub(super) const FLOAT: Ty = Ty::Of(Type::Float);
pub(super) const STR: Ty = Ty::Of(Type::Str);
pub(super) const JSON: Ty = Ty::Of(Type::Json);

/// Groups of types that the same operators take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Wrong,
    Null,
    Json,
    Bool,
    Int,
    Float,
    Text,
    Day,
    Civil,
    Zoned,
    Days,
    Time,
    List,
    Object,
    File,
    /// May be null.
    Maybe,
}

impl Ty {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Wrong => Class::Wrong,
            Self::Null => Class::Null,
            Self::Days => Class::Days,
            Self::Time => Class::Time,
            Self::Of(ty) => match ty {
                Type::Json => Class::Json,
                Type::Bool => Class::Bool,
                Type::Int => Class::Int,
                Type::Float => Class::Float,
                Type::Str | Type::Enum(_) => Class::Text,
                Type::File => Class::File,
                Type::Date => Class::Day,
                Type::DatetimeNotz => Class::Civil,
                Type::DatetimeTz | Type::DatetimeUtc => Class::Zoned,
                Type::List(_) => Class::List,
                Type::Object(_) | Type::Dict(_) => Class::Object,
                Type::Nullable(_) => Class::Maybe,
            },
        }
    }

    /// Without null.
    pub(super) fn there(self) -> Self {
        match self {
            Self::Of(ty) => Self::Of(ty.non_null().clone()),
            other => other,
        }
    }

    pub(super) fn maybe(self) -> Self {
        match self {
            Self::Of(ty) => Self::Of(ty.nullable()),
            other => other,
        }
    }
}

pub(super) struct Checker<'a> {
    pub(super) source: &'a str,
    pub(super) scope: &'a CheckScope<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) tasks: Vec<String>,
    pub(super) vars: Vec<String>,
    pub(super) secrets: Vec<String>,
    /// Whether names are suggested for those that are not there.
    suggest: bool,
    /// What holds where the checker stands.
    facts: Facts,
    /// Names that macros bind, innermost last.
    bound: Vec<(Arc<str>, Ty)>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a str, scope: &'a CheckScope<'a>, suggest: bool) -> Self {
        let facts = Facts { succeeded: scope.proven.to_vec(), present: Vec::new() };
        Self {
            source,
            scope,
            problems: Vec::new(),
            tasks: Vec::new(),
            vars: Vec::new(),
            secrets: Vec::new(),
            suggest,
            facts,
            bound: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, at: Span, code: &'static str, message: String) -> Ty {
        self.problems.push(Problem::new(at, code, message));
        Ty::Wrong
    }

    pub(super) fn hinted(
        &mut self,
        at: Span,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) -> Ty {
        self.problems.push(Problem { hint, ..Problem::new(at, code, message) });
        Ty::Wrong
    }

    pub(super) fn text(&self, at: Span) -> &'a str {
        self.source.get(at.start..at.end).unwrap_or_default()
    }

    /// The type of a value that leaves the expression or is put into a list or an object.
    pub(super) fn value(&mut self, node: &Node, ty: Ty) -> Type {
        match ty {
            Ty::Of(ty) => ty,
            Ty::Wrong => Type::Json,
            Ty::Null => Type::Json.nullable(),
            Ty::Days | Ty::Time => {
                let message = format!("`{}` is a duration, which is no value", self.text(node.at));
                let hint = "add it to a date or a time, or compare it".to_string();
                self.hinted(node.at, "expr-type", message, Some(hint));
                Type::Json
            }
        }
    }

    /// The type of a node. `lenient`: the value may be absent along the path, as in `has(…)`.
    pub(super) fn infer(&mut self, node: &Node, lenient: bool) -> Ty {
        match &node.kind {
            Kind::Null => Ty::Null,
            Kind::Bool(_) => BOOL,
            Kind::Int(_) => INT,
            Kind::Float(_) => FLOAT,
            Kind::Str(text) => Ty::Of(Type::choice([text.to_string()])),
            Kind::Name(name) => {
                let ty = self.name(name, node.at);
                self.known(node, ty)
            }
            Kind::Field(inner, name) => {
                let ty = self.field(node, inner, name, lenient);
                self.known(node, ty)
            }
            Kind::Index(inner, key) => {
                let ty = self.index(node, inner, key, lenient);
                self.known(node, ty)
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Not(inner) => {
                self.condition(inner);
                BOOL
            }
            Kind::Negate(inner) => self.negate(inner),
            Kind::Binary(op, a, b) => self.binary(*op, a, b, node.at),
            Kind::Choice(condition, then, otherwise) => self.choice(condition, then, otherwise),
            Kind::Call(function, args) => self.call(*function, args, node.at),
            Kind::Has(inner) => {
                self.infer(inner, true);
                BOOL
            }
            Kind::Default(value, fallback) => self.default(value, fallback, node.at),
            Kind::Each(each) => self.each(each),
        }
    }

    /// The type of a path with what the conditions around it prove.
    fn known(&self, node: &Node, ty: Ty) -> Ty {
        let present = || path(node).is_some_and(|path| self.facts.present.contains(&path));
        if ty.class() == Class::Maybe && present() { ty.there() } else { ty }
    }

    fn allows(&self, name: Name) -> bool {
        self.scope.names.contains(&name)
    }

    fn name(&mut self, name: &Arc<str>, at: Span) -> Ty {
        if let Some((_, ty)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return ty.clone();
        }
        if let Some((_, ty)) = self.scope.values.iter().rev().find(|(known, _)| **known == **name) {
            return Ty::Of(ty.clone());
        }
        match scope::root(name) {
            Some(root) if !self.allows(root) => self.not_here(name, at),
            Some(Name::Params) => {
                let fields = self.scope.params.iter();
                let fields = fields.map(|(name, param)| (name.clone(), param.ty.clone())).collect();
                Ty::Of(Type::object(fields))
            }
            Some(Name::Attempt) => INT,
            Some(Name::Error) => Ty::Of(scope::error_type()),
            Some(_) => {
                let hint = scope::usage(name).map(|usage| format!("write `{usage}`"));
                self.hinted(at, "expr-type", format!("`{name}` is no value by itself"), hint)
            }
            None => self.unknown_name(name, at),
        }
    }

    fn not_here(&mut self, name: &str, at: Span) -> Ty {
        if let Some(instead) = scope::later(name) {
            let message = format!("`{name}` is not supported by this version of Ork");
            return self.hinted(at, "unsupported", message, Some(instead.into()));
        }
        let message = format!("`{name}` cannot be used here");
        self.hinted(at, "name-not-here", message, scope::place(name).map(Into::into))
    }

    fn unknown_name(&mut self, name: &str, at: Span) -> Ty {
        if let Some(place) = scope::place(name) {
            let message = format!("`{name}` cannot be used here");
            return self.hinted(at, "name-not-here", message, Some(place.into()));
        }
        let roots = scope::ROOTS.iter().filter(|(_, root)| self.allows(*root));
        let values = self.scope.values.iter().map(|(name, _)| name.as_str());
        let bound = self.bound.iter().map(|(name, _)| &**name).chain(values);
        let hint = if let Some(word) = scope::foreign(name) {
            Some(format!("write `{word}`"))
        } else if self.scope.params.contains_key(name) && self.allows(Name::Params) {
            Some(format!("write `params.{name}`"))
        } else if self.scope.tasks.contains_key(name) && self.allows(Name::Tasks) {
            Some(format!("write `tasks.{name}.output`"))
        } else {
            nearest(name, roots.map(|(name, _)| *name).chain(bound))
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| Some(format!("text stands in single quotes: `'{name}'`")))
        };
        self.hinted(at, "unknown-name", format!("there is no `{name}`"), hint)
    }

    fn field(&mut self, node: &Node, inner: &Node, name: &Arc<str>, lenient: bool) -> Ty {
        if let Some(task) = inner.task_name()
            && !self.bound.iter().any(|(bound, _)| &**bound == "tasks")
        {
            return self.task_field(node, task, inner.at, name);
        }
        if let Kind::Name(root) = &inner.kind
            && !self.bound.iter().any(|(bound, _)| bound == root)
        {
            match scope::root(root) {
                Some(known) if !self.allows(known) => return self.not_here(root, inner.at),
                Some(Name::Tasks) => return self.bare_task(name, node.at),
                Some(Name::Run) => return self.run_field(node, name),
                Some(Name::Vars) => {
                    push(&mut self.vars, name);
                    return JSON;
                }
                Some(Name::Secrets) => {
                    push(&mut self.secrets, name);
                    return STR;
                }
                Some(Name::Params) => return self.param(node, name),
                _ => {}
            }
        }
        let ty = self.infer(inner, lenient);
        self.field_of(node, inner, ty, name, lenient)
    }

    /// Where the last name of a path stands.
    fn last(&self, node: &Node, name: &str) -> Span {
        let text = self.text(node.at).trim_end();
        let end = node.at.start + text.len();
        if text.ends_with(name) { Span { start: end - name.len(), end } } else { node.at }
    }

    fn param(&mut self, node: &Node, name: &Arc<str>) -> Ty {
        if let Some(param) = self.scope.params.get(&**name) {
            return Ty::Of(param.ty.clone());
        }
        let names = self.scope.params.keys().map(String::as_str);
        let near = nearest(name, names.filter(|_| self.suggest));
        let hint = near.map(|near| format!("did you mean `params.{near}`?"));
        let at = self.last(node, name);
        self.hinted(at, "unknown-param", format!("there is no param `{name}`"), hint)
    }

    fn bare_task(&mut self, name: &Arc<str>, at: Span) -> Ty {
        if self.task(name, at).is_none() {
            return Ty::Wrong;
        }
        let hint = format!("write `tasks.{name}.output` or `tasks.{name}.state`");
        self.hinted(at, "expr-type", format!("the task `{name}` is no value by itself"), Some(hint))
    }

    fn task(&mut self, name: &str, at: Span) -> Option<&'a super::TaskType> {
        if let Some(task) = self.scope.tasks.get(name) {
            push(&mut self.tasks, name);
            return Some(task);
        }
        let names = self.scope.tasks.keys().map(String::as_str);
        let near = nearest(name, names.filter(|_| self.suggest));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        self.hinted(
            at,
            "unknown-task",
            format!("there is no task `{name}` to refer to here"),
            hint,
        );
        None
    }

    fn task_field(&mut self, node: &Node, task: &str, at: Span, field: &str) -> Ty {
        if !self.allows(Name::Tasks) {
            return self.not_here("tasks", at);
        }
        let at = Span { start: at.end.saturating_sub(task.len()), end: at.end };
        let Some(known) = self.task(task, at) else { return Ty::Wrong };
        match (field, &known.output) {
            ("state", _) => Ty::Of(scope::task_states()),
            ("output", Some(ty)) => {
                let sure = match known.presence {
                    Presence::ByRule => self.scope.certain,
                    Presence::Always => true,
                    Presence::Maybe => false,
                };
                let ty = Ty::Of(ty.clone());
                let proven = self.facts.succeeded.iter().any(|name| name == task);
                if sure || proven { ty } else { ty.maybe() }
            }
            ("output", None) => {
                let hint = "set its `output_type`, or have it give an output";
                let message = format!("the task `{task}` has no output");
                self.hinted(node.at, "no-output", message, Some(hint.into()))
            }
            _ => {
                let hint = if ["output", "state"]
                    .into_iter()
                    .any(|f| nearest(field, [f].into_iter()).is_some())
                {
                    nearest(field, ["output", "state"].into_iter())
                        .map(|near| format!("did you mean `{near}`?"))
                } else {
                    Some(format!("write `tasks.{task}.output.{field}`"))
                };
                let at = self.last(node, field);
                self.hinted(at, "unknown-field", format!("a task has no `{field}`"), hint)
            }
        }
    }

    fn run_field(&mut self, node: &Node, name: &str) -> Ty {
        let ended = self.allows(Name::RunEnd);
        if let Some(ty) = scope::run_field(name) {
            return Ty::Of(ty);
        }
        match scope::run_end_field(name) {
            Some(ty) if ended => Ty::Of(ty),
            Some(_) => {
                let at = self.last(node, name);
                let message = format!("`run.{name}` cannot be used here");
                self.hinted(
                    at,
                    "name-not-here",
                    message,
                    Some("it is known in `finally` alone".into()),
                )
            }
            None => {
                let at = self.last(node, name);
                let hint = nearest(name, scope::RUN_FIELDS.iter().copied());
                let hint = hint.map(|near| format!("did you mean `run.{near}`?"));
                self.hinted(at, "unknown-field", format!("`run` has no field `{name}`"), hint)
            }
        }
    }

    fn field_of(&mut self, node: &Node, inner: &Node, ty: Ty, name: &str, lenient: bool) -> Ty {
        let owner = self.text(inner.at);
        match ty {
            Ty::Wrong => Ty::Wrong,
            Ty::Of(Type::Json) => JSON,
            Ty::Of(Type::Dict(item)) => Ty::Of((*item).clone()),
            Ty::Of(Type::File) => {
                self.field_of(node, inner, Ty::Of(scope::file_type()), name, lenient)
            }
            Ty::Of(Type::Object(fields)) => fields
                .get(name)
                .cloned()
                .map_or_else(|| self.no_field(node, owner, &fields, name), Ty::Of),
            Ty::Of(Type::Nullable(ty)) if lenient => {
                self.field_of(node, inner, Ty::Of((*ty).clone()), name, lenient).maybe()
            }
            Ty::Of(Type::Nullable(_)) => self.may_be_null(node, owner),
            ty => {
                let at = self.last(node, name);
                let message = format!("`{owner}` is {ty}, which has no fields");
                let hint = match ty.class() {
                    Class::List => Some(format!(
                        "take one item, `{owner}[0].{name}`, or all, `{owner}.map(x, x.{name})`"
                    )),
                    Class::Day | Class::Civil | Class::Zoned => {
                        Some(format!("write `{owner}.format('%Y')`"))
                    }
                    _ => None,
                };
                self.hinted(at, "unknown-field", message, hint)
            }
        }
    }

    fn no_field(
        &mut self,
        node: &Node,
        owner: &str,
        fields: &IndexMap<String, Type>,
        name: &str,
    ) -> Ty {
        let hint = nearest(name, fields.keys().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"))
            .or_else(|| {
                let names: Vec<&str> = fields.keys().map(String::as_str).take(12).collect();
                (!names.is_empty()).then(|| format!("it has {}", names.join(", ")))
            });
        let at = self.last(node, name);
        self.hinted(at, "unknown-field", format!("`{owner}` has no field `{name}`"), hint)
    }

    fn may_be_null(&mut self, node: &Node, owner: &str) -> Ty {
        let whole = self.text(node.at);
        let message = format!("`{owner}` may be null here");
        let hint = format!("guard it with `has({whole})`, or write `default({whole}, …)`");
        self.hinted(node.at, "maybe-null", message, Some(hint))
    }

    fn index(&mut self, node: &Node, inner: &Node, key: &Node, lenient: bool) -> Ty {
        if let Kind::Str(name) = &key.kind
            && matches!(&inner.kind, Kind::Name(root) if scope::root(root).is_some())
        {
            let field = Kind::Field(Box::new(inner.clone()), name.clone());
            return self.infer(&Node { kind: field, at: node.at, height: node.height }, lenient);
        }
        let ty = self.infer(inner, lenient);
        let key_ty = self.infer(key, false);
        self.index_of(node, inner, ty, (key, key_ty), lenient)
    }

    fn index_of(
        &mut self,
        node: &Node,
        inner: &Node,
        ty: Ty,
        key: (&Node, Ty),
        lenient: bool,
    ) -> Ty {
        let owner = self.text(inner.at);
        match (ty, key.1.class()) {
            (Ty::Wrong, _) | (_, Class::Wrong) => Ty::Wrong,
            (Ty::Of(Type::Nullable(ty)), _) if lenient => {
                self.index_of(node, inner, Ty::Of((*ty).clone()), key, lenient).maybe()
            }
            (Ty::Of(Type::Nullable(_)), _) => self.may_be_null(node, owner),
            (Ty::Of(Type::List(item)), Class::Int | Class::Json) => Ty::Of((*item).clone()),
            (Ty::Of(Type::Dict(item)), Class::Text | Class::Json) => Ty::Of((*item).clone()),
            (Ty::Of(Type::Json), Class::Int | Class::Text | Class::Json) => JSON,
            (Ty::Of(Type::Object(fields)), Class::Text) => match &key.0.kind {
                Kind::Str(name) => fields
                    .get(&**name)
                    .cloned()
                    .map_or_else(|| self.no_field(node, owner, &fields, name), Ty::Of),
                _ => {
                    let message = format!(
                        "the fields of `{owner}` are of several types, so its keys must be constant"
                    );
                    self.problem(key.0.at, "expr-type", message)
                }
            },
            (ty, _) => {
                let message = format!("`{owner}` is {ty}, which takes no {} in brackets", key.1);
                self.problem(node.at, "expr-type", message)
            }
        }
    }

    fn list(&mut self, items: &[Node]) -> Ty {
        let mut item: Option<Type> = None;
        let mut has_null = false;
        for node in items {
            let ty = self.infer(node, false);
            if ty == Ty::Null {
                has_null = true;
                continue;
            }
            let ty = self.value(node, ty);
            item = Some(match item {
                Some(before) => unify(&before, &ty).unwrap_or(Type::Json),
                None => ty,
            });
        }
        let item = item.unwrap_or(Type::Json);
        Ty::Of(Type::list(if has_null { item.nullable() } else { item }))
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Ty {
        let mut fields = IndexMap::new();
        let mut constant = true;
        let mut item: Option<Type> = None;
        for (key, value) in entries {
            let key_ty = self.infer(key, false);
            if !matches!(key_ty.class(), Class::Text | Class::Json | Class::Wrong) {
                self.problem(key.at, "expr-type", format!("a key is text, not {key_ty}"));
            }
            let ty = self.infer(value, false);
            let ty = self.value(value, ty);
            item =
                Some(item.map_or(ty.clone(), |before| unify(&before, &ty).unwrap_or(Type::Json)));
            let Kind::Str(name) = &key.kind else {
                constant = false;
                continue;
            };
            if fields.insert(name.to_string(), ty).is_some() {
                self.problem(key.at, "expr-type", format!("the key `{name}` is there twice"));
            }
        }
        if constant {
            return Ty::Of(Type::object(fields));
        }
        Ty::Of(Type::dict(item.unwrap_or(Type::Json)))
    }

    /// Checks a node that must be true or false.
    fn condition(&mut self, node: &Node) {
        let ty = self.infer(node, false);
        match ty.class() {
            Class::Bool | Class::Json | Class::Wrong => {}
            Class::Maybe | Class::Null => {
                self.null_operand(node, &ty);
            }
            class => {
                let text = self.text(node.at);
                let hint = match class {
                    Class::List | Class::Object => Some(format!("write `size({text}) > 0`")),
                    Class::Text => Some(format!("write `{text} != ''`")),
                    Class::Int => Some(format!("write `{text} != 0`")),
                    _ => None,
                };
                let message = format!("`{text}` is {ty}, where true or false is needed");
                self.hinted(node.at, "expr-type", message, hint);
            }
        }
    }

    pub(super) fn null_operand(&mut self, node: &Node, ty: &Ty) -> Ty {
        let text = self.text(node.at);
        if *ty == Ty::Null {
            return self.problem(node.at, "expr-type", "null is of no use here".into());
        }
        let hint = format!("write `default({text}, …)`");
        self.hinted(node.at, "maybe-null", format!("`{text}` may be null"), Some(hint))
    }

    fn negate(&mut self, inner: &Node) -> Ty {
        let ty = self.infer(inner, false);
        match ty.class() {
            Class::Int | Class::Float | Class::Days | Class::Time | Class::Json | Class::Wrong => {
                ty
            }
            Class::Maybe | Class::Null => self.null_operand(inner, &ty),
            _ => {
                let message = format!("`-` takes a number, not {ty}");
                self.problem(inner.at, "expr-type", message)
            }
        }
    }

    fn binary(&mut self, op: Binary, a: &Node, b: &Node, at: Span) -> Ty {
        if matches!(op, Binary::And | Binary::Or) {
            self.condition(a);
            let facts = if op == Binary::And { Facts::when_true(a) } else { Facts::when_false(a) };
            self.with(facts, |checker| checker.condition(b));
            return BOOL;
        }
        let (left, right) = (self.infer(a, false), self.infer(b, false));
        match op {
            Binary::Eq | Binary::NotEq => self.equality((a, &left), (b, &right), at),
            Binary::In => self.membership((a, &left), (b, &right), at),
            _ => self.operator(op, (a, &left), (b, &right), at),
        }
    }

    fn with<T>(&mut self, facts: Facts, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.facts.clone();
        self.facts = before.clone().and(facts);
        let done = check(self);
        self.facts = before;
        done
    }

    fn choice(&mut self, condition: &Node, then: &Node, otherwise: &Node) -> Ty {
        self.condition(condition);
        let left = self.with(Facts::when_true(condition), |checker| checker.infer(then, false));
        let right = self.with(Facts::when_false(condition), |c| c.infer(otherwise, false));
        let at = then.at.to(otherwise.at);
        self.merge((then, left), (otherwise, right), at)
    }

    /// The type of what is one or the other.
    fn merge(&mut self, a: (&Node, Ty), b: (&Node, Ty), at: Span) -> Ty {
        let empty = |node: &Node| matches!(&node.kind, Kind::List(items) if items.is_empty());
        match (&a.1, &b.1) {
            (Ty::Wrong, _) | (_, Ty::Wrong) => Ty::Wrong,
            (Ty::Null, other) | (other, Ty::Null) => other.clone().maybe(),
            (_, Ty::Of(Type::List(_))) if empty(a.0) => b.1,
            (Ty::Of(Type::List(_)), _) if empty(b.0) => a.1,
            (Ty::Days | Ty::Time, Ty::Days | Ty::Time) => {
                if a.1 == b.1 {
                    a.1
                } else {
                    Ty::Time
                }
            }
            (Ty::Of(left), Ty::Of(right)) => match unify(left, right) {
                Some(ty) => Ty::Of(ty),
                None => self.unlike(&a.1, &b.1, at),
            },
            _ => self.unlike(&a.1, &b.1, at),
        }
    }

    fn unlike(&mut self, a: &Ty, b: &Ty, at: Span) -> Ty {
        let numbers = matches!(
            (a.class(), b.class()),
            (Class::Int, Class::Float) | (Class::Float, Class::Int)
        );
        let hint = numbers.then(|| "make the int a float: `double(x)`, or `1.0` for `1`".into());
        self.hinted(at, "expr-type", format!("one is {a}, the other {b}"), hint)
    }

    fn default(&mut self, value: &Node, fallback: &Node, at: Span) -> Ty {
        let ty = self.infer(value, true);
        let other = self.infer(fallback, false);
        if ty == Ty::Null {
            return other;
        }
        if let (Ty::Of(ty), Ty::Of(Type::Enum(options))) = (ty.clone().there(), &other)
            && let Type::Enum(known) = &ty
            && options.len() == 1
            && !known.contains(&options[0])
        {
            return STR;
        }
        self.merge((value, ty.there()), (fallback, other), at)
    }

    fn each(&mut self, each: &Each) -> Ty {
        let list = self.infer(&each.list, false);
        let item = match &list {
            Ty::Of(Type::List(item)) => Ty::Of((**item).clone()),
            Ty::Of(Type::Object(_) | Type::Dict(_)) => STR,
            Ty::Of(Type::Json) => JSON,
            Ty::Wrong => Ty::Wrong,
            Ty::Null | Ty::Of(Type::Nullable(_)) => self.null_operand(&each.list, &list),
            _ => {
                let text = self.text(each.list.at);
                let message = format!("`{text}` is {list}, not a list");
                self.problem(each.list.at, "expr-type", message)
            }
        };
        if scope::root(&each.var).is_some() || self.bound.iter().any(|(name, _)| *name == each.var)
        {
            let message = format!("`{}` is a name already", each.var);
            self.hinted(
                each.body.at,
                "expr-type",
                message,
                Some("name the items otherwise".into()),
            );
        }
        self.bound.push((each.var.clone(), item.clone()));
        let ty = self.each_body(each, &list, &item);
        self.bound.pop();
        ty
    }

    fn each_body(&mut self, each: &Each, list: &Ty, item: &Ty) -> Ty {
        if each.how != Macro::Map {
            self.condition(&each.body);
            return match (each.how, list, item) {
                (Macro::Filter, Ty::Of(Type::Object(_) | Type::Dict(_)), _) => {
                    Ty::Of(Type::list(Type::Str))
                }
                (Macro::Filter, Ty::Of(Type::List(_)), Ty::Of(item)) => {
                    Ty::Of(Type::list(Self::filtered(each, item)))
                }
                (Macro::Filter, Ty::Of(Type::Json), _) => Ty::Of(Type::list(Type::Json)),
                (Macro::Filter, _, _) => Ty::Wrong,
                _ => BOOL,
            };
        }
        let facts = each.only.as_ref().map(|only| {
            self.condition(only);
            Facts::when_true(only)
        });
        let body = self.with(facts.unwrap_or_default(), |checker| checker.infer(&each.body, false));
        Ty::Of(Type::list(self.value(&each.body, body)))
    }

    /// `list.filter(x, x != null)` leaves no nulls.
    fn filtered(each: &Each, item: &Type) -> Type {
        let facts = Facts::when_true(&each.body);
        let there = facts.present.iter().any(|path| **path == *each.var);
        if there { item.non_null().clone() } else { item.clone() }
    }
}

pub(super) fn push(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.into());
    }
}

/// The type that both fit, when there is one without coercion.
pub(crate) fn unify(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Type::Nullable(x), y) | (y, Type::Nullable(x)) => {
            unify(x, y.non_null()).map(Type::nullable)
        }
        (Type::Json, _) | (_, Type::Json) => Some(Type::Json),
        (Type::Enum(x), Type::Enum(y)) => {
            let mut options = x.to_vec();
            options.extend(y.iter().filter(|option| !x.contains(option)).cloned());
            Some(Type::choice(options))
        }
        (Type::Str, Type::Enum(_)) | (Type::Enum(_), Type::Str) => Some(Type::Str),
        (Type::DatetimeTz, Type::DatetimeUtc) | (Type::DatetimeUtc, Type::DatetimeTz) => {
            Some(Type::DatetimeTz)
        }
        (Type::List(x), Type::List(y)) => unify(x, y).map(Type::list),
        (Type::Dict(x), Type::Dict(y)) => unify(x, y).map(Type::dict),
        (Type::Object(x), Type::Object(y)) => unify_objects(x, y),
        _ => None,
    }
}

fn unify_objects(x: &IndexMap<String, Type>, y: &IndexMap<String, Type>) -> Option<Type> {
    if x.len() != y.len() {
        return None;
    }
    let fields: Option<IndexMap<String, Type>> =
        x.iter().map(|(name, ty)| Some((name.clone(), unify(ty, y.get(name)?)?))).collect();
    fields.map(Type::object)
}
