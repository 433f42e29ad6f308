//! Schedules in the loop, over a clock that a test sets.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use indexmap::IndexMap;
use ork_core::catalog::Deploy;
use ork_core::ids::{BackfillId, ProjectId, RunId};
use ork_core::plan::{Catchup, Plan, Schedule, When};
use ork_core::rows::{Actor, BackfillRow, BackfillState, Order, RunRow, TickRow, VersionId};
use ork_core::run::{Command, RunState};
use ork_core::schedule::{Declared, NewBackfill, ScheduleKey, Steer};
use ork_core::time::{Mono, Now, Span, Wall};
use ork_core::value::Digest;
use ork_engine::{Ask, Clock, Request};
use ork_store::{Memory, Page, RunFilter, Store as _};
use tokio::sync::Notify;

use crate::faulty::Fate;
use crate::setup::{Setup, code, plan};

/// 2026-11-24T10:00:20Z.
const START: Wall = Wall(1_795_514_420_000_000);
const HOUR: Span = Span::from_secs(3_600);

/// A clock that stands where it is put.
#[derive(Debug, Default)]
pub(crate) struct Set {
    passed: AtomicI64,
    /// How far the wall clock was put forward.
    ahead: AtomicI64,
    put: Notify,
}

impl Clock for Set {
    fn now(&self) -> Now {
        let passed = self.passed.load(Ordering::SeqCst);
        let ahead = self.ahead.load(Ordering::SeqCst);
        Now { mono: Mono(passed), wall: Wall(START.0 + passed + ahead) }
    }

    fn stepped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.put.notified())
    }
}

impl Set {
    fn pass(&self, span: Span) {
        self.passed.fetch_add(span.0, Ordering::SeqCst);
    }

    fn put_forward(&self, span: Span) {
        self.ahead.fetch_add(span.0, Ordering::SeqCst);
        self.put.notify_one();
    }
}

fn hourly(catchup: Catchup) -> Arc<Plan> {
    let schedule = Schedule {
        when: When::Cron("0 * * * *".into()),
        timezone: "UTC".into(),
        catchup,
        jitter: Span::ZERO,
        params: IndexMap::new(),
        paused: false,
    };
    let mut plan = (*plan()).clone();
    plan.schedules.insert("s".into(), schedule);
    Arc::new(plan)
}

async fn deploy(setup: &Setup, plan: Arc<Plan>, digest: u8) {
    let deploy = Deploy {
        digest: Digest([digest; 32]),
        source: String::new(),
        plan,
        code: code(),
        draft: false,
        by: Actor::default(),
    };
    setup.engine.submit(Request::deploy(ProjectId::DEFAULT, deploy)).await.unwrap();
}

fn key() -> ScheduleKey {
    ScheduleKey { project: ProjectId::DEFAULT, workflow: "w".into(), name: "s".into() }
}

async fn pause(setup: &Setup, key: ScheduleKey, paused: bool) -> Result<(), String> {
    let ask = Ask::PauseSchedule { key, paused, by: Actor::default() };
    let request = Request::new(ProjectId::DEFAULT, ask);
    setup.engine.submit(request).await.map(drop).map_err(|error| error.to_string())
}

fn page() -> Page {
    Page { limit: 100, cursor: None }
}

async fn ticks(memory: &Memory) -> Vec<TickRow> {
    memory.ticks(ProjectId::DEFAULT, "w", "s", &page()).await.unwrap().items
}

async fn runs(memory: &Memory) -> Vec<RunRow> {
    memory.runs(ProjectId::DEFAULT, &RunFilter::default(), &page()).await.unwrap().items
}

/// Lets the loop turn: any request does.
async fn turn(setup: &Setup) {
    setup.join().await;
    setup.join().await;
}

#[tokio::test]
async fn a_tick_makes_one_run_in_one_commit_with_its_record() {
    let clock = Arc::new(Set::default());
    let setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::None), 7).await;
    turn(&setup).await;
    assert!(runs(&setup.store.memory).await.is_empty());
    clock.pass(HOUR);
    turn(&setup).await;
    let (runs, ticks) = (runs(&setup.store.memory).await, ticks(&setup.store.memory).await);
    assert_eq!((runs.len(), ticks.len()), (1, 1));
    assert_eq!(runs[0].trigger, "schedule:s");
    assert_eq!(runs[0].logical_time, "2026-11-24T11:00:00Z");
    assert_eq!(ticks[0].run, Some(runs[0].id));
    let row = setup.store.memory.schedule(ProjectId::DEFAULT, "w", "s").await.unwrap().unwrap();
    assert_eq!(row.decided, ticks[0].tick);
}

