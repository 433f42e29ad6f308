//! A Python file: its syntax tree and what stands at its top.

use std::rc::Rc;

use tree_sitter::{Node, Parser, Tree};

use super::SignatureError;

/// The largest file that is read, in bytes.
const MAX_FILE: usize = 2 * 1024 * 1024;
/// How deep `if` and `try` at the top of a file are looked into.
const BLOCKS: usize = 4;

/// A parsed file.
pub(super) struct Module {
    pub(super) file: String,
    pub(super) source: String,
    tree: Tree,
}

/// What a name at the top of a file stands for.
#[derive(Clone, Copy)]
pub(super) enum Item<'t> {
    Function(Node<'t>),
    Class {
        node: Node<'t>,
        decorated: Option<Node<'t>>,
    },
    /// The right side of an assignment.
    Alias(Node<'t>),
}

/// Where an imported name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The module as written: `models`, `.models`.
    pub(super) module: String,
    /// The name in it; none when the module itself is meant.
    pub(super) name: Option<String>,
}

impl Module {
    pub(super) fn parse(file: &str, content: &[u8]) -> Result<Rc<Self>, SignatureError> {
        let error = |code, message: String, place| SignatureError {
            code,
            message,
            file: file.into(),
            place,
            hint: None,
        };
        if content.len() > MAX_FILE {
            let message = format!("{file} is larger than {MAX_FILE} bytes");
            return Err(error("python-file", message, None));
        }
        let text = std::str::from_utf8(content)
            .map_err(|_| error("python-syntax", format!("{file} is not UTF-8 text"), None))?;
        let source = text.strip_prefix('\u{feff}').unwrap_or(text).to_string();
        let mut parser = Parser::new();
        let tree = parser
            .set_language(&tree_sitter_python::LANGUAGE.into())
            .ok()
            .and_then(|()| parser.parse(&source, None))
            .ok_or_else(|| error("python-syntax", format!("{file} cannot be parsed"), None))?;
        let module = Self { file: file.into(), source, tree };
        match module.first_error() {
            None => Ok(Rc::new(module)),
            Some(node) => {
                let place = module.place(node);
                Err(error("python-syntax", format!("{file} is not valid Python here"), Some(place)))
            }
        }
    }

    pub(super) fn text(&self, node: Node<'_>) -> &str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    /// Line and column from 1, in characters.
    pub(super) fn place(&self, node: Node<'_>) -> (usize, usize) {
        let start = node.start_position();
        let line_start = node.start_byte().saturating_sub(start.column);
        let before = self.source.get(line_start..node.start_byte()).unwrap_or_default();
        (start.row + 1, before.chars().count() + 1)
    }

    fn first_error(&self) -> Option<Node<'_>> {
        if !self.tree.root_node().has_error() {
            return None;
        }
        let mut cursor = self.tree.walk();
        loop {
            let node = cursor.node();
            if node.is_error() || node.is_missing() {
                return Some(node);
            }
            if node.has_error() && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return Some(self.tree.root_node());
                }
            }
        }
    }

    /// The statements at the top, those in `if` and `try` too.
    fn statements(&self) -> Vec<Node<'_>> {
        let mut found = Vec::new();
        collect(self.tree.root_node(), 0, &mut found);
        found
    }

    /// What a name stands for, by the last statement that says so.
    pub(super) fn item(&self, name: &str) -> Option<Item<'_>> {
        let mut item = None;
        for node in self.statements() {
            let (node, decorated) = match node.kind() {
                "decorated_definition" => match node.child_by_field_name("definition") {
                    Some(definition) => (definition, Some(node)),
                    None => continue,
                },
                _ => (node, None),
            };
            let named = |field: &str| {
                node.child_by_field_name(field).filter(|found| self.text(*found) == name)
            };
            match node.kind() {
                "function_definition" if named("name").is_some() => {
                    item = Some(Item::Function(node));
                }
                "class_definition" if named("name").is_some() => {
                    item = Some(Item::Class { node, decorated });
                }
                "assignment" | "type_alias_statement" if named("left").is_some() => {
                    item = node.child_by_field_name("right").map(Item::Alias).or(item);
                }
                _ => {}
            }
        }
        item
    }

    /// The names of all functions at the top.
    pub(super) fn functions(&self) -> Vec<&str> {
        let definition = |node: Node<'_>| node.kind() == "function_definition";
        self.statements()
            .into_iter()
            .filter_map(|node| match node.kind() {
                "decorated_definition" => node.child_by_field_name("definition"),
                _ => Some(node),
            })
            .filter(|node| definition(*node))
            .filter_map(|node| node.child_by_field_name("name"))
            .map(|name| self.text(name))
            .collect()
    }

    /// Where a name is imported from.
    pub(super) fn import(&self, name: &str) -> Option<Import> {
        self.statements().into_iter().rev().find_map(|node| match node.kind() {
            "import_from_statement" => self.import_from(node, name),
            "import_statement" => self.import_module(node, name),
            _ => None,
        })
    }

    fn import_from(&self, node: Node<'_>, name: &str) -> Option<Import> {
        let module = self.text(node.child_by_field_name("module_name")?);
        let module: String = module.split_whitespace().collect();
        let mut cursor = node.walk();
        node.children_by_field_name("name", &mut cursor).find_map(|imported| {
            let (original, alias) = self.imported(imported)?;
            let import = Import { module: module.clone(), name: Some(original.into()) };
            (alias == name).then_some(import)
        })
    }

    fn import_module(&self, node: Node<'_>, name: &str) -> Option<Import> {
        let mut cursor = node.walk();
        node.children_by_field_name("name", &mut cursor).find_map(|imported| {
            let (module, alias) = self.imported(imported)?;
            (alias == name).then(|| Import { module: module.into(), name: None })
        })
    }

    /// The name that is imported, and the name it gets here.
    fn imported<'m>(&'m self, node: Node<'m>) -> Option<(&'m str, &'m str)> {
        if node.kind() == "aliased_import" {
            let name = node.child_by_field_name("name")?;
            let alias = node.child_by_field_name("alias")?;
            return Some((self.text(name), self.text(alias)));
        }
        Some((self.text(node), self.text(node)))
    }
}

fn collect<'t>(node: Node<'t>, depth: usize, found: &mut Vec<Node<'t>>) {
    let mut cursor = node.walk();
    for child in node.named_children(&mut cursor) {
        match child.kind() {
            "expression_statement" => found.extend(child.named_child(0)),
            "if_statement" | "try_statement" | "else_clause" | "elif_clause" | "except_clause"
            | "finally_clause" | "block" | "with_statement"
                if depth < 2 * BLOCKS =>
            {
                collect(child, depth + 1, found);
            }
            _ => found.push(child),
        }
    }
}
