//! Random plans under random commands: reports that are stale, late or repeated, workers that die,
//! cancels, retries, restarts. What the events tell is replayed by a model of its own.

use std::collections::{BTreeMap, BTreeSet};

use ork_core::check::{Rows, check_run};
use ork_core::ids::{AttemptRef, RunId, Token, WorkerId};
use ork_core::plan::{Plan, Tolerate, TriggerRule};
use ork_core::rows::EventRow;
use ork_core::run::{
    Blocker, Command, Effect, EventKind, Outcome, Report, RetrySelection, RunState, TaskState,
};
use ork_core::time::Span;
use proptest::prelude::*;
use serde_json::json;

use super::build::{Build, plan_with_finally, task};
use super::world::{World, exit, finished};

#[derive(Clone, Copy, Debug)]
enum Word {
    Confirmed,
    Started,
    Success,
    Failed,
    Stopped,
}

#[derive(Clone, Debug)]
enum Act {
    /// A report on one of the offers ever made, counted from the last.
    Report(usize, Word),
    Pass(i64),
    Beat,
    Cancel(bool),
    CancelOne(usize),
    Retry,
    Reload(i64),
    WorkerDies,
    Leave,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let word = prop_oneof![
        2 => Just(Word::Confirmed),
        3 => Just(Word::Started),
        5 => Just(Word::Success),
        3 => Just(Word::Failed),
        2 => Just(Word::Stopped),
    ];
    let act = prop_oneof![
        20 => (0..4_usize, word).prop_map(|(back, word)| Act::Report(back, word)),
        5 => (1..40_i64).prop_map(Act::Pass),
        4 => Just(Act::Beat),
        1 => any::<bool>().prop_map(Act::Cancel),
        1 => (0..40_usize).prop_map(Act::CancelOne),
        2 => Just(Act::Retry),
        1 => (1..60_i64).prop_map(Act::Reload),
        2 => Just(Act::Reload(0)),
        1 => Just(Act::WorkerDies),
        1 => Just(Act::Leave),
    ];
    prop::collection::vec(act, 1..60)
}

fn rule() -> impl Strategy<Value = TriggerRule> {
    prop_oneof![
        4 => Just(TriggerRule::AllSuccess),
        1 => Just(TriggerRule::AllDone),
        1 => Just(TriggerRule::OneSuccess),
        1 => Just(TriggerRule::OneFailed),
        1 => Just(TriggerRule::NoneFailed),
        1 => Just(TriggerRule::AllFailed),
        1 => Just(TriggerRule::OneDone),
        1 => Just(TriggerRule::NoneFailedMinOneSuccess),
        1 => Just(TriggerRule::NoneSkipped),
    ]
}

/// What a random task is made of.
type Parts = (u8, TriggerRule, u32, Option<i64>, bool);

fn tasks(prefix: &'static str, most: usize) -> impl Strategy<Value = Vec<Build>> {
    let one = (any::<u8>(), rule(), 0..3_u32, prop::option::of(5..50_i64), any::<bool>());
    prop::collection::vec(one, 1..=most).prop_map(move |parts| {
        let name = |at: usize| format!("{prefix}{at}");
        let build = |(at, (ups, rule, retries, timeout, allow)): (usize, Parts)| {
            let after: Vec<_> = (0..at).filter(|up| ups >> up & 1 == 1).map(name).collect();
            let after: Vec<_> = after.iter().map(String::as_str).collect();
            let built = task(&name(at)).after(&after).rule(rule).retries(retries);
            let built = if allow { built.allow_failure() } else { built };
            timeout.map_or(built.clone(), |secs| built.timeout(secs))
        };
        parts.into_iter().enumerate().map(build).collect()
    })
}

