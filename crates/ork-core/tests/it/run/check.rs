//! The checker finds each kind of broken promise in a history that was honest before.

use std::collections::BTreeMap;

use ork_core::check::{Broken, Rows, check_feed, check_run};
use ork_core::ids::{Token, WorkerId};
use ork_core::plan::Plan;
use ork_core::rows::{AttemptRow, EventRow, LogSummary, RunRow, TaskRow};
use ork_core::run::{EventKind, Failure, FailureKind, RunState, TaskState};
use ork_core::time::Wall;
use rstest::rstest;

use super::build::{plan, task};
use super::world::World;

/// A run of `a`, then `b`, with all that a store keeps of it.
struct History {
    plan: Plan,
    events: Vec<EventRow>,
    run: RunRow,
    tasks: Vec<TaskRow>,
    attempts: Vec<AttemptRow>,
}

impl History {
    fn honest() -> Self {
        let plan = plan(vec![task("a"), task("b").after(&["a"])]);
        let mut world = World::with_worker(1);
        let run = world.create(1, &plan);
        for path in ["a", "b"] {
            world.start(run, path);
            world.succeed(run, path);
        }
        Self {
            plan,
            events: world.events.clone(),
            run: world.runs[&run].clone(),
            tasks: world.tasks.values().cloned().collect(),
            attempts: world.attempts.values().cloned().collect(),
        }
    }

    /// Where the event of the instance is.
    fn at(&self, path: &str, is: fn(&EventKind) -> bool) -> usize {
        let found = self.events.iter().position(|event| {
            event.path.as_ref().map_or("", |path| path.as_str()) == path && is(&event.kind)
        });
        found.expect("an event")
    }

    /// Puts an event of the same instance behind another.
    fn insert(&mut self, behind: usize, kind: EventKind) {
        let event = EventRow { kind, ..self.events[behind].clone() };
        self.events.insert(behind + 1, event);
    }

    fn renumber(&mut self) {
        for (event, seq) in self.events.iter_mut().zip(1..) {
            event.seq = seq;
        }
    }

    fn found(&self) -> Vec<Broken> {
        let rows = Rows {
            run: &self.run,
            tasks: self.tasks.iter().collect(),
            attempts: self.attempts.iter().collect(),
        };
        let found = check_run(&self.plan, &self.events, &rows);
        found.into_iter().map(|violation| violation.broken).collect()
    }
}

fn queued(kind: &EventKind) -> bool {
    matches!(kind, EventKind::TaskQueued)
}

fn dispatched(kind: &EventKind) -> bool {
    matches!(kind, EventKind::TaskDispatched { .. })
}

fn started(kind: &EventKind) -> bool {
    matches!(kind, EventKind::TaskStarted { .. })
}

fn finished(kind: &EventKind) -> bool {
    matches!(kind, EventKind::TaskFinished { .. })
}

fn run_started(kind: &EventKind) -> bool {
    matches!(kind, EventKind::RunStarted { .. })
}

fn run_finished(kind: &EventKind) -> bool {
    matches!(kind, EventKind::RunFinished { .. })
}

fn token_of(kind: &EventKind) -> Token {
    let EventKind::TaskStarted { token } = kind else { panic!("{kind:?} is no start") };
    *token
}

#[test]
fn an_honest_history_passes() {
    assert_eq!(History::honest().found(), []);
}

fn an_unknown_path(history: &mut History) {
    let place = history.at("a", queued);
    history.events[place].path = Some("zz".into());
}

fn another_generation(history: &mut History) {
    let place = history.at("a", started);
    history.events[place].generation = Some(9);
}

fn a_second_start_of_the_run(history: &mut History) {
    let place = history.at("", run_started);
    history.insert(place, history.events[place].kind.clone());
}

fn queued_twice(history: &mut History) {
    let place = history.at("a", queued);
    history.insert(place, EventKind::TaskQueued);
}

fn started_under_another_token(history: &mut History) {
    let place = history.at("a", started);
    history.events[place].kind = EventKind::TaskStarted { token: Token(7) };
}

fn a_token_used_again(history: &mut History) {
    let first = token_of(&history.events[history.at("a", started)].kind);
    let place = history.at("b", dispatched);
    history.events[place].kind =
        EventKind::TaskDispatched { token: first, worker: "w1".into(), pool: None };
}

