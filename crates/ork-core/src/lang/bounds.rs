//! What limits runs and tasks: `concurrency`, `pool`, `priority`, `worker_queue`, `cache`.

use super::Lower;
use super::binding::{Bind, has_expression};
use super::expr::{CheckScope, Name};
use super::keys::{CACHE, CONCURRENCY, MAX_SLOTS, ON_LIMIT, POOL};
use super::read::{Fields, Known, is_workflow_name};
use super::task::World;
use super::tree::Node;
use crate::plan::{Binding, Cache, Concurrency, OnLimit, PoolUse, Task};
use crate::time::Span;
use crate::value::Value;

/// What a task that runs something says of its place among others.
#[derive(Default)]
pub(crate) struct Bounds {
    priority: i32,
    worker_queue: Option<String>,
    pool: Option<Box<PoolUse>>,
    cache: Option<Box<Cache>>,
    heartbeat_timeout: Option<Span>,
    start_within: Option<Span>,
}

impl Bounds {
    /// The task within its bounds.
    pub(crate) fn of(self, task: Task) -> Task {
        let Self { priority, worker_queue, pool, cache, heartbeat_timeout, start_within } = self;
        Task { heartbeat_timeout, start_within, priority, worker_queue, pool, cache, ..task }
    }
}

const WORDS: &[(&str, &str)] =
    &[("limit", "max_runs"), ("max", "max_runs"), ("group", "key"), ("policy", "on_limit")];

