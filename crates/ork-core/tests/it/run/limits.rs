//! Queues, priorities, pools, places of runs: what they admit, and whom they say they wait for.

use std::collections::BTreeMap;

use ork_core::check::check_feed;
use ork_core::ids::{ProjectId, RunId};
use ork_core::plan::{Binding, Concurrency, Expr, OnLimit, Plan, PoolUse};
use ork_core::run::{
    Blocker, Effect, FailureKind, Holder, Outcome, RetrySelection, RunState, TaskState,
};
use ork_core::time::Span;
use proptest::prelude::*;
use serde_json::json;

use super::build::{Build, call, plan, plan_with_finally, task};
use super::world::{World, exit, finished, run_id};

impl Build {
    fn queue(self, name: &str) -> Self {
        self.with(|task| task.worker_queue = Some(name.into()))
    }

    fn priority(self, priority: i32) -> Self {
        self.with(|task| task.priority = priority)
    }

    fn pool(self, name: &str, slots: u32, of: Option<u32>) -> Self {
        let name = Binding::Const(json!(name));
        self.with(|task| task.pool = Some(Box::new(PoolUse { name, slots, of })))
    }
}

fn limited(name: &str, max_runs: u32, key: Option<&str>, on_limit: OnLimit) -> Plan {
    let concurrency = Some(Concurrency { max_runs, key: key.map(Expr::new), on_limit });
    let finally = vec![task("clean")];
    Plan { name: name.into(), concurrency, ..plan_with_finally(vec![task("a")], finally) }
}

fn offered(world: &World) -> Vec<String> {
    let path = |effect: &Effect| match effect {
        Effect::Dispatch { assignment, .. } => Some(assignment.attempt.path.to_string()),
        _ => None,
    };
    world.effects.iter().filter_map(path).collect()
}

fn blockers(world: &World, run: RunId, path: &str) -> Vec<Blocker> {
    world.machine.blockers(run, &path.into()).unwrap()
}

#[test]
fn a_queue_is_served_by_its_workers_alone() {
    let mut world = World::with_worker(4);
    let run = world.create(1, &plan(vec![task("a"), task("g").queue("gpu")]));
    assert_eq!(offered(&world), ["a"]);
    assert_eq!(blockers(&world, run, "g"), [Blocker::NoWorker { queue: "gpu".into() }]);
    world.serve("w2", 1, &["gpu"]);
    assert_eq!(offered(&world), ["a", "g"]);
    assert_eq!(world.attempt_row(run, "g").worker.to_string(), "w2");
}

#[test]
fn queues_of_one_worker_take_turns() {
    let mut world = World::new();
    let many = |queue: &str| (0..6).map(|n| task(&format!("{queue}{n}")).queue(queue)).collect();
    world.create(1, &plan(many("a")));
    world.create(2, &plan(many("b")));
    world.serve("w1", 1, &["a", "b"]);
    for n in 0..6 {
        let last = offered(&world).pop().unwrap();
        let run = if last.starts_with('a') { 1 } else { 2 };
        assert_eq!(offered(&world).len(), n + 1);
        world.succeed(run_id(run), &last);
    }
    let first: Vec<_> = offered(&world).iter().map(|path| path[..1].to_owned()).take(6).collect();
    assert_eq!(first.iter().filter(|queue| *queue == "a").count(), 3, "{first:?}");
}

#[test]
fn the_higher_priority_goes_first_within_its_run() {
    let mut world = World::new();
    let tasks = vec![task("low").priority(-5), task("mid"), task("high").priority(7)];
    let run = world.create(1, &plan(tasks));
    world.join("w1", 1);
    for path in ["high", "mid", "low"] {
        assert_eq!(offered(&world).pop().unwrap(), path);
        world.succeed(run, path);
    }
}

