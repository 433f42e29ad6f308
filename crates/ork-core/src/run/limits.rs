//! How many runs of a workflow there may be at a time: places by workflow and key, held from the
//! start of a run until its `finally` is over. Who finds none stands in line, the oldest first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ids::{ProjectId, RunId};
use crate::lang::expr::{self, Env, EvalError};
use crate::plan::{Concurrency, OnLimit};
use crate::rows::{Actor, WorkflowRow};
use crate::run::active::{Cx, Desk, Run, RunStop, Stage};
use crate::run::instance::Key;
use crate::run::machine::{Blocker, Holder, Machine, Out};
use crate::run::pools::HOLDERS;
use crate::run::{
    EventKind, Failure, FailureKind, Refusal, RefusalCode, RunPlace, RunState, StopReason,
};
use crate::time::{Now, Wall};
use crate::value::Value;

/// The longest text of a key, in bytes.
const MAX_KEY: usize = 1000;

/// A workflow of a project.
pub(super) type Flow = (ProjectId, Arc<str>);

/// Who takes a place, or waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Member {
    /// A run of the workflow.
    Run(RunId),
    /// An instance that calls the workflow.
    Call(Key),
}

impl Member {
    fn run(self) -> RunId {
        match self {
            Self::Run(run) => run,
            Self::Call(key) => key.run,
        }
    }
}

/// A claim to a place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    /// The value of the workflow's `concurrency.key`, as text.
    pub(super) key: Arc<str>,
    /// Its age, which is its place in the line.
    pub(super) since: Wall,
    pub(super) who: Member,
}

/// Those of one key.
#[derive(Debug, Default)]
struct Door {
    inside: BTreeSet<(Wall, Member)>,
    line: BTreeSet<(Wall, Member)>,
}

#[derive(Debug, Default)]
struct Doors {
    rule: Option<Concurrency>,
    /// Whether the rule is that of the current version; else that of the run made last.
    told: bool,
    keys: BTreeMap<Arc<str>, Door>,
}

impl Doors {
    fn max(&self) -> usize {
        self.rule.as_ref().map_or(usize::MAX, |rule| rule.max_runs as usize)
    }
}

/// All workflows of which there are runs, or limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    flows: BTreeMap<Flow, Doors>,
    /// Where something changed, in turn.
    turn: VecDeque<(Flow, Arc<str>)>,
    listed: BTreeSet<(Flow, Arc<str>)>,
    /// Whether those of all current versions have been told.
    told: bool,
}

impl Limits {
    fn look(&mut self, flow: &Flow, key: &Arc<str>) {
        let at = (flow.clone(), Arc::clone(key));
        if self.listed.insert(at.clone()) {
            self.turn.push_back(at);
        }
    }

    /// The current version's limits from now on.
    fn tell(&mut self, flow: &Flow, rule: Option<Concurrency>) {
        let doors = self.flows.entry(flow.clone()).or_default();
        (doors.rule, doors.told) = (rule, true);
        for key in doors.keys.keys().cloned().collect::<Vec<_>>() {
            self.look(flow, &key);
        }
    }

    /// A workflow of which no version is current, since only drafts were run, has the limits of the
    /// run made last.
    pub(super) fn adopt(&mut self, flow: &Flow, draft: bool, rule: Option<&Concurrency>) {
        let told = self.told && !draft;
        let doors = self.flows.entry(flow.clone()).or_default();
        if !doors.told && !told {
            doors.rule = rule.cloned();
        }
    }

    pub(super) fn rule(&self, flow: &Flow) -> Option<&Concurrency> {
        self.flows.get(flow)?.rule.as_ref()
    }

    fn door(&self, entry: &Entry) -> Option<&Door> {
        self.flows.get(&entry.flow)?.keys.get(&entry.key)
    }

    /// Somebody waits for a place.
    pub(super) fn stand(&mut self, entry: &Entry) {
        let at = (entry.since, entry.who);
        let doors = self.flows.entry(entry.flow.clone()).or_default();
        let door = doors.keys.entry(Arc::clone(&entry.key)).or_default();
        door.inside.remove(&at);
        door.line.insert(at);
        self.look(&entry.flow, &entry.key);
    }

