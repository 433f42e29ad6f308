//! Admission: which instance gets which slot, and why the others wait. One function decides both.

use crate::ids::WorkerId;
use crate::run::active::{Cx, Desk, Run, Stage};
use crate::run::instance::{Hold, Ix, Phase};
use crate::run::machine::{Blocker, Machine, Out};
use crate::run::rerun::Earlier;
use crate::run::rule::Verdict;
use crate::run::transition::Illegal;
use crate::time::Now;

/// What keeps an instance from being offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Paused,
    RunPending,
    CallPlace,
    Body,
    Outer,
    Compiler,
    Upstreams,
    Retry,
    Values,
    /// What there is to be reused is being looked for.
    Earlier,
    /// It waits for something outside.
    Deferred,
    NoWorker,
    NoSlot,
    Pool,
    /// As many items of its map are under way as may be.
    Items,
    /// It is under way, over, or about to be ended: there is nothing to admit.
    Past,
}

impl Run {
    /// The first gate that is closed before an instance; none: it may be offered now.
    pub(super) fn gate(&self, ix: Ix, desk: &Desk) -> Option<Gate> {
        let instance = self.instance(ix);
        match &instance.phase {
            Phase::Queued { .. } | Phase::Pending if self.is_ended(ix) => Some(Gate::Past),
            Phase::Queued { hold: Hold::Ready, .. } if self.rests => Some(Gate::Paused),
            Phase::Queued { hold: Hold::Ready, .. } => room(&self.queue_of(ix, desk), desk),
            Phase::Queued { hold: Hold::Pool, .. } => Some(Gate::Pool),
            Phase::Queued { hold: Hold::Retry, .. } => Some(Gate::Retry),
            Phase::Queued { hold: Hold::Values, .. } => Some(Gate::Values),
            Phase::Pending if self.stage == Stage::Pending && self.rests => Some(Gate::Paused),
            Phase::Pending if self.stage == Stage::Pending => Some(Gate::RunPending),
            Phase::Pending if !self.is_owner_open(ix) => Some(Gate::Outer),
            Phase::Pending if !self.is_open(ix) => Some(Gate::Body),
            Phase::Pending if instance.parked.as_ref().is_some_and(|parked| parked.compiling) => {
                Some(Gate::Compiler)
            }
            Phase::Pending if instance.parked.as_ref().is_some_and(|p| !p.missing.is_empty()) => {
                Some(Gate::Values)
            }
            Phase::Pending if self.awaits_call_place(ix, desk) => Some(Gate::CallPlace),
            Phase::Pending if self.awaits_place(ix) => Some(Gate::Items),
            Phase::Pending if self.is_resolved(ix) && self.asks(ix) => Some(Gate::Earlier),
            Phase::Pending if self.is_resolved(ix) && self.rests => Some(Gate::Paused),
            Phase::Pending => Some(Gate::Upstreams),
            Phase::Deferred(_) => Some(Gate::Deferred),
            Phase::Open(None) if self.map(ix).is_some_and(|map| map.left() > 0) => {
                Some(Gate::Items)
            }
            Phase::Offered { .. }
            | Phase::Running(_)
            | Phase::Stopping(_)
            | Phase::Open(_)
            | Phase::Over(_) => Some(Gate::Past),
        }
    }

    /// The gate, told to people.
    pub(super) fn blockers(&self, ix: Ix, desk: &Desk, now: Now) -> Vec<Blocker> {
        let Some(gate) = self.gate(ix, desk) else { return Vec::new() };
        let instance = self.instance(ix);
        let queue = || self.queue_of(ix, desk).to_string();
        match gate {
            Gate::Past => Vec::new(),
            Gate::Paused => self.pauses(desk),
            Gate::Deferred => self.waits_for(ix, now),
            Gate::Earlier => vec![Blocker::Earlier { run: self.facts.rerun_of }],
            Gate::RunPending => vec![self.run_blocker(desk)],
            Gate::CallPlace => self.call_blocker(ix, desk).into_iter().collect(),
            Gate::Pool => self.pool_blocker(ix, desk).into_iter().collect(),
            Gate::Items => self.items_blocker(ix).into_iter().collect(),
            Gate::Body => {
                vec![Blocker::Body { open: self.levels[self.frame(ix).body as usize].open }]
            }
            Gate::Outer => self.owner(ix).map(|owner| self.outer(owner)).into_iter().collect(),
            Gate::Compiler => vec![Blocker::Compiler],
            Gate::Upstreams => self.open_upstreams(ix),
            Gate::Retry => instance
                .rare()
                .wake
                .map(|due| Blocker::RetryAt { at: now.wall + (due - now.mono) })
                .into_iter()
                .collect(),
            Gate::Values => {
                let digests = instance.parked.as_ref().map(|p| p.missing.clone());
                vec![Blocker::Values { digests: digests.unwrap_or_default() }]
            }
            Gate::NoWorker => vec![Blocker::NoWorker { queue: queue() }],
            Gate::NoSlot => {
                let queue = queue();
                vec![Blocker::NoSlot { slots: desk.workers.slots(&queue), queue }]
            }
        }
    }

