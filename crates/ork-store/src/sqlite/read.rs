//! The queries. Each list reads one index from where the part before ended.

use std::collections::BTreeSet;

use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::rows::{ActiveRun, AttemptRow, RunRow, TaskRow, VersionRow};
use ork_core::run::{RunState, TaskState};
use ork_core::time::Wall;
use ork_core::value::Digest;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params, params_from_iter};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::sqlite::error::failed;
use crate::sqlite::write::{PLACES, name};
use crate::{CommitSeq, Committed, Result, Retention, RunFilter, StoreError};

/// A run's place in lists.
type Place = (Wall, RunId);

/// The row that a query finds by key.
pub(super) fn find<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    key: impl Params,
) -> Result<Option<T>> {
    let mut statement = db.prepare_cached(sql).map_err(failed("read"))?;
    let text = statement.query_row(key, |row| row.get::<_, String>(0)).optional();
    text.map_err(failed("read"))?.map(|text| parse(&text)).transpose()
}

/// The rows that a query lists.
pub(super) fn list<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<T>> {
    each(db, sql, values, |row| parse(row.get_ref(0)?.as_str()?).map_err(odd))
}

fn each<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = db.prepare_cached(sql).map_err(failed("read"))?;
    let rows = statement.query_map(values, |row| read(row)).map_err(failed("read"))?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed("read"))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Rejected(format!("a stored row cannot be read: {error}")))
}

