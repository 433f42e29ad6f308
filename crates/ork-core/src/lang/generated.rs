//! DAGs that are made at run time: a value that is exactly what a file would hold under `tasks`,
//! compiled by the same compiler, behind a fence.

use std::collections::HashMap;

use serde::Serialize;

use super::diagnostic::{Diagnostic, Report};
use super::keys::FILE;
use super::notation::Aliases;
use super::python::Reader;
use super::read::Known;
use super::task::{Form, Head, World};
use super::tree::{self, Limits};
use super::{Lower, Sources};
use crate::plan::{Plan, Preset, Scope};
use crate::types::Type;
use crate::value::Value;

/// Compiles a DAG that was made at run time in a task of `plan`. It sees the params, its own
/// tasks, and `values`, the items of the maps that it is in; its tasks have the file's `defaults`
/// and may name its `types`. An executor has to be in `allow`; calls of workflows and further DAGs
/// made at run time are refused. Its code is read from `sources`, which are those of `plan`.
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
    let none = Preset::default();
    let preset = plan.preset.as_deref().unwrap_or(&none);
    let file = File { tasks: value, defaults: &preset.defaults };
    let text = serde_json::to_string_pretty(&file).unwrap_or_default();
    let mut report = Report::new("tasks", &text);
    let root = tree::parse(&mut report, &limits, false);
    let mut lower = Lower {
        report,
        sources,
        limits: &limits,
        aliases: Aliases::of(&preset.types),
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

/// What is compiled: first the value, so that places are its own.
#[derive(Serialize)]
struct File<'a> {
    tasks: &'a Value,
    defaults: &'a Value,
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
        let defaults = fields.get("defaults").filter(|node| !node.is_null());
        let defaults = defaults.and_then(|node| self.defaults(node));
        let defaults = defaults.as_ref();
        let facts: Vec<_> =
            heads.iter().map(|head| self.facts(head, defaults, &plan.params)).collect();
        let types = super::file::types(&heads, &facts, false);
        let world = World { params: &plan.params, tasks: &types, defaults, finally: false, values };
        let scope = self.scope(&heads, &facts, &world);
        for head in heads {
            self.fence(&head, allow);
        }
        scope
    }

    /// What may not be in a DAG that was made at run time is an error.
    fn fence(&mut self, head: &Head, allow: &[String]) {
        let (why, hint) = match &head.form {
            Form::Group(members) => {
                return members.iter().for_each(|member| self.fence(member, allow));
            }
            Form::Executor(executor) if !allow.iter().any(|name| name == executor.name) => (
                format!("`{}` is run by `{}`, which is not allowed here", head.name, executor.name),
                format!("`allow` lists {}", allow.join(", ")),
            ),
            Form::Call(_) => (
                format!("`{}` calls a workflow, which a DAG made at run time cannot", head.name),
                "call it from the file".to_owned(),
            ),
            Form::Generate(_) => (
                format!("`{}` is a DAG made at run time inside another one", head.name),
                "write its tasks out".to_owned(),
            ),
            Form::Executor(_) | Form::Approval(_) | Form::Wait(_) => return,
        };
        self.report.error(head.place, "not-allowed", why).hint(hint);
    }
}
