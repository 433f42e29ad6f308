//! The statements of the one writer. Each is prepared once and kept.

use ork_core::ids::{Epoch, ProjectId, RunId};
use ork_core::rows::{
    AnswerRow, AttemptRow, BackfillRow, CacheRow, Change, EventRow, FiringRow, HistoryRow,
    PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionRow, WorkflowRow,
};
use ork_core::time::Wall;
use ork_core::value::Digest;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::Serialize;

use crate::sqlite::error::{commit_failed, failed};
use crate::{CommitSeq, DRAFT_GRACE, MAX_CHANGES, Result, StoreError, check, refs};

/// How many places a commit has for its events.
pub(super) const PLACES: u64 = 65_536;

/// The most rows that one transaction removes.
const REMOVAL: i64 = 2_000;

/// The place of an event: the commits' order, then the order in a commit.
pub(super) fn place(commit: CommitSeq, position: u32) -> i64 {
    const { assert!(MAX_CHANGES as u64 <= PLACES) };
    (commit.0.saturating_mul(PLACES).saturating_add(u64::from(position)))
        .min(i64::MAX as u64)
        .cast_signed()
}

/// Does `work` in a transaction of its own.
fn transaction<T>(db: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    execute(db, "BEGIN IMMEDIATE", &[]).map_err(failed("begin"))?;
    let done = work().and_then(|value| {
        execute(db, "COMMIT", &[]).map_err(commit_failed)?;
        Ok(value)
    });
    if done.is_err() && !db.is_autocommit() {
        execute(db, "ROLLBACK", &[]).map_err(|error| StoreError::Unknown(error.to_string()))?;
    }
    done
}

fn execute(db: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(values)
}

/// Takes the lead.
pub(super) fn lead(db: &Connection) -> Result<Epoch> {
    transaction(db, || {
        let sql = "UPDATE store SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
        db.query_row(sql, [], |row| row.get(0)).map(Epoch).map_err(failed("take the lead"))
    })
}

/// Makes changes durable.
pub(super) fn commit(db: &Connection, ours: Epoch, changes: &[Change]) -> Result<CommitSeq> {
    check::changes(changes)?;
    transaction(db, || {
        let commit = count(db, ours)?;
        let mut position = 0;
        for change in changes {
            apply(db, change, commit, &mut position)?;
        }
        Ok(commit)
    })
}

fn count(db: &Connection, ours: Epoch) -> Result<CommitSeq> {
    let sql = "UPDATE store SET commit_seq = commit_seq + 1 WHERE id = 1 AND epoch = ?1
               RETURNING commit_seq";
    let mut statement = db.prepare_cached(sql).map_err(failed("commit"))?;
    let row = statement.query_row([ours.0], |row| row.get(0)).optional();
    row.map_err(failed("commit"))?.map(CommitSeq).ok_or(StoreError::Fenced { ours })
}

fn apply(db: &Connection, change: &Change, commit: CommitSeq, position: &mut u32) -> Result<()> {
    match change {
        Change::Run(row) => run(db, row),
        Change::Task(row) => task(db, row),
        Change::Attempt(row) => attempt(db, row),
        Change::Event(row) => {
            let place = place(commit, *position);
            *position += 1;
            event(db, row, place)
        }
        Change::Workflow(row) => workflow(db, row),
        Change::History(row) => history(db, row),
        Change::Version(row) => version(db, row),
        Change::Answer(row) => answer(db, row),
        Change::Pool(row) => pool(db, row),
        Change::Schedule(row, _) => schedule(db, row),
        Change::Tick(row) => tick(db, row),
        Change::Trigger(row) => trigger(db, row),
        Change::Firing(row) => firing(db, row),
        Change::Backfill(row, _) => backfill(db, row),
        Change::Pause(row) => pause(db, row),
        Change::Cache(row) => cache(db, row),
    }
}

