//! Tasks that hold other tasks: groups, DAGs that are made at run time, called workflows.

use indexmap::IndexMap;

use super::binding::Bind;
use super::expr::{CheckScope, Name, Presence, TaskType};
use super::keys::CALL;
use super::read::{Fields, Known};
use super::task::{Facts, Head, World};
use super::tree::Node;
use super::{Lower, executors};
use crate::plan::{Action, Binding, Plan, Scope};
use crate::types::Type;

/// What the tasks of a group see of what is around them.
pub(crate) struct Around {
    pub(crate) tasks: IndexMap<String, TaskType>,
    pub(crate) values: Vec<(String, Type)>,
}

impl Around {
    /// `world` as seen from inside one of its tasks: what has to be there before the group is
    /// opened is there, and everything else may be missing.
    pub(crate) fn of(world: &World, group: &str, certain: bool, proven: &[String]) -> Self {
        let seen = |(name, task): (&String, &TaskType)| {
            let there = match task.presence {
                Presence::ByRule => certain,
                Presence::Always => true,
                Presence::Maybe => false,
            };
            let there = there || proven.contains(name);
            let presence = if there { Presence::Always } else { Presence::Maybe };
            (name.clone(), TaskType { output: task.output.clone(), presence })
        };
        let tasks = world.tasks.iter().filter(|(name, _)| **name != *group).map(seen).collect();
        Self { tasks, values: world.values.to_vec() }
    }
}