    /// Somebody has a place.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let at = (entry.since, entry.who);
        let doors = self.flows.entry(entry.flow.clone()).or_default();
        let door = doors.keys.entry(Arc::clone(&entry.key)).or_default();
        door.line.remove(&at);
        door.inside.insert(at);
    }

    /// Somebody has no place and waits for none.
    pub(super) fn leave(&mut self, entry: &Entry) {
        let at = (entry.since, entry.who);
        let Some(doors) = self.flows.get_mut(&entry.flow) else { return };
        let Some(door) = doors.keys.get_mut(&entry.key) else { return };
        let was = door.inside.remove(&at);
        door.line.remove(&at);
        if door.inside.is_empty() && door.line.is_empty() {
            doors.keys.remove(&entry.key);
            if doors.keys.is_empty() && !doors.told {
                self.flows.remove(&entry.flow);
            }
        } else if was {
            self.look(&entry.flow, &entry.key);
        }
    }

    /// Takes the next out of a line who may have a place; all of them where limits do not count.
    fn next(&mut self, ignored: bool) -> Option<Member> {
        while let Some(at) = self.turn.front() {
            let doors = self.flows.get_mut(&at.0);
            let max = doors.as_ref().map_or(0, |doors| doors.max());
            let max = if ignored { usize::MAX } else { max };
            let door = doors.and_then(|doors| doors.keys.get_mut(&at.1));
            let next = door.filter(|door| door.inside.len() < max).and_then(|d| d.line.pop_first());
            if let Some((_, who)) = next {
                return Some(who);
            }
            if let Some(at) = self.turn.pop_front() {
                self.listed.remove(&at);
            }
        }
        None
    }

    /// Whether something may have changed for somebody in a line.
    pub(super) fn is_open(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether somebody stands in line, and the place in it from 0.
    fn ahead(&self, entry: &Entry) -> Option<usize> {
        let door = self.door(entry)?;
        let at = (entry.since, entry.who);
        door.line.contains(&at).then(|| door.line.range(..at).count())
    }

    /// Whether somebody has a place. For invariants.
    pub(super) fn is_inside(&self, entry: &Entry) -> bool {
        self.door(entry).is_some_and(|door| door.inside.contains(&(entry.since, entry.who)))
    }

    /// Whether somebody stands in line. For invariants.
    pub(super) fn is_waiting(&self, entry: &Entry) -> bool {
        self.door(entry).is_some_and(|door| door.line.contains(&(entry.since, entry.who)))
    }

    pub(super) fn blocker(&self, entry: &Entry) -> Option<Blocker> {
        let ahead = self.ahead(entry)?;
        let rule = self.rule(&entry.flow)?;
        Some(Blocker::RunLimit {
            workflow: entry.flow.1.to_string(),
            key: rule.key.is_some().then(|| entry.key.to_string()),
            max_runs: rule.max_runs,
            ahead,
            holders: self.holders(entry),
        })
    }

    /// A place, as events tell it.
    pub(super) fn place(&self, entry: &Entry) -> Option<RunPlace> {
        let max_runs = self.rule(&entry.flow)?.max_runs;
        let (workflow, key) = (entry.flow.1.to_string(), entry.key.to_string());
        Some(RunPlace { workflow, key, max_runs })
    }

    fn holders(&self, entry: &Entry) -> Vec<Holder> {
        let inside = self.door(entry).map(|door| door.inside.iter()).into_iter().flatten();
        inside.take(HOLDERS).map(|(_, who)| Holder { run: who.run(), path: None }).collect()
    }

    /// Where somebody who waits beside a free place stands, if anybody does.
    pub(super) fn fault(&self) -> Option<String> {
        for ((_, flow), doors) in &self.flows {
            for (key, door) in &doors.keys {
                if door.inside.len() < doors.max() && !door.line.is_empty() {
                    return Some(format!("a run of {flow} waits beside a free place of `{key}`"));
                }
            }
        }
        None
    }
}

/// The text of what tells runs apart; empty where nothing does.
///
/// # Errors
/// [`EvalError::Failed`], which names the key.
pub(super) fn key_text(rule: &Concurrency, env: &dyn Env) -> Result<Arc<str>, EvalError> {
    let Some(key) = &rule.key else { return Ok("".into()) };
    let failed = |why: String| EvalError::Failed(format!("concurrency.key: {why}"));
    let text = match expr::eval(key, env) {
        Ok(Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(EvalError::Failed(why)) => return Err(failed(why)),
        Err(EvalError::Need(_)) => return Err(failed("sees `params` and `run` alone".into())),
    };
    if text.len() > MAX_KEY {
        return Err(failed(format!("{} bytes are more than {MAX_KEY}", text.len())));
    }
    Ok(text.into())
}

impl Run {
    /// Its claim to a place.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            flow: (self.facts.project, Arc::clone(&self.facts.workflow)),
            key: Arc::clone(&self.key_value),
            since: self.facts.created_at,
            who: Member::Run(self.id),
        }
    }

    /// The place that it takes, as events tell it.
    pub(super) fn place_taken(&self, desk: &Desk) -> Option<RunPlace> {
        desk.limits.place(&self.entry())
    }

    /// Evaluates the key by which the workflow tells its runs apart.
    fn evaluate_key(&mut self, desk: &Desk) -> Result<(), Refusal> {
        let flow = (self.facts.project, Arc::clone(&self.facts.workflow));
        let Some(rule) = desk.limits.rule(&flow) else { return Ok(()) };
        let key = key_text(rule, &self.view(None, desk));
        self.key_value = key.map_err(|error| Refusal {
            code: RefusalCode::Conflict,
            message: format!("workflow `{}`: {error}", flow.1),
        })?;
        Ok(())
    }

    /// The run is not made, for want of a place.
    fn skip(&mut self, rule: &Concurrency, holder: Option<RunId>, cx: &mut Cx<'_>) {
        let (of, max) = (&self.facts.workflow, rule.max_runs);
        let key = if rule.key.is_some() {
            format!(" with the key `{}`", self.key_value)
        } else {
            String::new()
        };
        let holder = holder.map_or(String::new(), |run| format!("; run {run} was there first"));
        let message =
            format!("at most {max} runs of workflow `{of}`{key} at a time (max_runs){holder}");
        let failure = Some(Failure::new(FailureKind::RunLimit, message));
        self.enter(Stage::Over(RunState::Skipped), cx.desk);
        self.unwritten = usize::MAX;
        self.finished_at = Some(cx.now.wall);
        self.failure.clone_from(&failure);
        self.log(EventKind::RunFinished { state: RunState::Skipped, failure }, cx);
    }

    /// Whether it is being ended already.
    fn is_cancelling(&self) -> bool {
        self.stop.is_some_and(|stop| stop.reason == StopReason::Cancelled)
    }

    fn make_room(&mut self, cx: &mut Cx<'_>) -> Result<(), crate::run::transition::Illegal> {
        let forced = self.stage == Stage::Pending;
        self.stop_run(RunStop { reason: StopReason::Cancelled, forced }, cx)
    }

    /// What keeps the run from starting.
    pub(super) fn run_blocker(&self, desk: &Desk) -> Blocker {
        desk.limits.blocker(&self.entry()).unwrap_or(Blocker::RunPending)
    }
}