fn run(db: &Connection, row: &RunRow) -> Result<()> {
    let (id, labels, state, json) = (row.id.0, json(&row.labels)?, name(&row.state)?, json(row)?);
    let ended = row.finished_at.map(|at| at.0);
    let key: [&dyn ToSql; 11] = [
        &row.project.0,
        id.as_bytes(),
        &row.workflow,
        &row.version.0,
        &row.trigger,
        &labels,
        &state,
        &row.run_attempt,
        &row.created_at.0,
        &ended,
        &json,
    ];
    let stored = execute(
        db,
        "INSERT INTO runs (project, id, workflow, version, trigger, labels, state, run_attempt,
                           created_at, finished_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT DO UPDATE
         SET version = ?4, state = ?7, run_attempt = ?8, finished_at = ?10, row = ?11
         WHERE workflow = ?3 AND trigger = ?5 AND labels = ?6 AND created_at = ?9",
        &key,
    );
    if stored.map_err(failed("store a run"))? == 0 {
        return Err(StoreError::Rejected(format!("run {} is there as another", row.id)));
    }
    let label = "INSERT INTO run_labels (project, key, value, created_at, run)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    for (key, value) in &row.labels {
        execute(db, label, &[&row.project.0, key, value, &row.created_at.0, id.as_bytes()])
            .map_err(failed("store a label"))?;
    }
    blobs(db, row.project, row.id, |found| refs::run(row, found))
}

fn task(db: &Connection, row: &TaskRow) -> Result<()> {
    let (state, json) = (name(&row.state)?, json(row)?);
    let ended = row.finished_at.map(|at| at.0);
    let values: [&dyn ToSql; 8] = [
        &row.project.0,
        row.run.0.as_bytes(),
        &row.path.as_str(),
        &row.ordinal,
        &row.generation,
        &state,
        &ended,
        &json,
    ];
    execute(
        db,
        "INSERT INTO tasks (project, run, path, ordinal, generation, state, finished_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE
         SET ordinal = ?4, generation = ?5, state = ?6, finished_at = ?7, row = ?8",
        &values,
    )
    .map_err(failed("store a task"))?;
    blobs(db, row.project, row.run, |found| refs::task(row, found))
}

fn attempt(db: &Connection, row: &AttemptRow) -> Result<()> {
    let (state, json) = (name(&row.state)?, json(row)?);
    let ended = row.finished_at.map(|at| at.0);
    execute(
        db,
        "INSERT INTO attempts (project, run, path, generation, attempt, state, finished_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET state = ?6, finished_at = ?7, row = ?8",
        &[
            &row.project.0,
            row.run.0.as_bytes(),
            &row.path.as_str(),
            &row.generation,
            &row.attempt,
            &state,
            &ended,
            &json,
        ],
    )
    .map_err(failed("store an attempt"))?;
    blobs(db, row.project, row.run, |found| refs::attempt(row, found))
}

fn event(db: &Connection, row: &EventRow, place: i64) -> Result<()> {
    let inserted = execute(
        db,
        "INSERT INTO events (place, project, run, seq, row) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        &[&place, &row.project.0, row.run.0.as_bytes(), &row.seq, &json(row)?],
    );
    if inserted.map_err(failed("store an event"))? == 0 {
        let words = format!("event {} of run {} is there", row.seq, row.run);
        return Err(StoreError::Rejected(words));
    }
    Ok(())
}

fn workflow(db: &Connection, row: &WorkflowRow) -> Result<()> {
    let current = row.current.map(|version| version.0);
    execute(
        db,
        "INSERT INTO workflows (project, name, current, row) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET current = ?3, row = ?4",
        &[&row.project.0, &row.name, &current, &json(row)?],
    )
    .map_err(failed("store a workflow"))?;
    Ok(())
}

fn history(db: &Connection, row: &HistoryRow) -> Result<()> {
    execute(
        db,
        "INSERT INTO history (project, workflow, number, row)
         SELECT ?1, ?2, n, json_set(?3, '$.number', n) FROM
           (SELECT coalesce(max(number), 0) + 1 AS n FROM history
            WHERE project = ?1 AND workflow = ?2)",
        &[&row.project.0, &row.workflow, &json(row)?],
    )
    .map_err(failed("store what was done to a workflow"))?;
    Ok(())
}

