//! The text of an annotation as a small tree. It is read apart from the file's syntax tree, since
//! quoted annotations are text there.

/// How deep an annotation may be nested.
const NESTING: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Note {
    /// `None`.
    Null,
    /// A dotted name.
    Name(String),
    /// `head[args]`, or `head(args)` as in `NewType('X', int)`.
    Generic(String, Vec<Note>),
    /// `a | b`.
    Union(Vec<Note>),
    /// A text: a forward reference, or an option of `Literal`.
    Text(String),
    Int,
    Bool,
    /// Anything else.
    Other,
}

/// Reads an annotation; what is no annotation is [`Note::Other`].
pub(super) fn read(text: &str) -> Note {
    let mut reader = Reader { chars: text.chars().collect(), at: 0 };
    let note = reader.union(0);
    reader.blanks();
    if reader.at < reader.chars.len() { Note::Other } else { note }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn blanks(&mut self) {
        loop {
            while self.peek().is_some_and(|c| c.is_whitespace() || c == '\\') {
                self.at += 1;
            }
            if self.peek() != Some('#') {
                return;
            }
            while self.peek().is_some_and(|c| c != '\n') {
                self.at += 1;
            }
        }
    }

    fn eat(&mut self, c: char) -> bool {
        self.blanks();
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn union(&mut self, depth: usize) -> Note {
        let mut notes = vec![self.one(depth)];
        while self.eat('|') {
            notes.push(self.one(depth));
        }
        match notes.len() {
            1 => notes.remove(0),
            _ => Note::Union(notes),
        }
    }

    fn one(&mut self, depth: usize) -> Note {
        self.blanks();
        if depth > NESTING {
            return Note::Other;
        }
        match self.peek() {
            Some('\'' | '"') => self.text(),
            Some('(') => {
                self.at += 1;
                let note = self.union(depth + 1);
                if self.eat(')') { note } else { Note::Other }
            }
            Some('[') => {
                self.at += 1;
                self.args(depth, ']');
                Note::Other
            }
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.named(depth),
            Some('.') => {
                self.at += 1;
                Note::Other
            }
            _ => Note::Other,
        }
    }

    fn number(&mut self) -> Note {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_')) {
            self.at += 1;
        }
        let whole = self.chars[start..self.at].iter().all(|c| c.is_ascii_digit() || *c == '-');
        if whole { Note::Int } else { Note::Other }
    }

    fn text(&mut self) -> Note {
        let quote = self.peek();
        self.at += 1;
        let start = self.at;
        while self.peek().is_some() && self.peek() != quote {
            if self.peek() == Some('\\') {
                return Note::Other;
            }
            self.at += 1;
        }
        let text = self.chars[start..self.at].iter().collect();
        self.at += 1;
        Note::Text(text)
    }

    fn named(&mut self, depth: usize) -> Note {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        if self.eat('[') {
            let args = self.args(depth, ']');
            return Note::Generic(name, args);
        }
        if self.eat('(') {
            let args = self.args(depth, ')');
            return Note::Generic(name, args);
        }
        match name.as_str() {
            "None" => Note::Null,
            "True" | "False" => Note::Bool,
            _ => Note::Name(name),
        }
    }

    fn args(&mut self, depth: usize, close: char) -> Vec<Note> {
        let mut args = Vec::new();
        while !self.eat(close) {
            args.push(self.union(depth + 1));
            if !self.eat(',') {
                let closed = self.eat(close);
                if !closed {
                    self.skip(close);
                }
                break;
            }
        }
        args
    }

    /// Leaves what cannot be read behind, up to the bracket that closes it.
    fn skip(&mut self, close: char) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                _ if c == close && depth == 0 => return,
                '[' | '(' | '{' => depth += 1,
                ']' | ')' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}
