//! What a store that cannot be read, or not wholly, costs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ork_core::ids::{Epoch, ProjectId};
use ork_core::rows::{Actor, Change, VersionId};
use ork_core::run::{Command, FailureKind, RefusalCode, RetrySelection, RunState};
use ork_core::time::{Span, Wall};
use ork_engine::{Config, Error, Request};
use ork_store::{Memory, Store as _};

use crate::faulty::Fate;
use crate::setup::{Setup, create, run_id, success};

/// Run 1 is whole; of run 2 the version is missing.
async fn damaged(state: RunState) -> Memory {
    let mut setup = Setup::new().await;
    setup.engine.submit(create(1)).await.unwrap();
    setup.offer().await;
    let memory = setup.store.memory.clone();
    let mut row = memory.run(ProjectId::DEFAULT, run_id(1)).await.unwrap().unwrap();
    (row.id, row.version, row.state) = (run_id(2), VersionId(9), state);
    row.finished_at = state.is_terminal().then_some(Wall(1));
    let epoch: Epoch = memory.lead().await.unwrap();
    memory.commit(epoch, [Change::Run(Box::new(row))].into()).await.unwrap();
    memory
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_set_aside_and_others_go_on() {
    let mut setup = Setup::over(damaged(RunState::Running).await).await;
    setup.join().await;
    let row = setup.store.memory.run(ProjectId::DEFAULT, run_id(2)).await.unwrap().unwrap();
    let failure = row.failure.unwrap();
    assert_eq!((row.state, failure.kind), (RunState::Failed, FailureKind::Quarantined));
    assert!(failure.message.contains("version 9 of `w`"), "{}", failure.message);
    let attempt = setup.offer().await;
    assert_eq!(attempt.run, run_id(1));
    setup.engine.submit(success(attempt)).await.unwrap();
    assert_eq!(setup.state(run_id(1)).await, Some(RunState::Success));
}

#[tokio::test]
async fn a_run_that_is_over_and_cannot_be_read_is_not_opened_again() {
    let setup = Setup::over(damaged(RunState::Failed).await).await;
    let retry = Command::Retry {
        run: run_id(2),
        selection: RetrySelection::Failed,
        cancel_downstream: false,
        by: Actor::default(),
    };
    let refused = setup.engine.submit(Request::run(ProjectId::DEFAULT, retry)).await;
    let Err(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, RefusalCode::Conflict);
    assert!(refusal.message.contains("version 9 of `w`"), "{}", refusal.message);
    assert_eq!(setup.state(run_id(2)).await, Some(RunState::Failed));
}

/// A store whose reads fail five times each gets asked six times, later and later.
fn later_and_later(setup: &Setup) {
    let reads = std::mem::take(&mut *setup.store.reads.lock().unwrap());
    assert_eq!(reads.len(), 6);
    for (gap, tries) in reads.windows(2).zip(0..) {
        let least = Duration::from_millis(1 << tries);
        assert!(gap[1] - gap[0] >= least, "{:?} before try {}", gap[1] - gap[0], tries + 1);
    }
}

#[tokio::test]
async fn what_the_engine_reads_for_itself_is_read_less_and_less_often() {
    let config = Config {
        retry_min: Span::from_millis(1),
        retry_max: Span::from_millis(16),
        ..Config::default()
    };
    let mut setup = Setup::with_workflow(config).await;
    setup.engine.submit(create(1)).await.unwrap();
    setup.offer().await;
    let store = setup.store.clone();
    // A commit that is not done: the engine loads again, and its schedules too.
    store.reads.lock().unwrap().clear();
    store.unreadable.store(5, Ordering::SeqCst);
    store.next(&[Fate::NotDone]);
    setup.engine.submit(create(2)).await.unwrap_err();
    while store.reads.lock().unwrap().len() < 6 {
        tokio::task::yield_now().await;
    }
    later_and_later(&setup);
    // A run that the store refuses is loaded to be set aside.
    store.unreadable.store(5, Ordering::SeqCst);
    store.next(&[Fate::Rejected; 4]);
    setup.engine.submit(create(3)).await.unwrap_err();
    while store.reads.lock().unwrap().len() < 6 {
        tokio::task::yield_now().await;
    }
    later_and_later(&setup);
}