fn version(db: &Connection, row: &VersionRow) -> Result<()> {
    let bundle = refs::version(row).map(|digest| digest.0);
    let inserted = execute(
        db,
        "INSERT INTO versions (project, workflow, version, digest, bundle, created_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (project, workflow, version) DO NOTHING",
        &[
            &row.project.0,
            &row.workflow,
            &row.version.0,
            &row.digest.0,
            &bundle,
            &row.created_at.0,
            &json(row)?,
        ],
    );
    inserted.map(drop).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Rejected(format!(
            "version {} of `{}` is there as another",
            row.version.0, row.workflow
        )),
        _ => failed("store a version")(error),
    })
}

fn answer(db: &Connection, row: &AnswerRow) -> Result<()> {
    let run = row.run.map(|run| run.0.into_bytes());
    let expires = row.expires_at.map(|at| at.0);
    execute(
        db,
        "INSERT INTO answers (project, key, run, expires_at, row) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET run = ?3, expires_at = ?4, row = ?5",
        &[&row.project.0, &row.key, &run, &expires, &json(row)?],
    )
    .map_err(failed("store an answer"))?;
    Ok(())
}

fn pool(db: &Connection, row: &PoolRow) -> Result<()> {
    let stored = match row.slots {
        Some(_) => execute(
            db,
            "INSERT INTO pools (project, name, row) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET row = ?3",
            &[&row.project.0, &row.name, &json(row)?],
        ),
        None => execute(
            db,
            "DELETE FROM pools WHERE project = ?1 AND name = ?2",
            &[&row.project.0, &row.name],
        ),
    };
    stored.map_err(failed("store a pool"))?;
    Ok(())
}

fn schedule(db: &Connection, row: &ScheduleRow) -> Result<()> {
    execute(
        db,
        "INSERT INTO schedules (project, workflow, name, row) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET row = ?4",
        &[&row.project.0, &row.workflow, &row.name, &json(row)?],
    )
    .map_err(failed("store a schedule"))?;
    Ok(())
}

fn tick(db: &Connection, row: &TickRow) -> Result<()> {
    let inserted = execute(
        db,
        "INSERT INTO ticks (project, workflow, schedule, tick, decided_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        &[
            &row.project.0,
            &row.workflow,
            &row.schedule,
            &row.tick.0,
            &row.decided_at.0,
            &json(row)?,
        ],
    );
    match inserted.map_err(failed("store a tick"))? {
        0 => Err(StoreError::Rejected(check::answered(row))),
        _ => Ok(()),
    }
}

fn trigger(db: &Connection, row: &TriggerRow) -> Result<()> {
    execute(
        db,
        "INSERT INTO triggers (project, workflow, name, hook, row) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (project, workflow, name) DO UPDATE SET hook = ?4, row = ?5",
        &[&row.project.0, &row.workflow, &row.name, &row.hook, &json(row)?],
    )
    .map_err(failed("store a trigger"))?;
    Ok(())
}

fn firing(db: &Connection, row: &FiringRow) -> Result<()> {
    let key = params![row.project.0, row.source.0.as_bytes(), row.workflow, row.trigger];
    let sql = match row.decided_at {
        None => {
            "INSERT INTO firings (project, source, workflow, trigger, fired_at, decided_at, row)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING"
        }
        Some(_) => {
            "UPDATE firings SET fired_at = ?5, decided_at = ?6, row = ?7
             WHERE (project, source, workflow, trigger) = (?1, ?2, ?3, ?4)
               AND decided_at IS NULL"
        }
    };
    let decided = row.decided_at.map(|at| at.0);
    let (fired, json) = (row.fired_at.0, json(row)?);
    let all = [key, &[&fired, &decided, &json]].concat();
    let stored = execute(db, sql, &all).map_err(failed("store a firing"))?;
    if stored == 0 && row.decided_at.is_some() {
        return Err(StoreError::Rejected(check::not_open(row)));
    }
    Ok(())
}

