//! Evaluation: a walk over the tree, bounded in steps.
//!
//! Our own, since the `cel` crate's has no bound on steps, knows neither days nor zones, and would
//! copy every output it looks into.

use std::borrow::Cow;
use std::sync::Arc;

use super::ast::{Binary, Each, Function, Kind, Macro, Node, Span};
use super::program::{Bindings, Program};
use super::value::{Duration, MAX_LIST, Val, format, read_pattern, read_zone};
use super::{Env, EvalError};
use crate::types::{Moment, Type};
use crate::value::Data;

/// The most steps that one evaluation may take: nodes, and items and bytes that it makes.
const MAX_STEPS: usize = 1_000_000;
/// So many bytes of new text count as one step.
const BYTES_A_STEP: usize = 64;
/// The longest text that an expression makes, in bytes.
const MAX_TEXT: usize = 1 << 20;

pub(super) type Evaluated<'v> = Result<Val<'v>, EvalError>;

pub(super) fn failed<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Failed(message.into()))
}

pub(super) struct Evaluator<'v> {
    pub(super) source: &'v str,
    pub(super) program: &'v Program,
    pub(super) env: &'v dyn Env,
    pub(super) bindings: &'v Bindings<'v>,
    pub(super) bound: Vec<(&'v Arc<str>, Val<'v>)>,
    pub(super) steps: usize,
}