    /// What keeps the run as a whole from going on. Once it has begun, nothing does.
    pub(super) fn whole_blockers(&self, desk: &Desk) -> Vec<Blocker> {
        match self.stage {
            Stage::Pending if self.rests => self.pauses(desk),
            Stage::Pending => vec![self.run_blocker(desk)],
            _ => Vec::new(),
        }
    }

    fn outer(&self, owner: Ix) -> Blocker {
        let owner = self.instance(owner);
        Blocker::Outer { path: owner.path.clone(), state: owner.state() }
    }

    /// Whether what an instance depends on has been decided.
    fn is_resolved(&self, ix: Ix) -> bool {
        self.instance(ix).tally.verdict(self.task(ix).trigger_rule) != Verdict::Wait
    }

    /// Whether an instance's level has been reached and its rule holds.
    pub(super) fn may_begin(&self, ix: Ix) -> bool {
        self.is_open(ix)
            && self.instance(ix).tally.verdict(self.task(ix).trigger_rule) == Verdict::Holds
    }

    /// Whether an instance waits to hear of an earlier success.
    pub(super) fn asks(&self, ix: Ix) -> bool {
        self.instance(ix).rare().asked || matches!(self.earlier, Earlier::Asked)
    }

    fn open_upstreams(&self, ix: Ix) -> Vec<Blocker> {
        if self.instance(ix).tally.verdict(self.task(ix).trigger_rule) != Verdict::Wait {
            return Vec::new();
        }
        let level = self.level(ix);
        let upstreams = self.task(ix).upstreams.iter();
        upstreams
            .map(|up| self.instance(level.ix(Ix::new(*up).0)))
            .filter(|up| !up.state().is_terminal())
            .map(|up| Blocker::Upstream { path: up.path.clone(), state: up.state() })
            .collect()
    }
}

/// Whether a slot of the queue is free.
fn room(queue: &str, desk: &Desk) -> Option<Gate> {
    if desk.workers.pick(queue).is_some() {
        return None;
    }
    Some(if desk.workers.slots(queue) == 0 { Gate::NoWorker } else { Gate::NoSlot })
}

impl Run {
    /// It is its turn for a worker: it is offered, unless its pool has no room.
    fn admit(&mut self, ix: Ix, worker: &WorkerId, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if self.gate(ix, cx.desk).is_some() {
            // It is to be ended with its run; that was not its turn yet.
            self.decide(ix, cx)?;
            return self.drain(cx);
        }
        match self.ask_pool(ix, cx.desk) {
            Ok(None) => self.offer(ix, worker, cx),
            Ok(Some(_)) => {
                self.await_pool(ix, cx.desk);
                Ok(())
            }
            Err(error) => self.cannot_offer(ix, error, cx),
        }
    }
}

impl Machine {
    /// Starts what may start while there is room, in turn: runs, then instances.
    pub(super) fn admit(&mut self, now: Now, out: &mut Out) {
        loop {
            self.admit_runs(now, out);
            self.call_pools(now, out);
            self.serve_queues(now, out);
            let again = self.desk.limits.is_open() || self.pools_open();
            if !again && !self.queues_open() {
                return;
            }
        }
    }

    /// Whether there is a worker for something that is ready: what could not be offered after all
    /// may have made something ready in a queue that has had its turn.
    fn queues_open(&self) -> bool {
        let desk = &self.desk;
        !self.spent() && desk.ready.waits_for(|queue| desk.workers.pick(queue).is_some())
    }

    fn serve_queues(&mut self, now: Now, out: &mut Out) {
        let mut turn = self.desk.ready.turn();
        while let Some(queue) = turn.pop_front() {
            if self.spent() {
                return;
            }
            let Some(worker) = self.desk.workers.pick(&queue).cloned() else { continue };
            let Some(key) = self.desk.ready.take(&queue) else { continue };
            self.step(key.run, now, out, |run, cx| run.admit(key.ix, &worker, cx));
            self.desk.ready.pass(&queue);
            turn.push_back(queue);
        }
    }
}
