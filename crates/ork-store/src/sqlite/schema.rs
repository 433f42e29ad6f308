//! Opening a database, making it, and bringing it up to date.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use ork_core::value::Digest;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::dir::sync_dir;
use crate::sqlite::error::{failed, io_failed};
use crate::{Result, StoreError};

/// Every step from an empty database to the present form; the number of those taken is the
/// database's `user_version`, and `migrations` holds the digest of each. A step never changes: what
/// it lacks is a further step.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_init.sql"),
    include_str!("migrations/0002_triggers.sql"),
    include_str!("migrations/0003_history.sql"),
];

const STEPS_TAKEN: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT";

/// `ork1`, so that `file` and people can tell whose database it is.
const APPLICATION_ID: i32 = 0x6f72_6b31;

/// Opens the database for its one writer; makes it if it is not there.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    if !path.exists() {
        create(path)?;
    }
    set_private(path).map_err(|error| io_failed(path, &error))?;
    let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    writer
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -4096;")
        .map_err(failed("open"))?;
    migrate(&mut writer, path)?;
    Ok(writer)
}

/// Opens the database for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.execute_batch("PRAGMA cache_size = -1024;").map_err(failed("open"))?;
    Ok(reader)
}

/// Opens the database beside its writer, to bring the log into the file.
pub(super) fn checkpoint(path: &Path) -> Result<()> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    finish_checkpoint(&connection)
}

/// Brings what is left of the log into the file, as far as readers allow.
pub(super) fn finish_checkpoint(connection: &Connection) -> Result<()> {
    let mut statement = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .map_err(failed("checkpoint"))?;
    statement.query_row([], |_| Ok(())).map_err(failed("checkpoint"))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(std::time::Duration::from_secs(2)).map_err(failed("open"))?;
    connection.execute_batch("PRAGMA temp_store = MEMORY;").map_err(failed("open"))?;
    Ok(connection)
}

/// Makes the whole database under another name without waiting for the disk, then makes it
/// durable and gives it its name: two waits instead of one for each step.
fn create(path: &Path) -> Result<()> {
    let unfinished = path.with_extension("new");
    let names = |error: io::Error| io_failed(&unfinished, &error);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(names(error)),
        _ => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut new = connect(&unfinished, flags)?;
    let volatile = "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;";
    new.execute_batch(volatile).map_err(failed("create"))?;
    set_private(&unfinished).map_err(names)?;
    migrate(&mut new, path)?;
    new.execute_batch("PRAGMA journal_mode = WAL;").map_err(failed("create"))?;
    new.close().map_err(|(_, error)| failed("create")(error))?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(names)?;
    fs::rename(&unfinished, path).map_err(names)?;
    path.parent().map_or(Ok(()), sync_dir).map_err(names)
}

/// Secrets are in there: nobody but the owner reads it, nor the files that `SQLite` puts beside it.
fn set_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Takes the steps that the database lacks, all or none.
fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let done: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("read the schema's number"))?;
    if done > MIGRATIONS.len() {
        return Err(StoreError::Rejected(format!(
            "{} has schema {done}, and this ork knows schemas up to {}: use a newer ork",
            path.display(),
            MIGRATIONS.len()
        )));
    }
    agree(connection, path, &MIGRATIONS[..done])?;
    if done == MIGRATIONS.len() {
        return Ok(());
    }
    let change = connection.transaction().map_err(failed("migrate"))?;
    step(&change, done, &MIGRATIONS[done..])?;
    change.commit().map_err(failed("migrate"))
}

/// Takes steps after the first `done`.
fn step(change: &Connection, done: usize, steps: &[&str]) -> Result<()> {
    change.execute_batch(STEPS_TAKEN).map_err(failed("migrate"))?;
    for (number, step) in (done + 1..).zip(steps) {
        change.execute_batch(step).map_err(failed("migrate"))?;
        let row = params![number, Digest::of(step.as_bytes()).to_string()];
        change.execute("INSERT INTO migrations VALUES (?1, ?2)", row).map_err(failed("migrate"))?;
    }
    let now = done + steps.len();
    let stamp = format!("PRAGMA user_version = {now}; PRAGMA application_id = {APPLICATION_ID};");
    change.execute_batch(&stamp).map_err(failed("migrate"))
}

