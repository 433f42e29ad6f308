//! Approvals: what a person decides, who may, and what comes of silence.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ids::{InstancePath, ProjectId, RunId};
use crate::lang::{self, RunFacts};
use crate::plan::{Action, Approval, OnReject, OnTimeout, Param};
use crate::rows::Actor;
use crate::run::active::{Cx, Run};
use crate::run::control::{Answered, no_task};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::machine::Machine;
use crate::run::scope::fit;
use crate::run::transition::Illegal;
use crate::run::wait::Deferral;
use crate::run::{Answer, Decision, FailureKind, Refusal, RefusalCode, Source, TaskState};
use crate::time::Wall;
use crate::value::{Data, Value};

/// The longest comment on a decision, in bytes.
const MAX_COMMENT: usize = 4 << 10;

/// Who decided, kept with the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decided {
    by: String,
    approved: bool,
}

/// An approval that waits for a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenApproval {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// The instance.
    pub path: InstancePath,
    /// What is asked.
    pub prompt: String,
    /// Who may decide; empty: whoever may run the workflow.
    pub approvers: Vec<String>,
    /// What is to be filled in.
    pub form: IndexMap<String, Param>,
    /// Since when.
    pub since: Option<Wall>,
    /// When silence counts as an answer.
    pub until: Option<Wall>,
}

impl Machine {
    /// The approvals of a project that wait for a decision, by run and then by task, after a place
    /// in that order, at most `limit`.
    pub fn approvals(
        &self,
        project: ProjectId,
        after: Option<(RunId, &InstancePath)>,
        limit: usize,
    ) -> Vec<OpenApproval> {
        let keys = self.desk.approvals.iter();
        let runs = keys.filter_map(|key| Some((self.runs.get(&key.run)?, key.ix)));
        let mine = runs.filter(|(run, _)| run.facts.project == project);
        let place = after.map(|(id, path)| {
            (id, self.runs.get(&id).and_then(|run| run.by_path.get(path).copied()))
        });
        let left = mine.filter(|(run, ix)| place.is_none_or(|place| (run.id, Some(*ix)) > place));
        left.take(limit).map(|(run, ix)| run.open_approval(ix, self.seen)).collect()
    }
}

impl Run {
    fn approval(&self, ix: Ix) -> Option<&Approval> {
        match &self.task(ix).action {
            Action::Approval(approval) => Some(approval),
            _ => None,
        }
    }

    /// Who may decide.
    pub(super) fn approvers(&self, ix: Ix) -> Vec<String> {
        self.approval(ix).map(|approval| approval.approvers.clone()).unwrap_or_default()
    }

    fn open_approval(&self, ix: Ix, now: crate::time::Now) -> OpenApproval {
        let instance = self.instance(ix);
        let prompt = match &instance.phase {
            Phase::Deferred(deferral) => match &**deferral {
                Deferral::Approval { prompt } => prompt.clone(),
                _ => String::new(),
            },
            _ => String::new(),
        };
        OpenApproval {
            run: self.id,
            workflow: self.facts.workflow.to_string(),
            path: instance.path.clone(),
            prompt,
            approvers: self.approvers(ix),
            form: self.approval(ix).map(|approval| approval.form.clone()).unwrap_or_default(),
            since: instance.started_at,
            until: instance.rare().limit.map(|at| now.wall + (at - now.mono)),
        }
    }

    /// Asks for a decision.
    pub(super) fn begin_approval(
        &mut self,
        ix: Ix,
        approval: &Approval,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let prompt = self.view(Some(ix), cx.desk).text(&approval.prompt);
        match prompt {
            Ok(mut prompt) => {
                prompt.truncate(prompt.floor_char_boundary(crate::run::MAX_MESSAGE));
                self.defer(ix, Deferral::Approval { prompt }, None, cx)
            }
            Err(error) => self.no_value(ix, "approval", error, cx),
        }
    }

