//! From annotations, classes and aliases to types.

use std::rc::Rc;

use indexmap::IndexMap;
use tree_sitter::Node;

use super::Reader;
use super::annotation::{Note, read};
use super::module::{Item, Module};
use crate::types::Type;

/// How deep annotations, classes and aliases are followed; deeper is `json`.
const DEPTH: usize = 32;
/// How many parts one annotation may have in all; further ones are `json`.
const PARTS: usize = 2_000;

/// What a class gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An object of its annotated fields.
    Record,
    /// An object whose fields may be left out.
    Partial,
    /// One of its members.
    Options,
    /// An enum whose `auto()` is the member's name in lower case.
    TextOptions,
    Unknown,
}

impl Reader<'_> {
    /// The type of an annotation in a file; `json` when it has none in the language.
    pub(super) fn annotation(&mut self, module: &Rc<Module>, text: &str) -> Type {
        self.budget = PARTS;
        self.note(module, &read(text), 0)
    }

    fn note(&mut self, module: &Rc<Module>, note: &Note, depth: usize) -> Type {
        self.budget = self.budget.saturating_sub(1);
        if depth > DEPTH || self.budget == 0 {
            return Type::Json;
        }
        match note {
            Note::Null => Type::Json.nullable(),
            Note::Name(name) => self.named(module, name, depth),
            Note::Generic(head, args) => self.generic(module, head, args, depth),
            Note::Union(notes) => self.union(module, notes, depth),
            Note::Text(text) => self.note(module, &read(text), depth + 1),
            Note::Int | Note::Bool | Note::Other => Type::Json,
        }
    }

    fn named(&mut self, module: &Rc<Module>, name: &str, depth: usize) -> Type {
        match self.find(module, name) {
            Found::Here(module, name) => self.item(&module, &name, depth + 1),
            Found::Elsewhere(name) => builtin(&name),
        }
    }

    /// Follows imports from a name to the file that defines it.
    fn find(&mut self, module: &Rc<Module>, name: &str) -> Found {
        let mut module = module.clone();
        let mut name = name.to_string();
        for _ in 0..super::HOPS {
            if module.item(&name).is_some() {
                return Found::Here(module, name);
            }
            // `import pkg.models`, then `pkg.models.Extract`.
            let (prefix, rest) =
                name.rsplit_once('.').map_or((name.as_str(), None), |(a, b)| (a, Some(b)));
            let Some(import) = module.import(prefix) else { break };
            match (self.imported(&module, &import), rest) {
                (Some((next, Some(original))), None) => (module, name) = (next, original),
                (Some((next, None)), Some(rest)) => (module, name) = (next, rest.to_string()),
                (None, None) => return Found::Elsewhere(import.name.unwrap_or_default()),
                _ => break,
            }
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        Found::Elsewhere(last.into())
    }

    /// A class or an alias; one that is being read already is `json`.
    fn item(&mut self, module: &Rc<Module>, name: &str, depth: usize) -> Type {
        let key = (module.file.clone(), name.to_string());
        if self.open.contains(&key) {
            return Type::Json;
        }
        self.open.push(key);
        let ty = match module.item(name) {
            Some(Item::Alias(right)) => self.alias(module, &read(module.text(right)), depth),
            Some(Item::Class { node, decorated }) => self.class(module, node, decorated, depth),
            _ => Type::Json,
        };
        self.open.pop();
        ty
    }

    fn alias(&mut self, module: &Rc<Module>, note: &Note, depth: usize) -> Type {
        match note {
            Note::Generic(head, args) if last(head) == "NewType" => match args.as_slice() {
                [_, note] => self.note(module, note, depth),
                _ => Type::Json,
            },
            _ => self.note(module, note, depth),
        }
    }

    fn generic(&mut self, module: &Rc<Module>, head: &str, args: &[Note], depth: usize) -> Type {
        let head = match self.find(module, head) {
            Found::Here(..) => return Type::Json,
            Found::Elsewhere(name) => name,
        };
        let mut arg =
            |i: usize| args.get(i).map_or(Type::Json, |note| self.note(module, note, depth + 1));
        match head.as_str() {
            "list" | "List" | "Sequence" | "MutableSequence" | "Iterable" | "Collection" => {
                Type::list(arg(0))
            }
            "tuple" | "Tuple" if args.len() == 2 && args[1] == Note::Other => Type::list(arg(0)),
            "dict" | "Dict" | "Mapping" | "MutableMapping" | "DefaultDict" | "OrderedDict" => {
                if arg(0) == Type::Str { Type::dict(arg(1)) } else { Type::Json }
            }
            "Optional" => arg(0).nullable(),
            "Annotated" | "Required" | "ReadOnly" | "Final" => arg(0),
            "NotRequired" => arg(0).nullable(),
            "Union" => self.union(module, args, depth),
            "Literal" => literal(args),
            _ => Type::Json,
        }
    }

    fn union(&mut self, module: &Rc<Module>, notes: &[Note], depth: usize) -> Type {
        let null = notes.contains(&Note::Null);
        let types: Vec<Type> = notes
            .iter()
            .filter(|note| **note != Note::Null)
            .map(|note| self.note(module, note, depth + 1))
            .collect();
        let null = null || types.iter().any(|ty| matches!(ty, Type::Nullable(_)));
        let joined = types
            .into_iter()
            .map(|ty| ty.non_null().clone())
            .reduce(|a, b| either(&a, &b))
            .unwrap_or(Type::Json);
        if null { joined.nullable() } else { joined }
    }

    fn class(
        &mut self,
        module: &Rc<Module>,
        node: Node<'_>,
        decorated: Option<Node<'_>>,
        depth: usize,
    ) -> Type {
        let mut fields = IndexMap::new();
        match self.shape(module, node, decorated, depth, &mut fields) {
            Shape::Unknown => Type::Json,
            Shape::Options => options(module, node, false),
            Shape::TextOptions => options(module, node, true),
            shape => {
                self.fields(module, node, shape, depth, &mut fields);
                Type::object(fields)
            }
        }
    }

    /// What kind of class it is, by its decorators and bases; collects what it inherits.
    fn shape(
        &mut self,
        module: &Rc<Module>,
        node: Node<'_>,
        decorated: Option<Node<'_>>,
        depth: usize,
        fields: &mut IndexMap<String, Type>,
    ) -> Shape {
        let mut shape = Shape::Unknown;
        let bases = node.child_by_field_name("superclasses");
        for base in bases.map(children).unwrap_or_default() {
            if base.kind() == "keyword_argument" {
                let text: String = module.text(base).split_whitespace().collect();
                if text == "total=False" && shape == Shape::Record {
                    shape = Shape::Partial;
                }
                continue;
            }
            let found = self.base(module, module.text(base), depth, fields);
            if found != Shape::Unknown && shape != Shape::TextOptions {
                shape = found;
            }
        }
        let is_record = decorated.is_some_and(|node| is_dataclass(module, node));
        if shape == Shape::Unknown && is_record { Shape::Record } else { shape }
    }

    fn base(
        &mut self,
        module: &Rc<Module>,
        name: &str,
        depth: usize,
        fields: &mut IndexMap<String, Type>,
    ) -> Shape {
        self.budget = self.budget.saturating_sub(1);
        match self.find(module, name) {
            Found::Elsewhere(name) => match name.as_str() {
                "TypedDict" | "BaseModel" | "NamedTuple" | "Struct" | "BaseSettings" => {
                    Shape::Record
                }
                "StrEnum" => Shape::TextOptions,
                "Enum" | "IntEnum" => Shape::Options,
                _ => Shape::Unknown,
            },
            Found::Here(..) if depth > DEPTH || self.budget == 0 => Shape::Unknown,
            Found::Here(module, name) => match module.item(&name) {
                Some(Item::Class { node, decorated }) => {
                    let shape = self.shape(&module, node, decorated, depth + 1, fields);
                    if matches!(shape, Shape::Record | Shape::Partial) {
                        self.fields(&module, node, shape, depth + 1, fields);
                        return Shape::Record;
                    }
                    shape
                }
                _ => Shape::Unknown,
            },
        }
    }

    fn fields(
        &mut self,
        module: &Rc<Module>,
        class: Node<'_>,
        shape: Shape,
        depth: usize,
        fields: &mut IndexMap<String, Type>,
    ) {
        for assignment in assignments(class) {
            let (Some(left), Some(annotation)) =
                (assignment.child_by_field_name("left"), assignment.child_by_field_name("type"))
            else {
                continue;
            };
            let note = read(module.text(annotation));
            let no_field = |note: &Note| match note {
                Note::Generic(head, _) | Note::Name(head) => {
                    matches!(last(head), "ClassVar" | "KW_ONLY")
                }
                _ => false,
            };
            let name = module.text(left);
            if no_field(&note) || name == "model_config" {
                continue;
            }
            let default = assignment.child_by_field_name("right").map(|node| given(module, node));
            if self.makes && default == Some(Given::Never) {
                continue;
            }
            let required = matches!(&note, Note::Generic(head, _) if last(head) == "Required");
            let ty = self.note(module, &note, depth + 1);
            let optional =
                shape == Shape::Partial && !required || self.makes && default == Some(Given::Maybe);
            fields.insert(name.into(), if optional { ty.nullable() } else { ty });
        }
    }
}

