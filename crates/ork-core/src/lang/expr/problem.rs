//! What is wrong at a place, in bytes of the source.

use super::ExprIssue;
use super::ast::Span;

#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) at: Span,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(at: Span, code: &'static str, message: String) -> Self {
        Self { at, code, message, hint: None }
    }

    pub(super) fn hint(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// The same in characters.
    pub(super) fn issue(self, source: &str) -> ExprIssue {
        let chars = |end: usize| source.get(..end).map_or(0, |text| text.chars().count());
        let offset = chars(self.at.start);
        let length = chars(self.at.end).saturating_sub(offset).max(1);
        ExprIssue { offset, length, code: self.code, message: self.message, hint: self.hint }
    }
}
