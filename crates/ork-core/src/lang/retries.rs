//! `retries`, short and long, with what `defaults` give.

use super::binding::Bind;
use super::keys::RETRIES;
use super::read::Known;
use super::tree::{Literal, Node};
use super::{Lower, expr::Name};
use crate::plan::{Backoff, Retry, RetryOn};
use crate::types::Type;

impl Lower<'_> {
    /// The retries of a task: its own, then the defaults', then what is built in; the long forms
    /// merge key by key.
    pub(crate) fn retry(
        &mut self,
        own: Option<&Node>,
        default: Option<&Node>,
        bind: &mut Bind,
    ) -> Option<Retry> {
        let mut retry = Retry::default();
        let mut told = false;
        for node in [default, own].into_iter().flatten() {
            told |= self.retry_layer(node, &mut retry, bind)?;
        }
        if let (false, Some(node)) = (told, own.or(default)) {
            self.report
                .error(node.place, "missing-key", "`retries` needs `max`")
                .hint("`max` counts the attempts after the first");
            return None;
        }
        if retry.max_delay < retry.delay {
            let place = own.or(default)?.place;
            self.report.error(place, "out-of-range", "`max_delay` is shorter than `delay`");
        }
        Some(retry)
    }

    /// Puts what a node says over a retry; whether it says how many.
    fn retry_layer(&mut self, node: &Node, retry: &mut Retry, bind: &mut Bind) -> Option<bool> {
        if node.entries().is_none() {
            retry.max = self.integer(node, "`retries`", 1_000)?;
            return Some(true);
        }
        let known = Known { what: "`retries`", table: RETRIES, also: &[], words: WORDS };
        let fields = self.fields(node, &known)?;
        let max = fields.get("max");
        if let Some(node) = max {
            retry.max = self.integer(node, "`max`", 1_000)?;
        }
        if let Some(node) = fields.get("delay") {
            retry.delay = self.duration(node, "`delay`")?;
            retry.max_delay = retry.max_delay.max(retry.delay);
        }
        if let Some(node) = fields.get("max_delay") {
            retry.max_delay = self.duration(node, "`max_delay`")?;
        }
        if let Some(node) = fields.get("backoff") {
            let word = self.word(node, "`backoff`", &["constant", "linear", "exponential"])?;
            retry.backoff = [Backoff::Constant, Backoff::Linear, Backoff::Exponential][word];
        }
        if let Some(node) = fields.get("multiplier") {
            retry.multiplier = self.multiplier(node)?;
        }
        if let Some(node) = fields.get("jitter") {
            retry.jitter = self.boolean(node, "`jitter`")?;
        }
        if let Some(node) = fields.get("for") {
            retry.on = self.retry_on(node)?;
        }
        if let Some(node) = fields.get("if") {
            let names = [Name::Params, Name::Run, Name::Attempt, Name::Error];
            let mut inner = Bind::new(super::expr::CheckScope { names: &names, ..bind.scope });
            let (expr, _) = self.expression(node, "`if`", Some(&Type::Bool), &mut inner)?;
            retry.condition = Some(expr);
        }
        Some(max.is_some())
    }

    fn multiplier(&mut self, node: &Node) -> Option<f64> {
        let number = match node.scalar().map(super::tree::Scalar::literal) {
            Some(Literal::Int(n)) => f64::from(i32::try_from(n).unwrap_or(i32::MAX)),
            Some(Literal::Float(n)) => n,
            _ => {
                self.wrong(node, "`multiplier` must be a number");
                return None;
            }
        };
        if (1.0..=1_000.0).contains(&number) {
            return Some(number);
        }
        self.report.error(node.place, "out-of-range", "`multiplier` must be from 1 to 1000");
        None
    }

    fn retry_on(&mut self, node: &Node) -> Option<Vec<RetryOn>> {
        let words = self.texts(node, "`for`")?;
        let mut on = Vec::new();
        for word in words {
            match (word.as_str(), word.strip_prefix("exit:").map(str::parse::<u8>)) {
                ("failure", _) => on.push(RetryOn::Failure),
                ("timeout", _) => on.push(RetryOn::Timeout),
                (_, Some(Ok(code))) if code > 0 => on.push(RetryOn::Exit(code.into())),
                _ => {
                    self.report
                        .error(node.place, "unknown-word", format!("`for` cannot hold `{word}`"))
                        .hint("failure, timeout, or exit:N with N from 1 to 255");
                    return None;
                }
            }
        }
        if on.is_empty() {
            self.report
                .error(node.place, "empty-list", "`for` names nothing to retry")
                .hint("leave it out to retry every failure");
            return None;
        }
        Some(on)
    }
}

const WORDS: &[(&str, &str)] = &[
    ("attempts", "max"),
    ("limit", "max"),
    ("max_attempts", "max"),
    ("interval", "delay"),
    ("wait", "delay"),
    ("factor", "multiplier"),
    ("when", "if"),
    ("on", "for"),
];
