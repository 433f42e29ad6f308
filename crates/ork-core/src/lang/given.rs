//! Params that something gives to a workflow: a schedule, a trigger, a call.

use std::sync::LazyLock;

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::expr::{CheckScope, Name, TaskType};
use super::tree::{Entry, Node, Place};
use crate::plan::{Binding, Param};
use crate::types::Type;

pub(crate) static NO_PARAMS: LazyLock<IndexMap<String, Param>> = LazyLock::new(IndexMap::new);
pub(crate) static NO_TASKS: LazyLock<IndexMap<String, TaskType>> = LazyLock::new(IndexMap::new);

/// What is in scope before there is a run: `run`, and `values`.
pub(crate) fn before_a_run(values: &[(String, Type)]) -> CheckScope<'_> {
    CheckScope {
        params: &NO_PARAMS,
        tasks: &NO_TASKS,
        names: &[Name::Run],
        certain: false,
        proven: &[],
        values,
    }
}

impl Lower<'_> {
    /// The params that `giver` gives, each of its declared type. Those that it does not give have a
    /// default, or may be null and then are.
    pub(crate) fn given_params(
        &mut self,
        node: Option<&Node>,
        params: &IndexMap<String, Param>,
        bind: &mut Bind,
        (giver, place): (&str, Place),
    ) -> Option<IndexMap<String, Binding>> {
        let entries = match node {
            Some(node) => self.map(node, "`params`")?,
            None => &[],
        };
        let (mut given, mut whole, mut misnamed) = (IndexMap::new(), true, false);
        for entry in entries {
            let bound = match params.get(&entry.key) {
                Some(param) => self.binding(&entry.value, Some(&param.ty), bind),
                None => {
                    misnamed = true;
                    self.unknown_param(entry, params)
                }
            };
            match bound {
                Some((binding, _)) => drop(given.insert(entry.key.clone(), binding)),
                None => whole = false,
            }
        }
        let told = |name: &str| misnamed || entries.iter().any(|entry| entry.key == name);
        let missing = |(name, param): &(&String, &Param)| param.is_required() && !told(name);
        for (name, param) in params.iter().filter(missing) {
            let message = format!("{giver} gives no `{name}` ({})", param.ty);
            self.report
                .error(place, "missing-param", message)
                .hint(format!("give it under `params` here, or give `{name}` a default"));
            whole = false;
        }
        whole.then_some(given)
    }

    fn unknown_param<T>(&mut self, given: &Entry, params: &IndexMap<String, Param>) -> Option<T> {
        let hint = self.report.nearest(&given.key, params.keys().map(String::as_str));
        let message = format!("the workflow has no param `{}`", given.key);
        let found = self.report.error(given.place, "unknown-param", message);
        if let Some(hint) = hint {
            found.hint(hint);
        }
        None
    }
}