impl<'v> Evaluator<'v> {
    fn text(&self, at: Span) -> &'v str {
        self.source.get(at.start..at.end).unwrap_or_default()
    }

    fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            return failed(format!("`{}` takes more than {MAX_STEPS} steps", self.source));
        }
        Ok(())
    }

    fn new_text(&mut self, text: String) -> Evaluated<'v> {
        if text.len() > MAX_TEXT {
            return failed(format!("`{}` makes a text of more than {MAX_TEXT} bytes", self.source));
        }
        self.spend(text.len() / BYTES_A_STEP)?;
        Ok(Val::text(text))
    }

    fn new_list(&mut self, items: Vec<Val<'v>>) -> Evaluated<'v> {
        if items.len() > MAX_LIST {
            return failed(format!("`{}` makes a list of more than {MAX_LIST} items", self.source));
        }
        self.spend(items.len())?;
        Ok(Val::list(items))
    }

    /// `lenient`: what is not there is null, as in `has(…)`.
    pub(super) fn eval(&mut self, node: &'v Node, lenient: bool) -> Evaluated<'v> {
        self.spend(1)?;
        match &node.kind {
            Kind::Null => Ok(Val::Null),
            Kind::Bool(flag) => Ok(Val::Bool(*flag)),
            Kind::Int(n) => Ok(Val::Int(*n)),
            Kind::Float(n) => Ok(Val::Float(*n)),
            Kind::Str(text) => Ok(Val::Str(Cow::Borrowed(text))),
            Kind::Name(name) => self.name(name),
            Kind::Field(inner, name) => self.field(inner, name, lenient),
            Kind::Index(inner, key) => self.index(inner, key, lenient),
            Kind::List(items) => {
                let items: Result<Vec<_>, _> =
                    items.iter().map(|item| self.eval(item, false)).collect();
                self.new_list(items?)
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Not(inner) => Ok(Val::Bool(!self.condition(inner)?)),
            Kind::Negate(inner) => self.negate(inner),
            Kind::Binary(op, a, b) => self.binary(*op, a, b, node.at),
            Kind::Choice(condition, then, otherwise) => {
                let chosen = if self.condition(condition)? { then } else { otherwise };
                self.eval(chosen, false)
            }
            Kind::Call(function, args) => self.call(*function, args, node.at),
            Kind::Has(inner) => Ok(Val::Bool(!matches!(self.eval(inner, true)?, Val::Null))),
            Kind::Default(value, fallback) => match self.eval(value, true)? {
                Val::Null => self.eval(fallback, false),
                value => Ok(value),
            },
            Kind::Each(each) => self.each(each),
        }
    }

    fn name(&mut self, name: &'v Arc<str>) -> Evaluated<'v> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| **bound == *name) {
            return Ok(value.clone());
        }
        match &**name {
            "params" => {
                let (values, _) = self.env.params();
                Ok(Val::of(values, None))
            }
            "run" => Ok(self
                .bindings
                .run
                .as_ref()
                .map_or(Val::Null, |run| Val::of(run, Some(super::program::run_type())))),
            _ => match self.bindings.others.iter().find(|(other, _)| other == name) {
                Some((_, named)) => Ok(Val::of(&named.value, named.ty)),
                None => failed(format!("`{name}` is not known here")),
            },
        }
    }

    fn field(&mut self, inner: &'v Node, name: &'v str, lenient: bool) -> Evaluated<'v> {
        if let Kind::Name(root) = &inner.kind
            && &**root == "params"
        {
            return self.param(name, lenient);
        }
        if let Some(task) = inner.task_name() {
            return self.task(task, name);
        }
        let owner = self.eval(inner, lenient)?;
        self.field_of(inner, &owner, name, lenient)
    }

    fn field_of(&self, inner: &Node, owner: &Val<'v>, name: &str, lenient: bool) -> Evaluated<'v> {
        match owner.field(name) {
            Some(Some(value)) => Ok(value),
            Some(None) if lenient => Ok(Val::Null),
            None if lenient && matches!(owner, Val::Null) => Ok(Val::Null),
            Some(None) => failed(format!("`{}` has no field `{name}`", self.text(inner.at))),
            None => failed(format!(
                "`{}` is {}, which has no field `{name}`",
                self.text(inner.at),
                owner.describe()
            )),
        }
    }

    fn param(&self, name: &str, lenient: bool) -> Evaluated<'v> {
        let (values, params) = self.env.params();
        let ty = params.get(name).map(|param| &param.ty);
        match values.get(name) {
            Some(value) => Ok(Val::of(value, ty)),
            None if lenient || matches!(ty, Some(Type::Nullable(_))) => Ok(Val::Null),
            None => failed(format!("there is no param `{name}`")),
        }
    }

    fn task(&self, name: &str, field: &str) -> Evaluated<'v> {
        let Some(task) = self.env.task(name) else {
            return failed(format!("there is no task `{name}`"));
        };
        if field == "state" {
            return match serde_json::to_value(task.state) {
                Ok(serde_json::Value::String(state)) => Ok(Val::text(state)),
                _ => failed(format!("the state of `{name}` is not known")),
            };
        }
        match task.output {
            None => Ok(Val::Null),
            Some(Data::Inline(value)) => Ok(Val::of(value, task.output_type)),
            Some(Data::Blob { digest, .. }) => {
                let found = self.bindings.blobs.iter().find(|(known, _)| known == digest);
                match found {
                    Some((_, value)) => Ok(Val::of(value, task.output_type)),
                    None => Err(EvalError::Need(vec![*digest])),
                }
            }
        }
    }

    fn index(&mut self, inner: &'v Node, key: &'v Node, lenient: bool) -> Evaluated<'v> {
        if let Kind::Str(name) = &key.kind {
            return self.field(inner, name, lenient);
        }
        let owner = self.eval(inner, lenient)?;
        let key = self.eval(key, false)?;
        let found = match &key {
            Val::Str(name) => return self.field_of(inner, &owner, name, lenient),
            Val::Int(index) => owner.item(*index),
            _ => None,
        };
        match found {
            Some(Some(value)) => Ok(value),
            Some(None) if lenient => Ok(Val::Null),
            None if lenient && matches!(owner, Val::Null) => Ok(Val::Null),
            Some(None) => failed(format!(
                "`{}` is {}: it has no item {}",
                self.text(inner.at),
                owner.describe(),
                key.to_text().unwrap_or_default()
            )),
            None => failed(format!(
                "`{}` is {}, which takes no {} in brackets",
                self.text(inner.at),
                owner.describe(),
                key.describe()
            )),
        }
    }

    fn map(&mut self, entries: &'v [(Node, Node)]) -> Evaluated<'v> {
        let mut fields: Vec<(Cow<'v, str>, Val<'v>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = match self.eval(key, false)? {
                Val::Str(name) => name,
                other => return failed(format!("a key is text, not {}", other.describe())),
            };
            if fields.iter().any(|(known, _)| *known == name) {
                return failed(format!("the key `{name}` is there twice"));
            }
            fields.push((name, self.eval(value, false)?));
        }
        Ok(Val::Map(fields.into()))
    }

    fn condition(&mut self, node: &'v Node) -> Result<bool, EvalError> {
        match self.eval(node, false)? {
            Val::Bool(flag) => Ok(flag),
            other => failed(format!(
                "`{}` is {}, where true or false is needed",
                self.text(node.at),
                other.describe()
            )),
        }
    }

    fn negate(&mut self, inner: &'v Node) -> Evaluated<'v> {
        let negated = match self.eval(inner, false)? {
            Val::Int(n) => n.checked_neg().map(Val::Int),
            Val::Float(n) => Some(Val::Float(-n)),
            Val::Duration(d) => d.checked_mul(-1).map(Val::Duration),
            other => return failed(format!("`-` takes a number, not {}", other.describe())),
        };
        negated.map_or_else(|| failed(format!("`-{}` is out of range", self.text(inner.at))), Ok)
    }

    fn binary(&mut self, op: Binary, a: &'v Node, b: &'v Node, at: Span) -> Evaluated<'v> {
        match op {
            Binary::And => return Ok(Val::Bool(self.condition(a)? && self.condition(b)?)),
            Binary::Or => return Ok(Val::Bool(self.condition(a)? || self.condition(b)?)),
            _ => {}
        }
        let (left, right) = (self.eval(a, false)?, self.eval(b, false)?);
        self.spend(
            left.size().unwrap_or(0).min(right.size().unwrap_or(usize::MAX)) / BYTES_A_STEP,
        )?;
        match op {
            Binary::Eq => Ok(Val::Bool(left.equals(&right))),
            Binary::NotEq => Ok(Val::Bool(!left.equals(&right))),
            Binary::In => self.contains(&left, &right),
            Binary::Less | Binary::LessEq | Binary::Greater | Binary::GreaterEq => {
                compare(op, &left, &right)
            }
            _ => self.arithmetic(op, &left, &right, at),
        }
    }

    fn contains(&mut self, item: &Val<'v>, list: &Val<'v>) -> Evaluated<'v> {
        let Some(items) = list.items() else {
            return failed(format!("`in` looks into a list or an object, not {}", list.describe()));
        };
        self.spend(items.len())?;
        Ok(Val::Bool(items.iter().any(|known| known.equals(item))))
    }

    fn arithmetic(&mut self, op: Binary, a: &Val<'v>, b: &Val<'v>, at: Span) -> Evaluated<'v> {
        match (op, a, b) {
            (Binary::Add, Val::Str(a), Val::Str(b)) => return self.new_text(format!("{a}{b}")),
            (Binary::Add, _, _) if a.is_list() && b.is_list() => {
                let mut items = a.items().unwrap_or_default();
                items.extend(b.items().unwrap_or_default());
                return self.new_list(items);
            }
            _ => {}
        }
        let Some(result) = calculate(op, a, b) else {
            let sign = op.sign();
            return failed(format!("`{sign}` does not take {} and {}", a.describe(), b.describe()));
        };
        result.map_or_else(|why| failed(format!("`{}`: {why}", self.text(at))), Ok)
    }

    fn each(&mut self, each: &'v Each) -> Evaluated<'v> {
        let list = self.eval(&each.list, false)?;
        let Some(items) = list.items() else {
            let text = self.text(each.list.at);
            return failed(format!("`{text}` is {}, not a list", list.describe()));
        };
        self.spend(items.len())?;
        let mut out = Vec::new();
        let mut found = 0;
        for item in items {
            self.bound.push((&each.var, item));
            let step = self.each_item(each);
            let item = self.bound.pop().map_or(Val::Null, |(_, item)| item);
            match (each.how, step?) {
                (Macro::Map, Some(value)) => out.push(value),
                (Macro::Filter, Some(_)) => out.push(item),
                (Macro::Exists, Some(_)) => return Ok(Val::Bool(true)),
                (Macro::All, None) => return Ok(Val::Bool(false)),
                (_, Some(_)) => found += 1,
                (_, None) => {}
            }
        }
        match each.how {
            Macro::Map | Macro::Filter => self.new_list(out),
            Macro::All => Ok(Val::Bool(true)),
            Macro::Exists => Ok(Val::Bool(false)),
            Macro::ExistsOne => Ok(Val::Bool(found == 1)),
        }
    }

    /// What an item is mapped to, or something when its condition holds.
    fn each_item(&mut self, each: &'v Each) -> Result<Option<Val<'v>>, EvalError> {
        if let Some(only) = &each.only
            && !self.condition(only)?
        {
            return Ok(None);
        }
        if each.how == Macro::Map {
            return self.eval(&each.body, false).map(Some);
        }
        Ok(self.condition(&each.body)?.then_some(Val::Null))
    }

    fn call(&mut self, function: Function, args: &'v [Node], at: Span) -> Evaluated<'v> {
        let values: Result<Vec<_>, _> = args.iter().map(|arg| self.eval(arg, false)).collect();
        let values = values?;
        self.spend(values.iter().filter_map(Val::size).sum::<usize>() / BYTES_A_STEP)?;
        match (function, values.as_slice()) {
            (Function::Days, [Val::Int(n)]) => Ok(days(*n)),
            (Function::Hours, [Val::Int(n)]) => self.clock(*n, 3600, at),
            (Function::Minutes, [Val::Int(n)]) => self.clock(*n, 60, at),
            (Function::Range, [Val::Int(end)]) => self.range(0, *end),
            (Function::Range, [Val::Int(start), Val::Int(end)]) => self.range(*start, *end),
            (Function::Date, [value]) => date(value),
            (Function::Format, [Val::Moment(moment), Val::Str(pattern)]) => {
                let text = format(pattern, moment).map_err(EvalError::Failed)?;
                self.new_text(text)
            }
            (Function::InZone, [Val::Moment(moment), Val::Str(zone)]) => in_zone(moment, zone),
            (Function::Size, [value]) => match value.size().map(i64::try_from) {
                Some(Ok(size)) => Ok(Val::Int(size)),
                _ => Self::misused(function, &values),
            },
            (Function::Sum | Function::Min | Function::Max, _) => self.fold(function, values, at),
            (Function::Join, [list, Val::Str(separator)]) => self.join(list, separator),
            (Function::Split, [Val::Str(text), Val::Str(separator)]) => self.split(text, separator),
            (Function::Succeeded, [list]) => match list.items() {
                Some(items) => {
                    self.new_list(items.into_iter().filter(|i| !matches!(i, Val::Null)).collect())
                }
                None => Self::misused(function, &values),
            },
            (Function::Int, [value]) => to_int(value),
            (Function::Double, [value]) => to_double(value),
            (Function::String, [value]) => match value.to_text() {
                Some(text) => self.new_text(text),
                None => Self::misused(function, &values),
            },
            (Function::Contains, [Val::Str(a), Val::Str(b)]) => Ok(Val::Bool(a.contains(&**b))),
            (Function::StartsWith, [Val::Str(a), Val::Str(b)]) => {
                Ok(Val::Bool(a.starts_with(&**b)))
            }
            (Function::EndsWith, [Val::Str(a), Val::Str(b)]) => Ok(Val::Bool(a.ends_with(&**b))),
            (Function::Matches, [Val::Str(text), Val::Str(pattern)]) => self.matches(text, pattern),
            _ => Self::misused(function, &values),
        }
    }

    fn misused<T>(function: Function, values: &[Val<'v>]) -> Result<T, EvalError> {
        let (name, .., usage) = function.shape();
        let given: Vec<String> = values.iter().map(Val::describe).collect();
        failed(format!("`{name}` does not take {}; write `{usage}`", given.join(" and ")))
    }

    fn clock(&self, n: i64, seconds: i64, at: Span) -> Evaluated<'v> {
        match n.checked_mul(seconds) {
            Some(seconds) => Ok(Val::Duration(Duration { seconds, ..Duration::ZERO })),
            None => failed(format!("`{}` is too long a time", self.text(at))),
        }
    }

    fn range(&mut self, start: i64, end: i64) -> Evaluated<'v> {
        let size = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        if size > MAX_LIST {
            return failed(format!("`{}` makes a list of more than {MAX_LIST} items", self.source));
        }
        self.new_list((start..end).map(Val::Int).collect())
    }

    fn matches(&self, text: &str, pattern: &str) -> Evaluated<'v> {
        if let Some((_, regex)) =
            self.program.patterns.iter().find(|(known, _)| **known == *pattern)
        {
            return Ok(Val::Bool(regex.is_match(text)));
        }
        let regex = read_pattern(pattern).map_err(EvalError::Failed)?;
        Ok(Val::Bool(regex.is_match(text)))
    }

    fn join(&mut self, list: &Val<'v>, separator: &str) -> Evaluated<'v> {
        let Some(items) = list.items().filter(|_| list.is_list()) else {
            return failed(format!("`join` takes a list, not {}", list.describe()));
        };
        self.spend(items.len())?;
        let mut joined = String::new();
        for (i, item) in items.iter().enumerate() {
            let Some(text) = item.to_text() else {
                return failed(format!(
                    "`join`: item {i} is {}, which is no text",
                    item.describe()
                ));
            };
            if i > 0 {
                joined.push_str(separator);
            }
            joined.push_str(&text);
            if joined.len() > MAX_TEXT {
                break;
            }
        }
        self.new_text(joined)
    }

    fn split(&mut self, text: &str, separator: &str) -> Evaluated<'v> {
        if separator.is_empty() {
            return self.new_list(text.chars().take(MAX_LIST + 1).map(Val::text).collect());
        }
        self.new_list(text.split(separator).take(MAX_LIST + 1).map(Val::text).collect())
    }

    fn fold(&mut self, function: Function, values: Vec<Val<'v>>, at: Span) -> Evaluated<'v> {
        let items = match values.as_slice() {
            [list] => match list.items().filter(|_| list.is_list()) {
                Some(items) => items,
                None => return Self::misused(function, &values),
            },
            _ => values,
        };
        self.spend(items.len())?;
        let mut items = items.into_iter();
        let Some(mut folded) = items.next() else {
            return match function {
                Function::Sum => Ok(Val::Int(0)),
                _ => failed(format!("`{}`: the list is empty", self.text(at))),
            };
        };
        if function == Function::Sum && !matches!(folded, Val::Int(_) | Val::Float(_)) {
            return Self::misused(function, &[folded]);
        }
        for item in items {
            folded = match function {
                Function::Sum => self.arithmetic(Binary::Add, &folded, &item, at)?,
                _ => Self::extreme(function, folded, item)?,
            };
        }
        Ok(folded)
    }

    fn extreme(function: Function, a: Val<'v>, b: Val<'v>) -> Evaluated<'v> {
        use std::cmp::Ordering::{Greater, Less};
        match (function, a.order(&b)) {
            (Function::Min, Some(Greater)) | (Function::Max, Some(Less)) => Ok(b),
            (_, Some(_)) => Ok(a),
            _ => Self::misused(function, &[a, b]),
        }
    }
}

