//! How changes become commits.

use std::collections::HashMap;
use std::collections::VecDeque;

use ork_core::ids::{ProjectId, RunId};
use ork_core::rows::Change;

/// What stands or falls together: a run, or a workflow's catalogue entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Run(RunId),
    Workflow(ProjectId, String),
}

impl Owner {
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Workflow(row) => Some(Self::Workflow(row.project, row.name.clone())),
            Change::Version(row) => Some(Self::Workflow(row.project, row.workflow.clone())),
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
    pub(crate) changes: Vec<Change>,
}

/// Cuts changes into commits of at most `limit`. An owner's changes stay together, so that a crash
/// between two commits leaves every run whole, as long as one owner alone does not exceed the
/// limit; then its run row goes first and the rest follows in order.
pub(crate) fn split(changes: Vec<Change>, limit: usize) -> VecDeque<Chunk> {
    if changes.len() <= limit {
        return VecDeque::from([Chunk { owner: None, alone: false, changes }]);
    }
    let mut chunks: VecDeque<Chunk> = VecDeque::new();
    for group in by_owner(changes) {
        match chunks.back_mut() {
            Some(last) if last.changes.len() + group.changes.len() <= limit => {
                last.owner = None;
                last.alone = false;
                last.changes.extend(group.changes);
            }
            _ => chunks.extend(cut(group, limit)),
        }
    }
    chunks
}

/// The changes of each owner, in the order in which the owners first appear.
pub(crate) fn by_owner(changes: Vec<Change>) -> Vec<Chunk> {
    let mut groups: Vec<Chunk> = Vec::new();
    let mut places: HashMap<Option<Owner>, usize> = HashMap::new();
    let mut last = None;
    for change in changes {
        let owner = Owner::of(&change).or(last);
        let place = *places.entry(owner.clone()).or_insert_with(|| {
            groups.push(Chunk { owner: owner.clone(), alone: true, changes: Vec::new() });
            groups.len() - 1
        });
        groups[place].changes.push(change);
        last = owner;
    }
    groups
}

fn cut(mut group: Chunk, limit: usize) -> Vec<Chunk> {
    if group.changes.len() <= limit {
        return vec![group];
    }
    group.changes.sort_by_key(|change| !matches!(change, Change::Run(_)));
    let mut rest = group.changes.into_iter().peekable();
    let mut chunks = Vec::new();
    while rest.peek().is_some() {
        let changes = rest.by_ref().take(limit).collect();
        chunks.push(Chunk { owner: group.owner.clone(), alone: true, changes });
    }
    chunks
}
