//! Pools: named semaphores of a project. An attempt holds its slots from its offer to its end, its
//! stop included; what waits for some stands in one line, and nobody passes the head of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{InstancePath, ProjectId, RunId, Token};
use crate::lang::expr::EvalError;
use crate::rows::{Actor, Change, PoolRow};
use crate::run::PoolPlace;
use crate::run::active::{Cx, Desk, Run};
use crate::run::instance::{Hold, Ix, Key};
use crate::run::machine::{Blocker, Holder, Machine, Out};
use crate::run::ready::{Order, Place};
use crate::run::transition::Illegal;
use crate::time::Now;
use crate::value::Value;

/// How many holders are named.
pub(super) const HOLDERS: usize = 5;

/// The longest name of a pool, in bytes.
pub const MAX_POOL_NAME: usize = 200;

/// A pool of a project.
pub(super) type Name = (ProjectId, Arc<str>);

/// What an attempt takes of its pool.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) pool: Name,
    pub(super) slots: u32,
    /// The pool's size by the task, which counts where the project does not say.
    pub(super) of: Option<u32>,
}

/// Slots that an attempt holds.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) pool: Name,
    pub(super) run: RunId,
    pub(super) path: InstancePath,
    pub(super) slots: u32,
}

#[derive(Debug)]
struct Waiter {
    place: Place,
    claim: Claim,
}

#[derive(Debug, Default)]
struct Pool {
    /// Its size, where the project says.
    declared: Option<u32>,
    used: u32,
    held: BTreeMap<Token, Taken>,
    waiting: BTreeMap<Key, Waiter>,
    /// Those of them that fit in the pool at all.
    line: Order,
    /// Whose turn has come, and who wait for a worker now.
    called: BTreeSet<Key>,
}

impl Pool {
    fn size(&self, claim: &Claim) -> Option<u32> {
        self.declared.or(claim.of)
    }

    fn fits(&self, claim: &Claim, promised: u32) -> bool {
        let used = self.used.saturating_add(promised).saturating_add(claim.slots);
        self.size(claim).is_none_or(|size| used <= size)
    }

    /// It fits in the pool, or there is none, which it is to hear.
    fn can_ever(&self, claim: &Claim) -> bool {
        self.size(claim).is_none_or(|size| claim.slots <= size)
    }

    fn is_idle(&self) -> bool {
        self.declared.is_none()
            && self.held.is_empty()
            && self.waiting.is_empty()
            && self.called.is_empty()
    }

    /// The first in the line, if there is room for it.
    fn head(&self, promised: u32) -> Option<Key> {
        let key = self.line.peek()?;
        let waiter = self.waiting.get(&key)?;
        self.fits(&waiter.claim, promised).then_some(key)
    }
}

/// All pools.
#[derive(Debug, Default)]
pub(super) struct Pools {
    all: BTreeMap<Name, Pool>,
    /// Those whose line is to be looked at.
    freed: BTreeSet<Name>,
}

impl Pools {
    /// Takes the sizes over that a project said.
    pub(super) fn declare_as(&mut self, other: &Self) {
        for (name, pool) in &other.all {
            if pool.declared.is_some() {
                self.declare(name.clone(), pool.declared);
            }
        }
    }

    /// The size of a pool for a claim; none where nobody says.
    pub(super) fn size(&self, claim: &Claim) -> Option<u32> {
        self.all.get(&claim.pool).map_or(claim.of, |pool| pool.size(claim))
    }

    /// Whether an instance whose turn for a worker has come may have what it claims. Who comes new
    /// does not pass those in the line.
    pub(super) fn admits(&self, key: Key, claim: &Claim) -> bool {
        let Some(pool) = self.all.get(&claim.pool) else {
            return claim.of.is_none_or(|size| claim.slots <= size);
        };
        let turn = pool.called.contains(&key) || pool.line.is_empty();
        turn && pool.fits(claim, 0)
    }

    /// Holds slots for an attempt.
    pub(super) fn take(&mut self, token: Token, taken: Taken) {
        let pool = self.all.entry(taken.pool.clone()).or_default();
        pool.used += taken.slots;
        if let Some(before) = pool.held.insert(token, taken) {
            pool.used -= before.slots;
        }
    }

    /// An attempt's slots are free.
    pub(super) fn free(&mut self, name: &Name, token: Token) {
        let Some(pool) = self.all.get_mut(name) else { return };
        if let Some(taken) = pool.held.remove(&token) {
            pool.used -= taken.slots;
            self.freed.insert(name.clone());
        }
    }

    /// An instance waits for slots.
    pub(super) fn park(&mut self, place: Place, claim: Claim) {
        let pool = self.all.entry(claim.pool.clone()).or_default();
        if pool.can_ever(&claim) {
            pool.line.insert(&place);
        }
        pool.waiting.insert(place.key, Waiter { place, claim });
    }

