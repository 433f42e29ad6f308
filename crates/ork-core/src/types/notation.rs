//! The notation of types: reading and writing it.

use std::fmt;

use indexmap::IndexMap;

use super::Type;

/// How deep a type may be nested.
const NESTING: usize = 32;

/// What is wrong with a type's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeIssue {
    /// Where it begins, in characters of the text.
    pub offset: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
    /// One sentence that names the thing.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Names of other languages and ours for them.
const FOREIGN: &[(&str, &str)] = &[
    ("string", "str"),
    ("text", "str"),
    ("integer", "int"),
    ("long", "int"),
    ("number", "float"),
    ("double", "float"),
    ("boolean", "bool"),
    ("any", "json"),
    ("object", "json"),
    ("timestamp", "datetime"),
    ("path", "file"),
    ("list", "[T]"),
    ("array", "[T]"),
    ("map", "dict[T]"),
];

/// The types that have a name of their own. The last of several for one type is how it is written.
static NAMED: [(&str, Type); 11] = [
    ("str", Type::Str),
    ("int", Type::Int),
    ("float", Type::Float),
    ("bool", Type::Bool),
    ("date", Type::Date),
    ("datetime", Type::DatetimeTz),
    ("datetime_notz", Type::DatetimeNotz),
    ("datetime_tz", Type::DatetimeTz),
    ("datetime_utc", Type::DatetimeUtc),
    ("json", Type::Json),
    ("file", Type::File),
];

/// The words that make a type of others.
const MAKERS: [&str; 2] = ["dict", "enum"];

impl Type {
    /// Reads the language's notation: `[str]?`, `{path: str, rows: int}`, `dict[float]`,
    /// `{enum: [a, b]}`, `datetime` (which is `datetime_tz`), an alias.
    ///
    /// # Errors
    /// The first thing that is wrong, with this language's word for those of others.
    pub fn parse(text: &str, aliases: &dyn Fn(&str) -> Option<Self>) -> Result<Self, TypeIssue> {
        let mut reader = Reader { chars: text.chars().collect(), at: 0, aliases };
        let ty = reader.ty(0)?;
        reader.blanks();
        match reader.peek() {
            None => Ok(ty),
            Some('|') => {
                Err(reader.issue("a type may be null by `?`, not by `|`", Some("write `T?`")))
            }
            Some(c) => Err(reader.issue(&format!("unexpected `{c}` after the type"), None)),
        }
    }

