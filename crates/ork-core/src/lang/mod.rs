//! The workflow language: from a file's text to a checked [`crate::plan::Plan`].

mod binding;
mod bounds;
mod data;
mod diagnostic;
mod edges;
pub mod executors;
pub mod expr;
mod file;
mod fmt;
mod generated;
mod given;
mod graph;
mod groups;
mod keys;
mod maps;
mod notation;
mod params;
pub mod python;
mod read;
mod retries;
mod schedules;
mod schema;
mod task;
pub mod tree;
mod triggers;
mod waits;

use std::collections::HashMap;

pub use self::data::data;
use self::diagnostic::Report;
pub(crate) use self::diagnostic::nearest;
pub use self::diagnostic::{Diagnostic, Severity, render};
pub use self::fmt::{Formatted, format};
pub use self::generated::generated;
pub use self::graph::{GraphFormat, graph};
pub use self::keys::MAX_SLOTS;
use self::notation::Aliases;
pub(crate) use self::params::bind_form;
pub use self::params::{Given, ParamError, RunFacts, bind_params, bind_scheduled, bind_triggered};
use self::python::{Reader, Signature, SignatureError, Target};
pub use self::read::{duration, is_name, is_workflow_name, size};
pub use self::schema::schema;
pub use self::tree::Limits;
use self::tree::{Place, Refusal};
use crate::plan::{Action, Pinned, Plan};
use crate::value::Digest;

/// Where the files that a workflow names are read from: a folder, a bundle, a test's map. Paths
/// are relative to the code root, with `/`.
pub trait Sources {
    /// The content of a file.
    ///
    /// # Errors
    /// One sentence that says why it cannot be read; `None` when there is no such file.
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>>;

    /// The current version of another workflow of the project, for one that calls it. Where
    /// workflows are not known, none is: the call is not checked and cannot run.
    fn workflow(&self, _name: &str) -> Option<Pinned> {
        None
    }

    /// Whether a workflow that is not found is not there, and not merely unknown here.
    fn knows_workflows(&self) -> bool {
        false
    }

    /// Whether the project has a pool of this name; none where pools are not known.
    fn has_pool(&self, _name: &str) -> Option<bool> {
        None
    }

    /// Whether a worker serves this queue now; none where workers are not known.
    fn has_queue(&self, _name: &str) -> Option<bool> {
        None
    }
}

/// What came of a file.
#[derive(Debug)]
pub struct Compiled {
    /// The plan, when there is no error.
    pub plan: Option<Plan>,
    /// All findings, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// What could not be checked here, since only a server knows it, each once: workflows that are
    /// called or waited for, pools and queues.
    pub unchecked: Vec<String>,
    /// The digest of the file without its metadata, of the code files that it names and of the
    /// workflows that it calls: what makes a version.
    pub digest: Digest,
    /// The digest of the code files that it names, with their paths.
    pub code: Digest,
}

impl Compiled {
    /// Whether the file is accepted.
    pub fn is_ok(&self) -> bool {
        self.plan.is_some()
    }
}

/// Compiles a workflow file: all that is wrong with it at once, or its plan.
///
/// `file` is the name that findings carry, and its stem names a workflow that does not say
/// otherwise. Code files are read from `sources`, never from disk. It never panics and its cost
/// is bounded by [`Limits`].
pub fn compile(file: &str, bytes: &[u8], sources: &dyn Sources) -> Compiled {
    compile_within(file, bytes, sources, &Limits::default())
}

/// [`compile`] within other limits.
pub fn compile_within(
    file: &str,
    bytes: &[u8],
    sources: &dyn Sources,
    limits: &Limits,
) -> Compiled {
    let text = match decoded(file, bytes, limits) {
        Ok(text) => text,
        Err(diagnostics) => {
            let (digest, code) = (Digest::of(bytes), Digest::of(&[]));
            return Compiled { plan: None, diagnostics, unchecked: Vec::new(), digest, code };
        }
    };
    let mut report = Report::new(file, &text);
    let tree = tree::parse(&mut report, limits, false);
    let mut lower = Lower {
        report,
        sources,
        limits,
        aliases: Aliases::default(),
        reader: Reader::new(sources),
        signatures: HashMap::new(),
        older: false,
        too_large: false,
        name: String::new(),
        escaped: Vec::new(),
        unchecked: Vec::new(),
    };
    let content = tree.as_ref().map_or_else(|| bytes.to_vec(), |tree| content(bytes, &tree.root));
    let plan = tree.and_then(|tree| lower.file(&tree.root, file));
    let files = plan.as_ref().map(|plan| digests(plan, sources)).unwrap_or_default();
    let digest = digest(&content, plan.as_ref(), &files);
    let plan = plan.filter(|_| !lower.report.has_errors());
    let (diagnostics, code) = (lower.report.finish(), Digest::of(&files));
    Compiled { plan, diagnostics, unchecked: lower.unchecked, digest, code }
}

/// The keys that say nothing of what a workflow does.
const METADATA: [&str; 4] = ["description", "tags", "labels", "owner"];