#[test]
fn a_wide_run_delays_another_by_one_turn() {
    let mut world = World::with_worker(2).bare();
    let wide = world.create(1, &plan((0..3000).map(|n| task(&format!("t{n}"))).collect()));
    let small = world.create(2, &plan(vec![task("only")]));
    assert_eq!(world.state(small, "only"), TaskState::Queued);
    for path in offered(&world) {
        world.succeed(wide, &path);
    }
    assert_eq!(world.state(small, "only"), TaskState::Dispatched);
}

#[test]
fn a_pool_is_held_from_offer_to_end() {
    let mut world = World::with_worker(9);
    let use_db = |name: &str| {
        let at_once = |task: &mut ork_core::plan::Task| task.retry.delay = Span::ZERO;
        task(name).pool("db", 2, Some(3)).retries(1).with(at_once)
    };
    let run =
        world.create(1, &plan(vec![use_db("a"), use_db("b"), task("c").pool("db", 1, Some(3))]));
    // `c` would fit, and does not pass `b`.
    assert_eq!(offered(&world), ["a"]);
    let holders = vec![Holder { run, path: Some("a".into()) }];
    let pool = |slots| Blocker::Pool {
        name: "db".into(),
        slots,
        of: 3,
        used: 2,
        holders: holders.clone(),
    };
    assert_eq!(blockers(&world, run, "b"), [pool(2)]);
    assert_eq!(blockers(&world, run, "c"), [pool(1)]);
    world.start(run, "a");
    world.cancel(run, Some("a"), false);
    assert_eq!(world.state(run, "a"), TaskState::Stopping);
    assert_eq!(offered(&world).len(), 1, "a stop holds its slots");
    world.report(run, "a", finished(Outcome::Stopped));
    assert_eq!(offered(&world), ["a", "b", "c"]);
    world.start(run, "b");
    world.fail(run, "b");
    world.reload(Span::ZERO);
    world.join("w1", 9);
    assert_eq!(world.state(run, "b"), TaskState::Dispatched);
}

#[test]
fn a_pool_that_shrinks_admits_nothing_until_it_fits() {
    let mut world = World::with_worker(9);
    world.size_pool("db", Some(2));
    let tasks = ["a", "b", "c", "d"].map(|name| task(name).pool("db", 1, None));
    let run = world.create(1, &plan(tasks.into()));
    assert_eq!(offered(&world), ["a", "b"]);
    world.size_pool("db", Some(1));
    world.succeed(run, "a");
    assert_eq!(offered(&world), ["a", "b"]);
    world.succeed(run, "b");
    assert_eq!(offered(&world), ["a", "b", "c"]);
    world.size_pool("db", Some(0));
    world.succeed(run, "c");
    assert_eq!(offered(&world).len(), 3);
    world.size_pool("db", None);
    assert_eq!(world.state(run, "d"), TaskState::Failed);
    let failure = world.task(run, "d").failure.clone().unwrap();
    assert!(failure.message.contains("ork pools set db SLOTS"), "{}", failure.message);
}

#[test]
fn what_is_too_large_for_its_pool_keeps_nobody_back() {
    let mut world = World::with_worker(9);
    world.size_pool("db", Some(1));
    let run = world.create(
        1,
        &plan(vec![task("big").pool("db", 2, None).priority(1), task("small").pool("db", 1, None)]),
    );
    assert_eq!(offered(&world), ["small"]);
    assert!(matches!(&blockers(&world, run, "big")[..], [Blocker::Pool { slots: 2, of: 1, .. }]));
    world.size_pool("db", Some(3));
    assert_eq!(offered(&world), ["small", "big"]);
}

#[test]
fn one_who_waits_for_a_dead_queue_does_not_keep_the_pool() {
    let mut world = World::with_worker(9);
    world.size_pool("db", Some(1));
    let run = world.create(
        1,
        &plan(vec![
            task("a").pool("db", 1, None),
            task("g").pool("db", 1, None).queue("gpu"),
            task("b").pool("db", 1, None),
        ]),
    );
    world.serve("w2", 1, &["gpu"]);
    world.gone("w2", ork_core::run::Departure::Orderly);
    world.succeed(run, "a");
    assert_eq!(offered(&world), ["a", "b"]);
    assert_eq!(blockers(&world, run, "g"), [Blocker::NoWorker { queue: "gpu".into() }]);
}