#[tokio::test]
async fn a_clock_that_is_put_forward_wakes_the_loop_at_once() {
    let clock = Arc::new(Set::default());
    let mut setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::None), 7).await;
    turn(&setup).await;
    clock.put_forward(HOUR);
    let run = setup.offer().await.run;
    assert_eq!(runs(&setup.store.memory).await[0].id, run);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_repeats_no_tick() {
    for fate in [Fate::Done, Fate::NotDone] {
        let clock = Arc::new(Set::default());
        let setup = Setup::at(Memory::new(), clock.clone()).await;
        deploy(&setup, hourly(Catchup::None), 7).await;
        turn(&setup).await;
        setup.store.next(&[fate]);
        clock.pass(HOUR);
        turn(&setup).await;
        turn(&setup).await;
        let (runs, ticks) = (runs(&setup.store.memory).await, ticks(&setup.store.memory).await);
        assert_eq!((runs.len(), ticks.len()), (1, 1), "{fate:?}");
    }
}

#[tokio::test]
async fn another_engine_catches_up_as_the_schedule_says() {
    let clock = Arc::new(Set::default());
    let setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::Last), 7).await;
    turn(&setup).await;
    let memory = setup.store.memory.clone();
    drop(setup);
    clock.pass(Span(HOUR.0 * 1_000));
    let setup = Setup::at(memory.clone(), clock.clone()).await;
    turn(&setup).await;
    turn(&setup).await;
    let ticks = ticks(&memory).await;
    assert_eq!(ticks.len(), 2);
    assert_eq!((ticks[0].run.is_some(), ticks[0].count), (true, 1));
    assert_eq!((ticks[1].run.is_some(), ticks[1].count), (false, 999));
    assert_eq!(runs(&memory).await.len(), 1);
}

#[tokio::test]
async fn a_paused_schedule_waits() {
    let clock = Arc::new(Set::default());
    let setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::None), 7).await;
    pause(&setup, key(), true).await.unwrap();
    clock.pass(HOUR);
    turn(&setup).await;
    assert!(ticks(&setup.store.memory).await.is_empty());
    pause(&setup, key(), false).await.unwrap();
    turn(&setup).await;
    let missed = ticks(&setup.store.memory).await;
    assert_eq!(missed[0].reason.as_deref(), Some("missed, and `catchup` is none"));
    clock.pass(HOUR);
    turn(&setup).await;
    assert_eq!(runs(&setup.store.memory).await.len(), 1);
    let other = ScheduleKey { name: "t".into(), ..key() };
    let refused = pause(&setup, other, true).await.unwrap_err();
    assert_eq!(refused, "workflow `w` has no schedule `t`; see `ork schedules list`");
}

#[tokio::test]
async fn a_run_that_the_store_will_not_keep_is_a_skipped_tick() {
    let clock = Arc::new(Set::default());
    let setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::None), 7).await;
    turn(&setup).await;
    setup.store.next(&[Fate::Rejected; 4]);
    clock.pass(HOUR);
    turn(&setup).await;
    turn(&setup).await;
    let ticks = ticks(&setup.store.memory).await;
    assert_eq!(ticks.len(), 1);
    assert_eq!(ticks[0].reason.as_deref(), Some("the store will not keep its run: a constraint"));
    assert!(runs(&setup.store.memory).await.is_empty());
}

fn id() -> BackfillId {
    BackfillId(uuid::Uuid::from_u128(7))
}

async fn backfill(setup: &Setup, order: Order, max_runs: u32) {
    let version = setup.store.memory.version(ProjectId::DEFAULT, "w", VersionId(1)).await.unwrap();
    let version: Arc<Declared> = Arc::new(version.unwrap().into());
    let new = NewBackfill {
        id: id(),
        spec: version.plan.schedules["s"].clone(),
        version,
        schedule: "s".into(),
        from: Wall(START.0 - 4 * HOUR.0),
        to: START,
        max_runs,
        order,
        by: Actor::default(),
    };
    let ask = Ask::Backfill(Box::new(new));
    let request = Request::new(ProjectId::DEFAULT, ask);
    setup.engine.submit(request).await.unwrap();
}

async fn steer(setup: &Setup, steer: Steer) -> Result<(), String> {
    let ask = Ask::Steer { id: id(), steer, by: Actor::default(), over: None };
    let request = Request::new(ProjectId::DEFAULT, ask);
    setup.engine.submit(request).await.map(drop).map_err(|error| error.to_string())
}

