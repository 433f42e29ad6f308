//! The top level of a file.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::data::value;
use super::executors;
use super::expr::{Name, Presence, TaskType};
use super::given::before_a_run;
use super::keys::{CODE, DEFAULTS, FILE, FILE_WORDS, PARAM_KEYS, translate};
use super::read::{Fields, Known, is_workflow_name};
use super::task::{Facts, Head, World};
use super::tree::{Entry, Node, Place};
use crate::plan::{Action, Binding, Code, Metadata, Param, Plan, Preset, Scope, Task};
use crate::types::Type;

impl Lower<'_> {
    /// Lowers a whole file. What comes out is whole only when nothing was reported.
    pub(crate) fn file(&mut self, root: &Node, file: &str) -> Option<Plan> {
        let known = Known { what: "the file", table: FILE, also: &[], words: FILE_WORDS };
        let fields = self.fields(root, &known)?;
        if let Some(types) = fields.get("types") {
            self.older = has_older(&fields);
            self.aliases(types);
        }
        let name = self.workflow_own_name(&fields, file);
        if let Some(name) = &name {
            self.name.clone_from(name);
        }
        let params = fields.get("params").map(|node| self.params(node)).unwrap_or_default();
        let schedules = fields.get("schedules").map(|node| self.schedules(node, &params));
        let defaults = fields.get("defaults").and_then(|node| self.defaults(node));
        let body = self.heads(&fields, "tasks");
        let finally = self.heads(&fields, "finally");
        self.check_tasks(&fields, &body, &finally);
        let body_facts: Vec<_> =
            body.iter().map(|head| self.facts(head, defaults.as_ref(), &params)).collect();
        let finally_facts: Vec<_> =
            finally.iter().map(|head| self.facts(head, defaults.as_ref(), &params)).collect();
        let inside = types(&body, &body_facts, false);
        let mut after = types(&body, &body_facts, true);
        after.extend(types(&finally, &finally_facts, false));
        let mut world = World {
            params: &params,
            tasks: &inside,
            defaults: defaults.as_ref(),
            finally: false,
            values: &[],
        };
        let concurrency = fields.get("concurrency").and_then(|node| self.concurrency(node, &world));
        let triggers = fields.get("triggers").map(|node| self.triggers(node, &params));
        let body_scope = self.scope(&body, &body_facts, &world);
        let (output, env) = (self.output(&fields, &world), self.env(fields.get("env"), &world));
        world = World { tasks: &after, finally: true, ..world };
        let finally_scope = self.scope(&finally, &finally_facts, &world);
        let code = self.code(&fields, body_facts.iter().chain(&finally_facts));
        let preset = self.preset(&fields, body_scope.iter().chain(&finally_scope));
        Some(Plan {
            name: name?,
            metadata: self.metadata(&fields),
            timeout: fields.get("timeout").and_then(|node| self.timeout(node)),
            body: body_scope?,
            finally: finally_scope?,
            params,
            env,
            output_type: output.as_ref().map(|(_, ty)| ty.clone()),
            output: output.map(|(binding, _)| binding),
            code,
            concurrency,
            triggers: triggers.unwrap_or_default(),
            schedules: schedules.unwrap_or_default(),
            preset,
        })
    }

    /// What tasks that are made at run time have of the file, where any are.
    fn preset<'s>(
        &mut self,
        fields: &Fields,
        scopes: impl Iterator<Item = &'s Scope>,
    ) -> Option<Box<Preset>> {
        let mut tasks = Vec::new();
        scopes.for_each(|scope| scope.collect(&mut tasks));
        let makes = |task: &&Task| matches!(task.action, Action::Generate { .. });
        tasks.iter().any(makes).then(|| {
            let defaults = fields.get("defaults").and_then(|node| value(&mut self.report, node));
            let types = self.aliases.all();
            Box::new(Preset { defaults: defaults.unwrap_or_default(), types })
        })
    }

    pub(crate) fn check_tasks(&mut self, fields: &Fields, body: &[Head], finally: &[Head]) {
        let none = fields
            .get("tasks")
            .is_none_or(|node| node.entries().is_some_and(<[_]>::is_empty) || node.is_null());
        let told = |entry: &Entry| translate(FILE_WORDS, &entry.key) == Some("tasks");
        if none && !fields.entries.iter().any(told) {
            self.report
                .error(fields.key_place("tasks"), "no-tasks", "the file has no tasks")
                .hint("`tasks:` holds at least one");
        }
        let most = self.limits.tasks;
        if body.iter().chain(finally).map(Head::count).sum::<usize>() > most {
            let place = fields.key_place("tasks");
            let message = format!("the file has more than {most} tasks (limits.tasks)");
            self.report.error(place, "task-limit", message);
        }
        let names: HashMap<_, _> = body.iter().map(|head| (head.name, head.place)).collect();
        for head in finally {
            if let Some(first) = names.get(head.name) {
                let line = self.report.line_of(first.start);
                let message = format!("the task `{}` is already there in line {line}", head.name);
                self.report.error(head.place, "duplicate-task", message);
            }
        }
    }

    fn workflow_own_name(&mut self, fields: &Fields, file: &str) -> Option<String> {
        if let Some(node) = fields.get("name") {
            let name = self.fixed_text(node, "`name`")?;
            if !is_workflow_name(name) {
                let message = format!("`{name}` cannot name a workflow");
                self.report
                    .error(node.place, "bad-name", message)
                    .hint("a letter, then letters, digits, `_` or `-`, at most 64");
                return None;
            }
            return Some(name.to_owned());
        }
        let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
        let stem = base.strip_suffix(".yaml").or(base.strip_suffix(".yml")).unwrap_or(base);
        let stem = stem.strip_suffix(".ork").unwrap_or(stem);
        if !is_workflow_name(stem) {
            self.report
                .error(fields.place, "missing-key", format!("`{stem}` cannot name a workflow"))
                .hint("give it a `name`");
            return None;
        }
        Some(stem.to_owned())
    }

    fn metadata(&mut self, fields: &Fields) -> Metadata {
        let mut text = |key: &str, what| {
            let node = fields.get(key)?;
            self.fixed_text(node, what).map(str::to_owned)
        };
        let (description, owner) = (text("description", "`description`"), text("owner", "`owner`"));
        let tags = fields.get("tags").and_then(|node| self.texts(node, "`tags`"));
        let mut labels = IndexMap::new();
        let entries = fields.get("labels").and_then(|node| self.map(node, "`labels`"));
        for entry in entries.unwrap_or_default() {
            if let Some(text) = self.fixed_text(&entry.value, "a label") {
                labels.insert(entry.key.clone(), text.to_owned());
            }
        }
        Metadata { description, tags: tags.unwrap_or_default(), labels, owner }
    }

    /// A timeout: longer than nothing.
    pub(crate) fn timeout(&mut self, node: &Node) -> Option<crate::time::Span> {
        let span = self.duration(node, "`timeout`")?;
        if span.0 == 0 {
            self.report
                .error(node.place, "out-of-range", "`timeout` must be longer than 0")
                .hint("leave it out for no timeout");
            return None;
        }
        Some(span)
    }

    pub(crate) fn params(&mut self, node: &Node) -> IndexMap<String, Param> {
        let mut params = IndexMap::new();
        for entry in self.map(node, "`params`").unwrap_or_default() {
            self.check_name(&entry.key, entry.place, "a param");
            if let Some(param) = self.param(entry) {
                params.insert(entry.key.clone(), param);
            } else {
                let unknown = Param { ty: Type::Json, default: None, description: None };
                params.insert(entry.key.clone(), unknown);
            }
        }
        params
    }

    fn param(&mut self, entry: &Entry) -> Option<Param> {
        let node = &entry.value;
        if node.entries().is_none() {
            return Some(Param { ty: self.ty(node)?, default: None, description: None });
        }
        let known = Known {
            what: "a param",
            table: PARAM_KEYS,
            also: &[],
            words: &[("required", "default")],
        };
        let fields = self.fields(node, &known)?;
        let Some(ty) = fields.get("type") else {
            let message = format!("the param `{}` has no `type`", entry.key);
            self.report
                .error(entry.place, "missing-key", message)
                .hint("a map under `params` declares a param; an object type goes under `type`");
            return None;
        };
        let mut ty = self.ty(ty)?;
        if let Some(node) = fields.get("enum") {
            ty = self.param_enum(node, ty)?;
        }
        let description =
            fields.get("description").and_then(|node| self.fixed_text(node, "`description`"));
        let default = match fields.get("default") {
            Some(node) => Some(self.param_default(node, &ty)?),
            None => None,
        };
        Some(Param { ty, default, description: description.map(str::to_owned) })
    }

    fn param_enum(&mut self, node: &Node, ty: Type) -> Option<Type> {
        let words = self.texts(node, "`enum`")?;
        let choices = self.choices(node, words)?;
        match ty {
            Type::Str => Some(choices),
            Type::List(inner) if *inner == Type::Str => Some(Type::list(choices)),
            Type::Nullable(inner) if *inner == Type::Str => Some(choices.nullable()),
            other => {
                let message = format!("`enum` goes with `str` or `[str]`, not with {other}");
                self.report.error(node.place, "type-mismatch", message);
                None
            }
        }
    }

    /// A param's value that is fixed before a run is made: of the param's type, over `run` alone.
    pub(crate) fn param_default(&mut self, node: &Node, ty: &Type) -> Option<Binding> {
        let mut bind = Bind::new(before_a_run(&[]));
        self.binding(node, Some(ty), &mut bind).map(|(binding, _)| binding)
    }

    pub(crate) fn defaults<'n>(&mut self, node: &'n Node) -> Option<Fields<'n>> {
        let names: Vec<_> = executors::ALL.iter().map(|executor| executor.name).collect();
        let known = Known {
            what: "`defaults`",
            table: DEFAULTS,
            also: &names,
            words: &[("retry", "retries")],
        };
        let fields = self.fields(node, &known)?;
        for executor in executors::ALL {
            let Some(node) = fields.get(executor.name) else { continue };
            let known = Known { what: executor.name, table: executor.keys, also: &[], words: &[] };
            let Some(inner) = self.fields(node, &known) else { continue };
            for target in executor.target {
                if inner.get(target).is_some() {
                    let message = format!("`defaults` cannot say what is run: `{target}`");
                    self.report.error(inner.key_place(target), "default-target", message);
                }
            }
        }
        Some(fields)
    }

    /// The tasks of a scope, lowered, each waiting for those it names.
    pub(crate) fn scope(
        &mut self,
        heads: &[Head],
        facts: &[Facts],
        world: &World,
    ) -> Option<Scope> {
        let positions: HashMap<&str, usize> =
            heads.iter().enumerate().map(|(i, head)| (head.name, i)).collect();
        let mut tasks: Vec<Task> = Vec::with_capacity(heads.len());
        for (head, facts) in heads.iter().zip(facts) {
            tasks.extend(self.task(head, facts, world, &positions));
        }
        if tasks.len() != heads.len() {
            return None;
        }
        let places: Vec<Place> = heads.iter().map(|head| head.place).collect();
        self.cycles(&tasks, &places);
        Some(Scope { tasks })
    }

    fn output(&mut self, fields: &Fields, world: &World) -> Option<(Binding, Type)> {
        let scope = world.scope(&[Name::Params, Name::Tasks, Name::Run], false, &[]);
        let node = fields.get("output")?;
        self.binding(node, None, &mut Bind::new(scope))
    }

    fn env(&mut self, node: Option<&Node>, world: &World) -> IndexMap<String, Binding> {
        let scope = world.scope(&[Name::Params, Name::Run, Name::Attempt], false, &[]);
        node.map(|node| self.environment(node, &mut Bind::new(scope))).unwrap_or_default()
    }

    fn code<'f>(&mut self, fields: &Fields, facts: impl Iterator<Item = &'f Facts>) -> Code {
        let mut code = Code::default();
        let known = Known { what: "`code`", table: CODE, also: &[], words: &[] };
        if let Some(inner) = fields.get("code").and_then(|node| self.fields(node, &known)) {
            let root = inner.get("root").and_then(|node| self.fixed_text(node, "`root`"));
            code.root = root.map(str::to_owned);
            let include = inner.get("include").and_then(|node| self.texts(node, "`include`"));
            code.include = include.unwrap_or_default();
        }
        let mut files: Vec<String> = Vec::new();
        facts.for_each(|facts| facts.files(&mut files));
        files.sort();
        files.dedup();
        files.retain(|path| self.sources.read(path).is_ok());
        code.files = files;
        code
    }
}

/// Whether a file has a task of the older form.
fn has_older(fields: &Fields) -> bool {
    let tasks = ["tasks", "finally"].into_iter().filter_map(|key| fields.get(key)?.entries());
    tasks.flatten().any(|entry| entry.value.get("executor").is_some())
}

/// The types of tasks, as seen from among them or from `finally`.
pub(crate) fn types(heads: &[Head], facts: &[Facts], after: bool) -> IndexMap<String, TaskType> {
    let ty = |facts: &Facts| TaskType {
        output: facts.seen_output(),
        presence: if after || facts.allow_failure { Presence::Maybe } else { Presence::ByRule },
    };
    heads.iter().zip(facts).map(|(head, facts)| (head.name.to_owned(), ty(facts))).collect()
}
