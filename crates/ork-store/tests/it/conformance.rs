//! What every member of the store must do. A store without this suite does not exist.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::difference::described;
use ork_core::ids::{BackfillId, Epoch, ProjectId, RunId};
use ork_core::plan::{
    Catchup, Concurrency, Metadata, OnLimit, Schedule, Trigger, WebhookAuth, When,
};
use ork_core::rows::{
    Actor, AttemptRow, BackfillRow, BackfillState, Change, CodeRef, FiringRow, Happened,
    HistoryRow, HookSecret, Order, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId,
    WorkflowRow,
};
use ork_core::run::{Failure, FailureKind, RunState, TaskState};
use ork_core::time::{Span, Wall};
use ork_core::types::Type;
use ork_core::value::{DETAIL_LIMIT, Data, Digest, INLINE_LIMIT, Value};
use ork_store::{
    Cached, CommitSeq, DRAFT_GRACE, MAX_CHANGES, MAX_PAGE, Page, Retention, RunFilter, Store,
    StoreError,
};
use serde_json::json;

use crate::rows::{
    IntoChange, PROJECT, answer, attempt, cache_key, ended, event, failed, happened, in_state,
    pause, pool, run, run_id, success, task, version, workflow,
};

/// One test of the suite for each member.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(std::sync::Arc::new(ork_store::Memory::new())).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                let held = ork_store::DataDir::open(dir.path()).unwrap();
                super::$case(std::sync::Arc::new(ork_store::Sqlite::open(held).unwrap())).await;
            })*
        }
    };
}

conformance!(
    epochs_grow_and_fence,
    commits_are_counted_without_gaps,
    rows_come_back_as_they_were,
    a_commit_is_all_or_nothing,
    contradictions_are_refused,
    large_payloads_are_refused,
    a_run_stays_what_it_is,
    active_runs_load_whole,
    runs_are_listed_newest_first,
    runs_are_filtered,
    tasks_are_listed_by_ordinal,
    attempts_are_listed_by_number,
    events_follow_their_run_and_the_feed_their_commit,
    workflows_and_versions,
    answers_are_kept,
    projects_are_apart,
    limits_and_cursors_are_checked,
    prune_by_age_and_count,
    prune_removes_all_that_belongs,
    prune_drafts_and_answers,
    schedules_and_their_ticks,
    triggers_and_their_firings,
    the_history_of_a_workflow_is_numbered_and_kept,
    deleted_workflows_are_not_listed,
    backfills_are_listed_newest_first,
    blobs_in_use_are_known,
    pauses_are_kept,
    pools_are_kept_until_nothing_is_said_of_them,
    limits_of_workflows_are_loaded,
    successes_are_found_by_their_key_and_the_last_of_a_task,
);

type Any = Arc<dyn Store>;

async fn put(store: &Any, epoch: Epoch, changes: Vec<Change>) -> CommitSeq {
    store.commit(epoch, changes.into()).await.unwrap()
}

async fn refused(store: &Any, epoch: Epoch, changes: Vec<Change>) -> String {
    let before = store.last_commit().await.unwrap();
    let error = store.commit(epoch, changes.into()).await.unwrap_err();
    assert_eq!(store.last_commit().await.unwrap(), before, "a refused commit is not counted");
    match error {
        StoreError::Rejected(message) => message,
        other => panic!("not refused but {other:?}"),
    }
}

fn first(limit: usize) -> Page {
    Page { limit, cursor: None }
}

/// All parts of a list, asked for `$limit` at a time.
macro_rules! collect {
    ($limit:expr, |$page:ident| $call:expr) => {{
        let mut page = first($limit);
        let mut all = Vec::new();
        loop {
            let $page = &page;
            let part = $call.await.unwrap();
            assert!(part.items.len() <= $limit);
            all.extend(part.items);
            match part.next {
                Some(next) => page.cursor = Some(next),
                None => break all,
            }
        }
    }};
}

async fn epochs_grow_and_fence(store: Any) {
    let old = store.lead().await.unwrap();
    let new = store.lead().await.unwrap();
    assert!(new > old && old > Epoch(0));
    let fenced = store.commit(old, vec![run(1).change()].into()).await;
    assert_eq!(fenced, Err(StoreError::Fenced { ours: old }));
    let retention =
        Retention { finished_before: None, keep_per_workflow: None, batch: 1, now: Wall(0) };
    assert_eq!(store.prune(old, &retention).await, Err(StoreError::Fenced { ours: old }));
    assert_eq!(store.last_commit().await.unwrap(), CommitSeq(0));
    assert_eq!(put(&store, new, vec![run(1).change()]).await, CommitSeq(1));
}

async fn commits_are_counted_without_gaps(store: Any) {
    let epoch = store.lead().await.unwrap();
    for n in 1..=5 {
        assert_eq!(put(&store, epoch, vec![event(1, n).change()]).await, CommitSeq(n));
    }
    refused(&store, epoch, vec![event(1, 5).change()]).await;
    let epoch = store.lead().await.unwrap();
    assert_eq!(put(&store, epoch, vec![event(1, 6).change()]).await, CommitSeq(6));
    assert_eq!(store.last_commit().await.unwrap(), CommitSeq(6));
}