/// Makes groups and maps of some tasks, with tasks of their own inside.
fn dynamic() -> impl Strategy<Value = Vec<Build>> {
    let inner = || tasks("i", 3);
    let how = || (0..6_u8, 0..4_usize, prop::option::of(1..3_u32), 0..3_u32, any::<bool>());
    let one = (tasks("b", 4), prop::collection::vec((how(), inner(), how()), 4));
    one.prop_map(|(tasks, parts)| {
        let make = |(build, (how, inner, deeper)): (Build, (How, Vec<Build>, How))| match how.0 {
            0 => build,
            1 => build.holding(inner),
            2 => each(build, how),
            3 => each(build.holding(inner), how),
            4 => {
                let inner = inner.into_iter().map(|inner| each(inner, deeper)).collect();
                each(build.holding(inner), how)
            }
            _ => {
                let inner = inner
                    .into_iter()
                    .map(|build| build.holding(vec![task("x"), task("y").after(&["x"])]));
                build.holding(inner.collect())
            }
        };
        tasks.into_iter().zip(parts).map(make).collect()
    })
}

/// Of what a map is made: the kind, the items, `max_parallel`, `tolerate`, `fail_fast`.
type How = (u8, usize, Option<u32>, u32, bool);

fn each(build: Build, (_, size, parallel, tolerate, fast): How) -> Build {
    build.each(json!(["p", "q", "r", "s"][..size])).mapped(|each| {
        each.max_parallel = parallel;
        each.tolerate = Tolerate::Count(tolerate);
        each.fail_fast = fast;
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    let body = prop_oneof![tasks("b", 5), dynamic()];
    (body, tasks("f", 2), any::<bool>(), prop::option::of(30..200_i64)).prop_map(
        |(body, finally, with, timeout)| Plan {
            timeout: timeout.map(Span::from_secs),
            ..plan_with_finally(body, if with { finally } else { Vec::new() })
        },
    )
}

fn offers(world: &World) -> Vec<AttemptRef> {
    let offer = |effect: &Effect| match effect {
        Effect::Dispatch { assignment, .. } => Some(assignment.attempt.clone()),
        _ => None,
    };
    world.effects.iter().filter_map(offer).collect()
}

fn say(word: Word) -> Report {
    match word {
        Word::Confirmed => Report::Confirmed,
        Word::Started => Report::Started,
        Word::Success => finished(Outcome::Success { output: None }),
        Word::Failed => finished(Outcome::Failed(exit(1))),
        Word::Stopped => finished(Outcome::Stopped),
    }
}

struct Play {
    world: World,
    run: RunId,
    worker: usize,
    /// Whether its workers lose no offer, so that none is ever taken back.
    near: bool,
}

impl Play {
    fn new(plan: &Plan, near: bool) -> Self {
        let mut world = World::new();
        let run = world.create(1, plan);
        let mut new = Self { world, run, worker: 0, near };
        new.join();
        new
    }

    fn name(&self) -> String {
        format!("w{}", self.worker)
    }

    fn join(&mut self) {
        let name = self.name();
        if self.near { self.world.join_near(&name, 2) } else { self.world.join(&name, 2) }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Report(back, word) => {
                let offers = offers(&self.world);
                if let Some(offer) = offers.iter().rev().nth(*back) {
                    let _ = self.world.tell(offer.clone(), say(*word));
                }
            }
            Act::Pass(secs) => self.world.pass_secs(*secs),
            Act::Beat => {
                if !self.world.beat(&self.name()) {
                    self.join();
                }
            }
            Act::Cancel(force) => self.world.cancel(self.run, None, *force),
            Act::CancelOne(at) => {
                let paths: Vec<_> = self.world.tasks.values().map(|row| row.path.clone()).collect();
                let path = &paths[at % paths.len()];
                self.world.cancel(self.run, Some(path.as_str()), false);
            }
            Act::Retry => {
                if self.world.runs[&self.run].state.is_terminal() {
                    let _ = self.world.retry(self.run, RetrySelection::Failed);
                }
            }
            Act::Reload(secs) => {
                let before = self.states();
                self.world.reload(Span::from_secs(*secs));
                if *secs == 0 {
                    assert_eq!(self.states(), before, "a restart alone changes no state");
                }
                self.join();
            }
            Act::WorkerDies => {
                self.world.crash(&self.name());
                self.worker += 1;
                self.join();
            }
            Act::Leave => {
                let worker = WorkerId::from(self.name().as_str());
                self.world.ask(Command::WorkerLeaving { worker });
                self.worker += 1;
                self.join();
            }
        }
    }

    fn states(&self) -> Vec<(TaskState, u32, u32)> {
        self.world.tasks.values().map(|row| (row.state, row.generation, row.attempt)).collect()
    }

    /// Workers that do their work: everything comes to its end.
    fn finish(&mut self) {
        self.worker += 1;
        self.join();
        for _ in 0..1_000 {
            if self.world.runs[&self.run].state.is_terminal() {
                return;
            }
            let offers = offers(&self.world);
            for offer in offers.into_iter().rev().take(4) {
                let _ = self.world.tell(offer, say(Word::Success));
            }
            self.world.pass_secs(3);
            self.act(&Act::Beat);
        }
        panic!("the run never ends: {:?}\n{}", self.states(), self.world.take_trace());
    }
}

/// An instance as its events tell of it.
#[derive(Default)]
struct Told {
    state: Option<TaskState>,
    token: Option<Token>,
}

fn step(told: &mut Told, event: &EventRow, last_token: &mut Option<Token>) -> Result<(), String> {
    use TaskState as S;
    let (from, to): (&[S], S) = match &event.kind {
        EventKind::TaskReset { .. } => {
            (&[S::Success, S::Failed, S::Skipped, S::UpstreamFailed, S::Cancelled], S::Pending)
        }
        EventKind::TaskQueued => (&[S::Pending], S::Queued),
        EventKind::TaskOpened { .. } => (&[S::Pending], S::Running),
        EventKind::TaskClosing { .. } => (&[S::Running], S::Stopping),
        EventKind::TaskDispatched { token, .. } => {
            if Some(*token) <= *last_token {
                return Err("a token that does not grow".into());
            }
            *last_token = Some(*token);
            told.token = Some(*token);
            (&[S::Queued], S::Dispatched)
        }
        EventKind::TaskUnclaimed { .. } => (&[S::Dispatched], S::Queued),
        EventKind::TaskStarted { .. } => (&[S::Dispatched], S::Running),
        EventKind::TaskStopping { .. } => (&[S::Dispatched, S::Running], S::Stopping),
        EventKind::TaskRetrying { .. } => (&[S::Dispatched, S::Running, S::Stopping], S::Queued),
        EventKind::TaskFinished { state, .. } => (from_of(*state), *state),
        _ => return Ok(()),
    };
    let now = told.state.unwrap_or(S::Pending);
    if !from.contains(&now) {
        return Err(format!("{:?} from {now:?}", event.kind));
    }
    if token_of(&event.kind).is_some_and(|token| told.token != Some(token)) {
        return Err(format!("{:?} under a token that is not current", event.kind));
    }
    told.state = Some(to);
    if matches!(event.kind, EventKind::TaskUnclaimed { .. } | EventKind::TaskRetrying { .. }) {
        told.token = None;
    }
    Ok(())
}

fn from_of(end: TaskState) -> &'static [TaskState] {
    use TaskState as S;
    match end {
        S::Success => &[S::Running],
        S::Failed => &[S::Pending, S::Queued, S::Dispatched, S::Running, S::Stopping],
        S::Cancelled => &[S::Pending, S::Queued, S::Stopping],
        S::Skipped => &[S::Pending, S::Running],
        _ => &[S::Pending],
    }
}