#[test]
fn a_computed_name_is_evaluated_once_a_generation() {
    let mut world = World::with_worker(1);
    let pool = PoolUse { name: Binding::Expr(Expr::new("tasks.up.output")), slots: 1, of: Some(1) };
    let tasks = vec![
        task("up"),
        task("down").after(&["up"]).with(|task| task.pool = Some(Box::new(pool.clone()))),
    ];
    let run = world.create(1, &plan(tasks.clone()));
    world.succeed_with(run, "up", json!("db"));
    assert_eq!(world.machine.pools(ProjectId::DEFAULT)[0].name, "db");
    world.succeed(run, "down");
    assert!(world.machine.pools(ProjectId::DEFAULT).is_empty());
    let run = world.create(2, &plan(tasks));
    world.succeed_with(run, "up", json!(7));
    assert_eq!(world.task(run, "down").failure.as_ref().unwrap().kind, FailureKind::Expression);
}

#[test]
fn runs_wait_their_turn_until_finally_is_over() {
    let mut world = World::with_worker(9);
    let plan = limited("w", 1, None, OnLimit::Queue);
    let (first, second) = (world.create(1, &plan), world.create(2, &plan));
    let held = Blocker::RunLimit {
        workflow: "w".into(),
        key: None,
        max_runs: 1,
        ahead: 0,
        holders: vec![Holder { run: first, path: None }],
    };
    assert_eq!(blockers(&world, second, "a"), [held]);
    world.succeed(first, "a");
    assert_eq!(world.runs[&second].state, RunState::Pending);
    world.reload(Span::ZERO);
    world.join("w1", 9);
    assert_eq!(world.runs[&second].state, RunState::Pending);
    world.succeed(first, "finally/clean");
    assert_eq!(world.runs[&second].state, RunState::Running);
}

#[test]
fn a_key_tells_runs_apart() {
    let mut world = World::with_worker(9);
    let plan = limited("w", 1, Some("params.who"), OnLimit::Queue);
    let make = |world: &mut World, n, who: &str| world.create_with(n, &plan, json!({ "who": who }));
    let runs = [make(&mut world, 1, "x"), make(&mut world, 2, "y"), make(&mut world, 3, "x")];
    let states = runs.map(|run| world.runs[&run].state);
    assert_eq!(states, [RunState::Running, RunState::Running, RunState::Pending]);
}

#[test]
fn a_run_that_is_skipped_says_for_whom() {
    let mut world = World::with_worker(9);
    let plan = limited("w", 1, None, OnLimit::Skip);
    let (first, second) = (world.create(1, &plan), world.create(2, &plan));
    assert_eq!(world.runs[&second].state, RunState::Skipped);
    let failure = world.runs[&second].failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::RunLimit);
    assert!(failure.message.contains(&first.to_string()), "{}", failure.message);
    assert!(world.tasks.keys().all(|(run, _)| *run == first));
    assert!(world.retry(second, RetrySelection::Failed).is_err());
}

#[test]
fn the_oldest_makes_room_and_the_new_one_waits_for_it() {
    let mut world = World::with_worker(9);
    let plan = limited("w", 1, None, OnLimit::CancelOldest);
    let (first, second) = (world.create(1, &plan), world.create(2, &plan));
    assert_eq!(world.state(first, "a"), TaskState::Stopping);
    assert_eq!(world.runs[&second].state, RunState::Pending);
    let third = world.create(3, &plan);
    assert_eq!(world.runs[&second].state, RunState::Cancelled);
    world.report(first, "a", finished(Outcome::Stopped));
    assert_eq!(world.runs[&third].state, RunState::Pending);
    world.succeed(first, "finally/clean");
    assert_eq!(world.runs[&third].state, RunState::Running);
}

