//! Values with `${{ }}` in them: scanned, checked against what is expected, lowered.

use indexmap::IndexMap;

use super::Lower;
use super::expr::{CheckScope, ExprIssue, Typed, check_with};
use super::python::specialise;
use super::tree::{Entry, Literal, Node, Place, Scalar, Style};
use crate::plan::{Binding, Expr, TextPart};
use crate::types::Type;
use crate::value::Value;

/// Where an expression stands, and what has been referred to from there.
pub(crate) struct Bind<'s> {
    pub(crate) scope: CheckScope<'s>,
    /// Tasks that are referred to, with the place of each.
    pub(crate) tasks: Vec<(String, Place)>,
    /// Whether an expected `datetime_notz` stands for all kinds of datetime, as in Python.
    pub(crate) any_datetime: bool,
}

impl<'s> Bind<'s> {
    pub(crate) fn new(scope: CheckScope<'s>) -> Self {
        Self { scope, tasks: Vec::new(), any_datetime: false }
    }

    /// Binds in another scope at the same place: what is referred to from there counts here.
    pub(crate) fn within<T>(
        &mut self,
        scope: CheckScope<'_>,
        bind: impl FnOnce(&mut Bind<'_>) -> T,
    ) -> T {
        let tasks = std::mem::take(&mut self.tasks);
        let mut inner = Bind { scope, tasks, any_datetime: false };
        let bound = bind(&mut inner);
        self.tasks = inner.tasks;
        bound
    }
}

/// A part of a text, by its place in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    /// The expression between `${{` and `}}`: first byte and length.
    Expr(usize, usize),
}