impl Lower<'_> {
    pub(crate) fn concurrency(&mut self, node: &Node, world: &World) -> Option<Concurrency> {
        let known = Known { what: "`concurrency`", table: CONCURRENCY, also: &[], words: WORDS };
        let fields = self.fields(node, &known)?;
        let Some(max) = fields.get("max_runs") else {
            self.report.error(node.place, "missing-key", "`concurrency` has no `max_runs`");
            return None;
        };
        let max_runs = self.whole(max, "`max_runs`", 1, 100_000)?;
        let key = match fields.get("key") {
            Some(node) => {
                let mut bind = Bind::new(world.scope(&[Name::Params, Name::Run], false, &[]));
                Some(self.expression(node, "`key`", None, &mut bind)?.0)
            }
            None => None,
        };
        let on_limit = match fields.get("on_limit") {
            Some(node) => {
                let word = self.word(node, "`on_limit`", ON_LIMIT)?;
                [OnLimit::Queue, OnLimit::Skip, OnLimit::CancelOldest][word]
            }
            None => OnLimit::Queue,
        };
        Some(Concurrency { max_runs: u32::try_from(max_runs).ok()?, key, on_limit })
    }

    /// What a task that runs something says of its place among others, or its defaults do.
    pub(crate) fn bounds(
        &mut self,
        fields: &Fields,
        defaults: Option<&Fields>,
        bind: &mut Bind,
    ) -> Bounds {
        let get =
            |key: &str| fields.get(key).or_else(|| defaults.and_then(|defaults| defaults.get(key)));
        let priority = get("priority").and_then(|node| self.whole(node, "`priority`", -100, 100));
        let worker_queue = get("worker_queue")
            .and_then(|node| self.queue_name(node))
            .filter(|name| name != "default");
        let pool = get("pool").and_then(|node| self.pool(node, bind)).map(Box::new);
        let cache = fields.get("cache").and_then(|node| self.cache(node, bind)).map(Box::new);
        let mut span =
            |key: &str| fields.get(key).and_then(|node| self.positive(node, &format!("`{key}`")));
        Bounds {
            priority: priority.and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
            worker_queue,
            pool,
            cache,
            heartbeat_timeout: span("heartbeat_timeout"),
            start_within: span("start_within"),
        }
    }

    fn queue_name(&mut self, node: &Node) -> Option<String> {
        let name = self.fixed_text(node, "`worker_queue`")?;
        if !is_workflow_name(name) {
            self.report
                .error(node.place, "bad-name", format!("`{name}` cannot name a queue"))
                .hint("a letter, then letters, digits, `_` or `-`, at most 64");
            return None;
        }
        if name != "default" {
            self.served(name, node);
        }
        Some(name.to_owned())
    }

    /// Whether a worker serves the queue now; it may come later.
    fn served(&mut self, name: &str, node: &Node) {
        let message = format!("no worker serves the queue `{name}`");
        match self.sources.has_queue(name) {
            Some(true) => {}
            None => self.not_checked("queue", name),
            Some(false) => self
                .report
                .warning(node.place, "unknown-queue", message)
                .hint("its tasks wait until one does: `worker.queues` of ork.toml names them"),
        }
    }

    fn pool(&mut self, node: &Node, bind: &mut Bind) -> Option<PoolUse> {
        if node.entries().is_none() {
            let name = self.pool_name(node, bind)?;
            self.declared(&name, node);
            return Some(PoolUse { name, slots: 1, of: None });
        }
        let known = Known {
            what: "`pool`",
            table: POOL,
            also: &[],
            words: &[("weight", "slots"), ("size", "of"), ("max", "of"), ("total", "of")],
        };
        let fields = self.fields(node, &known)?;
        let Some(name) = fields.get("name") else {
            self.report.error(node.place, "missing-key", "`pool` has no `name`");
            return None;
        };
        let (name, at) = (self.pool_name(name, bind)?, name);
        if fields.get("of").is_none() {
            self.declared(&name, at);
        }
        let slots = match fields.get("slots") {
            Some(node) => self.whole(node, "`slots`", 1, MAX_SLOTS)?,
            None => 1,
        };
        let of = match fields.get("of") {
            Some(node) => Some(self.whole(node, "`of`", 1, MAX_SLOTS)?),
            None => None,
        };
        if of.is_some_and(|of| slots > of) {
            let message = format!("an attempt takes {slots} slots of a pool that has fewer");
            self.report.error(node.place, "out-of-range", message);
            return None;
        }
        let number = |n: i64| u32::try_from(n).ok();
        Some(PoolUse { name, slots: number(slots)?, of: of.and_then(number) })
    }

    fn pool_name(&mut self, node: &Node, bind: &mut Bind) -> Option<Binding> {
        let text = self.text(node, "`pool`")?;
        if !has_expression(text) && !is_workflow_name(text) {
            self.report
                .error(node.place, "bad-name", format!("`{text}` cannot name a pool"))
                .hint("a letter, then letters, digits, `_` or `-`, at most 64");
            return None;
        }
        self.text_binding(node, "`pool`", bind)
    }

    /// A pool whose size the file does not say has to be one that the project has.
    fn declared(&mut self, name: &Binding, node: &Node) {
        let Binding::Const(Value::String(name)) = name else { return };
        match self.sources.has_pool(name) {
            Some(true) => {}
            None => self.not_checked("pool", name),
            Some(false) => self
                .report
                .warning(node.place, "unknown-pool", format!("there is no pool `{name}` yet"))
                .hint(format!(
                    "make it with `ork pools set {name} SLOTS`, or write its size beside its name \
                     (`of`)"
                )),
        }
    }

    fn cache(&mut self, node: &Node, bind: &mut Bind) -> Option<Cache> {
        let known = Known { what: "`cache`", table: CACHE, also: &[], words: &[("for", "ttl")] };
        let fields = self.fields(node, &known)?;
        let Some(key) = fields.get("key") else {
            self.report
                .error(node.place, "missing-key", "`cache` has no `key`")
                .hint("the task and its inputs count anyway; name what else must be equal");
            return None;
        };
        let names = [Name::Params, Name::Tasks, Name::Run];
        let scope = CheckScope { names: &names, ..bind.scope };
        let (key, _) = bind.within(scope, |inner| self.expression(key, "`key`", None, inner))?;
        let ttl = match fields.get("ttl") {
            Some(node) => Some(self.positive(node, "`ttl`")?),
            None => None,
        };
        Some(Cache { key, ttl })
    }
}