#[test]
fn the_current_versions_limits_bind_all_runs() {
    let mut world = World::with_worker(9);
    let old = limited("w", 1, None, OnLimit::Queue);
    let runs = [1, 2, 3].map(|n| world.create(n, &old));
    let rule = |max_runs| Some(Concurrency { max_runs, key: None, on_limit: OnLimit::Queue });
    world.limit("w", rule(2));
    let states = |world: &World| runs.map(|run| world.runs[&run].state);
    assert_eq!(states(&world), [RunState::Running, RunState::Running, RunState::Pending]);
    world.limit("w", rule(1));
    world.reload(Span::ZERO);
    world.join("w1", 9);
    world.succeed(runs[0], "a");
    world.succeed(runs[0], "finally/clean");
    assert_eq!(world.runs[&runs[2]].state, RunState::Pending);
    world.limit("w", None);
    assert_eq!(world.runs[&runs[2]].state, RunState::Running);
}

#[test]
fn calls_stand_in_the_line_of_what_they_call() {
    let mut world = World::with_worker(9);
    let inner = Plan { name: "inner".into(), ..limited("inner", 1, None, OnLimit::Skip) };
    let outer = plan(vec![call("x", inner.clone(), &[]), call("y", inner.clone(), &[])]);
    let run = world.create(1, &outer);
    assert_eq!(offered(&world), ["x/a"]);
    let held = Blocker::RunLimit {
        workflow: "inner".into(),
        key: None,
        max_runs: 1,
        ahead: 0,
        holders: vec![Holder { run, path: None }],
    };
    assert_eq!(blockers(&world, run, "y"), [held]);
    let second = world.create(2, &inner);
    assert_eq!(world.runs[&second].state, RunState::Skipped);
    world.reload(Span::ZERO);
    world.join("w1", 9);
    world.succeed(run, "x/a");
    assert_eq!(world.state(run, "y"), TaskState::Pending);
    world.succeed(run, "x/finally/clean");
    assert_eq!(world.state(run, "y"), TaskState::Running);
    world.cancel(run, None, true);
    world.report(run, "y/a", finished(Outcome::Stopped));
    let third = world.create(3, &inner);
    assert_eq!(world.runs[&third].state, RunState::Running);
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Create(usize, u8),
    Report(usize, u8),
    Pass(i64),
    Cancel(usize, bool),
    Retry(usize),
    Reload,
    Die(usize),
    Size(Option<u32>),
    Limit(usize, u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..5_usize, 0..2_u8).prop_map(|(plan, key)| Act::Create(plan, key)),
        20 => (0..6_usize, 0..8_u8).prop_map(|(back, word)| Act::Report(back, word)),
        4 => (1..20_i64).prop_map(Act::Pass),
        2 => (0..4_usize, any::<bool>()).prop_map(|(run, force)| Act::Cancel(run, force)),
        2 => (0..4_usize).prop_map(Act::Retry),
        2 => Just(Act::Reload),
        1 => (0..2_usize).prop_map(Act::Die),
        2 => prop::option::of(0..4_u32).prop_map(Act::Size),
        1 => (0..4_usize, 1..3_u32).prop_map(|(plan, max)| Act::Limit(plan, max)),
    ];
    prop::collection::vec(act, 1..80)
}

