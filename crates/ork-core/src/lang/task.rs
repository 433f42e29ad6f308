//! Tasks: first what others need to know of each, then each with its expressions.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::Lower;
use super::binding::{Bind, collect_map, literal};
use super::executors::{self, Block, Executor, Prepared};
use super::expr::{CheckScope, Name, TaskType};
use super::groups::Around;
use super::keys::{FORMS, GROUP_KEYS, RULES, TASK_KEYS, TASK_WORDS, WAIT_KEYS, find};
use super::maps::{INDEX, ITEM, Mapped};
use super::python::specialise;
use super::read::{Fields, Known};
use super::tree::{Node, Place, Yaml};
use crate::plan::{Action, Binding, Expr, ForEach, Param, Task, TriggerRule};
use crate::time::Span;
use crate::types::Type;
use crate::value::Value;

/// A task whose keys have been read.
pub(crate) struct Head<'n> {
    pub(crate) name: &'n str,
    pub(crate) place: Place,
    pub(crate) fields: Fields<'n>,
    pub(crate) form: Form<'n>,
    /// The block that a task of the older form means.
    older: Option<Node>,
}

/// How a task is done.
pub(crate) enum Form<'n> {
    Executor(&'static Executor),
    Group(Vec<Head<'n>>),
    Generate(&'n Node),
    Call(&'n Node),
    Approval(&'n Node),
    Wait(&'n Node),
}

impl Head<'_> {
    /// How many tasks it is, with those inside it.
    pub(crate) fn count(&self) -> usize {
        match &self.form {
            Form::Group(members) => 1 + members.iter().map(Head::count).sum::<usize>(),
            _ => 1,
        }
    }

    fn executor(&self) -> Option<&'static Executor> {
        match self.form {
            Form::Executor(executor) => Some(executor),
            _ => None,
        }
    }

    fn block<'b>(&'b self, defaults: Option<&Fields<'b>>) -> Option<Block<'b>> {
        let name = self.executor()?.name;
        let node = self.older.as_ref().or_else(|| self.fields.get(name))?;
        let entries = node.entries();
        Some(Block {
            node,
            fields: entries.map(|entries| Fields { entries, place: node.place }),
            defaults: defaults.and_then(|fields| fields.get(name)),
            key: self.fields.key_place(name),
        })
    }
}

impl Head<'_> {
    /// What the items of its map are called.
    fn item_names(&self) -> Vec<(String, Type)> {
        let named = self.fields.get("for_each").and_then(|node| node.get("as"));
        let named = named.and_then(Node::scalar).map(|scalar| scalar.text.clone());
        let names = [ITEM, INDEX].map(str::to_owned).into_iter().chain(named);
        names.map(|name| (name, Type::Json)).collect()
    }

    /// The names that a map would add whose items are not known, so that nothing is said of them.
    fn unknown_items(&self) -> Vec<(String, Type)> {
        if self.fields.get("for_each").is_some() { self.item_names() } else { Vec::new() }
    }

    /// Whether the condition is one of each item.
    fn asks_per_item(&self) -> bool {
        let when = self.fields.get("when").and_then(Node::scalar);
        self.fields.get("for_each").is_some()
            && when.is_some_and(|when| {
                let text = when.text.trim();
                let bare = text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}"));
                super::expr::looks_at(bare.unwrap_or(text), &self.item_names())
            })
    }

    /// Whether items may end without an output while the map succeeds.
    fn may_leave_gaps(&self) -> bool {
        let none = |node: &Node| node.scalar().is_some_and(|s| matches!(&*s.text, "0" | "0%"));
        self.asks_per_item() || self.fields.get("tolerate").is_some_and(|node| !none(node))
    }
}

/// What decides whether a task starts, and for which items.
struct Start {
    when: Option<Expr>,
    for_each: Option<ForEach>,
    /// Tasks that have succeeded when it starts.
    proven: Vec<String>,
    /// The names of items.
    values: Vec<(String, Type)>,
    /// Tasks that are referred to.
    seen: Vec<(String, Place)>,
    /// Whether all of it could be lowered.
    whole: bool,
}

/// A form, lowered.
enum Lowered {
    Action(Action),
    /// The fields of an executor's spec.
    Spec(IndexMap<String, Binding>),
}

/// What other tasks' expressions depend on.
pub(crate) struct Facts {
    pub(crate) prepared: Option<Prepared>,
    pub(crate) allow_failure: bool,
    /// The output of one instance.
    pub(crate) output: Option<Type>,
    rule: TriggerRule,
    input: Option<Type>,
    /// Of a group's members.
    members: Vec<Facts>,
    /// Whether the task is a map, and whether the outputs of items may be missing.
    map: Option<bool>,
    /// Whether it may end without success while its group succeeds.
    may_skip: bool,
}

impl Facts {
    /// The output as other tasks see it.
    pub(crate) fn seen_output(&self) -> Option<Type> {
        let output = self.output.clone();
        match self.map {
            None => output,
            Some(gaps) => {
                let item = output.unwrap_or(Type::Json);
                Some(Type::list(if gaps { item.nullable() } else { item }))
            }
        }
    }

    /// The code files that it and what is inside it name.
    pub(crate) fn files(&self, files: &mut Vec<String>) {
        files.extend(self.prepared.iter().flat_map(|prepared| prepared.files.iter().cloned()));
        self.members.iter().for_each(|member| member.files(files));
    }

    /// Whether every member has succeeded whenever the group has.
    pub(crate) fn is_sure(&self) -> bool {
        !self.may_skip && !self.allow_failure && self.rule == TriggerRule::AllSuccess
    }
}

/// What a scope's expressions see.
#[derive(Clone, Copy)]
pub(crate) struct World<'w> {
    pub(crate) params: &'w IndexMap<String, Param>,
    pub(crate) tasks: &'w IndexMap<String, TaskType>,
    pub(crate) defaults: Option<&'w Fields<'w>>,
    pub(crate) finally: bool,
    /// Items of the maps around.
    pub(crate) values: &'w [(String, Type)],
}

