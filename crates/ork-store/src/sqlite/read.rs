//! The queries. Each list reads one index from where the part before ended.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::rows::{ActiveRun, Actor, AttemptRow, RunRow, TaskRow, VersionId, VersionRow};
use ork_core::run::{Failure, FailureKind, RunState, TaskState};
use ork_core::time::Wall;
use ork_core::value::Digest;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params, params_from_iter};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::damage;
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

/// Every run that is not over. What cannot be read of one is its own damage.
pub(super) fn load_active(db: &Connection) -> Result<Vec<ActiveRun>> {
    let mut runs = each(db, OPEN, [], run_row)?;
    runs.sort_unstable_by_key(|(row, _)| (row.id, row.project));
    let mut versions = Versions::default();
    runs.into_iter().map(|(run, damage)| active(db, run, damage, &mut versions)).collect()
}

/// One run with all that the machine needs.
pub(super) fn load_run(
    db: &Connection,
    project: ProjectId,
    run: RunId,
) -> Result<Option<ActiveRun>> {
    let Some((run, damage)) = read_run(db, project, run)? else { return Ok(None) };
    active(db, run, damage, &mut Versions::default()).map(Some)
}

/// A run's row.
pub(super) fn run(db: &Connection, project: ProjectId, run: RunId) -> Result<Option<RunRow>> {
    Ok(read_run(db, project, run)?.map(|(row, _)| row))
}

type ReadRun = (RunRow, Option<String>);

fn read_run(db: &Connection, project: ProjectId, run: RunId) -> Result<Option<ReadRun>> {
    let mut statement = db.prepare_cached(RUN).map_err(failed("read"))?;
    let key = params![project.0, run.0.as_bytes()];
    statement.query_row(key, run_row).optional().map_err(failed("read"))
}

const RUN: &str = "SELECT project, id, workflow, version, trigger, labels, state, run_attempt,
         created_at, finished_at, row
     FROM runs WHERE project = ?1 AND id = ?2";
const OPEN: &str = "SELECT project, id, workflow, version, trigger, labels, state, run_attempt,
         created_at, finished_at, row
     FROM runs WHERE state IN ('pending', 'running')";

/// The run of the columns of [`RUN`]. Where its row cannot be read it is what the columns say, and why.
fn run_row(row: &Row<'_>) -> rusqlite::Result<ReadRun> {
    match parse(row.get_ref(10)?.as_str()?) {
        Ok(run) => Ok((run, None)),
        Err(error) => {
            let why = error.to_string();
            Ok((run_of_columns(row, &why)?, Some(why)))
        }
    }
}

fn run_of_columns(row: &Row<'_>, why: &str) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        project: ProjectId(row.get(0)?),
        id: RunId(Uuid::from_bytes(row.get(1)?)),
        workflow: row.get(2)?,
        version: VersionId(row.get(3)?),
        state: parse(&format!("{:?}", row.get_ref(6)?.as_str()?)).map_err(odd)?,
        run_attempt: row.get(7)?,
        params: serde_json::Value::Null,
        logical_time: String::new(),
        labels: parse(row.get_ref(5)?.as_str()?).map_err(odd)?,
        trigger: row.get(4)?,
        created_by: Actor::default(),
        created_at: Wall(row.get(8)?),
        started_at: None,
        finished_at: row.get::<_, Option<i64>>(9)?.map(Wall),
        failure: Some(Failure::new(FailureKind::Quarantined, why)),
        output: None,
        rerun_of: None,
        after: None,
        paused: None,
        detail: serde_json::Value::Null,
    })
}

pub(super) const VERSION: &str =
    "SELECT row FROM versions WHERE project = ?1 AND workflow = ?2 AND version = ?3";

/// Versions that were read, or why they could not be: each once, whoever is on it.
#[derive(Default)]
struct Versions(HashMap<(ProjectId, String, VersionId), Found>);

type Found = std::result::Result<Arc<VersionRow>, String>;

impl Versions {
    fn of(&mut self, db: &Connection, run: &RunRow) -> Result<Found> {
        let key = (run.project, run.workflow.clone(), run.version);
        if let Some(found) = self.0.get(&key) {
            return Ok(found.clone());
        }
        let mut statement = db.prepare_cached(VERSION).map_err(failed("read"))?;
        let values = params![run.project.0, run.workflow, run.version.0];
        let text = statement.query_row(values, |row| row.get::<_, String>(0)).optional();
        let found = match text.map_err(failed("read"))? {
            Some(text) => parse(&text).map(Arc::new).map_err(|error| damage::of(run, &error)),
            None => Err(damage::missing(run)),
        };
        self.0.insert(key, found.clone());
        Ok(found)
    }
}