fn plans() -> Vec<Plan> {
    let body = || {
        vec![
            task("a").pool("db", 1, Some(2)).retries(1),
            task("b").pool("db", 2, Some(2)).queue("gpu").priority(3),
            task("c").queue("gpu").retries(2),
            task("d").after(&["a"]).rule(ork_core::plan::TriggerRule::AllDone).pool(
                "db",
                1,
                Some(2),
            ),
            task("e").pool("api", 1, Some(1)),
        ]
    };
    let of = |name: &str, key: Option<&str>, on_limit| Plan {
        name: name.into(),
        concurrency: Some(Concurrency { max_runs: 1, key: key.map(Expr::new), on_limit }),
        ..plan_with_finally(body(), vec![task("z").pool("api", 1, Some(1))])
    };
    let inner = Plan {
        body: plan(vec![task("c").queue("gpu")]).body,
        ..limited("inner", 1, None, OnLimit::Queue)
    };
    vec![
        of("queue", Some("params.key"), OnLimit::Queue),
        of("skip", None, OnLimit::Skip),
        of("cancel", Some("params.key"), OnLimit::CancelOldest),
        Plan { concurrency: None, ..of("free", None, OnLimit::Queue) },
        Plan {
            name: "outer".into(),
            ..plan(vec![call("x", inner.clone(), &[]), call("y", inner, &[])])
        },
    ]
}

struct Play {
    world: World,
    plans: Vec<Plan>,
    made: Vec<RunId>,
    workers: [usize; 2],
}

impl Play {
    fn new() -> Self {
        let mut new =
            Self { world: World::new(), plans: plans(), made: Vec::new(), workers: [0, 0] };
        new.join(0);
        new.join(1);
        new
    }