async fn rows_come_back_as_they_were(store: Any) {
    let epoch = store.lead().await.unwrap();
    let mut full = in_state(run(1), RunState::Failed, 9);
    full.started_at = Some(Wall(-5));
    full.run_attempt = 3;
    full.failure = Some(Failure {
        kind: FailureKind::Signal,
        message: "killed".into(),
        exit_code: Some(-1),
        signal: Some(9),
        details: Some("line\nline".into()),
    });
    full.output = Some(Data::Blob { digest: Digest::of(b"x"), size: 1 << 40 });
    full.detail = json!({"a": [1, 2.5, null, "\u{0}"]});
    let mut whole = ended(task(1, "region[2]/convert[acme]", 4), TaskState::UpstreamFailed);
    whole.output = Some(Data::Inline(json!([1, {"b": i64::MIN}, 1e-300])));
    whole.failure.clone_from(&full.failure);
    let bare = task(1, "bare", 0);
    let bare = TaskRow { inputs: None, queued_at: None, ..bare };
    let changes = vec![
        full.clone().change(),
        whole.clone().change(),
        bare.clone().change(),
        failed(attempt(1, "bare", 1)).change(),
        attempt(1, "bare", 2).change(),
        event(1, 1).change(),
    ];
    put(&store, epoch, changes).await;
    assert_eq!(store.run(PROJECT, run_id(1)).await.unwrap(), Some(full));
    assert_eq!(store.task(PROJECT, run_id(1), &whole.path).await.unwrap(), Some(whole));
    assert_eq!(store.task(PROJECT, run_id(1), &bare.path).await.unwrap(), Some(bare.clone()));
    let attempts = store.attempts(PROJECT, run_id(1), &bare.path, &first(9)).await.unwrap();
    assert_eq!(attempts.items, [failed(attempt(1, "bare", 1)), attempt(1, "bare", 2)]);
    let events = store.events(PROJECT, run_id(1), 0, 9).await.unwrap();
    assert_eq!(*events[0].event, event(1, 1));

    assert_eq!(store.run(PROJECT, run_id(2)).await.unwrap(), None);
    assert_eq!(store.task(PROJECT, run_id(1), &"none".into()).await.unwrap(), None);
    assert_eq!(store.workflow(PROJECT, "none").await.unwrap(), None);
    assert_eq!(store.version(PROJECT, "none", VersionId(1)).await.unwrap(), None);
    assert_eq!(store.answer(PROJECT, "none").await.unwrap(), None);
    assert_eq!(store.load_run(PROJECT, run_id(2)).await.unwrap(), None);

    let moved = TaskRow { ordinal: 7, attempt: 1, ..bare };
    put(&store, epoch, vec![moved.clone().change()]).await;
    assert_eq!(store.task(PROJECT, run_id(1), &moved.path).await.unwrap(), Some(moved));
}

async fn a_commit_is_all_or_nothing(store: Any) {
    let epoch = store.lead().await.unwrap();
    put(&store, epoch, vec![run(1).change(), event(1, 1).change()]).await;
    let changes = vec![
        run(2).change(),
        task(2, "extract", 0).change(),
        workflow("etl").change(),
        event(1, 1).change(),
    ];
    let message = refused(&store, epoch, changes).await;
    assert!(message.contains("event 1"), "{message}");
    assert_eq!(store.run(PROJECT, run_id(2)).await.unwrap(), None);
    assert_eq!(store.task(PROJECT, run_id(2), &"extract".into()).await.unwrap(), None);
    assert_eq!(store.workflow(PROJECT, "etl").await.unwrap(), None);
    let twice = vec![event(1, 2).change(), event(1, 2).change()];
    refused(&store, epoch, twice).await;
    let many = (0..=MAX_CHANGES as u64).map(|n| event(1, n + 2).change()).collect();
    let message = refused(&store, epoch, many).await;
    assert!(message.contains("65536 is the most"), "{message}");
    let most = (0..MAX_CHANGES as u64).map(|n| event(1, n + 2).change()).collect();
    put(&store, epoch, most).await;
}

async fn contradictions_are_refused(store: Any) {
    let epoch = store.lead().await.unwrap();
    let mut open = run(1);
    open.finished_at = Some(Wall(1));
    let mut ended_run = run(1);
    ended_run.state = RunState::Success;
    let mut zero = run(1);
    zero.run_attempt = 0;
    let mut no_end = task(1, "extract", 0);
    no_end.state = TaskState::Skipped;
    let mut no_generation = task(1, "extract", 0);
    no_generation.generation = 0;
    let mut open_end = attempt(1, "extract", 1);
    open_end.finished_at = Some(Wall(1));
    let mut draft = workflow("etl");
    draft.current = Some(VersionId(-1));
    let cases = [
        (open.change(), "run"),
        (ended_run.change(), "run"),
        (zero.change(), "run attempts"),
        (no_end.change(), "`extract`"),
        (no_generation.change(), "generations"),
        (open_end.change(), "attempt 1"),
        (attempt(1, "extract", 0).change(), "attempt 0"),
        (event(1, 0).change(), "event 0"),
        (draft.change(), "`etl`"),
        (version("etl", 0).change(), "version 0"),
    ];
    for (change, word) in cases {
        let message = refused(&store, epoch, vec![change]).await;
        assert!(message.contains(word), "{message}");
    }
}

async fn large_payloads_are_refused(store: Any) {
    let epoch = store.lead().await.unwrap();
    let text = |size: usize| Value::from("x".repeat(size - 2));
    let fits = text(INLINE_LIMIT);
    let large = text(INLINE_LIMIT + 1);
    let with = |value: &Value| {
        let mut output = run(1);
        output.output = Some(Data::Inline(value.clone()));
        let mut params = run(2);
        params.params = value.clone();
        let mut input = task(1, "extract", 0);
        input.inputs = Some([("a".to_owned(), Data::Inline(value.clone()))].into_iter().collect());
        let mut reply = answer("k", None);
        reply.answer = value.clone();
        vec![output.change(), params.change(), input.change(), reply.change()]
    };
    for change in with(&large) {
        let message = refused(&store, epoch, vec![change]).await;
        assert!(message.contains("65537 bytes; 65536 is the most"), "{message}");
    }
    let mut words = failed(attempt(1, "extract", 1));
    let message = "x".repeat(INLINE_LIMIT + 1);
    words.failure = Some(Failure { message, ..Failure::new(FailureKind::Failure, "") });
    refused(&store, epoch, vec![words.change()]).await;
    put(&store, epoch, with(&fits)).await;
    let detailed = |size: usize| TaskRow { detail: text(size), ..task(2, "extract", 0) };
    let message = refused(&store, epoch, vec![detailed(DETAIL_LIMIT + 1).change()]).await;
    assert!(message.contains(&format!("{DETAIL_LIMIT} is the most")), "{message}");
    put(&store, epoch, vec![detailed(DETAIL_LIMIT).change()]).await;
}

