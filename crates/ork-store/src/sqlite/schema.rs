//! Opening a database, making it, and bringing it up to date.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::dir::sync_dir;
use crate::sqlite::error::{failed, io_failed};
use crate::{Result, StoreError};

/// Every step from an empty database to the present form; the number of those taken is the
/// database's `user_version`.
const MIGRATIONS: &[&str] =
    &[include_str!("migrations/0001_init.sql"), include_str!("migrations/0002_triggers.sql")];

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

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let done: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("read the schema's number"))?;
    let known = MIGRATIONS.len();
    if done > known {
        return Err(StoreError::Rejected(format!(
            "{} has schema {done}, and this ork knows schemas up to {known}: use a newer ork",
            path.display()
        )));
    }
    if done == known {
        return Ok(());
    }
    let change = connection.transaction().map_err(failed("migrate"))?;
    for step in &MIGRATIONS[done..] {
        change.execute_batch(step).map_err(failed("migrate"))?;
    }
    let stamp = format!("PRAGMA user_version = {known}; PRAGMA application_id = {APPLICATION_ID};");
    change.execute_batch(&stamp).map_err(failed("migrate"))?;
    change.commit().map_err(failed("migrate"))
}