fn active(
    db: &Connection,
    run: RunRow,
    mut damage: Option<String>,
    versions: &mut Versions,
) -> Result<ActiveRun> {
    let key = params![run.project.0, run.id.0.as_bytes()];
    let tasks = "SELECT path, row FROM tasks WHERE project = ?1 AND run = ?2";
    let attempts = "SELECT path, row FROM attempts
         WHERE project = ?1 AND run = ?2 AND finished_at IS NULL
         ORDER BY path, generation, attempt";
    let last = "SELECT coalesce(max(seq), 0) FROM events WHERE project = ?1 AND run = ?2";
    let version = versions.of(db, &run)?.unwrap_or_else(|why| {
        damage.get_or_insert(why);
        damage::no_version(&run)
    });
    let mut tasks: Vec<TaskRow> = readable(db, tasks, key, &mut damage)?;
    tasks.sort_unstable_by(|a, b| (a.ordinal, &a.path).cmp(&(b.ordinal, &b.path)));
    Ok(ActiveRun {
        tasks,
        attempts: readable(db, attempts, key, &mut damage)?,
        last_seq: one(db, last, key)?,
        version,
        run,
        damage,
    })
}

/// The rows of paths that can be read; the first that cannot is the damage.
fn readable<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    key: impl Params,
    damage: &mut Option<String>,
) -> Result<Vec<T>> {
    let rows = each(db, sql, key, |row| {
        let read = parse(row.get_ref(1)?.as_str()?);
        Ok(match read {
            Ok(read) => Ok(read),
            Err(error) => Err(format!("{}: {error}", row.get_ref(0)?.as_str()?)),
        })
    })?;
    let keep = |row: std::result::Result<T, String>| match row {
        Ok(row) => Some(row),
        Err(why) => {
            damage.get_or_insert(why);
            None
        }
    };
    Ok(rows.into_iter().filter_map(keep).collect())
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
    let mut places: Vec<Place> = Vec::new();
    let names = match &filter.workflows {
        Some(names) => names.iter().collect::<BTreeSet<_>>().into_iter().map(Some).collect(),
        None => vec![None],
    };
    for workflow in names {
        for state in walked(filter) {
            let (sql, values) = runs_query(project, filter, (workflow, state), after, limit)?;
            places.extend(each(db, &sql, params_from_iter(values), place_of)?);
        }
    }
    places.sort_unstable();
    if !filter.oldest_first {
        places.reverse();
    }
    places.truncate(limit);
    let rows = places.into_iter().filter_map(|(_, id)| run(db, project, id).transpose());
    rows.collect()
}

fn place_of(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok((Wall(row.get(0)?), RunId(Uuid::from_bytes(row.get(1)?))))
}

/// The states to walk through: no state where the walk is along a label or a trigger.
fn walked(filter: &RunFilter) -> Vec<Option<RunState>> {
    let by_state = filter.labels.is_empty() && filter.trigger.is_none();
    if filter.states.is_empty() && by_state {
        return RunState::ALL.map(Some).to_vec();
    }
    match distinct(&filter.states) {
        states if states.is_empty() => vec![None],
        states => states.into_iter().map(Some).collect(),
    }
}

