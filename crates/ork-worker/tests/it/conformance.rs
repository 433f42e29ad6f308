//! What every executor has to get right, whatever a task does.

use indexmap::IndexMap;
use ork_api::worker::{FromWorker, ToWorker};
use ork_core::ids::AttemptRef;
use ork_core::logs::{Level, Stream};
use ork_core::run::{Assignment, FailureKind, Outcome, Report};
use ork_core::time::Span;
use ork_core::types::Type;
use ork_core::value::{Data, Digest};
use serde_json::json;

use crate::bed::{Bed, failure, output, peak_memory, processes_with, unique_nap};

/// One executor's way to do the tasks of the suite.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub files: &'static [(&'static str, &'static str)],
    /// A task of the suite; its argument is a number.
    pub spec: fn(&str, u64) -> serde_json::Value,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "run",
        files: &[("tasks.sh", include_str!("tasks.sh"))],
        spec: |task, n| json!({"argv": ["bash", "tasks.sh", task, n.to_string()], "output": "file"}),
    },
    Kind {
        name: "python",
        files: &[("tasks.py", include_str!("tasks.py")), ("tasks.sh", include_str!("tasks.sh"))],
        // The argument is a name of its own: `flood_1000`.
        spec: |task, n| json!({"file": "tasks.py", "function": format!("{task}_{n}")}),
    },
];

impl Kind {
    pub(crate) fn bed(&self) -> Bed {
        let bed = Bed::new();
        self.lay(&bed);
        bed
    }

    fn lay(&self, bed: &Bed) {
        self.files.iter().for_each(|(name, content)| bed.file(name, content));
    }

    fn task(&self, bed: &Bed, task: &str, n: u64) -> Assignment {
        bed.assignment(self.name, (self.spec)(task, n))
    }

    /// A task whose processes all have a unique argument, which comes back too.
    fn napping(&self, bed: &Bed, task: &str) -> (Assignment, String) {
        let nap = unique_nap();
        let mut assignment = self.task(bed, task, 0);
        assignment.env.insert("nap".into(), nap.clone());
        (assignment, nap)
    }
}

fn reports(bed: &Bed, attempt: &AttemptRef) -> Vec<&'static str> {
    let name = |report: &Report| match report {
        Report::Confirmed => "confirmed",
        Report::Started => "started",
        Report::Beat => "beat",
        Report::Finished(_) => "finished",
    };
    bed.server.reports_of(attempt).iter().map(name).collect()
}

#[tokio::test]
async fn a_task_is_confirmed_started_and_finished_with_its_lines() {
    for kind in KINDS {
        let bed = kind.bed();
        let attempt = bed.assign(kind.task(&bed, "fine", 0));
        let finished = bed.finished(&attempt).await;
        assert!(matches!(finished.outcome, Outcome::Success { .. }), "{finished:?}");
        assert_eq!(reports(&bed, &attempt), ["confirmed", "started", "finished"], "{}", kind.name);
        let mut lines: Vec<_> = bed.server.lines_of(&attempt);
        lines.sort_by_key(|line| line.text.clone());
        let lines: Vec<_> = lines.iter().map(|l| (l.stream, l.level, l.text.as_str())).collect();
        let expected =
            [(Stream::Stdout, Level::Info, "hello"), (Stream::Stderr, Level::Info, "oops")];
        assert_eq!(lines, expected, "{}", kind.name);
        assert_eq!((finished.logs.lines, finished.logs.bytes), (2, 11));
    }
}

