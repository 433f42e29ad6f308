//! Tasks that wait without a worker: `approval` and `wait`, and sensors (`poll`).

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::keys::{APPROVAL, ON_REJECT, ON_TIMEOUT, POLL, WAIT};
use super::read::Known;
use super::tree::Node;
use crate::plan::{Action, Approval, OnReject, OnTimeout, Poll, Wait};
use crate::types::Type;

/// What an approval's output is.
pub(crate) fn decision(form: IndexMap<String, Type>) -> Type {
    Type::object(IndexMap::from([
        ("approved".to_owned(), Type::Bool),
        ("by".to_owned(), Type::Str.nullable()),
        ("comment".to_owned(), Type::Str.nullable()),
        ("form".to_owned(), Type::object(form)),
    ]))
}

impl Lower<'_> {
    /// The types of what an approval's form asks for.
    pub(crate) fn form_types(&mut self, node: &Node) -> IndexMap<String, Type> {
        let Some(form) = node.get("form") else { return IndexMap::new() };
        let params = self.quietly(|lower| lower.params(form));
        params.into_iter().map(|(name, param)| (name, param.ty)).collect()
    }

    pub(crate) fn approval(&mut self, node: &Node, bind: &mut Bind) -> Option<Action> {
        let mut approval = Approval::default();
        if node.entries().is_none() {
            approval.prompt = self.text_binding(node, "`approval`", bind)?;
            return Some(Action::Approval(Box::new(approval)));
        }
        let known = Known {
            what: "`approval`",
            table: APPROVAL,
            also: &[],
            words: &[("message", "prompt"), ("users", "approvers"), ("fields", "form")],
        };
        let fields = self.fields(node, &known)?;
        let Some(prompt) = fields.get("prompt") else {
            self.report.error(node.place, "missing-key", "`approval` has no `prompt`");
            return None;
        };
        approval.prompt = self.text_binding(prompt, "`prompt`", bind)?;
        if let Some(node) = fields.get("approvers") {
            approval.approvers = self.approvers(node)?;
        }
        if let Some(node) = fields.get("form") {
            approval.form = self.params(node);
        }
        if let Some(node) = fields.get("on_reject") {
            let word = self.word(node, "`on_reject`", ON_REJECT)?;
            approval.on_reject = [OnReject::Skip, OnReject::Fail, OnReject::Continue][word];
        }
        if let Some(node) = fields.get("on_timeout") {
            let word = self.word(node, "`on_timeout`", ON_TIMEOUT)?;
            approval.on_timeout = [OnTimeout::Fail, OnTimeout::Approve, OnTimeout::Reject][word];
        }
        Some(Action::Approval(Box::new(approval)))
    }

    fn approvers(&mut self, node: &Node) -> Option<Vec<String>> {
        let names = self.texts(node, "`approvers`")?;
        if names.is_empty() {
            self.report
                .error(node.place, "empty-list", "`approvers` names nobody")
                .hint("leave it out, and whoever may run the workflow may decide");
            return None;
        }
        for name in &names {
            let bare = name.strip_prefix("group:").or(name.strip_prefix("role:")).unwrap_or(name);
            if bare.is_empty() || bare.contains([':', ' ']) {
                let message = format!("`{name}` is no approver");
                self.report
                    .error(node.place, "bad-name", message)
                    .hint("a user's name, `group:G` or `role:R`");
                return None;
            }
        }
        Some(names)
    }

    pub(crate) fn wait(
        &mut self,
        node: &Node,
        output_type: Option<&Node>,
        bind: &mut Bind,
    ) -> Option<Action> {
        let wait = self.wait_for(node, bind)?;
        if let Some(node) = output_type.filter(|_| !matches!(wait, Wait::Event(_))) {
            self.report
                .error(node.place, "no-output", "`output_type` goes with `wait: {event: …}`")
                .hint("a wait for a time has no output");
        }
        Some(Action::Wait(wait))
    }

    fn wait_for(&mut self, node: &Node, bind: &mut Bind) -> Option<Wait> {
        if node.entries().is_none() {
            return self.duration(node, "`wait`").map(Wait::For);
        }
        let known = Known {
            what: "`wait`",
            table: WAIT,
            also: &[],
            words: &[("duration", "for"), ("seconds", "for"), ("signal", "event"), ("at", "until")],
        };
        let fields = self.fields(node, &known)?;
        let parts = [fields.get("for"), fields.get("until"), fields.get("event")];
        match parts {
            [Some(node), None, None] => self.duration(node, "`for`").map(Wait::For),
            [None, Some(node), None] => {
                let (binding, _) = self.binding(node, Some(&Type::DatetimeTz), bind)?;
                Some(Wait::Until(binding))
            }
            [None, None, Some(node)] => self.text_binding(node, "`event`", bind).map(Wait::Event),
            _ => {
                self.report.error(
                    node.place,
                    "missing-key",
                    "`wait` takes one of `for`, `until`, `event`",
                );
                None
            }
        }
    }

    /// Whether a wait is for an event, which has an output.
    pub(crate) fn is_event(node: &Node) -> bool {
        node.get("event").is_some()
    }

    pub(crate) fn poll(
        &mut self,
        node: &Node,
        output: Option<&Type>,
        bind: &mut Bind,
    ) -> Option<Box<Poll>> {
        let known = Known {
            what: "`poll`",
            table: POLL,
            also: &[],
            words: &[("interval", "every"), ("poke_interval", "every"), ("condition", "until")],
        };
        let fields = self.fields(node, &known)?;
        let Some(every) = fields.get("every") else {
            self.report.error(node.place, "missing-key", "`poll` has no `every`");
            return None;
        };
        let every = self.positive(every, "`every`")?;
        let timeout = match fields.get("timeout") {
            Some(node) => Some(self.timeout(node)?),
            None => None,
        };
        let until = match fields.get("until") {
            Some(node) => {
                let mut values = bind.scope.values.to_vec();
                values.extend(output.map(|ty| ("output".to_owned(), ty.clone())));
                let scope = super::expr::CheckScope { values: &values, ..bind.scope };
                let ask = |inner: &mut Bind<'_>| {
                    self.expression(node, "`until`", Some(&Type::Bool), inner)
                };
                Some(bind.within(scope, ask)?.0)
            }
            None => None,
        };
        Some(Box::new(Poll { every, timeout, until }))
    }

    /// A duration longer than nothing.
    pub(crate) fn positive(&mut self, node: &Node, what: &str) -> Option<crate::time::Span> {
        let span = self.duration(node, what)?;
        if span.0 == 0 {
            self.report.error(node.place, "out-of-range", format!("{what} must be longer than 0"));
            return None;
        }
        Some(span)
    }
}