async fn a_run_stays_what_it_is(store: Any) {
    let epoch = store.lead().await.unwrap();
    put(&store, epoch, vec![run(1).change()]).await;
    let mut others = vec![run(1), run(1), run(1), run(1)];
    others[0].workflow = "other".into();
    others[1].trigger = "schedule:x".into();
    others[2].labels.clear();
    others[3].created_at = Wall(99);
    for other in others {
        let message = refused(&store, epoch, vec![other.change()]).await;
        assert!(message.contains("is there as another"), "{message}");
    }
    assert_eq!(store.run(PROJECT, run_id(1)).await.unwrap(), Some(run(1)));
}

async fn active_runs_load_whole(store: Any) {
    let epoch = store.lead().await.unwrap();
    let changes = vec![
        version("etl", 1).change(),
        in_state(run(2), RunState::Running, 0).change(),
        run(1).change(),
        in_state(run(3), RunState::Success, 5).change(),
        task(2, "b", 1).change(),
        ended(task(2, "a", 2), TaskState::Success).change(),
        task(2, "c", 0).change(),
        failed(attempt(2, "b", 1)).change(),
        attempt(2, "b", 2).change(),
        event(2, 1).change(),
        event(2, 2).change(),
    ];
    put(&store, epoch, changes).await;
    let active = store.load_active().await.unwrap();
    assert_eq!(active.iter().map(|run| run.run.id).collect::<Vec<_>>(), [run_id(1), run_id(2)]);
    assert_eq!((active[0].tasks.len(), active[0].last_seq), (0, 0));
    let whole = &active[1];
    assert_eq!(*whole.version, version("etl", 1));
    let paths: Vec<_> = whole.tasks.iter().map(|task| task.path.as_str()).collect();
    assert_eq!(paths, ["c", "b", "a"]);
    assert_eq!(whole.attempts, [attempt(2, "b", 2)]);
    assert_eq!(whole.last_seq, 2);
    assert_eq!(store.load_run(PROJECT, run_id(2)).await.unwrap().as_ref(), Some(whole));
    let terminal = store.load_run(PROJECT, run_id(3)).await.unwrap().unwrap();
    assert_eq!(terminal.run.state, RunState::Success);
}

async fn runs_are_listed_newest_first(store: Any) {
    let epoch = store.lead().await.unwrap();
    let rows: Vec<_> = (1..=25).map(|n| if n % 5 == 0 { at(run(n), 7) } else { run(n) }).collect();
    put(&store, epoch, rows.iter().cloned().map(IntoChange::change).collect()).await;
    let mut expected = rows;
    expected.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    for limit in [1, 4, 24, 25, 26] {
        let listed = collect!(limit, |page| store.runs(PROJECT, &RunFilter::default(), page));
        assert_eq!(listed, expected, "{limit} at a time");
    }
}

fn at(mut row: RunRow, at: i64) -> RunRow {
    row.created_at = Wall(at);
    row
}

