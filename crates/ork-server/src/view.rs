//! Rows as resources.

use indexmap::IndexMap;
use ork_api::backfills::Backfill;
use ork_api::schedules::{self, Schedule, Ticked};
use ork_api::stamp::Stamp;
use ork_api::triggers::{Firing, Trigger};
use ork_api::types::{
    Attempt, Blocker, Code, Event, HistoryItem, OpenApproval, Param, Paused, Payload, Run, Task,
    TaskDeclaration, Version, VersionItem, Workflow,
};
use ork_core::catalog;
use ork_core::plan::{self, Action, Binding, Plan, Scope};
use ork_core::rows::{
    AttemptRow, BackfillRow, CodeRef, FiringRow, HistoryRow, Pause, PauseRow, RunRow, ScheduleRow,
    TaskRow, TickRow, TriggerRow, VersionRow, WorkflowRow,
};
use ork_core::run;
use ork_core::schedule::Zone;
use ork_core::time::Wall;
use ork_core::value::Data;
use ork_store::Committed;

pub(crate) fn workflow(row: WorkflowRow, pauses: &[PauseRow]) -> Workflow {
    let own = pauses
        .iter()
        .find(|pause| pause.project == row.project && pause.workflow.as_ref() == Some(&row.name));
    let pause = own.and_then(|row| row.pause.clone());
    let revision = catalog::revision(&row, pause.is_some());
    Workflow {
        revision,
        deleted_at: row.deleted_at.map(Stamp),
        name: row.name,
        current: row.current.map(|version| version.0),
        description: row.metadata.description,
        tags: row.metadata.tags,
        labels: row.metadata.labels,
        owner: row.metadata.owner,
        created_at: Stamp(row.created_at),
        updated_at: Stamp(row.updated_at),
        paused: pause.map(paused),
    }
}

pub(crate) fn history(row: HistoryRow) -> HistoryItem {
    HistoryItem {
        number: row.number,
        at: Stamp(row.at),
        by: row.by,
        what: row.what,
        version: row.version.map(|version| version.0),
        changes: row.changes,
    }
}

pub(crate) fn schedule(row: ScheduleRow, zone: &Zone) -> Schedule {
    let next = row.next.filter(|_| !row.paused);
    Schedule {
        workflow: row.workflow,
        name: row.name,
        version: row.version.0,
        rule: schedules::rule(&row.spec.when, zone),
        catchup: schedules::catchup(row.spec.catchup),
        jitter: row.spec.jitter.to_string(),
        timezone: row.spec.timezone,
        paused: row.paused,
        changed_by: row.changed_by,
        next: next.map(|at| zone.show(at)),
        last: row.last.map(|last| zone.show(last.tick)),
        last_run: row.last.and_then(|last| last.run),
        updated_at: Stamp(row.updated_at),
    }
}

pub(crate) fn trigger(row: TriggerRow, url: &str) -> Trigger {
    let params = row.spec.params().keys().cloned().collect();
    let rotated_at = row.rotated_at.filter(|_| row.secret.is_some()).map(Stamp);
    let shown = Trigger {
        workflow: row.workflow,
        name: row.name,
        version: row.version.0,
        url: row.hook.map(|hook| format!("{url}/hooks/{hook}")),
        auth: None,
        body: None,
        has_secret: None,
        rotated_by: row.rotated_by.filter(|_| rotated_at.is_some()),
        rotated_at,
        after: None,
        states: Vec::new(),
        params,
        updated_at: Stamp(row.updated_at),
    };
    match row.spec {
        plan::Trigger::Webhook { body, auth, .. } => Trigger {
            auth: Some(auth),
            body: Some(body),
            has_secret: Some(row.secret.is_some()),
            ..shown
        },
        plan::Trigger::Workflow { workflow, states, .. } => {
            Trigger { after: Some(workflow), states, ..shown }
        }
    }
}

pub(crate) fn firing(row: FiringRow) -> Firing {
    Firing {
        source: row.source,
        source_workflow: row.source_workflow,
        source_state: row.source_state,
        fired_at: Stamp(row.fired_at),
        run: row.run,
        reason: row.reason,
        decided_at: row.decided_at.map(Stamp),
    }
}

pub(crate) fn backfill(row: BackfillRow, zone: &Zone) -> Backfill {
    Backfill {
        id: row.id,
        workflow: row.workflow,
        schedule: row.schedule,
        version: row.version.0,
        from: zone.show(row.from),
        to: zone.show(row.to),
        max_runs: row.max_runs,
        order: row.order,
        state: row.state,
        total: row.total,
        made: row.made,
        skipped: row.skipped,
        reason: row.reason,
        created_by: row.created_by,
        changed_by: row.changed_by,
        created_at: Stamp(row.created_at),
        finished_at: row.finished_at.map(Stamp),
    }
}

pub(crate) fn ticked(row: TickRow) -> Ticked {
    Ticked {
        tick: Stamp(row.tick),
        until: Stamp(row.until),
        count: row.count,
        logical_time: row.logical_time,
        run: row.run,
        reason: row.reason,
        decided_at: Stamp(row.decided_at),
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
            CodeRef::InPlace { root, .. } => Code::InPlace { root },
            CodeRef::Bundle { digest } => Code::Bundle { digest },
        },
        params: params(&row.plan),
        tasks: tasks(&row.plan),
    }
}

