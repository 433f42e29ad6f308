//! The syntax tree of an expression.

use std::sync::Arc;

/// A stretch of the source, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A node: what it is, where it stands, and how many levels it is high.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) at: Span,
    pub(super) height: u16,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Name(Arc<str>),
    Field(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// A receiver is the first argument.
    Call(Function, Vec<Node>),
    Has(Box<Node>),
    Default(Box<Node>, Box<Node>),
    Each(Box<Each>),
}

/// A macro over a list: `list.map(var, body)`.
#[derive(Clone, Debug)]
pub(super) struct Each {
    pub(super) how: Macro,
    pub(super) list: Node,
    pub(super) var: Arc<str>,
    /// The condition of a `map` with three arguments.
    pub(super) only: Option<Node>,
    pub(super) body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Eq,
    NotEq,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Binary {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Less => "<",
            Self::LessEq => "<=",
            Self::Greater => ">",
            Self::GreaterEq => ">=",
            Self::Eq => "==",
            Self::NotEq => "!=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }

    /// How tightly it binds.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Less
            | Self::LessEq
            | Self::Greater
            | Self::GreaterEq
            | Self::Eq
            | Self::NotEq
            | Self::In => 3,
            Self::Add | Self::Subtract => 4,
            Self::Multiply | Self::Divide | Self::Modulo => 5,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl Macro {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "exists" => Self::Exists,
            "exists_one" | "existsOne" => Self::ExistsOne,
            "map" => Self::Map,
            "filter" => Self::Filter,
            _ => return None,
        })
    }
}

/// How a function is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`.
    Plain,
    /// `x.f()`.
    Method,
    /// Either.
    Both,
}

macro_rules! functions {
    ($($variant:ident $name:literal $style:ident $least:literal $most:literal $usage:literal;)*) => {
        /// A function that takes values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function {
            $($variant,)*
        }

        impl Function {
            /// All functions' names.
            pub(super) const NAMES: &[&'static str] = &[$($name,)*];

            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name, how it is written, the least and the most arguments (a receiver counts),
            /// and an example of its use.
            pub(super) fn shape(self) -> (&'static str, Style, usize, usize, &'static str) {
                match self {
                    $(Self::$variant => ($name, Style::$style, $least, $most, $usage),)*
                }
            }
        }
    };
}

functions! {
    Days "days" Plain 1 1 "days(n)";
    Hours "hours" Plain 1 1 "hours(n)";
    Minutes "minutes" Plain 1 1 "minutes(n)";
    Date "date" Plain 1 1 "date(s)";
    Format "format" Method 2 2 "x.format('%Y-%m-%d')";
    InZone "in_zone" Method 2 2 "x.in_zone('Europe/Berlin')";
    Size "size" Both 1 1 "size(x)";
    Sum "sum" Both 1 1 "sum(list)";
    Min "min" Both 1 16 "min(list) or min(a, b)";
    Max "max" Both 1 16 "max(list) or max(a, b)";
    Join "join" Both 2 2 "join(list, ',')";
    Split "split" Both 2 2 "split(text, ',')";
    Range "range" Plain 1 2 "range(n) or range(from, to)";
    Succeeded "succeeded" Plain 1 1 "succeeded(list)";
    Double "double" Plain 1 1 "double(x)";
    Int "int" Plain 1 1 "int(x)";
    String "string" Plain 1 1 "string(x)";
    Contains "contains" Method 2 2 "text.contains('part')";
    StartsWith "startsWith" Method 2 2 "text.startsWith('part')";
    EndsWith "endsWith" Method 2 2 "text.endsWith('part')";
    Matches "matches" Both 2 2 "text.matches('^a+$')";
}

impl Node {
    /// The nodes directly below.
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Field(a, _) | Kind::Not(a) | Kind::Negate(a) | Kind::Has(a) => vec![a],
            Kind::Index(a, b) | Kind::Binary(_, a, b) | Kind::Default(a, b) => vec![a, b],
            Kind::Choice(a, b, c) => vec![a, b, c],
            Kind::List(items) | Kind::Call(_, items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(k, v)| [k, v]).collect(),
            Kind::Each(each) => {
                let mut nodes = vec![&each.list, &each.body];
                nodes.extend(&each.only);
                nodes
            }
            _ => Vec::new(),
        }
    }

    /// The task whose output this is, when it is exactly `tasks.NAME.output`.
    pub(super) fn whole_output(&self) -> Option<&str> {
        match &self.kind {
            Kind::Field(task, field) if &**field == "output" => task.task_name(),
            _ => None,
        }
    }

    /// The task that this names, when it is exactly `tasks.NAME`.
    pub(super) fn task_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Field(root, name) if matches!(&root.kind, Kind::Name(n) if &**n == "tasks") => {
                Some(name)
            }
            _ => None,
        }
    }
}
