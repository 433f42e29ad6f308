//! One process at a time, and schemas that are too new.

use ork_store::{DataDir, DirError, Sqlite, Store, StoreError};

#[test]
fn a_second_opening_names_the_first() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/data");
    assert_eq!(DataDir::holder(&path), None);
    let held = DataDir::open(&path).unwrap();
    let pid = std::process::id();
    assert_eq!(DataDir::holder(&path), Some(pid));
    let error = DataDir::open(&path).unwrap_err();
    let DirError::Held { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(pid));
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
    drop(held);
    assert_eq!(DataDir::holder(&path), None);
    let again = DataDir::open(&path).unwrap();
    assert_eq!(DataDir::holder(&path), Some(pid));
    drop(again);
}

#[tokio::test]
async fn a_store_opens_again_with_what_it_had() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let store = Sqlite::open(dir.clone()).unwrap();
    let first = store.lead().await.unwrap();
    drop(store);
    let store = Sqlite::open(dir).unwrap();
    assert!(store.lead().await.unwrap() > first);
}

#[test]
fn a_newer_schema_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    drop(Sqlite::open(dir.clone()).unwrap());
    let db = rusqlite::Connection::open(root.path().join("ork.db")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    let StoreError::Rejected(words) = Sqlite::open(dir).unwrap_err() else { panic!() };
    assert!(words.contains("schema 999") && words.contains("newer ork"), "{words}");
}

#[test]
fn what_is_no_database_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ork.db"), "no database, but long enough".repeat(99)).unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    assert!(matches!(Sqlite::open(dir), Err(StoreError::Rejected(_))));
}

#[test]
fn what_a_killed_creation_left_is_no_hindrance() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ork.new"), "half a database").unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    Sqlite::open(dir).unwrap();
    assert!(!root.path().join("ork.new").exists());
}

#[test]
fn the_database_repeats_the_invariants() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    drop(Sqlite::open(dir).unwrap());
    let db = rusqlite::Connection::open(root.path().join("ork.db")).unwrap();
    let id = "x'00112233445566778899aabbccddeeff'";
    let cases = [
        format!("INSERT INTO tasks VALUES (1, {id}, 'a', 0, 0, 'queued', NULL, '{{}}')"),
        format!("INSERT INTO tasks VALUES (1, {id}, 'a', 0, 1, 'odd', NULL, '{{}}')"),
        format!("INSERT INTO tasks VALUES (1, {id}, 'a', 0, 1, 'success', NULL, '{{}}')"),
        format!("INSERT INTO tasks VALUES (1, {id}, 'a', 0, 1, 'queued', 5, '{{}}')"),
        format!("INSERT INTO tasks VALUES (1, {id}, 'a', 0, 1, 'queued', NULL, '{{')"),
        format!("INSERT INTO attempts VALUES (1, {id}, 'a', 1, 1, 'lost', NULL, '{{}}')"),
        format!("INSERT INTO events VALUES (1, 1, {id}, 0, '{{}}')"),
        format!(
            "INSERT INTO runs VALUES (1, {id}, 'w', 1, 't', '{{}}', 'pending', 1, 0, 5, '{{}}')"
        ),
        "INSERT INTO workflows VALUES (1, 'w', -1, '{}')".to_owned(),
        "INSERT INTO store VALUES (2, 0, 0)".to_owned(),
    ];
    for sql in cases {
        let error = db.execute(&sql, []).unwrap_err();
        assert!(error.to_string().contains("CHECK constraint"), "{sql}: {error}");
    }
}