/// Where a name leads.
enum Found {
    /// To an item of a file of the code root.
    Here(Rc<Module>, String),
    /// To other code, under this name.
    Elsewhere(String),
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn builtin(name: &str) -> Type {
    match name {
        "str" | "LiteralString" => Type::Str,
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "date" => Type::Date,
        "datetime" => Type::DatetimeNotz,
        "Path" | "PosixPath" => Type::File,
        "list" | "List" | "Sequence" | "Iterable" => Type::list(Type::Json),
        "dict" | "Dict" | "Mapping" => Type::dict(Type::Json),
        _ => Type::Json,
    }
}

fn literal(args: &[Note]) -> Type {
    let null = args.contains(&Note::Null);
    let types = args.iter().filter(|note| **note != Note::Null).map(|note| match note {
        Note::Text(text) => Type::choice([text.clone()]),
        Note::Int => Type::Int,
        Note::Bool => Type::Bool,
        _ => Type::Json,
    });
    let joined = types.reduce(|a, b| either(&a, &b)).unwrap_or(Type::Json);
    if null { joined.nullable() } else { joined }
}

/// The type of what is one or the other.
fn either(a: &Type, b: &Type) -> Type {
    match (a, b) {
        (Type::Enum(x), Type::Enum(y)) => {
            let mut options = x.to_vec();
            options.extend(y.iter().filter(|option| !x.contains(option)).cloned());
            Type::choice(options)
        }
        (Type::Int, Type::Float) | (Type::Float, Type::Int) => Type::Float,
        _ if a == b => a.clone(),
        _ => Type::Json,
    }
}

fn children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).collect()
}