async fn runs_are_filtered(store: Any) {
    let epoch = store.lead().await.unwrap();
    let states = [RunState::Pending, RunState::Running, RunState::Failed, RunState::Success];
    let rows: Vec<_> = (0..48_usize)
        .map(|n| {
            let mut row = in_state(run(n as u128 + 1), states[n % 4], 1000);
            row.workflow = ["etl", "report"][n / 4 % 2].into();
            row.trigger = ["manual", "schedule:a"][n / 8 % 2].into();
            row.labels = [("team".to_owned(), (n / 16).to_string())].into();
            row.labels.insert("all".into(), "yes".into());
            row
        })
        .collect();
    put(&store, epoch, rows.iter().cloned().map(IntoChange::change).collect()).await;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let some = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    let all = RunFilter::default();
    let filters = [
        RunFilter { workflows: some(&["etl"]), ..all.clone() },
        RunFilter { workflows: some(&["report", "etl", "etl"]), ..all.clone() },
        RunFilter { workflows: some(&[]), ..all.clone() },
        RunFilter { states: vec![RunState::Failed], ..all.clone() },
        RunFilter { states: states[1..].to_vec(), ..all.clone() },
        RunFilter { states: vec![RunState::Failed, RunState::Failed], ..all.clone() },
        RunFilter { trigger: Some("schedule:a".into()), ..all.clone() },
        RunFilter { labels: vec![label("team", "1")], ..all.clone() },
        RunFilter { labels: vec![label("team", "1"), label("all", "yes")], ..all.clone() },
        RunFilter { labels: vec![label("team", "1"), label("team", "2")], ..all.clone() },
        RunFilter { created_after: Some(Wall(10)), created_before: Some(Wall(30)), ..all.clone() },
        RunFilter {
            workflows: some(&["report", "none"]),
            states: states[..2].to_vec(),
            trigger: Some("manual".into()),
            labels: vec![label("team", "2")],
            created_after: Some(Wall(33)),
            created_before: Some(Wall(47)),
            oldest_first: false,
        },
        RunFilter { workflows: some(&["x' OR 1=1 --"]), ..all },
    ];
    let turned = filters.clone().map(|filter| RunFilter { oldest_first: true, ..filter });
    for filter in filters.into_iter().chain(turned) {
        let mut expected: Vec<_> = rows.iter().filter(|row| wanted(&filter, row)).collect();
        if !filter.oldest_first {
            expected.reverse();
        }
        let listed = collect!(3, |page| store.runs(PROJECT, &filter, page));
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

fn wanted(filter: &RunFilter, row: &RunRow) -> bool {
    filter.workflows.iter().all(|names| names.contains(&row.workflow))
        && (filter.states.is_empty() || filter.states.contains(&row.state))
        && filter.trigger.iter().all(|trigger| row.trigger == *trigger)
        && filter.labels.iter().all(|(key, value)| row.labels.get(key) == Some(value))
        && filter.created_after.iter().all(|after| row.created_at >= *after)
        && filter.created_before.iter().all(|before| row.created_at < *before)
}

async fn tasks_are_listed_by_ordinal(store: Any) {
    let epoch = store.lead().await.unwrap();
    let rows: Vec<_> = (0..20_u32)
        .map(|n| {
            let row = task(1, &format!("load[{n}]"), (n * 7) % 10);
            if n % 3 == 0 { ended(row, TaskState::Failed) } else { row }
        })
        .collect();
    put(&store, epoch, rows.iter().cloned().map(IntoChange::change).collect()).await;
    put(&store, epoch, vec![task(2, "other", 0).change()]).await;
    let mut expected = rows;
    expected.sort_by_key(|row| (row.ordinal, row.path.clone()));
    for limit in [1, 3, 20] {
        let listed = collect!(limit, |page| store.tasks(PROJECT, run_id(1), &[], page));
        assert_eq!(listed, expected);
        let states = [TaskState::Failed, TaskState::Queued, TaskState::Failed];
        let listed = collect!(limit, |page| store.tasks(PROJECT, run_id(1), &states, page));
        assert_eq!(listed, expected);
        let states = [TaskState::Failed, TaskState::Running];
        let listed = collect!(limit, |page| store.tasks(PROJECT, run_id(1), &states, page));
        let failed = expected.iter().filter(|row| row.state == TaskState::Failed);
        assert_eq!(listed.iter().collect::<Vec<_>>(), failed.collect::<Vec<_>>());
    }
}

async fn attempts_are_listed_by_number(store: Any) {
    let epoch = store.lead().await.unwrap();
    let mut rows = Vec::new();
    for generation in 1..=3 {
        for number in 1..=11 {
            rows.push(AttemptRow { generation, ..attempt(1, "a", number) });
        }
    }
    put(&store, epoch, rows.iter().rev().cloned().map(IntoChange::change).collect()).await;
    put(&store, epoch, vec![attempt(1, "aa", 1).change(), attempt(2, "a", 1).change()]).await;
    let listed = collect!(4, |page| store.attempts(PROJECT, run_id(1), &"a".into(), page));
    assert_eq!(listed, rows);
    put(&store, epoch, vec![failed(attempt(1, "a", 1)).change()]).await;
    let listed = store.attempts(PROJECT, run_id(1), &"a".into(), &first(1)).await.unwrap();
    assert_eq!(listed.items, [failed(attempt(1, "a", 1))]);
}

async fn events_follow_their_run_and_the_feed_their_commit(store: Any) {
    let epoch = store.lead().await.unwrap();
    put(&store, epoch, vec![event(1, 1).change(), run(1).change(), event(2, 1).change()]).await;
    put(&store, epoch, vec![run(2).change()]).await;
    put(&store, epoch, vec![event(1, 2).change(), event(2, 2).change(), event(1, 3).change()])
        .await;
    let events = store.events(PROJECT, run_id(1), 0, 9).await.unwrap();
    let seqs: Vec<_> = events.iter().map(|event| event.event.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let rest = store.events(PROJECT, run_id(1), 1, 1).await.unwrap();
    assert_eq!(rest.iter().map(|event| event.event.seq).collect::<Vec<_>>(), [2]);
    assert!(store.events(PROJECT, run_id(1), 3, 9).await.unwrap().is_empty());
    assert!(store.events(PROJECT, run_id(1), u64::MAX, 9).await.unwrap().is_empty());
    let feed = store.feed((CommitSeq(0), 0), 9).await.unwrap();
    let places: Vec<_> = feed.iter().map(|event| (event.commit.0, event.position)).collect();
    assert_eq!(places, [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2)]);
    let rest = store.feed((CommitSeq(1), 1), 2).await.unwrap();
    let places: Vec<_> = rest.iter().map(|event| (event.commit.0, event.position)).collect();
    assert_eq!(places, [(3, 0), (3, 1)]);
    assert!(store.feed((CommitSeq(3), 2), 9).await.unwrap().is_empty());
}

async fn workflows_and_versions(store: Any) {
    let epoch = store.lead().await.unwrap();
    let names = ["b", "a", "c\u{e9}", "B"];
    put(&store, epoch, names.iter().map(|name| workflow(name).change()).collect()).await;
    let listed = collect!(3, |page| store.workflows(PROJECT, page));
    let listed: Vec<_> = listed.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(listed, ["B", "a", "b", "c\u{e9}"]);
    let mut changed = workflow("a");
    changed.metadata.tags.push("nightly".into());
    changed.current = None;
    put(&store, epoch, vec![changed.clone().change()]).await;
    assert_eq!(store.workflow(PROJECT, "a").await.unwrap(), Some(changed));

    assert_eq!(store.version_numbers(PROJECT, "a").await.unwrap(), (VersionId(0), VersionId(0)));
    let numbers = [1, 2, 3, -1, -2];
    put(&store, epoch, numbers.iter().map(|n| version("a", *n).change()).collect()).await;
    assert_eq!(store.version_numbers(PROJECT, "a").await.unwrap(), (VersionId(3), VersionId(-2)));
    let listed = collect!(2, |page| store.versions(PROJECT, "a", page));
    assert_eq!(listed, [version("a", 3), version("a", 2), version("a", 1)]);
    let draft = store.version(PROJECT, "a", VersionId(-2)).await.unwrap();
    assert_eq!(draft, Some(version("a", -2)));

    let mut other = version("a", 2);
    other.source = "another".into();
    put(&store, epoch, vec![other.change()]).await;
    assert_eq!(
        store.version(PROJECT, "a", VersionId(2)).await.unwrap(),
        Some(version("a", 2)),
        "a version that is there stays as it is"
    );
    let digest = version("a", 2).digest;
    let found = store.version_by_digest(PROJECT, "a", &digest, false).await.unwrap();
    assert_eq!(found.map(|row| row.version), Some(VersionId(2)));
    assert_eq!(store.version_by_digest(PROJECT, "a", &digest, true).await.unwrap(), None);
    let mut again = version("a", 4);
    again.digest = digest;
    refused(&store, epoch, vec![again.clone().change()]).await;
    again.version = VersionId(-3);
    put(&store, epoch, vec![again.change()]).await;
    let found = store.version_by_digest(PROJECT, "a", &digest, true).await.unwrap();
    assert_eq!(found.map(|row| row.version), Some(VersionId(-3)));
}

async fn answers_are_kept(store: Any) {
    let epoch = store.lead().await.unwrap();
    put(&store, epoch, vec![answer("k", None).change(), answer("r", Some(1)).change()]).await;
    assert_eq!(store.answer(PROJECT, "k").await.unwrap(), Some(answer("k", None)));
    assert_eq!(store.answer(PROJECT, "r").await.unwrap(), Some(answer("r", Some(1))));
    let mut newer = answer("k", None);
    newer.answer = json!("newer");
    put(&store, epoch, vec![newer.clone().change()]).await;
    assert_eq!(store.answer(PROJECT, "k").await.unwrap(), Some(newer));
}

async fn projects_are_apart(store: Any) {
    let epoch = store.lead().await.unwrap();
    let other = ProjectId(2);
    let mut theirs = in_state(run(1), RunState::Running, 0);
    theirs.project = other;
    let mut their_task = task(1, "extract", 3);
    their_task.project = other;
    let mut their_event = event(1, 1);
    their_event.project = other;
    let mut their_workflow = workflow("etl");
    their_workflow.project = other;
    let changes = vec![
        run(1).change(),
        theirs.clone().change(),
        task(1, "extract", 0).change(),
        their_task.clone().change(),
        event(1, 1).change(),
        their_event.clone().change(),
        their_workflow.clone().change(),
    ];
    put(&store, epoch, changes).await;
    assert_eq!(store.run(other, run_id(1)).await.unwrap(), Some(theirs.clone()));
    let listed = store.runs(other, &RunFilter::default(), &first(9)).await.unwrap();
    assert_eq!(listed.items, [theirs]);
    let tasks = store.tasks(other, run_id(1), &[], &first(9)).await.unwrap();
    assert_eq!(tasks.items, [their_task]);
    let events = store.events(other, run_id(1), 0, 9).await.unwrap();
    assert_eq!(events.iter().map(|event| &*event.event).collect::<Vec<_>>(), [&their_event]);
    assert_eq!(store.workflow(PROJECT, "etl").await.unwrap(), None);
    assert_eq!(store.workflows(PROJECT, &first(9)).await.unwrap().items, []);
    assert_eq!(store.workflow(other, "etl").await.unwrap(), Some(their_workflow));
}

async fn limits_and_cursors_are_checked(store: Any) {
    for limit in [0, MAX_PAGE + 1] {
        let error = store.workflows(PROJECT, &first(limit)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Malformed(m) if m.contains("1 to 1000")), "{error}");
        store.events(PROJECT, run_id(1), 0, limit).await.unwrap_err();
        store.feed((CommitSeq(0), 0), limit).await.unwrap_err();
    }
    for cursor in ["", "x", "1", "1.", "' OR 1=1 --"] {
        let page = Page { limit: 1, cursor: Some(cursor.into()) };
        let error = store.runs(PROJECT, &RunFilter::default(), &page).await.unwrap_err();
        assert!(matches!(&error, StoreError::Malformed(m) if m.contains("no cursor")), "{error}");
        let error = store.workflows(PROJECT, &page).await.unwrap_err();
        assert!(matches!(&error, StoreError::Malformed(m) if m.contains("no cursor")), "{error}");
        store.attempts(PROJECT, run_id(1), &"a".into(), &page).await.unwrap_err();
    }
}

fn retention(before: Option<i64>, keep: Option<u64>, batch: usize, now: i64) -> Retention {
    Retention { finished_before: before.map(Wall), keep_per_workflow: keep, batch, now: Wall(now) }
}

async fn prune_by_age_and_count(store: Any) {
    let epoch = store.lead().await.unwrap();
    let mut changes = vec![in_state(run(100), RunState::Running, 0).change()];
    for n in 1..=10 {
        let mut row = in_state(run(n), RunState::Success, 100 - i64::try_from(n).unwrap());
        row.workflow = ["a", "b"][usize::from(n > 6)].into();
        changes.push(row.change());
    }
    put(&store, epoch, changes).await;
    let ids = |runs: Vec<(ProjectId, RunId)>| -> Vec<_> {
        runs.into_iter().map(|(_, run)| run.0.as_u128()).collect()
    };
    assert_eq!(store.prune(epoch, &retention(None, None, 9, 0)).await.unwrap(), []);
    let gone = store.prune(epoch, &retention(Some(92), None, 1, 0)).await.unwrap();
    assert_eq!(ids(gone), [10], "the earliest ended first");
    let gone = store.prune(epoch, &retention(Some(92), None, 9, 0)).await.unwrap();
    assert_eq!(ids(gone), [9]);
    let gone = store.prune(epoch, &retention(None, Some(2), 9, 0)).await.unwrap();
    assert_eq!(ids(gone), [4, 3, 2, 1]);
    let gone = store.prune(epoch, &retention(Some(i64::MAX), Some(0), 2, 0)).await.unwrap();
    assert_eq!(ids(gone), [8, 7]);
    let gone = store.prune(epoch, &retention(Some(i64::MAX), Some(0), 9, 0)).await.unwrap();
    assert_eq!(ids(gone), [6, 5]);
    let left = store.runs(PROJECT, &RunFilter::default(), &first(9)).await.unwrap();
    assert_eq!(left.items.len(), 1, "a run that is not over stays");
}

async fn prune_removes_all_that_belongs(store: Any) {
    let epoch = store.lead().await.unwrap();
    for n in [1, 2] {
        let mut changes = vec![
            in_state(run(n), RunState::Success, i64::try_from(n).unwrap()).change(),
            attempt(n, "extract", 1).change(),
            answer(&n.to_string(), Some(n)).change(),
            Change::Firing(Box::new(firing(n, "t", 1))),
        ];
        changes.extend((0..400).map(|i| task(n, &format!("load[{i}]"), i).change()));
        changes.extend((1..=400).map(|i| event(n, i).change()));
        put(&store, epoch, changes).await;
    }
    let gone = store.prune(epoch, &retention(Some(2), None, 9, 0)).await.unwrap();
    assert_eq!(gone, [(PROJECT, run_id(1))]);
    for (n, left) in [(1, false), (2, true)] {
        let id = run_id(n);
        assert_eq!(store.run(PROJECT, id).await.unwrap().is_some(), left);
        assert_eq!(store.task(PROJECT, id, &"load[7]".into()).await.unwrap().is_some(), left);
        assert_eq!(!store.tasks(PROJECT, id, &[], &first(1)).await.unwrap().items.is_empty(), left);
        let attempts = store.attempts(PROJECT, id, &"extract".into(), &first(1)).await.unwrap();
        assert_eq!(!attempts.items.is_empty(), left);
        assert_eq!(!store.events(PROJECT, id, 0, 1).await.unwrap().is_empty(), left);
        assert_eq!(store.answer(PROJECT, &n.to_string()).await.unwrap().is_some(), left);
    }
    assert_eq!(store.open_firings(9).await.unwrap(), [firing(2, "t", 1)]);
    let label = RunFilter { labels: vec![("team".into(), "data".into())], ..Default::default() };
    assert_eq!(store.runs(PROJECT, &label, &first(9)).await.unwrap().items.len(), 1);
    let feed = store.feed((CommitSeq(0), 0), 1).await.unwrap();
    assert_eq!((feed[0].commit, feed[0].event.run), (CommitSeq(2), run_id(2)));
    assert_eq!(store.last_commit().await.unwrap(), CommitSeq(2), "pruning is no commit");
}

async fn prune_drafts_and_answers(store: Any) {
    let epoch = store.lead().await.unwrap();
    let mut used = run(1);
    used.version = VersionId(-1);
    let changes = vec![
        version("etl", 1).change(),
        version("etl", -1).change(),
        version("etl", -2).change(),
        used.change(),
        answer("k", None).change(),
        answer("r", Some(1)).change(),
    ];
    put(&store, epoch, changes).await;
    let there = |n| {
        let store = store.clone();
        async move { store.version(PROJECT, "etl", VersionId(n)).await.unwrap().is_some() }
    };
    store.prune(epoch, &retention(None, None, 9, 99)).await.unwrap();
    assert!(there(-2).await, "a new draft stays");
    assert!(store.answer(PROJECT, "k").await.unwrap().is_some());
    store.prune(epoch, &retention(None, None, 9, DRAFT_GRACE.0 + 50)).await.unwrap();
    assert!(!there(-2).await);
    assert!(there(-1).await, "a run refers to it");
    assert!(there(1).await, "it is no draft");
    assert!(store.answer(PROJECT, "k").await.unwrap().is_none());
    assert!(store.answer(PROJECT, "r").await.unwrap().is_some());
}

async fn blobs_in_use_are_known(store: Any) {
    let epoch = store.lead().await.unwrap();
    let digests: Vec<_> = (0..8_u8).map(|n| Digest::of(&[n])).collect();
    let blob = |n: usize| Data::Blob { digest: digests[n], size: 1 };
    let mut first_run = in_state(run(1), RunState::Success, 1);
    first_run.output = Some(blob(0));
    let mut row = task(1, "a", 0);
    row.inputs = Some([("x".to_owned(), blob(1))].into_iter().collect());
    row.output = Some(blob(2));
    row.detail = json!({"deep": [serde_json::to_value(blob(3)).unwrap()]});
    let mut shared = run(2);
    shared.output = Some(blob(2));
    let mut bundle = version("etl", 1);
    bundle.code = CodeRef::Bundle { digest: digests[4] };
    let changes = vec![first_run.change(), row.change(), shared.change(), bundle.change()];
    put(&store, epoch, changes).await;
    assert_eq!(store.unreferenced(&digests).await.unwrap(), &digests[5..]);
    store.prune(epoch, &retention(Some(2), None, 9, 0)).await.unwrap();
    let left = store.unreferenced(&digests).await.unwrap();
    let expected: Vec<_> = [0, 1, 3, 5, 6, 7].map(|n| digests[n]).to_vec();
    assert_eq!(left, expected);
}

fn schedule(workflow: &str, name: &str) -> ScheduleRow {
    ScheduleRow {
        project: PROJECT,
        workflow: workflow.into(),
        name: name.into(),
        version: VersionId(1),
        spec: spec(),
        paused: false,
        changed_by: None,
        removed: false,
        decided: Wall(5),
        missed_before: None,
        next: Some(Wall(9)),
        last: None,
        updated_at: Wall(5),
    }
}

fn spec() -> Schedule {
    Schedule {
        when: When::Cron("@daily".into()),
        timezone: "UTC".into(),
        catchup: Catchup::Max(2),
        jitter: Span::from_secs(1),
        params: IndexMap::new(),
        paused: false,
    }
}

fn tick(schedule: &str, at: i64) -> TickRow {
    TickRow {
        project: PROJECT,
        workflow: "etl".into(),
        schedule: schedule.into(),
        tick: Wall(at),
        until: Wall(at),
        count: 1,
        logical_time: "2026-11-24T00:00:00Z".into(),
        run: None,
        reason: Some("missed".into()),
        decided_at: Wall(at),
    }
}

async fn schedules_and_their_ticks(store: Any) {
    let epoch = store.lead().await.unwrap();
    let put_schedule = |row: &ScheduleRow| Change::Schedule(Box::new(row.clone()), None);
    let rows = [schedule("etl", "a"), schedule("etl", "b"), schedule("etl2", "a")];
    put(&store, epoch, rows.iter().map(put_schedule).collect()).await;
    let gone = ScheduleRow { removed: true, ..schedule("etl", "c") };
    put(&store, epoch, vec![put_schedule(&gone)]).await;
    assert_eq!(store.load_schedules().await.unwrap().len(), 4);
    assert_eq!(store.schedule(PROJECT, "etl", "c").await.unwrap(), Some(gone));
    assert_eq!(store.schedule(PROJECT, "etl", "d").await.unwrap(), None);
    for limit in 1..4 {
        let all = collect!(limit, |page| store.schedules(PROJECT, None, page));
        assert_eq!(all, rows, "{limit}");
        let own = collect!(limit, |page| store.schedules(PROJECT, Some("etl"), page));
        assert_eq!(own, rows[..2], "{limit}");
    }
    let changed = ScheduleRow { decided: Wall(6), paused: true, ..rows[0].clone() };
    put(&store, epoch, vec![put_schedule(&changed)]).await;
    assert_eq!(store.schedule(PROJECT, "etl", "a").await.unwrap(), Some(changed));
    let ticks: Vec<_> = (-1..4).map(|at| tick("a", at)).collect();
    let put_tick = |row: &TickRow| Change::Tick(Box::new(row.clone()));
    put(&store, epoch, ticks.iter().map(put_tick).chain([put_tick(&tick("b", 1))]).collect()).await;
    for limit in 1..7 {
        let found = collect!(limit, |page| store.ticks(PROJECT, "etl", "a", page));
        assert_eq!(found, ticks.iter().rev().cloned().collect::<Vec<_>>(), "{limit}");
    }
    for twice in [vec![put_tick(&ticks[0])], vec![put_tick(&tick("c", 1)), put_tick(&tick("c", 1))]]
    {
        assert!(refused(&store, epoch, twice).await.ends_with("has its answer"));
    }
    let neither = TickRow { reason: None, ..tick("c", 2) };
    assert!(refused(&store, epoch, vec![put_tick(&neither)]).await.contains("a run or a reason"));
    store.prune(epoch, &retention(Some(2), None, 10, 0)).await.unwrap();
    let left = collect!(10, |page| store.ticks(PROJECT, "etl", "a", page));
    assert_eq!(left.iter().map(|row| row.tick.0).collect::<Vec<_>>(), [3, 2]);
}

fn trigger(workflow: &str, name: &str) -> TriggerRow {
    TriggerRow {
        project: PROJECT,
        workflow: workflow.into(),
        name: name.into(),
        version: VersionId(1),
        spec: Trigger::Webhook {
            body: Type::Json,
            auth: WebhookAuth::Hmac,
            params: IndexMap::new(),
        },
        hook: Some(format!("{workflow}-{name}")),
        secret: Some(HookSecret::Hmac { key: "k".into() }),
        rotated_by: None,
        rotated_at: None,
        removed: false,
        updated_at: Wall(1),
    }
}

fn firing(source: u128, trigger: &str, at: i64) -> FiringRow {
    FiringRow {
        project: PROJECT,
        source: run_id(source),
        source_workflow: "etl".into(),
        source_state: RunState::Success,
        workflow: "after".into(),
        trigger: trigger.into(),
        fired_at: Wall(at),
        run: None,
        reason: None,
        decided_at: None,
    }
}

async fn triggers_and_their_firings(store: Any) {
    let epoch = store.lead().await.unwrap();
    let put_trigger = |row: &TriggerRow| Change::Trigger(Box::new(row.clone()));
    let rows = [trigger("etl", "a"), trigger("etl", "b"), trigger("etl2", "a")];
    let gone = TriggerRow { removed: true, ..trigger("etl", "c") };
    put(&store, epoch, rows.iter().chain([&gone]).map(put_trigger).collect()).await;
    assert_eq!(store.load_triggers().await.unwrap().len(), 4);
    assert_eq!(store.trigger(PROJECT, "etl", "c").await.unwrap().as_ref(), Some(&gone));
    assert_eq!(store.trigger(PROJECT, "etl", "d").await.unwrap(), None);
    assert_eq!(store.hook("etl-b").await.unwrap().as_ref(), Some(&rows[1]));
    assert_eq!(store.hook("etl").await.unwrap(), None);
    for limit in 1..4 {
        let all = collect!(limit, |page| store.triggers(PROJECT, None, page));
        assert_eq!(all, rows, "{limit}");
        let own = collect!(limit, |page| store.triggers(PROJECT, Some("etl"), page));
        assert_eq!(own, rows[..2], "{limit}");
    }
    let put_firing = |row: &FiringRow| Change::Firing(Box::new(row.clone()));
    let fired = [firing(1, "t", 5), firing(2, "t", 5), firing(3, "t", 4), firing(1, "u", 1)];
    put(&store, epoch, fired.iter().map(put_firing).collect()).await;
    let open = store.open_firings(2).await.unwrap();
    assert_eq!(open, [fired[3].clone(), fired[2].clone()]);
    for limit in 1..4 {
        let own = collect!(limit, |page| store.firings(PROJECT, "after", "t", page));
        assert_eq!(own, [fired[1].clone(), fired[0].clone(), fired[2].clone()], "{limit}");
    }
    let done = FiringRow { run: Some(run_id(9)), decided_at: Some(Wall(6)), ..fired[0].clone() };
    put(&store, epoch, vec![put_firing(&done)]).await;
    // Neither another firing nor another answer takes its place.
    put(&store, epoch, vec![put_firing(&fired[0])]).await;
    assert_eq!(store.open_firings(10).await.unwrap().len(), 3);
    let other = FiringRow { run: Some(run_id(8)), ..done.clone() };
    let none = FiringRow { source: run_id(7), ..done.clone() };
    for wrong in [other, none] {
        let reason = refused(&store, epoch, vec![put_firing(&wrong)]).await;
        assert!(reason.contains("waits for no answer"), "{reason}");
    }
    let neither = FiringRow { run: None, ..done.clone() };
    assert!(refused(&store, epoch, vec![put_firing(&neither)]).await.contains("one answer"));
    let own = collect!(10, |page| store.firings(PROJECT, "after", "t", page));
    assert_eq!(own[1], done);
}

async fn backfills_are_listed_newest_first(store: Any) {
    let epoch = store.lead().await.unwrap();
    let row = |n: u128| BackfillRow {
        project: PROJECT,
        id: BackfillId(uuid::Uuid::from_u128(n)),
        workflow: "etl".into(),
        schedule: "a".into(),
        version: VersionId(1),
        spec: spec(),
        from: Wall(1),
        to: Wall(9),
        max_runs: 2,
        order: Order::Newest,
        state: BackfillState::Running,
        reached: Some(Wall(3)),
        total: 4,
        made: 2,
        skipped: 1,
        reason: Some("no params".into()),
        open: vec![run_id(1)],
        again: Vec::new(),
        created_by: Actor::default(),
        changed_by: None,
        created_at: Wall(1),
        updated_at: Wall(2),
        finished_at: None,
    };
    let change = |row: &BackfillRow| Change::Backfill(Box::new(row.clone()), Some(run_id(1)));
    let rows = [row(1), row(2), row(3)];
    put(&store, epoch, rows.iter().map(change).collect()).await;
    for limit in 1..4 {
        let all = collect!(limit, |page| store.backfills(PROJECT, page));
        assert_eq!(all, rows.iter().rev().cloned().collect::<Vec<_>>(), "{limit}");
    }
    let over = BackfillRow { state: BackfillState::Done, finished_at: Some(Wall(8)), ..row(2) };
    put(&store, epoch, vec![change(&over)]).await;
    assert_eq!(store.load_backfills().await.unwrap(), [row(1), row(3)]);
    assert_eq!(store.backfill(PROJECT, over.id).await.unwrap(), Some(over));
    assert_eq!(store.backfill(ProjectId(9), row(1).id).await.unwrap(), None);
}

async fn pauses_are_kept(store: Any) {
    let epoch = store.lead().await.unwrap();
    let (all, etl) = (pause(None, true, 1), pause(Some("etl"), true, 2));
    put(&store, epoch, vec![etl.clone().change(), all.clone().change()]).await;
    assert_eq!(store.pauses().await.unwrap(), [all.clone(), etl]);
    let over = pause(Some("etl"), false, 3);
    put(&store, epoch, vec![over.clone().change()]).await;
    assert_eq!(store.pauses().await.unwrap(), [all, over]);
}

async fn pools_are_kept_until_nothing_is_said_of_them(store: Any) {
    let epoch = store.lead().await.unwrap();
    let (b, a, more) = (pool("b", Some(1)), pool("a", Some(0)), pool("b", Some(7)));
    put(&store, epoch, vec![b.clone().change(), a.clone().change()]).await;
    assert_eq!(store.pools().await.unwrap(), [a.clone(), b]);
    put(&store, epoch, vec![more.clone().change(), pool("a", None).change()]).await;
    assert_eq!(store.pools().await.unwrap(), [more]);
    put(&store, epoch, vec![pool("never", None).change()]).await;
}

async fn the_history_of_a_workflow_is_numbered_and_kept(store: Any) {
    let epoch = store.lead().await.unwrap();
    let told = |what, at| {
        let changes = described(
            &Metadata::default(),
            &Metadata { owner: Some("team".into()), ..Metadata::default() },
        );
        HistoryRow { changes, version: Some(VersionId(2)), ..happened("etl", what, at) }
    };
    let rows = [told(Happened::Deployed, 7), told(Happened::Paused, 3), told(Happened::Deleted, 9)];
    let [first_row, second, third] = rows.clone();
    put(&store, epoch, vec![first_row.change(), second.change()]).await;
    put(&store, epoch, vec![happened("report", Happened::Deployed, 1).change()]).await;
    put(&store, epoch, vec![third.change()]).await;
    let numbered = rows.into_iter().zip(1..).map(|(row, number)| HistoryRow { number, ..row });
    let mut latest_first: Vec<_> = numbered.collect();
    latest_first.reverse();
    for limit in [1, 2, 10] {
        let found = collect!(limit, |page| store.history(PROJECT, "etl", page));
        assert_eq!(found, latest_first);
    }
    let other = store.history(PROJECT, "report", &first(9)).await.unwrap().items;
    assert_eq!(other, [HistoryRow { number: 1, ..happened("report", Happened::Deployed, 1) }]);
    assert!(store.history(PROJECT, "none", &first(9)).await.unwrap().items.is_empty());
}

async fn deleted_workflows_are_not_listed(store: Any) {
    let epoch = store.lead().await.unwrap();
    let gone = WorkflowRow { deleted_at: Some(Wall(5)), ..workflow("gone") };
    put(&store, epoch, vec![workflow("etl").change(), gone.clone().change()]).await;
    assert_eq!(store.workflows(PROJECT, &first(9)).await.unwrap().items, [workflow("etl")]);
    assert_eq!(store.workflow(PROJECT, "gone").await.unwrap(), Some(gone));
}

async fn limits_of_workflows_are_loaded(store: Any) {
    let epoch = store.lead().await.unwrap();
    let limited = WorkflowRow {
        limits: Some(Concurrency { max_runs: 2, key: None, on_limit: OnLimit::Queue }),
        ..workflow("b")
    };
    put(&store, epoch, vec![workflow("a").change(), limited.clone().change()]).await;
    assert_eq!(store.load_limits().await.unwrap(), [limited]);
    put(&store, epoch, vec![workflow("b").change()]).await;
    assert_eq!(store.load_limits().await.unwrap(), []);
}

async fn successes_are_found_by_their_key_and_the_last_of_a_task(store: Any) {
    let epoch = store.lead().await.unwrap();
    let cached = |task: &'static str, n| {
        let store = store.clone();
        async move { store.cached(PROJECT, "etl", task, &cache_key(n)).await.unwrap() }
    };
    assert_eq!(cached("load", 1).await, Cached::default());
    let (first, second) = (success(1, 1, 10, None), success(2, 2, 20, Some(50)));
    put(&store, epoch, vec![first.clone().change(), second.clone().change()]).await;
    let found = cached("load", 1).await;
    assert_eq!((found.hit, found.last), (Some(first), Some(second.clone())));
    assert_eq!(cached("load", 3).await, Cached { hit: None, last: Some(second) });
    assert_eq!(cached("other", 1).await, Cached::default());
    let newer = success(1, 2, 30, None);
    put(&store, epoch, vec![newer.clone().change()]).await;
    let found = cached("load", 1).await;
    assert_eq!((found.hit.as_ref(), found.last.as_ref()), (Some(&newer), Some(&newer)));
    // One that may be forgotten goes in time, another with its run.
    store.prune(epoch, &retention(None, None, 9, 50)).await.unwrap();
    assert_eq!(cached("load", 2).await, Cached { hit: None, last: Some(newer) });
    put(&store, epoch, vec![in_state(run(2), RunState::Success, 40).change()]).await;
    store.prune(epoch, &retention(Some(41), None, 9, 50)).await.unwrap();
    assert_eq!(cached("load", 1).await, Cached::default());
}
