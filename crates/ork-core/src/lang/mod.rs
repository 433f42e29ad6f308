//! The workflow language: from a file's text to a checked [`crate::plan::Plan`].

pub mod expr;
pub mod python;

use crate::plan::Plan;

/// Where the files that a workflow names are read from: a folder, a bundle, a test's map. Paths
/// are relative to the code root, with `/`.
pub trait Sources {
    /// The content of a file.
    ///
    /// # Errors
    /// One sentence that says why it cannot be read; `None` when there is no such file.
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>>;
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the workflow runs.
    Warning,
    /// The workflow is not accepted.
    Error,
}

/// A finding in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name: `unknown-key`, `type-mismatch`.
    pub code: &'static str,
    /// One sentence that names the thing.
    pub message: String,
    /// The file, as the caller named it, or a code file relative to the root.
    pub file: String,
    /// From 1; 0 when the finding is about the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
    /// How to mend it.
    pub hint: Option<String>,
}

/// What came of a file.
#[derive(Debug)]
pub struct Compiled {
    /// The plan, when there is no error.
    pub plan: Option<Plan>,
    /// All findings, by place.
    pub diagnostics: Vec<Diagnostic>,
}