fn odd(error: StoreError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// Every run that is not over.
pub(super) fn load_active(db: &Connection) -> Result<Vec<ActiveRun>> {
    let sql = "SELECT row FROM runs WHERE finished_at IS NULL ORDER BY id, project";
    list(db, sql, [])?.into_iter().map(|run| active(db, run)).collect()
}

/// One run with all that the machine needs.
pub(super) fn load_run(
    db: &Connection,
    project: ProjectId,
    run: RunId,
) -> Result<Option<ActiveRun>> {
    let row = find(db, RUN, params![project.0, run.0.as_bytes()])?;
    row.map(|run| active(db, run)).transpose()
}

pub(super) const RUN: &str = "SELECT row FROM runs WHERE project = ?1 AND id = ?2";
pub(super) const VERSION: &str =
    "SELECT row FROM versions WHERE project = ?1 AND workflow = ?2 AND version = ?3";

fn active(db: &Connection, run: RunRow) -> Result<ActiveRun> {
    let key = params![run.project.0, run.id.0.as_bytes()];
    let version: Option<VersionRow> =
        find(db, VERSION, params![run.project.0, run.workflow, run.version.0])?;
    let Some(version) = version else {
        let words = format!("version {} of run {} is missing", run.version.0, run.id);
        return Err(StoreError::Rejected(words));
    };
    let tasks = "SELECT row FROM tasks WHERE project = ?1 AND run = ?2 ORDER BY ordinal, path";
    let attempts = "SELECT row FROM attempts
         WHERE project = ?1 AND run = ?2 AND finished_at IS NULL
         ORDER BY path, generation, attempt";
    let last = "SELECT coalesce(max(seq), 0) FROM events WHERE project = ?1 AND run = ?2";
    Ok(ActiveRun {
        tasks: list(db, tasks, key)?,
        attempts: list(db, attempts, key)?,
        last_seq: one(db, last, key)?,
        version,
        run,
    })
}

/// The one number that a query finds.
pub(super) fn one(db: &Connection, sql: &str, key: impl Params) -> Result<u64> {
    let mut statement = db.prepare_cached(sql).map_err(failed("read"))?;
    statement.query_row(key, |row| row.get(0)).map_err(failed("read"))
}

/// Runs in order: one index walk for each workflow and state that is asked for, merged.
pub(super) fn runs(
    db: &Connection,
    project: ProjectId,
    filter: &RunFilter,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<RunRow>> {
    let mut rows: Vec<RunRow> = Vec::new();
    let names = match &filter.workflows {
        Some(names) => names.iter().collect::<BTreeSet<_>>().into_iter().map(Some).collect(),
        None => vec![None],
    };
    for workflow in names {
        for state in wanted(&filter.states) {
            let (sql, values) = runs_query(project, filter, (workflow, state), after, limit)?;
            rows.extend(list::<RunRow>(db, &sql, params_from_iter(values))?);
        }
    }
    rows.sort_by_key(|row| (row.created_at, row.id));
    if !filter.oldest_first {
        rows.reverse();
    }
    rows.truncate(limit);
    Ok(rows)
}

/// Each state once, or no state when all are wanted.
fn wanted<S: Copy + PartialEq>(states: &[S]) -> Vec<Option<S>> {
    let mut wanted = Vec::new();
    for state in states {
        if !wanted.contains(&Some(*state)) {
            wanted.push(Some(*state));
        }
    }
    if wanted.is_empty() { vec![None] } else { wanted }
}

fn runs_query(
    project: ProjectId,
    filter: &RunFilter,
    (workflow, state): (Option<&String>, Option<RunState>),
    after: Option<Place>,
    limit: usize,
) -> Result<(String, Vec<Value>)> {
    let mut query = Query::new(&filter.labels, project);
    query.labels(&filter.labels);
    query.equal("r.workflow", workflow.cloned());
    query.equal("r.state", state.map(|state| name(&state)).transpose()?);
    query.equal("r.trigger", filter.trigger.clone());
    let (time, run) = query.order;
    let (from, to) = bounds(filter, after);
    query.push(&format!(" AND ({time}, {run}) > (?, ?)"), [from.0.0.into(), bytes(from.1)]);
    query.push(&format!(" AND ({time}, {run}) < (?, ?)"), [to.0.0.into(), bytes(to.1)]);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let way = if filter.oldest_first { "ASC" } else { "DESC" };
    query.push(&format!(" ORDER BY {time} {way}, {run} {way} LIMIT ?"), [limit.into()]);
    Ok((query.sql, query.values))
}

/// Between which places, without them, the runs lie.
fn bounds(filter: &RunFilter, after: Option<Place>) -> (Place, Place) {
    let least = filter.created_after.map_or(i64::MIN, |at| at.0.saturating_sub(1));
    let from = (Wall(least), RunId(Uuid::max()));
    let most = filter.created_before.unwrap_or(Wall(i64::MAX));
    let to = (most, RunId(Uuid::nil()));
    match after {
        Some(after) if filter.oldest_first => (from.max(after), to),
        Some(after) => (from, to.min(after)),
        None => (from, to),
    }
}

fn bytes(id: RunId) -> Value {
    Value::Blob(id.0.into_bytes().to_vec())
}

struct Query {
    sql: String,
    values: Vec<Value>,
    order: (&'static str, &'static str),
}

impl Query {
    /// From the runs, or from the runs that have the first label.
    fn new(labels: &[(String, String)], project: ProjectId) -> Self {
        let mut query = Self {
            sql: "SELECT r.row FROM ".to_owned(),
            values: Vec::new(),
            order: ("r.created_at", "r.id"),
        };
        match labels.first() {
            None => query.push("runs r WHERE r.project = ?", [project.0.into()]),
            Some((key, value)) => {
                query.order = ("l.created_at", "l.run");
                query.push(
                    "run_labels l CROSS JOIN runs r ON r.project = l.project AND r.id = l.run
                     WHERE l.project = ? AND l.key = ? AND l.value = ?",
                    [project.0.into(), key.clone().into(), value.clone().into()],
                );
            }
        }
        query
    }

    /// All labels but the first.
    fn labels(&mut self, labels: &[(String, String)]) {
        for (key, value) in labels.iter().skip(1) {
            self.push(
                " AND EXISTS (SELECT 1 FROM run_labels o WHERE o.project = r.project
                     AND o.key = ? AND o.value = ? AND o.created_at = r.created_at
                     AND o.run = r.id)",
                [key.clone().into(), value.clone().into()],
            );
        }
    }

    fn equal(&mut self, column: &str, value: Option<String>) {
        if let Some(value) = value {
            self.push(&format!(" AND {column} = ?"), [value.into()]);
        }
    }

    fn push<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}

/// A run's instances by ordinal: one index walk for each state that is asked for, merged.
pub(super) fn tasks(
    db: &Connection,
    project: ProjectId,
    run: RunId,
    states: &[TaskState],
    after: Option<(u32, InstancePath)>,
    limit: usize,
) -> Result<Vec<TaskRow>> {
    const ALL: &str = "SELECT row FROM tasks
         WHERE project = ?1 AND run = ?2 AND (ordinal, path) > (?3, ?4)
         ORDER BY ordinal, path LIMIT ?5";
    const IN_STATE: &str = "SELECT row FROM tasks
         WHERE project = ?1 AND run = ?2 AND state = ?6 AND (ordinal, path) > (?3, ?4)
         ORDER BY ordinal, path LIMIT ?5";
    let (ordinal, path) =
        after.map_or((-1, InstancePath::from("")), |(n, path)| (i64::from(n), path));
    let id = run.0.as_bytes();
    let mut rows: Vec<TaskRow> = Vec::new();
    for state in wanted(states) {
        let part = match state {
            None => list(db, ALL, params![project.0, id, ordinal, path.as_str(), limit]),
            Some(state) => {
                let state = name(&state)?;
                list(db, IN_STATE, params![project.0, id, ordinal, path.as_str(), limit, state])
            }
        };
        rows.extend(part?);
    }
    rows.sort_by(|a, b| (a.ordinal, &a.path).cmp(&(b.ordinal, &b.path)));
    rows.truncate(limit);
    Ok(rows)
}

/// An instance's attempts, oldest first.
pub(super) fn attempts(
    db: &Connection,
    (project, run, path): (ProjectId, RunId, &InstancePath),
    after: Option<(u32, u32)>,
    limit: usize,
) -> Result<Vec<AttemptRow>> {
    let sql = "SELECT row FROM attempts
         WHERE project = ?1 AND run = ?2 AND path = ?3 AND (generation, attempt) > (?4, ?5)
         ORDER BY generation, attempt LIMIT ?6";
    let (generation, attempt) = after.unwrap_or((0, 0));
    let id = run.0.as_bytes();
    list(db, sql, params![project.0, id, path.as_str(), generation, attempt, limit])
}

/// Events with their places.
pub(super) fn events(db: &Connection, sql: &str, values: impl Params) -> Result<Vec<Committed>> {
    each(db, sql, values, |row| {
        let place: u64 = row.get(0)?;
        Ok(Committed {
            commit: CommitSeq(place / PLACES),
            position: (place % PLACES) as u32,
            event: parse(row.get_ref(1)?.as_str()?).map_err(odd)?,
        })
    })
}

/// The blobs that no row refers to.
pub(super) fn unreferenced(db: &Connection, digests: &[Digest]) -> Result<Vec<Digest>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM run_blobs WHERE digest = ?1)
                   OR EXISTS (SELECT 1 FROM versions WHERE bundle = ?1)";
    let mut left = Vec::new();
    for digest in digests {
        if one(db, sql, [digest.0])? == 0 {
            left.push(*digest);
        }
    }
    Ok(left)
}