/// Each state once.
fn distinct<S: Copy + PartialEq>(states: &[S]) -> Vec<S> {
    let mut distinct = Vec::new();
    for state in states {
        if !distinct.contains(state) {
            distinct.push(*state);
        }
    }
    distinct
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
        let mut query =
            Self { sql: String::new(), values: Vec::new(), order: ("r.created_at", "r.id") };
        match labels.first() {
            None => query.push(
                "SELECT r.created_at, r.id FROM runs r WHERE r.project = ?",
                [project.0.into()],
            ),
            Some((key, value)) => {
                query.order = ("l.created_at", "l.run");
                query.push(
                    "SELECT l.created_at, l.run FROM run_labels l CROSS JOIN runs r ON r.project = l.project AND r.id = l.run
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

/// A run's instances by ordinal: one index walk for each state, merged.
pub(super) fn tasks(
    db: &Connection,
    project: ProjectId,
    run: RunId,
    states: &[TaskState],
    after: Option<(u32, InstancePath)>,
    limit: usize,
) -> Result<Vec<TaskRow>> {
    let walk = "SELECT ordinal, path FROM tasks
         WHERE project = ?1 AND run = ?2 AND state = ?6 AND (ordinal, path) > (?3, ?4)
         ORDER BY ordinal, path LIMIT ?5";
    let (ordinal, path) =
        after.map_or((-1, InstancePath::from("")), |(n, path)| (i64::from(n), path));
    let id = run.0.as_bytes();
    let mut places: Vec<(u32, String)> = Vec::new();
    let states = if states.is_empty() { &TaskState::ALL } else { states };
    for state in distinct(states) {
        let values = params![project.0, id, ordinal, path.as_str(), limit, name(&state)?];
        places.extend(each(db, walk, values, |row| Ok((row.get(0)?, row.get(1)?)))?);
    }
    places.sort_unstable();
    places.truncate(limit);
    let rows = places
        .iter()
        .filter_map(|(_, path)| find(db, TASK, params![project.0, id, path]).transpose());
    rows.collect()
}

pub(super) const TASK: &str = "SELECT row FROM tasks WHERE project = ?1 AND run = ?2 AND path = ?3";

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
        runs.extend(beyond(db, keep, retention.batch)?);
    }
    runs.sort_unstable();
    runs.dedup();
    runs.truncate(retention.batch);
    Ok(runs.into_iter().map(|(_, run, project)| (project, run)).collect())
}

fn ended(row: &Row<'_>) -> rusqlite::Result<Ended> {
    Ok((row.get(0)?, RunId(Uuid::from_bytes(row.get(1)?)), ProjectId(row.get(2)?)))
}

/// The terminal runs of each workflow but for the newest `keep`: of each the oldest, at most
/// `batch`.
fn beyond(db: &Connection, keep: u64, batch: usize) -> Result<Vec<Ended>> {
    let next = "SELECT project, workflow FROM runs
                WHERE (project, workflow) > (?1, ?2) ORDER BY project, workflow LIMIT 1";
    let walk = |state| {
        let of = "SELECT created_at, id FROM runs WHERE project = ?1 AND workflow = ?2 AND state =";
        format!("{of} '{state}'")
    };
    let over = ["success", "failed", "cancelled", "skipped"].map(walk).join(" UNION ALL ");
    let newest = format!("{over} ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET ?3");
    let rest = format!(
        "SELECT r.finished_at, r.id, r.project FROM ({over} ORDER BY 1, 2 LIMIT ?5) o
         CROSS JOIN runs r ON r.project = ?1 AND r.id = o.id
         WHERE (o.created_at, o.id) <= (?3, ?4)"
    );
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let mut last = (i64::MIN, String::new());
    let mut runs = Vec::new();
    loop {
        let name = each(db, next, params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(name) = name.into_iter().next() else { return Ok(runs) };
        last = name;
        let (project, workflow) = (last.0, &last.1);
        let first = each(db, &newest, params![project, workflow, keep], place_of)?;
        for (at, id) in first {
            let values = params![project, workflow, at.0, id.0.as_bytes(), batch];
            runs.extend(each(db, &rest, values, ended)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// Whether each list reads one index in its order: no row is looked at that is not shown, and
    /// nothing is sorted.
    #[test]
    fn lists_walk_an_index() {
        let root = tempfile::tempdir().unwrap();
        let db = schema::open_writer(&root.path().join("ork.db")).unwrap();
        let etl = "etl".to_owned();
        let label = vec![("team".to_owned(), "data".to_owned())];
        for (trigger, labels) in
            [(None, vec![]), (Some("manual".to_owned()), vec![]), (None, label)]
        {
            for workflow in [None, Some(&etl)] {
                for oldest_first in [false, true] {
                    let (trigger, labels) = (trigger.clone(), labels.clone());
                    let filter =
                        RunFilter { trigger, labels, oldest_first, ..RunFilter::default() };
                    for state in walked(&filter) {
                        let project = ProjectId::DEFAULT;
                        let (sql, values) =
                            runs_query(project, &filter, (workflow, state), None, 50).unwrap();
                        let plan = each(
                            &db,
                            &format!("EXPLAIN QUERY PLAN {sql}"),
                            params_from_iter(values),
                            |row| row.get::<_, String>(3),
                        );
                        let plan = plan.unwrap().join("; ");
                        assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
                    }
                }
            }
        }
    }
}
