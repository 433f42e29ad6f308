//! A parsed expression, and what it needs to be evaluated.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::ast::{Function, Kind, Node};
use super::eval::{Evaluator, failed};
use super::parse::parse;
use super::value::{Val, read_pattern};
use super::{Env, EvalError, Named, scope};
use crate::types::Type;
use crate::value::{Data, Digest, Value};

/// A parsed expression.
#[derive(Debug)]
pub struct Program {
    /// The tree, or why there is none; plans hold checked expressions alone.
    node: Result<Node, String>,
    /// Tasks whose output is looked at, and not only passed on.
    outputs: Vec<Arc<str>>,
    /// Whether a task is looked at otherwise: its state, a part of its output.
    tasks: bool,
    /// Whether `run` is looked at.
    run: bool,
    /// Other roots: `attempt`, `error`, `item` and the like.
    others: Vec<Arc<str>>,
    /// The constant regular expressions.
    pub(super) patterns: Vec<(Arc<str>, Regex)>,
}

/// What the evaluation of one expression looks into, owned while it lasts.
pub(super) struct Bindings<'e> {
    pub(super) run: Option<Value>,
    pub(super) blobs: Vec<(Digest, Arc<Value>)>,
    pub(super) others: Vec<(Arc<str>, Named<'e>)>,
}

/// The type of `run`, so that its times are times.
pub(super) fn run_type() -> &'static Type {
    static RUN: LazyLock<Type> = LazyLock::new(scope::run_type);
    &RUN
}

impl Program {
    pub(crate) fn new(source: &str) -> Self {
        let node = parse(source).map_err(|problems| {
            problems.first().map_or_else(String::new, |problem| problem.message.clone())
        });
        let mut program = Self {
            node,
            outputs: Vec::new(),
            tasks: false,
            run: false,
            others: Vec::new(),
            patterns: Vec::new(),
        };
        if let Ok(node) = &program.node {
            let node = node.clone();
            program.collect(&node, &mut Vec::new());
        }
        program
    }

    fn collect(&mut self, node: &Node, bound: &mut Vec<Arc<str>>) {
        if let Some(task) = node.whole_output() {
            if !self.outputs.iter().any(|known| **known == *task) {
                self.outputs.push(task.into());
            }
            return;
        }
        match &node.kind {
            Kind::Name(name) if !bound.contains(name) => self.root(name),
            Kind::Call(Function::Matches, args) => self.pattern(args),
            _ => {}
        }
        if let Kind::Each(each) = &node.kind {
            self.collect(&each.list, bound);
            bound.push(each.var.clone());
            each.only.iter().chain([&each.body]).for_each(|node| self.collect(node, bound));
            bound.pop();
            return;
        }
        node.children().into_iter().for_each(|child| self.collect(child, bound));
    }

    fn root(&mut self, name: &Arc<str>) {
        match &**name {
            "params" => {}
            "tasks" => self.tasks = true,
            "run" => self.run = true,
            _ if self.others.contains(name) => {}
            _ => self.others.push(name.clone()),
        }
    }

    fn pattern(&mut self, args: &[Node]) {
        if let Some(Node { kind: Kind::Str(pattern), .. }) = args.get(1)
            && let Ok(regex) = read_pattern(pattern)
        {
            self.patterns.push((pattern.clone(), regex));
        }
    }

    /// Whether it refers to a task.
    pub(crate) fn names_tasks(&self) -> bool {
        self.tasks || !self.outputs.is_empty()
    }

    /// Whether it looks at a value that is not a root: `item` and the like.
    pub(crate) fn looks_at(&self, name: &str) -> bool {
        self.others.iter().any(|other| **other == *name)
    }

    /// The task whose output the whole expression is.
    pub(super) fn whole_output(&self) -> Option<&str> {
        self.node.as_ref().ok()?.whole_output()
    }

    /// Evaluates the expression and gives its value to `take`.
    pub(super) fn run<T>(
        &self,
        source: &str,
        env: &dyn Env,
        take: impl FnOnce(&Val<'_>) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let node = match &self.node {
            Ok(node) => node,
            Err(why) => return failed(format!("`{source}`: {why}")),
        };
        let bindings = self.bind(env)?;
        let mut evaluator = Evaluator {
            source,
            program: self,
            env,
            bindings: &bindings,
            bound: Vec::new(),
            steps: 0,
        };
        take(&evaluator.eval(node, false)?)
    }

    fn bind<'e>(&self, env: &'e dyn Env) -> Result<Bindings<'e>, EvalError> {
        let mut blobs = Vec::new();
        let mut missing = Vec::new();
        for task in &self.outputs {
            if let Some(Data::Blob { digest, .. }) = env.task(task).and_then(|task| task.output) {
                match env.blob(digest) {
                    Some(value) => blobs.push((*digest, value)),
                    None if missing.contains(digest) => {}
                    None => missing.push(*digest),
                }
            }
        }
        let blobs_of = self.others.iter().filter_map(|name| env.needs(name));
        missing.extend(blobs_of.filter(|digest| env.blob(digest).is_none()));
        if !missing.is_empty() {
            return Err(EvalError::Need(missing));
        }
        let others = self.others.iter();
        Ok(Bindings {
            run: self.run.then(|| env.run()),
            blobs,
            others: others.filter_map(|name| Some((name.clone(), env.other(name)?))).collect(),
        })
    }
}