    fn join(&mut self, which: usize) {
        let name = format!("w{which}-{}", self.workers[which]);
        let queues: &[&str] = if which == 0 { &["default"] } else { &["default", "gpu"] };
        self.world.serve(&name, 2, queues);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Create(plan, key) => {
                let n = self.made.len() as u128 + 1;
                let plan = self.plans[plan].clone();
                self.world.pass(Span(1));
                self.made.push(self.world.create_with(n, &plan, json!({ "key": key })));
            }
            Act::Report(back, word) => self.report(back, word),
            Act::Pass(secs) => {
                self.world.pass_secs(secs);
                for which in [0, 1] {
                    let name = format!("w{which}-{}", self.workers[which]);
                    if !self.world.beat(&name) {
                        self.join(which);
                    }
                }
            }
            Act::Cancel(back, force) => {
                if let Some(run) = self.made.iter().rev().nth(back) {
                    self.world.cancel(*run, None, force);
                }
            }
            Act::Retry(back) => {
                let over = self.made.iter().filter(|run| self.world.runs[*run].state.is_terminal());
                if let Some(run) = over.rev().nth(back).copied() {
                    let _ = self.world.retry(run, RetrySelection::Failed);
                }
            }
            Act::Reload => {
                self.world.reload(Span::from_secs(1));
                self.join(0);
                self.join(1);
            }
            Act::Die(which) => {
                self.world.crash(&format!("w{which}-{}", self.workers[which]));
                self.workers[which] += 1;
                self.join(which);
            }
            Act::Size(slots) => self.world.size_pool("db", slots),
            Act::Limit(plan, max_runs) => {
                let plan = &self.plans[plan];
                let limits = plan.concurrency.clone().map(|rule| Concurrency { max_runs, ..rule });
                let name = plan.name.clone();
                self.world.limit(&name, limits);
            }
        }
    }

    fn report(&mut self, back: usize, word: u8) {
        let open = self.world.attempts.values().filter(|row| row.finished_at.is_none());
        let mut open: Vec<_> = open.map(|row| (row.token, row.run, row.path.clone())).collect();
        open.sort_unstable();
        let Some((token, run, path)) = open.into_iter().rev().nth(back) else { return };
        let attempt = ork_core::ids::AttemptRef { run, path, token };
        let report = match word {
            0 => ork_core::run::Report::Started,
            1 => finished(Outcome::Failed(exit(1))),
            2 => finished(Outcome::Stopped),
            _ => finished(Outcome::Success { output: None }),
        };
        let _ = self.world.tell(attempt, report);
    }

    /// How many slots of `db` attempts hold, by the rows, and how many runs of each workflow and
    /// key are under way.
    fn used(&self) -> BTreeMap<String, u32> {
        let mut used = BTreeMap::new();
        let open = self.world.tasks.values().filter(|row| {
            use TaskState::{Dispatched, Running, Stopping};
            matches!(row.state, Dispatched | Running | Stopping)
        });
        for row in open {
            let slots = match row.path.as_str() {
                "a" | "d" => ("db", 1),
                "b" => ("db", 2),
                "e" | "finally/z" => ("api", 1),
                _ => continue,
            };
            *used.entry(slots.0.to_owned()).or_default() += slots.1;
        }
        for row in self.world.runs.values().filter(|row| row.state == RunState::Running) {
            let keyed = matches!(&*row.workflow, "queue" | "cancel");
            let key = if keyed { row.params["key"].to_string() } else { String::new() };
            *used.entry(format!("{}/{key}", row.workflow)).or_default() += 1;
        }
        let calls = self.world.tasks.values().filter(|row| {
            matches!(row.path.as_str(), "x" | "y")
                && row.started_at.is_some()
                && !row.state.is_terminal()
        });
        used.insert("inner/".into(), u32::try_from(calls.count()).unwrap());
        used
    }

    fn most(&self, what: &str) -> u32 {
        let db = self.world.pools.get(&(ProjectId::DEFAULT, "db".into())).and_then(|row| row.slots);
        match what.split_once('/') {
            None if what == "db" => db.unwrap_or(2),
            None => 1,
            Some(("free" | "outer", _)) => u32::MAX,
            Some((workflow, _)) => {
                let told = self.world.limits.get(workflow);
                told.and_then(Option::as_ref).map_or(1, |rule| rule.max_runs)
            }
        }
    }

    /// Nothing grows past its limit; what waits says why, and what has no blocker has been offered.
    fn judge(&mut self, before: &BTreeMap<String, u32>) -> Result<(), String> {
        for (what, used) in self.used() {
            if used > self.most(&what) && before.get(&what).is_none_or(|before| used > *before) {
                return Err(format!("{used} of {what}, which has {}", self.most(&what)));
            }
        }
        for row in self.world.tasks.values() {
            let Some(blockers) = self.world.machine.blockers(row.run, &row.path) else { continue };
            let waits = matches!(row.state, TaskState::Pending | TaskState::Queued);
            if waits == blockers.is_empty() {
                return Err(format!("{} is {:?} with {blockers:?}", row.path, row.state));
            }
        }
        match self.world.settle_again() {
            0 => Ok(()),
            more => Err(format!("{more} more were offered though all were blocked")),
        }
    }

    /// Everything comes to its end.
    fn finish(&mut self) -> Result<(), String> {
        self.act(Act::Size(Some(2)));
        for _ in 0..3000 {
            if self.made.iter().all(|run| self.world.runs[run].state.is_terminal()) {
                return Ok(());
            }
            for back in 0..self.world.attempts.len() {
                self.report(back, 9);
            }
            self.act(Act::Pass(2));
        }
        let open = self.world.tasks.values().filter(|row| !row.state.is_terminal());
        let waits = open.map(|row| (&row.path, self.world.machine.blockers(row.run, &row.path)));
        Err(format!("it never ends: {:?}", waits.collect::<Vec<_>>()))
    }
}

fn play(acts: &[Act]) -> Result<(), String> {
    let mut play = Play::new();
    for act in acts {
        let before = play.used();
        play.act(*act);
        play.judge(&before)
            .map_err(|e| format!("{e}\nafter {act:?}\n{}", play.world.take_trace()))?;
    }
    play.finish().map_err(|e| format!("{e}\n{}", play.world.take_trace()))?;
    let feed = (1..).zip(&play.world.events);
    let broken = check_feed(feed, &BTreeMap::new());
    if broken.is_empty() { Ok(()) } else { Err(format!("{broken:?}")) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_whatever_happens(acts in acts()) {
        play(&acts).map_err(TestCaseError::fail)?;
    }
}
