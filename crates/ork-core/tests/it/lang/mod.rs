//! The workflow language.

mod dynamic;
mod fmt;
mod fuzz;
mod generated;
mod hostile;
mod lower;
mod schedules;
mod tools;
mod traps;

use std::collections::HashMap;

use ork_core::lang::{Compiled, Sources, compile, render};

/// Code files of a test.
#[derive(Default)]
pub(crate) struct Files(HashMap<String, Vec<u8>>);

impl Files {
    pub(crate) fn new<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Self {
        Self(files.into_iter().map(|(path, text)| (path.into(), text.into())).collect())
    }
}

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        self.0.get(path).cloned().ok_or(None)
    }
}

/// Compiles without code files.
pub(crate) fn compiled(yaml: &[u8]) -> Compiled {
    compile("flow.yaml", yaml, &Files::default())
}

/// What a person reads.
pub(crate) fn shown(yaml: &str) -> String {
    let compiled = compiled(yaml.as_bytes());
    render(&compiled.diagnostics, |file| (file == "flow.yaml").then_some(yaml), false)
}