/// Refuses a database whose steps were others than those of this program: nobody knows what is
/// in it.
fn agree(connection: &Connection, path: &Path, steps: &[&str]) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let other = |number: usize| {
        StoreError::Rejected(format!(
            "{} was made by a development build whose schema {number} is not the one of this ork: \
             move it away to begin anew, or use that build",
            path.display()
        ))
    };
    let asked = "SELECT count(*) FROM sqlite_master WHERE name = 'migrations'";
    let recorded: bool =
        connection.query_row(asked, [], |row| row.get(0)).map_err(failed("read the schema"))?;
    if !recorded {
        return Err(other(1));
    }
    for (number, step) in (1..).zip(steps) {
        let taken: Option<String> = connection
            .query_row("SELECT digest FROM migrations WHERE number = ?1", [number], |row| {
                row.get(0)
            })
            .optional()
            .map_err(failed("read the schema"))?;
        if taken != Some(Digest::of(step.as_bytes()).to_string()) {
            return Err(other(number));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ork_core::ids::ProjectId;
    use ork_core::rows::{Actor, Change, PoolRow};
    use ork_core::time::Wall;

    use super::*;
    use crate::{CommitSeq, DataDir, Page, Sqlite, Store};

    /// One line for each step; a line is added, never changed.
    const FROZEN: &[&str] = &[
        "a1d38e9620ed856cfd1c44711ffdde0ac6b6b617c80df66508d45d00789a7c19",
        "151ffa8ae0242852fb54a91a3bc4e18d502ffa2f9270a9955a0363520b010b12",
        "1db904ac811e3f58fa0faee4ac8827b394d26fc2fd8c66f4658a53a465ff72ec",
    ];

    #[test]
    fn a_step_that_databases_have_taken_does_not_change() {
        let digests: Vec<_> =
            MIGRATIONS.iter().map(|step| Digest::of(step.as_bytes()).to_string()).collect();
        assert_eq!(digests, FROZEN, "a step was changed; add another instead");
    }

    /// A database that an ork with fewer steps left.
    fn older(path: &Path, steps: &[&str]) -> Connection {
        let db = Connection::open(path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        step(&db, 0, steps).unwrap();
        db
    }

    #[tokio::test]
    async fn an_older_database_is_brought_up_to_date_with_what_it_has() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("ork.db");
        let db = older(&path, &MIGRATIONS[..1]);
        let epoch = crate::sqlite::write::lead(&db).unwrap();
        let pool = PoolRow {
            project: ProjectId::DEFAULT,
            name: "gpu".into(),
            slots: Some(2),
            by: Actor::default(),
            at: Wall(1),
        };
        let changes = [Change::Pool(Box::new(pool.clone()))];
        crate::sqlite::write::commit(&db, epoch, &changes).unwrap();
        drop(db);

        let dir = DataDir::open(root.path()).unwrap();
        let store = Sqlite::open(Arc::clone(&dir)).unwrap();
        assert_eq!(store.pools().await.unwrap(), [pool]);
        assert_eq!(store.last_commit().await.unwrap(), CommitSeq(1));
        assert!(store.lead().await.unwrap() > epoch);
        // What the later steps made is there.
        let page = Page { limit: 9, cursor: None };
        assert_eq!(store.triggers(ProjectId::DEFAULT, None, &page).await.unwrap().items, []);
        drop(store);
        let db = Connection::open(&path).unwrap();
        let version: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len());
        drop(db);
        Sqlite::open(dir).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_database_as_it_was() {
        let mut db = Connection::open_in_memory().unwrap();
        let change = db.transaction().unwrap();
        step(&change, 0, &["CREATE TABLE a (n)", "CREATE TABLE a (n)"]).unwrap_err();
        drop(change);
        let left: usize =
            db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_database_of_another_history_is_refused() {
        let unrecorded = |db: &Connection| db.execute_batch("DROP TABLE migrations").unwrap();
        let other = |db: &Connection| {
            db.execute_batch("UPDATE migrations SET digest = 'x' WHERE number = 1").unwrap();
        };
        let harms: [&dyn Fn(&Connection); 2] = [&unrecorded, &other];
        for harm in harms {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("ork.db");
            harm(&older(&path, MIGRATIONS));
            let error = open_writer(&path).unwrap_err();
            let StoreError::Rejected(words) = error else { panic!("{error}") };
            assert!(words.contains("ork.db was made by a development build"), "{words}");
            assert!(words.contains("move it away"), "{words}");
        }
    }
}