type Ended = (i64, RunId, ProjectId);

/// Terminal runs that are to go, the earliest ended first.
pub(super) fn surplus(db: &Connection, retention: &Retention) -> Result<Vec<(ProjectId, RunId)>> {
    let mut runs = Vec::new();
    if let Some(before) = retention.finished_before {
        let sql = "SELECT finished_at, id, project FROM runs WHERE finished_at < ?1
                   ORDER BY finished_at, id LIMIT ?2";
        runs.extend(each(db, sql, params![before.0, retention.batch], ended)?);
    }
    if let Some(keep) = retention.keep_per_workflow {
        runs.extend(beyond(db, keep)?);
    }
    runs.sort_unstable();
    runs.dedup();
    runs.truncate(retention.batch);
    Ok(runs.into_iter().map(|(_, run, project)| (project, run)).collect())
}

fn ended(row: &Row<'_>) -> rusqlite::Result<Ended> {
    Ok((row.get(0)?, RunId(Uuid::from_bytes(row.get(1)?)), ProjectId(row.get(2)?)))
}

/// The terminal runs of each workflow but for the newest `keep`.
fn beyond(db: &Connection, keep: u64) -> Result<Vec<Ended>> {
    let next = "SELECT project, workflow FROM runs WHERE finished_at IS NOT NULL
                AND (project, workflow) > (?1, ?2) ORDER BY project, workflow LIMIT 1";
    let rest = "SELECT finished_at, id, project FROM runs
                WHERE project = ?1 AND workflow = ?2 AND finished_at IS NOT NULL
                ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?3";
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let mut last = (i64::MIN, String::new());
    let mut runs = Vec::new();
    loop {
        let name = each(db, next, params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(name) = name.into_iter().next() else { return Ok(runs) };
        last = name;
        runs.extend(each(db, rest, params![last.0, last.1, keep], ended)?);
    }
}