fn compare<'v>(op: Binary, a: &Val<'v>, b: &Val<'v>) -> Evaluated<'v> {
    let both_floats = matches!((a, b), (Val::Int(_) | Val::Float(_), Val::Int(_) | Val::Float(_)));
    let Some(order) = a.order(b) else {
        if both_floats {
            return Ok(Val::Bool(false));
        }
        return failed(format!(
            "`{}` does not take {} and {}",
            op.sign(),
            a.describe(),
            b.describe()
        ));
    };
    Ok(Val::Bool(match op {
        Binary::Less => order.is_lt(),
        Binary::LessEq => order.is_le(),
        Binary::Greater => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// None when the operator does not take these; else the value, or why there is none.
#[allow(clippy::cast_precision_loss)]
fn calculate<'v>(op: Binary, a: &Val<'v>, b: &Val<'v>) -> Option<Result<Val<'v>, &'static str>> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(integers(op, *a, *b).map(Val::Int)),
        (Val::Float(a), Val::Float(b)) => floats(op, *a, *b),
        (Val::Int(a), Val::Float(b)) => floats(op, *a as f64, *b),
        (Val::Float(a), Val::Int(b)) => floats(op, *a, *b as f64),
        _ => moments(op, a, b),
    }
}

fn integers(op: Binary, a: i64, b: i64) -> Result<i64, &'static str> {
    if b == 0 && matches!(op, Binary::Divide | Binary::Modulo) {
        return Err("division by zero");
    }
    let result = match op {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    result.ok_or("the result does not fit a 64-bit integer")
}

fn floats<'v>(op: Binary, a: f64, b: f64) -> Option<Result<Val<'v>, &'static str>> {
    Some(Ok(Val::Float(match op {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        _ => return None,
    })))
}

fn moments<'v>(op: Binary, a: &Val<'v>, b: &Val<'v>) -> Option<Result<Val<'v>, &'static str>> {
    const FAR: &str = "that is out of range";
    let moment = |moment: Option<Moment>| moment.map(Val::Moment).ok_or(FAR);
    let duration = |duration: Option<Duration>| duration.map(Val::Duration).ok_or(FAR);
    Some(match (op, a, b) {
        (Binary::Add, Val::Moment(m), Val::Duration(d))
        | (Binary::Add, Val::Duration(d), Val::Moment(m)) => moment(d.after(m)),
        (Binary::Subtract, Val::Moment(m), Val::Duration(d)) => {
            moment(d.checked_mul(-1).and_then(|d| d.after(m)))
        }
        (Binary::Add, Val::Duration(a), Val::Duration(b)) => duration(a.checked_add(*b)),
        (Binary::Subtract, Val::Duration(a), Val::Duration(b)) => {
            duration(b.checked_mul(-1).and_then(|b| a.checked_add(b)))
        }
        (Binary::Multiply, Val::Duration(d), Val::Int(n))
        | (Binary::Multiply, Val::Int(n), Val::Duration(d)) => duration(d.checked_mul(*n)),
        (Binary::Subtract, Val::Moment(a), Val::Moment(b)) => Ok(Val::Duration(between(a, b)?)),
        _ => return None,
    })
}

