//! Signatures of Python functions, read from the source's syntax tree. User code is never
//! imported or run.

mod annotation;
mod classes;
mod module;

use std::collections::HashMap;
use std::rc::Rc;

use indexmap::IndexMap;
use tree_sitter::Node;

use self::module::{Import, Item, Module};
use super::Sources;
use super::nearest;
use crate::types::Type;

/// How many imports are followed from file to file.
const HOPS: usize = 8;

/// What can be known of a function without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The file that holds it, relative to the code root.
    pub file: String,
    /// Its parameters that can be passed by name, in order.
    pub params: Vec<PyParam>,
    /// Whether it takes any further keyword (`**kwargs`).
    pub any_keyword: bool,
    /// What it returns; none when it is not annotated.
    pub returns: Option<Type>,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PyParam {
    /// Its name.
    pub name: String,
    /// Its type: [`Type::Json`] without an annotation or with one that cannot be mapped. A
    /// `datetime` is [`Type::DatetimeNotz`] and fits all three kinds: see [`specialise`].
    pub ty: Type,
    /// Whether it has no default.
    pub required: bool,
}

/// Where a function is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A file relative to the code root: `jobs/etl.py`.
    File(&'a str),
    /// A module under the code root: `jobs.etl`.
    Module(&'a str),
}

/// Why a signature cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureError {
    /// A stable name: `python-file`, `python-function`, `python-syntax`.
    pub code: &'static str,
    /// One sentence that names the thing.
    pub message: String,
    /// The file it is about, relative to the code root.
    pub file: String,
    /// Line and column there, from 1, in characters; none when the file as a whole is meant.
    pub place: Option<(usize, usize)>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Reads the signature of one function. For many, a [`Reader`] parses each file once.
///
/// # Errors
/// When the file or the function is not there, cannot be called by Ork, or is not Python.
pub fn signature(
    sources: &dyn Sources,
    target: Target<'_>,
    function: &str,
) -> Result<Signature, SignatureError> {
    Reader::new(sources).signature(target, function)
}

/// Reads signatures, and keeps the files that it has parsed.
pub struct Reader<'s> {
    sources: &'s dyn Sources,
    modules: HashMap<String, Result<Rc<Module>, Option<SignatureError>>>,
    /// Classes and aliases that are being read, by file and name.
    open: Vec<(String, String)>,
    /// What is left to be read of one annotation.
    budget: usize,
    /// Whether a value is to be made of the annotation: what has a default may be left out.
    makes: bool,
}

impl<'s> Reader<'s> {
    /// A reader of these sources.
    pub fn new(sources: &'s dyn Sources) -> Self {
        Self { sources, modules: HashMap::new(), open: Vec::new(), budget: 0, makes: false }
    }

    /// Reads the signature of a function: a plain `def` at the top of the file, decorated or not,
    /// or imported there from another file of the code root. What is not defined by a `def` takes
    /// any keyword.
    ///
    /// # Errors
    /// As [`signature`].
    pub fn signature(
        &mut self,
        target: Target<'_>,
        function: &str,
    ) -> Result<Signature, SignatureError> {
        let mut module = self.target(target)?;
        let mut name = function.to_string();
        for _ in 0..HOPS {
            match module.item(&name) {
                Some(Item::Function(node)) => return self.function(&module, node, &name),
                Some(Item::Class { node, .. }) => {
                    let message = format!("`{name}` in {} is a class", module.file);
                    let hint = "name a function: a plain `def`";
                    return Err(at(&module, node, message, hint));
                }
                Some(Item::Alias(_)) => return Ok(unknown_function(&module)),
                None => {}
            }
            let Some(import) = module.import(&name) else { break };
            match self.imported(&module, &import) {
                Some((next, Some(original))) => (module, name) = (next, original),
                _ => return Ok(unknown_function(&module)),
            }
        }
        Err(no_function(&module, &name))
    }

