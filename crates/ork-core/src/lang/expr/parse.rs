//! From tokens to a tree, by precedence climbing over CEL's grammar.
//!
//! Our own, since the `cel` crate's usual parser takes a millisecond and more to start (its tables
//! are unpacked at first use) and its quick one gives no places in the source.

use std::sync::Arc;

use super::Problem;
use super::ast::{Binary, Each, Function, Kind, Macro, Node, Span, Style};
use super::lexer::{Token, tokens};
use crate::lang::nearest;

/// The longest expression, in bytes.
pub(super) const MAX_LENGTH: usize = 4096;
/// How deep brackets, choices and signs before an operand may be nested.
pub(super) const MAX_NESTING: usize = 32;
/// How high a tree may be: nesting, and operators in a row.
const MAX_HEIGHT: u16 = 160;

/// Parses an expression.
///
/// # Errors
/// The first error of syntax, or all functions that are not there.
pub(super) fn parse(source: &str) -> Result<Node, Vec<Problem>> {
    if source.len() > MAX_LENGTH {
        let message = format!("an expression is at most {MAX_LENGTH} bytes long");
        return Err(vec![Problem::new(whole(source), "expr-limit", message)]);
    }
    let tokens = tokens(source).map_err(|problem| vec![problem])?;
    let mut parser = Parser { tokens, at: 0, nesting: 0, unknown: Vec::new() };
    let node = parser.all().map_err(|problem| vec![problem])?;
    if parser.unknown.is_empty() { Ok(node) } else { Err(parser.unknown) }
}

pub(super) fn whole(source: &str) -> Span {
    Span { start: 0, end: source.len() }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    nesting: usize,
    /// Functions that are not there; parsing goes on after them.
    unknown: Vec<Problem>,
}