/// What is written in a file beside the workflow's metadata. A value that others may refer to
/// stays.
fn content(bytes: &[u8], root: &tree::Node) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes.len());
    let mut from = 0;
    let entries = root.entries().unwrap_or_default().iter();
    for entry in entries.filter(|entry| METADATA.contains(&entry.key.as_str())) {
        let (start, end) = (entry.place.start, entry.value.place.end.min(bytes.len()));
        if start < from || end < start || bytes[start..end].contains(&b'&') {
            continue;
        }
        content.extend(&bytes[from..start]);
        let blank = bytes[end..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        from = end + blank;
    }
    content.extend(&bytes[from..]);
    content
}

/// The digests of the code files that a plan names, each after that of its path.
fn digests(plan: &Plan, sources: &dyn Sources) -> Vec<u8> {
    let digests = plan.code.files.iter().flat_map(|path| {
        let content = sources.read(path).unwrap_or_default();
        [Digest::of(path.as_bytes()).0, Digest::of(&content).0]
    });
    digests.flatten().collect()
}

/// The digest of a file, the code files that it names and the versions that it calls. Each part
/// goes in by its own digest, so that no two lists of parts look alike.
fn digest(bytes: &[u8], plan: Option<&Plan>, files: &[u8]) -> Digest {
    let mut parts = Digest::of(bytes).0.to_vec();
    parts.extend(files);
    for task in plan.iter().flat_map(|plan| plan.all_tasks()) {
        if let Action::Call { workflow, pinned: Some(pinned), .. } = &task.action {
            let called = format!("{workflow}@{}", pinned.version.0);
            parts.extend(Digest::of(called.as_bytes()).0);
        }
    }
    Digest::of(&parts)
}

/// The text of a file, or what is said of bytes that are none.
fn decoded(file: &str, bytes: &[u8], limits: &Limits) -> Result<String, Vec<Diagnostic>> {
    let (at, refusal) = match tree::decode(bytes, limits) {
        Ok(text) => return Ok(text),
        Err(refused) => refused,
    };
    let before = String::from_utf8_lossy(&bytes[..at.min(bytes.len())]);
    let mut report = Report::new(file, &before);
    let place = Place::new(at, at + 1);
    match refusal {
        Refusal::TooLarge => {
            let most = limits.bytes;
            let message = format!("the file has more than {most} bytes (limits.file)");
            report.error(place, "file-limit", message);
        }
        Refusal::Utf16 => report
            .error(place, "not-utf8", "the file is UTF-16, not UTF-8")
            .hint("save it as UTF-8"),
        Refusal::Bom => report
            .error(place, "byte-order-mark", "the file begins with a byte order mark")
            .hint("save it as UTF-8 without one"),
        Refusal::NotUtf8 => report
            .error(place, "not-utf8", format!("the byte 0x{:02X} is not UTF-8", bytes[at]))
            .hint("save the file as UTF-8"),
        Refusal::Nul => {
            report.error(place, "not-text", "the file holds a NUL character");
        }
    }
    Err(report.finish())
}

/// The lowering of one file.
pub(crate) struct Lower<'a> {
    pub(crate) report: Report<'a>,
    pub(crate) sources: &'a dyn Sources,
    limits: &'a Limits,
    aliases: Aliases,
    reader: Reader<'a>,
    signatures: HashMap<(String, String), Result<Signature, SignatureError>>,
    /// Whether the older form's names of types are read.
    older: bool,
    too_large: bool,
    /// The workflow's name.
    name: String,
    /// Tasks that were referred to from inside the group that was lowered last, and are not in it.
    escaped: Vec<String>,
    unchecked: Vec<String>,
}

impl Lower<'_> {
    /// Remembers a name that only a server knows.
    pub(crate) fn not_checked(&mut self, what: &str, name: &str) {
        let what = format!("the {what} `{name}`");
        if !self.unchecked.contains(&what) {
            self.unchecked.push(what);
        }
    }

    /// Does something without saying what is wrong, which is said elsewhere.
    pub(crate) fn quietly<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let mark = self.report.mark();
        let result = act(self);
        self.report.forget(mark);
        result
    }

    /// A function's signature, read once.
    pub(crate) fn signature(
        &mut self,
        target: Target<'_>,
        function: &str,
    ) -> Result<Signature, SignatureError> {
        let (Target::File(at) | Target::Module(at)) = target;
        let key = (at.to_owned(), function.to_owned());
        let read = || self.reader.signature(target, function);
        self.signatures.entry(key).or_insert_with(read).clone()
    }

    /// Reports why a signature cannot be read: in the code file where that has a place.
    pub(crate) fn signature_error(&mut self, place: Place, e: &SignatureError) {
        if let Some((line, column)) = e.place {
            self.report.push(Diagnostic {
                severity: Severity::Error,
                code: e.code.into(),
                message: e.message.clone(),
                file: e.file.clone(),
                line,
                column,
                length: 1,
                hint: e.hint.clone(),
            });
            return;
        }
        let found = self.report.error(place, e.code, e.message.clone());
        if let Some(hint) = &e.hint {
            found.hint(hint.clone());
        }
    }
}
