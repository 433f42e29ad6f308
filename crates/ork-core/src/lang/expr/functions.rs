//! What operators and functions take and give.

use super::Problem;
use super::ast::{Binary, Function, Kind, Node, Span};
use super::infer::{BOOL, Checker, Class, FLOAT, INT, JSON, STR, Ty, unify};
use super::value::{format_problem, read_pattern, read_zone};
use crate::lang::nearest;
use crate::types::Type;

type Side<'n> = (&'n Node, &'n Ty);

impl Checker<'_> {
    pub(super) fn equality(&mut self, a: Side<'_>, b: Side<'_>, at: Span) -> Ty {
        if self.unknown_option(a, b) || self.unknown_option(b, a) {
            return Ty::Wrong;
        }
        if comparable(a.1, b.1) {
            return BOOL;
        }
        let message = format!("{} and {} are never equal", a.1, b.1);
        let hint = moment_hint(a, b, self).or_else(|| moment_hint(b, a, self));
        self.hinted(at, "expr-type", message, hint)
    }

    /// Whether a text is compared with an enum that does not have it; says so.
    fn unknown_option(&mut self, a: Side<'_>, b: Side<'_>) -> bool {
        let (Ty::Of(ty), Kind::Str(text)) = (a.1.clone().there(), &b.0.kind) else { return false };
        let Type::Enum(options) = ty else { return false };
        if matches!(a.0.kind, Kind::Str(_)) || options.iter().any(|option| **option == **text) {
            return false;
        }
        let hint = nearest(text, options.iter().map(String::as_str))
            .map(|near| format!("did you mean `'{near}'`?"))
            .or_else(|| Some(format!("it is one of {}", options.join(", "))));
        let message = format!("`{}` is never '{text}'", self.text(a.0.at));
        self.hinted(b.0.at, "expr-type", message, hint);
        true
    }

    pub(super) fn membership(&mut self, a: Side<'_>, b: Side<'_>, at: Span) -> Ty {
        let fits = match b.1 {
            Ty::Of(Type::List(item)) => {
                if let Kind::List(nodes) = &b.0.kind {
                    for node in nodes {
                        self.unknown_option(a, (node, &STR));
                    }
                }
                comparable(a.1, &Ty::Of((**item).clone()))
            }
            Ty::Of(Type::Object(_) | Type::Dict(_)) => {
                matches!(a.1.class(), Class::Text | Class::Json | Class::Wrong | Class::Maybe)
            }
            Ty::Of(Type::Json) | Ty::Wrong => true,
            Ty::Null | Ty::Of(Type::Nullable(_)) => return self.null_operand(b.0, b.1),
            Ty::Of(Type::Str | Type::Enum(_)) => {
                let hint = format!("write `{}.contains({})`", self.text(b.0.at), self.text(a.0.at));
                let message = "`in` looks into a list or the keys of an object".into();
                return self.hinted(at, "expr-type", message, Some(hint));
            }
            _ => false,
        };
        if fits {
            return BOOL;
        }
        self.problem(at, "expr-type", format!("{} is never in {}", a.1, b.1))
    }

    pub(super) fn operator(&mut self, op: Binary, a: Side<'_>, b: Side<'_>, at: Span) -> Ty {
        for side in [a, b] {
            if matches!(side.1.class(), Class::Maybe | Class::Null) {
                self.null_operand(side.0, side.1);
                return Ty::Wrong;
            }
        }
        let result = match op {
            Binary::Add => add(a.1, b.1),
            Binary::Subtract => subtract(a.1, b.1),
            Binary::Multiply => multiply(a.1, b.1),
            Binary::Divide => numbers(a.1, b.1),
            Binary::Modulo => numbers(a.1, b.1).filter(|ty| ty.class() != Class::Float),
            _ => ordered(a.1, b.1).then_some(BOOL),
        };
        result.unwrap_or_else(|| self.wrong_operands(op, a, b, at))
    }

    fn wrong_operands(&mut self, op: Binary, a: Side<'_>, b: Side<'_>, at: Span) -> Ty {
        let sign = op.sign();
        let double = |int: Side<'_>, checker: &Self| match int.0.kind {
            Kind::Int(n) => format!("{n}.0"),
            _ => format!("double({})", checker.text(int.0.at)),
        };
        let hint = match (a.1.class(), b.1.class()) {
            (Class::Int, Class::Float) if op != Binary::Modulo => {
                Some(format!("write `{} {sign} {}`", double(a, self), self.text(b.0.at)))
            }
            (Class::Float, Class::Int) if op != Binary::Modulo => {
                Some(format!("write `{} {sign} {}`", self.text(a.0.at), double(b, self)))
            }
            (Class::Text, _) if op == Binary::Add => {
                Some(format!("write `{} + string({})`", self.text(a.0.at), self.text(b.0.at)))
            }
            (_, Class::Text) if op == Binary::Add => {
                Some(format!("write `string({}) + {}`", self.text(a.0.at), self.text(b.0.at)))
            }
            (Class::Day, Class::Time) => Some("a date moves by whole days: `days(n)`".into()),
            (Class::Day | Class::Civil | Class::Zoned, Class::Int) => {
                Some(format!("write `days({})` or `hours({0})`", self.text(b.0.at)))
            }
            (Class::Civil, Class::Zoned) | (Class::Zoned, Class::Civil) => {
                Some("give the time without a zone one: `x.in_zone('UTC')`".into())
            }
            _ => moment_hint(a, b, self).or_else(|| moment_hint(b, a, self)),
        };
        let message = format!("`{sign}` does not take {} and {}", a.1, b.1);
        self.hinted(at, "expr-type", message, hint)
    }

    pub(super) fn call(&mut self, function: Function, args: &[Node], at: Span) -> Ty {
        let types: Vec<Ty> = args.iter().map(|arg| self.infer(arg, false)).collect();
        if types.contains(&Ty::Wrong) {
            return result_of(function);
        }
        let sides: Vec<Side<'_>> = args.iter().zip(&types).collect();
        for (i, side) in sides.iter().enumerate() {
            let takes_null = function == Function::Succeeded && i == 0;
            if !takes_null && matches!(side.1.class(), Class::Maybe | Class::Null) {
                self.null_operand(side.0, side.1);
                return result_of(function);
            }
        }
        let Some(first) = sides.first().copied() else { return Ty::Wrong };
        match function {
            Function::Sum | Function::Min | Function::Max => self.fold(function, &sides, at),
            Function::Succeeded => self.succeeded(first),
            Function::Size => {
                self.arg(function, first, &[Class::List, Class::Object, Class::Text], INT)
            }
            Function::Date => self.date(first),
            Function::Format | Function::InZone => self.moment(function, &sides),
            Function::Join => self.join(&sides),
            Function::Int | Function::Double | Function::String => self.convert(function, first),
            _ => self.plain(function, &sides),
        }
    }

    /// Checks one argument against what is taken; `json` is checked when it comes.
    fn arg(&mut self, function: Function, side: Side<'_>, wanted: &[Class], result: Ty) -> Ty {
        let class = side.1.class();
        if class == Class::Json || wanted.contains(&class) {
            return result;
        }
        let (name, .., usage) = function.shape();
        let message = format!("`{name}` does not take {}", side.1);
        self.hinted(side.0.at, "expr-type", message, Some(format!("write `{usage}`")));
        result
    }

    fn plain(&mut self, function: Function, sides: &[Side<'_>]) -> Ty {
        let wanted = match function {
            Function::Days | Function::Hours | Function::Minutes | Function::Range => Class::Int,
            _ => Class::Text,
        };
        for side in sides {
            self.arg(function, *side, &[wanted], Ty::Wrong);
        }
        if let (Function::Matches, Some((node, _))) = (function, sides.get(1))
            && let Kind::Str(pattern) = &node.kind
            && let Err(message) = read_pattern(pattern)
        {
            self.problem(node.at, "expr-type", message);
        }
        result_of(function)
    }

    fn fold(&mut self, function: Function, sides: &[Side<'_>], at: Span) -> Ty {
        let (name, .., usage) = function.shape();
        let item = match sides {
            [(_, Ty::Of(Type::List(item)))] => Ty::Of((**item).clone()),
            [(_, Ty::Of(Type::Json))] => JSON,
            [_, _, ..] if function != Function::Sum => {
                let mut all = Some(sides[0].1.clone());
                for (_, ty) in &sides[1..] {
                    all = all.and_then(|before| match (&before, ty) {
                        (Ty::Of(a), Ty::Of(b)) => unify(a, b).map(Ty::Of),
                        (a, b) => (a == *b).then(|| before.clone()),
                    });
                }
                all.unwrap_or(Ty::Wrong)
            }
            _ => Ty::Wrong,
        };
        let fits = match item.class() {
            Class::Int | Class::Float | Class::Json => true,
            Class::Text | Class::Day | Class::Civil | Class::Zoned | Class::Days | Class::Time => {
                function != Function::Sum
            }
            _ => false,
        };
        if fits {
            return widen(item);
        }
        let types: Vec<String> = sides.iter().map(|(_, ty)| ty.to_string()).collect();
        let hint = match item.class() {
            Class::Maybe => format!("leave nulls out: `{name}(succeeded(…))`"),
            _ => format!("write `{usage}`, of numbers of one kind"),
        };
        let message = format!("`{name}` does not take {}", types.join(" and "));
        self.hinted(at, "expr-type", message, Some(hint))
    }

    fn succeeded(&mut self, side: Side<'_>) -> Ty {
        match side.1 {
            Ty::Of(Type::List(item)) => Ty::Of(Type::list(item.non_null().clone())),
            Ty::Of(Type::Json) => Ty::Of(Type::list(Type::Json)),
            Ty::Null | Ty::Of(Type::Nullable(_)) => self.null_operand(side.0, side.1),
            _ => self.arg(Function::Succeeded, side, &[], Ty::Wrong),
        }
    }

    fn date(&mut self, side: Side<'_>) -> Ty {
        let day = Ty::Of(Type::Date);
        if let Kind::Str(text) = &side.0.kind
            && Type::Date.read(text.to_string().into()).is_err()
        {
            let message = format!("'{text}' is no date");
            let hint = Some("write `date('2026-11-24')`".into());
            return self.hinted(side.0.at, "expr-type", message, hint);
        }
        self.arg(Function::Date, side, &[Class::Text, Class::Day, Class::Civil, Class::Zoned], day)
    }

    fn moment(&mut self, function: Function, sides: &[Side<'_>]) -> Ty {
        let (Some(time), Some(text)) = (sides.first(), sides.get(1)) else { return Ty::Wrong };
        self.arg(function, *text, &[Class::Text], Ty::Wrong);
        if function == Function::InZone {
            if let Kind::Str(zone) = &text.0.kind
                && let Err(message) = read_zone(zone)
            {
                self.problem(text.0.at, "expr-type", message);
            }
            let tz = Ty::Of(Type::DatetimeTz);
            return self.arg(function, *time, &[Class::Civil, Class::Zoned], tz);
        }
        self.arg(function, *time, &[Class::Day, Class::Civil, Class::Zoned], STR);
        if let (Kind::Str(format), Ty::Of(ty)) = (&text.0.kind, time.1)
            && let Some(message) = format_problem(format, ty)
        {
            self.problems.push(Problem::new(text.0.at, "expr-type", message));
        }
        STR
    }

    fn join(&mut self, sides: &[Side<'_>]) -> Ty {
        let (Some(list), Some(separator)) = (sides.first(), sides.get(1)) else { return STR };
        self.arg(Function::Join, *separator, &[Class::Text], STR);
        match list.1 {
            Ty::Of(Type::List(item)) => match Ty::Of((**item).clone()).class() {
                Class::Maybe => {
                    let hint = format!("write `join(succeeded({}), …)`", self.text(list.0.at));
                    let message = "`join` does not take items that may be null".into();
                    self.hinted(list.0.at, "maybe-null", message, Some(hint));
                }
                Class::List | Class::Object | Class::File => {
                    let message = format!("`join` does not take {}", list.1);
                    self.problem(list.0.at, "expr-type", message);
                }
                _ => {}
            },
            _ => {
                self.arg(Function::Join, *list, &[], STR);
            }
        }
        STR
    }

    fn convert(&mut self, function: Function, side: Side<'_>) -> Ty {
        let numbers = [Class::Int, Class::Float, Class::Text];
        let scalars =
            [&numbers[..], &[Class::Bool, Class::Day, Class::Civil, Class::Zoned]].concat();
        let wanted = if function == Function::String { &scalars[..] } else { &numbers[..] };
        self.arg(function, side, wanted, result_of(function))
    }
}

/// An enum whose options are not kept.
fn widen(ty: Ty) -> Ty {
    if ty.class() == Class::Text { STR } else { ty }
}

/// What a function gives where its arguments do not decide it.
fn result_of(function: Function) -> Ty {
    match function {
        Function::Days => Ty::Days,
        Function::Hours | Function::Minutes => Ty::Time,
        Function::Date => Ty::Of(Type::Date),
        Function::InZone => Ty::Of(Type::DatetimeTz),
        Function::Size | Function::Int => INT,
        Function::Double => FLOAT,
        Function::Format | Function::Join | Function::String => STR,
        Function::Split => Ty::Of(Type::list(Type::Str)),
        Function::Range => Ty::Of(Type::list(Type::Int)),
        Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => BOOL,
        Function::Sum | Function::Min | Function::Max | Function::Succeeded => Ty::Wrong,
    }
}

/// A text beside a day or time, which is no day or time by itself.
fn moment_hint(a: Side<'_>, b: Side<'_>, checker: &Checker<'_>) -> Option<String> {
    match (a.1.class(), b.1.class()) {
        (Class::Day, Class::Text) => Some(format!("write `date({})`", checker.text(b.0.at))),
        (Class::Day, Class::Civil | Class::Zoned) => {
            Some(format!("write `date({})`", checker.text(b.0.at)))
        }
        (Class::Zoned, Class::Civil) => Some("give the other a zone: `x.in_zone('UTC')`".into()),
        _ => None,
    }
}

/// Whether two values can be equal at all.
fn comparable(a: &Ty, b: &Ty) -> bool {
    use Class::{Days, Float, Int, Json, List, Maybe, Null, Object, Time, Wrong};
    match (a.class(), b.class()) {
        (Wrong | Json | Null, _) | (_, Wrong | Json | Null) => true,
        (Maybe, _) | (_, Maybe) => comparable(&a.clone().there(), &b.clone().there()),
        (Int | Float, Int | Float) | (Days | Time, Days | Time) | (Object, Object) => true,
        (List, List) => match (a, b) {
            (Ty::Of(Type::List(x)), Ty::Of(Type::List(y))) => {
                comparable(&Ty::Of((**x).clone()), &Ty::Of((**y).clone()))
            }
            _ => true,
        },
        (x, y) => x == y,
    }
}

/// Whether two values have an order.
fn ordered(a: &Ty, b: &Ty) -> bool {
    use Class::{Bool, Days, Float, Int, Json, List, Object, Time, Wrong};
    match (a.class(), b.class()) {
        (List | Object | Bool, _) | (_, List | Object | Bool) => false,
        (Wrong | Json, _) | (_, Wrong | Json) => true,
        (Int | Float, Int | Float) | (Days | Time, Days | Time) => true,
        (x, y) => x == y,
    }
}

fn numbers(a: &Ty, b: &Ty) -> Option<Ty> {
    use Class::{Float, Int, Json, Wrong};
    match (a.class(), b.class()) {
        (Wrong, _) | (_, Wrong) => Some(Ty::Wrong),
        (Int, Int) => Some(INT),
        (Float, Float | Json) | (Json, Float) => Some(FLOAT),
        (Json, Int | Json) | (Int, Json) => Some(JSON),
        _ => None,
    }
}

fn add(a: &Ty, b: &Ty) -> Option<Ty> {
    use Class::{Civil, Day, Days, Json, List, Text, Time, Zoned};
    match (a.class(), b.class()) {
        (Text, Text | Json) | (Json, Text) => Some(STR),
        (List, Json) | (Json, List) => Some(Ty::Of(Type::list(Type::Json))),
        (List, List) => match (a, b) {
            (Ty::Of(Type::List(x)), Ty::Of(Type::List(y))) => {
                let item = unify(x, y).unwrap_or(Type::Json);
                Some(Ty::Of(Type::list(item)))
            }
            _ => None,
        },
        (Day, Days) | (Civil | Zoned, Days | Time) => Some(a.clone()),
        (Days, Day) | (Days | Time, Civil | Zoned) => Some(b.clone()),
        (Days, Days) => Some(Ty::Days),
        (Days | Time, Days | Time) => Some(Ty::Time),
        _ => numbers(a, b),
    }
}

fn subtract(a: &Ty, b: &Ty) -> Option<Ty> {
    use Class::{Civil, Day, Days, Time, Zoned};
    match (a.class(), b.class()) {
        (Day, Days) | (Civil | Zoned, Days | Time) => Some(a.clone()),
        (Day, Day) | (Days, Days) => Some(Ty::Days),
        (Civil, Civil) | (Zoned, Zoned) | (Days | Time, Days | Time) => Some(Ty::Time),
        _ => numbers(a, b),
    }
}

fn multiply(a: &Ty, b: &Ty) -> Option<Ty> {
    use Class::{Days, Int, Time};
    match (a.class(), b.class()) {
        (Days | Time, Int) => Some(a.clone()),
        (Int, Days | Time) => Some(b.clone()),
        _ => numbers(a, b),
    }
}