/// From `b` to `a`: days between days, time by the clock between times.
fn between(a: &Moment, b: &Moment) -> Option<Duration> {
    match (a, b) {
        (Moment::Day(a), Moment::Day(b)) => {
            let days = a.duration_since(*b).as_hours() / 24;
            Some(Duration { days, ..Duration::ZERO })
        }
        (Moment::Civil(a), Moment::Civil(b)) => Some(Duration::from_clock(a.duration_since(*b))),
        (Moment::Zoned(a), Moment::Zoned(b)) => {
            Some(Duration::from_clock(a.timestamp().duration_since(b.timestamp())))
        }
        _ => None,
    }
}

fn days<'v>(days: i64) -> Val<'v> {
    Val::Duration(Duration { days, ..Duration::ZERO })
}

fn date<'v>(value: &Val<'v>) -> Evaluated<'v> {
    let moment = match value {
        Val::Moment(moment) => Some(moment.clone()),
        Val::Str(text) => Moment::parse(text),
        _ => None,
    };
    match moment {
        Some(Moment::Day(day)) => Ok(Val::Moment(Moment::Day(day))),
        Some(Moment::Civil(time)) => Ok(Val::Moment(Moment::Day(time.date()))),
        Some(Moment::Zoned(time)) => Ok(Val::Moment(Moment::Day(time.date()))),
        None => failed(format!("`date`: {} is no date", value.describe())),
    }
}

