//! Workflows and their versions: what a deploy, a change of metadata and a deletion change.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::difference::described;
use crate::ids::ProjectId;
use crate::plan::{Metadata, Plan};
use crate::rows::{
    Actor, Change, CodeRef, Happened, HistoryRow, VersionId, VersionRow, WorkflowRow,
};
use crate::time::Wall;
use crate::value::Digest;

/// A checked workflow with its code, to be kept as a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    /// The digest of the YAML and the code: what a version is.
    pub digest: Digest,
    /// The YAML.
    pub source: String,
    /// The checked plan, which names the workflow.
    pub plan: Arc<Plan>,
    /// Where the code is.
    pub code: CodeRef,
    /// Whether it is only tried: a draft is numbered below zero and never current.
    pub draft: bool,
    /// Who asked.
    pub by: Actor,
}

/// What the store knows of the workflow before the deploy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The workflow.
    pub workflow: Option<WorkflowRow>,
    /// The version with the same digest, among drafts or among the others as the deploy asks.
    pub same: Option<VersionId>,
    /// The highest version number; 0 where there is none.
    pub highest: VersionId,
    /// The lowest draft number; 0 where there is none.
    pub lowest: VersionId,
}

/// What a deploy came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// The version that has this content.
    pub version: VersionId,
    /// Whether it is new.
    pub created: bool,
    /// What is to be made durable; empty when nothing is new.
    pub changes: Vec<Change>,
}

/// Decides a deploy. A version is made only where the content is new; metadata is no content and
/// changes without a version. A deploy makes its version the current one; a draft touches neither
/// that nor the metadata of a workflow that has been deployed.
pub fn deploy(project: ProjectId, deploy: Deploy, known: &Known, now: Wall) -> Deployed {
    let version = known.same.unwrap_or(if deploy.draft {
        VersionId(known.lowest.0.min(0) - 1)
    } else {
        VersionId(known.highest.0.max(0) + 1)
    });
    let created = known.same.is_none();
    let row = workflow_row(project, &deploy, known.workflow.as_ref(), version, now);
    let mut changes = Vec::new();
    if known.workflow.as_ref() != Some(&row) {
        changes.extend(deploy_noted(&deploy, known.workflow.as_ref(), &row, now));
        changes.push(Change::Workflow(Box::new(WorkflowRow { updated_at: now, ..row })));
    }
    if created {
        changes.push(Change::Version(Box::new(version_row(project, deploy, version, now))));
    }
    Deployed { version, created, changes }
}

/// What is to become of a workflow's metadata; none: that part stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// The description; an inner none: there is to be none. So below.
    pub description: Option<Option<String>>,
    /// All its tags.
    pub tags: Option<Vec<String>>,
    /// All its labels go first.
    pub clear_labels: bool,
    /// Labels that it gets, or that go.
    pub labels: IndexMap<String, Option<String>>,
    /// Who answers for it.
    pub owner: Option<Option<String>>,
}

impl Patch {
    /// The metadata then.
    #[must_use]
    pub fn applied(self, metadata: &Metadata) -> Metadata {
        let mut labels = if self.clear_labels { IndexMap::new() } else { metadata.labels.clone() };
        for (name, value) in self.labels {
            match value {
                Some(value) => drop(labels.insert(name, value)),
                None => drop(labels.shift_remove(&name)),
            }
        }
        Metadata {
            description: self.description.unwrap_or_else(|| metadata.description.clone()),
            tags: self.tags.unwrap_or_else(|| metadata.tags.clone()),
            labels,
            owner: self.owner.unwrap_or_else(|| metadata.owner.clone()),
        }
    }
}

/// How a workflow stands, with whether it is paused: another digest for each other state.
pub fn revision(row: &WorkflowRow, paused: bool) -> Digest {
    Digest::of(&serde_json::to_vec(&(row, paused)).unwrap_or_default())
}

/// Decides a change of metadata alone.
pub fn describe(known: &WorkflowRow, patch: Patch, by: &Actor, now: Wall) -> Vec<Change> {
    let metadata = patch.applied(&known.metadata);
    let changes = described(&known.metadata, &metadata);
    if changes.is_empty() {
        return Vec::new();
    }
    let said = known.declared.as_deref().unwrap_or(&known.metadata);
    let declared = (*said != metadata).then(|| Box::new(said.clone()));
    let row = WorkflowRow { metadata, declared, updated_at: now, ..known.clone() };
    let note = noted(known, Happened::Described, (by, now));
    vec![Change::Workflow(Box::new(row)), Change::History(Box::new(HistoryRow { changes, ..note }))]
}