    /// Takes a person's decision.
    pub(super) fn decide_approval(
        &mut self,
        path: &InstancePath,
        decision: Decision,
        cx: &mut Cx<'_>,
    ) -> Answered {
        let Some(ix) = self.current(path) else { return Ok(Err(no_task(self.id, path))) };
        let checked = self.check_decision(ix, decision, cx.by);
        let (decision, form) = match checked {
            Ok(Some(checked)) => checked,
            Ok(None) => return Ok(Ok(Answer::Done)),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let by = cx.by.name.clone();
        let output = json!({
            "approved": decision.approved,
            "by": by,
            "comment": decision.comment,
            "form": form,
        });
        self.conclude_approval(ix, decision.approved, &by, output, Source::Decision, cx)?;
        self.drain(cx)?;
        Ok(Ok(Answer::Done))
    }

    /// The decision with its form filled in; none when it was made before by the same person.
    fn check_decision(
        &self,
        ix: Ix,
        decision: Decision,
        by: &Actor,
    ) -> Result<Option<(Decision, Value)>, Refusal> {
        let instance = self.instance(ix);
        let path = &instance.path;
        let Some(approval) = self.approval(ix) else {
            let message = format!("{path} of run {} is no approval", self.id);
            return Err(Refusal::new(RefusalCode::Conflict, message));
        };
        if !may_decide(&approval.approvers, by) {
            let who = approval.approvers.join(", ");
            let message = format!("{} may not decide on {path}; {who} may", by.name);
            return Err(Refusal::new(RefusalCode::Forbidden, message));
        }
        if let Some(decided) = &instance.rare().decided {
            if decided.by == by.name && decided.approved == decision.approved {
                return Ok(None);
            }
            let word = if decided.approved { "approved" } else { "rejected" };
            let message = format!("{path} of run {} was {word} by {}", self.id, decided.by);
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if !matches!(instance.phase, Phase::Deferred(_)) {
            let state = super::control::name(&instance.state());
            let message = format!("{path} of run {} waits for no decision: {state}", self.id);
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        if decision.comment.as_ref().is_some_and(|comment| comment.len() > MAX_COMMENT) {
            let message = format!("the comment is longer than {MAX_COMMENT} bytes");
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        // Who rejects need not fill in a form.
        let form = match &decision.form {
            Value::Null if !decision.approved => Value::Null,
            given => self.fill_in(&approval.form, given)?,
        };
        Ok(Some((decision, form)))
    }

    fn fill_in(&self, form: &IndexMap<String, Param>, given: &Value) -> Result<Value, Refusal> {
        let invalid = |message: String| Refusal::new(RefusalCode::Invalid, message);
        let fields = match given {
            Value::Null => serde_json::Map::new(),
            Value::Object(fields) => fields.clone(),
            other => return Err(invalid(format!("form: expected an object, got {other}"))),
        };
        let facts = RunFacts {
            id: self.id.to_string(),
            workflow: self.facts.workflow.to_string(),
            project: self.facts.project_name.to_string(),
            logical_time: self.facts.logical_time.to_string(),
            url: self.facts.url.clone(),
        };
        let given = fields.into_iter().map(|(name, value)| (name, lang::Given::Json(value)));
        lang::bind_form(form, &given.collect(), &facts).map_err(|errors| {
            let errors: Vec<_> =
                errors.iter().map(|e| format!("form.{}: {}", e.name, e.message)).collect();
            invalid(errors.join("; "))
        })
    }

    /// Nobody decided in time.
    pub(super) fn undecided(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let on_timeout = self.approval(ix).map(|approval| approval.on_timeout);
        let timeout = self.task(ix).timeout.unwrap_or_default();
        let message = format!("nobody decided within {timeout}");
        let approved = match on_timeout.unwrap_or_default() {
            OnTimeout::Fail => {
                let failed = Ending::failed(FailureKind::Timeout, message);
                return self.end(ix, TaskState::Failed, failed, cx);
            }
            OnTimeout::Approve => true,
            OnTimeout::Reject => false,
        };
        let by = "timeout".to_owned();
        let output = json!({ "approved": approved, "by": by, "comment": message, "form": null });
        self.conclude_approval(ix, approved, &by, output, Source::Timeout, cx)
    }

    fn conclude_approval(
        &mut self,
        ix: Ix,
        approved: bool,
        by: &str,
        output: Value,
        source: Source,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let on_reject = self.approval(ix).map(|approval| approval.on_reject).unwrap_or_default();
        let output = match fit(Data::Inline(output), cx.out) {
            Ok(output) => output,
            Err(error) => return self.no_value(ix, "approval", error, cx),
        };
        self.instance_mut(ix).rare_mut().decided = Some(Decided { by: by.to_owned(), approved });
        let source = Some(source);
        if approved || on_reject == OnReject::Continue {
            return self.end_wait(ix, Some(output), source, cx);
        }
        let (state, failure) = match on_reject {
            OnReject::Fail => {
                let failed = Ending::failed(FailureKind::Rejected, format!("rejected by {by}"));
                (TaskState::Failed, failed.failure)
            }
            _ => (TaskState::Skipped, None),
        };
        self.end(ix, state, Ending { failure, source, ..Ending::default() }, cx)
    }
}

/// Whether one of these is the actor, a group they are in, or a role they have.
fn may_decide(approvers: &[String], by: &Actor) -> bool {
    let names = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    approvers.is_empty()
        || approvers.iter().any(|approver| match approver.split_once(':') {
            Some(("group", group)) => names(&by.groups, group),
            Some(("role", role)) => names(&by.roles, role),
            _ => *approver == by.name,
        })
}
