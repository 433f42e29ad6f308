//! Versions at hand, so that making a run of a known workflow reads nothing from the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ork_core::ids::ProjectId;
use ork_core::plan::Plan;
use ork_core::rows::{CodeRef, VersionId};
use ork_core::value::Digest;
use ork_store::Store;

use crate::handlers::workflows::present;
use crate::refused::{Refused, Result};

/// How many names and drafts are remembered; when there are more, all are asked for anew.
const HELD: usize = 1_024;

/// How many bytes of source the versions that are held have; when there are more, all are read
/// anew as they are needed. A plan takes a few times the memory of its source.
const HELD_SOURCE: usize = 8 << 20;

/// How long a draft that was seen in the store is taken to be there still. The store keeps a draft
/// without runs for longer.
const DRAFT_SEEN: Duration = Duration::from_mins(10);

/// A version, as a run needs it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) version: VersionId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) code: CodeRef,
    /// When workers were last told that it will run.
    announced: Mutex<Option<Instant>>,
}

impl Loaded {
    pub(crate) fn new(version: VersionId, plan: Arc<Plan>, code: CodeRef) -> Self {
        Self { version, plan, code, announced: Mutex::default() }
    }

    /// Whether it is time to tell workers that it will run: not more often than each `period`.
    pub(crate) fn announce(&self, period: Duration) -> bool {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = announced.is_none_or(|at| at.elapsed() >= period);
        if is_due {
            *announced = Some(Instant::now());
        }
        is_due
    }
}

type Name = (ProjectId, String);

/// Versions by name and number. This server is the only one that deploys to its store.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: HashMap<Name, VersionId>,
    /// Counts deploys, so that what was read before one is not taken for current.
    deploys: u64,
    loaded: HashMap<(Name, VersionId), Arc<Loaded>>,
    /// How many bytes of source those have.
    source: usize,
    drafts: HashMap<(Name, Digest), (VersionId, Instant)>,
}

impl Plans {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version of a workflow: `version`, or the current one.
    pub(crate) async fn get(
        &self,
        store: &dyn Store,
        project: ProjectId,
        name: &str,
        version: Option<VersionId>,
    ) -> Result<Arc<Loaded>> {
        let key = (project, name.to_owned());
        let version = match version {
            Some(version) => version,
            None => self.current(store, &key).await?,
        };
        if let Some(loaded) = self.at_hand(project, name, version) {
            return Ok(loaded);
        }
        let row = store.version(project, name, version).await?.ok_or_else(|| {
            Refused::not_found(format_args!("version {} of workflow `{name}`", version.0))
        })?;
        let source = row.source.len() + 1_024;
        let loaded = Arc::new(Loaded::new(row.version, row.plan, row.code));
        let mut state = self.state();
        if state.source + source > HELD_SOURCE {
            state.loaded.clear();
            state.source = 0;
        }
        if state.loaded.insert((key, version), loaded.clone()).is_none() {
            state.source += source;
        }
        Ok(loaded)
    }

    /// A version, where it need not be read.
    pub(crate) fn at_hand(
        &self,
        project: ProjectId,
        name: &str,
        version: VersionId,
    ) -> Option<Arc<Loaded>> {
        self.state().loaded.get(&((project, name.to_owned()), version)).cloned()
    }

    async fn current(&self, store: &dyn Store, key: &Name) -> Result<VersionId> {
        if let Some(version) = self.state().current.get(key) {
            return Ok(*version);
        }
        let deploys = self.state().deploys;
        let row = store.workflow(key.0, &key.1).await?;
        let version = present(row, &key.1)?.current.ok_or_else(|| {
            Refused::not_found(format_args!(
                "current version of workflow `{0}`: it was only tried; deploy it with `ork deploy`",
                key.1
            ))
        })?;
        let mut state = self.state();
        if state.current.len() >= HELD {
            state.current.clear();
        }
        if state.deploys == deploys {
            state.current.insert(key.clone(), version);
        }
        Ok(version)
    }

    /// A deploy may have changed which version is current.
    pub(crate) fn deployed(&self, project: ProjectId, name: &str) {
        let mut state = self.state();
        state.deploys += 1;
        state.current.remove(&(project, name.to_owned()));
    }

    /// The draft with this content, when it was seen lately.
    pub(crate) fn draft(
        &self,
        project: ProjectId,
        name: &str,
        digest: Digest,
    ) -> Option<VersionId> {
        let key = ((project, name.to_owned()), digest);
        let (version, seen) = *self.state().drafts.get(&key)?;
        (seen.elapsed() < DRAFT_SEEN).then_some(version)
    }

    /// A draft is in the store.
    pub(crate) fn tried(&self, project: ProjectId, name: &str, digest: Digest, version: VersionId) {
        let mut state = self.state();
        if state.drafts.len() >= HELD {
            state.drafts.clear();
        }
        let key = ((project, name.to_owned()), digest);
        state.drafts.insert(key, (version, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use ork_core::plan::Scope;
    use ork_core::rows::{Actor, Change, VersionRow};
    use ork_core::time::Wall;
    use ork_store::Memory;

    use super::*;

    fn version(number: i64, source: usize) -> Change {
        Change::Version(Box::new(VersionRow {
            project: ProjectId::DEFAULT,
            workflow: "w".to_owned(),
            version: VersionId(number),
            digest: Digest::of(&number.to_le_bytes()),
            source: "#".repeat(source),
            plan: Arc::new(Plan::new("w", Scope::default())),
            code: CodeRef::InPlace { root: "/code".to_owned(), digest: Digest::of(&[]) },
            created_by: Actor::default(),
            created_at: Wall(0),
        }))
    }

    #[tokio::test]
    async fn plans_are_held_by_the_size_of_their_sources() {
        let store = Memory::default();
        let epoch = store.lead().await.unwrap();
        let versions = (1..=10).map(|number| version(number, HELD_SOURCE / 4));
        store.commit(epoch, versions.collect()).await.unwrap();
        let plans = Plans::default();
        for number in 1..=10 {
            let get = plans.get(&store, ProjectId::DEFAULT, "w", Some(VersionId(number)));
            let loaded = get.await.unwrap();
            assert_eq!(loaded.version, VersionId(number));
            let state = plans.state();
            assert!(state.source <= HELD_SOURCE && state.loaded.len() <= 3, "{}", state.source);
            assert!(state.loaded.values().any(|held| Arc::ptr_eq(held, &loaded)));
        }
        let get = || plans.get(&store, ProjectId::DEFAULT, "w", Some(VersionId(10)));
        let (first, again) = (get().await.unwrap(), get().await.unwrap());
        assert!(Arc::ptr_eq(&first, &again));
    }
}