/// Splits text at its expressions. An error is the byte where one begins that does not end.
pub(crate) fn scan(text: &str) -> Result<Vec<Part>, usize> {
    let (mut parts, mut literal, mut at) = (Vec::new(), String::new(), 0);
    while let Some(found) = text[at..].find("${{") {
        let open = at + found;
        if text[..open].ends_with('$') && open > at {
            literal.push_str(&text[at..open - 1]);
            literal.push_str("${{");
            at = open + 3;
            continue;
        }
        literal.push_str(&text[at..open]);
        let close = end_of(text, open + 3).ok_or(open)?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Expr(open + 3, close - open - 3));
        at = close + 2;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// The `}}` that ends the expression which begins at `from`: not in a string, not in a map.
fn end_of(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut quote) = (from, 0_usize, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(q), b) if b == q => quote = None,
            (Some(_), _) => {}
            (None, b @ (b'\'' | b'"')) => quote = Some(b),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// Whether text holds an expression.
pub(crate) fn has_expression(text: &str) -> bool {
    scan(text).map_or(true, |parts| parts.iter().any(|part| matches!(part, Part::Expr(..))))
}

/// The words of other tools' templates, with ours.
const TEMPLATES: &[(&str, &str)] = &[
    ("ds", "${{ run.logical_date }}"),
    ("ts", "${{ run.logical_time }}"),
    ("ds_nodash", "${{ run.logical_date.format('%Y%m%d') }}"),
    ("logical_date", "${{ run.logical_time }}"),
    ("execution_date", "${{ run.logical_time }}"),
    ("data_interval_start", "${{ run.logical_time }}"),
    ("run_id", "${{ run.id }}"),
];

/// Another tool's template in a text: its place there and what it is here.
fn template(text: &str) -> Option<(usize, usize, String)> {
    let open = text.match_indices("{{").map(|(i, _)| i).find(|i| !text[..*i].ends_with('$'))?;
    let length = text[open..].find("}}")? + 2;
    let inside = text[open + 2..open + length - 2].trim();
    let fixed = super::keys::translate(TEMPLATES, inside).map(str::to_owned);
    let param = |prefix: &str| {
        let name = inside.strip_prefix(prefix)?;
        super::read::is_name(name).then(|| format!("${{{{ params.{name} }}}}"))
    };
    let ours = fixed.or_else(|| param("params.")).or_else(|| param("inputs."))?;
    Some((open, length, ours))
}

impl Lower<'_> {
    /// A value that may hold expressions; checked against `want`, if anything is wanted.
    pub(crate) fn binding(
        &mut self,
        node: &Node,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        match (&node.yaml, want.map(plain)) {
            (super::tree::Yaml::Scalar(scalar), _) => self.scalar_binding(node, scalar, want, bind),
            (super::tree::Yaml::List { items, .. }, want) => {
                self.list_binding(node, items, want, bind)
            }
            (super::tree::Yaml::Map { entries, .. }, want) => {
                self.map_binding(node, entries, want, bind)
            }
        }
    }

    fn scalar_binding(
        &mut self,
        node: &Node,
        scalar: &Scalar,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        let Literal::Str(text) = scalar.literal() else {
            return self.constant(node, self::literal(scalar).ok(), want);
        };
        let parts = self.scan_node(node, text)?;
        match parts.as_slice() {
            [Part::Literal(text)] => self.constant(node, Some(Value::String(text.clone())), want),
            [Part::Expr(at, length)] => {
                let (expr, typed) = self.check_expr(node, text, *at, *length, bind)?;
                let want = want.map(|want| {
                    if bind.any_datetime { specialise(want, &typed.ty) } else { want.clone() }
                });
                self.expect(node.place, want.as_ref(), &typed.ty)?;
                Some((Binding::Expr(expr), typed.ty))
            }
            _ => {
                let parts = self.text_parts(node, text, parts, (bind, false))?;
                self.expect(node.place, want, &Type::Str)?;
                Some((Binding::Text(parts), Type::Str))
            }
        }
    }

    /// A literal, read as the type that is wanted.
    pub(crate) fn constant(
        &mut self,
        node: &Node,
        value: Option<Value>,
        want: Option<&Type>,
    ) -> Option<(Binding, Type)> {
        let Some(value) = value else {
            self.report.error(node.place, "number", "the number cannot be kept as it is written");
            return None;
        };
        let Some(want) = want else {
            let ty = type_of(&value);
            return Some((Binding::Const(value), ty));
        };
        match want.read(value) {
            Ok(value) => Some((Binding::Const(value), want.clone())),
            Err(mismatch) => {
                let text = node.scalar().filter(|s| s.style == Style::Plain && !s.text.is_empty());
                let found = self.report.error(node.place, "type-mismatch", mismatch.to_string());
                if let (Type::Str | Type::Enum(_), Some(scalar)) = (plain(want), text)
                    && !matches!(scalar.literal(), Literal::Str(_))
                {
                    found.hint(format!("put quotes around it: \"{}\"", scalar.text));
                }
                None
            }
        }
    }

    fn list_binding(
        &mut self,
        node: &Node,
        items: &[Node],
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        let inner = match want {
            None | Some(Type::Json) => None,
            Some(Type::List(inner)) => Some(&**inner),
            Some(other) => {
                self.mismatch(node.place, other, "a list");
                return None;
            }
        };
        let bound: Vec<_> = items.iter().map(|item| self.binding(item, inner, bind)).collect();
        let bound: Vec<_> = bound.into_iter().collect::<Option<_>>()?;
        let first = bound.first().map_or(Type::Json, |(_, ty)| ty.clone());
        let same = bound.iter().all(|(_, ty)| *ty == first);
        let item = inner.cloned().unwrap_or(if same { first } else { Type::Json });
        let list: Vec<_> = bound.into_iter().map(|(binding, _)| binding).collect();
        Some((collect_list(list), Type::list(item)))
    }

    fn map_binding(
        &mut self,
        node: &Node,
        entries: &[Entry],
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        if !matches!(want, None | Some(Type::Json | Type::Object(_) | Type::Dict(_))) {
            self.mismatch(node.place, want?, "a map");
            return None;
        }
        if let Some(Type::Object(fields)) = want {
            self.check_fields(node.place, entries, fields);
        }
        let (mut map, mut types, mut whole) = (IndexMap::new(), IndexMap::new(), true);
        for entry in entries {
            let inner = match want {
                Some(Type::Object(fields)) => fields.get(&entry.key),
                Some(Type::Dict(inner)) => Some(&**inner),
                _ => None,
            };
            match self.binding(&entry.value, inner, bind) {
                Some((binding, ty)) => {
                    map.insert(entry.key.clone(), binding);
                    types.insert(entry.key.clone(), ty);
                }
                None => whole = false,
            }
        }
        let ty = match want {
            Some(want @ (Type::Object(_) | Type::Dict(_))) => want.clone(),
            _ => Type::object(types),
        };
        whole.then(|| (collect_map(map), ty))
    }

    /// Fields that are missing or surplus in a map that must be a closed object.
    fn check_fields(&mut self, place: Place, entries: &[Entry], fields: &IndexMap<String, Type>) {
        for entry in entries.iter().filter(|entry| !fields.contains_key(&entry.key)) {
            let hint = self.report.nearest(&entry.key, fields.keys().map(String::as_str));
            let message = format!("there is no field `{}` here", entry.key);
            let found = self.report.error(entry.place, "unknown-field", message);
            if let Some(hint) = hint {
                found.hint(hint);
            }
        }
        for (name, ty) in fields {
            let given = entries.iter().any(|entry| entry.key == *name);
            if !given && !matches!(ty, Type::Nullable(_)) {
                self.report.error(
                    place,
                    "missing-field",
                    format!("the field `{name}` ({ty}) is missing"),
                );
            }
        }
    }

    fn mismatch(&mut self, place: Place, want: &Type, got: &str) {
        self.report.error(place, "type-mismatch", format!("expected {want}, got {got}"));
    }

    /// Whether a value of type `got` may stand where `want` is wanted.
    pub(crate) fn expect(&mut self, place: Place, want: Option<&Type>, got: &Type) -> Option<()> {
        let Some(want) = want else { return Some(()) };
        if want.accepts(got) {
            return Some(());
        }
        let hint = mend(want, got);
        let message = format!("expected {want}, got {got}");
        let found = self.report.error(place, "type-mismatch", message);
        if let Some(hint) = hint {
            found.hint(hint);
        }
        None
    }

    /// A value that becomes text for people and the server.
    pub(crate) fn text_binding(
        &mut self,
        node: &Node,
        what: &str,
        bind: &mut Bind,
    ) -> Option<Binding> {
        self.text_of(node, what, (bind, false))
    }

    /// A value that becomes text for a task, in which files are paths: an entry of `env`, standard
    /// input.
    pub(crate) fn task_text(
        &mut self,
        node: &Node,
        what: &str,
        bind: &mut Bind,
    ) -> Option<Binding> {
        self.text_of(node, what, (bind, true))
    }

    fn text_of(
        &mut self,
        node: &Node,
        what: &str,
        (bind, paths): (&mut Bind, bool),
    ) -> Option<Binding> {
        let scalar = self.must_be_text(node, what)?;
        let parts = match scalar.literal() {
            Literal::Str(text) => self.scan_node(node, text)?,
            _ => return Some(Binding::Const(Value::String(scalar.text.clone()))),
        };
        match parts.as_slice() {
            [Part::Literal(text)] => Some(Binding::Const(Value::String(text.clone()))),
            _ => self.text_parts(node, &scalar.text, parts, (bind, paths)).map(Binding::Text),
        }
    }

    /// A program's arguments.
    pub(crate) fn args_binding(&mut self, items: &[Node], bind: &mut Bind) -> Option<Binding> {
        let args: Vec<_> = items.iter().map(|item| self.arg(item, bind)).collect();
        args.into_iter().collect::<Option<_>>().map(Binding::Args)
    }

    fn arg(&mut self, node: &Node, bind: &mut Bind) -> Option<Binding> {
        let scalar = self.must_be_text(node, "an argument")?;
        let Literal::Str(text) = scalar.literal() else {
            return Some(Binding::Const(Value::String(scalar.text.clone())));
        };
        let parts = self.scan_node(node, text)?;
        match parts.as_slice() {
            [Part::Literal(text)] => Some(Binding::Const(Value::String(text.clone()))),
            [Part::Expr(at, length)] => {
                let (expr, typed) = self.check_expr(node, text, *at, *length, bind)?;
                let fits = typed.as_args(&expr.source);
                fits.map_err(|issue| self.issue(node, *at, text, &issue)).ok()?;
                Some(Binding::Expr(expr))
            }
            _ => self.text_parts(node, text, parts, (bind, true)).map(Binding::Text),
        }
    }

    fn must_be_text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Scalar> {
        let scalar = node.scalar().filter(|scalar| scalar.literal() != Literal::Null);
        if scalar.is_none() {
            let message = format!("{what} becomes text and cannot be {}", node.kind());
            self.report.error(node.place, "not-text", message).hint(
                "join a list with `join(list, ',')` in an expression; quote an empty text: \"\"",
            );
        }
        scalar
    }

    fn text_parts(
        &mut self,
        node: &Node,
        text: &str,
        parts: Vec<Part>,
        (bind, paths): (&mut Bind, bool),
    ) -> Option<Vec<TextPart>> {
        let mut out = Vec::new();
        let mut whole = true;
        for part in parts {
            match part {
                Part::Literal(text) => out.push(TextPart::Literal(text)),
                Part::Expr(at, length) => {
                    let Some((expr, typed)) = self.check_expr(node, text, at, length, bind) else {
                        whole = false;
                        continue;
                    };
                    if let Err(issue) = typed.as_text(&expr.source, paths) {
                        self.issue(node, at, text, &issue);
                        whole = false;
                    }
                    out.push(TextPart::Expr(expr));
                }
            }
        }
        whole.then_some(out)
    }

    /// Splits a node's text at its expressions; another tool's templates are errors.
    fn scan_node(&mut self, node: &Node, text: &str) -> Option<Vec<Part>> {
        if let Some((at, length, ours)) = template(text) {
            let place = node.part(self.report.text(), at, length);
            let theirs = &text[at..at + length];
            self.report
                .error(place, "other-template", format!("`{theirs}` is another tool's template"))
                .hint(format!("here it is `{ours}`"));
            return None;
        }
        match scan(text) {
            Ok(parts) => Some(parts),
            Err(at) => {
                let place = node.part(self.report.text(), at, 3);
                let comment = self.comment_after(node);
                let found = self.report.error(place, "unclosed-expression", "`${{` has no `}}`");
                found.hint(if comment {
                    "the text after ` #` is read as a comment; put quotes around the value"
                } else {
                    "a literal `${{` is written `$${{`"
                });
                None
            }
        }
    }

    /// Whether a comment cuts a plain scalar short on its line.
    fn comment_after(&self, node: &Node) -> bool {
        let plain = node.scalar().is_some_and(|scalar| scalar.style == Style::Plain);
        let rest = self.report.text().get(node.place.end..).and_then(|text| text.lines().next());
        plain && rest.is_some_and(|rest| rest.trim_start().starts_with('#'))
    }

    /// Checks the expression at a place of a node's text.
    fn check_expr(
        &mut self,
        node: &Node,
        text: &str,
        at: usize,
        length: usize,
        bind: &mut Bind,
    ) -> Option<(Expr, Typed)> {
        let raw = &text[at..at + length];
        let source = raw.trim();
        let at = at + (raw.len() - raw.trim_start().len());
        if source.is_empty() {
            let place = node.part(self.report.text(), at, 1);
            self.report.error(place, "empty-expression", "the expression is empty");
            return None;
        }
        match check_with(source, &bind.scope, self.report.suggests()) {
            Ok(typed) => {
                let place = node.part(self.report.text(), at, source.len());
                for task in &typed.tasks {
                    bind.tasks.push((task.clone(), place));
                }
                Some((Expr::new(source), typed))
            }
            Err(issues) => {
                if self.comment_after(node) && source.matches('\'').count() % 2 == 1 {
                    self.report
                        .error(
                            node.place,
                            "comment-in-value",
                            "the value ends before ` #`: what follows is read as a comment",
                        )
                        .hint("put double quotes around the whole value");
                    return None;
                }
                self.report.spend(bind.scope.tasks.len() + bind.scope.params.len());
                for issue in &issues {
                    self.issue(node, at, text, issue);
                }
                None
            }
        }
    }

    /// An expression that is written bare where a value is expected.
    pub(crate) fn reference(
        &mut self,
        node: &Node,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        let text = self.text(node, "`ref`")?;
        let (expr, typed) = self.check_expr(node, text, 0, text.len(), bind)?;
        self.expect(node.place, want, &typed.ty)?;
        Some((Binding::Expr(expr), typed.ty))
    }

    /// Reports what is wrong with an expression that begins at a byte of a node's text.
    fn issue(&mut self, node: &Node, at: usize, text: &str, issue: &ExprIssue) {
        let rest = text.get(at..).unwrap_or("");
        let skipped = rest.len() - rest.trim_start().len();
        let (at, rest) = (at + skipped, rest.trim_start());
        let byte = |n: usize| rest.char_indices().nth(n).map_or(rest.len(), |(i, _)| i);
        let (from, to) = (byte(issue.offset), byte(issue.offset + issue.length));
        let place = node.part(self.report.text(), at + from, (to - from).max(1));
        let found = self.report.error(place, issue.code, issue.message.clone());
        if let Some(hint) = &issue.hint {
            found.hint(hint.clone());
        }
    }

    /// An expression field: bare or in `${{ }}`; one that never changes is an error.
    pub(crate) fn expression(
        &mut self,
        node: &Node,
        what: &str,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Expr, Typed)> {
        let (expr, typed) = self.any_expression(node, what, want, bind)?;
        if typed.constant {
            self.report.error(
                node.place,
                "constant-expression",
                format!("{what} is the same always: it refers to nothing"),
            );
            return None;
        }
        Some((expr, typed))
    }

    /// An expression field that may be the same always.
    pub(crate) fn any_expression(
        &mut self,
        node: &Node,
        what: &str,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Expr, Typed)> {
        let Some(scalar) = node.scalar() else {
            self.wrong(node, &format!("{what} must be an expression"));
            return None;
        };
        let text = &scalar.text;
        let parts = self.scan_node(node, text)?;
        let (expr, typed) = match parts.as_slice() {
            [Part::Literal(_)] => self.check_expr(node, text, 0, text.len(), bind)?,
            [Part::Expr(at, length)] => self.check_expr(node, text, *at, *length, bind)?,
            _ => {
                self.report
                    .error(
                        node.place,
                        "mixed-expression",
                        format!("{what} is one expression, not text with expressions inside"),
                    )
                    .hint("write it without `${{ }}`");
                return None;
            }
        };
        self.expect(node.place, want, &typed.ty)?;
        Some((expr, typed))
    }

    /// Text that may hold no expression.
    pub(crate) fn fixed_text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = self.text(node, what)?;
        if has_expression(text) {
            self.report
                .error(
                    node.place,
                    "expression-not-allowed",
                    format!("{what} cannot hold an expression"),
                )
                .hint("expressions go into inputs, env and arguments");
            return None;
        }
        Some(text)
    }
}

