//! Files: what tasks leave and hand on by reference.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ork_core::ids::{InstancePath, RunId, Token};
use ork_core::rows::{Change, TaskRow};
use ork_core::run::{Assignment, Outcome};
use ork_core::value::{Data, Digest, FileRef, Value};

use super::World;

/// The files that were put into the blob store, and who made each.
#[derive(Debug, Default)]
pub(in crate::sim) struct Files(HashMap<Digest, (RunId, InstancePath)>);

impl World {
    /// A worker puts what a task leaves into the blob store before it reports. Some successes have
    /// files as output, by value or by reference, and most attempts leave one.
    pub(super) fn with_files(
        &mut self,
        (run, path): (RunId, &InstancePath),
        token: Token,
        outcome: Outcome,
    ) -> (Outcome, Option<Data>) {
        let Some(files) = &mut self.files else { return (outcome, None) };
        let mut leave = |what: &str| {
            let digest = Digest::of(format!("{what} of {token}").as_bytes());
            files.0.insert(digest, (run, path.clone()));
            FileRef { digest, name: path.to_string(), size: 1 }.to_value()
        };
        let artifacts = Data::Inline(Value::from(vec![leave("artifact")]));
        let artifacts = Some(artifacts).filter(|_| !self.extra.chance.one_in(4));
        if !matches!(outcome, Outcome::Success { .. }) || self.extra.chance.one_in(4) {
            return (outcome, artifacts);
        }
        let value = match self.extra.chance.below(3) {
            0 => leave("output"),
            1 => Value::from(vec![leave("first"), leave("second")]),
            _ => serde_json::json!({ "data": leave("output") }),
        };
        let text = value.to_string();
        let mut output = Data::Inline(value.clone());
        if self.extra.chance.one_in(3) {
            let digest = Digest::of(text.as_bytes());
            self.blobs.insert(digest, Arc::new(value));
            output = Data::Blob { digest, size: text.len() as u64 };
        }
        (Outcome::Success { output: Some(output) }, artifacts)
    }

    /// Nothing is made durable that refers to what was never kept.
    pub(super) fn check_references(&mut self, changes: &[Change]) {
        let Some(files) = &self.files else { return };
        let mut lost = BTreeSet::new();
        for change in changes {
            ork_store::each_blob(change, &mut |digest| {
                if !files.0.contains_key(&digest) && !self.blobs.contains_key(&digest) {
                    lost.insert(digest);
                }
            });
        }
        for digest in lost {
            self.problem(format!("a row refers to the blob {digest}, which was never kept"));
        }
    }

    /// What a worker is given can be read.
    pub(super) fn check_inputs(&mut self, assignment: &Assignment) {
        let Some(files) = &self.files else { return };
        let read = |data: &Data| {
            self.value_of(data).is_some_and(|value| {
                files_in(&value).iter().all(|digest| files.0.contains_key(digest))
            })
        };
        let lost = assignment.inputs.iter().find(|(_, data)| !read(data));
        if let Some((name, _)) = lost {
            let path = &assignment.attempt.path;
            self.problem(format!("the input {name} of {path} refers to what was never kept"));
        }
    }

    /// A value, wherever it is.
    fn value_of(&self, data: &Data) -> Option<Arc<Value>> {
        match data {
            Data::Inline(value) => Some(Arc::new(value.clone())),
            Data::Blob { digest, .. } => self.blobs.get(digest).cloned(),
        }
    }

    /// The files in a value that is durable.
    pub(in crate::sim) fn files_of(&self, data: Option<&Data>) -> BTreeSet<Digest> {
        let value = data.and_then(|data| self.value_of(data));
        value.map(|value| files_in(&value)).unwrap_or_default()
    }

    /// The files of an output that this very instance, or an item of it, did not make.
    pub(in crate::sim) fn strange_file(&self, row: &TaskRow) -> Option<Digest> {
        let files = self.files.as_ref()?;
        let made_here = |digest: &Digest| {
            let made = files.0.get(digest);
            made.is_some_and(|(run, path)| *run != row.run || path.0.starts_with(&*row.path.0))
        };
        self.files_of(row.output.as_ref()).into_iter().find(|digest| !made_here(digest))
    }
}

fn files_in(value: &Value) -> BTreeSet<Digest> {
    if let Some(file) = FileRef::of(value) {
        return BTreeSet::from([file.digest]);
    }
    match value {
        Value::Array(items) => items.iter().flat_map(files_in).collect(),
        Value::Object(fields) => fields.values().flat_map(files_in).collect(),
        _ => BTreeSet::new(),
    }
}
