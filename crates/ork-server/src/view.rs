//! Rows as resources.

use indexmap::IndexMap;
use ork_api::stamp::Stamp;
use ork_api::types::{
    Attempt, Blocker, Code, Event, Param, Payload, Run, Task, TaskDeclaration, Version,
    VersionItem, Workflow,
};
use ork_core::plan::{Action, Binding, Plan, Scope};
use ork_core::rows::{AttemptRow, CodeRef, RunRow, TaskRow, VersionRow, WorkflowRow};
use ork_core::run;
use ork_core::value::Data;
use ork_store::Committed;

pub(crate) fn workflow(row: WorkflowRow) -> Workflow {
    Workflow {
        name: row.name,
        current: row.current.map(|version| version.0),
        description: row.metadata.description,
        tags: row.metadata.tags,
        labels: row.metadata.labels,
        owner: row.metadata.owner,
        created_at: Stamp(row.created_at),
        updated_at: Stamp(row.updated_at),
    }
}

pub(crate) fn version_item(row: &VersionRow) -> VersionItem {
    VersionItem {
        workflow: row.workflow.clone(),
        version: row.version.0,
        draft: row.version.is_draft(),
        digest: row.digest,
        created_by: row.created_by.clone(),
        created_at: Stamp(row.created_at),
    }
}

pub(crate) fn version(row: VersionRow) -> Version {
    Version {
        item: version_item(&row),
        source: row.source,
        code: match row.code {
            CodeRef::InPlace { root } => Code::InPlace { root },
            CodeRef::Bundle { digest } => Code::Bundle { digest },
        },
        params: params(&row.plan),
        tasks: tasks(&row.plan),
    }
}

fn params(plan: &Plan) -> IndexMap<String, Param> {
    let declared = plan.params.iter().map(|(name, param)| {
        let default = match &param.default {
            Some(Binding::Const(value)) => Some(value.clone()),
            _ => None,
        };
        let required = param.default.is_none();
        let description = param.description.clone();
        (name.clone(), Param { ty: param.ty.clone(), required, default, description })
    });
    declared.collect()
}

fn tasks(plan: &Plan) -> Vec<TaskDeclaration> {
    let mut all = scope(&plan.body, "");
    all.extend(scope(&plan.finally, "finally/"));
    all
}

/// The tasks of a scope, those of its groups after each group.
fn scope(scope: &Scope, prefix: &str) -> Vec<TaskDeclaration> {
    let path = |name: &str| format!("{prefix}{name}");
    let declare = |task: &ork_core::plan::Task| TaskDeclaration {
        path: path(&task.name),
        upstreams: task.upstreams.iter().map(|at| path(&scope.tasks[*at].name)).collect(),
        trigger_rule: task.trigger_rule,
        executor: task.action.word().to_owned(),
    };
    let inside = |task: &ork_core::plan::Task| match &task.action {
        Action::Group { tasks, .. } => self::scope(tasks, &format!("{}/", path(&task.name))),
        _ => Vec::new(),
    };
    scope.tasks.iter().flat_map(|task| [vec![declare(task)], inside(task)].concat()).collect()
}

pub(crate) fn run(row: RunRow, project: &str) -> Run {
    Run {
        id: row.id,
        project: project.to_owned(),
        workflow: row.workflow,
        version: row.version.0,
        state: row.state,
        run_attempt: row.run_attempt,
        params: row.params,
        logical_time: row.logical_time,
        labels: row.labels,
        trigger: row.trigger,
        created_by: row.created_by,
        created_at: Stamp(row.created_at),
        started_at: row.started_at.map(Stamp),
        finished_at: row.finished_at.map(Stamp),
        failure: row.failure,
        output: row.output.map(Payload::from),
    }
}

pub(crate) fn task(row: TaskRow) -> Task {
    let payload = |(name, data): (String, Data)| (name, Payload::from(data));
    Task {
        run: row.run,
        path: row.path,
        ordinal: row.ordinal,
        generation: row.generation,
        state: row.state,
        attempt: row.attempt,
        cause: row.cause,
        failure: row.failure,
        inputs: row.inputs.map(|inputs| inputs.into_iter().map(payload).collect()),
        output: row.output.map(Payload::from),
        queued_at: row.queued_at.map(Stamp),
        started_at: row.started_at.map(Stamp),
        finished_at: row.finished_at.map(Stamp),
    }
}

pub(crate) fn attempt(row: AttemptRow) -> Attempt {
    Attempt {
        run: row.run,
        path: row.path,
        generation: row.generation,
        attempt: row.attempt,
        worker: row.worker.to_string(),
        state: row.state,
        offered_at: Stamp(row.offered_at),
        started_at: row.started_at.map(Stamp),
        finished_at: row.finished_at.map(Stamp),
        failure: row.failure,
        logs: row.logs,
    }
}

pub(crate) fn event(committed: &Committed) -> Event {
    let row = &committed.event;
    Event {
        commit_seq: committed.commit.0,
        position: committed.position,
        run: row.run,
        seq: row.seq,
        at: Stamp(row.at),
        path: row.path.clone(),
        generation: row.generation,
        attempt: row.attempt,
        actor: row.actor.clone(),
        schema_version: row.schema_version,
        data: row.kind.clone(),
    }
}

pub(crate) fn blocker(blocker: &run::Blocker) -> Blocker {
    let kind = serde_json::to_value(blocker).ok();
    let kind = kind.as_ref().and_then(|value| value.get("kind")?.as_str()).unwrap_or_default();
    Blocker { kind: kind.to_owned(), message: reason(blocker) }
}

/// A state's word.
fn name(state: run::TaskState) -> String {
    let word = serde_json::to_value(state).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn reason(blocker: &run::Blocker) -> String {
    match blocker {
        run::Blocker::SetAside { reason } => {
            format!("the run is left alone, since it can neither be decided nor ended: {reason}")
        }
        run::Blocker::RunPending => "the run has not been admitted yet".to_owned(),
        run::Blocker::Body { open } => {
            format!("it belongs to `finally`, and {open} tasks are not over yet")
        }
        run::Blocker::Upstream { path, state } => {
            format!("waits for `{path}`, which is {}", name(*state))
        }
        run::Blocker::Outer { path, state } => {
            format!("is inside of `{path}`, which is {}", name(*state))
        }
        run::Blocker::Compiler => "what it is to hold is being compiled".to_owned(),
        run::Blocker::RetryAt { at } => {
            let at = Stamp(*at).to_string();
            format!("is tried again at {}Z", at.get(..19).unwrap_or(&at).replace('T', " "))
        }
        run::Blocker::Values { digests } => {
            format!("{} large values are being loaded for an expression", digests.len())
        }
        run::Blocker::NoWorker { queue } => format!("no worker serves the queue `{queue}`"),
        run::Blocker::NoSlot { queue, slots } => {
            format!("all {slots} slots of the workers of queue `{queue}` are taken")
        }
    }
}
