//! Signatures of Python functions, read from the source's syntax tree. User code is never
//! imported or run.

use super::Sources;
use crate::types::Type;

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

/// Reads the signature of a function.
///
/// # Errors
/// When the file or the function is not there, or the file is not Python.
pub fn signature(
    _sources: &dyn Sources,
    target: Target<'_>,
    _function: &str,
) -> Result<Signature, SignatureError> {
    let (Target::File(file) | Target::Module(file)) = target;
    Err(SignatureError {
        code: "python-file",
        message: "not built yet".into(),
        file: file.into(),
        place: None,
        hint: None,
    })
}

/// An annotation's type with each `datetime` in it as the kind that `given` has at the same place;
/// alone it means `datetime_notz`.
#[must_use]
pub fn specialise(annotation: &Type, _given: &Type) -> Type {
    annotation.clone()
}