    /// The type that has this name in the language, not an alias.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(word, _)| *word == name).map(|(_, ty)| ty.clone())
    }

    /// Every word that the notation knows: no alias can have its name.
    pub fn words() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(word, _)| *word).chain(MAKERS)
    }

    /// The name that a type has of its own, not one made of others.
    fn name(&self) -> Option<&'static str> {
        NAMED.iter().rfind(|(_, ty)| ty == self).map(|(word, _)| *word)
    }
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    aliases: &'a dyn Fn(&str) -> Option<Type>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn issue(&self, message: &str, hint: Option<&str>) -> TypeIssue {
        self.issue_at(self.at, 1, message, hint)
    }

    fn issue_at(
        &self,
        offset: usize,
        length: usize,
        message: &str,
        hint: Option<&str>,
    ) -> TypeIssue {
        let offset = offset.min(self.chars.len().saturating_sub(1));
        TypeIssue { offset, length, message: message.into(), hint: hint.map(Into::into) }
    }

    fn eat(&mut self, c: char) -> bool {
        self.blanks();
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, c: char) -> Result<(), TypeIssue> {
        if self.eat(c) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_string(), |c| format!("`{c}`"));
        Err(self.issue(&format!("expected `{c}`, found {found}"), None))
    }

    fn ty(&mut self, depth: usize) -> Result<Type, TypeIssue> {
        if depth > NESTING {
            return Err(self.issue(&format!("a type may be nested {NESTING} deep"), None));
        }
        self.blanks();
        let mut ty = match self.peek() {
            Some('[') => self.list(depth)?,
            Some('{') => self.braces(depth)?,
            _ => self.named(depth)?,
        };
        while self.eat('?') {
            ty = ty.nullable();
        }
        Ok(ty)
    }

    fn list(&mut self, depth: usize) -> Result<Type, TypeIssue> {
        self.expect('[')?;
        let item = self.ty(depth + 1)?;
        self.expect(']')?;
        Ok(Type::list(item))
    }

    fn braces(&mut self, depth: usize) -> Result<Type, TypeIssue> {
        self.expect('{')?;
        let mut fields = IndexMap::new();
        while !self.eat('}') {
            self.blanks();
            let start = self.at;
            let name = self.word()?;
            self.expect(':')?;
            if name == "enum" && fields.is_empty() {
                return self.options();
            }
            let ty = self.ty(depth + 1)?;
            if fields.insert(name.clone(), ty).is_some() {
                let message = format!("the field `{name}` is there twice");
                return Err(self.issue_at(start, name.chars().count(), &message, None));
            }
            if !self.eat(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(Type::object(fields))
    }

    fn options(&mut self) -> Result<Type, TypeIssue> {
        self.expect('[')?;
        let mut options = Vec::new();
        while !self.eat(']') {
            options.push(self.option()?);
            if !self.eat(',') {
                self.expect(']')?;
                break;
            }
        }
        self.expect('}')?;
        if options.is_empty() {
            return Err(self.issue_at(
                0,
                self.chars.len(),
                "an enum needs at least one value",
                None,
            ));
        }
        Ok(Type::choice(options))
    }

    fn option(&mut self) -> Result<String, TypeIssue> {
        self.blanks();
        let Some(quote) = self.peek().filter(|c| *c == '\'' || *c == '"') else {
            return self.bare_option();
        };
        self.at += 1;
        let start = self.at;
        while self.peek().is_some_and(|c| c != quote) {
            self.at += 1;
        }
        let text = self.chars[start..self.at].iter().collect();
        self.expect(quote)?;
        Ok(text)
    }

    fn bare_option(&mut self) -> Result<String, TypeIssue> {
        let start = self.at;
        while self.peek().is_some_and(|c| !matches!(c, ',' | ']' | '[' | '{' | '}' | '\'' | '"')) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let text = text.trim();
        if text.is_empty() {
            return Err(self.issue("expected a value of the enum", None));
        }
        Ok(text.into())
    }

    fn word(&mut self) -> Result<String, TypeIssue> {
        self.blanks();
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
            self.at += 1;
        }
        if self.at == start {
            let found = self.peek().map_or("the end".to_string(), |c| format!("`{c}`"));
            return Err(self.issue(&format!("expected a type or a name, found {found}"), None));
        }
        Ok(self.chars[start..self.at].iter().collect())
    }

    fn named(&mut self, depth: usize) -> Result<Type, TypeIssue> {
        self.blanks();
        let start = self.at;
        let word = self.word()?;
        if word == "dict" {
            self.expect('[')?;
            let item = self.ty(depth + 1)?;
            self.expect(']')?;
            return Ok(Type::dict(item));
        }
        let name = word.strip_prefix("types.").unwrap_or(&word);
        (self.aliases)(name).or_else(|| Type::named(name)).ok_or_else(|| self.unknown(start, &word))
    }

    fn unknown(&self, start: usize, word: &str) -> TypeIssue {
        let rest: String = self.chars[self.at..].iter().collect();
        let lower = word.to_lowercase();
        let item = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
        let hint = match (item, lower.as_str()) {
            (Some(item), "list" | "array") => Some(format!("write `[{item}]`")),
            (Some(item), "optional") => Some(format!("write `{item}?`")),
            _ => FOREIGN
                .iter()
                .find(|(foreign, _)| *foreign == lower)
                .map(|(_, ours)| format!("write `{ours}`"))
                .or_else(|| {
                    crate::lang::nearest(word, Type::words())
                        .map(|near| format!("did you mean `{near}`?"))
                }),
        };
        let message = format!("there is no type `{word}`");
        self.issue_at(start, word.chars().count(), &message, hint.as_deref())
    }
}

impl fmt::Display for Type {
    /// The notation that [`Type::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(item) => write!(f, "[{item}]"),
            Self::Dict(item) => write!(f, "dict[{item}]"),
            Self::Nullable(inner) => write!(f, "{inner}?"),
            Self::Enum(options) => {
                let words: Vec<String> = options.iter().map(|o| option_text(o)).collect();
                write!(f, "{{enum: [{}]}}", words.join(", "))
            }
            Self::Object(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, ty)| format!("{name}: {ty}")).collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
            named => f.write_str(named.name().unwrap_or_default()),
        }
    }
}

fn option_text(option: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !option.is_empty() && option.chars().all(plain) {
        return option.into();
    }
    let quote = if option.contains('\'') { '"' } else { '\'' };
    format!("{quote}{option}{quote}")
}
