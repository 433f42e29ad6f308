//! What is left of attempts whose run was set aside: their processes are being stopped. No instance
//! knows of them any more, and still they hold their slots until they are gone.

use std::collections::BTreeMap;

use crate::ids::{AttemptRef, RunId, Token, WorkerId};
use crate::run::active::{Desk, Run};
use crate::run::instance::{Ix, Phase};
use crate::run::machine::{Config, Machine, Out};
use crate::run::pools::Taken;
use crate::run::timers::Owner;
use crate::run::{Effect, StopReason};
use crate::time::{Mono, Now, Span};

/// An attempt that is being stopped though no run that is held knows of it.
#[derive(Clone, Debug)]
pub struct Remnant {
    pub(super) attempt: AttemptRef,
    pub(super) worker: WorkerId,
    pub(super) pool: Option<Taken>,
    pub(super) grace: Span,
    /// When its slot is taken to be free.
    pub(super) until: Mono,
    /// When its worker is told again.
    pub(super) due: Mono,
}

/// All of them, by token.
pub(super) type Remnants = BTreeMap<Token, Remnant>;

impl Run {
    /// What is left of an instance's attempt when the run is gone.
    pub(super) fn remnant(&self, ix: Ix, now: Mono, config: &Config) -> Option<Remnant> {
        let instance = self.instance(ix);
        let (lease, grace) = (instance.phase.lease()?, self.task(ix).grace);
        let until = match &instance.phase {
            Phase::Stopping(stop) => stop.until,
            _ => now + grace + config.stop_margin,
        };
        Some(Remnant {
            attempt: self.attempt_ref(instance, lease.token),
            worker: lease.worker.clone(),
            pool: self.taken(ix),
            grace,
            until,
            due: until.min(now + config.claim),
        })
    }
}

impl Desk {
    /// Holds the slot of what is left of an attempt. A worker that is gone has none.
    pub(super) fn leave_behind(&mut self, remnant: Remnant) {
        if self.workers.get(&remnant.worker).is_none() {
            return;
        }
        let token = remnant.attempt.token;
        self.workers.change(&remnant.worker, |worker| {
            worker.remnants.insert(token);
        });
        if let Some(taken) = remnant.pool.clone() {
            self.pools.take(token, taken);
        }
        self.timers.set(remnant.due, Owner::Remnant(token));
        self.remnants.insert(token, remnant);
    }

    /// Nothing is left of an attempt: its slot is free. False where nothing was.
    pub(super) fn clear(&mut self, token: Token) -> bool {
        let Some(remnant) = self.remnants.remove(&token) else { return false };
        if let Some(taken) = &remnant.pool {
            self.pools.free(&taken.pool, token);
        }
        if self.workers.get(&remnant.worker).is_some() {
            self.workers.change(&remnant.worker, |worker| {
                worker.remnants.remove(&token);
            });
        }
        true
    }

    /// A run is back, and its instances know of their attempts again.
    pub(super) fn clear_run(&mut self, run: RunId) {
        let of_run = self.remnants.iter().filter(|(_, remnant)| remnant.attempt.run == run);
        for token in of_run.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.clear(token);
        }
    }
}

impl Machine {
    /// Whether the processes of this attempt are being stopped though its run is not held any
    /// more; its end is to be reported as any other's.
    pub fn has_remnant(&self, token: Token) -> bool {
        self.desk.remnants.contains_key(&token)
    }

    /// Takes the remnants out, for the machine that follows this one.
    pub fn take_remnants(&mut self) -> Vec<Remnant> {
        std::mem::take(&mut self.desk.remnants).into_values().collect()
    }

    /// Takes over what an earlier machine had left at workers that are here, save for what runs
    /// that are held know of. To be called after runs are loaded and workers have joined.
    pub fn inherit(&mut self, remnants: Vec<Remnant>, now: Now) {
        for remnant in remnants {
            if !self.holds(remnant.attempt.run) {
                let due = remnant.until.min(now.mono + self.desk.config.claim);
                self.desk.leave_behind(Remnant { due, ..remnant });
            }
        }
    }

    /// Tells the worker of a remnant again, or takes its slot to be free.
    pub(super) fn tend_remnant(&mut self, token: Token, at: Mono, now: Now, out: &mut Out) {
        let claim = self.desk.config.claim;
        let Some(remnant) = self.desk.remnants.get_mut(&token).filter(|r| r.due == at) else {
            return;
        };
        if remnant.until <= now.mono {
            self.desk.clear(token);
            return;
        }
        remnant.due = remnant.until.min(now.mono + claim);
        self.desk.timers.set(remnant.due, Owner::Remnant(token));
        out.effects.push(Effect::Stop {
            worker: remnant.worker.clone(),
            attempt: remnant.attempt.clone(),
            reason: StopReason::Cancelled,
            grace: remnant.grace,
        });
    }
}
