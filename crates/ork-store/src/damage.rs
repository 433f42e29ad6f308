//! What takes the place of rows that cannot be read, so that their run can still be set aside.

use std::fmt::Display;
use std::sync::Arc;

use ork_core::plan::{Plan, Scope};
use ork_core::rows::{Actor, CodeRef, RunRow, VersionRow};
use ork_core::value::Digest;

/// The version of a run is not there.
pub(crate) fn missing(run: &RunRow) -> String {
    of(run, &"it is missing")
}

/// What is wrong with the version of a run.
pub(crate) fn of(run: &RunRow, why: &dyn Display) -> String {
    format!("version {} of `{}`: {why}", run.version.0, run.workflow)
}

/// In the place of a run's version: no tasks, no code.
pub(crate) fn no_version(run: &RunRow) -> Arc<VersionRow> {
    Arc::new(VersionRow {
        project: run.project,
        workflow: run.workflow.clone(),
        version: run.version,
        digest: Digest::of(&[]),
        source: String::new(),
        plan: Arc::new(Plan::new(&run.workflow, Scope::default())),
        code: CodeRef::InPlace { root: String::new(), digest: Digest::of(&[]) },
        created_by: Actor::default(),
        created_at: run.created_at,
    })
}
