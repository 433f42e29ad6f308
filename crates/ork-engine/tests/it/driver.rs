//! What the driver promises to those who ask.

use futures_util::FutureExt as _;
use ork_core::ids::{ProjectId, RunId};
use ork_core::run::{Command, FailureKind, RefusalCode, RunState};
use ork_core::time::Span;
use ork_core::value::{Data, Digest, Value};
use ork_engine::{Answer, Config, Error, Request};
use ork_store::{Page, RunFilter, Store as _};

use crate::faulty::Fate;
use crate::setup::{Setup, WORKER, create, key, run_id, success, success_with};

fn made(answer: Result<Answer, Error>) -> RunId {
    match answer {
        Ok(Answer::Created { run, .. }) => run,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_and_an_offer_leave_after_their_commit() {
    let mut setup = Setup::new().await;
    while setup.begun.try_recv().is_ok() {}
    let store = setup.store.clone();
    let held = store.held.write().await;
    let ticket = setup.engine.enqueue(create(1)).await.unwrap();
    let mut answer = std::pin::pin!(ticket.answer());
    assert!(setup.begun.recv().await.unwrap() > 0, "the commit is on its way");
    tokio::select! {
        biased;
        early = &mut answer => panic!("{early:?} before the commit"),
        () = tokio::task::yield_now() => {}
    }
    assert!(setup.seen.try_recv().is_err(), "nothing has left");
    assert_eq!(setup.state(run_id(1)).await, None);
    drop(held);
    assert_eq!(made(answer.await), run_id(1));
    assert_eq!(setup.state(run_id(1)).await, Some(RunState::Running));
    let attempt = setup.offer().await;
    setup.engine.submit(success(attempt)).await.unwrap();
    assert_eq!(setup.state(run_id(1)).await, Some(RunState::Success));
}

#[tokio::test]
async fn events_leave_in_the_order_of_their_commits() {
    let mut setup = Setup::new().await;
    for number in 1..=3 {
        setup.engine.submit(create(number)).await.unwrap();
        let attempt = setup.offer().await;
        setup.engine.submit(success(attempt)).await.unwrap();
    }
    setup.engine.stop();
    (&mut setup.task).await.unwrap();
    let streamed = setup.events();
    let feed = setup.store.memory.feed(Default::default(), 100).await.unwrap();
    assert_eq!(streamed, feed);
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_also_from_the_next_engine() {
    let setup = Setup::new().await;
    let first = setup.engine.submit(create(1).with_key(key("k", 1))).await;
    assert_eq!(made(first.clone()), run_id(1));
    let again = setup.engine.submit(create(2).with_key(key("k", 1))).await;
    assert_eq!(again, first);
    let other = setup.engine.submit(create(3).with_key(key("k", 2))).await;
    let Err(Error::Refused(refusal)) = other else { panic!("{other:?}") };
    assert_eq!(refusal.code, RefusalCode::KeyReused);
    setup.engine.stop();
    setup.task.await.unwrap();
    let next = Setup::over(setup.store.memory.clone()).await;
    assert_eq!(next.engine.submit(create(4).with_key(key("k", 1))).await, first);
    assert_eq!(next.state(run_id(4)).await, None);
}

#[tokio::test]
async fn fifty_clients_with_one_key_make_one_run() {
    let setup = Setup::new().await;
    let mut tickets = Vec::new();
    for number in 1..=50 {
        tickets.push(setup.engine.enqueue(create(number).with_key(key("k", 1))).await.unwrap());
    }
    for ticket in tickets {
        assert_eq!(made(ticket.answer().await), run_id(1));
    }
    let page = Page { limit: 100, cursor: None };
    let runs = setup.store.memory.runs(ProjectId::DEFAULT, &RunFilter::default(), &page).await;
    assert_eq!(runs.unwrap().items.len(), 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_read_back() {
    for (fate, repeated) in [(Fate::Done, run_id(1)), (Fate::NotDone, run_id(2))] {
        let mut setup = Setup::new().await;
        setup.store.next(&[fate]);
        let cut = setup.engine.submit(create(1).with_key(key("k", 1))).await;
        assert!(matches!(cut, Err(Error::Unavailable(_))), "{fate:?}: {cut:?}");
        let again = setup.engine.submit(create(2).with_key(key("k", 1))).await;
        assert_eq!(made(again), repeated, "{fate:?}");
        let attempt = setup.offer().await;
        assert_eq!(attempt.run, repeated, "{fate:?}: its worker is still known");
        setup.engine.submit(success(attempt)).await.unwrap();
        assert_eq!(setup.state(repeated).await, Some(RunState::Success), "{fate:?}");
    }
}

#[tokio::test]
async fn a_busy_store_is_asked_again() {
    let setup = Setup::new().await;
    setup.store.next(&[Fate::Retryable, Fate::Retryable]);
    let answer = setup.engine.submit(create(1)).await;
    assert_eq!(made(answer), run_id(1));
}

#[tokio::test]
async fn another_leader_is_noticed_and_nothing_is_written_under_the_old_epoch() {
    let setup = Setup::new().await;
    setup.store.memory.lead().await.unwrap();
    let fenced = setup.engine.submit(create(1)).await;
    assert!(matches!(fenced, Err(Error::Unavailable(_))), "{fenced:?}");
    assert_eq!(setup.state(run_id(1)).await, None);
    let led_again = setup.engine.submit(create(1)).await;
    assert_eq!(made(led_again), run_id(1));
}

#[tokio::test]
async fn what_the_store_refuses_three_times_is_told_and_others_go_on() {
    let setup = Setup::new().await;
    setup.store.next(&[Fate::Rejected; 4]);
    let refused = setup.engine.submit(create(1)).await;
    assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
    let other = setup.engine.submit(create(2)).await;
    assert_eq!(made(other), run_id(2));
    assert_eq!(setup.state(run_id(1)).await, None);
}

#[tokio::test]
async fn a_stop_drains_the_queue_and_closes_the_door() {
    let setup = Setup::new().await;
    let mut tickets = Vec::new();
    for number in 1..=100 {
        tickets.push(setup.engine.enqueue(create(number)).await.unwrap());
    }
    setup.engine.stop();
    setup.task.await.unwrap();
    for (ticket, number) in tickets.into_iter().zip(1..) {
        assert_eq!(made(ticket.answer().await), run_id(number));
        let row = setup.store.memory.run(ProjectId::DEFAULT, run_id(number)).await.unwrap();
        assert!(row.is_some());
    }
    assert_eq!(setup.engine.submit(create(101)).await, Err(Error::Stopped));
}

#[tokio::test]
async fn the_last_report_again_gets_the_same_answer_after_its_run_is_over() {
    let mut setup = Setup::new().await;
    setup.engine.submit(create(1)).await.unwrap();
    let attempt = setup.offer().await;
    setup.engine.submit(success(attempt.clone())).await.unwrap();
    assert_eq!(setup.state(run_id(1)).await, Some(RunState::Success));
    assert_eq!(setup.engine.submit(success(attempt.clone())).await, Ok(Answer::Done));
    let next = Setup::over(setup.store.memory.clone()).await;
    assert_eq!(next.engine.submit(success(attempt.clone())).await, Ok(Answer::Done));
    let mut other = attempt;
    other.token.0 += 1;
    let stale = next.engine.submit(success(other)).await;
    let Err(Error::Refused(refusal)) = stale else { panic!("{stale:?}") };
    assert_eq!(refusal.code, RefusalCode::StaleLease);
}

#[tokio::test]
async fn a_beat_of_a_worker_that_is_not_known_is_refused() {
    let setup = Setup::new().await;
    let beat = |worker: &str| {
        Request::worker(Command::WorkerBeat { worker: worker.into(), number: 1, held: Vec::new() })
    };
    assert!(matches!(setup.engine.submit(beat(WORKER)).await, Ok(Answer::Beat { .. })));
    let refused = setup.engine.submit(beat("w2")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

fn quick() -> Config {
    let span = Span::from_millis(50);
    Config { patience: span, give_up: span, ..Config::default() }
}

#[tokio::test]
async fn while_the_store_does_not_answer_requests_are_turned_away_and_questions_answered() {
    let setup = Setup::with_workflow(quick()).await;
    let store = setup.store.clone();
    let held = store.held.write().await;
    let late = setup.engine.submit(create(1).with_key(key("k", 1))).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    assert!(setup.engine.inspect(|machine| machine.holds(run_id(1))).await.unwrap());
    let mut waiting = Vec::new();
    let full = loop {
        let number = waiting.len() as u128 + 2;
        match setup.engine.submit(create(number)).now_or_never() {
            Some(answer) => break answer,
            None => waiting.push(number),
        }
    };
    assert!(matches!(&full, Err(Error::Unavailable(why)) if why.contains("wait already")));
    assert_eq!(waiting.len(), 10_000, "no more than the queue holds");
    drop(held);
    let again = setup.engine.enqueue(create(3).with_key(key("k", 1))).await.unwrap();
    assert_eq!(made(again.answer().await), run_id(1), "its key tells what became of it");
}

#[tokio::test]
async fn a_stop_gives_up_on_a_store_that_does_not_answer() {
    for busy in [false, true] {
        let setup = Setup::with_workflow(quick()).await;
        let store = setup.store.clone();
        let held = store.held.write().await;
        if busy {
            setup.store.next(&[Fate::Retryable; 10_000]);
        }
        let ticket = setup.engine.enqueue(create(1)).await.unwrap();
        let held = if busy { None } else { Some(held) };
        setup.engine.stop();
        setup.task.await.unwrap();
        let answer = ticket.answer().await;
        let lost = matches!(answer, Err(Error::Unavailable(_) | Error::Stopped));
        assert!(lost, "{answer:?}");
        drop(held);
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_kept_ends_its_run_alone() {
    let mut setup = Setup::new().await;
    let large = Value::String("x".repeat(100_000));
    let digest = Digest::of(&serde_json::to_vec(&large).unwrap());
    *setup.blobs.refused.lock().unwrap() = Some(digest);
    setup.engine.submit(create(1)).await.unwrap();
    let attempt = setup.offer().await;
    setup.engine.submit(create(2)).await.unwrap();
    let report = success_with(attempt.clone(), Some(Data::Inline(large)));
    let answer = setup.engine.submit(report).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    // What is left of the attempt holds the one slot until its end is told.
    while setup.state(run_id(1)).await != Some(RunState::Failed) {
        setup.begun.recv().await.unwrap();
        tokio::task::yield_now().await;
    }
    setup.engine.submit(success(attempt)).await.unwrap();
    assert_eq!(setup.offer().await.run, run_id(2));
    let row = setup.store.memory.run(ProjectId::DEFAULT, run_id(1)).await.unwrap().unwrap();
    assert_eq!(row.failure.unwrap().kind, FailureKind::Quarantined);
}
