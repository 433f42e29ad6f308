//! Random changes: the database answers as the store in memory does.

use std::sync::Arc;

use ork_core::plan::{Concurrency, OnLimit};
use ork_core::rows::{Change, Happened, WorkflowRow};
use ork_core::run::{RunState, TaskState};
use ork_core::time::Wall;
use ork_store::{
    CommitSeq, DataDir, Memory, Page, Retention, RunFilter, Sqlite, Store, StoreError,
};
use proptest::prelude::*;

use crate::rows::{
    IntoChange, PROJECT, answer, attempt, cache_key, ended, event, failed, happened, in_state,
    pause, pool, run, run_id, success, task, version, workflow,
};

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    Lead,
    Prune { before: Option<i64>, keep: Option<u64>, batch: usize, now: i64 },
}

fn change() -> impl Strategy<Value = Change> {
    let states = [RunState::Pending, RunState::Running, RunState::Success, RunState::Failed];
    let n = 1..6_u128;
    let name = prop::sample::select(vec!["a", "b[1]", "b[10]", "\u{e9}"]);
    let workflows = prop::sample::select(vec!["etl", "report"]);
    prop_oneof![
        (n.clone(), prop::sample::select(states.to_vec()), 0..9_i64, 0..20_u32).prop_map(
            |(n, state, at, odd)| {
                let mut row = in_state(run(n), state, at);
                row.workflow = ["etl", "report"][usize::from(n > 3)].into();
                if odd == 0 {
                    row.trigger = "other".into();
                }
                row.change()
            }
        ),
        (n.clone(), name.clone(), 0..4_u32, any::<bool>()).prop_map(|(n, path, ordinal, end)| {
            let row = task(n, path, ordinal);
            if end { ended(row, TaskState::Success) } else { row }.change()
        }),
        (n.clone(), name.clone(), 0..4_u32, any::<bool>()).prop_map(|(n, path, number, end)| {
            let row = attempt(n, path, number);
            if end { failed(row) } else { row }.change()
        }),
        (n.clone(), 1..40_u64).prop_map(|(n, seq)| event(n, seq).change()),
        (name.clone(), prop::option::of(1..9_i64)).prop_map(|(name, gone)| {
            WorkflowRow { deleted_at: gone.map(Wall), ..workflow(name) }.change()
        }),
        (name, 0..9_i64).prop_map(|(name, at)| happened(name, Happened::Described, at).change()),
        (-3..4_i64).prop_map(|number| version("etl", number).change()),
        (1..3_i64).prop_map(|number| version("report", number).change()),
        (0..3_u8, prop::option::of(n.clone()))
            .prop_map(|(k, run)| answer(&k.to_string(), run).change()),
        (prop::option::of(workflows.clone()), any::<bool>(), 0..9_i64)
            .prop_map(|(workflow, on, at)| pause(workflow, on, at).change()),
        (workflows.clone(), prop::option::of(0..3_u32))
            .prop_map(|(name, slots)| pool(name, slots).change()),
        (workflows, prop::option::of(1..3_u32)).prop_map(|(name, most)| limited(name, most)),
        (0..3_u8, n, 0..9_i64, prop::option::of(0..9_i64))
            .prop_map(|(key, run, at, until)| success(key, run, at, until).change()),
    ]
}

/// A workflow of whose runs so many may be at work.
fn limited(name: &str, most: Option<u32>) -> Change {
    let limit = |max_runs| Concurrency { max_runs, key: None, on_limit: OnLimit::Queue };
    WorkflowRow { limits: most.map(limit), ..workflow(name) }.change()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(change(), 0..8).prop_map(Step::Commit),
        1 => Just(Step::Lead),
        1 => (
            prop::option::of(0..9_i64),
            prop::option::of(0..3_u64),
            1..4_usize,
            prop::sample::select(vec![0, 200, 4_000_000_000]),
        )
            .prop_map(|(before, keep, batch, now)| Step::Prune { before, keep, batch, now }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_database_is_as_the_memory(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            let store = Sqlite::open(DataDir::open(root.path()).unwrap()).unwrap();
            let model = Memory::new();
            let mut epoch = store.lead().await.unwrap();
            assert_eq!(model.lead().await.unwrap(), epoch);
            for step in steps {
                match step {
                    Step::Commit(changes) => {
                        let changes: Arc<[Change]> = changes.into();
                        let done = store.commit(epoch, changes.clone()).await;
                        assert_eq!(done, model.commit(epoch, changes).await);
                    }
                    Step::Lead => {
                        epoch = store.lead().await.unwrap();
                        assert_eq!(model.lead().await.unwrap(), epoch);
                    }
                    Step::Prune { before, keep, batch, now } => {
                        let retention = Retention {
                            finished_before: before.map(Wall),
                            keep_per_workflow: keep,
                            batch,
                            now: Wall(now),
                        };
                        let gone = store.prune(epoch, &retention).await;
                        assert_eq!(gone, model.prune(epoch, &retention).await);
                    }
                }
            }
            same(&store, &model).await;
        });
    }
}

async fn same(store: &dyn Store, model: &dyn Store) {
    let page = Page { limit: 1_000, cursor: None };
    macro_rules! same {
        (|$store:ident| $call:expr) => {{
            let (found, expected) = (
                {
                    let $store = store;
                    $call.await
                },
                {
                    let $store = model;
                    $call.await
                },
            );
            assert_eq!(found, expected);
        }};
    }
    same!(|s| s.last_commit());
    same!(|s| s.feed((CommitSeq(0), 0), 1_000));
    same!(|s| s.workflows(PROJECT, &page));
    for name in ["a", "b[1]"] {
        same!(|s| s.workflow(PROJECT, name));
        same!(|s| s.history(PROJECT, name, &page));
    }
    same!(|s| s.versions(PROJECT, "etl", &page));
    same!(|s| s.version_numbers(PROJECT, "etl"));
    same!(|s| s.runs(PROJECT, &RunFilter::default(), &page));
    for key in ["0", "1", "2"] {
        same!(|s| s.answer(PROJECT, key));
    }
    for n in 1..6 {
        same!(|s| s.tasks(PROJECT, run_id(n), &[], &page));
        same!(|s| s.tasks(PROJECT, run_id(n), &[TaskState::Success], &page));
        same!(|s| s.attempts(PROJECT, run_id(n), &"a".into(), &page));
        same!(|s| s.events(PROJECT, run_id(n), 0, 1_000));
    }
    same!(|s| s.load_active());
    same!(|s| s.load_limits());
    same!(|s| s.pauses());
    same!(|s| s.pools());
    for n in 0..3 {
        // Of several that are equally late, any may be the last.
        same!(|s| async {
            let found = s.cached(PROJECT, "etl", "load", &cache_key(n)).await?;
            Ok::<_, StoreError>((found.hit, found.last.map(|row| row.at)))
        });
    }
}