impl<'w> World<'w> {
    /// The names that inputs see, and those that the rest of a task sees.
    fn names(&self) -> (&'static [Name], &'static [Name]) {
        if self.finally { (IN_INPUTS_AFTER, IN_SPEC_AFTER) } else { (IN_INPUTS, IN_SPEC) }
    }

    pub(crate) fn scope(
        &self,
        names: &'w [Name],
        certain: bool,
        proven: &'w [String],
    ) -> CheckScope<'w> {
        let Self { params, tasks, values, .. } = *self;
        CheckScope { params, tasks, names, certain, proven, values }
    }
}

const IN_INPUTS: &[Name] = &[Name::Params, Name::Tasks, Name::Run];
const IN_INPUTS_AFTER: &[Name] = &[Name::Params, Name::Tasks, Name::Run, Name::RunEnd];
const IN_SPEC: &[Name] = &[Name::Params, Name::Tasks, Name::Run, Name::Attempt];
const IN_SPEC_AFTER: &[Name] = &[Name::Params, Name::Tasks, Name::Run, Name::RunEnd, Name::Attempt];

const RULE_VALUES: [TriggerRule; 9] = [
    TriggerRule::AllSuccess,
    TriggerRule::AllDone,
    TriggerRule::AllFailed,
    TriggerRule::OneSuccess,
    TriggerRule::OneFailed,
    TriggerRule::OneDone,
    TriggerRule::NoneFailed,
    TriggerRule::NoneSkipped,
    TriggerRule::NoneFailedMinOneSuccess,
];

/// Variables that Ork sets for every task.
const OWN_ENV: &[&str] = &[
    "ORK_RUN_ID",
    "ORK_TASK",
    "ORK_ATTEMPT",
    "ORK_WORKFLOW",
    "ORK_PROJECT",
    "ORK_REQUEST_ID",
    "ORK_MAP_INDEX",
    "ORK_LOGICAL_TIME",
    "ORK_IDEMPOTENCY_KEY",
    "ORK_INPUT",
    "ORK_INPUT_JSON",
    "ORK_OUTPUT",
    "ORK_ARTIFACTS",
    "ORK_HEARTBEAT",
    "ORK_UPSTREAM_JSON",
    "TRACEPARENT",
];

