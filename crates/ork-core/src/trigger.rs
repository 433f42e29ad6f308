//! Triggers: what starts runs beside people and schedules.
//!
//! A webhook's runs are made by requests to its own address. A run that is to start when another
//! workflow's run has ended is made in two steps, so that there is one for each such end whatever
//! restarts there are: the end is made durable together with a [`FiringRow`] for each trigger that
//! waits for it, and the run together with the answer to its firing. A store keeps the first firing
//! of a run and trigger, and the first answer to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::ids::{ProjectId, RunId};
use crate::lang::{ParamError, RunFacts, bind_triggered};
use crate::plan::{Plan, Trigger, WebhookAuth};
use crate::rows::{Actor, Change, FiringRow, HookSecret, RunRow, TriggerRow, VersionId};
use crate::run::{MAX_MESSAGE, NewRun, RunState};
use crate::schedule::{Declared, Site, fitting, run_id, utc};
use crate::time::Wall;
use crate::value::{Digest, Value};

/// The most triggers of a workflow.
pub const MAX_TRIGGERS: usize = 100;

/// A trigger's name: its project, its workflow and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerKey {
    /// The project.
    pub project: ProjectId,
    /// The workflow.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
}

impl TriggerKey {
    /// The trigger that a row is of.
    pub fn of(row: &TriggerRow) -> Self {
        Self { project: row.project, workflow: row.workflow.clone(), name: row.name.clone() }
    }

    /// The trigger that a firing is of.
    pub fn fired(row: &FiringRow) -> Self {
        Self { project: row.project, workflow: row.workflow.clone(), name: row.trigger.clone() }
    }

    fn seed(&self) -> String {
        format!("{}/{}/{}", self.project.0, self.workflow, self.name)
    }

    /// The name under which a webhook is called. It is the same as long as the trigger keeps its
    /// name; it is no secret.
    pub fn hook(&self) -> String {
        let digest = Digest::of(format!("hook/{}", self.seed()).as_bytes()).to_string();
        digest[..32].to_owned()
    }
}

/// The triggers of all current versions.
#[derive(Clone, Debug, Default)]
pub struct Triggers(BTreeMap<TriggerKey, TriggerRow>);

impl Triggers {
    /// Takes over what a store has.
    pub fn load(&mut self, rows: Vec<TriggerRow>) {
        self.0 = rows.into_iter().map(|row| (TriggerKey::of(&row), row)).collect();
    }

    /// A trigger that its workflow has now.
    pub fn get(&self, key: &TriggerKey) -> Option<&TriggerRow> {
        self.0.get(key).filter(|row| !row.removed)
    }

    /// The workflows that wait for each other, if this plan's would.
    pub fn cycle(&self, project: ProjectId, plan: &Plan) -> Option<Vec<String>> {
        let next = |name: &str| {
            let of = self.0.values().filter(|row| !row.removed);
            let of = of.filter(|row| row.project == project && row.workflow == name);
            of.filter_map(|row| row.spec.awaited().map(str::to_owned)).collect()
        };
        plan.awaits().iter().find_map(|first| way_round(&plan.name, first, next))
    }

    /// A version became current: its triggers are those of the workflow. One that is gone is kept
    /// by its name, with its secret, so that it is the same when it comes back.
    pub fn deploy(
        &mut self,
        project: ProjectId,
        version: VersionId,
        plan: &Plan,
        now: Wall,
    ) -> Vec<Change> {
        let stays = |name: &str| plan.triggers.contains_key(name);
        let mut changed = self.remove(project, &plan.name, stays, now);
        for (name, spec) in &plan.triggers {
            let key = TriggerKey { project, workflow: plan.name.clone(), name: name.clone() };
            let known = self.0.get(&key);
            let row = declared(&key, spec, version, known, now);
            if known != Some(&row) {
                let row = TriggerRow { updated_at: now, ..row };
                self.0.insert(key, row.clone());
                changed.push(row);
            }
        }
        changed.into_iter().map(|row| Change::Trigger(Box::new(row))).collect()
    }