fn backfill(db: &Connection, row: &BackfillRow) -> Result<()> {
    execute(
        db,
        "INSERT INTO backfills (project, id, finished_at, row) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET finished_at = ?3, row = ?4",
        &[&row.project.0, row.id.0.as_bytes(), &row.finished_at.map(|at| at.0), &json(row)?],
    )
    .map_err(failed("store a backfill"))?;
    // As a run's, under its own id, so that its files stay as long as it does.
    blobs(db, row.project, RunId(row.id.0), |found| refs::backfill(row, found))
}

fn pause(db: &Connection, row: &PauseRow) -> Result<()> {
    let workflow = row.workflow.as_deref().unwrap_or_default();
    execute(
        db,
        "INSERT INTO pauses (project, workflow, row) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET row = ?3",
        &[&row.project.0, &workflow, &json(row)?],
    )
    .map_err(failed("store a pause"))?;
    Ok(())
}

fn cache(db: &Connection, row: &CacheRow) -> Result<()> {
    let expires = row.expires_at.map(|at| at.0);
    execute(
        db,
        "INSERT INTO cache (project, workflow, task, digest, run, at, expires_at, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET run = ?5, at = ?6, expires_at = ?7, row = ?8",
        &[
            &row.project.0,
            &row.workflow,
            &row.task,
            &row.key.digest().0,
            row.run.0.as_bytes(),
            &row.at.0,
            &expires,
            &json(row)?,
        ],
    )
    .map_err(failed("store a reusable success"))?;
    blobs(db, row.project, row.run, |found| refs::cache(row, found))
}

fn blobs(
    db: &Connection,
    project: ProjectId,
    run: RunId,
    each: impl FnOnce(&mut dyn FnMut(Digest)),
) -> Result<()> {
    let sql = "INSERT INTO run_blobs (project, run, digest) VALUES (?1, ?2, ?3)
               ON CONFLICT DO NOTHING";
    let mut done = Ok(0);
    each(&mut |digest: Digest| {
        if done.is_ok() {
            done = execute(db, sql, &[&project.0, run.0.as_bytes(), &digest.0]);
        }
    });
    done.map(drop).map_err(failed("store a blob's reference"))
}

/// Removes the rows of runs and returns those runs; what else belongs to them is left to [`sweep`].
/// One that was opened again since it was chosen stays.
pub(super) fn remove(
    db: &Connection,
    ours: Epoch,
    runs: &[(ProjectId, RunId)],
) -> Result<Vec<(ProjectId, RunId)>> {
    let steps = [
        "INSERT INTO removed (project, run) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        "DELETE FROM run_labels WHERE (project, key, value, created_at, run) IN (
             SELECT r.project, l.key, l.value, r.created_at, r.id
             FROM runs r, json_each(r.labels) l WHERE r.project = ?1 AND r.id = ?2)",
        "DELETE FROM runs WHERE project = ?1 AND id = ?2",
    ];
    transaction(db, || {
        leads(db, ours)?;
        let mut removed = Vec::new();
        for (project, run) in runs {
            let over = "SELECT 1 FROM runs WHERE project = ?1 AND id = ?2
                        AND finished_at IS NOT NULL";
            let over = db
                .prepare_cached(over)
                .map_err(failed("prune"))?
                .exists(params![project.0, run.0.as_bytes()])
                .map_err(failed("prune"))?;
            if !over {
                continue;
            }
            for step in steps {
                execute(db, step, &[&project.0, run.0.as_bytes()]).map_err(failed("prune"))?;
            }
            removed.push((*project, *run));
        }
        Ok(removed)
    })
}

fn leads(db: &Connection, ours: Epoch) -> Result<()> {
    let sql = "SELECT 1 FROM store WHERE id = 1 AND epoch = ?1";
    let mut statement = db.prepare_cached(sql).map_err(failed("prune"))?;
    match statement.exists([ours.0]) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Fenced { ours }),
        Err(error) => Err(failed("prune")(error)),
    }
}

