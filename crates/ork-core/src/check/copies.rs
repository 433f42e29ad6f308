//! Reruns: what was copied of an earlier run.

use super::{Broken, Violation};
use crate::ids::InstancePath;
use crate::plan::{Plan, Task};
use crate::rows::{ActiveRun, EventRow, TaskRow, VersionRow};
use crate::run::{EventKind, Source, TaskState};

/// Checks what a run copied of an earlier one: `earlier` is all that it was ever told of that,
/// `rows` are its own instances. Each copy has to be of a success that no person set, of the same
/// task with the same code and inputs, and has that one's output.
pub fn check_copies<'a>(
    version: &VersionRow,
    events: impl IntoIterator<Item = &'a EventRow>,
    rows: &[&TaskRow],
    earlier: &[&ActiveRun],
) -> Vec<Violation> {
    let mut found = Vec::new();
    for event in events {
        let EventKind::TaskFinished { source: Some(Source::Copy { run: from }), .. } = &event.kind
        else {
            continue;
        };
        let Some(path) = &event.path else { continue };
        let own =
            rows.iter().find(|row| row.path == *path && Some(row.generation) == event.generation);
        let Some(own) = own else { continue };
        let told = earlier.iter().filter(|active| active.run.id == *from);
        // One that it could be copied from is enough.
        let mut verdicts = told.map(|active| differs(version, own, active));
        if let Some(differs) = verdicts.try_fold("run", |_, one| one) {
            let (run, path) = (event.run, Some(path.clone()));
            let broken = Broken::WrongCopy { from: *from, differs };
            found.push(Violation { run, seq: Some(event.seq), path, broken });
        }
    }
    found
}

/// In what an instance is not as in the earlier run; none where it could be copied.
fn differs(version: &VersionRow, own: &TaskRow, earlier: &ActiveRun) -> Option<&'static str> {
    let there = earlier.tasks.iter().find(|row| row.path == own.path);
    let Some(there) = there.filter(|row| row.state == TaskState::Success) else {
        return Some("success");
    };
    if there.marked {
        return Some("origin");
    }
    if there.output != own.output {
        return Some("output");
    }
    if there.inputs.clone().unwrap_or_default() != own.inputs.clone().unwrap_or_default() {
        return Some("inputs");
    }
    let (new, old) = (&version.plan, &earlier.version.plan);
    let same = match (find(new, &own.path), find(old, &own.path)) {
        (Some(new), Some(old)) => {
            (&new.action, &new.env, &new.inputs) == (&old.action, &old.env, &old.inputs)
                && (&new.input_type, &new.output_type, &new.poll)
                    == (&old.input_type, &old.output_type, &old.poll)
        }
        _ => false,
    };
    if !same || new.env != old.env {
        return Some("task");
    }
    (version.code != earlier.version.code).then_some("code")
}

/// The task of a path outside of groups; what is inside of one is never copied.
fn find<'p>(plan: &'p Plan, path: &InstancePath) -> Option<&'p Task> {
    let name = path.as_str();
    let (scope, name) = match name.strip_prefix("finally/") {
        Some(name) => (&plan.finally, name),
        None => (&plan.body, name),
    };
    let name = name.split('[').next().unwrap_or(name);
    scope.tasks.iter().find(|task| task.name == name)
}