/// Does runs of a backfill that is over again.
async fn retry(setup: &Setup, runs: &[RunId]) {
    let over = row(&setup.store.memory).await;
    let version = setup.store.memory.version(ProjectId::DEFAULT, "w", VersionId(1)).await.unwrap();
    let over = Some(Box::new((over, Arc::new(version.unwrap().into()))));
    let steer = Steer::Retry(runs.to_vec());
    let ask = Ask::Steer { id: id(), steer, by: Actor::default(), over };
    let request = Request::new(ProjectId::DEFAULT, ask);
    setup.engine.submit(request).await.unwrap();
}

async fn row(memory: &Memory) -> BackfillRow {
    memory.backfill(ProjectId::DEFAULT, id()).await.unwrap().unwrap()
}

async fn times(memory: &Memory) -> Vec<String> {
    let mut rows = runs(memory).await;
    rows.sort_by_key(|row| (row.created_at, row.id));
    rows.into_iter().map(|row| row.logical_time[11..13].to_owned()).collect()
}

/// Lets the loop turn without a worker, so that what is cancelled is over at once.
async fn nudge(setup: &Setup) {
    for _ in 0..2 {
        let other = ScheduleKey { name: "other".into(), ..key() };
        pause(setup, other, true).await.unwrap_err();
    }
}

async fn cancel(setup: &Setup, run: RunId) {
    let command = Command::Cancel { run, path: None, force: true, by: Actor::default() };
    setup.engine.submit(Request::run(ProjectId::DEFAULT, command)).await.unwrap();
    nudge(setup).await;
}

#[tokio::test]
async fn a_backfill_goes_on_by_its_limit_in_its_order_and_ends() {
    for (order, hours) in
        [(Order::Oldest, ["07", "08", "09", "10"]), (Order::Newest, ["10", "09", "08", "07"])]
    {
        let clock = Arc::new(Set::default());
        let mut setup = Setup::at(Memory::new(), clock.clone()).await;
        deploy(&setup, hourly(Catchup::None), 7).await;
        backfill(&setup, order, 1).await;
        for done in 0..4 {
            nudge(&setup).await;
            let memory = setup.store.memory.clone();
            assert_eq!(times(&memory).await, hours[..=done], "{order:?}");
            let row = row(&memory).await;
            assert_eq!((row.made, row.total, row.open.len()), (done as u64 + 1, 4, 1));
            clock.pass(Span::from_secs(1));
            if done == 1 {
                drop(setup);
                setup = Setup::at(memory, clock.clone()).await;
                nudge(&setup).await;
            }
            cancel(&setup, row.open[0]).await;
        }
        let row = row(&setup.store.memory).await;
        assert_eq!((row.state, row.made, row.open.len()), (BackfillState::Done, 4, 0));
        assert!(row.finished_at.is_some());
        assert!(ticks(&setup.store.memory).await.is_empty(), "no tick of the schedule");
        assert!(steer(&setup, Steer::Pause).await.unwrap_err().contains("is over"));
        let memory = setup.store.memory.clone();
        let again: Vec<_> = runs(&memory).await.iter().map(|run| run.id).collect();
        retry(&setup, &again).await;
        nudge(&setup).await;
        for _ in 0..again.len() {
            let row = self::row(&memory).await;
            assert_eq!((row.state, row.open.len()), (BackfillState::Running, 1), "its limit holds");
            cancel(&setup, row.open[0]).await;
            nudge(&setup).await;
        }
        let row = self::row(&memory).await;
        assert_eq!((row.state, row.made, row.again.len()), (BackfillState::Done, 4, 0));
    }
}

#[tokio::test]
async fn a_backfill_is_paused_resumed_and_cancelled() {
    let clock = Arc::new(Set::default());
    let setup = Setup::at(Memory::new(), clock.clone()).await;
    deploy(&setup, hourly(Catchup::None), 7).await;
    backfill(&setup, Order::Oldest, 2).await;
    nudge(&setup).await;
    let memory = setup.store.memory.clone();
    assert_eq!(runs(&memory).await.len(), 2);
    steer(&setup, Steer::Pause).await.unwrap();
    cancel(&setup, row(&memory).await.open[0]).await;
    assert_eq!(runs(&memory).await.len(), 2);
    steer(&setup, Steer::Resume).await.unwrap();
    nudge(&setup).await;
    assert_eq!(runs(&memory).await.len(), 3);
    steer(&setup, Steer::Cancel).await.unwrap();
    nudge(&setup).await;
    nudge(&setup).await;
    assert!(runs(&memory).await.iter().all(|run| run.state == RunState::Cancelled));
    let row = row(&memory).await;
    assert_eq!((row.state, row.finished_at.is_some()), (BackfillState::Cancelled, true));
    assert_eq!(runs(&memory).await.len(), 3);
}