fn taken_back_while_it_runs(history: &mut History) {
    let place = history.at("a", started);
    let token = token_of(&history.events[place].kind);
    let again = Token(token.0 + 1_000);
    history.insert(place, EventKind::TaskUnclaimed { token });
    history.insert(
        place + 1,
        EventKind::TaskDispatched { token: again, worker: "w1".into(), pool: None },
    );
}

fn tried_again_without_budget(history: &mut History) {
    let place = history.at("a", started);
    history.insert(
        place,
        EventKind::TaskRetrying {
            token: token_of(&history.events[place].kind),
            failure: Failure::new(FailureKind::Failure, "exited with 1"),
            not_before: Wall(0),
            logs: LogSummary::default(),
        },
    );
}

fn queued_before_its_upstream_ends(history: &mut History) {
    let (ended, place) = (history.at("a", finished), history.at("b", queued));
    let event = history.events.remove(place);
    history.events.insert(ended, event);
}

fn skipped_for_no_reason(history: &mut History) {
    let place = history.at("b", queued);
    history.events[place].kind = EventKind::TaskFinished {
        state: TaskState::Skipped,
        token: None,
        failure: None,
        cause: None,
        logs: LogSummary::default(),
        source: None,
    };
}

fn offered_before_the_run_starts(history: &mut History) {
    let place = history.at("", run_started);
    let event = history.events.remove(place);
    let offered = history.at("a", dispatched);
    history.events.insert(offered + 1, event);
}

fn over_while_an_instance_is_open(history: &mut History) {
    let place = history.at("b", finished);
    history.events.remove(place);
}

fn another_result(history: &mut History) {
    let place = history.at("", run_finished);
    history.events[place].kind =
        EventKind::RunFinished { state: RunState::Cancelled, failure: None };
}

fn a_row_of_its_own(history: &mut History) {
    history.tasks[0].state = TaskState::Failed;
}

#[rstest]
#[case(an_unknown_path, "UnknownInstance")]
#[case(another_generation, "Misnamed")]
#[case(a_second_start_of_the_run, "RunTransition")]
#[case(queued_twice, "Transition")]
#[case(started_under_another_token, "Stale")]
#[case(a_token_used_again, "TokenNotNew")]
#[case(taken_back_while_it_runs, "ExecutedTwice")]
#[case(tried_again_without_budget, "TooManyRetries")]
#[case(queued_before_its_upstream_ends, "StartNotJustified")]
#[case(skipped_for_no_reason, "EndNotJustified")]
#[case(offered_before_the_run_starts, "OutOfTurn")]
#[case(over_while_an_instance_is_open, "NotAllTerminal")]
#[case(another_result, "WrongResult")]
#[case(a_row_of_its_own, "RowDiffers")]
fn each_broken_promise_is_found(#[case] harm: fn(&mut History), #[case] broken: &str) {
    let mut history = History::honest();
    harm(&mut history);
    history.renumber();
    let found = history.found();
    let names: Vec<String> = found.iter().map(|broken| format!("{broken:?}")).collect();
    assert!(names.iter().any(|name| name.starts_with(broken)), "{found:?}");
}

#[test]
fn a_gap_is_found() {
    let mut history = History::honest();
    history.events.remove(2);
    assert!(history.found().contains(&Broken::Gap { expected: 3 }));
}

#[test]
fn a_worker_with_more_attempts_than_slots_is_found() {
    let mut world = World::with_worker(2);
    world.create(1, &plan(vec![task("a"), task("b")]));
    let feed = || world.events.iter().map(|event| (1, event));
    let slots = |slots| BTreeMap::from([(WorkerId::from("w1"), slots)]);
    assert_eq!(check_feed(feed(), &slots(2)), []);
    let found = check_feed(feed(), &slots(1));
    let worker = "w1".into();
    assert_eq!(found[0].broken, Broken::SlotsExceeded { worker, held: 2, slots: 1 });
    assert!(check_feed(feed(), &BTreeMap::new()).is_empty(), "others are not counted");
}

#[test]
fn a_token_of_another_run_is_found() {
    let mut world = World::with_worker(1);
    world.create(1, &plan(vec![task("a")]));
    let again = world.events.clone();
    let feed = (1..).zip(world.events.iter().chain(&again));
    let found = check_feed(feed, &BTreeMap::new());
    assert!(found.iter().any(|violation| matches!(violation.broken, Broken::TokenNotNew { .. })));
}