impl Lower<'_> {
    /// A group's tasks and output. What they refer to outside is told by [`Lower::escaped`].
    pub(crate) fn group(
        &mut self,
        head: &Head,
        (members, facts): (&[Head], &[Facts]),
        world: &World,
        around: &Around,
    ) -> Option<Action> {
        self.check_shadows(members, around);
        let mut tasks = around.tasks.clone();
        tasks.extend(super::file::types(members, facts, false));
        let inner = World { tasks: &tasks, values: &around.values, ..*world };
        let scope = self.scope(members, facts, &inner);
        let sure = facts.iter().all(Facts::is_sure);
        let output = self.group_output(&head.fields, &inner, sure, members);
        Some(Action::Group { tasks: scope?, output: output? })
    }

    fn check_shadows(&mut self, members: &[Head], around: &Around) {
        for head in members.iter().filter(|head| around.tasks.contains_key(head.name)) {
            let message =
                format!("`{}` is the name of a task outside the group already", head.name);
            self.report
                .error(head.place, "shadowed-task", message)
                .hint("a name means one task wherever it is seen");
        }
    }

    /// The `output` of a group: none when it has none.
    #[expect(clippy::option_option, reason = "the outer one: whether it could be lowered")]
    fn group_output(
        &mut self,
        fields: &Fields,
        world: &World,
        sure: bool,
        members: &[Head],
    ) -> Option<Option<Binding>> {
        let Some(node) = fields.get("output") else { return Some(None) };
        let mut bind = Bind::new(world.scope(&[Name::Params, Name::Tasks, Name::Run], sure, &[]));
        let bound = self.binding(node, None, &mut bind);
        let inside = |name: &String| members.iter().any(|head| head.name == *name);
        self.escaped.extend(bind.tasks.into_iter().map(|(name, _)| name).filter(|n| !inside(n)));
        bound.map(|(binding, _)| Some(binding))
    }

    /// The type of a group's output, as far as it can be told before its expressions are lowered.
    pub(crate) fn group_type(
        &mut self,
        fields: &Fields,
        members: &[Head],
        facts: &[Facts],
        params: &IndexMap<String, crate::plan::Param>,
    ) -> Type {
        let tasks = super::file::types(members, facts, false);
        let sure = facts.iter().all(Facts::is_sure);
        let Some(node) = fields.get("output") else { return members_type(&tasks, sure) };
        let names = [Name::Params, Name::Tasks, Name::Run];
        let values = ["item", "index"].map(|name| (name.to_owned(), Type::Json));
        let scope = CheckScope {
            params,
            tasks: &tasks,
            names: &names,
            certain: sure,
            proven: &[],
            values: &values,
        };
        let bound = self.quietly(|lower| lower.binding(node, None, &mut Bind::new(scope)));
        bound.map_or(Type::Json, |(_, ty)| ty)
    }

    /// A DAG that is made at run time.
    pub(crate) fn generate(&mut self, head: &Head, node: &Node, bind: &mut Bind) -> Option<Action> {
        let (tasks, _) = self.expression(node, "`tasks`", Some(&Type::Json), bind)?;
        let allow = match head.fields.get("allow") {
            Some(node) => self.allowed(node)?,
            None => {
                self.report
                    .error(
                        head.place,
                        "missing-key",
                        "a DAG that is made at run time needs `allow`",
                    )
                    .hint("`allow: [python]` lists the executors that it may use");
                return None;
            }
        };
        if head.fields.get("output").is_some() {
            let place = head.fields.key_place("output");
            self.report
                .error(place, "key-not-here", "the tasks of this group are not known yet")
                .hint("its output is `{member: output}`");
        }
        Some(Action::Generate { tasks, allow, output: None })
    }

    fn allowed(&mut self, node: &Node) -> Option<Vec<String>> {
        let words = self.texts(node, "`allow`")?;
        let known: Vec<_> = executors::ALL.iter().map(|executor| executor.name).collect();
        for word in &words {
            if !known.contains(&word.as_str()) {
                self.report
                    .error(node.place, "unknown-word", format!("there is no executor `{word}`"))
                    .hint(format!("one of {}", known.join(", ")));
                return None;
            }
        }
        if words.is_empty() {
            self.report.error(node.place, "empty-list", "`allow` names no executor");
            return None;
        }
        Some(words)
    }

    /// A called workflow, pinned when it is known here.
    pub(crate) fn call(&mut self, node: &Node, bind: &mut Bind) -> Option<Action> {
        let known = Known {
            what: "`workflow`",
            table: CALL,
            also: &[],
            words: &[("inputs", "params"), ("with", "params"), ("id", "name")],
        };
        let fields = match node.entries() {
            Some(_) => self.fields(node, &known)?,
            None => Fields { entries: &[], place: node.place },
        };
        let name = match (node.entries(), fields.get("name")) {
            (None, _) => self.workflow_name(node)?,
            (Some(_), Some(name)) => self.workflow_name(name)?,
            (Some(_), None) => {
                self.report.error(node.place, "missing-key", "`workflow` has no `name`");
                return None;
            }
        };
        let pinned = self.sources.workflow(&name);
        if name == self.name {
            self.recursion(node, &[&name, &name]);
            return None;
        }
        let Some(pinned) = pinned else {
            let hint = "deploy it before this one, which then calls that version";
            self.unknown_workflow(&name, node, hint);
            let params = self.loose_params(&fields, bind)?;
            return Some(Action::Call { workflow: name, params, pinned: None });
        };
        if let Some(way) = way_back(&pinned.plan, &self.name) {
            let mut names = vec![self.name.clone(), name];
            names.extend(way);
            self.recursion(node, &names.iter().map(String::as_str).collect::<Vec<_>>());
            return None;
        }
        let giver = format!("the call of `{name}`");
        let params = fields.get("params");
        let params = self.given_params(params, &pinned.plan.params, bind, (&giver, node.place))?;
        Some(Action::Call { workflow: name, params, pinned: Some(Box::new(pinned)) })
    }

    fn recursion(&mut self, node: &Node, names: &[&str]) {
        let message = format!("workflows call each other: {}", names.join(" -> "));
        self.report.error(node.place, "workflow-cycle", message).hint("an arrow reads `calls`");
    }

    /// Params of a workflow that is not known here.
    fn loose_params(
        &mut self,
        fields: &Fields,
        bind: &mut Bind,
    ) -> Option<IndexMap<String, Binding>> {
        let Some(node) = fields.get("params") else { return Some(IndexMap::new()) };
        let mut given = IndexMap::new();
        for entry in self.map(node, "`params`")? {
            let (binding, _) = self.binding(&entry.value, None, bind)?;
            given.insert(entry.key.clone(), binding);
        }
        Some(given)
    }

    /// The type of what a called workflow gives.
    pub(crate) fn call_type(&self, node: &Node) -> Type {
        let name = node.get("name").unwrap_or(node).scalar().map(|scalar| scalar.text.as_str());
        let pinned = name.and_then(|name| self.sources.workflow(name));
        pinned.and_then(|pinned| pinned.plan.output_type.clone()).unwrap_or(Type::Json)
    }
}

/// What a group without `output` gives: its members' outputs; each may be missing unless all have
/// succeeded whenever the group has.
fn members_type(tasks: &IndexMap<String, TaskType>, sure: bool) -> Type {
    let fields = tasks.iter().filter_map(|(name, task)| {
        let ty = task.output.clone()?;
        Some((name.clone(), if sure { ty } else { ty.nullable() }))
    });
    Type::object(fields.collect())
}

/// The names on the way from a workflow to `name` through what it calls; none when it never does.
fn way_back(plan: &Plan, name: &str) -> Option<Vec<String>> {
    fn within(scope: &Scope, name: &str) -> Option<Vec<String>> {
        scope.tasks.iter().find_map(|task| match &task.action {
            Action::Group { tasks, .. } => within(tasks, name),
            Action::Call { workflow, .. } if workflow == name => Some(vec![workflow.clone()]),
            Action::Call { workflow, pinned: Some(pinned), .. } => {
                let mut way = way_back(&pinned.plan, name)?;
                way.insert(0, workflow.clone());
                Some(way)
            }
            _ => None,
        })
    }
    within(&plan.body, name).or_else(|| within(&plan.finally, name))
}
