//! DAGs that are made at run time: a value that is exactly what a file would hold under `tasks`,
//! compiled by the same compiler, behind a fence.

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Report};
use super::keys::FILE;
use super::notation::Aliases;
use super::python::Reader;
use super::read::Known;
use super::task::World;
use super::tree::{self, Limits};
use super::{Lower, Sources};
use crate::plan::{Action, Plan, Scope, Task};
use crate::types::Type;
use crate::value::Value;

/// Compiles a DAG that was made at run time in a task of `plan`. It sees the params, its own
/// tasks, and `values`, the items of the maps that it is in; an executor has to be in `allow`; calls of workflows and further DAGs made at run time
/// are refused. Its code is read from `sources`, which are those of `plan`.
///
/// # Errors
/// All that is wrong. Places are lines and columns of the value written as indented JSON.
pub fn generated(
    value: &Value,
    allow: &[String],
    plan: &Plan,
    values: &[(String, Type)],
    sources: &dyn Sources,
) -> Result<Scope, Vec<Diagnostic>> {
    let limits = Limits::default();
    let text = serde_json::to_string_pretty(&serde_json::json!({ "tasks": value }));
    let text = text.unwrap_or_default();
    let mut report = Report::new("tasks", &text);
    let root = tree::parse(&mut report, &limits, false);
    let mut lower = Lower {
        report,
        sources,
        limits: &limits,
        aliases: Aliases::default(),
        reader: Reader::new(sources),
        signatures: HashMap::new(),
        older: false,
        too_large: false,
        name: plan.name.clone(),
        escaped: Vec::new(),
        unchecked: Vec::new(),
    };
    let scope = root.and_then(|tree| lower.dag(&tree.root, allow, plan, values));
    match scope.filter(|_| !lower.report.has_errors()) {
        Some(scope) => Ok(scope),
        None => Err(lower.report.finish()),
    }
}

impl Lower<'_> {
    fn dag(
        &mut self,
        root: &tree::Node,
        allow: &[String],
        plan: &Plan,
        values: &[(String, Type)],
    ) -> Option<Scope> {
        let known = Known { what: "the DAG", table: FILE, also: &[], words: &[] };
        let fields = self.fields(root, &known)?;
        let heads = self.heads(&fields, "tasks");
        self.check_tasks(&fields, &heads, &[]);
        let facts: Vec<_> = heads.iter().map(|head| self.facts(head, None, &plan.params)).collect();
        let types = super::file::types(&heads, &facts, false);
        let world =
            World { params: &plan.params, tasks: &types, defaults: None, finally: false, values };
        let scope = self.scope(&heads, &facts, &world)?;
        for (head, task) in heads.iter().zip(&scope.tasks) {
            if let Some(why) = fence(task, allow) {
                self.report
                    .error(head.place, "not-allowed", why)
                    .hint("`allow` lists what a DAG made at run time may run");
            }
        }
        Some(scope)
    }
}

/// Why a task may not be in a DAG that was made at run time.
fn fence(task: &Task, allow: &[String]) -> Option<String> {
    match &task.action {
        Action::Execute { executor, .. } if !allow.contains(executor) => {
            Some(format!("`{}` is run by `{executor}`, which is not allowed here", task.name))
        }
        Action::Call { .. } | Action::Generate { .. } => Some(format!(
            "`{}` has `{}`, which cannot stand in a DAG made at run time",
            task.name,
            task.action.word()
        )),
        Action::Group { tasks, .. } => tasks.tasks.iter().find_map(|task| fence(task, allow)),
        Action::Execute { .. } | Action::Approval(_) | Action::Wait(_) => None,
    }
}
