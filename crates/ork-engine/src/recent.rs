//! Answers given lately under idempotency keys.

use std::collections::{HashMap, VecDeque};

use ork_core::ids::ProjectId;
use ork_core::value::Digest;

use crate::batch::Owner;
use crate::request::Answer;

/// How many are remembered; older ones are asked of the store.
const LIMIT: usize = 10_000;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) request: Digest,
    pub(crate) answer: Answer,
    pub(crate) owner: Option<Owner>,
}

/// All of them. Those of a commit that did not happen are forgotten with [`Recent::forget`].
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: HashMap<(ProjectId, String), Kept>,
    order: VecDeque<(ProjectId, String)>,
}

impl Recent {
    pub(crate) fn get(&self, project: ProjectId, key: &str) -> Option<&Kept> {
        if self.kept.is_empty() {
            return None;
        }
        self.kept.get(&(project, key.to_owned()))
    }

    pub(crate) fn insert(&mut self, project: ProjectId, key: String, kept: Kept) {
        let place = (project, key);
        self.kept.insert(place.clone(), kept);
        self.order.push_back(place);
        while self.order.len() > LIMIT {
            if let Some(oldest) = self.order.pop_front() {
                self.kept.remove(&oldest);
            }
        }
    }

    pub(crate) fn forget(&mut self, owner: &Owner) {
        self.kept.retain(|_, kept| kept.owner.as_ref() != Some(owner));
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.order.clear();
    }
}