type Parsed = Result<Node, Problem>;

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(Span { start: 0, end: 0 }, |(_, span)| *span)
    }

    fn eat(&mut self, sign: &str) -> Option<Span> {
        let span = self.span();
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(found);
        found.then_some(span)
    }

    fn expect(&mut self, sign: &str) -> Result<Span, Problem> {
        self.eat(sign).ok_or_else(|| self.unexpected(&format!("`{sign}`")))
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let (found, hint) = match self.peek() {
            Token::End => ("the end".into(), None),
            Token::Sign(sign) => (format!("`{sign}`"), None),
            Token::Word(word) => (format!("`{word}`"), other_word(word)),
            Token::Str(_) => ("a text".into(), None),
            Token::Int(_) | Token::IntMin | Token::Float(_) => ("a number".into(), None),
        };
        Problem::new(self.span(), "expr-syntax", format!("expected {wanted}, found {found}"))
            .hint(hint)
    }

    fn node(kind: Kind, at: Span) -> Parsed {
        let mut node = Node { kind, at, height: 0 };
        let height = node.children().iter().map(|child| child.height).max().unwrap_or(0) + 1;
        node.height = height;
        if height > MAX_HEIGHT {
            let message = format!("more than {MAX_HEIGHT} operators in a row or in each other");
            return Err(Problem::new(at, "expr-limit", message));
        }
        Ok(node)
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.nesting >= MAX_NESTING {
            let message = format!("an expression may be nested {MAX_NESTING} deep");
            return Err(Problem::new(self.span(), "expr-limit", message));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn all(&mut self) -> Parsed {
        let node = self.expr()?;
        if *self.peek() == Token::End {
            return Ok(node);
        }
        Err(self.unexpected("an operator or the end"))
    }

    fn expr(&mut self) -> Parsed {
        let condition = self.binary(1)?;
        if self.eat("?").is_none() {
            return Ok(condition);
        }
        let then = self.nested(|p| p.binary(1))?;
        self.expect(":")?;
        let otherwise = self.nested(Self::expr)?;
        let at = condition.at.to(otherwise.at);
        Self::node(Kind::Choice(condition.into(), then.into(), otherwise.into()), at)
    }

    fn operator(&self) -> Option<Binary> {
        Some(match self.peek() {
            Token::Word(word) if &**word == "in" => Binary::In,
            Token::Sign("||") => Binary::Or,
            Token::Sign("&&") => Binary::And,
            Token::Sign("<") => Binary::Less,
            Token::Sign("<=") => Binary::LessEq,
            Token::Sign(">") => Binary::Greater,
            Token::Sign(">=") => Binary::GreaterEq,
            Token::Sign("==") => Binary::Eq,
            Token::Sign("!=") => Binary::NotEq,
            Token::Sign("+") => Binary::Add,
            Token::Sign("-") => Binary::Subtract,
            Token::Sign("*") => Binary::Multiply,
            Token::Sign("/") => Binary::Divide,
            Token::Sign("%") => Binary::Modulo,
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some(op) = self.operator().filter(|op| op.rank() >= least) {
            self.at += 1;
            let right = self.binary(op.rank() + 1)?;
            let at = left.at.to(right.at);
            left = Self::node(Kind::Binary(op, left.into(), right.into()), at)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let start = self.span();
        if self.eat("!").is_some() {
            let operand = self.nested(Self::unary)?;
            let at = start.to(operand.at);
            return Self::node(Kind::Not(operand.into()), at);
        }
        if self.eat("-").is_none() {
            return self.postfix();
        }
        let literal = match self.peek() {
            Token::Int(n) => Some(Kind::Int(-n)),
            Token::IntMin => Some(Kind::Int(i64::MIN)),
            Token::Float(n) => Some(Kind::Float(-n)),
            _ => None,
        };
        if let Some(kind) = literal {
            let at = start.to(self.span());
            self.at += 1;
            return Self::node(kind, at);
        }
        let operand = self.nested(Self::unary)?;
        let at = start.to(operand.at);
        Self::node(Kind::Negate(operand.into()), at)
    }

    fn postfix(&mut self) -> Parsed {
        let mut node = self.primary()?;
        loop {
            if self.eat(".").is_some() {
                node = self.member(node)?;
            } else if self.eat("[").is_some() {
                let index = self.nested(Self::expr)?;
                let at = node.at.to(self.expect("]")?);
                node = Self::node(Kind::Index(node.into(), index.into()), at)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn member(&mut self, receiver: Node) -> Parsed {
        let span = self.span();
        let Token::Word(name) = self.peek().clone() else {
            return Err(self.unexpected("a field after `.`"));
        };
        self.at += 1;
        let at = receiver.at.to(span);
        if self.eat("(").is_none() {
            return Self::node(Kind::Field(receiver.into(), name), at);
        }
        match Macro::named(&name) {
            Some(how) => self.each(how, receiver, &name),
            None => self.call(&name, span, Some(receiver)),
        }
    }

    fn each(&mut self, how: Macro, list: Node, name: &str) -> Parsed {
        let span = self.span();
        let Token::Word(var) = self.peek().clone() else {
            return Err(self.unexpected(&format!("a name for the items: `list.{name}(x, …)`")));
        };
        self.at += 1;
        self.expect(",").map_err(|problem| {
            problem.hint(Some(&format!("write `list.{name}(x, …)` with a name for the items")))
        })?;
        let first = self.nested(Self::expr)?;
        let third = how == Macro::Map && self.eat(",").is_some();
        let (only, body) =
            if third { (Some(first), self.nested(Self::expr)?) } else { (None, first) };
        let at = list.at.to(span).to(self.expect(")")?);
        Self::node(Kind::Each(Box::new(Each { how, list, var, only, body })), at)
    }

    fn list(&mut self, close: &str) -> Result<(Vec<Node>, Span), Problem> {
        let mut items = Vec::new();
        loop {
            if let Some(span) = self.eat(close) {
                return Ok((items, span));
            }
            items.push(self.nested(Self::expr)?);
            if self.eat(",").is_none() {
                return Ok((items, self.expect(close)?));
            }
        }
    }

    fn call(&mut self, name: &str, span: Span, receiver: Option<Node>) -> Parsed {
        let is_method = receiver.is_some();
        let start = receiver.as_ref().map_or(span, |node| node.at);
        let (given, end) = self.list(")")?;
        let at = start.to(end);
        let mut args: Vec<Node> = receiver.into_iter().collect();
        args.extend(given);
        if let ("has" | "default", false) = (name, is_method) {
            return self.lenient(name, args, at);
        }
        let Some(function) = Function::named(name) else {
            self.unknown.push(no_function(name, span, is_method));
            return Self::node(Kind::Null, at);
        };
        let (_, style, least, most, usage) = function.shape();
        let wrong_style = match style {
            Style::Plain => is_method,
            Style::Method => !is_method,
            Style::Both => false,
        };
        if wrong_style || args.len() < least || args.len() > most {
            self.unknown.push(misused(name, usage, at));
        }
        Self::node(Kind::Call(function, args), at)
    }

    /// `has` and `default` look where nothing may be.
    fn lenient(&mut self, name: &str, mut args: Vec<Node>, at: Span) -> Parsed {
        match (name, args.len()) {
            ("has", 1) => {
                let arg = args.remove(0);
                if !matches!(arg.kind, Kind::Field(..) | Kind::Index(..) | Kind::Name(_)) {
                    self.unknown.push(misused(name, "has(tasks.x.output.field)", at));
                }
                Self::node(Kind::Has(arg.into()), at)
            }
            ("default", 2) => {
                let fallback = args.remove(1);
                let value = args.remove(0);
                Self::node(Kind::Default(value.into(), fallback.into()), at)
            }
            _ => {
                let usage = if name == "has" { "has(x.field)" } else { "default(x, y)" };
                self.unknown.push(misused(name, usage, at));
                Self::node(Kind::Null, at)
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.span();
        let token = self.peek().clone();
        let kind = match token {
            Token::Int(n) => Kind::Int(n),
            Token::Float(n) => Kind::Float(n),
            Token::Str(text) => Kind::Str(text),
            Token::Word(word) => return self.word(word, at),
            Token::Sign("(") => {
                self.at += 1;
                let node = self.nested(Self::expr)?;
                let at = at.to(self.expect(")")?);
                return Ok(Node { at, ..node });
            }
            Token::Sign("[") => {
                self.at += 1;
                let (items, end) = self.list("]")?;
                return Self::node(Kind::List(items), at.to(end));
            }
            Token::Sign("{") => return self.map(at),
            _ => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Self::node(kind, at)
    }

    fn word(&mut self, word: Arc<str>, at: Span) -> Parsed {
        if &*word == "in" {
            return Err(self.unexpected("a value"));
        }
        self.at += 1;
        if self.eat("(").is_some() {
            return self.call(&word, at, None);
        }
        let kind = match &*word {
            "null" => Kind::Null,
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            _ => Kind::Name(word),
        };
        Self::node(kind, at)
    }

    fn map(&mut self, start: Span) -> Parsed {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            if let Some(end) = self.eat("}") {
                return Self::node(Kind::Map(entries), start.to(end));
            }
            let key = self.nested(Self::expr)?;
            self.expect(":")?;
            entries.push((key, self.nested(Self::expr)?));
            if self.eat(",").is_none() {
                let end = self.expect("}")?;
                return Self::node(Kind::Map(entries), start.to(end));
            }
        }
    }
}

fn other_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "and" => "write `&&`",
        "or" => "write `||`",
        "not" => "write `!`",
        "is" => "write `==`",
        "if" | "else" => "write `condition ? x : y`",
        _ => return None,
    })
}

fn no_function(name: &str, span: Span, is_method: bool) -> Problem {
    let macros = ["has", "default", "all", "exists", "exists_one", "map", "filter"];
    let names = Function::NAMES.iter().copied().chain(macros);
    let hint = match (name, is_method) {
        ("float", _) => Some("write `double(x)`".to_string()),
        ("str", _) => Some("write `string(x)`".to_string()),
        ("len" | "length" | "count", _) => Some("write `size(x)`".to_string()),
        ("all" | "exists" | "exists_one" | "map" | "filter", false) => {
            Some(format!("write `list.{name}(x, …)`"))
        }
        _ => nearest(name, names).map(|near| format!("did you mean `{near}`?")),
    };
    Problem::new(span, "unknown-function", format!("there is no function `{name}`"))
        .hint(hint.as_deref())
}

fn misused(name: &str, usage: &str, at: Span) -> Problem {
    Problem::new(at, "expr-arguments", format!("`{name}` is not used like this"))
        .hint(Some(&format!("write `{usage}`")))
}
