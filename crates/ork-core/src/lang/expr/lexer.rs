//! From text to tokens.

use std::sync::Arc;

use super::Problem;
use super::ast::Span;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Int(i64),
    /// 2⁶³, which is an integer only after a minus.
    IntMin,
    Float(f64),
    Str(Arc<str>),
    Word(Arc<str>),
    Sign(&'static str),
    End,
}

/// Longer signs stand before their beginnings.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ",", ".",
    "(", ")", "[", "]", "{", "}",
];

pub(super) fn tokens(source: &str) -> Result<Vec<(Token, Span)>, Problem> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push((token, Span { start, end: lexer.at }));
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn token(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        let second_is_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && second_is_digit) {
            return self.number();
        }
        if first == '\'' || first == '"' {
            return self.string(false);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return self.word();
        }
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        Err(self.strange(first))
    }

    fn strange(&self, c: char) -> Problem {
        let hint = match c {
            '=' => Some("compare with `==`"),
            '&' => Some("write `&&`"),
            '|' => Some("write `||`; there are no filters, only functions such as `default(x, y)`"),
            '$' => Some("inside an expression there is no `${{ }}`"),
            '`' => Some("write text in single quotes"),
            _ => None,
        };
        let span = Span { start: self.at, end: self.at + c.len_utf8() };
        Problem::new(span, "expr-syntax", format!("`{}` has no meaning here", c.escape_debug()))
            .hint(hint)
    }

    fn word(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let word = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        if !matches!(self.peek(), Some('\'' | '"')) {
            return Ok(Token::Word(word.into()));
        }
        match word.to_ascii_lowercase().as_str() {
            "r" => self.string(true),
            "b" | "br" | "rb" => {
                let span = Span { start, end: self.at };
                Err(Problem::new(span, "expr-syntax", "there are no byte strings here".into()))
            }
            _ => Ok(Token::Word(word.into())),
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        if hex {
            self.at += 2;
            self.take(|c| c.is_ascii_hexdigit());
        } else {
            self.decimal();
        }
        let text = &self.source[start..self.at];
        let trailing = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        let span = Span { start, end: self.at };
        if !trailing.is_empty() {
            let message = format!("`{text}{trailing}` is not a number");
            let hint = (trailing == "u").then_some("there are no unsigned numbers here");
            return Err(Problem::new(span, "expr-syntax", message).hint(hint));
        }
        read_number(text).ok_or_else(|| {
            Problem::new(span, "expr-syntax", format!("`{text}` does not fit a 64-bit number"))
        })
    }

    fn decimal(&mut self) {
        self.take(|c| c.is_ascii_digit());
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        let exponent = self.rest().trim_start_matches(['e', 'E']);
        let signless = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let has_exponent = self.rest().starts_with(['e', 'E'])
            && self.rest().len() == exponent.len() + 1
            && signless.starts_with(|c: char| c.is_ascii_digit());
        if has_exponent {
            self.at = self.source.len() - signless.len();
            self.take(|c| c.is_ascii_digit());
        }
    }

    fn string(&mut self, raw: bool) -> Result<Token, Problem> {
        let start = self.at;
        let rest = self.rest();
        let quote = if rest.starts_with("'''") || rest.starts_with("\"\"\"") {
            &rest[..3]
        } else {
            &rest[..1]
        };
        self.at += quote.len();
        let mut text = String::new();
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                return Ok(Token::Str(text.into()));
            }
            let Some(c) = rest.chars().next() else {
                let span = Span { start, end: self.source.len() };
                return Err(Problem::new(span, "expr-syntax", "the text has no end".into())
                    .hint(Some("close its quotes")));
            };
            self.at += c.len_utf8();
            if c == '\\' && !raw {
                text.push(self.escape()?);
            } else {
                text.push(c);
            }
        }
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let start = self.at - 1;
        let letter = self.peek().unwrap_or(' ');
        self.at += letter.len_utf8().min(self.rest().len());
        let plain = match letter {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            '\\' | '\'' | '"' | '`' | '?' => Some(letter),
            'x' | 'X' => self.code(2, 16),
            'u' => self.code(4, 16),
            'U' => self.code(8, 16),
            '0'..='3' => {
                self.at -= 1;
                self.code(3, 8)
            }
            _ => None,
        };
        plain.ok_or_else(|| {
            let span = Span { start, end: self.at };
            let text = self.source.get(start..self.at).unwrap_or("\\");
            Problem::new(span, "expr-syntax", format!("`{text}` is no escape"))
                .hint(Some("write `\\\\` for a backslash"))
        })
    }

    fn code(&mut self, digits: usize, radix: u32) -> Option<char> {
        let text = self.rest().get(..digits)?;
        let valid = text.chars().all(|c| c.is_digit(radix));
        let code = u32::from_str_radix(text, radix).ok().filter(|_| valid)?;
        self.at += digits;
        char::from_u32(code)
    }
}

fn read_number(text: &str) -> Option<Token> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(Token::Int);
    }
    if text.contains(['.', 'e', 'E']) {
        return text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Token::Float);
    }
    match text.parse::<i64>() {
        Ok(n) => Some(Token::Int(n)),
        Err(_) if text.trim_start_matches('0') == "9223372036854775808" => Some(Token::IntMin),
        Err(_) => None,
    }
}