/// Removes some of what is left of removed runs, of expired answers, of ticks that were answered
/// before a time and of old drafts; false when nothing is left.
pub(super) fn sweep(
    db: &Connection,
    ours: Epoch,
    now: Wall,
    ticks_before: Option<Wall>,
) -> Result<bool> {
    transaction(db, || {
        leads(db, ours)?;
        let removed = sweep_removed(db).map_err(failed("prune"))?;
        let expired = execute(
            db,
            "DELETE FROM answers WHERE (project, key) IN (
                 SELECT project, key FROM answers WHERE expires_at <= ?1 LIMIT ?2)",
            &[&now.0, &REMOVAL],
        );
        let ticks = execute(
            db,
            "DELETE FROM ticks WHERE (project, workflow, schedule, tick) IN (
                 SELECT project, workflow, schedule, tick FROM ticks WHERE decided_at < ?1
                 LIMIT ?2)",
            &[&ticks_before.map_or(i64::MIN, |at| at.0), &REMOVAL],
        );
        let stale = execute(
            db,
            "DELETE FROM cache WHERE (project, workflow, task, digest) IN (
                 SELECT project, workflow, task, digest FROM cache
                 WHERE expires_at <= ?1 LIMIT ?2)",
            &[&now.0, &REMOVAL],
        );
        let drafts = execute(
            db,
            "DELETE FROM versions WHERE rowid IN (
                 SELECT v.rowid FROM versions v WHERE v.version < 0 AND v.created_at <= ?1
                 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.version < 0
                     AND (r.project, r.workflow, r.version) = (v.project, v.workflow, v.version))
                 LIMIT 100)",
            &[&now.0.saturating_sub(DRAFT_GRACE.0)],
        );
        Ok(removed
            || expired.and_then(|n| Ok(n + ticks? + stale? + drafts?)).map_err(failed("prune"))?
                > 0)
    })
}

fn sweep_removed(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT project, run FROM removed LIMIT 1";
    let next = db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((project, run)): Option<(i64, Vec<u8>)> = next.optional()? else {
        return Ok(false);
    };
    let steps = [
        "DELETE FROM tasks WHERE project = ?1 AND run = ?2 AND path IN (
             SELECT path FROM tasks WHERE project = ?1 AND run = ?2 LIMIT ?3)",
        "DELETE FROM attempts
         WHERE project = ?1 AND run = ?2 AND (path, generation, attempt) IN (
             SELECT path, generation, attempt FROM attempts
             WHERE project = ?1 AND run = ?2 LIMIT ?3)",
        "DELETE FROM events WHERE place IN (
             SELECT place FROM events WHERE project = ?1 AND run = ?2 LIMIT ?3)",
        "DELETE FROM answers WHERE (project, key) IN (
             SELECT project, key FROM answers WHERE project = ?1 AND run = ?2 LIMIT ?3)",
        "DELETE FROM cache WHERE (project, workflow, task, digest) IN (
             SELECT project, workflow, task, digest FROM cache
             WHERE project = ?1 AND run = ?2 LIMIT ?3)",
        "DELETE FROM firings
         WHERE project = ?1 AND source = ?2 AND (workflow, trigger) IN (
             SELECT workflow, trigger FROM firings
             WHERE project = ?1 AND source = ?2 LIMIT ?3)",
        "DELETE FROM run_blobs WHERE project = ?1 AND run = ?2 AND digest IN (
             SELECT digest FROM run_blobs WHERE project = ?1 AND run = ?2 LIMIT ?3)",
    ];
    for step in steps {
        if execute(db, step, params![project, run, REMOVAL])? > 0 {
            return Ok(true);
        }
    }
    execute(db, "DELETE FROM removed WHERE project = ?1 AND run = ?2", params![project, run])?;
    Ok(true)
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Rejected(error.to_string()))
}

/// The name of a state, as in JSON.
pub(super) fn name(state: &impl Serialize) -> Result<String> {
    json(state).map(|text| text.trim_matches('"').to_owned())
}