    fn target(&mut self, target: Target<'_>) -> Result<Rc<Module>, SignatureError> {
        let (files, shown) = match target {
            Target::File(file) => (vec![file.to_string()], file.to_string()),
            Target::Module(name) => (module_files("", name).into(), format!("module {name}")),
        };
        for file in &files {
            match self.module(file) {
                Ok(module) => return Ok(module),
                Err(Some(error)) => return Err(error),
                Err(None) => {}
            }
        }
        let hint = match target {
            Target::File(_) => "paths are relative to the code root".to_string(),
            Target::Module(_) => format!("looked for {}", files.join(" and ")),
        };
        Err(SignatureError {
            code: "python-file",
            message: format!("there is no {shown}"),
            file: files.into_iter().next().unwrap_or_default(),
            place: None,
            hint: Some(hint),
        })
    }

    /// A parsed file; none when there is no such file.
    fn module(&mut self, file: &str) -> Result<Rc<Module>, Option<SignatureError>> {
        if let Some(known) = self.modules.get(file) {
            return known.clone();
        }
        let read = match self.sources.read(file) {
            Ok(content) => Module::parse(file, &content).map_err(Some),
            Err(None) => Err(None),
            Err(Some(why)) => Err(Some(SignatureError {
                code: "python-file",
                message: format!("{file} cannot be read: {why}"),
                file: file.into(),
                place: None,
                hint: None,
            })),
        };
        self.modules.insert(file.into(), read.clone());
        read
    }

    /// The file of the code root that an import names, and the name in it; none for other code.
    fn imported(&mut self, from: &Module, import: &Import) -> Option<(Rc<Module>, Option<String>)> {
        let folder = from.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let dots = import.module.chars().take_while(|c| *c == '.').count();
        let name = &import.module[dots..];
        let bases: Vec<&str> = match dots {
            0 if folder.is_empty() => vec![""],
            0 => vec!["", folder],
            _ => vec![parent(folder, dots - 1)?],
        };
        for base in bases {
            if let Some(member) = &import.name {
                // `from . import models` names a module.
                let path =
                    if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                let own =
                    if name.is_empty() { None } else { self.first(&module_files(base, name)) };
                if let Some(module) = own {
                    return Some((module, Some(member.clone())));
                }
                if let Some(module) = self.first(&module_files(base, &path)) {
                    return Some((module, None));
                }
            } else if let Some(module) = self.first(&module_files(base, name)) {
                return Some((module, None));
            }
        }
        None
    }

    fn first(&mut self, files: &[String]) -> Option<Rc<Module>> {
        files.iter().find_map(|file| self.module(file).ok())
    }

    fn function(
        &mut self,
        module: &Rc<Module>,
        node: Node<'_>,
        name: &str,
    ) -> Result<Signature, SignatureError> {
        if node.child(0).is_some_and(|first| first.kind() == "async") {
            let message = format!("`{name}` in {} is an `async def`", module.file);
            let hint = "write a plain `def` that calls `asyncio.run(…)`";
            return Err(at(module, node, message, hint));
        }
        let mut signature = unknown_function(module);
        signature.any_keyword = false;
        if let Some(parameters) = node.child_by_field_name("parameters") {
            self.parameters(module, parameters, name, &mut signature)?;
        }
        self.makes = false;
        signature.returns = node
            .child_by_field_name("return_type")
            .map(|annotation| self.annotation(module, module.text(annotation)));
        Ok(signature)
    }

    fn parameters(
        &mut self,
        module: &Rc<Module>,
        parameters: Node<'_>,
        function: &str,
        signature: &mut Signature,
    ) -> Result<(), SignatureError> {
        self.makes = true;
        let mut cursor = parameters.walk();
        for node in parameters.named_children(&mut cursor) {
            match node.kind() {
                "positional_separator" => {
                    if let Some(param) = signature.params.iter().find(|param| param.required) {
                        let message = format!(
                            "`{}` of `{function}` can only be passed by position",
                            param.name
                        );
                        return Err(at(module, node, message, "remove the `/`"));
                    }
                    signature.params.clear();
                }
                "dictionary_splat_pattern" => signature.any_keyword = true,
                "typed_parameter"
                    if node
                        .named_child(0)
                        .is_some_and(|n| n.kind() == "dictionary_splat_pattern") =>
                {
                    signature.any_keyword = true;
                }
                _ => signature.params.extend(self.parameter(module, node)),
            }
        }
        Ok(())
    }