    /// A workflow is deleted: its triggers are kept by their names, with their secrets.
    pub fn retire(&mut self, project: ProjectId, workflow: &str, now: Wall) -> Vec<Change> {
        let removed = self.remove(project, workflow, |_| false, now);
        removed.into_iter().map(|row| Change::Trigger(Box::new(row))).collect()
    }

    fn remove(
        &mut self,
        project: ProjectId,
        workflow: &str,
        stays: impl Fn(&str) -> bool,
        now: Wall,
    ) -> Vec<TriggerRow> {
        let gone = self.0.iter_mut().filter(|(key, row)| {
            let is_own = key.project == project && key.workflow == workflow;
            is_own && !row.removed && !stays(&key.name)
        });
        let mut removed = Vec::new();
        for (_, row) in gone {
            row.removed = true;
            row.updated_at = now;
            removed.push(row.clone());
        }
        removed
    }

    /// Gives a webhook a new secret; the old one is of no use from then on. None where there is no
    /// such webhook.
    pub fn rotate(
        &mut self,
        key: &TriggerKey,
        secret: HookSecret,
        by: &Actor,
        now: Wall,
    ) -> Option<Change> {
        let row = self.0.get_mut(key).filter(|row| !row.removed && secret.fits(&row.spec))?;
        row.secret = Some(secret);
        row.rotated_by = Some(by.clone());
        row.rotated_at = Some(now);
        row.updated_at = now;
        Some(Change::Trigger(Box::new(row.clone())))
    }

    /// What is to be made durable with the end of a run: a firing of each trigger that waits for
    /// it. Drafts are tried, and start nothing.
    pub fn ended(&self, run: &RunRow, state: RunState, now: Wall) -> Vec<Change> {
        if run.version.is_draft() {
            return Vec::new();
        }
        let waits = |row: &&TriggerRow| {
            !row.removed && row.project == run.project && row.spec.waits_for(&run.workflow, state)
        };
        let fire = |row: &TriggerRow| {
            Change::Firing(Box::new(FiringRow {
                project: run.project,
                source: run.id,
                source_workflow: run.workflow.clone(),
                source_state: state,
                workflow: row.workflow.clone(),
                trigger: row.name.clone(),
                fired_at: now,
                run: None,
                reason: None,
                decided_at: None,
            }))
        };
        self.0.values().filter(waits).map(fire).collect()
    }
}

/// The row of a trigger that a version declares.
fn declared(
    key: &TriggerKey,
    spec: &Trigger,
    version: VersionId,
    known: Option<&TriggerRow>,
    now: Wall,
) -> TriggerRow {
    let secret = known.and_then(|row| row.secret.clone()).filter(|secret| secret.fits(spec));
    TriggerRow {
        project: key.project,
        workflow: key.workflow.clone(),
        name: key.name.clone(),
        version,
        spec: spec.clone(),
        hook: matches!(spec, Trigger::Webhook { .. }).then(|| key.hook()),
        secret,
        rotated_by: known.and_then(|row| row.rotated_by.clone()),
        rotated_at: known.and_then(|row| row.rotated_at),
        removed: false,
        updated_at: known.map_or(now, |row| row.updated_at),
    }
}

/// The way from a workflow over `first` back to itself, by what each waits for; none when there is
/// none.
pub fn way_round(
    from: &str,
    first: &str,
    next: impl Fn(&str) -> Vec<String>,
) -> Option<Vec<String>> {
    let mut seen = vec![first.to_owned()];
    let mut ways = vec![vec![from.to_owned(), first.to_owned()]];
    while let Some(way) = ways.pop() {
        let last = way.last().map_or("", String::as_str);
        if last == from {
            return Some(way);
        }
        for name in next(last) {
            if name == from || !seen.contains(&name) {
                seen.push(name.clone());
                let mut further = way.clone();
                further.push(name);
                ways.push(further);
            }
        }
    }
    None
}

