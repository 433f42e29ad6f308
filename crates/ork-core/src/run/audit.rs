//! The invariants of the machine's memory, checked by counting again.

use crate::run::TaskState;
use crate::run::active::{Run, Stage};
use crate::run::instance::{Hold, Ix, Key, Phase};
use crate::run::machine::{Machine, Violation};
use crate::run::rule::Verdict;
use crate::run::timers::Owner;
use crate::run::values::Waiter;

impl Run {
    /// Whether a map's counters are what counting again gives.
    fn items_agree(&self, ix: Ix) -> bool {
        let Some(map) = self.map(ix) else { return true };
        let count = |is: fn(TaskState) -> bool| {
            let states = map.made.iter().map(|item| self.instance(*item).state());
            u32::try_from(states.filter(|state| is(*state)).count()).unwrap_or(u32::MAX)
        };
        let inside = |ready: &Ix| self.owners(*ready).any(|owner| owner == ix);
        let ready = (0..self.instances.len()).map(Ix::new);
        let compiling = |ix: Ix| self.instance(ix).parked.as_ref().is_some_and(|p| p.compiling);
        let ready = ready.filter(|ix| self.is_standing(*ix) || compiling(*ix));
        let ready = ready.filter(inside).count();
        let failed = |state| matches!(state, TaskState::Failed | TaskState::Cancelled);
        let waits = |item: &Ix| matches!(self.instance(*item).phase, Phase::Pending);
        map.open == count(|state| !state.is_terminal())
            && map.waiting.iter().all(|item| map.made.contains(item) && waits(item))
            && map.skipped == count(|state| state == TaskState::Skipped)
            && map.failed == count(failed)
            && map.ready as usize == ready
    }
}

impl Machine {
    /// Checks the invariants of the memory: counters equal recounts, every open instance is
    /// reachable by a timer, a wait list, a queue or a worker. Looks at everything; for tests and
    /// for looking into trouble, between one [`Machine::settle`] and the next command.
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for run in self.runs.values().filter(|run| run.aside.is_none()) {
            self.check_run(run, &mut found);
        }
        let ready = self.runs.values().filter(|run| run.aside.is_none());
        let ready =
            ready.flat_map(|run| (0..run.instances.len()).map(Ix::new).map(move |ix| (run, ix)));
        let ready = ready.filter(|(run, ix)| run.is_ready(*ix)).count();
        if ready != self.desk.ready.len() {
            let counted = self.desk.ready.len();
            found.push(Violation(format!("{ready} instances are ready, {counted} are counted")));
        }
        self.check_pending(&mut found);
        self.check_workers(&mut found);
        self.check_limits(&mut found);
        found
    }

    fn check_run(&self, run: &Run, found: &mut Vec<Violation>) {
        let id = run.id;
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                found.push(Violation(format!("run {id}: {what}")));
            }
        };
        expect(!matches!(run.stage, Stage::Over(_)), "is over and still held");
        let backlog = self.desk.backlog.contains(&id);
        expect(!run.has_more() || backlog, "something is to be done and nobody will");
        for level in 0..run.levels.len() {
            expect(run.levels[level].open == run.open_in(level), "open instances miscounted");
        }
        if let Some(at) = run.due {
            expect(self.desk.timers.has(at, &Owner::Run(id)), "its timeout has no timer");
        }
        for ix in (0..run.instances.len()).map(Ix::new) {
            if let Some(what) = self.fault(run, ix) {
                let path = &run.instance(ix).path;
                expect(false, &format!("{path}: {what}"));
            }
        }
    }

    /// What is wrong with an instance.
    fn fault(&self, run: &Run, ix: Ix) -> Option<&'static str> {
        let instance = run.instance(ix);
        if instance.is_void() {
            return None;
        }
        let key = run.key(ix);
        if run.map(ix).is_some() && !run.items_agree(ix) {
            return Some("its items are miscounted");
        }
        if instance.tally != run.tally_of(ix) {
            return Some("its upstreams are miscounted");
        }
        if !run.queue_agrees(ix, &self.desk) {
            return Some("the queue does not agree");
        }
        if !run.wait_agrees(ix, &self.desk) {
            return Some("nothing will ever end its wait");
        }
        if instance.due.is_some_and(|at| !self.desk.timers.has(at, &Owner::Instance(key))) {
            return Some("its deadline has no timer");
        }
        let missing = instance.parked.as_ref().map_or(&[][..], |parked| &parked.missing);
        let waiter = Waiter { run: run.id, ix: Some(ix) };
        if missing.iter().any(|digest| !self.desk.values.awaited(digest, waiter)) {
            return Some("it waits for a value that nobody fetches");
        }
        if let Some(lease) = instance.phase.lease() {
            let worker = self.desk.workers.get(&lease.worker);
            if !worker.is_some_and(|worker| worker.held.contains(&key)) {
                return Some("its worker does not have it");
            }
        }
        let reachable = match &instance.phase {
            Phase::Pending => {
                let parked = instance.parked.as_ref();
                let compiling = parked.is_some_and(|parked| parked.compiling);
                let looked_after = run.rests || run.asks(ix);
                let stands = run.awaits_call_place(ix, &self.desk) || run.awaits_place(ix);
                is_waiting(run, ix) || !missing.is_empty() || compiling || looked_after || stands
            }
            Phase::Open(_) => {
                let open = |ix: &Ix| !run.instance(*ix).state().is_terminal();
                !missing.is_empty() || run.children(ix).iter().any(open)
            }
            Phase::Queued { hold: Hold::Values, .. } => !missing.is_empty(),
            Phase::Queued { hold: Hold::Retry, .. } | Phase::Stopping(_) => instance.due.is_some(),
            Phase::Offered { lease, confirmed: false, .. } => {
                let worker = self.desk.workers.get(&lease.worker);
                let held = worker.is_some_and(|worker| worker.near || !worker.joined);
                instance.due.is_some() || held || self.desk.offers.contains(&key)
            }
            Phase::Queued { hold: Hold::Ready | Hold::Pool, .. }
            | Phase::Offered { confirmed: true, .. }
            | Phase::Running(_)
            | Phase::Deferred(_)
            | Phase::Over(_) => true,
        };
        (!reachable && run.todo.is_empty()).then_some("nothing will ever wake it")
    }

    fn check_pending(&self, found: &mut Vec<Violation>) {
        for run in self.runs.values().filter(|run| run.stage == Stage::Pending) {
            let same = |other: &&Run| {
                other.stage == Stage::Pending
                    && other.facts.project == run.facts.project
                    && other.facts.workflow == run.facts.workflow
            };
            let waiting = self.runs.values().filter(same).count();
            let counted = self.desk.pending.of(run.facts.project, &run.facts.workflow);
            if waiting != counted {
                let name = &run.facts.workflow;
                let what = format!("{waiting} runs of {name} wait, {counted} are counted");
                found.push(Violation(what));
            }
        }
    }

    fn check_workers(&self, found: &mut Vec<Violation>) {
        let holder = |key: &Key| {
            let run = self.runs.get(&key.run);
            run.and_then(|run| run.instance(key.ix).phase.lease()).map(|lease| &lease.worker)
        };
        for (id, worker) in self.desk.workers.iter() {
            if let Some(key) = worker.held.iter().find(|key| holder(key) != Some(id)) {
                let what = format!("worker {id} holds a slot for nothing: {key:?}");
                found.push(Violation(what));
            }
            let left = self.desk.remnants.iter().filter(|(_, left)| left.worker == *id);
            if !worker.remnants.iter().eq(left.map(|(token, _)| token)) {
                found.push(Violation(format!("worker {id} holds slots for other remnants")));
            }
            let timer = worker.timer;
            let owner = Owner::Worker(id.clone());
            let leased = timer.is_some_and(|at| self.desk.timers.has(at, &owner));
            if leased == worker.near {
                found.push(Violation(format!("worker {id} has a lease timer: {leased}")));
            }
        }
        for (token, left) in &self.desk.remnants {
            if !self.desk.timers.has(left.due, &Owner::Remnant(*token)) {
                found.push(Violation(format!("what is left of {token} has no timer")));
            }
        }
        if !self.desk.workers.lists_agree() {
            found.push(Violation("the lists of workers with room are wrong".into()));
        }
    }
}