    /// An instance waits for slots no more, and its turn, if it had come, is over.
    pub(super) fn unpark(&mut self, name: &Name, key: Key) {
        let Some(pool) = self.all.get_mut(name) else { return };
        pool.called.remove(&key);
        if let Some(waiter) = pool.waiting.remove(&key) {
            pool.line.remove(&waiter.place);
            self.freed.insert(name.clone());
        } else if pool.is_idle() {
            self.all.remove(name);
        }
    }

    /// Whether the instance is in the pool's line, or too large for it. For invariants.
    pub(super) fn awaits(&self, name: &Name, key: Key) -> bool {
        self.all.get(name).is_some_and(|pool| pool.waiting.contains_key(&key))
    }

    /// Sets what the project says of a pool's size.
    pub(super) fn declare(&mut self, name: Name, slots: Option<u32>) {
        let pool = self.all.entry(name.clone()).or_default();
        pool.declared = slots;
        for waiter in pool.waiting.values() {
            pool.line.remove(&waiter.place);
        }
        let (waiting, line) = (&pool.waiting, &mut pool.line);
        let can = |claim: &Claim| slots.or(claim.of).is_none_or(|size| claim.slots <= size);
        for waiter in waiting.values().filter(|waiter| can(&waiter.claim)) {
            line.insert(&waiter.place);
        }
        self.freed.insert(name);
    }

    fn declared(&self, name: &Name) -> Option<u32> {
        self.all.get(name)?.declared
    }

    /// Those whose turn has come: of each pool in which something changed as many as there is
    /// room for.
    fn call(&mut self) -> Vec<Key> {
        let mut called = Vec::new();
        for name in std::mem::take(&mut self.freed) {
            let Some(pool) = self.all.get_mut(&name) else { continue };
            let mut promised = 0;
            while let Some(key) = pool.head(promised) {
                pool.line.take();
                let Some(waiter) = pool.waiting.remove(&key) else { break };
                promised += waiter.claim.slots;
                pool.called.insert(key);
                called.push(key);
            }
            if pool.is_idle() {
                self.all.remove(&name);
            }
        }
        called
    }

    /// Looks whether there is still room for who waits after those who were called had their
    /// chance of a worker. Whether there is.
    fn look_again(&mut self) -> bool {
        let open = self.all.iter().filter(|(_, pool)| pool.head(0).is_some());
        self.freed.extend(open.map(|(name, _)| name.clone()));
        !self.freed.is_empty()
    }

    fn blocker(&self, claim: &Claim) -> Blocker {
        let pool = self.all.get(&claim.pool);
        let held = pool.map(|pool| pool.held.values()).into_iter().flatten();
        let holder = |taken: &Taken| Holder { run: taken.run, path: Some(taken.path.clone()) };
        Blocker::Pool {
            name: claim.pool.1.to_string(),
            slots: claim.slots,
            of: self.size(claim).unwrap_or(0),
            used: pool.map_or(0, |pool| pool.used),
            holders: held.take(HOLDERS).map(holder).collect(),
        }
    }

    fn views(&self, project: ProjectId) -> Vec<PoolView> {
        let mine = self.all.iter().filter(|((of, _), _)| *of == project);
        let view = |((_, name), pool): (&Name, &Pool)| PoolView {
            name: name.to_string(),
            slots: pool.declared,
            used: pool.used,
            waiting: pool.waiting.len(),
        };
        mine.map(view).collect()
    }

    /// Every attempt that holds slots, of which pool and how many. For invariants.
    pub(super) fn holders(&self) -> impl Iterator<Item = (Token, &Taken)> {
        self.all.values().flat_map(|pool| pool.held.iter().map(|(token, taken)| (*token, taken)))
    }

    /// What is wrong with the pools' own numbers.
    pub(super) fn fault(&self) -> Option<String> {
        let wrong = |(name, pool): (&Name, &Pool)| {
            let used: u32 = pool.held.values().map(|taken| taken.slots).sum();
            if used != pool.used {
                return Some(format!(
                    "pool {}: {used} slots are held, {} counted",
                    name.1, pool.used
                ));
            }
            pool.head(0).map(|key| format!("pool {}: {key:?} waits beside free slots", name.1))
        };
        self.all.iter().find_map(wrong)
    }
}

/// A pool, told to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// How many slots it has, where the project says; else each task says so itself.
    pub slots: Option<u32>,
    /// How many of them attempts hold.
    pub used: u32,
    /// How many instances wait for some.
    pub waiting: usize,
}

impl Run {
    /// What an attempt of the instance takes of its pool, once that is named.
    pub(super) fn claim(&self, ix: Ix) -> Option<Claim> {
        let name = self.instance(ix).pool.clone()?;
        let pool = self.task(ix).pool.as_deref()?;
        Some(Claim { pool: (self.facts.project, name), slots: pool.slots, of: pool.of })
    }

