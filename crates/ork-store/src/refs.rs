//! Which blobs a row refers to.

use ork_core::plan::Binding;
use ork_core::rows::{
    AttemptRow, BackfillRow, CacheRow, Change, CodeRef, RunRow, TaskRow, VersionRow,
};
use ork_core::value::{Data, Digest, FileRef, Value};

/// The blobs of a run: files of its params, its output, and what its `detail` names in the JSON
/// form of a [`Data`].
pub(crate) fn run(row: &RunRow, found: &mut dyn FnMut(Digest)) {
    detail(&row.params, found);
    row.output.iter().for_each(|output| data(output, found));
    detail(&row.detail, found);
}

/// The blobs of an instance: its inputs, its output, and those that its `detail` names.
pub(crate) fn task(row: &TaskRow, found: &mut dyn FnMut(Digest)) {
    row.inputs.iter().flat_map(|inputs| inputs.values()).for_each(|input| data(input, found));
    row.output.iter().for_each(|output| data(output, found));
    detail(&row.detail, found);
}

/// The files that an attempt left.
pub(crate) fn attempt(row: &AttemptRow, found: &mut dyn FnMut(Digest)) {
    row.artifacts.iter().for_each(|files| data(files, found));
}

/// The files of a backfill's params.
pub(crate) fn backfill(row: &BackfillRow, found: &mut dyn FnMut(Digest)) {
    for param in row.spec.params.values() {
        if let Binding::Const(value) = param {
            detail(value, found);
        }
    }
}

/// The output of a success that may be reused.
pub(crate) fn cache(row: &CacheRow, found: &mut dyn FnMut(Digest)) {
    row.output.iter().for_each(|output| data(output, found));
}

/// The blobs that a run's change refers to.
pub fn each_blob(change: &Change, found: &mut dyn FnMut(Digest)) {
    match change {
        Change::Run(row) => run(row, found),
        Change::Task(row) => task(row, found),
        Change::Attempt(row) => attempt(row, found),
        Change::Cache(row) => cache(row, found),
        _ => {}
    }
}

/// The bundle of a version.
pub(crate) fn version(row: &VersionRow) -> Option<Digest> {
    match row.code {
        CodeRef::Bundle { digest } => Some(digest),
        CodeRef::InPlace { .. } => None,
    }
}

fn data(value: &Data, found: &mut dyn FnMut(Digest)) {
    match value {
        Data::Blob { digest, .. } => found(*digest),
        Data::Inline(value) => detail(value, found),
    }
}

fn detail(value: &Value, found: &mut dyn FnMut(Digest)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| detail(item, found)),
        Value::Object(fields) => {
            let blob = fields.get("blob").and_then(|blob| blob.get("digest"));
            let digest = blob.and_then(Value::as_str).and_then(|text| text.parse().ok());
            digest.into_iter().for_each(&mut *found);
            if let Some(file) = FileRef::of(value) {
                found(file.digest);
            }
            fields.values().for_each(|field| detail(field, found));
        }
        _ => {}
    }
}
