//! `triggers`: what starts a run beside people and schedules.

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::given::before_a_run;
use super::keys::{END_STATES, TRIGGER, WEBHOOK, WEBHOOK_AUTH};
use super::params::TRIGGER_VALUE;
use super::read::{Known, is_workflow_name};
use super::tree::{Entry, Node};
use crate::plan::{Param, Trigger, WebhookAuth};
use crate::run::RunState;
use crate::trigger::way_round;
use crate::types::Type;

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
        let trigger = match (fields.get("webhook"), fields.get("workflow")) {
            (Some(node), None) => {
                if fields.get("states").is_some() {
                    let place = fields.key_place("states");
                    self.report.error(place, "key-not-here", "`states` goes with `workflow`");
                }
                self.webhook(node)?
            }
            (None, Some(node)) => self.after(node, fields.get("states"))?,
            _ => {
                self.report
                    .error(entry.place, "missing-key", format!("{what} says not what it waits for"))
                    .hint("give it one of `webhook` and `workflow`");
                return None;
            }
        };
        let values = [(TRIGGER_VALUE.to_owned(), trigger.value_type())];
        let mut bind = Bind::new(before_a_run(&values));
        let node = fields.get("params");
        let params = self.given_params(node, params, &mut bind, (&what, entry.place))?;
        Some(trigger.with_params(params))
    }

    fn after(&mut self, node: &Node, states: Option<&Node>) -> Option<Trigger> {
        let workflow = self.workflow_name(node)?;
        self.awaited(&workflow, node)?;
        let states = match states {
            Some(node) => self.end_states(node)?,
            None => vec![RunState::Success],
        };
        Some(Trigger::Workflow { workflow, states, params: IndexMap::new() })
    }

    fn webhook(&mut self, node: &Node) -> Option<Trigger> {
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
        let auth = [WebhookAuth::Hmac, WebhookAuth::Token][word];
        Some(Trigger::Webhook { body, auth, params: IndexMap::new() })
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

    /// What is said of a workflow that is waited for: that nobody here knows it, or that they wait
    /// for each other.
    fn awaited(&mut self, name: &str, node: &Node) -> Option<()> {
        let sources = self.sources;
        let next = |name: &str| sources.workflow(name).map(|pinned| pinned.plan.awaits());
        if name != self.name && next(name).is_none() {
            let hint = "the trigger fires when there is one of that name, and its runs end";
            self.unknown_workflow(name, node, hint);
            return Some(());
        }
        let way = way_round(&self.name, name, |name| next(name).unwrap_or_default());
        let Some(way) = way else { return Some(()) };
        let message = format!("workflows start each other: {}", way.join(" -> "));
        self.report.error(node.place, "trigger-cycle", message).hint("an arrow reads `waits for`");
        None
    }

    pub(crate) fn unknown_workflow(&mut self, name: &str, node: &Node, hint: &str) {
        if !self.sources.knows_workflows() {
            return self.not_checked("workflow", name);
        }
        self.report
            .warning(node.place, "unknown-workflow", format!("there is no workflow `{name}` yet"))
            .hint(hint);
    }
}