fn token_of(kind: &EventKind) -> Option<Token> {
    match kind {
        EventKind::TaskUnclaimed { token }
        | EventKind::TaskStarted { token }
        | EventKind::TaskStopping { token, .. }
        | EventKind::TaskRetrying { token, .. }
        | EventKind::ReportIgnored { token, .. } => Some(*token),
        EventKind::TaskFinished { token, .. } => *token,
        _ => None,
    }
}

/// Replays the events: every step is legal, tokens grow, no worker has more than its slots, rows
/// are what the events say.
fn replay(world: &World) -> Result<(), String> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let mut slots: BTreeMap<WorkerId, BTreeSet<String>> = BTreeMap::new();
    let mut last = None;
    for event in &world.events {
        let Some(path) = &event.path else { continue };
        let path = path.to_string();
        let one = told.entry(path.clone()).or_default();
        step(one, event, &mut last).map_err(|e| format!("{path}: {e}"))?;
        match &event.kind {
            EventKind::TaskDispatched { worker, .. } => {
                let held = slots.entry(worker.clone()).or_default();
                held.insert(path);
                if held.len() > 2 {
                    return Err(format!("{worker} has {held:?}"));
                }
            }
            EventKind::TaskUnclaimed { .. }
            | EventKind::TaskRetrying { .. }
            | EventKind::TaskFinished { .. } => {
                for held in slots.values_mut() {
                    held.remove(&path);
                }
            }
            _ => {}
        }
    }
    for row in world.tasks.values() {
        let state = told.get(row.path.as_str()).and_then(|told| told.state);
        if state.unwrap_or(TaskState::Pending) != row.state {
            return Err(format!("{} is {:?} and told as {state:?}", row.path, row.state));
        }
    }
    Ok(())
}

