//! Workflows and their versions: what a deploy changes.

use std::sync::Arc;

use crate::ids::ProjectId;
use crate::plan::{Metadata, Plan};
use crate::rows::{Actor, Change, CodeRef, VersionId, VersionRow, WorkflowRow};
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
        changes.push(Change::Workflow(Box::new(WorkflowRow { updated_at: now, ..row })));
    }
    if created {
        changes.push(Change::Version(Box::new(version_row(project, deploy, version, now))));
    }
    Deployed { version, created, changes }
}

/// Decides a change of metadata alone.
pub fn describe(known: &WorkflowRow, metadata: Metadata, now: Wall) -> Option<Change> {
    (known.metadata != metadata).then(|| {
        Change::Workflow(Box::new(WorkflowRow { metadata, updated_at: now, ..known.clone() }))
    })
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
    WorkflowRow {
        project,
        name: deploy.plan.name.clone(),
        current: if deploy.draft { deployed } else { Some(version) },
        metadata: match known {
            Some(row) if keeps_metadata => row.metadata.clone(),
            _ => deploy.plan.metadata.clone(),
        },
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