impl Lower<'_> {
    /// Reads the keys of the tasks under `key`.
    pub(crate) fn heads<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Vec<Head<'n>> {
        let Some(node) = fields.get(key).filter(|node| !node.is_null()) else { return Vec::new() };
        let entries = self.map(node, &format!("`{key}`")).unwrap_or_default();
        let mut heads = Vec::with_capacity(entries.len());
        for entry in entries {
            self.check_name(&entry.key, entry.place, "a task");
            heads.extend(self.head(&entry.key, entry.place, &entry.value));
        }
        heads
    }

    fn head<'n>(&mut self, name: &'n str, place: Place, node: &'n Node) -> Option<Head<'n>> {
        let what = format!("the task `{name}`");
        let entries = self.map(node, &what)?;
        let fields = Fields { entries, place };
        if let Some(word) = fields.get("executor") {
            return self.older_head(name, place, fields, word);
        }
        let mut also: Vec<_> = executors::ALL.iter().map(|executor| executor.name).collect();
        also.extend(FORMS.iter().map(|form| form.name));
        also.push("allow");
        let words: Vec<_> = executors::ALL
            .iter()
            .flat_map(|executor| executor.words.iter().map(|word| (*word, executor.name)))
            .chain(TASK_WORDS.iter().copied())
            .collect();
        also.extend(entries.iter().filter_map(|e| executors::later(&e.key)));
        let known = Known { what: &what, table: TASK_KEYS, also: &also, words: &words };
        self.fields(node, &known)?;
        let key = self.form_key(&what, &fields)?;
        let node = fields.get(key)?;
        let form = match (executors::find(key), key) {
            (Some(executor), _) => {
                if node.entries().is_some() {
                    let what = format!("`{key}`");
                    let known = Known { what: &what, table: executor.keys, also: &[], words: &[] };
                    self.fields(node, &known)?;
                }
                Form::Executor(executor)
            }
            (None, "tasks") if node.entries().is_some() => Form::Group(self.members(node)),
            (None, "tasks") => Form::Generate(node),
            (None, "workflow") => Form::Call(node),
            (None, "approval") => Form::Approval(node),
            (None, _) => Form::Wait(node),
        };
        self.check_keys(&form, key, &fields);
        Some(Head { name, place, fields, form, older: None })
    }

    fn members<'n>(&mut self, node: &'n Node) -> Vec<Head<'n>> {
        let entries = node.entries().unwrap_or_default();
        if entries.is_empty() {
            self.report.error(node.place, "no-tasks", "the group has no tasks");
        }
        let mut heads = Vec::with_capacity(entries.len());
        for entry in entries {
            self.check_name(&entry.key, entry.place, "a task");
            heads.extend(self.head(&entry.key, entry.place, &entry.value));
        }
        heads
    }

    /// Keys that mean nothing for a task of this form.
    fn check_keys(&mut self, form: &Form, word: &str, fields: &Fields) {
        let (keys, hint): (&[&str], _) = match form {
            Form::Executor(_) => (&[], "declare the task's `output_type`"),
            Form::Approval(_) | Form::Wait(_) => (WAIT_KEYS, "no worker does such a task"),
            Form::Generate(_) | Form::Group(_) | Form::Call(_) => {
                (GROUP_KEYS, "it belongs to tasks that run something themselves")
            }
        };
        for entry in fields.entries {
            let key = entry.key.as_str();
            let fine = match form {
                Form::Executor(_) => key != "output" && key != "allow",
                Form::Generate(_) => key == "allow" || key == word || keys.contains(&key),
                _ => key == word || keys.contains(&key),
            };
            let known = find(TASK_KEYS, key).is_some_and(|key| key.supported) || key == "allow";
            if !fine && known {
                let message = format!("`{key}` does not go with `{word}`");
                self.report.error(entry.place, "key-not-here", message).hint(hint);
            }
        }
    }

    /// The one key of a task that says how it is done.
    fn form_key(&mut self, what: &str, fields: &Fields) -> Option<&'static str> {
        let mut found = Vec::new();
        for entry in fields.entries {
            if executors::later(&entry.key).is_some() {
                self.unsupported(entry.place, &entry.key);
                return None;
            }
            let form = find(FORMS, &entry.key).map(|form| form.name);
            let key = executors::find(&entry.key).map(|executor| executor.name).or(form);
            found.extend(key.map(|key| (key, entry.place)));
        }
        match found.as_slice() {
            [(key, _)] => Some(key),
            [(first, _), (second, place), ..] => {
                let message = format!("{what} has both `{first}` and `{second}`");
                self.report.error(*place, "two-executors", message).hint("a task runs one thing");
                None
            }
            [] => {
                let told = |key: &str| executors::translate(key).is_some();
                if !fields.entries.iter().any(|entry| told(&entry.key)) {
                    let names: Vec<_> =
                        executors::ALL.iter().map(|e| format!("`{}`", e.name)).collect();
                    self.report
                        .error(
                            fields.place,
                            "no-executor",
                            format!("{what} does not say what it runs"),
                        )
                        .hint(format!("give it {}", names.join(" or ")));
                }
                None
            }
        }
    }

    /// A task of the older form.
    fn older_head<'n>(
        &mut self,
        name: &'n str,
        place: Place,
        fields: Fields<'n>,
        word: &'n Node,
    ) -> Option<Head<'n>> {
        let text = self.text(word, "`executor`")?;
        let Some(executor) = executors::ALL.iter().copied().find(|e| e.older.name == text) else {
            self.older_unknown(word, text);
            return None;
        };
        let what = format!("the task `{name}`, which has the older form,");
        let mut also = executor.older.keys.to_vec();
        also.push("executor");
        for entry in fields.entries {
            let key = entry.key.as_str();
            if also.contains(&key) || OLDER_TASK_KEYS.contains(&key) {
                continue;
            }
            let hint = if find(TASK_KEYS, key).is_some() || executors::find(key).is_some() {
                "a task has one form: replace `executor` to use the keys of the newer one"
            } else {
                "`ork fmt --upgrade` rewrites the task in the newer form"
            };
            self.report
                .error(entry.place, "unknown-key", format!("{what} has no key `{key}`"))
                .hint(hint);
        }
        let block = (executor.older.block)(&mut self.report, &fields)?;
        Some(Head { name, place, fields, form: Form::Executor(executor), older: Some(block) })
    }

    fn older_unknown(&mut self, node: &Node, text: &str) {
        let known: Vec<_> = executors::ALL.iter().map(|executor| executor.older.name).collect();
        if executors::later(text).is_some() {
            self.unsupported(node.place, text);
        } else if text == "library" {
            self.report
                .error(node.place, "older-library", "`executor: library` is not supported any more")
                .hint("build the code as a program and run it: `run: [./program]`");
        } else {
            self.report
                .error(node.place, "unknown-word", format!("there is no executor `{text}`"))
                .hint(format!("one of {}", known.join(", ")));
        }
    }

    /// Reads what others need to know of a task.
    pub(crate) fn facts(
        &mut self,
        head: &Head,
        defaults: Option<&Fields>,
        params: &IndexMap<String, Param>,
    ) -> Facts {
        let members: Vec<Facts> = match &head.form {
            Form::Group(members) => {
                members.iter().map(|member| self.facts(member, defaults, params)).collect()
            }
            _ => Vec::new(),
        };
        let older = std::mem::replace(&mut self.older, head.older.is_some());
        let declared = head.fields.get("output_type").and_then(|node| self.ty(node));
        let input = head.fields.get("input_type").and_then(|node| self.ty(node));
        self.older = older;
        let block = head.block(defaults);
        let mut prepared = head
            .executor()
            .zip(block)
            .and_then(|(executor, block)| (executor.prepare)(self, &block));
        if let Some(prepared) = prepared.as_mut().filter(|_| head.older.is_some()) {
            prepared.signature = None;
        }
        self.check_output(head, declared.as_ref(), prepared.as_ref());
        let output = match (&head.form, prepared.as_ref()) {
            (Form::Executor(_), Some(prepared)) => {
                declared.or_else(|| executors::output_of(prepared))
            }
            (Form::Executor(_), None) => Some(declared.unwrap_or(Type::Json)),
            (Form::Group(heads), _) => Some(self.group_type(&head.fields, heads, &members, params)),
            (Form::Generate(_), _) => Some(Type::Json),
            (Form::Call(node), _) => Some(self.call_type(node)),
            (Form::Approval(node), _) => Some(super::waits::decision(self.form_types(node))),
            (Form::Wait(node), _) if Self::is_event(node) => Some(declared.unwrap_or(Type::Json)),
            (Form::Wait(_), _) => None,
        };
        let allow_failure = head.fields.get("allow_failure");
        let map = head.fields.get("for_each").map(|_| head.may_leave_gaps());
        let may_skip = head.fields.get("when").is_some() || matches!(head.form, Form::Approval(_));
        Facts {
            prepared,
            output,
            input,
            members,
            map,
            may_skip,
            allow_failure: allow_failure
                .and_then(|node| self.boolean(node, "`allow_failure`"))
                .unwrap_or(false),
            rule: head
                .fields
                .get("trigger_rule")
                .and_then(|node| self.rule(node))
                .unwrap_or_default(),
        }
    }

    fn check_output(&mut self, head: &Head, declared: Option<&Type>, prepared: Option<&Prepared>) {
        let (Some(declared), Some(prepared)) = (declared, prepared) else { return };
        let place = head.fields.get("output_type").map_or(head.place, |node| node.place);
        if prepared.silent {
            self.report.error(place, "no-output", "`output_type` of a task that gives no output");
        }
        let returns = prepared.signature.as_ref().and_then(|signature| signature.returns.as_ref());
        if let Some(returns) = returns.map(|returns| specialise(returns, declared))
            && !declared.accepts(&returns)
        {
            let message = format!("expected {declared}, but the function returns {returns}");
            self.report.error(place, "type-mismatch", message);
        }
    }

    fn rule(&mut self, node: &Node) -> Option<TriggerRule> {
        if self.text(node, "`trigger_rule`")? == "always" {
            self.report
                .error(node.place, "rule-always", "`always` would start before its dependencies")
                .hint("use `all_done`, or put the task in `finally`");
            return None;
        }
        self.word(node, "`trigger_rule`", RULES).map(|at| RULE_VALUES[at])
    }

    /// Lowers a task.
    pub(crate) fn task(
        &mut self,
        head: &Head,
        facts: &Facts,
        world: &World,
        positions: &HashMap<&str, usize>,
    ) -> Option<Task> {
        let certain = facts.rule == TriggerRule::AllSuccess;
        let (inputs, spec) = world.names();
        let mut upstreams = self.depends_on(head, positions, world);
        let Start { when, for_each, proven, values, mut seen, whole } =
            self.start(head, facts, world);
        let world = &World { values: &values, ..*world };
        let mut bind = Bind::new(world.scope(inputs, certain, &proven));
        let inputs = self.inputs(head, facts, &mut bind);
        seen.append(&mut bind.tasks);
        let mut bind = Bind::new(world.scope(spec, certain, &proven));
        let env = head.fields.get("env").map(|node| self.environment(node, &mut bind));
        let default = world.defaults.and_then(|fields| fields.get("retries"));
        let retry = self.retry(head.fields.get("retries"), default, &mut bind);
        let poll = head.fields.get("poll");
        let poll = poll.map(|node| self.poll(node, facts.output.as_ref(), &mut bind));
        let form = self.form(head, facts, world, (certain, &proven), &mut bind);
        let runs = head.executor().is_some();
        let bounds = runs.then(|| self.bounds(&head.fields, world.defaults, &mut bind));
        seen.append(&mut bind.tasks);
        self.wait_for_seen(seen, positions, &mut upstreams);
        let action = match form? {
            Lowered::Action(action) => action,
            Lowered::Spec(spec) => Self::action(head, facts, spec, &upstreams, positions)?,
        };
        let (timeout, grace) = self.times(head, world);
        let lost = head.fields.get("lost_retries");
        let lost = lost.map_or(Some(3), |node| self.integer(node, "`lost_retries`", 1_000));
        let (inputs, input_type) = inputs?;
        let task = Task {
            upstreams,
            trigger_rule: facts.rule,
            when,
            inputs,
            input_type,
            output_type: facts.output.clone().filter(|ty| *ty != Type::Json),
            retry: retry?,
            lost_retries: lost?,
            timeout,
            grace,
            allow_failure: facts.allow_failure,
            env: env.unwrap_or_default(),
            for_each: for_each.map(Box::new),
            poll: poll.map_or(Some(None), |poll| poll.map(Some))?,
            ..Task::new(head.name, action)
        };
        whole.then(|| bounds.unwrap_or_default().of(task))
    }

    /// What decides whether a task starts, and for which items.
    fn start(&mut self, head: &Head, facts: &Facts, world: &World) -> Start {
        let certain = facts.rule == TriggerRule::AllSuccess;
        let (names, _) = world.names();
        let per_item = head.asks_per_item();
        let mut bind = Bind::new(world.scope(names, certain, &[]));
        let (mut when, proven) =
            if per_item { (None, Vec::new()) } else { self.when(head, &mut bind) };
        let mut seen = bind.tasks;
        let mut bind = Bind::new(world.scope(names, certain, &proven));
        let mapped = self.for_each(&head.fields, &mut bind);
        seen.append(&mut bind.tasks);
        let whole = mapped.is_some() == head.fields.get("for_each").is_some();
        let (mut for_each, added) = match mapped {
            Some(Mapped { for_each, values }) => (Some(for_each), values),
            None => (None, head.unknown_items()),
        };
        let values = [world.values, &added].concat();
        let inside = World { values: &values, ..*world };
        let mut bind = Bind::new(inside.scope(names, certain, &proven));
        let asked = per_item.then(|| self.when(head, &mut bind));
        let key = self.item_key(&head.fields, &mut bind);
        seen.append(&mut bind.tasks);
        let (condition, more) = asked.unwrap_or_default();
        match &mut for_each {
            Some(for_each) => (for_each.when, for_each.key) = (condition, key),
            None => when = when.or(condition),
        }
        Start { when, for_each, proven: [proven, more].concat(), values, seen, whole }
    }

    /// What a task refers to is upstream of it, or, where it stands outside of the group that the
    /// task is in, upstream of the group.
    fn wait_for_seen(
        &mut self,
        seen: Vec<(String, Place)>,
        positions: &HashMap<&str, usize>,
        upstreams: &mut Vec<usize>,
    ) {
        let mut names: Vec<String> = seen.into_iter().map(|(name, _)| name).collect();
        names.append(&mut self.escaped);
        for name in names {
            match positions.get(name.as_str()) {
                Some(at) if upstreams.contains(at) => {}
                Some(at) => upstreams.push(*at),
                None => self.escaped.push(name),
            }
        }
    }

    /// Lowers what says how the task is done.
    fn form(
        &mut self,
        head: &Head,
        facts: &Facts,
        world: &World,
        (certain, proven): (bool, &[String]),
        bind: &mut Bind,
    ) -> Option<Lowered> {
        let action = match &head.form {
            Form::Executor(executor) => {
                let block = head.block(world.defaults)?;
                return (executor.lower)(self, &block, bind).map(Lowered::Spec);
            }
            Form::Group(members) => {
                let around = Around::of(world, head.name, certain, proven);
                self.group(head, (members, &facts.members), world, &around)
            }
            Form::Generate(node) => self.generate(head, node, bind),
            Form::Call(node) => self.call(node, bind),
            Form::Approval(node) => self.approval(node, bind),
            Form::Wait(node) => self.wait(node, head.fields.get("output_type"), bind),
        };
        action.map(Lowered::Action)
    }

    fn times(&mut self, head: &Head, world: &World) -> (Option<Span>, Span) {
        let field = |key: &str| {
            let default = || world.defaults.and_then(|fields| fields.get(key));
            head.fields.get(key).or_else(default)
        };
        let own = || head.fields.get("timeout");
        let timeout = if head.executor().is_some() { field("timeout") } else { own() };
        let timeout = timeout.and_then(|node| self.timeout(node));
        let grace = field("grace").and_then(|node| self.duration(node, "`grace`"));
        (timeout, grace.unwrap_or(Span::from_secs(10)))
    }

    fn depends_on(
        &mut self,
        head: &Head,
        positions: &HashMap<&str, usize>,
        world: &World,
    ) -> Vec<usize> {
        let Some(node) = head.fields.get("depends_on") else { return Vec::new() };
        let single = std::slice::from_ref(node);
        let items = node.items().unwrap_or(single);
        let mut seen = std::collections::HashSet::new();
        let mut upstreams = Vec::with_capacity(items.len());
        for item in items {
            let Some(name) = self.text(item, "`depends_on`") else { continue };
            match positions.get(name) {
                Some(at) if seen.insert(*at) => upstreams.push(*at),
                Some(_) => {}
                None => self.unknown_task(item, name, positions, world),
            }
        }
        upstreams
    }

    fn unknown_task(
        &mut self,
        node: &Node,
        name: &str,
        positions: &HashMap<&str, usize>,
        world: &World,
    ) {
        if world.finally && world.tasks.contains_key(name) {
            self.report
                .error(node.place, "unknown-task", format!("`{name}` is not in `finally`"))
                .hint("all tasks have ended when `finally` starts; there is no need to wait");
            return;
        }
        let hint = match name.strip_prefix("tasks.") {
            Some(bare) if positions.contains_key(bare) => Some(format!("write `{bare}`")),
            _ => self.report.nearest(name, positions.keys().copied()),
        };
        let message = format!("there is no task `{name}`");
        let found = self.report.error(node.place, "unknown-task", message);
        if let Some(hint) = hint {
            found.hint(hint);
        }
    }

    /// The condition, and the tasks that it proves to have succeeded.
    fn when(&mut self, head: &Head, bind: &mut Bind) -> (Option<Expr>, Vec<String>) {
        let Some(node) = head.fields.get("when") else { return (None, Vec::new()) };
        match self.expression(node, "`when`", Some(&Type::Bool), bind) {
            Some((expr, typed)) => (Some(expr), typed.proves),
            None => (None, Vec::new()),
        }
    }

    /// No program can be given a NUL: the kernel's texts end with one.
    pub(crate) fn without_nul(&mut self, node: &Node, what: &str) {
        if node.scalar().is_some_and(|scalar| scalar.text.contains('\0')) {
            self.report
                .error(
                    node.place,
                    "holds-nul",
                    format!("{what} holds NUL, which no program can get"),
                )
                .hint("pass it as an input");
        }
    }

    /// Entries of an environment; each becomes text.
    pub(crate) fn environment(
        &mut self,
        node: &Node,
        bind: &mut Bind,
    ) -> IndexMap<String, Binding> {
        let mut env = IndexMap::new();
        for entry in self.map(node, "`env`").unwrap_or_default() {
            let name = entry.key.as_str();
            if name.is_empty() || name.contains('=') || name.contains('\0') {
                self.report.error(
                    entry.place,
                    "bad-name",
                    format!("`{name}` cannot name a variable"),
                );
            }
            if OWN_ENV.contains(&name) {
                let message = format!("`{name}` is set by Ork for every task");
                self.report.error(entry.place, "reserved-env", message);
            }
            let what = format!("the variable `{name}`");
            self.without_nul(&entry.value, &what);
            if let Some(binding) = self.task_text(&entry.value, &what, bind) {
                env.insert(entry.key.clone(), binding);
            }
        }
        env
    }

    /// The inputs and what they must be.
    fn inputs(
        &mut self,
        head: &Head,
        facts: &Facts,
        bind: &mut Bind,
    ) -> Option<(IndexMap<String, Binding>, Option<Type>)> {
        let signature = facts.prepared.as_ref().and_then(|prepared| prepared.signature.as_ref());
        let declared = self.declared_inputs(head, facts)?;
        let node = head.fields.get("inputs");
        let entries = match node {
            Some(node) => self.map(node, "`inputs`")?,
            None => &[],
        };
        let (mut inputs, mut types, mut whole) = (IndexMap::new(), IndexMap::new(), true);
        for entry in entries {
            self.check_name(&entry.key, entry.place, "an input");
            let own = declared.and_then(|fields| fields.get(&entry.key));
            let param = signature.and_then(|s| s.params.iter().find(|p| p.name == entry.key));
            let want = own.or_else(|| param.map(|param| &param.ty));
            bind.any_datetime = own.is_none() && param.is_some();
            let bound = match &head.older {
                Some(_) => self.older_input(&entry.value, want, bind),
                None => self.binding(&entry.value, want, bind),
            };
            let Some((binding, ty)) = bound else {
                whole = false;
                continue;
            };
            let ty = match (own, param) {
                (Some(own), _) => own.clone(),
                (None, Some(param)) => specialise(&param.ty, &ty),
                (None, None) => Type::Json,
            };
            inputs.insert(entry.key.clone(), binding);
            types.insert(entry.key.clone(), ty);
        }
        self.check_arguments(head, facts, declared, entries, node.is_some());
        let ty = match (declared, signature) {
            (Some(_), _) if head.older.is_some() && node.is_none() => None,
            (Some(_), _) => facts.input.clone(),
            (None, Some(_)) if !types.is_empty() => Some(Type::object(types)),
            _ => None,
        };
        whole.then_some((inputs, ty))
    }

    fn declared_inputs<'f>(
        &mut self,
        head: &Head,
        facts: &'f Facts,
    ) -> Option<Option<&'f IndexMap<String, Type>>> {
        match &facts.input {
            None | Some(Type::Json) => Some(None),
            Some(Type::Object(fields)) => Some(Some(fields)),
            Some(other) => {
                let place = head.fields.get("input_type").map_or(head.place, |node| node.place);
                self.report
                    .error(
                        place,
                        "type-mismatch",
                        format!("`input_type` names the inputs, it cannot be {other}"),
                    )
                    .hint("write `input_type: { name: type }`");
                None
            }
        }
    }

    /// Arguments that are missing or surplus, against `input_type` and the signature.
    fn check_arguments(
        &mut self,
        head: &Head,
        facts: &Facts,
        declared: Option<&IndexMap<String, Type>>,
        entries: &[super::tree::Entry],
        any: bool,
    ) {
        let given = |name: &str| entries.iter().any(|entry| entry.key == name);
        let place = if any { head.fields.key_place("inputs") } else { head.place };
        if let Some(fields) = declared.filter(|_| any || head.older.is_none()) {
            for entry in entries.iter().filter(|entry| !fields.contains_key(&entry.key)) {
                self.surplus(entry, "`input_type`", fields.keys().map(String::as_str));
            }
            for (name, ty) in fields {
                if !given(name) && !matches!(ty, Type::Nullable(_)) {
                    self.missing(place, name, ty, "`input_type`");
                }
            }
        }
        let Some(signature) = facts.prepared.as_ref().and_then(|p| p.signature.as_ref()) else {
            return;
        };
        for entry in entries {
            let known = signature.params.iter().any(|param| param.name == entry.key);
            if !known && !signature.any_keyword {
                let names = signature.params.iter().map(|param| param.name.as_str());
                self.surplus(entry, "the function", names);
            }
        }
        for param in &signature.params {
            if param.required
                && !given(&param.name)
                && declared.is_none_or(|d| !d.contains_key(&param.name))
            {
                self.missing(place, &param.name, &param.ty, "the function");
            }
            if let Some(own) = declared.and_then(|fields| fields.get(&param.name))
                && !specialise(&param.ty, own).accepts(own)
            {
                let place = head.fields.get("input_type").map_or(head.place, |node| node.place);
                let (name, ty) = (&param.name, &param.ty);
                let message = format!("`{name}` is {ty} in the function, but {own} here");
                self.report.error(place, "type-mismatch", message);
            }
        }
    }

    fn missing(&mut self, place: Place, name: &str, ty: &Type, whose: &str) {
        self.report.error(
            place,
            "missing-input",
            format!("the input `{name}` ({ty}) of {whose} is missing"),
        );
    }

    fn surplus<'n>(
        &mut self,
        entry: &super::tree::Entry,
        whose: &str,
        names: impl Iterator<Item = &'n str>,
    ) {
        let hint = self.report.nearest(&entry.key, names);
        let message = format!("{whose} has no input `{}`", entry.key);
        let found = self.report.error(entry.place, "surplus-input", message);
        if let Some(hint) = hint {
            found.hint(hint);
        }
    }

    /// An input of the older form: `{const: v}` or `{ref: tasks.a.output.x}`.
    fn older_input(
        &mut self,
        node: &Node,
        want: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<(Binding, Type)> {
        let [entry] = node.entries().unwrap_or_default() else {
            self.older_input_error(node);
            return None;
        };
        match entry.key.as_str() {
            "const" => {
                let value = value(&entry.value);
                self.constant(&entry.value, value, want)
            }
            "ref" => self.reference(&entry.value, want, bind),
            _ => {
                self.older_input_error(node);
                None
            }
        }
    }

    fn older_input_error(&mut self, node: &Node) {
        self.report
            .error(
                node.place,
                "older-input",
                "an input of the older form is `{const: value}` or `{ref: tasks.NAME.output}`",
            )
            .hint("`ork fmt --upgrade` rewrites the task in the newer form");
    }

    /// The executor's spec, with what the older form adds to it.
    fn action(
        head: &Head,
        facts: &Facts,
        lowered: IndexMap<String, Binding>,
        upstreams: &[usize],
        positions: &HashMap<&str, usize>,
    ) -> Option<Action> {
        let mut spec = facts.prepared.as_ref()?.spec.clone();
        spec.extend(lowered);
        if head.older.is_some() {
            let mut names: Vec<_> =
                positions.iter().filter(|(_, at)| upstreams.contains(at)).collect();
            names.sort_by_key(|(_, at)| **at);
            let output = |name: &str| Binding::Expr(Expr::new(format!("tasks.{name}.output")));
            let upstream = names.into_iter().map(|(name, _)| ((*name).to_owned(), output(name)));
            let line = head.fields.get("output_type").is_some();
            let legacy = IndexMap::from([
                ("output_line".to_owned(), Binding::Const(line.into())),
                ("upstream".to_owned(), Binding::Map(upstream.collect())),
            ]);
            spec.insert("legacy".to_owned(), Binding::Map(legacy));
        }
        Some(Action::Execute { executor: head.executor()?.name.into(), spec: collect_map(spec) })
    }
}

/// The keys of a task of the older form, beside those of its executor.
const OLDER_TASK_KEYS: &[&str] =
    &["depends_on", "inputs", "input_type", "output_type", "retries", "timeout"];

/// A node as a value, without looking for expressions.
pub(crate) fn value(node: &Node) -> Option<Value> {
    match &node.yaml {
        Yaml::Scalar(scalar) => literal(scalar).ok(),
        Yaml::List { items, .. } => {
            items.iter().map(value).collect::<Option<_>>().map(Value::Array)
        }
        Yaml::Map { entries, .. } => {
            let entries = entries.iter().map(|e| Some((e.key.clone(), value(&e.value)?)));
            entries.collect::<Option<_>>().map(Value::Object)
        }
    }
}