    /// The slots of its pool that an attempt of the instance holds.
    pub(super) fn taken(&self, ix: Ix) -> Option<Taken> {
        let Claim { pool, slots, .. } = self.claim(ix)?;
        Some(Taken { pool, run: self.id, path: self.instance(ix).path.clone(), slots })
    }

    /// The same, as events tell it.
    pub(super) fn pool_place(&self, ix: Ix, desk: &Desk) -> Option<PoolPlace> {
        let claim = self.claim(ix)?;
        let (name, of) = (claim.pool.1.to_string(), desk.pools.size(&claim)?);
        Some(PoolPlace { name, slots: claim.slots, of })
    }

    /// Names the pool of an instance whose turn for a worker has come; once a generation. Returns
    /// what it has to wait for.
    ///
    /// # Errors
    /// The name cannot be told, or nobody says how large the pool is.
    pub(super) fn ask_pool(&mut self, ix: Ix, desk: &Desk) -> Result<Option<Claim>, EvalError> {
        let named = |why: String| EvalError::Failed(format!("pool: {why}"));
        if self.instance(ix).pool.is_none() {
            let Some(pool) = self.task(ix).pool.as_deref() else { return Ok(None) };
            let name = match self.view(Some(ix), desk).whole(&pool.name) {
                Ok(Value::String(name)) if (1..=MAX_POOL_NAME).contains(&name.len()) => name,
                Ok(other) => {
                    return Err(named(format!("{other} is no name of 1 to {MAX_POOL_NAME} bytes")));
                }
                Err(EvalError::Failed(why)) => return Err(named(why)),
                Err(need) => return Err(need),
            };
            self.instance_mut(ix).pool = Some(name.into());
        }
        let Some(claim) = self.claim(ix) else { return Ok(None) };
        if desk.pools.size(&claim).is_none() {
            let name = &claim.pool.1;
            return Err(named(format!(
                "the project has no pool `{name}`; make it with `ork pools set {name} SLOTS`, or \
                 write its size beside its name (`of`)"
            )));
        }
        #[cfg(feature = "sabotage")]
        if desk.config.sabotage == Some(crate::run::Sabotage::IgnorePools) {
            return Ok(None);
        }
        Ok((!desk.pools.admits(self.key(ix), &claim)).then_some(claim))
    }

    /// Nothing of the run stands in the line of a pool any more; it comes back by its queue.
    pub(super) fn leave_pools(&mut self, desk: &mut Desk) {
        for ix in (0..self.instances.len()).map(Ix::new) {
            if self.awaits_pool(ix) {
                self.set_hold(ix, Hold::Ready, desk);
            }
        }
    }

    /// Puts an instance in the line of its pool.
    pub(super) fn await_pool(&mut self, ix: Ix, desk: &mut Desk) {
        self.set_hold(ix, Hold::Pool, desk);
    }

    /// Whom an instance waits for in the line of its pool.
    pub(super) fn pool_blocker(&self, ix: Ix, desk: &Desk) -> Option<Blocker> {
        self.claim(ix).map(|claim| desk.pools.blocker(&claim))
    }

    fn called(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Some(claim) = self.claim(ix) else { return Ok(()) };
        // It is out of the line already; leaving must not end its turn.
        self.replace_hold(ix, Hold::Ready);
        self.stand_again(ix, cx.desk);
        debug_assert!(!cx.desk.pools.awaits(&claim.pool, self.key(ix)), "it is out of the line");
        Ok(())
    }
}

impl Machine {
    /// Learns what the projects say of their pools; before the runs are loaded.
    pub fn learn_pools(&mut self, rows: Vec<PoolRow>) {
        for row in rows {
            self.desk.pools.declare((row.project, row.name.into()), row.slots);
        }
    }

    /// The pools of a project that are declared or in use, by name.
    pub fn pools(&self, project: ProjectId) -> Vec<PoolView> {
        self.desk.pools.views(project)
    }

    /// Sets the size of a pool, or forgets it.
    pub(super) fn set_pool(
        &mut self,
        project: ProjectId,
        name: String,
        slots: Option<u32>,
        by: &Actor,
        (now, out): (Now, &mut Out),
    ) {
        let key = (project, name.as_str().into());
        if self.desk.pools.declared(&key) == slots {
            return;
        }
        self.desk.pools.declare(key, slots);
        let row = PoolRow { project, name, slots, by: by.clone(), at: now.wall };
        out.changes.push(Change::Pool(Box::new(row)));
    }

    /// Those whose turn for their pool has come stand in the queues for a worker.
    pub(super) fn call_pools(&mut self, now: Now, out: &mut Out) {
        for key in self.desk.pools.call() {
            self.step(key.run, now, out, |run, cx| run.called(key.ix, cx));
        }
    }

    /// Whether there is room in a pool for who waits for it.
    pub(super) fn pools_open(&mut self) -> bool {
        self.desk.pools.look_again()
    }
}
