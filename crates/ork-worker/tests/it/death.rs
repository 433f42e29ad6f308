//! Deaths of the worker and of its spawner.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use ork_api::worker::FromWorker;
use ork_core::ids::WorkerId;
use ork_core::run::{Departure, FailureKind, Outcome, Report};
use ork_core::time::Span;
use ork_worker::{Ended, spawner};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::bed::{PATIENCE, failure, processes_with, unique_nap};
use crate::conformance::KINDS;

fn watch(nap: &str) -> Vec<OwnedFd> {
    let pids = processes_with(nap).into_iter().filter_map(Pid::from_raw);
    pids.map(|pid| pidfd_open(pid, PidfdFlags::empty()).unwrap()).collect()
}

/// Waits until each of the processes has ended.
fn wait_for_end(watched: &[OwnedFd]) {
    let limit = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    for fd in watched {
        let ready = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ready, 1, "a process lives on");
    }
}

/// Not a test: the worker that is killed by [`a_killed_worker_takes_its_trees_along`].
#[tokio::test]
#[ignore = "run by another test"]
async fn body() {
    let Ok(nap) = std::env::var("ORK_TEST_NAP") else { return };
    let kind = &KINDS[std::env::var("ORK_TEST_KIND").unwrap().parse::<usize>().unwrap()];
    let bed = kind.bed();
    let mut assignment = bed.assignment(kind.name, (kind.spec)("stopped_with_daemons", 0));
    assignment.env.insert("nap".into(), nap);
    let attempt = bed.assign(assignment);
    bed.line(&attempt, "ready").await;
    println!("\nall is up");
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_worker_takes_its_trees_along() {
    for kind in 0..KINDS.len() {
        let nap = unique_nap();
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "death::body", "--ignored", "--nocapture"])
            .env("ORK_TEST_NAP", &nap)
            .env("ORK_TEST_KIND", kind.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(worker.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line == "all is up"));
        let watched = watch(&nap);
        assert!(watched.len() >= 3);
        worker.kill().unwrap();
        wait_for_end(&watched);
        worker.wait().unwrap();
        assert_eq!(processes_with(&nap), [] as [i32; 0]);
    }
}

/// The spawner of a worker that this process runs.
fn spawner_pid() -> Pid {
    let me = std::process::id();
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(me)
    };
    let pid = processes_with("--ork-spawner").into_iter().find(is_child).unwrap();
    Pid::from_raw(pid).unwrap()
}

#[tokio::test]
async fn a_killed_spawner_ends_its_worker_and_its_trees_are_found_by_their_marks() {
    for kind in KINDS {
        let bed = kind.bed();
        let nap = unique_nap();
        let mut assignment = bed.assignment(kind.name, (kind.spec)("stopped_with_daemons", 0));
        assignment.env.insert("nap".into(), nap.clone());
        let attempt = bed.assign(assignment);
        bed.line(&attempt, "ready").await;
        let watched = watch(&nap);
        assert!(watched.len() >= 3);
        kill_process(spawner_pid(), Signal::KILL).unwrap();
        bed.until("a goodbye", |server| {
            let reports = server.reports.lock().unwrap();
            reports.iter().any(|m| matches!(m, FromWorker::Goodbye { .. })).then_some(())
        })
        .await;
        assert_eq!(processes_with(&nap), [] as [i32; 0]);
        let reports = bed.server.reports_of(&attempt);
        assert!(!reports.iter().any(|r| matches!(r, Report::Finished(_))), "{reports:?}");
    }
}

#[tokio::test]
async fn an_attempt_in_which_the_worker_panics_fails_and_the_worker_goes_on() {
    for kind in KINDS {
        let bed = kind.bed();
        let nap = unique_nap();
        let mut assignment = bed.assignment(kind.name, (kind.spec)("stopped_with_daemons", 0));
        assignment.env.insert("nap".into(), nap.clone());
        *bed.server.panics_in.lock().unwrap() = "logs";
        let failed = failure(&bed.run(assignment).await);
        assert_eq!(failed.kind, FailureKind::Failure, "{failed:?}");
        let message = "the worker panicked in this attempt; this is a bug of Ork: ";
        assert!(failed.message.starts_with(message), "{failed:?}");
        assert!(failed.message.contains("told to panic in logs"), "{failed:?}");
        assert_eq!(processes_with(&nap), [] as [i32; 0]);
        *bed.server.panics_in.lock().unwrap() = "";
        let fine = bed.run(bed.assignment(kind.name, (kind.spec)("fine", 0))).await;
        assert!(matches!(fine.outcome, Outcome::Success { .. }), "{fine:?}");
    }
}

#[tokio::test]
async fn a_worker_that_panics_stops_what_it_has_and_says_goodbye() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let nap = unique_nap();
        let mut assignment = bed.assignment(kind.name, (kind.spec)("stopped_with_daemons", 0));
        assignment.env.insert("nap".into(), nap.clone());
        let attempt = bed.assign(assignment);
        bed.line(&attempt, "ready").await;
        assert!(processes_with(&nap).len() >= 3);
        *bed.server.panics_in.lock().unwrap() = "recv";
        bed.stop(&attempt, Span::ZERO);
        let ended = tokio::time::timeout(PATIENCE, &mut bed.ended).await.unwrap();
        assert_eq!(ended.unwrap(), Ended::Panicked);
        assert_eq!(processes_with(&nap), [] as [i32; 0]);
        let reports = bed.server.reports_of(&attempt);
        assert!(!reports.iter().any(|r| matches!(r, Report::Finished(_))), "{reports:?}");
        let said = bed.server.reports.lock().unwrap();
        let last = said.last();
        let broken = |m: &FromWorker| match m {
            FromWorker::Goodbye { departure, .. } => *departure == Departure::Broken,
            _ => false,
        };
        assert!(last.is_some_and(broken), "{last:?}");
    }
}

#[tokio::test]
async fn trees_of_boots_that_never_were_are_none() {
    let boots: Vec<WorkerId> = vec!["nobody".into()];
    spawner::stop_trees_of(&boots, Duration::from_secs(1)).await.unwrap();
}