/// What a firing needs to become a run, as a store has it.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The firing.
    pub firing: FiringRow,
    /// The run that ended; none where it is gone.
    pub source: Option<RunRow>,
    /// Its output.
    pub output: Result<Value, String>,
    /// The version that declares the trigger.
    pub version: Option<Arc<Declared>>,
}

/// The run that a firing makes.
///
/// # Errors
/// Why there is none.
pub fn fired_run(fired: &Fired, now: Wall, site: &Site) -> Result<NewRun, String> {
    let key = TriggerKey::fired(&fired.firing);
    let source = fired.source.as_ref().ok_or("the run that ended is gone")?;
    let version = fired.version.as_ref().ok_or("the trigger is gone")?;
    let value = json!({ "run": {
        "id": source.id.to_string(),
        "workflow": source.workflow,
        "state": fired.firing.source_state,
        "logical_time": source.logical_time,
        "params": source.params,
        "output": fired.output.clone()?,
    }});
    let id = run_id(&format!("{}@{}", key.seed(), source.id), now);
    let birth = Birth {
        id,
        trigger: &key.name,
        value,
        after: Some(source.id),
        by: Actor { name: "system".into(), ..Actor::default() },
        at: now,
    };
    let run = triggered_run(version, birth, site)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    fitting(&run.params)?;
    Ok(run)
}

/// What a firing came to.
pub fn decided(firing: &FiringRow, made: Result<RunId, String>, now: Wall) -> Change {
    Change::Firing(Box::new(FiringRow {
        run: made.as_ref().ok().copied(),
        reason: made.err().map(|mut reason| {
            reason.truncate(reason.floor_char_boundary(MAX_MESSAGE));
            reason
        }),
        decided_at: Some(now),
        ..firing.clone()
    }))
}

/// What a run by a trigger is made of.
#[derive(Debug)]
pub struct Birth<'a> {
    /// The run.
    pub id: RunId,
    /// The trigger's name in its workflow.
    pub trigger: &'a str,
    /// `trigger`, as the trigger's params see it.
    pub value: Value,
    /// The run whose end starts it.
    pub after: Option<RunId>,
    /// Who asked.
    pub by: Actor,
    /// When: the run's logical time.
    pub at: Wall,
}

/// The run that a trigger makes.
///
/// # Errors
/// All that is wrong with its params.
pub fn triggered_run(
    version: &Declared,
    birth: Birth<'_>,
    site: &Site,
) -> Result<NewRun, Vec<ParamError>> {
    let Birth { id, trigger, value, after, by, at } = birth;
    let Some(spec) = version.plan.triggers.get(trigger) else {
        let message = "the workflow has no such trigger any more".to_owned();
        return Err(vec![ParamError { name: trigger.to_owned(), message }]);
    };
    let (logical_time, url) = (utc(at), site.run_url(id));
    let facts = RunFacts {
        id: id.to_string(),
        workflow: version.workflow.clone(),
        project: site.project_name.to_string(),
        logical_time: logical_time.clone(),
        url: url.clone(),
    };
    let seen = (value, &spec.value_type());
    let params = bind_triggered(&version.plan, spec.params(), &facts, seen)?;
    let kind = match spec {
        Trigger::Webhook { .. } => "webhook",
        Trigger::Workflow { .. } => "workflow",
    };
    Ok(NewRun {
        project: version.project,
        project_name: site.project_name.clone(),
        id,
        version: version.version,
        plan: version.plan.clone(),
        code: version.code.clone(),
        params,
        logical_time,
        labels: indexmap::IndexMap::new(),
        trigger: format!("{kind}:{trigger}"),
        url,
        rerun_of: None,
        after,
        by,
    })
}

impl HookSecret {
    /// Whether a trigger is shown by a secret of this kind.
    pub fn fits(&self, spec: &Trigger) -> bool {
        let Trigger::Webhook { auth, .. } = spec else { return false };
        matches!(
            (self, auth),
            (Self::Hmac { .. }, WebhookAuth::Hmac) | (Self::Token { .. }, WebhookAuth::Token)
        )
    }
}