fn assignments(class: Node<'_>) -> Vec<Node<'_>> {
    let body = class.child_by_field_name("body").map(children).unwrap_or_default();
    let statement = |node: Node<'_>| node.kind() == "expression_statement";
    body.into_iter()
        .filter(|node| statement(*node))
        .filter_map(|node| node.named_child(0))
        .filter(|node| node.kind() == "assignment")
        .collect()
}

/// Whether a field is given when its class is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Always,
    /// It has a default.
    Maybe,
    /// The class sets it itself.
    Never,
}

/// What the right side of a field says: a default, or a call that describes one.
fn given(module: &Module, right: Node<'_>) -> Given {
    let function = right.child_by_field_name("function").map_or("", |node| module.text(node));
    let describes = matches!(last(function), "field" | "Field" | "ib" | "attrib");
    let arguments = right.child_by_field_name("arguments").filter(|_| describes);
    let Some(arguments) = arguments else { return Given::Maybe };
    let mut given = Given::Always;
    for argument in children(arguments) {
        let part = |name| argument.child_by_field_name(name).map_or("", |node| module.text(node));
        match (part("name"), part("value")) {
            ("init", "False") => return Given::Never,
            ("default", "...") => {}
            ("default" | "default_factory" | "factory", _) => given = Given::Maybe,
            // Pydantic's first argument is the default.
            ("", _) if argument.kind() != "ellipsis" && last(function) == "Field" => {
                given = Given::Maybe;
            }
            _ => {}
        }
    }
    given
}

fn is_dataclass(module: &Module, decorated: Node<'_>) -> bool {
    children(decorated).into_iter().filter(|node| node.kind() == "decorator").any(|node| {
        let text = module.text(node).trim_start_matches('@').trim();
        let name = text.split('(').next().unwrap_or_default().trim();
        matches!(last(name), "dataclass" | "define" | "frozen" | "attrs")
            || matches!(name, "attr.s")
    })
}

/// An enum's values: texts, or numbers.
fn options(module: &Module, class: Node<'_>, auto_is_name: bool) -> Type {
    let mut values = Vec::new();
    let mut others = Vec::new();
    for assignment in assignments(class) {
        let (Some(left), Some(right)) =
            (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"))
        else {
            continue;
        };
        match read(module.text(right)) {
            _ if module.text(left).starts_with('_') => {}
            Note::Text(text) => values.push(text),
            Note::Generic(head, _) if auto_is_name && last(&head) == "auto" => {
                values.push(module.text(left).to_lowercase());
            }
            Note::Generic(head, _) if last(&head) == "auto" => others.push(Note::Int),
            note => others.push(note),
        }
    }
    if !values.is_empty() && others.is_empty() {
        return Type::choice(values);
    }
    let numbers = values.is_empty() && !others.is_empty() && others.iter().all(|n| *n == Note::Int);
    if numbers { Type::Int } else { Type::Json }
}
