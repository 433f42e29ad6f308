//! Rows that cannot be read cost the run that has them, and no other.

use std::sync::Arc;

use ork_core::ids::RunId;
use ork_core::rows::ActiveRun;
use ork_core::run::FailureKind;
use ork_store::{DataDir, Page, RunFilter, Sqlite, Store};

use crate::rows::{IntoChange as _, PROJECT, attempt, run, run_id, task, version, workflow};

/// Runs 1 to 6; the statement spoils what one of them has.
async fn spoiled(root: &std::path::Path, statement: &str) -> (Sqlite, Vec<ActiveRun>) {
    let store = Sqlite::open(DataDir::open(root).unwrap()).unwrap();
    let epoch = store.lead().await.unwrap();
    let mut changes = vec![workflow("etl").change(), version("etl", 1).change()];
    for n in 1..=6 {
        changes.extend([run(n).change(), task(n, "a", 0).change(), task(n, "b", 1).change()]);
        changes.push(attempt(n, "a", 1).change());
    }
    store.commit(epoch, changes.into()).await.unwrap();
    let db = rusqlite::Connection::open(root.join("ork.db")).unwrap();
    assert_eq!(db.execute(statement, []).unwrap(), 1, "{statement}");
    let active = store.load_active().await.unwrap();
    (store, active)
}

fn damages(active: &[ActiveRun]) -> Vec<(RunId, &str)> {
    active.iter().filter_map(|run| Some((run.run.id, run.damage.as_deref()?))).collect()
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_the_damage_of_its_run() {
    let of_3 = |table: &str, row: &str| {
        format!("UPDATE {table} SET row = '{row}' WHERE run = X'{:032x}'", 3)
    };
    for (statement, words) in [
        (of_3("tasks", r#"{"path": 7}"#) + " AND path = 'b'", "b: the store refused: a stored row"),
        (of_3("attempts", "[]"), "a: the store refused: a stored row"),
        (format!("UPDATE runs SET row = '{{}}' WHERE id = X'{:032x}'", 3), "a stored row"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (store, active) = spoiled(root.path(), &statement).await;
        assert_eq!(active.len(), 6);
        let damages = damages(&active);
        assert!(matches!(&damages[..], [(id, why)] if *id == run_id(3) && why.contains(words)));
        let again = store.load_run(PROJECT, run_id(3)).await.unwrap().unwrap();
        assert_eq!(again, active[2]);
    }
}

#[tokio::test]
async fn a_run_whose_row_cannot_be_read_is_shown_by_its_columns() {
    let root = tempfile::tempdir().unwrap();
    let spoil = format!("UPDATE runs SET row = '{{}}' WHERE id = X'{:032x}'", 3);
    let (store, _) = spoiled(root.path(), &spoil).await;
    let page = Page { limit: 10, cursor: None };
    let listed = store.runs(PROJECT, &RunFilter::default(), &page).await.unwrap().items;
    assert_eq!(listed.len(), 6);
    let shown = store.run(PROJECT, run_id(3)).await.unwrap().unwrap();
    assert!(listed.contains(&shown));
    let whole = run(3);
    assert_eq!((shown.workflow, shown.state), (whole.workflow, whole.state));
    assert_eq!((shown.labels, shown.created_at), (whole.labels, whole.created_at));
    assert_eq!(shown.failure.unwrap().kind, FailureKind::Quarantined);
}

#[tokio::test]
async fn a_version_is_read_once_and_its_damage_is_that_of_all_its_runs() {
    let root = tempfile::tempdir().unwrap();
    let (_, whole) = spoiled(root.path(), "UPDATE store SET epoch = epoch").await;
    assert!(whole.iter().all(|run| Arc::ptr_eq(&run.version, &whole[0].version)));
    let root = tempfile::tempdir().unwrap();
    let (_, active) = spoiled(root.path(), "UPDATE versions SET row = '{}'").await;
    assert_eq!(active.len(), 6);
    for (_, why) in damages(&active) {
        assert!(why.starts_with("version 1 of `etl`: "), "{why}");
    }
    assert_eq!(damages(&active).len(), 6);
}