/// A type without its `?`.
pub(crate) fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Nullable(inner) => inner,
        other => other,
    }
}

/// How a value of one type may be made to fit another.
fn mend(want: &Type, got: &Type) -> Option<&'static str> {
    match (want, got) {
        (Type::List(want), Type::List(got)) => match &**got {
            Type::Nullable(inner) if want.accepts(inner) => {
                Some("`succeeded(…)` leaves out those that failed")
            }
            _ => None,
        },
        (want, Type::Nullable(inner)) if want.accepts(inner) => {
            Some("it may be null: give another value with `default(x, y)`")
        }
        (Type::Str, Type::Int | Type::Float | Type::Bool) => {
            Some("write it inside text, or convert it with `string(x)`")
        }
        (Type::Str, Type::List(_)) => Some("join it with `join(x, ',')`"),
        (Type::Int, Type::Float) => Some("convert it with `int(x)`"),
        (Type::Date, Type::Str) => Some("convert it with `date(x)`"),
        _ => None,
    }
}

fn collect_list(items: Vec<Binding>) -> Binding {
    let constants = items.iter().map(constant_of).collect::<Option<Vec<_>>>();
    constants.map_or(Binding::List(items), |values| Binding::Const(Value::Array(values)))
}

pub(crate) fn collect_map(map: IndexMap<String, Binding>) -> Binding {
    let constants = map.iter().map(|(key, item)| Some((key.clone(), constant_of(item)?))).collect();
    match constants {
        Some(values) => Binding::Const(Value::Object(values)),
        None => Binding::Map(map),
    }
}

fn constant_of(binding: &Binding) -> Option<Value> {
    match binding {
        Binding::Const(value) => Some(value.clone()),
        _ => None,
    }
}

/// A scalar as a value. Numbers that JSON or 64 bits cannot hold are errors.
pub(crate) fn literal(scalar: &Scalar) -> Result<Value, ()> {
    match scalar.literal() {
        Literal::Null => Ok(Value::Null),
        Literal::Bool(value) => Ok(Value::Bool(value)),
        Literal::Int(n) => Ok(Value::from(n)),
        Literal::Str(text) => Ok(Value::String(text.to_owned())),
        Literal::Float(n) => {
            let whole = scalar.text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'));
            let number = serde_json::Number::from_f64(n).filter(|_| !whole);
            number.map(Value::Number).ok_or(())
        }
    }
}

/// The type that a literal has by itself.
fn type_of(value: &Value) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Number(n) if n.is_f64() => Type::Float,
        Value::Number(_) => Type::Int,
        Value::String(_) => Type::Str,
        _ => Type::Json,
    }
}