impl Machine {
    fn check_limits(&self, found: &mut Vec<Violation>) {
        let desk = &self.desk;
        found.extend(desk.pools.fault().or_else(|| desk.limits.fault()).map(Violation));
        for run in self.runs.values() {
            let entry = run.entry();
            let waits = run.stage == Stage::Pending && !desk.resting.contains(&run.id);
            if desk.limits.is_waiting(&entry) != waits
                || desk.limits.is_inside(&entry) != run.admitted
            {
                found.push(Violation(format!("run {}: its place is not what it has", run.id)));
            }
        }
        for (token, taken) in desk.pools.holders() {
            let of_run = self.runs.get(&taken.run).and_then(|run| {
                let lease = run.instance(*run.by_path.get(&taken.path)?).phase.lease()?;
                (lease.token == token).then_some(())
            });
            let left = desk.remnants.get(&token).is_some_and(|left| left.pool.is_some());
            if of_run.is_none() && !left {
                found.push(Violation(format!("slots of pool {} are held by nobody", taken.pool.1)));
            }
        }
        let leases = self.runs.values().flat_map(|run| {
            (0..run.instances.len())
                .map(Ix::new)
                .filter(|ix| run.instance(*ix).phase.lease().is_some() && run.claim(*ix).is_some())
        });
        let held =
            leases.count() + desk.remnants.values().filter(|left| left.pool.is_some()).count();
        if held != desk.pools.holders().count() {
            found.push(Violation(format!("{held} attempts should hold slots of pools")));
        }
    }
}

/// Whether something that is still open decides a pending instance.
fn is_waiting(run: &Run, ix: Ix) -> bool {
    let rule = run.task(ix).trigger_rule;
    !run.is_open(ix) || run.instance(ix).tally.verdict(rule) == Verdict::Wait
}