fn in_zone<'v>(moment: &Moment, name: &str) -> Evaluated<'v> {
    let zone = read_zone(name).map_err(EvalError::Failed)?;
    let zoned = match moment {
        Moment::Civil(time) => time.to_zoned_datetime(zone).ok(),
        Moment::Zoned(time) => Some(time.with_time_zone(zone)),
        Moment::Day(_) => None,
    };
    match zoned {
        Some(time) => Ok(Val::Moment(Moment::Zoned(time))),
        None => {
            failed(format!("`in_zone` does not take {}", Val::Moment(moment.clone()).describe()))
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn to_int<'v>(value: &Val<'v>) -> Evaluated<'v> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    let n = match value {
        Val::Int(n) => Some(*n),
        Val::Float(n) if n.abs() < TWO_63 => Some(n.trunc() as i64),
        Val::Str(text) => text.parse().ok(),
        _ => None,
    };
    n.map_or_else(
        || failed(format!("`int`: {} is no integer", value.describe())),
        |n| Ok(Val::Int(n)),
    )
}

#[allow(clippy::cast_precision_loss)]
fn to_double<'v>(value: &Val<'v>) -> Evaluated<'v> {
    let n = match value {
        Val::Int(n) => Some(*n as f64),
        Val::Float(n) => Some(*n),
        Val::Str(text) => text.parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    };
    n.map_or_else(
        || failed(format!("`double`: {} is no number", value.describe())),
        |n| Ok(Val::Float(n)),
    )
}