/// Decides that a workflow is no more. What was is kept; a deploy brings it back.
pub fn delete(known: &WorkflowRow, by: &Actor, now: Wall) -> Vec<Change> {
    if known.deleted_at.is_some() {
        return Vec::new();
    }
    let row = WorkflowRow { deleted_at: Some(now), updated_at: now, ..known.clone() };
    let note = noted(known, Happened::Deleted, (by, now));
    vec![Change::Workflow(Box::new(row)), Change::History(Box::new(note))]
}

fn noted(row: &WorkflowRow, what: Happened, (by, at): (&Actor, Wall)) -> HistoryRow {
    HistoryRow {
        project: row.project,
        workflow: row.name.clone(),
        number: 0,
        at,
        by: by.clone(),
        what,
        version: None,
        changes: Vec::new(),
    }
}

/// The metadata after a deploy. Where the file says another thing than it did before, the file is
/// right; all else stays as people changed it.
fn merged(known: &WorkflowRow, file: &Metadata) -> Metadata {
    let (said, now) = (known.declared.as_deref().unwrap_or(&known.metadata), &known.metadata);
    Metadata {
        description: pick(&said.description, &file.description, &now.description),
        tags: pick(&said.tags, &file.tags, &now.tags),
        labels: pick(&said.labels, &file.labels, &now.labels),
        owner: pick(&said.owner, &file.owner, &now.owner),
    }
}

fn pick<T: Clone + PartialEq>(said: &T, file: &T, now: &T) -> T {
    if said == file { now.clone() } else { file.clone() }
}

/// The deploy in the workflow's history.
fn deploy_noted(
    deploy: &Deploy,
    known: Option<&WorkflowRow>,
    row: &WorkflowRow,
    now: Wall,
) -> Option<Change> {
    if deploy.draft {
        return None;
    }
    let deployed = known.filter(|known| known.deleted_at.is_none()).and_then(|row| row.current);
    let none = Metadata::default();
    let before = known.map_or(&none, |known| &known.metadata);
    let note = noted(row, Happened::Deployed, (&deploy.by, now));
    let changes = described(before, &row.metadata);
    let version = row.current.filter(|_| row.current != deployed);
    (version.is_some() || !changes.is_empty())
        .then(|| Change::History(Box::new(HistoryRow { version, changes, ..note })))
}

fn workflow_row(
    project: ProjectId,
    deploy: &Deploy,
    known: Option<&WorkflowRow>,
    version: VersionId,
    now: Wall,
) -> WorkflowRow {
    let deployed = known.and_then(|row| row.current);
    let keeps_metadata = deploy.draft && deployed.is_some();
    let file = &deploy.plan.metadata;
    let (metadata, said) = match known {
        Some(row) if keeps_metadata => (row.metadata.clone(), row.declared.clone()),
        Some(row) => (merged(row, file), Some(Box::new(file.clone()))),
        None => (file.clone(), None),
    };
    WorkflowRow {
        project,
        name: deploy.plan.name.clone(),
        current: if deploy.draft { deployed } else { Some(version) },
        declared: said.filter(|said| **said != metadata),
        metadata,
        deleted_at: known.and_then(|row| row.deleted_at).filter(|_| deploy.draft),
        limits: match known {
            Some(row) if deploy.draft => row.limits.clone(),
            _ if deploy.draft => None,
            _ => deploy.plan.concurrency.clone(),
        },
        created_at: known.map_or(now, |row| row.created_at),
        updated_at: known.map_or(now, |row| row.updated_at),
    }
}

fn version_row(project: ProjectId, deploy: Deploy, version: VersionId, now: Wall) -> VersionRow {
    VersionRow {
        project,
        workflow: deploy.plan.name.clone(),
        version,
        digest: deploy.digest,
        source: deploy.source,
        plan: deploy.plan,
        code: deploy.code,
        created_by: deploy.by,
        created_at: now,
    }
}