#[tokio::test]
async fn an_output_is_checked_against_its_type() {
    for kind in KINDS {
        let bed = kind.bed();
        let ty = |rows: Type| {
            let fields = [("rows".to_owned(), rows), ("name".to_owned(), Type::Str)];
            Some(Type::object(IndexMap::from(fields)))
        };
        let mut fits = kind.task(&bed, "value", 0);
        fits.output_type = ty(Type::Int);
        assert_eq!(output(&bed.run(fits).await), json!({"rows": 3, "name": "é"}), "{}", kind.name);
        for (function, output) in [("value", Type::Bool), ("nothing", Type::Int)] {
            let mut unfit = kind.task(&bed, function, 0);
            unfit.output_type = ty(output);
            let failure = failure(&bed.run(unfit).await);
            assert_eq!(failure.kind, FailureKind::OutputInvalid, "{failure:?}");
        }
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    for kind in KINDS {
        let bed = kind.bed();
        let three = failure(&bed.run(kind.task(&bed, "exit_three", 0)).await);
        assert_eq!((three.kind, three.exit_code), (FailureKind::Failure, Some(3)), "{three:?}");
        assert!(three.message.contains("code 3"), "{three:?}");
        assert!(three.details.is_some_and(|details| details.contains("last words")));
        let killed = failure(&bed.run(kind.task(&bed, "killed", 0)).await);
        assert_eq!((killed.kind, killed.signal), (FailureKind::Signal, Some(9)), "{killed:?}");
    }
}

#[tokio::test]
async fn a_task_sees_its_own_environment_and_nothing_else() {
    for kind in KINDS {
        let bed = kind.bed();
        let mut assignment = kind.task(&bed, "environment", 0);
        assignment.env.insert("MINE".into(), "1".into());
        assignment.env.insert("ORK_TASK".into(), "forged".into());
        let attempt = bed.assign(assignment);
        bed.finished(&attempt).await;
        let names: Vec<String> = bed
            .server
            .lines_of(&attempt)
            .iter()
            .filter_map(|line| line.text.split_once('=').map(|(name, _)| name.to_owned()))
            .collect();
        for name in ["MINE", "PATH", "ORK_RUN_ID", "ORK_INPUT_JSON", "ORK_IDEMPOTENCY_KEY"] {
            assert!(names.iter().any(|n| n == name), "{}: no {name} in {names:?}", kind.name);
        }
        assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
        assert_eq!(bed.line(&attempt, "ORK_TASK=").await, "ORK_TASK=task");
    }
}

#[tokio::test]
async fn what_a_task_leaves_behind_is_gone_when_it_is_reported() {
    for kind in KINDS {
        let bed = kind.bed();
        for task in ["grandchild", "daemon", "naked_daemon"] {
            let (assignment, nap) = kind.napping(&bed, task);
            let attempt = bed.assign(assignment);
            let finished = bed.finished(&attempt).await;
            assert_eq!(processes_with(&nap), [] as [i32; 0], "{} {task}", kind.name);
            assert!(matches!(finished.outcome, Outcome::Success { .. }), "{task}: {finished:?}");
            bed.line(&attempt, "killed").await;
        }
    }
}

#[tokio::test]
async fn a_daemon_is_not_taken_for_another_attempts() {
    for kind in KINDS {
        let bed = kind.bed();
        let (long, long_nap) = kind.napping(&bed, "stopped_with_daemons");
        let long = bed.assign(long);
        bed.line(&long, "ready").await;
        let (short, nap) = kind.napping(&bed, "naked_daemon");
        bed.run(short).await;
        assert_eq!(processes_with(&nap), [] as [i32; 0], "{}", kind.name);
        assert!(processes_with(&long_nap).len() >= 3, "{}", kind.name);
        bed.stop(&long, Span::ZERO);
        bed.finished(&long).await;
        assert_eq!(processes_with(&long_nap), [] as [i32; 0], "{}", kind.name);
    }
}

#[tokio::test]
async fn a_stop_ends_the_whole_tree_whatever_it_does() {
    for kind in KINDS {
        let bed = kind.bed();
        for task in ["sleep", "stubborn", "stopped_with_daemons", "brood"] {
            let (assignment, nap) = kind.napping(&bed, task);
            let attempt = bed.assign(assignment);
            bed.line(&attempt, "ready").await;
            bed.stop(&attempt, Span::from_millis(100));
            let finished = bed.finished(&attempt).await;
            assert_eq!(finished.outcome, Outcome::Stopped, "{} {task}", kind.name);
            assert_eq!(processes_with(&nap), [] as [i32; 0], "{} {task}", kind.name);
        }
    }
}

#[tokio::test]
async fn a_stop_is_polite_first() {
    for kind in KINDS {
        let bed = kind.bed();
        let (assignment, nap) = kind.napping(&bed, "polite");
        let attempt = bed.assign(assignment);
        bed.line(&attempt, "ready").await;
        bed.stop(&attempt, Span::from_secs(600));
        assert_eq!(bed.finished(&attempt).await.outcome, Outcome::Stopped);
        bed.line(&attempt, "bye").await;
        assert_eq!(processes_with(&nap), [] as [i32; 0], "{}", kind.name);
    }
}

#[tokio::test]
async fn a_fenced_attempt_is_killed_and_not_reported() {
    for kind in KINDS {
        let bed = kind.bed();
        let (assignment, nap) = kind.napping(&bed, "stubborn");
        let attempt = bed.assign(assignment);
        bed.line(&attempt, "ready").await;
        bed.send(ToWorker::Fence { attempt: attempt.clone() });
        // What the worker does not have any more it reports as stopped: then the tree is gone.
        while !reports(&bed, &attempt).contains(&"finished") {
            bed.stop(&attempt, Span::ZERO);
            bed.run(kind.task(&bed, "nothing", 0)).await;
        }
        assert_eq!(processes_with(&nap), [] as [i32; 0], "{}", kind.name);
        assert_eq!(bed.finished(&attempt).await.logs.lines, 0, "{}", kind.name);
    }
}

#[tokio::test]
async fn an_offer_that_is_repeated_is_done_once() {
    for kind in KINDS {
        let bed = kind.bed();
        let assignment = kind.task(&bed, "fine", 0);
        let attempt = bed.assign(assignment.clone());
        bed.finished(&attempt).await;
        bed.assign(assignment);
        bed.run(kind.task(&bed, "nothing", 0)).await;
        let expected = ["confirmed", "started", "finished", "finished"];
        assert_eq!(reports(&bed, &attempt), expected, "{}", kind.name);
        assert_eq!(bed.server.lines_of(&attempt).len(), 2, "{}", kind.name);
    }
}

#[tokio::test]
async fn a_stop_for_what_is_not_here_is_answered() {
    let bed = Bed::new();
    let attempt = bed.assignment("run", json!({})).attempt;
    bed.stop(&attempt, Span::ZERO);
    assert_eq!(bed.finished(&attempt).await.outcome, Outcome::Stopped);
}

#[tokio::test]
async fn lines_are_text_with_a_level() {
    for kind in KINDS {
        let bed = kind.bed();
        let attempt = bed.assign(kind.task(&bed, "binary", 0));
        bed.finished(&attempt).await;
        let lines = bed.server.lines_of(&attempt);
        let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(lines, ["a\u{fffd}\u{fffd}b", "", "\0x"], "{}", kind.name);
        let attempt = bed.assign(kind.task(&bed, "structured", 0));
        bed.finished(&attempt).await;
        let levels: Vec<_> = bed.server.lines_of(&attempt).iter().map(|l| l.level).collect();
        let expected = [Level::Warn, Level::Error, Level::Info, Level::Info];
        assert_eq!(levels, expected, "{}", kind.name);
    }
}

/// A size that tells: 1 GiB with `ORK_TEST_FULL`, else less.
fn much() -> u64 {
    if std::env::var_os("ORK_TEST_FULL").is_some() { 1 << 30 } else { 96 << 20 }
}

#[tokio::test]
async fn much_output_does_not_grow_memory() {
    for kind in KINDS {
        let bed = Bed::with(false, |_| ());
        kind.lay(&bed);
        bed.run(kind.task(&bed, "fine", 0)).await;
        let before = peak_memory();
        let finished = bed.run(kind.task(&bed, "flood", much())).await;
        assert!(matches!(finished.outcome, Outcome::Success { .. }), "{finished:?}");
        assert_eq!((finished.logs.bytes, finished.logs.dropped_bytes), (much(), 0));
        let grown = peak_memory() - before;
        assert!(grown < 64 << 20, "{}: memory grew by {grown}", kind.name);
    }
}

#[tokio::test]
async fn one_endless_line_is_cut_and_the_rest_counted() {
    for kind in KINDS {
        let bed = kind.bed();
        let before = peak_memory();
        let attempt = bed.assign(kind.task(&bed, "one_line", much()));
        let finished = bed.finished(&attempt).await;
        assert!(peak_memory() - before < 64 << 20, "{}", kind.name);
        let lines = bed.server.lines_of(&attempt);
        assert_eq!((lines.len(), lines[0].text.len()), (2, 65_536), "{}", kind.name);
        assert_eq!((lines[0].cut, lines[1].text.as_str()), (much() - 65_536, "after"));
        assert_eq!(finished.logs.dropped_bytes, much() - 65_536, "{}", kind.name);
    }
}

#[tokio::test]
async fn inputs_by_reference_are_loaded_and_checked() {
    for kind in KINDS {
        let bed = kind.bed();
        let blob = json!(["x".repeat(40_000), "y".repeat(40_000)]);
        let content = bytes::Bytes::from(blob.to_string());
        let digest = Digest::of(&content);
        let data = Data::Blob { digest, size: content.len() as u64 };
        let mut lost = kind.task(&bed, "nothing", 0);
        lost.inputs.insert("big".into(), data.clone());
        let failure = failure(&bed.run(lost).await);
        assert_eq!(failure.kind, FailureKind::NotStarted, "{failure:?}");
        assert!(failure.message.contains("`big`"), "{failure:?}");
        bed.server.blobs.lock().unwrap().insert(digest, content);
        let mut found = kind.task(&bed, "nothing", 0);
        found.inputs.insert("big".into(), data.clone());
        if kind.name == "run" {
            let outcome = bed.run(found.clone()).await.outcome;
            assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
        }
        let mut unfit = kind.task(&bed, "nothing", 0);
        unfit.inputs.insert("big".into(), data);
        unfit.input_type = Some(Type::object(IndexMap::from([("big".into(), Type::Int)])));
        let failure = crate::bed::failure(&bed.run(unfit).await);
        assert_eq!(failure.kind, FailureKind::InputInvalid, "{failure:?}");
    }
}

#[tokio::test]
async fn a_worker_that_leaves_waits_then_kills_and_reports_no_more() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let quick = bed.assign(kind.task(&bed, "fine", 0));
        let (long, nap) = kind.napping(&bed, "stubborn");
        let long = bed.assign(long);
        bed.line(&long, "ready").await;
        bed.leave(std::time::Duration::from_millis(300)).await;
        assert_eq!(processes_with(&nap), [] as [i32; 0], "{}", kind.name);
        assert_eq!(reports(&bed, &quick).last(), Some(&"finished"), "{}", kind.name);
        assert_eq!(reports(&bed, &long).last(), Some(&"started"), "{}", kind.name);
        let last = bed.server.reports.lock().unwrap().last().cloned();
        assert!(matches!(last, Some(FromWorker::Goodbye { .. })), "{last:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_the_workers_fault_and_passes() {
    for kind in KINDS {
        let scratch = tempfile::tempdir().unwrap();
        let bed = Bed::with(true, |config| scratch.path().clone_into(&mut config.dirs.scratch));
        kind.lay(&bed);
        let task = || {
            let mut task = kind.task(&bed, "fine", 0);
            task.inputs.insert("n".into(), Data::Inline(json!(1)));
            task.inputs.retain(|_, _| kind.name == "run");
            task
        };
        // Whatever is written there finds no room, as on a disk that is full.
        let full = |name: &str| {
            let place = scratch.path().join(name);
            std::os::unix::fs::symlink("/dev/full", &place).unwrap();
            place
        };
        let common = full("no-inputs.json");
        let failed = failure(&bed.run(task()).await);
        assert_eq!(failed.kind, FailureKind::WorkerFailed, "{failed:?}");
        assert!(failed.message.contains("No space left on device"), "{failed:?}");
        std::fs::remove_file(common).unwrap();
        if kind.name == "run" {
            let task = task();
            full(&format!("{}.input.json", task.attempt.token));
            let failed = failure(&bed.run(task).await);
            assert_eq!(failed.kind, FailureKind::WorkerFailed, "{failed:?}");
            assert!(failed.message.starts_with("the inputs cannot be written: No space"));
        }
        let outcome = bed.run(task()).await.outcome;
        assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
    }
}