/// What waits can say why, and what does not wait has nothing to say.
fn explained(play: &Play) -> Result<(), String> {
    let world = &play.world;
    for row in world.tasks.values().filter(|_| world.machine.holds(play.run)) {
        let waits =
            matches!(row.state, TaskState::Pending | TaskState::Queued | TaskState::Deferred);
        let mut blockers = world.machine.blockers(play.run, &row.path).unwrap_or_default();
        // A map under way tells of its items that have not begun.
        blockers.retain(|blocker| waits || !matches!(blocker, Blocker::Items { .. }));
        if waits == blockers.is_empty() {
            return Err(format!("{} is {:?}, blocked by {blockers:?}", row.path, row.state));
        }
    }
    Ok(())
}

fn check_end(play: &Play) {
    let world = &play.world;
    assert_eq!(replay(world), Ok(()));
    assert!(!world.machine.holds(play.run), "an ended run is forgotten");
    assert_eq!(world.machine.counts(), ork_core::run::Counts::default());
    for row in world.tasks.values() {
        assert!(row.state.is_terminal(), "{row:?}");
    }
    for row in world.attempts.values() {
        assert!(row.finished_at.is_some(), "an attempt that never ended: {row:?}");
    }
    let (plan, run) = (&world.versions[&play.run].plan, &world.runs[&play.run]);
    let (tasks, attempts) = (world.tasks.values().collect(), world.attempts.values().collect());
    let violations = check_run(plan, &world.events, &Rows { run, tasks, attempts });
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    let asked = world.runs[&play.run].state;
    assert!(matches!(asked, RunState::Success | RunState::Failed | RunState::Cancelled));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_the_run_ends(plan in plans(), acts in acts()) {
        let mut play = Play::new(&plan, false);
        for act in &acts {
            play.act(act);
            prop_assert_eq!(replay(&play.world), Ok(()));
            prop_assert_eq!(explained(&play), Ok(()));
        }
        play.finish();
        check_end(&play);
    }

    /// The same reports with and without restarts come to the same end. All of it takes less time
    /// than a worker has to stop something, since that time begins anew at a restart.
    #[test]
    fn a_restart_at_any_point_changes_nothing(
        plan in plans(),
        words in prop::collection::vec((0..2_usize, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let outcome = |restarts: bool| {
            let mut play = Play::new(&plan, true);
            for (which, good, restart) in &words {
                if restarts && *restart {
                    play.act(&Act::Reload(0));
                }
                let open = play.world.tasks.values().filter(|row| row.state == TaskState::Dispatched);
                let paths: Vec<_> = open.map(|row| row.path.to_string()).collect();
                if let Some(path) = paths.get(which % paths.len().max(1)) {
                    let word = if *good { Word::Success } else { Word::Failed };
                    play.world.report(play.run, path, say(word));
                }
                play.world.pass_secs(1);
                play.act(&Act::Beat);
            }
            let rows = play.world.tasks.values();
            let states: Vec<_> = rows.map(|row| (row.state, row.attempt, row.cause.clone())).collect();
            ((states, play.world.runs[&play.run].state), play.world.take_trace())
        };
        let (with, without) = (outcome(true), outcome(false));
        prop_assert!(with.0 == without.0, "{}\nwithout restarts:\n{}", with.1, without.1);
    }
}