fn params(plan: &Plan) -> IndexMap<String, Param> {
    declared(&plan.params)
}

fn declared(params: &IndexMap<String, ork_core::plan::Param>) -> IndexMap<String, Param> {
    let declared = params.iter().map(|(name, param)| {
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
        rerun_of: row.rerun_of,
        after: row.after,
        paused: row.paused.map(paused),
    }
}

pub(crate) fn paused(pause: Pause) -> Paused {
    Paused { by: pause.by, at: Stamp(pause.at) }
}

pub(crate) fn approval(open: run::OpenApproval) -> OpenApproval {
    OpenApproval {
        run: open.run,
        workflow: open.workflow,
        path: open.path,
        prompt: open.prompt,
        approvers: open.approvers,
        form: declared(&open.form),
        since: open.since.map(Stamp),
        until: open.until.map(Stamp),
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
        marked: row.marked,
        cache: row.cache,
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

/// A time, to the second.
fn second(at: Wall) -> String {
    let at = Stamp(at).to_string();
    format!("{}Z", at.get(..19).unwrap_or(&at).replace('T', " "))
}

fn at_most(until: Option<Wall>) -> String {
    until.map(|until| format!(", at most until {}", second(until))).unwrap_or_default()
}

/// Who holds what is limited.
fn held_by(holders: &[run::Holder]) -> String {
    let one = |holder: &run::Holder| match &holder.path {
        Some(path) => format!("{path} of run {}", holder.run),
        None => format!("run {}", holder.run),
    };
    match holders {
        [] => String::new(),
        holders => format!(" (by {})", holders.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

fn pool_reason(name: &str, (slots, of, used): (u32, u32, u32), holders: &[run::Holder]) -> String {
    if slots > of {
        return format!(
            "needs {slots} slots of the pool `{name}`, which has {of}; \
             give it more with `ork pools set {name} SLOTS`"
        );
    }
    let held = held_by(holders);
    format!("needs {slots} of the {of} slots of the pool `{name}`; {used} are taken{held}")
}

fn paused_what(scope: run::PauseScope) -> &'static str {
    match scope {
        run::PauseScope::Run => "the run",
        run::PauseScope::Workflow => "its workflow",
        run::PauseScope::Project => "its project",
    }
}

fn reason(blocker: &run::Blocker) -> String {
    match blocker {
        run::Blocker::SetAside { reason } => {
            format!("the run is left alone, since it can neither be decided nor ended: {reason}")
        }
        run::Blocker::RunPending => "the run has not been admitted yet".to_owned(),
        run::Blocker::RunLimit { workflow, key, max_runs, ahead, holders } => {
            let key = key.as_ref().map_or(String::new(), |key| format!(" with the key `{key}`"));
            let ahead = match ahead {
                0 => "it is the next".to_owned(),
                ahead => format!("{ahead} wait longer"),
            };
            let held = held_by(holders);
            format!("at most {max_runs} runs of `{workflow}`{key} at a time{held}; {ahead}")
        }
        run::Blocker::Pool { name, slots, of, used, holders } => {
            pool_reason(name, (*slots, *of, *used), holders)
        }
        run::Blocker::Items { path, left, max_parallel, holders } => {
            let why = max_parallel.map_or_else(
                || "they follow as others leave the queue".to_owned(),
                |most| format!("at most {most} at a time{}", held_by(holders)),
            );
            format!("{left} items of `{path}` have not begun: {why}")
        }
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
        run::Blocker::RetryAt { at } => format!("is tried again at {}", second(*at)),
        run::Blocker::Paused { scope, by, reason, since } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} was paused by {by} at {}{why}", paused_what(*scope), second(*since))
        }
        run::Blocker::Time { at, until } => {
            format!("waits until {}{}", second(*at), at_most(*until))
        }
        run::Blocker::Event { name, until } => {
            format!("waits for the signal `{name}`{}", at_most(*until))
        }
        run::Blocker::Approval { prompt, approvers, until } => {
            let who = match &approvers[..] {
                [] => String::new(),
                approvers => format!(" by {}", approvers.join(" or ")),
            };
            format!("waits for approval{who}{}: {prompt}", at_most(*until))
        }
        run::Blocker::Poll { at, until } => {
            format!("is not ready; looks again at {}{}", second(*at), at_most(*until))
        }
        run::Blocker::Earlier { run: Some(run) } => {
            format!("run {run} is being loaded, whose successes are copied")
        }
        run::Blocker::Earlier { run: None } => "an earlier success is being looked for".to_owned(),
        run::Blocker::Values { digests } => {
            format!("{} large values are being loaded for an expression", digests.len())
        }
        run::Blocker::NoWorker { queue } => format!("no worker serves the queue `{queue}`"),
        run::Blocker::NoSlot { queue, slots } => {
            format!("all {slots} slots of the workers of queue `{queue}` are taken")
        }
    }
}