impl Machine {
    /// Learns what the current versions of all workflows say, by the rows of those that say anything;
    /// before the runs are loaded.
    pub fn learn_limits(&mut self, rows: Vec<WorkflowRow>) {
        for row in rows {
            self.set_limits(row.project, &row.name, row.limits);
        }
        self.desk.limits.told = true;
    }

    /// Sets the limits of a workflow's current version, which bind all its runs.
    pub fn set_limits(&mut self, project: ProjectId, workflow: &str, rule: Option<Concurrency>) {
        self.desk.limits.tell(&(project, workflow.into()), rule);
    }

    /// Learns the limits of a run's workflow from its own version, unless it has been told.
    pub(super) fn adopt(&mut self, run: &Run) {
        let (flow, draft) = (run.entry().flow, run.facts.version.is_draft());
        self.desk.limits.adopt(&flow, draft, run.plan().concurrency.as_ref());
    }

    /// Learns the limits that bind a new run, and its key.
    pub(super) fn bind(&mut self, run: &mut Run) -> Result<(), Refusal> {
        self.adopt(run);
        run.evaluate_key(&self.desk)
    }

    /// Does what the workflow wants where a new run finds no place.
    pub(super) fn find_place(&mut self, id: RunId, by: &Actor, (now, out): (Now, &mut Out)) {
        let Some(entry) = self.runs.get(&id).map(Run::entry) else { return };
        let Some(rule) = self.desk.limits.rule(&entry.flow).cloned() else { return };
        let Some(door) = self.desk.limits.door(&entry) else { return };
        let max = rule.max_runs as usize;
        let own = (entry.since, entry.who);
        match rule.on_limit {
            OnLimit::Queue => {}
            OnLimit::Skip if door.inside.len() + door.line.len() > max => {
                let first = door.inside.iter().chain(&door.line).find(|at| **at != own);
                let holder = first.map(|(_, who)| who.run());
                self.step_by(id, by, (now, out), |run, cx| {
                    run.skip(&rule, holder, cx);
                    Ok(())
                });
            }
            OnLimit::CancelOldest => {
                let others: BTreeSet<_> = door.inside.iter().chain(&door.line).copied().collect();
                let lasting = others.iter().filter(|at| **at != own).filter_map(|(_, who)| {
                    let run = self.runs.get(&who.run())?;
                    (matches!(who, Member::Run(_)) && !run.is_cancelling()).then_some(run.id)
                });
                let lasting: Vec<RunId> = lasting.collect();
                let Some(oldest) = lasting.first().filter(|_| lasting.len() >= max) else { return };
                let by = Actor {
                    name: "system".into(),
                    reason: Some(format!("run {id} takes its place (cancel_oldest)")),
                    request_id: by.request_id.clone(),
                    ..Actor::default()
                };
                self.step_by(*oldest, &by, (now, out), Run::make_room);
            }
            OnLimit::Skip => {}
        }
    }

    /// Starts the runs that may.
    pub(super) fn admit_runs(&mut self, now: Now, out: &mut Out) {
        #[cfg(feature = "sabotage")]
        let ignored = self.desk.config.sabotage == Some(crate::run::Sabotage::IgnorePlaces);
        #[cfg(not(feature = "sabotage"))]
        let ignored = false;
        while let Some(who) = self.desk.limits.next(ignored) {
            self.step(who.run(), now, out, |run, cx| match who {
                Member::Run(id) if run.rests => {
                    cx.desk.resting.insert(id);
                    Ok(())
                }
                Member::Run(_) if run.stage == Stage::Pending => run.begin(cx),
                Member::Call(key) => run.admit_call(key.ix, cx),
                Member::Run(_) => Ok(()),
            });
        }
    }
}
