//! `triggers`: what starts a run beside people and schedules.

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::expr::CheckScope;
use super::keys::{END_STATES, TRIGGER, WEBHOOK, WEBHOOK_AUTH};
use super::read::{Fields, Known, is_workflow_name};
use super::tree::{Entry, Node};
use crate::plan::{Binding, Param, Trigger, WebhookAuth};
use crate::run::RunState;
use crate::types::Type;

/// What a param of a trigger sees.
const VALUE: &str = "trigger";

impl Lower<'_> {
    pub(crate) fn triggers(
        &mut self,
        node: &Node,
        params: &IndexMap<String, Param>,
    ) -> IndexMap<String, Trigger> {
        let mut triggers = IndexMap::new();
        for entry in self.map(node, "`triggers`").unwrap_or_default() {
            self.check_name(&entry.key, entry.place, "a trigger");
            if let Some(trigger) = self.trigger(entry, params) {
                triggers.insert(entry.key.clone(), trigger);
            }
        }
        triggers
    }

    fn trigger(&mut self, entry: &Entry, params: &IndexMap<String, Param>) -> Option<Trigger> {
        let what = format!("the trigger `{}`", entry.key);
        let words = [("http", "webhook"), ("after", "workflow"), ("on", "states")];
        let known = Known { what: &what, table: TRIGGER, also: &[], words: &words };
        let fields = self.fields(&entry.value, &known)?;
        match (fields.get("webhook"), fields.get("workflow")) {
            (Some(node), None) => {
                if fields.get("states").is_some() {
                    let place = fields.key_place("states");
                    self.report.error(place, "key-not-here", "`states` goes with `workflow`");
                }
                let (body, auth) = self.webhook(node)?;
                let value = Type::object(IndexMap::from([
                    ("body".to_owned(), body.clone()),
                    ("headers".to_owned(), Type::dict(Type::Str)),
                ]));
                let params = self.trigger_params(entry, &fields, value, params)?;
                Some(Trigger::Webhook { body, auth, params })
            }
            (None, Some(node)) => {
                let workflow = self.workflow_name(node)?;
                let states = match fields.get("states") {
                    Some(node) => self.end_states(node)?,
                    None => vec![RunState::Success],
                };
                let value = IndexMap::from([("run".to_owned(), ended_run())]);
                let params = self.trigger_params(entry, &fields, Type::object(value), params)?;
                Some(Trigger::Workflow { workflow, states, params })
            }
            _ => {
                self.report
                    .error(entry.place, "missing-key", format!("{what} says not what it waits for"))
                    .hint("give it one of `webhook` and `workflow`");
                None
            }
        }
    }

    fn webhook(&mut self, node: &Node) -> Option<(Type, WebhookAuth)> {
        let known = Known { what: "`webhook`", table: WEBHOOK, also: &[], words: &[] };
        let fields = self.fields(node, &known)?;
        let body = match fields.get("body") {
            Some(node) => self.ty(node)?,
            None => Type::Json,
        };
        let Some(auth) = fields.get("auth") else {
            self.report
                .error(node.place, "missing-key", "`webhook` has no `auth`")
                .hint("`hmac`, a signature by a shared secret, or `token`");
            return None;
        };
        let word = self.word(auth, "`auth`", WEBHOOK_AUTH)?;
        Some((body, [WebhookAuth::Hmac, WebhookAuth::Token][word]))
    }

    /// A workflow's name, as text.
    pub(crate) fn workflow_name(&mut self, node: &Node) -> Option<String> {
        let name = self.fixed_text(node, "`workflow`")?;
        if !is_workflow_name(name) {
            let message = format!("`{name}` cannot name a workflow");
            self.report.error(node.place, "bad-name", message);
            return None;
        }
        Some(name.to_owned())
    }

    fn end_states(&mut self, node: &Node) -> Option<Vec<RunState>> {
        const STATES: [RunState; 4] =
            [RunState::Success, RunState::Failed, RunState::Cancelled, RunState::Skipped];
        let Some(items) = node.items().filter(|items| !items.is_empty()) else {
            self.wrong(node, "`states` must be a list of states");
            return None;
        };
        let mut states = Vec::new();
        for item in items {
            let state = STATES[self.word(item, "`states`", END_STATES)?];
            if !states.contains(&state) {
                states.push(state);
            }
        }
        Some(states)
    }

    /// The params that a trigger gives, each of its declared type; what is required is there.
    fn trigger_params(
        &mut self,
        entry: &Entry,
        fields: &Fields,
        value: Type,
        params: &IndexMap<String, Param>,
    ) -> Option<IndexMap<String, Binding>> {
        let values = [(VALUE.to_owned(), value)];
        let scope = CheckScope {
            params: &IndexMap::new(),
            tasks: &IndexMap::new(),
            names: &[],
            certain: false,
            proven: &[],
            values: &values,
        };
        self.given_params(fields, params, &mut Bind::new(scope), (&entry.key, entry.place))
    }

    /// Params that something gives to a workflow.
    pub(crate) fn given_params(
        &mut self,
        fields: &Fields,
        params: &IndexMap<String, Param>,
        bind: &mut Bind,
        (giver, place): (&str, super::tree::Place),
    ) -> Option<IndexMap<String, Binding>> {
        let node = fields.get("params");
        let entries = match node {
            Some(node) => self.map(node, "`params`")?,
            None => &[],
        };
        let mut given = IndexMap::new();
        for entry in entries {
            let Some(param) = params.get(&entry.key) else {
                let hint = self.report.nearest(&entry.key, params.keys().map(String::as_str));
                let message = format!("there is no param `{}`", entry.key);
                let found = self.report.error(entry.place, "unknown-param", message);
                if let Some(hint) = hint {
                    found.hint(hint);
                }
                continue;
            };
            if let Some((binding, _)) = self.binding(&entry.value, Some(&param.ty), bind) {
                given.insert(entry.key.clone(), binding);
            }
        }
        for (name, param) in params {
            let told = entries.iter().any(|entry| entry.key == *name);
            if param.default.is_none() && !told {
                let message = format!(
                    "`{giver}` does not give the param `{name}` ({}), which is required",
                    param.ty
                );
                self.report.error(place, "missing-param", message);
            }
        }
        Some(given)
    }
}

/// `trigger.run`: the run whose end starts this one.
fn ended_run() -> Type {
    let text = |name: &str| (name.to_owned(), Type::Str);
    Type::object(IndexMap::from([
        text("id"),
        text("workflow"),
        text("state"),
        ("logical_time".to_owned(), Type::DatetimeTz),
        ("params".to_owned(), Type::Json),
        ("output".to_owned(), Type::Json),
    ]))
}