    fn parameter(&mut self, module: &Rc<Module>, node: Node<'_>) -> Option<PyParam> {
        let name = match node.kind() {
            "identifier" => node,
            "typed_parameter" => node.named_child(0).filter(|n| n.kind() == "identifier")?,
            "default_parameter" | "typed_default_parameter" => node.child_by_field_name("name")?,
            _ => return None,
        };
        let annotation = node.child_by_field_name("type");
        let ty = annotation.map_or(Type::Json, |a| self.annotation(module, module.text(a)));
        let default = node.child_by_field_name("value");
        let default_is_none = default.is_some_and(|value| value.kind() == "none");
        let ty = if default_is_none && ty != Type::Json { ty.nullable() } else { ty };
        Some(PyParam { name: module.text(name).into(), ty, required: default.is_none() })
    }
}

/// The files that a dotted module may be in.
fn module_files(base: &str, name: &str) -> [String; 2] {
    let path = name.replace('.', "/");
    let path = if base.is_empty() { path } else { format!("{base}/{path}") };
    [format!("{path}.py"), format!("{path}/__init__.py")]
}

fn parent(folder: &str, levels: usize) -> Option<&str> {
    (0..levels).try_fold(folder, |folder, _| match folder.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if folder.is_empty() => None,
        None => Some(""),
    })
}

fn unknown_function(module: &Module) -> Signature {
    Signature { file: module.file.clone(), params: Vec::new(), any_keyword: true, returns: None }
}

fn at(module: &Module, node: Node<'_>, message: String, hint: &str) -> SignatureError {
    SignatureError {
        code: "python-function",
        message,
        file: module.file.clone(),
        place: Some(module.place(node)),
        hint: Some(hint.into()),
    }
}

fn no_function(module: &Module, name: &str) -> SignatureError {
    let functions = module.functions();
    let hint = nearest(name, functions.iter().copied())
        .map(|near| format!("did you mean `{near}`?"))
        .or_else(|| {
            let known = functions.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            (!known.is_empty()).then(|| format!("it has {known}"))
        });
    SignatureError {
        code: "python-function",
        message: format!("there is no function `{name}` in {}", module.file),
        file: module.file.clone(),
        place: None,
        hint,
    }
}

/// An annotation's type with each `datetime` in it as the kind that `given` has at the same place;
/// alone it means `datetime_notz`.
#[must_use]
pub fn specialise(annotation: &Type, given: &Type) -> Type {
    match (annotation, given) {
        (Type::Nullable(a), _) => specialise(a, given.non_null()).nullable(),
        (Type::DatetimeNotz, Type::DatetimeTz | Type::DatetimeUtc) => given.clone(),
        (_, Type::Nullable(b)) => specialise(annotation, b),
        (Type::List(a), Type::List(b)) => Type::list(specialise(a, b)),
        (Type::Dict(a), Type::Dict(b)) => Type::dict(specialise(a, b)),
        (Type::Object(a), Type::Object(b)) => Type::object(specialise_fields(a, b)),
        _ => annotation.clone(),
    }
}

fn specialise_fields(
    annotation: &IndexMap<String, Type>,
    given: &IndexMap<String, Type>,
) -> IndexMap<String, Type> {
    let field = |(name, ty): (&String, &Type)| {
        let ty = given.get(name).map_or_else(|| ty.clone(), |given| specialise(ty, given));
        (name.clone(), ty)
    };
    annotation.iter().map(field).collect()
}
