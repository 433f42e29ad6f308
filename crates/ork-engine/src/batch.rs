//! How changes become commits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ork_core::ids::{ProjectId, RunId};
use ork_core::rows::Change;

/// What stands or falls together: a run, or a workflow's catalogue entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Run(RunId),
    Workflow(ProjectId, String),
    Pool(ProjectId, String),
}

impl Owner {
    pub(crate) fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Workflow(row) => Some(Self::Workflow(row.project, row.name.clone())),
            Change::Pool(row) => Some(Self::Pool(row.project, row.name.clone())),
            Change::History(row) => Some(Self::Workflow(row.project, row.workflow.clone())),
            Change::Trigger(row) => Some(Self::Workflow(row.project, row.workflow.clone())),
            Change::Firing(row) if row.decided_at.is_some() && row.run.is_none() => {
                Some(Self::Workflow(row.project, row.workflow.clone()))
            }
            Change::Version(row) => Some(Self::Workflow(row.project, row.workflow.clone())),
            Change::Schedule(row, None) => Some(Self::Workflow(row.project, row.workflow.clone())),
            Change::Backfill(row, None) => Some(Self::Workflow(row.project, row.workflow.clone())),
            Change::Tick(row) if row.run.is_none() => {
                Some(Self::Workflow(row.project, row.workflow.clone()))
            }
            Change::Pause(row) => {
                Some(Self::Workflow(row.project, row.workflow.clone().unwrap_or_default()))
            }
            other => other.run().map(|(_, run)| Self::Run(run)),
        }
    }
}

/// What one commit takes.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Whose changes these are; none for several owners' that have not been told apart.
    pub(crate) owner: Option<Owner>,
    /// Whether they are one owner's.
    pub(crate) alone: bool,
    pub(crate) changes: Arc<[Change]>,
}

/// What one owner changes.
#[derive(Debug)]
pub(crate) struct Group {
    owner: Option<Owner>,
    changes: Vec<Change>,
}

impl From<Group> for Chunk {
    fn from(group: Group) -> Self {
        Self { owner: group.owner, alone: true, changes: group.changes.into() }
    }
}

/// Cuts changes into commits of at most `limit`, between owners only: what a run changes in one
/// turn is never cut, however much it is, since a crash between two commits would leave events
/// without their rows. A commit of one owner may thus be larger than `limit`.
pub(crate) fn split(changes: Vec<Change>, limit: usize) -> VecDeque<Chunk> {
    if changes.len() <= limit {
        return VecDeque::from([several(changes)]);
    }
    let mut chunks = VecDeque::new();
    let mut open: Vec<Change> = Vec::new();
    for group in by_owner(changes) {
        if !open.is_empty() && open.len() + group.changes.len() > limit {
            chunks.push_back(several(std::mem::take(&mut open)));
        }
        if group.changes.len() >= limit {
            chunks.push_back(group.into());
        } else {
            open.extend(group.changes);
        }
    }
    if !open.is_empty() {
        chunks.push_back(several(open));
    }
    chunks
}

fn several(changes: Vec<Change>) -> Chunk {
    Chunk { owner: None, alone: false, changes: changes.into() }
}

/// The changes of each owner, in the order in which the owners first appear.
pub(crate) fn by_owner(changes: Vec<Change>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Option<Owner>, usize> = HashMap::new();
    let mut last = None;
    for change in changes {
        let owner = Owner::of(&change).or(last);
        let place = *places.entry(owner.clone()).or_insert_with(|| {
            groups.push(Group { owner: owner.clone(), changes: Vec::new() });
            groups.len() - 1
        });
        groups[place].changes.push(change);
        last = owner;
    }
    groups
}
